//! What a person on call can see, and what nobody may see.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::process::Stdio;

use jiff::civil::date;
use serde_json::Value;
use support::calendar::body;
use support::database::Database;
use support::postgres::{Server, free_port};
use support::process::{self, Output};
use support::service::{BINARY, Launch, Service};
use support::until;

const REQUESTS: &str = "dob_api_http_requests_total";
const PLANTED_NAME: &str = "Xanthippequux";
const PLANTED_DATE: &str = "1734-07-21";

#[test]
fn requests_are_counted_by_route_method_and_status() {
    let service = Launch::embedded().start();
    for _ in 0..3 {
        service.save("ada", date(1815, 12, 10));
    }
    service.greets("ada", date(1815, 12, 10));
    service.get("/hello/nobody").problem(404);
    service.put("/hello/ada", "nonsense").problem(400);
    service.connect().request("DELETE", "/hello/ada", "").problem(405);
    service.connect().request("BREW", "/hello/ada", "").problem(405);
    service.connect().request("HEAD", "/openapi.json", "");
    service.get("/nowhere").problem(404);
    let metrics = service.metrics();
    let counted = [
        ("hello", "PUT", "204", 3),
        ("hello", "GET", "200", 1),
        ("hello", "GET", "404", 1),
        ("hello", "PUT", "400", 1),
        ("hello", "other", "405", 2),
        ("openapi", "HEAD", "200", 1),
        ("unknown", "GET", "404", 1),
    ];
    for (route, method, status, count) in counted {
        let labels = [("route", route), ("method", method), ("status", status)];
        assert_eq!(metrics.sum(REQUESTS, &labels), count, "{labels:?} in {}", metrics.0);
    }
    assert!(metrics.sum(REQUESTS, &[("route", "healthz"), ("status", "200")]) >= 1);
    assert!(!metrics.0.contains("BREW"), "a client can make up labels");
}

#[test]
fn the_latency_of_each_request_is_in_a_histogram() {
    let service = Launch::embedded().start();
    for _ in 0..5 {
        service.save("ada", date(1815, 12, 10));
    }
    let metrics = service.metrics();
    let name = |suffix| format!("dob_api_http_request_duration_seconds_{suffix}");
    let hello = [("route", "hello")];
    assert_eq!(metrics.sum(&name("count"), &hello), 5);
    assert_eq!(metrics.sum(&name("bucket"), &[("route", "hello"), ("le", "+Inf")]), 5);
    assert!(metrics.has(&name("sum"), &hello));
}

#[test]
fn the_state_of_the_store_is_measured() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).start();
    service.save("ada", date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
    let metrics = service.metrics();
    for operation in ["read", "write"] {
        let labels = [("operation", operation)];
        assert_eq!(metrics.sum("dob_api_store_batch_size_count", &labels), 1);
        assert_eq!(metrics.sum("dob_api_store_queue_depth", &labels), 0);
        assert!(metrics.has("dob_api_store_queue_depth", &labels));
        let connections = metrics.sum("dob_api_database_connections", &[("operation", operation), ("role", "primary")]);
        assert!(connections >= 1, "{}", metrics.0);
    }
    let host = format!("127.0.0.1:{}", database.server.port);
    assert_eq!(metrics.sum("dob_api_database_primary", &[("host", &host)]), 1, "{}", metrics.0);
}

#[test]
fn the_build_and_the_connections_are_known() {
    let service = Launch::embedded().start();
    let mut held = service.connections(3);
    for connection in &mut held {
        assert_eq!(connection.get("/healthz").status, 200);
    }
    let metrics = service.metrics();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(metrics.sum("dob_api_build_info", &version), 1);
    assert!(metrics.sum("dob_api_http_connections", &[]) >= 3);
    drop(held);
    until("they are gone", || service.metrics().sum("dob_api_http_connections", &[]) == 0);
}

#[test]
fn errors_of_the_store_are_counted_by_kind() {
    let mut server = Server::start();
    let service = Launch::postgres(server.url("postgres")).set("DOB_API_READ_PATIENCE", "1s").start();
    server.stop();
    service.get("/hello/ada").problem(503);
    let metrics = service.metrics();
    let errors: Vec<_> = metrics.0.lines().filter(|line| line.starts_with("dob_api_store_errors_total{")).collect();
    assert!(errors.iter().any(|line| line.contains("kind=\"")), "{}", metrics.0);
    let primary = metrics.sum("dob_api_database_primary", &[]);
    assert_eq!(primary, 0, "there is no primary: {}", metrics.0);
}

