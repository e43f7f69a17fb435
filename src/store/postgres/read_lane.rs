//! Lanes that read: each holds a connection and keeps a few statements in flight on it.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use jiff::civil::Date;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::error::{Verdict, describe};
use super::hosts::Hosts;
use super::pool::{Connection, LanePool};
use super::session::{Role, Standing};
use super::topology::Topology;
use super::{PROBE_INTERVAL, Read, ReadExit, Refusal};
use crate::domain::DateOfBirth;
use crate::metrics::{Operation, StoreMetrics};
use crate::store::{Reading, Source, StoreError};

/// Connections that read, and statements in flight on each. With one statement on one connection a batch would wait
/// for the network; with many, batches would not form.
pub(super) const LANES: u32 = 2;
const DEPTH: usize = 2;

/// How long a statement may take: what a server that froze costs a read, once.
const DEADLINE: Duration = Duration::from_secs(1);

/// How long the other hosts may take to say whether they know a user whom this replica does not: less than `DEADLINE`.
const ELSEWHERE_DEADLINE: Duration = Duration::from_millis(300);

/// One row with one array, in the order of the names: nothing to sort or to look up on the way back, and always the
/// primary key's index, whatever the planner thinks of the table's size.
pub(super) const SELECT: &str = "
    SELECT ARRAY(SELECT (SELECT date_of_birth FROM users WHERE username = name) FROM unnest($1::text[]) AS name)";

/// What a lane does next on its connection.
enum Step {
    Batch(Vec<Read>),
    Probe,
}

/// Why a lane lets its connection go.
enum End {
    /// The connection, or the server as primary, is lost.
    Lost,
    /// A better server may be had.
    Better,
    /// The store is gone.
    Closed,
}

/// Serves batches of reads until the store is gone.
pub(super) async fn run(pool: LanePool, exit: ReadExit, topology: Arc<Topology>, metrics: StoreMetrics) {
    loop {
        // The pool's error sink tells of failed attempts.
        let Ok(mut connection) = pool.get_owned().await else { continue };
        if !topology.connected(Operation::Read, &connection.session) {
            connection.retire();
            continue;
        }
        let role = connection.session.standing.role;
        let open = metrics.connections(Operation::Read, role.name());
        open.inc();
        let end = serve(&connection, &exit, &topology, &metrics).await;
        open.dec();
        connection.retire();
        match end {
            End::Lost if role == Role::Primary => topology.lost(&connection.session.host),
            End::Lost | End::Better => {}
            End::Closed => return,
        }
    }
}

async fn serve(connection: &Connection, exit: &ReadExit, topology: &Topology, metrics: &StoreMetrics) -> End {
    let source = match connection.session.standing.role {
        Role::Primary => Source::Primary,
        Role::Replica => Source::Replica,
    };
    let mut in_flight = FuturesUnordered::new();
    let mut probe = interval_at(Instant::now() + PROBE_INTERVAL, PROBE_INTERVAL);
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let step = tokio::select! {
            biased;
            Some(done) = in_flight.next() => match done {
                Ok(None) if source == Source::Replica || topology.admits(connection.session.standing.epoch) => continue,
                Ok(Some(standing)) if still_best(connection, standing, topology) => continue,
                // Reads in flight are dropped and so asked again: once, and by a lane that stays.
                Ok(_) => return End::Better,
                Err(kind) => {
                    metrics.error(Operation::Read, kind);
                    return End::Lost;
                }
            },
            batch = exit.batch(), if in_flight.len() < DEPTH => match batch {
                Some(batch) => Step::Batch(batch),
                None => return End::Closed,
            },
            _ = probe.tick() => Step::Probe,
        };
        in_flight.push(take(connection, step, source, topology, metrics));
    }
}

/// Whether the server is still what it was when the lane connected, and nothing better is known.
fn still_best(connection: &Connection, now: Standing, topology: &Topology) -> bool {
    match now.role {
        Role::Primary => connection.session.standing.role == Role::Primary && topology.admits(now.epoch),
        Role::Replica => connection.session.standing.role == Role::Replica && !topology.has_primary(),
    }
}

