//! Requests that wait together go to the store together, and do not suffer for one another.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::sync::Arc;

use jiff::civil::{Date, date};
use postgres::{Client, Transaction};
use support::calendar::{self, body, greeting};
use support::database::Database;
use support::http::Connection;
use support::load::{Ledger, Load, Unanswered};
use support::service::{Launch, Service};
use support::until;

fn start(database: &Database) -> Service {
    Launch::postgres(database.url()).start()
}

/// The number of batches so far, and of the requests in them.
fn batches(service: &Service, operation: &str) -> (u64, u64) {
    let metrics = service.metrics();
    let part = |suffix| metrics.sum(&format!("dob_api_store_batch_size_{suffix}"), &[("operation", operation)]);
    (part("count"), part("sum"))
}

/// The number of writes that wait for a batch.
fn queued(service: &Service) -> u64 {
    service.metrics().sum("dob_api_store_queue_depth", &[("operation", "write")])
}

/// The number of writes that the store was asked for so far.
fn asked(service: &Service) -> u64 {
    let metrics = service.metrics();
    let write = [("operation", "write")];
    metrics.sum("dob_api_store_batch_size_sum", &write) + metrics.sum("dob_api_store_queue_depth", &write)
}

/// Sends a PUT without waiting for its answer.
fn ask(service: &Service, name: &str, born: Date) -> Connection {
    let mut connection = service.connect();
    connection.ask("PUT", &format!("/hello/{name}"), &body(born));
    connection
}

/// Sends a PUT, and returns once it waits in the store.
fn ask_and_wait(service: &Service, name: &str, born: Date) -> Connection {
    let before = asked(service);
    let connection = ask(service, name, born);
    until("the write is in the store", || asked(service) > before);
    connection
}

/// Sends a PUT for each of `count` users.
fn ask_many(service: &Service, prefix: &str, count: u32) -> Vec<Connection> {
    let ask = |index| ask(service, &calendar::name(prefix, index), date(1900, 1, 1));
    (0..count).map(ask).collect()
}

/// Sends PUTs until each lane of the store has one in flight, so that the next ones queue.
/// Only behind [`lock_table`] does this come to an end.
fn occupy_lanes(service: &Service) -> Vec<Connection> {
    let mut connections = Vec::new();
    until("the lanes are occupied", || {
        let name = calendar::name("o", u32::try_from(connections.len()).unwrap());
        connections.push(ask_and_wait(service, &name, date(1900, 1, 1)));
        queued(service) >= 1
    });
    connections
}

/// Locks the whole table against writes until the transaction ends.
fn lock_table(client: &mut Client) -> Transaction<'_> {
    let mut transaction = client.transaction().unwrap();
    transaction.batch_execute("LOCK TABLE users IN EXCLUSIVE MODE").unwrap();
    transaction
}

fn all_succeed(connections: Vec<Connection>) {
    for mut connection in connections {
        let response = connection.receive();
        assert_eq!(response.status, 204, "{response:?}");
    }
}

#[test]
fn a_request_that_comes_alone_is_a_batch_of_one() {
    let database = Database::new();
    let service = start(&database);
    for index in 0..10 {
        let name = calendar::name("alone", index);
        service.save(&name, date(1815, 12, 10));
        service.greets(&name, date(1815, 12, 10));
    }
    assert_eq!(batches(&service, "write"), (10, 10));
    assert_eq!(batches(&service, "read"), (10, 10));
}

#[test]
fn requests_that_come_together_share_batches() {
    let database = Database::new();
    let service = start(&database);
    service.save("ada", date(1815, 12, 10));
    let ledger = Arc::new(Ledger::default());
    let writing = Load::writing(&service, 32, "w", &ledger, Unanswered::Fails);
    let reading = Load::reading(&service, 32, "ada", date(1815, 12, 10));
    for operation in ["write", "read"] {
        until(&format!("{operation}s share batches"), || {
            let (count, sum) = batches(&service, operation);
            count > 20 && 2 * sum > 3 * count
        });
    }
    writing.stop();
    reading.stop();
    ledger.verify(&service);
}

#[test]
fn a_row_that_somebody_else_has_locked_does_not_hold_its_neighbours() {
    let database = Database::new();
    let service = start(&database);
    service.save("locked", date(1815, 12, 10));
    let mut client = database.client();
    let mut row = client.transaction().unwrap();
    row.batch_execute("SELECT FROM users WHERE username = 'locked' FOR UPDATE").unwrap();
    // The table is locked as well until the locked row and its neighbours share a batch.
    let mut table = row.transaction().unwrap();
    table.batch_execute("LOCK TABLE users IN EXCLUSIVE MODE").unwrap();
    let mut neighbours = occupy_lanes(&service);
    let mut locked = ask_and_wait(&service, "locked", date(1906, 12, 9));
    let before = asked(&service);
    neighbours.extend(ask_many(&service, "n", 40));
    until("the writes are in the store", || asked(&service) >= before + 40);
    table.rollback().unwrap();
    all_succeed(neighbours);
    service.greets("locked", date(1815, 12, 10));
    row.rollback().unwrap();
    assert_eq!(locked.receive().status, 204);
    service.greets("locked", date(1906, 12, 9));
}

