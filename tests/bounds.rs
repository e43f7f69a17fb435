//! The bounds that the server puts on the service's statements: they hold whatever stands in between, or it is not used.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use jiff::civil::{Date, date};
use support::calendar::body;
use support::database::Database;
use support::pooler::Pooler;
use support::postgres::Server;
use support::role::Role;
use support::service::{Launch, Service};
use support::until;

const EARLIER: Date = Date::constant(1815, 12, 10);
const LATER: Date = Date::constant(1906, 12, 9);

/// What the service wants of each of its sessions.
const BOUNDS: [(&str, &str); 5] = [
    ("statement_timeout", "1s"),
    ("lock_timeout", "500ms"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
];

/// Makes the table. To save the earlier date takes four seconds, and each statement notes under which bounds it runs.
const TABLE: &str = "
    CREATE TABLE users (username text COLLATE \"C\" PRIMARY KEY, date_of_birth date NOT NULL);
    CREATE TABLE seen (bound text, value text);
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO seen SELECT name, current_setting(name) FROM unnest('{statement_timeout, lock_timeout,
            idle_in_transaction_session_timeout, plan_cache_mode, enable_seqscan}'::text[]) AS name;
        IF NEW.date_of_birth = '1815-12-10' THEN PERFORM pg_sleep(4); END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER watch BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION watch();
    GRANT SELECT, INSERT, UPDATE ON users, seen TO APP;";

/// A write that is given up never lands over a newer one, and every statement ran under every bound.
fn holds_its_bounds(launch: Launch, server: &Server, database: &str) {
    let service = launch.set("DOB_API_WRITE_PATIENCE", "3s").start();
    service.put("/hello/ada", &body(EARLIER)).problem(503);
    service.save("ada", LATER);
    service.greets("ada", LATER);
    drop(service);
    until("the statements end", || {
        let query = "SELECT FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND pid <> pg_backend_pid()";
        server.client("postgres").query(query, &[&database]).unwrap().is_empty()
    });
    let mut client = server.client(database);
    let born: String = client.query_one("SELECT date_of_birth::text FROM users", &[]).unwrap().get(0);
    assert_eq!(born, LATER.to_string(), "the write that was given up came last");
    let seen = client.query("SELECT DISTINCT bound, value FROM seen ORDER BY bound", &[]).unwrap();
    let seen: Vec<(String, String)> = seen.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut wanted = BOUNDS.map(|(bound, value)| (bound.to_owned(), value.to_owned()));
    wanted.sort();
    assert_eq!(seen, wanted);
}

/// Tells the server to put these bounds on each session of the role.
fn bind(role: &Role<'_>, bounds: &[(&str, &str)]) {
    for (bound, value) in bounds {
        role.arrange(&format!("ALTER ROLE APP SET {bound} = '{value}'"));
    }
    role.arrange("ALTER ROLE APP SET search_path = public, pg_temp");
}

/// Waits until the service has refused its database, and looks at the one line that says why.
fn refuses(service: &Service, words: &[&str]) {
    until("the service says something or is healthy", || service.complains() || service.health() == 200);
    service.get("/healthz").problem(503);
    let failures = || service.metrics().sum("dob_api_store_errors_total", &[]);
    let before = failures();
    until("the service has tried again", || failures() >= before + 3);
    let complaints = service.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    for word in words {
        assert!(complaints[0].contains(word), "'{word}' is missing: {complaints:#?}");
    }
    service.get("/healthz").problem(503);
}

#[test]
fn a_pooler_that_drops_the_bounds_is_refused_until_the_role_brings_them() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange(TABLE);
    let pooler = Pooler::start(&database.server, &role);
    let service = Launch::postgres(role.url_at(pooler.port)).bind();
    refuses(&service, &["statement_timeout", "pooler"]);
    bind(&role, &BOUNDS);
    // The pooler keeps its sessions, and they keep the settings with which they began.
    database.server.terminate_sessions(&database.name);
    service.await_health(200);
    service.save("ada", LATER);
    service.greets("ada", LATER);
}

#[test]
fn a_pooler_that_drops_one_bound_is_refused_by_its_name() {
    for missing in ["lock_timeout", "idle_in_transaction_session_timeout"] {
        let database = Database::new();
        let role = Role::new(&database.server, &database.name);
        role.arrange(TABLE);
        bind(&role, &BOUNDS);
        role.arrange(&format!("ALTER ROLE APP RESET {missing}"));
        let pooler = Pooler::start(&database.server, &role);
        refuses(&Launch::postgres(role.url_at(pooler.port)).bind(), &[missing, "pooler"]);
    }
}

#[test]
fn a_pooler_is_used_where_the_role_brings_the_bounds() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange(TABLE);
    bind(&role, &BOUNDS);
    let pooler = Pooler::start(&database.server, &role);
    holds_its_bounds(Launch::postgres(role.url_at(pooler.port)), &database.server, &database.name);
}

