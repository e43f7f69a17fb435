//! Accepts connections, bounds what they may hold, and lets them finish at the end.

mod activity;
mod connection;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::config::Limits;
use crate::http::Answer;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::ConnectionMetrics;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// The size of each connection's receive buffer and of its send buffer. The kernel doubles it for its own records. Without a limit,
/// they grow to megabytes for a client that sends requests and reads no answers. A request and an answer are smaller.
const BUFFER: usize = 16 * 1024;

/// How long to wait after a connection could not be accepted: there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections over the limit get a 503 at the same time. Any more are closed without an answer.
pub const MAX_REFUSALS: usize = 256;

/// Serves connections with one handler and within the same bounds, on as many threads as call [`Server::serve`].
pub struct Server<H> {
    handler: H,
    limits: Limits,
    lifecycle: Lifecycle,
    open: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// The open connections that a new one may replace, the oldest first.
    replaceable: Option<Mutex<VecDeque<AbortHandle>>>,
    metrics: ConnectionMetrics,
}

/// Binds a listener.
///
/// # Errors
///
/// The address is taken, or not this host's.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait until the kernel has forgotten the connections of the last run.
    socket.set_reuseaddr(true)?;
    bound_buffers(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Bounds what the kernel keeps for each connection that `listener` accepts from now on.
///
/// # Errors
///
/// `listener` is not a socket.
pub fn bound_buffers(listener: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_recv_buffer_size(BUFFER)
}

impl<H: Answer> Server<H> {
    /// A server that answers with `handler`, and refuses a connection over the limit.
    pub fn new(handler: H, limits: Limits, lifecycle: Lifecycle, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self::with(handler, limits, lifecycle, metrics))
    }

    /// A server that never closes. A connection over the limit replaces the oldest one, so that a client that holds connections
    /// locks nobody out.
    pub fn for_operators(handler: H, limits: Limits) -> Arc<Self> {
        let server = Self::with(handler, limits, Lifecycle::new(), ConnectionMetrics::default());
        Arc::new(Self { replaceable: Some(Mutex::default()), ..server })
    }

    fn with(handler: H, limits: Limits, lifecycle: Lifecycle, metrics: ConnectionMetrics) -> Self {
        Self {
            handler,
            limits,
            lifecycle,
            open: Arc::new(Semaphore::new(limits.max_connections)),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            replaceable: None,
            metrics,
        }
    }

    /// Serves until the lifecycle is [`Phase::Closing`] and every connection has finished.
    ///
    /// # Errors
    ///
    /// The listener cannot be used.
    pub async fn serve(self: &Arc<Self>, listener: StdListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        {
            let closing = self.lifecycle.reached(Phase::Closing);
            tokio::pin!(closing);
            loop {
                tokio::select! {
                    biased;
                    () = &mut closing => break,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => self.take(stream),
                        Err(error) if is_of_one_connection(&error) => {}
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept connections");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    },
                }
            }
        }
        // The kernel has told clients in the backlog that they are connected: they get an answer, too.
        let listener = listener.into_std()?;
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            self.take(TcpStream::from_std(stream)?);
        }
        drop(listener);
        let all = u32::try_from(self.limits.max_connections).unwrap_or(u32::MAX);
        // The semaphore is never closed, so this only waits.
        let _ = self.open.acquire_many(all).await;
        Ok(())
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.limits.max_connections - self.open.available_permits()
    }

    fn take(self: &Arc<Self>, stream: TcpStream) {
        if let Some(replaceable) = &self.replaceable {
            let mut open = replaceable.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|connection| !connection.is_finished());
            if open.len() >= self.limits.max_connections
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            let server = self.clone();
            open.push_back(tokio::spawn(async move { connection::serve(&server, stream).await }).abort_handle());
            return;
        }
        let Ok(permit) = self.open.clone().try_acquire_owned() else { return self.refuse(stream) };
        let server = self.clone();
        server.metrics.open.inc();
        tokio::spawn(async move {
            connection::serve(&server, stream).await;
            server.metrics.open.dec();
            drop(permit);
        });
    }

    fn refuse(&self, stream: TcpStream) {
        self.metrics.refused.inc();
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else { return };
        let lifecycle = self.lifecycle.clone();
        tokio::spawn(async move {
            connection::refuse(stream, &lifecycle).await;
            drop(permit);
        });
    }
}

/// Whether only this connection failed, because its client has left. The next one may succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
