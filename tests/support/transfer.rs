//! `dob-api export` and `dob-api import`, as an operator runs them, and the lines that they exchange.
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use postgres::Client;
use tempfile::TempDir;

use super::process;
use super::service::{BINARY, Ended, Launch};

/// A line of an export.
pub fn line(name: &str, born: &str) -> String {
    format!("{{\"username\":\"{name}\",\"dateOfBirth\":\"{born}\"}}\n")
}

/// An export of these lines.
pub fn export_of(lines: &[String]) -> String {
    format!("{}{{\"users\":{}}}\n", lines.concat(), lines.len())
}

/// An export of `count` users in the order of their names.
pub fn many(count: u32) -> String {
    let mut text = String::new();
    for index in 0..count {
        let letter = |place: u32| char::from(b'a' + u8::try_from(index / 26_u32.pow(place) % 26).unwrap());
        let name: String = (0..5).rev().map(letter).collect();
        let (year, month, day) = (1900 + index % 120, 1 + index % 12, 1 + index % 28);
        let born = format!("{year}-{month:02}-{day:02}");
        writeln!(text, r#"{{"username":"{name}","dateOfBirth":"{born}"}}"#).unwrap();
    }
    writeln!(text, "{{\"users\":{count}}}").unwrap();
    text
}

/// A store and a directory for files.
pub struct Store {
    pub folder: TempDir,
    /// Where PostgreSQL is; without it, the store is in `folder`.
    pub url: Option<String>,
}

impl Store {
    pub fn embedded() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), url: None }
    }

    pub fn postgres(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::embedded() }
    }

    /// How a service uses it.
    pub fn launch(&self) -> Launch {
        let launch = Launch::embedded().set("DOB_API_DATA_DIR", self.folder.path().join("data").to_str().unwrap());
        let launch = launch.set("TMPDIR", self.folder.path().to_str().unwrap());
        self.url.iter().fold(launch, |launch, url| launch.set("DATABASE_URL", url))
    }

    /// `program`, with the settings of the store.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = process::command(program);
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        self.launch().prepare(&mut command);
        command
    }

    /// Runs `dob-api` to its end. What it says must fit into pipes.
    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::of(process::spawn(self.command(BINARY, args)))
    }

    /// Runs `dob-api import` on a text that comes through a pipe, or from a file.
    pub fn import(&self, text: &str, through_a_pipe: bool) -> Ended {
        self.file("input", text);
        if through_a_pipe {
            return Ended::of(process::spawn(self.command("sh", &["-c", "cat input | \"$0\" import -", BINARY])));
        }
        self.run(&["import", "input"])
    }

    /// All of its users, as `dob-api export` writes them to standard output.
    pub fn export(&self) -> String {
        let mut command = self.command(BINARY, &["export"]);
        command.stdout(File::create(self.folder.path().join("output")).unwrap());
        let output = process::spawn(command).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(self.folder.path().join("output")).unwrap()
    }

    /// Writes a file for a command.
    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The names of the files in its directory.
    pub fn files(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

/// The names of the files in `directory`, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

/// The number of users in the table; none if there is no table.
pub fn rows(client: &mut Client) -> Option<i64> {
    let found = client.query_one("SELECT to_regclass('users') IS NOT NULL", &[]).unwrap();
    found.get::<_, bool>(0).then(|| client.query_one("SELECT count(*) FROM users", &[]).unwrap().get(0))
}
