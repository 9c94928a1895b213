//! The audit log of a gateway that runs as a process: chained, rotated, restarted, tampered with, and out of space.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::steering::*;

fn verify(files: &[&Path]) -> Said {
    let mut arguments = vec!["audit".to_owned(), "verify".to_owned()];
    arguments.extend(files.iter().map(|file| file.display().to_string()));
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn count(path: &Path, event: &str) -> usize {
    let word = format!("\"event\":\"{event}\"");
    lines(path).iter().filter(|line| line.contains(&word)).count()
}

/// A stream that is opened and broken: one record.
fn visit(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"<nonsense/>").unwrap();
    farewell(&mut stream);
}

/// What is said up to the closing tag, or to the end; nobody is kept waiting for ours.
fn farewell(stream: &mut TcpStream) -> String {
    let mut heard = String::new();
    let mut octets = [0; 1024];
    while !heard.contains("</stream:stream>") {
        match stream.read(&mut octets) {
            Ok(n) if n > 0 => heard.push_str(std::str::from_utf8(&octets[..n]).unwrap()),
            _ => break,
        }
    }
    heard
}

#[test]
fn a_whole_log_is_called_whole_and_a_tampered_one_is_not() {
    let mut running = Running::start("");
    for _ in 0..5 {
        visit(running.address);
    }
    assert_eq!(running.stop().0, 0);
    let path = running.audit();
    let said = verify(&[&path]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("whole: "), "{said:?}");
    let whole = lines(&path);
    assert!(whole.len() >= 7 && whole.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    for at in 0..whole.len() {
        let mut cut = whole.clone();
        cut.remove(at);
        std::fs::write(&path, cut.join("\n") + "\n").unwrap();
        let said = verify(&[&path]);
        // The two ends are told by what was printed before: the first number, and the last digest.
        let inner = at > 0 && at < whole.len() - 1;
        assert_eq!(said.code == 1, inner, "line {at}: {said:?}");
        if inner {
            assert!(said.out.contains(&format!("audit.jsonl:{}: record", at + 1)), "{said:?}");
        }
    }
    let digest = said.out.trim().rsplit(' ').next().unwrap().to_owned();
    std::fs::write(&path, whole[..whole.len() - 1].join("\n") + "\n").unwrap();
    let file = path.display().to_string();
    assert_eq!(run(&["audit", "verify", &file, "--ends", &digest]).code, 1);
    std::fs::write(&path, whole.join("\n") + "\n").unwrap();
    let said = run(&["audit", "verify", &file, "--ends", &digest, "--format", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&report["whole"], &report["first"]), (&true.into(), &1.into()));
    assert_eq!(report["records"], whole.len());
    assert_eq!(report["after"], "0".repeat(64));
    assert_eq!(run(&["audit", "verify", "/nonexistent"]).code, 1);
    assert_eq!(run(&["audit", "verify"]).code, 64);
}

// Rotated by signal without losing a line, and a restart continues the chain.
#[test]
fn no_record_is_lost_over_renamed_files_and_restarts() {
    let mut running = Running::start("");
    let mut files: Vec<PathBuf> = Vec::new();
    // Each connection is one record; those that only probed the listener count too.
    let visitors = {
        let address = running.address;
        std::thread::spawn(move || (0..300).for_each(|_| visit(address)))
    };
    for turn in 0..5 {
        let aside = running.folder.path().join(format!("audit.{turn}"));
        std::thread::sleep(Duration::from_millis(20));
        std::fs::rename(running.audit(), &aside).unwrap();
        running.signal(Signal::USR1);
        let path = running.audit();
        until("the new file", || count(&path, "continued") == 1);
        files.push(aside);
    }
    visitors.join().unwrap();
    assert_eq!(running.stop().0, 0);
    running.again();
    visit(running.address);
    assert_eq!(running.stop().0, 0);
    files.push(running.audit());
    let all: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let said = verify(&all);
    assert_eq!(said.code, 0, "{said:?}");
    let closed: usize = all.iter().map(|file| count(file, "closed")).sum();
    assert!(closed >= 301, "{closed}");
    // A file left out shows.
    assert_eq!(verify(&[all[0], all[2], all[3]]).code, 1);
}

#[test]
fn a_gateway_that_was_killed_goes_on_where_its_log_ends() {
    let mut running = Running::start("");
    visit(running.address);
    let path = running.audit();
    until("a record", || count(&path, "closed") > 0);
    // The log of one that runs has no end yet, and that is no trouble.
    let said = verify(&[&path]);
    assert!(said.code == 0 && !said.out.contains("has no end"), "{said:?}");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    // Told at once, not only when the next one starts; nothing was taken away, so the chain is whole.
    let said = verify(&[&path]);
    assert!(
        said.code == 0 && said.out.contains("the last run has no end, and no gateway writes there"),
        "{said:?}"
    );
    // As a disk may have it after a crash: the last line in part.
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"time\":\"2026").unwrap();
    running.again();
    visit(running.address);
    assert_eq!(running.stop().0, 0);
    let said = verify(&[&path]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!((count(&path, "started"), count(&path, "stopped")), (2, 1));
    assert!(lines(&path).iter().any(|line| line.contains("\"torn\":13")), "{:#?}", lines(&path));
    // The chain is whole, and shows that somebody died over it.
    assert!(said.out.contains("follows an unclean end"), "{said:?}");
    let second = lines(&path).iter().filter(|line| line.contains("\"started\"")).nth(1).unwrap().clone();
    assert!(second.contains("\"unclean\":1") && second.contains("\"version\":"), "{second}");
    let file = path.display().to_string();
    let report = run(&["audit", "report", &file, "--format", "json"]);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!((&report["starts"], &report["stops"], &report["unclean"]), (&2.into(), &1.into(), &1.into()));
    // A stop and a start in good order are none.
    running.again();
    assert_eq!(running.stop().0, 0);
    assert_eq!(verify(&[&path]).out.matches("unclean").count(), 1);
    assert!(!verify(&[&path]).out.contains("has no end"));
    // Nor is a file that was moved aside one that somebody left.
    let aside = path.with_file_name("audit.jsonl.1");
    let text = lines(&path);
    std::fs::write(&aside, text[..text.len() - 1].join("\n") + "\n").unwrap();
    assert!(!verify(&[&aside]).out.contains("has no end"));
}

#[test]
fn a_log_that_grows_is_moved_aside_by_itself() {
    let mut running = Running::start(", rotate-at: 64KiB");
    for _ in 0..400 {
        visit(running.address);
    }
    assert_eq!(running.stop().0, 0);
    let mut files: Vec<PathBuf> = std::fs::read_dir(running.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("audit.jsonl."))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files.push(running.audit());
    let all: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    assert!(all.iter().all(|file| std::fs::metadata(file).unwrap().len() <= 64 * 1024));
    let said = verify(&all);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(all.iter().map(|file| count(file, "closed")).sum::<usize>() >= 400);
}

// A full disk is told, and what it costs is the operator's choice.
#[test]
fn on_a_full_disk_traffic_goes_on_or_is_refused_as_configured() {
    for refuse in [false, true] {
        let mut running = Running::start(if refuse { ", on-full: refuse" } else { "" });
        let path = running.audit();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        running.signal(Signal::USR1);
        until("the full disk is written to", || running.has_open(Path::new("/dev/full")));
        visit(running.address);
        let heard = || {
            let mut stream = TcpStream::connect(running.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // A connection that was turned away may be gone before the octets.
            let _ = stream.write_all(b"<nonsense/>");
            farewell(&mut stream)
        };
        if refuse {
            until("nobody is let in", || heard().is_empty());
        } else {
            std::thread::sleep(Duration::from_millis(600));
            assert!(heard().contains("stream:error"), "traffic goes on");
        }
        std::fs::remove_file(&path).unwrap();
        running.signal(Signal::USR1);
        until("all is well again", || heard().contains("stream:error"));
        // The reopening is a record itself, so the disk may be known to be full before the first visitor is let in.
        until("what waited is written", || count(&path, "closed") >= if refuse { 1 } else { 2 });
        let (code, log) = running.stop();
        assert_eq!(code, 0);
        assert!(log.contains("audit records cannot be written"), "{log}");
        assert!(log.contains("audit records are written again"), "{log}");
        assert_eq!(verify(&[&path]).code, 0);
    }
}
