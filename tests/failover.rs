//! What clients see while a standby takes over from its primary.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::date;
use support::calendar::{self, body, greeting, numbered};
use support::delay::Delay;
use support::load::{Ledger, Load, Unanswered};
use support::postgres::Server;
use support::service::{Launch, Service};
use support::until;

/// A primary, and a standby that has each commit before it is acknowledged.
fn pair() -> (Server, Server) {
    let primary = Server::start();
    let standby = primary.standby();
    primary.commit_synchronously();
    (primary, standby)
}

fn launch(primary: &Server, standby: &Server) -> Launch {
    let hosts = [primary, standby].map(|server| format!("127.0.0.1:{}", server.port));
    Launch::postgres(format!("postgres://postgres@{}/postgres", hosts.join(",")))
        // Promotion takes as long as it takes on a slow machine.
        .set("DOB_API_WRITE_PATIENCE", "60s")
        .set("DOB_API_READ_PATIENCE", "30s")
}

/// Waits until the standby has replayed all that the primary has written.
fn await_replay(primary: &Server, standby: &Server) {
    let position = "SELECT pg_current_wal_lsn()::text";
    let written: String = primary.client("postgres").query_one(position, &[]).unwrap().get(0);
    let mut client = standby.client("postgres");
    until("the standby has replayed the writes", || {
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
        client.query_one(&replayed, &[]).unwrap().get(0)
    });
}

/// Promotes the standby under load after `fault` befell the primary: no read fails, no write
/// fails, and nothing acknowledged is lost.
fn takes_over(primary: Server, standby: &Server, fault: impl FnOnce(Server)) {
    let service = launch(&primary, standby).start();
    service.save("ada", date(1815, 12, 10));
    await_replay(&primary, standby);
    let ledger = Arc::new(Ledger::default());
    let writing = Load::writing(&service, 8, "w", &ledger, Unanswered::Fails);
    let reading = Load::reading(&service, 8, "ada", date(1815, 12, 10));
    ledger.await_writes(200);
    fault(primary);
    standby.promote();
    ledger.await_writes(200);
    writing.stop();
    reading.stop();
    ledger.verify(&service);
    names_as_primary(&service, standby);
}

fn names_as_primary(service: &Service, server: &Server) {
    let port = server.port.to_string();
    until("the metrics name the new primary", || {
        let metrics = service.metrics();
        let mut primaries =
            metrics.0.lines().filter(|line| line.starts_with("dob_api_database_primary{") && line.ends_with(" 1"));
        primaries.next().is_some_and(|line| line.contains(&port)) && primaries.next().is_none()
    });
}

#[test]
fn a_standby_to_which_connections_began_while_writes_were_closed_takes_writes_when_it_is_promoted() {
    let (mut primary, standby) = pair();
    let service = launch(&primary, &standby).start();
    service.save("ada", date(1815, 12, 10));
    let mut administrator = primary.client("postgres");
    administrator.batch_execute("ALTER ROLE postgres SET default_transaction_read_only = on").unwrap();
    await_replay(&primary, &standby);
    standby.terminate_sessions("postgres");
    let began_closed = "SELECT setting = 'on' AND EXISTS (
            SELECT FROM pg_stat_activity WHERE client_addr IS NOT NULL AND backend_type = 'client backend')
        FROM pg_settings WHERE name = 'default_transaction_read_only'";
    until("the service has a new session", || standby.client("postgres").query_one(began_closed, &[]).unwrap().get(0));
    administrator.batch_execute("ALTER ROLE postgres RESET default_transaction_read_only").unwrap();
    await_replay(&primary, &standby);
    primary.kill();
    standby.promote();
    service.save("ada", date(1906, 12, 9));
    names_as_primary(&service, &standby);
}

#[test]
fn a_standby_takes_over_from_a_primary_that_was_killed() {
    let (primary, standby) = pair();
    takes_over(primary, &standby, |mut primary| primary.kill());
}

