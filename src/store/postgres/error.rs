//! What a failed connection or statement means, and its text for the log, without personal data.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::logging::Chain;

/// Why a host cannot be used: a sentence for an operator.
pub(super) type Problem = String;

/// Why a host cannot be used: it did not answer within a deadline.
pub(super) const SILENT: &str = "did not answer in time";

/// Why a statement gave no answer.
pub(super) struct Failure {
    pub(super) verdict: Verdict,
    /// The kind in metrics.
    pub(super) kind: &'static str,
    /// The text for the log.
    pub(super) text: String,
}

/// What a failed statement is blamed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection is broken, or its server no longer accepts writes.
    Connection,
    /// The server or the table cannot be used: the host is examined again.
    Host,
    /// A row was locked, or the server lacks a resource: a later attempt may succeed.
    Later,
    /// A row: the server will refuse it each time.
    Row,
}

impl Failure {
    /// The kind of a statement without an answer: what the server does with it is unknown.
    pub(super) const NO_ANSWER: &str = "no_answer";

    /// A failure of the connection.
    pub(super) fn lost(kind: &'static str, text: &str) -> Self {
        Self { verdict: Verdict::Connection, kind, text: text.to_owned() }
    }
}

impl From<Error> for Failure {
    /// Of a server's error about a row, only the code is kept: the text may quote the row.
    fn from(error: Error) -> Self {
        let (verdict, kind) = judge(&error);
        let text = match error.code() {
            Some(code) if verdict == Verdict::Row => format!("the server refused a row: SQLSTATE {}", code.code()),
            _ => tell(&error),
        };
        Self { verdict, kind, text }
    }
}

/// The verdict on `error`, and its kind for metrics.
pub(super) fn judge(error: &Error) -> (Verdict, &'static str) {
    let Some(code) = error.code() else { return (Verdict::Connection, "connection") };
    match (code, &code.code()[..2]) {
        (&SqlState::READ_ONLY_SQL_TRANSACTION, _) => (Verdict::Connection, "read_only"),
        (&SqlState::QUERY_CANCELED, _) => (Verdict::Later, "timeout"),
        (_, "57") => (Verdict::Connection, "shutdown"),
        (_, "08") => (Verdict::Connection, "connection"),
        // A statement that was prepared before the table changed, or that a pooler forgot.
        (&SqlState::INVALID_SQL_STATEMENT_NAME | &SqlState::FEATURE_NOT_SUPPORTED, _) => {
            (Verdict::Connection, "statement")
        }
        (_, "42" | "3F") => (Verdict::Host, "table"),
        (_, "53" | "54") => (Verdict::Later, "resources"),
        (_, "40" | "55") => (Verdict::Later, "lock"),
        _ => (Verdict::Row, "row"),
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
    let text = Chain(error).to_string();
    match error.code() {
        None if text.contains("CaUsedAsEndEntity") => {
            "; the host's certificate is its own CA: give it one that the CA has signed"
        }
        None if text.contains("TLS") => "; check DATABASE_CA_FILE and the names in the host's certificate",
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "; check the user in DATABASE_URL, DATABASE_PASSWORD_FILE and the server's pg_hba.conf"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => "; create the database, or set DOB_API_ADMIN_DATABASE_URL",
        Some(&SqlState::PROTOCOL_VIOLATION) if text.contains("startup parameter") => {
            "; a pooler refuses the session's time limits: connect to PostgreSQL without it"
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE | &SqlState::UNDEFINED_TABLE) => {
            "; grant SELECT, INSERT and UPDATE on the table users, or set DOB_API_ADMIN_DATABASE_URL"
        }
        _ => "",
    }
}

/// For an error of the server or the network at a step that concerns no user: `cannot <step>: why; how to fix it`.
pub(super) fn cannot(step: &str) -> impl Fn(Error) -> Problem + Copy {
    move |error| format!("cannot {step}: {}{}", tell(&error), remedy(&error))
}

/// Awaits `step` for no longer than `deadline`.
pub(super) async fn within<T>(
    deadline: Duration,
    step: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    timeout(deadline, step).await.unwrap_or_else(|_| Err(SILENT.to_owned()))
}
