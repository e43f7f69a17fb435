//! More requests than the store can take: those that wait succeed, the others are told at once.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use jiff::civil::date;
use support::calendar::{self, body, greeting};
use support::http::Connection;
use support::postgres::Server;
use support::service::{Launch, Service};
use support::until;

const CAPACITY: u32 = 64;
const EXCESS: u32 = 10 * CAPACITY;
const MEMORY_KIB: u64 = 64 * 1024;

fn launch(server: &Server) -> Service {
    Launch::postgres(server.url("postgres"))
        .set("DOB_API_QUEUE_CAPACITY", CAPACITY.to_string())
        .set("DOB_API_READ_PATIENCE", "80s")
        .set("DOB_API_WRITE_PATIENCE", "80s")
        .start()
}

/// Asks until the queue of `operation` is full, and returns the connections that wait.
fn fill(service: &Service, operation: &str, ask: impl Fn(&mut Connection, u32)) -> Vec<Connection> {
    let accepted = || {
        let metrics = service.metrics();
        let labels = [("operation", operation)];
        metrics.sum("dob_api_store_batch_size_sum", &labels) + metrics.sum("dob_api_store_queue_depth", &labels)
    };
    let refused = || service.metrics().sum("dob_api_http_requests_total", &[("route", "hello"), ("status", "503")]);
    let mut waiting = Vec::new();
    loop {
        let before = accepted();
        let mut connection = service.connect();
        ask(&mut connection, u32::try_from(waiting.len()).unwrap());
        until("the request waits or is refused", || accepted() > before || refused() > 0);
        if refused() > 0 {
            return waiting;
        }
        waiting.push(connection);
        assert!(waiting.len() < 5000, "the queue has no end");
    }
}

/// Ten times as many requests as the queue holds, each of which is refused while others wait.
fn are_refused_at_once(service: &Service, method: &str, body: &str) {
    let before = service.resident_kib();
    let mut connections = service.connections(EXCESS as usize);
    for connection in &mut connections {
        connection.ask(method, "/hello/excess", body);
    }
    for connection in &mut connections {
        let response = connection.receive();
        response.problem(503);
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
    let grown = service.resident_kib().saturating_sub(before);
    assert!(grown < MEMORY_KIB, "grew by {grown} KiB");
}

#[test]
fn writes_beyond_the_queue_are_refused_at_once_and_those_in_it_succeed() {
    let server = Server::start();
    let service = launch(&server);
    let frozen = server.freeze();
    let date = date(1815, 12, 10);
    let waiting = fill(&service, "write", |connection, index| {
        connection.ask("PUT", &format!("/hello/{}", calendar::name("w", index)), &body(date));
    });
    assert!(waiting.len() >= CAPACITY as usize, "{} wait", waiting.len());
    are_refused_at_once(&service, "PUT", &body(date));
    assert_eq!(service.health(), 200);
    drop(frozen);
    for (index, mut connection) in (0..).zip(waiting) {
        assert_eq!(connection.receive().status, 204);
        service.greets(&calendar::name("w", index), date);
    }
    service.get("/hello/excess").problem(404);
}

#[test]
fn reads_beyond_the_queue_are_refused_at_once_and_those_in_it_succeed() {
    let server = Server::start();
    let service = launch(&server);
    let date = date(1815, 12, 10);
    service.save("ada", date);
    let frozen = server.freeze();
    let waiting = fill(&service, "read", |connection, _| connection.ask("GET", "/hello/ada", ""));
    assert!(waiting.len() >= CAPACITY as usize, "{} wait", waiting.len());
    are_refused_at_once(&service, "GET", "");
    drop(frozen);
    for mut connection in waiting {
        assert_eq!(connection.receive().message(), greeting("ada", date));
    }
}

#[test]
fn waiting_writes_do_not_keep_reads_from_being_served() {
    let server = Server::start();
    let service = launch(&server);
    service.save("ada", date(1815, 12, 10));
    let mut client = server.client("postgres");
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("LOCK TABLE users IN EXCLUSIVE MODE").unwrap();
    let date = date(1906, 12, 9);
    let waiting = fill(&service, "write", |connection, index| {
        connection.ask("PUT", &format!("/hello/{}", calendar::name("w", index)), &body(date));
    });
    service.greets("ada", jiff::civil::date(1815, 12, 10));
    lock.rollback().unwrap();
    for mut connection in waiting {
        assert_eq!(connection.receive().status, 204);
    }
}

#[test]
fn a_monitor_finds_a_place_on_the_operators_listener_whoever_holds_the_others() {
    const HOLDERS: usize = 200;
    let service = Launch::embedded().start();
    let half = "GET /metrics HTTP/1.1\r\nHost: a\r\nX: ";
    let unread = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    for sent in ["", half, &unread] {
        let holders: Vec<_> = (0..HOLDERS)
            .map(|_| {
                let mut holder = Connection::open(service.admin);
                // One whose place was taken already hears it.
                let _ = std::io::Write::write_all(&mut holder.stream(), sent.as_bytes());
                if sent.is_empty() {
                    assert_eq!(holder.get("/live").status, 200);
                }
                holder
            })
            .collect();
        for path in ["/metrics", "/ready", "/live"] {
            assert_eq!(service.admin(path).status, 200, "{sent:.40?}");
        }
        // The newest keep theirs: a monitor that holds its connection is not the first to lose it.
        let mut kept = Connection::open(service.admin);
        assert_eq!(kept.get("/live").status, 200);
        let _few: Vec<_> = (0..16).map(|_| Connection::open(service.admin)).collect();
        assert_eq!(service.admin("/live").status, 200);
        assert_eq!(kept.get("/live").status, 200);
        drop(holders);
    }
    assert_eq!(service.health(), 200);
}