#[test]
fn a_standby_takes_over_from_a_primary_that_was_stopped() {
    let (primary, standby) = pair();
    takes_over(primary, &standby, |mut primary| primary.stop());
}

#[test]
fn a_standby_takes_over_from_a_primary_that_froze_and_never_came_back() {
    let (primary, standby) = pair();
    let mut frozen_primary = None;
    takes_over(primary, &standby, |primary| {
        frozen_primary = Some((primary.freeze(), primary));
    });
}

#[test]
fn a_primary_that_returns_after_a_promotion_is_not_used_any_more() {
    let primary = Server::start();
    let standby = primary.standby();
    let service = launch(&primary, &standby).start();
    service.save("ada", date(1815, 12, 10));
    await_replay(&primary, &standby);
    let frozen = primary.freeze();
    standby.promote();
    let ledger = Arc::new(Ledger::default());
    let writing = Load::writing(&service, 8, "w", &ledger, Unanswered::Fails);
    ledger.await_writes(50);
    drop(frozen);
    for index in 0..50 {
        let name = calendar::name("n", index);
        service.save(&name, date(1815, 12, 10));
        service.greets(&name, date(1815, 12, 10));
    }
    // A connection that is lost is no reason to go back to it.
    standby.terminate_sessions("postgres");
    ledger.await_writes(50);
    writing.stop();
    ledger.verify(&service);
    names_as_primary(&service, &standby);
    let rows = primary.client("postgres").query("SELECT FROM users", &[]).unwrap();
    assert_eq!(rows.len(), 1, "only what was there before");
}

/// An old primary and the one that was promoted in its place, both of which take writes.
fn divided_pair() -> (Server, Server) {
    let primary = Server::start();
    let standby = primary.standby();
    drop(launch(&primary, &standby).start());
    await_replay(&primary, &standby);
    let frozen = primary.freeze();
    standby.promote();
    drop(frozen);
    (primary, standby)
}

#[test]
fn of_two_servers_that_take_writes_the_service_settles_on_the_one_promoted_last() {
    let (old, new) = divided_pair();
    for round in 0..10 {
        let service = launch(&old, &new).start();
        names_as_primary(&service, &new);
        service.save("ada", numbered(round));
        service.greets("ada", numbered(round));
    }
    assert!(old.client("postgres").query("SELECT FROM users", &[]).unwrap().is_empty());
}

#[test]
fn a_promotion_is_noticed_while_the_old_primary_still_answers() {
    let old = Server::start();
    let new = old.standby();
    let service = launch(&old, &new).start();
    service.save("ada", numbered(1));
    await_replay(&old, &new);
    new.promote();
    names_as_primary(&service, &new);
    service.save("ada", numbered(2));
    service.greets("ada", numbered(2));
    let saved_where = |server: &Server| {
        let row = server.client("postgres").query_one("SELECT date_of_birth::text FROM users", &[]).unwrap();
        row.get::<_, String>(0)
    };
    assert_eq!((saved_where(&old), saved_where(&new)), (numbered(1).to_string(), numbered(2).to_string()));
}

#[test]
fn a_distant_primary_is_preferred_to_a_replica_nearby() {
    let (primary, standby) = pair();
    // A connection takes three round trips: almost twice as long as a replica waits while no primary is known.
    let distant = Delay::new(&format!("127.0.0.1:{}", primary.port), Duration::from_millis(75));
    let url = format!("postgres://postgres@{},127.0.0.1:{}/postgres", distant.address(), standby.port);
    let service = Launch::postgres(url).start();
    service.save("ada", date(1815, 12, 10));
    until("both lanes read from the primary", || {
        let connections = [("operation", "read"), ("role", "primary")];
        service.metrics().sum("dob_api_database_connections", &connections) >= 2
    });
    for _ in 0..20 {
        assert_eq!(service.get("/hello/ada").header("x-served-by"), None);
    }
    service.get("/hello/nobody").problem(404);
}

