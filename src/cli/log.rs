//! The log: one event a line on standard error, written by a thread of its own.
//!
//! Whoever has something to say hands over a line and goes on. A disk that is full, or a reader that has stopped reading,
//! costs lines and nothing else: what finds no room is left out, and the next line that can be written tells how many.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::Console;
use super::console::Volume;
use crate::config::settings::{Log as Wanted, LogFormat, LogLevel};

/// The way to the log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    queue: SyncSender<Job>,
    lost: Arc<AtomicU64>,
    now: Option<Now>,
}

/// What is told, and in which form: both can change while the process runs.
#[derive(Clone)]
struct Now {
    levels: reload::Handle<EnvFilter, Registry>,
    forms: reload::Handle<Lines, Filtered>,
    ansi: bool,
    /// What the configuration says, for when an operator's word no longer holds.
    level: Arc<Mutex<LogLevel>>,
}

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Now").finish_non_exhaustive()
    }
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// Our own events at that level; of others only what is wrong with them.
fn filter(level: LogLevel, more: Option<&str>) -> EnvFilter {
    let more = more.map(|more| format!(",{more}")).unwrap_or_default();
    EnvFilter::new(format!("error,gatehouse={}{more}", level.label()))
}

fn level(wanted: LogLevel, volume: Volume) -> LogLevel {
    match volume {
        Volume::Quiet => LogLevel::Error,
        Volume::Usual => wanted,
        Volume::Verbose => wanted.max(LogLevel::Debug),
    }
}

fn lines(format: LogFormat, log: &Log, ansi: bool) -> Lines {
    let writer = Journal { log: Log { now: None, ..log.clone() }, journal: is_journal() };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(ansi).boxed(),
    }
}

#[derive(Debug)]
enum Job {
    Line(Vec<u8>),
    Finish(SyncSender<()>),
}

impl Log {
    /// Sends all events to standard error, as the configuration says; `-q` and `-v` say it louder.
    ///
    /// # Errors
    /// When the thread cannot be started, or another log is there.
    pub(super) fn start(wanted: Wanted, console: &Console) -> io::Result<Self> {
        let level = level(wanted.level, console.volume());
        let mut log = Self::to(io::stderr())?;
        let ansi = console.has_coloured_errors();
        let (filter, levels) = reload::Layer::new(filter(level, None));
        let (lines, forms) = reload::Layer::new(lines(wanted.format, &log, ansi));
        let set = tracing_subscriber::registry().with(filter).with(lines).try_init();
        log.now = Some(Now { levels, forms, ansi, level: Arc::new(Mutex::new(level)) });
        set.map(|()| log).map_err(io::Error::other)
    }

    /// Has events told otherwise from now on, as the configuration says; `-q` and `-v` hold on.
    pub(super) fn change(&self, wanted: Wanted, volume: Volume) {
        let Some(now) = &self.now else { return };
        let level = level(wanted.level, volume);
        *now.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        let changed = now
            .levels
            .reload(filter(level, None))
            .and_then(|()| now.forms.reload(lines(wanted.format, self, now.ansi)));
        if let Err(error) = changed {
            tracing::error!(%error, "the log stays as it was");
        }
    }

    /// Has events told by these directives besides, or as the configuration says.
    pub(super) fn turn(&self, directives: Option<&str>) {
        let Some(now) = &self.now else { return };
        let level = *now.level.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = now.levels.reload(filter(level, directives)) {
            tracing::error!(%error, "the log stays as it was");
        }
    }

