//! Clients that write and read without pause, and the record of what they were promised.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use jiff::civil::Date;

use super::calendar::{self, greeting};
use super::http::{Connection, Response};
use super::service::Service;
use super::until;

/// For each name the dates that it may have: the one acknowledged last, or one sent since then
/// whose outcome nobody knows. A name with no acknowledged date may also be unknown.
#[derive(Default)]
pub struct Ledger {
    names: Mutex<BTreeMap<String, Entry>>,
    pub acknowledged: AtomicU32,
}

#[derive(Default)]
struct Entry {
    acknowledged: Option<Date>,
    unknown: Vec<Date>,
}

impl Ledger {
    /// A write is on its way.
    pub fn sent(&self, name: &str, date: Date) {
        self.names.lock().unwrap().entry(name.to_owned()).or_default().unknown.push(date);
    }

    /// A write was acknowledged.
    pub fn acknowledge(&self, name: &str, date: Date) {
        let entry = Entry { acknowledged: Some(date), unknown: Vec::new() };
        self.names.lock().unwrap().insert(name.to_owned(), entry);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// How many writes were acknowledged so far.
    pub fn count(&self) -> u32 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further writes were acknowledged.
    pub fn await_writes(&self, more: u32) {
        let goal = self.count() + more;
        until("writes are acknowledged", || self.count() >= goal);
    }

    /// Asks `service` for each name, and fails if an acknowledged write is lost.
    pub fn verify(&self, service: &Service) {
        let mut connection = service.connect();
        let names: Vec<_> = self.names.lock().unwrap().keys().cloned().collect();
        for name in names {
            self.check(&name, &connection.get(&format!("/hello/{name}")));
        }
    }

    /// Fails if `response` is not what may be said of `name`.
    pub fn check(&self, name: &str, response: &Response) {
        let names = self.names.lock().unwrap();
        let entry = &names[name];
        if response.status == 404 {
            assert_eq!(entry.acknowledged, None, "{name} is lost");
            return;
        }
        let allowed = entry.acknowledged.iter().chain(&entry.unknown);
        let allowed: Vec<_> = allowed.map(|&date| greeting(name, date)).collect();
        let message = response.message();
        assert!(allowed.contains(&message), "{message} instead of one of {allowed:?}");
    }
}

/// What a client does when it gets no answer.
#[derive(Clone, Copy, PartialEq)]
pub enum Unanswered {
    /// It ends: the service was killed.
    Ends,
    /// It fails: the service must always answer.
    Fails,
}

/// Clients that run in the background until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Clients that write: each a few names of its own, again and again.
    /// Each answer must be 204.
    pub fn writing(
        service: &Service,
        clients: u32,
        prefix: &str,
        ledger: &Arc<Ledger>,
        unanswered: Unanswered,
    ) -> Self {
        Self::run(service.address, clients, |client| {
            let (prefix, ledger) = (calendar::name(prefix, client), Arc::clone(ledger));
            move |connection, turn| {
                let (name, date) = (calendar::name(&prefix, turn % 7), calendar::numbered(turn));
                ledger.sent(&name, date);
                let path = format!("/hello/{name}");
                match connection.try_request("PUT", &path, &calendar::body(date)) {
                    Ok(response) => {
                        assert_eq!(response.status, 204, "{response:?}");
                        ledger.acknowledge(&name, date);
                        true
                    }
                    Err(error) if unanswered == Unanswered::Fails => panic!("no answer: {error}"),
                    Err(_) => false,
                }
            }
        })
    }

    /// Clients that ask for the greeting of `name`, born on `born`, and get nothing else.
    pub fn reading(service: &Service, clients: u32, name: &str, born: Date) -> Self {
        let (path, expected) = (format!("/hello/{name}"), greeting(name, born));
        Self::run(service.address, clients, |_| {
            let (path, expected) = (path.clone(), expected.clone());
            move |connection, _| {
                assert_eq!(connection.get(&path).message(), expected);
                true
            }
        })
    }

    fn run<C>(address: SocketAddr, clients: u32, mut client: impl FnMut(u32) -> C) -> Self
    where
        C: Fn(&mut Connection, u32) -> bool + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|index| {
            let (turn_of, stop) = (client(index), Arc::clone(&stop));
            // Before the thread, which may begin when the service was killed already.
            let mut connection = Connection::open(address);
            thread::spawn(move || {
                let mut turns = 0..;
                while !stop.load(Ordering::Relaxed) && turn_of(&mut connection, turns.next().unwrap()) {}
            })
        });
        Self { clients: clients.collect(), stop }
    }

    /// Ends the clients, and fails if one of them saw what it should not.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.join();
    }

    /// Waits until the clients have ended by themselves.
    pub fn join(self) {
        for client in self.clients {
            client.join().expect("a client of the load was content");
        }
    }
}
