//! Whoever stands between the gateway and the DNS, and keeps TLSA answers back, gains nothing by it (DNS-09, DNS-11, DNS-12, DNS-18): a partner that
//! publishes its key is not spoken to under another, though an authority that everybody trusts has issued a certificate for that one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::pki::{Identity, Leaf};
use gatehouse::demo::world::{Plan, World};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::sockets::{HALL, record};
use crate::zones;

/// What becomes of a question for TLSA records on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// It is said that there are none, and beside it stands a record of a zone that nobody signs.
    Beside,
    /// It is said that there are none, without a signature.
    Denied,
    /// The server is said to be in trouble.
    Failed,
    /// It passes.
    Open,
    /// Nothing comes back.
    Silent,
}

/// Somebody between the gateway and its resolver.
struct Between {
    address: SocketAddr,
    way: watch::Sender<Way>,
    kept: Arc<AtomicUsize>,
}

impl Between {
    async fn stand(ip: IpAddr, resolver: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
        let (way, now) = watch::channel(Way::Open);
        let (address, kept) = (near.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&kept);
        tokio::spawn(async move {
            let mut octets = [0; 4096];
            while let Ok((length, asker)) = near.recv_from(&mut octets).await {
                let (question, near) = (octets[..length].to_vec(), Arc::clone(&near));
                let way = *now.borrow();
                if way != Way::Open && asks_for_tlsa(&question) {
                    count.fetch_add(1, Ordering::SeqCst);
                    if let Some(answer) = instead(way, &question) {
                        near.send_to(&answer, asker).await.unwrap();
                    }
                    continue;
                }
                tokio::spawn(async move {
                    let far = UdpSocket::bind((ip, 0)).await.ok()?;
                    far.send_to(&question, resolver).await.ok()?;
                    let mut answer = [0; 65535];
                    let length = timeout(Duration::from_secs(5), far.recv(&mut answer)).await.ok()?.ok()?;
                    near.send_to(&answer[..length], asker).await.ok()
                });
            }
        });
        Self { address, way, kept }
    }
}

/// The place behind the name that a question is about.
fn behind_the_name(question: &[u8]) -> usize {
    let mut at = 12;
    while question[at] > 0 {
        at += 1 + usize::from(question[at]);
    }
    at + 1
}

fn asks_for_tlsa(question: &[u8]) -> bool {
    let at = behind_the_name(question);
    question[at..at + 2] == [0, 52]
}

/// What the gateway hears in the place of the answer: the question, as an answer without the record.
fn instead(way: Way, question: &[u8]) -> Option<Vec<u8>> {
    let code = match way {
        Way::Open | Way::Silent => return None,
        Way::Beside | Way::Denied => 0,
        Way::Failed => 2,
    };
    let mut answer = question[..behind_the_name(question) + 4].to_vec();
    answer[2] |= 0x80;
    // It says that it has validated.
    answer[3] = 0xa0 | code;
    answer[6..12].fill(0);
    if way == Way::Beside {
        answer[9] = 1;
        // unsigned.example NS unsigned.example, for a minute; its name stands where the pointer shows.
        let place = u16::try_from(answer.len()).unwrap() | 0xc000;
        answer.extend(b"\x08unsigned\x07example\0\0\x02\0\x01\0\0\0\x3c\0\x02");
        answer.extend(place.to_be_bytes());
    }
    Some(answer)
}

