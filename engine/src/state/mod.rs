//! The state store: every object's record in one SQLite file, which several processes may use at once.
//!
//! It knows keys, bytes and holds, and nothing of what the records mean; each folder keeps its own kinds of record.
//! Reads see a snapshot and never wait for writes. Writes are serialised, over all processes, by `BEGIN IMMEDIATE`.

mod error;
mod records;
mod schema;
mod table;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, TransactionBehavior};

pub use error::Error;
pub use records::{MAX_RECORD, Quarantined, Snapshot, Transaction};
pub use table::Table;

/// The file's name beneath the root.
pub const FILE: &str = "engine.db";

/// Idle connections kept for reading. More readers at once open their own and close them again.
const IDLE_READERS: usize = 3;

/// What a committed change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of every process at any instruction, but not of the machine: nothing is synced. Tens of
    /// microseconds. A later [`Power`](Self::Power) write of anybody makes it durable too.
    Process,
    /// The loss of power: synced before the write returns.
    Power,
}

/// The store of one root. Clones are cheap and share the connections.
#[derive(Debug, Clone)]
pub struct State {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    writer: Mutex<Writer>,
    readers: Mutex<Vec<Connection>>,
    watcher: Mutex<Option<Connection>>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    durability: Durability,
}

impl State {
    /// Opens the store beneath `root`, making both when they are missing, and brings an older one up to date.
    ///
    /// # Errors
    /// When the directory or the file cannot be made, the file is no store, or a newer version wrote it.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let path = schema::prepare(root)?;
        let connection = schema::connect(&path)?;
        schema::migrate(&connection, &path)?;
        let durability = Durability::Process;
        set_durability(&connection, durability)?;
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                writer: Mutex::new(Writer { connection, durability }),
                readers: Mutex::default(),
                watcher: Mutex::default(),
            }),
        })
    }

    /// Changes records in one transaction, all or nothing: committed when `change` returns `Ok`.
    ///
    /// Runs where it is called and holds the writer of all processes until it returns, so `change` does nothing
    /// slow, and does not call [`State::write`] itself (that would wait for itself).
    ///
    /// # Errors
    /// What `change` returns, or that the store failed; nothing was changed then.
    pub fn write<T, E: From<Error>>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = lock(&self.shared.writer);
        if writer.durability != durability {
            set_durability(&writer.connection, durability)?;
            writer.durability = durability;
        }
        let inner = writer
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| Error::sql("begin a change of the state", source))?;
        let mut transaction = Transaction::new(&inner);
        let value = change(&mut transaction)?;
        transaction.quarantine()?;
        inner.commit().map_err(|source| Error::sql("commit a change of the state", source))?;
        Ok(value)
    }

    /// Looks at one consistent snapshot of the records. Never waits for a write.
    ///
    /// # Errors
    /// What `look` returns, or that the store failed.
    pub fn read<T, E: From<Error>>(&self, look: impl FnOnce(&Snapshot<'_>) -> Result<T, E>) -> Result<T, E> {
        let idle = lock(&self.shared.readers).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => schema::connect(&self.shared.path)?,
        };
        let damaged;
        let value = {
            let inner = connection
                .transaction_with_behavior(TransactionBehavior::Deferred)
                .map_err(|source| Error::sql("begin to read the state", source))?;
            let snapshot = Snapshot::new(&inner);
            let value = look(&snapshot);
            damaged = snapshot.into_damaged();
            // Nothing to commit: dropping it ends the snapshot.
            value
        };
        {
            let mut readers = lock(&self.shared.readers);
            if readers.len() < IDLE_READERS {
                readers.push(connection);
            }
        }
        if !damaged.is_empty() {
            self.write(Durability::Process, |transaction| transaction.quarantine_these(damaged))?;
        }
        value
    }

    /// A number that changes with every change of the records, by whichever process. Costs microseconds.
    ///
    /// # Errors
    /// When the store failed.
    pub fn version(&self) -> Result<i64, Error> {
        // A connection that never writes is told of all writes.
        let mut watcher = lock(&self.shared.watcher);
        let connection = match watcher.take() {
            Some(connection) => connection,
            None => schema::connect(&self.shared.path)?,
        };
        let version = {
            let asked = connection.prepare_cached("PRAGMA data_version");
            asked
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
                .map_err(|source| Error::sql("ask for the version of the state", source))
        };
        *watcher = Some(connection);
        version
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

fn set_durability(connection: &Connection, durability: Durability) -> Result<(), Error> {
    // A checkpoint syncs, so an unsynced write only does one when the log has become long.
    let pragmas = match durability {
        Durability::Process => "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000;",
        Durability::Power => "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=1000;",
    };
    connection.execute_batch(pragmas).map_err(|source| Error::sql("set the durability of the state", source))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in somebody's closure rolled its transaction back; the connection is fine.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
