//! The fuzz targets; the test suite `hostile` replays the corpus through the same code without a fuzzer.

#[path = "../../tests/support/calendar.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod calendar;
#[path = "../../tests/hostile/json.rs"]
mod json;
#[path = "../../tests/hostile/model.rs"]
mod model;

pub mod bytes;
pub mod config;
pub mod date;
pub mod request;
mod service;
