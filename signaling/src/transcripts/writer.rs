//! The one thread that writes: rows as they come, the ends of meetings, and, once a day, what is too
//! old.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::erase;
use super::schema::Ownership;
use super::store::{Clock, Life};
use crate::wire::RoomKind;

/// One day.
pub(super) const DAY_MS: u64 = 24 * 3600 * 1000;
/// When a sweep that failed is tried again.
const RETRY_MS: u64 = 3600 * 1000;
/// How often the clock is looked at while nothing is written.
const TICK: Duration = Duration::from_secs(60);

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUtterance {
    /// Its name, unique in the meeting.
    pub utterance: String,
    /// Identity of the speaker.
    pub speaker: String,
    /// Display name of the speaker.
    pub speaker_name: String,
    /// Language of the text.
    pub language: String,
    /// The text.
    pub text: String,
    /// First voiced sample, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Last voiced sample, milliseconds since the Unix epoch.
    pub ended_at_ms: u64,
}

/// What an utterance became in another language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTranslation {
    /// Name of the utterance.
    pub utterance: String,
    /// Language of the text.
    pub language: String,
    /// The text.
    pub text: String,
    /// Name of the translator.
    pub translator: String,
}

/// Where the outcome of a write goes.
pub(super) type Answer = SyncSender<rusqlite::Result<()>>;

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Write {
    Utterance(Arc<Life>, NewUtterance, Answer),
    Translation(Arc<Life>, NewTranslation, Answer),
    Ended(Arc<Life>),
}

pub(super) struct Writer {
    connection: Connection,
    clock: Clock,
    retention_ms: Option<u64>,
    next_sweep_ms: u64,
    sweeping: bool,
    // After the connection: fields are dropped in order, and who owns the file next finds it closed.
    _ownership: Ownership,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        ownership: Ownership,
        clock: Clock,
        retention_ms: Option<u64>,
    ) -> Self {
        Self {
            connection,
            clock,
            retention_ms,
            next_sweep_ms: 0,
            sweeping: false,
            _ownership: ownership,
        }
    }

    /// Works until the store is dropped.
    pub(super) fn run(mut self, writes: &Receiver<Write>) {
        loop {
            if self.retention_ms.is_some() && (self.clock)() >= self.next_sweep_ms {
                self.sweeping = true;
                self.next_sweep_ms = (self.clock)().saturating_add(DAY_MS);
            }
            // A sweep goes in small steps, each behind what people are saying.
            let wait = if self.sweeping { Duration::ZERO } else { TICK };
            match writes.recv_timeout(wait) {
                Ok(write) => self.write(write),
                Err(RecvTimeoutError::Timeout) if self.sweeping => self.sweep(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = self.close_open_meetings() {
            tracing::warn!(%error, "open meetings were left to the next start");
        }
    }

    /// Ends the meetings that nobody will end any more, at their last utterance.
    pub(super) fn close_open_meetings(&mut self) -> rusqlite::Result<()> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change.execute(
            "UPDATE meetings SET ended_at_ms = coalesce(
                 (SELECT max(ended_at_ms) FROM utterances WHERE meeting = meetings.id),
                 started_at_ms)
             WHERE ended_at_ms IS NULL",
            [],
        )?;
        erase::forget_empty_meetings(&change)?;
        change.commit()
    }

    fn write(&mut self, write: Write) {
        // A caller that waits no more has counted its row as lost.
        match write {
            Write::Utterance(life, said, answer) => {
                let _ = answer.send(self.utterance(&life, &said));
            }
            Write::Translation(life, became, answer) => {
                let _ = answer.send(self.translation(&life, &became));
            }
            Write::Ended(life) => {
                if let Err(error) = self.ended(&life) {
                    tracing::warn!(%error, room = life.spec.room, "a meeting was not ended");
                }
            }
        }
    }

    fn utterance(&mut self, life: &Life, said: &NewUtterance) -> rusqlite::Result<()> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let meeting = meeting(&change, life)?;
        change
            .prepare(
                "INSERT INTO utterances (meeting, utterance, speaker, speaker_name, language, text,
                                         started_at_ms, ended_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                meeting,
                said.utterance,
                said.speaker,
                said.speaker_name,
                said.language,
                said.text,
                to_sqlite(said.started_at_ms),
                to_sqlite(said.ended_at_ms),
            ])?;
        change.commit()?;
        life.id.store(meeting, Ordering::Release);
        Ok(())
    }

    fn translation(&mut self, life: &Life, became: &NewTranslation) -> rusqlite::Result<()> {
        // One statement is one transaction. It finds no utterance when that was erased meanwhile.
        self.connection
            .prepare(
                "INSERT INTO translations (utterance, language, text, translator)
                 SELECT id, ?3, ?4, ?5 FROM utterances WHERE meeting = ?1 AND utterance = ?2",
            )?
            .execute(params![
                life.id.load(Ordering::Acquire),
                became.utterance,
                became.language,
                became.text,
                became.translator,
            ])?;
        Ok(())
    }

    fn ended(&mut self, life: &Life) -> rusqlite::Result<()> {
        self.connection.execute(
            "UPDATE meetings SET ended_at_ms = ?2 WHERE id = ?1",
            params![life.id.load(Ordering::Acquire), ended(life)],
        )?;
        Ok(())
    }

    /// One step of deleting what is too old.
    fn sweep(&mut self) {
        let Some(retention_ms) = self.retention_ms else { return };
        let before_ms = (self.clock)().saturating_sub(retention_ms);
        match erase::sweep_step(&mut self.connection, before_ms) {
            Ok(0) => {
                self.sweeping = false;
                if let Err(error) = erase::finish(&self.connection) {
                    tracing::debug!(%error, "what was deleted stays in the log file for a while");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "could not delete old transcripts, trying again in an hour");
                self.sweeping = false;
                self.next_sweep_ms = (self.clock)().saturating_add(RETRY_MS);
            }
        }
    }
}

/// The meeting's row: made at its first utterance, and again when it was erased meanwhile.
fn meeting(change: &Transaction<'_>, life: &Life) -> rusqlite::Result<i64> {
    let id = Some(life.id.load(Ordering::Acquire)).filter(|id| *id != 0);
    let kind = match life.spec.kind {
        RoomKind::Call => "call",
        RoomKind::Conference => "conference",
    };
    let languages = serde_json::json!(life.spec.languages).to_string();
    let made = change
        .prepare(
            "INSERT INTO meetings (id, room, kind, languages, started_at_ms, ended_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            id,
            life.spec.room,
            kind,
            languages,
            to_sqlite(life.spec.started_at_ms),
            ended(life),
        ])?;
    match (made, id) {
        (0, Some(id)) => Ok(id),
        _ => Ok(change.last_insert_rowid()),
    }
}

fn ended(life: &Life) -> Option<i64> {
    Some(life.ended_at_ms.load(Ordering::Acquire)).filter(|at| *at != 0)
}

/// SQLite's integers are signed; the year 292 million is far.
pub(super) fn to_sqlite(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
