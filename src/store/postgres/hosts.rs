//! The database's hosts, and how the one that can serve is found among them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::Config;
use tokio_postgres::config::{Host as Address, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{ConnectError, HostProblem};
use super::session::{Role, Session};
use super::topology::Topology;
use super::watch::Contact;
use crate::config::{PasswordSource, TlsPolicy};
use crate::metrics::Operation;

/// How long one host may take from the first packet to the answer of the probe. `connect_timeout` would bound the TCP
/// handshake only.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// How long a primary may answer later than a replica and still be preferred, while none is known.
const GRACE: Duration = Duration::from_millis(250);

/// The same while one is known, and at first contact: a connection to another region takes some ten round trips.
const LONG_GRACE: Duration = Duration::from_secs(1);

/// How long to wait for the promotion of a replica when nothing else is left to ask.
const PROMOTION_PATIENCE: Duration = Duration::from_secs(1);

/// What the server enforces by itself, in case that the service is gone: see `write_lane` on how the bounds fit.
/// Statements are planned once: a server that first saw small batches would plan each of the large ones anew. A plan
/// that is kept must suit a table of any size, so it uses the primary key's index.
const SESSION_OPTIONS: &str = "-c statement_timeout=1000 -c lock_timeout=500 \
    -c idle_in_transaction_session_timeout=5000 -c plan_cache_mode=force_generic_plan -c enable_seqscan=off";

/// Every host of the database.
pub(super) struct Hosts {
    pub(super) all: Vec<Host>,
    pub(super) topology: Arc<Topology>,
    /// Whether half of the hosts were silent at the last write: said once, not at each.
    pub(super) cut_off: AtomicBool,
}

pub(super) struct Host {
    pub(super) name: Arc<str>,
    config: Config,
    password: PasswordSource,
    tls: MakeRustlsConnect,
    pub(super) contact: Contact,
}

impl Hosts {
    /// The hosts that `config` names.
    pub(super) fn new(config: &Config, password: &PasswordSource, tls: &TlsPolicy, topology: Arc<Topology>) -> Self {
        let client = rustls::ClientConfig::builder().with_root_certificates(tls.roots.clone()).with_no_client_auth();
        let connector = MakeRustlsConnect::new(client);
        let addresses = config.get_hosts().iter().enumerate();
        let hosts = addresses.map(|(index, address)| {
            let port = *config.get_ports().get(index).or(config.get_ports().first()).unwrap_or(&5432);
            let mut own = own_config(config, tls, address, port);
            let ip = config.get_hostaddrs().get(index);
            if let Some(ip) = ip {
                own.hostaddr(*ip);
            }
            let name = match address {
                Address::Tcp(name) => format!("{name}:{port}"),
                Address::Unix(path) => format!("{}:{port}", path.display()),
            };
            let contact = Contact::new(address, ip, port);
            Host { name: name.into(), config: own, password: password.clone(), tls: connector.clone(), contact }
        });
        Self { all: hosts.collect(), topology, cut_off: AtomicBool::new(false) }
    }

    pub(super) fn topology(&self) -> Arc<Topology> {
        self.topology.clone()
    }

    /// Asks all hosts at once and takes the first primary that answers; for reads, a replica if no primary does.
    /// At first contact every host is heard before one is taken: of two that claim to be the primary, the one that
    /// was promoted last is right.
    ///
    /// For writes, a host that just said that it is a replica is not asked again here, but once it is seen to be promoted.
    pub(super) async fn find(&self, operation: Operation) -> Result<Session, ConnectError> {
        let mut promoted = self.topology.primaries();
        let known_replica = |host: &&Host| operation == Operation::Write && host.contact.is_replica();
        let (waiting, asked): (Vec<_>, Vec<_>) = self.all.iter().partition(known_replica);
        let mut problems: Vec<_> = waiting.iter().map(|host| (host.name.clone(), HostProblem::Replica)).collect();
        let mut under_way: Vec<_> = asked.iter().map(|host| host.name.clone()).collect();
        let mut attempts: FuturesUnordered<_> = asked.into_iter().map(Host::open).collect();
        let mut best: Option<Session> = None;
        let knows_an_epoch = self.topology.knows_an_epoch();
        let grace = if self.topology.has_primary() || !knows_an_epoch { LONG_GRACE } else { GRACE };
        let mut patience_ends = Instant::now() + CONNECT_DEADLINE * 2;
        loop {
            if attempts.is_empty() {
                if waiting.is_empty() || best.is_some() {
                    break;
                }
                patience_ends = patience_ends.min(Instant::now() + PROMOTION_PATIENCE);
            }
            let (host, opened) = tokio::select! {
                Some(done) = attempts.next() => done,
                Ok(()) = promoted.changed(), if !waiting.is_empty() => {
                    let name = promoted.borrow_and_update().clone();
                    let found = self.all.iter().find(|host| name.as_ref() == Some(&host.name));
                    if let Some(host) = found.filter(|host| !under_way.contains(&host.name)) {
                        under_way.push(host.name.clone());
                        attempts.push(host.open());
                    }
                    continue;
                }
                () = sleep_until(patience_ends) => break,
            };
            under_way.retain(|name| *name != host);
            let session = match opened {
                Ok(session) => session,
                Err(problem) => {
                    problems.push((host, problem));
                    continue;
                }
            };
            if session.standing.role == Role::Replica {
                problems.push((host, HostProblem::Replica));
                if operation == Operation::Write {
                    continue;
                }
            } else if !self.topology.admits(session.standing.epoch) {
                problems.push((host, HostProblem::Superseded));
                continue;
            } else if knows_an_epoch {
                return Ok(session);
            }
            if best.is_none() {
                patience_ends = Instant::now() + grace;
            }
            prefer(&mut best, session);
        }
        // In a fixed order, so that the same trouble reads the same.
        problems.sort_by(|(one, _), (other, _)| one.cmp(other));
        problems.dedup_by(|(one, _), (other, _)| one == other);
        best.ok_or(ConnectError::Hosts(problems))
    }
}

/// Keeps the better of two sessions. The epoch of a replica is zero here, so any primary is better.
fn prefer(best: &mut Option<Session>, session: Session) {
    let promotion = |session: &Session| session.standing.epoch.promotion;
    if best.as_ref().is_none_or(|best| promotion(best) < promotion(&session)) {
        *best = Some(session);
    }
}

impl Host {
    pub(super) async fn open(&self) -> (Arc<str>, Result<Session, HostProblem>) {
        let opened = async {
            let config = self.config_now().await?;
            let (client, connection) = config.connect(self.tls.clone()).await?;
            Ok(Session::new(client, connection, self.name.clone()).await?)
        };
        let opened = timeout(CONNECT_DEADLINE, opened).await.unwrap_or(Err(HostProblem::Silent));
        (self.name.clone(), opened)
    }

    /// How to connect, with the password as it is now. Its file may be on a disk that hangs.
    async fn config_now(&self) -> Result<Config, HostProblem> {
        let (mut config, password) = (self.config.clone(), self.password.clone());
        let read = spawn_blocking(move || password.current()).await;
        if let Some(password) = read.map_or(Ok(None), |read| read.map_err(HostProblem::Password))? {
            config.password(password);
        }
        Ok(config)
    }
}

/// What `config` says, for one host.
fn own_config(config: &Config, tls: &TlsPolicy, address: &Address, port: u16) -> Config {
    let mut own = Config::new();
    match address {
        Address::Tcp(name) => own.host(name),
        Address::Unix(path) => own.host_path(path),
    };
    if let Some(user) = config.get_user() {
        own.user(user);
    }
    // An administrator's; that of the service comes from its source.
    if let Some(password) = config.get_password() {
        own.password(password);
    }
    if let Some(database) = config.get_dbname() {
        own.dbname(database);
    }
    let options = config.get_options().unwrap_or_default();
    own.port(port)
        .options(format!("{SESSION_OPTIONS} {options}"))
        .application_name(config.get_application_name().unwrap_or("dob-api"))
        .ssl_mode(if tls.required(address, config.get_ssl_mode()) { SslMode::Require } else { SslMode::Disable })
        .channel_binding(config.get_channel_binding())
        // So that connections to a dead host do not linger; the deadlines above do not depend on it.
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(15));
    own
}
