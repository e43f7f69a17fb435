//! Writes: many users by one statement, on the primary.
//!
//! A statement without an answer is sent again on another connection, while the first one may still wait in the
//! server's socket. The first one must never overwrite a newer write that was acknowledged meanwhile. So the limits are
//! nested: the server starts a statement within [`BEGIN_WITHIN`] by its own clock or writes nothing, and finishes it
//! within `statement_timeout` (1 s). Only after both, at [`DEADLINE`], the lane abandons it.

use std::time::Duration;

use jiff::civil::Date;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::lane::{Answered, Lane, Link, Work, within};
use super::table::UPSERT;
use super::view::View;
use crate::domain::{DateOfBirth, UserKey};
use crate::metrics::Operation;
use crate::store::StoreError;
use crate::store::queue::Batch;

/// How long a statement may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long after it was sent a statement may start to write.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);

/// The kind of work.
pub(super) struct Writes;

impl Work for Writes {
    type Question = (UserKey, DateOfBirth);
    type Answer = ();
    const OPERATION: Operation = Operation::Write;
    const SQL: &'static str = UPSERT;
    // Two, so that one slow commit does not stall all.
    const LANES: u32 = 2;
    const DEPTH: usize = 1;
    const REFUSED: StoreError = StoreError::Rejected;

    fn host(view: &View) -> Option<usize> {
        view.primary()
    }

    fn row(question: &Self::Question) -> &UserKey {
        &question.0
    }

    /// Saves the last write of each user, in the order of their names.
    async fn send(
        lane: &Lane<Self>,
        link: &Link,
        batch: &mut Batch<Self::Question, Answered<Self>>,
    ) -> Result<Vec<Answered<Self>>, Failure> {
        batch.sort_by_key(|(user, _)| user);
        let last_of_each = batch.chunk_by(|one, other| one.question.0 == other.question.0).filter_map(<[_]>::last);
        let (names, dates): (Vec<&str>, Vec<Date>) =
            last_of_each.map(|job| (job.question.0.as_str(), job.question.1.date())).unzip();
        let epoch = link.session.standing.epoch;
        lane.hosts.look_at_silent().await;
        let clock = lane.hosts.ask(|view| view.admits(epoch).then(|| view.hosts[link.index].1.standing).flatten());
        let Some(clock) = clock.map(|standing| standing.clock) else {
            return Err(Failure::lost("superseded", "another host was promoted"));
        };
        let begin_by = clock.after(BEGIN_WITHIN);
        let parameters: [&(dyn ToSql + Sync); 3] = [&names, &dates, &begin_by];
        let rows = within(DEADLINE, link.session.client.execute(&link.statement, &parameters)).await?;
        if !lane.hosts.ask(|view| view.admits(epoch)) {
            return Err(Failure::lost("superseded", "another host was promoted meanwhile"));
        }
        if usize::try_from(rows) != Ok(names.len()) {
            return Err(Failure::lost("late", "the server started the statement too late"));
        }
        Ok(batch.iter().map(|_| Ok(())).collect())
    }
}
