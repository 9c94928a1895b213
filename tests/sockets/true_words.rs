//! One finding for one mistake, what is in the way named as what it is, and parts of the gateway that change places.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::steering::{Running, Said, prepare, run, until};

fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn has(said: &Said, code: i32, words: &[&str]) {
    let all = format!("{}{}", said.out, said.err);
    assert_eq!(said.code, code, "{all}");
    for word in words {
        assert!(all.contains(word), "{word:?} is not in:\n{all}");
    }
}

/// The findings of `check`.
fn findings(folder: &Path) -> Vec<String> {
    let config = folder.join("gatehouse.yaml").display().to_string();
    let said = run(&["check", "--config", &config, "--format", "json"]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let all = report["findings"].as_array().unwrap().iter();
    let found =
        all.map(|f| format!("{}: {}; {}", f["severity"], f["message"], f["remedy"]).replace(['"', '\\'], ""));
    // The files of the test are made with the mode of any.
    found.filter(|found| !found.contains("the private key is open")).collect()
}

fn openssl(args: &[&str]) {
    let ended = Command::new("openssl").args(args).stderr(Stdio::null()).status().unwrap();
    assert!(ended.success(), "{args:?}");
}

#[test]
fn what_follows_from_a_mistake_is_not_told_beside_it() {
    type Case<'a> = (&'a dyn Fn(&Path), &'a str, &'a str);
    let config =
        |from: &'static str, to: &'static str| move |folder: &Path| edit(folder, "gatehouse.yaml", from, to);
    let steering = "steering: { listen: 127.0.0.1, from: [127.0.0.0/8], answer: 127.0.0.1 }\nlisten: [";
    let inside_everywhere =
        format!("{steering}{{ flow: inside, address: \"0.0.0.0:15269\", from: [127.0.0.0/8] }}, ").leak();
    let elsewhere = |include: &'static str| {
        move |folder: &Path| {
            let text = fs::read_to_string(folder.join("gatehouse.yaml")).unwrap();
            let (before, rest) = text.split_once("domains:").unwrap();
            let (_, after) = rest.split_once("policies: [policy.yaml]").unwrap();
            fs::write(folder.join("gatehouse.yaml"), format!("{before}include: [{include}]{after}")).unwrap();
        }
    };
    let encrypted = |form: &'static [&'static str]| {
        move |folder: &Path| {
            let (key, new) = (folder.join("key.pem"), folder.join("new.pem"));
            let ends = ["-in", key.to_str().unwrap(), "-passout", "pass:x", "-out", new.to_str().unwrap()];
            openssl(&[form, &ends].concat());
            fs::rename(new, key).unwrap();
        }
    };
    let cases: &[Case<'_>] = &[
        (&config("listen: [", inside_everywhere), "error", "would be open to everybody"),
        (
            &config(
                "listen: [",
                "listen: [{ flow: inside, address: \"127.0.0.1:15269\", from: [10.0.0.0/24, 127.0.0.1x] }, ",
            ),
            "error",
            "127.0.0.1x is neither an address",
        ),
        (&config("[policy.yaml]", "[none.d/*.yaml]"), "error", "none.d cannot be read"),
        (&config("[policy.yaml]", "[p*.yml]"), "warning", "no file is called like"),
        (&config("version: v1", "version: v1\ninclude: [none.d/*.yaml]"), "error", "none.d cannot be read"),
        (&elsewhere("none.d/*.yaml"), "error", "none.d cannot be read"),
        (&elsewhere("none*.yaml"), "error", "no file is called like"),
        (
            &|folder| edit(folder, "policy.yaml", "[a.example]", "[a.example], expires: 2020-01-31"),
            "warning",
            "this rule expired",
        ),
        (&encrypted(&["ec", "-aes128"]), "error", "the key is encrypted"),
        (&encrypted(&["pkcs8", "-topk8"]), "error", "the key is encrypted"),
    ];
    for (make, severity, words) in cases {
        let (folder, _) = prepare("");
        make(folder.path());
        let found = findings(folder.path());
        let text = fs::read_to_string(folder.path().join("gatehouse.yaml")).unwrap();
        assert!(
            found.len() == 1 && found[0].starts_with(severity) && found[0].contains(words),
            "{words}: {found:#?}\n{text}"
        );
    }
}

