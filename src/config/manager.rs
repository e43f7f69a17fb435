use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use super::refusal;
use super::value::Settings;

/// Sockets that may be inherited.
const MOST_SOCKETS: u32 = 1024;

/// What the service manager that started the service passed to it.
#[derive(Clone, Debug)]
pub struct Manager {
    /// The socket on which it receives messages.
    pub notify: Option<SocketAddr>,
    /// How long it waits for a sign of life before it restarts the service.
    pub watchdog: Option<Duration>,
    /// What the inherited sockets are called, in their order.
    pub socket_names: Vec<String>,
}

pub(super) fn parse(settings: &Settings<'_>) -> Result<Manager, String> {
    let names = settings.find("LISTEN_FDNAMES")?.unwrap_or_default();
    let sockets = number(settings, "LISTEN_FDS")?;
    if sockets.is_some_and(|count| count > MOST_SOCKETS.into()) {
        return Err(refusal("LISTEN_FDS", format_args!("pass at most {MOST_SOCKETS} sockets")));
    }
    Ok(Manager {
        notify: settings.find("NOTIFY_SOCKET")?.as_deref().map(address).transpose()?,
        watchdog: watchdog(settings)?,
        socket_names: names.split(':').map(str::to_owned).collect(),
    })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let address = match text.as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(text),
        _ => return Err(refusal("NOTIFY_SOCKET", format_args!("'{text}' is neither a path nor an @name"))),
    };
    address.map_err(|error| refusal("NOTIFY_SOCKET", format_args!("'{text}' is not a socket address: {error}")))
}

/// How long the watchdog waits; 0 turns it off, and a watchdog of another process does not count.
fn watchdog(settings: &Settings<'_>) -> Result<Option<Duration>, String> {
    if number(settings, "WATCHDOG_PID")?.is_some_and(|pid| pid != u64::from(std::process::id())) {
        return Ok(None);
    }
    Ok(number(settings, "WATCHDOG_USEC")?.filter(|&patience| patience > 0).map(Duration::from_micros))
}

fn number(settings: &Settings<'_>, name: &str) -> Result<Option<u64>, String> {
    let parse = |text: String| text.parse().map_err(|_| refusal(name, format_args!("'{text}' is not a number")));
    settings.find(name)?.map(parse).transpose()
}
