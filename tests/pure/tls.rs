//! Handshakes over loopback: certificate choice, protocols, facts, resumption, endings (TLS-09 to TLS-22).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use crate::pki::*;
use gatehouse::jid::Domain;
use gatehouse::reason::{Cause, Reason};
use gatehouse::stream::identity::{speaks_for, trusted_for};
use gatehouse::stream::secured::{Secured, TlsVersion, TrustFault};
use gatehouse::tls::{
    Acceptor, Alpn, Certificates, Channel, Connector, FarChannel, FaultKind, HandshakeFault, Mode,
    TrustStore, client, server,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, HandshakeKind, NamedGroup, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn certificates(authority: &Authority, names: &[&str]) -> Arc<Certificates> {
    let identities =
        names.iter().map(|name| (domain(name), authority.issue(&[&domain(name).to_ascii()]).identity()));
    Arc::new(Certificates::from_identities(identities))
}

fn params(authority: &Authority, mode: Mode) -> server::Params {
    server::Params {
        mode,
        alpn: vec![Alpn::Server],
        default: None,
        ask_certificate: true,
        certificates: certificates(authority, &["a.example", "b.example", "b\u{fc}cher.example"]),
        trust: authority.trust(),
    }
}

/// A client of no good manners: trusts everything, sends the server name and protocols it is told to.
struct Hello {
    sni: Option<&'static str>,
    alpn: &'static [&'static [u8]],
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Default for Hello {
    fn default() -> Hello {
        Hello { sni: None, alpn: &[], versions: rustls::ALL_VERSIONS }
    }
}

impl Hello {
    fn config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible))
            .with_no_client_auth();
        config.enable_sni = self.sni.is_some();
        config.alpn_protocols = self.alpn.iter().map(|alpn| alpn.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config
    }

    /// Shakes hands with the acceptor: what the server saw, and the client's stream or error.
    async fn meets(&self, acceptor: &Acceptor, to: Option<&Domain>) -> (Server, Client) {
        meet(Arc::new(self.config()), self.sni, acceptor, to).await
    }
}

type Server = Result<(Channel<TcpStream>, Secured), HandshakeFault>;
type Caller = Result<(FarChannel<TcpStream>, Secured), HandshakeFault>;
type Client = std::io::Result<tokio_rustls::client::TlsStream<TcpStream>>;

async fn meet(
    config: Arc<ClientConfig>,
    sni: Option<&'static str>,
    acceptor: &Acceptor,
    to: Option<&Domain>,
) -> (Server, Client) {
    let (near, far) = pair().await;
    let name = ServerName::try_from(sni.unwrap_or("unsent.example")).unwrap();
    let both =
        async { tokio::join!(acceptor.accept(far, to), TlsConnector::from(config).connect(name, near)) };
    timeout(Duration::from_secs(10), both).await.unwrap()
}

fn shown(client: &Client) -> gatehouse::stream::secured::Certificate {
    let chain = client.as_ref().unwrap().get_ref().1.peer_certificates().unwrap();
    TrustStore::default().describe(chain, UnixTime::now()).unwrap()
}

fn alert(client: Client) -> String {
    client.unwrap_err().to_string()
}

