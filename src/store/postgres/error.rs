//! What a failed connection or statement means, and how it is told without a word of personal data.

use std::fmt;
use std::sync::Arc;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::config::ConfigError;
use crate::logging::Chain;

/// Why no host could be used.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// What each host said, by its name.
    Hosts(Vec<(Arc<str>, HostProblem)>),
    /// A host was found, but this could not be done there.
    Step(&'static str, Error),
    /// There is no password for the role that is to be created.
    Password(ConfigError),
    /// The table is missing and only replicas answer.
    NoTable,
}

/// Why one host could not be used.
#[derive(Debug)]
pub(super) enum HostProblem {
    /// It did not answer within the deadline of a connection attempt.
    Silent,
    /// It or the network refused.
    Refused(Error),
    /// There is no password to give it.
    Password(ConfigError),
    /// It takes no writes.
    Replica,
    /// It takes writes on a timeline that another primary has left behind.
    Superseded,
}

/// What to do after a failed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection leads nowhere, or to a server that no longer takes writes: look for the primary again.
    Disconnect,
    /// The server as a whole was short of something that comes back.
    Later,
    /// A row of the statement was locked, or something like it; other rows may do.
    Contested,
    /// The server will never take a row of the statement; other rows may do.
    Reject,
}

impl Verdict {
    /// The verdict on `error`, and its kind for metrics.
    pub(super) fn on(error: &Error) -> (Self, &'static str) {
        let Some(code) = error.code() else { return (Self::Disconnect, "connection") };
        match (code, &code.code()[..2]) {
            (&SqlState::READ_ONLY_SQL_TRANSACTION, _) => (Self::Disconnect, "read_only"),
            (&SqlState::QUERY_CANCELED, _) => (Self::Later, "timeout"),
            (_, "57") => (Self::Disconnect, "shutdown"),
            (_, "08") => (Self::Disconnect, "connection"),
            // A statement that was prepared before the table changed, or that a pooler between us forgot.
            (&SqlState::INVALID_SQL_STATEMENT_NAME | &SqlState::FEATURE_NOT_SUPPORTED, _) => {
                (Self::Disconnect, "statement")
            }
            (_, "53") => (Self::Later, "resources"),
            (&SqlState::LOCK_NOT_AVAILABLE, _) | (_, "40") => (Self::Contested, "lock"),
            (_, "22" | "23" | "P0") => (Self::Reject, "row"),
            _ => (Self::Contested, "other"),
        }
    }
}

/// An error on one line. Of what the server says about a row only the code is kept: its text may quote the row.
pub(super) fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) if Verdict::on(error).0 == Verdict::Reject => {
            format!("the server refused a row: SQLSTATE {}", db.code().code())
        }
        Some(db) => format!("{}: {} (SQLSTATE {})", db.severity(), db.message(), db.code().code()),
        None => Chain(error).to_string(),
    }
}

/// How an operator mends it, where that is known.
fn remedy(error: &Error) -> &'static str {
    let Some(code) = error.code() else {
        let tls = error.to_string().contains("TLS");
        return if tls { "; check DATABASE_CA_FILE and the names in the host's certificate" } else { "" };
    };
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "; check the user in DATABASE_URL, DATABASE_PASSWORD_FILE and the server's pg_hba.conf"
        }
        SqlState::INVALID_CATALOG_NAME => "; create the database, or set DOB_API_ADMIN_DATABASE_URL",
        SqlState::INSUFFICIENT_PRIVILEGE | SqlState::UNDEFINED_TABLE => {
            "; grant SELECT, INSERT and UPDATE on the table users, or set DOB_API_ADMIN_DATABASE_URL"
        }
        _ => "",
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts(problems) => {
                for (index, (host, problem)) in problems.iter().enumerate() {
                    write!(f, "{}{host}: {problem}", if index == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::Step(what, error) => write!(f, "{what}: {}{}", describe(error), remedy(error)),
            Self::Password(error) => write!(f, "{error}"),
            Self::NoTable => f.write_str("the table users does not exist yet and only replicas answer"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Display for HostProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("did not answer in time"),
            Self::Refused(error) => write!(f, "{}{}", describe(error), remedy(error)),
            Self::Password(error) => write!(f, "{error}"),
            Self::Replica => f.write_str("takes no writes"),
            Self::Superseded => f.write_str("is a former primary that another one has replaced"),
        }
    }
}

impl From<Error> for HostProblem {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
