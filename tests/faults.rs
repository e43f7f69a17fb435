//! What clients see while one database server misbehaves.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::net::TcpListener;
use std::sync::Arc;

use jiff::civil::date;
use support::calendar::{self, body};
use support::certificates::Authority;
use support::database::Database;
use support::http::Connection;
use support::load::{Ledger, Load, Unanswered};
use support::postgres::{Server, free_port};
use support::service::{Launch, Service};
use support::{eventually, until};

/// Starts a service that cannot use its database, and waits until it has said so: in one line,
/// which holds `word`, however often it tries.
fn complains_once(launch: Launch, word: &str) -> Service {
    let service = launch.set("DOB_API_READ_PATIENCE", "1s").set("DOB_API_WRITE_PATIENCE", "1s").bind();
    until("the service complains", || service.complains());
    service.get("/healthz").problem(503);
    for _ in 0..2 {
        for response in [service.get("/hello/ada"), service.put("/hello/ada", &body(date(1815, 12, 10)))] {
            response.problem(503);
            assert!(response.header("retry-after").is_some(), "{response:?}");
        }
    }
    let complaints = service.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert!(complaints[0].contains(word), "'{word}' is missing: {complaints:#?}");
    service
}

/// Waits until the store has failed at `operation` `more` times.
fn await_failures(service: &Service, operation: &str, more: u64) {
    let failures = || service.metrics().sum("dob_api_store_errors_total", &[("operation", operation)]);
    let before = failures();
    until("the store fails", || failures() >= before + more);
}

/// Runs readers and writers while `fault` happens: none of them sees any of it.
fn unnoticed(service: &Service, fault: impl FnOnce(&Ledger)) {
    service.save("ada", date(1815, 12, 10));
    let ledger = Arc::new(Ledger::default());
    let writing = Load::writing(service, 8, "w", &ledger, Unanswered::Fails);
    let reading = Load::reading(service, 8, "ada", date(1815, 12, 10));
    ledger.await_writes(100);
    fault(&ledger);
    ledger.await_writes(100);
    writing.stop();
    reading.stop();
    ledger.verify(service);
}

#[test]
fn a_database_that_is_absent_at_the_start_is_waited_for() {
    let mut server = Server::stopped();
    let service = complains_once(Launch::postgres(server.url("postgres")), "refused");
    server.resume();
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
}

#[test]
fn a_restart_under_load_is_not_noticed() {
    let mut server = Server::start();
    let service = Launch::postgres(server.url("postgres")).start();
    unnoticed(&service, |ledger| {
        for _ in 0..3 {
            server.stop();
            server.resume();
            ledger.await_writes(100);
        }
    });
}

#[test]
fn backends_that_are_terminated_under_load_are_not_noticed() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).start();
    unnoticed(&service, |ledger| {
        for _ in 0..10 {
            database.server.terminate_sessions(&database.name);
            ledger.await_writes(20);
        }
    });
}

#[test]
fn a_crash_of_one_backend_is_not_noticed() {
    let server = Server::start();
    let service = Launch::postgres(server.url("postgres")).start();
    unnoticed(&service, |_| {
        let backend = eventually("the service is connected", || server.sessions("postgres").into_iter().next());
        support::process::signal(backend, rustix::process::Signal::KILL);
        until("PostgreSQL has restarted its backends", || {
            server.log().contains("all server processes terminated; reinitializing")
        });
    });
}

#[test]
fn a_server_that_freezes_for_a_while_delays_requests_and_fails_none() {
    let server = Server::start();
    let service = Launch::postgres(server.url("postgres")).set("DOB_API_READ_PATIENCE", "60s").start();
    unnoticed(&service, |_| {
        let frozen = server.freeze();
        await_failures(&service, "write", 2);
        assert_eq!(service.health(), 200, "a frozen database is no reason to replace the service");
        drop(frozen);
    });
}

