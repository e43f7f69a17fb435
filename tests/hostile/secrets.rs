//! A password that was planted is found nowhere: command line, log, metrics, answers, children, cores.

use std::fs;

use jiff::civil::date;

use crate::support::postgres::Server;
use crate::support::service::{Launch, Service};
use crate::support::until;

const PASSWORD: &str = "planted-sesame";

fn start(server: &Server) -> Service {
    let role = format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'; GRANT CREATE ON SCHEMA public TO app");
    server.client("postgres").batch_execute(&role).unwrap();
    let launch = Launch::postgres(format!("postgres://app@127.0.0.1:{}/postgres", server.port));
    let file = launch.data().join("password");
    fs::write(&file, PASSWORD).unwrap();
    launch.set("DATABASE_PASSWORD_FILE", file.to_str().unwrap()).set("RUST_LOG", "trace").start()
}

fn of(service: &Service, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{}/{file}", service.pid())).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_password_from_a_file_appears_nowhere() {
    let mut server = Server::start();
    let service = start(&server);
    service.save("ada", date(1815, 12, 10));
    let answers = ["/hello/ada", "/healthz", "/openapi.json", "/nowhere"].map(|path| service.get(path));
    let metrics = service.metrics().0;
    server.client("postgres").batch_execute("ALTER ROLE app PASSWORD 'another'").unwrap();
    server.terminate_sessions("postgres");
    until("the service says that its password is refused", || service.log().contains("password authentication failed"));
    server.stop();
    let problem = service.get("/hello/ada");
    let places = [
        ("command line", of(&service, "cmdline")),
        ("environment", of(&service, "environ")),
        ("log", service.log()),
        ("metrics", metrics),
        ("answers", format!("{answers:?}{problem:?}")),
        ("the database's log", server.log()),
    ];
    for (place, text) in places {
        assert!(!text.is_empty() && !text.contains(PASSWORD), "{place}: {text}");
    }
}

#[test]
fn the_service_has_no_children_that_could_inherit_a_secret_and_leaves_no_core() {
    let server = Server::start();
    let service = start(&server);
    service.save("ada", date(1815, 12, 10));
    let pid = service.pid();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let children = task.unwrap().path().join("children");
        assert_eq!(fs::read_to_string(children).unwrap(), "");
    }
    let limits = of(&service, "limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
}

#[test]
fn the_embedded_store_is_readable_by_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let service = Launch::embedded().set("DOB_API_DATA_DIR", data.to_str().unwrap()).start();
    service.save("ada", date(1815, 12, 10));
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o077, 0);
}
