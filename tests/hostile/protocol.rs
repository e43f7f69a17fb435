//! Requests that two readers may take for different ones: each is refused, or answered as the balancer would.
//!
//! The balancer is `HAProxy`, in front of a service of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::thread;

use tempfile::TempDir;

use crate::support::http::Connection;
use crate::support::postgres::free_port;
use crate::support::service::{Launch, Service};
use crate::support::{PATIENCE, process, until};

const BODY: &str = r#"{"dateOfBirth":"1815-12-10"}"#;
const CHUNKS: &str = "1c\r\n{\"dateOfBirth\":\"1815-12-10\"}\r\n0\r\n\r\n";

/// A request that must never be taken for one where it is hidden in the body of another.
const HIDDEN: &str =
    "PUT /hello/hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n{\"dateOfBirth\":\"1815-12-10\"}";

/// A PUT with these lines of the head, and this body.
fn put(lines: &str, body: &str) -> Vec<u8> {
    format!("PUT /hello/ada HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}").into_bytes()
}

fn get(lines: &str) -> Vec<u8> {
    format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

/// Requests whose end is in doubt, with something hidden behind the one end or the other.
fn ambiguous() -> Vec<Vec<u8>> {
    let hidden = format!("0\r\n\r\n{HIDDEN}");
    let length = hidden.len();
    let te = "Transfer-Encoding: chunked\r\n";
    let heads = [
        format!("Content-Length: {length}\r\n{te}"),
        format!("{te}Content-Length: {length}\r\n"),
        format!("{te}content-length: {length}\r\nContent-Length: 5\r\n"),
        format!("Content-Length: 5\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: 5\r\n"),
        format!("Content-Length: {length}, 5\r\n"),
        format!("Content-Length: 5\r\n , {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length: {length:#x}\r\n"),
        format!("Content-Length: {length}.0\r\n"),
        format!("Content-Length : {length}\r\n"),
        format!("Content-Length:\x0b{length}\r\n"),
        format!("Content-Length: 1844674407370955161{length}\r\n"),
        format!("X: y\rContent-Length: {length}\r\n"),
        format!("X: y\0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: xchunked\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: identity\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked, identity\r\n"),
        format!("Content-Length: {length}\r\n{te}Transfer-Encoding: identity\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding : chunked\r\n"),
        format!("Content-Length: {length}\r\n Transfer-Encoding: chunked\r\n"),
        format!("Content-Length: {length}\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding:\x0bchunked\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: \"chunked\"\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\x0b\r\n"),
        format!("Content-Length: {length}\r\nTransfer\0Encoding: chunked\r\n"),
        format!("Content-Length: {length}\r\nX: y\rTransfer-Encoding: chunked\r\n"),
    ];
    heads.iter().map(|lines| put(lines, &hidden)).chain(torn()).collect()
}

/// Values of `Transfer-Encoding` that are no single `chunked`, though some readers find one in them.
const CODINGS: [&str; 14] = [
    ",chunked",
    ", chunked",
    " , chunked",
    ",,chunked",
    "chunked,",
    "chunked, chunked",
    "gzip, chunked",
    "identity, chunked",
    "x,chunked",
    "chunked, x",
    "chunked;q=1",
    "\"chunked\"",
    "'chunked'",
    "",
];

/// Requests with an error in their framing, and behind each a request that a reader who overlooks the error would find.
fn torn() -> Vec<Vec<u8>> {
    let te = "Transfer-Encoding: chunked\r\n";
    let ended = format!("0\r\n\r\n{HIDDEN}");
    let coded = CODINGS.map(|coding| put(&format!("Transfer-Encoding: {coding}\r\n"), &ended));
    let lines = [
        format!("{te}{te}"),
        format!("Transfer-Encoding: identity\r\n{te}"),
        format!("{te}Transfer-Encoding: identity\r\n"),
        format!("{te}Transfer-Encoding:\r\n"),
        format!("Transfer-Encoding:\r\n{te}"),
        format!("Transfer-Encoding: chunked\r\n , identity\r\n{te}"),
        format!("Transfer-Encoding :chunked\r\n{te}"),
        format!("X: a\r\n b\r\n{te}"),
        format!(" X: a\r\n{te}"),
        format!("X\r\n{te}"),
        format!("X: a\rb\r\n{te}"),
        format!("X: a\0\r\n{te}"),
        format!("Host: a\r\n{te}"),
        format!("Host: b\r\n{te}"),
    ]
    .map(|lines| put(&lines, &ended));
    let sized = ["5, 5", "+5", "-5", "0x5", "5 5", "5;", "", "5\r\nContent-Length: 6", "99999999999999999999"]
        .map(|size| put(&format!("Content-Length: {size}\r\n"), &format!("{{}}   {HIDDEN}")));
    let chunks =
        ["0x0\r\n\r\n", "-0\r\n\r\n", "+0\r\n\r\n", "\r\n", "0\n\n", "2\n{}\n0\r\n\r\n", "2;\n{}\r\n0\r\n\r\n"]
            .into_iter()
            .chain([
                "2\r\n{}0\r\n\r\n",
                "2\r\n{}\n0\r\n\r\n",
                "2\r{}\r\n0\r\n\r\n",
                "0\r\nX\r\n\r\n",
                "0\r\n : a\r\n\r\n",
            ])
            .map(|chunks| put(te, &format!("{chunks}{HIDDEN}")));
    let hostless = format!("PUT /hello/ada HTTP/1.1\r\n{te}\r\n{ended}").into_bytes();
    let tunnel = format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{HIDDEN}").into_bytes();
    coded.into_iter().chain(lines).chain(sized).chain(chunks).chain([hostless, tunnel]).collect()
}

/// Requests of doubtful form that hide nothing.
fn doubtful() -> Vec<Vec<u8>> {
    let te = "Transfer-Encoding: chunked\r\n";
    let chunked = |chunks: &str| put(te, chunks);
    let mut requests = vec![
        put("Content-Length: 28\r\nContent-Length: 28\r\n", BODY),
        put("Content-Length: 28, 28\r\n", BODY),
        put("Content-Length:\t28 \r\n", BODY),
        put("Content-Length: -1\r\n", BODY),
        put("Content-Length:\r\n", BODY),
        put("Transfer-Encoding: CHUNKED\r\n", CHUNKS),
        put("Transfer-Encoding: chunked, chunked\r\n", CHUNKS),
        put("Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
        put("Transfer-Encoding:\r\n", CHUNKS),
        chunked("0x1c\r\n"),
        chunked("-1c\r\n"),
        chunked("1c 1c\r\n"),
        chunked("fffffffffffffffff\r\n"),
        chunked("ffffffffffffffff\r\n"),
        chunked("7fffffffffffffff\r\n"),
        chunked("1c\n{\"dateOfBirth\":\"1815-12-10\"}\n0\n\n"),
        chunked("1c\r\n{\"dateOfBirth\":\"1815-12-10\"}xx0\r\n\r\n"),
        chunked("1c;\0\r\n{\"dateOfBirth\":\"1815-12-10\"}\r\n0\r\n\r\n"),
        chunked(&format!("1c;{}\r\n{BODY}\r\n0\r\n\r\n", "x".repeat(40_000))),
        chunked(&format!("1c\r\n{BODY}\r\n0\r\n{}\r\n", "X: y\r\n".repeat(4000))),
        chunked("1c\r\n{\"dateOfBirth\":\"1815-12-10\"}\r\n0\r\nContent-Length: 5\r\n\r\n"),
        get("Host: b\r\n"),
        get("X: a\0b\r\n"),
        get("X: a\rb\r\n"),
        get("X\0: a\r\n"),
        get(": a\r\n"),
        get("X\r\n"),
        get(" X: a\r\n"),
        get("X: a\r\n b\r\n"),
        get("X : a\r\n"),
        get("Connection: close, keep-alive\r\n"),
        get("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        get("Expect: nonsense\r\n"),
        get("Content-Length: 5\r\n\r\nGET /"),
        get(&format!("X: {}\r\n", "y".repeat(60_000))),
    ];
    let lines: [&[u8]; 14] = [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: a\n\n",
        b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET\t/healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b" GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz\rHTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz http/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.7\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET /h\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /hello/ada HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\n{\"dateOfBirth\":\"1815-12-10\"}\r\n0\r\n\r\n",
    ];
    requests.extend(lines.map(<[u8]>::to_vec));
    requests
}

/// The balancer; ended when dropped.
struct Balancer {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Balancer {
    fn before(service: &Service) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("haproxy.cfg");
        let settings = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n timeout http-request 3s\n \
             timeout http-keep-alive 2s\nfrontend public\n bind 127.0.0.1:{port}\n default_backend service\n\
             backend service\n http-reuse safe\n server service {}\n",
            service.address
        );
        fs::write(&file, settings).unwrap();
        let mut command = process::command("haproxy");
        command.arg("-db").arg("-q").arg("-f").arg(&file);
        let balancer = Self {
            process: process::spawn(command),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            _folder: folder,
        };
        until("the balancer answers", || {
            Connection::try_open(balancer.address)
                .and_then(|mut connection| connection.try_request("GET", "/healthz", ""))
                .is_ok_and(|response| response.status == 200)
        });
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The statuses of all answers to `bytes`, until the other side closes.
fn statuses(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that refuses a request need not read all of it.
    let _ = stream.write_all(bytes);
    let mut answers = Vec::new();
    let ended = stream.read_to_end(&mut answers);
    if let Err(error) = ended {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{}", String::from_utf8_lossy(bytes));
    }
    let text = String::from_utf8_lossy(&answers);
    let statuses = text.split("HTTP/1.").skip(1).filter_map(|answer| answer.split(' ').nth(1)?.parse().ok());
    // An idle connection may be told that it is one.
    statuses.filter(|status| *status != 408).collect()
}

fn start() -> Service {
    Launch::embedded()
        .set("DOB_API_HEADER_TIMEOUT", "2s")
        .set("DOB_API_BODY_TIMEOUT", "2s")
        .set("DOB_API_KEEP_ALIVE", "2s")
        .start()
}

/// The answers to each request, with and without the balancer.
fn compare(service: &Service, requests: &[Vec<u8>]) -> Vec<(Vec<u16>, Vec<u16>)> {
    let behind = start();
    let balancer = Balancer::before(&behind);
    let balancer = balancer.address;
    let service = service.address;
    thread::scope(|scope| {
        let asked =
            requests.iter().map(|bytes| scope.spawn(move || (statuses(service, bytes), statuses(balancer, bytes))));
        let asked: Vec<_> = asked.collect();
        asked.into_iter().map(|answers| answers.join().unwrap()).collect()
    })
}

/// Whether the service refused what it was sent, and took nothing after it for a request.
fn is_refused(statuses: &[u16]) -> bool {
    matches!(statuses, [] | [400..=499])
}

#[test]
fn after_a_request_whose_end_is_in_doubt_nothing_is_taken_for_a_request() {
    // Refused, or answered as the balancer answers it and then closed (RFC 9112, section 6.3).
    fails_no_case(&ambiguous(), |own, balanced| is_refused(own) || own.len() == 1 && own[0] == balanced[0]);
}

#[test]
fn an_error_in_the_framing_is_refused_once_and_closes_the_connection() {
    let service = start();
    // The operators' listener has no framing of its own.
    let operators = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replacen("PUT /hello/ada", "GET /live", 1).replace("PUT /hello/hidden", "GET /metrics").into_bytes()
    };
    let asked = torn().into_iter().map(|bytes| (service.address, bytes));
    let asked = asked.chain(torn().into_iter().map(|bytes| (service.admin, operators(bytes))));
    for (address, bytes) in asked {
        let mut connection = Connection::open(address);
        connection.send(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let response = connection.try_receive().unwrap_or_else(|error| panic!("{address} {text:?}: {error}"));
        let is_refused = (400..=499).contains(&response.status);
        assert!(is_refused && response.closes() && connection.is_closed(), "{address} {text:?}: {response:?}");
    }
    service.get("/hello/hidden").problem(404);
    service.save("hidden", jiff::civil::date(1815, 12, 10));
}

#[test]
fn a_request_of_doubtful_form_is_refused_or_answered_as_the_balancer_would() {
    fails_no_case(&doubtful(), |own, balanced| is_refused(own) || own == balanced);
}

fn fails_no_case(requests: &[Vec<u8>], agrees: impl Fn(&[u16], &[u16]) -> bool) {
    let service = start();
    let answers = compare(&service, requests);
    let wrong = requests.iter().zip(&answers).filter(|(_, (own, balanced))| !agrees(own, balanced));
    let wrong: Vec<_> = wrong.map(|(bytes, answers)| (String::from_utf8_lossy(bytes), answers)).collect();
    assert!(wrong.is_empty(), "own answers, and those through the balancer: {wrong:#.300?}");
    service.get("/hello/hidden").problem(404);
    assert_eq!(service.health(), 200);
}

#[test]
fn a_request_without_one_host_is_refused() {
    let service = start();
    for host in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"] {
        let mut connection = service.connect();
        connection.send(format!("GET /healthz HTTP/1.1\r\n{host}\r\n"));
        connection.receive().problem(400);
    }
    let mut connection = service.connect();
    connection.send("GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(connection.receive().status, 200);
}

#[test]
fn a_fragment_and_the_host_of_an_absolute_target_are_ignored() {
    // The balancer refuses both. Here nothing depends on them: RFC 9112 wants the absolute target served, and hyper
    // removes the fragment before anybody sees it.
    let service = start();
    let mut connection = service.connect();
    for target in ["/healthz#x", "http://b/healthz"] {
        assert_eq!(connection.get(target).status, 200);
    }
}

#[test]
fn a_connection_that_will_be_closed_over_a_body_is_said_to_be() {
    let service = start();
    let requests = [
        ("POST /hello/ada", "Content-Length: 900\r\n", 405),
        ("PUT /nowhere", "Transfer-Encoding: chunked\r\n", 404),
        ("PUT /hello/1", "Content-Length: 5000\r\n", 400),
        ("PUT /hello/ada", "Content-Length: 5000\r\n", 413),
        ("PUT /nowhere", "Content-Length: 28\r\nExpect: 100-continue\r\n", 404),
    ];
    for (line, length, status) in requests {
        let mut connection = service.connect();
        connection.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{length}\r\n"));
        let response = connection.receive();
        response.problem(status);
        assert!(response.closes() && connection.is_closed(), "{line}: {response:?}");
    }
}