// RFC 6120 5.4.3.1(4), RFC 6066 3.
#[tokio::test]
async fn the_certificate_follows_the_server_name_then_the_stream_then_the_default() {
    let authority = Authority::new("root");
    let starttls = Acceptor::new(params(&authority, Mode::Starttls)).unwrap();
    let direct = Acceptor::new(server::Params {
        default: Some(domain("b.example")),
        ..params(&authority, Mode::Direct)
    });
    let direct = direct.unwrap();
    let (a, b) = (domain("a.example"), domain("b.example"));
    let table = [
        (&starttls, Some("a.example"), Some(&b), Some("a.example")),
        (&starttls, Some("A.Example"), None, Some("a.example")),
        (&starttls, Some("xn--bcher-kva.example"), None, Some("b\u{fc}cher.example")),
        (&starttls, Some("srv-target.example"), Some(&b), Some("b.example")),
        (&starttls, None, Some(&a), Some("a.example")),
        (&starttls, None, None, None),
        (&direct, Some("a.example"), None, Some("a.example")),
        (&direct, None, None, Some("b.example")),
        // What the listener names goes before the default of all.
        (&direct, None, Some(&a), Some("a.example")),
        (&direct, Some("c.example"), Some(&a), None),
        (&direct, Some("c.example"), None, None),
        (&direct, Some("x.a.example"), None, None),
    ];
    for (acceptor, sni, to, expected) in table {
        let (server, client) = Hello { sni, ..Hello::default() }.meets(acceptor, to).await;
        match expected {
            Some(name) => {
                assert!(speaks_for(&shown(&client), &domain(name)), "{sni:?} {to:?}");
                let facts = server.unwrap().1;
                assert_eq!(facts.sni.as_deref(), sni.map(str::to_lowercase).as_deref());
                // STR-15 is judged by what was shown, whatever was asked for.
                assert_eq!(facts.shown, Some(domain(name)), "{sni:?} {to:?}");
            }
            None => {
                assert!(
                    matches!(server, Err(HandshakeFault { kind: FaultKind::UnrecognizedName, .. })),
                    "{sni:?} {to:?}"
                );
                assert!(alert(client).contains("UnrecognisedName"), "{sni:?} {to:?}");
            }
        }
    }
}

// XEP-0368 3, RFC 7301 3.2.
// TLS-17.
#[tokio::test]
async fn protocols_must_overlap_where_both_name_some() {
    let authority = Authority::new("root");
    let direct = Acceptor::new(params(&authority, Mode::Direct)).unwrap();
    let starttls = Acceptor::new(params(&authority, Mode::Starttls)).unwrap();
    let run = async |acceptor: &Acceptor, alpn| {
        Hello { sni: Some("a.example"), alpn, ..Hello::default() }.meets(acceptor, None).await
    };
    let (server, _) = run(&direct, &[b"xmpp-client", b"xmpp-server"]).await;
    assert_eq!(server.unwrap().1.alpn.as_deref(), Some(b"xmpp-server".as_slice()));
    let (server, _) = run(&direct, &[]).await;
    assert_eq!(server.unwrap().1.alpn, None);
    let (server, client) = run(&direct, &[b"xmpp-client"]).await;
    assert!(
        matches!(&server, Err(fault @ HandshakeFault { kind: FaultKind::Refused(_), .. }) if fault.reason() == Reason::TlsFailed)
    );
    assert!(alert(client).contains("NoApplicationProtocol"));
    let (server, _) = run(&starttls, &[b"h2"]).await;
    assert_eq!(server.unwrap().1.alpn, None);
}

// ACC-01: on a port for both, the protocol decides; a server is asked for its certificate there, a client is not.
#[tokio::test]
async fn on_a_mixed_port_only_servers_are_asked_for_a_certificate() {
    let authority = Authority::new("root");
    let mixed = server::Params { alpn: vec![Alpn::Client, Alpn::Server], ..params(&authority, Mode::Direct) };
    let mixed = Acceptor::new(mixed).unwrap();
    let leaf = authority.issue(&["friend.example"]);
    for (alpn, asked) in [(&b"xmpp-client"[..], false), (&b"xmpp-server"[..], true)] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls_pki_types::PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible))
            .with_client_auth_cert(leaf.chain.clone(), key)
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        let (server, client) = meet(Arc::new(config), Some("a.example"), &mixed, None).await;
        let secured = server.unwrap().1;
        assert_eq!(secured.alpn.as_deref(), Some(alpn));
        assert_eq!(secured.certificate.is_some(), asked, "{secured:?}");
        assert!(client.is_ok());
    }
}

