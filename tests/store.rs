//! Nodes that share a store, with a real Redis: what one knows all know, and whatever becomes of the store, traffic goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/sockets.rs"]
mod sockets;
#[path = "support/steering.rs"]
mod steering;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gatehouse::demo::world::World;
use serde_json::Value;
use sockets::*;
use steering::*;

/// A redis-server of the Debian package, ended by its id.
struct Redis {
    process: Child,
    port: u16,
    more: Vec<String>,
    folder: tempfile::TempDir,
}

impl Redis {
    fn start(more: &[&str]) -> Self {
        Self::start_as(&[&["--save", "", "--enable-debug-command", "yes"], more].concat(), "")
    }

    /// With these arguments alone, and this file of its own.
    fn start_as(more: &[&str], file: &str) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("own.conf"), file).unwrap();
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        Self { process: Self::run(port, &more, folder.path()), port, more, folder }
    }

    fn run(port: u16, more: &[String], folder: &Path) -> Child {
        let mut process = Command::new("redis-server")
            .args(more.iter().filter(|word| word.ends_with(".conf")))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(more.iter().filter(|word| !word.ends_with(".conf")))
            .current_dir(folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server: tests/run installs it");
        let begun = Instant::now();
        while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "redis-server has ended");
            assert!(begun.elapsed() < Duration::from_secs(30), "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    /// What redis-cli hears.
    fn say(&self, words: &[&str]) -> String {
        let said =
            Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn revive(&mut self) {
        self.process = Self::run(self.port, &self.more, self.folder.path());
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).unwrap();
    }

    fn store(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The secrets that all nodes share, and perhaps the password of their store.
fn secrets(password: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("world", "0123456789abcdef".repeat(4)),
        ("inside", "fedcba9876543210".repeat(4)),
        ("store", password.to_owned()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A node at this store.
async fn node(store: &str, secrets: &Path, more: &str) -> World {
    let lines = format!(
        "dialback: {{ secrets: {{ world: \"{0}/world\", inside: \"{0}/inside\" }} }}\n\
         cluster: {{ name: gate, store: \"{store}\", password: \"{0}/store\" }}\n{more}",
        secrets.display()
    );
    let lines = if more.contains("no-password") {
        lines.replace(&format!(", password: \"{}/store\"", secrets.display()), "")
    } else {
        lines
    };
    World::build(&plan().with(&lines)).await.unwrap()
}

const OPEN: &str = "# no-password\n";

/// Polls until this is so, or half a minute has gone.
async fn until(what: &str, mut is: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    loop {
        match is().await {
            Ok(()) => return,
            Err(last) => {
                assert!(begun.elapsed() < Duration::from_secs(30), "waited for {what}; last: {last}")
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn bans(world: &World) -> Vec<String> {
    let answer = ask(&world.socket(), &["bans"]).await;
    answer["bans"].as_array().unwrap().iter().map(|ban| ban["target"].as_str().unwrap().to_owned()).collect()
}

async fn are_banned(nodes: &[&World], expected: &[&str]) {
    until(&format!("{expected:?} to be banned on all nodes"), async || {
        for node in nodes {
            let mut found = bans(node).await;
            found.sort();
            if found != expected {
                return Err(format!("{found:?}"));
            }
        }
        Ok(())
    })
    .await;
}

async fn cluster(world: &World) -> Value {
    ask(&world.socket(), &["cluster"]).await["cluster"].clone()
}

/// Waits until the store is in order, or in this trouble, for this node; metric and readiness say so.
async fn store_is(world: &World, trouble: Option<&str>) {
    until(&format!("the store to be {trouble:?}"), async || {
        let told = cluster(world).await;
        let (status, ready) = world.get("/readyz").await.unwrap();
        assert_eq!(status, 200, "traffic goes on: {ready}");
        let up = world.metrics().await.unwrap().sum("cluster_store_up", &[]);
        let as_told = match (trouble, told["trouble"].as_str()) {
            (None, None) => up == 1.0 && !ready.contains("cluster:"),
            (Some(words), Some(why)) => {
                why.contains(words) && ready.contains(&format!("cluster: {why}")) && up == 0.0
            }
            _ => false,
        };
        if as_told { Ok(()) } else { Err(format!("{told} {ready} up {up}")) }
    })
    .await;
}

// CLU-03, CLU-05: bans hold on every node and survive the restart of all; each node knows the others, and in what they differ.
#[tokio::test]
async fn what_one_node_bans_all_ban_and_each_knows_the_others() {
    let (redis, keys) = (Redis::start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    let third = node(&redis.store(), keys.path(), &format!("{OPEN}explain-to-users: off\n")).await;
    let nodes = [&first, &second, &third];
    assert_eq!(tell(&first.socket(), &["ban", "spam.example", "--for", "1h"]).await.code, 0);
    assert_eq!(tell(&third.socket(), &["ban", "203.0.113.0/24", "--for", "1h"]).await.code, 0);
    are_banned(&nodes, &["203.0.113.0/24", "spam.example"]).await;
    assert_eq!(tell(&second.socket(), &["unban", "spam.example"]).await.code, 0);
    are_banned(&nodes, &["203.0.113.0/24"]).await;
    until("each node to know the others", async || {
        for node in nodes {
            let metrics = node.metrics().await.unwrap();
            let count = metrics.sum("cluster_nodes", &[]);
            // The third says something else to its users, and nothing else is different.
            let differ = metrics.sum("cluster_mismatch", &[("what", "config")]);
            let others = ["clock", "secrets", "version"];
            let others: f64 =
                others.iter().map(|what| metrics.sum("cluster_mismatch", &[("what", what)])).sum();
            if (count, differ, others) != (3.0, 1.0, 0.0) {
                return Err(format!("{count} nodes, {differ} {others}: {}", cluster(node).await));
            }
        }
        Ok(())
    })
    .await;
    let told = cluster(&first).await;
    assert_eq!(
        (told["name"].as_str(), told["nodes"].as_array().map(Vec::len)),
        (Some("gate"), Some(3)),
        "{told}"
    );
    assert!(told["differences"].to_string().contains("has another configuration"), "{told}");
    let text = tell(&first.socket(), &["cluster"]).await.out;
    assert!(text.contains("cluster gate: 3 nodes") && text.contains("in order"), "{text}");
    // All of them end; a node that begins afterwards knows the ban before it lets anybody in.
    drop((first, second, third));
    let again = node(&redis.store(), keys.path(), OPEN).await;
    assert_eq!(bans(&again).await, ["203.0.113.0/24"]);
    // Everything that is kept ends by itself, and bears the name.
    for key in redis.say(&["KEYS", "*"]).lines() {
        assert!(key.starts_with("gatehouse:{gate}:"), "{key}");
        assert!(redis.say(&["TTL", key]).trim().parse::<i64>().unwrap() > 0, "{key}");
    }
}

// CLU-04: "With the store gone, slow, or lying (wrong types, foreign data), traffic goes on under local limits; the state is told
// in log, metric and readiness detail; when it is back, nothing that was decided meanwhile is lost."
#[tokio::test]
async fn whatever_becomes_of_the_store_traffic_goes_on_and_nothing_decided_is_lost() {
    let (mut redis, keys) = (Redis::start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    let mut bystander = Bystander::of(&first, "j@hall.example").await;
    store_is(&first, None).await;
    // Killed, and with it all that it held.
    redis.kill();
    store_is(&first, Some("cannot be reached")).await;
    bystander.unharmed(&first).await;
    assert_eq!(tell(&first.socket(), &["ban", "killed.example", "--for", "1h"]).await.code, 0);
    assert_eq!(bans(&second).await.len(), 0);
    redis.revive();
    are_banned(&[&first, &second], &["killed.example"]).await;
    store_is(&first, None).await;
    // Frozen: connections stand and nothing is answered.
    redis.signal(rustix::process::Signal::STOP);
    store_is(&first, Some("cannot be reached")).await;
    bystander.unharmed(&first).await;
    assert_eq!(tell(&second.socket(), &["unban", "killed.example"]).await.code, 0);
    redis.signal(rustix::process::Signal::CONT);
    are_banned(&[&first, &second], &[]).await;
    store_is(&first, None).await;
    // Slow by five seconds.
    let port = redis.port.to_string();
    let mut slow = Command::new("redis-cli")
        .args(["-p", &port, "DEBUG", "SLEEP", "5"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    store_is(&first, Some("cannot be reached")).await;
    bystander.unharmed(&first).await;
    slow.wait().unwrap();
    store_is(&first, None).await;
    // Full.
    redis.say(&["CONFIG", "SET", "maxmemory", "1"]);
    store_is(&first, Some("refuses")).await;
    assert_eq!(tell(&first.socket(), &["ban", "full.example", "--for", "1h"]).await.code, 0);
    bystander.unharmed(&first).await;
    redis.say(&["CONFIG", "SET", "maxmemory", "0"]);
    are_banned(&[&first, &second], &["full.example"]).await;
    store_is(&first, None).await;
    // Of another type, key by key.
    for key in ["bans", "nodes", "events"] {
        let key = format!("gatehouse:{{gate}}:{key}");
        redis.say(&["DEL", &key]);
        redis.say(&["SET", &key, "something else"]);
        store_is(&first, Some("WRONGTYPE")).await;
        bystander.unharmed(&first).await;
        assert_eq!(bans(&first).await, ["full.example"]);
        redis.say(&["DEL", &key]);
        store_is(&first, None).await;
    }
    // Foreign data: told, passed over, and no reason to do without the store.
    redis.say(&["HSET", "gatehouse:{gate}:bans", "not a target", "{}"]);
    redis.say(&["HSET", "gatehouse:{gate}:nodes", "stranger", "\u{1b}[31m"]);
    redis.say(&["XADD", "gatehouse:{gate}:events", "*", "e", "nonsense"]);
    until("foreign entries to be told", async || {
        let told = cluster(&first).await;
        match told["trouble"].as_str() {
            Some(why) if why.contains("cannot be read") => Ok(()),
            _ => Err(told.to_string()),
        }
    })
    .await;
    assert_eq!(tell(&first.socket(), &["ban", "beside.example", "--for", "1h"]).await.code, 0);
    are_banned(&[&first, &second], &["beside.example", "full.example"]).await;
    bystander.unharmed(&first).await;
}

// The rights that deploy/README.md names are enough, and no others are needed.
#[tokio::test]
async fn the_rights_of_the_page_are_enough() {
    let redis = Redis::start(&["--requirepass", "root"]);
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("user gate ")).expect("the line of the ACL");
    let rights: Vec<&str> = line.split_whitespace().skip(2).collect();
    assert!(!rights.iter().any(|right| right.starts_with("+@") || *right == "allkeys"), "{line}");
    let as_root =
        [&["-a", "root", "--no-auth-warning", "ACL", "SETUSER", "gate"], rights.as_slice()].concat();
    assert_eq!(redis.say(&as_root).trim(), "OK");
    let password = rights.iter().find_map(|right| right.strip_prefix('>')).expect("a password");
    let keys = secrets(password);
    let store = format!("redis://gate@127.0.0.1:{}", redis.port);
    let first = node(&store, keys.path(), "").await;
    let second = node(&store, keys.path(), "").await;
    assert_eq!(tell(&first.socket(), &["ban", "spam.example", "--for", "1h"]).await.code, 0);
    are_banned(&[&first, &second], &["spam.example"]).await;
    assert_eq!(tell(&first.socket(), &["unban", "spam.example"]).await.code, 0);
    are_banned(&[&first, &second], &[]).await;
    store_is(&first, None).await;
    let wrong = node(&store, secrets("wrong").path(), "").await;
    store_is(&wrong, Some("refuses")).await;
}

// C2S-11, CLU-03: what fails at one node counts at all, within two seconds as a rule.
#[tokio::test]
async fn a_password_is_not_guessed_at_each_node_anew() {
    let (redis, keys) = (Redis::start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    let events = || -> Vec<Value> {
        let row = redis.say(&["XRANGE", "gatehouse:{gate}:events", "-", "+"]);
        row.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|e| e.is_object())
            .collect()
    };
    // The two worlds have clients of different addresses, so what the one tells is told again as if it were of the other's.
    for world in [&first, &second] {
        assert!(world.login_from_outside("romeo", HALL, Some("a guess")).await.is_err());
    }
    until("both failures to be told", async || match events().len() {
        2 => Ok(()),
        count => Err(format!("{count} events")),
    })
    .await;
    let [one, other] = &events()[..] else { panic!("{:?}", events()) };
    let (one, other) = (&one["login"], &other["login"]);
    assert_eq!((&one["account"], &one["failed"]), (&other["account"], &other["failed"]), "{one} {other}");
    assert!(
        one["account"].is_u64() && one["network"] != other["network"] && !format!("{one}").contains("romeo")
    );
    for (number, login) in (1..=9).flat_map(|number| [one, other].map(|login| (number, login))) {
        let event = serde_json::json!({ "node": format!("of {}", login["network"]), "number": number,
            "time": jiff::Timestamp::now().as_millisecond(), "login": login });
        redis.say(&["XADD", "gatehouse:{gate}:events", "*", "e", &event.to_string()]);
    }
    for world in [&first, &second] {
        until("each node to refuse both guessers", async || {
            match world.metrics().await.unwrap().sum("bans", &[]) {
                2.0 => Ok(()),
                count => Err(format!("{count} refusals")),
            }
        })
        .await;
        assert!(world.login_from_outside("romeo", HALL, None).await.is_err());
        assert!(world.metrics().await.unwrap().sum("limited_total", &[("limit", "logins")]) > 0.0);
    }
}

// "single, Sentinel, Cluster": one node asks the sentinels who leads, another knows; and two in a cluster.
#[tokio::test]
async fn a_store_is_found_by_sentinels_and_as_a_cluster() {
    let keys = secrets("");
    let leader = Redis::start(&[]);
    let watch = format!("sentinel monitor leader 127.0.0.1 {} 1\n", leader.port);
    let sentinel = Redis::start_as(&["own.conf", "--sentinel"], &watch);
    let by_sentinel = format!("redis+sentinel://127.0.0.1:{}/leader", sentinel.port);
    let bus = free_port().to_string();
    let alone = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    assert_eq!(alone.say(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).trim(), "OK");
    let as_cluster = format!("redis+cluster://127.0.0.1:{}", alone.port);
    for (one, other) in [(by_sentinel, leader.store()), (as_cluster.clone(), as_cluster)] {
        let first = node(&one, keys.path(), OPEN).await;
        let second = node(&other, keys.path(), OPEN).await;
        store_is(&first, None).await;
        assert_eq!(tell(&first.socket(), &["ban", "spam.example", "--for", "1h"]).await.code, 0);
        are_banned(&[&first, &second], &["spam.example"]).await;
        assert_eq!(tell(&second.socket(), &["unban", "spam.example"]).await.code, 0);
        are_banned(&[&first, &second], &[]).await;
        store_is(&second, None).await;
    }
}

// A store that shows a certificate which nobody vouches for is none.
#[tokio::test]
async fn a_store_that_cannot_prove_its_name_is_not_believed() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (keys, tls) = (secrets(""), tempfile::tempdir().unwrap());
    let files = [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())];
    let [certificate, key] = files.map(|(name, text)| {
        let path = tls.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    });
    let port = free_port().to_string();
    let arguments = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificate,
        "--tls-auth-clients",
        "no",
    ];
    let _redis = Redis::start(&arguments);
    let first = node(&format!("rediss://localhost:{port}"), keys.path(), OPEN).await;
    store_is(&first, Some("cannot be reached")).await;
    let why = cluster(&first).await["trouble"].to_string().to_lowercase();
    assert!(why.contains("certificate"), "{why}");
    Bystander::of(&first, "j@hall.example").await.unharmed(&first).await;
}

// Orders reach all nodes.
#[tokio::test]
async fn streams_are_closed_on_all_nodes() {
    let (redis, keys) = (Redis::start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    let cousin = peer(&second, 10, COUSIN).await;
    let mut stream = by_certificate(&cousin, HALL).await;
    store_is(&second, None).await;
    let said = tell(&first.socket(), &["close", COUSIN, "--cluster"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    stream.ending().await.unwrap();
    let alone = World::build(&plan()).await.unwrap();
    let said = tell(&alone.socket(), &["close", COUSIN, "--cluster"]).await;
    assert!(said.code == 1 && said.err.contains("shares no store"), "{said:?}");
    assert_eq!(tell(&alone.socket(), &["cluster"]).await.code, 1);
}
