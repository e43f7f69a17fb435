//! Reads: many users by one statement, from the primary or, while there is none, from a replica.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};

use super::error::Failure;
use super::lane::{Answered, Lane, Link, Refusal, Work, within};
use super::session::Session;
use super::standing::Role;
use super::table::{Day, SELECT};
use super::view::View;
use crate::domain::UserKey;
use crate::metrics::Operation;
use crate::store::queue::Batch;
use crate::store::{Reading, Source, StoreError};

/// How long a statement may take. A read loses this time once if the server freezes. It is more than `statement_timeout` (1 s), so
/// that the server reports a statement that is too slow.
const DEADLINE: Duration = Duration::from_millis(1250);

/// How long the other hosts may take to say whether they have a user that this replica lacks: less than `DEADLINE`.
const ELSEWHERE_DEADLINE: Duration = Duration::from_millis(300);

/// The kind of work.
pub(super) struct Reads;

impl Work for Reads {
    type Question = UserKey;
    type Answer = Reading;
    const OPERATION: Operation = Operation::Read;
    const SQL: &'static str = SELECT;
    // With one statement on one connection a batch would wait for the network; with many, batches would not form.
    const LANES: u32 = 2;
    const DEPTH: usize = 2;
    const REFUSED: StoreError = StoreError::Unreadable;

    fn host(view: &View) -> Option<usize> {
        view.reader()
    }

    fn row(question: &UserKey) -> &UserKey {
        question
    }

    async fn send(
        lane: &Lane<Self>,
        link: &Link,
        batch: &mut Batch<UserKey, Answered<Self>>,
    ) -> Result<Vec<Answered<Self>>, Failure> {
        let standing = link.session.standing;
        let names: Vec<&str> = batch.iter().map(|job| job.question.as_str()).collect();
        let row = within(DEADLINE, link.session.client.query_one(&link.statement, &[&names])).await?;
        let mut days: Vec<Option<Day>> = row.try_get(0)?;
        let source = match standing.role {
            Role::Primary => Source::Primary,
            Role::Replica => Source::Replica,
        };
        // A newer primary may have acknowledged a write while this one was asked: its answer would be old.
        if source == Source::Primary && !lane.hosts.ask(|view| view.admits(standing.epoch)) {
            return Err(Failure::lost("superseded", "another host was promoted"));
        }
        if source == Source::Replica && days.iter().any(Option::is_none) {
            days = elsewhere(&lane.hosts.ask(|view| view.others(link.index)), &names, days).await;
        }
        let answer = |day| match day {
            Some(Day(Some(date_of_birth))) => Ok(Reading { date_of_birth: Some(date_of_birth), source }),
            Some(Day(None)) => {
                lane.unusable(link, "a row contains an invalid date of birth");
                Err(Refusal::Final(StoreError::Unreadable))
            }
            None if source == Source::Primary => Ok(Reading { date_of_birth: None, source }),
            None => Err(Refusal::Final(StoreError::UnknownToReplica)),
        };
        Ok(days.into_iter().map(answer).collect())
    }
}

/// The users that one replica lacks, from the other hosts: a commit waits for one replica only, and without a primary the
/// others cannot catch up.
async fn elsewhere(others: &[Arc<Session>], names: &[&str], mut days: Vec<Option<Day>>) -> Vec<Option<Day>> {
    let unknown: Vec<usize> = (0..days.len()).filter(|&index| days[index].is_none()).collect();
    let names: Vec<&str> = unknown.iter().map(|&index| names[index]).collect();
    let ask = async |session: &Session| {
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&names, Type::TEXT_ARRAY)];
        let row = session.client.query_typed_one(SELECT, &parameters);
        timeout(ELSEWHERE_DEADLINE, row).await.ok()?.and_then(|row| row.try_get::<_, Vec<Option<Day>>>(0)).ok()
    };
    for found in join_all(others.iter().map(|session| ask(session))).await.into_iter().flatten() {
        for (&index, day) in unknown.iter().zip(found) {
            days[index] = days[index].or(day);
        }
    }
    days
}
