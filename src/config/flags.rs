use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, value_parser};

use super::{Task, Transfer};

/// One setting: the same name as a flag and in the environment. What it does not have is empty.
struct Setting {
    name: &'static str,
    value: &'static str,
    default: &'static str,
    /// `LEAST to MOST`. A day bounds every wait; less than a tenth of a second is no time for a network.
    range: &'static str,
    help: &'static str,
}

/// The command line, parsed but not yet checked.
pub(super) struct Flags {
    matches: ArgMatches,
    pub(super) health: bool,
    /// Where secrets are to be written, and for whom.
    pub(super) secrets: Option<(PathBuf, u32)>,
    /// The task of `export` or `import`, and its file.
    pub(super) transfer: Option<(MakeTransfer, Option<PathBuf>)>,
}

/// Makes the task of `export` or `import`.
type MakeTransfer = fn(Transfer) -> Task;

/// Every setting, in the order of the help text.
fn settings() -> impl Iterator<Item = Setting> {
    include_str!("settings.txt").lines().map(|line| {
        let mut fields = line.split('|').map(str::trim);
        let mut next = || fields.next().unwrap_or_default();
        Setting { name: next(), value: next(), default: next(), range: next(), help: next() }
    })
}

impl Setting {
    /// The flag's name: `DOB_API_LISTEN` is `--listen`, `RUST_LOG` is `--log`.
    fn flag(&self) -> String {
        let name = self.name.strip_prefix("DOB_API_").unwrap_or(self.name);
        name.strip_prefix("RUST_").unwrap_or(name).to_lowercase().replace('_', "-")
    }

    fn arg(self) -> Arg {
        let flag = self.flag();
        let Self { name, value, default, range, help } = self;
        let bracketed = |what, text: &str| if text.is_empty() { String::new() } else { format!(" [{what}{text}]") };
        let (range, default) = (bracketed("", range), bracketed("default: ", default));
        Arg::new(name).long(flag).value_name(value).help(format!("{help}{range}{default} [env: {name}]"))
    }
}

impl Flags {
    /// The flag's value, if it was given.
    pub(super) fn get(&self, setting: &str) -> Option<&str> {
        self.matches.try_get_one::<String>(setting).ok()?.map(String::as_str)
    }
}

/// The default of a setting, and its range `LEAST to MOST`; each is empty if it has none.
pub(super) fn default_and_range(name: &str) -> (&'static str, &'static str) {
    settings().find(|setting| setting.name == name).map_or(("", ""), |setting| (setting.default, setting.range))
}

/// The command line's definition, for shell completions and manuals.
#[must_use]
pub fn command() -> Command {
    let about = "Saves a person's date of birth and greets them with the days until their birthday";
    let file = |help| Arg::new("file").value_name("FILE").value_parser(value_parser!(PathBuf)).help(help);
    Command::new("dob-api")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .after_help(
            "Try it:\n  dob-api &\n  curl -X PUT localhost:8080/hello/ada -d '{\"dateOfBirth\":\"1815-12-10\"}'\n  curl localhost:8080/hello/ada",
        )
        .disable_help_subcommand(true)
        .args(settings().map(Setting::arg))
        .subcommand(
            Command::new("health")
                .about("Check whether the service on DOB_API_LISTEN is healthy; exit 0 if so, else 1"),
        )
        .subcommand(
            Command::new("export")
                .about("Write all users of the store as JSON lines, also while a service uses the store; put settings before the command")
                .arg(file("Where to write; it is replaced once the export is complete [default: standard output]")),
        )
        .subcommand(
            Command::new("import")
                .about("Save the users of an export in the store, once all of its lines are checked; put settings before the command")
                .arg(file("The export [default: standard input]")),
        )
        .subcommand(
            Command::new("write-secrets")
                .about("Write DATABASE_PASSWORD and DATABASE_CA to files in FOLDER that only the user UID reads, for a container that starts next")
                .arg(Arg::new("folder").value_name("FOLDER").required(true).value_parser(value_parser!(PathBuf)))
                .arg(Arg::new("owner").value_name("UID").required(true).value_parser(value_parser!(u32))),
        )
}

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    let secrets = matches
        .subcommand_matches("write-secrets")
        .and_then(|given| Some((given.get_one::<PathBuf>("folder")?.clone(), *given.get_one::<u32>("owner")?)));
    let transfer = matches.subcommand().and_then(|(name, given)| {
        let task = match name {
            "export" => Task::Export,
            "import" => Task::Import,
            _ => return None,
        };
        Some((task as MakeTransfer, given.get_one::<PathBuf>("file").filter(|file| *file != Path::new("-")).cloned()))
    });
    Ok(Flags { health: matches.subcommand_name() == Some("health"), secrets, transfer, matches })
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
