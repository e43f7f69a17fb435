//! What happens to a connection besides HTTP: its client leaves, time runs out, the service closes.

use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::activity::{Activity, Doing, Stopwatch};
use crate::config::Limits;
use crate::http;
use crate::lifecycle::{Lifecycle, Phase};

/// How long an idle connection is still listened to when the service closes: requests may be on their way.
const LAST_CALL: Duration = Duration::from_millis(100);

/// What a connection must heed.
#[derive(Debug)]
pub(super) enum Event {
    /// The service closes.
    Closing,
    /// The client sends no more: it left, or ended its half.
    Left,
    /// The connection did the same for too long, and is to be told so.
    TimedOut(Option<Vec<u8>>),
}

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    stream: &'a TcpStream,
    activity: &'a Activity,
    limits: &'a Limits,
    lifecycle: &'a Lifecycle,
    ticks: Interval,
    stopwatch: Stopwatch,
    is_closing: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        stream: &'a TcpStream,
        activity: &'a Activity,
        limits: &'a Limits,
        lifecycle: &'a Lifecycle,
    ) -> Self {
        // Ticks instead of a timer a request: a timeout comes up to a quarter late, and requests pay nothing for it.
        let tick = limits.header_timeout.min(limits.keep_alive) / 4;
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { stream, activity, limits, lifecycle, ticks, stopwatch: Stopwatch::new(tick), is_closing: false }
    }

    /// The next event, and the watch that waits for the one after it.
    pub(super) async fn next(mut self) -> (Event, Self) {
        let closing = async {
            self.lifecycle.reached(Phase::Closing).await;
            sleep(LAST_CALL).await;
        };
        // Nobody sends urgent bytes here, and the end of what the client sends satisfies this interest too, at once and
        // also behind bytes that are not read yet.
        let leaving = self.stream.ready(Interest::PRIORITY);
        tokio::pin!(closing, leaving);
        let event = loop {
            tokio::select! {
                biased;
                () = &mut closing, if !self.is_closing => {
                    self.is_closing = true;
                    break Event::Closing;
                }
                _ = &mut leaving, if !self.activity.has_left() => break Event::Left,
                _ = self.ticks.tick() => match self.stopwatch.read(self.activity) {
                    (Doing::Idle, time) if time >= self.limits.keep_alive => break Event::TimedOut(None),
                    (Doing::Head, time) if time >= self.limits.header_timeout => {
                        break Event::TimedOut(Some(http::raw_timeout()));
                    }
                    _ => {}
                },
            }
        };
        (event, self)
    }
}