#[test]
fn the_admin_listener_tells_live_from_ready() {
    let mut server = Server::start();
    let service = Launch::postgres(server.url("postgres")).start();
    assert_eq!(service.admin("/live").status, 200);
    assert_eq!(service.admin("/ready").status, 200);
    server.stop();
    until("it is not ready", || service.admin("/ready").status == 503);
    assert_eq!(service.admin("/live").status, 200);
    assert_eq!(service.health(), 200, "the balancer keeps the host");
    server.resume();
    until("it is ready again", || service.admin("/ready").status == 200);
}

#[test]
fn a_service_that_drains_is_live_and_not_ready() {
    let service = Launch::embedded().set("DOB_API_DRAIN_DELAY", "1h").start();
    assert_eq!(service.admin("/ready").status, 200);
    service.signal(rustix::process::Signal::TERM);
    until("it is not ready", || service.admin("/ready").status == 503);
    assert_eq!(service.admin("/live").status, 200);
}

#[test]
fn the_admin_listener_serves_nothing_else() {
    let service = Launch::embedded().start();
    for path in ["/", "/hello/ada", "/healthz", "/metrics/x"] {
        assert_eq!(service.admin(path).status, 404, "{path}");
    }
    assert_eq!(service.admin_request("POST", "/metrics").status, 405);
}

/// The lines of the log, each of which must be a JSON document of its own.
fn log_lines(service: &Service) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    service.log().lines().map(parse).collect()
}

#[test]
fn a_fault_is_one_line_of_json_with_its_causes() {
    let service = Launch::postgres(format!("postgres://app@127.0.0.1:{}/x", free_port())).bind();
    until("the service complains", || service.complains());
    let lines = log_lines(&service);
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {line}");
        }
    }
    let complaint = lines.iter().find(|line| line["level"] == "ERROR").expect("an error");
    let causes = complaint["error"].as_str().expect("an error");
    assert!(causes.contains(": "), "no chain of causes: {complaint}");
    assert!(causes.contains("refused"), "{complaint}");
}

#[test]
fn on_a_terminal_the_log_is_readable() {
    let mut command = process::command("script");
    // `script` gives its command a terminal; what is meant for users stays out of it.
    command
        .args(["--quiet", "--command", &format!("exec {BINARY} >/dev/null"), "/dev/null"])
        .env("DOB_API_LISTEN", "127.0.0.1:0")
        .env("DOB_API_ADMIN_LISTEN", "127.0.0.1:0")
        .env("DATABASE_URL", format!("postgres://app@127.0.0.1:{}/x", free_port()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = process::spawn(command);
    let terminal = Output::of(child.stdout.take().unwrap());
    until("the service complains", || terminal.text().contains("ERROR"));
    assert!(!terminal.text().contains('{'), "{}", terminal.text());
    for service in process::children(child.id()) {
        process::signal(service, rustix::process::Signal::KILL);
    }
    process::wait(&mut child);
}

fn tells_nothing_personal(service: &Service) {
    for text in [service.log(), service.metrics().0] {
        let text = text.to_lowercase();
        assert!(!text.contains(&PLANTED_NAME.to_lowercase()), "{text}");
        assert!(!text.contains(PLANTED_DATE), "{text}");
    }
}

#[test]
fn names_and_dates_appear_neither_in_logs_nor_in_metrics() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).set("DOB_API_WRITE_PATIENCE", "3s").set("RUST_LOG", "trace").start();
    let path = format!("/hello/{PLANTED_NAME}");
    let body = format!(r#"{{"dateOfBirth":"{PLANTED_DATE}"}}"#);
    assert_eq!(service.put(&path, &body).status, 204);
    service.get(&path).message();
    service.get(&format!("{path}/x")).problem(404);
    service.get(&format!("/{PLANTED_NAME}")).problem(404);
    service.put(&path, &format!("{body}x")).problem(400);
    tells_nothing_personal(&service);
    // The database's own report of a refused row repeats the row.
    database.client().batch_execute("ALTER TABLE users ADD CHECK (date_of_birth < '1700-01-01') NOT VALID").unwrap();
    service.put(&path, &body).problem(503);
    until("the refusal is logged", || service.complains());
    tells_nothing_personal(&service);
}

#[test]
fn recovery_from_a_fault_is_told_too() {
    let mut server = Server::start();
    let service = Launch::postgres(server.url("postgres")).start();
    let lines = || service.log().lines().count();
    server.stop();
    until("the service complains", || {
        let _ = service.connect().try_request("PUT", "/hello/ada", &body(date(1815, 12, 10)));
        service.complains()
    });
    let before = lines();
    server.resume();
    service.save("ada", date(1815, 12, 10));
    until("the recovery is told", || lines() > before);
}
