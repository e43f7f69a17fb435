//! What the peers share with the service: its rules for names, dates and greetings, so that all do the same work.

pub mod own;

use dob_api::domain::{DateOfBirth, Username};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// The body of a PUT.
#[derive(Deserialize)]
pub struct Person {
    #[serde(rename = "dateOfBirth")]
    pub date_of_birth: String,
}

/// The body of the answer to a GET.
#[derive(Serialize)]
pub struct Greeting {
    pub message: String,
}

/// The one SQL that reads, for a name folded to lower case.
pub const SELECT: &str = "SELECT date_of_birth FROM users WHERE username = $1";

/// The one SQL that writes.
pub const UPSERT: &str = "INSERT INTO users (username, date_of_birth) VALUES ($1, $2)
    ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth";

/// The day it is.
pub fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

/// What a user who was born on that day is told now.
pub fn greeting(username: &Username, born: Date) -> Greeting {
    Greeting { message: dob_api::domain::greeting(username, DateOfBirth::from_stored(born), today()) }
}

/// The day that a body names, if it is a date of birth.
pub fn birth(person: &Person) -> Option<Date> {
    DateOfBirth::parse(&person.date_of_birth, today()).ok().map(DateOfBirth::date)
}

/// Where to listen: the first argument.
pub fn listen() -> String {
    std::env::args().nth(1).expect("usage: PROGRAM HOST:PORT")
}

/// Where the database is.
pub fn database_url() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL is set")
}
