//! Clients that hold on to connections, or misuse them: others are served all the same.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jiff::civil::date;
use rustix::process::Signal;
use support::calendar::{body, greeting};
use support::http::{Connection, request};
use support::service::{Launch, Service};
use support::until;

const UNFINISHED_HEAD: &str = "GET /hello/ada HTTP/1.1\r\nHost: a\r\nX-Slow: ";
const UNFINISHED_BODY: &str = "PUT /hello/ada HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{";

fn short_timeouts() -> Service {
    Launch::embedded().set("DOB_API_HEADER_TIMEOUT", "1s").set("DOB_API_BODY_TIMEOUT", "1s").start()
}

/// Sends one byte after the other, for ever, until the service has enough or the test has.
struct Trickle(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Trickle {
    fn into(mut stream: TcpStream) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) && stream.write_all(b"x").is_ok() {
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_head_that_does_not_end_is_408() {
    let service = short_timeouts();
    for start in ["G", UNFINISHED_HEAD] {
        let mut connection = service.connect();
        connection.send(start);
        assert_eq!(connection.receive().status, 408);
        assert!(connection.is_closed());
    }
}

#[test]
fn a_head_that_trickles_in_is_408() {
    let service = short_timeouts();
    let mut connection = service.connect();
    connection.send(UNFINISHED_HEAD);
    let _trickle = Trickle::into(connection.stream());
    assert_eq!(connection.receive().status, 408);
}

#[test]
fn a_second_head_that_does_not_end_is_408_too() {
    let service = short_timeouts();
    let mut connection = service.connect();
    assert_eq!(connection.get("/healthz").status, 200);
    connection.send(UNFINISHED_HEAD);
    assert_eq!(connection.receive().status, 408);
    assert!(connection.is_closed());
}

#[test]
fn half_of_a_head_behind_a_request_is_408_too() {
    let service = short_timeouts();
    let mut connection = service.connect();
    connection.send(request("GET", "/healthz", "") + UNFINISHED_HEAD);
    assert_eq!(connection.receive().status, 200);
    assert_eq!(connection.receive().status, 408);
    assert!(connection.is_closed());
}

#[test]
fn requests_that_arrive_byte_by_byte_are_answered_also_after_long_pauses() {
    let service = Launch::embedded().set("DOB_API_HEADER_TIMEOUT", "60s").start();
    service.save("ada", date(1815, 12, 10));
    let mut connection = service.connect();
    let get = request("GET", "/hello/ada", "");
    for _ in 0..3 {
        for byte in get.bytes() {
            connection.send([byte]);
        }
        assert_eq!(connection.receive().message(), greeting("ada", date(1815, 12, 10)));
        // Two requests and the start of a third at once.
        connection.send([&get, &get, &get[..9]].concat());
        for _ in 0..2 {
            assert_eq!(connection.receive().status, 200);
        }
        // The pace of the client: longer than the service keeps buffers for it.
        thread::park_timeout(Duration::from_secs(5));
        connection.send(&get[9..]);
        assert_eq!(connection.receive().status, 200);
        connection.ask("PUT", "/hello/ada", &body(date(1815, 12, 10)));
        assert_eq!(connection.receive().status, 204);
    }
}

#[test]
fn a_body_that_does_not_end_is_408() {
    let service = short_timeouts();
    let mut connection = service.connect();
    connection.send(UNFINISHED_BODY);
    let response = connection.receive();
    response.problem(408);
    assert!(connection.is_closed());
}

#[test]
fn a_body_that_trickles_in_is_408() {
    let service = short_timeouts();
    let mut connection = service.connect();
    connection.send(UNFINISHED_BODY);
    let _trickle = Trickle::into(connection.stream());
    connection.receive().problem(408);
}

#[test]
fn a_connection_that_stays_idle_is_closed() {
    let service = Launch::embedded().set("DOB_API_KEEP_ALIVE", "1s").start();
    let mut used = service.connect();
    assert_eq!(used.get("/healthz").status, 200);
    let mut unused = service.connect();
    for connection in [&mut used, &mut unused] {
        // A connection on which nothing was asked may be told so before it is closed.
        if let Ok(response) = connection.try_receive() {
            assert_eq!(response.status, 408);
        }
        assert!(connection.is_closed());
    }
}

/// Starts an upload that is too large, and returns once it is refused but not ended.
fn refused_upload(service: &Service) -> Connection {
    let mut connection = service.connect();
    connection.send("PUT /hello/ada HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n");
    connection.send([b' '; 1025]);
    connection.receive().problem(413);
    connection
}

#[test]
fn an_upload_that_is_refused_may_be_large_and_slow_before_its_answer_is_read() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 40;
    let service = Launch::embedded().start();
    let length = format!("Content-Length: {}", PIECE * PIECES);
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}", PIECE * PIECES);
    thread::scope(|scope| {
        for header in [length, chunked] {
            let mut connection = service.connect();
            scope.spawn(move || {
                connection.send(format!("PUT /hello/ada HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n"));
                for _ in 0..PIECES {
                    connection.send(vec![b' '; PIECE]);
                    // The pace of the client: more than two seconds in all, much less between two pieces.
                    thread::park_timeout(Duration::from_millis(60));
                }
                connection.receive().problem(413);
                assert!(connection.is_closed());
            });
        }
    });
}

#[test]
fn a_refused_upload_that_pauses_for_long_is_closed() {
    let service = Launch::embedded().start();
    let _silent = refused_upload(&service);
    until("the connection is closed", || service.metrics().sum("dob_api_http_connections", &[]) == 0);
}

