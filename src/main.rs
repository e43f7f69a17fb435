//! The order of start and end.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use dob_api::admin::Admin;
use dob_api::config::{self, Config, Limits, Task};
use dob_api::http::{Answer, Handler};
use dob_api::lifecycle::{Lifecycle, Phase};
use dob_api::metrics::{self, HttpMetrics, StoreMetrics};
use dob_api::route::Router;
use dob_api::server::{self, Server};
use dob_api::store::Store;
use dob_api::{health, logging, systemd};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

/// A wrong setting (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// File descriptors that are not connections: listeners, the store, the database, logs.
const OTHER_FILES: u64 = 64;

/// Connections of operators and their tools.
const ADMIN_CONNECTIONS: usize = 64;

fn main() -> ExitCode {
    match config::parse(std::env::args_os(), &|name| std::env::var_os(name)) {
        Ok(Task::Serve(config)) => match run(*config) {
            Ok(code) => code,
            Err(error) => fail(error, ExitCode::FAILURE),
        },
        Ok(Task::Health(address)) => match health::check(address) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error, ExitCode::FAILURE),
        },
        Ok(Task::Print(text)) => {
            print(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => fail(error, ExitCode::from(USAGE)),
    }
}

fn run(config: Config) -> Result<ExitCode, String> {
    logging::init(config.log.clone());
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(config));
    // A name that is being looked up, which nothing can interrupt, would hold up the end for seconds.
    runtime.shutdown_background();
    ended
}

async fn serve(mut config: Config) -> Result<ExitCode, String> {
    // A core would hold the database's password and the users' days of birth.
    let _ = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0);
    config.limits.max_connections = affordable(config.limits.max_connections);
    let mut signals = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;

    let listener = match systemd::inherited_listener().map_err(|error| format!("the inherited socket: {error}"))? {
        Some(listener) => listener,
        None => bind("DOB_API_LISTEN", config.listen)?,
    };
    let admin_listener = bind("DOB_API_ADMIN_LISTEN", config.admin_listen)?;
    let mut registry = metrics::registry();
    let store = Store::open(&config, &StoreMetrics::register(&mut registry)).map_err(|error| error.to_string())?;

    let lifecycle = Lifecycle::new();
    let http_metrics = HttpMetrics::register(&mut registry);
    let router = Router { store: store.clone(), time_zone: config.time_zone.clone(), lifecycle: lifecycle.clone() };
    let (connections, refused) = (http_metrics.connections.clone(), http_metrics.refused.clone());
    let handler = Handler { router, metrics: http_metrics, body_timeout: config.limits.body_timeout };
    let server = Arc::new(Server::new(handler, config.limits, lifecycle.clone(), connections, refused));
    let admin_limits = Limits { max_connections: ADMIN_CONNECTIONS, ..config.limits };
    let admin_server = Server::new(
        Admin { store, lifecycle: lifecycle.clone(), registry },
        admin_limits,
        Lifecycle::new(),
        prometheus_client::metrics::gauge::Gauge::default(),
        prometheus_client::metrics::counter::Counter::default(),
    );

    let announce = |what: &str, listener: &TcpListener| match listener.local_addr() {
        Ok(address) => print(&format!("{what} on http://{address}")),
        Err(error) => tracing::warn!(%error, "a listener without an address"),
    };
    announce("listening", &listener);
    announce("admin listening", &admin_listener);
    tokio::spawn(async move { admin_server.serve(admin_listener).await });
    let mut threads = vec![Handle::current()];
    for number in 1..config.threads {
        let listener = listener.try_clone().map_err(|error| format!("cannot share the listener: {error}"))?;
        threads.push(serving_thread(number, server.clone(), listener)?);
    }
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    tokio::spawn(systemd::watchdog(threads));
    systemd::ready();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");

    let gracious = signals.next().await;
    tracing::info!("draining: a second signal ends at once");
    systemd::stopping();
    lifecycle.enter(Phase::Draining);
    let drained = async {
        if gracious {
            sleep(config.drain.delay).await;
        }
        lifecycle.enter(Phase::Closing);
        timeout(config.drain.timeout, serving).await.is_ok()
    };
    let complete = tokio::select! {
        complete = drained => complete,
        _ = signals.next() => false,
    };
    if complete {
        tracing::info!("ended");
        return Ok(ExitCode::SUCCESS);
    }
    tracing::warn!(connections = server.open_connections(), "ended before all requests were answered");
    Ok(ExitCode::FAILURE)
}

/// Another thread that serves the same listener on a runtime of its own.
fn serving_thread<H: Answer>(number: usize, server: Arc<Server<H>>, listener: TcpListener) -> Result<Handle, String> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    let serve = move || runtime.block_on(server.serve(listener));
    std::thread::Builder::new()
        .name(format!("serving-{number}"))
        .spawn(serve)
        .map_err(|error| format!("cannot start a thread: {error}: lower DOB_API_THREADS"))?;
    Ok(handle)
}

fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|error| format!("cannot start: {error}"))
}

fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener, String> {
    server::bind(address).map_err(|error| {
        format!("cannot listen on {address}: {error}: stop what uses it, or set {setting} to another address")
    })
}

/// As many connections as wished, or as file descriptors allow.
fn affordable(wished: usize) -> usize {
    let files = rlimit::increase_nofile_limit(wished as u64 + OTHER_FILES).unwrap_or(1024);
    let affordable = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(wished).max(1);
    if affordable < wished {
        tracing::warn!(
            wished,
            affordable,
            "fewer connections than DOB_API_MAX_CONNECTIONS: raise the limit of open files"
        );
    }
    affordable.min(wished)
}

/// The signals that end the service.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a signal; true if it asks for the drain delay: a person at a terminal does not want to wait.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
        }
    }
}

fn print(line: &str) {
    // A closed standard output is no reason not to serve.
    let _ = writeln!(io::stdout(), "{line}");
}

fn fail(error: impl fmt::Display, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stderr(), "dob-api: {error}");
    code
}