#[test]
fn options_in_the_url_do_not_lift_the_bounds() {
    let lifts: Vec<_> = BOUNDS[..3].iter().map(|(bound, _)| format!("-c {bound}=0")).collect();
    let lifts =
        [lifts.join(" "), "--statement-timeout=0".into(), "-c plan_cache_mode=auto -c enable_seqscan=on".into()];
    for options in lifts {
        let database = Database::new();
        let role = Role::new(&database.server, &database.name);
        role.arrange(TABLE);
        let options = options.replace(' ', "%20").replace('=', "%3D");
        let url = format!("{}?options={options}", role.url());
        holds_its_bounds(Launch::postgres(url), &database.server, &database.name);
    }
}

#[test]
fn settings_of_the_role_and_the_database_do_not_lift_the_bounds() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange(TABLE);
    bind(&role, &[("statement_timeout", "0"), ("lock_timeout", "0"), ("enable_seqscan", "on")]);
    role.arrange(&format!("ALTER DATABASE {} SET statement_timeout = 0", database.name));
    holds_its_bounds(Launch::postgres(role.url()), &database.server, &database.name);
}

/// What a role may set for itself, and what would stop or redirect the service.
const OWN_SETTINGS: [&str; 17] = [
    "search_path = 'evil'",
    "idle_session_timeout = '1ms'",
    "statement_timeout = '1ms'",
    "synchronous_commit = 'off'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = 'on'",
    "exit_on_error = 'on'",
    "client_encoding = 'LATIN1'",
    "client_min_messages = 'debug5'",
    "standard_conforming_strings = 'off'",
    "enable_indexscan = 'off'",
    "enable_bitmapscan = 'off'",
    "jit_above_cost = '0'",
    "tcp_user_timeout = '1ms'",
    "row_security = 'off'",
    "IntervalStyle = 'sql_standard'",
    "TimeZone = 'Pacific/Kiritimati'",
];

/// Carries out SQL with nothing but the password of the role.
fn steal(role: &Role<'_>, sql: &str) -> Result<(), postgres::Error> {
    postgres::Client::connect(&role.url(), postgres::NoTls).unwrap().batch_execute(sql)
}

#[test]
fn settings_that_a_stolen_password_gives_the_role_neither_stop_nor_redirect_the_service() {
    for place in ["", "IN DATABASE DB"] {
        let database = Database::new();
        let role = Role::new(&database.server, &database.name);
        role.arrange("GRANT CREATE ON SCHEMA public TO APP; CREATE SCHEMA evil AUTHORIZATION APP");
        let service = Launch::postgres(role.url()).start();
        service.save("ada", EARLIER);
        let place = place.replace("DB", &database.name);
        let set = |setting: &str| format!("ALTER ROLE CURRENT_USER {place} SET {setting};");
        let table = "CREATE TABLE evil.users (username text PRIMARY KEY, date_of_birth date);";
        steal(&role, &(table.to_owned() + &OWN_SETTINGS.map(set).concat())).unwrap();
        database.server.terminate_sessions(&database.name);
        until("the service has new sessions", || service.get("/hello/ada").status == 200);
        service.greets("ada", EARLIER);
        service.save("ada", LATER);
        let fresh = Launch::postgres(role.url()).start();
        fresh.greets("ada", LATER);
        fresh.save("bob", LATER);
        let count = |table| -> i64 {
            database.client().query_one(&format!("SELECT count(*) FROM {table}"), &[]).unwrap().get(0)
        };
        assert_eq!((count("public.users"), count("evil.users")), (2, 0));
        until("the log names them", || {
            service.log().contains("idle_session_timeout") && fresh.log().contains("exit_on_error")
        });
        // The region's epoch is no setting that a role may give itself.
        assert!(steal(&role, &set("dob_api.region_epoch = '9'")).is_err());
    }
}

