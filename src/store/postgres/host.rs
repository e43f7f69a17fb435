//! One database host. Its task asks the host for its role again and again, and publishes the answer.
//!
//! A region that is cut off may be replaced without knowing it. When the network returns, its old primary still takes writes until
//! it is stopped, and no service may send it one. The hosts of a region become unreachable together, and there are two regions. So
//! while half of the hosts are unreachable (silent), each write first probes whether they still are.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bb8::Pool;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::error::{Problem, SILENT, within};
use super::notice::Notices;
use super::pool::{CONNECT_DEADLINE, Manager, Pooled};
use super::session::{Backend, Session};
use super::standing::Standing;
use super::view::{Report, View};
use crate::metrics::{Operation, StoreMetrics};

/// How often each host is asked for its role: so long a promotion may stay unnoticed while the old primary answers.
const INTERVAL: Duration = Duration::from_secs(1);

/// The same while no primary is known: so much longer than necessary a write may wait for the next one.
const SEARCH_INTERVAL: Duration = Duration::from_millis(200);

/// How long a host may take to answer on an open connection.
const PROBE_DEADLINE: Duration = Duration::from_millis(500);

/// How long a write waits for silent hosts, unless two round trips take longer. Both are shorter than the second after
/// which the kernel repeats its first packet: an answer to that would say nothing of the time since.
const LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_millis(900);

/// The most backends with abandoned statements that are remembered.
const MOST_ABANDONED: usize = 64;

/// One host.
pub(super) struct Host {
    index: usize,
    view: watch::Sender<View>,
    pool: Pool<Manager>,
    /// Where it listens; a unix socket cannot be cut off.
    address: Option<Arc<Address>>,
    /// Asks the task to probe the host now.
    suspected: Notify,
    /// Backends with abandoned statements.
    abandoned: Mutex<Vec<Backend>>,
    notices: Notices,
    metrics: StoreMetrics,
}

impl Host {
    /// The host at `index` of the view, with room for `lanes` connections besides its own.
    pub(super) fn new(
        index: usize,
        manager: Manager,
        lanes: u32,
        view: watch::Sender<View>,
        metrics: StoreMetrics,
    ) -> Self {
        let (address, pool) = (manager.address.clone(), manager.pool(lanes));
        let (suspected, abandoned, notices) = (Notify::new(), Mutex::default(), Notices::default());
        Self { index, view, pool, address, suspected, abandoned, notices, metrics }
    }

    /// A connection for a lane; fails after a while if none can be made.
    pub(super) async fn connection(&self) -> Option<Pooled> {
        self.pool.get_owned().await.ok()
    }

    /// Asks the task to probe the host now: a connection to it failed.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// Remembers a backend with an abandoned statement, so that it is terminated, and asks the task to probe the host.
    pub(super) fn abandon(&self, backend: Backend) {
        let mut abandoned = self.abandoned();
        if abandoned.len() < MOST_ABANDONED {
            abandoned.push(backend);
        }
        self.suspect();
    }

    /// Asks the host for its role again and again, for ever.
    pub(super) async fn run(&self) {
        loop {
            let started = Instant::now();
            if let Some(session) = self.reach(LONGEST_LOOK).await {
                self.follow(&session).await;
                // The end of a session does not show the server's state: ask at once.
                if started.elapsed() > INTERVAL {
                    continue;
                }
            }
            self.pause().await;
        }
    }

    /// Probes an unreachable host, for no longer than a write waits for it.
    pub(super) async fn look(&self) {
        let round_trip = self.view.borrow().hosts[self.index].1.round_trip;
        self.reach((round_trip * 2).clamp(LOOK, LONGEST_LOOK)).await;
    }

    /// Connects if the host accepts or refuses a connection in time, and publishes its role, or why that is not known.
    async fn reach(&self, limit: Duration) -> Option<Arc<Session>> {
        let started = Instant::now();
        if let Some(address) = &self.address
            && let Err(problem) = address.try_each(|address| knock(address, limit)).await
        {
            self.publish_loss(problem, None);
            return None;
        }
        let (heard, round_trip) = (Instant::now(), started.elapsed());
        let opened = async {
            // The future is large and rarely needed.
            let session = Box::pin(self.pool.dedicated_connection()).await?;
            let problem = session.examine(session.standing).await?;
            Ok((Arc::new(session), problem))
        };
        match within(CONNECT_DEADLINE, opened).await {
            Ok((session, problem)) => {
                self.name_settings(&session);
                self.publish(&session, session.standing, problem, round_trip);
                Some(session)
            }
            Err(problem) => {
                self.publish_loss(problem, Some(heard));
                None
            }
        }
    }

