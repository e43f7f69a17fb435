//! What happens to a connection besides HTTP: its client leaves, time runs out, the service closes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::activity::{Activity, Doing};
use crate::config::Limits;
use crate::lifecycle::{Lifecycle, Phase};

/// How long an idle connection stays open when the service closes: a request may be on its way.
const LAST_CALL: Duration = Duration::from_millis(100);

/// The longest time between two ticks.
const TICK: Duration = Duration::from_secs(2);

/// What a connection must react to.
#[derive(Debug)]
pub(super) enum Event {
    /// The service is closing.
    Closing,
    /// The client has closed its side: it left, or only sends no more.
    Left,
    /// Nothing has happened for a while: hyper can rest.
    Rests,
    /// The connection has been doing this for too long.
    TimedOut(Doing),
}

/// Measures, tick by tick, how long a connection has been doing the same thing. It replaces one timer per request: a timeout
/// comes up to a quarter late, and costs requests nothing.
#[derive(Debug)]
pub(super) struct Stopwatch {
    interval: Interval,
    ticks: u32,
}

impl Stopwatch {
    pub(super) fn new(shortest: Duration) -> Self {
        let mut interval = interval(TICK.min(shortest / 4));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval, ticks: 0 }
    }

    /// To be called at each tick: what the connection does, and for how long at least.
    fn read(&mut self, activity: &Activity) -> (Doing, Duration) {
        let is_same = activity.was_read.swap(true, Ordering::Relaxed);
        self.ticks = if is_same { self.ticks.saturating_add(1) } else { 0 };
        (activity.doing(), self.interval.period().saturating_mul(self.ticks))
    }
}

/// Waits for the next event, and returns the stopwatch for the one after it.
pub(super) async fn next(
    stream: &TcpStream,
    activity: &Activity,
    limits: &Limits,
    lifecycle: &Lifecycle,
    mut stopwatch: Stopwatch,
) -> (Event, Stopwatch) {
    let closing = async {
        lifecycle.reached(Phase::Closing).await;
        sleep(LAST_CALL).await;
    };
    // No client sends urgent bytes. The end of the client's side satisfies this interest, too, even while there are unread bytes
    // before it.
    let leaving = stream.ready(Interest::PRIORITY);
    tokio::pin!(closing, leaving);
    loop {
        let event = tokio::select! {
            biased;
            () = &mut closing, if !activity.is_closing.load(Ordering::Relaxed) => Event::Closing,
            _ = &mut leaving, if !activity.has_left.load(Ordering::Relaxed) => Event::Left,
            _ = stopwatch.interval.tick() => match stopwatch.read(activity) {
                (Doing::Idle, time) if time >= limits.keep_alive => Event::TimedOut(Doing::Idle),
                (Doing::Head, time) if time >= limits.header_timeout => Event::TimedOut(Doing::Head),
                (_, time) if !time.is_zero() && activity.can_rest() => Event::Rests,
                _ => continue,
            },
        };
        return (event, stopwatch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_counts_while_nothing_changes_and_starts_again_at_each_step() {
        let (activity, tick) = (Activity::default(), Duration::from_secs(1));
        let mut stopwatch = Stopwatch::new(tick * 4);
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
