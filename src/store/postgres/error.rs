//! What a failed connection or statement means, and how it is told without a word of personal data.

use std::fmt;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::logging::Chain;

/// Why a host cannot be used: a sentence for an operator.
#[derive(Debug)]
pub(super) struct Problem(String);

/// To whom a failed statement is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection leads nowhere, or to a server that takes no writes any more.
    Connection,
    /// The server or the table cannot be used: the host is examined again.
    Host,
    /// A row was locked, or the server was short of something: it may do later.
    Later,
    /// A row: the server will never do this for it.
    Row,
}

impl Verdict {
    /// The verdict on `error`, and its kind for metrics.
    pub(super) fn on(error: &Error) -> (Self, &'static str) {
        let Some(code) = error.code() else { return (Self::Connection, "connection") };
        match (code, &code.code()[..2]) {
            (&SqlState::READ_ONLY_SQL_TRANSACTION, _) => (Self::Connection, "read_only"),
            (&SqlState::QUERY_CANCELED, _) => (Self::Later, "timeout"),
            (_, "57") => (Self::Connection, "shutdown"),
            (_, "08") => (Self::Connection, "connection"),
            // A statement that was prepared before the table changed, or that a pooler forgot.
            (&SqlState::INVALID_SQL_STATEMENT_NAME | &SqlState::FEATURE_NOT_SUPPORTED, _) => {
                (Self::Connection, "statement")
            }
            (_, "42" | "3F") => (Self::Host, "table"),
            (_, "53" | "54") => (Self::Later, "resources"),
            (_, "40" | "55") => (Self::Later, "lock"),
            _ => (Self::Row, "row"),
        }
    }
}

/// Why a statement about users failed, on one line. Of what the server says about a row only the code is kept: its text may
/// quote the row.
pub(super) fn describe(error: &Error) -> String {
    match error.code() {
        Some(code) if Verdict::on(error).0 == Verdict::Row => {
            format!("the server refused a row: SQLSTATE {}", code.code())
        }
        _ => tell(error),
    }
}

fn tell(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {} (SQLSTATE {})", db.severity(), db.message(), db.code().code()),
        None => Chain(error).to_string(),
    }
}

/// How an operator fixes it, where that is known.
fn remedy(error: &Error) -> &'static str {
    let Some(code) = error.code() else {
        let text = Chain(error).to_string();
        return if text.contains("CaUsedAsEndEntity") {
            "; the host's certificate is its own CA: give it one that the CA has signed"
        } else if text.contains("TLS") {
            "; check DATABASE_CA_FILE and the names in the host's certificate"
        } else {
            ""
        };
    };
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "; check the user in DATABASE_URL, DATABASE_PASSWORD_FILE and the server's pg_hba.conf"
        }
        SqlState::INVALID_CATALOG_NAME => "; create the database, or set DOB_API_ADMIN_DATABASE_URL",
        SqlState::PROTOCOL_VIOLATION if error.to_string().contains("startup parameter") => {
            "; a pooler refuses the session's time limits: connect to PostgreSQL without it"
        }
        SqlState::INSUFFICIENT_PRIVILEGE | SqlState::UNDEFINED_TABLE => {
            "; grant SELECT, INSERT and UPDATE on the table users, or set DOB_API_ADMIN_DATABASE_URL"
        }
        _ => "",
    }
}

/// For an error of the server or the network at a step that concerns no user: `cannot <step>: why; how to fix it`.
pub(super) fn cannot(step: &'static str) -> impl Fn(Error) -> Problem + Copy {
    move |error| Problem(format!("cannot {step}: {}{}", tell(&error), remedy(&error)))
}

impl Problem {
    /// The host gave no answer within a deadline.
    pub(super) fn silent() -> Self {
        Self("did not answer in time".to_owned())
    }
}

impl From<String> for Problem {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}
