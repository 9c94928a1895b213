//! `gatehouse grade` (DNS-09, DNS-11, DNS-12, DNS-16): a gateway in a zone that ldns signs, whose operator does what the report says until there
//! is nothing left to do, openssl as a second judge of the record that it prints, and a server with all faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::zones;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gatehouse::demo::pki::{Identity, Leaf};
use gatehouse::demo::world::{Plan, World};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::steering::{Said, run};
use crate::zones::{Running, listens};

const HALL: &str = "hall.example";
const POLICY: &str = "version: v1\nrules:\n  - { name: partners, domains: [friend.example] }\n";

/// A zone, signed with a key that stays the same.
pub struct Zone {
    pub name: &'static str,
    pub key: String,
    pub records: String,
}

impl Zone {
    pub fn new(folder: &Path, name: &'static str, records: String) -> Self {
        Self { name, key: zones::key(folder, name), records }
    }

    pub fn sign(&self, folder: &Path) -> PathBuf {
        zones::sign(folder, self.name, &self.records, &self.key, &[])
    }
}

/// unbound with these zones, which hands on what it has and validates nothing: the gateway does.
pub fn unbound(folder: &Path, ip: IpAddr, zones: &[(&str, PathBuf)]) -> (Running, SocketAddr) {
    let zones: Vec<_> = zones.iter().map(|(zone, file)| (*zone, file.clone(), None)).collect();
    zones::unbound(folder, ip, &zones)
}

/// A web server with one file, or none.
async fn web(world: &World, ip: IpAddr, file: Arc<Mutex<Option<String>>>) {
    let identity = world.authority.issue(&Leaf::of(&[HALL])).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(world.authority.server(&identity, false).unwrap());
    let listener = tokio::net::TcpListener::bind((ip, 443)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, file) = (acceptor.clone(), Arc::clone(&file));
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.ok()?);
                }
                let asked = head.starts_with(b"GET /.well-known/posh/xmpp-server.json ");
                let body = file.lock().unwrap().clone().filter(|_| asked);
                let answer = match body {
                    None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    Some(body) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                };
                stream.write_all(answer.as_bytes()).await.ok()?;
                stream.shutdown().await.ok()
            });
        }
    });
}

/// The report for programs, and the exit code.
pub async fn grade(config: &Path, domain: &str, more: &[&str]) -> (Value, i32) {
    let config = config.display().to_string();
    let mut all = vec!["grade", domain, "--config", &config, "--format", "json"];
    all.extend(more);
    let said = told(&all).await;
    let report = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    (report, said.code)
}

