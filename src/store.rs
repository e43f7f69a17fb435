//! Where users are kept: in one file, or in PostgreSQL. The only place that knows SQL.

mod embedded;
mod postgres;
mod queue;
mod whole;

use std::fmt;

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
    Embedded(EmbeddedStore),
    /// PostgreSQL, over the network.
    Postgres(PostgresStore),
}

/// What a read found.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The user's date of birth; `None` if there is no such user.
    pub date_of_birth: Option<DateOfBirth>,
    /// Who said so.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// As many requests wait as may.
    QueueFull,
    /// Nothing answered a read within the patience.
    OutOfPatience,
    /// Nothing answered a write within the patience. It may have happened all the same.
    OutcomeUnknown,
    /// Only replicas answered, and none of them knows the user (yet).
    UnknownToReplica,
    /// The store cannot read this user's row.
    Unreadable,
    /// The store refused this user's row and took its neighbours.
    Rejected,
    /// The store cannot be used now.
    Unavailable,
}

impl Store {
    /// Opens the store that the configuration names. PostgreSQL may be absent yet: it is waited for.
    ///
    /// # Errors
    ///
    /// One sentence that says why the embedded store's file cannot be opened.
    pub fn open(config: &Config, metrics: &StoreMetrics) -> Result<Self, String> {
        let kind = match &config.store {
            StoreConfig::Embedded(directory) => Kind::Embedded(EmbeddedStore::open(directory, config, metrics)?),
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

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "too many requests wait for the database: try again in a moment",
            Self::OutOfPatience => "the database did not answer in time: try again",
            Self::OutcomeUnknown => "the database did not answer in time, and this may have been saved: try again",
            Self::UnknownToReplica => "no primary is reachable, and no replica has this user: try again in a moment",
            Self::Unreadable => "the database cannot read this user: save the date of birth again",
            Self::Rejected => "the database refused to save this user: try again later",
            Self::Unavailable => "the database is unavailable: try again in a moment",
        })
    }
}

impl std::error::Error for StoreError {}
