//! A way to a database that falls silent in the middle of a conversation: it takes what is sent and answers nothing.
//!
//! Kinder than a real server that hangs: it ends the session behind it as soon as its client leaves, and it always accepts.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// The code of the message that asks for TLS.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// When a connection falls silent.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// When the client asks for TLS.
    Encryption,
    /// After the server has let the client in.
    Authenticated,
    /// After the server is ready for the first statement.
    Ready,
    /// When the client sends its nth Parse message.
    Parse(u32),
    /// When the client sends a message with this text.
    Text(&'static str),
}

/// Forwards connections to a server. While it is armed, each new one falls silent for good at its moment.
pub struct Mute {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    moment: Moment,
    armed: AtomicBool,
    silenced: AtomicU32,
}

impl Mute {
    /// One that is armed.
    pub fn new(port: u16, moment: Moment) -> Self {
        let mute = Self::unarmed(port, moment);
        mute.arm();
        mute
    }

    pub fn unarmed(port: u16, moment: Moment) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { moment, armed: AtomicBool::new(false), silenced: AtomicU32::new(0) });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for side in [&client, &server] {
                    side.set_nodelay(true).unwrap();
                }
                let way = Arc::new(Way {
                    state: Arc::clone(&shared),
                    armed: shared.armed.load(Ordering::Acquire),
                    silent: AtomicBool::new(false),
                });
                let back = Arc::clone(&way);
                let (there, here) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || end(&way.carry_calls(client, there)));
                thread::spawn(move || end(&back.carry_answers(server, here)));
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections fall silent.
    pub fn arm(&self) {
        self.state.armed.store(true, Ordering::Release);
    }

    /// From now on new connections are left alone. Those that are silent stay so.
    pub fn release(&self) {
        self.state.armed.store(false, Ordering::Release);
    }

    /// How many connections fell silent.
    pub fn silenced(&self) -> u32 {
        self.state.silenced.load(Ordering::Acquire)
    }
}

/// One connection.
struct Way {
    state: Arc<State>,
    armed: bool,
    silent: AtomicBool,
}

impl Way {
    fn carry_calls(&self, mut client: TcpStream, mut server: TcpStream) -> [TcpStream; 2] {
        let mut parses = 0;
        let mut started = false;
        while let Ok(message) = read_message(&mut client, started) {
            let encrypts = !started && message[4..] == SSL_REQUEST;
            started |= !encrypts;
            parses += u32::from(message[0] == b'P');
            let now = match self.state.moment {
                Moment::Encryption => encrypts,
                Moment::Parse(nth) => message[0] == b'P' && parses == nth,
                Moment::Text(text) => message.windows(text.len()).any(|part| part == text.as_bytes()),
                Moment::Authenticated | Moment::Ready => false,
            };
            if now {
                self.fall_silent();
            }
            if self.is_silent() {
                continue;
            }
            if server.write_all(&message).is_err() {
                break;
            }
            if encrypts {
                // What follows cannot be read.
                let _ = io::copy(&mut client, &mut server);
                break;
            }
        }
        [client, server]
    }

    fn carry_answers(&self, mut server: TcpStream, mut client: TcpStream) -> [TcpStream; 2] {
        if matches!(self.state.moment, Moment::Encryption) {
            let _ = io::copy(&mut server, &mut client);
        }
        while let Ok(message) = read_message(&mut server, true) {
            if !self.is_silent() && client.write_all(&message).is_err() {
                break;
            }
            let now = match self.state.moment {
                Moment::Authenticated => message == *b"R\0\0\0\x08\0\0\0\0",
                Moment::Ready => message[0] == b'Z',
                _ => false,
            };
            if now {
                self.fall_silent();
            }
        }
        [server, client]
    }

    fn fall_silent(&self) {
        if self.armed && !self.silent.swap(true, Ordering::AcqRel) {
            self.state.silenced.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }
}

/// One message. All but the first have a letter before their length.
fn read_message(stream: &mut TcpStream, lettered: bool) -> io::Result<Vec<u8>> {
    let head = 4 + usize::from(lettered);
    let mut message = vec![0; head];
    stream.read_exact(&mut message)?;
    let length: [u8; 4] = message[head - 4..].try_into().unwrap();
    message.resize(head - 4 + usize::try_from(u32::from_be_bytes(length)).unwrap(), 0);
    stream.read_exact(&mut message[head..])?;
    Ok(message)
}

fn end(sides: &[TcpStream]) {
    for side in sides {
        let _ = side.shutdown(Shutdown::Both);
    }
}
