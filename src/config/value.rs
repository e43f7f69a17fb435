use std::net::SocketAddr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use tracing_subscriber::filter::Targets;

use super::ConfigError;
use super::flags::{self, Flags};

/// Flags first, then the environment, then the default.
pub(super) struct Settings<'a> {
    pub(super) flags: &'a Flags,
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Settings<'_> {
    /// The text of a setting without its default; empty counts as unset, so that a settings file can list it bare.
    pub(super) fn find(&self, name: &str) -> Option<String> {
        let flag = self.flags.get(name).map(str::to_owned);
        flag.or_else(|| (self.lookup)(name)).filter(|value| !value.is_empty())
    }

    /// The checked value of a setting that has a default.
    pub(super) fn get<T>(&self, name: &str, check: fn(&str) -> Result<T, &'static str>) -> Result<T, ConfigError> {
        let text = self.find(name).or_else(|| flags::default(name).map(str::to_owned)).unwrap_or_default();
        check(&text).map_err(|mend| ConfigError::new(name, format_args!("'{text}' {mend}")))
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is not an address: write it like 127.0.0.1:8080 or [::1]:8080")
}

pub(super) fn count(text: &str) -> Result<usize, &'static str> {
    // The bound is that of a tokio semaphore, far beyond any machine.
    text.parse().ok().filter(|count| (1..=1_000_000).contains(count)).ok_or("is not a number from 1 to 1000000")
}

pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const MEND: &str = "is not a duration up to a day: write it like 250ms, 30s or 2m";
    let duration: SignedDuration = text.parse().map_err(|_| MEND)?;
    Duration::try_from(duration).ok().filter(|duration| duration.as_secs() <= 86_400).ok_or(MEND)
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, &'static str> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("is too short: write a duration like 10s") } else { Ok(duration) }
}

pub(super) fn time_zone(text: &str) -> Result<TimeZone, &'static str> {
    TimeZone::get(text).map_err(|_| "is not a time zone: write UTC or a name such as Europe/Dublin")
}

pub(super) fn log_filter(text: &str) -> Result<Targets, &'static str> {
    text.parse().map_err(|_| "is not a log filter: write error, warn, info, debug, or a filter such as dob_api=debug")
}
