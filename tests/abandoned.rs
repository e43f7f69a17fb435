//! Requests whose clients have left: nothing more is done for them, and they take nobody's place.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jiff::civil::{Date, date};
use support::calendar::{self, body, greeting};
use support::database::Database;
use support::http::Connection;
use support::link::Link;
use support::postgres::Server;
use support::service::{Launch, Service};
use support::until;

const EARLIER: Date = Date::constant(1815, 12, 10);
const LATER: Date = Date::constant(1906, 12, 9);

/// How many users take part in a round: each is a chance for the earlier write to come last.
const USERS: u32 = 20;

fn failures(service: &Service, operation: &str) -> u64 {
    service.metrics().sum("dob_api_store_errors_total", &[("operation", operation)])
}

/// The number of statements that write and were given up without an answer.
fn given_up(service: &Service) -> u64 {
    let labels = [("operation", "write"), ("kind", "no_answer")];
    service.metrics().sum("dob_api_store_errors_total", &labels)
}

/// The number of statements that write and were sent.
fn statements(service: &Service) -> u64 {
    service.metrics().sum("dob_api_store_batch_size_count", &[("operation", "write")])
}

fn waiting(service: &Service, operation: &str) -> u64 {
    service.metrics().sum("dob_api_store_queue_depth", &[("operation", operation)])
}

/// The number of requests that the store was asked for so far, while nobody leaves.
fn asked(service: &Service, operation: &str) -> u64 {
    service.metrics().sum("dob_api_store_batch_size_sum", &[("operation", operation)]) + waiting(service, operation)
}

/// Sends a PUT of `born` for each user, and returns once all are in the store.
fn write_all(service: &Service, born: Date) -> Vec<Connection> {
    let goal = asked(service, "write") + u64::from(USERS);
    let ask = |index| {
        let mut connection = service.connect();
        connection.ask("PUT", &format!("/hello/{}", calendar::name("u", index)), &body(born));
        connection
    };
    let writers = (0..USERS).map(ask).collect();
    until("the writes are in the store", || asked(service, "write") >= goal);
    writers
}

fn all_saved(writers: Vec<Connection>) {
    for mut writer in writers {
        let response = writer.receive();
        assert_eq!(response.status, 204, "{response:?}");
    }
}

/// Ends the services, waits until their sessions have done what they were still going to do, and looks at every date.
fn later_write_stays(services: Vec<Service>, server: &Server, database: &str) {
    drop(services);
    until("the sessions end", || server.sessions(database).is_empty());
    let query =
        "SELECT username, date_of_birth::text FROM users WHERE username LIKE 'u%' AND date_of_birth <> $1::text::date";
    let rows = server.client(database).query(query, &[&LATER.to_string()]).unwrap();
    let lost: Vec<_> = rows.iter().map(|row| (row.get::<_, String>(0), row.get::<_, String>(1))).collect();
    assert!(lost.is_empty(), "the later write was overwritten: {lost:?}");
}

#[test]
fn a_write_whose_client_left_a_frozen_database_never_follows_the_clients_next_one() {
    let server = Server::start();
    for _ in 0..3 {
        let service = Launch::postgres(server.url("postgres")).start();
        service.save("ada", EARLIER);
        let frozen = server.freeze();
        drop(write_all(&service, EARLIER));
        let before = given_up(&service);
        let writers = write_later(&service);
        // From then on the server begins nothing any more that was sent before.
        until("what was sent is given up", || given_up(&service) >= before + 2);
        drop(frozen);
        all_saved(writers);
        later_write_stays(vec![service], &server, "postgres");
    }
}

/// Sends the later PUTs. Others leave the queue meanwhile, so nothing says when all are in the store.
fn write_later(service: &Service) -> Vec<Connection> {
    let ask = |index| {
        let mut connection = service.connect();
        connection.ask("PUT", &format!("/hello/{}", calendar::name("u", index)), &body(LATER));
        connection
    };
    (0..USERS).map(ask).collect()
}

#[test]
fn a_write_whose_client_left_a_locked_row_never_follows_the_clients_next_one() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).start();
    all_saved(write_all(&service, EARLIER));
    let mut client = database.client();
    let mut rows = client.transaction().unwrap();
    rows.batch_execute("SELECT FROM users FOR UPDATE").unwrap();
    let failed = failures(&service, "write");
    drop(write_all(&service, EARLIER));
    until("the server gave a write up", || failures(&service, "write") > failed);
    let mut observer = database.server.client("postgres");
    let mut on_the_wire = || {
        let query =
            "SELECT pid, query_start::text FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'";
        let rows = observer.query(query, &[&database.name]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(i32, String)>>()
    };
    // Nothing stops what was sent already, but its time limit.
    let sent = on_the_wire();
    until("what was sent has ended", || !on_the_wire().iter().any(|statement| sent.contains(statement)));
    let writers = write_later(&service);
    rows.rollback().unwrap();
    drop(client);
    all_saved(writers);
    later_write_stays(vec![service], &database.server, &database.name);
}

