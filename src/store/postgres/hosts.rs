//! All hosts of the database, and the view of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::sleep;

use super::herald;
use super::host::Host;
use super::pool::Manager;
use super::view::View;
use crate::config::Database;
use crate::metrics::StoreMetrics;

/// How long after the first host the others may answer before one is chosen: a connection to another region takes some ten
/// round trips.
pub(super) const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// The hosts that the URL names, in its order.
pub(super) struct Hosts {
    all: Vec<Host>,
    view: watch::Sender<View>,
}

impl Hosts {
    /// The hosts of `database`, each with room for `lanes` connections.
    pub(super) fn new(database: &Database, lanes: u32, metrics: &StoreMetrics) -> Self {
        let managers = Manager::for_each(&database.postgres, database.password_file.as_deref(), &database.tls);
        let view = watch::Sender::new(View::new(managers.iter().map(|(name, _)| name.clone())));
        let host = |(index, (_, manager))| Host::new(index, manager, lanes, view.clone(), metrics.clone());
        Self { all: managers.into_iter().enumerate().map(host).collect(), view }
    }

    /// Starts the task of each host, and the one that logs changes.
    pub(super) fn start(self: &Arc<Self>, metrics: &StoreMetrics) {
        tokio::spawn(herald::run(self.view(), metrics.clone()));
        for index in 0..self.all.len() {
            let hosts = self.clone();
            tokio::spawn(async move { hosts.all[index].run().await });
        }
        let hosts = self.clone();
        tokio::spawn(async move {
            // The sender lives as long as `hosts`, so waiting cannot fail.
            let _ = hosts.view().wait_for(|view| view.hosts.iter().any(|(_, report)| report.answers)).await;
            sleep(FIRST_CONTACT).await;
            hosts.view.send_modify(View::settle);
        });
    }

    /// The view, now and each time that it changes.
    pub(super) fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Evaluates a pure function of the current view.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&View) -> T) -> T {
        question(&self.view.borrow())
    }

    /// The host at `index` of the view.
    pub(super) fn host(&self, index: usize) -> &Host {
        &self.all[index]
    }

    /// Before a write is sent: if half of the hosts are silent, probes them and queries the role of each that answers.
    /// So a write that arrives after a cut has healed finds the primary that was promoted during the cut.
    pub(super) async fn look_at_silent(&self) {
        let now = Instant::now();
        let silent = self.ask(|view| view.is_cut_off(now).then(|| view.silent(now).collect::<Vec<_>>()));
        if let Some(silent) = silent {
            join_all(silent.into_iter().map(|index| self.all[index].look())).await;
        }
    }
}
