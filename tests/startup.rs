//! How the service starts, and how it says that it cannot.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use jiff::civil::date;
use postgres::{Client, NoTls};
use support::postgres::{Server, free_port};
use support::service::{Ended, Launch};
use support::until;

/// The exit code of a start that a wrong setting ended.
const USAGE: Option<i32> = Some(64);

fn run(flags: &[&str]) -> Ended {
    flags.iter().fold(Launch::embedded(), |launch, flag| launch.flag(*flag)).run()
}

#[test]
fn help_names_every_setting() {
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    let settings = [
        "DOB_API_LISTEN",
        "DOB_API_ADMIN_LISTEN",
        "DATABASE_URL",
        "DATABASE_PASSWORD_FILE",
        "DATABASE_CA_FILE",
        "DOB_API_ADMIN_DATABASE_URL",
        "DOB_API_ADMIN_DATABASE_URL_FILE",
        "DOB_API_DATA_DIR",
        "DOB_API_TIME_ZONE",
        "DOB_API_WRITE_PATIENCE",
        "DOB_API_READ_PATIENCE",
        "DOB_API_DRAIN_DELAY",
        "DOB_API_DRAIN_TIMEOUT",
        "DOB_API_THREADS",
        "DOB_API_MAX_CONNECTIONS",
        "DOB_API_QUEUE_CAPACITY",
        "DOB_API_KEEP_ALIVE",
        "DOB_API_HEADER_TIMEOUT",
        "DOB_API_BODY_TIMEOUT",
        "RUST_LOG",
        "health",
    ];
    for setting in settings {
        assert!(help.stdout.contains(setting), "{setting} is missing");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = run(&["--version"]);
    assert_eq!(version.code, Some(0));
    assert_eq!(version.stdout, format!("dob-api {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn each_wrong_setting_is_named_in_one_sentence() {
    let wrong = [
        ("DOB_API_LISTEN", "nonsense"),
        ("DOB_API_LISTEN", "127.0.0.1:99999"),
        ("DOB_API_ADMIN_LISTEN", "9080"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "postgres://localhost:nonsense/x"),
        ("DATABASE_URL", "postgres://localhost/x?sslmode=nonsense"),
        ("DOB_API_TIME_ZONE", "Mars/Olympus"),
        ("DOB_API_WRITE_PATIENCE", "soon"),
        ("DOB_API_WRITE_PATIENCE", "30"),
        ("DOB_API_READ_PATIENCE", "-1s"),
        ("DOB_API_DRAIN_DELAY", "1 fortnight"),
        ("DOB_API_DRAIN_TIMEOUT", "35s35"),
        ("DOB_API_THREADS", "0"),
        ("DOB_API_THREADS", "many"),
        ("DOB_API_MAX_CONNECTIONS", "0"),
        ("DOB_API_QUEUE_CAPACITY", "-1"),
        ("DOB_API_KEEP_ALIVE", "x"),
        ("DOB_API_HEADER_TIMEOUT", "10"),
        ("DOB_API_BODY_TIMEOUT", "s"),
        ("RUST_LOG", "dob_api=loud"),
    ];
    for (setting, value) in wrong {
        let ended = Launch::embedded().set(setting, value).run();
        assert_eq!(ended.code, USAGE, "{setting}={value}: {ended:?}");
        ended.sentence(&[setting]);
    }
}

#[test]
fn each_wrong_setting_of_the_database_is_named_in_one_sentence() {
    let absent = "/nonexistent/file";
    for setting in ["DATABASE_PASSWORD_FILE", "DATABASE_CA_FILE"] {
        let url = "postgres://app@db.test/x";
        let ended = Launch::postgres(url).set(setting, absent).run();
        assert_eq!(ended.code, USAGE, "{ended:?}");
        ended.sentence(&[setting, absent]);
    }
    let launch = Launch::postgres("postgres://app@db.test/x");
    let garbage = launch.data().join("ca.pem");
    fs::write(&garbage, "garbage").unwrap();
    let ended = launch.set("DATABASE_CA_FILE", garbage.to_str().unwrap()).run();
    assert_eq!(ended.code, USAGE, "{ended:?}");
    ended.sentence(&["DATABASE_CA_FILE"]);
    let ended = Launch::postgres("postgres://app@127.0.0.1/x").set("DOB_API_ADMIN_DATABASE_URL", "nonsense").run();
    assert_eq!(ended.code, USAGE, "{ended:?}");
    ended.sentence(&["DOB_API_ADMIN_DATABASE_URL"]);
}

#[test]
fn a_setting_that_is_empty_is_one_that_is_not_set() {
    Launch::embedded().set("DATABASE_URL", "").set("DOB_API_DRAIN_TIMEOUT", "").start();
}

#[test]
fn a_wrong_flag_is_named() {
    let wrong = [
        (&["--nonsense"][..], "--nonsense"),
        (&["nonsense"], "nonsense"),
        (&["--listen"], "--listen"),
        (&["--listen", "nonsense"], "DOB_API_LISTEN"),
        (&["--threads", "0"], "DOB_API_THREADS"),
    ];
    for (flags, named) in wrong {
        let ended = run(flags);
        assert_eq!(ended.code, USAGE, "{ended:?}");
        assert!(ended.stderr.contains(named), "{ended:?}");
    }
}

#[test]
fn a_password_in_a_flag_is_refused_and_not_repeated() {
    let ended = run(&["--database-url", "postgres://app:open-sesame@127.0.0.1/x"]);
    assert_eq!(ended.code, USAGE, "{ended:?}");
    ended.sentence(&["DATABASE_URL", "DATABASE_PASSWORD_FILE"]);
    assert!(!format!("{ended:?}").contains("open-sesame"), "{ended:?}");
}

#[test]
fn a_password_in_a_wrong_url_is_not_repeated() {
    for url in ["postgres://app:open-sesame@127.0.0.1:nonsense/x", "app:open-sesame@127.0.0.1"] {
        let ended = Launch::postgres(url).run();
        assert_eq!(ended.code, USAGE, "{ended:?}");
        assert!(!format!("{ended:?}").contains("open-sesame"), "{ended:?}");
    }
}

#[test]
fn a_flag_outranks_the_environment() {
    let port = free_port();
    let service = Launch::embedded().flag("--listen").flag(format!("127.0.0.1:{port}")).start();
    assert_eq!(service.address.port(), port);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["DOB_API_LISTEN", "DOB_API_ADMIN_LISTEN"] {
        let ended = Launch::embedded().set(setting, &address).run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.sentence(&[&address, setting]);
        assert_eq!(ended.stdout, "", "nothing is announced");
    }
}

fn embedded_in(data: &Path) -> Launch {
    Launch::embedded().set("DOB_API_DATA_DIR", data.to_str().unwrap())
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    // Neither can be written, not even by root.
    for data in [file.as_path(), Path::new("/proc/dob-api")] {
        let ended = embedded_in(data).run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.sentence(&[data.to_str().unwrap(), "DOB_API_DATA_DIR"]);
    }
}

#[test]
fn a_data_directory_that_is_missing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("a/b");
    embedded_in(&data).start().save("ada", date(1815, 12, 10));
    embedded_in(&data).start().greets("ada", date(1815, 12, 10));
}

#[test]
fn a_store_that_another_process_uses_is_named() {
    let data = tempfile::tempdir().unwrap();
    let _first = embedded_in(data.path()).start();
    let ended = embedded_in(data.path()).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&[data.path().to_str().unwrap(), "DOB_API_DATA_DIR"]);
}

#[test]
fn a_store_that_is_damaged_is_named_and_left_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    drop(embedded_in(data.path()).start());
    let file = fs::read_dir(data.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "damaged").unwrap();
    let ended = embedded_in(data.path()).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&[file.to_str().unwrap()]);
    assert_eq!(fs::read(&file).unwrap(), b"damaged");
}

