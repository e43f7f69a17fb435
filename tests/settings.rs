//! The edges of the settings: what is out of range, cannot be seen or would not be used is refused by one sentence.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use jiff::civil::date;
use support::postgres::{Server, free_port};
use support::service::{BINARY, Ended, Launch};
use support::{process, until};

fn refused(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, Some(64), "{ended:?}");
    ended.sentence(parts);
}

#[test]
fn each_range_is_kept_and_described() {
    // Wrapped for a terminal.
    let help = Launch::embedded().flag("--help").run().stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let waits = ["WRITE_PATIENCE", "READ_PATIENCE", "HEADER_TIMEOUT", "BODY_TIMEOUT"];
    let waits = waits.map(|name| (name, "100ms", "24h", ["1ns", "99ms", "0s", "24h1ns", "9223372036854775807h"]));
    let others = [
        ("DRAIN_DELAY", "0s", "24h", ["-1ns", "-1s", "24h1s", "25h", "9223372036854775807h"]),
        ("DRAIN_TIMEOUT", "0s", "24h", ["-1ns", "-1s", "24h1s", "25h", "9223372036854775807h"]),
        ("KEEP_ALIVE", "1s", "24h", ["1ns", "999ms", "0s", "25h", "99999999999999999999s"]),
        ("THREADS", "1", "256", ["0", "-1", "257", "1.5", "18446744073709551616"]),
        ("MAX_CONNECTIONS", "1", "1000000", ["0", "-1", "1000001", "1e3", "18446744073709551616"]),
        ("QUEUE_CAPACITY", "1", "1000000", ["0", "-1", "1000001", "+", "18446744073709551616"]),
    ];
    for (name, least, most, outside) in waits.into_iter().chain(others) {
        let setting = format!("DOB_API_{name}");
        let described =
            help.split("[env: ").find(|text| text.contains(&format!("--{} ", name.to_lowercase().replace('_', "-"))));
        assert!(described.unwrap().contains(&format!("[{least} to {most}]")), "{setting}: {help}");
        for value in outside {
            refused(&Launch::embedded().set(&setting, value).run(), &[&setting, value, least, most]);
        }
    }
}

#[test]
fn the_least_values_serve() {
    let mut launch = Launch::embedded();
    for (setting, value) in [
        ("WRITE_PATIENCE", "100ms"),
        ("READ_PATIENCE", "100ms"),
        ("DRAIN_DELAY", "0s"),
        ("DRAIN_TIMEOUT", "24h"),
        ("KEEP_ALIVE", "1s"),
        ("HEADER_TIMEOUT", "100ms"),
        ("BODY_TIMEOUT", "100ms"),
        ("MAX_CONNECTIONS", "1"),
        ("QUEUE_CAPACITY", "1"),
    ] {
        launch = launch.set(&format!("DOB_API_{setting}"), value);
    }
    let service = launch.bind();
    let mut connection = service.connect();
    assert_eq!(connection.put("/hello/ada", &support::calendar::body(date(1815, 12, 10))).status, 204);
    assert_eq!(connection.get("/hello/ada").status, 200);
}

#[test]
fn the_greatest_values_serve() {
    let mut launch = Launch::embedded();
    for name in ["WRITE_PATIENCE", "READ_PATIENCE", "DRAIN_TIMEOUT", "KEEP_ALIVE", "HEADER_TIMEOUT", "BODY_TIMEOUT"] {
        launch = launch.set(&format!("DOB_API_{name}"), "24h");
    }
    launch = launch.set("DOB_API_QUEUE_CAPACITY", "1000000").set("DOB_API_DRAIN_DELAY", "0s");
    let mut service = launch.start();
    service.save("ada", date(1815, 12, 10));
    service.signal(rustix::process::Signal::TERM);
    assert!(service.wait().success());
}

