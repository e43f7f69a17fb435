//! What a connection is doing, noted where it is cheap.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
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
#[derive(Debug, Default)]
pub(super) struct Activity {
    doing: AtomicU8,
    /// Whether a stopwatch has read what the connection does now.
    pub(super) was_read: AtomicBool,
    /// Whether the service closes.
    pub(super) is_closing: AtomicBool,
    /// Whether the client sends no more.
    pub(super) has_left: AtomicBool,
    /// Whether HTTP has begun, and has sent everything.
    has_sent: AtomicBool,
}

impl Activity {
    /// Notes what the connection does from now on.
    pub(super) fn enter(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::Relaxed);
        self.was_read.store(false, Ordering::Relaxed);
    }

    pub(super) fn doing(&self) -> Doing {
        match self.doing.load(Ordering::Relaxed) {
            0 => Doing::Idle,
            1 => Doing::Head,
            _ => Doing::Request,
        }
    }

    /// Whether HTTP has begun and waits for the client, so that it can rest.
    pub(super) fn can_rest(&self) -> bool {
        self.has_sent.load(Ordering::Relaxed) && self.doing() != Doing::Request
    }

    /// Notes that HTTP rests, perhaps after part of a head, which may have come together with a request.
    pub(super) fn rest(&self, in_head: bool) {
        self.has_sent.store(false, Ordering::Relaxed);
        if in_head && self.doing() == Doing::Idle {
            self.enter(Doing::Head);
        }
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
    /// The start of a head that was received before HTTP last rested.
    pub(super) rest: Bytes,
    /// Whether everything that the client sent was read, with the end of it.
    pub(super) has_ended: bool,
}

impl AsyncRead for Observed<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = if self.rest.is_empty() {
            Pin::new(&mut self.reader).poll_read(cx, buffer)
        } else {
            let size = self.rest.len().min(buffer.remaining());
            buffer.put_slice(&self.rest.split_to(size));
            Poll::Ready(Ok(()))
        };
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
        self.activity.has_sent.store(false, Ordering::Relaxed);
        loop {
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(self.stream.poll_write_ready(cx))?,
                written => return Poll::Ready(written),
            }
        }
    }

    /// Called when HTTP has written everything, also if that was nothing.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.has_sent.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
