//! What the machine runs out of: the service degrades as stated, and recovers without a restart.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use jiff::civil::date;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::calendar::{self, greeting_on};
use crate::support::certificates::Authority;
use crate::support::http::{Connection, Response, request};
use crate::support::postgres::Server;
use crate::support::service::{BINARY, Launch, Service};
use crate::support::{process, until};

/// Runs a tool that must succeed.
fn tool(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Sets a limit of a running process.
fn limit(service: &Service, limit: &str) {
    tool("prlimit", &["--pid", &service.pid().to_string(), limit]);
}

#[test]
fn when_file_descriptors_run_out_connections_wait_and_are_served_afterwards() {
    let service = Launch::embedded().start();
    service.save("ada", date(1815, 12, 10));
    let mut held = service.connect();
    assert_eq!(held.get("/healthz").status, 200);
    limit(&service, &format!("--nofile={}:4096", service.open_files()));
    let mut waiting = service.connections(5);
    for connection in &mut waiting {
        connection.ask("GET", "/hello/ada", "");
    }
    until("the service says so", || service.log().contains("cannot accept connections"));
    // Those who are served already do not notice.
    assert_eq!(held.get("/healthz").status, 200);
    assert_eq!(held.put("/hello/bob", &calendar::body(date(1906, 12, 9))).status, 204);
    limit(&service, "--nofile=4096:4096");
    for connection in &mut waiting {
        assert_eq!(connection.receive().message(), calendar::greeting("ada", date(1815, 12, 10)));
    }
}

const CLIENTS: usize = 2000;

/// The static binary, whose allocator is the one that counts, with a limit of its memory, the stacks of its threads included.
fn within(megabytes: u64) -> Service {
    process::raise_open_files(CLIENTS as u64 + 2000);
    let binary = std::env::var("DOB_API_STATIC_BINARY").expect("tests/hostile/run names the static binary");
    // Sending and receiving one client after the other takes seconds on a busy machine.
    let launch = Launch::embedded()
        .set("DOB_API_MAX_CONNECTIONS", (CLIENTS + 10).to_string())
        .set("DOB_API_HEADER_TIMEOUT", "120s")
        .set("DOB_API_BODY_TIMEOUT", "120s");
    let service = launch.bind_as(process::command(&binary));
    service.await_health(200);
    limit(&service, &format!("--data={0}:{0}", megabytes << 20));
    service.save("ada", date(1815, 12, 10));
    service
}

/// Each client sends `pieces`, one after the other, and is served once it has sent `rest`. Until then the service needs less than
/// `kib` for each, itself included.
fn are_served(service: &Service, clients: &mut [Connection], pieces: &[String], rest: &str, kib: u64) {
    for piece in pieces {
        for client in &mut *clients {
            client.send(piece);
        }
        until("all of it is read", || unread(service.address.port()) == 0);
    }
    let needed = service.resident_kib();
    assert!(needed < kib * clients.len() as u64, "{needed} KiB");
    for client in clients {
        client.send(rest);
        assert!([200, 204].contains(&client.receive().status));
    }
}

/// A head of which the last line is not there.
fn half_a_head(size: usize) -> String {
    format!("GET /hello/ada HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(size))
}

#[test]
fn within_64_mb_two_thousand_clients_with_half_a_head_each_are_served() {
    let service = within(64);
    let mut clients = service.connections(CLIENTS);
    // Once new, then after a request, then in pieces.
    are_served(&service, &mut clients, &[half_a_head(8000)], "\r\n\r\n", 16);
    are_served(&service, &mut clients, &[half_a_head(8000)], "\r\n\r\n", 16);
    let pieces = [half_a_head(4000), "x".repeat(4000), "x".repeat(4000), "x".repeat(3000)];
    are_served(&service, &mut clients, &pieces, "\r\n\r\n", 24);
}

#[test]
fn within_80_mb_two_thousand_clients_with_half_a_body_each_are_served() {
    let service = within(80);
    let mut clients = service.connections(CLIENTS);
    let body = calendar::body(date(1815, 12, 10));
    let (start, rest) = body.split_at(9);
    let head = format!("PUT /hello/ada HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{start}", body.len());
    are_served(&service, &mut clients, &[head], rest, 32);
}

#[test]
fn what_an_idle_client_costs_is_soon_a_few_kilobytes_and_what_it_has_sent() {
    let service = within(80);
    let mut clients = service.connections(CLIENTS);
    let shrinks_to = |kib: u64| until("buffers are given back", || service.resident_kib() < kib * CLIENTS as u64);
    for _ in 0..2 {
        for client in &mut clients {
            assert_eq!(client.get("/hello/ada").status, 200);
        }
        shrinks_to(8);
    }
    // Half of a head behind a request.
    let get = request("GET", "/hello/ada", "");
    for client in clients.iter_mut().take(CLIENTS / 2) {
        client.send(get.clone() + &half_a_head(7000));
        assert_eq!(client.receive().status, 200);
    }
    shrinks_to(12);
    are_served(&service, &mut clients[..CLIENTS / 2], &[], "\r\n\r\n", 24);
}

/// The bytes that clients of `port` have sent and the service has not read.
fn unread(port: u16) -> u64 {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-H", "-t", "-n", "state", "established", &filter]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum()
}

/// What the kernel may keep for one connection, in each direction. The documents multiply it.
const KERNEL_BUFFER: u64 = 32 * 1024;

/// What one piece may take beyond it: a buffer takes no more once it is full, not before.
const PIECE: u64 = 64 * 1024;

/// Asks for `path` until the service takes no more for a second, and reads nothing. The connection must live on.
fn ask_and_read_nothing(address: SocketAddr, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut client = TcpStream::from(socket);
    let requests = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(100);
    let is_full = |error: &io::Error| {
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
    };
    let error = std::iter::repeat_with(|| client.write_all(requests.as_bytes())).find_map(Result::err);
    assert!(error.as_ref().is_some_and(is_full), "{error:?}");
    client
}

/// The bytes that the kernel keeps for each connection of the service's `port`: received, and to be sent.
fn kernel_memory(port: u16) -> Vec<(u64, u64)> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-H", "-t", "-n", "-m", "-O", "state", "established", &filter]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let sockets = text.lines().map(|line| {
        let (_, memory) = line.split_once("skmem:(").unwrap_or_else(|| panic!("{line}"));
        let number = |letter: char| memory.split([',', ')']).find_map(|part| part.strip_prefix(letter)?.parse().ok());
        (number('r').expect("received"), number('w').expect("to be sent"))
    });
    sockets.collect()
}

