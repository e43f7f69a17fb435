//! Log lines on standard error: text on a terminal, JSON elsewhere (under systemd, in a container).
//!
//! Standard error may be a pipe that nobody reads, and writing to a full pipe blocks. So nothing else writes to it.

mod outlet;

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use outlet::Outlet;

/// The only way to standard error. Call it once.
#[must_use]
pub fn outlet() -> Outlet {
    Outlet::new(io::stderr(), |lines| tracing::warn!(lines, "log lines were lost: standard error was not read"))
}

/// Sends every event that `filter` lets through to `outlet`, and panics too. Call it once.
pub fn init(filter: Targets, outlet: &Outlet) {
    let writer = outlet.clone();
    let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).log_internal_errors(false);
    let lines = if io::stderr().is_terminal() {
        lines.with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    let outlet = outlet.clone();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(error = %panic, "stopping because of a bug in the service");
        outlet.flush();
    }));
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
