//! Transcripts: what was said in a meeting and what it became, kept in one SQLite file, and given
//! out as JSON, WebVTT, SubRip or text.
//!
//! A *meeting* is one life of a room: the name may be used again later. It stands in the file from
//! its first utterance on, so a room in which nobody spoke leaves no trace.
//!
//! **What an event announced as final is in the file.** [`Store::keep_utterance`] and
//! [`Store::keep_translation`] return when the row is committed, and the event is told after that.
//! In WAL mode with `synchronous=NORMAL` a commit has been handed to the operating system when it
//! returns, which is enough against the death of the process, `kill -9` included: the pages are the
//! system's by then. A power cut or a crash of the system itself may take the last commits with it
//! (never the file's consistency); [`Synchronous::Full`] waits for the disk at each commit and keeps
//! those too (<https://www.sqlite.org/pragma.html#pragma_synchronous>).
//!
//! A file has one server: [`Store::open`] refuses a second one. Readers and erasers
//! ([`Reader`], [`erase`], the command line among them) may come at any time.

mod erase;
mod export;
mod reader;
pub(crate) mod routes;
mod schema;
mod store;
mod writer;

pub use self::erase::{Erased, erase};
pub use self::export::{Export, Format, UnknownFormat, date};
pub use self::reader::{Line, Reader, UnknownLanguage};
pub use self::schema::{OpenError, Synchronous};
pub use self::store::{Clock, Meeting, NewMeeting, Stats, Store, StoreConfig, StoreError};
pub use self::writer::{NewTranslation, NewUtterance};
