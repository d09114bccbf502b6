//! What can be asked of a snapshot and done in a transaction.

use std::cell::RefCell;
use std::ops::Deref;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Table};

/// The longest record, in bytes of JSON.
pub const MAX_RECORD: usize = 16 << 20;

/// One consistent look at the records.
#[derive(Debug)]
pub struct Snapshot<'a> {
    connection: &'a Connection,
    /// Records that do not parse, to be put aside afterwards.
    damaged: RefCell<Vec<Quarantined>>,
}

/// A record that did not parse and was put aside.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// Its kind.
    pub table: Table,
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
    /// What is wrong with it.
    pub reason: String,
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, damaged: RefCell::default() }
    }

    pub(super) fn into_damaged(self) -> Vec<Quarantined> {
        self.damaged.into_inner()
    }

    /// The record with this key.
    ///
    /// # Errors
    /// When the record is damaged: it is put aside, so that the next time there is none.
    pub fn get<V: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<V>, Error> {
        let sql = "SELECT value FROM record WHERE kind = ?1 AND key = ?2";
        let value = self.one("look up a record", sql, (table.number(), key), |row| row.get::<_, Vec<u8>>(0))?;
        let Some(value) = value else { return Ok(None) };
        match serde_json::from_slice(&value) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let reason = self.damaged(table, key.to_owned(), value, &error);
                Err(Error::Corrupt { table, key: key.to_owned(), reason })
            }
        }
    }

    /// Whether there is a record with this key, damaged or not.
    ///
    /// # Errors
    /// When the store failed.
    pub fn contains(&self, table: Table, key: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM record WHERE kind = ?1 AND key = ?2";
        Ok(self.one("look up a record", sql, (table.number(), key), |_| Ok(()))?.is_some())
    }

    /// All records of a kind in the order of their keys. Damaged ones are left out and put aside.
    ///
    /// # Errors
    /// When the store failed.
    pub fn list<V: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, V)>, Error> {
        self.listed(table, "SELECT key, value FROM record WHERE kind = ?1 ORDER BY key", (table.number(),))
    }

    /// All records of a kind whose keys begin with `prefix`, as [`Self::list`].
    ///
    /// # Errors
    /// When the store failed.
    pub fn list_prefix<V: DeserializeOwned>(&self, table: Table, prefix: &str) -> Result<Vec<(String, V)>, Error> {
        // The last character there is follows every key with the prefix.
        let sql =
            "SELECT key, value FROM record WHERE kind = ?1 AND key >= ?2 AND key < ?2 || char(1114111) ORDER BY key";
        self.listed(table, sql, (table.number(), prefix))
    }

    /// The keys of a kind, in order.
    ///
    /// # Errors
    /// When the store failed.
    pub fn keys(&self, table: Table) -> Result<Vec<String>, Error> {
        let sql = "SELECT key FROM record WHERE kind = ?1 ORDER BY key";
        self.many("list keys", sql, (table.number(),), |row| row.get(0))
    }

    /// Who holds this.
    ///
    /// # Errors
    /// When the store failed.
    pub fn holders(&self, of: (Table, &str)) -> Result<Vec<(Table, String)>, Error> {
        let sql = "SELECT by_kind, by_key FROM hold WHERE of_kind = ?1 AND of_key = ?2 ORDER BY 1, 2";
        self.many("look up holds", sql, (of.0.number(), of.1), |row| Ok((table(row, 0)?, row.get(1)?)))
    }

    /// What this one holds.
    ///
    /// # Errors
    /// When the store failed.
    pub fn held(&self, by: (Table, &str)) -> Result<Vec<(Table, String)>, Error> {
        let sql = "SELECT of_kind, of_key FROM hold WHERE by_kind = ?1 AND by_key = ?2 ORDER BY 1, 2";
        self.many("look up holds", sql, (by.0.number(), by.1), |row| Ok((table(row, 0)?, row.get(1)?)))
    }

    /// The records that did not parse and were put aside.
    ///
    /// # Errors
    /// When the store failed.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>, Error> {
        let sql = "SELECT kind, key, value, reason FROM quarantine ORDER BY 1, 2";
        self.many("list damaged records", sql, (), |row| {
            Ok(Quarantined { table: table(row, 0)?, key: row.get(1)?, value: row.get(2)?, reason: row.get(3)? })
        })
    }

    fn listed<V: DeserializeOwned>(&self, table: Table, sql: &str, by: impl Params) -> Result<Vec<(String, V)>, Error> {
        let rows =
            self.many("list records", sql, by, |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut records = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            match serde_json::from_slice(&value) {
                Ok(record) => records.push((key, record)),
                Err(error) => {
                    self.damaged(table, key, value, &error);
                }
            }
        }
        Ok(records)
    }

    fn damaged(&self, table: Table, key: String, value: Vec<u8>, error: &serde_json::Error) -> String {
        let reason = error.to_string();
        tracing::error!(%table, key, reason, "a damaged record is put aside");
        self.damaged.borrow_mut().push(Quarantined { table, key, value, reason: reason.clone() });
        reason
    }

    fn one<T>(
        &self,
        what: &'static str,
        sql: &str,
        by: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|source| Error::sql(what, source))?;
        statement.query_row(by, read).optional().map_err(|source| Error::sql(what, source))
    }

    fn many<T>(
        &self,
        what: &'static str,
        sql: &str,
        by: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|source| Error::sql(what, source))?;
        let rows = statement.query_map(by, read).and_then(Iterator::collect);
        rows.map_err(|source| Error::sql(what, source))
    }

    fn execute(&self, what: &'static str, sql: &str, by: impl Params) -> Result<usize, Error> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|source| Error::sql(what, source))?;
        statement.execute(by).map_err(|source| Error::sql(what, source))
    }
}

