//! The contract once more, written from its description and not from the service: what every request must be answered.

use std::collections::BTreeMap;

use crate::json;

/// Year, month and day.
pub type Day = (u32, u32, u32);

/// What a request must be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A greeting for a user of this name, who was born on this day.
    Greeting(String, Day),
    /// A success without a body.
    Saved,
    /// A document of the service about itself.
    Document,
    /// A problem document with this status.
    Problem(u16),
    /// A problem document with status 405, and the methods that are allowed.
    NotAllowed(&'static str),
}

impl Expected {
    pub fn status(&self) -> u16 {
        match self {
            Self::Greeting(..) | Self::Document => 200,
            Self::Saved => 204,
            Self::Problem(status) => *status,
            Self::NotAllowed(_) => 405,
        }
    }
}

/// Everything that was saved, and the day on which it is asked for.
pub struct Model {
    today: Day,
    users: BTreeMap<String, Day>,
}

impl Model {
    pub fn new(today: Day) -> Self {
        Self { today, users: BTreeMap::new() }
    }

    /// What a well-formed HTTP request must be answered; `target` begins with a slash, and `encoding` is the body's.
    pub fn answer(&mut self, method: &str, target: &str, encoding: &str, body: &[u8]) -> Expected {
        let target = target.split('#').next().unwrap_or_default();
        if target.len() > 2048 {
            return Expected::Problem(414);
        }
        let path = target.split('?').next().unwrap_or_default();
        let reads = method == "GET" || method == "HEAD";
        if path == "/healthz" || path == "/openapi.json" {
            return if reads { Expected::Document } else { Expected::NotAllowed("GET, HEAD") };
        }
        let segments: Vec<&str> = path.split('/').collect();
        let ["", "hello", written] = segments[..] else { return Expected::Problem(404) };
        if !reads && method != "PUT" {
            return Expected::NotAllowed("GET, HEAD, PUT");
        }
        let Some(name) = name(written) else { return Expected::Problem(400) };
        let key = name.to_ascii_lowercase();
        if reads {
            return self.users.get(&key).map_or(Expected::Problem(404), |day| Expected::Greeting(name, *day));
        }
        if !["", "identity"].contains(&encoding) {
            return Expected::Problem(415);
        }
        if body.len() > 1024 {
            return Expected::Problem(413);
        }
        match json::only_string(body, "dateOfBirth").and_then(|text| day(&text)).filter(|day| *day < self.today) {
            None => Expected::Problem(400),
            Some(day) => {
                self.users.insert(key, day);
                Expected::Saved
            }
        }
    }
}

/// 1 to 255 letters from A to Z, some of which may be percent-encoded.
fn name(written: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = written.as_bytes();
    while let [first, tail @ ..] = rest {
        let (letter, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => (hexadecimal(*high)? * 16 + hexadecimal(*low)?, tail),
            _ => (*first, tail),
        };
        if !letter.is_ascii_alphabetic() {
            return None;
        }
        name.push(char::from(letter));
        rest = tail;
    }
    (1..=255).contains(&name.len()).then_some(name)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

/// A day of the calendar that is written `YYYY-MM-DD`.
fn day(text: &str) -> Option<Day> {
    let is_form = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() });
    if !is_form {
        return None;
    }
    let mut numbers = text.split('-').map(|number| number.parse::<u32>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap),
        _ => return None,
    };
    (year >= 1 && (1..=last).contains(&day)).then_some((year, month, day))
}
