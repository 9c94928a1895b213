use std::net::SocketAddr;

use super::refused::room;
use super::*;
use crate::metrics::Door;
use crate::reason::{Cause, Detail};
use crate::run::audit;
use crate::run::refusals::RefusalQuery;
use crate::run::registry::Registry;
use crate::run::{Failure, now};

fn domain(s: &str) -> Domain {
    Domain::parse(s).unwrap()
}

fn pair() -> Pair {
    Pair { sender: domain("friend.example"), target: domain("hall.example") }
}

fn record(reason: Reason) -> Record {
    Record {
        detail: None,
        pair: Some(pair()),
        named: (None, None),
        tls: Some(TlsVersion::V13),
        suite: Some("TLS13_AES_128_GCM_SHA256"),
        method: Some(Method::Certificate),
        server: None,
        fingerprint: Some("ab".repeat(32)),
        revocation: Some(RevocationCheck::Unknown),
        rule: crate::run::tests::policy().rule_names().next().cloned(),
        beside: None,
        reason,
        stanzas: 3,
        octets: 900,
    }
}

fn meta() -> Meta {
    let registry = Registry::new(crate::run::tests::policy(), std::time::Duration::ZERO, 1);
    let peer: SocketAddr = "192.0.2.7:4000".parse().unwrap();
    Meta { id: registry.unnamed(), flow: Flow::S2sIn, peer: Some(peer), local: None }
}

/// A log of records in a folder of its own.
struct Audited(tempfile::TempDir);

impl Audited {
    /// What was recorded when all is written, without the lines of the log about itself that stand around it.
    fn lines(&self, observe: &Observe) -> Vec<serde_json::Value> {
        observe.finish();
        let text = std::fs::read_to_string(self.0.path().join("audit")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let [_, lines @ .., _] = &lines[..] else { panic!("{text}") };
        lines.to_vec()
    }
}

fn audited() -> (Observe, Audited) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new([domain("hall.example")]).unwrap());
    let params = audit::Params { file: folder.path().join("audit"), refuse: false, rotate_at: None };
    let audit = Audit::open(params, Arc::clone(&metrics)).unwrap();
    (Observe::new(metrics, Some(audit), now()), Audited(folder))
}

