//! What a hostile client, a scarce machine and a thief would try. `./dev test hostile` runs it; `DOB_API_SEED` repeats a run.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]
#![allow(clippy::print_stdout, reason = "a run must say how it can be repeated")]
#![allow(unreachable_pub, reason = "the model is shared with the fuzz targets")]

#[path = "../support/mod.rs"]
mod support;

use support::calendar;

mod birthdays;
mod corpus;
mod exchanges;
mod health;
mod json;
mod model;
mod names;
mod protocol;
mod resources;
mod schema;
mod secrets;
mod settings;
mod soak;
