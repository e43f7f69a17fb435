//! The bytes of a connection: encrypted or plain, and cut off when the session ends.
//!
//! bb8-postgres leaves a connection's task to itself. Once its client is dropped, the task waits for answers that are
//! outstanding, and a server that hangs gives none. So each session has a [`Hold`]: to drop it cuts the connection off.
//!
//! Until the server has let the client in, its messages are inspected: a server that asks for the password in clear text gets none.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
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
    cut: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
    host: String,
}

/// Cuts its connection off when dropped.
pub(super) type Hold = oneshot::Sender<()>;

/// A connection's bytes.
pub(super) struct Stream {
    bytes: Either<Socket, Box<Encrypted>>,
    greeting: Greeting,
    /// Ready once the hold is dropped, and then none.
    cut: Option<oneshot::Receiver<()>>,
}

impl Transport {
    /// One for a connection that lasts as long as its hold; plain without `tls`.
    pub(super) fn new(tls: Option<MakeRustlsConnect>) -> (Self, Hold) {
        let (hold, cut) = oneshot::channel();
        (Self { tls, cut: Arc::new(Mutex::new(Some(cut))), host: String::new() }, hold)
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
            let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(Stream { bytes, greeting: Greeting::default(), cut })
        })
    }
}

/// The messages of a server before it lets the client in: each has a letter, a length and a content.
#[derive(Default)]
struct Greeting {
    /// The start of the message that is being read.
    start: Vec<u8>,
    /// The bytes of it that are still to come.
    rest: usize,
    is_over: bool,
}

impl Greeting {
    /// The number behind the length says how the client is to authenticate, or that it is let in.
    const AUTHENTICATION: u8 = b'R';

    /// Reads further bytes.
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        for &byte in bytes {
            if self.is_over {
                break;
            }
            if self.rest > 0 {
                self.rest -= 1;
                continue;
            }
            self.start.push(byte);
            let &[letter, a, b, c, d, ref number @ ..] = self.start.as_slice() else { continue };
            match (letter, number) {
                (Self::AUTHENTICATION, [0, 0, 0, 0]) => self.is_over = true,
                (Self::AUTHENTICATION, [0, 0, 0, 3]) => {
                    let problem =
                        "the server asks for the password in clear text: use scram-sha-256 in its pg_hba.conf";
                    return Err(io::Error::other(problem));
                }
                (Self::AUTHENTICATION, [] | [_] | [_, _] | [_, _, _]) => continue,
                _ => {}
            }
            // The length counts itself.
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            self.rest = length.saturating_sub(4 + number.len());
            self.start.clear();
        }
        Ok(())
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
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.bytes).poll_read(cx, buffer);
        if polled.is_ready() {
            self.greeting.read(&buffer.filled()[before..])?;
            return polled;
        }
        let Some(cut) = &mut self.cut else { return Poll::Ready(Err(ErrorKind::ConnectionAborted.into())) };
        if Pin::new(cut).poll(cx).is_ready() {
            // In one more turn, a session without outstanding answers says goodbye to the server.
            self.cut = None;
            cx.waker().wake_by_ref();
        }
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