#[test]
fn health_asks_the_service() {
    let ask = |address: String| Launch::embedded().set("DOB_API_LISTEN", address).flag("health").run();
    let service = Launch::embedded().start();
    assert_eq!(ask(service.address.to_string()).code, Some(0));
    let absent = ask(format!("127.0.0.1:{}", free_port()));
    assert_eq!(absent.code, Some(1), "{absent:?}");
    let waiting = Launch::postgres(format!("postgres://app@127.0.0.1:{}/x", free_port())).bind();
    let unhealthy = ask(waiting.address.to_string());
    assert_eq!(unhealthy.code, Some(1), "{unhealthy:?}");
}

#[test]
fn health_asks_loopback_when_the_service_listens_everywhere() {
    let service = Launch::embedded().set("DOB_API_LISTEN", "0.0.0.0:0").start();
    let address = format!("0.0.0.0:{}", service.address.port());
    let ended = Launch::embedded().set("DOB_API_LISTEN", address).flag("health").run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn several_threads_serve() {
    let service = Launch::embedded().set("DOB_API_THREADS", "4").start();
    let mut connections = service.connections(40);
    for connection in &mut connections {
        connection.ask("PUT", "/hello/ada", &support::calendar::body(date(1815, 12, 10)));
    }
    for connection in &mut connections {
        assert_eq!(connection.receive().status, 204);
    }
    service.greets("ada", date(1815, 12, 10));
}

const PASSWORD: &str = "it's \\ \"open\" sesame";

/// A role that the service is to create on `server`, and its own database.
struct Application<'a> {
    server: &'a Server,
    role: &'static str,
    database: &'static str,
}

impl Application<'_> {
    fn launch(&self) -> Launch {
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("postgres://{}@127.0.0.1:{}/{}", encode(self.role), self.server.port, encode(self.database));
        let launch = Launch::postgres(url);
        let password = launch.data().join("password");
        fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        launch
            .set("DATABASE_PASSWORD_FILE", password.to_str().unwrap())
            .set("DOB_API_ADMIN_DATABASE_URL", self.server.url("postgres"))
    }

    fn connect(&self, database: &str) -> Result<Client, postgres::Error> {
        postgres::Config::new()
            .host("127.0.0.1")
            .port(self.server.port)
            .user(self.role)
            .password(PASSWORD)
            .dbname(database)
            .connect(NoTls)
    }
}

