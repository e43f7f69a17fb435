//! Servers that stop answering in the middle of a conversation: the service notices, says so and recovers.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::civil::date;
use support::certificates::Authority;
use support::database::Database;
use support::delay::Delay;
use support::load::{Ledger, Load, Unanswered};
use support::mute::{Moment, Mute};
use support::postgres::Server;
use support::service::{Launch, Service};
use support::until;

/// Moments on the way to the first answer, where the table exists.
const MOMENTS: [Moment; 6] = [
    Moment::Authenticated,
    Moment::Ready,
    Moment::Parse(1),
    Moment::Parse(2),
    Moment::Text("FROM users"),
    Moment::Text("INTO users"),
];

fn ready(service: &Service) -> u16 {
    service.admin("/ready").status
}

/// Starts a service on whose reads `/ready` does not wait for long.
fn launch(url: &str) -> Launch {
    Launch::postgres(url).set("DOB_API_READ_PATIENCE", "2s")
}

/// Services whose servers fall silent say so and are not ready. They recover once servers answer again.
/// They go through it together: what each waits for is a deadline.
fn notice_and_recover<T>(started: &[Silenced<T>]) {
    for Silenced { moment, mute, service, .. } in started {
        until(&format!("the server falls silent: {moment:?}"), || mute.silenced() > 0);
        until(&format!("the service says so: {moment:?}"), || service.complains());
        // `/ready` asks for a primary and a read. A server that is silent for writes only may have both.
        if !matches!(moment, Moment::Text("INTO users")) {
            until(&format!("the service is not ready: {moment:?}"), || ready(service) == 503);
        }
    }
    for Silenced { mute, .. } in started {
        mute.release();
    }
    for Silenced { moment, service, .. } in started {
        until(&format!("the service is ready: {moment:?}"), || ready(service) == 200);
        service.save("ada", date(1815, 12, 10));
        service.greets("ada", date(1815, 12, 10));
        assert_eq!(service.health(), 200);
    }
}

/// A service, the way to its database, and what else lives as long.
struct Silenced<T> {
    moment: Moment,
    mute: Mute,
    service: Service,
    _database: T,
}

fn url(mute: &Mute, database: &str) -> String {
    format!("postgres://postgres@{}/{database}", mute.address())
}

#[test]
fn a_server_that_falls_silent_before_the_first_answer_is_noticed() {
    let database = Database::new();
    drop(Launch::postgres(database.url()).start());
    let started = MOMENTS.map(|moment| {
        let mute = Mute::new(database.server.port, moment);
        let service = launch(&url(&mute, &database.name)).bind();
        Silenced { moment, mute, service, _database: () }
    });
    notice_and_recover(&started);
}

#[test]
fn a_server_that_falls_silent_while_connections_are_replaced_is_noticed() {
    let database = Database::new();
    let started = MOMENTS.map(|moment| {
        let mute = Mute::unarmed(database.server.port, moment);
        let service = launch(&url(&mute, &database.name)).start();
        Silenced { moment, mute, service, _database: () }
    });
    for Silenced { mute, service, .. } in &started {
        service.save("ada", date(1815, 12, 10));
        until("the service is ready", || ready(service) == 200);
        mute.arm();
    }
    database.server.terminate_sessions(&database.name);
    notice_and_recover(&started);
}

#[test]
fn a_host_that_answers_is_used_in_place_of_one_that_falls_silent() {
    // Not the last two: a host that answers all but one statement is not silent.
    let moments = MOMENTS.into_iter().take(4).map(|moment| thread::spawn(move || passes_by(moment)));
    for moment in moments.collect::<Vec<_>>() {
        moment.join().unwrap();
    }
}

fn passes_by(moment: Moment) {
    let database = Database::new();
    let mute = Mute::new(database.server.port, moment);
    // The host that falls silent is the first to answer.
    let distant = Delay::new(&format!("127.0.0.1:{}", database.server.port), Duration::from_millis(20));
    let hosts = format!("{},{}", mute.address(), distant.address());
    let service = Launch::postgres(format!("postgres://postgres@{hosts}/{}", database.name)).start();
    let ledger = Arc::new(Ledger::default());
    service.save("ada", date(1815, 12, 10));
    let writing = Load::writing(&service, 2, "w", &ledger, Unanswered::Fails);
    let reading = Load::reading(&service, 2, "ada", date(1815, 12, 10));
    ledger.await_writes(20);
    database.server.terminate_sessions(&database.name);
    ledger.await_writes(20);
    writing.stop();
    reading.stop();
    ledger.verify(&service);
    until("the service is ready", || ready(&service) == 200);
    // Later moments come only where a lane tries this host first.
    let early = matches!(moment, Moment::Authenticated | Moment::Ready | Moment::Parse(1));
    assert!(!early || mute.silenced() > 0, "{moment:?} never came");
}

#[test]
fn a_server_that_falls_silent_while_the_service_makes_the_table_is_noticed() {
    let started = ["pg_advisory_lock", "CREATE TABLE"].map(Moment::Text).map(|moment| {
        let database = Database::new();
        let mute = Mute::new(database.server.port, moment);
        let service = launch(&url(&mute, &database.name)).bind();
        Silenced { moment, mute, service, _database: database }
    });
    notice_and_recover(&started);
}

#[test]
fn a_server_that_falls_silent_while_an_administrator_makes_the_database_is_noticed() {
    let steps = ["pg_advisory_lock", "CREATE ROLE", "CREATE DATABASE", "CREATE TABLE"].map(Moment::Text);
    let moments = steps.into_iter().chain([Moment::Ready, Moment::Parse(2)]);
    let started: Vec<_> = moments
        .enumerate()
        .map(|(index, moment)| {
            // An administrator's database of its own: what serializes the services there is a lock of the database.
            let database = Database::new();
            let mute = Mute::new(database.server.port, moment);
            let app = format!("postgres://app{index}:secret@127.0.0.1:{}/birthdays{index}", database.server.port);
            let service = launch(&app).set("DOB_API_ADMIN_DATABASE_URL", url(&mute, &database.name)).bind();
            Silenced { moment, mute, service, _database: database }
        })
        .collect();
    notice_and_recover(&started);
}

#[test]
fn a_server_that_does_not_answer_whether_it_speaks_tls_is_noticed() {
    let authority = Authority::new();
    let server = Server::start();
    server.identify(&authority.issue("localhost"));
    let mute = Mute::new(server.port, Moment::Encryption);
    let url = format!("postgres://postgres@localhost:{}/postgres?sslmode=require", mute.address().port());
    let launch = launch(&url);
    let file = launch.data().join("ca.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    let service = launch.set("DATABASE_CA_FILE", file.to_str().unwrap()).bind();
    notice_and_recover(&[Silenced { moment: Moment::Encryption, mute, service, _database: server }]);
}
