//! The file as a whole. It is read while a service writes it: redb keeps the pages that a snapshot needs.

use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, OwnedRange, ReadOnlyDatabase, ReadableDatabase, ReadableTableMetadata};

use super::{USERS, builder, cannot_open, create, date, path, stored};
use crate::lines::User;
use crate::store::whole::{BATCH, Row, Saved, row};

/// The rows of a snapshot.
pub(in crate::store) struct Rows {
    rows: OwnedRange<&'static str, (i16, i8, i8)>,
    _database: ReadOnlyDatabase,
}

impl Rows {
    /// The rows of the file in `directory`, and their number.
    pub(in crate::store) fn open(directory: &Path) -> Result<(Self, u64), String> {
        let path = path(directory);
        Self::read(&path).map_err(|cause| cannot_open(&path, &cause))
    }

    fn read(path: &Path) -> Result<(Self, u64), redb::Error> {
        let open = || builder().open_read_only(path);
        let database = match open() {
            // A service was killed, and none has repaired the file since.
            Err(DatabaseError::RepairAborted) => builder().open(path).map(drop).and_then(|()| open()),
            opened => opened,
        }?;
        let users = database.begin_read()?.open_table(USERS)?;
        let (rows, count) = (users.range_owned::<&str>(..)?, users.len()?);
        Ok((Self { rows, _database: database }, count))
    }

    pub(in crate::store) fn next(&mut self) -> Result<Vec<Row>, String> {
        let read = |found| {
            let (name, born): (redb::OwnedAccessGuard<&str>, redb::OwnedAccessGuard<(i16, i8, i8)>) = found?;
            Ok(row(name.value(), date(born.value())))
        };
        let rows: Result<_, redb::StorageError> = self.rows.by_ref().take(BATCH).map(read).collect();
        rows.map_err(|error| format!("cannot read the store's file: {error}"))
    }
}

/// The file, opened for this process alone.
pub(in crate::store) struct Target {
    database: Database,
    path: PathBuf,
}

impl Target {
    pub(in crate::store) fn open(directory: &Path) -> Result<Self, String> {
        create(directory).map(|database| Self { database, path: path(directory) })
    }

    pub(in crate::store) fn save(&self, users: &[User]) -> Result<Saved, String> {
        self.commit(users).map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }

    fn commit(&self, users: &[User]) -> Result<Saved, redb::Error> {
        let mut saved = Saved::default();
        let transaction = self.database.begin_write()?;
        let mut table = transaction.open_table(USERS)?;
        for (user, born) in users {
            let born = stored(*born);
            match table.insert(user.as_str(), born)?.map(|old| old.value()) {
                None => saved.new += 1,
                Some(old) if old != born => saved.changed += 1,
                Some(_) => {}
            }
        }
        drop(table);
        // A transaction that is dropped is rolled back: a second import of the same users writes nothing.
        if saved != Saved::default() {
            transaction.commit()?;
        }
        Ok(saved)
    }
}