#[test]
fn a_read_waits_while_somebody_else_has_locked_the_table() {
    let database = Database::new();
    let service = start(&database);
    service.save("ada", date(1815, 12, 10));
    let mut client = database.client();
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE").unwrap();
    let mut reader = service.connect();
    reader.ask("GET", "/hello/ada", "");
    let given_up = [("operation", "read"), ("kind", "lock")];
    until("the server gave the read up", || service.metrics().sum("dob_api_store_errors_total", &given_up) >= 1);
    lock.rollback().unwrap();
    assert_eq!(reader.receive().message(), greeting("ada", date(1815, 12, 10)));
}

#[test]
fn a_row_that_stays_locked_beyond_the_write_patience_is_503() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).set("DOB_API_WRITE_PATIENCE", "3s").start();
    service.save("locked", date(1815, 12, 10));
    let mut client = database.client();
    let mut transaction = client.transaction().unwrap();
    transaction.batch_execute("SELECT FROM users WHERE username = 'locked' FOR UPDATE").unwrap();
    let response = ask(&service, "locked", date(1906, 12, 9)).receive();
    response.problem(503);
    assert!(response.header("retry-after").is_some(), "{response:?}");
    transaction.rollback().unwrap();
    service.save("neighbour", date(1815, 12, 10));
}

#[test]
fn a_row_that_the_database_refuses_does_not_fail_its_neighbours() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).set("DOB_API_WRITE_PATIENCE", "5s").start();
    let mut client = database.client();
    client.batch_execute("ALTER TABLE users ADD CHECK (username <> 'refused')").unwrap();
    let lock = lock_table(&mut client);
    let mut neighbours = occupy_lanes(&service);
    let mut refused = ask_and_wait(&service, "refused", date(1815, 12, 10));
    let before = asked(&service);
    neighbours.extend(ask_many(&service, "n", 40));
    until("the writes are in the store", || asked(&service) >= before + 40);
    lock.rollback().unwrap();
    all_succeed(neighbours);
    refused.receive().problem(503);
    for index in 0..40 {
        service.greets(&calendar::name("n", index), date(1900, 1, 1));
    }
    service.get("/hello/refused").problem(404);
}

#[test]
fn a_row_on_which_a_trigger_fails_does_not_fail_its_neighbours() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).set("DOB_API_WRITE_PATIENCE", "5s").start();
    let mut client = database.client();
    let trigger = "
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = 'refused'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON users
            FOR EACH ROW WHEN (NEW.username = 'refused') EXECUTE FUNCTION refuse()";
    client.batch_execute(trigger).unwrap();
    let lock = lock_table(&mut client);
    let mut neighbours = occupy_lanes(&service);
    let mut refused = ask_and_wait(&service, "refused", date(1815, 12, 10));
    neighbours.extend(ask_many(&service, "n", 10));
    lock.rollback().unwrap();
    all_succeed(neighbours);
    refused.receive().problem(503);
    service.save("neighbour", date(1815, 12, 10));
}

#[test]
fn of_two_writes_of_one_user_in_a_batch_the_later_wins() {
    let database = Database::new();
    let service = start(&database);
    let mut client = database.client();
    let mut rounds = 0..;
    until("the two writes share a batch after a few rounds", || {
        let round = rounds.next().unwrap();
        let (first, second) = (calendar::numbered(round), calendar::numbered(round + 100));
        let lock = lock_table(&mut client);
        let mut connections = occupy_lanes(&service);
        let before = queued(&service);
        connections.push(ask_and_wait(&service, "ada", first));
        connections.push(ask_and_wait(&service, "ADA", second));
        // On a slow machine a lane may have given up and come back for the first alone.
        let together = queued(&service) >= before + 2;
        lock.rollback().unwrap();
        all_succeed(connections);
        let message = service.get("/hello/ada").message();
        assert!(!together || message == greeting("ada", second), "{message}");
        round >= 4 && together
    });
}

#[test]
fn clients_that_leave_do_not_break_the_batch() {
    let database = Database::new();
    let service = start(&database);
    let mut client = database.client();
    let lock = lock_table(&mut client);
    let mut staying = occupy_lanes(&service);
    let before = asked(&service);
    staying.extend(ask_many(&service, "s", 20));
    let leaving = ask_many(&service, "l", 20);
    staying.extend(ask_many(&service, "t", 20));
    until("the writes are in the store", || asked(&service) >= before + 60);
    drop(leaving);
    lock.rollback().unwrap();
    all_succeed(staying);
    until("the queue is empty", || queued(&service) == 0);
    for index in 0..20 {
        service.greets(&calendar::name("s", index), date(1900, 1, 1));
        service.greets(&calendar::name("t", index), date(1900, 1, 1));
    }
}
