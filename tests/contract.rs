//! The API, line by line, over real sockets and on both stores.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use std::io::Write;
use std::thread;

use jiff::ToSpan;
use jiff::civil::{Date, date};
use support::calendar::{self, body, greeting, greeting_on, in_days, today};
use support::database::Database;
use support::http::{Connection, Response, request};
use support::service::{Launch, Service};

/// Makes two tests of each function: one on each store.
macro_rules! on_both_stores {
    ($($test:ident,)+) => {
        mod embedded {
            $(#[test]
            fn $test() {
                super::$test(&super::Launch::embedded().start());
            })+
        }
        mod postgres {
            $(#[test]
            fn $test() {
                let database = super::Database::new();
                super::$test(&super::Launch::postgres(database.url()).start());
            })+
        }
    };
}

on_both_stores![
    a_saved_date_is_greeted,
    a_birthday_is_greeted_on_the_day,
    a_birthday_is_counted_in_days,
    a_leap_day_is_celebrated_on_1_march_in_common_years,
    a_second_save_replaces_the_first,
    an_unknown_user_is_404,
    case_does_not_distinguish_users_but_is_kept_in_the_greeting,
    a_name_has_1_to_255_letters,
    a_name_of_anything_but_letters_is_refused,
    percent_encoded_letters_are_letters,
    dates_from_0001_01_01_to_yesterday_are_accepted,
    today_and_later_are_refused,
    only_ten_bytes_of_a_real_date_are_accepted,
    only_an_object_with_one_date_is_accepted,
    unknown_fields_and_white_space_are_ignored,
    any_content_type_is_accepted,
    a_compressed_body_is_415,
    a_common_mistake_is_named,
    no_answer_may_be_kept_by_a_cache,
    a_body_of_1024_bytes_is_accepted_and_one_more_is_413,
    a_huge_body_gets_its_answer_while_it_is_still_sent,
    a_chunked_body_is_read,
    a_body_in_many_packets_is_read,
    an_expected_continue_is_sent,
    head_is_get_without_a_body,
    other_methods_are_405_and_name_those_that_are_allowed,
    other_paths_are_404,
    query_strings_are_ignored,
    a_target_over_2048_bytes_is_414,
    a_head_that_is_too_large_is_431,
    pipelined_requests_are_answered_in_order,
    http_1_0_is_served,
    absolute_targets_are_served,
    a_malformed_request_is_refused_with_an_answer,
    a_head_that_ends_early_is_refused_with_an_answer,
    a_refused_request_leaves_the_connection_usable,
    the_service_describes_itself,
    the_service_is_healthy,
];

fn put(service: &Service, name: &str, body: &str) -> Response {
    service.put(&format!("/hello/{name}"), body)
}