#[test]
fn a_role_does_not_open_for_itself_what_an_administrator_has_closed() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange("GRANT CREATE ON SCHEMA public TO APP");
    let service = Launch::postgres(role.url()).set("DOB_API_WRITE_PATIENCE", "1s").start();
    until("a write is taken", || service.put("/hello/ada", &body(EARLIER)).status == 204);
    steal(&role, "ALTER ROLE CURRENT_USER SET default_transaction_read_only = 'off'").unwrap();
    database
        .client()
        .batch_execute(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name))
        .unwrap();
    database.server.terminate_sessions(&database.name);
    until("the service takes no writes", || service.put("/hello/ada", &body(LATER)).status == 503);
    service.greets("ada", EARLIER);
    until("the log names the setting", || service.log().contains("default_transaction_read_only"));
    let mut administrator = database.client();
    administrator.batch_execute("SET default_transaction_read_only = off").unwrap();
    administrator
        .batch_execute(&format!("ALTER DATABASE {} RESET default_transaction_read_only", database.name))
        .unwrap();
    until("writes are taken again", || service.put("/hello/ada", &body(LATER)).status == 204);
    // A role that closes it for itself is obeyed, because closing is how operators move the primary; the log names it.
    steal(&role, "ALTER ROLE CURRENT_USER SET default_transaction_read_only = 'on'").unwrap();
    database.server.terminate_sessions(&database.name);
    until("the service takes no writes", || service.put("/hello/ada", &body(EARLIER)).status == 503);
    service.greets("ada", LATER);
    // Sessions that began while it was closed stay closed, and nobody ends them.
    role.arrange("ALTER ROLE APP RESET default_transaction_read_only");
    until("writes are taken again", || service.put("/hello/ada", &body(EARLIER)).status == 204);
}

#[test]
fn a_service_that_starts_while_a_database_is_closed_takes_writes_once_it_is_opened() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange(&format!("{TABLE} INSERT INTO users VALUES ('ada', '{LATER}')"));
    let set = |change: &str| {
        let mut administrator = database.client();
        administrator.batch_execute("SET default_transaction_read_only = off").unwrap();
        administrator.batch_execute(&format!("ALTER DATABASE {} {change}", database.name)).unwrap();
    };
    set("SET default_transaction_read_only = on");
    let service = Launch::postgres(role.url()).set("DOB_API_WRITE_PATIENCE", "1s").start();
    service.greets("ada", LATER);
    assert_eq!(service.put("/hello/bob", &body(LATER)).status, 503);
    set("RESET default_transaction_read_only");
    until("a write is taken", || service.put("/hello/bob", &body(LATER)).status == 204);
}

#[test]
fn a_pooler_that_drops_the_search_path_is_refused_by_its_name() {
    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    role.arrange(TABLE);
    bind(&role, &BOUNDS);
    role.arrange("ALTER ROLE APP RESET search_path");
    let pooler = Pooler::start(&database.server, &role);
    refuses(&Launch::postgres(role.url_at(pooler.port)).bind(), &["search_path", "pooler", "public, pg_temp"]);
}

#[test]
fn options_in_the_url_that_touch_no_bound_are_kept() {
    let database = Database::new();
    database.client().batch_execute("CREATE SCHEMA birthdays").unwrap();
    let url = format!("{}?options=-c%20search_path%3Dbirthdays", database.url());
    let service = Launch::postgres(url).start();
    service.save("ada", date(1815, 12, 10));
    assert_eq!(database.client().query("SELECT FROM birthdays.users", &[]).unwrap().len(), 1);
}
