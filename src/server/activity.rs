//! What a connection is doing.

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

/// What a connection records about itself. One thread writes and reads it; the fields are atomic because a connection must be
/// `Send`.
#[derive(Debug, Default)]
pub(super) struct Activity {
    doing: AtomicU8,
    /// Whether the stopwatch has read `doing` since it was set.
    pub(super) was_read: AtomicBool,
    /// Whether the service is closing.
    pub(super) is_closing: AtomicBool,
    /// Whether the client has closed its side of the connection.
    pub(super) has_left: AtomicBool,
    /// Whether hyper was started and has sent everything.
    has_sent: AtomicBool,
}

impl Activity {
    /// Records what the connection does from now on.
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

    /// Whether hyper waits for the client, so that it can rest.
    pub(super) fn can_rest(&self) -> bool {
        self.has_sent.load(Ordering::Relaxed) && self.doing() != Doing::Request
    }

    /// Records that hyper rests. It may have received part of a head, also behind a whole request.
    pub(super) fn rest(&self, in_head: bool) {
        self.has_sent.store(false, Ordering::Relaxed);
        if in_head && self.doing() == Doing::Idle {
            self.enter(Doing::Head);
        }
    }
}

/// The stream that hyper works on. It records when a head starts and when the client has closed its side, and it ignores hyper's
/// shutdown.
///
/// It reads through one half of the stream and writes through a reference, so that the stream can be watched at the same time.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) reader: ReadHalf<'a>,
    pub(super) stream: &'a TcpStream,
    pub(super) activity: &'a Activity,
    /// The start of a head that was received before hyper last rested.
    pub(super) rest: Bytes,
    /// Whether the client has closed its side, and everything before that was read.
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
        // The head is malformed, and hyper answers it itself.
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

    /// hyper calls this when it has written everything, also when there was nothing to write.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.has_sent.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
