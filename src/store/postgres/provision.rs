//! Makes the role, the database and the table that are missing.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, Error};

use super::error::ConnectError;
use super::hosts::Hosts;
use super::session::{Role, Session};
use crate::config::{Database, PasswordSource};
use crate::metrics::Operation;

/// How long to wait between attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Serializes the hosts that start at the same time: any number, the same for all.
const LOCK: &str = "SELECT pg_advisory_lock(7291063)";

/// A database is a copy of many files: on a slow disk that takes longer than a statement of the service may.
const PATIENT: &str = "SET statement_timeout = '1min'; SET lock_timeout = '1min'";

const TABLE_EXISTS: &str = "SELECT to_regclass('users') IS NOT NULL";

/// Names compare byte by byte ("C"), so an index stays valid when a host's C library changes its sort order.
const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS users (
    username text COLLATE \"C\" PRIMARY KEY,
    date_of_birth date NOT NULL
)";

/// Tries until the table is there. Returns the session on which it was found, for a lane to go on with.
pub(super) async fn until_done(database: &Database, hosts: &Hosts) -> Option<Session> {
    loop {
        match provision(database, hosts).await {
            Ok(session) => return session,
            Err(error) => hosts.topology().failed(Operation::Write, &error),
        }
        sleep(PAUSE).await;
    }
}

async fn provision(database: &Database, hosts: &Hosts) -> Result<Option<Session>, ConnectError> {
    if let Some(admin) = &database.admin {
        as_administrator(database, admin, hosts).await?;
    }
    // A replica will do to see that there is nothing to be done.
    let session = hosts.find(Operation::Read).await?;
    let check = |error| ConnectError::Step("cannot look for the table users", error);
    if is_true(&session.client, TABLE_EXISTS, "").await.map_err(check)? {
        return Ok(Some(session));
    }
    if session.standing.role == Role::Replica {
        return Err(ConnectError::NoTable);
    }
    let create = |error| ConnectError::Step("cannot create the table users", error);
    session.client.batch_execute(LOCK).await.map_err(create)?;
    session.client.batch_execute(CREATE_TABLE).await.map_err(create)?;
    // The lock ends with this session.
    Ok(None)
}

/// Creates what is missing of role, database and table, and grants the role no more than the service needs.
async fn as_administrator(database: &Database, admin: &Config, hosts: &Hosts) -> Result<(), ConnectError> {
    let (Some(role), Some(name)) = (database.postgres.get_user(), database.postgres.get_dbname()) else {
        // The configuration refuses a URL without them.
        return Ok(());
    };
    let session = connect(admin, database, hosts).await?;
    let step = |what| move |error| ConnectError::Step(what, error);
    session.client.batch_execute(LOCK).await.map_err(step("cannot lock"))?;
    let password = database.password.current().map_err(ConnectError::Password)?;
    ensure_role(&session.client, role, password.as_deref()).await.map_err(step("cannot create the role"))?;
    ensure_database(&session.client, name, role).await.map_err(step("cannot create the database"))?;
    let mut target = admin.clone();
    target.dbname(name);
    let session = connect(&target, database, hosts).await?;
    ensure_table(&session.client, role).await.map_err(step("cannot create the table users"))
}

async fn connect(config: &Config, database: &Database, hosts: &Hosts) -> Result<Session, ConnectError> {
    let session =
        Hosts::new(config, &PasswordSource::None, &database.tls, hosts.topology()).find(Operation::Write).await?;
    let bounds = session.client.batch_execute(PATIENT).await;
    bounds.map_err(|error| ConnectError::Step("cannot set the session's time limits", error))?;
    Ok(session)
}

/// The password travels as a verifier: statements can end up in the server's log.
async fn ensure_role(client: &Client, role: &str, password: Option<&[u8]>) -> Result<(), Error> {
    if is_true(client, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role).await? {
        return Ok(());
    }
    let password = password.map(|password| format!(" PASSWORD {}", escape_literal(&scram_sha_256(password))));
    let create = format!("CREATE ROLE {} LOGIN{}", escape_identifier(role), password.unwrap_or_default());
    client.batch_execute(&create).await?;
    tracing::info!("created the database role");
    Ok(())
}

async fn ensure_database(client: &Client, name: &str, role: &str) -> Result<(), Error> {
    if is_true(client, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).await? {
        return Ok(());
    }
    let (name, role) = (escape_identifier(name), escape_identifier(role));
    client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    // By default everyone may connect and create temporary tables.
    let grants = format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {role}");
    client.batch_execute(&grants).await?;
    tracing::info!("created the database");
    Ok(())
}

async fn ensure_table(client: &Client, role: &str) -> Result<(), Error> {
    if is_true(client, TABLE_EXISTS, "").await? {
        return Ok(());
    }
    let role = escape_identifier(role);
    // Until PostgreSQL 15 everyone may create tables in the schema public.
    let create = format!(
        "BEGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; {CREATE_TABLE};
         GRANT SELECT, INSERT, UPDATE ON users TO {role}; COMMIT"
    );
    client.batch_execute(&create).await?;
    tracing::info!("created the table users");
    Ok(())
}

/// The answer of a query that yields one boolean; `name` is its parameter, if it has one.
async fn is_true(client: &Client, query: &str, name: &str) -> Result<bool, Error> {
    let row = if query.contains("$1") {
        client.query_one(query, &[&name]).await?
    } else {
        client.query_one(query, &[]).await?
    };
    row.try_get(0)
}