// Contract 5, LOG-01: time, stream id, flow, pair, peer address, TLS version and suite, proof, fingerprint, rule, reason,
// counts; CRT-09: whether somebody was asked about revocation.
#[tokio::test]
async fn each_end_and_each_refusal_is_one_record() {
    let (observe, audited) = audited();
    let meta = meta();
    observe.note(&meta, &Event::Ended { record: record(Reason::Finished).into() });
    observe.note(&meta, &Event::Refused { pair: Some(pair()), hosted: None, reason: Reason::CarbonForged });
    observe.note(
        &meta,
        &Event::Passed { hosted: domain("hall.example"), kind: crate::xml::Kind::Message, octets: 300 },
    );
    let lines = audited.lines(&observe);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let first = &lines[0];
    assert_eq!(first["event"], "ended");
    assert_eq!(first["pair"], "friend.example>hall.example");
    assert_eq!(first["peer"], "192.0.2.7:4000");
    assert_eq!(first["tls"], "1.3");
    assert_eq!(first["suite"], "TLS13_AES_128_GCM_SHA256");
    assert_eq!(first["revocation"], "unknown");
    assert_eq!(first["proof"], "certificate");
    assert_eq!(first["fingerprint"], "ab".repeat(32));
    assert_eq!(first["rule"], "default");
    assert_eq!(first["reason"], "finished");
    assert_eq!((&first["stanzas"], &first["octets"]), (&3.into(), &900.into()));
    assert_eq!(first["stream"], meta.id.to_string());
    assert!(first["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(lines[1]["reason"], "carbon-forged");
    assert!(observe.metrics().text().unwrap().contains("gatehouse_audit_records_total 4"));
}

// One line for a refusal, and one entry, with all that whoever mends it needs; its consequences are none.
#[tokio::test]
async fn a_refusal_is_one_line_with_cause_rule_and_remedy() {
    let metrics = Arc::new(Metrics::new([domain("hall.example")]).unwrap());
    let observe = Observe::new(metrics, None, now());
    let meta = Meta { flow: Flow::S2sOut, ..meta() };
    let pair = Pair { sender: domain("hall.example"), target: domain("friend.example") };
    let around = Around {
        called: Some("203.0.113.9:5269".parse().unwrap()),
        detail: Some(Detail::new(Cause::Expired, "on 2026-11-01")),
        nearest: Some("fiend.example in rule partners".to_owned()),
        ..Around::default()
    };
    let record = Record { pair: Some(pair.clone()), ..record(Reason::CertificateUntrusted) };
    let text = logged(|| {
        let verdict = crate::run::tests::policy().judge(
            &crate::policy::Question::Federate(crate::policy::Federate {
                hosted: &pair.sender,
                remote: &pair.target,
                direction: crate::reason::Direction::Outbound,
                identity: crate::policy::Identity::Unproven,
                tls: crate::policy::Tls::Unknown,
                address: None,
                key: crate::policy::ShownKey::Unknown,
            }),
            &mut (),
        );
        observe.note_with(&meta, &Event::Judged { pair: pair.clone(), verdict: verdict.into() }, &around);
        observe.note_with(
            &meta,
            &Event::Rejected { record: record.clone().into(), after: std::time::Duration::ZERO },
            &around,
        );
        let explained = Around { explained: true, ..around.clone() };
        let (facing, said) = (crate::reason::Facing::Backend, Said::Sent);
        observe.note_with(&meta, &Event::StreamError { facing, said, condition: None }, &explained);
        observe.note_with(&meta, &Event::Closed { record: record.clone().into() }, &explained);
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in [
        "203.0.113.9:5269",
        "the certificate expired on 2026-11-01",
        "clock",
        "fiend.example in rule partners",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(
        !text.contains("192.0.2.7"),
        "the backend's own address says nothing of the remote server: {text}"
    );
    let kept = observe.refusals().list(&RefusalQuery::default());
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0].cause.as_deref(), Some("expired"));
    assert_eq!(kept[0].peer.as_deref(), Some("203.0.113.9:5269"));
}

// A record when a pair may pass, so that a process that dies leaves a trace of whom it spoke with; outbound, the remote
// server's address and channel.
#[tokio::test]
async fn a_pair_has_a_record_when_it_begins_and_one_when_it_ends() {
    let (observe, audited) = audited();
    let meta = Meta { flow: Flow::S2sOut, ..meta() };
    let around = Around {
        called: Some("203.0.113.9:5269".parse().unwrap()),
        channel: Some(crate::run::tests::secured("hall.example")),
        ..Around::default()
    };
    let rule = crate::run::tests::policy().rule_names().next().cloned().unwrap();
    let (method, after) = (Method::Certificate, std::time::Duration::ZERO);
    let admitted = Event::Admitted {
        pair: pair(),
        method,
        server: None,
        rule,
        reason: Reason::Allowed,
        beside: None,
        after,
    };
    observe.note_with(&meta, &admitted, &around);
    observe.note_with(&meta, &Event::Ended { record: record(Reason::Finished).into() }, &around);
    let lines = audited.lines(&observe);
    let [begun, ended] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&begun["event"], &ended["event"]), (&"admitted".into(), &"ended".into()));
    for line in [begun, ended] {
        assert_eq!(line["peer"], "203.0.113.9:5269", "{line}");
        assert_eq!((&line["tls"], &line["proof"]), (&"1.3".into(), &"certificate".into()), "{line}");
        assert_eq!(line["fingerprint"], "ab".repeat(32), "{line}");
        assert!(line["suite"].is_string() && line["revocation"].is_string(), "{line}");
    }
}

// LOG-03.
#[test]
fn a_peers_words_cannot_break_a_line_or_turn_it_round() {
    assert_eq!(capped("a\nb\u{202e}c\"d\\"), "a\\nb\\u{202e}c\\\"d\\\\");
    assert_eq!(capped(&"x".repeat(300)).chars().count(), CAP + 1);
    assert_eq!(capped("bücher.example"), "bücher.example");
}

/// What is logged while this runs.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let octets = lines.0.lock().unwrap().clone();
    String::from_utf8(octets).unwrap()
}

