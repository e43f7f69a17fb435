//! Secrets of the environment, written to files: an orchestrator hands them over as variables, and the service reads files.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::PathBuf;

/// The variables that are written, with the names of their files.
pub const FILES: [(&str, &str); 2] = [("DATABASE_PASSWORD", "database-password"), ("DATABASE_CA", "database-ca")];

/// Only the owner reads the files, and nobody writes them.
const MODE: u32 = 0o400;

/// What is to be written, where, and for whom.
pub struct Secrets {
    /// An existing folder.
    pub folder: PathBuf,
    /// The user and group that the service runs as.
    pub owner: u32,
    /// File names and contents.
    pub values: Vec<(&'static str, OsString)>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("folder", &self.folder).field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Writes each value to its file, in the place of one that is there.
    ///
    /// # Errors
    ///
    /// One sentence that names the file that cannot be written.
    pub fn write(&self) -> Result<(), String> {
        for (name, value) in &self.values {
            let path = self.folder.join(name);
            let written =
                replace(&path, value.as_bytes()).and_then(|()| chown(&path, Some(self.owner), Some(self.owner)));
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }
}

fn replace(path: &std::path::Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?.write_all(content)
}
