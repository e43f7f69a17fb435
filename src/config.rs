//! Flags, environment and credential files, parsed once into one plain struct.
//!
//! The environment is read through a function that the caller passes, so tests need no process environment.

mod database;
mod flags;
mod manager;
mod password;
mod url;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use tracing_subscriber::filter::Targets;

pub use database::{Database, TlsPolicy};
pub use flags::command;
pub use manager::Manager;
pub use password::password;

use crate::secrets::{self, Secrets};

/// What the command line asks for.
#[derive(Debug)]
pub enum Task {
    /// Serve until a signal stops the service.
    Serve(Box<Config>),
    /// Ask the service that listens on this address whether it is healthy.
    Health(SocketAddr),
    /// Write secrets of the environment to files.
    WriteSecrets(Secrets),
    /// Write all users of the store as JSON lines.
    Export(Transfer),
    /// Save users from JSON lines in the store.
    Import(Transfer),
    /// Print this text: help or version.
    Print(String),
}

/// An export of a store, or an import into one.
#[derive(Debug)]
pub struct Transfer {
    /// Where users are stored.
    pub store: StoreConfig,
    /// The file with the lines; none for standard output or input.
    pub file: Option<PathBuf>,
    /// The directory for what comes through a pipe.
    pub temporary: PathBuf,
}

/// Every setting of the service, checked.
#[derive(Debug)]
pub struct Config {
    /// Where users are served, unless a socket is inherited. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where liveness, readiness and metrics are served; never public.
    pub admin_listen: SocketAddr,
    /// Where users are stored.
    pub store: StoreConfig,
    /// Whose midnight separates today from tomorrow.
    pub time_zone: TimeZone,
    /// How long a write waits for a primary.
    pub write_patience: Duration,
    /// How long a read waits for any database host.
    pub read_patience: Duration,
    /// Requests that may wait for the store, for reads and writes each.
    pub queue_capacity: usize,
    /// Serving threads, at least 1.
    pub threads: usize,
    /// Bounds on what clients may hold.
    pub limits: Limits,
    /// How the service stops.
    pub drain: Drain,
    /// What is logged (`RUST_LOG`).
    pub log: Targets,
    /// What the service manager passed.
    pub manager: Manager,
}

/// Where users are stored.
#[derive(Debug)]
pub enum StoreConfig {
    /// One file in this directory.
    Embedded(PathBuf),
    /// PostgreSQL.
    Postgres(Box<Database>),
}

/// Bounds on what clients may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; one more gets 503.
    pub max_connections: usize,
    /// How long a connection may stay without a request. Longer than the balancer's idle timeout, or clients see 502s.
    pub keep_alive: Duration,
    /// How long the head of a request may take from its first byte to its last.
    pub header_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
}

/// How the service stops after SIGTERM.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long requests are still served after `/healthz` turned 503.
    pub delay: Duration,
    /// How long requests in flight may take after the listener closed.
    pub timeout: Duration,
}

/// The sentence about a setting that cannot be used.
fn refusal(setting: &str, problem: impl fmt::Display) -> String {
    format!("{setting}: {problem}")
}

