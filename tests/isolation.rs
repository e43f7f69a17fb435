//! What clients see of a service that is cut off from half of its database's hosts.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::sync::Arc;

use support::calendar::{self, numbered};
use support::link::Link;
use support::load::{Ledger, Load, Unanswered};
use support::postgres::Server;
use support::service::{Launch, Service};
use support::until;

fn launch(hosts: &[String]) -> Service {
    Launch::postgres(format!("postgres://postgres@{}/postgres", hosts.join(","))).start()
}

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port)
}

/// Whether `word` stands in the log.
fn says(service: &Service, word: &str) -> bool {
    service.log().contains(word)
}

fn silent_hosts(service: &Service) -> u64 {
    service.metrics().sum("dob_api_database_silent", &[])
}

/// The users that a server has whose names begin with `prefix`.
fn users(server: &Server, prefix: &str) -> usize {
    let query = "SELECT FROM users WHERE starts_with(username, $1)";
    server.client("postgres").query(query, &[&prefix]).unwrap().len()
}

fn has_table(server: &Server) -> bool {
    server.client("postgres").query_one("SELECT to_regclass('users') IS NOT NULL", &[]).unwrap().get(0)
}

#[test]
fn a_primary_that_was_replaced_during_a_cut_gets_no_write_after_it() {
    let old = Server::start();
    let new = old.standby();
    let link = Link::new(new.port);
    let service = launch(&[address(&old), link.address().to_string()]);
    service.save("ada", numbered(1));
    until("the standby has the table", || has_table(&new) && users(&new, "ada") == 1);
    link.cut();
    new.promote();
    let ledger = Arc::new(Ledger::default());
    let writing = Load::writing(&service, 4, "cut", &ledger, Unanswered::Fails);
    until("half of the hosts are unreachable", || says(&service, "half of the database hosts are unreachable"));
    ledger.await_writes(50);
    writing.stop();
    assert!(users(&old, "cut") > 0, "while it is cut off, the old primary is all there is");
    link.heal();
    for index in 0..20 {
        service.save(&calendar::name("healed", index), numbered(index));
    }
    assert_eq!((users(&old, "healed"), users(&new, "healed")), (0, 20));
    assert_eq!(users(&new, "cut"), 0);
}

#[test]
fn a_silent_host_of_three_costs_writes_nothing() {
    let primary = Server::start();
    let standbys = [primary.standby(), primary.standby()];
    let link = Link::new(standbys[1].port);
    let service = launch(&[address(&primary), address(&standbys[0]), link.address().to_string()]);
    link.cut();
    until("a host is unreachable", || silent_hosts(&service) == 1);
    service.save("ada", numbered(1));
    assert!(!says(&service, "half of the database hosts"), "{}", service.log());
    link.heal();
    until("all hosts answer", || silent_hosts(&service) == 0);
}

#[test]
fn of_two_regions_that_began_the_same_timeline_the_one_promoted_by_an_operator_is_right() {
    let first = Server::start();
    drop(launch(&[address(&first)]));
    let (old, new) = (first.standby(), first.standby());
    drop(first);
    for server in [&old, &new] {
        server.promote();
    }
    let service = launch(&[address(&old), address(&new)]);
    // What the playbook sets for a region, here for a database.
    new.client("postgres").execute("ALTER DATABASE postgres SET dob_api.region_epoch = '1'", &[]).unwrap();
    new.terminate_sessions("postgres");
    until("the service has found the later promotion", || {
        service.save("ada", numbered(1));
        users(&new, "ada") == 1
    });
    old.terminate_sessions("postgres");
    for index in 0..20 {
        service.save(&calendar::name("later", index), numbered(index));
    }
    assert_eq!((users(&old, "later"), users(&new, "later")), (0, 20));
}
