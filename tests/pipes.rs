//! Pipes and sockets of the service's own that nobody reads: they hold nothing up.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use jiff::civil::date;
use rustix::process::Signal;
use serde_json::Value;
use support::http::Connection;
use support::postgres::{Server, free_port};
use support::service::{BINARY, Launch};
use support::{process, until};

/// A pipe that is full, and that nobody reads yet.
struct FullPipe {
    path: PathBuf,
    end: File,
}

impl FullPipe {
    fn new(directory: &Path) -> Self {
        let path = directory.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let mut end = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(&path).unwrap();
        while end.write(b" ").is_ok() {}
        Self { path, end }
    }

    /// A command that starts the service with this pipe as descriptor `number`.
    fn instead_of(&self, number: u32) -> Command {
        let mut command = process::command("sh");
        command.args(["-c", &format!("exec \"$0\" {number}>\"$1\""), BINARY]).arg(&self.path);
        command
    }

    /// Everything that is in the pipe.
    fn read(&mut self) -> String {
        let mut text = Vec::new();
        let error = self.end.read_to_end(&mut text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        String::from_utf8(text).unwrap()
    }
}

/// Starts the service by `command` on ports that are known without its help.
fn start(launch: &Launch, mut command: Command) -> (Child, Connection) {
    let address = format!("127.0.0.1:{}", free_port());
    launch.prepare(&mut command);
    command.env("DOB_API_LISTEN", &address);
    let child = process::spawn(command);
    let address = address.parse().unwrap();
    until("it listens", || Connection::try_open(address).is_ok());
    (child, Connection::open(address))
}

#[test]
fn a_log_that_is_not_read_delays_neither_requests_nor_the_exit() {
    let mut server = Server::start();
    let launch = Launch::postgres(server.url("postgres")).set("RUST_LOG", "trace").set("DOB_API_THREADS", "2");
    let launch = launch.set("DOB_API_READ_PATIENCE", "1s").set("DOB_API_DRAIN_DELAY", "0ms");
    let mut pipe = FullPipe::new(launch.data());
    let command = pipe.instead_of(2);
    let mut service = launch.bind_as(command);
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
    server.stop();
    service.get("/hello/ada").problem(503);
    server.resume();
    until("the database is used again", || service.get("/hello/ada").status == 200);
    assert_eq!(service.admin("/ready").status, 200);
    // What waited is not lost, now that somebody reads.
    let mut log = String::new();
    until("the log is read", || {
        log += pipe.read().trim_start();
        log.contains("connected to the primary")
    });
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    }
    assert!(log.contains("\"serving\""), "{log}");
    assert_eq!(service.metrics().sum("dob_api_log_lines_dropped_total", &[]), 0);
    while pipe.end.write(b" ").is_ok() {}
    service.signal(Signal::TERM);
    assert!(service.wait().success());
}

#[test]
fn log_lines_that_go_nowhere_are_counted() {
    let mut command = process::command("sh");
    command.args(["-c", "exec \"$0\" 2>/dev/full", BINARY]);
    let mut service = Launch::embedded().bind_as(command);
    until("they are counted", || service.metrics().sum("dob_api_log_lines_dropped_total", &[]) >= 1);
    service.signal(Signal::TERM);
    assert!(service.wait().success());
}

#[test]
fn closed_outputs_hold_up_nothing() {
    let launch = Launch::embedded().set("DOB_API_DRAIN_DELAY", "0ms");
    let mut command = process::command("sh");
    command.args(["-c", "exec \"$0\" <&- >&- 2>&-", BINARY]);
    let (mut child, mut connection) = start(&launch, command);
    assert_eq!(connection.get("/healthz").status, 200);
    process::signal(child.id(), Signal::TERM);
    assert!(process::wait(&mut child).success());
}

#[test]
fn an_announcement_that_is_not_read_delays_nothing() {
    let launch = Launch::embedded().set("DOB_API_DRAIN_DELAY", "0ms");
    let mut pipe = FullPipe::new(launch.data());
    let (mut child, mut connection) = start(&launch, pipe.instead_of(1));
    assert_eq!(connection.get("/healthz").status, 200);
    let mut announced = String::new();
    until("it is announced", || {
        announced += pipe.read().trim_start();
        announced.contains("admin listening on http://")
    });
    process::signal(child.id(), Signal::TERM);
    assert!(process::wait(&mut child).success());
}

#[test]
fn a_start_that_fails_exits_although_its_output_is_not_read() {
    for (setting, value, code) in [("DOB_API_THREADS", "many", 64), ("DOB_API_DATA_DIR", "/proc/dob-api", 1)] {
        let launch = Launch::embedded().set(setting, value);
        let pipe = FullPipe::new(launch.data());
        let mut command = pipe.instead_of(2);
        launch.prepare(&mut command);
        assert_eq!(process::wait(&mut process::spawn(command)).code(), Some(code), "{setting}");
    }
}

#[test]
fn a_service_manager_that_does_not_read_holds_up_nothing_and_learns_of_the_start_later() {
    let launch = Launch::embedded().set("DOB_API_DRAIN_DELAY", "0ms").set("WATCHDOG_USEC", "30000");
    let path = launch.data().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"EARLIER=1", &path).is_ok() {}
    let mut service = launch.set("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    service.save("ada", date(1815, 12, 10));
    manager.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut message = [0; 64];
    until("the service says that it is ready", || {
        let length = manager.recv(&mut message).unwrap();
        &message[..length] == b"READY=1"
    });
    while other.send_to(b"EARLIER=1", &path).is_ok() {}
    service.signal(Signal::TERM);
    assert!(service.wait().success());
}