/// A hold of an unknown kind must not be overlooked: it is an error.
fn table(row: &Row<'_>, index: usize) -> rusqlite::Result<Table> {
    let number = row.get(index)?;
    let unknown = || format!("the kind of record {number} is unknown").into();
    Table::from_number(number).ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(index, Type::Integer, unknown()))
}

/// A change of the records, all or nothing; reads see what it has written so far.
#[derive(Debug)]
pub struct Transaction<'a> {
    snapshot: Snapshot<'a>,
}

impl<'a> Deref for Transaction<'a> {
    type Target = Snapshot<'a>;
    fn deref(&self) -> &Snapshot<'a> {
        &self.snapshot
    }
}

impl<'a> Transaction<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { snapshot: Snapshot::new(connection) }
    }

    /// Writes a record, over an older one with the same key.
    ///
    /// # Errors
    /// When the value does not fit a record or the store failed.
    pub fn put<V: Serialize + ?Sized>(&mut self, table: Table, key: &str, value: &V) -> Result<(), Error> {
        let value = encode(table, key, value)?;
        let sql = "INSERT INTO record VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.execute("write a record", sql, (table.number(), key, value)).map(drop)
    }

    /// Writes a new record.
    ///
    /// # Errors
    /// [`Error::Exists`] when the key is taken, by a damaged record too; else as [`Self::put`].
    pub fn insert<V: Serialize + ?Sized>(&mut self, table: Table, key: &str, value: &V) -> Result<(), Error> {
        let value = encode(table, key, value)?;
        let sql = "INSERT INTO record VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        match self.execute("insert a record", sql, (table.number(), key, value))? {
            0 => Err(Error::Exists { table, key: key.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Removes a record; false when there was none.
    ///
    /// # Errors
    /// When the store failed.
    pub fn delete(&mut self, table: Table, key: &str) -> Result<bool, Error> {
        let sql = "DELETE FROM record WHERE kind = ?1 AND key = ?2";
        Ok(self.execute("delete a record", sql, (table.number(), key))? > 0)
    }

    /// Lets `by` keep `of` alive. Twice is once.
    ///
    /// # Errors
    /// When the store failed.
    pub fn hold(&mut self, of: (Table, &str), by: (Table, &str)) -> Result<(), Error> {
        let sql = "INSERT INTO hold VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        self.execute("take a hold", sql, (of.0.number(), of.1, by.0.number(), by.1)).map(drop)
    }

    /// Ends one hold; false when there was none.
    ///
    /// # Errors
    /// When the store failed.
    pub fn release(&mut self, of: (Table, &str), by: (Table, &str)) -> Result<bool, Error> {
        let sql = "DELETE FROM hold WHERE of_kind = ?1 AND of_key = ?2 AND by_kind = ?3 AND by_key = ?4";
        Ok(self.execute("release a hold", sql, (of.0.number(), of.1, by.0.number(), by.1))? > 0)
    }

    /// Ends all holds that `by` has, and says how many there were.
    ///
    /// # Errors
    /// When the store failed.
    pub fn release_all(&mut self, by: (Table, &str)) -> Result<usize, Error> {
        self.execute("release holds", "DELETE FROM hold WHERE by_kind = ?1 AND by_key = ?2", (by.0.number(), by.1))
    }

    /// Forgets a record that was put aside, with its holds; false when there was none.
    ///
    /// # Errors
    /// When the store failed.
    pub fn forget_quarantined(&mut self, table: Table, key: &str) -> Result<bool, Error> {
        let sql = "DELETE FROM quarantine WHERE kind = ?1 AND key = ?2";
        let found = self.execute("forget a damaged record", sql, (table.number(), key))? > 0;
        if found {
            self.release_all((table, key))?;
        }
        Ok(found)
    }

    pub(super) fn quarantine(&mut self) -> Result<(), Error> {
        let damaged = self.snapshot.damaged.take();
        self.quarantine_these(damaged)
    }

    /// Moves the records aside, unless somebody has mended them in the meantime. Their holds stay.
    pub(super) fn quarantine_these(&mut self, damaged: Vec<Quarantined>) -> Result<(), Error> {
        for Quarantined { table, key, value, reason } in damaged {
            let sql = "DELETE FROM record WHERE kind = ?1 AND key = ?2 AND value = ?3";
            if self.execute("put a damaged record aside", sql, (table.number(), &key, &value))? > 0 {
                let sql = "INSERT OR REPLACE INTO quarantine VALUES (?1, ?2, ?3, ?4)";
                self.execute("put a damaged record aside", sql, (table.number(), &key, &value, &reason))?;
            }
        }
        Ok(())
    }
}

fn encode<V: Serialize + ?Sized>(table: Table, key: &str, value: &V) -> Result<Vec<u8>, Error> {
    let unwritable = |reason| Error::Unwritable { table, key: key.to_owned(), reason };
    let bytes = serde_json::to_vec(value).map_err(|error| unwritable(error.to_string()))?;
    if bytes.len() > MAX_RECORD {
        return Err(unwritable(format!("it has {} bytes, {MAX_RECORD} are allowed", bytes.len())));
    }
    Ok(bytes)
}