#[test]
fn a_request_that_outlasts_its_patience_is_503() {
    let server = Server::start();
    let service = Launch::postgres(server.url("postgres"))
        .set("DOB_API_READ_PATIENCE", "1s")
        .set("DOB_API_WRITE_PATIENCE", "3s")
        .start();
    service.save("ada", date(1815, 12, 10));
    let frozen = server.freeze();
    let mut writer = service.connect();
    writer.ask("PUT", "/hello/ada", &body(date(1906, 12, 9)));
    let mut reader = service.connect();
    reader.ask("GET", "/hello/ada", "");
    for mut connection in [reader, writer] {
        let response = connection.receive();
        response.problem(503);
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
    drop(frozen);
    service.save("ada", date(1900, 1, 1));
    service.greets("ada", date(1900, 1, 1));
}

#[test]
fn a_session_that_became_read_only_is_replaced() {
    let server = Server::start();
    let service = Launch::postgres(server.url("postgres")).start();
    service.save("ada", date(1815, 12, 10));
    server.configure("default_transaction_read_only", "on");
    let reading = Load::reading(&service, 4, "ada", date(1815, 12, 10));
    let mut writers: Vec<_> = (0..10)
        .map(|index| {
            let mut connection = service.connect();
            let path = format!("/hello/{}", calendar::name("w", index));
            connection.ask("PUT", &path, &body(date(1906, 12, 9)));
            connection
        })
        .collect();
    await_failures(&service, "write", 1);
    server.configure("default_transaction_read_only", "off");
    for writer in &mut writers {
        let response = writer.receive();
        assert_eq!(response.status, 204, "{response:?}");
    }
    reading.stop();
}

#[test]
fn a_black_hole_in_place_of_the_first_host_is_passed_by() {
    let server = Server::start();
    // The kernel completes the handshakes; nobody ever reads or answers.
    let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://postgres@{},127.0.0.1:{}/postgres", black_hole.local_addr().unwrap(), server.port);
    let service = Launch::postgres(url).start();
    unnoticed(&service, |ledger| {
        server.terminate_sessions("postgres");
        ledger.await_writes(100);
    });
}

#[test]
fn an_absent_first_host_is_passed_by() {
    let server = Server::start();
    let url = format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", free_port(), server.port);
    let service = Launch::postgres(url).start();
    unnoticed(&service, |_| server.terminate_sessions("postgres"));
}

/// Ends the service, waits until its sessions have done whatever they were still going to do,
/// and looks at the date that `ada` has then.
fn final_date(service: Service, server: &Server, database: &str) -> String {
    drop(service);
    until("the sessions end", || server.sessions(database).is_empty());
    let query = "SELECT date_of_birth::text FROM users WHERE username = 'ada'";
    server.client(database).query_one(query, &[]).unwrap().get(0)
}

#[test]
fn a_write_that_is_stuck_in_a_frozen_session_never_overwrites_a_newer_one() {
    let database = Database::new();
    for round in 0..3 {
        let service = Launch::postgres(database.url()).start();
        service.save("ada", calendar::numbered(3 * round));
        let frozen = database.server.freeze_sessions(&database.name);
        service.save("ada", calendar::numbered(3 * round + 1));
        let newest = calendar::numbered(3 * round + 2);
        service.save("ada", newest);
        drop(frozen);
        service.greets("ada", newest);
        assert_eq!(final_date(service, &database.server, &database.name), newest.to_string());
    }
}

#[test]
fn a_write_that_is_stuck_in_a_frozen_server_never_overwrites_a_newer_one() {
    let server = Server::start();
    for round in 0..3 {
        let service = Launch::postgres(server.url("postgres")).start();
        service.save("ada", calendar::numbered(3 * round));
        let frozen = server.freeze();
        let mut early = service.connect();
        early.ask("PUT", "/hello/ada", &body(calendar::numbered(3 * round + 1)));
        await_failures(&service, "write", 1);
        drop(frozen);
        assert_eq!(early.receive().status, 204);
        let newest = calendar::numbered(3 * round + 2);
        service.save("ada", newest);
        service.greets("ada", newest);
        assert_eq!(final_date(service, &server, "postgres"), newest.to_string());
    }
}

#[test]
fn a_write_that_was_refused_while_it_was_on_its_way_never_overwrites_a_newer_one() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).set("DOB_API_WRITE_PATIENCE", "500ms").start();
    service.save("ada", date(1815, 12, 10));
    let frozen = database.server.freeze_sessions(&database.name);
    service.put("/hello/ada", &body(date(1906, 12, 9))).problem(503);
    // As another service host would save it for the client that was refused.
    database.client().batch_execute("UPDATE users SET date_of_birth = '1900-01-01'").unwrap();
    drop(frozen);
    service.greets("ada", date(1900, 1, 1));
    assert_eq!(final_date(service, &database.server, &database.name), "1900-01-01");
}

