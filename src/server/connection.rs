//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Server;
use super::activity::{Activity, Doing, Observed};
use super::watch::{self, Event, Stopwatch};
use crate::http::{self, Answer};
use crate::lifecycle::{Lifecycle, Phase};

/// The largest head of a request in bytes, and with it the most that a connection buffers.
const MAX_HEAD: usize = 16 * 1024;

/// How long after its start a request is still answered when its client has closed its side. A client that left is
/// indistinguishable from one that only sends no more: a healthy service answers the second one within this time.
const FAREWELL: Duration = Duration::from_millis(300);

/// After the last answer, the service reads and discards what the client still sends: until the client pauses for this long, and
/// for at most this long in total. A socket that is closed with unread bytes is reset, and the client may lose the answer.
const PAUSE: Duration = Duration::from_secs(2);
const LINGER: Duration = Duration::from_mins(5);

/// Serves a connection until the client, a timeout or the end of the service closes it.
pub(super) async fn serve<H: Answer>(server: &Server<H>, mut stream: TcpStream) {
    // Answers are small and complete: waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    match exchange(server, &mut stream).await {
        End::Answer(answer) => say(stream, &answer, &server.lifecycle).await,
        End::OfBoth => {}
        End::OfOurs => linger(stream, LINGER, &server.lifecycle).await,
    }
}

/// How the exchange on a connection ended.
enum End {
    /// With an answer that hyper does not give.
    Answer(Vec<u8>),
    /// Both sides are closed.
    OfBoth,
    /// The client may still be sending.
    OfOurs,
}

/// Answers requests until there are no more.
async fn exchange<H: Answer>(server: &Server<H>, stream: &mut TcpStream) -> End {
    let Server { handler, limits, lifecycle, metrics, .. } = server;
    let activity = Activity::default();
    let (reader, writer) = stream.split();
    let shared = writer.as_ref();
    let service = service_fn(|request| {
        let activity = &activity;
        async move {
            activity.enter(Doing::Request);
            let began = Instant::now();
            let response = tokio::select! {
                biased;
                response = handler.answer(request, began.into_std()) => response,
                () = leaves(activity, began) => {
                    metrics.abandoned.inc();
                    http::abandoned()
                }
            };
            activity.enter(Doing::Idle);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    // A client may close its side after the request and still read the answer.
    builder.half_close(true).max_buf_size(MAX_HEAD).header_read_timeout(None);
    // One write of head and body together costs less than gathering them.
    builder.writev(false);
    let observed = Observed { reader, stream: shared, activity: &activity, rest: Bytes::new(), has_ended: false };
    // hyper takes 16 KiB before the first byte arrives, and 32 once it has part of a head. So it rests while the client sends
    // nothing: its memory is freed, and the next byte starts it again. With a slow client it rests at once, else after a while,
    // because a new start costs a noticeable part of a request.
    let (mut resting, mut serving) = (Some(observed), None::<http1::Connection<_, _>>);
    let mut is_slow = false;

    // In a set, so that the watch is polled only when it is woken, and not at each request.
    let watch = |stopwatch| watch::next(shared, &activity, limits, lifecycle, stopwatch);
    let mut watches =
        FuturesUnordered::from_iter([watch(Stopwatch::new(limits.header_timeout.min(limits.keep_alive)))]);
    let answer = loop {
        let exchanged = poll_fn(|cx| match serving.as_mut().map(|http| http.poll_unpin(cx)) {
            Some(Poll::Ready(ended)) => Poll::Ready(Some(ended)),
            Some(Poll::Pending) if (is_slow || activity.doing() == Doing::Head) && activity.can_rest() => {
                Poll::Ready(None)
            }
            _ => Poll::Pending,
        });
        tokio::select! {
            biased;
            ended = exchanged => match ended {
                // hyper answers most malformed heads itself, but not one that ends early or that starts HTTP/2.
                Some(ended) => break (ended.is_err() && activity.doing() == Doing::Head).then(http::raw_malformed),
                None => resting = serving.take().map(|http| rest(http.into_parts())),
            },
            Some((event, stopwatch)) = watches.next() => {
                match event {
                    Event::Closing => {
                        activity.is_closing.store(true, Ordering::Relaxed);
                        builder.keep_alive(false);
                        if let Some(http) = &mut serving {
                            std::pin::Pin::new(http).graceful_shutdown();
                        } else if resting.as_ref().is_some_and(|observed| observed.rest.is_empty()) {
                            break None;
                        }
                    }
                    Event::Left => activity.has_left.store(true, Ordering::Relaxed),
                    Event::Rests => resting = serving.take().map(|http| rest(http.into_parts())),
                    Event::TimedOut(doing) => break (doing == Doing::Head).then(http::raw_timeout),
                }
                watches.push(watch(stopwatch));
            }
            // tokio takes a new socket for readable until the first attempt to read it.
            _ = async { shared.peek(&mut [0]).await }, if resting.is_some() => {
                serving = resting.take().map(|observed| {
                    is_slow = !observed.rest.is_empty();
                    builder.serve_connection(TokioIo::new(observed), &service)
                });
            }
        }
    };
    let observed = resting.or_else(|| Some(serving?.into_parts().io.into_inner()));
    match answer {
        Some(answer) => End::Answer(answer),
        None if observed.is_some_and(|observed| observed.has_ended) => End::OfBoth,
        None => End::OfOurs,
    }
}

/// Frees what hyper holds, except the stream and the bytes of an incomplete head.
fn rest<S>(parts: http1::Parts<TokioIo<Observed<'_>>, S>) -> Observed<'_> {
    let mut observed = parts.io.into_inner();
    observed.rest = [&parts.read_buf[..], &observed.rest[..]].concat().into();
    observed.activity.rest(!observed.rest.is_empty());
    observed
}

/// Returns when a request that started at `began` gets no answer any more, because its client has closed its side.
async fn leaves(activity: &Activity, began: Instant) {
    // The task of the connection sets `has_left`, and then polls this again.
    poll_fn(|_| if activity.has_left.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }).await;
    sleep_until(began + FAREWELL).await;
}

/// Answers a connection over the limit with 503.
pub(super) async fn refuse(stream: TcpStream, lifecycle: &Lifecycle) {
    say(stream, &http::raw_overload(), lifecycle).await;
}

async fn say(mut stream: TcpStream, response: &[u8], lifecycle: &Lifecycle) {
    if let Ok(Ok(())) = timeout(PAUSE, stream.write_all(response)).await {
        linger(stream, Duration::ZERO, lifecycle).await;
    }
}

/// Closes our side, then reads until the client closes its own or pauses. It stops at the latest one pause after `limit`, or after
/// the service began to close.
async fn linger(mut stream: TcpStream, limit: Duration, lifecycle: &Lifecycle) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut waste = vec![0; 16 * 1024];
    let reading = async { while let Ok(Ok(1..)) = timeout(PAUSE, stream.read(&mut waste)).await {} };
    let enough = async {
        let _ = timeout(limit, lifecycle.reached(Phase::Closing)).await;
        sleep(PAUSE).await;
    };
    tokio::select! {
        () = reading => {}
        () = enough => {}
    }
}
