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
    /// It listens on a free port that only its own output names.
    NoPort,
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
    if listen.port() == 0 {
        return Err(HealthError::NoPort);
    }
    let at = |ip: IpAddr| {
        let mut address = listen;
        address.set_ip(ip);
        ask(address).map_err(|error| HealthError::Unreachable(address, error))
    };
    let answer = match listen.ip().to_canonical() {
        ip if !ip.is_unspecified() => at(ip),
        IpAddr::V4(_) => at(Ipv4Addr::LOCALHOST.into()),
        // A listener on [::] serves IPv4 too, and is all that there is where IPv6 is off.
        IpAddr::V6(_) => at(Ipv6Addr::LOCALHOST.into()).or_else(|_| at(Ipv4Addr::LOCALHOST.into())),
    }?;
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
            Self::NoPort => {
                f.write_str("DOB_API_LISTEN: port 0 is no port to ask: name the one that the service printed")
            }
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
