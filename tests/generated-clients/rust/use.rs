//! Uses the generated Rust client against the service at the given URL.

use std::fmt::Debug;

use dob_client::apis::configuration::Configuration;
use dob_client::apis::default_api::{GreetError, SaveError, check, describe, greet, health, save};
use dob_client::apis::{Error, ResponseContent};
use dob_client::models::Person;

/// What the call must be refused with.
fn refused<T: Debug, E: Debug>(answer: Result<T, Error<E>>) -> ResponseContent<E> {
    match answer {
        Err(Error::ResponseError(content)) => content,
        other => panic!("not refused: {other:?}"),
    }
}

async fn use_client(base_path: String) {
    let service = Configuration { base_path, ..Configuration::new() };
    let born = |date: &str| Person::new(date.parse().expect("a date"));

    health(&service).await.expect("the service is healthy");
    let unknown = refused(greet(&service, "rust").await);
    assert_eq!(unknown.status, 404);
    // The client takes any problem for that of the first status; it must know that it is one.
    assert!(!matches!(unknown.entity, None | Some(GreetError::UnknownValue(_))), "{}", unknown.content);
    assert_eq!(refused(check(&service, "rust").await).status, 404);
    save(&service, "rust", born("1815-12-10")).await.expect("a date is saved");
    assert!(greet(&service, "rust").await.expect("a greeting").message.starts_with("Hello, rust! "));
    check(&service, "rust").await.expect("the user is known");
    let unborn = refused(save(&service, "rust", born("9999-12-31")).await);
    assert_eq!(unborn.status, 400);
    assert!(matches!(unborn.entity, Some(SaveError::Status400(problem)) if problem.detail.contains(' ')));
    assert!(unborn.content.contains("dateOfBirth"), "{}", unborn.content);
    assert_eq!(refused(greet(&service, "1").await).status, 400);
    assert!(describe(&service).await.expect("a description").is_object());
}

fn main() {
    let base_path = std::env::args().nth(1).expect("a URL");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(use_client(base_path));
}