// RFC 9325 3.1.1 and 4.2; hybrid key exchange first.
// TLS-09, TLS-10.
#[tokio::test]
async fn both_versions_are_spoken_with_sound_suites() {
    let authority = Authority::new("root");
    let acceptor = Acceptor::new(params(&authority, Mode::Starttls)).unwrap();
    let (server, client) = Hello { sni: Some("a.example"), ..Hello::default() }.meets(&acceptor, None).await;
    let secured = server.unwrap().1;
    assert_eq!((secured.version, secured.certificate.clone()), (TlsVersion::V13, None));
    let client = client.unwrap();
    let group = client.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let old = Hello { sni: Some("a.example"), versions: TLS12, ..Hello::default() };
    let (server, _client) = old.meets(&acceptor, None).await;
    let secured = server.unwrap().1;
    assert_eq!(secured.version, TlsVersion::V12);
    assert!(secured.suite.starts_with("TLS_ECDHE_") && !secured.suite.contains("CBC"), "{}", secured.suite);
}

fn connector(authority: &Authority, name: &str, leaf: &Leaf) -> Connector {
    let certificates = Arc::new(Certificates::from_identities([(domain(name), leaf.identity())]));
    Connector::new(client::Params { certificates, trust: authority.trust() }).unwrap()
}

async fn federate(
    acceptor: &Acceptor,
    connector: &Connector,
    hosted: &str,
    remote: &str,
    mode: Mode,
) -> (Server, Caller) {
    let (near, far) = pair().await;
    let (hosted, remote) = (domain(hosted), domain(remote));
    let unpublished = gatehouse::stream::dane::Published::default();
    let both = async {
        tokio::join!(
            acceptor.accept(far, None),
            connector.connect(near, Some(&hosted), (&remote, &unpublished), mode)
        )
    };
    timeout(Duration::from_secs(10), both).await.unwrap()
}

// TLS-18, TLS-22, CRT-08: both sides show serverAuth-only certificates and both learn who the other is.
#[tokio::test]
async fn two_gateways_learn_who_the_other_is() {
    let authority = Authority::new("root");
    for mode in [Mode::Direct, Mode::Starttls] {
        let acceptor = Acceptor::new(params(&authority, mode)).unwrap();
        let connector = connector(&authority, "friend.example", &authority.issue(&["friend.example"]));
        let (server, client) =
            federate(&acceptor, &connector, "friend.example", "b\u{fc}cher.example", mode).await;
        let (server, client) = (server.unwrap().1, client.unwrap().1);
        let alpn = (mode == Mode::Direct).then(|| b"xmpp-server".to_vec());
        assert_eq!((&server.alpn, &client.alpn), (&alpn, &alpn));
        assert_eq!(server.sni.as_deref(), Some("xn--bcher-kva.example"));
        assert_eq!((server.version, server.suite), (client.version, client.suite));
        let (inbound, outbound) = (server.certificate.clone().unwrap(), client.certificate.clone().unwrap());
        assert!(speaks_for(&inbound, &domain("friend.example")));
        assert_eq!(trusted_for(&inbound, &domain("friend.example")), Ok(()));
        assert!(speaks_for(&outbound, &domain("b\u{fc}cher.example")));
        assert_eq!(trusted_for(&outbound, &domain("b\u{fc}cher.example")), Ok(()));
    }
}

// RFC 6120 13.14: a certificate nobody trusts makes a channel, on either side; the facts say what it is worth.
#[tokio::test]
async fn an_untrusted_chain_is_a_fact_and_no_failure() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let acceptor = Acceptor::new(params(&ours, Mode::Starttls)).unwrap();
    let connector = connector(&theirs, "friend.example", &theirs.issue(&["other.example"]));
    let (server, client) =
        federate(&acceptor, &connector, "friend.example", "a.example", Mode::Starttls).await;
    let (inbound, outbound) =
        (server.unwrap().1.certificate.clone().unwrap(), client.unwrap().1.certificate.clone().unwrap());
    assert_eq!(inbound.trust.by_default(), Err(TrustFault::UnknownIssuer));
    assert_eq!(outbound.trust.by_default(), Err(TrustFault::UnknownIssuer));
    assert!(!speaks_for(&inbound, &domain("friend.example")));
    // No certificate at all is no failure either.
    let (server, _) = federate(&acceptor, &connector, "unknown.example", "a.example", Mode::Starttls).await;
    assert_eq!(server.unwrap().1.certificate, None);
}

