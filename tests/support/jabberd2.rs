//! jabberd2, from Debian's package: a router and the three processes around it.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::fill;
use super::release::Release;
use super::server::{PASSWORD, Place, SECOND};
use super::world::Process;

/// As a plain legacy server, from `deploy/jabberd2/`.
pub fn legacy(release: Release, place: &Place<'_>) -> Vec<Process> {
    let host = place.host;
    let directory = host.directory();
    let database = directory.join("jabberd2.sqlite");
    make_database(release, &database, place);
    let (address, run, modules) = (place.address.to_string(), directory.to_string_lossy(), modules(release));
    let (database, modules) = (database.to_string_lossy(), modules.to_string_lossy());
    let all: [(&str, &str); 7] = [
        ("DOMAIN", place.domain),
        ("ADDRESS", &address),
        ("RUN", &run),
        ("CONFIG", &run),
        ("DATABASE", &database),
        ("MODULES", &modules),
        ("SECRET", SECRET),
    ];
    let wanted: [(&str, &[&str]); 5] = [
        ("router-users", &["SECRET"]),
        ("router", &["RUN", "CONFIG"]),
        ("sm", &["DOMAIN", "DATABASE", "MODULES", "RUN", "SECRET"]),
        ("s2s", &["ADDRESS", "RUN", "SECRET"]),
        ("c2s", &["DOMAIN", "ADDRESS", "DATABASE", "MODULES", "RUN", "SECRET"]),
    ];
    for (name, places) in wanted {
        let values: Vec<_> = all.iter().copied().filter(|(place, _)| places.contains(place)).collect();
        fill(&format!("deploy/jabberd2/{name}.xml"), &values, &directory.join(format!("{name}.xml")));
    }
    started(release, place)
}

/// As a plain legacy server, from the files that `gatehouse init --server jabberd2` has written for it.
pub fn legacy_of(release: Release, place: &Place<'_>, written: &Path) -> Vec<Process> {
    let directory = place.host.directory();
    let database = directory.join("jabberd2.sqlite");
    make_database(release, &database, place);
    let here = directory.to_string_lossy();
    let moved = [
        ("/var/lib/jabberd2/jabberd2.db", &*database.to_string_lossy()),
        ("/etc/jabberd2", &here),
        ("/run/jabberd2", &here),
    ];
    for name in ["router-users.xml", "router.xml", "sm.xml", "s2s.xml", "c2s.xml"] {
        let text = fs::read_to_string(written.join(name)).expect("init has written it");
        super::write(&directory.join(name), &super::moved(text, &moved));
    }
    started(release, place)
}

fn started(release: Release, place: &Place<'_>) -> Vec<Process> {
    let (host, directory) = (place.host, place.host.directory());
    let limit = Duration::from_secs(20);
    // Where it is started again, what it has said before is no word of this one.
    let before = sm_log(directory).len();
    let spawn = |name: &str| {
        let file = directory.join(format!("{name}.xml"));
        host.spawn_of(release, name, &format!("jabberd2-{name}"), &["-c", &file.to_string_lossy()], &[])
    };
    let mut router = spawn("router");
    router.listening(host, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5347), limit);
    let (mut sm, mut s2s, mut c2s) = (spawn("sm"), spawn("s2s"), spawn("c2s"));
    let place = |port| SocketAddr::new(IpAddr::V4(place.address), port);
    c2s.listening(host, place(5222), limit);
    s2s.listening(host, place(5269), limit);
    // The ports open before the router knows who serves what.
    sm.ready("the session manager to be online", limit, || {
        sm_online(sm_log(directory).get(before..).unwrap_or_default())
            .then_some(())
            .ok_or_else(|| "not said yet".to_owned())
    });
    vec![c2s, s2s, sm, router]
}

fn sm_log(directory: &Path) -> String {
    fs::read_to_string(directory.join("sm.log")).unwrap_or_default()
}

fn sm_online(log: &str) -> bool {
    log.contains("ready for sessions") || log.contains("sm ready")
}

/// The packaged schema, one account in it, and that account marked as in use.
fn make_database(release: Release, path: &Path, place: &Place<'_>) {
    // It is started again.
    if path.exists() {
        return;
    }
    let packed = release.root().join(SCHEMA);
    let schema = Command::new("zcat").arg(&packed).output().expect("zcat runs");
    assert!(schema.status.success(), "{}: {}", packed.display(), String::from_utf8_lossy(&schema.stderr));
    let domain = place.domain;
    let account = [place.user, SECOND].map(|user| {
        format!(
            "INSERT INTO authreg (username, realm, password) VALUES ('{user}', '{domain}', '{PASSWORD}');\n\
             INSERT INTO active (\"collection-owner\", time) VALUES ('{user}@{domain}', 1);\n"
        )
    });
    let account = account.concat();
    let mut sqlite = Command::new("sqlite3")
        .args(["-batch", "-bail"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("sqlite3 is installed: tests/run sees to it");
    let mut input = sqlite.stdin.take().expect("a pipe");
    input
        .write_all(&schema.stdout)
        .and_then(|()| input.write_all(account.as_bytes()))
        .expect("sqlite3 reads");
    drop(input);
    assert!(sqlite.wait().expect("sqlite3 ends").success(), "the packaged schema no longer loads");
}

/// Where the package keeps its modules, as the release sees it.
fn modules(release: Release) -> PathBuf {
    let root = release.root();
    let machines = fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
    let mut folders = machines.map(|entry| entry.path().join("jabberd2"));
    let found = folders.find(|path| path.is_dir()).expect("jabberd2 is there: tests/run sees to it");
    Path::new("/").join(found.strip_prefix(&root).expect("a path below the root"))
}

const SCHEMA: &str = "usr/share/doc/jabberd2/db-setup.sqlite.gz";
const SECRET: &str = "inner door";
