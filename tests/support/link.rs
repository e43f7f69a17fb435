//! A network path that can be cut: packets vanish, nobody is told, and nothing arrives until it heals.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Forwards connections to a server until it is cut.
pub struct Link {
    listener: Arc<TcpListener>,
    gate: Arc<Gate>,
    /// Connections that nobody accepts: while they fill the listener's queue the kernel drops what else wants to connect.
    fillers: Mutex<Vec<TcpStream>>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    cut: bool,
    /// Whether the listener waits for the cut to heal, so that it accepts nothing more.
    held: bool,
}

impl Link {
    pub fn new(port: u16) -> Self {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let gate = Arc::<Gate>::default();
        let (clients, passage) = (Arc::clone(&listener), Arc::clone(&gate));
        thread::spawn(move || {
            while let Ok((client, _)) = clients.accept() {
                passage.hold(true);
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                forward(client.try_clone().unwrap(), server.try_clone().unwrap(), &passage);
                forward(server, client, &passage);
            }
        });
        Self { listener, gate, fillers: Mutex::default() }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// From now on nothing passes, and no new connection is accepted or refused.
    pub fn cut(&self) {
        self.gate.state.lock().unwrap().cut = true;
        rustix::net::listen(&self.listener, 0).unwrap();
        // Once more after the listener accepted its last one.
        self.fill();
        let state = self.gate.state.lock().unwrap();
        drop(self.gate.changed.wait_while(state, |state| !state.held).unwrap());
        self.fill();
    }

    fn fill(&self) {
        while let Ok(filler) = TcpStream::connect_timeout(&self.address(), Duration::from_millis(100)) {
            self.fillers.lock().unwrap().push(filler);
        }
    }

    /// Forwards the data that was held back.
    pub fn heal(&self) {
        rustix::net::listen(&self.listener, 1024).unwrap();
        self.fillers.lock().unwrap().clear();
        *self.gate.state.lock().unwrap() = State::default();
        self.gate.changed.notify_all();
    }
}

impl Gate {
    /// Waits until there is no cut; whether it is the listener who waits.
    fn hold(&self, listener: bool) {
        let mut state = self.state.lock().unwrap();
        while state.cut {
            state.held |= listener;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap();
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, gate: &Arc<Gate>) {
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            gate.hold(false);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        gate.hold(false);
        let _ = to.shutdown(Shutdown::Write);
    });
}