// The verifier lets any chain through, but never a chain without its key.
#[tokio::test]
async fn somebody_elses_certificate_is_of_no_use() {
    let authority = Authority::new("root");
    let acceptor = Acceptor::new(params(&authority, Mode::Starttls)).unwrap();
    let (victim, thief) = (authority.issue(&["victim.example"]), authority.issue(&["thief.example"]));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&thief.private()).unwrap();
    let stolen = rustls::sign::CertifiedKey::new(victim.chain.clone(), key);
    for versions in [TLS12, TLS13] {
        let mut config = Hello { sni: Some("a.example"), versions, ..Hello::default() }.config();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen.clone()));
        let (server, _) = meet(Arc::new(config), Some("a.example"), &acceptor, None).await;
        assert!(matches!(
            server,
            Err(HandshakeFault { kind: FaultKind::Refused(rustls::Error::InvalidCertificate(_)), .. })
        ));
    }
}

// TLS-13: "A renegotiation attempt closes TCP with no stream error." In TLS 1.2 the content type of a record is in clear; in TLS
// 1.3 the same octets are nothing but a broken record.
#[tokio::test]
async fn a_renegotiation_ends_the_connection_without_a_word() {
    let authority = Authority::new("root");
    let acceptor = Acceptor::new(params(&authority, Mode::Starttls)).unwrap();
    let hello = Hello { sni: Some("a.example"), versions: TLS12, ..Hello::default() };
    let (server, client) = hello.meets(&acceptor, None).await;
    let ((mut transport, _), mut client) = (server.unwrap(), client.unwrap());
    client.write_all(b"before").await.unwrap();
    let mut before = [0; 6];
    transport.read_exact(&mut before).await.unwrap();
    transport.write_all(b"x").await.unwrap();
    client.read_u8().await.unwrap();

    let hello = [&[22, 3, 3, 0, 48][..], &[7; 48]].concat();
    client.get_mut().0.write_all(&hello).await.unwrap();
    let fault = transport.read_u8().await.unwrap_err();
    assert_eq!((fault.kind(), fault.to_string().contains("renegotiation")), (ErrorKind::InvalidData, true));
    drop(transport);
    let mut answer = Vec::new();
    // A reset is an end without a word, too.
    let _end = client.get_mut().0.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
}

// RFC 8446 4.6.3, 5.1: whatever the sizes of what is written, of what the network carries at once and of what is asked for, and with
// other keys in between, what comes out is what went in, and the goodbye is its end.
#[tokio::test]
async fn octets_come_and_go_whole_in_parts_of_all_sizes() {
    let authority = Authority::new("root");
    let acceptor = Acceptor::new(params(&authority, Mode::Starttls)).unwrap();
    let octets: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()[0]).collect();
    for versions in [TLS12, TLS13] {
        for (network, part, room) in [(1000, 7, 20_000), (1 << 20, 5000, 300), (1 << 20, 70_000, 70_000)] {
            let hello = Hello { sni: Some("a.example"), versions, ..Hello::default() };
            let (near, far) = tokio::io::duplex(network);
            let name = ServerName::try_from("a.example").unwrap();
            let client = async {
                let config = Arc::new(hello.config());
                let mut client = TlsConnector::from(config).connect(name, near).await.unwrap();
                for (turn, part) in octets.chunks(part).enumerate() {
                    client.write_all(part).await.unwrap();
                    if versions == TLS13 && turn % 1000 == 1 {
                        client.get_mut().1.refresh_traffic_keys().unwrap();
                    }
                }
                client.flush().await.unwrap();
                let mut back = Vec::new();
                client.read_to_end(&mut back).await.unwrap();
                client.shutdown().await.unwrap();
                assert!(back == octets, "{} came back of {part}", back.len());
                client
            };
            let server = async {
                let (mut server, _) = acceptor.accept(far, None).await.unwrap();
                let (mut got, mut space) = (Vec::new(), vec![0; room]);
                while got.len() < octets.len() {
                    let count = server.read(&mut space).await.unwrap();
                    assert_ne!(count, 0, "the end, after {}", got.len());
                    got.extend_from_slice(&space[..count]);
                }
                assert!(got == octets, "something else came in parts of {part}");
                let mut left = &got[..];
                while !left.is_empty() {
                    let parts: Vec<_> = left.chunks(part).take(100).map(std::io::IoSlice::new).collect();
                    let count = server.write_vectored(&parts).await.unwrap();
                    left = &left[count..];
                }
                server.shutdown().await.unwrap();
                assert_eq!(server.read(&mut space).await.unwrap(), 0, "no goodbye");
            };
            let both = async { tokio::join!(client, server) };
            timeout(Duration::from_secs(60), both).await.unwrap();
        }
    }
}

