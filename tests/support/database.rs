//! A database of its own for each test, on a server that the tests of one file share.
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use postgres::Client;

use super::postgres::Server;

/// An empty database, dropped with this.
pub struct Database {
    pub server: Arc<Server>,
    pub name: String,
}

impl Database {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let server = shared();
        server.client("postgres").execute(&format!("CREATE DATABASE {name}"), &[]).unwrap();
        Self { server, name }
    }

    /// Its URL for the superuser.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// A connection as the superuser.
    pub fn client(&self) -> Client {
        self.server.client(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let _ = self.server.client("postgres").execute(&drop, &[]);
    }
}

/// The shared server; it ends with the last test that uses it.
fn shared() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start());
        *shared = Arc::downgrade(&server);
        server
    })
}
