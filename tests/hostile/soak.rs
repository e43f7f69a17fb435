//! A long load at 70 % of what is possible, with faults: nothing grows, and no answer is wrong. `./dev soak` runs it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use jiff::civil::Date;

use crate::settings;
use crate::support::calendar::{self, greeting};
use crate::support::http::Connection;
use crate::support::postgres::Server;
use crate::support::service::{Launch, Service};

const CLIENTS: u32 = 16;
const NAMES: u32 = 50;
const IDLE: usize = 500;

/// How often somebody connects, asks once and goes: 50,000 a minute.
const PASSER_BY: Duration = Duration::from_micros(1200);

/// How long the capacity is measured.
const TRIAL: Duration = Duration::from_secs(10);

/// What the clients saw since it was taken last.
#[derive(Default)]
struct Record {
    answers: AtomicU64,
    refusals: AtomicU64,
    wrong: AtomicU64,
    /// Connections of those who asked once.
    passed: AtomicU64,
    /// In microseconds.
    latencies: Mutex<Vec<u32>>,
}

/// A client that knows what each of its users may be told.
struct Client<'a> {
    service: &'a Service,
    connection: Connection,
    prefix: String,
    random: Rng,
    /// For each name the date acknowledged last, and those whose outcome is unknown since then.
    names: BTreeMap<u32, (Option<Date>, Vec<Date>)>,
}

impl<'a> Client<'a> {
    fn new(service: &'a Service, load: &str, number: u32, seed: u64) -> Self {
        let random = Rng::with_seed(seed + u64::from(number));
        let prefix = calendar::name(load, number) + "x";
        Self { service, connection: service.connect(), prefix, random, names: BTreeMap::new() }
    }

    /// One request; whether it was answered as it may be, and with something else than 503.
    fn turn(&mut self) -> Result<bool, String> {
        let number = self.random.u32(..NAMES);
        let name = calendar::name(&self.prefix, number);
        let path = format!("/hello/{name}");
        let (acknowledged, unknown) = self.names.entry(number).or_default();
        let is_write = self.random.u8(..5) == 0;
        let date = calendar::numbered(self.random.u32(..365));
        let response = if is_write {
            self.connection.try_request("PUT", &path, &calendar::body(date))
        } else {
            self.connection.try_request("GET", &path, "")
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                self.connection = self.service.connect();
                return Err(format!("no answer: {error}"));
            }
        };
        match (is_write, response.status) {
            (true, 204) => (*acknowledged, *unknown) = (Some(date), Vec::new()),
            (true, 503) => unknown.push(date),
            (false, 503) => {}
            (false, 404) if acknowledged.is_none() => {}
            (false, 200) => {
                let message = response.message();
                let mut possible = acknowledged.iter().chain(unknown.iter());
                if !possible.any(|date| greeting(&name, *date) == message) {
                    return Err(format!("{message} instead of {acknowledged:?} or {unknown:?}"));
                }
            }
            _ => return Err(format!("{response:?}")),
        }
        Ok(response.status != 503)
    }

    /// Asks at an even pace, or without pause, until it is told to stop.
    fn run(mut self, pace: Option<Duration>, record: &Record, stop: &AtomicBool) {
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if let Some(pace) = pace {
                // Latency counts from when a request was due, so that a stall is not forgotten.
                wait_until(due);
                due += pace;
            } else {
                due = Instant::now();
            }
            let asked = pace.map_or(due, |pace| due.checked_sub(pace).unwrap_or(due));
            match self.turn() {
                Ok(true) => drop(record.answers.fetch_add(1, Ordering::Relaxed)),
                Ok(false) => drop(record.refusals.fetch_add(1, Ordering::Relaxed)),
                Err(wrong) => record.wrong(&wrong),
            }
            let latency = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
            record.latencies.lock().unwrap().push(latency);
        }
    }
}

impl Record {
    fn wrong(&self, what: &str) {
        println!("WRONG {what}");
        self.wrong.fetch_add(1, Ordering::Relaxed);
    }
}

/// Connects, asks once and goes, again and again. No question of these waits for the database.
fn pass_by(service: &Service, record: &Record, stop: &AtomicBool) {
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        wait_until(due);
        due += PASSER_BY;
        match service.connect().try_request("GET", "/healthz", "") {
            Ok(response) if response.status == 200 => drop(record.passed.fetch_add(1, Ordering::Relaxed)),
            other => record.wrong(&format!("who connects gets {other:?}")),
        }
    }
}

fn wait_until(due: Instant) {
    while let Some(early) = due.checked_duration_since(Instant::now()).filter(|early| !early.is_zero()) {
        thread::park_timeout(early);
    }
}

