//! Method, target and body: the service must answer what the model of the contract does.

use std::cell::RefCell;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri};
use tokio::runtime::{Builder, Runtime};

use super::service::Service;
use crate::calendar;
use crate::model::{Expected, Model};

struct Pair {
    runtime: Runtime,
    service: Service,
    model: Model,
}

thread_local!(static PAIR: RefCell<Pair> = RefCell::new(Pair::new()));

impl Pair {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let guard = runtime.enter();
        let service = Service::new(calendar::zone());
        drop(guard);
        let today = calendar::today();
        let model = Model::new((today.year() as u32, today.month() as u32, today.day() as u32));
        Self { runtime, service, model }
    }

    fn compare(&mut self, method: &str, target: &str, body: &[u8]) {
        let Ok(uri) = Uri::try_from(target) else { return };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "a")
            .body(Full::new(Bytes::copy_from_slice(body)));
        let Ok(request) = request else { return };
        let expected = self.model.answer(method, target, "", body);
        let response = self.runtime.block_on(self.service.handler.handle(request, Instant::now()));
        assert_eq!(
            response.status().as_u16(),
            expected.status(),
            "{method} {target} {:?}: {expected:?}",
            String::from_utf8_lossy(body)
        );
        let allow = response.headers().get("allow").map(|value| value.to_str().expect("text").to_owned());
        let bytes = self.runtime.block_on(response.into_body().collect()).expect("a body").to_bytes();
        match expected {
            Expected::Greeting(name, (year, month, day)) => {
                let born = jiff::civil::date(year as i16, month as i8, day as i8);
                let message = format!("{{\"message\":\"{}\"}}", calendar::greeting(&name, born));
                assert_eq!(bytes, message.as_bytes());
            }
            Expected::Saved => assert!(bytes.is_empty()),
            Expected::Document => assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok()),
            Expected::Problem(status) => problem(&bytes, status),
            Expected::NotAllowed(methods) => {
                assert_eq!(allow.as_deref(), Some(methods));
                problem(&bytes, 405);
            }
        }
    }
}

fn problem(bytes: &[u8], status: u16) {
    let document: serde_json::Value = serde_json::from_slice(bytes).expect("a problem document");
    assert_eq!(document["status"], status);
    assert!(document["detail"].as_str().is_some_and(|detail| detail.contains(' ')));
}

/// An input is a line with the method, one with the target, and the body.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let (Some(method), Some(target), Some(body)) = (parts.next(), parts.next(), parts.next()) else { return };
    let (Ok(method), Ok(target)) = (std::str::from_utf8(method), std::str::from_utf8(target)) else { return };
    if target.starts_with('/') {
        PAIR.with_borrow_mut(|pair| pair.compare(method, target, body));
    }
}
