//! The service behaves as its OpenAPI document describes: schemathesis with all checks.

use std::process::Command;

use crate::settings;
use crate::support::database::Database;
use crate::support::service::{Launch, Service};

fn answers_are_as_described(service: &Service) {
    let (seed, examples) = (settings::seed(), settings::number("DOB_API_SCHEMA_EXAMPLES", 50));
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/schemathesis"));
    command.arg(format!("http://{}/openapi.json", service.address));
    command.args(["--seed", &seed.to_string(), "--max-examples", &examples.to_string()]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn answers_from_the_embedded_store_are_as_described() {
    answers_are_as_described(&Launch::embedded().start());
}

#[test]
fn answers_from_postgresql_are_as_described() {
    let database = Database::new();
    answers_are_as_described(&Launch::postgres(database.url()).start());
}
