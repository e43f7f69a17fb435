use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// A user's name as a request spelled it: 1 to 255 ASCII letters.
///
/// ```
/// use dob_api::domain::Username;
///
/// let name: Username = "Ada".parse()?;
/// assert_eq!(name.as_str(), "Ada");
/// assert_eq!(name.key(), "aDA".parse::<Username>()?.key());
/// # Ok::<(), dob_api::domain::UsernameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(Arc<str>);

/// A user's identity: the name folded to lower case. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserKey(Arc<str>);

/// Why a text is no [`Username`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UsernameError {
    /// The text is empty.
    #[error("the username is missing: write 1 to 255 letters from A to Z after /hello/")]
    Empty,
    /// The text is longer than [`Username::MAX_LENGTH`] letters.
    #[error("the username is too long: write 1 to 255 letters from A to Z after /hello/")]
    TooLong,
    /// The text contains something that is not an ASCII letter.
    #[error("the username has a character that is not a letter: write 1 to 255 letters from A to Z after /hello/")]
    NotLetters,
}

impl Username {
    /// The longest name, in letters.
    pub const MAX_LENGTH: usize = 255;

    /// The name in the spelling of the request.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity under which this user is stored.
    #[must_use]
    pub fn key(&self) -> UserKey {
        if self.0.bytes().any(|letter| letter.is_ascii_uppercase()) {
            UserKey(self.0.to_ascii_lowercase().into())
        } else {
            UserKey(self.0.clone())
        }
    }
}

impl std::str::FromStr for Username {
    type Err = UsernameError;

    fn from_str(text: &str) -> Result<Self, UsernameError> {
        if text.is_empty() {
            return Err(UsernameError::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(UsernameError::NotLetters);
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(UsernameError::TooLong);
        }
        Ok(Self(text.into()))
    }
}

impl UserKey {
    /// The folded name, as stores keep it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Hides the name: keys pass through places that log.
impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_to_255_ascii_letters_are_a_name() {
        let longest = "x".repeat(255);
        let too_long = "x".repeat(256);
        let cases = [
            ("a", Ok(())),
            ("AdaLovelace", Ok(())),
            (longest.as_str(), Ok(())),
            ("", Err(UsernameError::Empty)),
            (too_long.as_str(), Err(UsernameError::TooLong)),
            ("ada1", Err(UsernameError::NotLetters)),
            ("ada lovelace", Err(UsernameError::NotLetters)),
            ("ada\0", Err(UsernameError::NotLetters)),
            ("адa", Err(UsernameError::NotLetters)),
            ("é", Err(UsernameError::NotLetters)),
            // The Kelvin sign folds to an ASCII k in Unicode's tables.
            ("\u{212A}", Err(UsernameError::NotLetters)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Username>().map(drop), expected, "{text:?}");
        }
    }

    #[test]
    fn identity_ignores_case_and_display_keeps_the_spelling() -> Result<(), UsernameError> {
        let name: Username = "aDa".parse()?;
        assert_eq!(name.key().as_str(), "ada");
        assert_eq!(name.as_str(), "aDa");
        Ok(())
    }

    #[test]
    fn a_key_does_not_show_the_name_when_debugged() -> Result<(), UsernameError> {
        let key = "secret".parse::<Username>()?.key();
        assert!(!format!("{key:?}").contains("secret"));
        Ok(())
    }
}
