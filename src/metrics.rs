//! Metrics for the person on call. Labels are routes, operations and hosts, never user names.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

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

fn new<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    registered(registry, name, help, M::default())
}

fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Names of labels with their values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Route and method, and the status.
type RequestLabels = (Labels<2>, [(&'static str, u16); 1]);

type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The metrics of an answer that nearly all requests get: to look them up costs more than to count.
type Usual = (Counter, Histogram);

/// Metrics of requests.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Histograms<2>,
    greeted: Usual,
    saved: Usual,
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
        let requests: Family<RequestLabels, Counter> = new(registry, "http_requests", "Requests answered");
        let durations: Histograms<2> = Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS));
        let help = "Time from the head of a request to its answer";
        let durations = registered(registry, "http_request_duration_seconds", help, durations);
        let usual = |method, status| {
            let labels = request("hello", method, status);
            (requests.get_or_create_owned(&labels), durations.get_or_create_owned(&labels.0))
        };
        let (greeted, saved) = (usual("GET", 200), usual("PUT", 204));
        let connections = ConnectionMetrics {
            open: new(registry, "http_connections", "Open connections"),
            refused: new(registry, "http_connections_refused", "Connections over the limit"),
            abandoned: new(registry, "http_requests_abandoned", "Requests whose client left before the answer"),
        };
        Self { requests, durations, greeted, saved, connections }
    }

    /// Counts one answer.
    pub fn answered(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        let (requests, durations) = match (route, method, status) {
            ("hello", "GET", 200) => &self.greeted,
            ("hello", "PUT", 204) => &self.saved,
            _ => {
                let labels = request(route, method, status);
                &(self.requests.get_or_create_owned(&labels), self.durations.get_or_create_owned(&labels.0))
            }
        };
        requests.inc();
        durations.observe(took.as_secs_f64());
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

/// Metrics of the store.
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
        let batches: Histograms<1> = Family::new_with_constructor(|| Histogram::new(BATCH_BUCKETS));
        Self {
            depth: new(registry, "store_queue_depth", "Requests waiting for the store"),
            batches: registered(registry, "store_batch_size", "Requests sent to the store together", batches),
            errors: new(registry, "store_errors", "Errors of the store, by kind"),
            connections: new(registry, "database_connections", "Open database connections"),
            primary: new(registry, "database_primary", "1 for the primary"),
            silent: new(registry, "database_silent", "1 for an unreachable host"),
        }
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

    /// Records which host is the primary now, if there is one.
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
