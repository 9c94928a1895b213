//! What validating signatures may cost (DNS-09, LIM-06): a zone that never comes to an end with what it denies has a bounded number of
//! questions asked, is told as that, and stands in nobody's way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use gatehouse::demo::peer::Manner;
use gatehouse::demo::pki::{Identity, Leaf};
use gatehouse::demo::session::Login;
use gatehouse::demo::world::{Plan, World};
use hickory_proto::dnssec::rdata::sig::SigInput;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG};
use hickory_proto::dnssec::{Algorithm, PublicKeyBuf};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::{SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType, SerialNumber};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::sockets::{HALL, record, still_passes};
use crate::zones;

const POLICY: &str = "version: v1\nrules: [{ name: signed, domains: [\"*.example\"], identity: [dane] }]\n";

/// A domain in a zone of its own that endless answers are about.
const EVIL: &str = "evil.example";

/// One in the signed zone above it.
const FRIEND: &str = "friend.example";

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

/// A record with a signature that the zone itself is said to have made. Nobody has: before it is looked at, the key would have to be
/// proven.
fn signed(at: &Name, data: RData) -> [Record; 2] {
    let record = Record::from_rdata(at.clone(), 60, data);
    let input = SigInput {
        type_covered: record.record_type(),
        algorithm: Algorithm::ECDSAP256SHA256,
        num_labels: at.num_labels(),
        original_ttl: 60,
        sig_expiration: SerialNumber::new(4_000_000_000),
        sig_inception: SerialNumber::new(1_600_000_000),
        key_tag: 1,
        signer_name: name(EVIL),
    };
    let signature = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, vec![7; 64])));
    [record, Record::from_rdata(at.clone(), 60, signature)]
}

/// What the zone says: it has a key, which signs all that it has; and of its own delegation, which would tell whether that is its key, it
/// says that there is none, signed by that key. No two answers are the same, so that what came of one says nothing of the next.
fn evil(question: &Message, port: u16, count: usize) -> Message {
    let asked = question.queries.first().unwrap().clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    answer.metadata.recursion_available = true;
    answer.add_query(asked.clone());
    let at = asked.name().to_lowercase();
    let found = match asked.query_type() {
        RecordType::DNSKEY => {
            let key = PublicKeyBuf::new(vec![9; 64], Algorithm::ECDSAP256SHA256);
            Some(RData::DNSSEC(DNSSECRData::DNSKEY(DNSKEY::new(true, true, false, key))))
        }
        RecordType::SRV if at.to_ascii().starts_with("_xmpp-server.") => {
            Some(RData::SRV(SRV::new(0, 0, port, name(&format!("h.{EVIL}")))))
        }
        _ => None,
    };
    match found {
        Some(data) => answer.insert_answers(signed(&at, data).to_vec()),
        None => {
            let serial = u32::try_from(count).unwrap();
            let soa = SOA::new(name(EVIL), name(EVIL), serial, 3600, 600, 86_400, 60);
            let nothing = NSEC::new(name(&format!("n{count}.{EVIL}")), [RecordType::NS, RecordType::TXT]);
            let soa = signed(&name(EVIL), RData::SOA(soa));
            let nothing = signed(&at, RData::DNSSEC(DNSSECRData::NSEC(nothing)));
            answer.insert_authorities([soa, nothing].concat());
        }
    }
    answer
}

/// A resolver that caches nothing: it makes up what is asked about the one domain, and hands on the rest.
async fn between(ip: IpAddr, behind: SocketAddr, port: u16) -> (SocketAddr, [Arc<AtomicUsize>; 2]) {
    let socket = Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
    let address = socket.local_addr().unwrap();
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [made_up, handed_on] = counts.clone();
    tokio::spawn(async move {
        let (mut octets, mut count) = ([0; 4096], 0);
        while let Ok((length, from)) = socket.recv_from(&mut octets).await {
            let Ok(question) = Message::from_vec(&octets[..length]) else { continue };
            let about_evil = question.queries.iter().any(|query| name(EVIL).zone_of(query.name()));
            if about_evil {
                made_up.fetch_add(1, Ordering::Relaxed);
                count += 1;
                let answer = evil(&question, port, count).to_vec().unwrap();
                let _sent = socket.send_to(&answer, from).await;
                continue;
            }
            handed_on.fetch_add(1, Ordering::Relaxed);
            let (socket, question) = (Arc::clone(&socket), octets[..length].to_vec());
            tokio::spawn(async move {
                let further = UdpSocket::bind((ip, 0)).await.ok()?;
                further.send_to(&question, behind).await.ok()?;
                let mut answer = [0; 4096];
                let heard = tokio::time::timeout(Duration::from_secs(5), further.recv(&mut answer)).await;
                socket.send_to(&answer[..heard.ok()?.ok()?], from).await.ok()
            });
        }
    });
    (address, counts)
}