#[test]
fn a_control_character_in_any_setting_is_refused() {
    let cases = [
        ("DATABASE_URL", "postgres://ada@127.0.0.1/users\r", "carriage return"),
        ("DATABASE_URL", "postgres://ada@127.0.0.1/users%0D", "carriage return"),
        ("DATABASE_URL", "postgres://a%0Ada@127.0.0.1/users", "line"),
        ("DATABASE_URL", "postgres://ada@127.0.0.1/us\ters", "control character"),
        ("DATABASE_CA_FILE", "/tmp/a\nb", "line"),
        ("DOB_API_DATA_DIR", "/tmp/dob-api\r", "carriage return"),
        ("DOB_API_TIME_ZONE", "UTC\r", "carriage return"),
        ("DOB_API_THREADS", "1\r", "carriage return"),
        ("RUST_LOG", "info\u{1b}", "control character"),
        ("NOTIFY_SOCKET", "/run/notify\r", "carriage return"),
    ];
    for (setting, value, words) in cases {
        // The embedded store alone has a data directory, a database alone has certificates.
        let url = if setting == "DOB_API_DATA_DIR" { "" } else { "postgres://ada@127.0.0.1/users" };
        refused(&Launch::postgres(url).set(setting, value).run(), &[setting, words]);
    }
    refused(&Launch::embedded().flag("--data-dir").flag("/tmp/dob-api\r").run(), &["DOB_API_DATA_DIR"]);
}

#[test]
fn one_line_end_behind_a_value_is_no_part_of_it() {
    for end in ["\n", "\r\n"] {
        let server = Server::start();
        let service = Launch::postgres(server.url("users") + end)
            .set("DOB_API_ADMIN_DATABASE_URL", server.url("postgres") + end)
            .set("DOB_API_TIME_ZONE", format!("UTC{end}"))
            .start();
        service.save("ada", date(1815, 12, 10));
        let query = "SELECT datname FROM pg_database WHERE datname LIKE 'users%'";
        let names = server.client("postgres").query(query, &[]).unwrap();
        assert_eq!(names.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["users"]);
    }
}

#[test]
fn a_setting_that_is_not_utf_8_is_refused() {
    for setting in
        ["DOB_API_LISTEN", "DATABASE_URL", "DOB_API_DATA_DIR", "CREDENTIALS_DIRECTORY", "RUST_LOG", "LISTEN_FDNAMES"]
    {
        // Where the credentials are matters to a database alone.
        let launch = Launch::postgres("postgres://ada@127.0.0.1/users").unset(setting);
        let launch = if setting == "DOB_API_DATA_DIR" { launch.unset("DATABASE_URL") } else { launch };
        let mut command = process::command(BINARY);
        launch.prepare(&mut command);
        command.env(setting, OsStr::from_bytes(b"\xff\xfe"));
        refused(&Ended::of(process::spawn(command)), &[setting, "UTF-8"]);
    }
    let launch = Launch::embedded();
    let mut command = process::command(BINARY);
    launch.prepare(&mut command);
    command.arg("--listen").arg(OsStr::from_bytes(b"\xff"));
    refused(&Ended::of(process::spawn(command)), &[]);
}

#[test]
fn an_option_of_a_url_that_would_not_be_used_is_refused() {
    let options = [
        "connect_timeout=3",
        "keepalives=0",
        "target_session_attrs=read-write",
        "load_balance_hosts=random",
        "sslnegotiation=direct",
    ];
    for option in options {
        let name = option.split('=').next().unwrap();
        let url = format!("postgres://ada:sesame@127.0.0.1/users?{option}");
        for launch in [
            Launch::postgres(&url),
            Launch::postgres("postgres://ada@127.0.0.1/users").set("DOB_API_ADMIN_DATABASE_URL", &url),
        ] {
            let ended = launch.run();
            refused(&ended, &["DATABASE_URL", name, "remove it"]);
            assert!(!ended.stderr.contains("sesame"), "{ended:?}");
        }
    }
}

/// A role with `password` on `server`, and the service that reads the password from a file of that name.
fn application(server: &Server, password: &str) -> (Launch, PathBuf) {
    server.client("postgres").batch_execute("CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app").unwrap();
    rotate(server, password);
    let launch = Launch::postgres(format!("postgres://app@127.0.0.1:{}/postgres", server.port));
    let file = launch.data().join("database-password");
    fs::write(&file, password).unwrap();
    (launch, file)
}

