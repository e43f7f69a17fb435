//! The real binary, started as its users start it.
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use super::http::{Connection, Response};
use super::process::{self, Output};
use super::{PATIENCE, calendar, until};

/// The path of the binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_dob-api");

/// How the service is to be started.
pub struct Launch {
    settings: BTreeMap<String, String>,
    flags: Vec<String>,
    data: TempDir,
}

impl Launch {
    /// With the embedded store, in a data directory of its own.
    pub fn embedded() -> Self {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().to_str().unwrap().to_owned();
        let launch = Self { settings: BTreeMap::new(), flags: Vec::new(), data };
        launch
            .set("DOB_API_LISTEN", "127.0.0.1:0")
            .set("DOB_API_ADMIN_LISTEN", "127.0.0.1:0")
            .set("DOB_API_TIME_ZONE", calendar::zone())
            .set("DOB_API_DATA_DIR", path)
    }

    /// With the database at `url`.
    pub fn postgres(url: impl Into<String>) -> Self {
        Self::embedded().set("DATABASE_URL", url)
    }

    /// Sets the environment variable `name`.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves the environment variable `name` out.
    pub fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// The directory that lives as long as the service; its data directory by default.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Starts it and waits until it is healthy.
    pub fn start(self) -> Service {
        let service = self.bind();
        service.await_health(200);
        service
    }

    /// Starts it and waits until it has bound its ports.
    pub fn bind(self) -> Service {
        let mut command = process::command(BINARY);
        command.args(&self.flags).stdin(Stdio::null());
        self.bind_as(command)
    }

    /// Starts it by a command of the test's own, and waits until it has bound its ports.
    pub fn bind_as(self, mut command: Command) -> Service {
        self.prepare(&mut command);
        let mut child = process::spawn(command);
        let errors = Output::of(child.stderr.take().unwrap());
        let (announce, announced) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = announce.send(line);
            }
        });
        let address_after = |words: &str| -> SocketAddr {
            let line = announced.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("did not start: {}", errors.text()));
            let address = line.strip_prefix(words).unwrap_or_else(|| panic!("unexpected: {line}"));
            address.parse().unwrap()
        };
        let address = address_after("listening on http://");
        let admin = address_after("admin listening on http://");
        Service { child, address, admin, errors, _data: self.data }
    }

    /// Runs it to its end, which must come by itself.
    pub fn run(self) -> Ended {
        let mut command = process::command(BINARY);
        command.args(&self.flags).stdin(Stdio::null());
        self.prepare(&mut command);
        Ended::of(process::spawn(command))
    }

    /// Gives `command` the settings, and pipes to say something through.
    pub fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            // Where the service counts what the tests reach, if anybody wants to know.
            .envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)))
            .envs(&self.settings)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Waits until `child` has ended.
    pub fn of(mut child: Child) -> Self {
        let status = process::wait(&mut child);
        // What it says fits into the pipes: it never waits for a reader.
        let stdout = io::read_to_string(child.stdout.take().unwrap()).unwrap();
        let stderr = io::read_to_string(child.stderr.take().unwrap()).unwrap();
        Self { code: status.code(), stdout, stderr }
    }

    /// The one sentence that a failed start must be, which holds each of `parts`.
    pub fn sentence(&self, parts: &[&str]) -> &str {
        let sentence = self.stderr.trim_end();
        assert_eq!(sentence.lines().count(), 1, "not one sentence: {self:?}");
        for part in parts {
            assert!(sentence.contains(part), "'{part}' is missing: {self:?}");
        }
        sentence
    }
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    errors: Output,
    _data: TempDir,
}

impl Service {
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// `count` connections.
    pub fn connections(&self, count: usize) -> Vec<Connection> {
        (0..count).map(|_| self.connect()).collect()
    }

    pub fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }

    pub fn put(&self, path: &str, body: &str) -> Response {
        self.connect().put(path, body)
    }

    /// Saves a date, which must succeed.
    pub fn save(&self, name: &str, born: jiff::civil::Date) {
        let response = self.put(&format!("/hello/{name}"), &calendar::body(born));
        assert_eq!(response.status, 204, "{response:?}");
    }

    /// Asks for a greeting, which must be that of `born`.
    pub fn greets(&self, name: &str, born: jiff::civil::Date) {
        let response = self.get(&format!("/hello/{name}"));
        assert_eq!(response.message(), calendar::greeting(name, born));
    }

    pub fn health(&self) -> u16 {
        self.get("/healthz").status
    }

    /// Waits until `/healthz` answers with `status`.
    pub fn await_health(&self, status: u16) {
        until(&format!("/healthz answers {status}"), || self.health() == status);
    }

    /// What the admin listener says at `path`.
    pub fn admin(&self, path: &str) -> Response {
        self.admin_request("GET", path)
    }

    pub fn admin_request(&self, method: &str, path: &str) -> Response {
        Connection::open(self.admin).request(method, path, "")
    }

    pub fn metrics(&self) -> Metrics {
        let response = self.admin("/metrics");
        assert_eq!(response.status, 200);
        Metrics(String::from_utf8(response.body).unwrap())
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        self.errors.text()
    }

    /// The lines of the log that tell of something wrong.
    pub fn complaints(&self) -> Vec<String> {
        let wrong = |line: &&str| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
        self.log().lines().filter(wrong).map(str::to_owned).collect()
    }

    /// Whether it has told of something wrong.
    pub fn complains(&self) -> bool {
        !self.complaints().is_empty()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        process::wait(&mut self.child)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The number of its open file descriptors.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Its memory in use, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the service had logged:\n{}", self.log());
        }
    }
}

/// One reading of the metrics.
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of the samples of `name` that carry each of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let parse = |value: &str| value.strip_suffix(".0").unwrap_or(value).parse::<u64>();
        self.samples(name, labels).map(|value| parse(value).expect("a whole number")).sum()
    }

    /// Whether there is such a sample.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.samples(name, labels).next().is_some()
    }

    fn samples(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &str> {
        let wanted = labels.iter().map(|(key, value)| format!("{key}=\"{value}\""));
        let wanted: Vec<_> = wanted.collect();
        self.0.lines().filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let own_labels = match series.strip_prefix(name)? {
                "" => "",
                rest => rest.strip_prefix('{')?,
            };
            let carries_all = wanted.iter().all(|label| own_labels.contains(label));
            carries_all.then_some(value)
        })
    }
}
