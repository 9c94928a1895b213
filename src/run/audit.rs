//! The audit log: one JSON object a line, hash-chained, written by a thread of its own.
//!
//! The data path hands over a line and goes on. What the disk does not take waits in a queue of bounded length; what
//! finds no room there is lost, which is counted, logged, and written into the file itself as soon as that can be.
//! Nothing is ever half written: a line that the disk took in part is taken back. Rotation, by request or by size, moves
//! the file between two lines, and the chain goes on over it and over a restart.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::alone;
use super::chain::{self, End};
use crate::metrics::Metrics;

/// Where the records go, and what holds when they cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// The file.
    pub file: PathBuf,
    /// Whether nobody new may come in while records cannot be written.
    pub refuse: bool,
    /// The file is moved aside before it grows beyond this.
    pub rotate_at: Option<u64>,
}

/// The way to the audit file.
#[derive(Debug)]
pub struct Audit {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    /// Records lost that the file does not tell of yet.
    lost: AtomicU64,
    failing: AtomicBool,
    refuse: AtomicBool,
    /// Octets; [`NEVER`] where the file is not moved aside.
    rotate_at: AtomicU64,
}

#[derive(Debug)]
enum Job {
    Line(String),
    Reopen,
    Stop,
}

impl Audit {
    /// Opens the file, goes on where its chain ends, and starts its thread.
    ///
    /// # Errors
    /// When the file cannot be opened, another gateway writes there, or the thread cannot be started.
    pub fn open(params: Params, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            metrics,
            lost: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            refuse: AtomicBool::new(params.refuse),
            rotate_at: AtomicU64::new(params.rotate_at.unwrap_or(NEVER)),
        });
        let mut writer = Writer::open(params.file, Arc::clone(&shared))?;
        let (queue, jobs) = sync_channel(QUEUE);
        let thread =
            std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.work(&jobs))?;
        Ok(Self { queue, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Whether a file could be opened like this, without a word in it.
    ///
    /// # Errors
    /// When it could not, or another gateway writes there.
    pub fn rehearse(file: &Path) -> io::Result<()> {
        let is_new = !file.exists();
        let opened = append(file)?;
        if is_new {
            std::fs::remove_file(file)?;
        }
        drop(opened);
        Ok(())
    }

    /// What holds from now on for the file that is open.
    pub fn change(&self, params: &Params) {
        self.shared.refuse.store(params.refuse, Ordering::Relaxed);
        self.shared.rotate_at.store(params.rotate_at.unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Has one record written.
    pub fn record(&self, line: String) {
        if self.queue.try_send(Job::Line(line)).is_err() {
            self.shared.lose(1);
        }
    }

    /// Has it written that so many refusals were left out: there were too many from one network.
    pub fn left_out(&self, records: u64) {
        self.record(event("left-out", &[("records", records)]));
    }

    /// Whether nobody new may come in, because it could not be written down.
    pub fn refuses(&self) -> bool {
        self.shared.refuse.load(Ordering::Relaxed) && self.shared.failing.load(Ordering::Relaxed)
    }

    /// Has the file opened again: it may have been renamed.
    pub fn reopen(&self) {
        // A full queue means that the thread is stuck on the disk; it then opens nothing either.
        let _dropped = self.queue.try_send(Job::Reopen);
    }

    /// Writes what waits, and ends. A disk that takes nothing and refuses nothing holds up the end for a short time only.
    pub fn finish(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut job = Job::Stop;
        let mut told = false;
        for _ in 0..=LAST.as_millis() / LOOK.as_millis() {
            if !told {
                job = match self.queue.try_send(job) {
                    Ok(()) => {
                        told = true;
                        Job::Stop
                    }
                    Err(TrySendError::Full(job)) => job,
                    Err(TrySendError::Disconnected(_)) => return,
                };
            }
            if thread.is_finished() {
                let _ended = thread.join();
                return;
            }
            std::thread::sleep(LOOK);
        }
        tracing::error!("the disk does not take the last audit records, and is waited for no longer");
    }
}

impl Shared {
    fn lose(&self, records: u64) {
        self.lost.fetch_add(records, Ordering::Relaxed);
        self.metrics.audit_lost(records);
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    octets: u64,
    end: End,
    /// The disk has a part of a line that could not be taken back.
    torn: bool,
    waiting: VecDeque<String>,
    shared: Arc<Shared>,
}

impl Writer {
    fn open(path: PathBuf, shared: Arc<Shared>) -> io::Result<Self> {
        let mut file = append(&path)?;
        let Mended { end, cut, clean } = mend(&mut file)?;
        if cut > 0 {
            tracing::warn!(file = %path.display(), octets = cut, "the last audit record was written in part and is taken off");
        }
        if !clean {
            tracing::warn!(file = %path.display(), record = end.n,
                "the audit log before had no end: the process was killed, or the machine lost its power");
        }
        let octets = file.metadata()?.len();
        let numbers = [("torn", cut), ("unclean", u64::from(!clean))];
        let waiting = VecDeque::from([event("started", &numbers)]);
        Ok(Self { path, file, octets, end, torn: false, waiting, shared })
    }

    fn work(&mut self, jobs: &Receiver<Job>) {
        loop {
            self.flush();
            // While the disk refuses, it is asked again now and then although nothing new comes.
            let job = match self.waiting.is_empty() {
                true => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => jobs.recv_timeout(AGAIN),
            };
            match job {
                Ok(Job::Line(line)) => self.wait(line),
                Ok(Job::Reopen) => {
                    // A file that begins in the middle of a chain says so, and a restart finds the chain in it.
                    if self.reopen() {
                        self.waiting.push_front(event("continued", &[]));
                    }
                }
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return self.stop(),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn wait(&mut self, line: String) {
        if self.waiting.len() >= QUEUE {
            self.shared.lose(1);
        } else {
            self.waiting.push_back(line);
        }
    }

    fn stop(&mut self) {
        self.waiting.push_back(event("stopped", &[]));
        self.flush();
        if !self.waiting.is_empty() {
            // The line that says that we stop is no record of anything else.
            let lost = self.waiting.len().saturating_sub(1);
            self.shared.lose(u64::try_from(lost).unwrap_or(u64::MAX));
            tracing::error!(file = %self.path.display(), records = lost, "audit records are lost");
        }
        if let Err(error) = self.file.sync_data() {
            tracing::error!(file = %self.path.display(), %error, "the audit file is not safe on the disk");
        }
        tracing::info!(records = self.end.n, digest = %self.end.digest, "the audit log ends here");
    }

    /// Writes what waits, as far as the disk takes it.
    fn flush(&mut self) {
        while !self.waiting.is_empty() || self.shared.lost.load(Ordering::Relaxed) > 0 {
            let lost = self.shared.lost.load(Ordering::Relaxed);
            let next = match lost {
                0 => self.waiting.front().cloned().unwrap_or_default(),
                records => event("lost", &[("records", records)]),
            };
            if let Err(error) = self.write(&next) {
                return self.failed(&error);
            }
            match lost {
                0 => {
                    self.waiting.pop_front();
                }
                records => {
                    self.shared.lost.fetch_sub(records, Ordering::Relaxed);
                }
            }
            self.shared.metrics.audited();
            if self.shared.failing.swap(false, Ordering::Relaxed) {
                self.shared.metrics.audit_failing(false);
                tracing::warn!(file = %self.path.display(), "audit records are written again");
            }
        }
    }

    fn failed(&self, error: &io::Error) {
        if !self.shared.failing.swap(true, Ordering::Relaxed) {
            self.shared.metrics.audit_failing(true);
            let then = if self.shared.refuse.load(Ordering::Relaxed) {
                "nobody new is let in"
            } else {
                "traffic goes on without them"
            };
            tracing::error!(file = %self.path.display(), %error, then, "audit records cannot be written");
        }
    }

    fn write(&mut self, record: &str) -> io::Result<()> {
        let needed = u64::try_from(self.end.tie(record).0.len()).unwrap_or(u64::MAX).saturating_add(1);
        if self.octets > 0
            && self.octets.saturating_add(needed) > self.shared.rotate_at.load(Ordering::Relaxed)
            && self.rotate()
        {
            self.put(&event("continued", &[]))?;
            self.shared.metrics.audited();
        }
        self.put(record)
    }

    fn put(&mut self, record: &str) -> io::Result<()> {
        let (line, end) = self.end.tie(record);
        let mut octets = Vec::with_capacity(line.len() + 2);
        if self.torn {
            octets.push(b'\n');
        }
        octets.extend_from_slice(line.as_bytes());
        octets.push(b'\n');
        self.append(&octets)?;
        self.end = end;
        Ok(())
    }

    /// All of these octets, or none.
    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut rest = octets;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return self.take_back(octets.len() - rest.len(), io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.take_back(octets.len() - rest.len(), error),
            }
        }
        self.torn = false;
        self.octets = self.octets.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn take_back(&mut self, written: usize, error: io::Error) -> io::Result<()> {
        if written > 0 {
            let written = u64::try_from(written).unwrap_or(u64::MAX);
            let whole = self.file.metadata().map(|data| data.len().saturating_sub(written));
            self.torn = whole.and_then(|whole| self.file.set_len(whole)).is_err();
        }
        Err(error)
    }

    /// Moves the full file aside, under the number of its last record; whether an empty one is open now.
    fn rotate(&mut self) -> bool {
        let file = &self.path;
        let aside = (0u32..)
            .map(|n| match n {
                0 => format!("{}.{:012}", file.display(), self.end.n),
                n => format!("{}.{:012}.{n}", file.display(), self.end.n),
            })
            .find(|name| !Path::new(name).exists())
            .unwrap_or_default();
        let moved = self.file.sync_data().and_then(|()| std::fs::rename(file, &aside));
        match moved {
            Ok(()) => {
                tracing::info!(file = %aside, records = self.end.n, digest = %self.end.digest, "the audit file was moved aside");
                self.reopen()
            }
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "the audit file cannot be moved aside and grows on");
                self.shared.rotate_at.store(NEVER, Ordering::Relaxed);
                false
            }
        }
    }

    /// Whether the file that is open now is empty.
    fn reopen(&mut self) -> bool {
        let here = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        match (here(&self.file), std::fs::metadata(&self.path).map(|data| (data.dev(), data.ino()))) {
            // It was not moved: it is ours already.
            (Ok(open), Ok(named)) if open == named => return self.octets == 0,
            _ => {}
        }
        let opened = append(&self.path).and_then(|file| file.metadata().map(|data| (file, data.len())));
        match opened {
            Ok((file, octets)) => {
                self.file = file;
                self.octets = octets;
                self.torn = false;
                octets == 0
            }
            Err(error) => {
                tracing::error!(file = %self.path.display(), %error, "the audit file cannot be opened again; the old one stays open");
                false
            }
        }
    }
}

/// A record of the log about itself.
fn event(what: &str, numbers: &[(&str, u64)]) -> String {
    let mut record = format!("{{\"time\":\"{}\",\"event\":\"{what}\"", jiff::Timestamp::now());
    for (name, number) in numbers.iter().filter(|(_, number)| *number > 0) {
        let _infallible = write!(record, ",\"{name}\":{number}");
    }
    if what == "started" {
        let _infallible = write!(record, ",\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    }
    record.push('}');
    record
}

/// Opens the file to write at its end; nobody else does as long as it is open.
fn append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    alone::claim(&file, path)?;
    Ok(file)
}

/// Finds where the chain of a file ends. A last line without line end is completed if it is whole, and taken off if it
/// is not: then the process died over it.
fn mend(file: &mut File) -> io::Result<Mended> {
    if !file.metadata()?.is_file() {
        return Ok(Mended { end: End::default(), cut: 0, clean: true });
    }
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let mut cut = 0;
    if !tail.is_empty() && !tail.ends_with(b"\n") {
        let begin = tail.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        if chain::is_record(tail.get(begin..).unwrap_or_default()) {
            file.write_all(b"\n")?;
            tail.push(b'\n');
        } else {
            cut = u64::try_from(tail.len() - begin).unwrap_or(0);
            file.set_len(length - cut)?;
            tail.truncate(begin);
        }
    }
    let lines = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let (end, clean) = match lines.rsplit(|octet| *octet == b'\n').next() {
        Some(last) if !last.is_empty() => (End::after(last), cut == 0 && chain::is_stop(last)),
        _ => (End::default(), cut == 0),
    };
    Ok(Mended { end, cut, clean })
}

/// What was found of a file that goes on.
struct Mended {
    end: End,
    /// Octets that were taken off.
    cut: u64,
    /// Whoever wrote there before came to an end.
    clean: bool,
}

/// No file is so large.
const NEVER: u64 = u64::MAX;

/// Records that may wait on their way to the thread, and there for the disk.
const QUEUE: usize = 4096;

/// How long after a refusal the disk is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long the disk is waited for at the end, and how often it is looked whether all is written.
const LAST: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Longer than any line.
const TAIL: u64 = 256 * 1024;

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
