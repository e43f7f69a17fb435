//! The connections to one host, owned by bb8 and made by bb8-postgres, each under one deadline.

use std::cell::LazyCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bb8::{ManageConnection, Pool, PooledConnection};
use bb8_postgres::PostgresConnectionManager;
use rustls::ClientConfig;
use tokio::task::spawn_blocking;
use tokio_postgres::Config;
use tokio_postgres::config::{Host as Name, SslMode, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::bounds;
use super::error::{Problem, cannot, within};
use super::session::Session;
use super::transport::Transport;
use crate::config::{self, TlsPolicy};

/// How long a connection may take from the first packet, or from the lookup of the name, until its session is ready.
/// `connect_timeout` would bound the TCP handshake only.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// bb8 tries to connect every half of this.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection of a pool; to drop it gives it back.
pub(super) type Pooled = PooledConnection<'static, Manager>;

/// Makes the connections to one host.
pub(super) struct Manager {
    config: Config,
    password_file: Option<PathBuf>,
    tls: Option<MakeRustlsConnect>,
    /// None for a unix socket, whose path stands in the configuration.
    pub(super) address: Option<Arc<Address>>,
}

impl Manager {
    /// For each host of `config`: its name and port for logs, and the maker of its connections.
    pub(super) fn for_each(config: &Config, password_file: Option<&Path>, tls: &TlsPolicy) -> Vec<(Arc<str>, Self)> {
        // It is built only if a host needs it, because it takes memory.
        let connector = LazyCell::new(|| {
            let client = ClientConfig::builder().with_root_certificates(tls.roots.clone()).with_no_client_auth();
            MakeRustlsConnect::new(client)
        });
        let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
            let port = *config.get_ports().get(index).or(config.get_ports().first()).unwrap_or(&5432);
            let (name, address) = match host {
                Name::Tcp(name) => {
                    let address = Address::new(name, config.get_hostaddrs().get(index).copied(), port);
                    (format!("{name}:{port}"), Some(Arc::new(address)))
                }
                Name::Unix(path) => (format!("{}:{port}", path.display()), None),
            };
            let tls = tls.required(host, config.get_ssl_mode()).then(|| LazyCell::force(&connector).clone());
            let config = own_config(config, host, port, tls.is_some());
            (name.into(), Self { config, password_file: password_file.map(Path::to_owned), tls, address })
        });
        hosts.collect()
    }

    /// A pool of at most `size` connections.
    pub(super) fn pool(self, size: u32) -> Pool<Self> {
        Pool::builder()
            .max_size(size)
            // The check would be a round trip a checkout; lanes notice by themselves.
            .test_on_check_out(false)
            .connection_timeout(CONNECTION_TIMEOUT)
            // Lanes keep their connections.
            .max_lifetime(None)
            .idle_timeout(None)
            .build_unchecked(self)
    }

    async fn connect_to(&self, address: Option<SocketAddr>) -> Result<Session, Problem> {
        let mut config = self.config.clone();
        if let Some(password) = password(&config, self.password_file.as_deref()).await? {
            config.password(password);
        }
        if let Some(address) = address {
            config.hostaddr(address.ip());
        }
        let has_fixed_path = config.get_options().is_some_and(bounds::fix_path);
        let (transport, hold) = Transport::new(self.tls.clone());
        let client = PostgresConnectionManager::new(config, transport).connect().await.map_err(cannot("connect"))?;
        Session::start(client, hold, has_fixed_path).await
    }
}

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = Problem;

    async fn connect(&self) -> Result<Session, Problem> {
        let connected = async {
            match &self.address {
                Some(address) => address.try_each(|address| self.connect_to(Some(address))).await,
                None => self.connect_to(None).await,
            }
        };
        within(CONNECT_DEADLINE, connected).await
    }

    async fn is_valid(&self, session: &mut Session) -> Result<(), Problem> {
        session.probe().await.map(drop).map_err(cannot("query its role"))
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.is_over()
    }
}

/// The password in the file now, or in `config`.
pub(super) async fn password(config: &Config, file: Option<&Path>) -> Result<Option<Vec<u8>>, Problem> {
    let Some(file) = file.map(Path::to_owned) else { return Ok(config.get_password().map(<[u8]>::to_vec)) };
    // It may be on a disk that hangs.
    let read = spawn_blocking(move || config::password(&file)).await.map_err(|error| error.to_string())?;
    read.map(|password| Some(password.into_bytes()))
}

/// What `config` says, for one host.
fn own_config(config: &Config, host: &Name, port: u16, encrypted: bool) -> Config {
    let mut own = Config::new();
    match host {
        Name::Tcp(name) => own.host(name),
        Name::Unix(path) => own.host_path(path),
    };
    if let Some(user) = config.get_user() {
        own.user(user);
    }
    if let Some(password) = config.get_password() {
        own.password(password);
    }
    if let Some(database) = config.get_dbname() {
        own.dbname(database);
    }
    match host {
        // With direct negotiation, tokio-postgres leaves the transport to our own code, which makes a plain one where no TLS is
        // needed.
        Name::Tcp(_) if !encrypted => own.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct),
        Name::Tcp(_) => own.ssl_mode(SslMode::Require),
        Name::Unix(_) => own.ssl_mode(SslMode::Disable),
    };
    own.port(port)
        .options(bounds::options(config.get_options().unwrap_or_default()))
        .application_name(config.get_application_name().unwrap_or("dob-api"))
        .channel_binding(config.get_channel_binding())
        // So that connections to a dead host do not linger; the deadlines do not depend on it.
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(15));
    own
}
