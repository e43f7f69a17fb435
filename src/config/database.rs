use std::path::Path;
use std::str::FromStr;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::config::{Host, SslMode};

use super::ConfigError;
use super::value::Settings;

/// How PostgreSQL is reached.
#[derive(Clone, Debug)]
pub struct Database {
    /// User, password, database and every host. Its `Debug` shows no password.
    pub postgres: tokio_postgres::Config,
    /// An administrator's way in, only to create role, database and table.
    pub admin: Option<tokio_postgres::Config>,
    /// When TLS is used, and whom it trusts.
    pub tls: TlsPolicy,
}

/// When TLS is used, and whom it trusts.
#[derive(Clone, Debug)]
pub struct TlsPolicy {
    /// The certificates that a host's certificate must lead to.
    pub roots: RootCertStore,
}

impl TlsPolicy {
    /// Whether a connection to `host` is encrypted and verified: as the URL says, else everywhere but on this machine.
    #[must_use]
    pub fn required(&self, host: &Host, mode: SslMode) -> bool {
        match mode {
            SslMode::Disable => false,
            SslMode::Prefer => !is_local(host),
            _ => true,
        }
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

/// The database that the settings name, or none for the embedded store.
pub(super) fn parse(settings: &Settings<'_>) -> Result<Option<Database>, ConfigError> {
    let admin = url(settings, "DOB_API_ADMIN_DATABASE_URL")?;
    let Some(mut postgres) = url(settings, "DATABASE_URL")? else {
        let needless =
            admin.map(|_| ConfigError::new("DATABASE_URL", "name the database that the administrator is to make"));
        return needless.map_or(Ok(None), Err);
    };
    if postgres.get_user().is_none() {
        return Err(ConfigError::new("DATABASE_URL", "name the user, as in postgres://user@host/database"));
    }
    if postgres.get_dbname().is_none() {
        return Err(ConfigError::new("DATABASE_URL", "name the database, as in postgres://user@host/database"));
    }
    if let Some(password) = password(settings)? {
        postgres.password(password);
    }
    let tls = TlsPolicy { roots: roots(settings)? };
    for config in std::iter::once(&postgres).chain(&admin) {
        let needs_tls = config.get_hosts().iter().any(|host| tls.required(host, config.get_ssl_mode()));
        if needs_tls && tls.roots.is_empty() {
            return Err(ConfigError::new(
                "DATABASE_CA_FILE",
                "name the file with the CA of the database hosts, or add sslmode=disable to the URL of a network that you trust",
            ));
        }
    }
    Ok(Some(Database { postgres, admin, tls }))
}

/// A database URL. No part of it is ever echoed: it may hold a password.
fn url(settings: &Settings<'_>, name: &str) -> Result<Option<tokio_postgres::Config>, ConfigError> {
    let Some(text) = settings.find(name) else { return Ok(None) };
    // Verification is never optional here, so libpq's stricter modes mean what `require` does.
    let text = text.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let config = tokio_postgres::Config::from_str(&text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
        ConfigError::new(
            name,
            format_args!("is not a PostgreSQL URL{cause}: write postgres://user@host1,host2/database"),
        )
    })?;
    if config.get_hosts().is_empty() {
        return Err(ConfigError::new(name, "name the host, as in postgres://user@host/database"));
    }
    if config.get_password().is_some() && settings.flags.get(name).is_some() {
        return Err(ConfigError::new(
            name,
            "a password on the command line is visible to every user of this machine: put it into DATABASE_PASSWORD_FILE",
        ));
    }
    Ok(Some(config))
}

/// The password from the file that is set, else from the systemd credential, if there is one.
fn password(settings: &Settings<'_>) -> Result<Option<String>, ConfigError> {
    const SETTING: &str = "DATABASE_PASSWORD_FILE";
    let credential = || {
        let path = Path::new(&settings.find("CREDENTIALS_DIRECTORY")?).join("database-password");
        path.exists().then_some(path)
    };
    let Some(path) = settings.find(SETTING).map(Into::into).or_else(credential) else { return Ok(None) };
    let text = read(SETTING, &path)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    if password.is_empty() {
        return Err(ConfigError::new(SETTING, format_args!("{} is empty: write the password into it", path.display())));
    }
    Ok(Some(password.to_owned()))
}

fn roots(settings: &Settings<'_>) -> Result<RootCertStore, ConfigError> {
    const SETTING: &str = "DATABASE_CA_FILE";
    let mut roots = RootCertStore::empty();
    let Some(path) = settings.find(SETTING) else { return Ok(roots) };
    let text = read(SETTING, Path::new(&path))?;
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let added = certificate.map_err(|error| error.to_string());
        added.and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string())).map_err(|error| {
            ConfigError::new(SETTING, format_args!("{path} has a certificate that cannot be used: {error}"))
        })?;
    }
    if roots.is_empty() {
        return Err(ConfigError::new(SETTING, format_args!("{path} has no certificate: it must be in PEM form")));
    }
    Ok(roots)
}

fn read(setting: &str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new(setting, format_args!("cannot read {}: {error}", path.display())))
}