fn key(identity: &Identity) -> String {
    digest(&SHA256, &identity.der().unwrap().1).as_ref().iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

fn policy(identity: &str) -> String {
    format!("version: v1\nrules:\n  - {{ name: partners, domains: [\"*.{ZONE}\"]{identity} }}\n")
}

/// The gateway, somebody between it and its resolver, and servers for the domains of a signed zone: each shows a good certificate, and its
/// zone names another key; the last shows the key that is named.
struct Stage {
    world: World,
    between: Between,
    partners: Vec<Peer>,
    _unbound: zones::Running,
}

impl Stage {
    async fn set(many: u8, validates: bool) -> Self {
        let world = World::build(&Plan::listed(HALL, &policy("")).limit("rate", "6000/min")).await.unwrap();
        let folder = world.folder.path().join("dns");
        std::fs::create_dir(&folder).unwrap();
        let named = Identity::self_signed(&Leaf::of(&["nobody.example"])).unwrap();
        let (mut partners, mut records) = (Vec::new(), String::new());
        for n in 0..=many {
            let domain = format!("c{n}.{ZONE}");
            let shown = match n == many {
                true => named.clone(),
                false => world.authority.issue(&Leaf::of(&[&domain])).unwrap(),
            };
            let peer = world.peer_with(20 + n, &[&domain], shown, Manner::default()).await.unwrap();
            let (ip, port, key) = (peer.address.ip(), peer.address.port(), key(&named));
            writeln!(records, "_xmpp-server._tcp.c{n} IN SRV 0 0 {port} h{n}\nh{n} IN A {ip}").unwrap();
            writeln!(records, "_{port}._tcp.h{n} IN TYPE52 \\# 35 030101{key}").unwrap();
            partners.push(peer);
        }
        let key = zones::key(&folder, ZONE);
        let signed = zones::sign(&folder, ZONE, &records, &key, &[]);
        let delegation = std::fs::read_to_string(folder.join(format!("{key}.ds"))).unwrap();
        let unsigned = "unsigned.example. IN NS ns.unsigned.example.\nns.unsigned.example. IN A 127.0.0.1";
        let above =
            format!("{ZONE}. IN NS ns.{ZONE}.\nns.{ZONE}. IN A 127.0.0.1\n{delegation}\n{unsigned}\n");
        let anchor = zones::key(&folder, "example");
        let top = zones::sign(&folder, "example", &above, &anchor, &[]);
        let anchor = folder.join(format!("{anchor}.key"));
        let ip = world.names.address().ip();
        let served = [(ZONE, signed, None), ("example", top, (!validates).then(|| anchor.clone()))];
        let (unbound, resolver) = zones::unbound(&folder, ip, &served);
        let between = Between::stand(ip, resolver).await;
        let dnssec = match validates {
            false => "dnssec: resolver".to_owned(),
            true => format!("dnssec: validate, anchors: \"{}\"", anchor.display()),
        };
        let text = std::fs::read_to_string(&world.config).unwrap();
        let before = format!("dns: {{ servers: [\"{}\"]", world.names.address());
        assert!(text.contains(&before), "{text}");
        let after = format!("dns: {{ servers: [\"{}\"], {dnssec}", between.address);
        std::fs::write(&world.config, text.replace(&before, &after)).unwrap();
        world.gate.reload().await.unwrap();
        Self { world, between, partners, _unbound: unbound }
    }

    /// A message to this partner comes back, and the cause is one of these.
    async fn keeps_away(&self, n: usize, what: &str, causes: &[&str]) {
        let domain = self.partners[n].domain();
        self.world.legacy.message("j@hall.example", &format!("a@{domain}"), "to whoever is there");
        let pair = format!("hall.example>{domain}");
        let refused = record(&self.world, |r| r["event"] != "admitted" && r["pair"] == *pair).await;
        let found = refused["cause"].as_str().unwrap_or_default();
        assert!(causes.contains(&found), "{what}: {refused}");
        assert!(self.partners[n].inbox.is_empty(), "{what}");
    }
}

async fn kept_back(validates: bool) {
    let ways: &[(Way, &str)] = match validates {
        // The way to a resolver that is believed is the machine itself.
        false => &[(Way::Silent, "dns-trouble"), (Way::Failed, "dns-trouble")],
        true => &[
            (Way::Silent, "dns-trouble"),
            (Way::Failed, "dns-trouble"),
            (Way::Denied, "dns-bogus"),
            (Way::Beside, "dns-bogus"),
        ],
    };
    let many = ways.len();
    let stage = Stage::set(u8::try_from(many).unwrap() + 1, validates).await;
    // What an authority has issued does not count beside what the zone names.
    stage.keeps_away(many, "in the open", &["tlsa-mismatch"]).await;
    for (n, (way, cause)) in ways.iter().enumerate() {
        stage.between.way.send(*way).unwrap();
        let before = stage.between.kept.load(Ordering::SeqCst);
        stage.keeps_away(n, &format!("{way:?}, {validates}"), &[cause]).await;
        assert!(stage.between.kept.load(Ordering::SeqCst) > before, "{way:?}: it was not even asked");
    }
    // Nor does whoever calls get in by it.
    let strict = policy(", identity: [dane]");
    std::fs::write(stage.world.folder.path().join(format!("policies/{HALL}.yaml")), strict).unwrap();
    stage.world.gate.reload().await.unwrap();
    for (n, (way, cause)) in ways.iter().enumerate() {
        stage.between.way.send(*way).unwrap();
        let peer = &stage.partners[n];
        let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
        assert!(!stream.offers_external(), "{way:?}");
        let ended = stream.ending().await.unwrap();
        assert_eq!(ended.condition.as_deref(), Some("policy-violation"), "{way:?}");
        let pair = format!("{}>hall.example", peer.domain());
        let refused = record(&stage.world, |r| r["event"] != "admitted" && r["pair"] == *pair).await;
        assert_eq!(refused["cause"], *cause, "{way:?}: {refused}");
    }
    // In the open again, who shows the key that is named is spoken to.
    stage.between.way.send(Way::Open).unwrap();
    let partner = stage.partners.last().unwrap();
    let domain = partner.domain();
    stage.world.legacy.message("j@hall.example", &format!("a@{domain}"), "to the partner");
    partner.inbox.wait_body("to the partner").await.unwrap();
    let pair = format!("hall.example>{domain}");
    let admitted = record(&stage.world, |r| r["event"] == "admitted" && r["pair"] == *pair).await;
    assert_eq!(admitted["server_proof"], "dane", "{admitted}");
}

// DNS-11: "failed address or TLSA lookups exclude that target", where the resolver validates.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_kept_back_open_nothing_where_the_resolver_validates() {
    kept_back(false).await;
}

// And where the gateway does, so that a lie on the way is one more that is found out.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_kept_back_open_nothing_where_the_gateway_validates() {
    kept_back(true).await;
}

const ZONE: &str = "signed.example";
