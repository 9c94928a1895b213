//! POSH (DNS-16, DNS-17): a partner with a certificate of its own is proven by a file on its web server, both ways, where a rule names that;
//! and whatever is wrong with the file, or with the way to it, has its cause in words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::pki::{Authority, Identity, Leaf};
use gatehouse::demo::session::{Login, Word};
use gatehouse::demo::world::{Plan, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::sockets::*;
use crate::steering::run;

const POLICY: &str = "version: v1\nrules:\n  - { name: filed, domains: [\"*.web.example\"], identity: [posh] }\n  \
                      - { name: plain, domains: [\"*.plain.example\"], identity: [dialback] }\n";

/// The path of the file.
const PATH: &str = "/.well-known/posh/xmpp-server.json";

/// A static web server: what it answers, by host and path.
#[derive(Clone, Default)]
struct Web {
    answers: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    visits: Arc<AtomicUsize>,
}

impl Web {
    async fn serve(&self, authority: &Authority, ip: IpAddr, identity: &Identity) {
        let listener = TcpListener::bind(SocketAddr::new(ip, 443)).await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(authority.server(identity, false).unwrap());
        let web = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                web.visits.fetch_add(1, Ordering::SeqCst);
                let (web, acceptor) = (web.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.ok()?);
                    }
                    let head = String::from_utf8(head).ok()?;
                    let path = head.split(' ').nth(1)?;
                    let host = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned))?;
                    let answer = web.answers.lock().unwrap().get(&format!("{host}{path}")).cloned();
                    let answer = answer
                        .unwrap_or_else(|| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
                    stream.write_all(&answer).await.ok()?;
                    stream.shutdown().await.ok()
                });
            }
        });
    }

    fn put(&self, place: &str, answer: Vec<u8>) {
        self.answers.lock().unwrap().insert(place.to_owned(), answer);
    }
}

