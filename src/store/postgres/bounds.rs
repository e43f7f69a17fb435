//! The settings that a session relies on: it starts with them, resets what the role has set instead, and verifies them.
//!
//! A role may give itself settings, which stay and reach every replica. With them, nobody who has the role's password may lead its
//! sessions to another table or stop them permanently.

use futures_util::future::join;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::Problem;

/// How long the server lets a session wait, in seconds: what it enforces by itself, in case that the service is gone. `writes`
/// says how the bounds fit.
pub(super) const LIMITS: [(&str, f64); 3] =
    [("statement_timeout", 1.0), ("lock_timeout", 0.5), ("idle_in_transaction_session_timeout", 5.0)];

/// Where the table is looked for, unless the URL names another place. A table of the session's own comes last.
const PATH: &str = "-c search_path=public,pg_temp";

/// A 204 is sent for what is durable. Statements are planned once: a server that first saw small batches would plan each of the
/// large ones again. A plan that is kept must suit a table of any size, so it uses the primary key's index. A session may idle: a
/// limit of 1 ms would end it before its first statement. Compiling statements takes longer than carrying them out: a role that asks
/// for it could let each one run into its limit.
const OTHERS: &str = "-c synchronous_commit=on -c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
                      -c idle_session_timeout=0 -c jit=off";

/// A limit that came with PostgreSQL 17, which older servers would refuse among the options. It must go first.
const LIFT: &str = "
    SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('server_version_num')::int >= 170000";

/// Gives PostgreSQL's default to what the role has set, but to `$1`.
const RESET: &str = "
    SELECT set_config(name, boot_val, false) FROM pg_settings
    WHERE source IN ('user', 'database user') AND context = 'user' AND name <> ALL($1)";

/// The names of what the role has set, but of `$1`.
const SET: &str = "
    SELECT string_agg(DISTINCT split_part(setting, '=', 1), ', ')
    FROM pg_db_role_setting JOIN pg_roles ON pg_roles.oid = setrole LEFT JOIN pg_database ON pg_database.oid = setdatabase,
         unnest(setconfig) AS setting
    WHERE rolname = session_user AND coalesce(datname, current_database()) = current_database()
      AND split_part(setting, '=', 1) <> ALL($1)";

/// Settings that a role may need to have where a pooler drops the options.
const BROUGHT: [&str; 7] =
    [LIMITS[0].0, LIMITS[1].0, LIMITS[2].0, "search_path", "synchronous_commit", "plan_cache_mode", "enable_seqscan"];

/// How administrators close a primary. The session cannot see who closed it, so the service obeys a role that does it, too.
const CLOSES: &str = "default_transaction_read_only";

/// The options that a session starts with. The last one of a name wins, so these come after those of the URL.
pub(super) fn options(own: &str) -> String {
    let path = if own.to_ascii_lowercase().replace('-', "_").contains("search_path") { "" } else { PATH };
    let limits = LIMITS.map(|(name, seconds)| format!("-c {name}={}", seconds * 1000.0));
    format!("{own} {path} {} {OTHERS}", limits.join(" "))
}

/// Whether a session with these options looks for the table where the service wants it.
pub(super) fn fix_path(options: &str) -> bool {
    options.contains(PATH)
}

/// Resets what the role has set for itself, and returns the names of these settings. If that fails, the verification shows it.
pub(super) async fn take_back(client: &Client) -> Option<String> {
    let brought = [(&BROUGHT.as_slice() as _, Type::TEXT_ARRAY)];
    let (_, set) = join(client.query_typed(LIFT, &[]), client.query_typed_one(SET, &brought)).await;
    let set: Option<String> = set.ok()?.try_get(0).ok()?;
    if set.is_some() {
        let but: Vec<&str> = BROUGHT.into_iter().chain([CLOSES]).collect();
        let _ = client.query_typed(RESET, &[(&but, Type::TEXT_ARRAY)]).await;
    }
    set
}

/// Refuses a session without what correctness relies on: a pooler may have dropped it.
pub(super) fn verify(seconds: &[f64], commit: &str, path: Option<&str>) -> Result<(), Problem> {
    let limits = LIMITS.iter().zip(seconds);
    let wrong = limits.filter(|((_, most), seconds)| **seconds <= 0.0 || *seconds > most);
    let wrong = wrong.map(|((name, most), seconds)| (*name, format!("{seconds} s"), format!("'{} ms'", most * 1000.0)));
    let commit = (commit != "on" && commit != "remote_apply")
        .then(|| ("synchronous_commit", commit.to_owned(), "'on'".to_owned()));
    let path = path.filter(|path| !PATH.ends_with(&format!("={}", path.replace(' ', ""))));
    let path = path.map(|path| ("search_path", path.to_owned(), "public, pg_temp".to_owned()));
    match wrong.chain(commit).chain(path).next() {
        None => Ok(()),
        Some((name, found, wanted)) => Err(format!(
            "{name} is {found} instead of {}: a pooler dropped the startup parameter `options`, or something set it within \
             the session; connect to PostgreSQL directly, or ALTER ROLE … SET {name} = {wanted}",
            wanted.trim_matches('\'')
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_without_the_bounds_is_refused_with_the_name_of_the_one_that_is_missing() {
        let ours = Some("public, pg_temp");
        let cases = [
            ([1.0, 0.5, 5.0], "on", ours, None),
            ([0.1, 0.1, 0.1], "remote_apply", Some("public,pg_temp"), None),
            ([1.0, 0.5, 5.0], "on", None, None),
            ([0.0, 0.5, 5.0], "on", ours, Some("statement_timeout is 0 s instead of 1000 ms")),
            ([1.5, 0.5, 5.0], "on", ours, Some("statement_timeout is 1.5 s")),
            ([1.0, 0.501, 5.0], "on", ours, Some("lock_timeout")),
            ([1.0, 0.5, -1.0], "on", ours, Some("idle_in_transaction_session_timeout")),
            ([1.0, 0.5, 5.0], "off", ours, Some("synchronous_commit is off instead of on")),
            ([1.0, 0.5, 5.0], "remote_write", ours, Some("synchronous_commit")),
            ([1.0, 0.5, 5.0], "on", Some("evil"), Some("SET search_path = public, pg_temp")),
            ([1.0, 0.5, 5.0], "on", Some("pg_temp"), Some("search_path is pg_temp")),
            ([1.0, 0.5, 5.0], "on", Some(""), Some("search_path")),
            ([9.0, 9.0, 9.0], "local", ours, Some("statement_timeout")),
        ];
        for (seconds, commit, path, expected) in cases {
            let refused = verify(&seconds, commit, path).err();
            assert_eq!(refused.is_some(), expected.is_some(), "{seconds:?} {commit} {path:?}: {refused:?}");
            assert!(
                refused.unwrap_or_default().contains(expected.unwrap_or_default()),
                "{seconds:?} {commit} {path:?}"
            );
        }
    }

    #[test]
    fn the_path_is_fixed_unless_the_url_names_one() {
        for (own, is_fixed) in
            [("", true), ("-c geqo=off", true), ("-c search_path=a", false), ("--search-path=a", false)]
        {
            assert_eq!(fix_path(&options(own)), is_fixed, "{own}");
        }
    }
}
