//! Gateways over real sockets on loopback, from files in a scratch directory.

use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::reason::Reason;
use crate::run::registry::Phase;

fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["hall.example".to_owned()]).unwrap();
    std::fs::write(dir.join("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

fn policy(dir: &Path, allowed: &str) {
    let text = format!(
        "version: v1\nrules:\n  - {{ name: partners, domains: [{allowed}] }}\nexpect:\n  \
         - {{ from: {allowed}, to: hall.example, identity: certificate, tls: \"1.3\", ip: 192.0.2.7, verdict: allow }}\n"
    );
    std::fs::write(dir.join("policy.yaml"), text).unwrap();
}

fn world(listen: &str) -> (TempDir, Result<Settings, Vec<Finding>>) {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    policy(dir.path(), "friend.example");
    let text = format!(
        "version: v1\nlisten:\n{listen}domains:\n  - name: hall.example\n    \
         certificate: {{ chain: chain.pem, key: key.pem }}\n    backend: {{ s2s: [\"127.0.0.1:9\"] }}\n    \
         federation: listed\n    policies: [policy.yaml]\ntrust: {{ roots: chain.pem }}\n\
         dns: {{ servers: [\"127.0.0.1:9\"] }}\nadmin: {{ http: \"127.0.0.1:1111\" }}\n\
         audit: {{ file: audit.jsonl }}\ntimeouts: {{ drain: 5s, close: 200ms }}\n"
    );
    let file = dir.path().join("gatehouse.yaml");
    std::fs::write(&file, text).unwrap();
    let settings = crate::config::load(&file).map(|(mut settings, _)| {
        // The file must name ports; the tests take free ones.
        for listener in settings.listeners.iter_mut().filter(|l| l.address.port() == 1111) {
            listener.address.set_port(0);
        }
        settings.admin.http = Some("127.0.0.1:0".parse().unwrap());
        settings
    });
    (dir, settings)
}

async fn gateway() -> (TempDir, Gateway) {
    let (dir, settings) = world(
        "  - { flow: s2s, address: \"127.0.0.1:1111\" }\n  - { flow: s2s, address: \"127.0.0.2:1111\", tls: direct }\n",
    );
    let settings = settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    let gateway = Gateway::start(settings).await.unwrap_or_else(|fault| panic!("{fault}"));
    (dir, gateway)
}

async fn peer(gateway: &Gateway) -> TcpStream {
    TcpStream::connect(gateway.listening()[0].1).await.unwrap()
}

async fn hear(stream: &mut TcpStream, words: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(words) {
        let mut buf = [0; 4096];
        let n = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buf)).await.unwrap().unwrap();
        assert!(n > 0, "closed after {heard:?}");
        heard.push_str(std::str::from_utf8(&buf[..n]).unwrap());
    }
    heard
}

const HEADER: &[u8] =
    b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
    from='friend.example' to='hall.example' version='1.0'>";

fn metrics(gateway: &Gateway) -> String {
    gateway.tools().observe.metrics().text().unwrap()
}

#[tokio::test]
async fn a_peer_is_offered_starttls_and_a_drain_tells_it_goodbye() {
    let (dir, gateway) = gateway().await;
    assert_eq!(gateway.tools().registry.phase(), Phase::Running);
    let mut stream = peer(&gateway).await;
    stream.write_all(HEADER).await.unwrap();
    assert!(hear(&mut stream, "</stream:features>").await.contains("<starttls"));
    let text = metrics(&gateway);
    assert!(text.contains("gatehouse_connections{listener=\"s2s-starttls\"} 1"), "{text}");
    assert!(text.contains("gatehouse_certificate_not_after_seconds{domain=\"hall.example\"}"), "{text}");
    gateway.stop();
    assert!(hear(&mut stream, "</stream:stream>").await.contains("<system-shutdown"));
    stream.write_all(b"</stream:stream>").await.unwrap();
    let address = gateway.listening()[0].1;
    let tools = Arc::clone(gateway.tools());
    gateway.stopped().await;
    assert_eq!(tools.registry.living(), 0);
    assert!(TcpStream::connect(address).await.is_err(), "the door is shut");
    let audit = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    assert!(
        audit
            .lines()
            .any(|line| line.contains("\"event\":\"closed\"") && line.contains(Reason::Shutdown.label())),
        "{audit}"
    );
}

// Architecture 4, POL-10: any failure keeps the old snapshot, and is counted.
#[tokio::test]
async fn a_reload_is_all_or_nothing() {
    let (dir, gateway) = gateway().await;
    let digest = |g: &Gateway| g.tools().registry.policy().digest().to_owned();
    let first = digest(&gateway);

    // A case that fails.
    let text = std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap();
    std::fs::write(dir.path().join("policy.yaml"), text.replace("verdict: allow }", "verdict: deny }"))
        .unwrap();
    let findings = gateway.reload().await.unwrap_err();
    assert!(!findings.is_empty());
    assert_eq!(digest(&gateway), first);

    // A good policy beside a broken key: neither is taken.
    policy(dir.path(), "cousin.example");
    let key = std::fs::read(dir.path().join("key.pem")).unwrap();
    std::fs::write(dir.path().join("key.pem"), "no key").unwrap();
    let findings = gateway.reload().await.unwrap_err();
    assert!(findings.iter().any(|f| f.place.file.contains("key.pem")), "{findings:?}");
    assert_eq!(digest(&gateway), first);

    // Both good.
    std::fs::write(dir.path().join("key.pem"), key).unwrap();
    gateway.reload().await.unwrap();
    assert_ne!(digest(&gateway), first);
    let text = metrics(&gateway);
    assert!(text.contains("gatehouse_reloads_total{outcome=\"refused\"} 2"), "{text}");
    assert!(text.contains("gatehouse_reloads_total{outcome=\"applied\"} 1"), "{text}");
    assert!(text.contains(&format!("gatehouse_policy_info{{digest=\"{}\"}} 1", digest(&gateway))), "{text}");
    gateway.stop();
    gateway.stopped().await;
}

