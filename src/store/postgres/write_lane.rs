//! Lanes that write: each holds a connection to the primary and has one statement in flight on it.
//!
//! A statement whose answer does not come is sent again on another connection, while the first one may still stand
//! in the server's socket. It must not be carried out later, over a newer write that was acknowledged meanwhile. So
//! the bounds fit into each other: the server begins a statement within [`BEGIN_WITHIN`] by its own clock or writes
//! nothing, ends it within `statement_timeout` (1 s), and only after both, at [`DEADLINE`], the lane gives it up.

use std::sync::Arc;

use jiff::civil::Date;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at, timeout};
use tokio_postgres::types::ToSql;

use super::error::{Verdict, describe};
use super::pool::{Connection, LanePool};
use super::session::{Role, Standing};
use super::topology::Topology;
use super::{PROBE_INTERVAL, Refusal, Write, WriteExit};
use crate::domain::UserKey;
use crate::metrics::{Operation, StoreMetrics};
use crate::store::StoreError;

/// Connections that write: two, so that one slow commit does not stall all.
pub(super) const LANES: u32 = 2;

/// How long a statement may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long after it was sent a statement may begin to write.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);

/// Rows come sorted by name, so that two lanes lock them in the same order.
pub(super) const UPSERT: &str = "
    INSERT INTO users (username, date_of_birth)
    SELECT * FROM unnest($1::text[], $2::date[]) WHERE clock_timestamp() < $3
    ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth";

/// The connection, or the server as primary, is lost.
struct Lost;

/// Serves batches of writes until the store is gone.
pub(super) async fn run(pool: LanePool, exit: WriteExit, topology: Arc<Topology>, metrics: StoreMetrics) {
    loop {
        // The pool's error sink tells of failed attempts.
        let Ok(mut connection) = pool.get_owned().await else { continue };
        if !topology.connected(Operation::Write, &connection.session) {
            connection.retire();
            continue;
        }
        let open = metrics.connections(Operation::Write, Role::Primary.name());
        open.inc();
        let end = serve(&mut connection, &exit, &topology, &metrics).await;
        open.dec();
        connection.retire();
        match end {
            Err(Lost) => topology.lost(&connection.session.host),
            Ok(()) => return,
        }
    }
}

async fn serve(
    connection: &mut Connection,
    exit: &WriteExit,
    topology: &Topology,
    metrics: &StoreMetrics,
) -> Result<(), Lost> {
    let mut probe = interval_at(Instant::now() + PROBE_INTERVAL, PROBE_INTERVAL);
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = probe.tick() => {
                let standing = probed(connection, metrics).await?;
                if standing.role == Role::Replica || !topology.admits(standing.epoch) {
                    return Err(Lost);
                }
                connection.session.standing = standing;
            }
            batch = exit.batch() => match batch {
                Some(batch) => write(connection, batch, topology, metrics).await?,
                None => return Ok(()),
            },
        }
    }
}

async fn probed(connection: &Connection, metrics: &StoreMetrics) -> Result<Standing, Lost> {
    match timeout(DEADLINE, connection.session.probe()).await {
        Ok(Ok(standing)) => Ok(standing),
        Ok(Err(error)) => Err(lost(connection, metrics, Verdict::on(&error).1, &describe(&error))),
        Err(_) => Err(lost(connection, metrics, "timeout", "no answer within the deadline")),
    }
}

/// Saves a batch, and if the server does not take it as a whole, user by user.
async fn write(
    connection: &Connection,
    mut batch: Vec<Write>,
    topology: &Topology,
    metrics: &StoreMetrics,
) -> Result<(), Lost> {
    // Stable: writes of one user stay in order of arrival.
    batch.sort_by(|one, other| user(one).cmp(user(other)));
    let several = batch.first().map(user) != batch.last().map(user);
    let saved = save(connection, &batch, topology, metrics).await?;
    if !(several && matches!(saved, Err(Verdict::Contested | Verdict::Reject))) {
        answer(batch, saved);
        return Ok(());
    }
    // However many rows are locked, others do not wait for this lane much longer than for a lost one.
    let end = Instant::now() + DEADLINE;
    while let Some(first) = batch.first().map(user) {
        let same = batch.partition_point(|write| user(write) == first);
        let rest = batch.split_off(same);
        let saved =
            if Instant::now() < end { save(connection, &batch, topology, metrics).await? } else { Err(Verdict::Later) };
        answer(std::mem::replace(&mut batch, rest), saved);
    }
    Ok(())
}

fn user(write: &Write) -> &UserKey {
    &write.question.0
}

fn answer(batch: Vec<Write>, saved: Result<(), Verdict>) {
    let answer = saved.map_err(|verdict| match verdict {
        Verdict::Reject => Refusal::Final(StoreError::Rejected),
        _ => Refusal::Later,
    });
    batch.into_iter().for_each(|write| write.answer(answer));
}

/// Sends one statement with the last write of each user in a sorted batch.
async fn save(
    connection: &Connection,
    batch: &[Write],
    topology: &Topology,
    metrics: &StoreMetrics,
) -> Result<Result<(), Verdict>, Lost> {
    let last_of_each = batch.chunk_by(|one, other| user(one) == user(other)).filter_map(<[Write]>::last);
    let (names, dates): (Vec<&str>, Vec<Date>) =
        last_of_each.map(|write| (user(write).as_str(), write.question.1.date())).unzip();
    connection.hosts.hear_the_silent().await;
    if !topology.admits(connection.session.standing.epoch) {
        return Err(lost(connection, metrics, "superseded", "another host was promoted"));
    }
    let begin_by = connection.session.standing.clock.in_(BEGIN_WITHIN);
    let parameters: [&(dyn ToSql + Sync); 3] = [&names, &dates, &begin_by];
    let saving = connection.session.client.execute(&connection.statement, &parameters);
    match timeout(DEADLINE, saving).await {
        Ok(Ok(_)) if !topology.admits(connection.session.standing.epoch) => {
            Err(lost(connection, metrics, "superseded", "another host was promoted meanwhile"))
        }
        Ok(Ok(rows)) if usize::try_from(rows) == Ok(names.len()) => Ok(Ok(())),
        Ok(Ok(_)) => Err(lost(connection, metrics, "late", "the server came to the statement too late")),
        Ok(Err(error)) => {
            let (verdict, kind) = Verdict::on(&error);
            if verdict == Verdict::Disconnect {
                return Err(lost(connection, metrics, kind, &describe(&error)));
            }
            metrics.error(Operation::Write, kind);
            tracing::warn!(host = %connection.session.host, users = names.len(), error = describe(&error), "cannot save users");
            Ok(Err(verdict))
        }
        Err(_) => Err(lost(connection, metrics, "timeout", "no answer within the deadline")),
    }
}

fn lost(connection: &Connection, metrics: &StoreMetrics, kind: &'static str, error: &str) -> Lost {
    metrics.error(Operation::Write, kind);
    tracing::warn!(host = %connection.session.host, error, "lost a writing connection");
    Lost
}
