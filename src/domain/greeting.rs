use itoa::Buffer;
use jiff::civil::Date;

use super::{DateOfBirth, Username};

/// What a user is told `today`, in the spelling of the request.
///
/// ```
/// use dob_api::domain::{DateOfBirth, greeting};
/// use jiff::civil::date;
///
/// let born = DateOfBirth::parse("1815-12-10", date(2026, 12, 9))?;
/// assert_eq!(greeting(&"Ada".parse()?, born, date(2026, 12, 9)), "Hello, Ada! Your birthday is in 1 day(s)");
/// assert_eq!(greeting(&"Ada".parse()?, born, date(2026, 12, 10)), "Hello, Ada! Happy birthday!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn greeting(username: &Username, date_of_birth: DateOfBirth, today: Date) -> String {
    // Every greeting is made here, and `format!` costs ten times as much.
    match date_of_birth.days_until_birthday(today) {
        0 => ["Hello, ", username.as_str(), "! Happy birthday!"].concat(),
        days => {
            ["Hello, ", username.as_str(), "! Your birthday is in ", Buffer::new().format(days), " day(s)"].concat()
        }
    }
}
