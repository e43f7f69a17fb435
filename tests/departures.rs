//! Clients that leave before their answer: nothing is kept for them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use jiff::civil::date;
use rustix::process::Signal;
use support::calendar::body;
use support::http::{Connection, request};
use support::postgres::Server;
use support::service::{Launch, Service};
use support::until;

/// Longer than any test: what waits for it does not happen.
const NEVER: &str = "1h";

/// A service whose requests wait for as long as the database is frozen.
fn patient(server: &Server) -> Launch {
    Launch::postgres(server.url("postgres")).set("DOB_API_READ_PATIENCE", NEVER).set("DOB_API_WRITE_PATIENCE", NEVER)
}

fn abandoned(service: &Service) -> u64 {
    service.metrics().sum("dob_api_http_requests_abandoned_total", &[])
}

fn nobody_is_connected(service: &Service) {
    until("no connection is left", || service.metrics().sum("dob_api_http_connections", &[]) == 0);
}

/// How many requests were handed to the store.
fn handed_over(service: &Service) -> u64 {
    let metrics = service.metrics();
    metrics.sum("dob_api_store_batch_size_sum", &[]) + metrics.sum("dob_api_store_queue_depth", &[])
}

/// Asks by `bytes` on a connection of its own, and returns it once the request waits for the store.
fn wait_by(service: &Service, bytes: &str) -> Connection {
    let before = handed_over(service);
    let mut connection = service.connect();
    connection.send(bytes);
    until("the request waits for the store", || handed_over(service) > before);
    connection
}

/// Ends a connection by a reset, as the kernel does for a client that dies with unread bytes.
fn reset(connection: Connection) {
    rustix::net::sockopt::set_socket_linger(connection.stream(), Some(Duration::ZERO)).unwrap();
    drop(connection);
}

/// Sends a request, leaves, and waits until the service has given the request up, with the database frozen all the time.
fn a_request_ends_with_its_client(bytes: &str, leave: impl Fn(Connection)) {
    let server = Server::start();
    let service = patient(&server).start();
    let frozen = server.freeze();
    for count in 1..=3 {
        leave(wait_by(&service, bytes));
        until("the request is given up", || abandoned(&service) == count);
        nobody_is_connected(&service);
    }
    drop(frozen);
    service.save("ada", date(1815, 12, 10));
    assert_eq!(abandoned(&service), 3);
}

#[test]
fn a_write_ends_with_its_client() {
    a_request_ends_with_its_client(&request("PUT", "/hello/gone", &body(date(1815, 12, 10))), drop);
}

#[test]
fn a_read_ends_with_its_client() {
    a_request_ends_with_its_client(&request("GET", "/hello/gone", ""), drop);
}

#[test]
fn a_write_ends_with_a_client_that_resets_its_connection() {
    a_request_ends_with_its_client(&request("PUT", "/hello/gone", &body(date(1815, 12, 10))), reset);
}

#[test]
fn a_read_ends_with_a_client_that_resets_its_connection() {
    a_request_ends_with_its_client(&request("GET", "/hello/gone", ""), reset);
}

#[test]
fn a_request_ends_with_a_client_that_has_sent_more_than_is_read() {
    // More than the service buffers (16 KiB), so the end stands behind bytes that nobody has read; and less than the service and the
    // kernel together: if a client sent more, its end stays in its own kernel.
    let one = request("GET", "/hello/gone", "");
    let requests = one.repeat(24 * 1024 / one.len());
    a_request_ends_with_its_client(&requests, drop);
}

#[test]
fn a_request_ends_with_a_client_that_resets_behind_more_than_the_kernel_takes() {
    let one = request("GET", "/hello/gone", "");
    a_request_ends_with_its_client(&one, |connection| {
        let mut stream = connection.stream();
        stream.set_nonblocking(true).unwrap();
        let requests = one.repeat(1000);
        let full = std::iter::repeat_with(|| stream.write(requests.as_bytes())).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        reset(connection);
    });
}

#[test]
fn a_client_that_only_ends_its_half_is_told_to_keep_the_connection_open() {
    let server = Server::start();
    let service = patient(&server).start();
    let _frozen = server.freeze();
    for bytes in [request("PUT", "/hello/ada", &body(date(1815, 12, 10))), request("GET", "/hello/ada", "")] {
        let mut connection = wait_by(&service, &bytes);
        connection.finish();
        let response = connection.receive();
        assert!(response.problem(503).contains("keep it open until then"), "{response:?}");
        assert!(response.closes() && connection.is_closed(), "{response:?}");
    }
    assert_eq!(abandoned(&service), 2);
}

#[test]
fn a_client_that_waits_is_not_disturbed_by_one_that_leaves() {
    let server = Server::start();
    let service = patient(&server).start();
    let frozen = server.freeze();
    let put = |name: &str| request("PUT", &format!("/hello/{name}"), &body(date(1815, 12, 10)));
    let mut waiting = wait_by(&service, &put("ada"));
    drop(wait_by(&service, &put("gone")));
    until("one request is given up", || abandoned(&service) == 1);
    drop(frozen);
    assert_eq!(waiting.receive().status, 204);
    service.greets("ada", date(1815, 12, 10));
    assert_eq!(abandoned(&service), 1);
}

#[test]
fn a_client_that_leaves_within_its_body_leaves_nothing_behind() {
    let service = Launch::embedded().set("DOB_API_BODY_TIMEOUT", NEVER).start();
    let head = "PUT /hello/ada HTTP/1.1\r\nHost: a\r\n";
    let endings = ["Content-Length: 900\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{"];
    for leave in [drop, reset] {
        for ending in endings {
            let mut connection = service.connect();
            connection.send(format!("{head}Expect: 100-continue\r\n{ending}"));
            assert_eq!(connection.receive().status, 100, "the body is waited for");
            leave(connection);
        }
    }
    nobody_is_connected(&service);
    service.get("/hello/ada").problem(404);
}

#[test]
fn a_drain_does_not_wait_for_clients_that_left() {
    let server = Server::start();
    let mut service = patient(&server).set("DOB_API_DRAIN_DELAY", "0ms").set("DOB_API_DRAIN_TIMEOUT", NEVER).start();
    let _frozen = server.freeze();
    let put = request("PUT", "/hello/gone", &body(date(1815, 12, 10)));
    let leaving = [wait_by(&service, &put), wait_by(&service, &request("GET", "/hello/gone", ""))];
    service.signal(Signal::TERM);
    until("the listener is closed", || Connection::try_open(service.address).is_err());
    assert!(service.is_running());
    drop(leaving);
    assert!(service.wait().success());
}
