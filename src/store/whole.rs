//! A store as a whole: what `export` reads, and what `import` writes.

use super::embedded::whole as embedded;
use super::postgres::whole as postgres;
use crate::config::StoreConfig;
use crate::domain::{DateOfBirth, Username};
use crate::lines::User;

/// How many users are read or saved at once: enough for the cost of a commit, and so few that a request for one of them waits briefly.
pub const BATCH: usize = 4096;

/// All users of a store as of one moment, in the order of their names.
pub struct Snapshot {
    source: Source,
    /// How many the store counts.
    pub users: u64,
    /// How many were read.
    read: u64,
}

enum Source {
    Embedded(embedded::Rows),
    Postgres(postgres::Rows),
}

/// A store into which users are imported.
pub struct Target(Sink);

enum Sink {
    Embedded(embedded::Target),
    Postgres(Box<postgres::Target>),
}

/// What saving users changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Users that the store did not have.
    pub new: u64,
    /// Users whose date of birth was another one.
    pub changed: u64,
}

impl Snapshot {
    /// Opens the store that the configuration names. A service may use it meanwhile.
    ///
    /// # Errors
    ///
    /// One sentence that says why it cannot be read.
    pub async fn open(store: &StoreConfig) -> Result<Self, String> {
        let (source, users) = match store {
            StoreConfig::Embedded(directory) => {
                embedded::Rows::open(directory).map(|(rows, users)| (Source::Embedded(rows), users))
            }
            StoreConfig::Postgres(database) => {
                postgres::Rows::open(database).await.map(|(rows, users)| (Source::Postgres(rows), users))
            }
        }?;
        Ok(Self { source, users, read: 0 })
    }

    /// The next users; none at the end, when all that the store counts were read.
    ///
    /// # Errors
    ///
    /// One sentence that says why they cannot be read.
    pub async fn next(&mut self) -> Result<Vec<User>, String> {
        let rows = match &mut self.source {
            Source::Embedded(rows) => rows.next(),
            Source::Postgres(rows) => rows.next().await,
        }?;
        if rows.is_empty() && self.read != self.users {
            return Err(format!("the store counts {} users, but {} were read", self.users, self.read));
        }
        let user = |row: Row| {
            self.read += 1;
            row.ok_or_else(|| {
                format!(
                    "user {} in the order of their names has an invalid name or date of birth: save that user again, or \
                     delete the row",
                    self.read
                )
            })
        };
        rows.into_iter().map(user).collect()
    }
}

impl Target {
    /// Opens the store that the configuration names, and creates what is missing of it.
    ///
    /// # Errors
    ///
    /// One sentence that says why it cannot be written.
    pub async fn open(store: &StoreConfig) -> Result<Self, String> {
        match store {
            StoreConfig::Embedded(directory) => embedded::Target::open(directory).map(Sink::Embedded),
            StoreConfig::Postgres(database) => postgres::Target::open(database).await.map(Box::new).map(Sink::Postgres),
        }
        .map(Self)
    }

    /// Saves users as requests would, all of them or none. Each name may be there once.
    ///
    /// # Errors
    ///
    /// One sentence that says why they are not saved.
    pub async fn save(&self, mut users: Vec<User>) -> Result<Saved, String> {
        // In the order in which a service locks them.
        users.sort_by(|one, other| one.0.cmp(&other.0));
        match &self.0 {
            Sink::Embedded(target) => target.save(&users),
            Sink::Postgres(target) => target.save(&users).await,
        }
    }
}

/// A user as a store has it; `None` for what no request can have saved.
pub(super) type Row = Option<User>;

/// Reads a stored name and date.
pub(super) fn row(name: &str, date_of_birth: Option<DateOfBirth>) -> Row {
    let key = name.parse::<Username>().ok()?.key();
    (key.as_str() == name).then_some((key, date_of_birth?))
}