#[test]
fn what_cannot_go_well_together_is_an_error_of_check() {
    let audit = "audit: { file: audit.jsonl }";
    let admin = "admin: { socket: control.sock }";
    let table = [
        (audit, "audit: { file: gatehouse.yaml }", "the gateway reads this file"),
        (audit, "audit: { file: ./policy.yaml }", "the gateway reads this file"),
        (audit, "audit: { file: chain.pem }", "the gateway reads this file"),
        (audit, "audit: { file: link.pem }", "the gateway reads this file"),
        (audit, "audit: { file: control.sock }", "a socket of the gateway have one path"),
        (audit, "state: kept\naudit: { file: kept/quarantine.json }", "what outlives a restart"),
        (audit, "state: kept\naudit: { file: kept/lock }", "what outlives a restart"),
        (admin, "admin: { http: \"127.0.0.1:8\" }", "127.0.0.1:8 is the gateway's own `admin`"),
        (
            "listen: [",
            "steering: { listen: \"127.0.0.1:8\", from: [127.0.0.0/8], answer: 127.0.0.1 }\nlisten: [{ flow: inside, address: \
             \"127.0.0.1:15269\", from: [127.0.0.0/8] }, ",
            "127.0.0.1:8 is the gateway's own `steering`",
        ),
        (
            "listen: [",
            "listen: [{ flow: s2s, address: \"[::]:8\" }, ",
            "[::]:8 is the gateway's own listener, and takes in 127.0.0.1:8",
        ),
        (
            "listen: [",
            "listen: [{ flow: s2s, tls: direct, address: \"0.0.0.0:15222\" }, { flow: s2s, address: \"[::]:15222\" }, ",
            "[::]:15222 cannot be had beside 0.0.0.0:15222",
        ),
        (
            "listen: [",
            "admin: { http: \"127.0.0.1:15222\" }\nlisten: [{ flow: s2s, address: \"[::]:15222\" }, ",
            "127.0.0.1:15222 cannot be had beside [::]:15222",
        ),
    ];
    for (from, to, words) in table {
        let (folder, _) = prepare("");
        fs::create_dir(folder.path().join("kept")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("key.pem"), folder.path().join("link.pem")).unwrap();
        if to.starts_with("admin: { http: \"127.0.0.1:15222\"") {
            edit(folder.path(), "gatehouse.yaml", admin, "");
        }
        edit(folder.path(), "gatehouse.yaml", "s2s: [\"127.0.0.1:9\"]", "s2s: [\"127.0.0.1:8\"]");
        edit(folder.path(), "gatehouse.yaml", from, to);
        let found = findings(folder.path());
        let severity = if words.contains("takes in") { "warning" } else { "error" };
        assert!(
            found.len() == 1 && found[0].starts_with(severity) && found[0].contains(words),
            "{to}: {found:#?}"
        );
    }
}

/// Ports that nobody has at any address.
fn ports<const N: usize>() -> [u16; N] {
    let first = 25_000 + u16::try_from(std::process::id() % 5_000).unwrap();
    let mut free = (first..).filter(|port| {
        TcpListener::bind(("0.0.0.0", *port)).is_ok() && UdpSocket::bind(("0.0.0.0", *port)).is_ok()
    });
    std::array::from_fn(|_| free.next().unwrap())
}

/// Ports of the world's listener, of the inside listener, of the watching door and of the steering answers.
fn arranged(folder: &Path, [world, inside, admin, steering]: [u16; 4]) {
    let path = folder.join("gatehouse.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let kept = text.lines().filter(|line| {
        !["listen:", "admin:", "steering:"].iter().any(|key| line.starts_with(key)) && !line.is_empty()
    });
    let text: String = kept.map(|line| format!("{line}\n")).collect();
    let more = format!(
        "listen: [{{ flow: s2s, address: \"127.0.0.1:{world}\" }}, {{ flow: inside, address: \"127.0.0.1:{inside}\", from: \
         [127.0.0.0/8] }}]\nadmin: {{ socket: control.sock, http: \"127.0.0.1:{admin}\", status: on }}\n\
         steering: {{ listen: \"127.0.0.1:{steering}\", from: [127.0.0.0/8], answer: 127.0.0.1 }}\n"
    );
    fs::write(path, text + &more).unwrap();
}

/// What the one that answers at this port says to these words.
fn says(port: u16, words: &str) -> String {
    says_at((Ipv4Addr::LOCALHOST, port), words)
}

fn says_at(at: (Ipv4Addr, u16), words: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(words.as_bytes()).unwrap();
    let mut heard = [0; 4096];
    let count = stream.read(&mut heard).unwrap_or(0);
    String::from_utf8_lossy(&heard[..count]).into_owned()
}

/// That each part answers at its port, and as itself.
fn answer([world, inside, admin, steering]: [u16; 4]) {
    let stream = |to: &str| {
        format!(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
             version='1.0' from='a.example' to='{to}'>"
        )
    };
    let offered = |port, to: &str| {
        let heard = says(port, &stream(to));
        assert!(heard.contains("<stream:stream"), "{port}: {heard}");
        heard
    };
    // Nothing but TLS is offered to the world, and nothing of it inside.
    assert!(offered(world, "hall.example").contains("from='hall.example'"));
    offered(inside, "b.example");
    for path in ["/healthz", "/status", "/status.json"] {
        for method in ["GET", "HEAD"] {
            let heard = says(
                admin,
                &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            );
            assert!(heard.starts_with("HTTP/1.1 200"), "{method} {path}: {heard}");
        }
    }
    let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
    asker.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01b\x07example\x00\x00\x01\x00\x01";
    asker.send_to(question, (Ipv4Addr::LOCALHOST, steering)).unwrap();
    let mut heard = [0; 512];
    let count = asker.recv(&mut heard).unwrap();
    assert!(
        heard.starts_with(b"\x12\x34\x85") || heard.starts_with(b"\x12\x34\x84"),
        "{:x?}",
        &heard[..count]
    );
    assert!(heard[..count].ends_with(&[127, 0, 0, 1]), "{:x?}", &heard[..count]);
}