#[test]
fn a_refused_upload_does_not_hold_up_the_end_of_the_service() {
    let mut service = Launch::embedded().set("DOB_API_DRAIN_DELAY", "0ms").set("DOB_API_DRAIN_TIMEOUT", "1h").start();
    let refused = refused_upload(&service);
    let _trickle = Trickle::into(refused.stream());
    service.signal(Signal::TERM);
    assert!(service.wait().success());
}

#[test]
fn a_half_closed_socket_gets_its_answer() {
    let service = Launch::embedded().start();
    // A disk that is busy may take longer than the service waits for it on behalf of such a client.
    until("a write is answered in time", || {
        let mut connection = service.connect();
        connection.ask("PUT", "/hello/ada", &body(date(1815, 12, 10)));
        connection.finish();
        let response = connection.receive();
        assert!(connection.is_closed());
        response.status == 204
    });
    let mut connection = service.connect();
    connection.ask("GET", "/hello/ada", "");
    connection.ask("GET", "/hello/ada", "");
    connection.finish();
    for _ in 0..2 {
        assert_eq!(connection.receive().message(), greeting("ada", date(1815, 12, 10)));
    }
    assert!(connection.is_closed());
}

#[test]
fn a_half_closed_socket_with_half_a_request_is_closed() {
    let service = Launch::embedded().start();
    for half in ["", "GET /hel", UNFINISHED_HEAD, UNFINISHED_BODY] {
        let mut connection = service.connect();
        connection.send(half);
        connection.finish();
        if let Ok(response) = connection.try_receive() {
            assert!((400..500).contains(&response.status), "{response:?}");
        }
        assert!(connection.is_closed());
    }
}

#[test]
fn bytes_that_are_not_http_get_a_refusal_or_an_end() {
    let service = Launch::embedded().start();
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for bytes in [&every_byte[..], &tls[..], &http2[..], &[0; 4096][..]] {
        let mut connection = service.connect();
        connection.send(bytes);
        connection.finish();
        if let Ok(response) = connection.try_receive() {
            assert!((400..600).contains(&response.status), "{response:?}");
        }
    }
    assert_eq!(service.health(), 200);
}

#[test]
fn ten_thousand_idle_connections_are_borne() {
    const COUNT: usize = 10_000;
    // Both ends of each connection are on this machine; the service inherits the limit.
    support::process::raise_open_files(COUNT as u64 + 2_000);
    let service = Launch::embedded().start();
    service.save("ada", date(1815, 12, 10));
    let files = service.open_files();
    let mut idle = service.connections(COUNT);
    until("all are accepted", || service.open_files() >= COUNT);
    service.greets("ada", date(1815, 12, 10));
    service.save("bob", date(1815, 12, 10));
    let memory = service.resident_kib();
    assert!(memory < 100 * 1024, "{memory} KiB");
    for connection in idle.iter_mut().step_by(997) {
        assert_eq!(connection.get("/healthz").status, 200);
    }
    drop(idle);
    until("the files are closed", || service.open_files() <= files + 2);
}

#[test]
fn a_thousand_slow_clients_do_not_keep_others_from_being_served() {
    let service = Launch::embedded().start();
    let files = service.open_files();
    let mut slow = service.connections(1000);
    for (index, connection) in slow.iter_mut().enumerate() {
        connection.send(if index % 2 == 0 { UNFINISHED_HEAD } else { UNFINISHED_BODY });
    }
    until("all are accepted", || service.open_files() >= 1000);
    service.save("ada", date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
    drop(slow);
    until("the files are closed", || service.open_files() <= files + 2);
}

#[test]
fn connections_over_the_limit_are_told_so_until_others_leave() {
    let service = Launch::embedded().set("DOB_API_MAX_CONNECTIONS", "20").bind();
    until("no connection is left over from the start", || service.metrics().sum("dob_api_http_connections", &[]) == 0);
    let mut held = service.connections(20);
    for connection in &mut held {
        assert_eq!(connection.get("/healthz").status, 200);
    }
    let refused = service.connect().try_request("GET", "/healthz", "");
    assert_eq!(refused.expect("an answer").status, 503);
    assert_eq!(held[0].get("/healthz").status, 200);
    drop(held);
    until("there is room again", || {
        let answer = service.connect().try_request("GET", "/healthz", "");
        answer.is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn a_flood_of_requests_whose_answers_are_not_read_is_throttled() {
    let service = Launch::embedded().start();
    let before = service.resident_kib();
    let flood = service.connect();
    let mut stream = flood.stream();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let requests = request("GET", "/hello/nobody", "").repeat(1000);
    let sent = (0..2000).take_while(|_| stream.write_all(requests.as_bytes()).is_ok()).count();
    assert!(sent < 2000, "the service reads on though nobody takes its answers");
    assert_eq!(service.health(), 200);
    let grown = service.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "grew by {grown} KiB");
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let service = Launch::embedded().start();
    let files = service.open_files();
    for index in 0..3000 {
        let mut connection = service.connect();
        match index % 3 {
            0 => {}
            1 => connection.send(UNFINISHED_HEAD),
            _ => connection.ask("PUT", "/hello/ada", &body(date(1815, 12, 10))),
        }
    }
    until("the files are closed", || service.open_files() <= files + 2);
    service.greets("ada", date(1815, 12, 10));
}

#[test]
fn a_client_that_reads_slowly_gets_all_its_answers() {
    let service = Launch::embedded().start();
    let mut slow = Connection::open(service.address);
    let mut stream = slow.stream();
    let requests = request("GET", "/openapi.json", "").repeat(2000);
    let sender = thread::spawn(move || stream.write_all(requests.as_bytes()).unwrap());
    service.save("ada", date(1815, 12, 10));
    for _ in 0..2000 {
        assert_eq!(slow.receive().status, 200);
    }
    sender.join().unwrap();
}
