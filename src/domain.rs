//! What the service knows: names, dates and how to greet. No I/O and no clock: `today` is an argument.

mod date_of_birth;
mod greeting;
mod username;

pub use date_of_birth::{DateError, DateOfBirth};
pub use greeting::greeting;
pub use username::{UserKey, Username, UsernameError};
