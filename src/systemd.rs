//! The service manager: inherited sockets, readiness, watchdog. Without one, all of this does nothing.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::Manager;

/// The number of the first descriptor that is passed.
const FIRST_DESCRIPTOR: usize = 3;

/// How soon a message is sent again if the service manager has no room for it.
const RETRY: Duration = Duration::from_millis(100);

/// The shortest and the longest time between two reports to the watchdog.
const REPORTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_mins(1));

/// Takes the listening sockets that the service manager passed.
///
/// # Errors
///
/// One sentence that names what was passed and is no listening TCP socket.
pub fn inherited_listeners(manager: &Manager) -> Result<Vec<TcpListener>, String> {
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    let take = |index| {
        let taken = passed.take_tcp_listener(index).ok().flatten();
        taken.filter(|socket| SockRef::from(socket).is_listener().unwrap_or(false)).ok_or_else(|| {
            let name = manager.socket_names.get(index).map(|name| format!(" ({name})")).unwrap_or_default();
            let number = FIRST_DESCRIPTOR + index;
            format!("the inherited descriptor {number}{name} is not a listening TCP socket: pass only TCP listeners")
        })
    };
    (0..count).map(take).collect()
}

/// Reports that requests are accepted. From then on it reports that the service is alive, three times per watchdog interval, as
/// long as every serving thread works.
pub async fn report(manager: Manager, threads: Vec<Handle>) {
    let Some(address) = &manager.notify else { return };
    while is_full(send(address, "READY=1")) {
        sleep(RETRY).await;
    }
    let Some(patience) = manager.watchdog else { return };
    let mut ticks = interval((patience / 3).clamp(REPORTS.0, REPORTS.1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for thread in &threads {
            // For a thread that hangs this waits for ever, and the service manager restarts the service.
            if thread.spawn(async {}).await.is_err() {
                return;
            }
        }
        // If the service manager misses one, it gets the next.
        let _ = send(address, "WATCHDOG=1");
    }
}

/// Reports that the drain has begun, if there is a service manager.
pub fn stopping(manager: &Manager) {
    if let Some(address) = &manager.notify {
        is_full(send(address, "STOPPING=1"));
    }
}

/// Sends a message if it can be taken at once: a service manager that hangs must not hang the service.
fn send(address: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), address).map(drop)
}

/// Whether the service manager has no room for the message. Other failures are logged.
fn is_full(sent: io::Result<()>) -> bool {
    let Err(error) = sent else { return false };
    let is_full = error.kind() == ErrorKind::WouldBlock;
    if !is_full {
        tracing::warn!(%error, "cannot notify the service manager");
    }
    is_full
}
