//! The question that a container without a shell asks about its service.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long each step of the question may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Why the service is not healthy.
#[derive(Debug)]
pub enum HealthError {
    /// It cannot be asked.
    Unreachable(SocketAddr, io::Error),
    /// It answered with this status line.
    Unhealthy(String),
}

/// Asks the service that listens on `listen` whether it is healthy.
///
/// # Errors
///
/// It is not, or does not answer within seconds.
pub fn check(listen: SocketAddr) -> Result<(), HealthError> {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(if listen.is_ipv4() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        });
    }
    let answer = ask(address).map_err(|error| HealthError::Unreachable(address, error))?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(HealthError::Unhealthy(status.to_owned())) }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

impl fmt::Display for HealthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What a socket's timeout is called.
            Self::Unreachable(address, error) if error.kind() == io::ErrorKind::WouldBlock => {
                write!(f, "{address} did not answer in time")
            }
            Self::Unreachable(address, error) => write!(f, "cannot ask {address}: {error}"),
            Self::Unhealthy(status) => write!(f, "the service answers '{status}'"),
        }
    }
}

impl std::error::Error for HealthError {}
