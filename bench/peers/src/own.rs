//! The service's own HTTP path around another store than its own.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dob_api::config::Limits;
use dob_api::domain::Username;
use dob_api::http::Answer;
use dob_api::lifecycle::Lifecycle;
use dob_api::metrics::{self, HttpMetrics};
use dob_api::route::{self, Action};
use dob_api::server::{self, Server};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use jiff::civil::Date;

use crate::{Person, greeting};

/// A place that keeps users.
pub trait Users: Send + Sync + 'static {
    fn get(&self, username: &Username) -> impl Future<Output = Option<Date>> + Send;
    fn put(&self, username: &Username, born: Date) -> impl Future<Output = bool> + Send;
}

struct Handler<U> {
    users: U,
    metrics: HttpMetrics,
}

impl<U: Users> Answer for Handler<U> {
    async fn answer(&self, request: Request<Incoming>, began: Instant) -> Response<Full<Bytes>> {
        let method = if *request.method() == Method::PUT { "PUT" } else { "GET" };
        let response = self.outcome(request).await.unwrap_or_else(status);
        self.metrics.answered("hello", method, response.status().as_u16(), began.elapsed());
        response
    }
}

impl<U: Users> Handler<U> {
    async fn outcome(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, StatusCode> {
        match route::resolve(request.method(), request.uri().path()).map_err(|_| StatusCode::BAD_REQUEST)? {
            Action::Greet(username) => {
                let born = self.users.get(&username).await.ok_or(StatusCode::NOT_FOUND)?;
                let body = serde_json::to_vec(&greeting(&username, born)).unwrap_or_default();
                let mut response = Response::new(Full::new(body.into()));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                Ok(response)
            }
            Action::Save(username) => {
                let body = request.into_body().collect().await.map_err(|_| StatusCode::BAD_REQUEST)?.to_bytes();
                let person: Person = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
                let born = crate::birth(&person).ok_or(StatusCode::BAD_REQUEST)?;
                let saved = self.users.put(&username, born).await;
                Err(if saved { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE })
            }
            _ => Err(StatusCode::NOT_FOUND),
        }
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Serves `users` as the service serves its own, until the process is ended.
pub async fn serve(users: impl Users) -> Result<Infallible, Box<dyn std::error::Error>> {
    let address: SocketAddr = crate::listen().parse()?;
    let minute = Duration::from_secs(60);
    let limits = Limits { max_connections: 10_000, keep_alive: minute, header_timeout: minute, body_timeout: minute };
    let metrics = HttpMetrics::register(&mut metrics::registry());
    let connections = metrics.connections.clone();
    let server = Server::new(Handler { users, metrics }, limits, Lifecycle::new(), connections);
    server.serve(server::bind(address)?).await?;
    Err("the server ended".into())
}
