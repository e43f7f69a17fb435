//! What an error says is what happened.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use jiff::civil::date;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use support::calendar::body;
use support::certificates::Identity;
use support::postgres::Server;
use support::service::Launch;
use support::until;

#[test]
fn a_read_without_an_answer_does_not_speak_of_a_write_and_a_write_does() {
    let server = Server::start();
    let service = Launch::postgres(server.url("postgres"))
        .set("DOB_API_READ_PATIENCE", "1s")
        .set("DOB_API_WRITE_PATIENCE", "1s")
        .start();
    service.save("ada", date(1815, 12, 10));
    let _frozen = server.freeze();
    let (mut reader, mut writer) = (service.connect(), service.connect());
    reader.ask("GET", "/hello/ada", "");
    writer.ask("PUT", "/hello/ada", &body(date(1906, 12, 9)));
    let read = reader.receive().problem(503);
    assert!(!read.contains("write") && !read.contains("saved"), "{read}");
    let written = writer.receive().problem(503);
    assert!(written.contains("may have been saved"), "{written}");
}

#[test]
fn a_server_certificate_that_is_its_own_authority_is_named_as_the_cause() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    let server = Server::start();
    server.identify(&Identity { certificate: certificate.clone(), key: key.serialize_pem() });
    let url = format!("postgres://postgres@localhost:{}/postgres?sslmode=require", server.port);
    let launch = Launch::postgres(url);
    let file = launch.data().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();
    let service = launch.set("DATABASE_CA_FILE", file.to_str().unwrap()).bind();
    until("the service complains", || service.complains());
    let complaints = service.complaints();
    assert!(complaints[0].contains("its own CA"), "{complaints:#?}");
    assert!(!complaints[0].contains("check DATABASE_CA_FILE"), "{complaints:#?}");
}