// "Who is turned away by a limit is counted by limit and told once a minute and network in the log with the key to raise".
#[tokio::test(start_paused = true)]
async fn who_is_turned_away_is_told_once_a_minute_with_the_key_to_raise() {
    let observe = Observe::new(Arc::new(Metrics::new([domain("hall.example")]).unwrap()), None, now());
    let office: SocketAddr = "192.0.2.9:4000".parse().unwrap();
    let other: SocketAddr = "198.51.100.1:4000".parse().unwrap();
    let mut all = String::new();
    for _minute in 0..2 {
        all += &logged(|| {
            for _ in 0..100 {
                observe.kept_out(Door::C2sStarttls, office, Reason::TooManyConnections);
                observe.turned_away(Some(office), Reason::TooManyClients);
                observe.turned_away(Some(other), Reason::TooManyOfDomain);
            }
        });
        tokio::time::advance(std::time::Duration::from_secs(61)).await;
    }
    let lines = |words: &str| all.lines().filter(|line| line.contains(words)).count();
    assert_eq!((lines("conn-c2s"), lines("conn-clients"), lines("conn-domain")), (2, 2, 2), "{all}");
    let counted = observe.metrics().text().unwrap();
    for limit in ["connections", "clients", "domain-connections"] {
        assert!(counted.contains(&format!("gatehouse_limited_total{{limit=\"{limit}\"}} 200")), "{counted}");
    }
    for reason in Reason::ALL.iter().filter(|reason| room(**reason).is_some()) {
        assert!(reason.limit().is_some_and(|key| key.starts_with("limits: {")), "{reason}");
    }
}

// LOG-05: bad input is counted and told, within the rate of its network; who only knocks is counted and not told.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_at_the_door_is_told_within_a_rate() {
    let observe = Observe::new(Arc::new(Metrics::new([domain("hall.example")]).unwrap()), None, now());
    let peer: SocketAddr = "192.0.2.9:4000".parse().unwrap();
    let other: SocketAddr = "198.51.100.1:4000".parse().unwrap();
    let text = logged(|| {
        observe.kept_out(Door::Mixed, peer, Reason::WrongTransport);
        observe.kept_out(Door::S2sDirect, peer, Reason::TlsFailed);
        observe.kept_out(Door::S2sDirect, peer, Reason::ConnectionLost);
        let asked = Detail::new(Cause::NameNotServed, "server name nobody.example");
        observe.kept_out(Door::C2sDirect, peer, Failure::new(Reason::TlsFailed, asked));
        for _ in 0..1000 {
            observe.kept_out(Door::S2sStarttls, peer, Reason::BadProxyHeader);
        }
        observe.kept_out(Door::Mixed, other, Reason::TooManyHandshakes);
    });
    let lines = |words: &str| text.lines().filter(|line| line.contains(words)).count();
    assert_eq!(
        (lines("wrong-transport"), lines("tls-failed"), lines("connection-lost")),
        (1, 2, 0),
        "{text}"
    );
    assert!(
        text.contains("cause=\"name-not-served\"") && text.contains("server name nobody.example"),
        "{text}"
    );
    let kept = observe
        .refusals()
        .list(&RefusalQuery { reason: Some("name-not-served".to_owned()), ..RefusalQuery::default() });
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(
        kept[0].remedy.contains("`domains:`") && kept[0].peer.as_deref() == Some("192.0.2.9:4000"),
        "{kept:?}"
    );
    let header = observe
        .refusals()
        .list(&RefusalQuery { reason: Some("bad-proxy-header".to_owned()), ..RefusalQuery::default() });
    assert_eq!(header.iter().map(|r| r.times).collect::<Vec<_>>(), [1000]);
    assert!((200..=300).contains(&lines("bad-proxy-header")), "{}", lines("bad-proxy-header"));
    assert_eq!((lines("turned away"), lines("lines were left out")), (1, 1), "{text}");
    let counted = observe.metrics().text().unwrap();
    for (listener, reason, count) in [
        ("mixed", "wrong-transport", 1),
        ("s2s-direct", "connection-lost", 1),
        ("s2s-starttls", "bad-proxy-header", 1000),
        ("mixed", "too-many-handshakes", 1),
    ] {
        let line = format!(
            "gatehouse_connections_refused_total{{listener=\"{listener}\",reason=\"{reason}\"}} {count}\n"
        );
        assert!(counted.contains(&line), "{line} in {counted}");
    }
    assert!(counted.contains("gatehouse_limited_total{limit=\"handshakes\"} 1"), "{counted}");
}

