//! Users on whom a statement fails: the failure is theirs, and their neighbours do not notice.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::sync::Arc;

use jiff::civil::date;
use support::calendar::{self, body};
use support::database::Database;
use support::load::{Ledger, Load, Unanswered};
use support::postgres::Server;
use support::role::Role;
use support::service::{Launch, Service};
use support::until;

/// Dates that PostgreSQL can hold and the API cannot.
const IMPOSSIBLE: [(&str, &str); 5] = [
    ("xerxes", "infinity"),
    ("ymir", "-infinity"),
    ("zeus", "5874897-12-31"),
    ("odin", "4713-01-01 BC"),
    ("loki", "10000-01-01"),
];

/// The table as an earlier version made it, without a CHECK.
const TABLE: &str = "
    CREATE TABLE users (username text COLLATE \"C\" PRIMARY KEY, date_of_birth date NOT NULL);
    INSERT INTO users VALUES ('ada', '1815-12-10');";

/// How many GETs, or PUTs, of greetings were answered with `status` so far.
fn answered(service: &Service, method: &str, status: &str) -> u64 {
    let labels = [("route", "hello"), ("method", method), ("status", status)];
    service.metrics().sum("dob_api_http_requests_total", &labels)
}

fn errors(service: &Service, operation: &str) -> u64 {
    service.metrics().sum("dob_api_store_errors_total", &[("operation", operation)])
}

#[test]
fn a_date_outside_the_calendar_fails_only_its_user_and_at_once() {
    let database = Database::new();
    let mut client = database.client();
    client.batch_execute(TABLE).unwrap();
    for (name, date) in IMPOSSIBLE {
        client.execute(&format!("INSERT INTO users VALUES ('{name}', '{date}')"), &[]).unwrap();
    }
    // Longer than the client waits: the answer must not be what patience makes of it.
    let service = Launch::postgres(database.url()).set("DOB_API_READ_PATIENCE", "2m").start();
    let reading = Load::reading(&service, 4, "ada", date(1815, 12, 10));
    until("the neighbour is read", || answered(&service, "GET", "200") >= 100);
    let sessions = database.server.sessions(&database.name);
    for (name, stored) in IMPOSSIBLE {
        let (told, counted) = (service.complaints().len(), errors(&service, "read"));
        for _ in 0..10 {
            service.get(&format!("/hello/{name}")).problem(503);
        }
        assert!(errors(&service, "read") > counted, "{stored} is not counted");
        let complaints = service.complaints();
        assert!(complaints.len() <= told + 2, "{stored} is told again and again: {complaints:#?}");
    }
    let goal = answered(&service, "GET", "200") + 100;
    until("the neighbour is read", || answered(&service, "GET", "200") >= goal);
    reading.stop();
    let left = database.server.sessions(&database.name);
    assert!(sessions.iter().all(|session| left.contains(session)), "lost one of {sessions:?}: {left:?}");
    assert!(service.complains());
    for (name, stored) in IMPOSSIBLE {
        let log = service.log();
        assert!(!log.contains(name) && !log.contains(stored), "'{name}' or '{stored}' is logged: {log}");
        service.save(name, date(1906, 12, 9));
        service.greets(name, date(1906, 12, 9));
    }
}

#[test]
fn a_table_that_the_service_makes_takes_no_date_that_the_api_would_not() {
    let (own, other) = (Database::new(), Database::new());
    let app = format!("postgres://app:secret@127.0.0.1:{}/{}", other.server.port, other.name);
    let launches = [
        (&own, Launch::postgres(own.url())),
        (&other, Launch::postgres(app).set("DOB_API_ADMIN_DATABASE_URL", other.server.url("postgres"))),
    ];
    for (database, launch) in launches {
        drop(launch.start());
        let mut client = database.client();
        for refused in ["infinity", "-infinity", "10000-01-01", "0001-12-31 BC"] {
            let insert = format!("INSERT INTO users VALUES ('ada', '{refused}')");
            let error = client.execute(&insert, &[]).expect_err(refused);
            assert_eq!(error.code().map(postgres::error::SqlState::code), Some("23514"), "{error:?}");
        }
        for taken in ["0001-01-01", "9999-12-31"] {
            client.execute(&format!("INSERT INTO users VALUES ('{taken}', '{taken}')"), &[]).unwrap();
        }
    }
}

/// Makes the table, with a policy that does `fault` to each statement that reads a user whose name begins with "guilty".
fn guard_reads(role: &Role<'_>, fault: &str) {
    role.arrange(TABLE);
    role.arrange(&format!(
        "INSERT INTO users SELECT 'guilty' || letter, '1900-01-01' FROM unnest('{{a,b,c,d,e,f,g,h}}'::text[]) AS letter;
        GRANT SELECT, INSERT, UPDATE ON users TO APP;
        CREATE FUNCTION guard(name text) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN IF name LIKE 'guilty%' THEN {fault}; END IF; RETURN true; END $$;
        ALTER TABLE users ENABLE ROW LEVEL SECURITY;
        CREATE POLICY guard ON users USING (guard(username)) WITH CHECK (true);"
    ));
}

/// Makes the table, with a trigger that does `fault` to each statement that saves such a user.
fn guard_writes(role: &Role<'_>, fault: &str) {
    role.arrange(TABLE);
    role.arrange(&format!(
        "GRANT SELECT, INSERT, UPDATE ON users TO APP;
        CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {fault}; RETURN NEW; END $$;
        CREATE TRIGGER guard BEFORE INSERT ON users
            FOR EACH ROW WHEN (NEW.username LIKE 'guilty%') EXECUTE FUNCTION guard();"
    ));
}

/// Asks for `guilty` users at once, again and again, until `healthy` answers stand beside theirs: each of theirs is 503, no
/// other is.
fn suffers_alone(service: &Service, method: &str, guilty: usize, healthy: u64) {
    let ledger = Arc::new(Ledger::default());
    let (load, status) = match method {
        "GET" => (Load::reading(service, 16, "ada", date(1815, 12, 10)), "200"),
        _ => (Load::writing(service, 16, "w", &ledger, Unanswered::Fails), "204"),
    };
    let sent = if method == "GET" { String::new() } else { body(date(1900, 1, 1)) };
    let mut askers = service.connections(guilty);
    let mut refused = 0;
    until("the neighbours are served", || {
        for (asker, letter) in askers.iter_mut().zip('a'..) {
            asker.ask(method, &format!("/hello/guilty{letter}"), &sent);
        }
        for asker in &mut askers {
            asker.receive().problem(503);
        }
        refused += u64::try_from(guilty).unwrap();
        assert_eq!(answered(service, method, "503"), refused, "a neighbour was refused");
        answered(service, method, status) >= healthy
    });
    load.stop();
    ledger.verify(service);
}

fn raise(code: &str) -> String {
    format!("RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'poisoned'")
}

#[test]
fn a_user_on_whom_reading_raises_an_error_fails_alone() {
    for code in ["P0001", "XX001", "22012", "53200"] {
        let database = Database::new();
        let role = Role::new(&database.server, &database.name);
        guard_reads(&role, &raise(code));
        let service = Launch::postgres(role.url()).set("DOB_API_READ_PATIENCE", "2s").start();
        suffers_alone(&service, "GET", 8, 10_000);
    }
}

#[test]
fn a_user_on_whom_reading_takes_too_long_fails_alone() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    guard_reads(&role, "PERFORM pg_sleep(3)");
    let service = Launch::postgres(role.url()).start();
    suffers_alone(&service, "GET", 1, 1000);
}

