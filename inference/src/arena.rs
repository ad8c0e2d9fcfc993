//! Memory for weights, which the system may back with huge pages: every token sweeps over all
//! weights, and with pages of 4 KiB up to half of that time goes into finding them. Linux gives
//! pages of 2 MiB where a program asks for them (`Documentation/admin-guide/mm/transhuge.rst` of
//! the kernel).
//!
//! `unsafe` is allowed here because a mapping is raw memory: a [`Slab`] refers only to items that
//! were written, lies in no other slab, and keeps its mapping alive.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// A huge page of x86-64, and of AArch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes mapped at once. What is not used is never backed by memory.
const CHUNK: usize = 64 << 20;

/// Hands out memory, one slab behind the other, so that small ones share a huge page.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    mapping: Option<Arc<Mapping>>,
    used: usize,
}

impl Arena {
    /// Stores items as long as the slab is there.
    ///
    /// # Errors
    /// The system has no address space left.
    pub(crate) fn store<T: Copy>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
    ) -> io::Result<Slab<T>> {
        let expected = items.len();
        let (mapping, start) = self.reserve::<T>(expected)?;
        let mut count = 0;
        for item in items.take(expected) {
            // SAFETY: `start` has room for the expected items, aligned, given to nobody else.
            unsafe { start.add(count).write(item) };
            count += 1;
        }
        Ok(Slab { start, count, _mapping: mapping })
    }

    /// Room for `count` items.
    fn reserve<T>(&mut self, count: usize) -> io::Result<(Arc<Mapping>, NonNull<T>)> {
        const { assert!(align_of::<T>() <= HUGE_PAGE) };
        let bytes = count.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let offset = self.used.next_multiple_of(align_of::<T>());
        let (mapping, offset) = match &self.mapping {
            Some(mapping) if bytes <= mapping.room.saturating_sub(offset) => {
                (mapping.clone(), offset)
            }
            _ => (Arc::new(Mapping::new(bytes.max(CHUNK))?), 0),
        };
        // SAFETY: the offset and the bytes behind it lie in the mapping's room.
        let start = unsafe { mapping.start.add(offset) }.cast();
        self.used = offset + bytes;
        self.mapping = Some(mapping.clone());
        Ok((mapping, start))
    }
}

/// Anonymous memory of this process.
#[derive(Debug)]
struct Mapping {
    whole: NonNull<c_void>,
    bytes: usize,
    /// First byte on a huge page's boundary.
    start: NonNull<u8>,
    /// Bytes from there on.
    room: usize,
}

impl Mapping {
    fn new(room: usize) -> io::Result<Self> {
        let no_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let room = room.checked_next_multiple_of(HUGE_PAGE).ok_or_else(no_memory)?;
        let bytes = room.checked_add(HUGE_PAGE).ok_or_else(no_memory)?;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: new memory at an address of the system's choice overlaps nothing.
        let whole = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, flags)? };
        let whole = NonNull::new(whole).ok_or_else(no_memory)?;
        // SAFETY: the advice concerns nothing but the speed of the new memory.
        let advised = unsafe { madvise(whole.as_ptr(), bytes, Advice::LinuxHugepage) };
        if let Err(error) = advised {
            tracing::debug!(%error, "no huge pages for the weights");
        }
        let first = whole.cast::<u8>();
        // SAFETY: the boundary is less than a huge page away, and there is one to spare.
        let start = unsafe { first.add(first.as_ptr().align_offset(HUGE_PAGE)) };
        Ok(Self { whole, bytes, start, room })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no slab refers to it any more.
        let unmapped = unsafe { munmap(self.whole.as_ptr(), self.bytes) };
        if let Err(error) = unmapped {
            tracing::warn!(%error, "memory of weights was not given back");
        }
    }
}

// SAFETY: a mapping is memory of the process, not of a thread; only slabs give access to it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Items in an [`Arena`]'s memory.
pub(crate) struct Slab<T> {
    start: NonNull<T>,
    count: usize,
    _mapping: Arc<Mapping>,
}

impl<T> Deref for Slab<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many items were written there, and nobody else refers to them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} × {}", self.count, std::any::type_name::<T>())
    }
}

// SAFETY: a slab owns its items and hands out shared references alone.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Slab<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(align(64))]
    struct Wide(u32);

    #[test]
    fn slabs_keep_what_was_stored_when_the_arena_and_other_slabs_are_gone() {
        let mut arena = Arena::default();
        let bytes = arena.store([1u8, 2, 3].into_iter()).expect("memory");
        let wide = arena.store((0..1000).map(Wide)).expect("memory");
        let none = arena.store(std::iter::empty::<u16>()).expect("memory");
        drop(arena);
        assert_eq!(*bytes, [1, 2, 3]);
        drop(bytes);
        assert!(none.is_empty());
        assert!(wide.iter().copied().eq((0..1000).map(Wide)));
        assert_eq!(wide.as_ptr().align_offset(64), 0);
    }

    #[test]
    fn a_slab_may_be_larger_than_a_chunk_and_one_that_does_not_fit_gets_a_new_chunk() {
        let mut arena = Arena::default();
        let count = CHUNK / 8 + 1;
        let first = arena.store([7u8].into_iter()).expect("memory");
        let large = arena.store(0..count).expect("memory");
        let last = arena.store([9u8].into_iter()).expect("memory");
        assert!(large.iter().copied().eq(0..count));
        assert_eq!((first[0], last[0]), (7, 9));
    }

    #[test]
    fn more_than_can_be_addressed_is_an_error() {
        struct Endless;
        impl Iterator for Endless {
            type Item = [u8; 4096];
            fn next(&mut self) -> Option<Self::Item> {
                None
            }
        }
        impl ExactSizeIterator for Endless {
            fn len(&self) -> usize {
                usize::MAX
            }
        }
        assert!(Arena::default().store(Endless).is_err());
    }
}