    fn to(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let scribe = Scribe { sink, lost: Arc::clone(&lost), torn: false };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || scribe.work(&jobs))?;
        Ok(Self { queue, lost, now: None })
    }

    /// Waits until what was said so far is written, but not for ever on a reader that does not read.
    pub(super) fn finish(&self) {
        let end = Instant::now() + PATIENCE;
        let (done, finished) = sync_channel(1);
        let mut job = Job::Finish(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(job) {
            if Instant::now() >= end {
                return;
            }
            job = back;
            std::thread::sleep(Duration::from_millis(10));
        }
        // Late or not: nothing more can be done about it.
        let _finished = finished.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// The way to the log, with the level of each line in front where the journal of systemd reads it (sd-daemon(3)).
struct Journal {
    log: Log,
    journal: bool,
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { log: self.log.clone(), priority: None }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Line {
        Line { log: self.log.clone(), priority: self.journal.then(|| priority(*meta.level())) }
    }
}

/// One line on its way.
struct Line {
    log: Log,
    priority: Option<&'static [u8]>,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.priority {
            Some(priority) => self.log.write_all(&[priority, line].concat())?,
            None => self.log.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The priority of syslog(3), so that `journalctl -p warning` finds what is to be looked at.
fn priority(level: tracing::Level) -> &'static [u8] {
    match level {
        tracing::Level::ERROR => b"<3>",
        tracing::Level::WARN => b"<4>",
        tracing::Level::INFO => b"<6>",
        _ => b"<7>",
    }
}

/// Whether standard error leads to the journal: systemd tells device and inode of the socket that it made, and a standard
/// error that was led elsewhere since is another file.
#[allow(clippy::disallowed_methods)] // systemd tells by it where standard error leads
fn is_journal() -> bool {
    let Some(told) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|file| told == format!("{}:{}", file.dev(), file.ino()))
}

impl Write for Log {
    /// Takes a whole line, always.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Job::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            crate::metrics::log_lost(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes.
struct Scribe<W> {
    sink: W,
    lost: Arc<AtomicU64>,
    /// A line was written in part, for all we know.
    torn: bool,
}

impl<W: Write> Scribe<W> {
    fn work(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Line(line) => self.put(&line),
                Job::Finish(done) => {
                    // Whoever waited may have gone.
                    let _heard = done.send(());
                }
            }
        }
    }

    fn put(&mut self, line: &[u8]) {
        let begin: &[u8] = if self.torn { b"\n" } else { b"" };
        let written = self.sink.write_all(begin).and_then(|()| self.sink.write_all(line));
        self.torn = written.is_err();
        if self.torn {
            self.lost.fetch_add(1, Ordering::Relaxed);
            crate::metrics::log_lost(1);
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // It goes through the queue like any other; if that has no room, the next one tells of it.
            tracing::warn!(
                lines = lost,
                "log lines were lost: they could not be written, or not fast enough"
            );
        }
    }
}

/// Lines that may wait.
const QUEUE: usize = 4096;

/// How long the end of the process waits for the last line.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Takes what it is let take, or says that the disk is full.
    struct Disk {
        full: Arc<Mutex<bool>>,
        gate: mpsc::Receiver<()>,
        content: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            // A closed gate holds nobody.
            let _waited = self.gate.recv();
            if *self.full.lock().unwrap() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.content.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A disk whose gate is shut.
    struct Shelf {
        full: Arc<Mutex<bool>>,
        gate: mpsc::Sender<()>,
        content: Arc<Mutex<Vec<u8>>>,
    }

    fn disk() -> (Disk, Shelf) {
        let (open, gate) = mpsc::channel();
        let (full, content) = (Arc::default(), Arc::default());
        let disk = Disk { full: Arc::clone(&full), gate, content: Arc::clone(&content) };
        (disk, Shelf { full, gate: open, content })
    }

    // sd-daemon(3).
    #[test]
    fn the_journal_hears_how_bad_a_line_is() {
        let (disk, Shelf { gate, content, .. }) = disk();
        drop(gate);
        let log = Log::to(disk).unwrap();
        let journal = Journal { log: log.clone(), journal: true };
        let subscriber =
            tracing_subscriber::fmt().with_writer(journal).without_time().with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
        });
        log.finish();
        let content = String::from_utf8(content.lock().unwrap().clone()).unwrap();
        let begins: Vec<&str> = content.lines().map(|line| &line[..3]).collect();
        assert_eq!(begins, ["<3>", "<4>", "<6>"], "{content}");
    }

    #[test]
    fn a_reader_that_has_stopped_costs_lines_and_holds_nobody() {
        let (disk, Shelf { gate, content, .. }) = disk();
        let mut log = Log::to(disk).unwrap();
        for n in 0..QUEUE + 100 {
            log.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        // One may be in the thread's hand.
        let lost = log.lost.load(Ordering::Relaxed);
        assert!((99..=100).contains(&lost), "{lost}");
        drop(gate);
        log.finish();
        let content = String::from_utf8(content.lock().unwrap().clone()).unwrap();
        assert_eq!(content.lines().count() + usize::try_from(lost).unwrap(), QUEUE + 100);
        assert!(content.starts_with("0\n1\n2\n"));
    }

    #[test]
    fn a_full_disk_costs_lines_and_the_next_one_begins_a_line() {
        let (disk, Shelf { full, gate, content }) = disk();
        drop(gate);
        let mut log = Log::to(disk).unwrap();
        log.write_all(b"before\n").unwrap();
        log.finish();
        *full.lock().unwrap() = true;
        log.write_all(b"lost\n").unwrap();
        log.finish();
        assert_eq!(log.lost.load(Ordering::Relaxed), 1);
        *full.lock().unwrap() = false;
        log.write_all(b"after\n").unwrap();
        log.finish();
        assert_eq!(content.lock().unwrap().as_slice(), b"before\n\nafter\n");
        assert_eq!(log.lost.load(Ordering::Relaxed), 0, "told");
    }
}
