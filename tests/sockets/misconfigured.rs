//! What people get wrong, judged by what they can mend from the output: each mistake, and the words that name it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::steering;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;
use tempfile::TempDir;

use crate::steering::{Running, Said, prepare, run, until};

fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn certify(folder: &Path, name: &str, spoil: impl FnOnce(&mut CertificateParams)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    spoil(&mut params);
    fs::write(folder.join("chain.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

fn check(folder: &Path) -> Said {
    run(&["check", "--config", &folder.join("gatehouse.yaml").display().to_string()])
}

/// What `gatehouse run` says that does not start.
fn starts_not(folder: &Path) -> Said {
    run(&["run", "--config", &folder.join("gatehouse.yaml").display().to_string()])
}

fn has(said: &Said, code: i32, words: &[&str]) {
    let all = format!("{}{}", said.out, said.err);
    assert_eq!(said.code, code, "{all}");
    for word in words {
        assert!(all.contains(word), "{word:?} is not in:\n{all}");
    }
}

fn made() -> TempDir {
    prepare("").0
}

type Mistake<'a> = (&'a str, &'a dyn Fn(&Path), i32, &'a [&'a str]);

// What `check` says; and `run` calls an error what `check` calls one.
#[test]
fn check_names_what_is_wrong_and_what_to_do() {
    let mistakes: &[Mistake<'_>] = &[
        (
            "certificate for another name",
            &|folder| certify(folder, "other.example", |_| ()),
            78,
            &["chain.pem: error: the certificate is not for hall.example; get one with that name as dNSName"],
        ),
        (
            "expired",
            &|folder| certify(folder, "hall.example", |params| params.not_after = date_time_ymd(2020, 1, 1)),
            78,
            &[
                "chain.pem: error: the certificate expired on 2020-01-01; renew it",
                "a start shows it all the same",
            ],
        ),
        (
            "foreign key",
            &|folder| {
                fs::write(folder.join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap()
            },
            78,
            &[
                "key.pem: error: the key does not belong to the first certificate in",
                "name the key it was issued for",
            ],
        ),
        (
            "listed without rules",
            &|folder| {
                edit(folder, "policy.yaml", "rules:\n  - { name: p, domains: [a.example] }\n", "rules: []\n")
            },
            0,
            &["warning: hall.example federates with nobody yet", "name partners in a file of `policies`"],
        ),
        (
            "inside listener open to all",
            &|folder| {
                let inside = "listen: [{ flow: inside, address: \"0.0.0.0:5269\", from: [0.0.0.0/0] }, ";
                edit(folder, "gatehouse.yaml", "listen: [", inside);
            },
            78,
            &["would be open to everybody", "is everybody; name the networks of your own servers"],
        ),
        (
            "inside listener open to all, in two halves",
            &|folder| {
                let inside = "listen: [{ flow: inside, address: \"127.0.0.1:5269\", from: [0.0.0.0/1, 128.0.0.0/1] }, ";
                edit(folder, "gatehouse.yaml", "listen: [", inside);
            },
            78,
            &["these networks hold 100 % of all IPv4 addresses", "name the networks of your own servers"],
        ),
        (
            "back-end not in `from`",
            &|folder| {
                let inside = "listen: [{ flow: inside, address: \"127.0.0.1:15269\", from: [10.0.0.0/24] }, ";
                edit(folder, "gatehouse.yaml", "listen: [", inside);
            },
            0,
            &[
                "the server of hall.example at 127.0.0.1 may not call the inside listener",
                "add its address to `from`",
            ],
        ),
        (
            "expired rule",
            &|folder| edit(folder, "policy.yaml", "[a.example]", "[a.example], expires: 2020-01-31"),
            0,
            &["policy.yaml:3:", "this rule expired and no longer"],
        ),
        (
            "unknown key",
            &|folder| edit(folder, "gatehouse.yaml", "federation: listed", "federatoin: listed"),
            78,
            // Nor is it said to be missing, for whoever added it would have it twice.
            &[
                "gatehouse.yaml:7:5: error: `federatoin` is not a key that is known here; did you mean `federation`?",
                "gatehouse.yaml: 1 error, 0 warnings",
            ],
        ),
        (
            "typo in a hosted domain of a rule",
            &|folder| edit(folder, "policy.yaml", "[a.example]", "[a.example], hosted: [hal.example]"),
            78,
            &["policy.yaml:3:", "hal.example"],
        ),
    ];
    for (mistake, make, code, words) in mistakes {
        let folder = made();
        make(folder.path());
        println!("{mistake}");
        let said = check(folder.path());
        has(&said, *code, words);
        // The same from who would run it; what has only expired is shown all the same.
        if *code == 78 && *mistake != "expired" {
            let started = starts_not(folder.path());
            has(&started, 78, &words[..1]);
        }
    }
}

/// The findings of `check`, by its JSON.
fn findings(folder: &Path) -> Vec<String> {
    let said =
        run(&["check", "--config", &folder.join("gatehouse.yaml").display().to_string(), "--format", "json"]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let all = report["findings"].as_array().unwrap().iter();
    // The files of the test are made with the mode of any.
    let found = all.filter(|f| !f["message"].as_str().unwrap().starts_with("the private key is open"));
    found.map(|f| format!("{}: {}; {}", f["severity"], f["message"], f["remedy"]).replace('"', "")).collect()
}

// What only follows from a mistake is not told beside it: whoever mends the first thing would mend what is well.
#[test]
fn one_mistake_is_one_finding() {
    type Case<'a> = (&'a dyn Fn(&Path), &'a str);
    let whole =
        |text: &'static str| move |folder: &Path| fs::write(folder.join("policy.yaml"), text).unwrap();
    let config = |from: &'static str, to: &'static str| {
        move |folder: &Path| {
            edit(folder, "gatehouse.yaml", "version: v1", "version: v1\ndefault-domain: hall.example");
            edit(folder, "gatehouse.yaml", from, to);
        }
    };
    let admin = "admin: { socket: control.sock }";
    let listen = "listen: [";
    let cases: &[Case<'_>] = &[
        (&|folder| fs::remove_file(folder.join("policy.yaml")).unwrap(), "cannot be read"),
        (&whole("rules: [\n"), "this is not YAML"),
        (&whole("- version: v1\n"), "a map is due here"),
        (&whole("verson: v1\nrules: []\n"), "did you mean `version`?"),
        (&whole("version: [v1]\nrules: []\n"), "a single value is due here"),
        (&whole("version: v1\nruels: []\n"), "did you mean `rules`?"),
        (&whole("version: v1\nrules: [{ name: p, domans: [a.example] }]\n"), "did you mean `domains`?"),
        (&whole("version: v1\nrules: [{ nam: p, domains: [a.example] }]\n"), "did you mean `name`?"),
        (&whole("version: v1\nrules: [{ name: p, domains: [[a.example]] }]\n"), "a single value is due here"),
        (
            &whole("version: v1\nrules: [{ name: p, domains: [a.example], networks: [[::]] }]\n"),
            "a single value is due here",
        ),
        (
            &whole(
                "version: v1\nruels: [{ name: p, domains: [a.example] }]\nexpect: [{ from: a.example, to: hall.example, \
                 verdict: allow, rule: p }]\n",
            ),
            "did you mean `rules`?",
        ),
        (&config("domains:", "domans:"), "did you mean `domains`?"),
        (&config("version: v1", "verison: v1"), "did you mean `version`?"),
        (&config("name: hall.example", "nam: hall.example"), "did you mean `name`?"),
        (&config("name: hall.example", "name: [hall.example]"), "a single value is due here"),
        (&config("name: hall.example", "name: \"?\""), "is no domain"),
        (&config("federation: listed", "federation: [listed]"), "a single value is due here"),
        (&config("federation: listed", "federation: listd"), "did you mean `listed`?"),
        (&config("policies:", "polices:"), "did you mean `policies`?"),
        (&config("chain: chain.pem", "chian: chain.pem"), "did you mean `chain`?"),
        (&config("certificate:", "certificate: x #"), "a map is due here"),
        (&config("version: v1", "version: v1\ninclude: [none.yaml]"), "cannot be read"),
        (&config(admin, "admin: { status: on, http: [a] }"), "a single value is due here"),
        (&config(admin, "admin: { status: on, htp: \"127.0.0.1:1\" }"), "did you mean `http`?"),
        (&config(admin, "admin: { status: on, http: \"127.0.0.1\" }"), "is no address with a port"),
        (&config(admin, "admin: { status: on, http: \"${NO_SUCH_NAME}\" }"), "NO_SUCH_NAME"),
        (
            &config(listen, "listen: [{ flow: inside, address: \"127.0.0.1:15269\", form: [127.0.0.0/8] }, "),
            "did you mean `from`?",
        ),
        (
            &config(
                listen,
                "steering: { listen: 127.0.0.1, from: [127.0.0.0/8], answer: 127.0.0.1 }\nlisten: [{ flow: inside, addres: \
                 \"127.0.0.1:15269\", from: [127.0.0.0/8] }, ",
            ),
            "did you mean `address`?",
        ),
        (
            &config(listen, "listen: [{ flow: s2s, address: \"127.0.0.1:15222\", proxy-protocol: [[a]] }, "),
            "a single value is due here",
        ),
    ];
    for (make, words) in cases {
        let folder = made();
        make(folder.path());
        let found = findings(folder.path());
        let text = fs::read_to_string(folder.path().join("gatehouse.yaml")).unwrap();
        assert!(
            found.len() == 1 && found[0].starts_with("error") && found[0].contains(words),
            "{words}: {found:#?}\n{text}"
        );
    }
}

// "unreadable key": as the user that the gateway runs as, who is not root.
#[test]
fn a_key_that_may_not_be_read_is_named_with_whom_to_let_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let folder = made();
    let mode = |name: &str, mode| {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("", 0o755);
    mode("key.pem", 0o000);
    // A secret beside it: a new one in its place would part this node from those that share it.
    for (name, half) in [("world", "0123456789abcdef"), ("inside", "fedcba9876543210")] {
        fs::write(folder.path().join(name), half.repeat(4)).unwrap();
    }
    mode("world", 0o000);
    mode("inside", 0o644);
    let secrets = "dialback: { secrets: { world: world, inside: inside } }\nlimits:";
    edit(folder.path(), "gatehouse.yaml", "limits:", secrets);
    let mut command = Command::new(for_anybody(folder.path()));
    command.args(["check", "--config"]).arg(folder.path().join("gatehouse.yaml")).env("NO_COLOR", "1");
    if rustix::process::getuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78), "{out}");
    assert!(out.contains("key.pem: error: cannot be read: Permission denied"), "{out}");
    assert!(out.contains("world: error: the secret cannot be read: Permission denied"), "{out}");
    assert_eq!(out.matches("let the gateway's user or group read the file").count(), 2, "{out}");
    assert!(!out.contains("make one"), "{out}");
}

/// The program where any user may run it: the repository may lie in a home that nobody else may enter.
fn for_anybody(folder: &Path) -> PathBuf {
    let program = folder.join("gatehouse");
    fs::copy(steering::PROGRAM, &program).unwrap();
    program
}

// "port 53 unprivileged".
#[test]
fn port_53_without_the_right_to_it_is_told_with_the_ways_to_get_it() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let folder = made();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let steering = "listen: [{ flow: inside, address: \"127.0.0.1:15269\", from: [127.0.0.0/8] }, ";
    edit(folder.path(), "gatehouse.yaml", "listen: [", steering);
    let text = fs::read_to_string(folder.path().join("gatehouse.yaml")).unwrap();
    let more = "steering: { listen: \"127.0.0.1\", from: [127.0.0.0/8], answer: 127.0.0.1 }\n";
    fs::write(folder.path().join("gatehouse.yaml"), text + more).unwrap();
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if start.trim().parse::<u16>().unwrap() <= 53 {
        // Anybody may have the port here; the unit test of the words remains.
        return;
    }
    let mut command = Command::new(for_anybody(folder.path()));
    command.args(["check", "--config"]).arg(folder.path().join("gatehouse.yaml")).env("NO_COLOR", "1");
    if rustix::process::getuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(out.contains("this user cannot listen on 127.0.0.1:53: "), "{out}");
    assert!(out.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE"), "{out}");
}

#[test]
fn a_port_in_use_is_named_with_its_line() {
    let (folder, address) = prepare("");
    let _taken = TcpListener::bind(address).unwrap();
    let words = format!("gatehouse.yaml:2:10: error: cannot listen on {address}: Address");
    has(&starts_not(folder.path()), 78, &[&words, "in use", "end what holds the address"]);
}

// "`federation: any` changed to `listed`, check, reload --plan, reload".
#[test]
fn federation_changed_and_reloaded_is_in_force_and_told() {
    let running = Running::start("");
    let socket = running.socket().display().to_string();
    let explain = || {
        run(&[
            "policy",
            "explain",
            "--live",
            "--socket",
            &socket,
            "--from",
            "x@stranger.example",
            "--to",
            "y@hall.example",
        ])
    };
    has(&explain(), 1, &["deny"]);
    edit(running.folder.path(), "gatehouse.yaml", "federation: listed", "federation: any");
    let change = "domains[hall.example].federation: listed -> any";
    has(&run(&["reload", "--plan", "--socket", &socket]), 0, &[change, "nothing was changed"]);
    has(&explain(), 1, &["deny"]);
    let config = running.folder.path().join("gatehouse.yaml").display().to_string();
    has(&run(&["reload", "--config", &config]), 0, &[change, "reloaded"]);
    has(&explain(), 0, &["allow"]);
    let dump = run(&["config", "dump", "--config", &config]);
    has(
        &dump,
        0,
        &[
            "domains[hall.example].federation: any\n",
            "limits.stanza: 256KiB   # default",
            "limits.conn-s2s: 1000\n",
        ],
    );
    let json = run(&["config", "dump", "--format", "json", "--config", &config]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["stale"], serde_json::json!([]));
    edit(running.folder.path(), "policy.yaml", "a.example", "b.example");
    has(&run(&["config", "dump", "--config", &config]), 0, &["# differs on the disk: ", "policy.yaml"]);
    end(running);
}

// failing/03, by the commands: the answer names file and reason, and nothing changes.
#[test]
fn a_bad_certificate_and_a_reload_change_nothing() {
    let running = Running::start("");
    let socket = running.socket().display().to_string();
    certify(running.folder.path(), "hall.example", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let words =
        ["chain.pem: error: the certificate expired on 2020-01-01", "what was in force stays in force"];
    has(&run(&["reload", "--socket", &socket]), 1, &words);
    has(&run(&["reload", "--plan", "--socket", &socket]), 1, &words);
    has(&run(&["restart", "--socket", &socket]), 1, &words);
    edit(running.folder.path(), "gatehouse.yaml", "version: v1", "version: v1\nthreads: 3");
    certify(running.folder.path(), "hall.example", |_| ());
    has(
        &run(&["reload", "--socket", &socket]),
        1,
        &["`threads` goes from one for each processor to 3, which takes a restart"],
    );
    end(running);
}

// "`gatehouse restart` (check, then hand the listening sockets to a new process)": the same process, other files, and nobody
// who connects meanwhile is refused.
#[test]
fn a_restart_holds_the_ports_open_and_takes_over_what_a_reload_cannot() {
    let mut running = Running::start("");
    let socket = running.socket().display().to_string();
    let config = running.folder.path().join("gatehouse.yaml").display().to_string();
    let address = running.address;
    edit(running.folder.path(), "gatehouse.yaml", "version: v1", "version: v1\nthreads: 3");
    let connecting = std::thread::spawn(move || {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
        let mut tried = 0;
        while std::time::Instant::now() < end {
            std::net::TcpStream::connect(address).unwrap_or_else(|error| panic!("after {tried}: {error}"));
            tried += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    has(&run(&["restart", "--socket", &socket]), 0, &["restarting: "]);
    until("the new configuration", || {
        run(&["config", "dump", "--config", &config]).out.contains("threads: 3\n")
    });
    connecting.join().unwrap();
    assert!(running.child.try_wait().unwrap().is_none(), "the same process");
    // The threads that it has now share who comes.
    let before = [1, 2].map(|number| naps(running.child.id(), number));
    let _callers: Vec<_> = (0..6).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    until("all threads", || {
        (1..).zip(before).all(|(number, before)| naps(running.child.id(), number) >= before + 2)
    });
    assert_eq!(naps(running.child.id(), 3), 0, "no more than these");
    end(running);
}

/// How often this worker has gone to sleep; 0 if there is none.
fn naps(pid: u32, number: usize) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    let own = |status: &String| status.starts_with(&format!("Name:\tworker-{number}\n"));
    let line = status.filter(own).find_map(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse().ok())
    });
    line.unwrap_or_default()
}

// The same port at another address, which overlaps: taken over by a reload, from all addresses to one and back, and nobody who
// connects meanwhile is refused. What can stay beside nothing is still told.
#[test]
fn a_listener_moves_between_overlapping_addresses_without_a_restart() {
    // Not one that the kernel gives away: whoever gets it at another loopback address stands in the way of all addresses.
    let mut ports = (0..5_000).map(|n| 20_000 + u16::try_from((std::process::id() + n) % 5_000).unwrap());
    let port = ports.find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).unwrap();
    let (folder, made) = prepare("");
    let one = SocketAddr::from(([127, 0, 0, 1], port));
    edit(folder.path(), "gatehouse.yaml", &made.to_string(), &one.to_string());
    let command = Running::command(folder.path());
    let running = Running::of(folder, one, command);
    let (config, socket) =
        (running.folder.path().join("gatehouse.yaml"), running.socket().display().to_string());
    let connecting = std::thread::spawn(move || {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
        while std::time::Instant::now() < end {
            std::net::TcpStream::connect(one).expect("nobody is refused");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    let all = format!("0.0.0.0:{port}");
    for _ in 0..10 {
        edit(running.folder.path(), "gatehouse.yaml", &one.to_string(), &all);
        has(&run(&["reload", "--socket", &socket]), 0, &["reloaded"]);
        edit(running.folder.path(), "gatehouse.yaml", &all, &one.to_string());
        has(&run(&["reload", "--config", &config.display().to_string()]), 0, &["reloaded"]);
    }
    connecting.join().unwrap();
    let other = format!("127.0.0.2:{port}");
    // Open at one address; at another that nothing overlaps nobody listens.
    assert!(std::net::TcpStream::connect(&other).is_err());
    let both = format!("\"{one}\" }}, {{ flow: c2s, address: \"{all}\"");
    edit(running.folder.path(), "gatehouse.yaml", &format!("\"{one}\""), &both);
    // One address has a listener of its own beside the one for all of them.
    has(&run(&["reload", "--socket", &socket]), 0, &["reloaded"]);
    for address in [one.to_string(), other] {
        std::net::TcpStream::connect(&address).unwrap();
    }
    end(running);
}

// Restarted again and again, with hardly more descriptors than it needs: the sockets move to numbers that there are.
#[test]
fn a_restart_follows_a_restart_with_few_descriptors() {
    let (folder, address) = prepare("");
    let mut command = Command::new("prlimit");
    command
        .args(["--nofile=80:80", steering::PROGRAM, "run", "--config"])
        .arg(folder.path().join("gatehouse.yaml"));
    let more = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect::<Vec<_>>();
    let listeners: String = more
        .iter()
        .map(|taken| format!("{{ flow: s2s, address: \"{}\" }}, ", taken.local_addr().unwrap()))
        .collect();
    drop(more);
    edit(folder.path(), "gatehouse.yaml", "listen: [", &format!("listen: [{listeners}"));
    let config = folder.path().join("gatehouse.yaml").display().to_string();
    let mut running = Running::of(folder, address, command);
    let started = || {
        let said = run(&["status", "--format", "json", "--config", &config]);
        serde_json::from_str::<Value>(&said.out)
            .ok()
            .and_then(|v| v["snapshot"]["started"].as_str().map(str::to_owned))
    };
    let mut before = None;
    for round in 0..3 {
        until("another start", || started().is_some_and(|at| before.as_ref() != Some(&at)));
        before = started();
        has(&run(&["restart", "--config", &config]), 0, &["restarting: "]);
        println!("round {round}");
    }
    until("the last start", || started().is_some_and(|at| before.as_ref() != Some(&at)));
    running.wait_ready();
    assert!(running.child.try_wait().unwrap().is_none(), "the same process");
    // A bad file: it says so, and serves.
    edit(running.folder.path(), "policy.yaml", "[a.example]", "[a.example");
    has(&run(&["restart", "--config", &config]), 1, &["policy.yaml:", "what was in force stays in force"]);
    assert!(std::net::TcpStream::connect(address).is_ok());
    edit(running.folder.path(), "policy.yaml", "[a.example", "[a.example]");
    end(running);
}

// In the middle of an upgrade the program is not there: a restart says so, and what runs goes on.
#[test]
fn a_restart_without_a_program_is_refused_and_serves_on() {
    let (folder, address) = prepare("");
    let program = folder.path().join("gatehouse");
    fs::copy(steering::PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["run", "--config"]).arg(folder.path().join("gatehouse.yaml"));
    let config = folder.path().join("gatehouse.yaml").display().to_string();
    let running = Running::of(folder, address, command);
    fs::rename(&program, program.with_extension("old")).unwrap();
    // The kernel follows the file under its new name: as a package manager does it, a new one is put in its place.
    fs::remove_file(program.with_extension("old")).unwrap();
    let words = ["cannot be begun anew: No such file or directory", "put the program there first"];
    has(&run(&["restart", "--config", &config]), 1, &words);
    assert!(std::net::TcpStream::connect(address).is_ok());
    let elsewhere = program.with_extension("old");
    fs::copy(steering::PROGRAM, elsewhere).unwrap();
    has(&run(&["restart", "--config", &config]), 0, &["restarting: "]);
    running.wait_ready();
    end(running);
}

fn end(mut running: Running) {
    let (code, log) = running.stop();
    assert_eq!(code, 0, "{log}");
}

/// The deploy hook, called as these three call it.
const HOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/renew/gatehouse-renewed");

// Item 3: "deploy hooks for certbot, lego and acme.sh, tested by script".
#[test]
fn the_deploy_hook_serves_certbot_lego_and_acme_sh() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = made();
    let pki = folder.path().join("pki");
    fs::create_dir(&pki).unwrap();
    for name in ["chain.pem", "key.pem"] {
        fs::rename(
            folder.path().join(name),
            pki.join(name.replace("chain", "hall.example").replace("key.pem", "hall.example.key")),
        )
        .unwrap();
    }
    edit(
        folder.path(),
        "gatehouse.yaml",
        "chain: chain.pem, key: key.pem",
        "chain: pki/hall.example.pem, key: pki/hall.example.key",
    );
    edit(folder.path(), "gatehouse.yaml", "roots: chain.pem", "roots: pki/hall.example.pem");
    let from = folder.path().join("acme");
    fs::create_dir(&from).unwrap();
    let lineage = folder.path().join("live/hall.example");
    fs::create_dir_all(&lineage).unwrap();
    let path = |path: &Path| path.display().to_string();
    let (chain, key) = (path(&from.join("chain.pem")), path(&from.join("key.pem")));
    let callers: [&[(&str, &str)]; 3] = [
        &[("RENEWED_LINEAGE", &path(&lineage)), ("RENEWED_DOMAINS", "hall.example")],
        &[("LEGO_CERT_DOMAIN", "hall.example"), ("LEGO_CERT_PATH", &chain), ("LEGO_CERT_KEY_PATH", &key)],
        &[("Le_Domain", "hall.example"), ("CERT_FULLCHAIN_PATH", &chain), ("CERT_KEY_PATH", &key)],
    ];
    let hook = |words: &[(&str, &str)]| {
        let output = Command::new("sh")
            .arg(HOOK)
            .env("GATEHOUSE_PKI", &pki)
            .env("GATEHOUSE_GROUP", rustix::process::getgid().as_raw().to_string())
            .env("GATEHOUSE_CONFIG", folder.path().join("gatehouse.yaml"))
            .env("GATEHOUSE", steering::PROGRAM)
            .envs(words.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told =
            [&output.stdout, &output.stderr].map(|octets| String::from_utf8_lossy(octets).into_owned());
        (output.status.code().unwrap(), told.concat())
    };
    for words in callers {
        certify(&from, "hall.example", |_| ());
        for (name, link) in [("chain.pem", "fullchain.pem"), ("key.pem", "privkey.pem")] {
            fs::copy(from.join(name), lineage.join(link)).unwrap();
        }
        let (code, told) = hook(words);
        assert_eq!(code, 0, "{words:?}: {told}");
        let same = |one: &str, other: &Path| fs::read(pki.join(one)).unwrap() == fs::read(other).unwrap();
        assert!(
            same("hall.example.pem", &from.join("chain.pem"))
                && same("hall.example.key", &from.join("key.pem"))
        );
        let mode = fs::metadata(pki.join("hall.example.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{told}");
    }
    // Not for the gateway; and what is wrong is told by its exit code.
    let (code, told) =
        hook(&[("Le_Domain", "www.example"), ("CERT_FULLCHAIN_PATH", &chain), ("CERT_KEY_PATH", &key)]);
    assert!(code == 0 && told.contains("www.example is not for the gateway"), "{told}");
    certify(&from, "other.example", |_| ());
    let (code, told) = hook(callers[2]);
    assert!(code == 78 && told.contains("the certificate is not for hall.example"), "{told}");
    let (code, told) = hook(&[]);
    assert!(code == 64 && told.contains("neither certbot, lego nor acme.sh"), "{told}");
}

// Item 4: "a back-end that offers or demands TLS ... is named as that, with the setting of that server"; one that only offers it
// is well. The same words from status, log and `probe --backend`.
#[test]
fn a_back_end_that_offers_tls_is_named_with_its_setting_and_is_well() {
    let features = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
                    <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://prosody.im' ver='x'/></stream:features>";
    let head = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='1' \
                from='hall.example' version='1.0'>";
    let address = answering(Some(format!("{head}{features}").leak().as_bytes()));
    let (folder, listen) = prepare("");
    edit(folder.path(), "gatehouse.yaml", "s2s: [\"127.0.0.1:9\"]", &format!("s2s: [\"{address}\"]"));
    let config = folder.path().join("gatehouse.yaml").display().to_string();
    let command = Running::command(folder.path());
    let mut running = Running::of(folder, listen, command);
    let words = ["it offers TLS", "switch it off in Prosody: `s2s_require_encryption = false`"];
    until("the first look", || run(&["status", "--config", &config]).out.contains(" up"));
    has(&run(&["status", "--config", &config]), 0, &words);
    has(&run(&["probe", "--backend", "hall.example", "--config", &config]), 0, &words);
    let (code, log) = running.stop();
    assert_eq!(code, 0, "{log}");
    let line = log.lines().find(|line| line.contains("it offers TLS")).unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("INFO") && line.contains(words[1]) && line.contains(&address.to_string()),
        "{line}"
    );
}

/// A server that answers each caller with these octets, and stays; none: it closes at once.
fn answering(answer: Option<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let Some(answer) = answer else { return };
                let mut heard = [0; 4096];
                // Whoever leaves before it is answered is no trouble here.
                let _asked = stream.read(&mut heard);
                let _told = stream.write_all(answer);
                while stream.read(&mut heard).is_ok_and(|n| n > 0) {}
            });
        }
    });
    address
}

/// What answers at a port, in words and in octets, and what is said of it.
type Answered<'a> = (&'a str, Option<&'static [u8]>, &'a [&'a str]);

// "Wrong back-end port" in each way that a port can be wrong, and "back-end demands TLS on s2s": the same words from the
// running gateway (status and log) and from `probe --backend`, with the address and what to do.
#[test]
fn what_is_wrong_at_the_port_of_the_back_end_is_named() {
    const HEAD: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='1' \
                        from='hall.example' version='1.0'>";
    let leak = |text: String| -> &'static [u8] { text.leak().as_bytes() };
    let tls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
               <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://prosody.im' ver='x'/>";
    let error = |condition: &str| {
        format!(
            "{HEAD}<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
        )
    };
    let port = "the port must be the server's for other servers, in clear";
    let table: [Answered<'_>; 6] = [
        (
            "demands TLS",
            Some(leak(format!("{HEAD}<stream:features>{tls}</stream:features>"))),
            &[
                "it demands TLS of the gateway",
                "switch that off in Prosody: `s2s_require_encryption = false`",
            ],
        ),
        (
            "the port for clients",
            Some(leak(error("invalid-namespace"))),
            &["no XMPP stream of this kind", port],
        ),
        ("a mail server", Some(b"220 mail.hall.example ESMTP\r\n"), &["no XMPP stream of this kind", port]),
        ("a web server", Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"), &["no XMPP stream of this kind", port]),
        // What a TLS server says to what is no TLS.
        (
            "direct TLS",
            Some(b"\x15\x03\x01\x00\x02\x02\x46"),
            &["it speaks TLS from the first octet", "name the port in clear in `backend:`"],
        ),
        (
            "not this domain",
            Some(leak(error("host-unknown"))),
            &["it does not serve this domain", "add the domain"],
        ),
    ];
    for (what, answer, words) in table {
        println!("{what}");
        let address = answering(answer);
        let (folder, listen) = prepare("");
        edit(folder.path(), "gatehouse.yaml", "s2s: [\"127.0.0.1:9\"]", &format!("s2s: [\"{address}\"]"));
        let config = folder.path().join("gatehouse.yaml").display().to_string();
        let command = Running::command(folder.path());
        let mut running = Running::of(folder, listen, command);
        let mut said = run(&["status", "--config", &config]);
        until("the first look", || {
            said = run(&["status", "--config", &config]);
            said.out.contains(" down")
        });
        let address = address.to_string();
        let words = [&[address.as_str()], words].concat();
        has(&said, 0, &words);
        has(&run(&["probe", "--backend", "hall.example", "--config", &config]), 1, &words);
        let (code, log) = running.stop();
        assert_eq!(code, 0, "{log}");
        for word in words {
            assert!(log.contains(word), "{word:?} is not in:\n{log}");
        }
        assert!(!log.contains("ERROR"), "{log}");
    }
}

// "Back-end not in `from`", while it runs: who came, and what to add. It has found us: that it looks elsewhere is not said.
#[test]
fn a_back_end_that_may_not_come_in_is_named_when_it_comes() {
    let folder = made();
    let inside = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = format!("listen: [{{ flow: inside, address: \"{inside}\", from: [10.0.0.0/24] }}, ");
    edit(folder.path(), "gatehouse.yaml", "listen: [", &line);
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = fs::read_to_string(folder.path().join("gatehouse.yaml")).unwrap();
    let old = text.split("flow: s2s, address: \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    edit(folder.path(), "gatehouse.yaml", &old, &listen.to_string());
    let config = folder.path().join("gatehouse.yaml").display().to_string();
    let command = Running::command(folder.path());
    let mut running = Running::of(folder, listen, command);
    let mut stream = std::net::TcpStream::connect(inside).unwrap();
    let _ended = stream.read(&mut [0; 16]);
    let mut said = run(&["refusals", "--config", &config]);
    until("the refusal", || {
        said = run(&["refusals", "--config", &config]);
        said.out.contains("127.0.0.1")
    });
    has(&said, 0, &["not-from-here", "add its address to `from:` of the inside listener"]);
    let (code, log) = running.stop();
    assert_eq!(code, 0, "{log}");
    let line = log
        .lines()
        .find(|line| line.contains("inside listener from elsewhere"))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("127.0.0.1") && line.contains("`from:`"), "{line}");
    assert!(!log.contains("asks-elsewhere"), "{log}");
}

/// A command that believes to live a year later.
fn a_year_ahead(mut command: Command) -> Command {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let mut places = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let library = places.find(|place| place.exists()).expect("libfaketime: tests/run installs it");
    command.env("LD_PRELOAD", library).env("FAKETIME", "+366d").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

// "Clock a year ahead": what has not expired seems to have; each line about a date shows the day that the clock says.
#[test]
fn a_clock_a_year_ahead_shows_in_every_line_about_a_date() {
    let (folder, listen) = prepare("");
    let now = jiff::Zoned::now();
    let soon = now.checked_add(jiff::Span::new().days(100)).unwrap().date();
    let wrong = now.checked_add(jiff::Span::new().days(366)).unwrap().date().year().to_string();
    let end = date_time_ymd(soon.year().into(), soon.month().unsigned_abs(), soon.day().unsigned_abs());
    certify(folder.path(), "hall.example", |params| params.not_after = end);
    edit(folder.path(), "policy.yaml", "[a.example]", &format!("[a.example], expires: {soon}"));
    let mut right = Command::new(steering::PROGRAM);
    right.args(["check", "--config"]).arg(folder.path().join("gatehouse.yaml")).env("NO_COLOR", "1");
    assert!(right.status().unwrap().success(), "by the right clock nothing is wrong");
    let output = a_year_ahead(right).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(78), "{out}");
    for what in ["chain.pem: error: the certificate expired on", "policy.yaml:3:"] {
        let line = out.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {out}"));
        assert!(line.contains("clock of this machine") && line.contains(&format!("says {wrong}-")), "{line}");
    }
    let config = folder.path().join("gatehouse.yaml").display().to_string();
    let command = a_year_ahead(Running::command(folder.path()));
    let mut running = Running::of(folder, listen, command);
    let said = run(&["status", "--config", &config]);
    has(&said, 0, &["the certificate of hall.example has expired: by the clock of this machine", &wrong]);
    let (code, log) = running.stop();
    assert_eq!(code, 0, "{log}");
    let line =
        log.lines().find(|line| line.contains("certificate expired on")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("clock of this machine"), "{line}");
}

// "Typo in a rule's domain", asked before anybody comes: the rule that looks like it is named.
#[test]
fn a_typo_in_the_domain_of_a_rule_is_named_by_explain() {
    let folder = made();
    edit(folder.path(), "policy.yaml", "[a.example]", "[partnr.example]");
    let config = folder.path().join("gatehouse.yaml").display().to_string();
    let said = run(&[
        "policy",
        "explain",
        "--config",
        &config,
        "--from",
        "x@partner.example",
        "--to",
        "y@hall.example",
    ]);
    has(&said, 1, &["not-listed", "nearest", "partnr.example", "policy.yaml:3"]);
}
