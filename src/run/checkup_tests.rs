use tokio::net::TcpListener;

use super::*;

/// Looks at a server that answers with these octets, or closes at once.
async fn seen(flow: Flow, answer: Option<&'static str>) -> CheckResult {
    told(flow, answer, None).await
}

/// The same of one of which it is told which server it is.
async fn told(flow: Flow, answer: Option<&'static str>, server: Option<ServerSoftware>) -> CheckResult {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let other = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let Some(answer) = answer else { return };
        let mut octets = [0; 1024];
        let heard = stream.read(&mut octets).await.unwrap();
        assert!(String::from_utf8_lossy(&octets[..heard]).contains("to='hall.example'"));
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Until the caller has gone.
        while stream.read(&mut octets).await.is_ok_and(|n| n > 0) {}
    });
    let visit = Visit {
        address,
        domain: &Domain::parse("hall.example").unwrap(),
        flow,
        introduction: Vec::new(),
        dial: &net::connect::Params::default(),
        patience: Duration::from_millis(if answer == Some("") { 100 } else { 10_000 }),
        server,
    };
    let seen = look(&visit).await;
    other.await.unwrap();
    seen
}

const OPEN: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' ";

// A backend that takes connections is not yet one that serves: each ailment is told as what it is.
#[tokio::test]
async fn each_ailment_of_a_backend_is_told_apart() {
    let leak = |text: String| -> &'static str { text.leak() };
    let head = |rest: &str| format!("{OPEN}id='1' from='hall.example' version='1.0'>{rest}");
    let features = |inner: &str| head(&format!("<stream:features>{inner}</stream:features>"));
    let error = |condition: &str, text: &str| {
        head(&format!(
            "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{text}</text></stream:error></stream:stream>"
        ))
    };
    let tls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
    let table = [
        (Some(leak(features(""))), None, ""),
        (Some(leak(format!("{OPEN}id='1'>"))), None, ""),
        (Some(leak(features(OFFER))), None, ""),
        (Some(leak(features(tls))), Some(Ailment::WantsTls), ""),
        (Some(leak(error("host-unknown", "who?"))), Some(Ailment::RefusesName), "host-unknown: who?"),
        (Some(leak(error("policy-violation", ""))), Some(Ailment::StreamError), "policy-violation"),
        (Some("220 mail.hall.example ESMTP\r\n"), Some(Ailment::OtherService), ""),
        (Some(""), Some(Ailment::Silent), "within"),
        (None, Some(Ailment::HangsUp), ""),
    ];
    for (answer, ailment, words) in table {
        let seen = seen(Flow::S2sIn, answer).await;
        assert_eq!(seen.ailment, ailment, "{answer:?}: {seen:?}");
        assert!(seen.words.starts_with(words), "{answer:?}: {seen:?}");
        let offers = answer.is_some_and(|answer| answer.contains(OFFER));
        assert_eq!(seen.remark(Flow::S2sIn).is_some(), offers, "{answer:?}: {seen:?}");
    }
}

const OFFER: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

// Item 4: "a back-end that offers or demands TLS ... is named as that, with the setting of that server", on each side.
#[tokio::test]
async fn a_backend_that_offers_tls_is_named_with_its_setting() {
    let answer: &'static str = format!(
        "{OPEN}id='x' version='1.0'><stream:features>{OFFER}<c xmlns='http://jabber.org/protocol/caps' \
         node='http://prosody.im'/></stream:features>"
    )
    .leak();
    let client: &'static str = answer.replace("jabber:server", "jabber:client").leak();
    for (flow, answer, setting) in [
        (Flow::S2sIn, answer, "Prosody: `s2s_require_encryption = false`"),
        (Flow::C2s, client, "Prosody: `c2s_require_encryption = false`"),
    ] {
        let seen = seen(flow, Some(answer)).await;
        let remark = seen.remark(flow).unwrap();
        assert!(remark.starts_with("it offers TLS") && remark.contains(setting), "{remark}");
    }
}

// A port that nobody listens on: the address and the system's own word.
#[tokio::test]
async fn a_closed_port_is_told_with_its_address() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let domain = Domain::parse("hall.example").unwrap();
    let dial = net::connect::Params::default();
    let (introduction, patience) = (Vec::new(), Duration::from_secs(5));
    let seen = look(&Visit {
        address,
        domain: &domain,
        flow: Flow::C2s,
        introduction,
        dial: &dial,
        patience,
        server: None,
    })
    .await;
    assert_eq!(seen.ailment, Some(Ailment::NotReached));
    assert!(seen.words.contains(&address.to_string()) && seen.words.contains("refused"), "{seen:?}");
}

