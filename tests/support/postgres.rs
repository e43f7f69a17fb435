//! Private database servers, which can be frozen, killed, replicated and promoted.
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use postgres::{Client, NoTls};
use rustix::process::Signal;
use tempfile::TempDir;

use super::certificates::Identity;
use super::process::{self, Frozen};
use super::{eventually, until};

// The superuser needs no password, everybody else does.
const ACCESS: &str = "\
local all all trust
local replication all trust
host all postgres 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
";

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = '16MB'
timezone = 'UTC'
log_timezone = 'UTC'
";

static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(version)
        .expect("PostgreSQL is not installed: run `./dev need postgresql`")
        .join("bin")
});

/// A port on which nobody listens, below those that the kernel gives to clients, so that a
/// server which is down for a while finds its port free again.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let start = std::process::id() % 1000;
        AtomicU16::new(12_000 + u16::try_from(start).unwrap() * 20)
    });
    let mut ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
    ports.find(|&port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()).unwrap()
}

/// One server; all its processes end when it is dropped.
pub struct Server {
    postmaster: Option<Child>,
    root: TempDir,
    pub port: u16,
}

impl Server {
    /// A new, running server.
    pub fn start() -> Self {
        let mut server = Self::stopped();
        server.resume();
        server
    }

    /// A new server that does not run yet.
    pub fn stopped() -> Self {
        let server = Self::empty();
        let status = Command::new("cp").arg("-a").arg(template()).arg(server.data()).status();
        assert!(status.unwrap().success(), "the template can be copied");
        give_to_postgres(server.root.path());
        server
    }

    /// A new, running server of another cluster: the others are copies of one, and so the same to a client.
    pub fn foreign() -> Self {
        let mut server = Self::empty();
        give_to_postgres(server.root.path());
        initialise(&server.data());
        server.resume();
        server
    }

    /// A standby that streams from this server.
    pub fn standby(&self) -> Self {
        let mut standby = Self::empty();
        give_to_postgres(standby.root.path());
        let status = as_postgres("pg_basebackup")
            .args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"])
            .args(["--username=postgres", "--port", &self.port.to_string(), "--host"])
            .arg(self.root.path())
            .arg("--pgdata")
            .arg(standby.data())
            .status();
        assert!(status.unwrap().success(), "a base backup can be taken");
        standby.resume();
        standby
    }

    /// Makes each commit wait for a standby, and waits until one is in sync.
    pub fn commit_synchronously(&self) {
        self.configure("synchronous_standby_names", "*");
        let mut client = self.client("postgres");
        until("the standby is in sync", || {
            let query = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'";
            !client.query(query, &[]).unwrap().is_empty()
        });
    }

    fn empty() -> Self {
        let root = tempfile::Builder::new().prefix("dob-api-postgres-").tempdir().unwrap();
        Self { postmaster: None, root, port: free_port() }
    }

