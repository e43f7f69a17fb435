//! Every call of the store may fail, hang, be answered late or by half: what holds nevertheless.
//! A failure prints its seed; `DOB_API_FAULT_SEED=N cargo test --test injection` repeats it.
#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a failed assumption fails the test, and says how to repeat it"
)]

mod support;

use std::thread;
use std::time::SystemTime;

use support::calendar::{self, body, numbered};
use support::database::Database;
use support::load::Ledger;
use support::saboteur::{Fault, Saboteur};
use support::service::{Launch, Service};
use support::until;

const WORLDS: u64 = 6;
const ROUNDS: u32 = 50;
const NAMES: u32 = 7;

/// A service that has all its calls sabotaged.
fn launch(database: &Database, saboteur: &Saboteur) -> Service {
    Launch::postgres(format!("postgres://postgres@{}/{}", saboteur.address(), database.name))
        .set("DOB_API_READ_PATIENCE", "5s")
        .set("DOB_API_WRITE_PATIENCE", "5s")
        .start()
}

/// Writes and reads through faults, one request after the other, and returns what was done to them.
fn world(seed: u64) -> Vec<(String, u32, Fault)> {
    let database = Database::new();
    let saboteur = Saboteur::new(database.server.port, seed, "victim");
    let service = launch(&database, &saboteur);
    let ledger = Ledger::default();
    let mut client = service.connect();
    for round in 0..ROUNDS {
        let (name, date) = (calendar::name("victim", round % NAMES), numbered(round));
        let path = format!("/hello/{name}");
        ledger.sent(&name, date);
        let response = client.put(&path, &body(date));
        match response.status {
            204 => ledger.acknowledge(&name, date),
            _ => drop(response.problem(503)),
        }
        let response = client.get(&path);
        match response.status {
            503 => drop(response.problem(503)),
            _ => ledger.check(&name, &response),
        }
    }
    saboteur.rest();
    ledger.verify(&service);
    leaves_nothing_behind(&service, &database);
    saboteur.deeds()
}

/// Fails if a queue is not empty or connections are more or fewer than there are lanes.
fn leaves_nothing_behind(service: &Service, database: &Database) {
    until("every lane is connected, and every queue empty", || {
        let metrics = service.metrics();
        let lanes = ["read", "write"].map(|lane| metrics.sum("dob_api_database_connections", &[("operation", lane)]));
        lanes == [2, 2] && metrics.sum("dob_api_store_queue_depth", &[]) == 0
    });
    // One more is the host's own.
    until("no session is left over", || database.server.sessions(&database.name).len() == 5);
}

#[test]
fn faults_at_every_call_of_the_store_lose_nothing_acknowledged_and_leave_nothing_behind() {
    let seed = match std::env::var("DOB_API_FAULT_SEED") {
        Ok(seed) => seed.parse().expect("DOB_API_FAULT_SEED is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs(),
    };
    eprintln!("DOB_API_FAULT_SEED={seed} repeats this");
    let worlds: Vec<_> = (0..WORLDS).map(|index| thread::spawn(move || world(seed * WORLDS + index))).collect();
    let deeds: Vec<_> = worlds.into_iter().flat_map(|world| world.join().expect("what must hold holds")).collect();
    assert!(deeds.len() > 100, "almost nothing went wrong: {deeds:?}");
}
