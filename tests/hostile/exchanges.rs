//! Random and mutated requests over sockets: each is answered as the model of the contract says.

use std::thread;

use fastrand::Rng;
use jiff::civil::Date;

use crate::model::{Day, Expected, Model};
use crate::settings;
use crate::support::calendar::{self, greeting};
use crate::support::database::Database;
use crate::support::http::{Connection, Response};
use crate::support::service::{Launch, Service};

/// Clients at the same time, each with names of its own.
const CLIENTS: u64 = 8;

fn each_answer_is_that_of_the_model(service: &Service) {
    let (seed, count) = (settings::seed(), settings::number("DOB_API_EXCHANGES", 16_000));
    println!("DOB_API_SEED={seed} DOB_API_EXCHANGES={count}");
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || Client::new(service, seed, number).run(count / CLIENTS));
        }
    });
    let metrics = service.metrics();
    assert!(metrics.sum("dob_api_http_requests_total", &[("status", "204")]) > count / 50, "too little is saved");
    assert!(metrics.sum("dob_api_http_requests_total", &[("method", "GET"), ("status", "200")]) > count / 50);
    for status in ["500", "503"] {
        assert_eq!(metrics.sum("dob_api_http_requests_total", &[("route", "hello"), ("status", status)]), 0);
    }
}

#[test]
fn each_answer_of_the_embedded_store_is_that_of_the_model() {
    each_answer_is_that_of_the_model(&Launch::embedded().start());
}

#[test]
fn each_answer_of_postgresql_is_that_of_the_model() {
    let database = Database::new();
    each_answer_is_that_of_the_model(&Launch::postgres(database.url()).start());
}

struct Request {
    method: &'static str,
    target: String,
    encoding: &'static str,
    body: Vec<u8>,
}

struct Client<'a> {
    service: &'a Service,
    connection: Connection,
    random: Rng,
    initial: char,
    model: Model,
    seed: u64,
}

impl<'a> Client<'a> {
    fn new(service: &'a Service, seed: u64, number: u64) -> Self {
        let today = calendar::today();
        let initial = char::from(b'a' + u8::try_from(number).unwrap());
        let model = Model::new(day(today));
        let random = Rng::with_seed(seed.wrapping_mul(CLIENTS).wrapping_add(number));
        Self { service, connection: service.connect(), random, initial, model, seed }
    }