pub async fn told(arguments: &[&str]) -> Said {
    let all: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let ran = move || run(&all.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(ran).await.unwrap()
}

/// Whether there is such a line.
pub fn has(report: &Value, mark: &str, what: &str, words: &str) -> bool {
    report["lines"].as_array().unwrap().iter().any(|line| {
        line["mark"] == mark && line["what"] == what && line["words"].as_str().unwrap().contains(words)
    })
}

pub fn must(report: &Value, mark: &str, what: &str, words: &str) {
    assert!(has(report, mark, what, words), "no {mark} {what} {words}: {report:#}");
}

pub fn printed(report: &Value, key: &str) -> Vec<String> {
    let records = report["tlsa"].as_array().unwrap().iter().filter(|record| record["key"] == key);
    records.map(|record| record["record"].as_str().unwrap().to_owned()).collect()
}

/// What openssl makes of the gateway and a record that was printed.
fn second_judge(address: SocketAddr, record: &str) -> bool {
    let data = record.split_once(" IN TLSA ").unwrap().1;
    let done = Command::new("openssl")
        .args(["s_client", "-starttls", "xmpp-server", "-name", HALL, "-servername", HALL])
        .args(["-verify_return_error", "-brief", "-dane_ee_no_namechecks", "-dane_tlsa_domain"])
        .args(["h.hall.example", "-dane_tlsa_rrdata", data, "-connect", &address.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    said.contains("Verification: OK") && said.contains("DANE TLSA")
}

/// The configuration, asking that resolver, with those anchors.
pub fn configured(world: &World, name: &str, resolver: SocketAddr, anchors: &Path) -> PathBuf {
    let text = std::fs::read_to_string(&world.config).unwrap();
    let before = format!("dns: {{ servers: [\"{}\"]", world.names.address());
    assert!(text.contains(&before), "{text}");
    let after =
        format!("dns: {{ servers: [\"{resolver}\"], dnssec: validate, anchors: {}", anchors.display());
    let path = world.folder.path().join(name);
    std::fs::write(&path, text.replace(&before, &after)).unwrap();
    path
}

// "gatehouse grade DOMAIN tells how the domain looks from outside .. with what to do; prints TLSA and POSH for the current and next key".
#[tokio::test(flavor = "multi_thread")]
async fn who_does_what_the_report_says_has_nothing_left_to_do() {
    let world = World::build(&Plan::listed(HALL, POLICY).limit("rate", "6000/min")).await.unwrap();
    let folder = world.folder.path().join("dns");
    std::fs::create_dir(&folder).unwrap();
    let (public, direct) = (world.at.public, world.at.direct);
    assert_eq!(public.ip(), direct.ip());
    let records = format!(
        "@ IN A {0}\n@ IN CAA 0 issue \"authority.example\"\nh IN A {0}\n_xmpp-server._tcp IN SRV 0 0 {1} h\n_xmpps-server._tcp IN SRV 0 0 {2} h\n\
         _xmpp-client._tcp IN SRV 0 0 {3} h\n",
        public.ip(),
        public.port(),
        direct.port(),
        world.at.clients.port()
    );
    let file = Arc::new(Mutex::new(None));
    web(&world, public.ip(), Arc::clone(&file)).await;
    let mut zone = Zone::new(&folder, HALL, records);
    let anchors = folder.join(format!("{}.key", zone.key));
    let signed = zone.sign(&folder);
    let (before, resolver) = unbound(&folder, world.names.address().ip(), &[(HALL, signed)]);
    let config = configured(&world, "graded.yaml", resolver, &anchors);

    let (report, code) = grade(&config, HALL, &[]).await;
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(report["todo"], 2, "{report:#}");
    for service in ["_xmpp-server", "_xmpps-server", "_xmpp-client"] {
        must(&report, "good", "SRV", &format!("{service}._tcp.hall.example: h.hall.example:"));
    }
    must(&report, "good", "DNSSEC", "secure");
    must(&report, "good", "CAA", "authority.example");
    must(&report, "good", "chain", "trusted, issued by");
    must(&report, "good", "names", HALL);
    must(&report, "good", "days left", &public.to_string());
    must(&report, "good", "TLS", "takes 1.3 with TLS_AES_");
    must(&report, "good", "TLS", "takes 1.2 with ECDHE-");
    must(&report, "good", "TLS", "refuses 1.1, 1.0");
    must(&report, "note", "POSH", "none");
    for address in [public, direct] {
        must(&report, "todo", "TLSA", &format!("h.hall.example:{}: none", address.port()));
    }

    // The operator pastes what is printed.
    let current = printed(&report, "current");
    assert_eq!(current.len(), 2, "{report:#}");
    assert!(second_judge(public, &current[0]), "openssl judges otherwise: {current:?}");
    zone.records += &(current.join("\n") + "\n");
    *file.lock().unwrap() = Some(report["posh"]["content"].as_str().unwrap().to_owned());
    let signed = zone.sign(&folder);
    drop(before);
    let (before, resolver) = unbound(&folder, world.names.address().ip(), &[(HALL, signed)]);
    let config = configured(&world, "graded.yaml", resolver, &anchors);
    let (report, code) = grade(&config, HALL, &[]).await;
    assert_eq!((&report["todo"], code), (&Value::from(0), 0), "{report:#}");
    must(&report, "good", "TLSA", "1 published, and fit");
    must(&report, "good", "POSH", &public.to_string());
    let said = told(&["grade", HALL, "--config", &config.display().to_string()]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.contains("result: nothing to be done") && said.out.contains(&current[0]),
        "{}",
        said.out
    );

    // The next certificate, and the next key that has none yet: not published, then published.
    let next = world.authority.issue(&Leaf::of(&[HALL])).unwrap();
    let (chain, key) = next.write(&folder, "next").unwrap();
    let by_key = grade(&config, HALL, &["--next", &key.display().to_string()]).await;
    let by_chain = grade(&config, HALL, &["--next", &chain.display().to_string()]).await;
    for (report, code) in [&by_key, &by_chain] {
        assert_eq!((&report["todo"], *code), (&Value::from(2), 1), "{report:#}");
        must(report, "todo", "TLSA", "the next key is not published");
        assert_eq!(printed(report, "next"), printed(&by_chain.0, "next"));
    }
    must(&by_key.0, "note", "POSH", "no certificate yet");
    let both: Value = serde_json::from_str(by_chain.0["posh"]["content"].as_str().unwrap()).unwrap();
    assert_eq!(both["fingerprints"].as_array().unwrap().len(), 2, "{both}");
    zone.records += &(printed(&by_chain.0, "next").join("\n") + "\n");
    let signed = zone.sign(&folder);
    drop(before);
    let (_running, resolver) = unbound(&folder, world.names.address().ip(), &[(HALL, signed)]);
    let config = configured(&world, "graded.yaml", resolver, &anchors);
    let (report, code) = grade(&config, HALL, &["--next", &chain.display().to_string()]).await;
    assert_eq!((&report["todo"], code), (&Value::from(0), 0), "{report:#}");
    must(&report, "good", "TLSA", "the next key is published, too");
    must(&report, "good", "TLSA", "2 published, and fit");
    let said = told(&["grade", HALL, "--config", &config.display().to_string(), "--next", "/nowhere"]).await;
    assert_eq!(said.code, 78, "{said:?}");
}

// A server with what observatories complain of, in a signed zone; and zones whose signatures do not hold.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_has_its_line_and_what_to_do() {
    let world = World::build(&Plan::listed(HALL, POLICY)).await.unwrap();
    let folder = world.folder.path().join("dns");
    std::fs::create_dir(&folder).unwrap();
    let ip = world.names.address().ip();
    let shown = Identity::self_signed(&Leaf { expired: true, ..Leaf::of(&["elsewhere.example"]) }).unwrap();
    let (chain, key) = shown.write(&folder, "old").unwrap();
    let at = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
    let mut server = Command::new("openssl");
    server.args(["s_server", "-www", "-accept", &at.to_string(), "-cipher", "ALL:@SECLEVEL=0"]);
    server
        .args(["-min_protocol", "TLSv1", "-max_protocol", "TLSv1.2", "-cert"])
        .arg(chain)
        .arg("-key")
        .arg(key);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running(server.spawn().unwrap());
    listens(at);
    let port = at.port();
    let records = format!(
        "_xmpps-server._tcp IN SRV 0 0 {port} h\nh IN A {ip}\n_xmpp-server._tcp IN SRV 0 0 5269 inside\ninside IN A 10.0.0.1\n\
         _{port}._tcp.h IN TLSA 3 1 1 {}\n",
        "07".repeat(32)
    );
    let bad = Zone::new(&folder, "bad.example", records);
    let forged =
        Zone::new(&folder, "forged.example", format!("_xmpp-server._tcp IN SRV 0 0 {port} h\nh IN A {ip}\n"));
    let mut above = String::new();
    for zone in [&bad, &forged] {
        writeln!(above, "{0}. IN NS ns.{0}.\nns.{0}. IN A 127.0.0.1", zone.name).unwrap();
        above += &std::fs::read_to_string(folder.join(format!("{}.ds", zone.key))).unwrap();
    }
    let parent = Zone::new(&folder, "example", above);
    let anchors = folder.join(format!("{}.key", parent.key));
    let (bad, forged, parent) = (bad.sign(&folder), forged.sign(&folder), parent.sign(&folder));
    // Another port, under the signature of the first.
    let text = std::fs::read_to_string(&forged).unwrap();
    let other = text.replace(&format!("SRV\t0 0 {port} "), "SRV\t0 0 5269 ");
    assert_ne!(text, other);
    std::fs::write(&forged, other).unwrap();
    let zones = [("bad.example", bad), ("forged.example", forged), ("example", parent)];
    let (_running, resolver) = unbound(&folder, ip, &zones);
    let config = configured(&world, "graded.yaml", resolver, &anchors);

    let (report, code) = grade(&config, "bad.example", &[]).await;
    assert_eq!(code, 1);
    must(&report, "good", "DNSSEC", "secure");
    must(&report, "todo", "address", "10.0.0.1:5269 is none that the world can call");
    must(&report, "todo", "chain", "not trusted");
    must(&report, "todo", "names", "elsewhere.example");
    must(&report, "todo", "days left", "expired");
    must(&report, "todo", "TLS", "takes 1.0, which is broken");
    must(&report, "todo", "TLS", "takes 1.1, which is broken");
    must(&report, "todo", "TLS", "takes 1.2 with ECDHE-ECDSA-AES");
    must(&report, "todo", "TLS", "refuses 1.3");
    must(&report, "todo", "TLSA", "none fits what");
    must(&report, "note", "CAA", "none");
    let lines = report["lines"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["mark"] == "good" || line["advice"].is_string()), "{report:#}");

    let (report, code) = grade(&config, "forged.example", &[]).await;
    assert_eq!(code, 1);
    must(&report, "todo", "SRV", "the signatures of the DNS (DNSSEC) do not hold");
    assert!(!has(&report, "good", "DNSSEC", ""), "{report:#}");

    let said = told(&["grade", "no domain", "--config", &config.display().to_string()]).await;
    assert_eq!(said.code, 64, "{said:?}");

    // Where nobody looks at signatures, nothing is said of them.
    let text = std::fs::read_to_string(&config).unwrap().replace("dnssec: validate", "dnssec: off");
    let plain = text.replace(&format!(", anchors: {}", anchors.display()), "");
    std::fs::write(&config, plain).unwrap();
    let (report, code) = grade(&config, "bad.example", &[]).await;
    assert_eq!(code, 1);
    must(&report, "note", "DNSSEC", "not looked at");
    must(&report, "note", "TLSA", "1 published; whether they count was not looked at");
    assert!(!has(&report, "todo", "TLSA", ""), "{report:#}");
}

// The whole of it has an end: a server that takes connections and says nothing, and a DNS that does not answer. What was found by then
// is told, and so is what was not got to.
#[tokio::test(flavor = "multi_thread")]
async fn what_answers_slowly_holds_nobody_up() {
    let world = World::build(&Plan::listed(HALL, POLICY)).await.unwrap();
    let silent = TcpListener::bind((world.names.address().ip(), 0)).unwrap();
    let at = silent.local_addr().unwrap();
    world.names.announce("slow.example", Some(at), None).unwrap();
    let began = Instant::now();
    let (report, code) = grade(&world.config, "slow.example", &["--within", "1500ms"]).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(code, 1);
    let missed: Vec<&str> =
        report["missed"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    let [place, "POSH"] = missed[..] else { panic!("{report:#}") };
    assert!(place.ends_with(&format!(":{}", at.port())), "{place}");
    must(&report, "todo", "time", &format!("not looked at to the end within 1.5 s: {place}; POSH"));
    must(&report, "note", "CAA", "none");
    let mute = std::net::UdpSocket::bind((at.ip(), 0)).unwrap().local_addr().unwrap();
    let text = std::fs::read_to_string(&world.config).unwrap();
    let text = text.replace(&world.names.address().to_string(), &mute.to_string());
    let config = world.folder.path().join("mute.yaml");
    std::fs::write(&config, text).unwrap();
    let _taken = std::net::UdpSocket::bind(mute).unwrap();
    let began = Instant::now();
    let (report, code) = grade(&config, "slow.example", &["--within", "700ms"]).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((code, report["missed"].as_array().map(Vec::len)), (1, Some(4)), "{report:#}");
    let said = told(&["grade", HALL, "--config", "x", "--within", "2 minutes"]).await;
    assert!(said.code == 64 && said.err.contains("write it like 500ms, 30s, 5m, 1h or 2d"), "{said:?}");
}
