//! Lanes: each holds a connection to the host that the view chooses and sends what waits in the queue as one statement.
//!
//! A batch has one of three outcomes. It is *answered*. Or a row or a lock *blocks* it: then it is divided until the
//! jobs that cause it are alone, and only they are refused. Or the connection is *lost*: its jobs are put back and sent again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Error, Statement};

use super::error::{Failure, Verdict};
use super::hosts::Hosts;
use super::notice::Notices;
use super::pool::{CONNECT_DEADLINE, Pooled};
use super::standing::Role;
use super::view::View;
use crate::domain::UserKey;
use crate::metrics::{Operation, StoreMetrics};
use crate::store::StoreError;
use crate::store::queue::{Batch, Queue};

/// The first and the longest pause after a connection that was soon lost.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A connection that lived this long was not soon lost.
const SOON: Duration = Duration::from_secs(1);

/// How long a batch may be divided, so that others do not wait for the lane much longer than for a lost one.
const DIVISION: Duration = Duration::from_secs(2);

/// Into how many parts: with a statement of 0.8 s that times out, a batch of 1,024 comes to single jobs in three rounds.
const PARTS: usize = 16;

/// Why a lane with a working connection did not serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A passing fault: a lock, a lack of memory or disk.
    Later,
    /// A fault that waiting does not change.
    Final(StoreError),
}

/// What a batch of one kind of work is answered with.
pub(super) type Answered<W> = Result<<W as Work>::Answer, Refusal>;

/// One kind of work: reads or writes.
pub(super) trait Work: Sized + Send + Sync + 'static {
    type Question: Send + Sync;
    type Answer: Send;
    const OPERATION: Operation;
    const SQL: &'static str;
    /// Connections, and statements in flight on each.
    const LANES: u32;
    const DEPTH: usize;
    /// What a request gets whose row the database refuses.
    const REFUSED: StoreError;

    /// The host to work with.
    fn host(view: &View) -> Option<usize>;

    /// Whose row a question concerns.
    fn row(question: &Self::Question) -> &UserKey;

    /// Sends one statement; the answers come in the order in which it leaves the batch.
    fn send(
        lane: &Lane<Self>,
        link: &Link,
        batch: &mut Batch<Self::Question, Answered<Self>>,
    ) -> impl Future<Output = Result<Vec<Answered<Self>>, Failure>> + Send;
}

/// What lanes of one kind share.
pub(super) struct Lane<W: Work> {
    pub(super) queue: Arc<Queue<W::Question, Answered<W>>>,
    pub(super) hosts: Arc<Hosts>,
    pub(super) metrics: StoreMetrics,
    pub(super) notices: Notices,
    /// One permit for each connection that was made.
    pub(super) connected: Arc<Semaphore>,
}

/// A lane's connection.
pub(super) struct Link {
    pub(super) session: Pooled,
    pub(super) statement: Statement,
    /// The host's place in the view.
    pub(super) index: usize,
}

/// Awaits a statement for no longer than `deadline`.
pub(super) async fn within<T>(
    deadline: Duration,
    statement: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    let answered = timeout(deadline, statement).await;
    Ok(answered.map_err(|_| Failure::lost(Failure::NO_ANSWER, "no answer within the deadline"))??)
}

impl<W: Work> Lane<W> {
    /// Serves batches for ever.
    pub(super) async fn run(&self) {
        let mut view = self.hosts.view();
        let mut pause = PAUSES.0;
        // The sender lives as long as the hosts, so waiting cannot fail.
        while let Ok(chosen) = view.wait_for(|view| W::host(view).is_some()).await.map(|view| W::host(&view)) {
            let Some(index) = chosen else { continue };
            let started = Instant::now();
            let link = tokio::select! {
                link = self.link(index) => link,
                _ = view.wait_for(|view| W::host(view) != Some(index)) => continue,
            };
            if let Some(link) = link {
                self.connected.add_permits(1);
                let open = self.metrics.connections(W::OPERATION, link.session.standing.role.name());
                open.inc();
                let is_lost = self.serve(&link).await;
                open.dec();
                link.session.retire();
                if !is_lost {
                    continue;
                }
                self.hosts.host(index).suspect();
            }
            pause = if started.elapsed() < SOON { (pause * 2).min(PAUSES.1) } else { PAUSES.0 };
            // The pace of the attempts, not a wait for an answer: what breaks each connection must not break a thousand a second.
            sleep(pause).await;
        }
    }

