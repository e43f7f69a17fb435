//! `dob-api export` and `dob-api import`: all users out of a store, or into one, as JSON lines.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, IsTerminal, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::yield_now;

use crate::config::Transfer;
use crate::lines::{self, Lines, User};
use crate::logging::Outlet;
use crate::store::{BATCH, Saved, Snapshot, Target};

/// How often progress is shown on a terminal, and elsewhere.
const PACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Clears the line of a terminal.
const CLEAR: &str = "\r\x1b[K";

/// The signal of a write beyond the limit of a file's size. If it is handled, only the write fails.
const SIGXFSZ: i32 = 25;

/// Writes all users to the file, or to standard output.
///
/// # Errors
///
/// One sentence that says why the export is not complete; the file is as it was.
pub async fn export(export: &Transfer, outlet: &Outlet) -> Result<(), String> {
    let mut snapshot = Snapshot::open(&export.store).await?;
    let mut progress = Progress::new("exported", snapshot.users, outlet);
    let (output, exported) = if let Some(path) = &export.file {
        (path.to_string_lossy(), replace(path, &mut snapshot, &mut progress).await)
    } else {
        let mut output = BufWriter::new(io::stdout().lock());
        ("standard output".into(), copy(&mut snapshot, &mut output, &mut progress).await)
    };
    exported.map(|()| progress.end("")).map_err(|error| format!("cannot export to {output}: {error}"))
}

/// Saves all users of the file, or of standard input.
///
/// # Errors
///
/// One sentence that says why not all are saved, and how many are. Before all lines are checked, none is.
pub async fn import(import: &Transfer, outlet: &Outlet) -> Result<(), String> {
    let (input, start) = open(import)?;
    let name = import.file.as_ref().map_or("standard input".into(), |path| path.to_string_lossy());
    let at = |problem| format!("{name}: {problem}");
    // What a service accepted in the earliest time zone is accepted in every other one.
    let today = Offset::constant(14).to_datetime(Timestamp::now()).date();
    let total = check(&input, start, today).map_err(|problem| format!("nothing is imported: {}", at(problem)))?;
    let target = Target::open(&import.store).await?;
    let mut progress = Progress::new("imported", total, outlet);
    let mut lines = read(&input, start, today).map_err(at)?;
    let mut saved = Saved::default();
    let stopped =
        |problem: String, done: u64| format!("{problem}; {done} of {total} users are saved: run the command again");
    loop {
        let batch = batch(&mut lines).map_err(|problem| stopped(at(problem), progress.done))?;
        let count = batch.len();
        if count == 0 {
            break;
        }
        let Saved { new, changed } = target.save(batch).await.map_err(|problem| stopped(problem, progress.done))?;
        saved = Saved { new: saved.new + new, changed: saved.changed + changed };
        progress.add(count);
    }
    if progress.done != total {
        return Err(stopped(at("it was changed meanwhile".to_owned()), progress.done));
    }
    let Saved { new, changed } = saved;
    progress.end(&format!(": {new} new, {changed} changed, {} the same", total - new - changed));
    Ok(())
}

async fn copy(snapshot: &mut Snapshot, output: &mut impl Write, progress: &mut Progress<'_>) -> io::Result<()> {
    loop {
        let users = snapshot.next().await.map_err(io::Error::other)?;
        if users.is_empty() {
            return lines::finish(output, progress.done);
        }
        users.iter().try_for_each(|user| lines::write(output, user))?;
        progress.add(users.len());
        // A signal is noticed here.
        yield_now().await;
    }
}

