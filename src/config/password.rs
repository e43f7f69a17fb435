use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::refusal;
use super::value::{Settings, unprintable, without_line_end};

const SETTING: &str = "DATABASE_PASSWORD_FILE";

/// Longer than any password: a longer file was named by mistake.
const LONGEST: u64 = 4096;

/// The file with the password, if one is set or is a systemd credential. It must hold a password now.
pub(super) fn find(settings: &Settings<'_>) -> Result<Option<PathBuf>, String> {
    let file = file(settings, SETTING, "database-password")?;
    file.as_deref().map(password).transpose()?;
    Ok(file)
}

/// The password in a file, which may change while the service runs. This may block.
///
/// # Errors
///
/// One sentence that says why the file holds no password; no part of the file is in it.
pub fn password(path: &Path) -> Result<String, String> {
    read(SETTING, path)
}

/// The file of a secret: the one that `setting` names, else the systemd credential if there is one.
pub(super) fn file(settings: &Settings<'_>, setting: &str, credential: &str) -> Result<Option<PathBuf>, String> {
    if let Some(path) = settings.find(setting)? {
        return Ok(Some(path.into()));
    }
    let directory = settings.find("CREDENTIALS_DIRECTORY")?;
    Ok(directory.map(|directory| Path::new(&directory).join(credential)).filter(|path| path.exists()))
}

/// The one line of the file that `setting` names.
pub(super) fn read(setting: &str, path: &Path) -> Result<String, String> {
    line(path).map_err(|problem| refusal(setting, format_args!("{} {problem}", path.display())))
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
        for (text, expected) in [("a b", "a b"), ("sesame\n", "sesame"), ("sesam\r\n", "sesam"), ("é", "é")] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(password(file.path()).as_deref(), Ok(expected), "{text:?}");
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
            let error = password(file.path()).unwrap_err();
            assert!(error.starts_with(SETTING) && error.contains(words) && !error.contains("sesam"), "{error}");
        }
        let directory = password(Path::new("/")).unwrap_err();
        assert!(directory.contains("regular file"), "{directory}");
    }
}