    /// Logs once what the role has set for itself: everyone with its password can do that, and the settings stay.
    fn name_settings(&self, session: &Session) {
        let Some(settings) = session.role_settings.as_deref().filter(|settings| self.notices.is_due(settings)) else {
            return;
        };
        let host = self.view.borrow().hosts[self.index].0.clone();
        tracing::warn!(
            %host,
            settings,
            "the role has settings of its own: none but default_transaction_read_only is obeyed; ALTER ROLE … RESET ALL removes them"
        );
    }

    /// Asks on one connection until it is lost.
    async fn follow(&self, session: &Arc<Session>) {
        let (begun, mut known) = (Instant::now(), session.standing);
        loop {
            let is_suspected = self.pause().await;
            let started = Instant::now();
            let Ok(answer) = timeout(PROBE_DEADLINE, session.probe()).await else {
                self.abandon(session.backend);
                return self.publish_loss(SILENT.to_owned(), None);
            };
            let round_trip = started.elapsed();
            let Ok(standing) = answer else { return };
            // Only a new session learns that writes were opened again.
            if standing.is_closed_to_session && begun.elapsed() > INTERVAL {
                return;
            }
            let has_changed = (known.role, known.has_table) != (standing.role, standing.has_table);
            let mut problem = None;
            if is_suspected || has_changed || self.view.borrow().hosts[self.index].1.problem.is_some() {
                let Ok(found) = within(CONNECT_DEADLINE, session.examine(standing)).await else { return };
                problem = found;
            }
            known = standing;
            self.publish(session, standing, problem, round_trip);
            self.end_abandoned(session).await;
        }
    }

    /// Waits until the host is to be asked again; true if it is suspected.
    async fn pause(&self) -> bool {
        let mut view = self.view.subscribe();
        let is_calm = {
            let view = view.borrow_and_update();
            // A table that was just created is on the replicas within milliseconds.
            view.primary().is_some() && view.hosts[self.index].1.standing.is_none_or(|standing| standing.has_table)
        };
        let is_over = async {
            if is_calm {
                let lost = view.wait_for(|view| view.primary().is_none());
                // Either the time is over or there is a reason to ask now.
                let _ = timeout(INTERVAL, lost).await;
            } else {
                // The pace of the questions, not a wait for an answer: the host is asked again after it.
                sleep(SEARCH_INTERVAL).await;
            }
        };
        tokio::select! {
            () = self.suspected.notified() => true,
            () = is_over => false,
        }
    }

    async fn end_abandoned(&self, session: &Session) {
        let backends = std::mem::take(&mut *self.abandoned());
        if backends.is_empty() {
            return;
        }
        if let Ok(Ok(())) = timeout(PROBE_DEADLINE, session.end(&backends)).await {
            tracing::warn!(backends = backends.len(), "terminated database backends with abandoned statements");
        } else {
            self.abandoned().extend(backends);
        }
    }

    fn publish(&self, session: &Arc<Session>, standing: Standing, problem: Option<Problem>, round_trip: Duration) {
        let (standing, heard, session) = (Some(standing), Some(Instant::now()), Some(session.clone()));
        let problem = problem.map(Into::into);
        self.report(|report| *report = Report { standing, answers: true, problem, heard, round_trip, session });
    }

    /// Publishes that the host cannot be used; its last role stays known.
    fn publish_loss(&self, problem: Problem, heard: Option<Instant>) {
        self.report(|report| {
            report.heard = heard.or(report.heard);
            (report.answers, report.problem, report.session) = (false, Some(problem.into()), None);
        });
    }

    /// Changes the host's report, and counts an attempt to use the host that failed.
    fn report(&self, change: impl FnOnce(&mut Report)) {
        self.view.send_modify(|view| {
            let mut report = view.hosts[self.index].1.clone();
            change(&mut report);
            if report.problem.is_some() {
                self.metrics.error(Operation::Read, "connect");
                self.metrics.error(Operation::Write, "connect");
            }
            view.publish(self.index, report);
        });
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<Backend>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the host at `address` accepts or refuses a connection: either shows that the way to it is whole.
async fn knock(address: SocketAddr, limit: Duration) -> Result<(), Problem> {
    within(limit, async {
        match TcpStream::connect(address).await {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                Err(format!("cannot reach {}: {error}", address.ip()))
            }
            _ => Ok(()),
        }
    })
    .await
}
