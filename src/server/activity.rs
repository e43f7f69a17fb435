//! What a connection is doing, noted where it is cheap and judged at a tick.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

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

/// A connection's notes on itself: one number that changes at each step, with the step in its lowest bits.
#[derive(Debug, Default)]
pub(super) struct Activity {
    step: AtomicU64,
    answered: AtomicBool,
    ended: AtomicBool,
}

const STEPS: [Doing; 3] = [Doing::Idle, Doing::Head, Doing::Request];

impl Activity {
    /// Notes what the connection does from now on.
    pub(super) fn enter(&self, doing: Doing) {
        let step = self.step.load(Ordering::Relaxed);
        self.step.store((step & !3) + 4 + doing as u64, Ordering::Relaxed);
    }

    fn doing(&self) -> Doing {
        // The lowest bits hold 0 to 2.
        STEPS[usize::try_from(self.step.load(Ordering::Relaxed) & 3).unwrap_or(0).min(2)]
    }

    /// Whether the head of a request has begun and nothing has been written since.
    pub(super) fn is_unanswered(&self) -> bool {
        self.doing() == Doing::Head && !self.answered.load(Ordering::Relaxed)
    }

    /// Whether the client has said that it sends no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Measures, tick by tick, how long a connection has been doing the same thing.
#[derive(Debug)]
pub(super) struct Stopwatch {
    tick: Duration,
    step: u64,
    ticks: u32,
}

impl Stopwatch {
    pub(super) fn new(tick: Duration) -> Self {
        // No step yet, so that the first reading counts no time.
        Self { tick, step: u64::MAX, ticks: 0 }
    }

    /// To be called at each tick: what the connection does, and for how long at least.
    pub(super) fn read(&mut self, activity: &Activity) -> (Doing, Duration) {
        let step = activity.step.load(Ordering::Relaxed);
        self.ticks = if step == self.step { self.ticks.saturating_add(1) } else { 0 };
        self.step = step;
        (activity.doing(), self.tick.saturating_mul(self.ticks))
    }
}

/// A stream that notes when a head begins and when the client ends, and that is not shut down when HTTP is done with it.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) stream: TcpStream,
    pub(super) activity: Arc<Activity>,
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) {
            if buffer.filled().len() == before {
                self.activity.ended.store(true, Ordering::Relaxed);
            } else if self.activity.doing() == Doing::Idle {
                self.activity.answered.store(false, Ordering::Relaxed);
                self.activity.enter(Doing::Head);
            }
        }
        polled
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.answered.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_while_nothing_changes_and_begins_anew_at_each_step() {
        let (activity, tick) = (Activity::default(), Duration::from_secs(1));
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
