//! The table `users`: how it is created, read and written.

use std::error::Error;

use jiff::SignedDuration;
use jiff::civil::date;
use tokio_postgres::types::{FromSql, Type};

use crate::domain::DateOfBirth;

/// Names compare byte by byte ("C"), so an index stays valid when a host's C library changes its sort order. The days are
/// those that a request can save, but for yesterday as the last one, which moves. A tenth of each page stays free for new versions of
/// its rows: of 100 updates 97 instead of 85 then need no new entry in the index.
pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS users (
    username text COLLATE \"C\" PRIMARY KEY,
    date_of_birth date NOT NULL CHECK (date_of_birth BETWEEN '0001-01-01' AND '9999-12-31')
) WITH (fillfactor = 90)";

/// One row with one array, in the order of the names: nothing to sort or to look up on the way back, and always the
/// primary key's index, even if the planner misjudges the table's size.
pub(super) const SELECT: &str = "
    SELECT ARRAY(SELECT (SELECT date_of_birth FROM users WHERE username = name) FROM unnest($1::text[]) AS name)";

/// Saves users until the server's clock shows `$3`. Rows come sorted by name, so that two lanes lock them in the same order.
pub(super) const UPSERT: &str = "
    INSERT INTO users (username, date_of_birth)
    SELECT * FROM unnest($1::text[], $2::date[]) WHERE clock_timestamp() < $3
    ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth";

/// A day as a row holds it; `None` for what is no date of birth: `infinity`, days before 0001-01-01 and far off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day(pub(super) Option<DateOfBirth>);

impl<'a> FromSql<'a> for Day {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // Days since 2000-01-01; the smallest and the largest number stand for the infinities.
        let days = i64::from(i32::from_be_bytes(raw.try_into()?));
        let date = date(2000, 1, 1).checked_add(SignedDuration::from_hours(24 * days));
        Ok(Self(date.ok().and_then(DateOfBirth::from_stored)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::DATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_is_no_date_of_birth_is_none() {
        let cases = [
            (0, Some(date(2000, 1, 1))),
            (-67_227, Some(date(1815, 12, 10))),
            (i32::MAX, None),
            (i32::MIN, None),
            (3_000_000, None),
            (-730_119, Some(date(1, 1, 1))),
            (-730_120, None),
        ];
        for (days, expected) in cases {
            let day = Day::from_sql(&Type::DATE, &i32::to_be_bytes(days));
            assert_eq!(day.ok().and_then(|day| day.0).map(DateOfBirth::date), expected, "{days}");
        }
        assert!(Day::from_sql(&Type::DATE, &[0; 3]).is_err());
    }
}