fn keeps_little(address: SocketAddr, path: &str) {
    const CLIENTS: usize = 16;
    let clients: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask_and_read_nothing(address, path))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let mut kept = Vec::new();
    until("the service has answered what fits, and no more comes", || {
        let before = std::mem::replace(&mut kept, kernel_memory(address.port()));
        kept == before && kept.len() == clients.len() && kept.iter().all(|(_, to_be_sent)| *to_be_sent > 4 * 1024)
    });
    let is_little = |bytes: u64| bytes <= KERNEL_BUFFER + PIECE;
    assert!(kept.iter().all(|(received, to_be_sent)| is_little(*received) && is_little(*to_be_sent)), "{kept:?}");
}

#[test]
fn a_client_that_does_not_read_costs_the_kernel_little() {
    let service = Launch::embedded().start();
    keeps_little(service.address, "/openapi.json");
    keeps_little(service.admin, "/metrics");
    assert_eq!(service.health(), 200);
    assert_eq!(service.admin("/live").status, 200);
}

#[test]
fn a_client_that_does_not_read_costs_little_on_a_socket_that_was_inherited() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = process::command("sh");
    command.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" 3<&0 </dev/null", BINARY]);
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    let service = Launch::embedded().bind_as(command);
    assert_eq!(service.address, address);
    service.await_health(200);
    keeps_little(address, "/openapi.json");
    assert_eq!(service.health(), 200);
}