/// Writes beside the file, and takes its name once everything is on the disk.
async fn replace(path: &Path, snapshot: &mut Snapshot, progress: &mut Progress<'_>) -> io::Result<()> {
    // A link stays one. A device or a pipe is not replaced by a file.
    let path = match path.canonicalize() {
        Ok(real) if real.is_file() => real,
        Ok(_) => return Err(io::Error::other("it is no regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let beside = path.with_added_extension(format!("{}.partial", process::id()));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut hangup, _limit) = (signal(SignalKind::hangup())?, signal(SignalKind::from_raw(SIGXFSZ))?);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = async {
        let mut output = BufWriter::new(file);
        copy(snapshot, &mut output, progress).await?;
        output.get_ref().sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(directory)?.sync_all()
    };
    let written = tokio::select! {
        written = written => written,
        _ = terminate.recv() => Err(io::Error::other("stopped by SIGTERM")),
        _ = interrupt.recv() => Err(io::Error::other("stopped by SIGINT")),
        _ = hangup.recv() => Err(io::Error::other("stopped by SIGHUP")),
    };
    // An incomplete file must not be taken for an export.
    written.inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// What is to be imported, as a file that can be read twice, and where in it.
fn open(import: &Transfer) -> Result<(File, u64), String> {
    let input = match &import.file {
        Some(path) => File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        None if io::stdin().is_terminal() => {
            return Err("name the file of an export, or pipe one into this command".into());
        }
        None => io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| format!("cannot read standard input: {error}"))?
            .into(),
    };
    if input.metadata().is_ok_and(|metadata| metadata.is_file())
        && let Ok(start) = (&input).stream_position()
    {
        return Ok((input, start));
    }
    let path = import.temporary.join(format!("dob-api-import-{}", process::id()));
    let keep = || {
        let mut kept = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        io::copy(&mut &input, &mut kept)?;
        Ok((kept, 0))
    };
    keep().map_err(|error: io::Error| {
        let directory = import.temporary.display();
        format!("cannot keep the input in {directory}: {error}: set TMPDIR to another directory, or name a file")
    })
}

fn read(input: &File, start: u64, today: Date) -> Result<Lines<BufReader<&File>>, String> {
    let mut input = BufReader::new(input);
    input.seek(SeekFrom::Start(start)).map_err(|error| format!("cannot be read again: {error}"))?;
    Ok(Lines::new(input, today))
}

/// Reads all lines, and returns the number of users.
fn check(input: &File, start: u64, today: Date) -> Result<u64, String> {
    let mut lines = read(input, start, today)?;
    let (mut last, mut is_sorted) = (None, true);
    while let Some((user, _)) = lines.user()? {
        is_sorted &= last.as_ref().is_none_or(|last| *last < user);
        last = Some(user);
    }
    let users = lines.number - 1;
    if !is_sorted {
        // An export is sorted. Only in other files each name must be remembered to notice the second one.
        let (mut lines, mut seen) = (read(input, start, today)?, BTreeMap::new());
        while let Some((user, _)) = lines.user()? {
            if let Some(first) = seen.insert(user, lines.number) {
                return Err(format!("line {}: its user is on line {first}, too: keep one of them", lines.number));
            }
        }
    }
    Ok(users)
}

fn batch(lines: &mut Lines<BufReader<&File>>) -> Result<Vec<User>, String> {
    let mut batch = Vec::with_capacity(BATCH);
    while batch.len() < BATCH
        && let Some(user) = lines.user()?
    {
        batch.push(user);
    }
    Ok(batch)
}

/// What is said on standard error: on a terminal one line that changes, elsewhere a line now and then.
struct Progress<'a> {
    what: &'static str,
    total: u64,
    done: u64,
    outlet: &'a Outlet,
    on_terminal: bool,
    last: Instant,
}

impl<'a> Progress<'a> {
    fn new(what: &'static str, total: u64, outlet: &'a Outlet) -> Self {
        Self { what, total, done: 0, outlet, on_terminal: io::stderr().is_terminal(), last: Instant::now() }
    }

    fn add(&mut self, users: usize) {
        self.done += users as u64;
        let (pace, end) = if self.on_terminal { (PACE.0, "") } else { (PACE.1, "\n") };
        if self.last.elapsed() >= pace {
            self.last = Instant::now();
            self.say(&format!(" of {} users{end}", self.total));
        }
    }

    fn end(&self, result: &str) {
        self.say(&format!(" users{result}\n"));
    }

    fn say(&self, rest: &str) {
        let start = if self.on_terminal { CLEAR } else { "" };
        self.outlet.push(format!("{start}dob-api: {} {}{rest}", self.what, self.done).as_bytes());
    }
}

/// An error is not appended to the line that changes.
impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.on_terminal {
            self.outlet.push(CLEAR.as_bytes());
        }
    }
}
