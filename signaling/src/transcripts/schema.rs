//! The file: how it is opened, who may open it, and how an older schema becomes the present one.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use serde::{Deserialize, Serialize};

/// Marks a file as ours (<https://www.sqlite.org/pragma.html#pragma_application_id>).
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"Drgm");
/// The steps from an empty file to the present schema; `user_version` counts those that were taken.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_meetings.sql")];
/// The present schema.
const PRESENT: i32 = MIGRATIONS.len() as i32;
/// How long one connection waits for another's transaction. All of ours are short, and an utterance
/// waits meanwhile.
const BUSY: Duration = Duration::from_secs(1);

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// For the operating system: it survives the death of the process.
    #[default]
    Normal,
    /// For the disk: it survives a power cut too, at the price of one `fsync` per row.
    Full,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder or the file itself cannot be made.
    #[error(
        "cannot make the transcripts file {path} ({source}): choose another place with \
             transcripts.path, or keep none with an empty one"
    )]
    Make {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server has it.
    #[error(
        "another server keeps its transcripts in {path}: give this one a file of its own with \
             transcripts.path, or keep none with an empty one"
    )]
    Taken {
        /// Which file.
        path: PathBuf,
    },
    /// It is not readable as a database, or its pages contradict each other.
    #[error(
        "the transcripts file {path} is damaged ({detail}): move it away to begin a new one, \
             or put a backup in its place"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// It is a database, of another program.
    #[error("{path} is a database of another program: choose another file with transcripts.path")]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// A later version of this program made it.
    #[error(
        "the transcripts file {path} has schema {version}, and this program knows {known}: \
             use the newer program, or choose another file with transcripts.path"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        version: i32,
        /// The latest known schema.
        known: i32,
    },
    /// Nothing to read.
    #[error("there is no transcripts file {path}: a server makes it when it starts")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Anything else that SQLite refused.
    #[error("cannot open the transcripts file {path} ({source})")]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The system refused the writer's thread.
    #[error("cannot start the writer of transcripts ({0})")]
    Thread(io::Error),
}

/// The right to be the file's server: it ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Ownership(#[expect(dead_code, reason = "it is held, never read")] File);

/// Opens the file as its server: makes it where it is missing, checks it, and brings its schema up
/// to date.
pub(super) fn open_as_server(
    path: &Path,
    synchronous: Synchronous,
) -> Result<(Connection, Ownership), OpenError> {
    make(path).map_err(|source| OpenError::Make { path: path.to_owned(), source })?;
    let ownership = own(path)?;
    let mut connection = connect(path)?;
    check(&connection, path)?;
    migrate(&mut connection).map_err(|error| explain(path, error))?;
    let mode = match synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| connection.pragma_update(None, "synchronous", mode))
        .map_err(|error| explain(path, error))?;
    Ok((connection, ownership))
}

/// Opens a file that exists, beside its server or without one.
pub(super) fn open_beside(path: &Path) -> Result<Connection, OpenError> {
    // Empty is what a file is between its making and its first table.
    match std::fs::metadata(path) {
        Ok(found) if found.len() > 0 => {}
        _ => return Err(OpenError::Missing { path: path.to_owned() }),
    }
    let connection = connect(path)?;
    let version = version(&connection, path)?;
    if version == 0 {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    Ok(connection)
}

/// Folders are for their owner alone, and so is the file: it holds what people said.
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // A file that exists is not touched: closing it would drop the locks that another connection of
    // this process holds on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Meetings that a dead process left open are closed at start, which is only right when no living
/// one has them. So a file has one server, by a lock on a file beside it.
fn own(path: &Path) -> Result<Ownership, OpenError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push("-server");
    let failed = |source| OpenError::Make { path: path.to_owned(), source };
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(Ownership(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Taken { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let configure = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // What is erased is overwritten, not only unlinked.
        connection.pragma_update(None, "secure_delete", true)?;
        Ok(connection)
    };
    configure().map_err(|error| explain(path, error))
}

/// Reads every page once: better to find damage at start than in the middle of a meeting.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let verdict: String = connection
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(|error| explain(path, error))?;
    if verdict != "ok" {
        return Err(OpenError::Damaged { path: path.to_owned(), detail: verdict });
    }
    version(connection, path).map(drop)
}

/// The file's schema: 0 for one that has none yet.
fn version(connection: &Connection, path: &Path) -> Result<i32, OpenError> {
    let read = |name| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(|error| explain(path, error))
    };
    let (application, version, changes) =
        (read("application_id")?, read("user_version")?, read("schema_version")?);
    let is_fresh = application == 0 && version == 0 && changes == 0;
    if application != APPLICATION_ID && !is_fresh {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if version > PRESENT {
        return Err(OpenError::Newer { path: path.to_owned(), version, known: PRESENT });
    }
    Ok(version)
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken: i32 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in MIGRATIONS.iter().skip(usize::try_from(taken).unwrap_or_default()) {
        change.execute_batch(step)?;
    }
    change.pragma_update(None, "application_id", APPLICATION_ID)?;
    change.pragma_update(None, "user_version", PRESENT)?;
    change.commit()
}

fn explain(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, detail: error.to_string() }
        }
        _ => OpenError::Sqlite { path, source: error },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(path: &Path) -> Result<(Connection, Ownership), OpenError> {
        open_as_server(path, Synchronous::Normal)
    }

    #[test]
    fn the_folders_and_the_file_are_made_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/transcripts.sqlite3");
        let _open = open(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(mode(&folder.path().join("a/b")), 0o700);
        for file in std::fs::read_dir(folder.path().join("a/b")).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }

    #[test]
    fn a_file_has_one_server_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sqlite3");
        let first = open(&path).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Taken { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("t.sqlite3") && text.contains("transcripts.path"), "{text}");
        open_beside(&path).unwrap();
        drop(first);
        open(&path).unwrap();
    }

    #[test]
    fn a_damaged_file_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sqlite3");
        std::fs::write(&path, "no database at all, but long enough to be read as one".repeat(40))
            .unwrap();
        let text = open(&path).unwrap_err().to_string();
        assert!(text.contains("t.sqlite3 is damaged") && text.contains("move it away"), "{text}");
    }

    #[test]
    fn a_page_that_was_overwritten_is_found_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sqlite3");
        drop(open(&path).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let page = 4096;
        assert!(bytes.len() >= 3 * page);
        bytes[page..2 * page].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }

    #[test]
    fn the_database_of_another_program_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sqlite3");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(open(&path).unwrap_err(), OpenError::Foreign { .. }));
        assert!(matches!(open_beside(&path).unwrap_err(), OpenError::Foreign { .. }));
    }

    #[test]
    fn a_later_schema_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sqlite3");
        drop(open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let text = open(&path).unwrap_err().to_string();
        assert!(text.contains("schema 99") && text.contains("newer program"), "{text}");
    }

    #[test]
    fn a_reader_finds_nothing_where_there_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sqlite3");
        assert!(matches!(open_beside(&path).unwrap_err(), OpenError::Missing { .. }));
        assert!(!path.exists());
    }
}
