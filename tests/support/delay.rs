//! A network path that takes time, as one to another region does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Forwards connections to a server; every byte arrives later by the same time, in both directions.
pub struct Delay(SocketAddr);

impl Delay {
    pub fn new(server: &str, one_way: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = server.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                upstream.set_nodelay(true).unwrap();
                client.set_nodelay(true).unwrap();
                forward(client.try_clone().unwrap(), upstream.try_clone().unwrap(), one_way);
                forward(upstream, client, one_way);
            }
        });
        Self(address)
    }

    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

/// Reads as bytes come and writes them when their time has come: the delay is the path's, not a wait for a condition.
fn forward(mut from: TcpStream, mut to: TcpStream, one_way: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + one_way, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
}
