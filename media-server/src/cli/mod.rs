//! The subcommands of `dragoman`, a file each.

pub mod models;
