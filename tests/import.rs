//! `dob-api import` saves all users of an export, or says before anything changes why not.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::fs;

use jiff::civil::date;
use support::calendar::in_days;
use support::database::Database;
use support::postgres::Server;
use support::process;
use support::role::Role;
use support::service::{BINARY, Ended};
use support::transfer::{Store, export_of, line, many, rows};
use support::until;

const ADA: &str = "1815-12-10";

/// The user in the middle of 100,000.
const MIDDLE: &str = "acvzc";

/// Imports, which must succeed, and returns what is said in the end.
fn import(store: &Store, text: &str) -> String {
    let ended = store.import(text, false);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stderr.lines().last().unwrap().to_owned()
}

#[test]
fn users_move_from_either_store_to_either_store_and_none_differs() {
    let (one, two) = (Database::new(), Database::new());
    let stores = [Store::embedded(), Store::postgres(one.url()), Store::postgres(two.url()), Store::embedded()];
    let users = many(10_000);
    assert_eq!(import(&stores[0], &users), "dob-api: imported 10000 users: 10000 new, 0 changed, 0 the same");
    for pair in stores.windows(2) {
        assert_eq!(pair[0].export(), users);
        import(&pair[1], &pair[0].export());
    }
    assert_eq!(stores[3].export(), users);
    for store in &stores {
        store.launch().start().greets("AAAAB", date(1901, 2, 2));
    }
}

#[test]
fn a_second_import_saves_what_differs_and_counts_it() {
    let database = Database::new();
    for store in [Store::embedded(), Store::postgres(database.url())] {
        let users = [line("ada", ADA), line("bob", "1900-01-01")];
        import(&store, &export_of(&users));
        // Names ignore case; a file of one's own need not be sorted.
        let others = [line("Eve", "1990-05-05"), line("BOB", "1901-01-01"), line("ada", ADA)];
        let said = import(&store, &export_of(&others));
        assert_eq!(said, "dob-api: imported 3 users: 1 new, 1 changed, 1 the same");
        let all = [line("ada", ADA), line("bob", "1901-01-01"), line("eve", "1990-05-05")];
        assert_eq!(store.export(), export_of(&all));
    }
}

#[test]
fn a_second_import_writes_nothing() {
    let database = Database::new();
    let store = Store::postgres(database.url());
    import(&store, &many(5_000));
    let versions = "SELECT sum(xmin::text::bigint)::text, sum(xmax::text::bigint)::text FROM users";
    let before = || {
        let row = database.client().query_one(versions, &[]).unwrap();
        (row.get::<_, String>(0), row.get::<_, String>(1))
    };
    let first = before();
    assert_eq!(import(&store, &many(5_000)), "dob-api: imported 5000 users: 0 new, 0 changed, 5000 the same");
    assert_eq!(before(), first);
}

#[test]
fn a_broken_input_is_refused_by_its_line_before_anything_changes() {
    let lines: Vec<String> = many(20_000).lines().map(|line| format!("{line}\n")).collect();
    let with = |number: usize, other: &str| {
        let mut lines = lines.clone();
        lines[number - 1] = other.to_owned();
        lines.concat()
    };
    let whole = many(20_000);
    let far = in_days(3).to_string();
    let twice = export_of(&[line("bob", ADA), line("ada", ADA), line("Bob", "1900-01-01")]);
    let cases = [
        (with(17, "{\"username\":\"sesame\"\n"), "line 17: it is no JSON"),
        (with(17, "\n"), "line 17: it is no JSON object"),
        (with(17, &line("sesame!", ADA)), "line 17: the username must be"),
        (with(17, &line("sesame", "1815-02-30")), "line 17: dateOfBirth is not a real date"),
        (with(17, &line("sesame", &far)), "line 17: dateOfBirth must be before today"),
        (with(19_999, &line("aaaaa", ADA)), "line 19999: its user is on line 1, too"),
        (twice, "line 3: its user is on line 1, too"),
        (with(17, ""), "line 20000: it counts 20000 users, but 19999"),
        (lines[..20_000].concat(), "line 20001: the input ends"),
        (whole[..whole.len() / 2].to_owned(), "it is no JSON"),
        (whole.repeat(2), "line 20001: it is the last line of an export, but more lines follow"),
        (String::new(), "line 1: the input ends"),
    ];
    let database = Database::new();
    let (embedded, postgres) = (Store::embedded(), Store::postgres(database.url()));
    for (text, words) in &cases {
        for through_a_pipe in [false, true] {
            for store in [&embedded, &postgres] {
                let ended = store.import(text, through_a_pipe);
                assert_eq!(ended.code, Some(1), "{words}: {ended:?}");
                assert!(!ended.sentence(&["dob-api: nothing is imported: ", words]).contains("sesame"), "{ended:?}");
            }
        }
    }
    assert_eq!(embedded.files(), ["input"]);
    assert_eq!(rows(&mut database.client()), None);
}

#[test]
fn an_input_that_cannot_be_read_is_refused() {
    let store = Store::embedded();
    for (path, words) in [("absent", "No such file"), (".", "directory")] {
        let ended = store.run(&["import", path]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.sentence(&[words]);
    }
    // Nothing comes through a pipe when the program before it fails.
    let piped = Ended::of(process::spawn(store.command("sh", &["-c", "false | \"$0\" import", BINARY])));
    assert_eq!(piped.code, Some(1), "{piped:?}");
    piped.sentence(&["standard input: line 1: the input ends"]);
    assert!(store.files().is_empty());
}

#[test]
fn a_store_that_a_service_is_using_is_not_imported_into() {
    let store = Store::embedded();
    let service = store.launch().start();
    service.save("Ada", date(1815, 12, 10));
    let ended = store.import(&many(3), false);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["users.redb is in use by another process", "stop that process"]);
    assert_eq!(store.export(), export_of(&[line("ada", ADA)]));
    service.save("Bob", date(1900, 1, 1));
}

