//! A way to a database on which each call of the store may go wrong, as a seed decides.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The connection ends before the server has the call.
    Refused,
    /// Nobody ever answers; whether the server has the call is the other half of it.
    Hung { arrives: bool },
    /// The answer comes later, perhaps after the deadline.
    Late(Duration),
    /// The connection ends in the middle of the answer.
    Halved,
    /// The server has done its work; its answer is lost.
    Forgotten,
}

/// Forwards connections to a server, and does to each call that names a user what the seed says. A call is known by the
/// name and by how often it was tried: so the same seed does the same, however threads and probes fall.
pub struct Saboteur {
    address: SocketAddr,
    plan: Arc<Plan>,
}

struct Plan {
    seed: u64,
    /// What the names of the users begin with.
    prefix: &'static [u8],
    at_work: AtomicBool,
    /// How often each name was seen.
    tries: Mutex<HashMap<Vec<u8>, u32>>,
    /// What was done, by name and try.
    done: Mutex<Vec<(String, u32, Fault)>>,
}

impl Saboteur {
    pub fn new(port: u16, seed: u64, prefix: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Plan {
            seed,
            prefix: prefix.as_bytes(),
            at_work: AtomicBool::new(true),
            tries: Mutex::default(),
            done: Mutex::default(),
        });
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let way = Way { plan: Arc::clone(&shared), next: Arc::default() };
                let back = Way { plan: Arc::clone(&shared), next: Arc::clone(&way.next) };
                let (there, here) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || way.carry_calls(client, there));
                thread::spawn(move || back.carry_answers(server, here));
            }
        });
        Self { address, plan }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets everything pass from now on.
    pub fn rest(&self) {
        self.plan.at_work.store(false, Ordering::Relaxed);
    }

    /// What was done so far: the name, the try and the fault.
    pub fn deeds(&self) -> Vec<(String, u32, Fault)> {
        self.plan.done.lock().unwrap().clone()
    }
}

impl Plan {
    /// What is to be done to a call.
    fn fault(&self, call: &[u8]) -> Option<Fault> {
        let at = call.windows(self.prefix.len()).position(|part| part == self.prefix)?;
        let name: Vec<u8> = call[at..].iter().copied().take_while(u8::is_ascii_lowercase).collect();
        if !self.at_work.load(Ordering::Relaxed) {
            return None;
        }
        let attempt = {
            let mut tries = self.tries.lock().unwrap();
            let tries = tries.entry(name.clone()).or_default();
            *tries += 1;
            *tries
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, &name, attempt).hash(&mut hasher);
        let dice = hasher.finish();
        let fault = match dice % 100 {
            0..10 => Fault::Refused,
            10..13 => Fault::Hung { arrives: true },
            13..15 => Fault::Hung { arrives: false },
            15..25 => Fault::Late(Duration::from_millis(dice / 100 % 1500)),
            25..35 => Fault::Halved,
            35..45 => Fault::Forgotten,
            _ => return None,
        };
        self.done.lock().unwrap().push((String::from_utf8(name).unwrap(), attempt, fault));
        Some(fault)
    }
}

/// One connection in one direction.
struct Way {
    plan: Arc<Plan>,
    /// What is to be done to the next answer.
    next: Arc<Mutex<Option<Fault>>>,
}

impl Way {
    fn carry_calls(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let fault = self.plan.fault(&buffer[..count]);
            match fault {
                Some(Fault::Refused) => break,
                Some(Fault::Hung { arrives: false }) => continue,
                _ => {}
            }
            if fault.is_some() {
                *self.next.lock().unwrap() = fault;
            }
            if server.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        end(&client, &server);
    }

    fn carry_answers(&self, mut server: TcpStream, mut client: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(mut count @ 1..) = server.read(&mut buffer) {
            let fault = self.next.lock().unwrap().take();
            match fault {
                Some(Fault::Hung { .. }) => continue,
                Some(Fault::Forgotten) => break,
                // The fault itself, not a wait for a condition.
                Some(Fault::Late(delay)) => thread::sleep(delay),
                Some(Fault::Halved) => count /= 2,
                Some(Fault::Refused) | None => {}
            }
            if client.write_all(&buffer[..count]).is_err() || fault == Some(Fault::Halved) {
                break;
            }
        }
        end(&client, &server);
    }
}

fn end(client: &TcpStream, server: &TcpStream) {
    for side in [client, server] {
        let _ = side.shutdown(Shutdown::Both);
    }
}