/// A file system of one's own; it is gone when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, size: &str) -> Self {
        tool("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "none", folder.to_str().unwrap()]);
        Self(folder.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_loses_none_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), "4m");
    let service = Launch::embedded().set("DOB_API_DATA_DIR", folder.path().to_str().unwrap()).start();
    service.save("ada", date(1815, 12, 10));
    let filler = folder.path().join("filler");
    let mut fill = Command::new("dd");
    fill.arg("if=/dev/zero").arg(format!("of={}", filler.display())).arg("bs=4k");
    assert!(!fill.output().unwrap().status.success(), "dd stops where the disk is full");
    let (mut saved, mut refused) = (0, None);
    let mut connection = service.connect();
    // The file has room of its own for a while.
    while refused.is_none() && saved < 20_000 {
        let response = connection.put(&path(saved), &calendar::body(calendar::numbered(saved)));
        if response.status == 204 { saved += 1 } else { refused = Some(response) }
    }
    refused.expect("a refusal on a full disk").problem(503);
    service.greets("ada", date(1815, 12, 10));
    fs::remove_file(filler).unwrap();
    until("writes succeed again", || connection.put("/hello/bob", &calendar::body(date(1906, 12, 9))).status == 204);
    for number in 0..saved {
        service_greets(&mut connection, number);
    }
    drop(service);
    drop(disk);
}

fn path(number: u32) -> String {
    format!("/hello/{}", calendar::name("f", number))
}

fn service_greets(connection: &mut Connection, number: u32) {
    let expected = calendar::greeting(&calendar::name("f", number), calendar::numbered(number));
    assert_eq!(connection.get(&path(number)).message(), expected);
}

/// A clock for the service alone, set by a file; it ticks on from there.
struct Clock(PathBuf);

impl Clock {
    fn new(launch: &Launch, now: &str) -> Self {
        let clock = Self(launch.data().join("clock"));
        clock.set(now);
        clock
    }

    fn set(&self, now: &str) {
        // The library may read the file at any time.
        let next = self.0.with_extension("next");
        fs::write(&next, format!("@{now}\n")).unwrap();
        fs::rename(next, &self.0).unwrap();
    }

    fn start(&self, launch: Launch) -> Service {
        let library = fs::read_dir("/usr/lib").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path().join("faketime/libfaketime.so.1");
            path.exists().then_some(path)
        });
        let library = library.last().expect("libfaketime is not installed: run `./dev need libfaketime`");
        let mut command = process::command("env");
        command.arg(format!("LD_PRELOAD={}", library.display()));
        command.arg(format!("FAKETIME_TIMESTAMP_FILE={}", self.0.display()));
        command.args(["FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "TZ=UTC"]);
        command.arg(BINARY);
        launch.set("DOB_API_TIME_ZONE", "UTC").bind_as(command)
    }
}

#[test]
fn the_clock_may_jump_over_midnight_and_28_february_and_back() {
    let launch = Launch::embedded();
    let clock = Clock::new(&launch, "2027-02-28 12:00:00");
    let service = clock.start(launch);
    let leap = date(2024, 2, 29);
    service.save("leap", leap);
    let message = |response: Response| response.message();
    let moments = [
        ("2027-02-28 12:00:00", date(2027, 2, 28)),
        ("2027-03-01 00:00:01", date(2027, 3, 1)),
        ("2028-02-29 12:00:00", date(2028, 2, 29)),
        ("2027-02-28 12:00:00", date(2027, 2, 28)),
        ("2027-12-31 12:00:00", date(2027, 12, 31)),
        ("2000-01-01 12:00:00", date(2000, 1, 1)),
        ("2028-03-01 12:00:00", date(2028, 3, 1)),
    ];
    let mut kept = service.connect();
    for (moment, today) in moments {
        clock.set(moment);
        until("the service sees the new time", || message(kept.get("/hello/leap")) == greeting_on(today, "leap", leap));
        // Yesterday is the last day that anybody can have been born on, today the first that nobody can.
        assert_eq!(kept.put("/hello/young", &calendar::body(today.yesterday().unwrap())).status, 204, "{moment}");
        kept.put("/hello/young", &calendar::body(today)).problem(400);
    }
    // Midnight comes by itself, too.
    clock.set("2027-12-31 23:59:58");
    until("the year ends", || message(kept.get("/hello/leap")) == greeting_on(date(2028, 1, 1), "leap", leap));
}