// What stands at an address makes room for another part of ours: no restart is needed, and nobody else is told to end.
#[test]
fn parts_of_the_gateway_change_places_by_a_reload() {
    let (folder, _) = prepare("");
    let all @ [world, inside, admin, steering] = ports::<4>();
    arranged(folder.path(), all);
    let command = Running::command(folder.path());
    let mut running = Running::of(folder, SocketAddr::from((Ipv4Addr::LOCALHOST, world)), command);
    answer(all);
    let socket = running.socket().display().to_string();
    for places in [
        [admin, inside, world, steering],
        [admin, steering, world, inside],
        [steering, admin, inside, world],
        [world, inside, steering, admin],
        all,
    ] {
        arranged(running.folder.path(), places);
        has(&run(&["reload", "--plan", "--socket", &socket]), 0, &["nothing was changed"]);
        has(&run(&["reload", "--socket", &socket]), 0, &["reloaded"]);
        answer(places);
    }
    // A reload that fails leaves each where it was.
    arranged(running.folder.path(), [admin, steering, world, inside]);
    edit(running.folder.path(), "gatehouse.yaml", "audit.jsonl", "none/audit.jsonl");
    has(&run(&["reload", "--socket", &socket]), 1, &["stays in force"]);
    answer(all);
    let (code, log) = running.stop();
    assert!(code == 0 && !log.contains("ERROR"), "{log}");
}

// Contract 3: the world at all addresses, and the servers behind at one of them, on the same port.
#[test]
fn one_address_may_have_a_listener_of_its_own_beside_the_one_for_all() {
    for all in ["[::]", "0.0.0.0"] {
        let (folder, _) = prepare("");
        let [port, door, admin, steering] = ports::<4>();
        arranged(folder.path(), [door, port, admin, steering]);
        let wide = format!("{all}:{port}");
        edit(folder.path(), "gatehouse.yaml", &format!("127.0.0.1:{door}"), &wide);
        let command = Running::command(folder.path());
        let mut running = Running::of(folder, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), command);
        let heard = |address: Ipv4Addr| {
            let header = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                          xmlns:db='jabber:server:dialback' from='b.example' to='a.example'>";
            says_at((address, port), header)
        };
        // The servers behind hear of dialback at once (DB-08); the world's own is told that a.example is not here.
        for _ in 0..3 {
            assert!(!heard(Ipv4Addr::LOCALHOST).contains("host-unknown"), "inside, beside {wide}");
            assert!(heard(Ipv4Addr::new(127, 0, 0, 2)).contains("host-unknown"), "the world at {wide}");
        }
        let (code, log) = running.stop();
        assert!(code == 0 && !log.contains("ERROR"), "{log}");
    }
}

// Where one takes in the other, only a restart can open what the other closes.
#[test]
fn a_part_of_the_gateway_that_is_in_the_way_is_named_as_that() {
    let (folder, _) = prepare("");
    let all @ [world, inside, admin, steering] = ports::<4>();
    arranged(folder.path(), all);
    let command = Running::command(folder.path());
    let mut running = Running::of(folder, SocketAddr::from((Ipv4Addr::LOCALHOST, world)), command);
    let socket = running.socket().display().to_string();
    arranged(running.folder.path(), [admin, inside, world, steering]);
    edit(running.folder.path(), "gatehouse.yaml", &format!("127.0.0.1:{admin}"), &format!("0.0.0.0:{admin}"));
    // Opened beside what goes: a listener that takes in the place of another of ours is not in its way.
    has(&run(&["reload", "--plan", "--socket", &socket]), 0, &["nothing was changed"]);
    answer(all);
    has(&run(&["reload", "--socket", &socket]), 0, &["reloaded"]);
    until("the new places", || TcpStream::connect(("127.0.0.2", admin)).is_ok());
    until("the watching door", || says(world, "GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
    // The two doors at paths: the way back from a failure would be lost.
    let http = format!("http: \"127.0.0.1:{world}\"");
    edit(running.folder.path(), "gatehouse.yaml", &http, "http: \"unix:status.sock\"");
    has(&run(&["reload", "--socket", &socket]), 0, &["reloaded"]);
    edit(
        running.folder.path(),
        "gatehouse.yaml",
        "socket: control.sock, http: \"unix:status.sock\"",
        "socket: status.sock, http: \"unix:control.sock\"",
    );
    let words = ["this gateway itself answers there, at its other door", "run `gatehouse restart`"];
    has(&run(&["reload", "--plan", "--socket", &socket]), 1, &words);
    has(&run(&["reload", "--socket", &socket]), 1, &words);
    has(&run(&["restart", "--socket", &socket]), 0, &["restarting"]);
    let other = running.folder.path().join("status.sock").display().to_string();
    until("the door at its new path", || run(&["status", "--socket", &other]).code == 0);
    assert_eq!(running.stop().0, 0);
}
