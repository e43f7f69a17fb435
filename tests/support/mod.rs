//! What the tests share: the real service, real databases, a raw HTTP client and a load.
#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "an assumption that fails must fail the test and say why"
)]
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses its part of this one")]

pub mod calendar;
pub mod certificates;
pub mod database;
pub mod delay;
pub mod dns;
pub mod http;
pub mod link;
pub mod load;
pub mod mute;
pub mod pooler;
pub mod postgres;
pub mod process;
pub mod role;
pub mod saboteur;
pub mod service;
pub mod transfer;

use std::thread;
use std::time::{Duration, Instant};

/// The longest that anything is waited for: an upper bound for a slow machine, never a measurement.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `probe` yields something, and fails the test by the name of `what` if it never does.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || condition().then_some(()));
}
