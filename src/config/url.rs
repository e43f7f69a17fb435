use std::str::FromStr;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::refusal;
use super::value::{Settings, unprintable};

/// Options that are used as PostgreSQL's documentation says.
const OPTIONS: &str =
    "host, hostaddr, port, dbname, user, password, sslmode, channel_binding, application_name, options";

/// A database URL. No part of it is ever echoed: where it is wrong, any part may be one of a password.
pub(super) fn find(settings: &Settings<'_>, name: &str) -> Result<Option<Config>, String> {
    let Some(text) = settings.find(name)? else { return Ok(None) };
    let config = read(name, &text)?;
    if config.get_password().is_some() && settings.flags.get(name).is_some() {
        return Err(refusal(
            name,
            "a password on the command line is visible to every user of this machine: put it in a file and set DATABASE_PASSWORD_FILE, or put an administrator's URL in a file and set DOB_API_ADMIN_DATABASE_URL_FILE",
        ));
    }
    Ok(Some(config))
}

/// The database URL `text`, which the setting `name` gives.
pub(super) fn read(name: &str, text: &str) -> Result<Config, String> {
    parse(text).and_then(checked).map_err(|problem| refusal(name, problem))
}

fn parse(text: &str) -> Result<Config, String> {
    let wrong = |why: &str| format!("is not a PostgreSQL URL{why}: write postgres://user@host1,host2/database");
    let scheme = ["postgres://", "postgresql://"].into_iter().find(|scheme| text.starts_with(scheme));
    let rest = &text[scheme.ok_or_else(|| wrong(""))?.len()..];
    // The parser below takes all before the first @ for user and password.
    let (credentials, place) = rest.split_once('@').unwrap_or(("", rest));
    let (user, _) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    // A password with an @ would be cut in two, and the second half be looked up and logged as a host.
    if user.contains(['/', '?']) || place.contains('@') {
        return Err("has an @, / or ? in a wrong place: write @ as %40, / as %2F and ? as %3F".to_owned());
    }
    for (option, value) in options(query) {
        check_option(&option, value)?;
    }
    // Verification is never optional here, so libpq's stricter modes mean what `require` does.
    let stricter = |query: &str| {
        query.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require")
    };
    let text = format!("{}{}", &text[..text.len() - query.len()], stricter(query));
    Config::from_str(&text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
        wrong(&cause.unwrap_or_default())
    })
}

/// The options of a query with their values, as the parser of the URL splits them.
fn options(mut query: &str) -> impl Iterator<Item = (String, &str)> {
    std::iter::from_fn(move || {
        let (option, rest) = query.split_once('=')?;
        let (value, others) = rest.split_once('&').unwrap_or((rest, ""));
        query = others;
        Some((percent_decode_str(option).decode_utf8_lossy().into_owned(), value))
    })
}

fn check_option(option: &str, value: &str) -> Result<(), String> {
    if let Some((neutral, why)) = unused(option) {
        if neutral.is_empty() || neutral != value {
            return Err(format!("the option {option} is not supported: remove it, because {why}"));
        }
    } else if !OPTIONS.split(", ").any(|used| used == option) {
        return Err(format!("has an unknown option: remove it, or use one of {OPTIONS}"));
    }
    Ok(())
}

/// For an option of other clients that would not be used: a value that makes no difference, if there is one, and why.
fn unused(option: &str) -> Option<(&'static str, &'static str)> {
    Some(match option {
        "connect_timeout"
        | "tcp_user_timeout"
        | "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count"
        | "keepalives_retries" => ("", "each connection has its own deadlines"),
        "target_session_attrs" => ("any", "the service looks for the primary on all hosts"),
        "load_balance_hosts" => ("disable", "the service looks for the primary on all hosts"),
        "sslnegotiation" => ("", "TLS is always tried first"),
        "sslrootcert" => ("", "DATABASE_CA_FILE names the certificates"),
        "passfile" => ("", "DATABASE_PASSWORD_FILE names a file that contains only the password"),
        _ => return None,
    })
}

/// What the parser lets through and no connection could use.
fn checked(config: Config) -> Result<Config, String> {
    let password = config.get_password().map(String::from_utf8_lossy);
    let texts = [config.get_user(), config.get_dbname(), config.get_options(), config.get_application_name()];
    for text in texts.into_iter().flatten().chain(password.as_deref()) {
        if let Some(problem) = unprintable(text) {
            return Err(format!("user, password, database or an option {problem}"));
        }
    }
    let (hosts, ports, addresses) = (config.get_hosts(), config.get_ports(), config.get_hostaddrs());
    if hosts.is_empty() || hosts.iter().any(is_empty) {
        return Err("name each host, as in postgres://user@host1,host2/database".to_owned());
    }
    if !hosts.iter().all(is_plain) {
        return Err(
            "a host has a character that is not allowed in host names: write @ : / ? of a user or a password as %40 %3A %2F %3F"
                .to_owned(),
        );
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err("the numbers of ports and hosts differ: write each host as host:port".to_owned());
    }
    if ports.contains(&0) {
        return Err("cannot connect to port 0: write the server's port".to_owned());
    }
    if !addresses.is_empty() && addresses.len() != hosts.len() {
        return Err("hostaddr must list one address per host, or none".to_owned());
    }
    let place = |index: usize| {
        let name = match (addresses.get(index), &hosts[index]) {
            (Some(address), _) => address.to_string(),
            (None, Host::Tcp(name)) => name.to_ascii_lowercase(),
            (None, Host::Unix(path)) => path.display().to_string(),
        };
        (name, ports.get(index).or(ports.first()))
    };
    if (1..hosts.len()).any(|index| (0..index).any(|other| place(other) == place(index))) {
        return Err("lists the same host and port twice: list each host once".to_owned());
    }
    Ok(config)
}

