//! Names that are looked up badly: half an answer, none, or several addresses of which one is silent.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::civil::date;

use crate::support::dns::{NO_SUCH_NAME, NOT_IMPLEMENTED, NameServer, REFUSED, Reply, SERVER_FAILURE};
use crate::support::postgres::Server;
use crate::support::process;
use crate::support::service::{BINARY, Launch, Service};
use crate::support::until;

const NAME: &str = "database.test";

/// Where the server listens, and where nobody answers.
const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 7);

/// The binary that cargo has built, which looks names up with the C library of this machine, and the static one, which has
/// another.
fn binaries() -> [String; 2] {
    let built = std::env::var("DOB_API_STATIC_BINARY").expect("tests/hostile/run names the static binary");
    [BINARY.to_owned(), built]
}

/// Starts `binary` where `names` is the only name server.
fn bind(binary: &str, names: &NameServer, server: &Server) -> Service {
    let launch = Launch::postgres(format!("postgres://postgres@{NAME}:{}/postgres?sslmode=disable", server.port));
    let settings = launch.data().join("resolv.conf");
    std::fs::write(&settings, format!("nameserver {}\n", names.address)).unwrap();
    launch.bind_as(among(binary, &settings))
}

/// A command that sees `settings` in place of this machine's name servers.
fn among(binary: &str, settings: &Path) -> Command {
    let mut command = process::command("unshare");
    command
        .args(["--mount", "sh", "-c", "mount --bind \"$1\" /etc/resolv.conf && exec \"$2\"", "names"])
        .arg(settings)
        .arg(binary)
        .stdin(Stdio::null());
    command
}

fn serves(service: &Service) {
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
}

fn none() -> Reply {
    Reply::Addresses(Vec::new())
}

/// An address on which connections are neither accepted nor refused. It is silent while the result lives.
fn silence(port: u16) -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind((SILENT, port)).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut fillers = Vec::new();
    let address = listener.local_addr().unwrap();
    while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        fillers.push(filler);
    }
    (listener, fillers)
}

#[test]
fn a_name_is_found_whatever_comes_back_for_its_other_kind_of_address() {
    let server = Server::start();
    let good = || Reply::Addresses(vec![GOOD]);
    let unreachable = Reply::Addresses(vec!["2001:db8::1".parse().unwrap()]);
    let others = [none(), REFUSED, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED, Reply::Silence, unreachable];
    let started: Vec<_> = binaries()
        .iter()
        .flat_map(|binary| others.clone().map(|other| (binary.clone(), other)))
        .map(|(binary, other)| {
            let names = NameServer::start(good(), other.clone());
            let service = bind(&binary, &names, &server);
            (binary, other, names, service)
        })
        .collect();
    for (binary, other, _names, service) in &started {
        until(&format!("{binary} serves in spite of {other:?}"), || service.health() == 200);
    }
    for (.., service) in &started {
        serves(service);
    }
}

#[test]
fn of_several_addresses_one_that_is_silent_does_not_stand_in_the_way() {
    let server = Server::start();
    let _silence = silence(server.port);
    for binary in binaries() {
        for addresses in [vec![SILENT.into(), GOOD], vec![GOOD, SILENT.into()]] {
            let names = NameServer::start(Reply::Addresses(addresses), none());
            let service = bind(&binary, &names, &server);
            serves(&service);
            server.terminate_sessions("postgres");
            serves(&service);
        }
    }
}

#[test]
fn a_name_that_cannot_be_looked_up_is_told_once_and_tried_again() {
    let server = Server::start();
    let failures = [NO_SUCH_NAME, SERVER_FAILURE, REFUSED, Reply::Silence, none()];
    let started: Vec<_> = binaries()
        .iter()
        .flat_map(|binary| failures.clone().map(|failure| (binary.clone(), failure)))
        .map(|(binary, failure)| {
            let names = NameServer::start(failure.clone(), failure.clone());
            let service = bind(&binary, &names, &server);
            (binary, failure, names, service)
        })
        .collect();
    for (binary, failure, names, service) in &started {
        until(&format!("{binary} complains of {failure:?}"), || service.complains());
        let errors = || service.metrics().sum("dob_api_store_errors_total", &[]);
        let before = errors();
        until("it has tried again", || errors() >= before + 2);
        let complaints = service.complaints();
        assert_eq!(complaints.len(), 1, "{complaints:#?}");
        for word in [NAME, "look up"] {
            assert!(complaints[0].contains(word), "'{word}' is missing after {failure:?}: {complaints:#?}");
        }
        names.change(Reply::Addresses(vec![GOOD]), none());
        serves(service);
    }
}

#[test]
fn a_name_that_moves_to_another_address_is_followed() {
    let server = Server::start();
    let elsewhere: IpAddr = "127.0.7.8".parse().unwrap();
    for binary in binaries() {
        let names = NameServer::start(Reply::Addresses(vec![elsewhere]), none());
        let service = bind(&binary, &names, &server);
        until("the service complains", || service.complains());
        names.change(Reply::Addresses(vec![GOOD]), none());
        serves(&service);
    }
}
