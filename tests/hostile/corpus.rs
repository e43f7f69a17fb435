//! The inputs that the fuzzer found worth keeping, without the fuzzer: each still ends as it must.
#![allow(clippy::pedantic, clippy::print_stderr, reason = "the fuzz targets are not the service's code")]

use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "../../fuzz/src/bytes.rs"]
mod bytes;
#[path = "../../fuzz/src/config.rs"]
mod config;
#[path = "../../fuzz/src/date.rs"]
mod date;
#[path = "../../fuzz/src/request.rs"]
mod request;
#[path = "../../fuzz/src/service.rs"]
mod service;

/// Runs every input of a target's corpus.
fn replay(target: &str, run: fn(&[u8])) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus.tar.gz");
    let folder = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()).arg(target).status();
    assert!(unpacked.unwrap().success(), "the corpus can be unpacked");
    let inputs =
        fs::read_dir(folder.path().join(target)).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    let mut count = 0;
    for input in inputs {
        run(&input);
        count += 1;
    }
    assert!(count > 20, "{count} inputs are no corpus");
}

#[test]
fn the_requests_of_the_corpus_are_answered_as_the_model_does() {
    replay("request", request::run);
}

#[test]
fn the_dates_of_the_corpus_are_read_as_the_calendar_says() {
    replay("date", date::run);
}

#[test]
fn the_settings_of_the_corpus_are_taken_or_refused_in_a_sentence() {
    replay("config", config::run);
}

#[test]
fn the_bytes_of_the_corpus_get_whole_answers() {
    replay("bytes", bytes::run);
}
