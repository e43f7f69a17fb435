//! One request: its bounds, its outcome as a response, its refusal as a problem document.

mod body;
mod mistake;
mod problem;

use std::future::Future;
use std::mem;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, HeaderName,
    HeaderValue, RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};

use self::problem::Problem;
use crate::metrics::HttpMetrics;
use crate::route::{self, Action, Outcome, Router};
use crate::store::Source;

pub use self::problem::{raw_malformed, raw_overload, raw_timeout};

/// The longest request target, in bytes.
const MAX_TARGET: usize = 2048;

const OPENAPI: &str = include_str!("http/openapi.json");

/// Which server a greeting comes from, where it is not the primary.
const X_SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Why a body could not be read.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Something that answers requests. Refusals are answers too: there is no error.
pub trait Answer: Send + Sync + 'static {
    /// Answers one request, whose head was complete at `began`.
    fn answer(&self, request: Request<Incoming>, began: Instant) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// Handles the requests of users.
#[derive(Clone)]
pub struct Handler {
    /// Carries the request out.
    pub router: Router,
    /// Counts the answers.
    pub metrics: HttpMetrics,
    /// How long a body may take.
    pub body_timeout: Duration,
}

impl Answer for Handler {
    fn answer(&self, request: Request<Incoming>, began: Instant) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        self.handle(request, began)
    }
}

impl Handler {
    /// Answers one request with any kind of body.
    pub async fn handle<B>(&self, request: Request<B>, began: Instant) -> Response<Full<Bytes>>
    where
        B: Body<Error: Into<BoxError>> + Unpin,
    {
        let (route, method) = (route::name(request.uri().path()), method_name(request.method()));
        let (mut head, mut body) = request.into_parts();
        let outcome = self.outcome(&head, &mut body).await;
        let closes = outcome.as_ref().is_err_and(|problem| problem.closes);
        // hyper closes the connection if a part of the body is left. A balancer that was not told loses the next request.
        let is_left = !closes
            && !body.is_end_stream()
            && (head.headers.contains_key(EXPECT) || !body::finish(body, self.body_timeout).await);
        let mut response = match outcome {
            Ok(outcome) => success(outcome, mem::take(&mut head.headers)),
            Err(problem) => refusal(&problem),
        };
        if is_left || self.router.lifecycle.is_draining() {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        self.metrics.answered(route, method, response.status().as_u16(), began.elapsed());
        response
    }

    async fn outcome<B>(&self, head: &Parts, body: &mut B) -> Result<Outcome, Problem>
    where
        B: Body<Error: Into<BoxError>> + Unpin,
    {
        check_framing(head, body.is_end_stream())?;
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > MAX_TARGET {
            let detail = format!("the request target is too long: keep it under {MAX_TARGET} bytes");
            return Err(Problem::new(StatusCode::URI_TOO_LONG, detail));
        }
        Ok(match route::resolve(&head.method, head.uri.path())? {
            Action::Greet(username) => self.router.greet(&username).await?,
            Action::Save(username) => {
                check_encoding(&head.headers)?;
                let date = body::date_of_birth(body, self.body_timeout).await?;
                self.router.save(&username, &date).await?
            }
            Action::Health => self.router.health()?,
            Action::OpenApi => Outcome::OpenApi,
        })
    }
}

/// The refusal of a request after which the connection must close: the bytes behind it may not be a request of the same client.
#[must_use]
pub fn misframed(head: &Parts, is_empty: bool) -> Option<Response<Full<Bytes>>> {
    check_framing(head, is_empty).err().as_ref().map(refusal)
}

/// Refuses a request that another server could read differently (RFC 9112, sections 3.2 and 6.1), and one that opens a tunnel: a
/// proxy may send through it what a client wrote.
fn check_framing(head: &Parts, is_empty: bool) -> Result<(), Problem> {
    if head.method == Method::CONNECT {
        return Err(Problem::misframed("this is no proxy: send the request itself"));
    }
    if head.version == Version::HTTP_11 && head.headers.get_all(HOST).iter().count() != 1 {
        return Err(Problem::misframed("the request needs exactly one Host header: send one"));
    }
    if is_empty {
        return Ok(());
    }
    let mut encodings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let is_known = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if encodings.next().is_none_or(is_known) && encodings.next().is_none() {
        return Ok(());
    }
    Err(Problem::misframed("the body has an unknown transfer encoding: send it plain, or chunked once"))
}

/// Refuses a compressed body with a message that names the cause. The parser of JSON would only report that it is not text.
fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut names =
        headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if names.all(|name| name.trim_ascii().is_empty() || name.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "compressed bodies are not supported: send the body without Content-Encoding";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// The answer for a client that closed its side of the connection too early, if it still reads.
#[must_use]
pub fn abandoned() -> Response<Full<Bytes>> {
    let detail = "the client closed its side of the connection before the answer: keep it open until then";
    refusal(&Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).closing())
}

/// The method as metrics name it: a client must not be able to make up labels.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        _ => "other",
    }
}

/// The response takes over the request's map of headers: to allocate another one costs more than to fill it. hyper keeps it for the
/// next request.
fn success(outcome: Outcome, mut headers: HeaderMap) -> Response<Full<Bytes>> {
    headers.clear();
    let body = match outcome {
        Outcome::Greeting(message, source) => {
            if source == Source::Replica {
                headers.insert(X_SERVED_BY, HeaderValue::from_static("replica"));
            }
            // Letters, digits and punctuation of ours: there is nothing that JSON would escape.
            ["{\"message\":\"", &message, "\"}"].concat().into()
        }
        Outcome::Saved => return response(StatusCode::NO_CONTENT, headers, Bytes::new()),
        Outcome::Healthy => Bytes::from_static(b"{\"status\":\"healthy\"}"),
        Outcome::OpenApi => Bytes::from_static(OPENAPI.as_bytes()),
    };
    describe(&mut headers, "application/json");
    response(StatusCode::OK, headers, body)
}

/// No cache may keep a document: a greeting is personal and changes at midnight, health changes at any time.
fn describe(headers: &mut HeaderMap, media_type: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

fn refusal(problem: &Problem) -> Response<Full<Bytes>> {
    let mut headers = HeaderMap::new();
    describe(&mut headers, problem::MEDIA_TYPE);
    if let Some(methods) = problem.allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if problem.closes {
        headers.insert(CONNECTION, CLOSE);
    }
    match problem.status {
        StatusCode::SERVICE_UNAVAILABLE => headers.insert(RETRY_AFTER, HeaderValue::from_static("1")),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        _ => None,
    };
    response(problem.status, headers, problem.document().into())
}
