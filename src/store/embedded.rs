//! Users in one file (redb), durable at every acknowledgement, written by one process at a time.

pub(super) mod whole;

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use jiff::civil::Date;
use redb::{Builder, ConcurrencyMode, Database, ReadableDatabase, TableDefinition};
use tokio::runtime::Handle;
use tokio::time::{Duration, timeout};

use super::queue::{Batch, Queue};
use super::{Reading, Source, StoreError};
use crate::config::Config;
use crate::domain::{DateOfBirth, UserKey};
use crate::logging::Chain;
use crate::metrics::{Operation, StoreMetrics};

/// Folded name to year, month and day.
const USERS: TableDefinition<'_, &str, (i16, i8, i8)> = TableDefinition::new("users");

/// redb's cache in bytes; the page cache of the kernel stands behind it.
const CACHE: usize = 8 << 20;

type Writes = Queue<(UserKey, DateOfBirth), Result<(), StoreError>>;

/// Users in one file.
pub(super) struct EmbeddedStore {
    file: Arc<StoreFile>,
    writes: Arc<Writes>,
    patience: Duration,
}

/// The writer ends with the store.
impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.writes.close();
    }
}

/// The open file. After an I/O error redb refuses all work until the file is opened again.
struct StoreFile {
    path: PathBuf,
    database: RwLock<Option<Database>>,
    metrics: StoreMetrics,
}

impl EmbeddedStore {
    /// Opens `users.redb` in `directory`; both are created if need be. Writes that arrive together are committed
    /// together by a thread of the store's own; none waits longer than the write patience. Call it within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The directory cannot be written, or another process has the file open.
    pub(super) fn open(directory: &Path, config: &Config, metrics: &StoreMetrics) -> Result<Self, String> {
        let database = RwLock::new(Some(create(directory)?));
        let file = Arc::new(StoreFile { path: path(directory), database, metrics: metrics.clone() });
        let writes = Writes::new(config.queue_capacity, Operation::Write, metrics);
        let store = Self { file: file.clone(), writes: writes.clone(), patience: config.write_patience };
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("embedded-writer".into())
            .spawn(move || file.write(&runtime, &writes))
            .map_err(|error| cannot_open(&path(directory), &redb::Error::Io(error)))?;
        Ok(store)
    }

    pub(super) fn get(&self, user: &UserKey) -> Result<Reading, StoreError> {
        let found = self.file.with(|database| {
            let users = database.begin_read()?.open_table(USERS)?;
            Ok(users.get(user.as_str())?.map(|row| row.value()))
        });
        let row = found.map_err(|error| {
            self.file.metrics.error(Operation::Read, "io");
            tracing::error!(error = %Chain(&error), "cannot read the store's file");
            StoreError::Unavailable
        })?;
        let date_of_birth = row.map(|row| date(row).ok_or(())).transpose().map_err(|()| {
            self.file.metrics.error(Operation::Read, "row");
            tracing::error!("the store's file contains an invalid date of birth");
            StoreError::Unreadable
        })?;
        Ok(Reading { date_of_birth, source: Source::Primary })
    }

    pub(super) async fn put(&self, user: UserKey, date_of_birth: DateOfBirth) -> Result<(), StoreError> {
        let answered = timeout(self.patience, self.writes.ask((user, date_of_birth), None)).await;
        answered.map_err(|_| StoreError::OutcomeUnknown)??
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.file.with(|database| Ok(database.begin_read().map(drop)?)).map_err(|_| StoreError::Unavailable)
    }
}

impl StoreFile {
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let guard = self.database.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        work(guard.as_ref().ok_or(redb::Error::DatabaseClosed)?)
    }

    /// Opens the file again; no read is under way meanwhile, because redb's lock on the file is exclusive.
    fn reopen(&self) -> Result<(), redb::Error> {
        let mut guard = self.database.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(guard.take());
        *guard = Some(open(&self.path)?);
        Ok(())
    }

    /// Commits batch after batch until the store is dropped.
    fn write(&self, runtime: &Handle, writes: &Arc<Writes>) {
        while let Some(batch) = runtime.block_on(writes.batch()) {
            let answer = self.commit(&batch).map_err(|error| self.recover(&error));
            batch.answer(|| answer);
        }
    }

    /// Writes in order of arrival, so the later of two writes of one key stays.
    fn commit(&self, batch: &Batch<(UserKey, DateOfBirth), Result<(), StoreError>>) -> Result<(), redb::Error> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let mut users = transaction.open_table(USERS)?;
            for write in batch.iter() {
                let (user, date_of_birth) = &write.question;
                users.insert(user.as_str(), stored(*date_of_birth))?;
            }
            drop(users);
            Ok(transaction.commit()?)
        })
    }

    fn recover(&self, error: &redb::Error) -> StoreError {
        self.metrics.error(Operation::Write, "io");
        tracing::error!(error = %Chain(error), "cannot write the store's file; opening it again");
        if let Err(error) = self.reopen() {
            tracing::error!(error = %Chain(&error), "cannot open the store's file");
        }
        StoreError::Unavailable
    }
}

/// Other processes may read the file while this one writes it.
fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

fn path(directory: &Path) -> PathBuf {
    directory.join("users.redb")
}

/// Opens the file in `directory`; both are created if need be.
fn create(directory: &Path) -> Result<Database, String> {
    let create = || {
        // Only the service's own user may read what it keeps.
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let database = open(&path(directory))?;
        // The file's name must be as durable as its contents.
        File::open(directory)?.sync_all()?;
        Ok(database)
    };
    create().map_err(|cause| cannot_open(&path(directory), &cause))
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    let database = builder().create(path)?;
    // So that a read never meets a file without the table.
    let transaction = database.begin_write()?;
    transaction.open_table(USERS)?;
    transaction.commit()?;
    Ok(database)
}

/// A date as a row holds it.
fn stored(born: DateOfBirth) -> (i16, i8, i8) {
    let date = born.date();
    (date.year(), date.month(), date.day())
}

/// The date of a row, unless something else than a request wrote it.
fn date((year, month, day): (i16, i8, i8)) -> Option<DateOfBirth> {
    Date::new(year, month, day).ok().and_then(DateOfBirth::from_stored)
}

/// Why the file cannot be used, and how to fix it.
fn cannot_open(path: &Path, cause: &redb::Error) -> String {
    let path = path.display();
    match cause {
        redb::Error::DatabaseAlreadyOpen => {
            format!(
                "{path} is in use by another process: stop that process, or set DOB_API_DATA_DIR to another directory"
            )
        }
        redb::Error::Io(error) => {
            format!("cannot open {path}: {error}: set DOB_API_DATA_DIR to a directory that this user may write")
        }
        cause => format!("cannot open {path}: {cause}: restore the file, or move it away to start with an empty one"),
    }
}
