//! Whatever bytes a client sends: every answer is whole, none is a 500, and the service continues.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::sync::mpsc;
use std::time::Duration;

use dob_api::lifecycle::Lifecycle;
use dob_api::metrics::ConnectionMetrics;
use dob_api::server::{self, Server};
use tokio::runtime::Builder;

use super::service::Service;
use crate::calendar;

static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let service = Service::new(calendar::zone());
            let listener = server::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
            sender.send(listener.local_addr().expect("an address")).expect("somebody waits");
            let connections = ConnectionMetrics::default();
            let server = Server::new(service.handler.clone(), service.config.limits, Lifecycle::new(), connections);
            server.serve(listener).await
        })
    });
    receiver.recv().expect("the service starts")
});

/// An input is what a client sends before it ends its half of the connection.
pub fn run(input: &[u8]) {
    let mut stream = TcpStream::connect(*ADDRESS).expect("the service accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // A service that has refused may close before everything is sent.
    let _ = stream.write_all(input).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answers = Vec::new();
    match stream.read_to_end(&mut answers) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
        Err(error) => panic!("no end: {error}"),
    }
    let mut rest = &answers[..];
    while !rest.is_empty() {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
        let head = std::str::from_utf8(&rest[..end]).expect("a head of text").to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        // On a machine that is busy, a client that has ended its half may be told that it did so too early.
        assert!(status < 500 || status == 503, "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
        let body = &rest[end..];
        // The answer to HEAD announces a body that it does not have.
        let absent = body.is_empty() || body.starts_with(b"HTTP/1.");
        let length: usize = length.filter(|_| !absent).unwrap_or(0);
        rest = body.get(length..).expect("a whole body");
    }
}
