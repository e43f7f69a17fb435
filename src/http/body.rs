//! The body of a PUT: bounded in size and time, then read as JSON.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::body::Body;
use serde::Deserialize;
use serde::de::{Error as _, Unexpected};
use tokio::time::timeout;

use super::BoxError;
use super::mistake::mistake;
use super::problem::Problem;

/// The largest body, in bytes.
const MAX_BODY: usize = 1024;

const EXAMPLE: &str = "write {\"dateOfBirth\":\"YYYY-MM-DD\"}";

/// Reads the body and returns its date of birth as written.
pub(super) async fn date_of_birth<B>(body: &mut B, limit: Duration) -> Result<String, Problem>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    // A body that announces too many bytes is refused before it is read.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let bytes = timeout(limit, collect(body)).await.map_err(|_| {
        let detail = "the body of the request took too long: send it in one go";
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail).closing()
    })??;
    parse(&bytes).map(|person| person.date_of_birth)
}

/// The whole body, which is nearly always a single frame.
async fn collect<B: Body<Error: Into<BoxError>> + Unpin>(body: &mut B) -> Result<Bytes, Problem> {
    let mut whole = Bytes::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::misframed("the body is incomplete or badly chunked: send all of it"))?;
        let Ok(mut data) = frame.into_data() else { continue };
        if whole.len() + data.remaining() > MAX_BODY {
            return Err(too_large());
        }
        let data = data.copy_to_bytes(data.remaining());
        whole = if whole.is_empty() { data } else { [whole, data].concat().into() };
    }
    Ok(whole)
}

/// Reads and discards the rest of a body; false if it does not end soon.
pub(super) async fn finish<B>(body: B, limit: Duration) -> bool
where
    B: Body<Error: Into<BoxError>>,
{
    let is_small = body.size_hint().lower() <= MAX_BODY as u64;
    is_small && timeout(limit, Limited::new(body, MAX_BODY).collect()).await.is_ok_and(|left| left.is_ok())
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too large: {EXAMPLE} in at most {MAX_BODY} bytes"))
}

fn bad(detail: impl fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail.to_string())
}

fn parse(bytes: &[u8]) -> Result<Person, Problem> {
    if bytes.is_empty() {
        return Err(bad(format_args!("the body is empty: {EXAMPLE}")));
    }
    // Ignored fields must be text, too: the parser skips them unchecked.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(bad(format_args!("the body {}: {EXAMPLE}", mistake(bytes).unwrap_or("is not UTF-8"))));
    };
    let json = text.trim_start();
    let parsed = match json.as_bytes() {
        // An array's elements would be taken for the fields, in their order.
        [b'[', ..] => Err(serde_json::Error::invalid_type(Unexpected::Seq, &"an object")),
        _ => serde_json::from_str(text),
    };
    parsed.map_err(|error| {
        // If the JSON itself is valid, only the parser knows what is wrong. But a string may contain the intended object.
        let named = mistake(bytes).filter(|_| !error.is_data() || json.starts_with('"'));
        named.map_or_else(
            || bad(format_args!("the body is not as expected: {error}: {EXAMPLE}")),
            |mistake| bad(format_args!("the body {mistake}: {EXAMPLE}")),
        )
    })
}

/// The body: an object with one field that counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Person {
    date_of_birth: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_with_one_date_of_birth_is_read_and_other_fields_are_ignored() {
        let cases = [
            r#"{"dateOfBirth":"1815-12-10"}"#,
            r#" {"name":{"dateOfBirth":1},"dateOfBirth":"1815-12-10","n":[1,{}],"name":2} "#,
            r#"{"dateOfBirth":"1815\u002d12-10"}"#,
            r#"{"\u0064ateOfBirth":"1815-12-10"}"#,
        ];
        for text in cases {
            assert_eq!(parse(text.as_bytes()).map(|person| person.date_of_birth).ok().as_deref(), Some("1815-12-10"));
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        let nested = "[".repeat(1000);
        let cases: [&[u8]; 17] = [
            b"",
            b" ",
            b"null",
            b"[\"1815-12-10\"]",
            b"\"1815-12-10\"",
            b"{}",
            b"{\"dateofbirth\":\"1815-12-10\"}",
            b"{\"dateOfBirth\":null}",
            b"{\"dateOfBirth\":18151210}",
            b"{\"dateOfBirth\":[\"1815-12-10\"]}",
            b"{\"dateOfBirth\":\"1815-12-10\",\"dateOfBirth\":\"1815-12-10\"}",
            b"{\"dateOfBirth\":\"1815-12-10\"}{}",
            b"{\"dateOfBirth\":\"1815-12-10\"",
            b"{\"dateOfBirth\":\"1815-12-10\xff\"}",
            b"{\"ignored\":\"\xff\",\"dateOfBirth\":\"1815-12-10\"}",
            b"\xef\xbb\xbf{\"dateOfBirth\":\"1815-12-10\"}",
            nested.as_bytes(),
        ];
        for bytes in cases {
            let problem =
                parse(bytes).map(drop).map_err(|problem| String::from_utf8_lossy(&problem.document()).into_owned());
            assert!(problem.is_err_and(|text| text.contains("YYYY-MM-DD")), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
