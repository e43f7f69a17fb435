//! Refusals as clients see them: problem documents (RFC 9457) that say how to fix the request.

use std::borrow::Cow;

use hyper::StatusCode;
use serde::Serialize;

use crate::route::Refusal;

/// The media type of a problem document.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was refused, with what the response needs.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    detail: Cow<'static, str>,
    pub(super) allow: Option<&'static str>,
    /// Whether the connection must close: it is unclear where the request ends, and so where the next one starts.
    pub(super) closes: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), allow: None, closes: false }
    }

    pub(super) fn misframed(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail).closing()
    }

    pub(super) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The document's bytes.
    pub(super) fn document(&self) -> Vec<u8> {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        // A struct of strings and a number always serializes.
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownPath => Self::new(
                StatusCode::NOT_FOUND,
                "there is nothing at this path: use /hello/<username>, with letters from A to Z",
            ),
            Refusal::MethodNotAllowed(methods) => Self {
                allow: Some(methods),
                ..Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this method is not allowed here: use {methods}"))
            },
            Refusal::Username(error) => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            Refusal::Date(error) => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            Refusal::UnknownUser => Self::new(
                StatusCode::NOT_FOUND,
                "no date of birth is saved for this user: PUT {\"dateOfBirth\":\"YYYY-MM-DD\"} here first",
            ),
            Refusal::Store(error) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Refusal::Starting => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the service is starting and has not reached its database yet",
            ),
            Refusal::Draining => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the service is shutting down: send requests to another host",
            ),
        }
    }
}

/// A whole response to a client that does not complete the head of its request: hyper has no request yet.
#[must_use]
pub fn raw_timeout() -> Vec<u8> {
    raw(&Problem::new(StatusCode::REQUEST_TIMEOUT, "the head of the request took too long: send it in one go"))
}

/// A whole response to a client that sent no HTTP/1 request.
#[must_use]
pub fn raw_malformed() -> Vec<u8> {
    raw(&Problem::new(
        StatusCode::BAD_REQUEST,
        "this is not a complete HTTP/1.1 request: send one, without TLS or HTTP/2",
    ))
}

/// A whole response for a connection over the limit.
#[must_use]
pub fn raw_overload() -> Vec<u8> {
    raw(&Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many connections are open: try again in a moment"))
}

fn raw(problem: &Problem) -> Vec<u8> {
    let document = problem.document();
    let retry = if problem.status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: {MEDIA_TYPE}\r\ncache-control: no-store\r\ncontent-length: {}\r\n{retry}\
         connection: close\r\n\r\n",
        problem.status,
        document.len()
    );
    [head.into_bytes(), document].concat()
}