    /// A connection to the host at `index` with the statement prepared, if it still is what the view says.
    async fn link(&self, index: usize) -> Option<Link> {
        let host = self.hosts.host(index);
        let session = host.connection().await?;
        let (role, epoch) = (session.standing.role, session.standing.epoch);
        let prepared = timeout(CONNECT_DEADLINE, session.client.prepare(W::SQL)).await;
        let fits = self.hosts.ask(|view| !view.leaves(index, role) && (role == Role::Replica || view.admits(epoch)));
        if let (Ok(Ok(statement)), true) = (prepared, fits) {
            return Some(Link { session, statement, index });
        }
        session.retire();
        host.suspect();
        None
    }

    /// Serves batches until the connection is lost (true), or another host is the one to work with (false).
    async fn serve(&self, link: &Link) -> bool {
        let mut view = self.hosts.view();
        let mut in_flight = FuturesUnordered::new();
        let mut leaves = false;
        while !leaves || !in_flight.is_empty() {
            tokio::select! {
                biased;
                Some(is_lost) = in_flight.next() => if is_lost {
                    return true;
                },
                _ = view.changed() => {
                    leaves = view.borrow_and_update().leaves(link.index, link.session.standing.role);
                    if link.session.is_over() {
                        return true;
                    }
                }
                Some(batch) = self.queue.batch(), if !leaves && in_flight.len() < W::DEPTH => {
                    in_flight.push(self.carry_out(link, batch));
                }
            }
        }
        false
    }

    /// Answers a batch, or puts it back; true if the connection is lost.
    async fn carry_out(&self, link: &Link, batch: Batch<W::Question, Answered<W>>) -> bool {
        let end = Instant::now() + DIVISION;
        let mut parts = vec![batch];
        while let Some(mut batch) = parts.pop() {
            if !batch.forget_gone() {
                continue;
            }
            let Failure { verdict, kind, text } = match W::send(self, link, &mut batch).await {
                Ok(answers) => {
                    let mut answers = answers.into_iter();
                    batch.answer(|| answers.next().unwrap_or(Err(Refusal::Later)));
                    continue;
                }
                Err(failure) => failure,
            };
            self.metrics.error(W::OPERATION, kind);
            if verdict == Verdict::Connection {
                if kind == Failure::NO_ANSWER {
                    self.hosts.host(link.index).abandon(link.session.backend);
                }
                // A job that breaks each connection waits longer before each attempt.
                if batch.is_last_resort() {
                    batch.answer(|| Err(Refusal::Later));
                }
                self.say(link, "lost a connection to the database", &text);
                return true;
            }
            let is_one_row = batch.iter().all(|job| W::row(&job.question) == W::row(&batch[0].question));
            if !is_one_row && Instant::now() < end {
                let size = batch.len().div_ceil(PARTS);
                parts.extend(batch.divide(size));
                continue;
            }
            self.say(link, "the database cannot serve a user", &text);
            if verdict == Verdict::Host {
                self.hosts.host(link.index).suspect();
            }
            let refusal = if verdict == Verdict::Row { Refusal::Final(W::REFUSED) } else { Refusal::Later };
            batch.answer(|| Err(refusal));
        }
        false
    }

    /// Logs what went wrong on a connection, but the same no more than once a minute.
    fn say(&self, link: &Link, what: &str, error: &str) {
        let (host, operation) = (self.hosts.ask(|view| view.hosts[link.index].0.clone()), W::OPERATION.name());
        if self.notices.is_due(&format!("{what} {host} {error}")) {
            tracing::warn!(%host, operation, error, "{what}");
        }
    }

    /// Counts a row that cannot be served though the database returned it, and logs it.
    pub(super) fn unusable(&self, link: &Link, error: &str) {
        self.metrics.error(W::OPERATION, "row");
        self.say(link, "the database cannot serve a user", error);
    }
}
