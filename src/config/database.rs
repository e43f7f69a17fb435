use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::config::{Host, SslMode};

use super::password;
use super::value::Settings;
use super::{refusal, url};

const ADMIN_FILE: &str = "DOB_API_ADMIN_DATABASE_URL_FILE";

/// How PostgreSQL is reached.
#[derive(Clone, Debug)]
pub struct Database {
    /// User, database and every host. Its `Debug` shows no password.
    pub postgres: tokio_postgres::Config,
    /// The file with the user's password, to be read for each connection. Without one, `postgres` has what is needed.
    pub password_file: Option<PathBuf>,
    /// The URL of an administrator, used only to create role, database and table.
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
pub(super) fn parse(settings: &Settings<'_>) -> Result<Option<Database>, String> {
    let admin = match password::file(settings, ADMIN_FILE, "admin-database-url")? {
        Some(path) => Some(url::read(ADMIN_FILE, &password::read(ADMIN_FILE, &path)?)?),
        None => url::find(settings, "DOB_API_ADMIN_DATABASE_URL")?,
    };
    let Some(postgres) = url::find(settings, "DATABASE_URL")? else {
        let needless =
            admin.map(|_| refusal("DATABASE_URL", "set it to the database that the administrator's URL creates"));
        return needless.map_or(Ok(None), Err);
    };
    if postgres.get_user().is_none_or(str::is_empty) {
        return Err(refusal("DATABASE_URL", "name the user, as in postgres://user@host/database"));
    }
    if postgres.get_dbname().is_none() {
        return Err(refusal("DATABASE_URL", "name the database, as in postgres://user@host/database"));
    }
    let password_file = password::find(settings)?;
    let tls = TlsPolicy { roots: roots(settings)? };
    for config in std::iter::once(&postgres).chain(&admin) {
        let needs_tls = config.get_hosts().iter().any(|host| tls.required(host, config.get_ssl_mode()));
        if needs_tls && tls.roots.is_empty() {
            return Err(refusal(
                "DATABASE_CA_FILE",
                "name the file with the CA of the database hosts, or add sslmode=disable to the URL of a network that you trust",
            ));
        }
    }
    Ok(Some(Database { postgres, password_file, admin, tls }))
}

fn roots(settings: &Settings<'_>) -> Result<RootCertStore, String> {
    const SETTING: &str = "DATABASE_CA_FILE";
    let mut roots = RootCertStore::empty();
    let Some(path) = settings.find(SETTING)? else { return Ok(roots) };
    let text = std::fs::read(&path).map_err(|error| refusal(SETTING, format_args!("cannot read {path}: {error}")))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let added = certificate.map_err(|error| error.to_string());
        added
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))
            .map_err(|error| refusal(SETTING, format_args!("{path} has a certificate that cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(refusal(SETTING, format_args!("{path} has no certificate: it must be in PEM form")));
    }
    Ok(roots)
}
