//! A gateway beside a living one, and one that takes the place of another: whoever cannot have what it needs changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::steering::*;

fn edit(folder: &Path, from: &str, to: &str) {
    let file = folder.join("gatehouse.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

fn has(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    for word in words {
        assert!(said.out.contains(word) || said.err.contains(word), "{word}: {said:?}");
    }
}

fn config(folder: &Path) -> String {
    folder.join("gatehouse.yaml").display().to_string()
}

/// When it began, by its own word.
fn started(running: &Running) -> String {
    let said = run(&["status", "--format", "json", "--config", &config(running.folder.path())]);
    let value: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    value["snapshot"]["started"].as_str().unwrap().to_owned()
}

fn is_whole(running: &Running) {
    has(&run(&["audit", "verify", &running.audit().display().to_string()]), 0, &[]);
}

fn end(mut running: Running) {
    let (code, log) = running.stop();
    assert_eq!(code, 0, "{log}");
}

fn free() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

// The chain of the audit log is of one writer, and so is what is remembered: who finds another gateway there has left no trace.
#[test]
fn a_second_gateway_beside_a_living_one_writes_nothing() {
    let (folder, address) = prepare("");
    fs::create_dir(folder.path().join("state")).unwrap();
    edit(folder.path(), "admin:", "state: state\nadmin:");
    let command = Running::command(folder.path());
    let running = Running::of(folder, address, command);
    let folder = running.folder.path();
    let second = || run(&["run", "--config", &config(folder)]);
    has(
        &second(),
        78,
        &[
            "cannot listen on",
            &address.to_string(),
            "another gateway answers there",
            "another gateway writes there",
        ],
    );
    // Only the files are the same.
    let (other, sockets) = (free().to_string(), ["socket: control.sock", "socket: other.sock"]);
    edit(folder, &address.to_string(), &other);
    edit(folder, sockets[0], sockets[1]);
    has(
        &second(),
        78,
        &["state: error: the folder of what outlives a restart cannot be used: another gateway writes there"],
    );
    edit(folder, "state: state\n", "");
    let words = [
        "audit.jsonl: error: the audit file cannot be written: another gateway writes there",
        "end that one",
    ];
    has(&second(), 78, &words);
    assert!(!folder.join("other.sock").exists());
    edit(folder, &other, &address.to_string());
    edit(folder, sockets[1], sockets[0]);
    assert_eq!(fs::read_to_string(running.audit()).unwrap().matches("\"started\"").count(), 1);
    assert_eq!(fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(), 1);
    is_whole(&running);
    assert!(running.socket().exists());
    end(running);
}

// What else holds for the same file is taken over by the one who writes there.
#[test]
fn a_reload_changes_the_terms_of_the_audit_file_and_its_chain_goes_on() {
    let running = Running::start("");
    let folder = running.folder.path();
    edit(folder, "audit.jsonl }", "audit.jsonl, rotate-at: 1MiB, on-full: refuse }");
    has(&run(&["reload", "--config", &config(folder)]), 0, &["audit.rotate-at", "reloaded"]);
    is_whole(&running);
    edit(folder, "audit.jsonl,", "other.jsonl,");
    has(&run(&["reload", "--config", &config(folder)]), 0, &["reloaded"]);
    is_whole(&running);
    let other = folder.join("other.jsonl").display().to_string();
    has(&run(&["audit", "verify", &other]), 0, &[]);
    let text = fs::read_to_string(running.audit()).unwrap();
    assert_eq!((text.matches("\"started\"").count(), text.matches("\"stopped\"").count()), (1, 1), "{text}");
    end(running);
}

// "`reload --plan` must try the same binds that reload would", and a restart looks before the living process lets go.
#[test]
fn what_cannot_be_opened_is_told_by_plan_reload_and_restart_and_nothing_changes() {
    let running = Running::start("");
    let folder = running.folder.path();
    let begun = started(&running);
    let good = fs::read_to_string(folder.join("gatehouse.yaml")).unwrap();
    // Not ports that the kernel gives away: of them the other half is taken now and then.
    let mut ports = (0..5_000).map(|n| 25_000 + u16::try_from((std::process::id() + n) % 5_000).unwrap());
    let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let datagrams = UdpSocket::bind(("127.0.0.1", port.unwrap())).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = taken.local_addr().unwrap().to_string();
    let udp = datagrams.local_addr().unwrap().to_string();
    let inside = free();
    let listen = format!("listen: [{{ flow: inside, address: \"{inside}\", from: [127.0.0.1/32] }}, ");
    let steered = |at: &str| {
        let text = good.replace("listen: [", &listen);
        format!("{text}steering: {{ listen: \"{at}\", from: [127.0.0.1/32], answer: 127.0.0.1 }}\n")
    };
    let admin = good.replace("admin: {", &format!("admin: {{ http: \"{tcp}\","));
    let door = good.replace("listen: [", &format!("listen: [{{ flow: c2s, address: \"{tcp}\" }}, "));
    let elsewhere = good.replace("control.sock", "missing/control.sock");
    let audit = good.replace("audit.jsonl", "missing/audit.jsonl");
    fs::create_dir(folder.join("policy.d")).unwrap();
    let no_file = good.replace("audit.jsonl", "policy.d");
    for (what, text, words) in [
        ("admin", admin, format!("admin cannot listen on {tcp}")),
        ("a listener", door, format!("cannot listen on {tcp}")),
        ("steering over TCP", steered(&tcp), format!("steering cannot listen on {tcp}")),
        ("steering over UDP", steered(&udp), format!("steering cannot listen on {udp}")),
        ("the control socket", elsewhere, "missing".to_owned()),
        ("the folder of the audit file", audit, "missing".to_owned()),
        ("the audit file", no_file, "the audit file cannot be written".to_owned()),
    ] {
        fs::write(folder.join("gatehouse.yaml"), text).unwrap();
        for command in [&["reload", "--plan"][..], &["reload"], &["restart"]] {
            let socket = running.socket().display().to_string();
            let said = run(&[command, &["--socket", &socket]].concat());
            println!("{what}, {command:?}");
            has(&said, 1, &[&words, "what was in force stays in force"]);
        }
    }
    fs::write(folder.join("gatehouse.yaml"), &good).unwrap();
    assert_eq!(started(&running), begun);
    is_whole(&running);
    // Free again, all of it is taken over at once, and those who connect meanwhile wait.
    drop((taken, datagrams));
    let all = steered(&udp).replace("admin: {", &format!("admin: {{ http: \"{tcp}\","));
    fs::write(folder.join("gatehouse.yaml"), all).unwrap();
    has(&run(&["restart", "--config", &config(folder)]), 0, &["restarting: ", "restarted"]);
    assert_ne!(started(&running), begun);
    let ready = || std::net::TcpStream::connect(&tcp).is_ok();
    assert!(ready());
    // The same addresses once more, with somebody at the door all the time.
    let at = tcp.clone();
    let asking = std::thread::spawn(move || {
        for _ in 0..400 {
            std::net::TcpStream::connect(&at).expect("nobody is refused at the watching door");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    has(&run(&["restart", "--config", &config(folder)]), 0, &["restarted"]);
    asking.join().unwrap();
    // Each restart is one record, whoever looked meanwhile whether it had come about.
    let acts = |action: &str| {
        let text = fs::read_to_string(running.audit()).unwrap();
        text.matches(&format!("\"action\":\"{action}\"")).count()
    };
    until("each restart is written down, those that were refused too", || acts("restart") == 9);
    assert_eq!((acts("reload"), acts("reload-plan"), acts("status")), (7, 0, 0));
    end(running);
}

/// What is answered on this Unix socket.
fn ask(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

// Item 7: "on a Unix socket": served to our own, moved by a reload, there again after a restart and after a kill, refused where
// somebody answers or something else is, and gone at the end.
#[test]
fn the_status_page_is_served_on_a_unix_socket() {
    let (folder, address) = prepare("");
    edit(folder.path(), "admin: {", "admin: { http: \"unix:status.sock\", status: on,");
    has(&run(&["check", "--config", &config(folder.path())]), 0, &["0 errors"]);
    // As a process leaves it that is killed.
    drop(UnixListener::bind(folder.path().join("status.sock")).unwrap());
    let command = Running::command(folder.path());
    let running = Running::of(folder, address, command);
    let folder = running.folder.path();
    let file = config(folder);
    let tell = |words: &[&str]| run(&[words, &["--config", &file]].concat());
    let at = |name: &str| folder.join(name);
    let page = ask(&at("status.sock"), "/status");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("hall.example"), "{page}");
    assert!(ask(&at("status.sock"), "/status.json").contains("\"backends\""));
    assert!(ask(&at("status.sock"), "/metrics").contains("gatehouse_build_info"));
    assert_eq!(fs::metadata(at("status.sock")).unwrap().permissions().mode() & 0o777, 0o660);
    // Another gateway there is told, and changes nothing.
    has(&tell(&["run"]), 78, &["status.sock: error: ", "another gateway answers there"]);
    // The path alone, and what is served there.
    edit(folder, "unix:status.sock", "unix:other.sock");
    let change = format!("unix:{} -> unix:{}", at("status.sock").display(), at("other.sock").display());
    has(&tell(&["reload", "--plan"]), 0, &["admin.http: ", &change]);
    assert!(ask(&at("status.sock"), "/healthz").starts_with("HTTP/1.1 200") && !at("other.sock").exists());
    has(&tell(&["reload"]), 0, &["admin.http: ", &change]);
    assert!(ask(&at("other.sock"), "/healthz").starts_with("HTTP/1.1 200") && !at("status.sock").exists());
    edit(folder, "status: on", "status: off");
    has(&tell(&["reload"]), 0, &["reloaded"]);
    assert!(ask(&at("other.sock"), "/status").starts_with("HTTP/1.1 404"));
    has(&tell(&["config", "dump"]), 0, &["admin.http: unix:", "other.sock"]);
    // What cannot be had is refused by each, and what was in force stays.
    let _living = UnixListener::bind(at("living.sock")).unwrap();
    for (name, words) in [
        ("living.sock", ["living.sock: error: ", "another gateway answers there"]),
        ("chain.pem", ["chain.pem: error: something that is no socket is there", "write another path"]),
        ("missing/status.sock", ["missing", "does not exist"]),
    ] {
        edit(folder, "unix:other.sock", &format!("unix:{name}"));
        for command in [&["reload", "--plan"][..], &["reload"], &["restart"]] {
            has(&run(&[command, &["--socket", &running.socket().display().to_string()]].concat()), 1, &words);
        }
        edit(folder, &format!("unix:{name}"), "unix:other.sock");
        assert!(ask(&at("other.sock"), "/healthz").starts_with("HTTP/1.1 200"));
    }
    assert!(fs::read_to_string(at("chain.pem")).unwrap().contains("CERTIFICATE"));
    // A restart with the same socket, and with each of the other kind.
    let tcp = free().to_string();
    for (from, to) in [("", ""), ("unix:other.sock", &tcp), (&tcp, "unix:status.sock")] {
        edit(folder, from, to);
        has(&tell(&["restart"]), 0, &["restarted"]);
        match to == tcp {
            true => assert!(std::net::TcpStream::connect(&tcp).is_ok() && !at("other.sock").exists()),
            false => {
                let name = if to.is_empty() { "other.sock" } else { "status.sock" };
                assert!(ask(&at(name), "/readyz").starts_with("HTTP/1.1 200"));
            }
        }
    }
    let left = at("status.sock");
    let mut running = running;
    let (code, log) = running.stop();
    assert!(code == 0 && !left.exists(), "{log}");
}

// An upgrade that went wrong: what lies there in the place of the program is asked first.
#[test]
fn a_restart_into_a_program_that_will_not_live_by_the_files_is_refused() {
    let (folder, address) = prepare("");
    let program = folder.path().join("gatehouse");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["run", "--config"]).arg(folder.path().join("gatehouse.yaml"));
    let running = Running::of(folder, address, command);
    let config = config(running.folder.path());
    let begun = started(&running);
    let other = running.folder.path().join("other");
    fs::write(&other, "#!/bin/sh\necho what is a gatehouse.yaml\nexit 78\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&other, &program).unwrap();
    let words = ["what is a gatehouse.yaml", "will not live by", "ended with 78"];
    has(&run(&["restart", "--config", &config]), 1, &words);
    assert_eq!(started(&running), begun);
    end(running);
}

// A back-end that is elsewhere from now on is looked at there at once, however long the look at the old address takes.
#[test]
fn a_back_end_at_a_new_address_is_looked_at_at_once() {
    let (folder, address) = prepare("");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let old = silent.local_addr().unwrap().to_string();
    edit(folder.path(), "127.0.0.1:9\"] }\n    federation", &format!("{old}\"] }}\n    federation"));
    let command = Running::command(folder.path());
    let running = Running::of(folder, address, command);
    let folder = running.folder.path();
    silent.accept().unwrap();
    let new = free().to_string();
    edit(folder, &old, &new);
    has(&run(&["reload", "--config", &config(folder)]), 0, &["backend.s2s", "reloaded"]);
    let begun = std::time::Instant::now();
    let told = || {
        let said = run(&["status", "--format", "json", "--config", &config(folder)]);
        let value: Value = serde_json::from_str(&said.out).unwrap();
        value["snapshot"]["backends"].to_string()
    };
    assert!(!told().contains(&old), "{}", told());
    until("a look at the new address", || told().contains(&new) && told().contains("down"));
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
    end(running);
}