// RFC 9325 3.4: a resumed session is judged like a full one, by what holds now.
// TLS-14, TLS-15.
#[tokio::test]
async fn a_resumed_session_is_judged_anew() {
    let authority = Authority::new("root");
    let first = params(&authority, Mode::Starttls);
    let acceptor = Acceptor::new(first.clone()).unwrap();
    let leaf = authority.issue(&["friend.example"]);
    for versions in [TLS13, TLS12] {
        acceptor.replace(first.clone()).unwrap();
        let mut config = Hello { sni: Some("a.example"), versions, ..Hello::default() }.config();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf.private()).unwrap();
        let own = rustls::sign::CertifiedKey::new(leaf.chain.clone(), key);
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(own));
        config.resumption = Resumption::in_memory_sessions(8);
        config.enable_early_data = true;
        let config = Arc::new(config);
        let visit = async || {
            let (server, client) = meet(Arc::clone(&config), Some("a.example"), &acceptor, None).await;
            let ((mut transport, secured), mut client) = (server.unwrap(), client.unwrap());
            // Reading once lets the client take its tickets.
            transport.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
            let session = client.get_ref().1;
            (
                secured.certificate.clone().unwrap(),
                session.handshake_kind().unwrap(),
                session.is_early_data_accepted(),
            )
        };
        let (certificate, kind, _) = visit().await;
        assert_ne!(kind, HandshakeKind::Resumed);
        assert_eq!(certificate.trust.by_default(), Ok(()));
        acceptor.replace(server::Params { trust: Authority::new("new").trust(), ..first.clone() }).unwrap();
        let (certificate, kind, early) = visit().await;
        assert_eq!(kind, HandshakeKind::Resumed);
        assert!(!early, "early data was taken");
        assert!(speaks_for(&certificate, &domain("friend.example")));
        assert_eq!(certificate.trust.by_default(), Err(TrustFault::UnknownIssuer));
    }
}

// CRT-12: who is shown out by a reload does not slip in by a handshake that was under way.
#[tokio::test]
async fn a_handshake_under_way_is_judged_by_the_lists_of_its_end() {
    let authority = Authority::new("root");
    let old = params(&authority, Mode::Starttls);
    let acceptor = Acceptor::new(old.clone()).unwrap();
    let leaf = authority.issue(&["friend.example"]);
    let mut config = Hello { sni: Some("a.example"), ..Hello::default() }.config();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf.private()).unwrap();
    let own = rustls::sign::CertifiedKey::new(leaf.chain.clone(), key);
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(own));
    let (near, far) = pair().await;
    // The acceptor is asked first, and waits for the client's first words.
    let client = async {
        acceptor.replace(server::Params { trust: Authority::new("new").trust(), ..old }).unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, near).await
    };
    let both = async { tokio::join!(biased; acceptor.accept(far, None), client) };
    let (server, client) = timeout(Duration::from_secs(60), both).await.unwrap();
    client.unwrap();
    let certificate = server.unwrap().1.certificate.clone().unwrap();
    assert_eq!(certificate.trust.by_default(), Err(TrustFault::UnknownIssuer));
}

