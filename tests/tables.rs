//! Tables and roles that do not suit the service: it says what is missing, once, and serves as soon as that is fixed.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::thread;

use jiff::civil::date;
use support::calendar::body;
use support::database::Database;
use support::role::Role;
use support::service::{Launch, Service};
use support::until;

/// The table as it should be, of the superuser.
const TABLE: &str = "CREATE TABLE users (username text COLLATE \"C\" PRIMARY KEY, date_of_birth date NOT NULL);";

/// Starts a service that can do nothing with its database. It is not healthy, and says why in one line with these words.
fn refuses(launch: Launch, words: &[&str]) -> Service {
    let service = launch.set("DOB_API_READ_PATIENCE", "1s").set("DOB_API_WRITE_PATIENCE", "1s").bind();
    until("the service says something or is healthy", || service.complains() || service.health() == 200);
    service.get("/healthz").problem(503);
    let failures = || service.metrics().sum("dob_api_store_errors_total", &[("kind", "connect")]);
    let before = failures();
    until("the service has tried again and again", || failures() >= before + 5);
    service.get("/hello/ada").problem(503);
    service.put("/hello/ada", &body(date(1815, 12, 10))).problem(503);
    service.get("/healthz").problem(503);
    let complaints = service.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    for word in words {
        assert!(complaints[0].contains(word), "'{word}' is missing: {complaints:#?}");
    }
    service
}

/// The same service serves once the fault is fixed.
fn serves(service: &Service) {
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
}

#[test]
fn a_privilege_that_is_missing_is_named_until_it_is_granted() {
    let cases = [
        ("INSERT, UPDATE", "SELECT"),
        ("SELECT, UPDATE", "INSERT"),
        ("SELECT, INSERT", "UPDATE"),
        // A privilege on a column is not one on the table.
        ("SELECT (username), INSERT, UPDATE", "SELECT"),
    ];
    // All at once: what each waits for is the next attempt.
    let cases = cases.map(|(granted, missing)| thread::spawn(move || privilege(granted, missing)));
    for case in cases {
        case.join().unwrap();
    }
}

fn privilege(granted: &str, missing: &str) {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange(TABLE);
    role.arrange(&format!("GRANT {granted} ON users TO APP"));
    let service = refuses(Launch::postgres(role.url()), &[missing, "users"]);
    role.arrange(&format!("GRANT {missing} ON users TO APP"));
    serves(&service);
}

#[test]
fn privileges_on_the_columns_are_enough() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange(TABLE);
    role.arrange("GRANT SELECT (username, date_of_birth), INSERT (username, date_of_birth) ON users TO APP");
    role.arrange("GRANT UPDATE (date_of_birth) ON users TO APP");
    serves(&Launch::postgres(role.url()).start());
}

#[test]
fn a_schema_that_may_not_be_used_is_named_until_it_may() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange(TABLE);
    role.arrange("GRANT SELECT, INSERT, UPDATE ON users TO APP; REVOKE ALL ON SCHEMA public FROM PUBLIC");
    let service = refuses(Launch::postgres(role.url()), &["USAGE", "public"]);
    role.arrange("GRANT USAGE ON SCHEMA public TO APP");
    serves(&service);
}

#[test]
fn a_table_that_may_not_be_made_is_waited_for() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    let service = refuses(Launch::postgres(role.url()), &["users"]);
    role.arrange(TABLE);
    role.arrange("GRANT SELECT, INSERT, UPDATE ON users TO APP");
    serves(&service);
}

/// Tables by the name `users` that are not the service's, what the line about each names, and what makes it right.
const STRANGERS: [(&str, &str, &str); 6] = [
    (
        "CREATE TABLE users (id serial PRIMARY KEY, email text)",
        "username",
        "DROP TABLE users; CREATE TABLE users (username text COLLATE \"C\" PRIMARY KEY, date_of_birth date NOT NULL)",
    ),
    (
        "CREATE TABLE users (username text PRIMARY KEY)",
        "date_of_birth",
        "ALTER TABLE users ADD date_of_birth date NOT NULL",
    ),
    (
        "CREATE TABLE users (username text PRIMARY KEY, date_of_birth text)",
        "date_of_birth",
        "ALTER TABLE users ALTER date_of_birth TYPE date USING NULL",
    ),
    (
        "CREATE TABLE users (username text PRIMARY KEY, date_of_birth timestamptz)",
        "date_of_birth",
        "ALTER TABLE users ALTER date_of_birth TYPE date USING NULL",
    ),
    (
        "CREATE TABLE users (username int PRIMARY KEY, date_of_birth date)",
        "username",
        "ALTER TABLE users ALTER username TYPE text USING NULL",
    ),
    (
        "CREATE TABLE users (username text, date_of_birth date)",
        "username",
        "ALTER TABLE users ADD PRIMARY KEY (username)",
    ),
];

#[test]
fn a_table_of_somebody_else_is_told_once_and_waited_for() {
    let cases = STRANGERS.map(|case| thread::spawn(move || stranger(case)));
    for case in cases {
        case.join().unwrap();
    }
}

fn stranger((table, word, remedy): (&str, &str, &str)) {
    let database = Database::new();
    database.client().batch_execute(table).unwrap();
    let service = refuses(Launch::postgres(database.url()), &["users", word]);
    database.client().batch_execute(remedy).unwrap();
    serves(&service);
}

#[test]
fn a_table_that_is_right_but_for_what_the_service_does_not_need_is_used() {
    let tables = [
        "CREATE TABLE users (username varchar(200) PRIMARY KEY, date_of_birth date, noted timestamptz DEFAULT now())",
        "CREATE TABLE users (username text COLLATE \"C\", date_of_birth date); CREATE UNIQUE INDEX ON users (username)",
    ];
    for table in tables {
        let database = Database::new();
        database.client().batch_execute(table).unwrap();
        serves(&Launch::postgres(database.url()).start());
    }
}
