//! Log lines on standard error: text on a terminal, JSON elsewhere (under systemd, in a container).

use std::error::Error;
use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Sends every event that `filter` lets through to standard error. Call it once.
pub fn init(filter: Targets) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        registry.with(lines.with_target(false)).init();
    } else {
        registry.with(lines.json().flatten_event(true).with_current_span(false)).init();
    }
}

/// Shows an error with its causes on one line: `what failed: why: and why that`.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
