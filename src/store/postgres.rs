//! Users in PostgreSQL. Requests wait in two queues; *lanes* hold the connections and send what waits as one
//! statement. A request that a lane gave up is asked again until its patience ends.

mod error;
mod hosts;
mod pool;
mod provision;
mod read_lane;
mod session;
mod topology;
mod watch;
mod write_lane;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use self::hosts::Hosts;
use self::topology::Topology;
use super::queue::{self, Entrance, Exit, Job};
use super::{Reading, StoreError};
use crate::config::Database;
use crate::domain::{DateOfBirth, UserKey, Username};
use crate::metrics::{Operation, StoreMetrics};

/// The first and the longest pause before a request that met a passing fault is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How often a lane asks its server for its role: how long a demotion or a promotion may stay unnoticed.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How long requests wait for a database host that can serve them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) read: Duration,
    pub(super) write: Duration,
}

/// Why a lane with a working connection did not serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Something that passes stood in the way: a lock, a lack of memory or disk.
    Later,
    /// Nothing that waiting would change.
    Final(StoreError),
}

type Read = Job<UserKey, Result<Reading, Refusal>>;
type ReadExit = Exit<UserKey, Result<Reading, Refusal>>;
type Write = Job<(UserKey, DateOfBirth), Result<(), Refusal>>;
type WriteExit = Exit<(UserKey, DateOfBirth), Result<(), Refusal>>;

/// Users in PostgreSQL. Cheap to clone; clones share its connections.
#[derive(Clone, Debug)]
pub(super) struct PostgresStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    reads: Entrance<UserKey, Result<Reading, Refusal>>,
    writes: Entrance<(UserKey, DateOfBirth), Result<(), Refusal>>,
    patience: Patience,
    topology: Arc<Topology>,
}

impl PostgresStore {
    /// Starts to look for the database and serves as soon as it is found. Call it within a tokio runtime.
    pub(super) fn start(
        database: &Database,
        patience: Patience,
        queue_capacity: usize,
        metrics: &StoreMetrics,
    ) -> Self {
        let (reads, read_exit) = queue::queue(queue_capacity, Operation::Read, metrics);
        let (writes, write_exit) = queue::queue(queue_capacity, Operation::Write, metrics);
        let topology = Arc::new(Topology::new(metrics.clone()));
        let hosts = Arc::new(Hosts::new(&database.postgres, &database.password, &database.tls, topology.clone()));
        let (database, lane_metrics) = (database.clone(), metrics.clone());
        tokio::spawn(async move {
            let first = provision::until_done(&database, &hosts).await;
            let pool = pool::new(&hosts, Operation::Read, read_lane::LANES, read_lane::SELECT, first);
            for _ in 0..read_lane::LANES {
                tokio::spawn(read_lane::run(pool.clone(), read_exit.clone(), hosts.topology(), lane_metrics.clone()));
            }
            let pool = pool::new(&hosts, Operation::Write, write_lane::LANES, write_lane::UPSERT, None);
            for _ in 0..write_lane::LANES {
                tokio::spawn(write_lane::run(pool.clone(), write_exit.clone(), hosts.topology(), lane_metrics.clone()));
            }
            hosts.watch().await;
        });
        Self(Arc::new(Shared { reads, writes, patience, topology }))
    }

    pub(super) async fn get(&self, user: UserKey) -> Result<Reading, StoreError> {
        ask(&self.0.reads, self.0.patience.read, user).await
    }

    pub(super) async fn put(&self, user: UserKey, date_of_birth: DateOfBirth) -> Result<(), StoreError> {
        ask(&self.0.writes, self.0.patience.write, (user, date_of_birth)).await
    }

    pub(super) fn was_reached(&self) -> bool {
        self.0.topology.was_reached()
    }

    /// Whether a primary takes writes and a read goes through.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        if !self.0.topology.has_primary() {
            return Err(StoreError::Unavailable);
        }
        let anyone: Username = "anyone".parse().map_err(|_| StoreError::Unavailable)?;
        self.get(anyone.key()).await.map(drop)
    }
}

/// Asks until there is an answer. A question may reach the server twice: reading and saving are idempotent.
async fn ask<Q: Clone, A>(
    queue: &Entrance<Q, Result<A, Refusal>>,
    patience: Duration,
    question: Q,
) -> Result<A, StoreError> {
    let answered = async {
        let mut pause = PAUSES.0;
        let mut answer = queue.ask(question.clone())?;
        loop {
            match answer.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Refusal::Final(error))) => return Err(error),
                Ok(Err(Refusal::Later)) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                // The lane lost its connection: whichever lane has one next takes the question.
                Err(_) => {}
            }
            answer = queue.ask_again(question.clone()).await?;
        }
    };
    timeout(patience, answered).await.unwrap_or(Err(StoreError::OutOfPatience))
}
