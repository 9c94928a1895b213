//! The audit log: one JSON object a line, written by a thread of its own.
//!
//! The data path hands over a line and goes on; a full queue or a full disk loses records, which is counted and told
//! once, and never holds up a stanza. The file is opened again on request, so that it can be rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::metrics::Metrics;

/// The way to the audit file.
#[derive(Debug)]
pub struct Audit {
    queue: SyncSender<Job>,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Job {
    Line(String),
    Reopen,
    Stop,
}

impl Audit {
    /// Opens the file, for appending, and starts its thread.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not started.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> io::Result<Self> {
        let mut writer = Writer { path: path.to_owned(), file: append(path)?, failing: false, torn: false };
        let (queue, jobs) = sync_channel(QUEUE);
        let counts = Arc::clone(&metrics);
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.work(&jobs, &counts))?;
        Ok(Self { queue, metrics, thread: Mutex::new(Some(thread)) })
    }

    /// Has one record written.
    pub fn record(&self, line: String) {
        if self.queue.try_send(Job::Line(line)).is_err() {
            self.metrics.audit_lost();
        }
    }

    /// Has the file opened again: it may have been renamed.
    pub fn reopen(&self) {
        // A full queue means that the thread is stuck on the disk; it then opens nothing either.
        let _dropped = self.queue.try_send(Job::Reopen);
    }

    /// Writes what waits, and ends.
    pub fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && self.queue.send(Job::Stop).is_ok()
        {
            let _ended = thread.join();
        }
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    failing: bool,
    /// The last line may have been written in part.
    torn: bool,
}

impl Writer {
    fn work(&mut self, jobs: &Receiver<Job>, metrics: &Metrics) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Line(line) => match self.write(&line) {
                    Ok(()) => {
                        metrics.audited();
                        if self.failing {
                            self.failing = false;
                            tracing::warn!(file = %self.path.display(), "audit records are written again");
                        }
                    }
                    Err(error) => {
                        metrics.audit_lost();
                        if !self.failing {
                            self.failing = true;
                            tracing::error!(file = %self.path.display(), %error, "audit records are lost");
                        }
                    }
                },
                Job::Reopen => match append(&self.path) {
                    Ok(file) => {
                        self.file = file;
                        self.torn = false;
                    }
                    Err(error) => {
                        tracing::error!(file = %self.path.display(), %error, "the audit file cannot be opened again; the old one stays open");
                    }
                },
                Job::Stop => return,
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let mut octets = Vec::with_capacity(line.len() + 2);
        if self.torn {
            octets.push(b'\n');
        }
        octets.extend_from_slice(line.as_bytes());
        octets.push(b'\n');
        let written = self.file.write_all(&octets);
        self.torn = written.is_err();
        written
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Records that may wait for the disk.
const QUEUE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new([]).unwrap())
    }

    #[test]
    fn records_are_lines_in_order_and_survive_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::open(&path, metrics()).unwrap();
        audit.record("{\"n\":1}".into());
        audit.reopen();
        // The thread works in order, so the rename below happens before or after the first line; never between.
        let old = dir.path().join("old");
        std::fs::rename(&path, &old).unwrap();
        audit.reopen();
        audit.record("{\"n\":2}".into());
        audit.finish();
        let read = |p: &Path| std::fs::read_to_string(p).unwrap_or_default();
        assert_eq!(format!("{}{}", read(&old), read(&path)), "{\"n\":1}\n{\"n\":2}\n");
        assert!(read(&path).ends_with("{\"n\":2}\n"));
    }

    #[test]
    fn a_full_disk_loses_records_loudly_and_holds_up_nobody() {
        let metrics = metrics();
        let audit = Audit::open(Path::new("/dev/full"), Arc::clone(&metrics)).unwrap();
        for _ in 0..10 {
            audit.record("{}".into());
        }
        audit.finish();
        let text = metrics.text().unwrap();
        assert!(text.contains("gatehouse_audit_records_lost_total 10"), "{text}");
        assert!(text.contains("gatehouse_audit_records_total 0"), "{text}");
    }
}
