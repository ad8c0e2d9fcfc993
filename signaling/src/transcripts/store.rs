//! The store as the house holds it: a handle whose calls return when a row is in the file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::schema::{self, OpenError, Synchronous};
use super::writer::{self, NewTranslation, NewUtterance, Write, Writer};
use crate::wire::RoomKind;

/// Rows that may wait for the writer. Each caller waits for its own, so there are as many as threads
/// that recognise and translate, unless the disk hangs. Full: what comes is lost, and counted.
const QUEUE: usize = 64;
/// How long a caller waits for its row: the meeting goes on, even when the disk does not.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a failure is told in the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Gives the time, milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where and how long transcripts are kept.
#[derive(Clone)]
pub struct StoreConfig {
    /// The file. It and its folder are made where they are missing.
    pub path: PathBuf,
    /// Days after which an utterance is deleted; 0 keeps it for ever.
    pub retention_days: u32,
    /// What a commit waits for.
    pub synchronous: Synchronous,
    /// What the age of an utterance is measured with.
    pub clock: Clock,
}

impl StoreConfig {
    /// A file, with defaults for the rest: 30 days, [`Synchronous::Normal`], the system's clock.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            retention_days: 30,
            synchronous: Synchronous::Normal,
            clock: Arc::new(now_ms),
        }
    }
}

/// Why a row is not in the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused: the disk is full, say, or the file broken.
    #[error("the transcripts file cannot be used ({0}): see to its disk")]
    Sqlite(#[from] rusqlite::Error),
    /// The writer did not answer in time, or has more to do than it can.
    #[error("the disk of the transcripts file does not keep up")]
    Slow,
    /// The writer is gone.
    #[error("the writer of transcripts has ended: see the log")]
    Ended,
    /// The file cannot be opened any more.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A meeting that is about to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMeeting {
    /// Name of the room.
    pub room: String,
    /// Its kind.
    pub kind: RoomKind,
    /// Its languages.
    pub languages: Vec<String>,
    /// When it began, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
}

/// A meeting that is going on. Cheap to share; nothing is written before its first utterance.
#[derive(Clone, Debug)]
pub struct Meeting(pub(super) Arc<Life>);

/// What the writer knows of a meeting. 0 stands for what is not known yet.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) spec: NewMeeting,
    pub(super) id: AtomicI64,
    pub(super) ended_at_ms: AtomicI64,
}

impl Meeting {
    /// A meeting of which nothing is kept yet.
    #[must_use]
    pub fn new(spec: NewMeeting) -> Self {
        Self(Arc::new(Life { spec, id: AtomicI64::new(0), ended_at_ms: AtomicI64::new(0) }))
    }

    /// Its id in the file, once there is something of it.
    #[must_use]
    pub fn id(&self) -> Option<i64> {
        Some(self.0.id.load(Ordering::Acquire)).filter(|id| *id != 0)
    }
}

/// How many rows were kept and lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows that are in the file.
    pub kept: u64,
    /// Rows that are not, although they should be.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Counts {
    kept: AtomicU64,
    lost: AtomicU64,
    complained: Mutex<Option<Instant>>,
}

/// The transcripts of one server. Ends its thread when dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    queue: Option<SyncSender<Write>>,
    writer: Option<JoinHandle<()>>,
    counts: Counts,
}

impl Store {
    /// Opens the file as its server: makes it where it is missing, checks every page, brings its
    /// schema up to date, closes the meetings that a dead process left open, and deletes what is
    /// older than it may get, now and every day.
    ///
    /// # Errors
    /// [`OpenError`] names the file and the remedy.
    pub fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let (connection, ownership) = schema::open_as_server(&config.path, config.synchronous)?;
        let (queue, writes) = sync_channel(QUEUE);
        let retention_ms = match config.retention_days {
            0 => None,
            days => Some(u64::from(days) * writer::DAY_MS),
        };
        let mut writer =
            Writer::new(connection, ownership, Arc::clone(&config.clock), retention_ms);
        writer
            .close_open_meetings()
            .map_err(|source| OpenError::Sqlite { path: config.path.clone(), source })?;
        let writer = std::thread::Builder::new()
            .name("transcripts".to_owned())
            .spawn(move || writer.run(&writes))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            path: config.path.clone(),
            queue: Some(queue),
            writer: Some(writer),
            counts: Counts::default(),
        })
    }

    /// Where it is, for a [`super::Reader`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps what somebody said. When it returns `Ok`, the row is in the file. Waits for the disk
    /// (2 s at most): not for media workers or the async runtime.
    ///
    /// # Errors
    /// [`StoreError`]: the row is lost, which is counted and told in the log once per minute.
    pub fn keep_utterance(&self, meeting: &Meeting, said: NewUtterance) -> Result<(), StoreError> {
        self.write(|answer| Write::Utterance(Arc::clone(&meeting.0), said, answer))
    }

    /// Keeps what an utterance became, as [`Store::keep_utterance`] does. The translation of an
    /// utterance that is not in the file (any more) is not kept, which is no error.
    ///
    /// # Errors
    /// As there.
    pub fn keep_translation(
        &self,
        meeting: &Meeting,
        became: NewTranslation,
    ) -> Result<(), StoreError> {
        self.write(|answer| Write::Translation(Arc::clone(&meeting.0), became, answer))
    }

    /// The meeting is over. Does not wait: the end is written behind what is being kept.
    pub fn end_meeting(&self, meeting: &Meeting, ended_at_ms: u64) {
        meeting.0.ended_at_ms.store(writer::to_sqlite(ended_at_ms), Ordering::Release);
        let Some(queue) = &self.queue else { return };
        if queue.try_send(Write::Ended(Arc::clone(&meeting.0))).is_err() {
            // The next start closes it at its last utterance.
            tracing::warn!(room = meeting.0.spec.room, "the end of a meeting was not written");
        }
    }

    /// Rows kept and lost since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            kept: self.counts.kept.load(Ordering::Relaxed),
            lost: self.counts.lost.load(Ordering::Relaxed),
        }
    }

    fn write(&self, write: impl FnOnce(writer::Answer) -> Write) -> Result<(), StoreError> {
        let (answer, answered) = sync_channel(1);
        let outcome = self.send(write(answer)).and_then(|()| wait(&answered));
        match &outcome {
            Ok(()) => {
                self.counts.kept.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let lost = self.counts.lost.fetch_add(1, Ordering::Relaxed) + 1;
                self.complain(error, lost);
            }
        }
        outcome
    }

    fn send(&self, write: Write) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Ended)?;
        queue.try_send(write).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Slow,
            TrySendError::Disconnected(_) => StoreError::Ended,
        })
    }

    fn complain(&self, error: &StoreError, lost: u64) {
        let mut last = self.counts.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            *last = Some(Instant::now());
            let file = self.path.display();
            tracing::error!(%error, %file, lost, "the call goes on, but its transcript has gaps");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of transcripts panicked");
        }
    }
}

fn wait(answered: &Receiver<rusqlite::Result<()>>) -> Result<(), StoreError> {
    match answered.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome.map_err(StoreError::from),
        Err(RecvTimeoutError::Timeout) => Err(StoreError::Slow),
        Err(RecvTimeoutError::Disconnected) => Err(StoreError::Ended),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StoreConfig")
            .field("path", &self.path)
            .field("retention_days", &self.retention_days)
            .field("synchronous", &self.synchronous)
            .finish_non_exhaustive()
    }
}
