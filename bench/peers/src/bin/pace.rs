//! Sends GETs at a fixed rate, whatever the answers do, and prints how long they took from when they were due:
//! a server that stalls is charged for everyone who would have come meanwhile (no coordinated omission).
//!
//! `pace HOST:PORT RATE SECONDS CONNECTIONS` reads user names from its input and prints p50 and p99 in microseconds.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

struct Plan {
    address: String,
    interval: Duration,
    end: Instant,
}

/// One connection: a request each interval, the next one late if the answer is.
fn run(plan: &Plan, first: Instant, names: &[String]) -> io::Result<Vec<u128>> {
    let mut stream = TcpStream::connect(&plan.address)?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let (mut took, mut due) = (Vec::new(), first);
    for name in names.iter().cycle() {
        if due >= plan.end {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        write!(stream, "GET /hello/{name} HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        answer(&mut answers)?;
        took.push(due.elapsed().as_micros());
        due += plan.interval;
    }
    Ok(took)
}

fn answer(answers: &mut BufReader<TcpStream>) -> io::Result<()> {
    let (mut line, mut length) = (String::new(), 0);
    answers.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("unexpected answer: {line}")));
    }
    while line != "\r\n" {
        line.clear();
        answers.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    io::copy(&mut answers.take(length), &mut io::sink()).map(drop)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, rate, seconds, connections] = arguments.as_slice() else {
        return Err("usage: pace HOST:PORT RATE SECONDS CONNECTIONS <NAMES".into());
    };
    let connections: u32 = connections.parse()?;
    let names: Vec<String> = io::stdin().lines().collect::<Result<_, _>>()?;
    let between = Duration::from_secs(1) / rate.parse::<u32>()?;
    let begin = Instant::now() + Duration::from_millis(100);
    let end = begin + Duration::from_secs(seconds.parse()?);
    let plan = Plan { address: address.clone(), interval: between * connections, end };
    let share = names.len() / connections as usize;
    let mut took = Vec::new();
    thread::scope(|scope| {
        let runs: Vec<_> = (0..connections)
            .zip(names.chunks(share))
            .map(|(number, names)| (begin + between * number, names))
            .map(|(first, names)| {
                scope.spawn({
                    let plan = &plan;
                    move || run(plan, first, names)
                })
            })
            .collect();
        runs.into_iter().try_for_each(|run| {
            run.join().map_err(|_| io::Error::other("a thread failed"))?.map(|part| took.extend(part))
        })
    })?;
    took.sort_unstable();
    let percentile = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or(0);
    println!("{} {} {}", percentile(50), percentile(99), took.len());
    Ok(())
}
