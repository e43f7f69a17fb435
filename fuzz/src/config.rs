//! Flags and environment: a wrong one ends in one sentence, and never in a panic; no password is repeated.
use std::sync::LazyLock;

use dob_api::config;

/// A file whose text is chosen by the input: certificates and passwords come from files.
static FILE: LazyLock<tempfile::NamedTempFile> =
    LazyLock::new(|| tempfile::NamedTempFile::new_in("/dev/shm").expect("a file in memory"));

/// Lines: `NAME=value` is the environment, `@text` a line of the file, anything else an argument.
pub fn run(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let path = FILE.path().to_str().expect("a path of text").to_owned();
    let (mut args, mut environment, mut file) = (vec!["dob-api".to_owned()], Vec::new(), String::new());
    for line in input.lines() {
        if let Some(text) = line.strip_prefix('@') {
            file += text;
            file.push('\n');
        } else if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.starts_with('-')) {
            environment.push((name, value));
        } else {
            args.push(line.to_owned());
        }
    }
    // Only the file of this process is read, whatever path the input names.
    let reads_file = |name: &str| name.ends_with("_FILE") || name == "CREDENTIALS_DIRECTORY";
    args.retain(|arg| !arg.contains("file"));
    std::fs::write(&path, &file).expect("a file can be written");
    let lookup = |name: &str| {
        let (_, value) = environment.iter().find(|(key, _)| *key == name)?;
        Some(if reads_file(name) { path.clone().into() } else { (*value).into() })
    };
    if let Err(text) = config::parse(args.into_iter().map(Into::into), &lookup) {
        assert_eq!(text.trim_end().lines().count(), 1, "{text:?}");
        assert!(text.contains(": "), "{text:?}");
    }
}