#[test]
fn users_are_imported_into_postgres_while_a_service_is_using_it() {
    let database = Database::new();
    let store = Store::postgres(database.url());
    let service = store.launch().start();
    service.save("zoe", date(1950, 1, 1));
    import(&store, &many(10_000));
    service.greets("aaaab", date(1901, 2, 2));
    service.greets("zoe", date(1950, 1, 1));
    assert!(!service.complains(), "{}", service.log());
}

#[test]
fn a_database_that_cannot_be_used_is_refused_before_anything_changes() {
    let ended = Store::postgres("postgres://ada@127.0.0.1:1/users").import(&many(1), false);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["127.0.0.1:1", "cannot connect"]);

    let database = Database::new();
    let role = Role::new(&database.server, &database.name);
    drop(Store::postgres(database.url()).launch().start());
    for grant in ["SELECT 1", "GRANT SELECT ON users TO APP", "GRANT SELECT, INSERT ON users TO APP"] {
        role.arrange(grant);
        let ended = Store::postgres(role.url()).import(&many(1), false);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(!ended.sentence(&["the role lacks ", "on the table users"]).contains("secret"));
        assert_eq!(rows(&mut database.client()), Some(0));
    }
    role.arrange("GRANT UPDATE ON users TO APP");
    import(&Store::postgres(role.url()), &many(1));
}

#[test]
fn role_database_and_table_are_created_by_an_administrator() {
    let server = Server::start();
    let store = Store::postgres(format!("postgres://dob:secret@127.0.0.1:{}/dob", server.port));
    store.file("users", &many(2));
    let mut command = store.command(BINARY, &["import", "users"]);
    command.env("DOB_API_ADMIN_DATABASE_URL", server.url("postgres"));
    let ended = Ended::of(process::spawn(command));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(store.export(), many(2));
}

#[test]
fn an_import_that_is_killed_half_way_is_run_again() {
    let users = many(100_000);
    let (database, half) = (Database::new(), Store::embedded());
    let postgres = Store::postgres(database.url());
    let mut client = database.client();
    // A lock on a user in the middle holds the import up there.
    import(&postgres, &export_of(&[line(MIDDLE, ADA)]));
    let mut lock = database.client();
    let mut held = lock.transaction().unwrap();
    held.execute("SELECT FROM users WHERE username = 'acvzc' FOR UPDATE", &[]).unwrap();
    for store in [&postgres, &half] {
        store.file("users", &users);
        let mut child = process::spawn(store.command(BINARY, &["import", "users"]));
        if store.url.is_some() {
            until("half of the users are there", || rows(&mut client).is_some_and(|rows| rows > 40_000));
        } else {
            until("some users are there", || {
                let ended = half.run(&["export", "part"]);
                ended.code == Some(0) && ended.stderr != "dob-api: exported 0 users\n"
            });
        }
        child.kill().unwrap();
        let ended = Ended::of(child);
        assert_eq!(ended.code, None, "{ended:?}");
    }
    held.rollback().unwrap();
    for store in [&postgres, &half] {
        let said = import(store, &users);
        assert!(!said.contains(" 0 the same") && !said.contains(": 0 new"), "it was not killed half way: {said}");
        assert_eq!(store.export(), users);
    }
}

#[test]
fn a_server_that_is_lost_half_way_is_named_with_what_is_saved() {
    let mut server = Server::start();
    let store = Store::postgres(server.url("postgres"));
    import(&store, &export_of(&[line(MIDDLE, ADA)]));
    let (mut lock, users) = (server.client("postgres"), many(100_000));
    let mut held = lock.transaction().unwrap();
    held.execute("SELECT FROM users WHERE username = 'acvzc' FOR UPDATE", &[]).unwrap();
    store.file("users", &users);
    let child = process::spawn(store.command(BINARY, &["import", "users"]));
    let mut client = server.client("postgres");
    until("half of the users are there", || rows(&mut client).is_some_and(|rows| rows > 40_000));
    server.kill();
    let ended = Ended::of(child);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.sentence(&["cannot save users", "of 100000 users are saved: run the command again"]);
    server.resume();
    import(&store, &users);
    assert_eq!(store.export(), users);
}

/// The short form moves 200,000 users. `USERS=1000000 cargo test --release --test import many_users` is the long one.
#[test]
fn many_users_move_within_less_memory_than_they_need() {
    let count = std::env::var("USERS").map_or(200_000, |count| count.parse().unwrap());
    let (users, database) = (many(count), Database::new());
    let (embedded, postgres) = (Store::embedded(), Store::postgres(database.url()));
    embedded.file("users", &users);
    let file = embedded.folder.path().join("users");
    for (store, command) in [(&embedded, "import"), (&embedded, "export"), (&postgres, "import"), (&postgres, "export")]
    {
        let limit = ["--data=16000000", BINARY, command, file.to_str().unwrap()];
        let ended = Ended::of(process::spawn(store.command("prlimit", &limit)));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert!(fs::read_to_string(file).unwrap() == users);
}
