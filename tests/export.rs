//! `dob-api export` writes all users of a store, or leaves what was there.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;

use jiff::civil::date;
use rustix::process::Signal;
use support::calendar::{name, numbered};
use support::database::Database;
use support::load::{Ledger, Load, Unanswered};
use support::postgres::Server;
use support::process;
use support::service::{BINARY, Ended, Launch};
use support::transfer::{Store, export_of, line, many, names};
use support::until;

/// A store of this many users.
fn filled(count: u32) -> Store {
    let store = Store::embedded();
    let ended = store.import(&many(count), false);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    store
}

#[test]
fn a_store_that_a_service_is_using_is_exported_with_all_that_was_acknowledged() {
    let store = filled(20_000);
    let service = store.launch().start();
    let ledger = Arc::new(Ledger::default());
    // Each write frees pages of the file, which an export may still need.
    let load = Load::writing(&service, 4, "zzzzz", &ledger, Unanswered::Fails);
    for round in 0..10 {
        ledger.await_writes(50);
        let (name, born) = (name("own", round), numbered(round));
        service.save(&name, born);
        let export = store.export();
        let lines: Vec<_> = export.lines().collect();
        let (end, users) = lines.split_last().unwrap();
        assert!(users.is_sorted(), "not in the order of names");
        assert_eq!(*end, format!("{{\"users\":{}}}", users.len()));
        assert!(many(20_000).lines().take(20_000).all(|line| users.binary_search(&line).is_ok()), "a user is missing");
        assert!(users.contains(&line(&name, &born.to_string()).trim_end()), "an acknowledged write is missing");
    }
    load.stop();
    // The copy is a store of its own.
    let copy = Store::embedded();
    assert_eq!(copy.import(&store.export(), false).code, Some(0));
    ledger.verify(&copy.launch().start());
    ledger.verify(&service);
    assert!(!service.complains(), "{}", service.log());
}

#[test]
fn a_store_whose_service_was_killed_is_exported() {
    let store = Store::embedded();
    let mut service = store.launch().start();
    service.save("Ada", date(1815, 12, 10));
    service.kill();
    assert_eq!(store.export(), export_of(&[line("ada", "1815-12-10")]));
    store.launch().start().greets("Ada", date(1815, 12, 10));
}

#[test]
fn a_file_is_complete_and_only_its_owner_reads_it() {
    let store = filled(3);
    store.file("users", "an older export");
    symlink("users", store.folder.path().join("link")).unwrap();
    let ended = store.run(&["export", "link"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.sentence(&["exported 3 users"]), ended.stdout.as_str()), ("dob-api: exported 3 users", ""));
    let users = store.folder.path().join("users");
    assert_eq!(fs::read_to_string(&users).unwrap(), many(3));
    assert_eq!(fs::metadata(&users).unwrap().mode() & 0o777, 0o600);
    assert!(store.folder.path().join("link").is_symlink());
    assert_eq!(store.files(), ["data", "input", "link", "users"]);
}

#[test]
fn an_empty_store_is_exported_and_imported() {
    let store = Store::embedded();
    drop(store.launch().start());
    assert_eq!(store.export(), "{\"users\":0}\n");
    let ended = Store::embedded().import(&store.export(), true);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.sentence(&["imported 0 users: 0 new, 0 changed, 0 the same"]);
}

#[test]
fn a_full_disk_leaves_the_older_file_and_nothing_else() {
    let store = filled(50_000);
    store.file("users", "an older export");
    let limited = store.command("prlimit", &["--fsize=1000000", BINARY, "export", "users"]);
    let ended = Ended::of(process::spawn(limited));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["cannot export to users: File too large"]);
    assert_eq!(fs::read_to_string(store.folder.path().join("users")).unwrap(), "an older export");
    assert_eq!(store.files(), ["data", "input", "users"]);

    let mut full = store.command(BINARY, &["export"]);
    full.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let output = process::spawn(full).wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("No space left on device"), "{text}");
}

#[test]
fn a_closed_pipe_ends_the_export_with_one_sentence() {
    let store = filled(50_000);
    let piped = ["-c", "\"$0\" export | head -n 1; exit ${PIPESTATUS[0]}", BINARY];
    let ended = Ended::of(process::spawn(store.command("bash", &piped)));
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(1), 1), "{ended:?}");
    ended.sentence(&["cannot export to standard output: "]);
}

