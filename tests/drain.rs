//! The end of the service, and how systemd is told of it and of the start.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use jiff::civil::date;
use rustix::process::Signal;
use support::calendar::{body, greeting};
use support::database::Database;
use support::http::Connection;
use support::postgres::free_port;
use support::service::{BINARY, Launch, Service};
use support::{PATIENCE, process, until};

/// Longer than any test: what waits for it does not happen.
const NEVER: &str = "1h";

fn refuses_connections(service: &Service) {
    until("the listener is closed", || Connection::try_open(service.address).is_err());
}

/// A write whose body of 28 bytes is asked for and not sent yet.
fn unfinished(service: &Service) -> Connection {
    let mut connection = service.connect();
    connection.send("PUT /hello/ada HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 28\r\n\r\n");
    assert_eq!(connection.receive().status, 100);
    connection
}

/// Sends a write that waits for `lock`, and returns once it does.
fn ask_behind_lock(service: &Service, client: &mut postgres::Client) -> Connection {
    let mut connection = service.connect();
    connection.ask("PUT", "/hello/ada", &body(date(1815, 12, 10)));
    until("the write waits for the lock", || {
        let query = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        !client.query(query, &[]).unwrap().is_empty()
    });
    connection
}

#[test]
fn requests_are_served_and_connections_closed_during_the_drain_delay() {
    let mut service = Launch::embedded().set("DOB_API_DRAIN_DELAY", NEVER).start();
    service.save("ada", date(1815, 12, 10));
    let mut kept = service.connections(3);
    for connection in &mut kept {
        assert!(!connection.get("/hello/ada").closes());
    }
    service.signal(Signal::TERM);
    service.await_health(503);
    for connection in &mut kept {
        let response = connection.get("/hello/ada");
        assert_eq!(response.message(), greeting("ada", date(1815, 12, 10)));
        assert!(response.closes(), "{response:?}");
        assert!(connection.is_closed());
    }
    let mut fresh = service.connect();
    let response = fresh.put("/hello/bob", &body(date(1815, 12, 10)));
    assert_eq!(response.status, 204);
    assert!(response.closes(), "{response:?}");
    assert!(service.is_running());
}

#[test]
fn an_interrupt_ends_the_drain_at_once() {
    for first in [Signal::TERM, Signal::INT] {
        let mut service =
            Launch::embedded().set("DOB_API_DRAIN_TIMEOUT", NEVER).set("DOB_API_DRAIN_DELAY", NEVER).start();
        let mut slow = unfinished(&service);
        service.signal(first);
        until("the drain begins", || service.log().contains("draining"));
        service.signal(Signal::INT);
        assert!(!service.wait().success());
        assert!(slow.is_closed());
    }
}