/// Takes one step under the deadline; the error is the kind of what broke the connection.
async fn take(
    connection: &Connection,
    step: Step,
    source: Source,
    topology: &Topology,
    metrics: &StoreMetrics,
) -> Result<Option<Standing>, &'static str> {
    let work = async {
        match step {
            Step::Batch(batch) => read(connection, batch, source, topology, metrics).await.map(|()| None),
            Step::Probe => connection.session.probe().await.map(Some),
        }
    };
    let host = &connection.session.host;
    match timeout(DEADLINE, work).await {
        Ok(Ok(standing)) => Ok(standing),
        Ok(Err(error)) => {
            tracing::warn!(%host, error = describe(&error), "lost a reading connection");
            Err(Verdict::on(&error).1)
        }
        Err(_) => {
            tracing::warn!(%host, error = "no answer within the deadline", "lost a reading connection");
            Err("timeout")
        }
    }
}

/// Answers a batch; an error means that the connection is to be left.
async fn read(
    connection: &Connection,
    batch: Vec<Read>,
    source: Source,
    topology: &Topology,
    metrics: &StoreMetrics,
) -> Result<(), Error> {
    let names: Vec<&str> = batch.iter().map(|read| read.question.as_str()).collect();
    let found = connection.session.client.query_one(&connection.statement, &[&names]).await;
    let dates: Vec<Option<Date>> = match found.and_then(|row| row.try_get(0)) {
        Ok(dates) => dates,
        Err(error) => {
            let (verdict, kind) = Verdict::on(&error);
            if verdict == Verdict::Disconnect {
                return Err(error);
            }
            metrics.error(Operation::Read, kind);
            tracing::warn!(host = %connection.session.host, error = describe(&error), "cannot read users");
            batch.into_iter().for_each(|read| read.answer(Err(Refusal::Later)));
            return Ok(());
        }
    };
    // A newer primary may have acknowledged a write while this one was asked: its answer would be old.
    if source == Source::Primary && !topology.admits(connection.session.standing.epoch) {
        return Ok(());
    }
    let (known, unknown): (Vec<_>, Vec<_>) =
        batch.into_iter().zip(dates).partition(|(_, date)| date.is_some() || source == Source::Primary);
    for (read, date) in known {
        read.answer(Ok(Reading { date_of_birth: date.map(DateOfBirth::from_stored), source }));
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = unknown.iter().map(|(read, _)| read.question.as_str()).collect();
    let dates = elsewhere(&connection.hosts, &connection.session.host, &names).await;
    for ((read, _), date) in unknown.into_iter().zip(dates) {
        read.answer(match date {
            Some(date) => Ok(Reading { date_of_birth: Some(DateOfBirth::from_stored(date)), source }),
            None => Err(Refusal::Final(StoreError::UnknownToReplica)),
        });
    }
    Ok(())
}

/// What the hosts other than `asked` know of users, on the connections that stand: a commit waited for one replica, and
/// until there is a primary again no other one gets what it missed.
async fn elsewhere(hosts: &Hosts, asked: &str, names: &[&str]) -> Vec<Option<Date>> {
    let others = hosts.all.iter().filter(|host| *host.name != *asked).filter_map(|host| host.contact.session());
    let answers = join_all(
        others
            .map(|session| async move { timeout(ELSEWHERE_DEADLINE, dates(&session.client, names)).await.ok()?.ok() }),
    )
    .await;
    let mut answers = answers.into_iter().flatten();
    let first = answers.next().unwrap_or_else(|| vec![None; names.len()]);
    answers.fold(first, |found, more| found.into_iter().zip(more).map(|(one, other)| one.or(other)).collect())
}

/// The same as a lane's own statement, on a connection that is not ready for it.
async fn dates(client: &Client, names: &[&str]) -> Result<Vec<Option<Date>>, Error> {
    let rows = client.query_typed(SELECT, &[(&names, Type::TEXT_ARRAY)]).await?;
    rows.first().map_or_else(|| Ok(Vec::new()), |row| row.try_get(0))
}