#[test]
fn a_certificate_that_expires_is_refused_until_it_is_renewed() {
    let authority = Authority::new();
    let server = Server::start();
    server.identify(&authority.issue_until("localhost", 2030));
    let launch = Launch::postgres(server.url("postgres").replace("127.0.0.1", "localhost") + "?sslmode=require")
        .set("DOB_API_READ_PATIENCE", "1s")
        .set("DOB_API_WRITE_PATIENCE", "1s");
    let file = launch.data().join("ca.pem");
    fs::write(&file, &authority.pem).unwrap();
    let clock = Clock::new(&launch, "2029-12-31 12:00:00");
    let service = clock.start(launch.set("DATABASE_CA_FILE", file.to_str().unwrap()));
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
    clock.set("2030-06-01 12:00:00");
    // Open sessions continue; new ones are refused.
    service.save("bob", date(1906, 12, 9));
    server.terminate_sessions("postgres");
    until("the service says so", || service.log().to_lowercase().contains("expired"));
    service.get("/hello/ada").problem(503);
    assert_eq!(service.health(), 200);
    server.identify(&authority.issue("localhost"));
    until("a new certificate is taken", || service.get("/hello/ada").status == 200);
    service.save("eve", date(1815, 12, 10));
}

/// The service, with a file of ours in the place of one of the system's.
fn with(file: &Path, place: &str) -> Command {
    let mut command = process::command("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$1\" \"$2\" && exec \"$3\"", "with"]).args([
        file,
        place.as_ref(),
        BINARY.as_ref(),
    ]);
    command
}

#[test]
fn a_name_that_cannot_be_resolved_is_asked_for_again() {
    let server = Server::start();
    let launch = Launch::postgres(server.url("postgres").replace("127.0.0.1", "db.test"))
        .set("DOB_API_READ_PATIENCE", "1s")
        .set("DOB_API_WRITE_PATIENCE", "1s");
    let hosts = launch.data().join("hosts");
    let (unknown, known) = ("127.0.0.1 localhost\n", "127.0.0.1 localhost db.test\n");
    fs::write(&hosts, known).unwrap();
    let command = with(&hosts, "/etc/hosts");
    let url = server.url("postgres").replace("127.0.0.1", "db.test") + "?sslmode=disable";
    let service = launch.set("DATABASE_URL", url).bind_as(command);
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
    // Written in place: the mount shows this very file.
    fs::write(&hosts, unknown).unwrap();
    service.greets("ada", date(1815, 12, 10));
    server.terminate_sessions("postgres");
    until("reads are refused", || service.get("/hello/ada").status == 503);
    assert_eq!(service.health(), 200);
    fs::write(&hosts, known).unwrap();
    until("the name is known again", || service.get("/hello/ada").status == 200);
    service.save("bob", date(1906, 12, 9));
}

#[test]
fn a_lookup_under_way_does_not_hold_up_the_end() {
    let silent = UdpSocket::bind("127.9.9.9:53").unwrap();
    let launch = Launch::postgres("postgres://dob@db.test/dob?sslmode=disable").set("DOB_API_DRAIN_DELAY", "0ms");
    let settings = launch.data().join("resolv.conf");
    fs::write(&settings, "nameserver 127.9.9.9\noptions timeout:5 attempts:3\n").unwrap();
    let mut service = launch.bind_as(with(&settings, "/etc/resolv.conf"));
    let mut question = [0; 512];
    let mut asked =
        vec![silent.recv_from(&mut question).map(|(size, from)| (from, question[..size].to_vec())).unwrap()];
    service.signal(Signal::TERM);
    assert!(service.wait().success());
    silent.set_nonblocking(true).unwrap();
    while let Ok((size, from)) = silent.recv_from(&mut question) {
        let again = (from, question[..size].to_vec());
        assert!(!asked.contains(&again), "the end waited until the name was asked for once more");
        asked.push(again);
    }
}
