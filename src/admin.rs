//! Liveness, readiness and metrics, for the listener that is never public.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::http::{self, Answer};
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// What the format of Prometheus' text is called.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What an operator may ask.
pub struct Admin {
    /// Asked whether it serves.
    pub store: Store,
    /// Whether the service is about to end.
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
            let mut response = text(StatusCode::BAD_REQUEST, "send no body\n");
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
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
                let mut response = text(StatusCode::OK, metrics);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
                response
            }
            _ => text(StatusCode::NOT_FOUND, "use /live, /ready or /metrics\n"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
