//! What a service manager passes: sockets, where to notify it, a watchdog.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use jiff::civil::date;
use rustix::process::Signal;
use support::calendar::{body, greeting};
use support::http::Connection;
use support::process::{self, Output};
use support::service::{BINARY, Ended, Launch};
use support::{PATIENCE, until};

/// A command that passes its standard input as the first of `count` inherited descriptors, and `others` of the shell's.
fn passing(first: impl Into<OwnedFd>, count: u32, others: &str) -> Command {
    let mut command = process::command("sh");
    let exec = format!("LISTEN_FDS={count} LISTEN_PID=$$ exec \"$0\" 3<&0 {others} </dev/null");
    command.args(["-c", &exec, BINARY]).stdin(Stdio::from(first.into()));
    command
}

#[test]
fn every_inherited_socket_is_served_by_every_thread() {
    for threads in ["1", "3"] {
        let launch = Launch::embedded().set("DOB_API_THREADS", threads).set("DOB_API_DRAIN_DELAY", "0ms");
        let listeners = ["127.0.0.1:0", "127.0.0.2:0"].map(|address| TcpListener::bind(address).unwrap());
        let addresses = [&listeners[0], &listeners[1]].map(|listener| listener.local_addr().unwrap());
        let [first, second] = listeners;
        // The second comes in the place of standard error, of which there is none other to borrow.
        let mut command = passing(first, 2, "4<&2 2>/dev/null");
        launch.prepare(&mut command);
        command.stderr(Stdio::from(OwnedFd::from(second)));
        let mut child = process::spawn(command);
        let announced = Output::of(child.stdout.take().unwrap());
        until("it is announced", || announced.text().contains("admin listening"));
        for address in addresses {
            assert!(announced.text().contains(&format!("listening on http://{address}\n")), "{}", announced.text());
            for _ in 0..8 {
                let mut connection = Connection::open(address);
                assert_eq!(connection.put("/hello/ada", &body(date(1815, 12, 10))).status, 204);
                assert_eq!(connection.get("/hello/ada").message(), greeting("ada", date(1815, 12, 10)));
            }
        }
        process::signal(child.id(), Signal::TERM);
        assert!(process::wait(&mut child).success());
        for address in addresses {
            assert!(Connection::try_open(address).is_err(), "nobody holds {address} any more");
        }
    }
}

fn refused(first: impl Into<OwnedFd>, names: &str, count: u32, others: &str, parts: &[&str]) {
    let launch = Launch::embedded().set("LISTEN_FDNAMES", names);
    let mut command = passing(first, count, others);
    launch.prepare(&mut command);
    let ended = Ended::of(process::spawn(command));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(parts);
    assert_eq!(ended.stdout, "", "nothing is announced");
}

#[test]
fn an_inherited_descriptor_that_is_no_tcp_listener_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    refused(
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        "dns",
        1,
        "",
        &["descriptor 3 (dns)", "not a listening TCP socket"],
    );
    refused(UnixListener::bind(directory.path().join("socket")).unwrap(), "", 1, "", &["descriptor 3"]);
    refused(std::fs::File::open("/dev/null").unwrap(), "", 1, "", &["descriptor 3"]);
    let (peer, here) = (listener(), listener().local_addr().unwrap());
    let connected = TcpStream::connect(peer.local_addr().unwrap()).unwrap();
    refused(connected, "", 1, "", &["descriptor 3"]);
    let unbound = socket2::Socket::new(socket2::Domain::for_address(here), socket2::Type::STREAM, None).unwrap();
    refused(unbound, "", 1, "", &["descriptor 3"]);
    refused(listener(), "http:null", 2, "4</dev/null", &["descriptor 4 (null)"]);
    refused(listener(), "", 2, "", &["descriptor 4"]);
}

#[test]
fn an_absurd_number_of_sockets_is_refused() {
    for count in ["99999999", "many"] {
        let ended = Launch::embedded().set("LISTEN_FDS", count).run();
        assert_eq!(ended.code, Some(64), "{ended:?}");
        ended.sentence(&["LISTEN_FDS"]);
    }
}

#[test]
fn an_abstract_socket_is_told_of_start_and_end() {
    let name = format!("dob-api-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut service =
        Launch::embedded().set("NOTIFY_SOCKET", format!("@{name}")).set("DOB_API_DRAIN_DELAY", "0ms").start();
    let mut message = [0; 64];
    let mut receive = || {
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert_eq!(receive(), "READY=1");
    service.signal(Signal::TERM);
    assert_eq!(receive(), "STOPPING=1");
    assert!(service.wait().success());
    assert_eq!(service.complaints(), Vec::<String>::new());
}

#[test]
fn a_notify_socket_that_cannot_be_one_is_named() {
    for address in ["relative", "@", "vsock:2:1234", &format!("/{}", "x".repeat(200))] {
        let ended = Launch::embedded().set("NOTIFY_SOCKET", address).run();
        assert_eq!(ended.code, Some(64), "{ended:?}");
        ended.sentence(&["NOTIFY_SOCKET"]);
    }
}

#[test]
fn a_service_manager_that_has_gone_is_complained_of_and_does_not_stop_the_start() {
    let launch = Launch::embedded();
    let path = launch.data().join("gone");
    let service = launch.set("NOTIFY_SOCKET", path.to_str().unwrap()).set("WATCHDOG_USEC", "30000").start();
    until("it is complained of", || service.complains());
}

#[test]
fn no_value_of_the_watchdog_breaks_the_service() {
    let launch = |patience: &str| {
        let launch = Launch::embedded().set("WATCHDOG_USEC", patience);
        let path = launch.data().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (socket, launch.set("NOTIFY_SOCKET", path.to_str().unwrap()).set("DOB_API_DRAIN_DELAY", "0ms"))
    };
    let messages = |socket: &UnixDatagram| {
        let mut message = [0; 64];
        std::iter::from_fn(|| Some(socket.recv(&mut message).map(|length| message[..length].to_vec()).unwrap()))
            .take_while(|message| message != b"STOPPING=1")
            .filter(|message| message == b"WATCHDOG=1")
            .count()
    };
    for (patience, pid, is_fed) in [
        ("0", None, false),
        ("1", None, true),
        ("2", None, true),
        ("18446744073709551615", None, true),
        ("1000000", Some("1"), false),
        ("nonsense", Some("1"), false),
    ] {
        let (socket, mut launch) = launch(patience);
        if let Some(pid) = pid {
            launch = launch.set("WATCHDOG_PID", pid);
        }
        let mut service = launch.start();
        service.save("ada", date(1815, 12, 10));
        service.signal(Signal::TERM);
        assert!(service.wait().success());
        assert_eq!(messages(&socket) > 0, is_fed, "{patience} {pid:?}");
    }
    for wrong in ["nonsense", "-1", "18446744073709551616"] {
        let (_socket, launch) = launch(wrong);
        let ended = launch.run();
        assert_eq!(ended.code, Some(64), "{ended:?}");
        ended.sentence(&["WATCHDOG_USEC"]);
    }
}

#[test]
fn without_inherited_sockets_the_address_of_the_settings_is_served() {
    let service = Launch::embedded().set("LISTEN_FDS", "0").start();
    assert_ne!(service.address, SocketAddr::from(([127, 0, 0, 1], 0)));
    service.save("ada", date(1815, 12, 10));
}
