//! The order of start and stop.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dob_api::admin::Admin;
use dob_api::config::{self, Config, Limits, Task};
use dob_api::http::{Answer, Handler};
use dob_api::lifecycle::{Lifecycle, Phase};
use dob_api::logging::{self, Outlet};
use dob_api::metrics::{self, HttpMetrics, StoreMetrics};
use dob_api::route::Router;
use dob_api::server::{self, Server};
use dob_api::store::Store;
use dob_api::{health, systemd, transfer};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A wrong setting (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// Connections of operators and their tools.
const ADMIN_CONNECTIONS: usize = 64;

/// File descriptors of the store, the database, name lookups and logs, and those of each serving thread.
const OWN_FILES: usize = 64;
const THREAD_FILES: usize = 4;

/// Below this number of connections the service refuses to start.
const LEAST_CONNECTIONS: usize = 16;

/// How long an idle thread for name lookups and password files stays: a second thread makes each allocation take a lock.
const THREAD_KEEP_ALIVE: Duration = Duration::from_millis(100);

/// A listener that is being served.
type Serving = JoinHandle<io::Result<()>>;

fn main() -> ExitCode {
    // Memory holds the database's password and dates of birth. A core dump would contain them, and another process of the same user
    // could read them. The limit alone does not stop a core dump to a pipe. The kernel refuses neither call.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let outlet = logging::outlet();
    let (done, failed) = match config::parse(std::env::args_os(), &|name| std::env::var_os(name)) {
        Ok(task) => (carry_out(task, &outlet), ExitCode::FAILURE),
        Err(problem) => (Err(problem), ExitCode::from(USAGE)),
    };
    let code = done.unwrap_or_else(|problem| {
        outlet.push(format!("dob-api: {problem}\n").as_bytes());
        failed
    });
    outlet.flush();
    code
}

fn carry_out(task: Task, outlet: &Outlet) -> Result<ExitCode, String> {
    match task {
        Task::Serve(config) => {
            logging::init(config.log.clone(), outlet);
            return run(serve(*config, outlet));
        }
        Task::Health(address) => health::check(address)?,
        Task::WriteSecrets(secrets) => secrets.write()?,
        Task::Export(export) => run(transfer::export(&export, outlet))?,
        Task::Import(import) => run(transfer::import(&import, outlet))?,
        // A closed standard output is the reader's choice.
        Task::Print(text) => drop(writeln!(io::stdout(), "{}", text.trim_end())),
    }
    Ok(ExitCode::SUCCESS)
}

fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    // A running name lookup cannot be interrupted and would delay the exit by seconds.
    runtime.shutdown_background();
    done
}

