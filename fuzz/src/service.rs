//! The service within the fuzzer's process, on the embedded store.

use std::time::Duration;

use dob_api::config::{self, Config, Task};
use dob_api::http::Handler;
use dob_api::lifecycle::Lifecycle;
use dob_api::metrics::{self, HttpMetrics, StoreMetrics};
use dob_api::route::Router;
use dob_api::store::Store;
use tempfile::TempDir;

/// A handler, its settings, and the directory that must live as long.
pub struct Service {
    pub handler: Handler,
    pub config: Config,
    _data: TempDir,
}

impl Service {
    /// Within a runtime, in a time zone in which it is noon, so that no midnight passes.
    pub fn new(zone: &str) -> Self {
        // In memory, because a commit to a disk takes a hundred times as long as the rest.
        let data = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let path = data.path().to_str().expect("a path of text").to_owned();
        let settings = |name: &str| match name {
            "DOB_API_DATA_DIR" => Some(path.clone().into()),
            "DOB_API_TIME_ZONE" => Some(zone.into()),
            _ => None,
        };
        let Ok(Task::Serve(config)) = config::parse(["dob-api".into()], &settings) else { panic!("settings") };
        let mut registry = metrics::registry();
        let store = Store::open(&config, &StoreMetrics::register(&mut registry)).expect("a store");
        let router = Router { store, time_zone: config.time_zone.clone(), lifecycle: Lifecycle::new() };
        let metrics = HttpMetrics::register(&mut registry);
        let handler = Handler { router, metrics, body_timeout: Duration::from_secs(10) };
        Self { handler, config: *config, _data: data }
    }
}
