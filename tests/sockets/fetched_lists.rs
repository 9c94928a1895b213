//! Lists that are fetched by HTTPS from a real web server, and lists of digests: who is named keeps out, one address of a domain too, and
//! whatever is wrong with the way there or with what comes changes nothing and is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use gatehouse::demo::gate::Gate;
use gatehouse::demo::pki::{Authority, Identity, Leaf};
use gatehouse::demo::session::Login;
use gatehouse::demo::world::{Plan, World};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::sockets::*;
use crate::steering::*;

/// A static web server that knows its documents again.
#[derive(Clone, Default)]
struct Web {
    answers: Arc<Mutex<HashMap<String, String>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Web {
    async fn serve(&self, authority: &Authority, ip: IpAddr, identity: &Identity) {
        let listener = TcpListener::bind(SocketAddr::new(ip, 443)).await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(authority.server(identity, false).unwrap());
        let web = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (web, acceptor) = (web.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.ok()?);
                    }
                    let head = String::from_utf8(head).ok()?;
                    let path = head.split(' ').nth(1)?.to_owned();
                    let body = web.answers.lock().unwrap().get(&path).cloned();
                    let tag = body.as_ref().map(|body| format!("\"{}\"", hex(body)));
                    let known = tag.as_ref().is_some_and(|tag| head.contains(tag.as_str()));
                    web.heads.lock().unwrap().push(head);
                    let answer = match (body, tag) {
                        (None, _) | (_, None) => {
                            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()
                        }
                        (Some(_), _) if known => "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
                        (Some(body), Some(tag)) => format!(
                            "HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        ),
                    };
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    stream.shutdown().await.ok()
                });
            }
        });
    }

    fn put(&self, path: &str, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), body.to_owned());
    }

    fn visits(&self, path: &str) -> usize {
        let line = format!("GET {path} ");
        self.heads.lock().unwrap().iter().filter(|head| head.starts_with(&line)).count()
    }
}

