//! A password that was planted is found nowhere: command line, log, metrics, answers, children, cores.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use jiff::civil::date;
use rustix::process::Signal;

use crate::support::postgres::Server;
use crate::support::service::{BINARY, Launch, Service};
use crate::support::{process, until};

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

/// A user without rights.
const NOBODY: &str = "65534";

fn as_nobody(program: &str) -> Command {
    let mut command = process::command("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--pdeathsig", "KILL", "--", program]);
    command
}

#[test]
fn another_process_of_the_same_user_reads_no_memory_of_the_service() {
    let launch = Launch::embedded();
    let chowned = Command::new("chown").args(["-R", NOBODY]).arg(launch.data()).status();
    assert!(chowned.unwrap().success());
    let service = launch.bind_as(as_nobody(BINARY));
    service.await_health(200);
    service.save("ada", date(1815, 12, 10));
    let mut control = process::spawn({
        let mut sleep = as_nobody("sleep");
        sleep.arg("1000");
        sleep
    });
    let opens = |pid: u32, file: &str| {
        let script = format!("exec 3</proc/{pid}/{file}");
        as_nobody("sh").args(["-c", &script]).stderr(Stdio::null()).status().unwrap().success()
    };
    for file in ["mem", "environ", "maps", "auxv", "io"] {
        until(&format!("the control's {file} is open"), || opens(control.id(), file));
        assert!(!opens(service.pid(), file), "{file}");
    }
    control.kill().unwrap();
    control.wait().unwrap();
}

#[test]
fn the_kernel_is_told_to_write_no_core_of_the_service_through_a_pipe_either() {
    for signal in [Signal::QUIT, Signal::ABORT] {
        let launch = Launch::embedded();
        let chowned = Command::new("chown").args(["-R", NOBODY]).arg(launch.data()).status();
        assert!(chowned.unwrap().success());
        let folder = tempfile::tempdir().unwrap();
        let mut service = launch.bind_as({
            let mut command = as_nobody(BINARY);
            command.current_dir(folder.path());
            command
        });
        service.await_health(200);
        // A pipe in `core_pattern` is the whole machine's, and knows no limit. Whether the kernel would write to it shows by the
        // owner of these files: root's, of a process that is not to be dumped, though another user runs it.
        let owner = |file: &str| fs::metadata(format!("/proc/{}/{file}", service.pid())).unwrap().uid().to_string();
        assert_eq!((owner("task").as_str(), owner("environ").as_str()), (NOBODY, "0"));
        service.signal(signal);
        let status = service.wait();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        assert!(!status.core_dumped() && fs::read_dir(folder.path()).unwrap().next().is_none(), "{status:?}");
    }
}