#[test]
fn several_sigterms_are_one() {
    let mut service = Launch::embedded().set("DOB_API_DRAIN_DELAY", "0ms").set("DOB_API_DRAIN_TIMEOUT", NEVER).start();
    let mut slow = unfinished(&service);
    for _ in 0..3 {
        service.signal(Signal::TERM);
        refuses_connections(&service);
    }
    slow.send(r#"{"dateOfBirth":"1815-12-10"}"#);
    assert_eq!(slow.receive().status, 204);
    assert!(service.wait().success());
}

#[test]
fn an_interrupt_ends_without_the_drain_delay() {
    let mut service = Launch::embedded().set("DOB_API_DRAIN_DELAY", NEVER).start();
    service.signal(Signal::INT);
    assert!(service.wait().success());
}

#[test]
fn the_drain_ends_by_itself_after_the_delay() {
    let mut service = Launch::embedded().set("DOB_API_DRAIN_DELAY", "100ms").start();
    service.signal(Signal::TERM);
    assert!(service.wait().success());
}

#[test]
fn idle_connections_do_not_hold_the_drain_up() {
    let mut service = Launch::embedded().set("DOB_API_DRAIN_DELAY", "0ms").set("DOB_API_DRAIN_TIMEOUT", NEVER).start();
    let mut used = service.connect();
    assert_eq!(used.get("/healthz").status, 200);
    let mut unused = service.connect();
    service.signal(Signal::TERM);
    assert!(service.wait().success());
    assert!(used.is_closed());
    assert!(unused.is_closed());
}

#[test]
fn a_head_of_which_half_was_sent_before_the_end_is_answered() {
    let mut service = Launch::embedded().set("DOB_API_DRAIN_DELAY", "0ms").start();
    service.save("ada", date(1815, 12, 10));
    let (mut fresh, mut used) = (service.connect(), service.connect());
    assert_eq!(used.get("/hello/ada").status, 200);
    for connection in [&mut fresh, &mut used] {
        connection.send("GET /hello/ada HTTP/1.1\r\nHost:");
    }
    service.signal(Signal::TERM);
    refuses_connections(&service);
    for connection in [&mut fresh, &mut used] {
        connection.send(" a\r\n\r\n");
        let response = connection.receive();
        assert_eq!(response.message(), greeting("ada", date(1815, 12, 10)));
        assert!(response.closes() && connection.is_closed(), "{response:?}");
    }
    assert!(service.wait().success());
}

#[test]
fn a_write_in_flight_is_finished_after_the_listener_is_closed() {
    let database = Database::new();
    let mut service = Launch::postgres(database.url()).set("DOB_API_DRAIN_DELAY", "0ms").start();
    let (mut client, mut watcher) = (database.client(), database.client());
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("LOCK TABLE users IN EXCLUSIVE MODE").unwrap();
    let mut writer = ask_behind_lock(&service, &mut watcher);
    service.signal(Signal::TERM);
    refuses_connections(&service);
    lock.rollback().unwrap();
    let response = writer.receive();
    assert_eq!(response.status, 204);
    assert!(response.closes(), "{response:?}");
    assert!(service.wait().success());
    let query = "SELECT FROM users WHERE username = 'ada'";
    assert_eq!(database.client().query(query, &[]).unwrap().len(), 1);
}

#[test]
fn an_interrupt_does_not_wait_for_a_write_in_flight() {
    let database = Database::new();
    let mut service = Launch::postgres(database.url())
        .set("DOB_API_DRAIN_DELAY", "0ms")
        .set("DOB_API_DRAIN_TIMEOUT", NEVER)
        .set("DOB_API_WRITE_PATIENCE", NEVER)
        .start();
    let (mut client, mut watcher) = (database.client(), database.client());
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("LOCK TABLE users IN EXCLUSIVE MODE").unwrap();
    let mut writer = ask_behind_lock(&service, &mut watcher);
    service.signal(Signal::TERM);
    refuses_connections(&service);
    assert!(service.is_running());
    service.signal(Signal::INT);
    assert!(!service.wait().success());
    assert!(writer.is_closed(), "nothing is acknowledged");
}

#[test]
fn the_drain_timeout_ends_what_does_not_end_by_itself() {
    let mut service = Launch::embedded()
        .set("DOB_API_DRAIN_DELAY", "0ms")
        .set("DOB_API_DRAIN_TIMEOUT", "1s")
        .set("DOB_API_BODY_TIMEOUT", NEVER)
        .start();
    let mut slow = unfinished(&service);
    service.signal(Signal::TERM);
    service.wait();
    assert!(slow.is_closed());
}

/// The messages that the service sends to systemd.
struct Notifications(UnixDatagram);

impl Notifications {
    fn of(launch: Launch) -> (Self, Launch) {
        let path = launch.data().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self(socket), launch.set("NOTIFY_SOCKET", path.to_str().unwrap()))
    }

    /// Waits for a message that contains the line `wanted`.
    fn expect(&self, wanted: &str) {
        let mut message = [0; 4096];
        loop {
            let length = self.0.recv(&mut message).unwrap_or_else(|_| panic!("{wanted} never came"));
            let message = std::str::from_utf8(&message[..length]).unwrap();
            if message.lines().any(|line| line == wanted) {
                return;
            }
            assert!(wanted == "STOPPING=1" || !message.contains("STOPPING=1"), "{message}");
        }
    }
}

#[test]
fn systemd_is_told_of_start_life_and_end() {
    let (notifications, launch) = Notifications::of(Launch::embedded());
    let mut service = launch.set("WATCHDOG_USEC", "200000").set("DOB_API_DRAIN_DELAY", "100ms").start();
    notifications.expect("READY=1");
    for _ in 0..3 {
        notifications.expect("WATCHDOG=1");
    }
    service.signal(Signal::TERM);
    notifications.expect("STOPPING=1");
    assert!(service.wait().success());
}

#[test]
fn the_start_does_not_wait_for_the_database() {
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", free_port());
    let (notifications, launch) = Notifications::of(Launch::postgres(url));
    let service = launch.bind();
    notifications.expect("READY=1");
    assert_eq!(service.health(), 503);
}

#[test]
fn the_watchdog_is_fed_only_if_it_was_requested() {
    let (notifications, launch) = Notifications::of(Launch::embedded());
    let mut service = launch.set("DOB_API_DRAIN_DELAY", "0ms").start();
    notifications.expect("READY=1");
    service.signal(Signal::TERM);
    assert!(service.wait().success());
    notifications.0.set_nonblocking(true).unwrap();
    let mut message = [0; 4096];
    while let Ok(length) = notifications.0.recv(&mut message) {
        assert!(!String::from_utf8_lossy(&message[..length]).contains("WATCHDOG"));
    }
}

/// Starts the service on a listener that it inherits, as from a socket unit.
fn inherit(launch: Launch, listener: &TcpListener) -> Service {
    let mut command = process::command("sh");
    command
        .args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" 3<&0 </dev/null", BINARY])
        .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
    launch.bind_as(command)
}

#[test]
fn an_inherited_socket_is_served_and_outlives_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let launch =
        || Launch::embedded().set("DOB_API_DATA_DIR", data.path().to_str().unwrap()).set("DOB_API_DRAIN_DELAY", "0ms");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut first = inherit(launch(), &listener);
    assert_eq!(first.address, listener.local_addr().unwrap());
    first.save("ada", date(1815, 12, 10));
    first.signal(Signal::TERM);
    assert!(first.wait().success());
    // Nobody serves now, and nobody is refused.
    let mut early = first.connect();
    early.ask("GET", "/hello/ada", "");
    let _second = inherit(launch(), &listener);
    assert_eq!(early.receive().message(), greeting("ada", date(1815, 12, 10)));
}