fn hex(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

fn minisign(folder: &Path, arguments: &[&str]) {
    let done =
        Command::new("minisign").current_dir(folder).args(arguments).output().expect("minisign is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn counts(world: &World, family: &str, labels: &[(&str, &str)], value: f64) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let found = world.metrics().await.unwrap().sum(family, labels);
        if found == value {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{family} {labels:?}: {found}, not {value}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn trouble(world: &World, list: &str, words: Option<&str>) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (_, json) = world.get("/status.json").await.unwrap();
        let status: Value = serde_json::from_str(&json).unwrap();
        let lists = status["lists"].as_array().unwrap();
        let found =
            lists.iter().find(|one| one["name"] == list).unwrap()["trouble"].as_str().map(str::to_owned);
        if words.map_or(found.is_none(), |words| found.as_ref().is_some_and(|found| found.contains(words))) {
            let alarm = format!("the list {list} cannot be fetched");
            assert_eq!(status["alarms"].to_string().contains(&alarm), words.is_some(), "{json}");
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{list}: {found:?}, not {words:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const POLICY: &str = "version: v1
rules:
  - { name: on-lists, verdict: deny, lists: [web, signed, inner], quorum: 1 }
";

// POL-13.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_fetched_kept_and_held_as_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    minisign(here, &["-G", "-W", "-f", "-p", "key.pub", "-s", "key.sec"]);
    let sign = |body: &str| {
        fs::write(here.join("list"), body).unwrap();
        minisign(here, &["-S", "-W", "-s", "key.sec", "-m", "list"]);
        fs::read_to_string(here.join("list.minisig")).unwrap()
    };
    let key = fs::read_to_string(here.join("key.pub")).unwrap().lines().nth(1).unwrap().to_owned();
    fs::create_dir(here.join("state")).unwrap();
    let mut plan = Plan::listed(HALL, POLICY).limit("rate", "6000/min");
    plan.hosted[0].federation = "any".to_owned();
    plan.more = format!(
        "state: \"{}/state\"\nlists:\n  - {{ name: web, url: \"https://lists.example/web.txt\", refresh: 5s }}\n  \
         - {{ name: signed, url: \"https://lists.example/signed.txt\", refresh: 5s, verify: {{ minisign: \"{key}\" }} }}\n  \
         - {{ name: inner, url: \"https://inside.example/list.txt\", refresh: 5s }}\n",
        here.display()
    );
    let mut world = World::build(&plan).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    // Nothing is there yet: that is told, and nobody is named.
    counts(&world, "list_held", &[("list", "web"), ("reason", "unfetched")], 1.0).await;
    trouble(&world, "web", Some("https://lists.example/web.txt")).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "before").await;

    // One of the network of the peers, which the gateway of the test may dial; the other is of a network inside.
    let IpAddr::V4(ip) = friend.address.ip() else { unreachable!() };
    let host = IpAddr::from([ip.octets()[0], ip.octets()[1], ip.octets()[2], 200]);
    let web = Web::default();
    let identity = world.authority.issue(&Leaf::of(&["lists.example"])).unwrap();
    web.put("/web.txt", "a.example\nb.example\nfriend.example\n");
    let signed = "c.example\nd.example\ne.example\n";
    web.put("/signed.txt", signed);
    web.put("/signed.txt.minisig", &sign("something else\n"));
    web.serve(&world.authority, host, &identity).await;
    world.names.host("lists.example", host);
    world.names.host("inside.example", "10.9.8.7".parse().unwrap());

    counts(&world, "list_domains", &[("list", "web")], 3.0).await;
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    trouble(&world, "web", None).await;
    trouble(&world, "inner", Some("inside.example")).await;
    trouble(&world, "signed", Some("no good signature lies beside it")).await;
    assert_eq!(world.metrics().await.unwrap().sum("list_domains", &[("list", "signed")]), 0.0);
    web.put("/signed.txt.minisig", &sign(signed));
    counts(&world, "list_domains", &[("list", "signed")], 3.0).await;

    // What has not changed is not sent again.
    world.counted("list_fetches_total", &[("list", "web"), ("outcome", "unchanged")], 1.0).await.unwrap();
    // What has lost too much is held; what is no list does not even come there.
    web.put("/web.txt", "a.example\n");
    counts(&world, "list_held", &[("list", "web"), ("reason", "shrunk")], 1.0).await;
    web.put("/web.txt", "<html>not here any more</html>\n");
    trouble(&world, "web", Some("no line of it is a domain")).await;
    web.answers.lock().unwrap().remove("/web.txt");
    trouble(&world, "web", Some("it answers 404")).await;
    counts(&world, "list_domains", &[("list", "web")], 3.0).await;
    web.put("/web.txt", "a.example\nb.example\nfriend.example\nf.example\n");
    counts(&world, "list_domains", &[("list", "web")], 4.0).await;
    trouble(&world, "web", None).await;
    let turned_away = async || {
        let mut call = friend.call(HALL).unwrap().open().await.unwrap();
        assert_ne!(call.external(FRIEND).await.ok(), Some(Login::Success));
    };
    turned_away().await;

    // Over a restart it is there at once, also where the web server is not.
    world.gate.stop().await.unwrap();
    let file = world.folder.path().join("gatehouse.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("refresh: 5s", "refresh: 6h")).unwrap();
    let before = web.visits("/web.txt");
    world.gate = Gate::start(&file).await.unwrap();
    turned_away().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(web.visits("/web.txt"), before, "it was fetched a moment ago");
    // A list that is no more leaves nothing behind.
    let text = fs::read_to_string(&file).unwrap();
    let gone = text.lines().filter(|line| !line.contains("name: inner") && !line.contains("name: signed"));
    fs::write(&file, gone.collect::<Vec<_>>().join("\n")).unwrap();
    let policy = world.folder.path().join(format!("policies/{HALL}.yaml"));
    fs::write(&policy, POLICY.replace(", signed, inner", "")).unwrap();
    let reloaded = tell(&world.socket(), &["reload"]).await;
    assert_eq!(reloaded.code, 0, "{}", reloaded.err);
    let left = || {
        fs::read_dir(here.join("state")).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    for _ in 0..300 {
        if !left().iter().any(|name| name.to_string_lossy().contains("signed.fetched")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", left());
}

/// How often the one rule was used.
async fn uses(world: &World) -> u64 {
    let (_, json) = world.get("/status.json").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["rules"][0]["name"], "on-lists", "{json}");
    status["rules"][0]["hits"].as_u64().unwrap()
}

// POL-13: `jid-sha256`.
#[tokio::test]
async fn a_list_of_digests_keeps_out_domains_and_single_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("rtbl.txt");
    let entries = [hex("bad@friend.example"), hex("cousin.example"), hex("other@else.example")];
    fs::write(&list, entries.join("\n")).unwrap();
    let policy = "version: v1\nrules:\n  - { name: on-lists, verdict: deny, lists: [rtbl] }\n";
    let mut plan = Plan::listed(HALL, policy).limit("rate", "6000/min");
    plan.hosted[0].federation = "any".to_owned();
    plan.more = format!("lists:\n  - {{ name: rtbl, file: \"{}\", format: jid-sha256 }}\n", list.display());
    let world = World::build(&plan).await.unwrap();
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let mut call = cousin.call(HALL).unwrap().open().await.unwrap();
    assert_ne!(call.external(COUSIN).await.ok(), Some(Login::Success));

    let mut stream = by_certificate(&friend, HALL).await;
    let before = uses(&world).await;
    let message = |from: &str, id: &str| {
        format!("<message from='{from}' to='j@hall.example' id='{id}'><body>{id}</body></message>")
    };
    let sent = [
        ("bad@friend.example", "m1", false),
        ("good@friend.example", "m2", true),
        // However it is written.
        ("BAD@Friend.example/phone", "m3", false),
        ("good@friend.example/phone", "m4", true),
        ("bad@friend.example/x", "m5", false),
    ];
    for (from, id, _) in sent {
        stream.send(message(from, id)).await.unwrap();
    }
    stream.send("<presence from='bad@friend.example' to='j@hall.example' id='p1'/>").await.unwrap();
    still_passes(&world, &mut stream, "good@friend.example", "j@hall.example", "after").await;
    for (_, id, passes) in sent {
        let came = world.legacy.inbox.all().iter().any(|node| node.attr("id") == Some(id));
        assert_eq!(came, passes, "{id}");
        if !passes {
            let told = friend.inbox.wait(|node| node.attr("id") == Some(id)).await.unwrap();
            assert_eq!(condition(&told), Some("policy-violation"));
            // POL-05: the world does not read why.
            assert!(!told.raw.contains("list"), "{}", told.raw);
        }
    }
    assert!(!world.legacy.inbox.all().iter().any(|node| node.attr("id") == Some("p1")));
    assert_eq!(refused(&world, "on-lists").await, 4.0);
    let refusals = ask(&world.socket(), &["refusals", "--reason", "on-lists"]).await.to_string();
    assert!(refusals.contains("bad@friend.example") && refusals.contains("rtbl ("), "{refusals}");
    // The rule is named with its line, and its use is counted, although another one has let the pair in.
    assert!(
        refusals.contains("\"rule\":\"on-lists\"") && refusals.contains("policies/hall.example.yaml:3:5"),
        "{refusals}"
    );
    assert_eq!(uses(&world).await, before + 4);
    recorded(&world, &["\"refused\"", "\"rule\":\"on-lists\"", "hall.example.yaml:3:5\""]).await;

    // Who asks about the sender hears what the gateway does, and a question that makes no sense is no verdict.
    let explain = ["policy", "explain", "--live", "--to", "j@hall.example", "--from"];
    for (from, code, word) in [
        ("Bad@friend.example/x", 1, "(on-lists)"),
        ("good@friend.example", 0, "0 of 1 lists"),
        ("friend.example", 0, "ask with a whole address"),
    ] {
        let said = tell(&world.socket(), &[&explain[..], &[from]].concat()).await;
        assert!(said.code == code && said.out.contains(word), "{from}: {said:?}");
    }
    let said =
        tell(&world.socket(), &["policy", "explain", "--live", "--from", "a.example", "--to", "b.example"])
            .await;
    assert_eq!(said.code, 64);

    // A rule that names the domain goes before lists, for all who are there.
    let file = world.folder.path().join(format!("policies/{HALL}.yaml"));
    fs::write(&file, format!("{policy}  - {{ name: known, domains: [friend.example] }}\n")).unwrap();
    assert_eq!(tell(&world.socket(), &["reload"]).await.code, 0);
    stream.send(message("bad@friend.example", "m6")).await.unwrap();
    world.legacy.inbox.wait(|node| node.attr("id") == Some("m6")).await.unwrap();
}
