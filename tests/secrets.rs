//! `dob-api write-secrets`, as a first container of a task runs it.
#![allow(clippy::expect_used, reason = "a failed assumption fails the test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

const PASSWORD: &str = "pass'word \"$HOME\"\\n";
const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn write_secrets(folder: &Path, owner: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dob-api"));
    command.env_clear().envs(environment.iter().copied()).arg("write-secrets").arg(folder).arg(owner);
    command.output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn secrets_reach_their_files_to_the_byte_and_only_their_owner_reads_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let owner = fs::metadata(folder.path()).expect("the folder").uid();
    let environment = [("DATABASE_PASSWORD", PASSWORD), ("DATABASE_CA", CA)];
    // A second run finds the files of the first, which nobody may write.
    for _ in 0..2 {
        let output = write_secrets(folder.path(), &owner.to_string(), &environment);
        assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
        for (name, value) in [("database-password", PASSWORD), ("database-ca", CA)] {
            let file = folder.path().join(name);
            let found = fs::metadata(&file).expect("the file");
            assert_eq!((found.mode() & 0o777, found.uid()), (0o400, owner));
            assert_eq!(fs::read_to_string(file).expect("the file"), value);
        }
    }
}

#[test]
fn a_secret_that_is_missing_or_empty_is_named_and_nothing_is_written() {
    for environment in [&[("DATABASE_PASSWORD", PASSWORD)][..], &[("DATABASE_PASSWORD", PASSWORD), ("DATABASE_CA", "")]]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let output = write_secrets(folder.path(), "0", environment);
        assert_eq!(output.status.code(), Some(64));
        assert!(said(&output).starts_with("dob-api: DATABASE_CA: "), "{}", said(&output));
        assert!(fs::read_dir(folder.path()).expect("the folder").next().is_none());
    }
}

#[test]
fn a_folder_that_is_not_there_is_named_and_no_secret_is_shown() {
    let environment = [("DATABASE_PASSWORD", PASSWORD), ("DATABASE_CA", CA)];
    let output = write_secrets(Path::new("/proc/absent"), "0", &environment);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.starts_with("dob-api: cannot write /proc/absent/database-password: ") && !text.contains("pass'"),
        "{text}"
    );
}

#[test]
fn an_owner_that_is_no_number_is_refused() {
    let output = write_secrets(Path::new("/"), "root", &[]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
}
