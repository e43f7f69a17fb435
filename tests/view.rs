//! One view of who is the primary: `/ready`, the metrics, the log and the clients agree on it.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::sync::Arc;

use jiff::civil::date;
use support::calendar::{self, body};
use support::database::Database;
use support::load::{Ledger, Load, Unanswered};
use support::postgres::Server;
use support::service::{Launch, Service};
use support::until;

fn has_primary(service: &Service) -> bool {
    service.metrics().sum("dob_api_database_primary", &[]) == 1
}

#[test]
fn a_lane_that_is_lost_says_nothing_of_the_primary() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).start();
    service.save("ada", date(1815, 12, 10));
    let ledger = Arc::new(Ledger::default());
    let writing = Load::writing(&service, 4, "w", &ledger, Unanswered::Fails);
    let reading = Load::reading(&service, 4, "ada", date(1815, 12, 10));
    ledger.await_writes(100);
    until("there is a primary", || has_primary(&service));
    let mut client = database.client();
    for round in 0..20 {
        let sessions = client.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid",
            &[],
        );
        let sessions: Vec<i32> = sessions.unwrap().iter().map(|row| row.get(0)).collect();
        client.execute("SELECT pg_terminate_backend($1)", &[&sessions[round % sessions.len()]]).unwrap();
        let goal = ledger.count() + 20;
        until("writes are acknowledged", || {
            assert_eq!(service.admin("/ready").status, 200, "round {round}");
            assert!(has_primary(&service), "no primary in the metrics in round {round}");
            ledger.count() >= goal
        });
    }
    writing.stop();
    reading.stop();
    ledger.verify(&service);
    assert!(!service.log().contains("lost the primary"), "{}", service.log());
}

#[test]
fn a_primary_that_is_gone_is_seen_to_be_gone() {
    let mut server = Server::start();
    let service = Launch::postgres(server.url("postgres")).start();
    service.save("ada", date(1815, 12, 10));
    until("there is a primary", || has_primary(&service) && service.admin("/ready").status == 200);
    server.stop();
    until("there is no primary", || !has_primary(&service) && service.admin("/ready").status == 503);
    server.resume();
    until("there is a primary", || has_primary(&service) && service.admin("/ready").status == 200);
}

fn users(server: &Server) -> usize {
    let mut client = server.client("postgres");
    let has_table = client.query_one("SELECT to_regclass('users') IS NOT NULL", &[]).unwrap().get(0);
    if has_table { client.query("SELECT FROM users", &[]).unwrap().len() } else { 0 }
}

/// The lines that say of a host that it belongs to another cluster.
fn strangers(service: &Service) -> Vec<String> {
    service.complaints().into_iter().filter(|line| line.contains("another cluster")).collect()
}

#[test]
fn of_two_clusters_in_one_url_the_first_is_used_and_the_other_is_refused_once() {
    let (one, other) = (Server::start(), Server::foreign());
    for (first, second) in [(&one, &other), (&other, &one)] {
        let before = users(second);
        let hosts = [first, second].map(|server| format!("127.0.0.1:{}", server.port)).join(",");
        let service = Launch::postgres(format!("postgres://postgres@{hosts}/postgres")).start();
        let name = |index| calendar::name(if first.port == one.port { "a" } else { "b" }, index);
        until("the second is refused", || !strangers(&service).is_empty());
        for index in 0..20 {
            service.save(&name(index), date(1815, 12, 10));
            if index % 5 == 4 {
                first.terminate_sessions("postgres");
                second.terminate_sessions("postgres");
            }
        }
        for index in 0..20 {
            service.greets(&name(index), date(1815, 12, 10));
        }
        let lines = strangers(&service);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains(&second.port.to_string()), "{}", lines[0]);
        assert!(!service.log().contains("promoted"), "{}", service.log());
        assert!(users(first) >= 20, "{} users", users(first));
        assert_eq!(users(second), before, "the second cluster got writes");
    }
}

#[test]
fn a_cluster_that_came_first_stays_in_use_when_the_other_is_all_that_answers() {
    let (mut first, second) = (Server::start(), Server::foreign());
    let hosts = [&first, &second].map(|server| format!("127.0.0.1:{}", server.port)).join(",");
    let service = Launch::postgres(format!("postgres://postgres@{hosts}/postgres"))
        .set("DOB_API_WRITE_PATIENCE", "3s")
        .set("DOB_API_READ_PATIENCE", "1s")
        .start();
    service.save("ada", date(1815, 12, 10));
    first.stop();
    service.put("/hello/ada", &body(date(1906, 12, 9))).problem(503);
    service.get("/hello/ada").problem(503);
    assert_eq!(users(&second), 0);
    first.resume();
    until("the first is back", || service.admin("/ready").status == 200);
    service.greets("ada", date(1815, 12, 10));
}
