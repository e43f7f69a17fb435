//! Where users are kept: in one file, or in PostgreSQL. The only place that knows SQL.

mod embedded;
mod postgres;
mod queue;
mod whole;

use std::sync::Arc;

use thiserror::Error;

use crate::config::{Config, StoreConfig};
use crate::domain::{DateOfBirth, UserKey};
use crate::metrics::{Operation, StoreMetrics};

use embedded::EmbeddedStore;
use postgres::PostgresStore;

pub use whole::{BATCH, Saved, Snapshot, Target};

/// A place that keeps users. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Store {
    kind: Kind,
    metrics: StoreMetrics,
}

#[derive(Clone)]
enum Kind {
    /// One file on this host.
    Embedded(Arc<EmbeddedStore>),
    /// PostgreSQL, over the network.
    Postgres(Arc<PostgresStore>),
}

/// What a read found.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The user's date of birth; `None` if there is no such user.
    pub date_of_birth: Option<DateOfBirth>,
    /// Which server it comes from.
    pub source: Source,
}

/// Which server a reading comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The one that takes writes: the reading is current.
    Primary,
    /// A replica, because no primary answered: the reading may be old.
    Replica,
}

/// Why the store gave no answer. Each may pass: the request can be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The queue is full.
    #[error("too many requests wait for the database: try again in a moment")]
    QueueFull,
    /// Nothing answered a read within the patience.
    #[error("the database did not answer in time: try again")]
    OutOfPatience,
    /// Nothing answered a write within the patience. It may have happened all the same.
    #[error("the database did not answer in time, and this may have been saved: try again")]
    OutcomeUnknown,
    /// Only replicas answered, and none of them knows the user (yet).
    #[error("no primary is reachable, and no replica has this user: try again in a moment")]
    UnknownToReplica,
    /// The store cannot read this user's row.
    #[error("the database cannot read this user: save the date of birth again")]
    Unreadable,
    /// The store refused this user's row, but not the others of its batch.
    #[error("the database refused to save this user: try again later")]
    Rejected,
    /// The store cannot be used now.
    #[error("the database is unavailable: try again in a moment")]
    Unavailable,
}

impl Store {
    /// Opens the store that the configuration names. This does not wait for PostgreSQL, which may still be absent.
    ///
    /// # Errors
    ///
    /// One sentence that says why the embedded store's file cannot be opened.
    pub fn open(config: &Config, metrics: &StoreMetrics) -> Result<Self, String> {
        let kind = match &config.store {
            StoreConfig::Embedded(directory) => {
                Kind::Embedded(Arc::new(EmbeddedStore::open(directory, config, metrics)?))
            }
            StoreConfig::Postgres(database) => Kind::Postgres(PostgresStore::start(database, config, metrics)),
        };
        Ok(Self { kind, metrics: metrics.clone() })
    }

    /// Looks a user up.
    ///
    /// # Errors
    ///
    /// The store gave no answer.
    pub async fn get(&self, user: UserKey) -> Result<Reading, StoreError> {
        let reading = match &self.kind {
            Kind::Embedded(store) => store.get(&user),
            Kind::Postgres(store) => store.get(user).await,
        };
        reading.inspect_err(|error| self.metrics.error(Operation::Read, error.kind()))
    }

    /// Saves a user. When this returns, the write is durable.
    ///
    /// # Errors
    ///
    /// The store gave no answer; the write may have happened all the same.
    pub async fn put(&self, user: UserKey, date_of_birth: DateOfBirth) -> Result<(), StoreError> {
        let saved = match &self.kind {
            Kind::Embedded(store) => store.put(user, date_of_birth).await,
            Kind::Postgres(store) => store.put(user, date_of_birth).await,
        };
        saved.inspect_err(|error| self.metrics.error(Operation::Write, error.kind()))
    }

    /// Whether the store was reached at least once since the start.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        match &self.kind {
            Kind::Embedded(_) => true,
            Kind::Postgres(store) => store.was_reached(),
        }
    }

    /// Whether reads and writes would be served now.
    ///
    /// # Errors
    ///
    /// The store gave no answer, or takes no writes.
    pub async fn check(&self) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Embedded(store) => store.check(),
            Kind::Postgres(store) => store.check().await,
        }
    }
}

impl StoreError {
    /// The word for it in metrics.
    fn kind(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::OutOfPatience | Self::OutcomeUnknown => "out_of_patience",
            Self::UnknownToReplica => "unknown_to_replica",
            Self::Unreadable => "unreadable",
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
        }
    }
}
