//! Metrics for the person on call. Labels are routes, operations and hosts, never user names.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds: from a greeting out of memory to a write that waited for a failover.
const DURATION_BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

/// Upper bounds in requests.
const BATCH_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// A registry whose metrics all begin with `dob_api_`, with the build's description in it.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("dob_api");
    registry.register("build", "Version of the running binary", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry
}

/// Names of labels with their values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Route and method, and the status.
type RequestLabels = (Labels<2>, [(&'static str, u16); 1]);

type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// An answer that nearly all requests come to, with its metrics at hand: to look them up costs more than to count.
#[derive(Clone, Debug)]
struct Usual {
    labels: RequestLabels,
    requests: Counter,
    durations: Histogram,
}

/// What clients asked for and got.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Histograms<2>,
    usual: [Usual; 2],
    /// Of the connections that carry the requests.
    pub connections: ConnectionMetrics,
}

/// Connections, and what clients did with them.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// Open connections.
    pub open: Gauge,
    /// Connections answered 503 because too many were open.
    pub refused: Counter,
    /// Requests that were given up because their client had left.
    pub abandoned: Counter,
}

impl HttpMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let durations: Histograms<2> = Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS));
        let usual = [("GET", 200), ("PUT", 204)].map(|(method, status)| {
            let labels = request("hello", method, status);
            let requests = requests.get_or_create_owned(&labels);
            Usual { labels, requests, durations: durations.get_or_create_owned(&labels.0) }
        });
        let metrics = Self { requests, durations, usual, connections: ConnectionMetrics::default() };
        registry.register("http_requests", "Requests answered", metrics.requests.clone());
        let help = "Time from the head of a request to its answer";
        registry.register("http_request_duration_seconds", help, metrics.durations.clone());
        let ConnectionMetrics { open, refused, abandoned } = metrics.connections.clone();
        registry.register("http_connections", "Open connections", open);
        registry.register("http_connections_refused", "Connections over the limit", refused);
        registry.register("http_requests_abandoned", "Requests whose client left before the answer", abandoned);
        metrics
    }

    /// Counts one answer.
    pub fn answered(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        let labels = request(route, method, status);
        if let Some(usual) = self.usual.iter().find(|usual| usual.labels == labels) {
            usual.requests.inc();
            usual.durations.observe(took.as_secs_f64());
        } else {
            self.requests.get_or_create(&labels).inc();
            self.durations.get_or_create(&labels.0).observe(took.as_secs_f64());
        }
    }
}

fn request(route: &'static str, method: &'static str, status: u16) -> RequestLabels {
    ([("route", route), ("method", method)], [("status", status)])
}

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Look a user up.
    Read,
    /// Save a user.
    Write,
}

impl Operation {
    /// The name in labels and log lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    fn label(self) -> (&'static str, &'static str) {
        ("operation", self.name())
    }
}

/// How the store does.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    depth: Family<Labels<1>, Gauge>,
    batches: Histograms<1>,
    errors: Family<Labels<2>, Counter>,
    connections: Family<Labels<2>, Gauge>,
    primary: Family<[(&'static str, String); 1], Gauge>,
    silent: Family<[(&'static str, String); 1], Gauge>,
}

impl StoreMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            depth: Family::default(),
            batches: Family::new_with_constructor(|| Histogram::new(BATCH_BUCKETS)),
            errors: Family::default(),
            connections: Family::default(),
            primary: Family::default(),
            silent: Family::default(),
        };
        registry.register("store_queue_depth", "Requests waiting for the store", metrics.depth.clone());
        registry.register("store_batch_size", "Requests sent to the store together", metrics.batches.clone());
        registry.register("store_errors", "Errors of the store, by kind", metrics.errors.clone());
        registry.register("database_connections", "Open database connections", metrics.connections.clone());
        registry.register("database_primary", "1 for the primary", metrics.primary.clone());
        registry.register("database_silent", "1 for an unreachable host", metrics.silent.clone());
        metrics
    }

    /// The gauge of requests that wait for `operation`.
    #[must_use]
    pub fn queue_depth(&self, operation: Operation) -> Gauge {
        self.depth.get_or_create_owned(&[operation.label()])
    }

    /// The histogram of the batches of `operation`.
    #[must_use]
    pub fn batch_size(&self, operation: Operation) -> Histogram {
        self.batches.get_or_create_owned(&[operation.label()])
    }

    /// Counts an error; `kind` is a fixed word such as `timeout`.
    pub fn error(&self, operation: Operation, kind: &'static str) {
        self.errors.get_or_create(&[operation.label(), ("kind", kind)]).inc();
    }

    /// The gauge of connections that `operation` holds to servers of `role`.
    #[must_use]
    pub fn connections(&self, operation: Operation, role: &'static str) -> Gauge {
        self.connections.get_or_create_owned(&[operation.label(), ("role", role)])
    }

    /// Notes which host takes writes now, if any does.
    pub fn set_primary(&self, host: Option<&str>) {
        self.primary.clear();
        if let Some(host) = host {
            self.primary.get_or_create(&[("host", host.to_owned())]).set(1);
        }
    }

    /// Records whether a host is silent (unreachable).
    pub fn set_silent(&self, host: &str, silent: bool) {
        self.silent.get_or_create(&[("host", host.to_owned())]).set(silent.into());
    }
}