fn is_empty(host: &Host) -> bool {
    matches!(host, Host::Tcp(name) if name.is_empty())
}

fn is_plain(host: &Host) -> bool {
    match host {
        // Letters of any script, because a resolver may take them; colons and per cent of IPv6.
        Host::Tcp(name) => {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"-._:%".contains(&byte))
        }
        Host::Unix(path) => unprintable(&path.to_string_lossy()).is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked_url(text: &str) -> Result<Config, String> {
        parse(text).and_then(checked)
    }

    #[test]
    fn what_a_connection_uses_is_taken() -> Result<(), String> {
        let urls = [
            "postgres://ada@db/users",
            "postgresql://ada:se%40same@[::1]:5433,db2,10.0.0.1:5434/users?sslmode=verify-full",
            "postgres://ada@%2Fvar%2Frun%2Fpostgresql/users?options=-c%20geqo=off&application_name=a%20b",
            "postgres://ada@h1,h2/users?hostaddr=10.0.0.1,10.0.0.2&channel_binding=require",
            "postgres:///users?host=db&user=ada&port=6000&password=x&sslmode=disable",
            "postgres://ada@h1:1,h1:2/users?target_session_attrs=any&load_balance_hosts=disable",
            "postgres://ada:p/w?d@db/users",
        ];
        for url in urls {
            checked_url(url).map_err(|problem| format!("{url}: {problem}"))?;
        }
        let ports = checked_url(urls[1])?.get_ports().to_vec();
        assert_eq!(ports, [5433, 5432, 5434]);
        Ok(())
    }

    #[test]
    fn what_no_connection_would_use_is_refused_without_repeating_it() {
        let cases = [
            ("mysql://ada@db/sesame", "write postgres://"),
            ("host=db user=ada password=sesame", "write postgres://"),
            ("postgres://ada:sesame@db:x/users", "port"),
            ("postgres://ada@db/users?sslmode=sesame", "sslmode"),
            ("postgres://ada@db/users?connect_timeout=3", "connect_timeout"),
            ("postgres://ada@db/users?connect_timeout=0", "connect_timeout"),
            ("postgres://ada@db/users?connect%5Ftimeout=3", "connect_timeout"),
            ("postgres://ada@db/users?sslmode=disable&tcp_user_timeout=3", "tcp_user_timeout"),
            ("postgres://ada@db/users?keepalives=1", "keepalives"),
            ("postgres://ada@db/users?keepalives_idle=7200", "keepalives_idle"),
            ("postgres://ada@db/users?keepalives_interval=7", "keepalives_interval"),
            ("postgres://ada@db/users?keepalives_retries=7", "keepalives_retries"),
            ("postgres://ada@db/users?keepalives_count=7", "keepalives_count"),
            ("postgres://ada@db/users?target_session_attrs=read-write", "target_session_attrs"),
            ("postgres://ada@db/users?target_session_attrs=primary", "target_session_attrs"),
            ("postgres://ada@db/users?load_balance_hosts=random", "load_balance_hosts"),
            ("postgres://ada@db/users?sslnegotiation=direct", "sslnegotiation"),
            ("postgres://ada@db/users?sslrootcert=/ca.pem", "DATABASE_CA_FILE"),
            ("postgres://ada@db/users?passfile=/pgpass", "DATABASE_PASSWORD_FILE"),
            ("postgres://ada:open@x?sesame=y@db/users", "unknown option"),
            ("postgres://ada@db/users?sesame", "PostgreSQL URL"),
            ("postgres://ada:open@sesame@db/users", "%40"),
            ("postgres://ada:open@sesame/x@db/users", "%40"),
            ("postgres://ada@db:5432#sesame/users", "port"),
            ("postgres://ada@db#sesame/users", "%40"),
            ("postgres://db/users?application_name=sesame@home", "%40"),
            ("postgres://ada@h1,h2/users?hostaddr=10.0.0.1", "hostaddr"),
            ("postgres://ada@h1/users?hostaddr=10.0.0.1,10.0.0.2", "hostaddr"),
            ("postgres://ada@h1:1,h2:2/users?port=3", "ports"),
            ("postgres://ada@h1,h2/users?host=h3", "ports"),
            ("postgres://ada@db:0/users", "port 0"),
            ("postgres://ada@h1,,h2/users", "host"),
            ("postgres://ada@/users", "host"),
            ("postgres://ada@:5432/users", "host"),
            ("postgres:///users?host=h1,h2", "host"),
            ("postgres://ada@db,DB:5432/users", "twice"),
            ("postgres://ada@h1,h2/users?hostaddr=10.0.0.1,10.0.0.1", "twice"),
            ("postgres://ada@%2Ftmp,%2Ftmp/users", "twice"),
            ("postgres://ada@db/users%0D", "carriage return"),
            ("postgres://a%00da@db/users", "control character"),
            ("postgres://ada:sesame%0A@db/users", "line"),
            ("postgres://ada@db/users?application_name=a%07", "control character"),
            ("postgres://ada@d%09b/users", "host"),
        ];
        for (url, words) in cases {
            let problem = checked_url(url).map(drop).expect_err(url);
            assert!(problem.contains(words) && !problem.contains("sesame"), "{url}: {problem}");
            assert_eq!(problem.lines().count(), 1, "{problem}");
        }
    }
}
