//! The forms that a store may have, each as real processes of Redis and of Valkey: with TLS, behind Sentinels, as a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use crate::redis::*;
use crate::sockets::*;
use crate::steering::*;
use gatehouse::demo::world::World;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The files of a store with TLS.
struct Tls {
    folder: tempfile::TempDir,
    port: u16,
}

impl Tls {
    /// A certificate for these names, by an authority of its own.
    fn of(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "The store's own");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        for (name, text) in [
            ("root.pem", authority.pem()),
            ("store.pem", certificate.pem()),
            ("store.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder, port: free_port() }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// The arguments of a server that shows it there.
    fn arguments(&self, port: &str) -> Vec<String> {
        let (root, chain, key) = (self.file("root.pem"), self.file("store.pem"), self.file("store.key"));
        let files = ["--tls-cert-file", &chain, "--tls-key-file", &key, "--tls-ca-cert-file", &root];
        let words = [&["--tls-port", port][..], &files, &["--tls-auth-clients", "no"]].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    fn start(&self, program: Program, more: &[&str]) -> Redis {
        let own = self.arguments(&self.port.to_string());
        let all: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        program.start(&all)
    }
}

/// A node that judges its store by these anchors.
async fn judging(store: &str, roots: &Path, keys: &Path) -> World {
    let store = format!("{store}\", roots: \"{}", roots.display());
    node(&store, keys, OPEN).await
}

/// Both nodes know what either decides.
async fn share(first: &World, second: &World) {
    store_is(first, None).await;
    store_is(second, None).await;
    assert_eq!(tell(&first.socket(), &["ban", "spam.example", "--for", "1h"]).await.code, 0);
    are_banned(&[first, second], &["spam.example"]).await;
    assert_eq!(tell(&second.socket(), &["unban", "spam.example"]).await.code, 0);
    are_banned(&[first, second], &[]).await;
}

// A store of an authority of its own is believed by `roots`, by the name and the address that its certificate has, single and as a
// cluster; nothing of it goes over the wire in clear.
async fn a_store_with_tls_is_believed_by_its_name(program: Program) {
    let (keys, tls) = (secrets(""), Tls::of(&["localhost", "127.0.0.1"]));
    let redis = tls.start(program, &[]);
    for host in ["localhost", "127.0.0.1"] {
        let store = format!("rediss://{host}:{}", tls.port);
        let first = judging(&store, &tls.root(), keys.path()).await;
        let second = judging(&store, &tls.root(), keys.path()).await;
        share(&first, &second).await;
    }
    let clients = redis.say(&["CLIENT", "LIST"]);
    assert!(clients.lines().all(|line| !line.contains("cmd=hgetall")), "{clients}");
    drop(redis);
    let cluster = Tls::of(&["127.0.0.1"]);
    let bus = free_port().to_string();
    let alone =
        cluster.start(program, &["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", &bus]);
    assert_eq!(alone.say(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).trim(), "OK");
    let store = format!("rediss+cluster://127.0.0.1:{}", cluster.port);
    let first = judging(&store, &cluster.root(), keys.path()).await;
    let second = judging(&store, &cluster.root(), keys.path()).await;
    share(&first, &second).await;
}

// Neither a certificate for another name nor one of another authority is believed; traffic goes on, and it is told why.
async fn a_store_that_is_another_or_of_another_authority_is_refused(program: Program) {
    let (keys, other) = (secrets(""), Tls::of(&["other.example"]));
    let _redis = other.start(program, &[]);
    // Two authorities of one name.
    let right = Tls::of(&["localhost"]);
    let _right = right.start(program, &[]);
    for (port, root, why) in [(other.port, other.root(), "name"), (right.port, other.root(), "certificate")] {
        let first = judging(&format!("rediss://localhost:{port}"), &root, keys.path()).await;
        store_is(&first, Some("cannot be reached")).await;
        let told = cluster(&first).await["trouble"].to_string().to_lowercase();
        assert!(told.contains("certificate") && told.contains(why), "{told}");
        Bystander::of(&first, "j@hall.example").await.unharmed(&first).await;
    }
}

// When the leader dies, the sentinels name another one, and the nodes go there, with and without TLS.
async fn nodes_follow_the_sentinels_to_the_next_leader(program: Program) {
    let keys = secrets("");
    let one = Tls::of(&["127.0.0.1"]);
    for tls in [false, true] {
        let secured = |port: &str| match tls {
            true => [one.arguments(port), vec!["--tls-replication".to_owned(), "yes".to_owned()]].concat(),
            false => Vec::new(),
        };
        let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
        let start = |port: &str, more: &[&str]| {
            let own = secured(port);
            let all: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
            program.start(&all)
        };
        let mut leader = start(&ports[0], &[]);
        let at = |redis: &Redis, port: &str| if tls { port.to_owned() } else { redis.port.to_string() };
        let leading = at(&leader, &ports[0]);
        let next = start(&ports[1], &["--replicaof", &format!("127.0.0.1 {leading}")]);
        soon("the replica to follow", async || match next.say(&["INFO", "replication"]) {
            text if text.contains("master_link_status:up") => Ok(()),
            text => Err(text),
        })
        .await;
        let conf = format!(
            "sentinel monitor leader 127.0.0.1 {leading} 1\nsentinel down-after-milliseconds leader 1000\n\
             sentinel failover-timeout leader 3000\n"
        );
        let own = secured(&ports[2]);
        let words: Vec<&str> =
            ["own.conf", "--sentinel"].into_iter().chain(own.iter().map(String::as_str)).collect();
        let sentinel = program.start_as(&words, &conf);
        soon("the sentinel to know the replica", async || {
            match sentinel.say(&["SENTINEL", "REPLICAS", "leader"]) {
                text if text.contains("127.0.0.1") => Ok(()),
                text => Err(text),
            }
        })
        .await;
        let scheme = if tls { "rediss" } else { "redis" };
        let store = format!("{scheme}+sentinel://127.0.0.1:{}/leader", at(&sentinel, &ports[2]));
        let (first, second) = match tls {
            true => (
                judging(&store, &one.root(), keys.path()).await,
                judging(&store, &one.root(), keys.path()).await,
            ),
            false => (node(&store, keys.path(), OPEN).await, node(&store, keys.path(), OPEN).await),
        };
        share(&first, &second).await;
        assert_eq!(tell(&first.socket(), &["ban", "before.example", "--for", "1h"]).await.code, 0);
        are_banned(&[&first, &second], &["before.example"]).await;
        leader.kill();
        store_is(&first, Some("cannot be reached")).await;
        store_is(&first, None).await;
        store_is(&second, None).await;
        assert!(next.say(&["ROLE"]).contains("master"));
        assert_eq!(tell(&second.socket(), &["ban", "after.example", "--for", "1h"]).await.code, 0);
        are_banned(&[&first, &second], &["after.example", "before.example"]).await;
    }
}

// "single, Sentinel, Cluster", "ACL documented (the commands it needs and no more)": one node asks the sentinels who leads, another
// knows; and two in a cluster; each with the rights that the page names for it, and without the last of them not.
async fn a_store_is_found_by_sentinels_and_as_a_cluster(program: Program) {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("user gate ")).expect("the line of the ACL");
    let keys = secrets(line.split_once('>').unwrap().1.split(' ').next().unwrap());
    let known = |redis: &Redis, more: &str| {
        assert!(page.contains(&format!("`{more}`")), "the page names {more}");
        let rights: Vec<&str> = line.split_whitespace().skip(2).chain([more]).collect();
        assert_eq!(redis.say(&[&["ACL", "SETUSER", "gate"], rights.as_slice()].concat()).trim(), "OK");
    };
    let leader = program.start(&[]);
    known(&leader, ROLE);
    let watch = format!("sentinel monitor leader 127.0.0.1 {} 1\n", leader.port);
    let sentinel = program.start_as(&["own.conf", "--sentinel"], &watch);
    let by_sentinel = format!("redis+sentinel://gate@127.0.0.1:{}/leader", sentinel.port);
    let bus = free_port().to_string();
    let alone = program.start(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    assert_eq!(alone.say(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).trim(), "OK");
    known(&alone, SLOTS);
    let as_cluster = format!("redis+cluster://gate@127.0.0.1:{}", alone.port);
    let known_leader = format!("redis://gate@127.0.0.1:{}", leader.port);
    for (one, other) in [(&by_sentinel, &known_leader), (&as_cluster, &as_cluster)] {
        let first = node(one, keys.path(), "").await;
        let second = node(other, keys.path(), "").await;
        store_is(&first, None).await;
        assert_eq!(tell(&first.socket(), &["ban", "spam.example", "--for", "1h"]).await.code, 0);
        are_banned(&[&first, &second], &["spam.example"]).await;
        assert_eq!(tell(&second.socket(), &["unban", "spam.example"]).await.code, 0);
        are_banned(&[&first, &second], &[]).await;
        store_is(&second, None).await;
    }
    for (redis, right, store) in [(&leader, ROLE, &by_sentinel), (&alone, SLOTS, &as_cluster)] {
        redis.say(&["ACL", "SETUSER", "gate", &right.replace('+', "-")]);
        let first = node(store, keys.path(), "").await;
        store_is(&first, Some("lacks a right")).await;
    }
}

/// What more is needed behind sentinels, in a cluster, and in one whose slots move.
const ROLE: &str = "+role";
const SLOTS: &str = "+cluster|slots";
const ASKING: &str = "+asking";

// A slot of a cluster moves to another node under nodes of ours that read and write: at each step of the move both go on, and nothing that
// they write is in the way of it. Without the right to follow, the store is in trouble for that time.
async fn a_slot_moves_while_nodes_speak(program: Program) {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("user gate ")).expect("the line of the ACL");
    let keys = secrets(line.split_once('>').unwrap().1.split(' ').next().unwrap());
    assert!(page.contains(&format!("`{ASKING}`")), "the page names {ASKING}");
    let shard = || {
        let bus = free_port().to_string();
        let redis = program.start(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
        let rights: Vec<&str> = line.split_whitespace().skip(2).chain([SLOTS, ASKING]).collect();
        assert_eq!(redis.say(&[&["ACL", "SETUSER", "gate"], rights.as_slice()].concat()).trim(), "OK");
        (redis, bus)
    };
    let ((from, _), (to, bus)) = (shard(), shard());
    assert_eq!(from.say(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).trim(), "OK");
    from.say(&["CLUSTER", "MEET", "127.0.0.1", &to.port.to_string(), &bus]);
    let id = |redis: &Redis| redis.say(&["CLUSTER", "MYID"]).trim().to_owned();
    soon("the two to be a cluster", async || {
        let told = [&from, &to].map(|redis| redis.say(&["CLUSTER", "INFO"]));
        let is = |told: &String| told.contains("cluster_state:ok") && told.contains("cluster_known_nodes:2");
        if told.iter().all(is) { Ok(()) } else { Err(told.concat()) }
    })
    .await;

    let store = format!("redis+cluster://gate@127.0.0.1:{}", from.port);
    let (first, second) = (node(&store, keys.path(), "").await, node(&store, keys.path(), "").await);
    let both = [&first, &second];
    let mut banned: Vec<String> = Vec::new();
    let mut go_on = async |step: &str| {
        let target = format!("{step}.example");
        assert_eq!(tell(&first.socket(), &["ban", &target, "--for", "1h"]).await.code, 0);
        banned.push(target);
        banned.sort();
        are_banned(&both, &banned.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for node in both {
            store_is(node, None).await;
        }
    };
    // No ban yet: its key is to come about at the new node, while that of the nodes is at the old one.
    let slot = from.say(&["CLUSTER", "KEYSLOT", "gatehouse:{gate}:bans"]).trim().to_owned();
    assert_eq!(to.say(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(&from)]).trim(), "OK");
    assert_eq!(from.say(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(&to)]).trim(), "OK");
    go_on("announced").await;
    let port = to.port.to_string();
    let moved = |key: &str| from.say(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).trim().to_owned();
    assert_eq!(moved("gatehouse:{gate}:nodes"), "OK");
    go_on("half").await;
    for redis in [&from, &to] {
        assert_eq!(redis.say(&["ACL", "SETUSER", "gate", "-asking"]).trim(), "OK");
    }
    store_is(&first, Some(ASKING)).await;
    for redis in [&from, &to] {
        assert_eq!(redis.say(&["ACL", "SETUSER", "gate", ASKING]).trim(), "OK");
    }
    store_is(&first, None).await;
    let left = || -> Vec<String> {
        let keys = from.say(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
        keys.lines().filter(|key| !key.is_empty()).map(str::to_owned).collect()
    };
    for key in left() {
        // Not there any more: it has come to its time meanwhile.
        assert!(["OK", "NOKEY"].contains(&&*moved(&key)), "{key}");
    }
    go_on("moved").await;
    assert_eq!(left(), [""; 0], "nobody writes at the old node");
    for redis in [&to, &from] {
        assert_eq!(redis.say(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(&to)]).trim(), "OK");
    }
    go_on("over").await;
}

// A store that shows a certificate which nobody vouches for is none.
async fn a_store_that_cannot_prove_its_name_is_not_believed(program: Program) {
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
    let _redis = program.start(&arguments);
    let first = node(&format!("rediss://localhost:{port}"), keys.path(), OPEN).await;
    store_is(&first, Some("cannot be reached")).await;
    let why = cluster(&first).await["trouble"].to_string().to_lowercase();
    assert!(why.contains("certificate"), "{why}");
    Bystander::of(&first, "j@hall.example").await.unharmed(&first).await;
}

crate::with_redis_and_valkey! {
    a_store_with_tls_is_believed_by_its_name
    a_store_that_is_another_or_of_another_authority_is_refused
    nodes_follow_the_sentinels_to_the_next_leader
    a_store_is_found_by_sentinels_and_as_a_cluster
    a_slot_moves_while_nodes_speak
    a_store_that_cannot_prove_its_name_is_not_believed
}