// Contract 5: each refusal has a record, also where no stream had begun; who only knocks, and whom there is no room for, has none.
#[tokio::test]
async fn who_is_kept_out_at_a_door_has_a_record() {
    let (observe, audited) = audited();
    let peer: SocketAddr = "192.0.2.9:4000".parse().unwrap();
    observe.kept_out(Door::Inside, peer, Reason::NotFromHere);
    observe.kept_out(Door::S2sDirect, peer, Reason::ConnectionLost);
    observe.kept_out(Door::C2sStarttls, peer, Reason::TooManyConnections);
    observe.kept_out(Door::C2sStarttls, peer, Reason::AuditFull);
    let asked = Detail::new(Cause::NameNotServed, "server name nobody.example");
    observe.kept_out(Door::C2sDirect, peer, Failure::new(Reason::TlsFailed, asked));
    let lines = audited.lines(&observe);
    let [first, second] = &lines[..] else { panic!("{lines:?}") };
    for (line, flow, reason) in [(first, "inside", "not-from-here"), (second, "c2s-direct", "tls-failed")] {
        assert_eq!((&line["event"], &line["flow"]), (&"refused".into(), &flow.into()), "{line}");
        assert_eq!((&line["peer"], &line["reason"]), (&"192.0.2.9:4000".into(), &reason.into()), "{line}");
    }
    assert_eq!(second["cause"], "name-not-served");
}

// LOG-06: the operator is told when a peer's certificate or its way of proof changes, and only then; before and after.
#[tokio::test]
async fn a_peer_that_proves_itself_in_another_way_is_told() {
    use crate::policy::{Face, Identity, KeyDigest, OnChange};
    let observe = Observe::new(Arc::new(Metrics::new([domain("hall.example")]).unwrap()), None, now());
    let meta = meta();
    let policy = crate::run::tests::policy();
    let rule = policy.rule_names().next().unwrap();
    let text = logged(|| {
        let by = |method, key: u8, outcome| Event::Met {
            pair: pair(),
            direction: crate::reason::Direction::Inbound,
            face: Box::new(Face {
                method,
                issuer: Some("CN=x\n".into()),
                root: None,
                key: Some(KeyDigest::new([key; 32])),
            }),
            tls: Some(TlsVersion::V13),
            address: Some([192, 0, 2, 9].into()),
            rule: rule.clone(),
            on_change: OnChange::Hold,
            outcome,
        };
        for met in [
            by(Identity::Certificate, 1, Outcome::Allow),
            by(Identity::Certificate, 1, Outcome::Allow),
            by(Identity::Certificate, 2, Outcome::Allow),
            by(Identity::Dialback, 2, Outcome::Deny),
            by(Identity::Dialback, 2, Outcome::Deny),
        ] {
            observe.note(&meta, &met);
        }
    });
    assert_eq!(text.matches("a peer proves itself in another way").count(), 2, "{text}");
    assert_eq!(text.matches("waits for `gatehouse peers approve`").count(), 1, "{text}");
    assert!(text.contains("issuer \"CN=x\\") && text.contains("network 192.0.2.0/24"), "{text}");
    let counted = observe.metrics().text().unwrap();
    for (what, times) in [("key", 1), ("method", 1), ("issuer", 0), ("network", 0), ("tls", 0)] {
        let line = format!("gatehouse_peers_changed_total{{what=\"{what}\"}} {times}\n");
        assert!(counted.contains(&line), "{line} in {counted}");
    }
}

