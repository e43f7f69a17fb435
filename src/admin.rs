//! Liveness, readiness and metrics, for the listener that is never public.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::http::{self, Answer};
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// The media type of Prometheus' text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What an operator may ask.
pub struct Admin {
    /// Asked whether it serves.
    pub store: Store,
    /// Whether the service is shutting down.
    pub lifecycle: Lifecycle,
    /// Everything that is counted.
    pub registry: Registry,
}

impl Answer for Admin {
    async fn answer(&self, request: Request<Incoming>, _: Instant) -> Response<Full<Bytes>> {
        let (request, body) = request.into_parts();
        if let Some(refusal) = http::misframed(&request, body.is_end_stream()) {
            return refusal;
        }
        // Nothing here reads a body, and what is left of one could be taken for a request.
        if !body.is_end_stream() {
            return with(text(StatusCode::BAD_REQUEST, "send no body\n"), CONNECTION, "close");
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return with(text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n"), ALLOW, "GET, HEAD");
        }
        match request.uri.path() {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" if self.lifecycle.is_draining() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "not ready: shutting down\n")
            }
            "/ready" => match self.store.check().await {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {error}\n")),
            },
            "/metrics" => {
                let mut metrics = String::new();
                // Writing to a string does not fail.
                let _ = encode(&mut metrics, &self.registry);
                with(text(StatusCode::OK, metrics), CONTENT_TYPE, METRICS_TYPE)
            }
            _ => text(StatusCode::NOT_FOUND, "use /live, /ready or /metrics\n"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    with(with(response, CONTENT_TYPE, "text/plain; charset=utf-8"), CACHE_CONTROL, "no-store")
}

fn with(mut response: Response<Full<Bytes>>, name: HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