// CRT-14: a reload concerns new handshakes only.
#[tokio::test]
async fn a_reload_leaves_living_channels_alone() {
    let authority = Authority::new("root");
    let old = params(&authority, Mode::Starttls);
    let acceptor = Acceptor::new(old.clone()).unwrap();
    let hello = Hello { sni: Some("a.example"), ..Hello::default() };
    let (living, client) = hello.meets(&acceptor, None).await;
    let before = shown(&client).fingerprint;
    acceptor
        .replace(server::Params { certificates: certificates(&authority, &["a.example"]), ..old })
        .unwrap();
    let (_, later) = hello.meets(&acceptor, None).await;
    assert_ne!(shown(&later).fingerprint, before);
    let (mut near, mut far) = (living.unwrap().0, client.unwrap());
    near.write_all(b"still here").await.unwrap();
    let mut octets = [0; 10];
    far.read_exact(&mut octets).await.unwrap();
    assert_eq!(&octets, b"still here");
}

// Most clients leave Nagle's algorithm on: what they say next waits until the end of their handshake is acknowledged, and a kernel
// that has nothing to send acknowledges 40 ms later. The ticket does not wait for the words that wait for it.
#[tokio::test]
async fn a_client_that_says_nothing_yet_has_its_ticket() {
    let authority = Authority::new("root");
    let acceptor = Acceptor::new(params(&authority, Mode::Direct)).unwrap();
    let hello = Hello { sni: Some("a.example"), alpn: &[b"xmpp-server"], ..Hello::default() };
    let (server, client) = hello.meets(&acceptor, None).await;
    let (mut server, client) = (server.unwrap().0, client.unwrap());
    assert_eq!(client.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let reading = tokio::spawn(async move { server.read(&mut [0; 64]).await });
    let heard = timeout(Duration::from_secs(10), client.get_ref().0.peek(&mut [0; 1])).await;
    assert_eq!(heard.unwrap().unwrap(), 1);
    assert!(!reading.is_finished(), "nothing was said");
    reading.abort();
}

// RFC 6120 4.4, TLS-21: goodbye and a cut wire are two things.
#[tokio::test]
async fn a_cut_is_told_from_a_goodbye() {
    let authority = Authority::new("root");
    let acceptor = Acceptor::new(params(&authority, Mode::Starttls)).unwrap();
    let hello = Hello { sni: Some("a.example"), ..Hello::default() };
    let (server, client) = hello.meets(&acceptor, None).await;
    let (mut near, mut far) = (server.unwrap().0, client.unwrap());
    far.shutdown().await.unwrap();
    assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);

    let (server, client) = hello.meets(&acceptor, None).await;
    let (mut near, far) = (server.unwrap().0, client.unwrap());
    let (mut socket, _) = far.into_inner();
    socket.shutdown().await.unwrap();
    let error = near.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);

    // Dropped with octets unread, the far side resets.
    let (server, client) = hello.meets(&acceptor, None).await;
    let (mut near, far) = (server.unwrap().0, client.unwrap());
    near.write_all(b"unread").await.unwrap();
    drop(far.into_inner());
    let error = near.read(&mut [0; 8]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted), "{error}");

    let (server, client) = hello.meets(&acceptor, None).await;
    let (mut near, mut far) = (server.unwrap().0, client.unwrap());
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0, "the gateway says close_notify itself");
}

// ACC-11, TLS-20: no XML answers what is not TLS, nor follows a failed handshake.
#[tokio::test]
async fn what_is_not_tls_gets_no_words() {
    let authority = Authority::new("root");
    let acceptor = Acceptor::new(params(&authority, Mode::Direct)).unwrap();
    let (mut near, far) = pair().await;
    near.write_all(b"<?xml version='1.0'?><stream:stream to='a.example'>").await.unwrap();
    let fault = acceptor.accept(far, None).await.unwrap_err();
    assert!(matches!(fault.kind, FaultKind::NotTls), "{fault:?}");
    assert_eq!(fault.reason(), Reason::WrongTransport);
    let mut answer = Vec::new();
    // A reset is as good an end as any.
    let _ = near.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(&[21]), "{answer:x?}");

    let (near, far) = pair().await;
    drop(near);
    assert!(matches!(
        acceptor.accept(far, None).await,
        Err(HandshakeFault { kind: FaultKind::Closed(_), .. })
    ));
}