// Recognised by its capabilities, by a feature of its own, or by the shape of its stream ids.
#[tokio::test]
async fn servers_are_recognised_by_their_streams() {
    let leak = |text: String| -> &'static str { text.leak() };
    let caps = |node: &str| {
        leak(format!(
            "{OPEN}id='x' version='1.0'><stream:features><c xmlns='http://jabber.org/protocol/caps' node='{node}'/></stream:features>"
        ))
    };
    let id = |id: &str| leak(format!("{OPEN}id='{id}' version='1.0'><stream:features/>"));
    let uuid = |inner: &str| {
        let id = "7297ac9b-8be8-4bb5-8634-436fae6d4d90";
        leak(format!("{OPEN}id='{id}' version='1.0'><stream:features>{inner}</stream:features>"))
    };
    for (answer, server) in [
        (caps("http://prosody.im"), Some(ServerSoftware::Prosody)),
        (caps("http://www.process-one.net/en/ejabberd/"), Some(ServerSoftware::Ejabberd)),
        (caps("https://www.igniterealtime.org/projects/openfire/"), Some(ServerSoftware::Openfire)),
        (id("12345678901234567890"), Some(ServerSoftware::Ejabberd)),
        (id("5vqe4rnptd"), Some(ServerSoftware::Openfire)),
        (id("0a1b2c3d4e0a1b2c3d4e0a1b2c3d4e0a1b2c3d4e"), Some(ServerSoftware::Jabberd2)),
        (id("1b4e28ba-2fa1-11d2-883f-0016d3cca427"), None),
        // As Prosody 0.12 and 13 begin, and others with such an id.
        (uuid("<dialback xmlns='urn:xmpp:features:dialback'/>"), Some(ServerSoftware::Prosody)),
        (uuid("<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"), None),
    ] {
        assert_eq!(seen(Flow::S2sIn, Some(answer)).await.server, server, "{answer}");
    }
}

// Some releases show nothing of what they are: then the word of the configuration says whose setting is named.
#[tokio::test]
async fn a_server_that_shows_nothing_is_named_by_the_configuration() {
    let mute = |inner: &str| -> &'static str {
        format!("{OPEN}id='-' version='1.0'><stream:features>{inner}</stream:features>").leak()
    };
    let demand = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
    for (server, setting) in [
        (ServerSoftware::Openfire, "Openfire: the property `xmpp.server.tls.policy` = `disabled`"),
        (ServerSoftware::Wildfire, "Wildfire: the property `xmpp.server.tls.enabled` = `false`"),
        (ServerSoftware::Tigase, "Tigase: `'tls-required' = false`"),
    ] {
        let offers = told(Flow::S2sIn, Some(mute(OFFER)), Some(server)).await;
        assert!(offers.remark(Flow::S2sIn).unwrap().contains(setting), "{offers:?}");
        let demands = told(Flow::S2sIn, Some(mute(demand)), Some(server)).await;
        let remedy = demands.ailment.unwrap().remedy(demands.server, Flow::S2sIn);
        assert!(remedy.contains(setting), "{remedy}");
    }
    assert_eq!(seen(Flow::S2sIn, Some(mute(OFFER))).await.server, None);
}

// Before the first word nobody can tell it from a server that is silent, or hangs up: it is asked in TLS.
#[tokio::test]
async fn a_port_that_begins_with_tls_is_named_as_that() {
    for (habit, answer) in
        [("says so", &b"\x15\x03\x01\x00\x02\x02\x46"[..]), ("hangs up", b""), ("waits", b"")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut octets = [0; 1024];
                    let heard = stream.read(&mut octets).await.unwrap();
                    match octets[..heard] {
                        [22, 3, ..] => stream.write_all(b"\x15\x03\x03\x00\x02\x02\x28").await.unwrap(),
                        _ => stream.write_all(answer).await.unwrap(),
                    }
                    while habit == "waits" && stream.read(&mut octets).await.is_ok_and(|n| n > 0) {}
                });
            }
        });
        let domain = Domain::parse("hall.example").unwrap();
        let dial = net::connect::Params::default();
        let visit = Visit {
            address,
            domain: &domain,
            flow: Flow::S2sIn,
            introduction: Vec::new(),
            dial: &dial,
            patience: Duration::from_millis(if habit == "waits" { 300 } else { 10_000 }),
            server: Some(ServerSoftware::Openfire),
        };
        let seen = look(&visit).await;
        assert_eq!(seen.ailment, Some(Ailment::SpeaksTls), "{habit}: {seen:?}");
        let remedy = Ailment::SpeaksTls.remedy(seen.server, Flow::S2sIn);
        assert!(remedy.contains("`xmpp.server.socket.port`, which is 5269"), "{remedy}");
        server.abort();
    }
}
