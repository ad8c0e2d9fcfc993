//! The binary `dragoman`.
//!
//! `unsafe` is allowed for one line: candle reads the size of its thread pool from the environment
//! alone, and its default (every core, spinning between operations) starves the media workers. The
//! variable is set before any other thread exists, which is what makes setting it sound.
#![allow(unsafe_code)]

fn main() -> std::process::ExitCode {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // SAFETY: this is the first statement of the program, so no other thread reads or writes the
        // environment.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    }
    media_server::cli::main()
}