/// Runs the clients for a time and calls `each` at every interval.
fn load(
    service: &Service,
    name: &str,
    seed: u64,
    pace: Option<Duration>,
    time: Duration,
    interval: Duration,
    mut each: impl FnMut(&Record),
) {
    let (record, stop) = (Record::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (record, stop) = (&record, &stop);
            scope.spawn(move || Client::new(service, name, number, seed).run(pace, record, stop));
        }
        scope.spawn(|| pass_by(service, &record, &stop));
        let (end, (_sender, never)) = (Instant::now() + time, mpsc::channel::<()>());
        while Instant::now() < end {
            let _ = never.recv_timeout(interval);
            each(&record);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// What one interval showed.
struct Row {
    resident_kib: u64,
    files: usize,
}

#[test]
#[ignore = "takes as long as it is told: ./dev soak"]
fn nothing_grows_and_no_answer_is_wrong_under_a_long_load_with_faults() {
    let (minutes, seed) = (settings::number("DOB_API_SOAK_MINUTES", 60), settings::seed());
    let mut server = Server::start();
    // Longer than the soak: the idle connections must stay.
    let service = Launch::postgres(server.url("postgres")).set("DOB_API_KEEP_ALIVE", "24h").start();
    let _idle = service.connections(IDLE);
    let mut answers = 0;
    load(&service, "trial", seed, None, TRIAL, TRIAL, |record| answers = record.answers.load(Ordering::Relaxed));
    let rate = answers * 7 / 10 / TRIAL.as_secs();
    println!(
        "DOB_API_SEED={seed}, {minutes} minutes, {CLIENTS} clients at {rate} requests/s in all (70 % of the capacity), {IDLE} idle connections, {} connects a minute",
        60 * 1_000_000 / PASSER_BY.as_micros()
    );
    println!("minute  answers  503  connects  wrong  p50 ms  p99 ms  p99.9  RSS KiB  files  fault before");
    let pace = Duration::from_secs(u64::from(CLIENTS)) / u32::try_from(rate).unwrap().max(1);
    let interval = Duration::from_secs((minutes * 60 / 60).clamp(10, 60));
    let (mut rows, mut fault, mut connects) = (Vec::new(), "none", 0);
    let (began, mut wrong, mut all) = (Instant::now(), 0, Vec::new());
    load(&service, "soak", seed + 1000, Some(pace), Duration::from_secs(minutes * 60), interval, |record| {
        let mut latencies = std::mem::take(&mut *record.latencies.lock().unwrap());
        latencies.sort_unstable();
        let at = |part: usize| f64::from(latencies.get(latencies.len() * part / 1000).copied().unwrap_or(0)) / 1000.0;
        let passed = record.passed.swap(0, Ordering::Relaxed);
        connects += passed;
        let (answers, refusals) =
            (record.answers.swap(0, Ordering::Relaxed), record.refusals.swap(0, Ordering::Relaxed));
        wrong += record.wrong.load(Ordering::Relaxed);
        let row = Row { resident_kib: service.resident_kib(), files: service.open_files() };
        println!(
            "{:6.1} {answers:8} {refusals:4} {passed:9} {:6} {:7.2} {:7.2} {:7.1} {:8} {:6}  {fault}",
            began.elapsed().as_secs_f64() / 60.0,
            record.wrong.swap(0, Ordering::Relaxed),
            at(500),
            at(990),
            at(999),
            row.resident_kib,
            row.files,
        );
        rows.push(row);
        all.append(&mut latencies);
        fault = disturb(&mut server, rows.len());
    });
    all.sort_unstable();
    let p99 = f64::from(all[all.len() * 99 / 100]) / 1000.0;
    let [first, last] = [&rows[rows.len() / 6..=rows.len() / 3], &rows[rows.len() * 2 / 3..]];
    let [early, late] = [first, last].map(|rows| rows.iter().map(|row| row.resident_kib).max().unwrap());
    let [files, files_late] = [first, last].map(|rows| rows.iter().map(|row| row.files).max().unwrap());
    println!(
        "{} requests, {connects} connections that came and went, {wrong} wrong, p99 {p99:.2} ms with the faults, RSS {early} to {late} KiB, files {files} to {files_late}",
        all.len()
    );
    assert_eq!(wrong, 0);
    assert!(late < early + early / 10 + 1024, "memory grows from {early} to {late} KiB");
    assert!(files_late <= files + 4, "files grow from {files} to {files_late}");
}

/// A fault of the database after every other interval.
fn disturb(server: &mut Server, interval: usize) -> &'static str {
    match interval % 6 {
        1 => {
            server.terminate_sessions("postgres");
            "sessions ended"
        }
        3 => {
            server.kill();
            server.resume();
            "server killed"
        }
        5 => {
            let frozen = server.freeze();
            wait_until(Instant::now() + Duration::from_secs(1));
            drop(frozen);
            "server frozen 1 s"
        }
        _ => "none",
    }
}