#[test]
fn a_signal_leaves_no_part_of_an_export() {
    let store = filled(100_000);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let child = process::spawn(store.command(BINARY, &["export", "users"]));
        until("the export is being written", || store.files().iter().any(|name| name.ends_with(".partial")));
        process::signal(child.id(), signal);
        let ended = Ended::of(child);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.sentence(&["stopped by SIG"]);
        assert_eq!(store.files(), ["data", "input"]);
    }
}

#[test]
fn what_is_no_regular_file_is_not_replaced() {
    let store = filled(1);
    for (path, words) in
        [("/dev/null", "no regular file"), ("data", "no regular file"), ("absent/users", "No such file")]
    {
        let ended = store.run(&["export", path]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.sentence(&["cannot export to", words]);
    }
    assert_eq!(names(&store.folder.path().join("data")), ["users.redb"]);
}

#[test]
fn a_store_that_is_not_there_is_named_and_not_created() {
    let store = Store::embedded();
    let ended = store.run(&["export", "users"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["data/users.redb", "No such file", "DOB_API_DATA_DIR"]);
    assert!(store.files().is_empty());

    let ended = Store::postgres("postgres://ada@127.0.0.1:1/users").run(&["export"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["127.0.0.1:1", "cannot connect"]);
}

#[test]
fn a_damaged_row_is_named_by_its_place_and_stops_the_export() {
    let database = Database::new();
    drop(Launch::postgres(database.url()).start());
    let damage = "ALTER TABLE users DROP CONSTRAINT users_date_of_birth_check;
        INSERT INTO users VALUES ('ada', '1815-12-10'), ('sesame', 'infinity')";
    database.client().batch_execute(damage).unwrap();
    let store = Store::postgres(database.url());
    let ended = store.run(&["export", "users"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.sentence(&["user 2", "invalid name or date"]).contains("sesame"));
    assert!(store.files().is_empty());
}

#[test]
fn a_replica_is_exported_while_there_is_no_primary() {
    let mut primary = Server::start();
    let service = Launch::postgres(primary.url("postgres")).start();
    service.save("Ada", date(1815, 12, 10));
    let standby = primary.standby();
    let urls = |one: &Server, other: &Server| {
        format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", one.port, other.port)
    };
    let store = Store::postgres(urls(&standby, &primary));
    assert_eq!(store.export(), export_of(&[line("ada", "1815-12-10")]));
    // Of two hosts, the primary is read: the replica need not have its last write.
    standby.client("postgres").execute("SELECT pg_wal_replay_pause()", &[]).unwrap();
    service.save("Bob", date(1900, 1, 1));
    let both = export_of(&[line("ada", "1815-12-10"), line("bob", "1900-01-01")]);
    assert_eq!(store.export(), both);
    standby.client("postgres").execute("SELECT pg_wal_replay_resume()", &[]).unwrap();
    until("the replica has the last write", || Store::postgres(standby.url("postgres")).export() == both);
    primary.kill();
    assert_eq!(store.export(), both);
    // But nothing is imported into it.
    let ended = store.import(&many(1), false);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["does not accept writes"]);
}

#[test]
fn a_second_file_is_a_usage_error() {
    let ended = Store::embedded().run(&["export", "one", "two"]);
    assert_eq!(ended.code, Some(64), "{ended:?}");
    ended.sentence(&["two"]);
}

#[test]
fn on_a_terminal_an_error_stands_on_a_line_without_progress() {
    let store = filled(100_000);
    // `script` gives the program a terminal for its standard error, and turns line ends into the terminal's.
    let limited = format!("prlimit --fsize=3000000 {BINARY} export users; {BINARY} export users");
    let ended = Ended::of(process::spawn(store.command("script", &["-qec", &limited, "/dev/null"])));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stdout.split("\r\n").map(|line| line.rsplit("\r\u{1b}[K").next().unwrap()).collect();
    let expected = "dob-api: cannot export to users: File too large (os error 27)";
    assert_eq!(lines, [expected, "dob-api: exported 100000 users", ""], "{:?}", ended.stdout);
}
