use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use super::ConfigError;
use super::value::Settings;

/// Sockets that may be inherited.
const MOST_SOCKETS: u32 = 1024;

/// What the service manager that started the service passed to it.
#[derive(Clone, Debug)]
pub struct Manager {
    /// Where it waits for messages.
    pub notify: Option<SocketAddr>,
    /// How long it bears silence.
    pub watchdog: Option<Duration>,
    /// What the inherited sockets are called, in their order.
    pub socket_names: Vec<String>,
}

pub(super) fn parse(settings: &Settings<'_>) -> Result<Manager, ConfigError> {
    let names = settings.find("LISTEN_FDNAMES")?.unwrap_or_default();
    let sockets = number(settings, "LISTEN_FDS")?;
    if sockets.is_some_and(|count| count > MOST_SOCKETS.into()) {
        return Err(ConfigError::new("LISTEN_FDS", format_args!("pass at most {MOST_SOCKETS} sockets")));
    }
    Ok(Manager {
        notify: settings.find("NOTIFY_SOCKET")?.as_deref().map(address).transpose()?,
        watchdog: watchdog(settings)?,
        socket_names: names.split(':').map(str::to_owned).collect(),
    })
}

fn address(text: &str) -> Result<SocketAddr, ConfigError> {
    let address = match text.as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(text),
        _ => return Err(ConfigError::new("NOTIFY_SOCKET", format_args!("'{text}' is neither a path nor an @name"))),
    };
    address
        .map_err(|error| ConfigError::new("NOTIFY_SOCKET", format_args!("'{text}' is not a socket address: {error}")))
}

/// The watchdog's patience; 0 turns it off, and one that watches another process is none of ours.
fn watchdog(settings: &Settings<'_>) -> Result<Option<Duration>, ConfigError> {
    if number(settings, "WATCHDOG_PID")?.is_some_and(|pid| pid != u64::from(std::process::id())) {
        return Ok(None);
    }
    Ok(number(settings, "WATCHDOG_USEC")?.filter(|&patience| patience > 0).map(Duration::from_micros))
}

fn number(settings: &Settings<'_>, name: &str) -> Result<Option<u64>, ConfigError> {
    let parse =
        |text: String| text.parse().map_err(|_| ConfigError::new(name, format_args!("'{text}' is not a number")));
    settings.find(name)?.map(parse).transpose()
}
