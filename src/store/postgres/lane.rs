//! Lanes: each holds a connection to the host that the view chooses and sends what waits in the queue as one statement.
//!
//! A batch comes to one of three ends. It is *answered*. Or a row or a lock stands in its way: then it is divided until the
//! guilty are alone, and only they are refused. Or the connection is *lost*: then its jobs are put back and asked again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Error, Statement};

use super::error::{Verdict, describe};
use super::hosts::Hosts;
use super::notice::Notices;
use super::pool::{CONNECT_DEADLINE, Pooled};
use super::standing::Role;
use super::view::View;
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
    /// Something that passes stood in the way: a lock, a lack of memory or disk.
    Later,
    /// Nothing that waiting would change.
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

    /// Orders a batch before it is sent.
    fn arrange(batch: &mut Batch<Self::Question, Answered<Self>>);

    /// Whether two questions concern one row.
    fn same_row(one: &Self::Question, other: &Self::Question) -> bool;

    /// Sends one statement; the answers come in the order of the batch.
    fn send(
        lane: &Lane<Self>,
        link: &Link,
        batch: &Batch<Self::Question, Answered<Self>>,
    ) -> impl Future<Output = Result<Vec<Answered<Self>>, Failure>> + Send;
}

/// What lanes of one kind share.
pub(super) struct Lane<W: Work> {
    queue: Queue<W::Question, Answered<W>>,
    pub(super) hosts: Arc<Hosts>,
    metrics: StoreMetrics,
    notices: Notices,
    /// One permit for each connection that was made.
    connected: Semaphore,
}

/// A lane's connection.
pub(super) struct Link {
    pub(super) session: Pooled,
    pub(super) statement: Statement,
    /// The host's place in the view.
    pub(super) index: usize,
    pub(super) host: Arc<str>,
}

/// Why a statement gave no answer.
pub(super) enum Failure {
    /// The server said so.
    Refused(Error),
    /// The server did not answer in time: what it does with the statement is unknown.
    TimedOut,
    /// The server is no longer the one to ask, or came to the statement too late; a word for metrics, and a sentence.
    Outdated(&'static str, &'static str),
}

/// The kind of a statement without an answer.
const TIMED_OUT: &str = "no_answer";

impl Failure {
    /// To whom the failure is charged, its kind for metrics, and what to say.
    fn judge(self) -> (Verdict, &'static str, String) {
        match self {
            Self::Refused(error) => {
                let (verdict, kind) = Verdict::on(&error);
                (verdict, kind, describe(&error))
            }
            Self::TimedOut => (Verdict::Connection, TIMED_OUT, "no answer within the deadline".to_owned()),
            Self::Outdated(kind, sentence) => (Verdict::Connection, kind, sentence.to_owned()),
        }
    }
}

/// How the time with one connection ended.
enum End {
    /// The connection is lost.
    Lost,
    /// Another host is the one to work with.
    Left,
    /// The store is gone.
    Closed,
}

/// Awaits a statement for no longer than `deadline`.
pub(super) async fn within<T>(
    deadline: Duration,
    statement: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    timeout(deadline, statement).await.map_err(|_| Failure::TimedOut)?.map_err(Failure::Refused)
}

impl<W: Work> Lane<W> {
    pub(super) fn new(queue: Queue<W::Question, Answered<W>>, hosts: Arc<Hosts>, metrics: StoreMetrics) -> Self {
        Self { queue, hosts, metrics, notices: Notices::default(), connected: Semaphore::new(0) }
    }

    /// Returns once all lanes have had a connection, or there is no host for them.
    pub(super) async fn all_connected(&self) {
        if self.hosts.ask(W::host).is_some() {
            // The semaphore is never closed, so this only waits.
            let _ = self.connected.acquire_many(W::LANES).await;
        }
    }

