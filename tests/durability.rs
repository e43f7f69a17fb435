//! Nothing acknowledged is lost, whatever is killed in the middle of writes.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::path::Path;
use std::sync::Arc;

use jiff::civil::date;
use rustix::process::Signal;
use support::database::Database;
use support::load::{Ledger, Load, Unanswered};
use support::postgres::Server;
use support::service::Launch;

const ROUNDS: u32 = 20;
const WRITERS: u32 = 8;

/// Kills the service in the middle of writes, again and again, and asks each successor for
/// everything that was ever acknowledged.
fn survives_kills_of_the_service(launch: impl Fn() -> Launch) {
    let ledger = Arc::new(Ledger::default());
    for round in 0..ROUNDS {
        let mut service = launch().start();
        ledger.verify(&service);
        let prefix = support::calendar::name("k", round);
        let load = Load::writing(&service, WRITERS, &prefix, &ledger, Unanswered::Ends);
        // Another number in each round, so that the kill hits another moment.
        ledger.await_writes(30 + 7 * round);
        service.kill();
        load.join();
    }
    ledger.verify(&launch().start());
}

fn embedded_in(data: &Path) -> Launch {
    Launch::embedded().set("DOB_API_DATA_DIR", data.to_str().unwrap())
}

#[test]
fn the_embedded_store_keeps_what_it_acknowledged_when_the_service_is_killed() {
    let data = tempfile::tempdir().unwrap();
    survives_kills_of_the_service(|| embedded_in(data.path()));
}

#[test]
fn postgres_keeps_what_was_acknowledged_when_the_service_is_killed() {
    let database = Database::new();
    survives_kills_of_the_service(|| Launch::postgres(database.url()));
}

#[test]
fn postgres_keeps_what_was_acknowledged_when_it_is_killed_itself() {
    let mut server = Server::start();
    let service = Launch::postgres(server.url("postgres")).start();
    let ledger = Arc::new(Ledger::default());
    let load = Load::writing(&service, WRITERS, "k", &ledger, Unanswered::Fails);
    for round in 0..ROUNDS {
        ledger.await_writes(30 + 7 * round);
        server.kill();
        server.resume();
    }
    ledger.await_writes(1);
    load.stop();
    ledger.verify(&service);
}

#[test]
fn a_service_that_stops_closes_its_file_so_that_the_next_start_repairs_nothing() {
    let data = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT].repeat(5) {
        let mut service = embedded_in(data.path()).set("DOB_API_DRAIN_DELAY", "0ms").start();
        service.save("ada", date(1815, 12, 10));
        service.signal(signal);
        assert!(service.wait().success());
        let mut file = redb::Database::builder();
        file.set_concurrency_mode(redb::ConcurrencyMode::SingleWriter);
        let opened = file.open_read_only(data.path().join("users.redb"));
        assert!(opened.is_ok(), "{:?}", opened.err());
    }
}

#[test]
fn a_service_that_stopped_cleanly_keeps_what_it_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::default());
    let mut service = embedded_in(data.path()).set("DOB_API_DRAIN_DELAY", "0ms").start();
    let load = Load::writing(&service, WRITERS, "k", &ledger, Unanswered::Ends);
    ledger.await_writes(100);
    service.signal(Signal::TERM);
    load.join();
    assert!(service.wait().success());
    ledger.verify(&embedded_in(data.path()).start());
}