fn rotate(server: &Server, password: &str) {
    let statement = format!("ALTER ROLE app PASSWORD '{password}'");
    server.client("postgres").batch_execute(&statement).unwrap();
}

#[test]
fn a_password_that_is_rotated_is_used_without_a_restart() {
    for setting in ["DATABASE_PASSWORD_FILE", "CREDENTIALS_DIRECTORY"] {
        let server = Server::start();
        let (launch, file) = application(&server, "first");
        let place = if setting.ends_with("FILE") { file.as_path() } else { launch.data() }.to_str().unwrap().to_owned();
        let service = launch.set(setting, place).start();
        service.save("ada", date(1815, 12, 10));
        rotate(&server, "second");
        // As a tool writes it that replaces files: never half of it is read.
        let fresh = file.with_extension("new");
        fs::write(&fresh, "second\r\n").unwrap();
        fs::rename(&fresh, &file).unwrap();
        server.terminate_sessions("postgres");
        service.save("bob", date(1906, 12, 9));
        service.greets("ada", date(1815, 12, 10));
        // A file that cannot be used for a while is said so, and looked into again.
        fs::remove_file(&file).unwrap();
        server.terminate_sessions("postgres");
        until("the missing file is named", || {
            service.log().contains(&format!("DATABASE_PASSWORD_FILE: {}", file.display()))
        });
        fs::write(&file, "second").unwrap();
        service.save("eve", date(1815, 12, 10));
    }
}

#[test]
fn a_password_file_that_holds_no_password_is_refused_with_a_hint() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "empty"),
        (b"\r\n", "empty"),
        (b"sesame\n\n", "more than one line"),
        (b"\xef\xbb\xbfsesame", "byte order mark"),
        (b"s\0e\0s\0a\0m\0e\0", "control character"),
        (b"\xff\xfes\0e\0s\0", "UTF-8"),
    ];
    for (text, words) in cases {
        let launch = Launch::postgres("postgres://app@127.0.0.1/users");
        let file = launch.data().join("password");
        fs::write(&file, text).unwrap();
        let ended = launch.set("DATABASE_PASSWORD_FILE", file.to_str().unwrap()).run();
        refused(&ended, &["DATABASE_PASSWORD_FILE", file.to_str().unwrap(), words]);
        assert!(!ended.stderr.contains("ses"), "{ended:?}");
    }
    for file in ["/", "/dev/zero"] {
        let ended = Launch::postgres("postgres://app@127.0.0.1/users").set("DATABASE_PASSWORD_FILE", file).run();
        refused(&ended, &["DATABASE_PASSWORD_FILE", file, "regular file"]);
    }
}

#[test]
fn an_administrators_url_is_read_from_a_file_or_a_credential() {
    let arrange = "CREATE ROLE administrator SUPERUSER LOGIN PASSWORD 'open-sesame'";
    for setting in ["DOB_API_ADMIN_DATABASE_URL_FILE", "CREDENTIALS_DIRECTORY"] {
        let server = Server::start();
        server.client("postgres").batch_execute(arrange).unwrap();
        let launch = Launch::postgres(format!("postgres://app:simsim@127.0.0.1:{}/users", server.port));
        let file = launch.data().join("admin-database-url");
        fs::write(&file, format!("postgres://administrator:open-sesame@127.0.0.1:{}/postgres\n", server.port)).unwrap();
        let place = if setting.ends_with("FILE") { file.as_path() } else { launch.data() }.to_str().unwrap().to_owned();
        // What is in a file is used, whatever a variable says that every user of the host may have read.
        let service =
            launch.set(setting, place).set("DOB_API_ADMIN_DATABASE_URL", "postgres://x@127.0.0.1:1/x").start();
        service.save("ada", date(1815, 12, 10));
        let environment = fs::read(format!("/proc/{}/environ", service.pid())).unwrap();
        assert!(
            !String::from_utf8_lossy(&environment).contains("open-sesame") && !service.log().contains("open-sesame")
        );
    }
}

