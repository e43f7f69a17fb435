//! What a connection is doing, noted where it is cheap and judged at a tick.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Waiting for the first byte of a request, or for the client to take an answer.
    Idle,
    /// Receiving the head of a request.
    Head,
    /// Handling a request.
    Request,
}

/// A connection's notes on itself. One thread writes and reads them; they are atomic because connections are `Send`.
#[derive(Debug)]
pub(super) struct Activity {
    doing: AtomicU8,
    /// Whether anything was noted since the last tick.
    is_new: AtomicBool,
    has_left: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            doing: AtomicU8::new(Doing::Idle as u8),
            is_new: AtomicBool::new(true),
            has_left: AtomicBool::new(false),
        }
    }

    /// Notes what the connection does from now on.
    pub(super) fn enter(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::Relaxed);
        self.is_new.store(true, Ordering::Relaxed);
    }

    pub(super) fn doing(&self) -> Doing {
        let doing = self.doing.load(Ordering::Relaxed);
        [Doing::Idle, Doing::Head].into_iter().find(|known| *known as u8 == doing).unwrap_or(Doing::Request)
    }

    /// Notes that the client sends no more.
    pub(super) fn leave(&self) {
        self.has_left.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }
}

/// Measures, tick by tick, how long a connection has been doing the same thing.
#[derive(Debug)]
pub(super) struct Stopwatch {
    tick: Duration,
    ticks: u32,
}

impl Stopwatch {
    pub(super) fn new(tick: Duration) -> Self {
        Self { tick, ticks: 0 }
    }

    /// To be called at each tick: what the connection does, and for how long at least.
    pub(super) fn read(&mut self, activity: &Activity) -> (Doing, Duration) {
        let is_new = activity.is_new.swap(false, Ordering::Relaxed);
        self.ticks = if is_new { 0 } else { self.ticks.saturating_add(1) };
        (activity.doing(), self.tick.saturating_mul(self.ticks))
    }
}

/// A stream that notes when a head begins and when the client ends, and that is not shut down when HTTP is done with it.
///
/// It reads by a half of the stream, and writes by a reference to it, so that others can watch the stream meanwhile.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) reader: ReadHalf<'a>,
    pub(super) stream: &'a TcpStream,
    pub(super) activity: &'a Activity,
    /// Whether everything that the client sent was read, with the end of it.
    pub(super) has_ended: bool,
}

impl AsyncRead for Observed<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.reader).poll_read(cx, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) {
            if buffer.filled().len() == before {
                self.has_ended = true;
            } else if self.activity.doing() == Doing::Idle {
                self.activity.enter(Doing::Head);
            }
        }
        polled
    }
}

impl AsyncWrite for Observed<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // hyper answers a malformed head itself.
        if self.activity.doing() == Doing::Head {
            self.activity.enter(Doing::Idle);
        }
        loop {
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(self.stream.poll_write_ready(cx))?,
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_while_nothing_changes_and_starts_again_at_each_step() {
        let (activity, tick) = (Activity::new(), Duration::from_secs(1));
        let mut stopwatch = Stopwatch::new(tick);
        assert_eq!(stopwatch.read(&activity), (Doing::Idle, Duration::ZERO));
        assert_eq!(stopwatch.read(&activity), (Doing::Idle, tick));
        assert_eq!(stopwatch.read(&activity), (Doing::Idle, tick * 2));
        activity.enter(Doing::Head);
        assert_eq!(stopwatch.read(&activity), (Doing::Head, Duration::ZERO));
        assert_eq!(stopwatch.read(&activity), (Doing::Head, tick));
        activity.enter(Doing::Request);
        activity.enter(Doing::Head);
        assert_eq!(stopwatch.read(&activity), (Doing::Head, Duration::ZERO));
    }
}
