//! The bytes of a connection: encrypted or plain, and cut off when the session ends.
//!
//! bb8-postgres leaves a connection's task to itself. Once its client is dropped, the task waits for answers that are
//! outstanding, and a server that hangs gives none: so the session holds a [`Line`], and cuts it when it is dropped.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

type BoxError = Box<dyn Error + Send + Sync>;
type Rustls = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Makes the transport of one connection.
#[derive(Clone)]
pub(super) struct Transport {
    /// None: plain.
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) line: Arc<Line>,
}

/// What cuts a connection off.
#[derive(Default)]
pub(super) struct Line {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

/// Cuts the line when dropped.
pub(super) struct Hold(pub(super) Arc<Line>);

/// A connection that is being made.
pub(super) struct Handshake {
    tls: Option<Rustls>,
    line: Arc<Line>,
}

/// A connection's bytes.
pub(super) struct Stream {
    bytes: Bytes,
    line: Arc<Line>,
    was_warned: bool,
}

enum Bytes {
    Plain(Socket),
    Encrypted(Box<Encrypted>),
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.reader.wake();
    }
}

impl MakeTlsConnect<Socket> for Transport {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = BoxError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, BoxError> {
        let make = |tls: &mut MakeRustlsConnect| MakeTlsConnect::<Socket>::make_tls_connect(tls, domain);
        let tls = self.tls.as_mut().map(make).transpose()?;
        Ok(Handshake { tls, line: self.line.clone() })
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let bytes = match self.tls {
                Some(tls) => Bytes::Encrypted(Box::new(tls.connect(socket).await?)),
                None => Bytes::Plain(socket),
            };
            Ok(Stream { bytes, line: self.line, was_warned: false })
        })
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.bytes {
            Bytes::Plain(_) => ChannelBinding::none(),
            Bytes::Encrypted(stream) => stream.channel_binding(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Bytes::Encrypted(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        };
        if polled.is_ready() {
            return polled;
        }
        self.line.reader.register(cx.waker());
        if !self.line.is_cut.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // One more turn, in which a session that owes no answer takes its leave of the server.
        if std::mem::replace(&mut self.was_warned, true) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Bytes::Encrypted(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Bytes::Encrypted(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Bytes::Encrypted(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
