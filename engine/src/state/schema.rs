//! The file, its connections and its format.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Error, FILE};

/// Marks the file as ours ("engn").
const APPLICATION_ID: i32 = 0x656e_676e;

/// How long a writer waits for the writers of other processes, and the first opener for the others.
const PATIENCE: Duration = Duration::from_secs(20);

/// Step n brings format n to format n + 1. Only ever append.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE record (kind INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
    CREATE TABLE hold (of_kind INTEGER NOT NULL, of_key TEXT NOT NULL, by_kind INTEGER NOT NULL, by_key TEXT NOT NULL,
        PRIMARY KEY (of_kind, of_key, by_kind, by_key)) WITHOUT ROWID;
    CREATE INDEX hold_by ON hold (by_kind, by_key);
    CREATE TABLE quarantine (kind INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (kind, key)) WITHOUT ROWID;
"];

/// Makes the root and an empty file in it, readable by the owner only, when they are missing.
pub(super) fn prepare(root: &Path) -> Result<PathBuf, Error> {
    let make = |path: &Path, source| Error::Make { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o711).create(root).map_err(|source| make(root, source))?;
    let path = root.join(FILE);
    // Only ever opened here when it is new: closing any descriptor of the file drops SQLite's locks of this process.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(_) => {
            let directory = File::open(root).and_then(|directory| directory.sync_all());
            directory.map_err(|source| make(root, source))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(make(&path, source)),
    }
    Ok(path)
}

/// Opens one connection with a small cache.
pub(super) fn connect(path: &Path) -> Result<Connection, Error> {
    let open = |source| Error::Open { path: path.to_owned(), source };
    // No mutex: a connection is used by one thread at a time.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let path = path.canonicalize().map_err(|source| Error::Make { path: path.to_owned(), source })?;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(open)?;
    connection.busy_handler(Some(wait_for_others)).map_err(open)?;
    connection.set_prepared_statement_cache_capacity(24);
    // Going over to the write-ahead log needs the file for oneself for a moment, and SQLite does not wait for it.
    let start = Instant::now();
    loop {
        let mode = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get::<_, String>(0));
        match mode {
            Ok(_) => break,
            Err(error) if is_busy(&error) && start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(open(error)),
        }
    }
    connection
        .execute_batch("PRAGMA cache_size=-256; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=4194304;")
        .map_err(open)?;
    Ok(connection)
}

/// Brings the file to the newest format.
pub(super) fn migrate(connection: &Connection, path: &Path) -> Result<(), Error> {
    let open = |source| Error::Open { path: path.to_owned(), source };
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let format = || connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)).map_err(open);
    let newer = |found| Error::Newer { path: path.to_owned(), found, known };
    match format()? {
        found if found == known => return Ok(()),
        found if found > known => return Err(newer(found)),
        _ => {}
    }
    connection.execute_batch("PRAGMA synchronous=FULL; BEGIN IMMEDIATE").map_err(open)?;
    // Another process may have been faster.
    let steps = format().and_then(|found| {
        let found =
            usize::try_from(found).ok().filter(|found| *found <= MIGRATIONS.len()).ok_or_else(|| newer(found))?;
        for step in &MIGRATIONS[found..] {
            connection.execute_batch(step).map_err(open)?;
        }
        let marks = format!("PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={known}; COMMIT");
        connection.execute_batch(&marks).map_err(open)
    });
    if steps.is_err() {
        // The first error is the one to tell.
        let _ = connection.execute_batch("ROLLBACK");
    }
    steps
}

/// Called by SQLite each time that the file is in use. Writers hold it for tens of microseconds, so wait finely
/// first and coarsely for about [`PATIENCE`] then.
fn wait_for_others(times: i32) -> bool {
    let pause = if times < 100 { Duration::from_micros(100) } else { Duration::from_millis(2) };
    std::thread::sleep(pause);
    i64::from(times) < PATIENCE.as_millis() as i64 / 2
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
