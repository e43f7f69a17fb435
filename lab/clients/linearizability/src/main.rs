//! Reads operations from standard input and prints each user whose history no register could have shown.
//!
//! A line is `USER BEGIN END KIND VALUE`: when the operation began and ended, in nanoseconds; `write` or `read`; the number that
//! was written or read. A register holds 0 until it is written.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

#[derive(Clone, Debug)]
enum Operation {
    Read(u32),
    Write(u32),
}

struct Timed {
    begin: u64,
    end: u64,
    operation: Operation,
}

struct Register;

impl Specification for Register {
    type State = u32;
    type Operation = Operation;

    fn init() -> u32 {
        0
    }

    fn apply(operation: &Operation, state: &u32) -> (bool, u32) {
        match operation {
            Operation::Read(value) => (value == state, *state),
            Operation::Write(value) => (true, *value),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut users: BTreeMap<String, Vec<Timed>> = BTreeMap::new();
    for line in io::stdin().lines() {
        let line = line?;
        let (user, timed) = parse(&line).map_err(|error| format!("'{line}' is no operation: {error}"))?;
        users.entry(user).or_default().push(timed);
    }
    for (user, operations) in &users {
        if !is_linearizable(operations) {
            println!("{user}");
        }
    }
    Ok(())
}

fn parse(line: &str) -> Result<(String, Timed), Box<dyn Error>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [user, begin, end, kind, value] = words[..] else {
        return Err("it has not five words".into());
    };
    let value: u32 = value.parse()?;
    let operation = match kind {
        "read" => Operation::Read(value),
        "write" => Operation::Write(value),
        _ => return Err("it neither reads nor writes".into()),
    };
    let (begin, end): (u64, u64) = (begin.parse()?, end.parse()?);
    if begin > end {
        return Err("it ends before it begins".into());
    }
    Ok((user.to_owned(), Timed { begin, end, operation }))
}

fn is_linearizable(operations: &[Timed]) -> bool {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (process, timed) in operations.iter().enumerate() {
        events.push((timed.begin, false, process));
        events.push((timed.end, true, process));
    }
    // What begins at the moment at which another ends is taken for concurrent with it: it sorts first.
    events.sort_unstable();
    let actions = events
        .into_iter()
        .map(|(_, ended, process)| {
            let operation = operations[process].operation.clone();
            (process, if ended { Action::Response(operation) } else { Action::Call(operation) })
        })
        .collect();
    WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
}
