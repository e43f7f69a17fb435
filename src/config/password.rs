use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::value::{Settings, unprintable, without_line_end};

const SETTING: &str = "DATABASE_PASSWORD_FILE";

/// No password is longer, but many a file that was named by mistake.
const LONGEST: u64 = 4096;

/// Where the password of the database comes from.
#[derive(Clone)]
pub enum PasswordSource {
    /// None is needed.
    None,
    /// It stands in the URL.
    Url(Vec<u8>),
    /// It stands in this file, which may change while the service runs.
    File(PathBuf),
}

impl PasswordSource {
    /// The password now. A file is read, so this may block.
    ///
    /// # Errors
    ///
    /// One sentence that says why the file holds no password; no part of the file is in it.
    pub fn current(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        match self {
            Self::None => Ok(None),
            Self::Url(password) => Ok(Some(password.clone())),
            Self::File(path) => read(SETTING, path).map(|password| Some(password.into_bytes())),
        }
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Url(_) => f.write_str("Url"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The file that is set, else the systemd credential if there is one, else the URL's password. A file must hold one now.
pub(super) fn source(settings: &Settings<'_>, in_url: Option<&[u8]>) -> Result<PasswordSource, ConfigError> {
    let file = file(settings, SETTING, "database-password")?.map(PasswordSource::File);
    let in_url = || in_url.map_or(PasswordSource::None, |password| PasswordSource::Url(password.to_vec()));
    let source = file.unwrap_or_else(in_url);
    source.current()?;
    Ok(source)
}

/// The file of a secret: the one that `setting` names, else the systemd credential if there is one.
pub(super) fn file(settings: &Settings<'_>, setting: &str, credential: &str) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = settings.find(setting)? {
        return Ok(Some(path.into()));
    }
    let directory = settings.find("CREDENTIALS_DIRECTORY")?;
    Ok(directory.map(|directory| Path::new(&directory).join(credential)).filter(|path| path.exists()))
}

/// The one line of the file that `setting` names.
pub(super) fn read(setting: &str, path: &Path) -> Result<String, ConfigError> {
    line(path).map_err(|problem| ConfigError::new(setting, format_args!("{} {problem}", path.display())))
}

/// The one line of the file, or what is wrong with it.
fn line(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => "is not UTF-8 text: write the secret into it as UTF-8".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // Opening a pipe would wait for its writer.
    if !path.metadata().map_err(cannot)?.is_file() {
        return Err("is not a regular file: write the secret into one".to_owned());
    }
    let mut text = String::new();
    File::open(path).map_err(cannot)?.take(LONGEST + 1).read_to_string(&mut text).map_err(cannot)?;
    let password = without_line_end(&text);
    match unprintable(password) {
        Some(problem) => Err(problem.to_owned()),
        None if password.is_empty() => Err("is empty: write the secret into it".to_owned()),
        None if text.len() as u64 > LONGEST => Err(format!("is longer than {LONGEST} bytes: it holds no secret")),
        None => Ok(password.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_line_which_is_read_again_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = PasswordSource::File(file.path().to_owned());
        for (text, password) in [("a b", "a b"), ("sesame\n", "sesame"), ("sesam\r\n", "sesam"), ("é", "é")] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(source.current().unwrap().as_deref(), Some(password.as_bytes()), "{text:?}");
        }
        let wrong: [(&[u8], &str); 8] = [
            (b"", "empty"),
            (b"\n", "empty"),
            (b"sesame\n\n", "more than one line"),
            (b"sesame\nopen", "more than one line"),
            (b"sesame\r", "carriage return"),
            ("\u{feff}sesame".as_bytes(), "byte order mark"),
            (b"sesam\xe9", "UTF-8"),
            (&[b'x'; 5000], "4096"),
        ];
        for (text, words) in wrong {
            std::fs::write(file.path(), text).unwrap();
            let error = source.current().unwrap_err().to_string();
            assert!(error.starts_with(SETTING) && error.contains(words) && !error.contains("sesam"), "{error}");
        }
        let directory = PasswordSource::File("/".into()).current().unwrap_err().to_string();
        assert!(directory.contains("regular file"), "{directory}");
    }
}