fn document(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn moved(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn sha256(identity: &Identity) -> String {
    STANDARD.encode(digest(&SHA256, &identity.der().unwrap().0).as_ref())
}

fn file(identities: &[&Identity], expires: u64) -> String {
    let named: Vec<String> =
        identities.iter().map(|identity| format!(r#"{{"sha-256":"{}"}}"#, sha256(identity))).collect();
    format!(r#"{{"fingerprints":[{}],"expires":{expires}}}"#, named.join(","))
}

fn elsewhere(url: &str) -> String {
    format!(r#"{{"url":"{url}","expires":600}}"#)
}

fn alone() -> Identity {
    Identity::self_signed(&Leaf::of(&["nobody.example"])).unwrap()
}

/// What the web server of a domain says, and what must come of it.
struct Case {
    what: &'static str,
    shown: Identity,
    answer: Vec<u8>,
    /// The cause of the refusal; none where the file proves the server.
    cause: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let (one, next) = (alone(), alone());
    let case = |what, answer, cause| Case { what, shown: one.clone(), answer, cause };
    let sha512 = STANDARD.encode(digest(&SHA512, &one.der().unwrap().0).as_ref());
    let good = || document(&file(&[&one], 600));
    let stale = Identity::self_signed(&Leaf { expired: true, ..Leaf::of(&["nobody.example"]) }).unwrap();
    let mut all = vec![
        case("sha-256", good(), None),
        case(
            "sha-512",
            document(&format!(r#"{{"fingerprints":[{{"sha-512":"{sha512}"}}],"expires":600}}"#)),
            None,
        ),
        case("the next certificate beside the one that is shown", document(&file(&[&next, &one], 600)), None),
        case(
            "a reference to the hoster",
            document(&elsewhere("https://hoster.example/posh/good.json")),
            None,
        ),
        case("a redirect to the hoster", moved("https://hoster.example/posh/good.json"), None),
        case("a redirect on the same host", moved("/elsewhere.json"), None),
        // RFC 9110 10.2.2: beside the file, above it, and without a scheme; above the first folder there is nothing.
        case("a redirect beside it", moved("beside.json?of=it"), None),
        case("a redirect above it", moved("../../elsewhere.json"), None),
        case("a redirect above everything", moved("../../../../elsewhere.json"), None),
        case("a redirect without a scheme", moved("//hoster.example/posh/good.json"), None),
        case(
            "a redirect within a name inside",
            moved("//inside.example/good.json"),
            Some("posh-not-fetched"),
        ),
        case("a redirect beside it to nothing", moved("nothing.json"), Some("posh-not-fetched")),
        case("another certificate", document(&file(&[&next], 600)), Some("posh-mismatch")),
        case("over", document(&file(&[&one], 0)), Some("posh-unusable")),
        case("no time", document(r#"{"fingerprints":[]}"#), Some("posh-unusable")),
        case("no JSON", document("<html/>"), Some("posh-unusable")),
        case(
            "a reference to a reference",
            document(&elsewhere("https://hoster.example/posh/again.json")),
            Some("posh-unusable"),
        ),
        case(
            "a reference without TLS",
            document(&elsewhere("http://hoster.example/posh/good.json")),
            Some("posh-unusable"),
        ),
        case(
            "a redirect without TLS",
            moved("http://hoster.example/posh/good.json"),
            Some("posh-not-fetched"),
        ),
        case(
            "a redirect to a private network",
            moved("https://10.0.0.1/good.json"),
            Some("posh-not-fetched"),
        ),
        case(
            "a redirect to the metadata of a cloud",
            moved("https://169.254.169.254/latest"),
            Some("posh-not-fetched"),
        ),
        case(
            "a redirect to a port of the system",
            moved("https://hoster.example:22/x"),
            Some("posh-not-fetched"),
        ),
        case(
            "a redirect to a name inside",
            moved("https://inside.example/good.json"),
            Some("posh-not-fetched"),
        ),
        case(
            "a reference to a private network",
            document(&elsewhere("https://192.168.7.7/good.json")),
            Some("posh-not-fetched"),
        ),
        case("redirects without end", moved(PATH), Some("posh-not-fetched")),
        case(
            "more than 64 KiB",
            document(&format!("{}{}", " ".repeat(64 * 1024), file(&[&one], 600))),
            Some("posh-not-fetched"),
        ),
        case(
            "more than 64 KiB, and does not say so",
            [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 80_000], file(&[&one], 600).into_bytes()]
                .concat(),
            Some("posh-not-fetched"),
        ),
        case(
            "not found",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Some("posh-not-fetched"),
        ),
        case("no HTTP", b"220 ready\r\n".to_vec(), Some("posh-not-fetched")),
        case(
            "cut off",
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{".to_vec(),
            Some("posh-not-fetched"),
        ),
    ];
    // DNS-17: "not certificate validity dates".
    all.push(Case {
        what: "named, and out of date",
        answer: document(&file(&[&stale], 600)),
        shown: stale,
        cause: Some("expired"),
    });
    all
}

async fn partner(world: &World, host: u8, domain: &str, shown: &Identity) -> Peer {
    let peer = world.peer_with(host, &[domain], shown.clone(), Manner::default()).await.unwrap();
    world.names.announce(domain, Some(peer.address), None).unwrap();
    peer
}

/// Both ways: the message that comes in over a stream of the partner, and the one that goes out.
async fn judged(world: &World, peer: &Peer, what: &str, cause: Option<&str>) {
    let domain = peer.domain();
    let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
    world.legacy.message("j@hall.example", &format!("a@{domain}"), &format!("to {domain}"));
    let Some(cause) = cause else {
        assert!(stream.offers_external(), "{what}");
        assert_eq!(stream.external(domain).await.unwrap(), Login::Success, "{what}");
        still_passes(world, &mut stream, &format!("a@{domain}"), "j@hall.example", what).await;
        let came =
            record(world, |r| r["event"] == "admitted" && r["pair"] == *format!("{domain}>hall.example"))
                .await;
        assert_eq!(came["proof"], "posh", "{what}: {came}");
        let went =
            record(world, |r| r["event"] == "admitted" && r["pair"] == *format!("hall.example>{domain}"))
                .await;
        assert_eq!(went["server_proof"], "posh", "{what}: {went}");
        peer.inbox.wait_body(&format!("to {domain}")).await.unwrap();
        return;
    };
    assert!(!stream.offers_external(), "{what}");
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"), "{what}");
    for pair in [format!("{domain}>hall.example"), format!("hall.example>{domain}")] {
        let refused = record(world, |r| r["event"] != "admitted" && r["pair"] == *pair).await;
        assert_eq!(refused["cause"], cause, "{what}: {refused}");
    }
    assert!(peer.inbox.is_empty(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_proves_a_partner_both_ways_and_what_is_wrong_with_it_is_told() {
    let world = World::build(&Plan::listed(HALL, POLICY).limit("rate", "6000/min")).await.unwrap();
    let cases = cases();
    let domain = |n: usize| format!("c{n}.web.example");
    let mut names: Vec<String> = (0..cases.len()).map(domain).collect();
    names.extend(
        ["hoster.example", "inside.example", "all.web.example", "second.web.example", "d.plain.example"]
            .map(str::to_owned),
    );
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let identity = world.authority.issue(&Leaf::of(&names)).unwrap();
    let mut partners = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        partners.push(partner(&world, 20 + u8::try_from(n).unwrap(), &domain(n), &case.shown).await);
    }
    // One of the network of the partners, which the gateway of the test may dial.
    let host = |host: u8| match partners[0].address.ip() {
        IpAddr::V4(ip) => IpAddr::from([ip.octets()[0], ip.octets()[1], ip.octets()[2], host]),
        IpAddr::V6(_) => unreachable!(),
    };
    let web = Web::default();
    web.serve(&world.authority, host(200), &identity).await;
    for name in &names {
        world.names.host(name, host(200));
    }
    world.names.host("inside.example", "10.9.8.7".parse().unwrap());
    let good = document(&file(&[&cases[0].shown], 600));
    web.put("hoster.example/posh/good.json", good.clone());
    web.put("hoster.example/posh/again.json", document(&elsewhere("https://hoster.example/posh/good.json")));
    for (n, case) in cases.iter().enumerate() {
        web.put(&format!("{}{PATH}", domain(n)), case.answer.clone());
        web.put(&format!("{}/elsewhere.json", domain(n)), good.clone());
        web.put(&format!("{}/.well-known/posh/beside.json?of=it", domain(n)), good.clone());
    }
    for (case, peer) in cases.iter().zip(&partners) {
        judged(&world, peer, case.what, case.cause).await;
    }

    // A web server whose certificate is for another name, of an authority that nobody knows, or past; and none at all.
    let unknown = Authority::new("nobody's authority").unwrap();
    let of = |leaf: Leaf| world.authority.issue(&leaf).unwrap();
    let webs = [
        ("for another name", Some(of(Leaf::of(&["elsewhere.example"])))),
        ("of an authority that nobody knows", Some(unknown.issue(&Leaf::of(&["w1.web.example"])).unwrap())),
        ("past", Some(of(Leaf { expired: true, ..Leaf::of(&["w2.web.example"]) }))),
        ("no web server", None),
    ];
    for (n, (what, identity)) in webs.into_iter().enumerate() {
        let (at, name) = (u8::try_from(n).unwrap(), format!("w{n}.web.example"));
        let shown = alone();
        let peer = partner(&world, 100 + at, &name, &shown).await;
        let other = Web::default();
        other.put(&format!("{name}{PATH}"), document(&file(&[&shown], 600)));
        if let Some(identity) = identity {
            other.serve(&world.authority, host(210 + at), &identity).await;
        }
        world.names.host(&name, host(210 + at));
        judged(&world, &peer, what, Some("posh-not-fetched")).await;
    }

    // The words that an operator reads name each proof that was tried.
    let refused = record(&world, |r| r["pair"] == *format!("{}>hall.example", domain(12))).await;
    let told = refused["detail"].as_str().unwrap_or_default();
    assert!(told.contains("not by certificate"), "{refused}");
    let labels = [("method", "posh"), ("outcome", "allow")];
    world.counted("authentications_total", &labels, 6.0).await.unwrap();

    // DB-30: a second domain on the same stream, whose file names the same certificate, is proven without asking anybody.
    let shown = alone();
    let peer = world
        .peer_with(120, &["all.web.example", "second.web.example"], shown.clone(), Manner::default())
        .await
        .unwrap();
    for name in ["all.web.example", "second.web.example"] {
        world.names.announce(name, Some(peer.address), None).unwrap();
        web.put(&format!("{name}{PATH}"), document(&file(&[&shown], 600)));
    }
    let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(stream.external("all.web.example").await.unwrap(), Login::Success);
    assert_eq!(stream.dialback("second.web.example", HALL).await.unwrap(), Word::Valid);
    still_passes(&world, &mut stream, "a@second.web.example", "j@hall.example", "the second").await;
    assert_eq!(peer.visits(), 0, "nobody was asked about the key");

    // Where no rule names it, nobody is asked for a file.
    let shown = alone();
    let plain = partner(&world, 121, "d.plain.example", &shown).await;
    web.put(&format!("d.plain.example{PATH}"), document(&file(&[&shown], 600)));
    let before = web.visits.load(Ordering::SeqCst);
    let mut stream = plain.call(HALL).unwrap().open().await.unwrap();
    assert!(!stream.offers_external());
    assert_eq!(
        stream.dialback("d.plain.example", HALL).await.unwrap(),
        Word::Valid,
        "its certificate is nobody's, and dialback holds"
    );
    assert_eq!(web.visits.load(Ordering::SeqCst), before, "a web server was asked for nothing");

    // What was found holds as long as the file says: one fetch for both ways and for each further stream.
    let fetched = web.visits.load(Ordering::SeqCst);
    for _ in 0..3 {
        let mut stream = partners[0].call(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.external(&domain(0)).await.unwrap(), Login::Success);
        stream.close().await.unwrap();
    }
    assert_eq!(web.visits.load(Ordering::SeqCst), fetched, "the file was fetched again");

    let config = world.config.display().to_string();
    let probe = async |name: String| {
        let config = config.clone();
        tokio::task::spawn_blocking(move || run(&["probe", &name, "--config", &config])).await.unwrap()
    };
    let said = probe(domain(0)).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("proven by   posh"), "{}", said.out);
    let said = probe(domain(12)).await;
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.out.contains("not by      posh: the certificate is none of those"), "{}", said.out);
}

// DNS-16: "lower of the two bounds the cache". Once it is over, the file is fetched again, and what it says then holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_holds_no_longer_than_it_says() {
    let world = World::build(&Plan::listed(HALL, POLICY).limit("rate", "6000/min")).await.unwrap();
    let shown = alone();
    let peer = partner(&world, 20, "short.web.example", &shown).await;
    let identity = world.authority.issue(&Leaf::of(&["short.web.example", "hoster.example"])).unwrap();
    let IpAddr::V4(ip) = peer.address.ip() else { unreachable!() };
    let at = IpAddr::from([ip.octets()[0], ip.octets()[1], ip.octets()[2], 200]);
    let web = Web::default();
    web.serve(&world.authority, at, &identity).await;
    for name in ["short.web.example", "hoster.example"] {
        world.names.host(name, at);
    }
    web.put(&format!("short.web.example{PATH}"), document(&elsewhere("https://hoster.example/x.json")));
    web.put("hoster.example/x.json", document(&file(&[&shown], 1)));
    let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(stream.external("short.web.example").await.unwrap(), Login::Success);
    web.put("hoster.example/x.json", document(&file(&[&alone()], 1)));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
    assert!(!stream.offers_external(), "another certificate is named since");
    // A rule that takes DANE alone lets nobody in where nobody looks at signatures, and `check` says so.
    let strict = POLICY.replace("identity: [posh]", "identity: [dane]");
    std::fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), strict).unwrap();
    let config = world.config.display().to_string();
    let said = tokio::task::spawn_blocking(move || run(&["check", "--config", &config])).await.unwrap();
    assert!(format!("{said:?}").contains("takes DANE alone"), "{said:?}");
    // And so does a look at the partner: what the rule waits for was not looked for.
    let config = world.config.display().to_string();
    let said = tokio::task::spawn_blocking(move || run(&["probe", "short.web.example", "--config", &config]));
    let said = said.await.unwrap();
    let why = "not by      dane: its domain names no certificate in the DNS under signatures (TLSA); nobody looks at signatures here";
    assert!(said.code != 0 && said.out.contains(why), "{}", said.out);
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
}
