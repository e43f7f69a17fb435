//! Keeps what happens a thousand times per second from being logged a thousand times.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same text is not logged again.
const PAUSE: Duration = Duration::from_mins(1);

/// The most texts that are remembered.
const MOST: usize = 256;

/// What was logged, and when.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<HashMap<String, Instant>>);

impl Notices {
    /// Whether `text` is to be logged: it was not within the last minute.
    pub(super) fn is_due(&self, text: &str) -> bool {
        self.is_due_at(text, Instant::now())
    }

    fn is_due_at(&self, text: &str, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(text).is_some_and(|last| now.saturating_duration_since(*last) < PAUSE) {
            return false;
        }
        if said.len() >= MOST {
            said.clear();
        }
        said.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_due_once_a_minute_and_another_one_at_once() {
        let (notices, start) = (Notices::default(), Instant::now());
        assert!(notices.is_due_at("a row", start));
        assert!(!notices.is_due_at("a row", start + PAUSE / 2));
        assert!(notices.is_due_at("another row", start + PAUSE / 2));
        assert!(notices.is_due_at("a row", start + PAUSE));
    }
}
