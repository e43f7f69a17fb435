//! Where the service stands between start and end.

use std::sync::Arc;

use tokio::sync::watch;

/// A phase of the service's life, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests are served.
    #[default]
    Serving,
    /// `/healthz` is 503; requests are still served, each with `Connection: close`.
    Draining,
    /// Listeners are closed; requests in flight finish.
    Closing,
}

/// A handle on the phase; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle(Arc<watch::Sender<Phase>>);

impl Lifecycle {
    /// A service that serves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters `phase`; all that wait for it are woken.
    pub fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Returns once `phase` or a later one is reached.
    pub async fn reached(&self, phase: Phase) {
        let mut phases = self.0.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }
}
