use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// Bytes that may wait; what does not fit is dropped and counted. As much again may be on its way.
const CAPACITY: usize = 256 * 1024;

/// How long the end of the process waits for a reader.
const PATIENCE: Duration = Duration::from_secs(1);

/// The stack of the writing thread in bytes, far below the usual 2 MiB: where memory is short, clients need the rest.
const STACK: usize = 128 * 1024;

/// Text on its way to a pipe that may be full. A push never blocks: a separate thread writes. The thread stops when idle,
/// because with a second thread each allocation of the process takes a lock, about 5 % of a request's time (musl). Clones share
/// the queue.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

struct Shared {
    out: Mutex<Box<dyn Write + Send>>,
    report: Box<dyn Fn(u64) + Send + Sync>,
    queue: Mutex<Queue>,
    written: Condvar,
    dropped: Counter,
}

#[derive(Default)]
struct Queue {
    text: Vec<u8>,
    lines: u64,
    has_thread: bool,
    /// Lines that were dropped and not reported yet.
    lost: u64,
}

impl Outlet {
    /// A queue for `out`. When `out` takes text again after a loss, `report` is called with the number of lines that were lost.
    pub fn new(out: impl Write + Send + 'static, report: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            out: Mutex::new(Box::new(out)),
            report: Box::new(report),
            queue: Mutex::default(),
            written: Condvar::new(),
            dropped: Counter::default(),
        }))
    }

    /// Queues one line.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.text.len() + line.len() > CAPACITY {
            queue.lost += 1;
            self.0.dropped.inc();
            return;
        }
        queue.text.extend_from_slice(line);
        queue.lines += 1;
        if !queue.has_thread {
            let writer = self.clone();
            let thread = thread::Builder::new().name("log".to_owned()).stack_size(STACK);
            // Without a thread the text waits for the next line.
            queue.has_thread = thread.spawn(move || writer.run()).is_ok();
        }
    }

    /// Waits until everything is written, but for a second at most: there may be no reader.
    pub fn flush(&self) {
        // Either all is written or nobody reads; both are fine.
        let _ = self.0.written.wait_timeout_while(self.queue(), PATIENCE, |queue| queue.has_thread);
    }

    /// Counts the lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.0.dropped.clone()
    }

    /// Writes until nothing is left.
    fn run(&self) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((text, lines)) = self.take() {
            let is_written = out.write_all(&text).and_then(|()| out.flush()).is_ok();
            let mut queue = self.queue();
            if !is_written {
                queue.lost += lines;
                self.0.dropped.inc_by(lines);
                continue;
            }
            let lost = mem::take(&mut queue.lost);
            drop(queue);
            if lost > 0 {
                (self.0.report)(lost);
            }
        }
    }

    /// What is to be written next; none ends the thread.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let mut queue = self.queue();
        if queue.text.is_empty() {
            queue.has_thread = false;
            self.0.written.notify_all();
            return None;
        }
        Some((mem::take(&mut queue.text), mem::take(&mut queue.lines)))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Outlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;

    const LINE: &[u8] = &[b'x'; 1024];

    #[test]
    fn lost_log_lines_are_reported_once_they_are_read_and_delay_nothing() {
        let (out, mut reader) = UnixStream::pair().unwrap();
        let (report, reports) = mpsc::channel();
        let outlet = Outlet::new(out, move |lines| report.send(lines).unwrap());
        let mut pushed = 0;
        while outlet.dropped().get() < 1000 {
            outlet.push(LINE);
            pushed += 1;
        }
        outlet.flush();
        let dropped = outlet.dropped().get();
        let mut text = vec![0; LINE.len() * usize::try_from(pushed - dropped).unwrap()];
        reader.read_exact(&mut text).unwrap();
        let mut reported = 0;
        while reported < dropped {
            reported += reports.recv().unwrap();
        }
        assert_eq!(reported, dropped);
        outlet.push(b"after");
        let mut text = [0; 5];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"after");
    }

    #[test]
    fn a_line_that_never_fits_is_dropped_alone() {
        let (out, mut reader) = UnixStream::pair().unwrap();
        let outlet = Outlet::new(out, |_| {});
        outlet.push(&vec![b'x'; CAPACITY + 1]);
        outlet.push(b"after");
        let mut text = [0; 5];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"after");
        assert_eq!(outlet.dropped().get(), 1);
    }

    #[test]
    fn lines_to_a_reader_that_left_are_counted() {
        let (out, reader) = UnixStream::pair().unwrap();
        drop(reader);
        let outlet = Outlet::new(out, |_| {});
        outlet.push(LINE);
        outlet.flush();
        assert_eq!(outlet.dropped().get(), 1);
    }
}
