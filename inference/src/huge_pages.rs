//! Memory for weights that are read from front to back for every token. On ordinary pages of 4 KiB
//! nearly half of that time is spent on finding the pages; Linux gives pages of 2 MiB where a
//! program asks for them (`Documentation/admin-guide/mm/transhuge.rst` of the kernel).
//!
//! `unsafe` is allowed here: advice is given by address, here that of a vector's own memory before
//! anything lies there, and this one changes no content.
#![allow(unsafe_code)]

/// An empty vector with room for `capacity` values, on huge pages where the system has them and
/// the room is large enough for some.
pub fn with_capacity<T>(capacity: usize) -> Vec<T> {
    let values: Vec<T> = Vec::with_capacity(capacity);
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{Advice, madvise};
        let page = rustix::param::page_size();
        let start = values.as_ptr().addr().next_multiple_of(page);
        let end = (values.as_ptr().addr() + capacity * size_of::<T>()) / page * page;
        if start < end {
            let pages = values.as_ptr().with_addr(start).cast_mut().cast();
            // SAFETY: the range lies within the vector's memory, and its content stays.
            if let Err(error) = unsafe { madvise(pages, end - start, Advice::LinuxHugepage) } {
                tracing::debug!(%error, "no huge pages");
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    #[test]
    fn vectors_of_any_size_hold_what_is_put_there() {
        for count in [0, 1, 1000, 3 << 20] {
            let mut values = super::with_capacity(count);
            assert!(values.capacity() >= count);
            values.extend((0..count).map(|index| index as u8));
            assert!(values.iter().enumerate().all(|(index, &value)| value == index as u8));
        }
    }
}
