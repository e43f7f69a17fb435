//! Method and path to outcome. The only reader of the clock, but for `transfer`.

use std::borrow::Cow;

use hyper::Method;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;

use crate::domain::{DateError, DateOfBirth, Username, UsernameError, greeting};
use crate::lifecycle::Lifecycle;
use crate::store::{Source, Store, StoreError};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Greet this user.
    Greet(Username),
    /// Save this user's date of birth, which stands in the body.
    Save(Username),
    /// Say whether the balancer may send requests here.
    Health,
    /// Describe the interface.
    OpenApi,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The greeting, and who knew the date of birth.
    Greeting(String, Source),
    /// The write is durable.
    Saved,
    /// Requests may come.
    Healthy,
    /// The description of the interface.
    OpenApi,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is served under this path.
    UnknownPath,
    /// The path is known, the method is not; these are.
    MethodNotAllowed(&'static str),
    /// The name in the path is no username.
    Username(UsernameError),
    /// The date in the body is no date of birth.
    Date(DateError),
    /// No user of this name is saved.
    UnknownUser,
    /// The store gave no answer.
    Store(StoreError),
    /// The store was not reached yet.
    Starting,
    /// The service is shutting down.
    Draining,
}

/// The route of a path, as metrics name it.
#[must_use]
pub fn name(path: &str) -> &'static str {
    match path {
        "/healthz" => "healthz",
        "/openapi.json" => "openapi",
        _ if path.starts_with("/hello/") => "hello",
        _ => "unknown",
    }
}

/// Finds what `method` on `path` asks for.
///
/// # Errors
///
/// The path or the method is not served, or the name is no username.
pub fn resolve(method: &Method, path: &str) -> Result<Action, Refusal> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    match path {
        "/healthz" if reads => Ok(Action::Health),
        "/openapi.json" if reads => Ok(Action::OpenApi),
        "/healthz" | "/openapi.json" => Err(Refusal::MethodNotAllowed("GET, HEAD")),
        _ => {
            let name = path.strip_prefix("/hello/").filter(|name| !name.contains('/')).ok_or(Refusal::UnknownPath)?;
            if !reads && *method != Method::PUT {
                return Err(Refusal::MethodNotAllowed("GET, HEAD, PUT"));
            }
            let name: Cow<'_, str> =
                percent_decode_str(name).decode_utf8().map_err(|_| Refusal::Username(UsernameError::NotLetters))?;
            let username = name.parse().map_err(Refusal::Username)?;
            Ok(if reads { Action::Greet(username) } else { Action::Save(username) })
        }
    }
}

/// Carries actions out.
#[derive(Clone)]
pub struct Router {
    /// Where users are.
    pub store: Store,
    /// Whose midnight separates today from tomorrow.
    pub time_zone: TimeZone,
    /// Whether the service is shutting down.
    pub lifecycle: Lifecycle,
}

impl Router {
    /// Greets a user.
    ///
    /// # Errors
    ///
    /// There is no such user, or the store gave no answer.
    pub async fn greet(&self, username: &Username) -> Result<Outcome, Refusal> {
        let reading = self.store.get(username.key()).await.map_err(Refusal::Store)?;
        let date_of_birth = reading.date_of_birth.ok_or(Refusal::UnknownUser)?;
        Ok(Outcome::Greeting(greeting(username, date_of_birth, self.today()), reading.source))
    }

    /// Saves a user's date of birth, as the body wrote it. When this returns, the write is durable.
    ///
    /// # Errors
    ///
    /// The date is no date of birth, or the store gave no answer.
    pub async fn save(&self, username: &Username, date: &str) -> Result<Outcome, Refusal> {
        let date_of_birth = DateOfBirth::parse(date, self.today()).map_err(Refusal::Date)?;
        self.store.put(username.key(), date_of_birth).await.map_err(Refusal::Store)?;
        Ok(Outcome::Saved)
    }

    /// Says whether the balancer may send requests here: from the first contact with the store until the drain
    /// begins. Afterwards it does not depend on the store: during a failover, the balancer would take every host
    /// out of service at once.
    ///
    /// # Errors
    ///
    /// The service has not reached the store yet, or is shutting down.
    pub fn health(&self) -> Result<Outcome, Refusal> {
        if self.lifecycle.is_draining() {
            Err(Refusal::Draining)
        } else if self.store.was_reached() {
            Ok(Outcome::Healthy)
        } else {
            Err(Refusal::Starting)
        }
    }

    fn today(&self) -> Date {
        self.time_zone.to_datetime(Timestamp::now()).date()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_paths_lead_to_actions_or_refusals() -> Result<(), UsernameError> {
        let ada: Username = "ada".parse()?;
        let letters = Refusal::Username(UsernameError::NotLetters);
        let cases = [
            (Method::GET, "/hello/ada", Ok(Action::Greet(ada.clone()))),
            (Method::HEAD, "/hello/ada", Ok(Action::Greet(ada.clone()))),
            (Method::PUT, "/hello/ada", Ok(Action::Save(ada.clone()))),
            (Method::GET, "/hello/%61d%61", Ok(Action::Greet(ada))),
            (Method::GET, "/healthz", Ok(Action::Health)),
            (Method::GET, "/openapi.json", Ok(Action::OpenApi)),
            (Method::POST, "/hello/ada", Err(Refusal::MethodNotAllowed("GET, HEAD, PUT"))),
            (Method::PUT, "/healthz", Err(Refusal::MethodNotAllowed("GET, HEAD"))),
            (Method::DELETE, "/openapi.json", Err(Refusal::MethodNotAllowed("GET, HEAD"))),
            (Method::GET, "/hello/", Err(Refusal::Username(UsernameError::Empty))),
            (Method::GET, "/hello/a%2Fb", Err(letters)),
            (Method::GET, "/hello/%C3%A9", Err(letters)),
            (Method::GET, "/hello/%FF", Err(letters)),
            (Method::GET, "/hello/%zz", Err(letters)),
            (Method::GET, "/hello/a/b", Err(Refusal::UnknownPath)),
            (Method::GET, "/hello/ada/", Err(Refusal::UnknownPath)),
            (Method::GET, "/hello", Err(Refusal::UnknownPath)),
            (Method::GET, "/", Err(Refusal::UnknownPath)),
            (Method::GET, "", Err(Refusal::UnknownPath)),
            (Method::OPTIONS, "*", Err(Refusal::UnknownPath)),
        ];
        for (method, path, expected) in cases {
            assert_eq!(resolve(&method, path), expected, "{method} {path}");
        }
        Ok(())
    }
}
