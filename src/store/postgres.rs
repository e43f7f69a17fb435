//! Users in PostgreSQL.
//!
//! Each host has a task that publishes the host's state. The view of all hosts chooses the primary and the host to read from.
//! Requests wait in two queues; lanes send all waiting requests as one statement to the chosen host.

mod address;
mod bounds;
mod error;
mod herald;
mod host;
mod hosts;
mod lane;
mod notice;
mod pool;
mod provision;
mod reads;
mod session;
mod standing;
mod table;
mod transport;
mod view;
pub(super) mod whole;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::hosts::{FIRST_CONTACT, Hosts};
use self::lane::{Answered, Lane, Refusal, Work};
use self::notice::Notices;
use self::reads::Reads;
use self::view::View;
use self::writes::Writes;
use super::queue::Queue;
use super::{Reading, StoreError};
use crate::config::{Config, Database};
use crate::domain::{DateOfBirth, UserKey, Username};
use crate::metrics::StoreMetrics;

/// The first and the longest pause before a request that met a passing fault is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Users in PostgreSQL.
pub(super) struct PostgresStore {
    reads: Arc<Queue<UserKey, Answered<Reads>>>,
    writes: Arc<Queue<(UserKey, DateOfBirth), Answered<Writes>>>,
    read_patience: Duration,
    write_patience: Duration,
    hosts: Arc<Hosts>,
    /// Whether there was a complete contact.
    reached: AtomicBool,
}

impl PostgresStore {
    /// Starts to look for the database and serves as soon as it is found. Call it within a tokio runtime.
    pub(super) fn start(database: &Database, config: &Config, metrics: &StoreMetrics) -> Arc<Self> {
        let shared = Arc::new(Self {
            reads: Queue::new(config.queue_capacity, Reads::OPERATION, metrics),
            writes: Queue::new(config.queue_capacity, Writes::OPERATION, metrics),
            read_patience: config.read_patience,
            write_patience: config.write_patience,
            hosts: Arc::new(Hosts::new(database, Reads::LANES + Writes::LANES, metrics)),
            reached: AtomicBool::new(false),
        });
        let (database, metrics, store) = (database.clone(), metrics.clone(), shared.clone());
        tokio::spawn(async move {
            provision::as_administrator(&database).await;
            store.hosts.start(&metrics);
            let connected = Arc::new(Semaphore::new(0));
            start::<Reads>(&store.reads, &store.hosts, &metrics, &connected);
            start::<Writes>(&store.writes, &store.hosts, &metrics, &connected);
            provision::as_service(&store.hosts).await;
            // The first requests are to find connections, but a server that grants fewer of them serves, too.
            let _ = timeout(FIRST_CONTACT, connected.acquire_many(Reads::LANES + Writes::LANES)).await;
            store.reached.store(true, Ordering::Release);
        });
        shared
    }

    pub(super) async fn get(&self, user: UserKey) -> Result<Reading, StoreError> {
        let answered = timeout(self.read_patience, ask::<Reads>(&self.reads, user, None)).await;
        answered.unwrap_or(Err(StoreError::OutOfPatience))
    }

    pub(super) async fn put(&self, user: UserKey, date_of_birth: DateOfBirth) -> Result<(), StoreError> {
        // A statement that is under way is awaited: what the client writes after its 503 must come later.
        let until = Some(Instant::now() + self.write_patience);
        ask::<Writes>(&self.writes, (user, date_of_birth), until).await.map_err(|error| match error {
            StoreError::OutOfPatience => StoreError::OutcomeUnknown,
            other => other,
        })
    }

    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    /// Whether a primary takes writes and a read goes through.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        if !self.was_reached() || self.hosts.ask(View::primary).is_none() {
            return Err(StoreError::Unavailable);
        }
        let anyone: Username = "anyone".parse().map_err(|_| StoreError::Unavailable)?;
        self.get(anyone.key()).await.map(drop)
    }
}

fn start<W: Work>(
    queue: &Arc<Queue<W::Question, Answered<W>>>,
    hosts: &Arc<Hosts>,
    metrics: &StoreMetrics,
    connected: &Arc<Semaphore>,
) {
    let (queue, hosts, metrics, connected) = (queue.clone(), hosts.clone(), metrics.clone(), connected.clone());
    let lane = Arc::new(Lane::<W> { queue, hosts, metrics, notices: Notices::default(), connected });
    for _ in 0..W::LANES {
        let lane = lane.clone();
        tokio::spawn(async move { lane.run().await });
    }
}

/// Asks until there is an answer, or the time is up. A question may reach the server twice: reading and saving are idempotent.
async fn ask<W: Work<Question: Clone>>(
    queue: &Queue<W::Question, Answered<W>>,
    question: W::Question,
    until: Option<Instant>,
) -> Result<W::Answer, StoreError> {
    let mut pause = PAUSES.0;
    let mut answer = queue.ask(question.clone(), until).await?;
    loop {
        match answer {
            Ok(answer) => return Ok(answer),
            Err(Refusal::Final(error)) => return Err(error),
            Err(Refusal::Later) => match until.filter(|until| Instant::now() + pause >= *until) {
                None => sleep(pause).await,
                Some(until) => {
                    sleep_until(until).await;
                    return Err(StoreError::OutOfPatience);
                }
            },
        }
        pause = (pause * 2).min(PAUSES.1);
        answer = queue.ask_again(question.clone(), until).await?;
    }
}
