//! The service manager: inherited sockets, readiness, watchdog. Without one, all of this does nothing.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};

/// The listening socket that the service manager passed, if it did.
///
/// # Errors
///
/// What was passed is no TCP socket.
pub fn inherited_listener() -> io::Result<Option<TcpListener>> {
    ListenFd::from_env().take_tcp_listener(0)
}

/// Says that requests are accepted.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// Says that the drain has begun.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

/// Says that the service is alive, three times an interval of the watchdog, as long as every serving thread does
/// its work. Returns at once where there is no watchdog.
pub async fn watchdog(threads: Vec<Handle>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = interval(patience / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for thread in &threads {
            // A thread that hangs leaves this waiting, and the watchdog bites.
            if thread.spawn(async {}).await.is_err() {
                return;
            }
        }
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
