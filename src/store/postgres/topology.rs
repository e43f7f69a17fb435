//! What all lanes know together: which host is the primary, and whether the database was ever reached.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::error::ConnectError;
use super::session::{Epoch, Role, Session};
use crate::metrics::{Operation, StoreMetrics};

/// Shared knowledge of the database's hosts.
#[derive(Debug)]
pub(super) struct Topology {
    known: Mutex<Known>,
    /// The host that was last seen to take writes; sent anew each time that it is seen.
    primaries: watch::Sender<Option<Arc<str>>>,
    /// The primary was lost.
    loss: Notify,
    reached: AtomicBool,
    metrics: StoreMetrics,
}

#[derive(Debug, Default)]
struct Known {
    primary: Option<Arc<str>>,
    newest: Option<Epoch>,
    /// The last problem that was logged, so that it is said once and not at each attempt.
    problem: Option<String>,
}

impl Known {
    fn admits(&self, epoch: Epoch) -> bool {
        !self.newest.is_some_and(|newest| newest.system == epoch.system && newest.promotion > epoch.promotion)
    }
}

impl Topology {
    pub(super) fn new(metrics: StoreMetrics) -> Self {
        Self {
            known: Mutex::default(),
            primaries: watch::Sender::default(),
            loss: Notify::new(),
            reached: AtomicBool::new(false),
            metrics,
        }
    }

    /// Tells of each host that is seen to take writes from now on.
    pub(super) fn primaries(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.primaries.subscribe()
    }

    /// Waits before a host is asked again: `usual`, but only for `search` while there is no primary.
    pub(super) async fn pause(&self, usual: Duration, search: Duration) {
        // Made before the look, so that no loss comes between.
        let loss = self.loss.notified();
        if self.has_primary() {
            // Either the time is over or there is a reason to ask now.
            let _ = timeout(usual, loss).await;
        } else {
            // The pace of the questions, not a wait for an answer: the host is asked again after it.
            sleep(search).await;
        }
    }

    /// Whether a primary of this epoch may be used: not one that a later promotion of the same cluster replaced,
    /// because that one would lose what it took, and what it reads is old.
    pub(super) fn admits(&self, epoch: Epoch) -> bool {
        self.known().admits(epoch)
    }

    /// A primary of this epoch answered.
    pub(super) fn saw(&self, host: &Arc<str>, epoch: Epoch) {
        let mut known = self.known();
        if !known.admits(epoch) {
            return;
        }
        if known.newest != Some(epoch) {
            if known.primary.is_some() {
                tracing::warn!(%host, timeline = epoch.promotion.timeline, "another host was promoted: leaving the old primary");
            }
            known.newest = Some(epoch);
        }
        self.primaries.send_replace(Some(host.clone()));
    }

    /// Whether a primary was ever used, so that an older one would be told from it.
    pub(super) fn knows_an_epoch(&self) -> bool {
        self.known().newest.is_some()
    }

    /// A lane has a connection for `operation`; whether it may use it.
    pub(super) fn connected(&self, operation: Operation, session: &Session) -> bool {
        let mut known = self.known();
        match session.standing.role {
            Role::Primary => {
                if !known.admits(session.standing.epoch) {
                    return false;
                }
                known.newest = Some(session.standing.epoch);
                known.problem = None;
                if known.primary.as_ref() != Some(&session.host) {
                    tracing::info!(host = %session.host, "connected to the primary");
                    self.metrics.set_primary(Some(&session.host));
                    known.primary = Some(session.host.clone());
                }
            }
            Role::Replica => {
                tracing::warn!(host = %session.host, operation = operation.name(), "no primary answers: reading from a replica");
            }
        }
        self.reached.store(true, Ordering::Release);
        true
    }

    /// A lane lost its connection to the primary, or saw it step down.
    pub(super) fn lost(&self, host: &Arc<str>) {
        let mut known = self.known();
        if known.primary.as_ref() == Some(host) {
            tracing::warn!(%host, "lost the primary");
            self.metrics.set_primary(None);
            known.primary = None;
            drop(known);
            self.loss.notify_waiters();
        }
    }

    /// A host answers, or it does not.
    pub(super) fn heard(&self, host: &str, silent: bool) {
        self.metrics.set_silent(host, silent);
    }

    /// No connection could be made. Logged when the reason is new.
    pub(super) fn failed(&self, operation: Operation, error: &ConnectError) {
        self.metrics.error(operation, "connect");
        let problem = error.to_string();
        let mut known = self.known();
        if known.problem.as_ref() != Some(&problem) {
            tracing::error!(error = %problem, "cannot use the database; trying again until it works");
            known.problem = Some(problem);
        }
    }

    pub(super) fn has_primary(&self) -> bool {
        self.known().primary.is_some()
    }

    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::Promotion;
    use super::*;

    #[test]
    fn a_primary_of_an_older_promotion_of_the_same_cluster_is_not_admitted() {
        let topology = Topology::new(StoreMetrics::register(&mut crate::metrics::registry()));
        let epoch = |system, region, timeline| Epoch { system, promotion: Promotion { region, timeline } };
        assert!(topology.admits(epoch(7, 0, 1)));
        topology.known().newest = Some(epoch(7, 2, 5));
        let same_region = [(epoch(7, 2, 5), true), (epoch(7, 2, 6), true), (epoch(7, 2, 4), false)];
        let other_region = [(epoch(7, 3, 5), true), (epoch(7, 1, 6), false)];
        // A cluster that was made anew counts from one again.
        for (epoch, admitted) in same_region.into_iter().chain(other_region).chain([(epoch(8, 0, 1), true)]) {
            assert_eq!(topology.admits(epoch), admitted, "{epoch:?}");
        }
    }
}