    fn run(mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let requests: Vec<_> = (0..self.random.u64(1..=16)).map(|_| self.request()).collect();
            left = left.saturating_sub(requests.len() as u64);
            self.exchange(&requests);
        }
    }

    /// Sends the requests at once, or in two pieces, and compares their answers.
    fn exchange(&mut self, requests: &[Request]) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| self.encode(request)).collect();
        let (first, second) = bytes.split_at(self.random.usize(..=bytes.len()));
        self.connection.send(first);
        self.connection.send(second);
        for request in requests {
            let response =
                if request.method == "HEAD" { self.connection.receive_head() } else { self.connection.receive() };
            let expected = self.model.answer(request.method, &request.target, request.encoding, &request.body);
            self.compare(request, &expected, &response);
            if response.closes() {
                self.connection = self.service.connect();
                return;
            }
        }
    }

    fn compare(&self, request: &Request, expected: &Expected, response: &Response) {
        let Request { method, target, encoding, body } = request;
        let context = || {
            let body = String::from_utf8_lossy(body);
            format!(
                "DOB_API_SEED={}: {method} {target} {encoding:?} {body:?}\nexpected {expected:?}\ngot {response:?}",
                self.seed
            )
        };
        assert_eq!(response.status, expected.status(), "{}", context());
        if let Expected::NotAllowed(methods) = expected {
            assert_eq!(response.header("allow"), Some(*methods), "{}", context());
        }
        if *method == "HEAD" {
            return;
        }
        match expected {
            Expected::Greeting(name, (year, month, day)) => {
                let part = |number: u32| i8::try_from(number).unwrap();
                let born = Date::new(i16::try_from(*year).unwrap(), part(*month), part(*day)).unwrap();
                assert_eq!(response.message(), greeting(name, born), "{}", context());
            }
            Expected::Saved => assert!(response.body.is_empty(), "{}", context()),
            Expected::Document => assert!(response.json().is_object(), "{}", context()),
            Expected::Problem(_) | Expected::NotAllowed(_) => drop(response.problem(expected.status())),
        }
    }

    fn encode(&mut self, request: &Request) -> Vec<u8> {
        let Request { method, target, encoding, body } = request;
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
        if !encoding.is_empty() {
            bytes.extend_from_slice(format!("Content-Encoding: {encoding}\r\n").as_bytes());
        }
        if body.is_empty() && *method != "PUT" {
            bytes.extend_from_slice(b"\r\n");
        } else if self.random.u8(..4) == 0 {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(self.random.usize(1..=100)) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
        }
        bytes
    }

    fn request(&mut self) -> Request {
        let method = self.pick(&["GET", "GET", "GET", "PUT", "PUT", "PUT", "PUT", "HEAD", "POST", "DELETE", "OPTIONS"]);
        let target = self.target();
        let body = if method == "PUT" || self.random.u8(..8) == 0 { self.body() } else { Vec::new() };
        let encoding = if self.random.u8(..16) == 0 { self.pick(&["identity", "gzip", "br"]) } else { "" };
        Request { method, target, encoding, body }
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.usize(..choices.len())]
    }

    fn target(&mut self) -> String {
        let name = self.name();
        match self.random.u8(..40) {
            0 => "/healthz".into(),
            1 => "/openapi.json?x".into(),
            2 => "/".into(),
            3 => format!("/hello/{name}/"),
            4 => format!("/hello//{name}"),
            5 => format!("/Hello/{name}"),
            6 => format!("/hello/{name}?{}", "q/".repeat(self.random.usize(..1100))),
            7 => "/hello/".into(),
            _ => format!("/hello/{name}"),
        }
    }

    /// A name that begins with the client's initial, spelled in one of many ways, and sometimes wrongly.
    fn name(&mut self) -> String {
        let length = if self.random.u8(..20) == 0 { self.random.usize(250..260) } else { self.random.usize(1..4) };
        let letters = std::iter::once(self.initial).chain((1..length).map(|_| 'x')).collect::<Vec<_>>();
        let mut name = String::new();
        for letter in letters {
            let letter = if self.random.bool() { letter } else { letter.to_ascii_uppercase() };
            match self.random.u8(..12) {
                0 => name.extend(format!("%{:02x}", letter as u32).chars()),
                1 => name.extend(format!("%{:02X}", letter as u32).chars()),
                _ => name.push(letter),
            }
        }
        if self.random.u8(..10) == 0 {
            name += self
                .pick(&["%", "%4", "%zz", "%00", "%2f", "%C3%A9", "%FF", "1", ".", "-", "+", ";", "%25", "é%"])
                .trim_start_matches('é');
        }
        name
    }

    fn body(&mut self) -> Vec<u8> {
        let field =
            self.pick(&["dateOfBirth", "dateOfBirth", "dateOfBirth", "dateofbirth", "d\\u0061teOfBirth", "date"]);
        let date = self.date();
        let other = self.pick(&[
            "null",
            "[]",
            "{\"dateOfBirth\":\"x\"}",
            "1e999",
            "-0",
            "01",
            "1.",
            "\"\\ud800\"",
            "\"\\u00\"",
            "tru",
            "[[[[{}]]]]",
            "\"\u{e9}\"",
        ]);
        let mut body = match self.random.u8(..8) {
            0 => format!("{{\"x\":{other},\"{field}\":\"{date}\"}}"),
            1 => format!(" {{ \"{field}\" :\t\"{date}\" , \"x\" : {other} }}\r\n"),
            2 => format!("{{\"{field}\":\"{date}\",\"dateOfBirth\":\"{date}\"}}"),
            3 => format!("{{\"{field}\":\"{date}\"}}{}", " ".repeat(self.random.usize(900..1100))),
            _ => format!("{{\"{field}\":\"{date}\"}}"),
        }
        .into_bytes();
        if self.random.u8(..4) == 0 {
            self.mutate(&mut body);
        }
        body
    }

    fn date(&mut self) -> String {
        let year = self.pick(&[0, 1, 4, 1582, 1899, 1900, 1999, 2000, 2023, 2024, 9999]);
        let (month, day) = (self.random.u8(..=13), self.random.u8(..=32));
        match self.random.u8(..8) {
            0 => calendar::in_days(self.random.i32(-2..=2)).to_string(),
            1 => format!("{year}-{month}-{day}"),
            2 => format!("{year:04}-02-{:02}", self.random.u8(27..=30)),
            3 => format!("{year:04}-{month:02}-{day:02}T00:00"),
            _ => format!("{year:04}-{month:02}-{:02}", self.random.u8(1..=28)),
        }
    }

    /// Changes, removes, doubles or adds a byte.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.usize(..bytes.len());
        let byte = self.random.u8(..);
        match self.random.u8(..4) {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, bytes[at]),
            _ => bytes.insert(at, byte),
        }
    }
}

fn day(date: Date) -> Day {
    let part = |number: i8| u32::try_from(number).unwrap();
    (u32::try_from(date.year()).unwrap(), part(date.month()), part(date.day()))
}
