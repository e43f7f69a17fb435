//! The table as a whole.

use std::time::Duration;

use jiff::civil::Date;
use tokio_postgres::types::Type;

use super::error::{Problem, cannot, within};
use super::provision;
use super::session::Session;
use super::table::Day;
use crate::config::Database;
use crate::lines::User;
use crate::store::whole::{BATCH, Row, Saved, row};

/// How long a statement may take. To count a large table, or to sort one that another program created, takes minutes. The server
/// gives up first.
const DEADLINE: Duration = Duration::from_mins(11);

/// One snapshot for all statements, on a replica, too. The reader of the export may pause.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL statement_timeout = '10min';
    SET LOCAL idle_in_transaction_session_timeout = 0;
    DECLARE everyone NO SCROLL CURSOR FOR
        SELECT username::text, date_of_birth FROM users ORDER BY username COLLATE \"C\"";

/// Saves what differs, and counts it. A user who is saved by a request meanwhile may be counted wrong.
const SAVE: &str = "
    WITH compared AS MATERIALIZED (
        SELECT name, day, date_of_birth AS old FROM unnest($1::text[], $2::date[]) AS given (name, day)
        LEFT JOIN users ON username = name
    ), saved AS (
        INSERT INTO users (username, date_of_birth)
        SELECT name, day FROM compared WHERE old IS DISTINCT FROM day ORDER BY name
        ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth
    )
    SELECT count(*) FILTER (WHERE old IS NULL), count(*) FILTER (WHERE old <> day) FROM compared";

/// The rows of a snapshot.
pub(in crate::store) struct Rows(Session);

impl Rows {
    /// The rows of the primary's table, or of a replica's while there is no primary, and their number.
    pub(in crate::store) async fn open(database: &Database) -> Result<(Self, u64), Problem> {
        let session =
            provision::newest(&database.postgres, database.password_file.as_deref(), &database.tls, true).await?;
        usable(&session).await?;
        let failed = cannot("read the table users");
        let begun = async {
            session.client.batch_execute(BEGIN).await.map_err(failed)?;
            let counted = session.client.query_typed_one("SELECT count(*) FROM users", &[]).await;
            counted.and_then(|row| row.try_get::<_, i64>(0)).map_err(failed)
        };
        let count = within(DEADLINE, begun).await?;
        Ok((Self(session), count.unsigned_abs()))
    }

    pub(in crate::store) async fn next(&mut self) -> Result<Vec<Row>, Problem> {
        let failed = cannot("read the table users");
        let fetch = format!("FETCH {BATCH} FROM everyone");
        let rows = within(DEADLINE, async { self.0.client.query_typed(&fetch, &[]).await.map_err(failed) }).await?;
        let read = |found: tokio_postgres::Row| Ok(row(found.try_get(0)?, found.try_get::<_, Day>(1)?.0));
        rows.into_iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }
}

/// A session on the primary.
pub(in crate::store) struct Target(Session);

impl Target {
    pub(in crate::store) async fn open(database: &Database) -> Result<Self, Problem> {
        let session = provision::once(database).await?;
        usable(&session).await?;
        Ok(Self(session))
    }

    pub(in crate::store) async fn save(&self, users: &[User]) -> Result<Saved, Problem> {
        let (names, dates): (Vec<&str>, Vec<Date>) =
            users.iter().map(|(user, born)| (user.as_str(), born.date())).unzip();
        let parameters = [(&names as _, Type::TEXT_ARRAY), (&dates as _, Type::DATE_ARRAY)];
        let saved = async {
            let counted = self.0.client.query_typed_one(SAVE, &parameters).await?;
            Ok((counted.try_get::<_, i64>(0)?, counted.try_get::<_, i64>(1)?))
        };
        let (new, changed) = within(DEADLINE, async { saved.await.map_err(cannot("save users")) }).await?;
        Ok(Saved { new: new.unsigned_abs(), changed: changed.unsigned_abs() })
    }
}

/// Refuses a table that the service could not use.
async fn usable(session: &Session) -> Result<(), Problem> {
    let standing = session.probe().await.map_err(cannot("query its role"))?;
    session.examine(standing).await?.map_or(Ok(()), Err)
}
