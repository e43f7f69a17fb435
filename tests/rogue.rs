//! Servers in the place of the database that want the password: the service does not give it away.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use jiff::civil::date;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::certificates::{Authority, Identity};
use support::postgres::Server;
use support::service::{Launch, Service};
use support::until;

const CLEAR: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
const MD5: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";
const SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
const NOTHING: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
const NOTICE: &[u8] = b"N\0\0\0\x0aMhello\0";
const OLDER: &[u8] = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";

/// A server that says one thing to each client, byte by byte, and keeps what it is told.
struct Rogue {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Rogue {
    fn new(says: Vec<u8>, identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rogue = Self { address: listener.local_addr().unwrap(), told: Arc::default() };
        let told = rogue.told.clone();
        let tls = identity.map(|identity| {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap())
        });
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (says, tls, told) = (says.clone(), tls.clone(), told.clone());
                // A client may leave at any point.
                thread::spawn(move || converse(client, &says, tls, &told));
            }
        });
        rogue
    }

    /// Whether a client has heard what it had to say, and has left.
    fn was_left(&self) -> bool {
        !self.told.lock().unwrap().is_empty()
    }

    /// Whether a client sent a password, or anything in its place.
    fn was_told(&self) -> bool {
        self.told.lock().unwrap().iter().any(|answer| answer.first() == Some(&b'p'))
    }
}

fn converse(
    mut client: TcpStream,
    says: &[u8],
    tls: Option<Arc<ServerConfig>>,
    told: &Mutex<Vec<Vec<u8>>>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    match tls {
        None => talk(client, says, told),
        Some(tls) => {
            let mut asks = [0; 8];
            client.read_exact(&mut asks)?;
            client.write_all(b"S")?;
            talk(StreamOwned::new(ServerConnection::new(tls).unwrap(), client), says, told)
        }
    }
}

fn talk(mut client: impl Read + Write, says: &[u8], told: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut startup = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    client.read_exact(&mut startup)?;
    for byte in says {
        client.write_all(&[*byte])?;
        client.flush()?;
    }
    let mut answer = Vec::new();
    // One that breaks off has said what it had to say.
    let _ = client.read_to_end(&mut answer);
    told.lock().unwrap().push(answer);
    Ok(())
}

/// The service with a password for the server at `address`, which it trusts under `authority`.
fn start(address: SocketAddr, authority: Option<&Authority>, options: &str) -> Service {
    let url = |mode: &str| {
        format!("postgres://app:open-sesame@localhost:{}/postgres?sslmode={mode}{options}", address.port())
    };
    let Some(authority) = authority else { return Launch::postgres(url("disable")).bind() };
    let launch = Launch::postgres(url("require"));
    let file = launch.data().join("ca.pem");
    fs::write(&file, &authority.pem).unwrap();
    launch.set("DATABASE_CA_FILE", file.to_str().unwrap()).bind()
}

#[test]
fn a_server_that_asks_for_the_password_in_clear_text_is_not_told_it() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    let texts = [vec![CLEAR], vec![NOTICE, CLEAR], vec![OLDER, NOTICE, CLEAR], vec![CLEAR, NOTHING]];
    for (encrypted, says) in
        [false, true].into_iter().flat_map(|encrypted| texts.iter().map(move |says| (encrypted, says)))
    {
        let rogue = Rogue::new(says.concat(), encrypted.then_some(&identity));
        let service = start(rogue.address, encrypted.then_some(&authority), "");
        until("the service leaves", || rogue.was_left());
        until("the service says why", || service.log().contains("cannot connect"));
        // What comes before the question, the driver already takes for an error.
        assert!(says[0] != CLEAR || service.log().contains("clear text"), "{says:?}: {}", service.log());
        assert!(!rogue.was_told(), "{says:?}");
        service.get("/healthz").problem(503);
        assert!(!service.log().contains("open-sesame"));
    }
}

#[test]
fn an_administrators_password_is_not_told_in_clear_text_either() {
    let rogue = Rogue::new(CLEAR.to_vec(), None);
    let url = format!("postgres://app@{}/app", rogue.address);
    let admin = format!("postgres://postgres:open-sesame@{}/postgres", rogue.address);
    let service = Launch::postgres(url).set("DOB_API_ADMIN_DATABASE_URL", admin).bind();
    until("the service leaves", || rogue.was_left());
    until("the service says why", || service.log().contains("clear text"));
    assert!(!rogue.was_told());
}

#[test]
fn where_channel_binding_is_required_a_server_without_it_is_told_nothing() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    for says in [CLEAR, MD5, SCRAM, NOTHING] {
        let rogue = Rogue::new(says.to_vec(), Some(&identity));
        let service = start(rogue.address, Some(&authority), "&channel_binding=require");
        until("the service leaves", || rogue.was_left());
        until("the service says why", || service.complains());
        assert!(!rogue.was_told(), "{}", String::from_utf8_lossy(says));
        let complaint = service.complaints().concat();
        assert!(complaint.contains("channel binding") || complaint.contains("clear text"), "{complaint}");
        service.get("/healthz").problem(503);
    }
    // What may be answered is answered: the rogue hears it.
    for says in [MD5, SCRAM] {
        let rogue = Rogue::new(says.to_vec(), Some(&identity));
        let _service = start(rogue.address, Some(&authority), "");
        until("the service answers", || rogue.was_told());
    }
}

#[test]
fn where_channel_binding_is_required_a_server_with_it_is_used() {
    let authority = Authority::new();
    let server = Server::start();
    server.identify(&authority.issue("localhost"));
    let role = "CREATE ROLE app LOGIN PASSWORD 'open-sesame'; GRANT CREATE ON SCHEMA public TO app";
    server.client("postgres").batch_execute(role).unwrap();
    let service = start(([127, 0, 0, 1], server.port).into(), Some(&authority), "&channel_binding=require");
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
    // Without TLS there is nothing to bind to.
    let service = start(([127, 0, 0, 1], server.port).into(), None, "&channel_binding=require");
    until("the service says why", || service.complains());
    assert!(service.complaints().concat().contains("channel binding"), "{}", service.log());
}

#[test]
fn a_server_whose_rules_want_clear_text_or_an_older_hash_is_refused_or_used() {
    let server = Server::start();
    let role = "SET password_encryption = 'md5'; CREATE ROLE app LOGIN PASSWORD 'open-sesame';
                GRANT CREATE ON SCHEMA public TO app";
    server.client("postgres").batch_execute(role).unwrap();
    server.restrict("host all app 127.0.0.1/32 password");
    let service = start(([127, 0, 0, 1], server.port).into(), None, "");
    until("the service says why", || service.log().contains("clear text"));
    service.get("/healthz").problem(503);
    server.restrict("host all app 127.0.0.1/32 md5");
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
}
