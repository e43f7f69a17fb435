//! Creates the role, the database and the table where they are missing.

use std::path::Path;
use std::time::Duration;

use bb8::ManageConnection;
use futures_util::future::join_all;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config};

use super::error::{Problem, SILENT, cannot, within};
use super::host::Host;
use super::hosts::Hosts;
use super::notice::Notices;
use super::pool::{self, CONNECT_DEADLINE, Manager};
use super::session::Session;
use super::standing::Role;
use super::table::CREATE;
use crate::config::{Database, TlsPolicy};

/// The pace of the attempts, not a wait for an answer: the next one follows after it.
const PAUSE: Duration = Duration::from_millis(500);

/// How long an attempt may take: a database is a copy of many files, and the server ends each statement after 15 s.
const DEADLINE: Duration = Duration::from_secs(20);

/// Serializes services that start at the same time. The number is arbitrary, but the same for all.
const LOCK: &str = "SELECT pg_advisory_lock(7291063)";

/// On a slow disk, a table takes longer than a statement of the service may.
const PATIENT: &str = "SET statement_timeout = '15s'; SET lock_timeout = '15s'";

/// As an administrator: tries until role, database and table are there.
pub(super) async fn as_administrator(database: &Database) {
    let Some(admin) = &database.admin else { return };
    let notices = Notices::default();
    while has_failed(within(DEADLINE, create_all(database, admin)).await, &notices) {
        sleep(PAUSE).await;
    }
}

/// As the service's own role: waits until a table is found, and creates it where a primary has none.
pub(super) async fn as_service(hosts: &Hosts) {
    let notices = Notices::default();
    let mut view = hosts.view();
    // The sender lives as long as `hosts`, so waiting cannot fail.
    while let Ok(known) =
        view.wait_for(|view| view.reached || view.creator().is_some()).await.map(|view| view.creator())
        && let Some(index) = known
    {
        if has_failed(within(CONNECT_DEADLINE * 2, create_table(hosts.host(index))).await, &notices) {
            sleep(PAUSE).await;
        } else {
            // The host's next report shows the table; if it does not, to create it again does no harm.
            hosts.host(index).suspect();
            let _ = timeout(PAUSE, view.wait_for(|view| view.creator() != Some(index))).await;
        }
    }
}

async fn create_table(host: &Host) -> Result<(), Problem> {
    let session = host.connection().await.ok_or(SILENT)?;
    // The lock ends with the session.
    session.retire();
    create(&session.client).await
}

async fn create(client: &Client) -> Result<(), Problem> {
    client.batch_execute(LOCK).await.map_err(cannot("lock"))?;
    client.batch_execute(CREATE).await.map_err(cannot("create the table users"))
}

/// Creates what is missing, or fails: a patient session of the service's own role on the primary.
pub(super) async fn once(database: &Database) -> Result<Session, Problem> {
    if let Some(admin) = &database.admin {
        within(DEADLINE, create_all(database, admin)).await?;
    }
    let session = primary(&database.postgres, database.password_file.as_deref(), &database.tls).await?;
    if !session.standing.has_table {
        create(&session.client).await?;
    }
    Ok(session)
}

/// Whether an attempt failed, which is logged once.
fn has_failed(attempt: Result<(), Problem>, notices: &Notices) -> bool {
    let Err(problem) = attempt else { return false };
    if notices.is_due(&problem) {
        tracing::error!(error = problem, "cannot prepare the database; retrying until it works");
    }
    true
}

/// Creates what is missing of role, database and table, and grants the role no more than the service needs.
async fn create_all(database: &Database, admin: &Config) -> Result<(), Problem> {
    let (Some(role_name), Some(name)) = (database.postgres.get_user(), database.postgres.get_dbname()) else {
        // The configuration refuses a URL without them.
        return Ok(());
    };
    let session = primary(admin, None, &database.tls).await?;
    session.client.batch_execute(LOCK).await.map_err(cannot("lock"))?;
    let (role, quoted) = (escape_identifier(role_name), escape_identifier(name));
    // The password travels as a verifier: statements can end up in the server's log.
    let password = pool::password(&database.postgres, database.password_file.as_deref()).await?;
    let password = password.map(|password| format!(" PASSWORD {}", escape_literal(&scram_sha_256(&password))));
    let create = [format!("CREATE ROLE {role} LOGIN{}", password.unwrap_or_default())];
    ensure(&session.client, "the role", "FROM pg_roles WHERE rolname = $1", role_name, &create).await?;
    // By default everyone may connect and create temporary tables.
    let create = [
        format!("CREATE DATABASE {quoted}"),
        format!("REVOKE ALL ON DATABASE {quoted} FROM PUBLIC; GRANT CONNECT ON DATABASE {quoted} TO {role}"),
    ];
    ensure(&session.client, "the database", "FROM pg_database WHERE datname = $1", name, &create).await?;
    let mut target = admin.clone();
    target.dbname(name);
    let session = primary(&target, None, &database.tls).await?;
    // Until PostgreSQL 15 everyone may create tables in the schema public.
    let create = [format!(
        "BEGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; {CREATE};
         GRANT SELECT, INSERT, UPDATE ON users TO {role}; COMMIT"
    )];
    ensure(&session.client, "the table users", "WHERE to_regclass($1) IS NOT NULL", "users", &create).await
}

/// A patient session on the host that was promoted last.
async fn primary(config: &Config, password_file: Option<&Path>, tls: &TlsPolicy) -> Result<Session, Problem> {
    let session = newest(config, password_file, tls, false).await?;
    session.client.batch_execute(PATIENT).await.map_err(cannot("set the session's time limits"))?;
    Ok(session)
}

/// A session on the host that was promoted last; where it is enough to read and there is no primary, on the replica that has
/// replayed most.
pub(super) async fn newest(
    config: &Config,
    password_file: Option<&Path>,
    tls: &TlsPolicy,
    only_reads: bool,
) -> Result<Session, Problem> {
    let hosts = Manager::for_each(config, password_file, tls);
    let opened = join_all(hosts.iter().map(async |(name, manager)| (name, manager.connect().await))).await;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (name, opened) in opened {
        match opened {
            Ok(session) if only_reads || session.standing.role == Role::Primary => found.push(session),
            Ok(_) => problems.push(format!("{name}: does not accept writes")),
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    let last = found.into_iter().max_by_key(|Session { standing, .. }| {
        (standing.role == Role::Primary, standing.epoch.promotion, standing.replayed)
    });
    last.ok_or_else(|| problems.join("; "))
}

/// Carries out what creates `what`, unless there is a row `from` for its name.
async fn ensure(client: &Client, what: &str, from: &str, name: &str, create: &[String]) -> Result<(), Problem> {
    let step = format!("create {what}");
    let exists = format!("SELECT {from}");
    let found = client.query_typed(&exists, &[(&name, Type::TEXT)]).await.map_err(cannot(&step))?;
    if !found.is_empty() {
        return Ok(());
    }
    for statements in create {
        client.batch_execute(statements).await.map_err(cannot(&step))?;
    }
    tracing::info!("created {what}");
    Ok(())
}