fn own(domain: &str) -> Identity {
    Identity::self_signed(&Leaf::of(&[domain])).unwrap()
}

// DNS-09: 5,500 to 10,000 questions and more than a second of computing came of one connection before. Both ways, and for a partner
// in the zone above there is no difference.
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_denies_its_own_keys_costs_a_bounded_number_of_questions() {
    let world = World::build(&Plan::listed(HALL, POLICY).limit("rate", "6000/min")).await.unwrap();
    let folder = world.folder.path().join("dns");
    std::fs::create_dir(&folder).unwrap();
    let ip = world.names.address().ip();
    let good = own(FRIEND);
    let friend = world.peer_with(20, &[FRIEND], good.clone(), Manner::default()).await.unwrap();
    let unlisted = world.peer_with(21, &[EVIL], own(EVIL), Manner::default()).await.unwrap();
    let (port, at) = (friend.address.port(), friend.address.ip());
    let key: String =
        digest(&SHA256, &good.der().unwrap().1).as_ref().iter().map(|o| format!("{o:02x}")).collect();
    let records = format!(
        "_xmpp-server._tcp.friend IN SRV 0 0 {port} friend\nfriend IN A {at}\n_{port}._tcp.friend IN TLSA 3 1 1 {key}\n"
    );
    let signer = zones::key(&folder, "example");
    let file = zones::sign(&folder, "example", &records, &signer, &[]);
    let (_unbound, behind) = zones::unbound(&folder, ip, &[("example", file, None)]);
    let (resolver, [asked, others]) = between(ip, behind, unlisted.address.port()).await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    let before = format!("dns: {{ servers: [\"{}\"]", world.names.address());
    assert!(text.contains(&before), "{text}");
    let anchors = folder.join(format!("{signer}.key"));
    let validating =
        format!("dns: {{ servers: [\"{resolver}\"], dnssec: validate, anchors: {}", anchors.display());
    std::fs::write(&world.config, text.replace(&before, &validating)).unwrap();
    world.gate.reload().await.unwrap();

    // Whoever calls.
    let begun = Instant::now();
    let mut stream = unlisted.call(HALL).unwrap().open().await.unwrap();
    assert!(!stream.offers_external());
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    let pair = format!("{EVIL}>{HALL}");
    let refused = record(&world, |r| r["event"] != "admitted" && r["pair"] == *pair).await;
    assert_eq!(refused["cause"], "dns-too-much", "{refused}");
    let inbound = asked.swap(0, Ordering::Relaxed);
    assert!((20..=MOST).contains(&inbound), "{inbound} questions");
    // Whoever is called.
    world.legacy.message("j@hall.example", &format!("a@{EVIL}"), "never");
    let pair = format!("{HALL}>{EVIL}");
    let refused = record(&world, |r| r["event"] != "admitted" && r["pair"] == *pair).await;
    assert_eq!(
        (&refused["reason"], &refused["cause"]),
        (&"dns-failed".into(), &"dns-too-much".into()),
        "{refused}"
    );
    let outbound = asked.swap(0, Ordering::Relaxed);
    assert!((20..=MOST).contains(&outbound), "{outbound} questions");
    println!("questions: {inbound} in, {outbound} out, in {:?}", begun.elapsed());
    assert!(unlisted.inbox.is_empty());
    world.counted("limited_total", &[("limit", "validation")], 2.0).await.unwrap();

    // Meanwhile others are looked up as ever: nothing is held against them.
    let crowd: Vec<_> = (0..8).map(|_| unlisted.call(HALL).unwrap()).collect();
    let crowd: Vec<_> = crowd.into_iter().map(|call| tokio::spawn(call.open())).collect();
    others.store(0, Ordering::Relaxed);
    let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(stream.external(FRIEND).await.unwrap(), Login::Success);
    still_passes(&world, &mut stream, &format!("a@{FRIEND}"), "j@hall.example", "from a friend").await;
    world.legacy.message("j@hall.example", &format!("a@{FRIEND}"), "to a friend");
    friend.inbox.wait_body("to a friend").await.unwrap();
    let others = others.load(Ordering::Relaxed);
    println!("questions about a friend, both ways: {others}");
    assert!(others <= 80, "{others} questions about one server, both ways");
    for called in crowd {
        let _ended = called.await.unwrap();
    }
    // What was found out is not found out anew for each of them.
    let more = asked.load(Ordering::Relaxed);
    assert!(more <= MOST, "{more} questions for eight more");
}

/// The purse of one look-up, and what a resolver may ask twice.
const MOST: usize = 520;