/// The fingerprint of what the direct TLS listener shows.
async fn shown(gateway: &Gateway) -> String {
    let params = crate::tls::client::Params {
        certificates: Arc::new(crate::tls::Certificates::from_identities([])),
        trust: Arc::default(),
    };
    let stream = TcpStream::connect(gateway.listening()[1].1).await.unwrap();
    let domain = crate::run::tests::domain("hall.example");
    let connector = Connector::new(params).unwrap();
    let (_stream, secured) =
        connector.connect(stream, None, &domain, crate::tls::Mode::Direct).await.unwrap();
    secured.certificate.unwrap().fingerprint
}

// CRT-14: a new certificate is shown from the next handshake on.
#[tokio::test]
async fn a_new_certificate_is_shown_after_a_reload_and_not_before() {
    let (dir, gateway) = gateway().await;
    let first = shown(&gateway).await;
    certificate(dir.path());
    assert_eq!(shown(&gateway).await, first);
    gateway.reload().await.unwrap();
    assert_ne!(shown(&gateway).await, first);
    gateway.stop();
    gateway.stopped().await;
}

// LIM-02, ACC-09: more connections from one address than may be open are let go without an octet.
#[tokio::test]
async fn the_connection_above_the_limit_gets_no_octet() {
    let (_dir, gateway) = gateway().await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut stream = peer(&gateway).await;
        stream.write_all(HEADER).await.unwrap();
        hear(&mut stream, "</stream:features>").await;
        open.push(stream);
    }
    let mut late = peer(&gateway).await;
    let mut heard = Vec::new();
    // A reset and an end of file are both "no octet".
    let _end = late.read_to_end(&mut heard).await;
    assert!(heard.is_empty());
    let text = metrics(&gateway);
    assert!(
        text.contains("gatehouse_connections_total{listener=\"s2s-starttls\",outcome=\"deny\"} 1"),
        "{text}"
    );
    assert!(text.contains("gatehouse_limited_total{limit=\"connections\"} 1"), "{text}");
    drop(open);
    gateway.stop();
    gateway.stopped().await;
}

#[tokio::test]
async fn what_this_version_does_not_serve_is_refused_plainly() {
    let (_dir, settings) = world("  - { flow: c2s, address: \"127.0.0.1:1111\" }\n");
    let settings = settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    let Err(StartFault::Configuration(findings)) = Gateway::start(settings).await else {
        panic!("it started")
    };
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("c2s") && findings[0].place.line > 0, "{findings:?}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_finding_with_its_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (_dir, settings) =
        world(&format!("  - {{ flow: s2s, address: \"{}\" }}\n", taken.local_addr().unwrap()));
    let Err(StartFault::Configuration(findings)) = Gateway::start(settings.unwrap()).await else {
        panic!("it started")
    };
    assert!(findings[0].message.contains("cannot listen on") && findings[0].place.line > 0, "{findings:?}");
}

// POL-07: a rule that expires is followed on its day, and everybody who lives hears of it.
#[tokio::test]
async fn a_rule_that_expires_no_longer_holds_on_the_next_day() {
    let (dir, gateway) = gateway().await;
    let today = today();
    let text = format!(
        "version: v1\nrules:\n  - {{ name: partners, domains: [friend.example], expires: {today} }}\n"
    );
    std::fs::write(dir.path().join("policy.yaml"), text).unwrap();
    gateway.reload().await.unwrap();
    let registry = Arc::clone(&gateway.tools().registry);
    let domain = |name| crate::jid::Domain::parse(name).unwrap();
    let (hosted, remote) = (domain("hall.example"), domain("friend.example"));
    let verdict = || {
        let question = crate::policy::Federate {
            hosted: &hosted,
            remote: &remote,
            direction: crate::reason::Direction::Inbound,
            identity: crate::policy::Identity::Certificate,
            tls: crate::policy::Tls::V13,
            address: None,
        };
        registry.policy().judge(&crate::policy::Question::Federate(question), &mut ()).reason
    };
    let mut news = registry.news();
    let reloader = &gateway.desk().reloader;
    reloader.turn_the_page(today);
    assert!(!news.has_changed().unwrap(), "the same day is no news");
    assert_eq!(verdict(), Reason::Allowed);
    reloader.turn_the_page(today.next());
    assert!(news.has_changed().unwrap());
    news.mark_unchanged();
    assert_eq!(verdict(), Reason::RuleExpired);
    gateway.stop();
    gateway.stopped().await;
}
