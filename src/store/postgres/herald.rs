//! Says what changed in the view, once each, in logs and metrics.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::standing::Epoch;
use super::view::View;
use crate::metrics::StoreMetrics;

/// What was said last.
struct Herald {
    metrics: StoreMetrics,
    primary: Option<Arc<str>>,
    newest: Option<Epoch>,
    problems: Vec<Option<String>>,
    reads_from_replica: bool,
    is_cut_off: bool,
}

/// Follows the view until the store is gone.
pub(super) async fn run(mut view: watch::Receiver<View>, metrics: StoreMetrics) {
    let problems = vec![None; view.borrow().hosts.len()];
    let mut herald =
        Herald { metrics, primary: None, newest: None, problems, reads_from_replica: false, is_cut_off: false };
    while view.changed().await.is_ok() {
        herald.tell(&view.borrow_and_update());
    }
}

impl Herald {
    fn tell(&mut self, view: &View) {
        let now = Instant::now();
        self.tell_problems(view);
        self.tell_primary(view);
        let reads_from_replica = view.primary().is_none() && view.reader().is_some();
        if reads_from_replica && !self.reads_from_replica {
            tracing::warn!("no primary answers: reading from a replica");
        }
        self.reads_from_replica = reads_from_replica;

        let silent: Vec<usize> = view.silent(now).collect();
        for (index, (host, _)) in view.hosts.iter().enumerate() {
            self.metrics.set_silent(host, silent.contains(&index));
        }
        let is_cut_off = view.is_cut_off(now);
        if is_cut_off && !self.is_cut_off {
            tracing::warn!("half of the database's hosts are silent: each write first looks whether they answer");
        } else if self.is_cut_off && !is_cut_off {
            tracing::info!("more than half of the database's hosts answer again");
        }
        self.is_cut_off = is_cut_off;
    }

    fn tell_primary(&mut self, view: &View) {
        let primary = view.primary().map(|index| view.hosts[index].0.clone());
        let newest = view.newest();
        if primary != self.primary {
            match (&primary, &self.primary) {
                (Some(host), _) if self.newest.is_some() && newest != self.newest => {
                    let timeline = newest.map(|newest| newest.promotion.timeline);
                    tracing::warn!(%host, timeline, "another host was promoted: it is the primary now");
                }
                (Some(host), _) => tracing::info!(%host, "connected to the primary"),
                (None, Some(host)) => tracing::warn!(%host, "lost the primary"),
                (None, None) => {}
            }
            self.metrics.set_primary(primary.as_deref());
            self.primary = primary;
        }
        self.newest = newest;
    }

    fn tell_problems(&mut self, view: &View) {
        for (index, said) in self.problems.iter_mut().enumerate() {
            let host = &view.hosts[index].0;
            // If a table cannot be created, that is said.
            let problem = view.problem(index).filter(|_| !view.awaits_table(index));
            match problem {
                Some(problem) if said.as_deref() != Some(problem) => {
                    tracing::error!(%host, error = problem, "cannot use a database host; trying again until it works");
                }
                None if said.is_some() => tracing::info!(%host, "the database host can be used again"),
                _ => {}
            }
            *said = problem.map(str::to_owned);
        }
    }
}
