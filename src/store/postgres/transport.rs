//! The bytes of a connection: encrypted or plain, and cut off when the session ends.
//!
//! bb8-postgres leaves a connection's task to itself. Once its client is dropped, the task waits for answers that are
//! outstanding, and a server that hangs gives none: so the session holds a [`Line`], and cuts it when it is dropped.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::either::Either;

type BoxError = Box<dyn Error + Send + Sync>;
type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Makes the transport of one connection.
#[derive(Clone)]
pub(super) struct Transport {
    tls: Option<MakeRustlsConnect>,
    line: Arc<Line>,
    host: String,
}

/// What cuts a connection off.
#[derive(Default)]
struct Line {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

/// Cuts the line when dropped.
pub(super) struct Hold(Arc<Line>);

/// A connection's bytes.
pub(super) struct Stream {
    bytes: Either<Socket, Box<Encrypted>>,
    line: Arc<Line>,
    was_warned: bool,
}

impl Transport {
    /// One for a connection that lasts as long as its hold; plain without `tls`.
    pub(super) fn new(tls: Option<MakeRustlsConnect>) -> (Self, Hold) {
        let line = Arc::<Line>::default();
        (Self { tls, line: line.clone(), host: String::new() }, Hold(line))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.reader.wake();
    }
}

impl MakeTlsConnect<Socket> for Transport {
    type Stream = Stream;
    type TlsConnect = Self;
    type Error = BoxError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self, BoxError> {
        Ok(Self { host: host.to_owned(), ..self.clone() })
    }
}

impl TlsConnect<Socket> for Transport {
    type Stream = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let bytes = match self.tls {
                Some(mut tls) => {
                    let tls = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, &self.host)?;
                    Either::Right(Box::new(tls.connect(socket).await?))
                }
                None => Either::Left(socket),
            };
            Ok(Stream { bytes, line: self.line, was_warned: false })
        })
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.bytes {
            Either::Left(_) => ChannelBinding::none(),
            Either::Right(encrypted) => encrypted.channel_binding(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.bytes).poll_read(cx, buffer);
        if polled.is_ready() {
            return polled;
        }
        self.line.reader.register(cx.waker());
        if !self.line.is_cut.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // One more turn, in which a session that owes no answer takes its leave of the server.
        if mem::replace(&mut self.was_warned, true) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}
