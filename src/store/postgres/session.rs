//! One connection whose bounds were verified, and the questions that every host is asked on it.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join, join3};
use jiff::Timestamp;
use jiff::civil::Date;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::bounds;
use super::error::{Problem, Verdict, cannot, judge};
use super::standing::{PROBE, Role, Standing};
use super::table;
use super::transport::Hold;

/// The privileges that the service needs and the role lacks.
const LACKS: &str = "
    SELECT CASE WHEN to_regclass('users') IS NULL THEN 'USAGE on the schema public' ELSE (
        SELECT string_agg(DISTINCT privilege, ', ') || ' on the table users'
        FROM (VALUES ('username', 'SELECT'), ('date_of_birth', 'SELECT'), ('username', 'INSERT'),
                     ('date_of_birth', 'INSERT'), ('date_of_birth', 'UPDATE')) AS needed (name, privilege)
        WHERE NOT has_column_privilege(to_regclass('users'), name, privilege)) END";

/// Terminates the backends `$1` that were started at `$2`.
const END: &str = "
    SELECT pg_terminate_backend(pid) FROM unnest($1::int[], $2::bigint[]) AS given_up (number, started)
    JOIN pg_stat_get_activity(NULL) ON pid = number
    WHERE extract(epoch FROM backend_start - '2000-01-01 00:00:00+00') * 1000000 = started";

/// A connection to one host.
pub(super) struct Session {
    pub(super) client: Client,
    /// What the server reported when the session started.
    pub(super) standing: Standing,
    pub(super) backend: Backend,
    /// The names of the settings that the role has for itself, which were reset.
    pub(super) role_settings: Option<String>,
    retired: AtomicBool,
    _hold: Hold,
}

/// A process of the server: its number and, because numbers are used again, when it started (µs since 2000-01-01).
pub(super) type Backend = (i32, i64);

impl Session {
    /// Asks the server at the other end of a new connection for its standing, and verifies the bounds.
    pub(super) async fn start(client: Client, hold: Hold, has_fixed_path: bool) -> Result<Self, Problem> {
        let failed = cannot("query its role");
        let (role_settings, row) = join(bounds::take_back(&client), ask(&client)).await;
        let row = row.map_err(failed)?;
        let standing = Standing::read(&row).map_err(failed)?;
        let backend = (row.try_get(7).map_err(failed)?, row.try_get(8).map_err(failed)?);
        let (limits, commit) = (row.try_get::<_, Vec<f64>>(9).map_err(failed)?, row.try_get(10).map_err(failed)?);
        let path = row.try_get(11).map_err(failed)?;
        bounds::verify(&limits, commit, Some(path).filter(|_| has_fixed_path))?;
        Ok(Self { client, standing, backend, role_settings, retired: AtomicBool::new(false), _hold: hold })
    }

    /// Asks the server for its standing now.
    pub(super) async fn probe(&self) -> Result<Standing, Error> {
        Standing::read(&ask(&self.client).await?)
    }

    /// Why the table cannot be used, if it cannot. What the service needs is carried out with no rows: so a missing privilege, a
    /// wrong column or a missing key shows before a request meets it.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) async fn examine(&self, standing: Standing) -> Result<Option<Problem>, Problem> {
        if !standing.has_table {
            return Ok(Some("the table users does not exist yet".to_owned()));
        }
        let failed = cannot("use the table users as (username text PRIMARY KEY, date_of_birth date)");
        match self.rehearse(standing.role).await {
            Ok(problem) => Ok(problem),
            Err(error) => match judge(&error).0 {
                Verdict::Later => Ok(None),
                Verdict::Connection => Err(failed(error)),
                Verdict::Host | Verdict::Row => Ok(Some(failed(error))),
            },
        }
    }

    async fn rehearse(&self, role: Role) -> Result<Option<Problem>, Error> {
        let (client, names) = (&self.client, (&Vec::<&str>::new() as _, Type::TEXT_ARRAY));
        let (dates, begin_by) = (Vec::<Date>::new(), Timestamp::UNIX_EPOCH);
        let parameters = [names.clone(), (&dates as _, Type::DATE_ARRAY), (&begin_by as _, Type::TIMESTAMPTZ)];
        let save = async {
            if role == Role::Primary { client.execute_typed(table::UPSERT, &parameters).await } else { Ok(0) }
        };
        // All three are sent at once; what is missing is told before what fails without it.
        let names = [names];
        let (lacks, days, saved) =
            join3(client.query_typed_one(LACKS, &[]), client.query_typed_one(table::SELECT, &names), save).await;
        if let Some(lacks) = lacks?.try_get::<_, Option<&str>>(0)? {
            return Ok(Some(format!("the role lacks {lacks}: grant it, or set DOB_API_ADMIN_DATABASE_URL")));
        }
        if *days?.columns()[0].type_() != Type::DATE_ARRAY {
            return Ok(Some("the column date_of_birth of the table users must have the type date".to_owned()));
        }
        saved.map(|_| None)
    }

    /// Terminates backends with abandoned statements. They may wait for a standby that never answers, and no time limit of the
    /// server ends that. What such a statement did stays, unacknowledged.
    pub(super) async fn end(&self, backends: &[Backend]) -> Result<(), Error> {
        let (numbers, starts): (Vec<i32>, Vec<i64>) = backends.iter().copied().unzip();
        let parameters = [(&numbers as _, Type::INT4_ARRAY), (&starts as _, Type::INT8_ARRAY)];
        self.client.query_typed(END, &parameters).await.map(drop)
    }

    /// Marks the connection as not to be used again, so that the pool makes a new one.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.retired.load(Ordering::Relaxed) || self.client.is_closed()
    }
}

async fn ask(client: &Client) -> Result<Row, Error> {
    let names = bounds::LIMITS.map(|(name, _)| name);
    client.query_typed_one(PROBE, &[(&names.as_slice(), Type::TEXT_ARRAY)]).await
}
