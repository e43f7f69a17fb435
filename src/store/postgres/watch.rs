//! Which hosts answer, what they say they are, and what a write waits for while half of them are silent.
//!
//! While no primary is known, every host is asked several times a second on the connection that stands: it costs a host next
//! to nothing, where new connections of all lanes would take a small one's processor from the promotion that they wait for.
//!
//! A region that is cut off may be replaced, and cannot tell. When the cut heals, its old primary still takes writes until
//! somebody stops it, so nobody may send it one. The hosts of a region fall silent together, and there are two regions: so
//! while half of the hosts are silent, each write first looks whether the silence has ended.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::Host as Address;

use super::hosts::{Host, Hosts};
use super::session::{Role, Session, Standing};

/// How often each host is asked what it is: how long a promotion may stay unnoticed while the old primary answers.
const INTERVAL: Duration = Duration::from_secs(1);

/// The same while no primary is known: how much longer than they must writes may wait for the next one.
const SEARCH_INTERVAL: Duration = Duration::from_millis(200);

/// How long what a host said it was is believed without a new answer.
const BELIEVED: Duration = Duration::from_millis(1500);

/// How long a host may take to answer on a connection that stands.
const PROBE_DEADLINE: Duration = Duration::from_millis(500);

/// How long after its last answer a host is silent. One that froze goes on accepting connections and is asked in vain for
/// as long as `INTERVAL`, `PROBE_DEADLINE` and a connection's deadline together: it must not look as if it were cut off.
const SILENT_AFTER: Duration = Duration::from_secs(4);

/// How long a write waits for silent hosts, unless two round trips take longer. Both are shorter than the second after
/// which the kernel repeats its first packet: an answer to that would say nothing of the time since.
const LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_millis(900);

/// The way to one host.
pub(super) struct Contact {
    /// Where it listens; a unix socket cannot be cut off.
    address: Option<(String, u16)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When it had last been asked what it is, and had answered at all.
    heard: Option<Instant>,
    /// What it said.
    role: Option<Role>,
    round_trip: Duration,
    /// The connection on which it said so.
    session: Option<Arc<Session>>,
}

impl Hosts {
    /// Asks every host again and again what it is, so that a promotion is noticed while the old primary goes on answering,
    /// as it does when nobody could reach it to fence it. Lanes leave it at their next statement or probe.
    pub(super) async fn watch(&self) {
        if self.all.len() > 1 {
            join_all(self.all.iter().map(|host| self.watch_one(host))).await;
        }
    }

    async fn watch_one(&self, host: &Host) {
        loop {
            let stands = match host.contact.session() {
                Some(session) => self.ask(host, session).await,
                None => false,
            };
            if !stands {
                self.look(host, LONGEST_LOOK).await;
            }
            self.topology.heard(&host.name, host.contact.is_silent());
            self.topology.pause(INTERVAL, SEARCH_INTERVAL).await;
        }
    }

    /// Before a write is sent: if half of the hosts are silent, looks whether one of them answers now, and asks it what it
    /// is. So what was taken for writing after a cut had healed finds the primary that was promoted during the cut.
    pub(super) async fn hear_the_silent(&self) {
        let silent = || self.all.iter().filter(|host| host.contact.is_silent());
        let half_silent = || self.all.len() > 1 && silent().count() * 2 >= self.all.len();
        let mut cut_off = half_silent();
        if cut_off {
            join_all(silent().map(|host| self.look(host, host.contact.look()))).await;
            cut_off = half_silent();
        }
        if self.cut_off.swap(cut_off, Ordering::Relaxed) != cut_off {
            if cut_off {
                tracing::warn!("half of the database's hosts are silent: each write first looks whether they answer");
            } else {
                tracing::info!("more than half of the database's hosts answer again");
            }
        }
    }

    /// Asks a host what it is if it accepts or refuses a connection in time.
    async fn look(&self, host: &Host, within: Duration) {
        let knocked = host.contact.knock(within).await;
        let Some(round_trip) = knocked else { return host.contact.unheard() };
        let (_, opened) = host.open().await;
        if let Ok(session) = &opened {
            self.note(session, session.standing);
        }
        host.contact.heard(round_trip, opened.ok().map(|session| (session.standing.role, Arc::new(session))));
    }

    /// Asks a host on a connection that stands; whether it still does.
    async fn ask(&self, host: &Host, session: Arc<Session>) -> bool {
        let begun = Instant::now();
        let Ok(Ok(standing)) = timeout(PROBE_DEADLINE, session.probe()).await else { return false };
        self.note(&session, standing);
        host.contact.heard(begun.elapsed(), Some((standing.role, session)));
        true
    }

    fn note(&self, session: &Session, standing: Standing) {
        if standing.role == Role::Primary {
            self.topology.saw(&session.host, standing.epoch);
        }
    }
}

impl Contact {
    /// The way to `address`, which need not be looked up where `ip` is given.
    pub(super) fn new(address: &Address, ip: Option<&IpAddr>, port: u16) -> Self {
        let address = match address {
            Address::Tcp(name) => Some((ip.map_or_else(|| name.clone(), IpAddr::to_string), port)),
            Address::Unix(_) => None,
        };
        Self { address, state: Mutex::default() }
    }

    /// The time until the host accepted or refused a connection: either shows that the way to it is whole.
    async fn knock(&self, within: Duration) -> Option<Duration> {
        let begun = Instant::now();
        if let Some((name, port)) = &self.address {
            match timeout(within, TcpStream::connect((name.as_str(), *port))).await.ok()? {
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => return None,
                Ok(_) | Err(_) => {}
            }
        }
        Some(begun.elapsed())
    }

    fn heard(&self, round_trip: Duration, said: Option<(Role, Arc<Session>)>) {
        let (role, session) = said.unzip();
        *self.state() = State { heard: Some(Instant::now()), role, round_trip, session };
    }

    fn unheard(&self) {
        self.state().session = None;
    }

    /// The connection that stands, as far as is known.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.state().session.clone()
    }

    /// Whether the host said just now that it takes no writes.
    pub(super) fn is_replica(&self) -> bool {
        let state = self.state();
        state.role == Some(Role::Replica) && state.heard.is_some_and(|heard| heard.elapsed() < BELIEVED)
    }

    fn is_silent(&self) -> bool {
        self.state().heard.is_none_or(|heard| heard.elapsed() > SILENT_AFTER)
    }

    /// How long a write looks for it.
    fn look(&self) -> Duration {
        (self.state().round_trip * 2).clamp(LOOK, LONGEST_LOOK)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
