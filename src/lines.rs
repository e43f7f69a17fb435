//! Users as JSON lines: one user per line, and a last line with their number, which shows that nothing is missing.

use std::io::{self, BufRead, Read, Write};

use jiff::civil::Date;
use serde::Deserialize;

use crate::domain::{DateOfBirth, UserKey, Username};

/// A user, as stores keep one.
pub type User = (UserKey, DateOfBirth);

/// Longer than any line of an export: a file with a longer one was named by mistake.
const LONGEST: u64 = 4096;

const EXAMPLE: &str = r#"write {"username":"ada","dateOfBirth":"1815-12-10"}, each field once"#;

/// Writes one user.
///
/// # Errors
///
/// The output cannot be written.
pub fn write(output: &mut impl Write, (user, born): &User) -> io::Result<()> {
    let (name, date) = (user.as_str(), born.date());
    writeln!(output, r#"{{"username":"{name}","dateOfBirth":"{date}"}}"#)
}

/// Writes the last line.
///
/// # Errors
///
/// The output cannot be written.
pub fn finish(output: &mut impl Write, count: u64) -> io::Result<()> {
    writeln!(output, r#"{{"users":{count}}}"#)?;
    output.flush()
}

/// Reads what [`write()`] and [`finish`] wrote.
pub struct Lines<R> {
    input: R,
    today: Date,
    line: Vec<u8>,
    /// The number of the line that was read last.
    pub number: u64,
    is_over: bool,
}

/// A user, or the last line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    username: Option<String>,
    date_of_birth: Option<String>,
    users: Option<u64>,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `input`, whose dates must be before `today`.
    pub fn new(input: R, today: Date) -> Self {
        Self { input, today, line: Vec::new(), number: 0, is_over: false }
    }

    /// The next user, or none once the last line was read and is right.
    ///
    /// # Errors
    ///
    /// One sentence with the line's number and what is wrong with it, without its content.
    pub fn user(&mut self) -> Result<Option<User>, String> {
        if self.is_over {
            return Ok(None);
        }
        self.line.clear();
        self.number += 1;
        let read = self.input.by_ref().take(LONGEST + 1).read_until(b'\n', &mut self.line);
        let user = read.map_err(|error| format!("cannot be read: {error}")).and_then(|_| self.parse());
        user.map_err(|problem| format!("line {}: {problem}", self.number))
    }

    fn parse(&mut self) -> Result<Option<User>, String> {
        if self.line.is_empty() {
            return Err(r#"the input ends without the last line of an export, {"users":NUMBER}: it is cut off"#.into());
        }
        if self.line.len() as u64 > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes: {EXAMPLE}"));
        }
        let text = str::from_utf8(&self.line).map_err(|_| format!("it is not UTF-8 text: {EXAMPLE}"))?.trim();
        // An array's elements would be taken for the fields, in their order.
        if !text.starts_with('{') {
            return Err(format!("it is no JSON object: {EXAMPLE}"));
        }
        let line: Line = serde_json::from_str(text).map_err(|error| {
            // An error about the data may quote the line.
            if error.is_data() {
                EXAMPLE.to_owned()
            } else {
                format!("it is no JSON at column {}: {EXAMPLE}", error.column())
            }
        })?;
        match (line.username, line.date_of_birth, line.users) {
            (Some(name), Some(date), None) => {
                let name: Username = name.parse().map_err(|_| "the username must be 1 to 255 letters from A to Z")?;
                let born = DateOfBirth::parse(&date, self.today).map_err(|error| error.to_string())?;
                Ok(Some((name.key(), born)))
            }
            (None, None, Some(users)) => self.end(users).map(|()| None),
            _ => Err(EXAMPLE.to_owned()),
        }
    }

    fn end(&mut self, users: u64) -> Result<(), String> {
        let found = self.number - 1;
        if users != found {
            return Err(format!("it counts {users} users, but {found} lines are before it: export them again"));
        }
        let mut rest = [0];
        match self.input.read(&mut rest) {
            Ok(0) => {
                self.is_over = true;
                Ok(())
            }
            Ok(_) => {
                Err("it is the last line of an export, but more lines follow: import each export alone".to_owned())
            }
            Err(error) => Err(format!("cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn read(text: &[u8]) -> Result<u64, String> {
        let mut lines = Lines::new(text, date(2026, 11, 22));
        while lines.user()?.is_some() {}
        Ok(lines.number - 1)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = b"{\"username\":\"ada\",\"dateOfBirth\":\"0001-01-01\"}\n{\"users\":1}\n";
        let mut lines = Lines::new(text.as_slice(), date(2026, 11, 22));
        let user = lines.user().unwrap().unwrap();
        assert_eq!(lines.user().map(|end| end.is_none()), Ok(true));
        let mut written = Vec::new();
        write(&mut written, &user).and_then(|()| finish(&mut written, 1)).unwrap();
        assert_eq!(written, text);
    }

    #[test]
    fn fields_may_stand_in_any_order_and_others_are_ignored() {
        let ada = r#" { "note": [1], "dateOfBirth": "1815-12-10", "username": "Ada" } "#;
        for text in [format!("{ada}\n{{\"users\":1}}"), format!("{ada}\r\n{{\"users\":1}}\r\n")] {
            assert_eq!(read(text.as_bytes()), Ok(1), "{text:?}");
        }
    }

    #[test]
    fn a_broken_line_is_named_without_its_content() {
        let ada = r#"{"username":"ada","dateOfBirth":"1815-12-10"}"#;
        let end = r#"{"users":1}"#;
        let long = "sesame".repeat(1000);
        let cases: [(&[&str], &str); 21] = [
            (&[], "line 1: the input ends"),
            (&[ada], "line 2: the input ends"),
            (&[ada, ada, end], "line 3: it counts 1 users, but 2 lines"),
            (&[end], "line 1: it counts 1 users, but 0 lines"),
            (&[ada, end, ada, end], "line 2: it is the last line"),
            (&[ada, end, ""], "line 2: it is the last line"),
            (&["", end], "line 1: it is no JSON object"),
            (&[&long, end], "line 1: it is longer"),
            (&[r#"["sesame","1815-12-10",null]"#, end], "line 1: it is no JSON object"),
            (&[r#"{"username":"sesame","dateOfBirth":"1815-12-10""#, end], "line 1: it is no JSON at column 47"),
            (&[r#"{"username":"sesame","dateOfBirth":"1815-12-10"} x"#, end], "line 1: it is no JSON at column 50"),
            (&[r#"{"username":"sesame"}"#, end], "line 1: write {"),
            (&[r#"{"username":"sesame","dateOfBirth":1815}"#, end], "line 1: write {"),
            (&[r#"{"username":"a","username":"sesame","dateOfBirth":"1815-12-10"}"#, end], "line 1: write {"),
            (&[r#"{"username":"sesame","dateOfBirth":"1815-12-10","users":1}"#, end], "line 1: write {"),
            (&[ada, r#"{"users":-1}"#], "line 2: write {"),
            (&[r#"{"username":"sesame1","dateOfBirth":"1815-12-10"}"#, end], "line 1: the username"),
            (&[r#"{"username":"sesame","dateOfBirth":"1815-02-30"}"#, end], "line 1: dateOfBirth is not a real"),
            (&[r#"{"username":"sesame","dateOfBirth":"18151210"}"#, end], "line 1: dateOfBirth must be written"),
            (&[r#"{"username":"sesame","dateOfBirth":"2026-11-22"}"#, end], "line 1: dateOfBirth must be before"),
            (&["\u{feff}{}", end], "line 1: it is no JSON object"),
        ];
        for (lines, expected) in cases {
            let problem = read((lines.join("\n") + if lines.is_empty() { "" } else { "\n" }).as_bytes()).unwrap_err();
            assert!(problem.starts_with(expected), "{lines:?}: {problem}");
            assert!(!problem.contains("sesame") && problem.lines().count() == 1, "{problem}");
        }
        assert!(read(b"\xff\n").unwrap_err().starts_with("line 1: it is not UTF-8"));
    }
}