/// Reads the command line (`args`, the program's name first) and the environment through `lookup`.
///
/// # Errors
///
/// One sentence that names the first setting that cannot be used and how to fix it; no secret is in it.
pub fn parse<A>(args: A, lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Task, String>
where
    A: IntoIterator<Item = OsString>,
{
    let flags = match flags::parse(args) {
        Ok(flags) => flags,
        Err(error) if !error.use_stderr() => return Ok(Task::Print(error.render().to_string())),
        Err(error) => return Err(flags::sentence(&error)),
    };
    let settings = value::Settings { flags: &flags, lookup };
    let listen = settings.get("DOB_API_LISTEN", value::address)?;
    if flags.health {
        return Ok(Task::Health(listen));
    }
    if let Some((folder, owner)) = flags.secrets {
        let value = |(variable, file)| match lookup(variable) {
            Some(value) if !value.is_empty() => Ok((file, value)),
            _ => Err(refusal(variable, "it is not set: give it the secret that is to be written")),
        };
        let values = secrets::FILES.into_iter().map(value).collect::<Result<_, _>>()?;
        return Ok(Task::WriteSecrets(Secrets { folder, owner, values }));
    }
    let store = match database::parse(&settings)? {
        Some(database) => StoreConfig::Postgres(Box::new(database)),
        None => StoreConfig::Embedded(data_dir(&settings)?),
    };
    if let Some((task, file)) = &flags.transfer {
        let (file, temporary) = (file.clone(), settings.find("TMPDIR")?.unwrap_or_else(|| "/tmp".to_owned()).into());
        return Ok(task(Transfer { store, file, temporary }));
    }
    Ok(Task::Serve(Box::new(Config {
        listen,
        admin_listen: settings.get("DOB_API_ADMIN_LISTEN", value::address)?,
        store,
        time_zone: settings.get("DOB_API_TIME_ZONE", value::time_zone)?,
        write_patience: settings.duration("DOB_API_WRITE_PATIENCE")?,
        read_patience: settings.duration("DOB_API_READ_PATIENCE")?,
        queue_capacity: settings.count("DOB_API_QUEUE_CAPACITY")?,
        threads: settings.count("DOB_API_THREADS")?,
        limits: Limits {
            max_connections: settings.count("DOB_API_MAX_CONNECTIONS")?,
            keep_alive: settings.duration("DOB_API_KEEP_ALIVE")?,
            header_timeout: settings.duration("DOB_API_HEADER_TIMEOUT")?,
            body_timeout: settings.duration("DOB_API_BODY_TIMEOUT")?,
        },
        drain: Drain {
            delay: settings.duration("DOB_API_DRAIN_DELAY")?,
            timeout: settings.duration("DOB_API_DRAIN_TIMEOUT")?,
        },
        log: settings.get("RUST_LOG", value::log_filter)?,
        manager: manager::parse(&settings)?,
    })))
}

/// The data directory: as set, or systemd's state directory, or the user's.
fn data_dir(settings: &value::Settings<'_>) -> Result<PathBuf, String> {
    for (setting, folder) in [
        ("DOB_API_DATA_DIR", None),
        ("STATE_DIRECTORY", None),
        ("XDG_STATE_HOME", Some("dob-api")),
        ("HOME", Some(".local/state/dob-api")),
    ] {
        if let Some(directory) = settings.find(setting)? {
            return Ok(folder.map_or_else(|| directory.clone().into(), |folder| PathBuf::from(&directory).join(folder)));
        }
    }
    Err(refusal("DOB_API_DATA_DIR", "set the directory in which users are stored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, String> {
        let args = std::iter::once("dob-api").chain(args.iter().copied()).map(Into::into);
        let lookup = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into()).or_else(|| (name == "HOME").then(|| "/home/ada".into()))
        };
        match parse(args, &lookup) {
            Ok(Task::Serve(config)) => Ok(*config),
            Ok(task) => Err(format!("{task:?}")),
            Err(error) => Err(error),
        }
    }

    #[test]
    fn without_settings_the_embedded_store_is_served_on_loopback() -> Result<(), String> {
        let config = config(&[], &[])?;
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9080");
        assert!(matches!(config.store, StoreConfig::Embedded(dir) if dir.ends_with("ada/.local/state/dob-api")));
        assert_eq!(config.write_patience, Duration::from_secs(30));
        Ok(())
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_an_empty_value_counts_as_unset() -> Result<(), String> {
        let environment = [("DOB_API_LISTEN", "127.0.0.1:1"), ("DOB_API_THREADS", "")];
        let config = config(&["--listen", "127.0.0.1:2"], &environment)?;
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.threads, 1);
        Ok(())
    }

    #[test]
    fn a_wrong_value_is_refused_in_one_sentence_that_names_the_setting() {
        let cases = [
            ("DOB_API_LISTEN", "localhost"),
            ("DOB_API_ADMIN_LISTEN", "80"),
            ("DOB_API_TIME_ZONE", "Mars/Olympus"),
            ("DOB_API_WRITE_PATIENCE", "soon"),
            ("DOB_API_DRAIN_DELAY", "-1s"),
            ("DOB_API_KEEP_ALIVE", "0s"),
            ("DOB_API_THREADS", "0"),
            ("DOB_API_QUEUE_CAPACITY", "1e3"),
            ("DATABASE_URL", "mysql://ada@db/users"),
            ("RUST_LOG", "dob_api=loud"),
        ];
        for (setting, value) in cases {
            let error = config(&[], &[(setting, value)]).map(drop).unwrap_err();
            assert!(error.starts_with(&format!("{setting}: ")) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn an_administrator_without_a_database_is_refused() {
        let environment = [("DOB_API_ADMIN_DATABASE_URL", "postgres://postgres@localhost/postgres")];
        let error = config(&[], &environment).map(drop).unwrap_err();
        assert!(error.starts_with("DATABASE_URL: "), "{error}");
    }

    #[test]
    fn an_unknown_flag_is_refused_in_one_sentence() {
        let error = config(&["--lisen", "x"], &[]).map(drop).unwrap_err();
        assert!(error.contains("--lisen") && error.contains("--listen") && error.lines().count() == 1, "{error}");
    }
}
