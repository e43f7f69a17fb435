//! Logs and counts each change of the view once.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::standing::Epoch;
use super::view::View;
use crate::metrics::StoreMetrics;

/// The parts of a view whose changes are logged.
#[derive(Default)]
struct News {
    primary: Option<Arc<str>>,
    newest: Option<Epoch>,
    problems: Vec<Option<String>>,
    reads_from_replica: bool,
    is_cut_off: bool,
}

/// Follows the view until the store is gone.
pub(super) async fn run(mut view: watch::Receiver<View>, metrics: StoreMetrics) {
    let mut said = News { problems: vec![None; view.borrow().hosts.len()], ..News::default() };
    while view.changed().await.is_ok() {
        let view = view.borrow_and_update();
        let (news, silent) = (News::of(&view), view.silent(Instant::now()).collect::<Vec<_>>());
        for (index, (host, _)) in view.hosts.iter().enumerate() {
            metrics.set_silent(host, silent.contains(&index));
            tell_problem(host, said.problems[index].as_deref(), news.problems[index].as_deref());
        }
        if news.primary != said.primary {
            metrics.set_primary(news.primary.as_deref());
        }
        news.tell(&said);
        said = news;
    }
}

impl News {
    fn of(view: &View) -> Self {
        // If a table cannot be created, that is logged elsewhere.
        let problem = |index| view.problem(index).filter(|_| !view.awaits_table(index)).map(str::to_owned);
        Self {
            primary: view.primary().map(|index| view.hosts[index].0.clone()),
            newest: view.newest,
            problems: (0..view.hosts.len()).map(problem).collect(),
            reads_from_replica: view.primary().is_none() && view.reader().is_some(),
            is_cut_off: view.is_cut_off(Instant::now()),
        }
    }

    fn tell(&self, said: &Self) {
        match (&self.primary, &said.primary) {
            (now, before) if now == before => {}
            (Some(host), _) if said.newest.is_some() && self.newest != said.newest => {
                let timeline = self.newest.map(|newest| newest.promotion.timeline);
                tracing::warn!(%host, timeline, "another host was promoted: it is the primary now");
            }
            (Some(host), _) => tracing::info!(%host, "connected to the primary"),
            (None, before) => tracing::warn!(host = before.as_deref(), "lost the primary"),
        }
        if self.reads_from_replica && !said.reads_from_replica {
            tracing::warn!("no primary answers: reading from a replica");
        }
        match (said.is_cut_off, self.is_cut_off) {
            (false, true) => {
                tracing::warn!("half of the database hosts are unreachable: each write probes them first");
            }
            (true, false) => tracing::info!("more than half of the database hosts are reachable again"),
            _ => {}
        }
    }
}

fn tell_problem(host: &str, said: Option<&str>, problem: Option<&str>) {
    match problem {
        Some(error) if said != problem => {
            tracing::error!(host, error, "cannot use a database host; retrying until it works");
        }
        None if said.is_some() => tracing::info!(host, "the database host can be used again"),
        _ => {}
    }
}
