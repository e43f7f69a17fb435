use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

/// One setting: the same name as a flag and in the environment.
struct Setting {
    name: &'static str,
    value: &'static str,
    default: &'static str,
    /// The least and the greatest value, if it has any.
    range: Option<(&'static str, &'static str)>,
    help: &'static str,
}

/// A day bounds every wait; less than a tenth of a second is no time for a network.
const WAIT: (&str, &str) = ("100ms", "24h");

/// The command line, parsed but not yet checked.
pub(super) struct Flags {
    matches: ArgMatches,
    pub(super) health: bool,
}

/// Every setting, in the order of the help text.
const SETTINGS: &[Setting] = &[
    setting("DOB_API_LISTEN", "ADDRESS", "127.0.0.1:8080", "Where users are served; port 0 picks a free port"),
    setting(
        "DOB_API_ADMIN_LISTEN",
        "ADDRESS",
        "127.0.0.1:9080",
        "Where /live, /ready and /metrics are served; never make it public",
    ),
    setting(
        "DATABASE_URL",
        "URL",
        "",
        "PostgreSQL with all its hosts, postgres://user@host1,host2/database; without it, users are stored in DOB_API_DATA_DIR",
    ),
    setting(
        "DATABASE_PASSWORD_FILE",
        "FILE",
        "",
        "File with the password, read at each connection; the systemd credential database-password serves too",
    ),
    setting("DATABASE_CA_FILE", "FILE", "", "Certificates (PEM) that the database hosts' certificates must lead to"),
    setting(
        "DOB_API_ADMIN_DATABASE_URL",
        "URL",
        "",
        "An administrator's URL, only to create role, database and table at start",
    ),
    setting(
        "DOB_API_DATA_DIR",
        "DIRECTORY",
        "",
        "Where users are stored without DATABASE_URL [default: $STATE_DIRECTORY, or ~/.local/state/dob-api]",
    ),
    setting("DOB_API_TIME_ZONE", "ZONE", "UTC", "Whose midnight begins a birthday, such as Europe/Dublin"),
    setting("DOB_API_WRITE_PATIENCE", "DURATION", "30s", "How long a write waits for a primary").within(WAIT),
    setting("DOB_API_READ_PATIENCE", "DURATION", "10s", "How long a read waits for any database host").within(WAIT),
    setting("DOB_API_DRAIN_DELAY", "DURATION", "2s", "How long requests are served after SIGTERM turned /healthz 503")
        .within(("0s", "24h")),
    setting("DOB_API_DRAIN_TIMEOUT", "DURATION", "35s", "How long requests in flight may take after that")
        .within(("0s", "24h")),
    setting("DOB_API_THREADS", "NUMBER", "1", "Serving threads").within(("1", "256")),
    setting("DOB_API_MAX_CONNECTIONS", "NUMBER", "16384", "Open connections; one more gets 503")
        .within(("1", "1000000")),
    setting(
        "DOB_API_QUEUE_CAPACITY",
        "NUMBER",
        "8192",
        "Reads, and writes, that may wait for the store; one more gets 503",
    )
    .within(("1", "1000000")),
    setting(
        "DOB_API_KEEP_ALIVE",
        "DURATION",
        "75s",
        "How long a connection may idle; longer than the balancer's timeout",
    )
    .within(("1s", "24h")),
    setting("DOB_API_HEADER_TIMEOUT", "DURATION", "10s", "How long the head of a request may take").within(WAIT),
    setting("DOB_API_BODY_TIMEOUT", "DURATION", "10s", "How long the body of a request may take").within(WAIT),
    setting(
        "RUST_LOG",
        "FILTER",
        "info",
        "What is logged: error, warn, info, debug, or a filter such as dob_api=debug",
    ),
];

const fn setting(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, value, default, range: None, help }
}

impl Setting {
    const fn within(mut self, range: (&'static str, &'static str)) -> Self {
        self.range = Some(range);
        self
    }

    /// The flag's name: `DOB_API_LISTEN` is `--listen`, `RUST_LOG` is `--log`.
    fn flag(&self) -> String {
        let name = self.name.strip_prefix("DOB_API_").unwrap_or(self.name);
        name.strip_prefix("RUST_").unwrap_or(name).to_lowercase().replace('_', "-")
    }

    fn arg(&self) -> Arg {
        let default = if self.default.is_empty() { String::new() } else { format!(" [default: {}]", self.default) };
        let range = self.range.map(|(least, most)| format!(" [{least} to {most}]")).unwrap_or_default();
        Arg::new(self.name)
            .long(self.flag())
            .value_name(self.value)
            .help(format!("{}{range}{default} [env: {}]", self.help, self.name))
    }
}

impl Flags {
    /// The flag's value, if it was given.
    pub(super) fn get(&self, setting: &str) -> Option<&str> {
        self.matches.try_get_one::<String>(setting).ok()?.map(String::as_str)
    }
}

/// The default of a setting; empty if it has none.
pub(super) fn default(name: &str) -> &'static str {
    find(name).map_or("", |setting| setting.default)
}

/// The least and the greatest value of a setting that has a range.
pub(super) fn range(name: &str) -> (&'static str, &'static str) {
    find(name).and_then(|setting| setting.range).unwrap_or_default()
}

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The command line's definition, for shell completions and manuals.
#[must_use]
pub fn command() -> Command {
    let about = "Saves a person's date of birth and greets them with the days until their birthday";
    Command::new("dob-api")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .after_help(
            "Try it:\n  dob-api &\n  curl -X PUT localhost:8080/hello/ada -d '{\"dateOfBirth\":\"1815-12-10\"}'\n  curl localhost:8080/hello/ada",
        )
        .disable_help_subcommand(true)
        .args(SETTINGS.iter().map(Setting::arg))
        .subcommand(
            Command::new("health")
                .about("Ask the service on DOB_API_LISTEN whether it is healthy; exit 0 if so, else 1"),
        )
}

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    Ok(Flags { health: matches.subcommand_name() == Some("health"), matches })
}

/// A usage error in one sentence.
pub(super) fn sentence(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let what = text(ContextKind::InvalidArg).or_else(|| text(ContextKind::InvalidSubcommand)).unwrap_or_default();
    let kind = match error.kind() {
        ErrorKind::InvalidValue => "needs a value".to_owned(),
        ErrorKind::ArgumentConflict => "may be given only once".to_owned(),
        kind => kind.to_string(),
    };
    match text(ContextKind::SuggestedArg).or_else(|| text(ContextKind::SuggestedSubcommand)) {
        Some(instead) => format!("{what}: {kind}; did you mean {instead}?"),
        None => format!("{what}: {kind}; see dob-api --help"),
    }
}
