//! The audit file over rotation, restart, crash and a full disk.

use super::*;
use crate::run::chain::Checker;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new([]).unwrap())
}

fn params(file: &Path) -> Params {
    Params { file: file.to_owned(), refuse: false, rotate_at: None }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Checks the chain over these texts and gives the events in their order.
fn events(texts: &[String]) -> Vec<String> {
    let mut checker = Checker::default();
    let mut events = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        checker.line(line.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {line}"));
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        events.push(record["event"].as_str().map_or_else(|| record["x"].to_string(), str::to_owned));
    }
    events
}

#[test]
fn records_are_chained_lines_in_order_over_a_rotation_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(params(&path), metrics()).unwrap();
    audit.record("{\"x\":1}".into());
    // The thread works in order, so it is through with the line when a second one is in the file.
    audit.finish();
    let audit = Audit::open(params(&path), metrics()).unwrap();
    audit.record("{\"x\":2}".into());
    while !read(&path).contains("\"x\":2") {
        std::thread::yield_now();
    }
    let old = dir.path().join("old");
    std::fs::rename(&path, &old).unwrap();
    audit.record("{\"x\":3}".into());
    audit.reopen();
    audit.record("{\"x\":4}".into());
    audit.finish();
    assert_eq!(
        events(&[read(&old), read(&path)]),
        ["started", "1", "stopped", "started", "2", "3", "continued", "4", "stopped"]
    );
    assert!(read(&path).starts_with('{') && read(&path).contains("continued"));
}

// Two writers would tear the chain; a file that was not moved is still that of the one.
#[test]
fn a_file_has_one_writer_until_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let first = Audit::open(params(&path), metrics()).unwrap();
    let open: fn(&Path) -> io::Result<()> = |path| Audit::open(params(path), metrics()).map(drop);
    for other in [open, Audit::rehearse] {
        assert_eq!(other(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }
    first.reopen();
    first.record("{\"x\":1}".into());
    first.change(&Params { rotate_at: Some(1), ..params(&path) });
    first.record("{\"x\":2}".into());
    first.finish();
    Audit::open(params(&path), metrics()).unwrap().finish();
    let aside = dir.path().join("aside.jsonl");
    Audit::rehearse(&aside).unwrap();
    assert!(!aside.exists());
    assert!(std::fs::read_dir(dir.path()).unwrap().count() > 1, "moved aside since the change");
}

#[test]
fn a_file_that_grows_is_moved_aside_without_losing_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(Params { rotate_at: Some(4096), ..params(&path) }, metrics()).unwrap();
    for n in 0..500 {
        audit.record(format!("{{\"x\":{n}}}"));
    }
    audit.finish();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The file itself is the newest; the others sort by the number of their last record.
    files.sort();
    files.rotate_left(1);
    assert!(files.len() > 5, "{files:?}");
    assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() <= 4096));
    let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
    let numbers: Vec<String> =
        events(&texts).into_iter().filter(|event| event.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_record_that_a_crash_cut_short_is_taken_off_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(params(&path), metrics()).unwrap();
    audit.record("{\"x\":1}".into());
    audit.finish();
    let whole = read(&path);
    std::fs::write(&path, format!("{whole}{{\"x\":2,\"n\":4,\"prev")).unwrap();
    Audit::open(params(&path), metrics()).unwrap().finish();
    let text = read(&path);
    assert!(text.starts_with(&whole) && text.contains("\"torn\":18"), "{text}");
    assert_eq!(events(&[text]), ["started", "1", "stopped", "started", "stopped"]);
    // Where only the line end is missing, the record stays.
    std::fs::write(&path, whole.trim_end()).unwrap();
    Audit::open(params(&path), metrics()).unwrap().finish();
    assert_eq!(events(&[read(&path)]), ["started", "1", "stopped", "started", "stopped"]);
}

#[test]
fn a_full_disk_loses_records_loudly_and_holds_up_nobody() {
    let metrics = metrics();
    let audit = Audit::open(params(Path::new("/dev/full")), Arc::clone(&metrics)).unwrap();
    for _ in 0..10 {
        audit.record("{}".into());
    }
    audit.finish();
    let text = metrics.text().unwrap();
    // The ten, and the one that says that the log was opened.
    assert!(text.contains("gatehouse_audit_records_lost_total 11"), "{text}");
    assert!(text.contains("gatehouse_audit_records_total 0"), "{text}");
    assert!(text.contains("gatehouse_audit_failing 1"), "{text}");
    assert!(!audit.refuses(), "it was told to go on");
}

#[test]
fn records_wait_for_a_disk_that_comes_back_and_meanwhile_nobody_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let metrics = metrics();
    let audit = Audit::open(Params { refuse: true, ..params(&path) }, Arc::clone(&metrics)).unwrap();
    for n in 0..3 {
        audit.record(format!("{{\"x\":{n}}}"));
    }
    while !audit.refuses() {
        std::thread::yield_now();
    }
    std::fs::remove_file(&path).unwrap();
    audit.reopen();
    while audit.refuses() {
        std::thread::yield_now();
    }
    audit.finish();
    assert_eq!(events(&[read(&path)]), ["continued", "started", "0", "1", "2", "stopped"]);
    let text = metrics.text().unwrap();
    assert!(text.contains("gatehouse_audit_records_lost_total 0"), "{text}");
    assert!(text.contains("gatehouse_audit_failing 0"), "{text}");
}

#[test]
fn what_was_lost_stands_in_the_file_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let audit = Audit::open(params(&path), metrics()).unwrap();
    while !audit.shared.failing.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    audit.shared.lose(7);
    std::fs::remove_file(&path).unwrap();
    audit.reopen();
    audit.finish();
    let text = read(&path);
    assert!(text.contains("\"event\":\"lost\"") && text.contains("\"records\":7"), "{text}");
    assert_eq!(events(&[text]), ["lost", "continued", "started", "stopped"]);
}

// LOG-01: a disk that hangs (here a pipe that nobody reads) holds up the end of the gateway for a short time only.
#[test]
fn a_disk_that_hangs_does_not_hold_up_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let audit = Audit::open(params(&path), metrics()).unwrap();
    // More than a pipe holds; then the thread hangs in a write.
    for _ in 0..QUEUE {
        audit.record(format!("{{\"x\":\"{}\"}}", "y".repeat(100)));
    }
    let begun = std::time::Instant::now();
    audit.finish();
    assert!(begun.elapsed() < LAST * 10, "{:?}", begun.elapsed());
}
