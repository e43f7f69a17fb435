//! dob-api saves a person's date of birth and greets them with the days until their birthday.
//!
//! `ARCHITECTURE.md` maps the modules, says who may import whom, and which invariants hold between them.

pub mod admin;
pub mod config;
pub mod domain;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod lines;
pub mod logging;
pub mod metrics;
pub mod route;
pub mod secrets;
pub mod server;
pub mod store;
pub mod systemd;
pub mod transfer;
