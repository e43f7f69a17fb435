//! The health check of a container, which has no shell.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long each step may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks the service that listens on `listen` whether it is healthy.
///
/// # Errors
///
/// One sentence that says why it is not, or why it cannot be asked.
pub fn check(listen: SocketAddr) -> Result<(), String> {
    if listen.port() == 0 {
        return Err("DOB_API_LISTEN: cannot check port 0: set the port that the service printed".to_owned());
    }
    let at = |ip: IpAddr| {
        let mut address = listen;
        address.set_ip(ip);
        ask(address).map_err(|error| match error.kind() {
            // The error of a socket's timeout.
            io::ErrorKind::WouldBlock => format!("{address} did not answer in time"),
            _ => format!("cannot reach {address}: {error}"),
        })
    };
    let answer = match listen.ip().to_canonical() {
        ip if !ip.is_unspecified() => at(ip),
        IpAddr::V4(_) => at(Ipv4Addr::LOCALHOST.into()),
        // A listener on [::] serves IPv4 too, and is all that there is where IPv6 is off.
        IpAddr::V6(_) => at(Ipv6Addr::LOCALHOST.into()).or_else(|_| at(Ipv4Addr::LOCALHOST.into())),
    }?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(format!("the service answered '{status}'")) }
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
