//! The calendar against that of Python: every day of 400 years for everybody's birthday.

use std::io::Read;
use std::process::{Command, Stdio};

use dob_api::domain::DateOfBirth;
use jiff::civil::{Date, date};

/// The calendar repeats itself after as many days.
const CYCLE: usize = 146_097;

#[test]
fn the_days_until_each_birthday_are_those_of_python_on_every_day_of_400_years() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/birthdays.py");
    let mut python = Command::new("python3").arg(script).stdout(Stdio::piped()).spawn().expect("python3 starts");
    let mut oracle = python.stdout.take().unwrap();
    let mut answers = vec![0; CYCLE * 2];
    // 2000 has every birthday, the leap day too.
    for born in date(2000, 1, 1).series(jiff::Span::new().days(1)).take(366) {
        oracle.read_exact(&mut answers).expect("an answer for each day");
        let birthday = DateOfBirth::from_stored(born).expect("a year after 0");
        for (today, answer) in days().zip(answers.chunks_exact(2)) {
            let expected = i64::from(u16::from_le_bytes([answer[0], answer[1]]));
            assert_eq!(birthday.days_until_birthday(today), expected, "born {born}, today {today}");
        }
    }
    assert_eq!(oracle.read(&mut answers).unwrap(), 0, "the oracle has no more to say");
    assert!(python.wait().unwrap().success());
}

fn days() -> impl Iterator<Item = Date> {
    std::iter::successors(Some(date(2000, 1, 1)), |day| day.tomorrow().ok()).take(CYCLE)
}