#[test]
fn a_write_whose_client_left_a_service_that_was_cut_off_never_follows_one_through_another_service() {
    let database = Database::new();
    let link = Link::new(database.server.port);
    let url = format!("postgres://postgres@{}/{}", link.address(), database.name);
    let (cut_off, other) = (Launch::postgres(url).start(), Launch::postgres(database.url()).start());
    cut_off.save("ada", EARLIER);
    link.cut();
    let before = statements(&cut_off);
    drop(write_all(&cut_off, EARLIER));
    all_saved(write_all(&other, LATER));
    // What was sent already is carried out within a second or not at all. One lane or both have sent it.
    until("what was sent is given up", || given_up(&cut_off) >= (statements(&cut_off) - before).max(1));
    link.heal();
    cut_off.save("ada", LATER);
    later_write_stays(vec![cut_off, other], &database.server, &database.name);
}

const CAPACITY: u32 = 50;

/// Fills the queue of `operation` while the database is frozen, and lets all clients leave: the place is a live client's.
fn queue_is_free_again(method: &str, operation: &str) {
    let server = Server::start();
    let service = Launch::postgres(server.url("postgres"))
        .set("DOB_API_QUEUE_CAPACITY", CAPACITY.to_string())
        .set("DOB_API_READ_PATIENCE", "60s")
        .set("DOB_API_WRITE_PATIENCE", "60s")
        .start();
    service.save("ada", EARLIER);
    service.greets("ada", EARLIER);
    let sent = if method == "GET" { String::new() } else { body(LATER) };
    let ask = || {
        let mut connection = service.connect();
        connection.ask(method, "/hello/ada", &sent);
        connection
    };
    let frozen = server.freeze();
    let mut leaving = Vec::new();
    until("the queue is full", || {
        leaving.push(ask());
        waiting(&service, operation) >= u64::from(CAPACITY)
    });
    let failed = failures(&service, operation);
    until("the connections are given up", || failures(&service, operation) >= failed + 2);
    drop(leaving);
    until("the queue is empty", || waiting(&service, operation) == 0);
    let before = asked(&service, operation);
    let mut staying: Vec<_> = (0..3).map(|_| ask()).collect();
    until("the live clients are in the store", || asked(&service, operation) >= before + 3);
    drop(frozen);
    for client in &mut staying {
        let response = client.receive();
        match method {
            "GET" => assert_eq!(response.message(), greeting("ada", EARLIER)),
            _ => assert_eq!(response.status, 204, "{response:?}"),
        }
    }
}

#[test]
fn writers_that_left_give_their_places_in_the_queue_to_others() {
    queue_is_free_again("PUT", "write");
}

#[test]
fn readers_that_left_give_their_places_in_the_queue_to_others() {
    queue_is_free_again("GET", "read");
}

#[test]
fn commits_that_wait_for_a_standby_that_is_absent_leave_few_backends_behind() {
    let server = Server::start();
    let service = Launch::postgres(server.url("postgres")).set("DOB_API_WRITE_PATIENCE", "1s").start();
    service.save("ada", EARLIER);
    server.configure("synchronous_standby_names", "nobody");
    until("commits wait", || service.put("/hello/ada", &body(LATER)).status == 503);
    let refused = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..4)
        .map(|index| {
            let (mut connection, refused) = (service.connect(), Arc::clone(&refused));
            thread::spawn(move || {
                for turn in 0..12 {
                    // A user of its own each time: the row of a commit that waits is locked.
                    let path = format!("/hello/{}", calendar::name("w", 100 * index + turn));
                    connection.put(&path, &body(LATER)).problem(503);
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut client = server.client("postgres");
    until("the writes are given up", || {
        let query = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let stuck = client.query(query, &[]).unwrap().len();
        assert!(stuck <= 8, "{stuck} backends wait");
        refused.load(Ordering::Relaxed) == 48 || writers.iter().any(thread::JoinHandle::is_finished)
    });
    for writer in writers {
        writer.join().unwrap();
    }
    server.configure("synchronous_standby_names", "");
    service.save("ada", date(1900, 1, 1));
    service.greets("ada", date(1900, 1, 1));
}
