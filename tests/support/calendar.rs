//! Dates as the tests need them, free of midnight.
use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};

// Noon is far from midnight: with the zone chosen so that the tests begin at noon,
// the date cannot change under them.
static NOON: LazyLock<(String, Date)> = LazyLock::new(|| {
    let now = Timestamp::now();
    let shift = 12 - Offset::UTC.to_datetime(now).hour();
    // The names of these zones carry the sign that POSIX uses: `Etc/GMT-2` is east of Greenwich.
    let zone = format!("Etc/GMT{:+}", -shift);
    let today = Offset::constant(shift).to_datetime(now).date();
    (if shift == 0 { "UTC".into() } else { zone }, today)
});

/// The time zone in which the service runs.
pub fn zone() -> &'static str {
    &NOON.0
}

/// The date there.
pub fn today() -> Date {
    NOON.1
}

/// The date `days` after today, or before it if negative.
pub fn in_days(days: i32) -> Date {
    today() + days.days()
}

/// What `name`, born on `born`, is to be told today.
///
/// Looks at one day after the other, so that it shares no arithmetic with the service.
pub fn greeting(name: &str, born: Date) -> String {
    greeting_on(today(), name, born)
}

/// What `name`, born on `born`, is to be told on `day`.
pub fn greeting_on(day: Date, name: &str, born: Date) -> String {
    let is_birthday = |day: Date| match (born.month(), born.day()) {
        (2, 29) if !day.in_leap_year() => (day.month(), day.day()) == (3, 1),
        birthday => (day.month(), day.day()) == birthday,
    };
    match (0..=366).find(|&days| is_birthday(day + days.days())) {
        Some(0) => format!("Hello, {name}! Happy birthday!"),
        Some(days) => format!("Hello, {name}! Your birthday is in {days} day(s)"),
        None => unreachable!("each year has a birthday"),
    }
}

/// The body of a PUT that saves `date`.
pub fn body(date: Date) -> String {
    format!(r#"{{"dateOfBirth":"{date}"}}"#)
}

/// The `index`th of a sequence of dates whose greetings differ from their neighbours'.
pub fn numbered(index: u32) -> Date {
    Date::constant(1901, 1, 1) + i64::from(index % 365).days()
}

/// The `index`th user name of a sequence that begins with `prefix`; letters only.
pub fn name(prefix: &str, index: u32) -> String {
    let digits = index.to_string();
    let letters = digits.bytes().map(|digit| char::from(digit - b'0' + b'a'));
    prefix.chars().chain(letters).collect()
}