fn a_saved_date_is_greeted(service: &Service) {
    let response = put(service, "ada", r#"{"dateOfBirth":"1815-12-10"}"#);
    assert_eq!((response.status, response.body.len()), (204, 0));
    service.greets("ada", date(1815, 12, 10));
}

fn a_birthday_is_greeted_on_the_day(service: &Service) {
    // 1 March is also the birthday of those who were born on a leap day: any year will do.
    let born = Date::new(1996, today().month(), today().day()).unwrap();
    service.save("ada", born);
    assert_eq!(service.get("/hello/ada").message(), "Hello, ada! Happy birthday!");
}

fn a_birthday_is_counted_in_days(service: &Service) {
    let mut connection = service.connect();
    for days in 1..=365 {
        let birthday = in_days(days);
        let born = Date::new(1904, birthday.month(), birthday.day()).unwrap();
        assert_eq!(connection.put("/hello/ada", &body(born)).status, 204);
        assert_eq!(connection.get("/hello/ada").message(), greeting("ada", born));
    }
}

fn a_leap_day_is_celebrated_on_1_march_in_common_years(service: &Service) {
    service.save("leap", date(2000, 2, 29));
    service.greets("leap", date(2000, 2, 29));
}

fn a_second_save_replaces_the_first(service: &Service) {
    service.save("ada", date(1815, 12, 10));
    service.save("ada", date(1906, 12, 9));
    service.greets("ada", date(1906, 12, 9));
}

fn an_unknown_user_is_404(service: &Service) {
    service.get("/hello/nobody").problem(404);
}

fn case_does_not_distinguish_users_but_is_kept_in_the_greeting(service: &Service) {
    service.save("Ada", date(1815, 12, 10));
    service.greets("aDA", date(1815, 12, 10));
    service.save("ADA", date(1906, 12, 9));
    service.greets("ada", date(1906, 12, 9));
}

fn a_name_has_1_to_255_letters(service: &Service) {
    let longest = "x".repeat(255);
    for name in ["a", "Z", &longest] {
        service.save(name, date(1815, 12, 10));
        service.greets(name, date(1815, 12, 10));
    }
    for name in [String::new(), "x".repeat(256), "x".repeat(1500)] {
        put(service, &name, &body(date(1815, 12, 10))).problem(400);
        service.get(&format!("/hello/{name}")).problem(400);
    }
}

fn a_name_of_anything_but_letters_is_refused(service: &Service) {
    let names = [
        "ada1",
        "1",
        "a-b",
        "a_b",
        "a.b",
        "ada.",
        ".",
        "..",
        "a+b",
        "a:b",
        "a;b",
        "a,b",
        "a'b",
        "a~",
        "a@b",
        "%61%20b",
        "a%00",
        "%2F",
        "a%2Fb",
        "a%2fb",
        "%zz",
        "%6",
        "a%",
        "%%",
        "%C3%A9",
        "%c3",
        "%FF",
        "%E2%80%8B",
        "%EF%BC%A1",
        "a%25",
        "%2561",
        "a*",
        "$",
        "(a)",
        "a&b=c",
    ];
    for name in names {
        put(service, name, &body(date(1815, 12, 10))).problem(400);
        service.get(&format!("/hello/{name}")).problem(400);
    }
    // Bytes that no client should send unencoded may be refused before there is a request.
    for name in ["é", "ａ", "a\u{7f}", "a\"b", "a<b", "a^b", "a|b"] {
        let response = put(service, name, &body(date(1815, 12, 10)));
        assert_eq!(response.status, 400, "{name}: {response:?}");
    }
}

fn percent_encoded_letters_are_letters(service: &Service) {
    service.save("%61d%61", date(1815, 12, 10));
    service.greets("ada", date(1815, 12, 10));
    assert_eq!(service.get("/hello/%41%64a").message(), greeting("Ada", date(1815, 12, 10)),);
}

fn dates_from_0001_01_01_to_yesterday_are_accepted(service: &Service) {
    let dates = [date(1, 1, 1), date(999, 12, 31), date(1600, 2, 29), date(1970, 1, 1), in_days(-1)];
    for born in dates {
        service.save("ada", born);
        service.greets("ada", born);
    }
}

fn today_and_later_are_refused(service: &Service) {
    for born in [today(), in_days(1), in_days(400), Date::MAX] {
        put(service, "ada", &body(born)).problem(400);
    }
    service.get("/hello/ada").problem(404);
}

fn only_ten_bytes_of_a_real_date_are_accepted(service: &Service) {
    let dates = [
        "",
        "2000",
        "2000-02",
        "20000229",
        "+002000-02-29",
        "-000001-01-01",
        "2000-02-29T00:00",
        "2000-02-29T00:00:00Z",
        "2000-02-29 ",
        " 2000-02-29",
        "2000-02-29\\n",
        "2000-02-29[u-ca=hebrew]",
        "0000-01-01",
        "2000-2-9",
        "2000-02-9",
        "2000-2-09",
        "00-02-29",
        "2000/02/29",
        "29-02-2000",
        "02-29-2000",
        "2000-02-30",
        "1900-02-29",
        "2001-02-29",
        "2000-13-01",
        "2000-00-10",
        "2000-01-00",
        "2000-01-32",
        "2000-04-31",
        "2000-060",
        "2000-W10-1",
        "200a-01-01",
        "2000-01-0x",
        "+200-01-01",
        "-200-01-01",
        "2000-+1-01",
        "2000-01-+1",
        "2000- 1-01",
        "２000-01-01",
        "２２-01-1",
        "2000\u{2010}01-1",
        "2000-01-01\\u0000",
        "null",
        "now",
        "today",
    ];
    for born in dates {
        put(service, "ada", &format!(r#"{{"dateOfBirth":"{born}"}}"#)).problem(400);
    }
    service.get("/hello/ada").problem(404);
}

fn only_an_object_with_one_date_is_accepted(service: &Service) {
    let bodies = [
        "",
        " ",
        "{}",
        "[]",
        "null",
        "true",
        "1815",
        r#""1815-12-10""#,
        "dateOfBirth=1815-12-10",
        "{",
        r#"{"dateOfBirth""#,
        r#"{"dateOfBirth":"1815-12-10""#,
        r#"{"dateOfBirth":"1815-12-10",}"#,
        r"{'dateOfBirth':'1815-12-10'}",
        r#"{dateOfBirth:"1815-12-10"}"#,
        r#"{"dateOfBirth":null}"#,
        r#"{"dateOfBirth":18151210}"#,
        r#"{"dateOfBirth":true}"#,
        r#"{"dateOfBirth":["1815-12-10"]}"#,
        r#"{"dateOfBirth":{"dateOfBirth":"1815-12-10"}}"#,
        r#"{"dateOfBirth":{"year":1815,"month":12,"day":10}}"#,
        r#"["1815-12-10"]"#,
        r#"[{"dateOfBirth":"1815-12-10"}]"#,
        r#"{"user":{"dateOfBirth":"1815-12-10"}}"#,
        r#"{"dateofbirth":"1815-12-10"}"#,
        r#"{"date_of_birth":"1815-12-10"}"#,
        r#"{"dateOfBirth":"1815-12-10","dateOfBirth":"1815-12-10"}"#,
        r#"{"dateOfBirth":"1815-12-10","dateOfBirth":"1906-12-09"}"#,
        r#"{"dateOfBirth":"1815-12-10"} {"dateOfBirth":"1906-12-09"}"#,
        r#"{"dateOfBirth":"1815-12-10"}x"#,
        r#"{"dateOfBirth":"1815-12-10"},"#,
        "\u{feff}{\"dateOfBirth\":\"1815-12-10\"}",
        "{\"dateOfBirth\":\"1815-12-10\"}\0",
        r#"{"dateOfBirth":"1815-12-10","other":\ud800}"#,
        r#"{"dateOfBirth":"1815-12-10","other":NaN}"#,
    ];
    for body in bodies {
        put(service, "ada", body).problem(400);
    }
    let nested = "[".repeat(1000);
    put(service, "ada", &nested).problem(400);
    put(service, "ada", &format!(r#"{{"other":{nested}"#)).problem(400);
    for invalid in [&b"\xff\xfe"[..], b"{\"dateOfBirth\":\"1815-12-1\xff\"}", b"{\"\xc3\":1}"] {
        let mut connection = service.connect();
        let length = invalid.len();
        connection.send(format!("PUT /hello/ada HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        connection.send(invalid);
        connection.receive().problem(400);
    }
    service.connect().request("PUT", "/hello/ada", "").problem(400);
    service.get("/hello/ada").problem(404);
}

fn unknown_fields_and_white_space_are_ignored(service: &Service) {
    let bodies = [
        r#"{"name":"Ada","dateOfBirth":"1815-12-10","tags":[1,{"dateOfBirth":"x"}]}"#,
        "\r\n\t { \"dateOfBirth\" :\t\"1815-12-10\" }\r\n ",
        r#"{"dateOfBirth":"1815\u002d12-10"}"#,
        r#"{"\u0064ateOfBirth":"1815-12-10"}"#,
    ];
    for (index, body) in (0..).zip(bodies) {
        let name = calendar::name("ada", index);
        assert_eq!(put(service, &name, body).status, 204, "{body}");
        service.greets(&name, date(1815, 12, 10));
    }
}

fn any_content_type_is_accepted(service: &Service) {
    let kinds = ["application/x-www-form-urlencoded", "application/json; charset=utf-8", "text/plain", "nonsense", ""];
    for kind in kinds {
        let response = put_with(service, &format!("Content-Type: {kind}\r\n"), body(date(1815, 12, 10)));
        assert_eq!(response.status, 204, "{kind}");
    }
}

/// A PUT with these lines in its head, and this body.
fn put_with(service: &Service, lines: &str, body: impl AsRef<[u8]>) -> Response {
    let (mut connection, body) = (service.connect(), body.as_ref());
    let length = body.len();
    connection.send(format!("PUT /hello/ada HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {length}\r\n\r\n"));
    connection.send(body);
    connection.receive()
}

fn a_compressed_body_is_415(service: &Service) {
    let json = body(date(1815, 12, 10));
    let refused = [
        "Content-Encoding: gzip\r\n",
        "content-encoding: BR\r\n",
        "Content-Encoding: identity, gzip\r\n",
        "Content-Encoding: identity\r\nContent-Encoding: zstd\r\n",
        "Content-Encoding: nonsense\r\n",
        "Content-Encoding: identity;q=1\r\n",
    ];
    for lines in refused {
        let response = put_with(service, lines, &json);
        assert!(response.problem(415).contains("without Content-Encoding"), "{lines}: {response:?}");
        assert_eq!(response.header("accept-encoding"), Some("identity"), "{lines}");
    }
    service.get("/hello/ada").problem(404);
    let accepted = [
        "Content-Encoding: identity\r\n",
        "Content-Encoding: IDENTITY , identity\r\n",
        "Content-Encoding:\r\n",
        "Content-Encoding: ,\r\n",
        "Content-Encoding: identity\r\nContent-Encoding: identity\r\n",
    ];
    for lines in accepted {
        assert_eq!(put_with(service, lines, &json).status, 204, "{lines}");
    }
    // Where no body is read, its encoding does not matter; a wrong name or path is told first.
    let mut connection = service.connect();
    connection.send("GET /hello/ada HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(connection.receive().message(), greeting("ada", date(1815, 12, 10)));
    connection.send("PUT /hello/1 HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}");
    connection.receive().problem(400);
    connection.send("PUT /hello/ada HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}");
    connection.receive().problem(415);
    assert_eq!(connection.put("/hello/ada", &json).status, 204, "the connection is in sync");
}

fn a_common_mistake_is_named(service: &Service) {
    let json = body(date(1815, 12, 10));
    let utf_16: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let form = "Content-Type: multipart/form-data; boundary=x\r\n";
    let part = "--x\r\nContent-Disposition: form-data; name=\"dateOfBirth\"\r\n\r\n1815-12-10\r\n--x--\r\n";
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("", [b"\xef\xbb\xbf", json.as_bytes()].concat(), "byte order mark"),
        ("", [b"\xff\xfe", &utf_16[..]].concat(), "must be UTF-8"),
        ("", utf_16, "must be UTF-8"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "dateOfBirth=1815-12-10".into(), "must be JSON"),
        (form, part.into(), "must be JSON"),
        ("", json.replace('"', "”").into(), "must have straight ones"),
        ("", json.replace('"', "'").into(), "must have double ones"),
        ("", json.replace('"', "").into(), "lost its double quotes"),
        ("", format!("{json:?}").into(), "must be the object itself"),
    ];
    for (lines, body, words) in cases {
        let detail = put_with(service, lines, body).problem(400);
        assert!(detail.contains(words) && detail.contains("YYYY-MM-DD"), "{detail}");
    }
    // The same characters are no mistake where they mean themselves.
    for other in ["“”", "'a':'b'", "a=b", "{x"] {
        let detail = put_with(service, "", format!(r#"{{"name":"{other}","dateOfBirth":1}}"#)).problem(400);
        assert!(detail.contains("invalid type"), "{detail}");
        let saved = put_with(service, "", format!(r#"{{"name":"{other}","dateOfBirth":"1815-12-10"}}"#));
        assert_eq!(saved.status, 204, "{saved:?}");
    }
}

fn no_answer_may_be_kept_by_a_cache(service: &Service) {
    service.save("ada", date(1815, 12, 10));
    for path in ["/hello/ada", "/hello/nobody", "/hello/1", "/nowhere", "/healthz", "/openapi.json"] {
        for method in ["GET", "HEAD", "DELETE"] {
            let response = service.connect().request(method, path, "");
            assert_eq!(response.header("cache-control"), Some("no-store"), "{method} {path}: {response:?}");
        }
    }
    for path in ["/live", "/ready", "/metrics", "/nowhere"] {
        for method in ["GET", "HEAD", "DELETE"] {
            let response = service.admin_request(method, path);
            assert_eq!(response.header("cache-control"), Some("no-store"), "{method} {path}: {response:?}");
            assert_eq!(response.header("allow").is_some(), response.status == 405, "{method} {path}: {response:?}");
        }
    }
    let mut malformed = service.connect();
    malformed.send("GET /hello/ada HT");
    malformed.finish();
    assert_eq!(malformed.receive().header("cache-control"), Some("no-store"));
}

#[test]
fn a_cache_may_not_keep_that_the_service_starts_or_drains() {
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", support::postgres::free_port());
    let starting = Launch::postgres(url).bind();
    let draining = Launch::embedded().set("DOB_API_DRAIN_DELAY", "1h").start();
    draining.signal(rustix::process::Signal::TERM);
    for service in [starting, draining] {
        service.await_health(503);
        for method in ["GET", "HEAD"] {
            let response = service.connect().request(method, "/healthz", "");
            assert_eq!((response.status, response.header("cache-control")), (503, Some("no-store")), "{response:?}");
        }
    }
}

fn a_body_of_1024_bytes_is_accepted_and_one_more_is_413(service: &Service) {
    let padded = |length: usize| format!("{:<length$}", body(date(1815, 12, 10)));
    assert_eq!(put(service, "ada", &padded(1024)).status, 204);
    put(service, "ada", &padded(1025)).problem(413);
    let mut connection = service.connect();
    connection.send("PUT /hello/ada HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in [padded(1000), " ".repeat(24), " ".into()] {
        connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    connection.send("0\r\n\r\n");
    connection.receive().problem(413);
    // A body is too large whatever becomes of the rest of the request.
    service.get("/hello/ada").message();
}

fn a_huge_body_gets_its_answer_while_it_is_still_sent(service: &Service) {
    const SIZE: usize = 5_000_000;
    let huge = " ".repeat(SIZE);
    let chunked = format!("{SIZE:x}\r\n{huge}\r\n0\r\n\r\n");
    let length = format!("Content-Length: {SIZE}");
    for (header, bytes) in [(length.as_str(), huge), ("Transfer-Encoding: chunked", chunked)] {
        let mut connection = service.connect();
        connection.send(format!("PUT /hello/ada HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n"));
        let mut stream = connection.stream();
        // The service need not take all of it.
        let sender = thread::spawn(move || drop(stream.write_all(bytes.as_bytes())));
        connection.receive().problem(413);
        drop(connection);
        sender.join().unwrap();
    }
}

fn a_chunked_body_is_read(service: &Service) {
    let head = "PUT /hello/ada HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    let chunks = "5;note=x\r\n{\"dat\r\n17\r\neOfBirth\":\"1815-12-10\"}\r\n0\r\n";
    for (trailer, end) in [("", "\r\n"), ("Trailer: Note\r\n", "Note: x\r\n\r\n")] {
        let mut connection = service.connect();
        connection.send(format!("{head}{trailer}\r\n{chunks}{end}"));
        assert_eq!(connection.receive().status, 204);
        assert_eq!(connection.get("/hello/ada").message(), greeting("ada", date(1815, 12, 10)));
    }
    let mut connection = service.connect();
    connection.send(format!("{head}\r\n0\r\n\r\n"));
    connection.receive().problem(400);
}

fn a_body_in_many_packets_is_read(service: &Service) {
    let mut connection = service.connect();
    for byte in request("PUT", "/hello/ada", &body(date(1815, 12, 10))).bytes() {
        connection.send([byte]);
    }
    assert_eq!(connection.receive().status, 204);
    service.greets("ada", date(1815, 12, 10));
}

fn an_expected_continue_is_sent(service: &Service) {
    let body = body(date(1815, 12, 10));
    let head = |path: &str, length: usize| {
        format!("PUT {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut connection = service.connect();
    connection.send(head("/hello/ada", body.len()));
    assert_eq!(connection.receive().status, 100);
    connection.send(&body);
    assert_eq!(connection.receive().status, 204);
    // What is refused anyway need not be sent.
    for (path, length, status) in [("/nowhere", body.len(), 404), ("/hello/ada", 5_000_000, 413)] {
        let mut connection = service.connect();
        connection.send(head(path, length));
        connection.receive().problem(status);
    }
}

fn head_is_get_without_a_body(service: &Service) {
    service.save("ada", date(1815, 12, 10));
    for path in ["/hello/ada", "/hello/nobody", "/hello/1", "/nowhere", "/healthz", "/openapi.json"] {
        let mut connection = service.connect();
        let get = connection.get(path);
        let head = connection.request("HEAD", path, "");
        let without_date = |response: &Response| {
            let headers = response.headers.iter().filter(|(name, _)| name != "date");
            headers.cloned().collect::<Vec<_>>()
        };
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(without_date(&head), without_date(&get), "{path}");
        assert_eq!(connection.get("/healthz").status, 200, "the next request on the connection is answered");
    }
}

fn other_methods_are_405_and_name_those_that_are_allowed(service: &Service) {
    let resources = [("/hello/ada", "GET, HEAD, PUT"), ("/healthz", "GET, HEAD"), ("/openapi.json", "GET, HEAD")];
    for (path, allowed) in resources {
        for method in ["POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "BREW"] {
            let response = service.connect().request(method, path, "");
            response.problem(405);
            assert_eq!(response.header("allow"), Some(allowed), "{method} {path}");
        }
    }
    for path in ["/healthz", "/openapi.json"] {
        let response = service.put(path, "{}");
        response.problem(405);
        assert_eq!(response.header("allow"), Some("GET, HEAD"));
    }
}

fn other_paths_are_404(service: &Service) {
    let paths = [
        "/",
        "//",
        "/hello",
        "/Hello/ada",
        "/hello/a/b",
        "/hello/ada/",
        "/hello//ada",
        "//hello/ada",
        "/hello/ada/../bob",
        "/./hello/ada",
        "/hell%6f/ada",
        "/healthz/",
        "/healthz/x",
        "/metrics",
        "/live",
        "/ready",
        "/openapi",
        "/favicon.ico",
    ];
    for path in paths {
        service.get(path).problem(404);
        service.put(path, &body(date(1815, 12, 10))).problem(404);
    }
    let asterisk = service.connect().request("OPTIONS", "*", "");
    asterisk.problem(404);
}

fn query_strings_are_ignored(service: &Service) {
    assert_eq!(put(service, "ada?a=b/c", &body(date(1815, 12, 10))).status, 204);
    for query in ["?", "?x=1", "?/../", "?a?b", "?%zz"] {
        let response = service.get(&format!("/hello/ada{query}"));
        assert_eq!(response.message(), greeting("ada", date(1815, 12, 10)));
    }
    assert_eq!(service.get("/healthz?x").status, 200);
    service.get("/hello/?name=ada").problem(400);
}

fn a_target_over_2048_bytes_is_414(service: &Service) {
    service.save("ada", date(1815, 12, 10));
    let target = |length: usize| format!("{:x<length$}", "/hello/ada?");
    service.get(&target(2048)).message();
    service.get(&target(2049)).problem(414);
    service.put(&target(2049), "{}").problem(414);
}

fn a_head_that_is_too_large_is_431(service: &Service) {
    let large = format!("X-Filler: {}\r\n", "x".repeat(20_000));
    let many = "X-Filler: x\r\n".repeat(150);
    for headers in [large, many] {
        let mut connection = service.connect();
        connection.send(format!("GET /hello/ada HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        assert_eq!(connection.receive().status, 431);
    }
}

fn pipelined_requests_are_answered_in_order(service: &Service) {
    let mut connection = service.connect();
    let mut requests = String::new();
    for index in 0..50 {
        let path = format!("/hello/{}", calendar::name("p", index));
        requests += &request("PUT", &path, &body(calendar::numbered(index)));
        requests += &request("GET", &path, "");
        requests += &request("GET", "/nowhere", "");
    }
    connection.send(requests);
    for index in 0..50 {
        assert_eq!(connection.receive().status, 204);
        let name = calendar::name("p", index);
        assert_eq!(connection.receive().message(), greeting(&name, calendar::numbered(index)));
        connection.receive().problem(404);
    }
}

fn http_1_0_is_served(service: &Service) {
    let body = body(date(1815, 12, 10));
    let mut connection = service.connect();
    connection.send(format!("PUT /hello/ada HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(connection.receive().status, 204);
    assert!(connection.is_closed());
    let mut connection = service.connect();
    connection.send("GET /hello/ada HTTP/1.0\r\n\r\n");
    assert_eq!(connection.receive().message(), greeting("ada", date(1815, 12, 10)));
    assert!(connection.is_closed());
    let mut connection = service.connect();
    for _ in 0..2 {
        connection.send("GET /hello/ada HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(connection.receive().status, 200);
    }
}

fn absolute_targets_are_served(service: &Service) {
    let origin = "http://example.com";
    let mut connection = service.connect();
    let put = connection.put(&format!("{origin}/hello/ada"), &body(date(1815, 12, 10)));
    assert_eq!(put.status, 204);
    let get = connection.get(&format!("{origin}/hello/ada?x"));
    assert_eq!(get.message(), greeting("ada", date(1815, 12, 10)));
    connection.get(&format!("{origin}/nowhere")).problem(404);
    connection.get(origin).problem(404);
}

fn a_malformed_request_is_refused_with_an_answer(service: &Service) {
    let heads = [
        "nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "GET /hello/ada\r\n\r\n",
        "GET /hello/ada HTTP/9.9\r\n\r\n",
        "GET /hello/ada b HTTP/1.1\r\n\r\n",
        "GET hello HTTP/1.1\r\n\r\n",
        "G@T /hello/ada HTTP/1.1\r\n\r\n",
        "GET /hello/ada HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /hello/ada HTTP/1.1\r\nA b: c\r\n\r\n",
        "GET /hello/ada HTTP/1.1\r\nHost: a\0b\r\n\r\n",
        "PUT /hello/ada HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "PUT /hello/ada HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "PUT /hello/ada HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "PUT /hello/ada HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n",
        "PUT /hello/ada HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "PUT /hello/ada HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n",
        "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for head in heads {
        let mut connection = service.connect();
        connection.send(head);
        let answer = connection.try_receive();
        let response = answer.unwrap_or_else(|error| panic!("no answer to {head:?}: {error}"));
        assert!((400..500).contains(&response.status), "{head:?}: {response:?}");
    }
    assert_eq!(service.health(), 200);
}

fn a_head_that_ends_early_is_refused_with_an_answer(service: &Service) {
    let mut connection = service.connect();
    connection.get("/healthz");
    connection.send("GET /hello/ada HT");
    connection.finish();
    connection.receive().problem(400);
}

fn a_refused_request_leaves_the_connection_usable(service: &Service) {
    let mut connection = service.connect();
    connection.put("/hello/ada", "nonsense").problem(400);
    connection.put("/nowhere", "ignored").problem(404);
    connection.request("POST", "/hello/ada", "ignored").problem(405);
    connection.get("/hello/1").problem(400);
    assert_eq!(connection.put("/hello/ada", &body(date(1815, 12, 10))).status, 204);
    assert_eq!(connection.get("/hello/ada").message(), greeting("ada", date(1815, 12, 10)));
}

fn the_service_describes_itself(service: &Service) {
    let response = service.get("/openapi.json");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let description = response.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let operations = &description["paths"]["/hello/{username}"];
    assert!(operations["put"]["responses"]["204"].is_object(), "{operations}");
    assert!(operations["get"]["responses"]["200"].is_object(), "{operations}");
}

fn the_service_is_healthy(service: &Service) {
    assert_eq!(service.health(), 200);
}

#[test]
fn the_time_zone_decides_which_day_it_is() {
    // These zones are 26 hours apart: their dates always differ.
    let [west, east] = ["Etc/GMT+12", "Pacific/Kiritimati"]
        .map(|zone| (zone, Launch::embedded().set("DOB_API_TIME_ZONE", zone).start()));
    let today_in = |zone: &str| jiff::Timestamp::now().in_tz(zone).unwrap().date();
    for (zone, service) in [&west, &east] {
        // Midnight may pass between the question and the answer.
        let before = today_in(zone);
        service.save("ada", date(1996, 2, 29));
        let message = service.get("/hello/ada").message();
        let expected = [before, today_in(zone)].map(|day| greeting_on(day, "ada", date(1996, 2, 29)));
        assert!(expected.contains(&message), "{zone}: {message}");
        put(service, "ada", &body(before + 2.days())).problem(400);
        assert_eq!(put(service, "ada", &body(before - 1.day())).status, 204);
    }
}

#[test]
fn utc_is_the_default_time_zone() {
    let service = Launch::embedded().unset("DOB_API_TIME_ZONE").start();
    let today = || jiff::Timestamp::now().in_tz("UTC").unwrap().date();
    service.save("ada", date(1815, 12, 10));
    let before = today();
    let message = service.get("/hello/ada").message();
    let expected = [before, today()].map(|day| greeting_on(day, "ada", date(1815, 12, 10)));
    assert!(expected.contains(&message), "{message}");
}

#[test]
fn the_table_is_as_documented() {
    let database = Database::new();
    let service = Launch::postgres(database.url()).start();
    service.save("Ada", date(1815, 12, 10));
    let mut client = database.client();
    let rows = client.query("SELECT username, date_of_birth::text FROM users", &[]).unwrap();
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [("ada", "1815-12-10")]);
    // Room for the next version of a row beside it.
    let options = "SELECT reloptions::text FROM pg_class WHERE oid = 'users'::regclass";
    assert_eq!(client.query_one(options, &[]).unwrap().get::<_, &str>(0), "{fillfactor=90}");
}

#[test]
fn services_that_start_together_create_one_table() {
    let database = Database::new();
    let services: Vec<_> = (0..8).map(|_| Launch::postgres(database.url()).bind()).collect();
    for service in &services {
        service.await_health(200);
    }
    services[0].save("ada", date(1815, 12, 10));
    services[7].greets("ada", date(1815, 12, 10));
}

#[test]
fn the_embedded_store_survives_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let start = || Launch::embedded().set("DOB_API_DATA_DIR", data.path().to_str().unwrap()).start();
    start().save("ada", date(1815, 12, 10));
    start().greets("ada", date(1815, 12, 10));
}

#[test]
fn a_connection_that_is_only_opened_is_served_later() {
    let service = Launch::embedded().start();
    let mut idle = Connection::open(service.address);
    assert_eq!(service.health(), 200);
    assert_eq!(idle.get("/healthz").status, 200);
}