    /// Serves batches until the store is gone.
    pub(super) async fn run(&self) {
        let mut view = self.hosts.view();
        let mut pause = PAUSES.0;
        loop {
            let Ok(chosen) = view.wait_for(|view| W::host(view).is_some()).await.map(|view| W::host(&view)) else {
                return;
            };
            let Some(index) = chosen else { continue };
            let started = Instant::now();
            let link = tokio::select! {
                link = self.link(index) => link,
                // The sender lives as long as the hosts, so waiting cannot fail.
                _ = view.wait_for(|view| W::host(view) != Some(index)) => continue,
            };
            if let Some(link) = link {
                self.connected.add_permits(1);
                let open = self.metrics.connections(W::OPERATION, link.session.standing.role.name());
                open.inc();
                let end = self.serve(&link).await;
                open.dec();
                link.session.retire();
                match end {
                    End::Lost => self.hosts.host(index).suspect(),
                    End::Left => continue,
                    End::Closed => return,
                }
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
            let host = self.hosts.ask(|view| view.hosts[index].0.clone());
            return Some(Link { session, statement, index, host });
        }
        session.retire();
        host.suspect();
        None
    }

    async fn serve(&self, link: &Link) -> End {
        let mut view = self.hosts.view();
        let mut in_flight = FuturesUnordered::new();
        let mut leaves = false;
        loop {
            tokio::select! {
                biased;
                Some(done) = in_flight.next() => match done {
                    Ok(()) => {}
                    Err(end) => return end,
                },
                changed = view.changed() => {
                    leaves = changed.is_err() || view.borrow_and_update().leaves(link.index, link.session.standing.role);
                    if link.session.is_over() {
                        return End::Lost;
                    }
                }
                batch = self.queue.batch(), if !leaves && in_flight.len() < W::DEPTH => match batch {
                    Some(batch) => in_flight.push(self.carry_out(link, batch)),
                    None => return End::Closed,
                },
            }
            if leaves && in_flight.is_empty() {
                return End::Left;
            }
        }
    }

    /// Answers a batch, or puts it back.
    async fn carry_out(&self, link: &Link, mut batch: Batch<W::Question, Answered<W>>) -> Result<(), End> {
        W::arrange(&mut batch);
        let end = Instant::now() + DIVISION;
        let mut parts = vec![batch];
        while let Some(mut batch) = parts.pop() {
            if !batch.forget_gone() {
                continue;
            }
            let (verdict, kind, error) = match W::send(self, link, &batch).await {
                Ok(answers) => {
                    let mut answers = answers.into_iter();
                    batch.answer(|| answers.next().unwrap_or(Err(Refusal::Later)));
                    continue;
                }
                Err(failure) => failure.judge(),
            };
            self.metrics.error(W::OPERATION, kind);
            if verdict == Verdict::Connection {
                if kind == TIMED_OUT {
                    self.hosts.host(link.index).abandon(link.session.backend);
                }
                // What breaks each connection that it is sent on is sent again ever later.
                if batch.is_last_resort() {
                    batch.answer(|| Err(Refusal::Later));
                }
                self.say(link, "lost a connection of the database", &error);
                return Err(End::Lost);
            }
            let is_one_row = batch.iter().all(|job| W::same_row(&job.question, &batch[0].question));
            if !is_one_row && Instant::now() < end {
                let size = batch.len().div_ceil(PARTS);
                parts.extend(batch.divide(size));
                continue;
            }
            self.say(link, "the database cannot serve a user", &error);
            if verdict == Verdict::Host {
                self.hosts.host(link.index).suspect();
            }
            let refusal = if verdict == Verdict::Row { Refusal::Final(W::REFUSED) } else { Refusal::Later };
            batch.answer(|| Err(refusal));
        }
        Ok(())
    }

    /// Logs what went wrong on a connection, but the same no more than once a minute.
    fn say(&self, link: &Link, what: &str, error: &str) {
        let (host, operation) = (&link.host, W::OPERATION.name());
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
