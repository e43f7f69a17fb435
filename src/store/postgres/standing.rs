//! What a server reports about itself.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_postgres::{Error, Row};

/// The role, the place in history and the clock of a server, and whether it has the table; then the session's backend and the
/// bounds `$1` that it really has. `transaction_read_only` is also on where an administrator made a primary read-only; a
/// role that opens for itself what was closed is not believed. The timeline stands in the first eight digits of the name of the
/// WAL file that is being written. The region's epoch is a setting that the promotion of a region makes.
pub(super) const PROBE: &str = "
    SELECT current_setting('transaction_read_only')::bool OR EXISTS (
               SELECT FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
               WHERE datname = current_database() AND setrole = 0 AND 'default_transaction_read_only=on' = ANY (setconfig)),
           system_identifier,
           CASE WHEN pg_is_in_recovery() THEN 0
                ELSE coalesce(nullif(current_setting('dob_api.region_epoch', true), '')::bigint, 0) END,
           CASE WHEN pg_is_in_recovery() THEN 0
                ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
           CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint ELSE 0 END,
           to_regclass('users') IS NOT NULL OR EXISTS (
               SELECT FROM pg_class WHERE relname = 'users' AND relnamespace = to_regnamespace('public')),
           clock_timestamp(), pid,
           (extract(epoch FROM backend_start - '2000-01-01 00:00:00+00') * 1000000)::bigint,
           ARRAY(SELECT extract(epoch FROM current_setting(name)::interval)::float8 FROM unnest($1::text[]) AS name),
           current_setting('synchronous_commit'), current_setting('search_path'),
           current_setting('default_transaction_read_only')::bool AND NOT pg_is_in_recovery()
    FROM pg_control_system(), pg_stat_get_activity(pg_backend_pid())";

/// What a server reported about itself, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) role: Role,
    pub(super) epoch: Epoch,
    /// How many bytes of WAL a server in recovery has replayed.
    pub(super) replayed: i64,
    /// Whether the table is there, even if the role may not use its schema.
    pub(super) has_table: bool,
    /// Whether the session's own default closes writes: a session keeps the default of its role or database that it began with.
    pub(super) is_closed_to_session: bool,
    pub(super) clock: ServerClock,
}

/// What a server does for its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Takes writes.
    Primary,
    /// Only reads.
    Replica,
}

/// Which cluster a server belongs to and which promotion it writes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) system: i64,
    /// Zero for a server in recovery.
    pub(super) promotion: Promotion,
}

/// Every promotion starts a higher timeline. But two regions that do not see each other may both start the same one: of
/// these, the one that an operator promoted later is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Promotion {
    pub(super) region: i64,
    pub(super) timeline: i32,
}

/// The server's clock, as far as one reading tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    server: Timestamp,
    read_at: Instant,
}

impl Standing {
    /// Reads the answer to [`PROBE`].
    pub(super) fn read(row: &Row) -> Result<Self, Error> {
        let read_only: bool = row.try_get(0)?;
        Ok(Self {
            role: if read_only { Role::Replica } else { Role::Primary },
            epoch: Epoch {
                system: row.try_get(1)?,
                promotion: Promotion { region: row.try_get(2)?, timeline: row.try_get(3)? },
            },
            replayed: row.try_get(4)?,
            has_table: row.try_get(5)?,
            is_closed_to_session: row.try_get(12)?,
            clock: ServerClock { server: row.try_get(6)?, read_at: Instant::now() },
        })
    }
}

impl Role {
    /// The name in labels and log lines.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl ServerClock {
    /// What the server's clock will show `delay` from now, or a network round trip less.
    pub(super) fn after(&self, delay: Duration) -> Timestamp {
        self.server.checked_add(self.read_at.elapsed() + delay).unwrap_or(self.server)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server of cluster `system` on `timeline` of a region that was promoted at `region`.
    pub(in super::super) fn standing(role: Role, system: i64, region: i64, timeline: i32) -> Standing {
        let clock = ServerClock { server: Timestamp::UNIX_EPOCH, read_at: Instant::now() };
        let epoch = Epoch { system, promotion: Promotion { region, timeline } };
        Standing { role, epoch, replayed: 0, has_table: true, is_closed_to_session: false, clock }
    }
}