#[test]
fn a_file_without_an_administrators_url_is_refused_and_not_repeated() {
    const SETTING: &str = "DOB_API_ADMIN_DATABASE_URL_FILE";
    let cases: [(&[u8], &str); 7] = [
        (b"", "empty"),
        (b"sesame", "postgres://"),
        (b"postgres://admin:sesame@db.test/x?connect_timeout=3", "connect_timeout"),
        (b"postgres://admin:sesame@db.test/x\n\n", "more than one line"),
        (b"postgres://admin:ses@me@db.test/x", "%40"),
        (b"postgres://admin:sesam\xe9@db.test/x", "UTF-8"),
        (b"postgres://admin:sesame@db.test/x", "DATABASE_CA_FILE"),
    ];
    for (text, words) in cases {
        let launch = Launch::postgres("postgres://app@127.0.0.1/users");
        let file = launch.data().join("url");
        fs::write(&file, text).unwrap();
        let ended = launch.set(SETTING, file.to_str().unwrap()).run();
        refused(&ended, &[words]);
        assert!(!ended.stderr.contains("sesam"), "{ended:?}");
    }
    for file in ["/nowhere", "/"] {
        refused(&Launch::postgres("postgres://app@127.0.0.1/users").set(SETTING, file).run(), &[SETTING, file]);
    }
    let launch = Launch::embedded();
    let file = launch.data().join("url");
    fs::write(&file, "postgres://admin@127.0.0.1/x").unwrap();
    refused(&launch.set(SETTING, file.to_str().unwrap()).run(), &["DATABASE_URL"]);
}

#[test]
fn health_asks_what_the_address_stands_for() {
    let service = Launch::embedded().set("DOB_API_LISTEN", "[::]:0").start();
    let port = service.address.port();
    let everywhere = ["[::]", "[::1]", "0.0.0.0", "127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"];
    for address in everywhere {
        let ended = Launch::embedded().set("DOB_API_LISTEN", format!("{address}:{port}")).flag("health").run();
        assert_eq!(ended.code, Some(0), "{address}: {ended:?}");
    }
    // What IPv6 does not answer, as where it is off, IPv4 may.
    let service = Launch::embedded().start();
    let address = format!("[::]:{}", service.address.port());
    let ended = Launch::embedded().set("DOB_API_LISTEN", address).flag("health").run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = Launch::embedded().set("DOB_API_LISTEN", format!("[::]:{}", free_port())).flag("health").run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["127.0.0.1"]);
    let ended = Launch::embedded().set("DOB_API_LISTEN", "127.0.0.1:0").flag("health").run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["DOB_API_LISTEN", "port 0"]);
}

#[test]
fn a_limit_of_open_files_that_is_too_low_to_serve_is_reported() {
    let limited = |files: u32| {
        let mut command = process::command("prlimit");
        command.args([&format!("--nofile={files}:{files}"), BINARY]);
        command
    };
    let launch = Launch::embedded();
    let mut command = limited(128);
    launch.prepare(&mut command);
    let ended = Ended::of(process::spawn(command));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let sentence = ended.sentence(&["open files", "128", "LimitNOFILE"]);
    let needed = sentence.split([' ', ':']).filter_map(|word| word.parse().ok()).max().unwrap();
    // What the sentence asks for is enough, and no more than was promised is admitted.
    let service = Launch::embedded().set("DOB_API_DRAIN_DELAY", "0ms").bind_as(limited(needed));
    until("it says how many are admitted", || service.log().contains("DOB_API_MAX_CONNECTIONS"));
    let mut clients = service.connections(16);
    for client in &mut clients {
        assert_eq!(client.get("/healthz").status, 200);
    }
    let mut refused = service.connections(300);
    for client in &mut refused {
        client.finish();
    }
    assert!(!service.log().contains("cannot accept connections"), "{}", service.log());
    assert_eq!(clients[0].put("/hello/ada", &support::calendar::body(date(1815, 12, 10))).status, 204);
}