#[test]
fn replicas_answer_reads_while_there_is_no_primary_and_say_so() {
    let (mut primary, standby) = pair();
    let service = launch(&primary, &standby).set("DOB_API_WRITE_PATIENCE", "1s").start();
    service.save("ada", date(1815, 12, 10));
    let from_primary = service.get("/hello/ada");
    assert_eq!(from_primary.header("x-served-by"), None, "{from_primary:?}");
    await_replay(&primary, &standby);
    primary.kill();
    let from_replica = service.get("/hello/ada");
    assert_eq!(from_replica.message(), greeting("ada", date(1815, 12, 10)));
    assert_eq!(from_replica.header("x-served-by"), Some("replica"), "{from_replica:?}");
    let unknown = service.get("/hello/nobody");
    unknown.problem(503);
    assert!(unknown.header("retry-after").is_some(), "{unknown:?}");
    service.put("/hello/ada", &body(date(1906, 12, 9))).problem(503);
    assert_eq!(service.health(), 200);
    standby.promote();
    // Lane by lane: the first to be back says nothing of the others.
    until("reads come from a primary again", || {
        (0..20).all(|_| service.get("/hello/ada").header("x-served-by").is_none())
            && service.get("/hello/nobody").status == 404
    });
}

#[test]
fn a_user_that_one_replica_does_not_have_is_read_from_another() {
    let (mut primary, standby) = pair();
    let behind = primary.standby();
    // The other one answers first, so the lanes read from it.
    let distant = Delay::new(&format!("127.0.0.1:{}", standby.port), Duration::from_millis(20));
    let hosts =
        [format!("127.0.0.1:{}", primary.port), distant.address().to_string(), format!("127.0.0.1:{}", behind.port)];
    let service = Launch::postgres(format!("postgres://postgres@{}/postgres", hosts.join(","))).start();
    service.save("ada", date(1815, 12, 10));
    await_replay(&primary, &behind);
    behind.configure("primary_conninfo", "");
    until("nothing is sent to it any more", || {
        let sent = primary.client("postgres").query("SELECT FROM pg_stat_replication", &[]);
        sent.unwrap().len() == 1
    });
    service.save("grace", date(1906, 12, 9));
    await_replay(&primary, &standby);
    primary.kill();
    for (name, born) in [("ada", date(1815, 12, 10)), ("grace", date(1906, 12, 9))].repeat(10) {
        let response = service.get(&format!("/hello/{name}"));
        assert_eq!(response.message(), greeting(name, born));
        assert_eq!(response.header("x-served-by"), Some("replica"), "{response:?}");
    }
    service.get("/hello/nobody").problem(503);
}

#[test]
fn writes_wait_for_a_primary_and_then_succeed() {
    let (mut primary, standby) = pair();
    let service = launch(&primary, &standby).start();
    primary.kill();
    let mut writers = service.connections(20);
    for writer in &mut writers {
        writer.ask("PUT", "/hello/ada", &body(date(1815, 12, 10)));
    }
    let refused = || service.metrics().sum("dob_api_store_errors_total", &[("operation", "write")]);
    until("the primary is found missing", || refused() >= 1);
    standby.promote();
    for writer in &mut writers {
        let response = writer.receive();
        assert_eq!(response.status, 204, "{response:?}");
    }
    service.greets("ada", date(1815, 12, 10));
}

#[test]
fn a_service_that_starts_with_a_replica_only_is_healthy_and_reads() {
    let (mut primary, standby) = pair();
    let first = launch(&primary, &standby).start();
    first.save("ada", date(1815, 12, 10));
    await_replay(&primary, &standby);
    drop(first);
    primary.kill();
    let service = launch(&primary, &standby).start();
    let response = service.get("/hello/ada");
    assert_eq!(response.message(), greeting("ada", date(1815, 12, 10)));
    assert_eq!(response.header("x-served-by"), Some("replica"));
}
