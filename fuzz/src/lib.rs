//! What the fuzz targets share: a measure of memory, and files for parsers that want a path.

// The allocator below counts and hands everything on to the system's.
#![allow(unsafe_code)]

pub mod house;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes that are allocated, and the most there were since the last [`bounded`] began.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn grew(&self, bytes: usize) {
        let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(now, Ordering::Relaxed);
    }
}

// Safety: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.grew(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.grew(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `act` and fails when it held more than `limit` bytes at a time on top of what was there.
pub fn bounded<T>(limit: usize, act: impl FnOnce() -> T) -> T {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = act();
    let held = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(held <= limit, "{held} bytes were held at a time, {limit} are enough");
    result
}

/// Calls `act` with the path of a file that holds `bytes`; one file serves all calls.
pub fn with_file<T>(bytes: &[u8], act: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static FILE: std::cell::RefCell<tempfile::NamedTempFile> =
            tempfile::NamedTempFile::new().expect("a temporary file can be made").into();
    }
    FILE.with_borrow_mut(|file| {
        let write = |file: &mut std::fs::File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(bytes)
        };
        write(file.as_file_mut()).expect("a temporary file can be written");
        act(file.path())
    })
}
