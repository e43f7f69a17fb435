//! One connection and what is known of the server behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Connection, Error, Statement};

/// The role, the epoch and the clock of a server. `transaction_read_only` is also on where an administrator made a
/// primary read-only. The timeline stands in the first eight digits of the WAL file that is being written. The region's
/// epoch is a setting that the promotion of a region makes.
const PROBE: &str = "
    SELECT current_setting('transaction_read_only')::bool, system_identifier,
           CASE WHEN pg_is_in_recovery() THEN 0
                ELSE coalesce(nullif(current_setting('dob_api.region_epoch', true), '')::bigint, 0) END,
           CASE WHEN pg_is_in_recovery() THEN 0
                ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
           clock_timestamp()
    FROM pg_control_system()";

/// A connection to one host.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) host: Arc<str>,
    pub(super) standing: Standing,
    probe: Statement,
    /// Ends with the session. Left alone it would wait for answers that are outstanding, and a server that hangs gives none.
    _connection: JoinSet<()>,
}

/// What a server said of itself, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) role: Role,
    pub(super) epoch: Epoch,
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

/// Which cluster a server belongs to and which promotion it writes after; all zero for a server in recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) system: i64,
    pub(super) promotion: Promotion,
}

/// Every promotion begins a higher timeline. But two regions that do not see each other may both begin the same one: of
/// these, that which an operator promoted later is right.
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

impl Session {
    /// Asks the server behind a new connection for its standing.
    pub(super) async fn new<S, T>(client: Client, connection: Connection<S, T>, host: Arc<str>) -> Result<Self, Error>
    where
        Connection<S, T>: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let mut task = JoinSet::new();
        // What ends it fails the next statement, too, which tells.
        task.spawn(async move { drop(connection.await) });
        let probe = client.prepare(PROBE).await?;
        let standing = ask(&client, &probe).await?;
        Ok(Self { client, host, standing, probe, _connection: task })
    }

    /// Asks the server for its standing now.
    pub(super) async fn probe(&self) -> Result<Standing, Error> {
        ask(&self.client, &self.probe).await
    }
}

async fn ask(client: &Client, probe: &Statement) -> Result<Standing, Error> {
    let row = client.query_one(probe, &[]).await?;
    let read_only: bool = row.try_get(0)?;
    Ok(Standing {
        role: if read_only { Role::Replica } else { Role::Primary },
        epoch: Epoch {
            system: row.try_get(1)?,
            promotion: Promotion { region: row.try_get(2)?, timeline: row.try_get(3)? },
        },
        clock: ServerClock { server: row.try_get(4)?, read_at: Instant::now() },
    })
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
    /// What the server's clock will show `after` from now, or a network round trip less.
    pub(super) fn in_(&self, after: Duration) -> Timestamp {
        self.server.checked_add(self.read_at.elapsed() + after).unwrap_or(self.server)
    }
}