// LOG-05: each claim of a peer knocks at the backend anew; the operator is told once, and once when it is back.
#[tokio::test]
async fn peers_do_not_write_the_log_by_knocking_at_a_backend_that_is_down() {
    let observe = Observe::new(Arc::new(Metrics::new([domain("hall.example")]).unwrap()), None, now());
    let meta = meta();
    let text = logged(|| {
        for up in [false, false, false, true, true, false] {
            let detail = Some(Detail::new(Cause::NotReached, "10.0.0.5:5269: connection refused"));
            let around = Around { detail, ..Around::default() };
            observe.note_with(&meta, &Event::Backend { hosted: domain("hall.example"), up }, &around);
        }
    });
    assert_eq!(text.matches("backend not reached").count(), 2, "{text}");
    assert!(text.contains("10.0.0.5:5269: connection refused"), "{text}");
    // Somebody whose way back fails while the backend answers is no trouble of the backend's.
    let text = logged(|| {
        observe.note(&meta, &Event::Backend { hosted: domain("hall.example"), up: true });
        observe.note(&meta, &Event::Backend { hosted: domain("hall.example"), up: false });
    });
    assert!(!text.contains("not reached"), "{text}");
    let gauge = observe.metrics().text().unwrap();
    assert!(gauge.contains("gatehouse_backend_up{domain=\"hall.example\",flow=\"s2s-in\"} 1"), "{gauge}");
    assert_eq!(text.matches("backend reached again").count(), 1, "{text}");
}

// LOG-05: a peer that is refused over and over does not fill the disk, and what is left out is told there.
#[tokio::test(start_paused = true)]
async fn refusals_of_one_network_are_left_out_above_a_rate_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let metrics = Arc::new(Metrics::new([domain("hall.example")]).unwrap());
    let params = audit::Params { file: path.clone(), refuse: false, rotate_at: None };
    let audit = Audit::open(params, Arc::clone(&metrics)).unwrap();
    let observe = Observe::new(metrics, Some(audit), now());
    let rejected =
        Event::Rejected { record: record(Reason::NotListed).into(), after: std::time::Duration::ZERO };
    let meta = meta();
    for _ in 0..budget::RECORDS.get() + 50 {
        observe.note(&meta, &rejected);
    }
    // Another network, and what stood and ended, are not concerned.
    let other = Meta { peer: Some("198.51.100.7:4000".parse().unwrap()), ..meta };
    observe.note(&other, &rejected);
    observe.note(&meta, &Event::Ended { record: record(Reason::Finished).into() });
    observe.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    let count = |word: &str| text.matches(&format!("\"event\":\"{word}\"")).count();
    assert_eq!((count("rejected"), count("ended")), (usize::try_from(budget::RECORDS.get()).unwrap() + 1, 1));
    assert!(text.contains("\"event\":\"left-out\",\"records\":50"), "{text}");
}

// BE-01: told once, and once more when it comes back after a pair stood.
#[tokio::test]
async fn a_backend_that_asks_somebody_else_is_an_alarm() {
    let observe = Observe::new(Arc::new(Metrics::new([domain("hall.example")]).unwrap()), None, now());
    let meta = meta();
    let hosted = || domain("hall.example");
    let astray = || Event::BackendMisconfigured { hosted: hosted(), reason: Reason::BackendAsksElsewhere };
    let text = logged(|| {
        observe.note(&meta, &astray());
        observe.note(&meta, &astray());
        observe.note(&meta, &Event::Backend { hosted: hosted(), up: true });
        observe.note(&meta, &astray());
    });
    assert_eq!(text.matches("backend-asks-elsewhere").count(), 2, "{text}");
    assert_eq!(text.matches("ERROR").count(), 2, "{text}");
}