async fn serve(mut config: Config, outlet: &Outlet) -> Result<ExitCode, String> {
    let wait_for = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut terminate, mut interrupt) = (wait_for(SignalKind::terminate())?, wait_for(SignalKind::interrupt())?);
    let mut listeners = systemd::inherited_listeners(&config.manager)?;
    let bounded = listeners.iter().try_for_each(server::bound_buffers);
    bounded.map_err(|error| format!("cannot bound the buffers of an inherited socket: {error}"))?;
    let per_thread = THREAD_FILES + listeners.len().max(1);
    let others = OWN_FILES + ADMIN_CONNECTIONS + 2 * server::MAX_REFUSALS + config.threads * per_thread;
    config.limits.max_connections = affordable(config.limits.max_connections, others)?;
    if listeners.is_empty() {
        listeners.push(bind("DOB_API_LISTEN", config.listen)?);
    }
    let admin_listener = bind("DOB_API_ADMIN_LISTEN", config.admin_listen)?;
    let mut registry = metrics::registry();
    registry.register("log_lines_dropped", "Log lines dropped because standard error was not read", outlet.dropped());
    let store = Store::open(&config, &StoreMetrics::register(&mut registry))?;

    let lifecycle = Lifecycle::new();
    let http_metrics = HttpMetrics::register(&mut registry);
    let router = Router { store: store.clone(), time_zone: config.time_zone.clone(), lifecycle: lifecycle.clone() };
    let connections = http_metrics.connections.clone();
    let handler = Handler { router, metrics: http_metrics, body_timeout: config.limits.body_timeout };
    let server = Server::new(handler, config.limits, lifecycle.clone(), connections);
    let admin_limits = Limits { max_connections: ADMIN_CONNECTIONS, ..config.limits };
    let admin_server = Server::for_operators(Admin { store, lifecycle: lifecycle.clone(), registry }, admin_limits);

    let public = listeners.iter().map(|listener| ("listening", listener));
    let announcements = public.chain([("admin listening", &admin_listener)]).map(|(what, listener)| {
        let address = listener.local_addr().map_err(|error| format!("a listener has no address: {error}"))?;
        Ok(format!("{what} on http://{address}\n"))
    });
    announce(announcements.collect::<Result<_, String>>()?);
    tokio::spawn(async move { admin_server.serve(admin_listener).await });
    let mut threads = vec![Handle::current()];
    for number in 1..config.threads {
        let listeners = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>();
        let listeners = listeners.map_err(|error| format!("cannot share a listener: {error}"))?;
        threads.push(serving_thread(number, &server, listeners)?);
    }
    let serving = serve_each(&Handle::current(), &server, listeners);
    tokio::spawn(systemd::report(config.manager.clone(), threads));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");

    // A person at a terminal does not want to wait for the drain delay.
    let gracious = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => false,
    };
    tracing::info!("draining: SIGINT stops the service at once");
    systemd::stopping(&config.manager);
    lifecycle.enter(Phase::Draining);
    let drained = async {
        if gracious {
            sleep(config.drain.delay).await;
        }
        lifecycle.enter(Phase::Closing);
        timeout(config.drain.timeout, all(serving)).await.is_ok()
    };
    // Only SIGINT stops the drain: a service manager, an orchestrator and an operator may each send a SIGTERM.
    let complete = tokio::select! {
        complete = drained => complete,
        _ = interrupt.recv() => false,
    };
    if complete {
        tracing::info!("stopped");
        return Ok(ExitCode::SUCCESS);
    }
    tracing::warn!(connections = server.open_connections(), "stopped before all requests were answered");
    Ok(ExitCode::FAILURE)
}

/// Another thread that serves the same listeners on its own runtime.
fn serving_thread<H: Answer>(
    number: usize,
    server: &Arc<Server<H>>,
    listeners: Vec<TcpListener>,
) -> Result<Handle, String> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    let serving = serve_each(&handle, server, listeners);
    thread::Builder::new()
        .name(format!("serving-{number}"))
        .spawn(move || runtime.block_on(all(serving)))
        .map_err(|error| format!("cannot start a thread: {error}: lower DOB_API_THREADS"))?;
    Ok(handle)
}

/// Serves each listener on the thread of `runtime`.
fn serve_each<H: Answer>(runtime: &Handle, server: &Arc<Server<H>>, listeners: Vec<TcpListener>) -> Vec<Serving> {
    let serve = |listener| {
        let server = server.clone();
        runtime.spawn(async move { server.serve(listener).await })
    };
    listeners.into_iter().map(serve).collect()
}

/// Waits until each listener is closed and its connections have finished.
async fn all(serving: Vec<Serving>) {
    for listener in serving {
        // A listener that cannot be used has no connections to finish.
        let _ = listener.await;
    }
}

fn runtime() -> Result<Runtime, String> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().thread_keep_alive(THREAD_KEEP_ALIVE).build().map_err(|error| format!("cannot start: {error}"))
}

fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener, String> {
    server::bind(address).map_err(|error| {
        format!("cannot listen on {address}: {error}: stop what uses it, or set {setting} to another address")
    })
}

/// The wished number of connections, or as many as the limit of file descriptors allows beside `others`.
fn affordable(wished: usize, others: usize) -> Result<usize, String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = (wished + others) as u64;
    let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
    let mut files = current.unwrap_or(u64::MAX);
    if files < raised && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
        files = raised;
    }
    let affordable = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(others);
    let least = wished.min(LEAST_CONNECTIONS);
    if affordable < least {
        let needed = others + least;
        return Err(format!(
            "the limit of open files is {files} and must be at least {needed}: raise it with LimitNOFILE= or ulimit -n"
        ));
    }
    if affordable < wished {
        tracing::warn!(
            wished,
            affordable,
            "fewer connections than DOB_API_MAX_CONNECTIONS: raise the limit of open files"
        );
    }
    Ok(affordable.min(wished))
}

/// Prints where the service listens. Standard output may be a pipe that nobody reads, so a separate thread waits for it.
fn announce(text: String) {
    // A closed standard output is no reason not to serve, nor is a thread that cannot be started.
    let _ = thread::Builder::new().spawn(move || io::stdout().write_all(text.as_bytes()));
}