#[test]
fn a_user_on_whom_saving_raises_an_error_fails_alone() {
    for code in ["XX001", "53200"] {
        let database = Database::new();
        let role = Role::new(&database.server, &database.name);
        guard_writes(&role, &raise(code));
        let service = Launch::postgres(role.url()).set("DOB_API_WRITE_PATIENCE", "3s").start();
        suffers_alone(&service, "PUT", 8, 1000);
    }
}

#[test]
fn a_user_on_whom_saving_takes_too_long_fails_alone() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    guard_writes(&role, "PERFORM pg_sleep(3)");
    let service = Launch::postgres(role.url()).set("DOB_API_WRITE_PATIENCE", "10s").start();
    suffers_alone(&service, "PUT", 1, 100);
}

const SUICIDE: &str = "PERFORM pg_terminate_backend(pg_backend_pid())";

/// The most connections that a user whose statements end theirs may cost in five seconds.
const RECONNECTS: usize = 20;

/// Sessions of the service that the server has begun so far.
fn begun(server: &Server) -> usize {
    server.log().lines().filter(|line| line.contains("connection authorized") && line.contains("dob-api")).count()
}

fn a_user_who_ends_backends(method: &str, guard: fn(&Role<'_>, &str)) {
    let server = Server::start();
    server.configure("log_connections", "on");
    let role = Role::new(&server, "postgres");
    guard(&role, SUICIDE);
    let service =
        Launch::postgres(role.url()).set("DOB_API_READ_PATIENCE", "5s").set("DOB_API_WRITE_PATIENCE", "5s").start();
    service.save(&calendar::name("w", 0), date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
    let before = begun(&server);
    suffers_alone(&service, method, 1, 20);
    let reconnects = begun(&server) - before;
    assert!(reconnects <= RECONNECTS, "{reconnects} connections");
}

#[test]
fn a_user_on_whom_reading_ends_the_backend_fails_alone_and_reconnects_are_paced() {
    a_user_who_ends_backends("GET", guard_reads);
}

#[test]
fn a_user_on_whom_saving_ends_the_backend_fails_alone_and_reconnects_are_paced() {
    a_user_who_ends_backends("PUT", guard_writes);
}
