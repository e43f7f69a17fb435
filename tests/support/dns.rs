//! A name server that answers each question as a test wants, or not at all.
//!
//! Kinder than a real one: it answers at once, never truncates an answer, and gives every name the same addresses.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What comes back to a question.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These addresses, in this order; perhaps none.
    Addresses(Vec<IpAddr>),
    /// A failure with this code.
    Failure(u8),
    /// Nothing.
    Silence,
}

pub const SERVER_FAILURE: Reply = Reply::Failure(2);
pub const NO_SUCH_NAME: Reply = Reply::Failure(3);
pub const NOT_IMPLEMENTED: Reply = Reply::Failure(4);
pub const REFUSED: Reply = Reply::Failure(5);

/// One name server, on port 53 of a loopback address of its own: only root can start one.
pub struct NameServer {
    pub address: Ipv4Addr,
    replies: Arc<Mutex<(Reply, Reply)>>,
}

impl NameServer {
    /// One that gives `v4` to questions for IPv4 addresses, and `v6` to those for IPv6 addresses, of any name.
    pub fn start(v4: Reply, v6: Reply) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let host = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 100 + process[2] % 100, process[3], host);
        let socket = UdpSocket::bind((address, 53)).expect("root may listen on port 53");
        let replies = Arc::new(Mutex::new((v4, v6)));
        let shared = Arc::clone(&replies);
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let replies = shared.lock().unwrap().clone();
                if let Some(response) = respond(&buffer[..length], &replies) {
                    let _ = socket.send_to(&response, client);
                }
            }
        });
        Self { address, replies }
    }

    /// Answers otherwise from now on.
    pub fn change(&self, v4: Reply, v6: Reply) {
        *self.replies.lock().unwrap() = (v4, v6);
    }
}

/// The response to a query with one question.
fn respond(query: &[u8], (v4, v6): &(Reply, Reply)) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let name = query[HEADER..].iter().position(|&length| length == 0)?;
    let question = &query[HEADER..HEADER + name + 5];
    let kind = u16::from_be_bytes([question[name + 1], question[name + 2]]);
    let reply = match kind {
        1 => v4,
        28 => v6,
        _ => return None,
    };
    let (code, addresses) = match reply {
        Reply::Addresses(addresses) => (0, addresses.as_slice()),
        Reply::Failure(code) => (*code, [].as_slice()),
        Reply::Silence => return None,
    };
    let count = u8::try_from(addresses.len()).unwrap();
    let mut response = query[..2].to_vec();
    // A response to a recursive query; one question, the answers and nothing else.
    response.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    response.extend(question);
    for address in addresses {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // The name of the question, the type, the class, a minute to live, the address.
        response.extend([0xc0, 0x0c]);
        response.extend(kind.to_be_bytes());
        response.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(octets.len()).unwrap()]);
        response.extend(octets);
    }
    Some(response)
}
