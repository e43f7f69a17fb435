use std::ffi::OsString;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use tracing_subscriber::filter::Targets;

use super::flags::{self, Flags};
use super::refusal;

/// Flags first, then the environment, then the default.
pub(super) struct Settings<'a> {
    pub(super) flags: &'a Flags,
    pub(super) lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Settings<'_> {
    /// The text of a setting without its default; empty counts as unset, so that a settings file can list it bare.
    pub(super) fn find(&self, name: &str) -> Result<Option<String>, String> {
        let Some(text) = self.flags.get(name).map(OsString::from).or_else(|| (self.lookup)(name)) else {
            return Ok(None);
        };
        let text = text.into_string().map_err(|_| refusal(name, "is not UTF-8 text"))?;
        let text = without_line_end(&text);
        if let Some(problem) = unprintable(text) {
            return Err(refusal(name, problem));
        }
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    /// The checked value of a setting that has a default.
    pub(super) fn get<T>(&self, name: &str, check: fn(&str) -> Result<T, &'static str>) -> Result<T, String> {
        let text = self.find(name)?.unwrap_or_else(|| flags::default_and_range(name).0.to_owned());
        check(&text).map_err(|problem| refusal(name, format_args!("'{text}' {problem}")))
    }

    /// A duration within the range of the setting.
    pub(super) fn duration(&self, name: &str) -> Result<Duration, String> {
        let duration: SignedDuration = self.within_range(name, "a duration", ": write it like 250ms, 30s or 2m")?;
        // No range has a negative bound.
        Ok(duration.unsigned_abs())
    }

    /// A number within the range of the setting.
    pub(super) fn count(&self, name: &str) -> Result<usize, String> {
        self.within_range(name, "a number", "")
    }

    fn within_range<T: FromStr + PartialOrd>(&self, name: &str, kind: &str, hint: &str) -> Result<T, String> {
        let (default, range) = flags::default_and_range(name);
        let text = self.find(name)?.unwrap_or_else(|| default.to_owned());
        let parse = |text: &str| text.parse::<T>().ok();
        let (least, most) = range.split_once(" to ").map_or((None, None), |(least, most)| (parse(least), parse(most)));
        parse(&text)
            .filter(|value| least.is_some_and(|least| *value >= least) && most.is_some_and(|most| *value <= most))
            .ok_or_else(|| refusal(name, format_args!("'{text}' is not {kind} from {range}{hint}")))
    }
}

/// Editors and shells put one line end behind a value.
pub(super) fn without_line_end(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    if line.len() < text.len() { line.strip_suffix('\r').unwrap_or(line) } else { line }
}

/// What is wrong with a text that is to be one line, if anything.
pub(super) fn unprintable(text: &str) -> Option<&'static str> {
    match text.chars().find(|&char| char.is_control() || char == '\u{feff}')? {
        '\u{feff}' => Some("has a byte order mark: save it as UTF-8 without one"),
        '\n' => Some("has more than one line: write a single line"),
        '\r' => Some("has a carriage return: save it with Unix line endings"),
        _ => Some("has a control character: remove it"),
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is not an address: write it like 127.0.0.1:8080 or [::1]:8080")
}

pub(super) fn time_zone(text: &str) -> Result<TimeZone, &'static str> {
    TimeZone::get(text).map_err(|_| "is not a time zone: write UTC or a name such as Europe/Dublin")
}

pub(super) fn log_filter(text: &str) -> Result<Targets, &'static str> {
    text.parse().map_err(|_| "is not a log filter: write error, warn, info, debug, or a filter such as dob_api=debug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_value() {
        let cases =
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\r", "a\r"), ("a\n\n", "a\n"), ("\r\n", ""), ("", "")];
        for (text, value) in cases {
            assert_eq!(without_line_end(text), value, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_named() {
        let cases = [
            ("two words, é", None),
            ("a\nb", Some("line")),
            ("a\r", Some("carriage return")),
            ("\u{feff}a", Some("byte order mark")),
            ("a\0", Some("control character")),
            ("a\u{85}", Some("control character")),
        ];
        for (text, word) in cases {
            let problem = unprintable(text);
            assert_eq!(problem.is_some(), word.is_some(), "{text:?}: {problem:?}");
            assert!(
                problem.is_none_or(|problem| word.is_some_and(|word| problem.contains(word))),
                "{text:?}: {problem:?}"
            );
        }
    }
}
