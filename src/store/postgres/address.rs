//! Where a host listens: the addresses of its name.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use dns_lookup::{AddrFamily, AddrInfoHints, SockType, getaddrinfo};
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::Problem;

/// How long a name may take to be looked up: less than a connection, so that the right one of the two is blamed.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The most addresses that are tried at once.
const MOST: usize = 16;

/// A host's address, or its name and port.
#[derive(Debug)]
pub(super) struct Address {
    name: String,
    port: u16,
    /// A lookup cannot be interrupted: so at most one of each family is under way.
    lookups: [Arc<Semaphore>; 2],
}

impl Address {
    /// The address `ip` if it is given, else the addresses of `name`, which is looked up at each attempt.
    pub(super) fn new(name: &str, ip: Option<IpAddr>, port: u16) -> Self {
        let name = ip.map_or_else(|| name.to_owned(), |ip| ip.to_string());
        Self { name, port, lookups: [(); 2].map(|()| Arc::new(Semaphore::new(1))) }
    }

    /// Tries all addresses at once, and takes the first that succeeds: a silent one does not delay the others.
    ///
    /// # Errors
    ///
    /// No address succeeded, or the name cannot be looked up.
    pub(super) async fn try_each<T, F>(&self, connect: impl Fn(SocketAddr) -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        if let Ok(ip) = self.name.parse() {
            return connect(SocketAddr::new(ip, self.port)).await;
        }
        // The families are asked apart: a resolver that refuses one says nothing of the other.
        let lookups =
            FuturesUnordered::from_iter([AddrFamily::Inet6, AddrFamily::Inet].map(|family| self.lookup(family)));
        let attempt = async |found: Result<IpAddr, Problem>| match found {
            Ok(ip) => connect(SocketAddr::new(ip, self.port)).await.map_err(|problem| (true, problem)),
            Err(problem) => Err((false, problem)),
        };
        let mut attempts = pin!(lookups.flat_map(stream::iter).map(attempt).buffer_unordered(MOST));
        // An address that failed says more than a family that has none.
        let mut worst = None;
        while let Some(done) = attempts.next().await {
            match done {
                Ok(done) => return Ok(done),
                Err(problem) => worst = worst.max(Some(problem)),
            }
        }
        Err(worst.map_or_else(
            || format!("cannot look up the name {}: it has no address", self.name),
            |(_, problem)| problem,
        ))
    }

    /// The addresses of one family, or why there are none.
    async fn lookup(&self, family: AddrFamily) -> Vec<Result<IpAddr, Problem>> {
        let failed = |error: &dyn Display| {
            let hint = "check the name in DATABASE_URL and the resolver";
            vec![Err(format!("cannot look up the name {}: {error}; {hint}", self.name))]
        };
        let (name, turn) = (self.name.clone(), self.lookups[usize::from(family == AddrFamily::Inet)].clone());
        let found = async move {
            let permit = turn.acquire_owned().await;
            spawn_blocking(move || {
                let _permit = permit;
                let (socktype, address) = (SockType::Stream.into(), family.into());
                let hints = AddrInfoHints { socktype, address, ..AddrInfoHints::default() };
                let found = getaddrinfo(Some(&name), None, Some(hints)).map_err(io::Error::from)?;
                found.map(|found| found.map(|found| found.sockaddr.ip())).collect::<io::Result<Vec<_>>>()
            })
            .await
        };
        match timeout(PATIENCE, found).await {
            Ok(Ok(Ok(found))) => found.into_iter().map(Ok).collect(),
            Ok(Ok(Err(error))) => failed(&error),
            Ok(Err(error)) => failed(&error),
            Err(_) => failed(&"the resolver did not answer in time"),
        }
    }
}