/// A ClientHello of TLS 1.2 or older, octet by octet.
fn hello(version: u16, suites: &[u16], groups: &[u16], sni: &str) -> Vec<u8> {
    fn sized(octets: &[u8]) -> Vec<u8> {
        [&u16::try_from(octets.len()).unwrap().to_be_bytes(), octets].concat()
    }
    let words = |words: &[u16]| sized(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>());
    let name = sized(&[&[0], sized(sni.as_bytes()).as_slice()].concat());
    let extensions = [
        [&[0, 0], sized(&name).as_slice()].concat(),
        [&[0, 10], sized(&words(groups)).as_slice()].concat(),
        [&[0, 11], sized(&[1, 0]).as_slice()].concat(),
        [&[0, 13], sized(&words(&[0x0403, 0x0401, 0x0804])).as_slice()].concat(),
        [&[0, 23], sized(&[]).as_slice()].concat(),
    ]
    .concat();
    let body =
        [version.to_be_bytes().as_slice(), &[7; 32], &[0], &words(suites), &[1, 0], &sized(&extensions)]
            .concat();
    let handshake = [&[1, 0], sized(&body).as_slice()].concat();
    [&[22, 3, 1], sized(&handshake).as_slice()].concat()
}

// A cause that the code knows is a cause that the operator is told, with the server name asked for.
#[tokio::test]
async fn seven_causes_of_a_failed_handshake_are_told_apart() {
    let authority = Authority::new("root");
    let acceptor = Acceptor::new(params(&authority, Mode::Direct)).unwrap();
    let raw = async |octets: Vec<u8>| {
        let (mut near, far) = pair().await;
        near.write_all(&octets).await.unwrap();
        timeout(Duration::from_secs(10), acceptor.accept(far, None)).await.unwrap().unwrap_err().detail()
    };
    let meets = async |hello: Hello| hello.meets(&acceptor, None).await.0.unwrap_err().detail();
    let (good, group) = (&[0xc02b, 0xc02f], &[0x001d]);
    let mut seen = vec![
        (Cause::NoCommonVersion, raw(hello(0x0302, good, group, "a.example")).await),
        (Cause::NoCommonGroup, raw(hello(0x0303, good, &[0x0019], "a.example")).await),
        (Cause::NoCommonSuite, raw(hello(0x0303, &[0x002f], group, "a.example")).await),
        (Cause::NameNotServed, meets(Hello { sni: Some("c.example"), ..Hello::default() }).await),
        (Cause::NoServerName, meets(Hello::default()).await),
        (
            Cause::NoCommonProtocol,
            meets(Hello { sni: Some("a.example"), alpn: &[b"h2"], ..Hello::default() }).await,
        ),
    ];
    // It trusts no authority at all, and says so.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let other = Authority::new("another root");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(other.certificate.clone()).unwrap();
    let doubter = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (server, _) = meet(Arc::new(doubter), Some("a.example"), &acceptor, None).await;
    let doubt = server.unwrap_err().detail();
    assert!(doubt.particulars.starts_with("UnknownCA"), "{doubt}");
    seen.push((Cause::PeerAlert, doubt));
    for (due, detail) in &seen {
        assert_eq!(detail.cause, *due, "{detail}");
        let name = match due {
            Cause::NoServerName => None,
            Cause::NameNotServed => Some("server name c.example"),
            _ => Some("server name a.example"),
        };
        assert_eq!(name.is_some(), detail.particulars.contains("server name"), "{detail}");
        assert!(name.is_none_or(|name| detail.particulars.ends_with(name)), "{detail}");
    }
}

static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Believes everything.
#[derive(Debug)]
pub struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