#[test]
fn role_database_and_table_are_created_when_an_administrator_is_given() {
    let server = Server::start();
    let names = [("app", "greetings"), ("App \"x\"; --", "Greet 'ings'")];
    for (role, database) in names {
        let application = Application { server: &server, role, database };
        application.launch().start().save("ada", date(1815, 12, 10));
        // Once more: what is there already is no obstacle, and nothing is lost.
        application.launch().start().greets("ada", date(1815, 12, 10));
    }
}

#[test]
fn services_that_start_together_create_each_thing_once() {
    let server = Server::start();
    let application = Application { server: &server, role: "app", database: "greetings" };
    let services: Vec<_> = (0..6).map(|_| application.launch().bind()).collect();
    for service in &services {
        service.await_health(200);
    }
    services[0].save("ada", date(1815, 12, 10));
    services[5].greets("ada", date(1815, 12, 10));
}

#[test]
fn the_role_that_is_created_has_only_the_privileges_it_needs() {
    let server = Server::start();
    let application = Application { server: &server, role: "app", database: "greetings" };
    server.client("postgres").batch_execute("CREATE TABLE others (secret text)").unwrap();
    application.launch().start().save("ada", date(1815, 12, 10));
    let mut own = application.connect("greetings").unwrap();
    server.client("greetings").batch_execute("CREATE TABLE others (secret text)").unwrap();
    let forbidden = [
        "CREATE TABLE mine (x int)",
        "CREATE SCHEMA mine",
        "DROP TABLE users",
        "ALTER TABLE users ADD x int",
        "TRUNCATE users",
        "SELECT * FROM others",
        "SELECT * FROM pg_authid",
        "CREATE ROLE another",
        "CREATE DATABASE another",
        "ALTER ROLE app SUPERUSER",
        "COPY users TO PROGRAM 'true'",
    ];
    for statement in forbidden {
        let error = own.batch_execute(statement).expect_err(statement);
        assert_eq!(error.code().unwrap().code(), "42501", "{statement}: {error:?}");
    }
    let role = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
        FROM pg_roles WHERE rolname = 'app'";
    let powerful: bool = server.client("postgres").query_one(role, &[]).unwrap().get(0);
    assert!(!powerful);
}

#[test]
fn passwords_appear_neither_in_logs_nor_in_the_command_line() {
    let mut server = Server::start();
    server.configure("log_statement", "all");
    let administrator = "CREATE ROLE administrator SUPERUSER LOGIN PASSWORD 'administer'";
    server.client("postgres").batch_execute(administrator).unwrap();
    let port = server.port;
    let service = Launch::postgres(format!("postgres://app:open-sesame@127.0.0.1:{port}/greetings"))
        .set("DOB_API_ADMIN_DATABASE_URL", format!("postgres://administrator:administer@127.0.0.1:{port}/postgres"))
        .set("RUST_LOG", "trace")
        .start();
    service.save("ada", date(1815, 12, 10));
    let created = server.log();
    assert!(created.contains("ROLE \"app\"") || created.contains("ROLE app"), "{created}");
    assert!(!created.contains("open-sesame"), "the server's log tells the password");
    server.stop();
    until("the service complains", || service.complains());
    let command_line = fs::read_to_string(format!("/proc/{}/cmdline", service.pid())).unwrap();
    for secret in ["open-sesame", "administer"] {
        assert!(!service.log().replace("administrator", "").contains(secret), "{}", service.log());
        assert!(!command_line.contains(secret), "{command_line}");
    }
}

#[test]
fn a_role_that_may_not_create_the_table_says_so_and_waits() {
    let server = Server::start();
    server.client("postgres").batch_execute("CREATE ROLE app LOGIN PASSWORD 'x'").unwrap();
    let service = Launch::postgres(format!("postgres://app:x@127.0.0.1:{}/postgres", server.port)).bind();
    until("the service complains", || service.log().contains("permission denied"));
    assert_eq!(service.health(), 503);
    server.client("postgres").batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
}

#[test]
fn a_replica_that_has_no_table_yet_is_waited_for() {
    let primary = Server::start();
    let standby = primary.standby();
    let service = Launch::postgres(standby.url("postgres")).bind();
    until("the service complains", || service.log().contains("the table users does not exist yet"));
    assert_eq!(service.health(), 503);
    let creator = Launch::postgres(primary.url("postgres")).start();
    creator.save("ada", date(1815, 12, 10));
    service.await_health(200);
    service.greets("ada", date(1815, 12, 10));
}

#[test]
fn an_address_beside_a_host_is_not_looked_up() {
    let server = Server::start();
    let url = server.url("postgres").replace("127.0.0.1", "nowhere.invalid");
    let service = Launch::postgres(format!("{url}?hostaddr=127.0.0.1&sslmode=disable")).start();
    service.save("ada", date(1815, 12, 10));
}
