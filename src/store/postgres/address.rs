//! Where a host listens: its name's addresses, and how they are tried.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dns_lookup::{AddrFamily, AddrInfoHints, SockType, getaddrinfo};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// How long an address may take before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// How long a name may take to be looked up: less than a connection, so that the right one of the two is blamed.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long the second family is waited for when the first has answered (RFC 8305, section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// A host's address, or its name and port.
#[derive(Debug)]
pub(super) struct Address {
    name: String,
    port: u16,
    /// A lookup cannot be interrupted: so at most one of each family is under way.
    lookups: [Arc<Semaphore>; 2],
}

impl Address {
    /// The address `ip` if it is given, else whatever `name` means at each attempt.
    pub(super) fn new(name: &str, ip: Option<IpAddr>, port: u16) -> Self {
        let name = ip.map_or_else(|| name.to_owned(), |ip| ip.to_string());
        Self { name, port, lookups: [(); 2].map(|()| Arc::new(Semaphore::new(1))) }
    }

    /// Tries all addresses, each after a head start of the one before it or at once when that fails, and takes the first that
    /// succeeds.
    ///
    /// # Errors
    ///
    /// The name cannot be looked up, or the last address failed.
    pub(super) async fn try_each<T, E, F>(&self, connect: impl Fn(SocketAddr) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<String>,
    {
        let addresses = self.addresses().await.map_err(|error| {
            E::from(format!(
                "cannot look up the name {}: {error}; check the name in DATABASE_URL and the resolver",
                self.name
            ))
        })?;
        let mut rest = addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).peekable();
        let mut attempts = FuturesUnordered::new();
        loop {
            attempts.extend(rest.next().map(&connect));
            tokio::select! {
                Some(done) = attempts.next() => match done {
                    Err(error) if attempts.is_empty() && rest.peek().is_none() => return Err(error),
                    Err(_) => {}
                    done => return done,
                },
                () = sleep(HEAD_START), if rest.peek().is_some() => {}
            }
        }
    }

    /// The addresses of both families, which are asked apart: a resolver that refuses one says nothing of the other.
    async fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        if let Ok(ip) = self.name.parse() {
            return Ok(vec![ip]);
        }
        let mut lookups =
            FuturesUnordered::from_iter([AddrFamily::Inet6, AddrFamily::Inet].map(|family| self.lookup(family)));
        let (mut found, mut problem) = (Vec::new(), "the resolver did not answer in time".to_owned());
        let mut patience = PATIENCE;
        while let Ok(Some(answer)) = timeout(patience, lookups.next()).await {
            match answer {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => (patience, found) = (RESOLUTION_DELAY, [found, addresses].concat()),
                Err(error) => problem = error,
            }
        }
        if found.is_empty() { Err(problem) } else { Ok(found) }
    }

    async fn lookup(&self, family: AddrFamily) -> Result<Vec<IpAddr>, String> {
        let fail = |error: &dyn Display| error.to_string();
        let lookups = &self.lookups[usize::from(family == AddrFamily::Inet)];
        let permit = lookups.clone().acquire_owned().await.map_err(|error| fail(&error))?;
        let name = self.name.clone();
        let lookup = move || {
            let _permit = permit;
            let hints =
                AddrInfoHints { socktype: SockType::Stream.into(), address: family.into(), ..AddrInfoHints::default() };
            let found = getaddrinfo(Some(&name), None, Some(hints)).map_err(std::io::Error::from)?;
            found.map(|found| found.map(|found| found.sockaddr.ip())).collect::<Result<Vec<_>, _>>()
        };
        let found = spawn_blocking(lookup).await.map_err(|error| fail(&error))?;
        found.map_err(|error| fail(&error))
    }
}