    /// Where the unix socket is.
    pub fn directory(&self) -> &Path {
        self.root.path()
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// The URL of `database` for the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection to `database` as the superuser.
    pub fn client(&self, database: &str) -> Client {
        self.try_client(database).expect("the server accepts connections")
    }

    fn try_client(&self, database: &str) -> Result<Client, postgres::Error> {
        let directory = self.root.path().display();
        let port = self.port;
        Client::connect(&format!("host={directory} port={port} user=postgres dbname={database}"), NoTls)
    }

    /// Changes a setting for all sessions.
    pub fn configure(&self, setting: &str, value: &str) {
        let mut client = self.client("postgres");
        client.execute(&format!("ALTER SYSTEM SET {setting} = '{value}'"), &[]).unwrap();
        client.execute("SELECT pg_reload_conf()", &[]).unwrap();
    }

    /// Speaks TLS under `identity` from now on.
    pub fn identify(&self, identity: &Identity) {
        let (certificate, key) = (self.data().join("server.crt"), self.data().join("server.key"));
        fs::write(&certificate, &identity.certificate).unwrap();
        fs::write(&key, &identity.key).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        give_to_postgres(&certificate);
        give_to_postgres(&key);
        self.configure("ssl", "on");
    }

    /// Puts `rules` before those that say who may connect how.
    pub fn restrict(&self, rules: &str) {
        fs::write(self.data().join("pg_hba.conf"), format!("{rules}\n{ACCESS}")).unwrap();
        self.client("postgres").execute("SELECT pg_reload_conf()", &[]).unwrap();
    }

    /// Starts it again, and waits until it accepts connections.
    pub fn resume(&mut self) {
        let log = File::options().append(true).create(true).open(self.root.path().join("log"));
        let mut command = as_postgres("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.root.path())
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        self.postmaster = Some(process::spawn(command));
        eventually("PostgreSQL accepts connections", || {
            let ended = self.postmaster.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL does not start: {}", self.log());
            self.try_client("postgres").ok()
        });
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("log")).unwrap()
    }

    /// Ends it and its sessions in good order.
    pub fn stop(&mut self) {
        let mut postmaster = self.postmaster.take().expect("a running server");
        process::signal(postmaster.id(), Signal::INT);
        process::wait(&mut postmaster);
    }

    /// Ends all its processes as a power cut would.
    pub fn kill(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        // Stopped first, so that it starts no further process in the meantime.
        process::signal(postmaster.id(), Signal::STOP);
        let children = process::children(postmaster.id());
        for &pid in &children {
            process::signal(pid, Signal::KILL);
        }
        postmaster.kill().unwrap();
        postmaster.wait().unwrap();
        // A server refuses to start while processes of its predecessor are left.
        until("the server's processes end", || !children.iter().any(|&pid| process::is_alive(pid)));
    }

    /// Stops all its processes in their tracks until the result is dropped.
    pub fn freeze(&self) -> Frozen {
        let postmaster = self.postmaster.as_ref().expect("a running server").id();
        // Stopped first, so that it starts no further process in the meantime.
        process::signal(postmaster, Signal::STOP);
        let mut frozen = process::children(postmaster);
        frozen.insert(0, postmaster);
        Frozen::new(frozen)
    }

    /// Stops the backends of the sessions that are connected to `database`.
    pub fn freeze_sessions(&self, database: &str) -> Frozen {
        Frozen::new(self.sessions(database))
    }

    /// The process numbers of the backends that serve `database`.
    pub fn sessions(&self, database: &str) -> Vec<u32> {
        self.for_each_session(database, "pid")
    }

    /// Ends the sessions that are connected to `database`.
    pub fn terminate_sessions(&self, database: &str) {
        self.for_each_session(database, "pg_terminate_backend(pid)::int");
    }

    /// Evaluates `expression` for each session of `database` but its own.
    fn for_each_session(&self, database: &str, expression: &str) -> Vec<u32> {
        let query = format!("SELECT {expression} FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()");
        let rows = self.client("postgres").query(&query, &[&database]).unwrap();
        rows.iter().map(|row| u32::try_from(row.get::<_, i32>(0)).unwrap()).collect()
    }

    /// Turns the standby into a primary, and waits until it is one.
    pub fn promote(&self) {
        self.client("postgres").execute("SELECT pg_promote()", &[]).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A data directory from which those of the servers are copied; made once.
fn template() -> PathBuf {
    let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let version = PROGRAMS.parent().unwrap().file_name().unwrap();
    let template = tests.join("postgres-template").with_extension(version);
    let lock = File::create(template.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !template.exists() {
        let root = tempfile::Builder::new().prefix("dob-api-postgres-").tempdir().unwrap();
        give_to_postgres(root.path());
        let data = root.path().join("data");
        initialise(&data);
        let unfinished = template.with_extension("unfinished");
        let status = Command::new("cp").arg("-a").arg(data).arg(&unfinished).status();
        assert!(status.unwrap().success(), "the template can be saved");
        fs::rename(unfinished, &template).unwrap();
    }
    template
}

/// Makes a data directory with the tests' rules and settings.
fn initialise(data: &Path) {
    let output = as_postgres("initdb")
        .args(["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata"])
        .arg(data)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
    let settings = fs::read_to_string(data.join("postgresql.conf")).unwrap() + SETTINGS;
    fs::write(data.join("postgresql.conf"), settings).unwrap();
}

/// A command of the database's own, which refuses to run as root.
pub(super) fn as_postgres(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::getuid().is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(PROGRAMS.join(program.as_ref()));
    command.current_dir("/");
    command
}

pub(super) fn give_to_postgres(path: &Path) {
    if rustix::process::getuid().is_root() {
        let status = Command::new("chown").args(["-R", "postgres:postgres"]).arg(path).status();
        assert!(status.unwrap().success(), "a file can be given to postgres");
    }
}
