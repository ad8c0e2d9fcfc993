//! Erasing: what somebody wants gone, and what is too old.
//!
//! It goes in steps of a few hundred utterances, each a transaction of its own, so that a meeting
//! that is going on never waits for it.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::reader::Reader;
use super::schema;
use super::store::StoreError;
use super::writer::to_sqlite;

/// Utterances in one step.
const STEP: u32 = 500;

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Meetings.
    pub meetings: usize,
    /// Utterances, with their translations.
    pub utterances: usize,
}

/// Erases one meeting of a room, or all of them. A meeting that is going on loses what was said so
/// far. The text is overwritten in the file.
///
/// # Errors
/// [`StoreError`]; erasing again goes on where it stopped.
pub fn erase(path: &Path, room: &str, meeting: Option<i64>) -> Result<Erased, StoreError> {
    let meetings = Reader::open(path)?.meetings(Some(room))?;
    let mut connection = schema::open_beside(path)?;
    let mut erased = Erased::default();
    let ids = meetings.into_iter().map(|found| found.id);
    for id in ids.filter(|id| meeting.is_none_or(|wanted| wanted == *id)) {
        erased.utterances += erase_meeting(&mut connection, id)?;
        erased.meetings += 1;
    }
    finish(&connection)?;
    Ok(erased)
}

fn erase_meeting(connection: &mut Connection, meeting: i64) -> rusqlite::Result<usize> {
    // What is said while we erase stays.
    let last: i64 = connection.query_row(
        "SELECT coalesce(max(id), 0) FROM utterances WHERE meeting = ?1",
        [meeting],
        |row| row.get(0),
    )?;
    let mut erased = 0;
    loop {
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let gone = change
            .prepare(
                "DELETE FROM utterances WHERE id IN (
                     SELECT id FROM utterances WHERE meeting = ?1 AND id <= ?2 LIMIT ?3)",
            )?
            .execute(params![meeting, last, STEP])?;
        if gone == 0 {
            forget_empty_meetings(&change)?;
        }
        change.commit()?;
        if gone == 0 {
            return Ok(erased);
        }
        erased += gone;
    }
}

/// Deletes the next utterances that ended before a moment, and says how many.
pub(super) fn sweep_step(connection: &mut Connection, before_ms: u64) -> rusqlite::Result<usize> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let gone = change
        .prepare(
            "DELETE FROM utterances WHERE id IN (
                 SELECT id FROM utterances WHERE ended_at_ms < ?1 LIMIT ?2)",
        )?
        .execute(params![to_sqlite(before_ms), STEP])?;
    if gone > 0 {
        forget_empty_meetings(&change)?;
    }
    change.commit()?;
    Ok(gone)
}

/// A meeting of which nothing is left leaves no trace. One that goes on is written again with its
/// next utterance.
pub(super) fn forget_empty_meetings(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute(
        "DELETE FROM meetings
         WHERE NOT EXISTS (SELECT 1 FROM utterances WHERE meeting = meetings.id)",
        [],
    )?;
    Ok(())
}

/// Moves what was written into the file itself, so that the log beside it does not keep what was
/// erased.
pub(super) fn finish(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
