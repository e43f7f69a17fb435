//! What a run can be told through the environment.

use std::time::{SystemTime, UNIX_EPOCH};

pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// `DOB_API_SEED`, which repeats a run, or one that was never used before.
pub fn seed() -> u64 {
    number("DOB_API_SEED", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}
