//! Gateways over real sockets on loopback, from files in a scratch directory.

use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::reason::Reason;
use crate::run::registry::Phase;
use crate::tls::Connector;

pub(super) fn certificate(dir: &Path) {
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

pub(super) fn world(listen: &str) -> (TempDir, Result<Settings, Vec<Finding>>) {
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
    std::fs::write(&file, with_ports(&text)).unwrap();
    let settings = crate::config::load(&file).map(|(settings, _)| settings);
    (dir, settings)
}

/// The file must name ports: free ones in place of each 1111.
fn with_ports(text: &str) -> String {
    let mut parts = text.split(":1111");
    let mut whole = parts.next().unwrap().to_owned();
    // All at one time, so that none is given twice.
    let held: Vec<_> = parts.clone().map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    for (part, socket) in parts.zip(held) {
        whole.push_str(&format!(":{}{part}", socket.local_addr().unwrap().port()));
    }
    whole
}

pub(super) async fn gateway() -> (TempDir, Gateway) {
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

pub(super) fn metrics(gateway: &Gateway) -> String {
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
    let tools = gateway.tools();
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
pub(super) async fn shown(gateway: &Gateway) -> String {
    let params = crate::tls::client::Params {
        certificates: Arc::new(crate::tls::Certificates::from_identities([])),
        trust: Arc::default(),
    };
    let stream = TcpStream::connect(gateway.listening()[1].1).await.unwrap();
    let domain = crate::run::tests::domain("hall.example");
    let connector = Connector::new(params).unwrap();
    let (_stream, secured) = connector
        .connect(stream, None, (&domain, &Default::default()), crate::tls::Mode::Direct)
        .await
        .unwrap();
    secured.certificate.clone().unwrap().fingerprint
}

// TLS-16: loudmouth, XML::Stream and others name no server on direct TLS; an unknown name still fails.
#[tokio::test]
async fn who_names_no_server_is_shown_a_certificate_and_who_names_an_unknown_one_is_not() {
    let (_dir, gateway) = gateway().await;
    for (named, served) in [(None, true), (Some("hall.example"), true), (Some("other.example"), false)] {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        config.enable_sni = named.is_some();
        let name = named.unwrap_or("hall.example").to_owned();
        let stream = TcpStream::connect(gateway.listening()[1].1).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = rustls_pki_types::ServerName::try_from(name).unwrap();
        let outcome = connector.connect(name, stream).await.err().map(|error| error.to_string());
        // Whoever is served trusts nobody here, and has seen a certificate.
        let told = outcome.unwrap_or_default();
        assert_eq!(told.contains("invalid peer certificate"), served, "{named:?}: {told}");
        assert_eq!(told.contains("UnrecognisedName"), !served, "{named:?}: {told}");
    }
    gateway.stop();
    gateway.stopped().await;
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

// Keys that only a part reads: each reaches the part it is for.
#[test]
fn the_parts_are_made_as_the_file_says() {
    let (dir, settings) = world("  - { flow: s2s, address: \"127.0.0.1:1111\" }\n");
    let plain = settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    let file = dir.path().join("gatehouse.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace(
            "s2s: [\"127.0.0.1:9\"]",
            "s2s: [\"127.0.0.1:9\"], multiplex: off, dialback-keys: verify, stanza: 64KiB",
        )
        .replace("roots: chain.pem", "roots: chain.pem, crls: [list.crl], unknown-revocation: refuse")
        .replace("close: 200ms", "close: 200ms, verify-idle: 7s");
    std::fs::write(&file, text).unwrap();
    let (told, _) = crate::config::load(&file).unwrap_or_else(|findings| panic!("{findings:?}"));
    let seen = |settings: &Settings| {
        let relays = relays(settings);
        let hosted = relays.hosted.values().next().unwrap().clone();
        let times = relays.timeouts;
        (
            (hosted.multiplex, hosted.max_octets),
            hosted.keys_by.clone(),
            times.verify_idle.as_secs(),
            times.courier,
            trust::unknown(settings),
        )
    };
    let courier = crate::relay::plan::Timeouts::default().courier;
    use crate::policy::Networks;
    use crate::relay::KeysBy::{Address, Verify};
    use crate::tls::verify::UnknownRevocation::{ByIssuer, Refuse};
    assert_eq!(seen(&plain), ((true, None), Address(Networks::default()), 5, courier, ByIssuer));
    assert_eq!(seen(&told), ((false, Some(65_536)), Verify, 7, courier, Refuse));
}

fn relays(settings: &Settings) -> crate::relay::RelayParams {
    let secrets = Secrets::begin(secrets::FromFiles::read(settings).unwrap()).unwrap();
    from_settings::relays(settings, secrets.keyrings(wall::clock()))
}

// C2S-08, C2S-15: a certificate names an account that is there; whoever must show one makes no other.
#[tokio::test]
async fn no_account_is_made_where_a_certificate_must_name_one() {
    use crate::stream::client::certified::Demand;
    let (_dir, settings) = world("  - { flow: s2s, address: \"127.0.0.1:1111\" }\n");
    let mut settings = settings.unwrap();
    settings.domains[0].backend.c2s = vec!["10.0.0.5:5222".parse().unwrap()];
    settings.domains[0].backend.register = true;
    for demand in [Demand::Off, Demand::Request, Demand::Require] {
        settings.domains[0].clients.certificate.demand = demand;
        let relays = relays(&settings);
        assert_eq!(relays.clients.values().next().unwrap().registration, demand != Demand::Require);
    }
}

#[tokio::test]
async fn what_this_version_does_not_serve_is_refused_plainly() {
    let (_dir, settings) = world("  - { flow: s2s, address: \"127.0.0.1:1111\" }\n");
    let mut settings = settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    settings.dns.routes.push(crate::config::settings::Route {
        domain: crate::dns::Whom::parse("friend.example").unwrap(),
        target: Some(crate::config::settings::WrittenTarget::Address("192.0.2.9:5269".parse().unwrap())),
        via: None,
        tls: crate::config::settings::RouteTls::None,
    });
    let Err(StartFault::Configuration(findings)) = Gateway::start(settings).await else {
        panic!("it started")
    };
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("no TLS at all"), "{findings:?}");
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
            key: crate::policy::ShownKey::Unknown,
        };
        registry.policy().judge(&crate::policy::Question::Federate(question), &mut ()).reason
    };
    let mut news = registry.news();
    let reloader = &gateway.operations().reloader;
    reloader.turn_the_page(today).await;
    assert!(!news.has_changed().unwrap(), "the same day is no news");
    assert_eq!(verdict(), Reason::Allowed);
    reloader.turn_the_page(today.next()).await;
    assert!(news.has_changed().unwrap());
    news.mark_unchanged();
    assert_eq!(verdict(), Reason::RuleExpired);
    gateway.stop();
    gateway.stopped().await;
}

// Contract 1: SIGHUP reloads; SIGTERM drains.
#[tokio::test]
async fn signals_reload_and_drain() {
    use crate::gateway::lifecycle::Signals;
    let (dir, gateway) = gateway().await;
    let tools = gateway.tools();
    let mut signals = Signals::listen().unwrap();
    let before = tools.registry.policy().digest().to_owned();
    let mut stream = peer(&gateway).await;
    stream.write_all(HEADER).await.unwrap();
    hear(&mut stream, "</stream:features>").await;
    let attending = tokio::spawn(async move { gateway.attend(&mut signals).await });
    policy(dir.path(), "cousin.example");
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::HUP).unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while tools.registry.policy().digest() == before {
        assert!(tokio::time::Instant::now() < until, "SIGHUP reloads nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
    assert!(hear(&mut stream, "</stream:stream>").await.contains("<system-shutdown"));
    stream.write_all(b"</stream:stream>").await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), attending).await.unwrap().unwrap();
    assert_eq!(tools.registry.phase(), Phase::Stopped);
}
/// A client's TLS from the first octet, with the gateway's own certificate as the one authority.
async fn client_tls(
    dir: &Path,
    address: SocketAddr,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls_pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_file(dir.join("chain.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = [alpn.to_vec()].into_iter().filter(|name| !name.is_empty()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "hall.example".try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

// BE-05, and C2S-02: first and whole, with the client's own addresses and channel; and nothing before TLS stands.
#[tokio::test]
async fn a_backend_hears_who_the_client_is_before_anything_else() {
    use crate::net::proxy;
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dir, settings) = world("  - { flow: mixed, address: \"127.0.0.1:1111\", tls: direct }\n");
    let mut settings = settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    // Nobody but the client calls there.
    settings.domains[0].backend.check = None;
    for (version, name) in [
        (Some(crate::config::settings::ProxyVersion::V1), "v1"),
        (Some(crate::config::settings::ProxyVersion::V2), "v2"),
        (None, "off"),
    ] {
        settings.domains[0].backend.c2s = vec!["127.0.0.1:1".parse().unwrap(), backend.local_addr().unwrap()];
        settings.domains[0].backend.proxy = version;
        let gateway = Gateway::start(settings.clone()).await.unwrap_or_else(|fault| panic!("{fault}"));
        let door = gateway.listening()[0].1;
        let mut client = client_tls(dir.path(), door, b"xmpp-client").await;
        let source = client.get_ref().0.local_addr().unwrap();
        client
            .write_all(
                b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                  to='hall.example' version='1.0'>",
            )
            .await
            .unwrap();
        let (mut inside, _) = backend.accept().await.unwrap();
        if version.is_some() {
            let header = proxy::read(&mut inside).await.unwrap();
            assert_eq!(header.addresses, Some(proxy::Addresses { source, destination: door }), "{name}");
            if name == "v2" {
                assert_eq!(header.alpn.as_deref(), Some(&b"xmpp-client"[..]));
                assert_eq!(header.authority.as_deref(), Some("hall.example"));
                assert!(header.unique_id.is_some());
            }
        }
        let heard = hear(&mut inside, "version='1.0'").await;
        assert!(
            heard.trim_start().starts_with('<') && heard.contains("to='hall.example'"),
            "{name}: {heard}"
        );
        inside
            .write_all(
                b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' \
                  from='hall.example' version='1.0'><stream:features><mechanisms \
                  xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>",
            )
            .await
            .unwrap();
        let mut offered = String::new();
        while !offered.contains("</stream:features>") {
            let mut buf = [0; 4096];
            let n = client.read(&mut buf).await.unwrap();
            assert_ne!(n, 0, "{offered}");
            offered.push_str(std::str::from_utf8(&buf[..n]).unwrap());
        }
        assert!(offered.contains("<mechanism>PLAIN</mechanism>"), "{offered}");
        let text = metrics(&gateway);
        let up = "gatehouse_backend_up{domain=\"hall.example\",flow=\"c2s\"} 1";
        assert!(text.contains(up), "{text}");
        gateway.stop();
        gateway.stop();
        gateway.stopped().await;
    }
}

// TLS-17, ACC-11: who agrees on no protocol, or speaks no TLS where it is due, is let go; why is counted.
#[tokio::test]
async fn what_is_wrong_with_a_handshake_is_counted() {
    let (dir, settings) = world("  - { flow: mixed, address: \"127.0.0.1:1111\", tls: direct }\n");
    let settings = settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    let gateway = Gateway::start(settings).await.unwrap_or_else(|fault| panic!("{fault}"));
    let door = gateway.listening()[0].1;
    let mut silent = client_tls(dir.path(), door, b"").await;
    let mut octets = [0; 64];
    assert_eq!(silent.read(&mut octets).await.unwrap_or(0), 0, "not one octet");
    let mut clear = TcpStream::connect(door).await.unwrap();
    clear.write_all(HEADER).await.unwrap();
    let _end = clear.read_to_end(&mut Vec::new()).await;
    let mut broken = TcpStream::connect(door).await.unwrap();
    broken.write_all(&[0x16, 3, 1, 0, 4, 2, 0, 0, 0]).await.unwrap();
    let _end = broken.read_to_end(&mut Vec::new()).await;
    let until = std::time::Instant::now() + Duration::from_secs(20);
    for (reason, count) in [("wrong-transport", 2), ("tls-failed", 1)] {
        let counted =
            format!("gatehouse_connections_refused_total{{listener=\"mixed\",reason=\"{reason}\"}} {count}");
        while !metrics(&gateway).contains(&counted) {
            assert!(std::time::Instant::now() < until, "{counted} in {}", metrics(&gateway));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    gateway.stop();
    gateway.stopped().await;
}

#[path = "proxy_tests.rs"]
mod proxies;
#[path = "reload_tests.rs"]
mod reloads;