#[test]
fn a_write_that_was_given_up_never_overwrites_a_newer_one() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).set("DOB_API_WRITE_PATIENCE", "3s").start();
    service.save("ada", date(1815, 12, 10));
    let mut client = database.client();
    let mut row = client.transaction().unwrap();
    row.batch_execute("SELECT FROM users WHERE username = 'ada' FOR UPDATE").unwrap();
    service.put("/hello/ada", &body(date(1906, 12, 9))).problem(503);
    row.rollback().unwrap();
    drop(client);
    service.save("ada", date(1900, 1, 1));
    assert_eq!(final_date(service, &database.server, &database.name), "1900-01-01");
}

#[test]
fn a_wrong_password_is_told_once_and_tried_again() {
    let server = Server::start();
    server
        .client("postgres")
        .batch_execute("CREATE ROLE app LOGIN PASSWORD 'right'; GRANT ALL ON SCHEMA public TO app")
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "wrong-secret\n").unwrap();
    let launch = Launch::postgres(format!("postgres://app@127.0.0.1:{}/postgres", server.port));
    let service = complains_once(launch.set("DATABASE_PASSWORD_FILE", password.to_str().unwrap()), "password");
    assert!(!service.log().contains("secret"), "{}", service.log());
    server.client("postgres").batch_execute("ALTER ROLE app PASSWORD 'wrong-secret'").unwrap();
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
}

#[test]
fn an_unknown_database_is_told_once_and_waited_for() {
    let server = Server::start();
    let service = complains_once(Launch::postgres(server.url("later")), "later");
    server.client("postgres").batch_execute("CREATE DATABASE later").unwrap();
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
}

#[test]
fn an_unknown_host_is_told_once() {
    let url = "postgres://postgres@host.invalid/postgres?sslmode=disable";
    complains_once(Launch::postgres(url), "host.invalid");
}

/// A server that speaks TLS under a certificate for `name`, and accepts nothing else.
fn encrypted(authority: &Authority, name: &str) -> Server {
    let server = Server::start();
    server.identify(&authority.issue(name));
    server.restrict("hostnossl all all 127.0.0.1/32 reject");
    server
}

fn launch_encrypted(server: &Server, authority: &Authority) -> Launch {
    let url = format!("postgres://postgres@localhost:{}/postgres?sslmode=require", server.port);
    let launch = Launch::postgres(url);
    let file = launch.data().join("ca.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    launch.set("DATABASE_CA_FILE", file.to_str().unwrap())
}

#[test]
fn a_certificate_of_the_authority_for_the_host_is_accepted() {
    let authority = Authority::new();
    let server = encrypted(&authority, "localhost");
    let service = launch_encrypted(&server, &authority).start();
    unnoticed(&service, |_| server.terminate_sessions("postgres"));
}

#[test]
fn a_certificate_for_another_host_is_refused_until_it_is_replaced() {
    let authority = Authority::new();
    let server = encrypted(&authority, "elsewhere.test");
    let service = complains_once(launch_encrypted(&server, &authority), "certificate");
    server.identify(&authority.issue("localhost"));
    service.await_health(200);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let server = encrypted(&Authority::new(), "localhost");
    complains_once(launch_encrypted(&server, &Authority::new()), "certificate");
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_required() {
    let server = Server::start();
    complains_once(launch_encrypted(&server, &Authority::new()), "TLS");
}

#[test]
fn a_unix_socket_needs_no_tls() {
    let server = Server::start();
    let directory = server.directory().to_str().unwrap().replace('/', "%2F");
    let url = format!("postgres://postgres@{directory}:{}/postgres", server.port);
    let service = Launch::postgres(url).start();
    service.save("ada", date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
}

#[test]
fn a_client_that_leaves_while_the_database_is_frozen_affects_no_other_client() {
    let server = Server::start();
    let service = Launch::postgres(server.url("postgres")).start();
    let frozen = server.freeze();
    let ask = |index| {
        let mut connection = Connection::open(service.address);
        let path = format!("/hello/{}", calendar::name("w", index));
        connection.ask("PUT", &path, &body(date(1815, 12, 10)));
        connection
    };
    let leaving: Vec<_> = (0..10).map(ask).collect();
    let staying: Vec<_> = (10..20).map(ask).collect();
    drop(leaving);
    drop(frozen);
    for mut connection in staying {
        assert_eq!(connection.receive().status, 204);
    }
}
