//! Child processes that never outlive the tests.
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::eventually;

type Order = (Command, Sender<std::io::Result<Child>>);

// The kernel kills a child when the *thread* that started it ends, so one thread that lives as
// long as the tests starts them all.
static SPAWNER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for (mut command, reply) in inbox {
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(orders)
});

/// A command whose process is killed when the tests end, however they end.
pub fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// Starts what [`command`] made.
pub fn spawn(command: Command) -> Child {
    let (reply, answer) = mpsc::channel();
    SPAWNER.lock().unwrap().send((command, reply)).unwrap();
    answer.recv().unwrap().expect("setpriv starts the program")
}

/// Lets this process have `wanted` open files.
pub fn raise_open_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).expect("so many open files are allowed");
    }
}

/// Sends `signal` to the process `pid`; one that is gone already is left alone.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

/// Waits for the end of `child`.
pub fn wait(child: &mut Child) -> ExitStatus {
    eventually("the process ends", || child.try_wait().unwrap())
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&child| state(child).is_some_and(|(_, parent)| parent == pid))
        .collect()
}

/// Whether the process `pid` still does something.
pub fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|(state, _)| state != "Z")
}

/// The state of the process `pid`, and its parent.
fn state(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// What a process has written so far to one of its pipes.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    /// Reads `pipe` to its end in the background.
    pub fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let sink = output.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut piece) {
                sink.0.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        output
    }

    /// All of it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Processes stopped by SIGSTOP; they continue when this is dropped.
///
/// A stopped process does not notice that its parent died: should the tests die, a guard that
/// waits for the end of its standard input kills the processes.
pub struct Frozen {
    pids: Vec<u32>,
    guard: Child,
}

impl Frozen {
    /// Stops `pids`.
    pub fn new(pids: Vec<u32>) -> Self {
        use std::os::unix::process::CommandExt;
        let mut guard = Command::new("sh");
        guard
            .args(["-c", "read -r word || kill -KILL \"$@\"", "guard"])
            .args(pids.iter().map(u32::to_string))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let guard = guard.spawn().unwrap();
        for &pid in &pids {
            signal(pid, Signal::STOP);
        }
        Self { pids, guard }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for &pid in &self.pids {
            signal(pid, Signal::CONT);
        }
        let _ = self.guard.stdin.take().unwrap().write_all(b"thawed\n");
        let _ = self.guard.wait();
    }
}
