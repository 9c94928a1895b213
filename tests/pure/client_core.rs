//! Clients through the relay, without a socket: the dialogues of requirements 21.4, and every refusal beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::stage::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse::reason::{Flow, Outcome, Reason};
use gatehouse::relay::{Destination, Effect, Event, FarId, Input, LoginAttempt, Passing, Side};
use gatehouse::stream::client::Mechanism;
use gatehouse::stream::client::certified::{CertificateName, CertificateTerms, Demand};
use gatehouse::xml::{Content, Framer, Limits, Token};

const FAR: Side = Side::Far(FarId(1));
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const SASL2: &str = "urn:xmpp:sasl:2";
const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const ME: &str = "alice@hall.example/4db06f";
/// What is announced before the login (SM-09).
const EARLY: &str = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>16384</max-bytes></limits>";

fn open(attrs: &str) -> String {
    format!("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'{attrs}>")
}

fn hello() -> String {
    open(" to='hall.example' version='1.0'")
}

/// What a server inside says first.
fn greeting(id: &str, features: &str) -> String {
    format!(
        "<?xml version='1.0'?>{}<stream:features>{features}</stream:features>",
        open(&format!(" id='{id}' from='hall.example' version='1.0' xml:lang='en'"))
    )
}

fn mechanisms(names: &[&str]) -> String {
    let list: String = names.iter().map(|name| format!("<mechanism>{name}</mechanism>")).collect();
    format!("<mechanisms xmlns='{SASL}'>{list}</mechanisms>")
}

fn plain(account: &str) -> String {
    let payload = STANDARD.encode(format!("\0{account}\0secret"));
    format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{payload}</auth>")
}

fn bound_features() -> String {
    format!(
        "<bind xmlns='{BIND}'/><session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
         <sm xmlns='urn:xmpp:sm:2'/><sm xmlns='urn:xmpp:sm:3'/><csi xmlns='urn:xmpp:csi:0'/>"
    )
}

/// A client on direct TLS, greeted; nobody inside yet.
fn arrived() -> Stage {
    let mut stage = Stage::new(home(), any(), Flow::C2s, Some(secured("hall.example", &[])));
    stage.hears(NEAR, &hello());
    stage
}

/// A client that has heard these features of its server.
fn offered(features: &str) -> Stage {
    offered_at(home(), features)
}

fn offered_at(home: gatehouse::relay::Home, features: &str) -> Stage {
    let mut stage = Stage::new(home, any(), Flow::C2s, Some(secured("hall.example", &[])));
    stage.hears(NEAR, &hello());
    stage.connected(FarId(1), None);
    stage.said(FAR);
    stage.hears(FAR, &greeting("B-1", features));
    stage
}

fn attempts(stage: &mut Stage) -> Vec<LoginAttempt> {
    let mut all = Vec::new();
    stage.effects.retain(|effect| match effect {
        Effect::Try(attempt) => {
            all.push(attempt.clone());
            false
        }
        _ => true,
    });
    all
}

/// The client logs in with PLAIN, and its server grants it.
fn granted() -> Stage {
    let mut stage = offered(&mechanisms(&["PLAIN", "SCRAM-SHA-1"]));
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.said(FAR);
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    stage
}

/// The same with the second features; a bind is due.
fn unbound() -> Stage {
    let mut stage = granted();
    stage.hears(NEAR, &hello());
    stage.hears(FAR, &greeting("B-2", &bound_features()));
    stage.said(NEAR);
    stage.said(FAR);
    stage
}

fn bind(id: &str) -> String {
    format!("<iq type='set' id='{id}'><bind xmlns='{BIND}'/></iq>")
}

fn bind_result(id: &str, jid: &str) -> String {
    format!("<iq type='result' id='{id}'><bind xmlns='{BIND}'><jid>{jid}</jid></bind></iq>")
}

/// The same with an address; stanzas may pass.
fn bound() -> Stage {
    let mut stage = unbound();
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    stage.said(NEAR);
    stage.said(FAR);
    stage.effects.clear();
    stage
}

/// The stream error that the client heard, with which its stream ended.
fn ended(stage: &mut Stage) -> String {
    let said = stage.said(NEAR);
    assert!(said.ends_with("</stream:stream>"), "{said}");
    let (_, error) = said.split_once("<stream:error><").unwrap_or_else(|| panic!("no error: {said}"));
    error.split([' ', '/', '>']).next().unwrap().to_owned()
}

fn logins(stage: &Stage) -> Vec<(Option<Mechanism>, Option<String>, Outcome, Reason)> {
    let login = |event: &&Event| match event {
        Event::Login { mechanism, account, outcome, reason, .. } => {
            Some((*mechanism, account.clone(), *outcome, *reason))
        }
        _ => None,
    };
    stage.notes().iter().filter_map(login).collect()
}

/// How the story was told at its end.
fn told(stage: &Stage) -> Vec<Reason> {
    let reason = |event: &&Event| match event {
        Event::Left { record, .. } | Event::Closed { record } => Some(record.reason),
        _ => None,
    };
    stage.notes().iter().filter_map(reason).collect()
}

fn misfits(stage: &Stage) -> Vec<Reason> {
    let reason = |event: &&Event| match event {
        Event::Misfit { reason, .. } => Some(*reason),
        _ => None,
    };
    stage.notes().iter().filter_map(reason).collect()
}

// -- the dialogue of requirements 21.4

// C2S-03, CB-03.
#[test]
fn a_client_logs_in_by_starttls_and_scram() {
    let mut stage = Stage::new(home(), any(), Flow::C2s, None);
    stage.hears(NEAR, &hello());
    let said = stage.said(NEAR);
    assert!(said.contains(" from='hall.example'") && said.contains(" version='1.0'"), "{said}");
    assert!(
        said.ends_with(&format!(
            "<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>"
        )),
        "{said}"
    );
    stage.hears(NEAR, &format!("<starttls xmlns='{TLS}'/>"));
    assert_eq!(stage.said(NEAR), format!("<proceed xmlns='{TLS}'/>"));
    assert!(stage.has(|e| matches!(e, Effect::Upgrade(Side::Near))));
    // C2S-02: nobody inside has heard of it.
    assert!(stage.connects().is_empty());
    stage.step(NEAR, Input::Secured(secured("", &[])));
    stage.hears(NEAR, &open(" to='hall.example' from='alice@hall.example' version='1.0'"));
    assert_eq!(stage.connects(), [(FarId(1), Destination::Client(domain("hall.example")))]);
    assert_eq!(stage.said(NEAR), "", "our header goes out with the features");

    stage.connected(FarId(1), None);
    let said = stage.said(FAR);
    // STR-15: who the client said it was is not passed on.
    assert!(said.contains(" to='hall.example'") && !said.contains(" from="), "{said}");
    let features = format!(
        "<starttls xmlns='{TLS}'/><compression xmlns='http://jabber.org/features/compress'><method>zlib</method>\
         </compression><auth xmlns='http://jabber.org/features/iq-auth'/>\
         <register xmlns='http://jabber.org/features/iq-register'/>\
         <address xmlns='http://affinix.com/jabber/address'>192.0.2.7</address><odd xmlns='urn:example'/>{}",
        mechanisms(&["DIGEST-MD5", "GSSAPI", "SCRAM-SHA-1", "PLAIN"])
    );
    stage.hears(FAR, &greeting("B-1", &features));
    let said = stage.said(NEAR);
    assert!(said.starts_with("<?xml ") && said.contains(" to='alice@hall.example'"), "{said}");
    let offered =
        format!("<stream:features>{}{EARLY}</stream:features>", mechanisms(&["SCRAM-SHA-1", "PLAIN"]));
    assert!(said.ends_with(&offered), "{said}");

    let first = "eSwsbj1hbGljZSxyPWZ5a28rZDJsYmJGZ09OUnY5cWt4ZGF3TA==";
    let auth = format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{first}</auth>");
    stage.hears(NEAR, &auth);
    let attempt = LoginAttempt {
        hosted: domain("hall.example"),
        mechanism: Mechanism::ScramSha1,
        account: Some("alice".into()),
    };
    assert_eq!(attempts(&mut stage), [attempt]);
    assert_eq!(stage.said(FAR), "");
    assert!(!stage.relay.wants_read(NEAR));
    stage.step(NEAR, Input::Tried(Ok(())));
    // CB-03: not one octet of the payload is changed.
    assert_eq!(stage.said(FAR), auth);
    let challenge = format!("<challenge xmlns='{SASL}'>cj1mLHM9YSxpPTQwOTY=</challenge>");
    stage.hears(FAR, &challenge);
    assert_eq!(stage.said(NEAR), challenge);
    let response = format!("<response xmlns='{SASL}'>Yz1iaXdzLHI9ZixwPXg=</response>");
    stage.hears(NEAR, &response);
    assert_eq!(stage.said(FAR), response);
    let success = format!("<success xmlns='{SASL}'>dj14</success>");
    stage.hears(FAR, &success);
    assert_eq!(stage.said(NEAR), success);
    assert!(stage.has(|e| matches!(e, Effect::Restart(Side::Near))));
    assert!(stage.has(|e| matches!(e, Effect::Restart(FAR))));
    assert!(stage.said(FAR).contains(" to='hall.example'"));
    assert_eq!(
        logins(&stage),
        [(Some(Mechanism::ScramSha1), Some("alice".into()), Outcome::Allow, Reason::Allowed)]
    );

    stage.hears(FAR, &greeting("B-2", &bound_features()));
    assert_eq!(stage.said(NEAR), "", "features wait for the client's header");
    stage.hears(NEAR, &hello());
    let said = stage.said(NEAR);
    for kept in [BIND, "urn:xmpp:sm:2", "urn:xmpp:sm:3", "urn:xmpp:csi:0", "<max-bytes>262144</max-bytes>"] {
        assert!(said.contains(kept), "{kept}: {said}");
    }
    stage.hears(NEAR, &bind("b1"));
    assert_eq!(stage.said(FAR), bind("b1"));
    assert!(!stage.relay.is_bound());
    stage.hears(FAR, &bind_result("b1", ME));
    assert_eq!(stage.said(NEAR), bind_result("b1", ME));
    assert!(stage.relay.is_bound());
    assert!(stage.has(|e| matches!(e, Effect::Proven(Side::Near))));
    assert!(stage.has(|e| matches!(e, Effect::Proven(FAR))));

    stage.hears(NEAR, &format!("<message from='{ME}' to='bob@hall.example'><body>hi</body></message>"));
    let passed = stage.passed();
    assert_eq!(passed, [(FarId(1), "<message to='bob@hall.example'><body>hi</body></message>".into())]);
    let answer = format!("<message from='bob@hall.example/x' to='{ME}'><body>ho</body></message>");
    stage.hears(FAR, &answer);
    assert_eq!(stage.delivered(), [answer]);
}

// -- before TLS

#[test]
fn nothing_but_starttls_is_taken_in_clear() {
    let rows: &[(&str, &str)] = &[
        ("<message to='bob@hall.example'/>", "not-authorized"),
        ("<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>", "not-authorized"),
        (&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGEAYg==</auth>"), "not-authorized"),
        (&format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'/>"), "not-authorized"),
        ("<compress xmlns='http://jabber.org/protocol/compress'/>", "unsupported-stanza-type"),
        ("<enable xmlns='urn:xmpp:sm:3'/>", "unsupported-stanza-type"),
        ("<unknown xmlns='urn:example'/>", "unsupported-stanza-type"),
        ("<message xmlns='jabber:server' to='bob@hall.example'/>", "invalid-namespace"),
        (
            "<result xmlns='jabber:server:dialback' from='a.example' to='hall.example'/>",
            "unsupported-stanza-type",
        ),
    ];
    for (text, condition) in rows {
        let mut stage = Stage::new(home(), any(), Flow::C2s, None);
        stage.hears(NEAR, &hello());
        stage.said(NEAR);
        stage.hears(NEAR, text);
        assert_eq!(ended(&mut stage), *condition, "{text}");
        assert!(stage.connects().is_empty());
    }
}

// TLS-02: known by its name. Loudmouth writes an `id`.
#[test]
fn a_starttls_is_known_by_its_name() {
    for text in [
        format!("<starttls xmlns='{TLS}'><required/></starttls>"),
        format!("<starttls xmlns='{TLS}' id='5'/>"),
        format!("<starttls xmlns='{TLS}' xml:lang='en'>\n </starttls>"),
    ] {
        let mut stage = Stage::new(home(), any(), Flow::C2s, None);
        stage.hears(NEAR, &hello());
        stage.said(NEAR);
        stage.hears(NEAR, &text);
        assert_eq!(stage.said(NEAR), format!("<proceed xmlns='{TLS}'/>"), "{text}");
        assert!(stage.has(|e| matches!(e, Effect::Upgrade(Side::Near))));
    }
}

// TLS-03, TLS-04.
#[test]
fn a_starttls_that_is_late_is_refused() {
    for mut stage in [offered(&mechanisms(&["PLAIN"])), unbound(), bound()] {
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<starttls xmlns='{TLS}'/>"));
        assert_eq!(stage.said(NEAR), format!("<failure xmlns='{TLS}'/></stream:stream>"));
    }
}

#[test]
fn a_header_that_does_not_fit_is_answered_and_refused() {
    let rows = [
        (open(" to='nowhere.example' version='1.0'"), "host-unknown"),
        (open(" version='1.0'"), "host-unknown"),
        (open(" to='not a domain' version='1.0'"), "host-unknown"),
        // Federated only: no client is served there.
        (open(" to='annex.example' version='1.0'"), "host-unknown"),
        (open(" to='hall.example'"), "unsupported-version"),
        (open(" to='hall.example' version='0.9'"), "unsupported-version"),
    ];
    for (header, condition) in rows {
        for direct in [None, Some(secured("", &[]))] {
            let mut stage = Stage::new(home(), any(), Flow::C2s, direct);
            stage.hears(NEAR, &header);
            let said = stage.said(NEAR);
            assert!(said.contains("<stream:stream ") && !said.contains("nowhere"), "{said}");
            assert!(said.contains(&format!("<{condition} ")), "{header}: {said}");
            assert!(stage.connects().is_empty());
        }
    }
    let mut stage = Stage::new(home(), any(), Flow::C2s, None);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    assert_eq!(ended(&mut stage), "invalid-namespace");
}

/// STR-15.
#[test]
fn the_header_names_the_domain_whose_certificate_was_shown() {
    let mut home = home();
    home.clients.insert(domain("annex.example"), Default::default());
    // Whatever the client asked for: without a name it is the default that was shown.
    for asked in [Some("annex.example"), Some("hall.example"), None] {
        let mut facts = secured("annex.example", &[]);
        facts.sni = asked.map(str::to_owned);
        let mut stage = Stage::new(home.clone(), any(), Flow::C2s, Some(facts));
        stage.hears(NEAR, &hello());
        let said = stage.said(NEAR);
        assert!(said.contains("<host-unknown ") && said.contains(" that of annex.example</text>"), "{said}");
    }
    let mut stage = Stage::new(home, any(), Flow::C2s, None);
    stage.hears(NEAR, &hello());
    stage.hears(NEAR, &format!("<starttls xmlns='{TLS}'/>"));
    stage.step(NEAR, Input::Secured(secured("", &[])));
    stage.said(NEAR);
    stage.hears(NEAR, &open(" to='annex.example' version='1.0'"));
    assert_eq!(ended(&mut stage), "host-unknown");
    assert!(stage.connects().is_empty());
}

/// STR-15: whatever a client writes there decides nothing, in any header. XML::Stream writes the machine's name.
#[test]
fn the_from_of_a_header_is_neither_judged_nor_passed_on() {
    for from in ["localhost", "@", "", "eve@evil.example", "bob@hall.example", "hall.example"] {
        let header = open(&format!(" to='hall.example' from='{from}' version='1.0'"));
        let mut stage = Stage::new(home(), any(), Flow::C2s, None);
        stage.hears(NEAR, &header);
        stage.hears(NEAR, &format!("<starttls xmlns='{TLS}'/>"));
        stage.step(NEAR, Input::Secured(secured("", &[])));
        stage.hears(NEAR, &header);
        stage.connected(FarId(1), None);
        stage.hears(FAR, &greeting("B-1", &mechanisms(&["PLAIN"])));
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &header);
        stage.hears(FAR, &greeting("B-2", &bound_features()));
        let said = stage.said(NEAR);
        assert!(said.contains(BIND) && !said.contains("<stream:error"), "{from}: {said}");
        let inside = stage.said(FAR);
        assert_eq!(inside.matches("<stream:stream").count(), 2);
        assert!(!inside.contains(" from="), "{from}: {inside}");
    }
    // Whether the other name is one of ours, or none at all.
    for to in [" to='annex.example'", " to='nowhere.example'", " to='not a domain'", ""] {
        let mut stage = granted();
        stage.said(NEAR);
        stage.hears(NEAR, &open(&format!("{to} version='1.0'")));
        assert_eq!(ended(&mut stage), "not-authorized", "{to}");
    }
}

// -- features

// C2S-04.
#[test]
fn features_that_would_break_every_login_are_the_operators_to_mend() {
    let rows = [
        (
            format!("<starttls xmlns='{TLS}'><required/></starttls>{}", mechanisms(&["PLAIN"])),
            Reason::BackendWantsTls,
        ),
        (mechanisms(&["DIGEST-MD5", "GSSAPI", "X-OAUTH2"]), Reason::NoMechanism),
        (String::new(), Reason::NoMechanism),
        // What another namespace calls a mechanism is none.
        (
            format!(
                "<mechanisms xmlns='{SASL}'><mechanism xmlns='urn:example'>PLAIN</mechanism></mechanisms>"
            ),
            Reason::NoMechanism,
        ),
        (mechanisms(&["SCRAM-SHA-1-PLUS"]), Reason::BackendBindsChannel),
    ];
    for (features, reason) in rows {
        let mut stage = offered(&features);
        assert_eq!(ended(&mut stage), "internal-server-error", "{features}");
        assert_eq!(misfits(&stage), [reason]);
        assert_eq!(told(&stage), [reason]);
        assert!(!reason.words().is_empty());
    }
}

/// CB-02: those that cannot bind a channel may still log in; the operator hears of the others.
/// CB-04: nothing is announced that does not work on this connection.
#[test]
fn channel_binding_is_taken_out_and_told() {
    let features = format!(
        "{}<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
         </sasl-channel-binding>",
        mechanisms(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])
    );
    let mut stage = offered(&features);
    let said = stage.said(NEAR);
    assert!(said.contains(&mechanisms(&["SCRAM-SHA-256"])), "{said}");
    assert!(!said.contains("PLUS") && !said.contains("channel"), "{said}");
    assert_eq!(misfits(&stage), [Reason::BackendOffersBinding]);
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256-PLUS'>cD1h</auth>"));
    assert!(stage.said(NEAR).contains("<invalid-mechanism/>"));
    assert_eq!(stage.said(FAR), "");
}

/// What a server's first message of SCRAM-SHA-1 holds that signs this list (XEP-0474 6.1).
fn signed(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let hash = aws_lc_rs::digest::digest(sha1, names.join("\u{1e}").as_bytes());
    format!("r=abc,s=cw==,i=4096,h={}", STANDARD.encode(hash))
}

/// CB-09: a server that signs its list breaks the logins of those who check it, where it vouches for more than they see. Nothing
/// is told where it vouches for what they see: that would be a false alarm.
#[test]
fn a_signed_list_of_mechanisms_is_told_where_it_is_not_the_one_that_was_shown() {
    let whole = ["SCRAM-SHA-1", "X-OAUTH2"];
    for (offer, message, expected) in [
        (&whole[..], signed(&whole), vec![Reason::BackendSignsOffer]),
        (&whole[..1], signed(&whole[..1]), vec![]),
        // Its list is longer, and it signs what a client of this stream sees.
        (&whole[..], signed(&whole[..1]), vec![]),
        (&whole[..], "r=abc,s=cw==,i=4096".to_owned(), vec![]),
    ] {
        let mut stage = offered(&mechanisms(offer));
        for _ in 0..2 {
            stage.hears(
                NEAR,
                &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPWE=</auth>"),
            );
            stage.step(NEAR, Input::Tried(Ok(())));
            let challenge = format!("<challenge xmlns='{SASL}'>{}</challenge>", STANDARD.encode(&message));
            stage.said(NEAR);
            stage.hears(FAR, &challenge);
            // CB-03: what goes on is not touched.
            assert_eq!(stage.said(NEAR), challenge);
        }
        let told: Vec<_> = expected.iter().chain(&expected).copied().collect();
        assert_eq!(misfits(&stage), told, "{offer:?} {message}");
    }
}

/// C2S-03: unknown features stay inside unless the operator names them; what the gateway decides is never named.
#[test]
fn features_that_the_operator_names_pass_after_the_login() {
    use gatehouse::stream::client::features::{Rules, after_login, before_login, may_be_let_pass};
    let shown = |features: &[&str]| {
        let rules = Rules {
            mechanisms: [Mechanism::Plain].into(),
            registration: false,
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
            max_octets: 1000,
            early_octets: 500,
        };
        let mut framer = Framer::new(Limits::default(), Content::Client);
        let features = format!("<x xmlns='urn:example:x'/>{}", mechanisms(&["PLAIN"]));
        framer.feed(greeting("i", &features).as_bytes());
        let mut tokens = std::iter::from_fn(|| framer.next());
        let frame = tokens.find_map(|t| if let Token::Element(frame) = t { Some(frame) } else { None });
        let tree = frame.unwrap().tree();
        let early = before_login(&tree, &rules).unwrap().text;
        assert!(!early.contains("urn:example:x"), "{early}");
        after_login(&tree, &rules).unwrap().text
    };
    assert!(!shown(&[]).contains("urn:example:x"));
    let said = shown(&["urn:example:x"]);
    assert!(said.contains("<x xmlns='urn:example:x'/>") && !said.contains("mechanisms"), "{said}");
    // C2S-15: the backend has no way to be told of a login by certificate.
    assert_eq!(Mechanism::parse("EXTERNAL"), None);
    for never in [TLS, SASL, "http://jabber.org/features/iq-auth", "http://jabber.org/features/compress", ""]
    {
        assert!(!may_be_let_pass(never), "{never}");
    }
}

/// LOG-04: where a client is is told in logs and PROXY headers, never in a stream.
#[test]
fn the_clients_address_is_in_no_stream() {
    let mut stage = bound();
    stage.hears(NEAR, "<message to='bob@friend.example'><body>hi</body></message><presence/>");
    let passed: String = stage.passed().into_iter().map(|(_, text)| text).collect();
    assert!(passed.contains("<presence"), "{passed}");
    for effect in &stage.effects {
        if let Effect::Send(_, octets) | Effect::Pass(_, Passing { octets, .. }) | Effect::Deliver(octets) =
            effect
        {
            assert!(!text(octets).contains("192.0.2.7"), "{}", text(octets));
        }
    }
    assert!(!passed.contains("192.0.2.7"), "{passed}");
}

#[test]
fn the_operators_list_decides() {
    let mut home = home();
    home.clients.get_mut(&domain("hall.example")).unwrap().mechanisms = [Mechanism::ScramSha256].into();
    let mut stage = offered_at(home, &mechanisms(&["PLAIN", "SCRAM-SHA-256", "ANONYMOUS"]));
    assert!(stage.said(NEAR).contains(&mechanisms(&["SCRAM-SHA-256"])));
    stage.hears(NEAR, &plain("alice"));
    assert!(stage.said(NEAR).contains("<invalid-mechanism/>"));
    assert_eq!(stage.said(FAR), "");
}

// -- the login

// C2S-06.
#[test]
fn what_was_not_offered_is_refused_when_used() {
    for mechanism in ["GSSAPI", "DIGEST-MD5", "ANONYMOUS", "SCRAM-SHA-256", "HT-SHA-256-NONE", "plain", ""] {
        let mut stage = offered(&mechanisms(&["PLAIN", "ANONYMOUS", "GSSAPI"]));
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>=</auth>"));
        assert_eq!(stage.said(NEAR), format!("<failure xmlns='{SASL}'><invalid-mechanism/></failure>"));
        assert_eq!(stage.said(FAR), "", "{mechanism}");
        assert_eq!(logins(&stage), [(None, None, Outcome::Deny, Reason::MechanismNotOffered)]);
    }
}

#[test]
fn base64_is_exact() {
    let long = "A".repeat(8196);
    let rows = [
        ("?", "incorrect-encoding"),
        ("AGE", "incorrect-encoding"),
        ("AGEAYg==\n", "incorrect-encoding"),
        ("AGEAYh==", "incorrect-encoding"),
        ("A=GEAYg=", "incorrect-encoding"),
        (long.as_str(), "incorrect-encoding"),
        ("<x xmlns='urn:example'/>", "malformed-request"),
    ];
    for (payload, condition) in rows {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{payload}</auth>"));
        assert_eq!(
            stage.said(NEAR),
            format!("<failure xmlns='{SASL}'><{condition}/></failure>"),
            "{payload}"
        );
        assert_eq!(stage.said(FAR), "");
    }
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>=</auth>"));
    stage.step(NEAR, Input::Tried(Ok(())));
    assert_eq!(stage.said(FAR), format!("<auth xmlns='{SASL}' mechanism='PLAIN'>=</auth>"));
}

/// C2S-09 in the middle of an exchange: the backend is told that it is over before the client hears why.
#[test]
fn a_bad_answer_ends_the_exchange_on_both_sides() {
    let mut stage = offered(&mechanisms(&["SCRAM-SHA-1"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPXg=</auth>"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'>cj14</challenge>"));
    stage.said(NEAR);
    stage.said(FAR);
    stage.hears(NEAR, &format!("<response xmlns='{SASL}'>???</response>"));
    assert_eq!(stage.said(FAR), format!("<abort xmlns='{SASL}'/>"));
    assert_eq!(stage.said(NEAR), "");
    assert!(!stage.relay.wants_read(NEAR));
    stage.hears(FAR, &format!("<failure xmlns='{SASL}'><aborted/></failure>"));
    assert_eq!(stage.said(NEAR), format!("<failure xmlns='{SASL}'><incorrect-encoding/></failure>"));
    // Another exchange is a new one.
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1ib2Iscj14</auth>"));
    assert_eq!(attempts(&mut stage).last().unwrap().account.as_deref(), Some("bob"));
}

#[test]
fn words_without_an_exchange_are_refused() {
    for (word, condition) in [("response", "malformed-request"), ("abort", "aborted")] {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<{word} xmlns='{SASL}'/>"));
        assert_eq!(stage.said(NEAR), format!("<failure xmlns='{SASL}'><{condition}/></failure>"));
        assert_eq!(stage.said(FAR), "");
    }
}

#[test]
fn an_abort_is_relayed() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'/>"));
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'/>"));
    stage.said(NEAR);
    stage.said(FAR);
    stage.hears(NEAR, &format!("<abort xmlns='{SASL}'/>"));
    assert_eq!(stage.said(FAR), format!("<abort xmlns='{SASL}'/>"));
    let failure = format!("<failure xmlns='{SASL}'><aborted/></failure>");
    stage.hears(FAR, &failure);
    assert_eq!(stage.said(NEAR), failure);
}

/// C2S-10.
#[test]
fn a_new_login_takes_the_place_of_the_old_one() {
    let mut stage = offered(&mechanisms(&["PLAIN", "SCRAM-SHA-1"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPXg=</auth>"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'>cj14</challenge>"));
    stage.hears(NEAR, &plain("bob"));
    stage.step(NEAR, Input::Tried(Ok(())));
    assert_eq!(stage.said(FAR).matches("<auth ").count(), 2);
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    assert_eq!(logins(&stage)[0].1.as_deref(), Some("bob"));
}

/// C2S-11: a guess is told as what it was, whatever was sent behind it before its outcome was known.
#[test]
fn nothing_sent_behind_a_guess_hides_its_outcome() {
    let behind = [
        plain("mallory"),
        format!("<auth xmlns='{SASL}' mechanism='GSSAPI'/>"),
        format!("<response xmlns='{SASL}'>???</response>"),
        format!("<abort xmlns='{SASL}'/>"),
        format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'/>"),
    ];
    for behind in behind {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(FAR);
        stage.hears(NEAR, &format!("{}{behind}", plain("alice")));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(NEAR, "");
        assert_eq!(stage.said(FAR), plain("alice"), "{behind}");
        stage.said(NEAR);
        let failure = format!("<failure xmlns='{SASL}'><not-authorized/></failure>");
        stage.hears(FAR, &failure);
        assert!(stage.said(NEAR).starts_with(&failure), "{behind}");
        let guess = (Some(Mechanism::Plain), Some("alice".to_owned()), Outcome::Deny, Reason::SaslRefused);
        assert_eq!(logins(&stage), [guess], "{behind}");
    }
}

/// The server says whose login it is where the client asks to act as somebody else; until then either may be the one.
#[test]
fn a_login_on_behalf_of_another_may_be_either() {
    for (authzid, from, fits) in
        [("bob", "alice", true), ("bob", "bob", true), ("", "alice", true), ("", "bob", false)]
    {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        let payload = STANDARD.encode(format!("{authzid}\0alice\0secret"));
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{payload}</auth>"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &hello());
        stage.hears(FAR, &greeting("B-2", &bound_features()));
        stage.said(NEAR);
        let bind = bind("b1").replace("<iq ", &format!("<iq from='{from}@hall.example' "));
        stage.hears(NEAR, &bind);
        assert_eq!(!stage.said(NEAR).contains("<invalid-from "), fits, "{authzid} {from}");
    }
}

// C2S-20.
#[test]
fn failures_are_relayed_as_they_are_and_counted() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.said(NEAR);
    let failure = format!(
        "<failure xmlns='{SASL}'><not-authorized/><text xml:lang='en'>No &lt;luck&gt;.</text></failure>"
    );
    for _ in 0..2 {
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &failure);
        assert_eq!(stage.said(NEAR), failure);
    }
    stage.hears(NEAR, &plain("bob"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &failure);
    let said = stage.said(NEAR);
    assert!(said.starts_with(&failure) && said.contains("<policy-violation "), "{said}");
    let deny =
        |name: &str| (Some(Mechanism::Plain), Some(name.to_owned()), Outcome::Deny, Reason::SaslRefused);
    assert_eq!(logins(&stage), [deny("alice"), deny("alice"), deny("bob")]);
    assert_eq!(told(&stage), [Reason::TooManySasl]);
}

/// C2S-11: clients try the strongest first, and a server may know an account by one mechanism alone: each that is offered may
/// fail once. The same one fails as often as ever.
#[test]
fn every_mechanism_that_is_offered_may_be_tried_once() {
    let names = ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];
    let auth = |name: &str| match name {
        "PLAIN" => plain("alice"),
        name => format!("<auth xmlns='{SASL}' mechanism='{name}'>biwsbj1hbGljZSxyPXg=</auth>"),
    };
    let refuse = |stage: &mut Stage, name: &str, failure: &str| {
        stage.hears(NEAR, &auth(name));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<failure xmlns='{SASL}'>{failure}</failure>"));
        stage.said(NEAR)
    };
    let mut stage = offered(&mechanisms(&names));
    stage.said(NEAR);
    for name in &names[..3] {
        assert!(!refuse(&mut stage, name, "<not-authorized/>").contains("<stream:error>"), "{name}");
    }
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    assert_eq!(logins(&stage).len(), 4);
    let mut stage = offered(&mechanisms(&names));
    stage.said(NEAR);
    let said: Vec<_> = (0..3).map(|_| refuse(&mut stage, "PLAIN", "<not-authorized/>")).collect();
    assert_eq!(said.iter().filter(|said| said.contains("<policy-violation ")).count(), 1, "{said:?}");
    // A failure that no password caused is no guess: those are left afterwards, and nothing is counted against the source.
    for way in [
        "<invalid-mechanism/>",
        "<malformed-request/>",
        "<not-authorized/><text xml:lang='en'>Invalid channel binding</text>",
        "<temporary-auth-failure/>",
    ] {
        let mut stage = offered(&mechanisms(&names));
        stage.said(NEAR);
        for name in &names[..3] {
            assert!(!refuse(&mut stage, name, way).contains("<stream:error>"), "{name}");
        }
        assert!(logins(&stage).iter().all(|(.., reason)| *reason != Reason::SaslRefused), "{way}");
        for _ in 0..2 {
            assert!(!refuse(&mut stage, "PLAIN", "<not-authorized/>").contains("<stream:error>"));
        }
        assert!(refuse(&mut stage, "PLAIN", "<not-authorized/>").contains("<policy-violation "));
        // Without a password nobody goes on for ever either.
        let mut stage = offered(&mechanisms(&names));
        let said: Vec<_> = (0..4).map(|_| refuse(&mut stage, "PLAIN", way)).collect();
        assert!(
            said[3].contains("<policy-violation ") && !said[2].contains("<policy-violation "),
            "{said:?}"
        );
    }
}

/// C2S-11: what never came to the server counts as well.
#[test]
fn our_own_refusals_are_counted_too() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    for _ in 0..3 {
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='GSSAPI'/>"));
    }
    let said = stage.said(NEAR);
    assert_eq!(said.matches("<invalid-mechanism/>").count(), 3);
    assert!(said.contains("<policy-violation "), "{said}");
    assert_eq!(told(&stage), [Reason::TooManySasl]);
    assert_eq!(stage.said(FAR), "</stream:stream>");
}

/// What the server cannot do is nobody's guess at a password.
#[test]
fn a_servers_own_trouble_is_told_apart() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<failure xmlns='{SASL}'><temporary-auth-failure/></failure>"));
    assert_eq!(logins(&stage)[0].3, Reason::BackendFault);
}

#[test]
fn a_throttled_login_never_reaches_the_backend() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.said(NEAR);
    stage.said(FAR);
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Err(Reason::LoginThrottled)));
    let said = stage.said(NEAR);
    assert!(said.contains("<temporary-auth-failure/>") && said.contains("<policy-violation "), "{said}");
    assert!(!stage.said(FAR).contains("<auth"));
    assert_eq!(told(&stage), [Reason::LoginThrottled]);
}

#[test]
fn the_account_tried_is_read_and_nothing_else() {
    let rows: &[(&str, &str, Option<&str>)] = &[
        ("PLAIN", "\0alice\0pw", Some("alice")),
        ("PLAIN", "\0Alice\0pw", Some("alice")),
        // The password is alice's, whomever she asks to act as.
        ("PLAIN", "bob\0alice\0pw", Some("alice")),
        ("PLAIN", "\0alice@hall.example\0pw", Some("alice")),
        ("PLAIN", "\0alice@evil.example\0pw", None),
        ("PLAIN", "alice", None),
        ("PLAIN", "\0a/b\0pw", None),
        ("SCRAM-SHA-1", "n,,n=alice,r=x", Some("alice")),
        ("SCRAM-SHA-1", "y,,n=al=2Cice,r=x", Some("al,ice")),
        ("SCRAM-SHA-1", "n,a=bob,n=alice,r=x", Some("alice")),
        ("SCRAM-SHA-1", "nonsense", None),
        ("OAUTHBEARER", "n,a=alice@hall.example,\u{1}auth=Bearer x\u{1}\u{1}", Some("alice")),
        ("OAUTHBEARER", "n,,\u{1}auth=Bearer x\u{1}\u{1}", None),
    ];
    for (mechanism, payload, account) in rows {
        let mut stage = offered(&mechanisms(&["PLAIN", "SCRAM-SHA-1", "OAUTHBEARER"]));
        let payload64 = STANDARD.encode(payload);
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{payload64}</auth>"));
        assert_eq!(attempts(&mut stage)[0].account.as_deref(), *account, "{mechanism} {payload:?}");
        // The payload itself is nowhere but in what goes to the backend (LOG-02).
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<failure xmlns='{SASL}'><not-authorized/></failure>"));
        assert!(!format!("{:?}", stage.notes()).contains("pw"));
    }
    // Without an initial response the first answer shows it.
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'/>"));
    assert!(attempts(&mut stage).is_empty());
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'/>"));
    stage.hears(NEAR, &format!("<response xmlns='{SASL}'>AGFsaWNlAHB3</response>"));
    assert_eq!(attempts(&mut stage)[0].account.as_deref(), Some("alice"));
}

/// C2S-12.
#[test]
fn a_word_that_nobody_asked_for_is_the_backends_fault() {
    let rows = [
        format!("<success xmlns='{SASL}'/>"),
        format!("<challenge xmlns='{SASL}'/>"),
        format!(
            "<success xmlns='{SASL2}'><authorization-identifier>{ME}</authorization-identifier></success>"
        ),
        bind_result("b1", ME),
        "<message to='alice@hall.example'/>".to_owned(),
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='x'/>".to_owned(),
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_owned(),
        "<stream:features/>".to_owned(),
    ];
    for text in rows {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.hears(FAR, &text);
        assert_eq!(ended(&mut stage), "internal-server-error", "{text}");
        assert!(!stage.relay.is_bound() && stage.delivered().is_empty());
        assert!(stage.relay.wants_read(NEAR), "its closing tag is awaited");
    }
}

#[test]
fn a_backends_bad_base64_is_the_backends_fault() {
    for word in ["challenge", "success"] {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.said(NEAR);
        stage.hears(FAR, &format!("<{word} xmlns='{SASL}'>???</{word}>"));
        assert_eq!(ended(&mut stage), "internal-server-error");
    }
}

#[test]
fn before_the_login_only_a_login_has_a_place() {
    let rows = [
        ("<message to='bob@hall.example'/>", "not-authorized"),
        ("<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>", "policy-violation"),
        ("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>", "not-authorized"),
        ("<r xmlns='urn:xmpp:sm:3'/>", "not-authorized"),
        ("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>", "not-authorized"),
        ("<unknown xmlns='urn:example'/>", "not-authorized"),
        ("<message xmlns='jabber:server'/>", "invalid-namespace"),
    ];
    for (text, condition) in rows {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.said(FAR);
        stage.hears(NEAR, text);
        assert_eq!(ended(&mut stage), condition, "{text}");
        assert_eq!(stage.said(FAR), "</stream:stream>");
    }
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.said(NEAR);
    stage.hears(NEAR, "<compress xmlns='http://jabber.org/protocol/compress'/>");
    assert!(stage.said(NEAR).contains("<setup-failed/>"));
}

fn unexpected(version: u8) -> String {
    format!(
        "<failed xmlns='urn:xmpp:sm:{version}'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    )
}

// SM-10, XEP-0198 3: before the login, and before the bind; with RFC 6120's logins and with XEP-0388's.
#[test]
fn stream_management_before_its_time_is_answered_and_the_stream_goes_on() {
    for version in [2, 3] {
        let enable = format!("<enable xmlns='urn:xmpp:sm:{version}' resume='true'/>");
        let resume = format!("<resume xmlns='urn:xmpp:sm:{version}' previd='x' h='0'/>");
        for offer in [mechanisms(&["PLAIN"]), modern()] {
            let mut stage = offered(&offer);
            stage.said(NEAR);
            stage.said(FAR);
            for early in [&enable, &resume, &enable] {
                stage.hears(NEAR, early);
                assert_eq!(stage.said(NEAR), unexpected(version), "{early}");
            }
            assert_eq!(stage.said(FAR), "");
            assert!(stage.relay.wants_read(NEAR));
            if offer.contains(SASL2) {
                stage.hears(NEAR, &authenticate("PLAIN", ""));
                stage.step(NEAR, Input::Tried(Ok(())));
                stage.hears(FAR, &success("alice@hall.example", ""));
                stage.hears(FAR, &format!("<stream:features>{}</stream:features>", bound_features()));
            } else {
                stage.hears(NEAR, &plain("alice"));
                stage.step(NEAR, Input::Tried(Ok(())));
                stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
                stage.hears(NEAR, &hello());
                stage.hears(FAR, &greeting("B-2", &bound_features()));
            }
            stage.said(NEAR);
            stage.said(FAR);
            stage.hears(NEAR, &enable);
            assert_eq!(stage.said(NEAR), unexpected(version));
            assert_eq!(stage.said(FAR), "");
            stage.hears(NEAR, &bind("b1"));
            stage.hears(FAR, &bind_result("b1", ME));
            assert!(stage.relay.is_bound());
        }
    }
    // In the middle of an exchange of RFC 6120 it disturbs nothing.
    let mut stage = offered(&mechanisms(&["SCRAM-SHA-1"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPXg=</auth>"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'>cj14</challenge>"));
    stage.said(NEAR);
    stage.said(FAR);
    stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(stage.said(NEAR), unexpected(3));
    stage.hears(NEAR, &format!("<response xmlns='{SASL}'>Yz1iaXdz</response>"));
    assert_eq!(stage.said(FAR), format!("<response xmlns='{SASL}'>Yz1iaXdz</response>"));
    // C2S-19: in one of XEP-0388 nothing else has a place.
    let mut stage = asked("");
    stage.hears(FAR, &format!("<challenge xmlns='{SASL2}'>cj14</challenge>"));
    stage.said(NEAR);
    stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(ended(&mut stage), "not-authorized");
}

// C2S-08: where it is not enabled, who asks is told so, and may log in.
#[test]
fn a_question_for_an_account_is_answered_where_there_are_none() {
    let features =
        format!("{}<register xmlns='http://jabber.org/features/iq-register'/>", mechanisms(&["PLAIN"]));
    let mut stage = offered(&features);
    assert!(!stage.said(NEAR).contains("iq-register"));
    stage.said(FAR);
    for kind in ["get", "set"] {
        stage.hears(NEAR, &format!("<iq type='{kind}' id='r&lt;1'><query xmlns='jabber:iq:register'/></iq>"));
        assert_eq!(
            stage.said(NEAR),
            "<iq type='error' id='r&lt;1'><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
    }
    assert_eq!(stage.said(FAR), "");
    assert_eq!(stage.reasons(), [Reason::RegistrationOff; 2]);
    stage.hears(NEAR, &plain("alice"));
    assert_eq!(attempts(&mut stage).len(), 1);
}

// C2S-08.
#[test]
fn accounts_are_made_only_where_that_is_allowed() {
    let mut home = home();
    home.clients.get_mut(&domain("hall.example")).unwrap().registration = true;
    let features =
        format!("{}<register xmlns='http://jabber.org/features/iq-register'/>", mechanisms(&["PLAIN"]));
    let mut stage = offered_at(home, &features);
    assert!(stage.said(NEAR).contains("iq-register"));
    stage.said(FAR);
    let ask = "<iq id='r1' type='get'><query xmlns='jabber:iq:register'/></iq>";
    stage.hears(NEAR, ask);
    assert_eq!(stage.said(FAR), ask);
    let answer = "<iq id='r1' type='result'><query xmlns='jabber:iq:register'><username/></query></iq>";
    stage.hears(FAR, answer);
    assert_eq!(stage.said(NEAR), answer);
    // XEP-0077: who sends the form asks for an account, and the backend hears of it once there is leave.
    let form =
        "<iq id='r&amp;2' type='set'><query xmlns='jabber:iq:register'><username>eve</username></query></iq>";
    let applies = |stage: &mut Stage| {
        let before = stage.effects.len();
        stage.effects.retain(|effect| !matches!(effect, Effect::Apply));
        before - stage.effects.len()
    };
    assert_eq!(applies(&mut stage), 0);
    stage.hears(NEAR, form);
    assert_eq!((applies(&mut stage), stage.said(FAR)), (1, String::new()));
    assert!(!stage.relay.wants_read(NEAR), "nothing more is read meanwhile");
    stage.step(NEAR, Input::Tried(Err(Reason::RegistrationThrottled)));
    assert_eq!(
        stage.said(NEAR),
        "<iq type='error' id='r&amp;2'><error type='wait'>\
         <resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    );
    let refused = Reason::RegistrationThrottled;
    let told = |event: &Event| matches!(event, Event::Refused { reason, .. } if *reason == refused);
    assert_eq!(stage.notes().into_iter().filter(|event| told(event)).count(), 1);
    assert_eq!(stage.said(FAR), "");
    stage.hears(NEAR, form);
    assert_eq!(applies(&mut stage), 1);
    stage.step(NEAR, Input::Tried(Ok(())));
    assert_eq!(stage.said(FAR), form);
    stage.hears(FAR, "<iq id='r&amp;2' type='result'/>");
    assert_eq!(stage.said(NEAR), "<iq id='r&amp;2' type='result'/>");
    stage.hears(NEAR, "<iq id='r2' type='get'><query xmlns='jabber:iq:version'/></iq>");
    assert_eq!(ended(&mut stage), "not-authorized");
}

// SM-09: never more than the server takes, before the login as behind it; and how long it bears silence, which here is borne for ever.
#[test]
fn the_servers_limits_are_told_where_they_are_narrower() {
    let limits = |max: &str, more: &str| {
        format!("<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>{max}</max-bytes>{more}</limits>")
    };
    let idle = "<idle-seconds>600</idle-seconds>";
    for (theirs, early, late) in [
        (limits("10000", idle), limits("10000", ""), limits("10000", idle)),
        (limits("1000000", ""), EARLY.to_owned(), limits("262144", "")),
        (limits("many", "<idle-seconds>soon</idle-seconds>"), EARLY.to_owned(), limits("262144", "")),
    ] {
        let mut stage = offered(&format!("{}{theirs}", mechanisms(&["PLAIN"])));
        assert!(stage.said(NEAR).contains(&early), "{theirs}");
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &hello());
        stage.said(NEAR);
        stage.hears(FAR, &greeting("B-2", &format!("{}{theirs}", bound_features())));
        assert!(stage.said(NEAR).contains(&late), "{theirs}");
    }
}

// -- the bind

// C2S-14.
#[test]
fn before_the_bind_only_a_bind_has_a_place() {
    let rows = [
        ("<message to='bob@hall.example'/>", "not-authorized"),
        ("<presence/>", "not-authorized"),
        ("<iq type='set' id='1'><query xmlns='jabber:iq:auth'/></iq>", "policy-violation"),
        ("<iq type='set' id='1'><unbind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "not-authorized"),
        ("<r xmlns='urn:xmpp:sm:3'/>", "not-authorized"),
        ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>", "not-authorized"),
        (
            "<iq from='bob@hall.example' type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
            "invalid-from",
        ),
    ];
    for (text, condition) in rows {
        let mut stage = unbound();
        stage.hears(NEAR, text);
        assert_eq!(ended(&mut stage), condition, "{text}");
        assert_eq!(stage.said(FAR), "</stream:stream>");
    }
}

// Table 0.3: the session of RFC 3921 and client state pass before the bind, and what the server says to them is its own.
#[test]
fn a_session_and_client_state_pass_before_the_bind() {
    let mut stage = unbound();
    let session = |id: &str| {
        format!("<iq id='{id}' type='set'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
    };
    stage.hears(NEAR, &session("s1"));
    assert_eq!(stage.said(FAR), session("s1"));
    let answer = "<iq id='s1' type='error'><error type='cancel'/></iq>";
    stage.hears(FAR, answer);
    assert_eq!(stage.said(NEAR), answer);
    stage.hears(NEAR, "<inactive xmlns='urn:xmpp:csi:0'/>");
    assert_eq!(stage.said(FAR), "<inactive xmlns='urn:xmpp:csi:0'/>");
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    assert!(stage.relay.is_bound());
    // An answer that binds is none to a session.
    let mut stage = unbound();
    stage.hears(NEAR, &session("s1"));
    stage.hears(FAR, &bind_result("s1", ME));
    assert_eq!(ended(&mut stage), "internal-server-error");
}

#[test]
fn binds_are_counted() {
    let mut stage = unbound();
    for n in 0..5 {
        let id = format!("b{n}");
        stage.hears(NEAR, &bind(&id));
        assert!(!stage.relay.wants_read(NEAR), "the answer decides");
        let error = format!("<iq type='error' id='{id}'><error type='cancel'/></iq>");
        stage.hears(FAR, &error);
        assert_eq!(stage.said(NEAR), error);
    }
    stage.hears(NEAR, &bind("b5"));
    assert_eq!(ended(&mut stage), "policy-violation");
    assert_eq!(told(&stage), [Reason::TooManyBinds]);
}

/// C2S-13.
#[test]
fn an_address_outside_the_domain_is_the_backends_fault() {
    for jid in ["alice@evil.example/x", "alice@hall.example", "hall.example/x", "", "@/"] {
        let mut stage = unbound();
        stage.hears(NEAR, &bind("b1"));
        stage.hears(FAR, &bind_result("b1", jid));
        assert_eq!(ended(&mut stage), "internal-server-error", "{jid}");
        assert_eq!(misfits(&stage), [Reason::ForeignAddress]);
        assert!(!stage.relay.is_bound());
    }
}

#[test]
fn another_id_is_no_answer_to_a_bind() {
    let mut stage = unbound();
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b2", ME));
    assert_eq!(ended(&mut stage), "internal-server-error");
}

#[test]
fn a_session_is_resumed_for_the_account_that_logged_in() {
    let mut stage = unbound();
    let resume = "<resume xmlns='urn:xmpp:sm:3' h='3' previd='s-1'/>";
    stage.hears(NEAR, resume);
    assert_eq!(stage.said(FAR), resume);
    let failed = "<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
    stage.hears(FAR, failed);
    assert_eq!(stage.said(NEAR), failed);
    assert!(!stage.relay.is_bound());
    stage.hears(NEAR, resume);
    let resumed = "<resumed xmlns='urn:xmpp:sm:3' h='2' previd='s-1'/>";
    stage.hears(FAR, resumed);
    assert_eq!(stage.said(NEAR), resumed);
    assert!(stage.relay.is_bound());
    // SM-05: which resource the session has, no word said.
    stage.hears(NEAR, "<message from='alice@hall.example/any' to='bob@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
    stage.hears(NEAR, "<message from='bob@hall.example/any' to='bob@hall.example'/>");
    assert_eq!(ended(&mut stage), "invalid-from");
}

// -- bound

// C2S-16.
#[test]
fn a_foreign_from_ends_the_stream() {
    let rows = [
        "bob@hall.example",
        "bob@hall.example/4db06f",
        "alice@hall.example/other",
        "alice@evil.example/4db06f",
        "hall.example",
        "",
        "alice@hall.example/",
        "&#x62;ob@hall.example",
        "alice@hall.example@evil.example",
    ];
    for from in rows {
        let mut stage = bound();
        stage.hears(NEAR, &format!("<message from='{from}' to='bob@hall.example'/>"));
        assert_eq!(ended(&mut stage), "invalid-from", "{from}");
        assert!(stage.passed().is_empty());
        assert_eq!(stage.reasons()[0], Reason::ForgedFrom);
        assert_eq!(stage.said(FAR), "</stream:stream>", "a proper end: it was the client's own doing");
    }
}

// C2S-16.
#[test]
fn the_own_from_is_taken_off() {
    for from in [ME, "alice@hall.example", "ALICE@HALL.example", "&#x61;lice@hall.example/4db06f"] {
        let mut stage = bound();
        stage.hears(NEAR, &format!("<presence from='{from}'/>"));
        assert_eq!(stage.passed(), [(FarId(1), "<presence/>".to_owned())], "{from}");
    }
    // A prefixed attribute is another one, and travels.
    let mut stage = bound();
    stage.hears(NEAR, "<presence xmlns:x='urn:example' x:from='bob@hall.example'/>");
    assert!(stage.passed()[0].1.contains(" x:from='bob@hall.example'"));
}

#[test]
fn stanzas_pass_in_canonical_form_both_ways() {
    let mut stage = bound();
    stage.hears(NEAR, "<message   to=\"bob@hall.example\"><body><![CDATA[<&]]></body></message>");
    let canonical = "<message to=\"bob@hall.example\"><body>&lt;&amp;</body></message>";
    assert_eq!(stage.passed()[0].1.replace('\'', "\""), canonical);
    stage.hears(FAR, "<message   to=\"alice@hall.example\"><body><![CDATA[<&]]></body></message>");
    assert_eq!(stage.delivered()[0].replace('\'', "\""), canonical.replace("bob", "alice"));
}

#[test]
fn every_kind_of_stanza_passes_both_ways() {
    let mut stage = bound();
    let stanzas = [
        "<message to='x@hall.example' type='error'><error type='cancel'/></message>",
        "<presence to='x@hall.example' type='subscribe'/>",
        "<iq id='1' to='x@hall.example' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq id='1' to='x@hall.example' type='result'/>",
        "<iq id='1' to='x@hall.example' type='error'><error type='cancel'/></iq>",
        // The server's to judge, not ours: its answer keeps the count of both sides right (SM-02).
        "<iq type='get'/>",
        "<message to='a@b@c'/>",
        "<iq id='1' type='set'><query xmlns='jabber:iq:register'/></iq>",
    ];
    for stanza in stanzas {
        stage.hears(NEAR, stanza);
        assert_eq!(stage.passed(), [(FarId(1), stanza.to_owned())]);
        stage.hears(FAR, stanza);
        assert_eq!(stage.delivered(), [stanza]);
        assert_eq!(stage.said(NEAR) + &stage.said(FAR), "");
    }
}

/// RLY-07.
#[test]
fn the_language_of_a_stream_travels_with_its_stanzas() {
    let mut stage = Stage::new(home(), any(), Flow::C2s, Some(secured("hall.example", &[])));
    stage.hears(NEAR, &hello());
    stage.connected(FarId(1), None);
    stage.hears(FAR, &greeting("B-1", &mechanisms(&["PLAIN"])));
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    stage.hears(NEAR, &open(" to='hall.example' version='1.0' xml:lang='de'"));
    stage.hears(FAR, &greeting("B-2", &bound_features()).replace("'en'", "'fr'"));
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    stage.hears(NEAR, "<message to='bob@hall.example'/><message to='bob@hall.example' xml:lang='nl'/>");
    let passed = stage.passed();
    assert_eq!(passed[0].1, "<message to='bob@hall.example' xml:lang='de'/>");
    assert_eq!(passed[1].1, "<message to='bob@hall.example' xml:lang='nl'/>");
    stage.hears(FAR, "<message to='alice@hall.example'/>");
    assert_eq!(stage.delivered(), ["<message to='alice@hall.example' xml:lang='fr'/>"]);
}

/// C2S-02: servers answer their users in the language of the stream header; one that says none has the server's own.
#[test]
fn the_server_hears_the_language_of_its_client() {
    let long = "x".repeat(36);
    for (tag, heard) in [
        (Some("de"), Some("de")),
        (Some("zh-Hant-TW"), Some("zh-Hant-TW")),
        (None, None),
        (Some(""), None),
        (Some(&long), None),
    ] {
        let lang = |tag: Option<&str>| tag.map(|tag| format!(" xml:lang='{tag}'")).unwrap_or_default();
        let mut stage = Stage::new(home(), any(), Flow::C2s, Some(secured("hall.example", &[])));
        let header = open(&format!(" to='hall.example' version='1.0'{}", lang(tag)));
        stage.hears(NEAR, &header);
        stage.connected(FarId(1), None);
        let written = open(&format!(" to='hall.example' version='1.0'{}", lang(heard)));
        assert_eq!(stage.said(FAR), format!("<?xml version='1.0'?>{written}"), "{tag:?}");
        stage.hears(FAR, &greeting("B-1", &mechanisms(&["PLAIN"])));
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &header);
        stage.hears(FAR, &greeting("B-2", &bound_features()));
        stage.hears(NEAR, &bind("b1"));
        stage.hears(FAR, &bind_result("b1", ME));
        let stanza = "<message to='bob@hall.example'/>";
        stage.hears(NEAR, stanza);
        // What the server's stream says already is not written on each stanza.
        let passed = stage.passed().remove(0).1;
        if heard == tag {
            assert_eq!(passed, stanza, "{tag:?}");
        } else {
            assert_eq!(passed, format!("<message to='bob@hall.example'{}/>", lang(tag)), "{tag:?}");
        }
    }
}

// C2S-17.
#[test]
fn what_has_no_place_on_a_bound_stream_ends_it() {
    let rows = [
        ("<unknown xmlns='urn:example'/>", "unsupported-stanza-type"),
        ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>", "unsupported-stanza-type"),
        ("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>", "unsupported-stanza-type"),
        ("<message xmlns='jabber:server' to='bob@hall.example'/>", "invalid-namespace"),
        ("<result xmlns='jabber:server:dialback'/>", "unsupported-stanza-type"),
        ("<iq type='set' id='1'><query xmlns='jabber:iq:auth'/></iq>", "policy-violation"),
        ("<message><!-- x --></message>", "restricted-xml"),
        ("a &amp; b", "bad-format"),
        ("<![CDATA[x]]>", "bad-format"),
    ];
    for (text, condition) in rows {
        let mut stage = bound();
        stage.hears(NEAR, text);
        assert_eq!(ended(&mut stage), condition, "{text}");
        assert!(stage.passed().is_empty());
    }
}

// Table 0.3: what servers drop is dropped and counted, nobody hears of it, and no count of SM-02 changes.
#[test]
fn what_servers_overlook_on_a_bound_stream_is_dropped_and_counted() {
    let rows = [
        ("<enabled xmlns='urn:xmpp:sm:3' id='x'/>", Reason::UnsupportedStanzaType),
        ("<enabled xmlns='urn:xmpp:sm:2'/>", Reason::UnsupportedStanzaType),
        ("<failed xmlns='urn:xmpp:sm:3'/>", Reason::UnsupportedStanzaType),
        ("<resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>", Reason::UnsupportedStanzaType),
        ("<stream:features/>", Reason::UnsupportedStanzaType),
        ("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", Reason::UnsupportedStanzaType),
        ("<abort xmlns='urn:xmpp:sasl:2'/>", Reason::UnsupportedStanzaType),
        ("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>YQ==</response>", Reason::UnsupportedStanzaType),
        ("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", Reason::UnsupportedStanzaType),
        ("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", Reason::UnsupportedStanzaType),
        ("text, and \u{e4}", Reason::BadFormat),
    ];
    for (text, reason) in rows {
        let mut stage = bound();
        for _ in 0..2 {
            stage.hears(NEAR, text);
            stage.hears(NEAR, "<presence/>");
        }
        assert_eq!(stage.passed().len(), 2, "{text}");
        assert_eq!((stage.said(NEAR), stage.said(FAR)), (String::new(), String::new()), "{text}");
        assert_eq!(stage.reasons(), [reason; 2], "{text}");
        assert!(stage.relay.is_bound() && stage.relay.wants_read(NEAR));
    }
    // Everywhere else text is a breach.
    for mut stage in [offered(&mechanisms(&["PLAIN"])), unbound()] {
        stage.said(NEAR);
        stage.hears(NEAR, "text");
        assert_eq!(ended(&mut stage), "bad-format");
    }
}

// SM-10, C2S-16: the server answers, and the stream goes on.
#[test]
fn a_resumption_or_a_second_enable_or_bind_on_a_bound_stream_is_the_servers_to_answer() {
    for ask in [
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>",
        "<resume xmlns='urn:xmpp:sm:2' h='0' previd='x'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
    ] {
        let mut stage = bound();
        stage.hears(NEAR, ask);
        assert_eq!(stage.said(FAR), ask);
        stage.hears(FAR, &unexpected(3));
        assert_eq!(stage.said(NEAR), unexpected(3));
        stage.hears(NEAR, "<presence/>");
        assert_eq!(stage.passed().len(), 1);
    }
    for ask in [
        bind("b2"),
        format!("<iq type='set' id='b2'><unbind xmlns='{BIND}'><resource>x</resource></unbind></iq>"),
    ] {
        let mut stage = bound();
        stage.hears(NEAR, &ask);
        assert_eq!(stage.passed(), [(FarId(1), ask)]);
        let refusal = format!(
            "<iq type='error' id='b2'><bind xmlns='{BIND}'/><error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
        stage.hears(FAR, &refusal);
        assert_eq!(stage.delivered(), [refusal]);
        // C2S-13: who the client is was said; jabberd2 would bind one more address to the stream.
        stage.hears(FAR, &bind_result("b2", "alice@hall.example/other"));
        assert!(stage.delivered().is_empty());
        assert_eq!(ended(&mut stage), "internal-server-error");
    }
}

// SM-03: on a managed stream stopped by the end of the stream, never dropped or answered. XML-17: with a text that names the
// limit, and the session behind is closed, so that no resumption brings the stanza back.
#[test]
fn a_stanza_above_the_limit_ends_a_managed_stream() {
    let over = [
        format!("<message to='bob@hall.example'><body>{}</body></message>", "x".repeat(300 * 1024)),
        format!("<message to='bob@hall.example'>{}</message>", "<a/>".repeat(9000)),
        "<presence><\u{e9}/></presence>".to_owned(),
    ];
    for (stanza, words) in over.iter().zip([
        ", and 262144 is the most (stanza)",
        ": 9001, and 8192 is the most (nodes)",
        "(name-beyond-ascii)",
    ]) {
        for how in ["enable", "resumed", "refused"] {
            let mut stage = bound();
            stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
            match how {
                "resumed" => stage.hears(FAR, "<enabled xmlns='urn:xmpp:sm:3' id='s' resume='true'/>"),
                "refused" => stage.hears(FAR, "<failed xmlns='urn:xmpp:sm:3'/>"),
                _ => {}
            }
            stage.effects.clear();
            stage.hears(NEAR, stanza);
            assert!(stage.passed().is_empty());
            if how == "refused" {
                assert!(
                    stage.said(NEAR).starts_with("<message type='error'") || stanza.starts_with("<presence")
                );
                continue;
            }
            let said = stage.said(NEAR);
            assert!(said.starts_with("<stream:error><policy-violation"), "{said}");
            assert!(
                said.contains("<text ") && said.contains(words) && said.ends_with("</stream:stream>"),
                "{said}"
            );
            assert_eq!(stage.said(FAR), "</stream:stream>", "the session is closed, not left to be resumed");
        }
    }
}

// XML-17: on a stream without management it alone comes back, by kind, and the stream goes on.
#[test]
fn a_refused_stanza_of_a_client_comes_back_and_the_stream_goes_on() {
    let mut stage = bound();
    let odd = "<\u{e9}/>";
    for (stanza, said, passed) in [
        (
            format!("<message to='b@hall.example' id='1' type='chat'>{odd}</message>"),
            "<message type='error' id='1' from='b@hall.example'><error type='modify'><not-acceptable ",
            "",
        ),
        (
            format!("<iq type='get' id='2'>{odd}</iq>"),
            "<iq type='error' id='2'><error type='modify'><not-acceptable ",
            "",
        ),
        (
            format!("<iq type='result' id='3' to='c@friend.example/x'>{odd}</iq>"),
            "",
            "<iq type='error' id='3' to='c@friend.example/x'><error type='modify'><not-acceptable ",
        ),
        (format!("<message to='b@hall.example' type='error'>{odd}</message>"), "", ""),
        (format!("<iq type='error' id='4'>{odd}</iq>"), "", ""),
        (format!("<presence to='room@muc.example/nick'>{odd}</presence>"), "", ""),
        (
            format!("<presence to='b@hall.example' type='subscribe'>{odd}</presence>"),
            "<presence type='error' from='b@hall.example'><error type='modify'><not-acceptable ",
            "",
        ),
        (
            format!(
                "<message to='b@hall.example'{}/>",
                (0..70).map(|i| format!(" a{i}=''")).collect::<String>()
            ),
            "<message type='error' from='b@hall.example'><error type='modify'><policy-violation ",
            "",
        ),
    ] {
        stage.hears(NEAR, &stanza);
        let (answer, went) = (stage.said(NEAR), stage.passed());
        assert_eq!(answer.is_empty(), said.is_empty(), "{stanza}: {answer}");
        assert!(answer.starts_with(said), "{stanza}: {answer}");
        let went = went.first().map(|(_, octets)| octets.clone()).unwrap_or_default();
        assert!(went.starts_with(passed) && went.is_empty() == passed.is_empty(), "{stanza}: {went}");
        assert_eq!(answer.contains("stanza-too-big"), said.contains("policy-violation"), "{answer}");
        stage.hears(NEAR, "<message to='b@hall.example'><body>fine</body></message>");
        assert_eq!(stage.passed().len(), 1);
    }
    // A forged sender ends it, refused or not.
    stage.hears(NEAR, &format!("<message from='mallory@hall.example' to='b@hall.example'>{odd}</message>"));
    assert_eq!(ended(&mut stage), "invalid-from");
}

// XML-17: "a text that names the limit", of each limit, and what was found: where it comes back alone, and where it ends a managed
// stream; from a client, and from the server behind.
#[test]
fn who_sent_too_much_reads_the_limit_and_how_much_it_was() {
    let many = |n: usize, one: &dyn Fn(usize) -> String| (0..n).map(one).collect::<String>();
    let attributes = |n: usize| format!("<x{}/>", many(n, &|i| format!(" a{i}=''")));
    let nested = |n: usize| format!("{}{}", "<b>".repeat(n - 1), "</b>".repeat(n - 1));
    let over = [
        ("depth", 64, nested(65)),
        ("nodes", 8192, "<b/>".repeat(8192)),
        ("attrs", 64, attributes(65)),
        ("nsdecl", 32, format!("<x{}/>", many(33, &|i| format!(" xmlns:p{i}='u'")))),
        ("attr-value", 8192, format!("<x a='{}'/>", "v".repeat(8193))),
        ("name", 256, format!("<{}/>", "n".repeat(257))),
        ("namespace-name", 1024, format!("<x xmlns='{}'/>", "n".repeat(1025))),
        ("stanza", 262_144, format!("<body>{}</body>", "x".repeat(262_144))),
        ("grown", 1_048_576, format!("<body>{}</body>", "'".repeat(200_000))),
    ];
    let rows = [NEAR, FAR].into_iter().flat_map(|side| over.iter().map(move |row| (side, row)));
    for (side, (label, most, inside)) in rows {
        let from = if side == FAR { " from='c@friend.example'" } else { "" };
        let stanza = format!("<message to='alice@hall.example'{from} id='1'>{inside}</message>");
        for managed in [false, true] {
            let mut stage = bound();
            if managed {
                stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
                stage.effects.clear();
            }
            stage.hears(side, &stanza);
            if (side, managed) == (FAR, true) {
                // SM-02: what its server says has another in its place, and the stream goes on; the log alone tells the limit.
                let stood_in = stage.delivered();
                assert_eq!(
                    stood_in,
                    ["<message to='alice@hall.example' from='c@friend.example'/>"],
                    "{label}"
                );
                let told = stage.effects.iter().any(|effect| {
                    let told = format!("{effect:?}");
                    told.contains("Unfit") && told.contains(&format!("measure: Some(({most}, "))
                });
                assert!(told && stage.said(NEAR).is_empty(), "{label}: {:?}", stage.effects);
                continue;
            }
            let said = match (side, managed) {
                (FAR, false) => stage.passed().remove(0).1,
                _ => stage.said(NEAR),
            };
            let text =
                said.split_once("xml:lang='en'>").unwrap_or_else(|| panic!("{label}, {side:?}: {said}")).1;
            let text = text.split('<').next().unwrap();
            let (found, rest) = text.split_once(": ").unwrap().1.split_once(", and ").unwrap();
            assert!(found.parse::<usize>().unwrap() > *most, "{text}");
            assert_eq!(rest, format!("{most} is the most ({label})"));
            assert_eq!(said.contains("<stream:error>"), managed, "{said}");
        }
    }
}

// The same from the server behind: whoever sent it hears it from there, and whoever waits for an answer has one.
#[test]
fn a_refused_stanza_of_the_server_behind_comes_back_to_it() {
    let odd = "<\u{e9}/>";
    let mut stage = bound();
    stage.hears(
        FAR,
        &format!("<message from='c@friend.example' to='alice@hall.example' id='1'>{odd}</message>"),
    );
    let (delivered, passed) = (stage.delivered(), stage.passed());
    assert!(delivered.is_empty() && passed.len() == 1, "{delivered:?}");
    assert!(passed[0].1.starts_with("<message type='error' id='1' to='c@friend.example'>"), "{passed:?}");
    stage.hears(FAR, &format!("<presence from='c@friend.example'>{odd}</presence>"));
    assert!(stage.delivered().is_empty() && stage.passed().is_empty());
    stage.hears(FAR, &format!("<iq type='result' from='c@friend.example' id='2'>{odd}</iq>"));
    let delivered = stage.delivered();
    assert!(delivered[0].starts_with("<iq type='error' id='2' from='c@friend.example'>"), "{delivered:?}");
}

/// Each of these stanzas of the server has one in its place, of the same count, that begins so and holds nothing of that; the next one
/// passes as it is.
fn keeps_the_count(stage: &mut Stage, rows: &[(String, &str)], harmful: &str) {
    stage.effects.clear();
    for (stanza, expected) in rows {
        stage.hears(FAR, stanza);
        let (delivered, passed) = (stage.delivered(), stage.passed());
        assert_eq!((delivered.len(), passed.len()), (1, 0), "{stanza}: {delivered:?} {passed:?}");
        assert!(delivered[0].starts_with(expected) && !delivered[0].contains(harmful), "{delivered:?}");
    }
    stage.hears(FAR, "<message from='c@friend.example'><body>y</body></message>");
    assert!(stage.delivered()[0].contains("<body>y</body>"));
    assert_eq!(stage.said(NEAR), "");
}

/// What takes the place of a stanza of each kind that holds this, with the same count.
fn in_their_place(odd: &str) -> Vec<(String, &'static str)> {
    let from = "from='c@friend.example'";
    vec![
        (
            format!("<message {from} id='1'><body>x</body>{odd}</message>"),
            "<message from='c@friend.example'/>",
        ),
        (format!("<message {from} type='error'>{odd}</message>"), "<message from='c@friend.example'/>"),
        (format!("<presence {from}>{odd}</presence>"), "<message from='c@friend.example'/>"),
        (
            format!("<iq type='result' {from} id='2'>{odd}</iq>"),
            "<iq type='error' id='2' from='c@friend.example'>",
        ),
        (
            format!("<iq type='get' {from} id='3'>{odd}</iq>"),
            "<iq type='get' id='3' from='c@friend.example'><policy-violation ",
        ),
    ]
}

// XML-17, SM-02: of a client with stream management it would be kept for the next login, and end each of them: one of the same count goes
// in its place, by kind, whether the server has granted the client's wish already or not.
#[test]
fn a_refused_stanza_of_the_server_behind_keeps_the_count_of_a_managed_stream() {
    let (from, odd) = ("from='c@friend.example'", "<\u{e9}/>");
    let attributes: String = (0..70).map(|i| format!(" a{i}=''")).collect();
    let mut rows = in_their_place(odd);
    rows.extend([
        (format!("<message {from}{attributes}/>"), "<message from='c@friend.example'/>"),
        (
            format!("<iq type='set' {from} id='{}'>{odd}</iq>", "i".repeat(1025)),
            "<iq type='set' from='c@friend.example'><policy-violation ",
        ),
    ]);
    for granted in [false, true] {
        let mut stage = bound();
        stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
        if granted {
            stage.hears(FAR, "<enabled xmlns='urn:xmpp:sm:3' resume='true' id='s'/>");
        }
        keeps_the_count(&mut stage, &rows, "\u{e9}");
    }
}

// SM-02, POL-12: what a patch denies of the server would be kept for the next login and end each of them. Where stanzas are counted
// one of the same count goes in its place: nothing of the denied one, an error for an answer, and a question that its sender hears refused.
#[test]
fn what_a_patch_denies_of_the_server_keeps_the_count() {
    let text = "version: v1\npatches:\n  - { name: p, reason: r, action: deny, direction: outbound, flows: [c2s], payload: urn:x }\n";
    let (file, findings) = gatehouse::config::load::parse(text, "p.yaml");
    assert!(findings.is_empty(), "{findings:?}");
    let source = gatehouse::policy::PatchSource::new("p.yaml", file);
    let today = gatehouse::policy::Day::parse("2026-11-21").unwrap();
    let (patches, _, _) = gatehouse::policy::compile_patches(&[source], None, today).unwrap();
    let (from, odd) = ("from='c@friend.example'", "<x xmlns='urn:x'/>");
    let mut rows = in_their_place(odd);
    rows.push((
        format!("<presence {from} type='subscribe'>{odd}</presence>"),
        "<message from='c@friend.example'/>",
    ));
    for asked in [false, true] {
        let mut stage = bound();
        let policy = std::sync::Arc::new(any().with_patches(patches.clone()));
        stage.step(NEAR, Input::Policy(policy));
        stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
        if !asked {
            stage.hears(FAR, "<enabled xmlns='urn:xmpp:sm:3' resume='true' id='s'/>");
        }
        keeps_the_count(&mut stage, &rows, "urn:x");
    }
}

// SM-02, SM-04, SM-10.
#[test]
fn stream_management_and_client_state_pass_in_order() {
    let mut stage = bound();
    for ns in ["urn:xmpp:sm:2", "urn:xmpp:sm:3"] {
        for name in ["enable", "r"] {
            stage.hears(NEAR, &format!("<{name} xmlns='{ns}'/>"));
            assert_eq!(stage.said(FAR), format!("<{name} xmlns='{ns}'/>"));
        }
        stage.hears(FAR, &format!("<a xmlns='{ns}' h='4'/>"));
        assert_eq!(stage.said(NEAR), format!("<a xmlns='{ns}' h='4'/>"));
        stage.hears(FAR, &format!("<enabled xmlns='{ns}' id='s-1' location='10.0.0.5:5222' resume='true'/>"));
        assert_eq!(stage.said(NEAR), format!("<enabled xmlns='{ns}' id='s-1' resume='true'/>"));
    }
    stage.effects.clear();
    stage.hears(NEAR, "<presence/><inactive xmlns='urn:xmpp:csi:0'/><message/><r xmlns='urn:xmpp:sm:3'/>");
    let order: Vec<_> = stage
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Pass(_, Passing { octets, .. }) | Effect::Send(FAR, octets) => {
                Some(text(octets).to_owned())
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        order,
        ["<presence/>", "<inactive xmlns='urn:xmpp:csi:0'/>", "<message/>", "<r xmlns='urn:xmpp:sm:3'/>"]
    );
}

// -- the ends

#[test]
fn a_proper_close_is_relayed_and_awaited() {
    let mut stage = bound();
    stage.hears(NEAR, "</stream:stream>");
    assert_eq!(stage.said(FAR), "</stream:stream>");
    assert_eq!(stage.said(NEAR), "", "the server may still say something");
    stage.hears(FAR, "<a xmlns='urn:xmpp:sm:3' h='9'/><message to='alice@hall.example'/>");
    assert_eq!(stage.said(NEAR), "<a xmlns='urn:xmpp:sm:3' h='9'/>");
    assert_eq!(stage.delivered().len(), 1);
    stage.hears(FAR, "</stream:stream>");
    assert_eq!(stage.said(NEAR), "</stream:stream>");
    assert!(stage.relay.is_done());
    assert_eq!(told(&stage), [Reason::Finished]);
}

#[test]
fn a_clients_stream_error_closes_its_servers_stream() {
    let mut stage = bound();
    stage.hears(
        NEAR,
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
    );
    assert_eq!(stage.said(FAR), "</stream:stream>", "the error itself is not relayed");
    stage.hears(FAR, "</stream:stream>");
    assert!(stage.relay.is_done());
    assert_eq!(told(&stage), [Reason::PeerError]);
}

#[test]
fn a_server_that_does_not_close_is_not_waited_for() {
    let mut stage = bound();
    stage.hears(NEAR, "</stream:stream>");
    stage.wait(home().timeouts.close);
    assert_eq!(stage.said(NEAR), "</stream:stream>");
    assert!(stage.has(|e| matches!(e, Effect::Cut(FAR))));
    assert!(stage.relay.is_done());
}

/// SM-06, both halves: what may be resumed is not closed.
#[test]
fn a_lost_connection_is_passed_on_as_a_lost_connection() {
    let mut stage = bound();
    stage.step(NEAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    assert_eq!(stage.said(FAR), "");
    assert!(stage.has(|e| matches!(e, Effect::Finish(FAR))));
    assert!(stage.relay.is_done());
    let mut stage = bound();
    stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    assert_eq!(stage.said(NEAR), "");
    assert!(stage.has(|e| matches!(e, Effect::Finish(Side::Near))));
    assert!(stage.relay.is_done());
}

#[test]
fn a_server_that_closes_closes_the_client() {
    let mut stage = bound();
    stage.hears(FAR, "</stream:stream>");
    assert_eq!(stage.said(NEAR), "</stream:stream>");
    assert_eq!(stage.said(FAR), "</stream:stream>");
    assert!(stage.relay.is_done());
}

/// ERR-02, C2S-18.
#[test]
fn why_a_server_ended_the_stream_is_told_to_its_client() {
    let streams = "urn:ietf:params:xml:ns:xmpp-streams";
    let error = |condition: &str, more: &str| {
        format!("<stream:error><{condition} xmlns='{streams}'/>{more}</stream:error></stream:stream>")
    };
    let text = |words: &str| format!("<text xmlns='{streams}'>{words}</text>");
    let high = "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='10' send-count='8'/>";
    let rows = [
        (
            error("conflict", &text("Replaced by new connection")),
            error("conflict", &text("Replaced by new connection")),
        ),
        (error("system-shutdown", ""), error("system-shutdown", "")),
        (error("connection-timeout", ""), error("connection-timeout", "")),
        (
            error(
                "undefined-condition",
                &format!("<text xmlns='{streams}' xml:lang='en'>h is too high</text>{high}"),
            ),
            error(
                "undefined-condition",
                &format!("<text xmlns='{streams}' xml:lang='en'>h is too high</text>{high}"),
            ),
        ),
        // What is no condition of RFC 6120 is one that is not defined; what is no application condition that clients know is
        // left out.
        (error("invalid-id", "<x xmlns='urn:example'/>"), error("undefined-condition", "")),
        (
            error(
                "policy-violation",
                &text("node 10.0.0.5, &lt;inside.lan:5222&gt;, asks alice@hall.example\u{202e}"),
            ),
            error("policy-violation", &text("node ..., &lt;...&gt;, asks alice@hall.example")),
        ),
        (
            format!(
                "<stream:error><see-other-host xmlns='{streams}'>inside.lan:5222</see-other-host>{}</stream:error>",
                text("over there")
            ),
            error("internal-server-error", ""),
        ),
    ];
    for (theirs, ours) in rows {
        let mut stage = bound();
        stage.hears(FAR, &theirs);
        assert_eq!(stage.said(NEAR), ours);
        // On the way in it is told as well: before the login, behind it, and before the client's header of the new stream.
        for mut stage in [offered(&mechanisms(&["PLAIN"])), unbound(), granted()] {
            stage.said(NEAR);
            if !stage.said(FAR).is_empty() {
                stage.hears(FAR, &open(" id='B-2' from='hall.example' version='1.0'"));
            }
            stage.hears(FAR, &theirs);
            let said = stage.said(NEAR);
            assert!(said.ends_with(&ours), "{said}");
        }
    }
}

// CLS-06: whoever waits long enough is sent away, which is nobody's fault.
#[test]
fn a_server_that_has_waited_long_enough_closes_the_client_plainly() {
    for gone in [false, true] {
        for mut stage in [offered(&mechanisms(&["PLAIN"])), unbound()] {
            stage.said(NEAR);
            match gone {
                true => stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }),
                false => stage.hears(FAR, "</stream:stream>"),
            }
            assert_eq!(stage.said(NEAR), "</stream:stream>", "{gone}");
            assert_eq!(told(&stage), [Reason::Finished]);
        }
        // In the middle of a login it is a fault.
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        match gone {
            true => stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }),
            false => stage.hears(FAR, "</stream:stream>"),
        }
        assert_eq!(ended(&mut stage), "internal-server-error");
    }
}

#[test]
fn a_drain_tells_the_client_and_leaves_the_session() {
    let mut stage = bound();
    stage.step(NEAR, Input::Drain);
    assert_eq!(ended(&mut stage), "system-shutdown");
    assert_eq!(stage.said(FAR), "", "no closing tag: the session can be resumed elsewhere");
    assert!(stage.has(|e| matches!(e, Effect::Finish(FAR))));
    stage.hears(NEAR, "</stream:stream>");
    assert!(stage.relay.is_done());
}

#[test]
fn a_backend_that_is_down_is_told_at_once() {
    let mut stage = arrived();
    stage.said(NEAR);
    stage.step(FAR, Input::Unreachable(Reason::BackendDown.into()));
    assert_eq!(ended(&mut stage), "internal-server-error");
    assert_eq!(told(&stage), [Reason::BackendDown]);
    assert!(stage.notes().iter().any(|e| matches!(e, Event::Backend { up: false, .. })));
}

#[test]
fn another_backend_is_tried_until_one_has_spoken() {
    let mut stage = arrived();
    stage.connected(FarId(1), None);
    stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    assert!(stage.has(|e| matches!(e, Effect::Retry(FarId(1), _))));
    stage.connected(FarId(1), None);
    stage.hears(FAR, &greeting("B-1", &mechanisms(&["PLAIN"])));
    stage.said(NEAR);
    stage.effects.clear();
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    // A login is never sent to two of them.
    assert!(!stage.has(|e| matches!(e, Effect::Retry(..))));
    assert_eq!(ended(&mut stage), "internal-server-error");
}

#[test]
fn who_does_not_come_to_a_bind_is_not_waited_for() {
    let unauth = home().timeouts.unauth;
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.said(NEAR);
    stage.wait(unauth);
    let said = stage.said(NEAR);
    assert!(said.ends_with("</stream:stream>"), "{said}");
    assert_eq!(told(&stage), [Reason::NegotiationTimeout]);
    // A bound client may be silent for as long as it likes.
    let mut stage = bound();
    assert_eq!(stage.relay.deadline(), None);
    stage.wait(unauth * 100);
    assert_eq!(stage.said(NEAR), "");
    // A backend that does not greet is given up.
    let mut stage = arrived();
    stage.connected(FarId(1), None);
    stage.said(NEAR);
    stage.wait(home().timeouts.header);
    assert!(stage.has(|e| matches!(e, Effect::Retry(FarId(1), _))));
    stage.step(FAR, Input::Unreachable(Reason::BackendDown.into()));
    assert_eq!(ended(&mut stage), "internal-server-error");
    assert!(!stage.notes().iter().any(|e| matches!(e, Event::Backend { up: true, .. })));
    // Nor is one that greets and offers nothing.
    let mut stage = arrived();
    stage.connected(FarId(1), None);
    stage.said(NEAR);
    stage.hears(FAR, &open(" id='B-1' from='hall.example' version='1.0'"));
    stage.wait(home().timeouts.header);
    assert_eq!(ended(&mut stage), "internal-server-error");
    assert!(!stage.has(|e| matches!(e, Effect::Retry(..))));
}

#[test]
fn the_story_is_told_once_and_counted() {
    let mut stage = bound();
    stage.hears(NEAR, "<message to='bob@hall.example'/>");
    stage.hears(FAR, "<message to='alice@hall.example'/>");
    stage.hears(NEAR, "</stream:stream>");
    stage.hears(FAR, "</stream:stream>");
    stage.step(NEAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    let left: Vec<_> = stage
        .notes()
        .iter()
        .filter_map(|e| match e {
            Event::Left { hosted, record } => Some((hosted.clone(), record.stanzas)),
            _ => None,
        })
        .collect();
    assert_eq!(left, [(domain("hall.example"), 2)]);
    let passed = stage.notes().iter().filter(|e| matches!(e, Event::Passed { .. })).count();
    assert_eq!(passed, 2);
}

// -- SASL2, Bind 2, FAST

fn modern() -> String {
    format!(
        "<authentication xmlns='{SASL2}'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism>\
         <mechanism>PLAIN</mechanism><inline><sm xmlns='urn:xmpp:sm:3'/><bind xmlns='urn:xmpp:bind:0'><inline>\
         <feature var='urn:xmpp:carbons:2'/><feature var='urn:xmpp:sm:3'/><feature var='urn:example:odd'/></inline>\
         </bind><fast xmlns='urn:xmpp:fast:0' tls-0rtt='true'><mechanism>HT-SHA-256-NONE</mechanism>\
         <mechanism>HT-SHA-256-EXPR</mechanism></fast><odd xmlns='urn:example'/></inline>\
         <upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade></authentication>"
    )
}

fn authenticate(mechanism: &str, inside: &str) -> String {
    let payload = STANDARD.encode("\0alice\0secret");
    format!(
        "<authenticate xmlns='{SASL2}' mechanism='{mechanism}'><initial-response>{payload}</initial-response>\
         <user-agent id='u'><software>x</software></user-agent>{inside}</authenticate>"
    )
}

/// The client has asked, and its server has heard it.
fn asked(inside: &str) -> Stage {
    let mut stage = offered(&modern());
    stage.said(NEAR);
    stage.hears(NEAR, &authenticate("PLAIN", inside));
    stage.step(NEAR, Input::Tried(Ok(())));
    let said = stage.said(FAR);
    assert_eq!(said, authenticate("PLAIN", inside));
    stage
}

fn success(identifier: &str, inside: &str) -> String {
    format!(
        "<success xmlns='{SASL2}'><authorization-identifier>{identifier}</authorization-identifier>{inside}</success>"
    )
}

// CB-10: tls-0rtt is taken out.
#[test]
fn sasl2_lists_are_filtered_alike() {
    let mut stage = offered(&modern());
    let said = stage.said(NEAR);
    assert!(
        said.ends_with(&format!(
            "<stream:features><authentication xmlns='{SASL2}'><mechanism>SCRAM-SHA-1</mechanism>\
             <mechanism>PLAIN</mechanism><inline><sm xmlns='urn:xmpp:sm:3'/><bind xmlns='urn:xmpp:bind:0'><inline>\
             <feature var='urn:xmpp:carbons:2'/><feature var='urn:xmpp:sm:3'/></inline></bind>\
             <fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-NONE</mechanism></fast></inline></authentication>\
             {EARLY}</stream:features>"
        )),
        "{said}"
    );
}

#[test]
fn sasl2_with_bind_2_binds_at_once() {
    let inside =
        "<bind xmlns='urn:xmpp:bind:0'><tag>x</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
    let mut stage = asked(inside);
    let bound =
        "<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='s' location='10.0.0.5'/></bound>";
    stage.hears(FAR, &success(ME, bound));
    assert_eq!(stage.said(NEAR), success(ME, &bound.replace(" location='10.0.0.5'", "")));
    assert!(stage.relay.is_bound());
    assert!(!stage.has(|e| matches!(e, Effect::Restart(Side::Near))));
    stage.hears(FAR, "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><odd xmlns='urn:example'/></stream:features>");
    let said = stage.said(NEAR);
    assert!(said.starts_with("<stream:features>") && !said.contains("odd"), "{said}");
    stage.hears(NEAR, &format!("<presence from='{ME}'/>"));
    assert_eq!(stage.passed().len(), 1);
}

#[test]
fn sasl2_without_bind_goes_on_to_a_bind() {
    let mut stage = asked("");
    stage.hears(FAR, &success("alice@hall.example", ""));
    stage.said(NEAR);
    assert!(!stage.relay.is_bound());
    stage.hears(FAR, &format!("<stream:features>{}</stream:features>", bound_features()));
    assert!(stage.said(NEAR).contains(BIND));
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    assert!(stage.relay.is_bound());
}

// C2S-19: Prosody 13 writes features behind an inline resumption, behind what waited there; ejabberd 24.12 writes none.
#[test]
fn features_may_follow_an_inline_resumption() {
    let resumed = "<resumed xmlns='urn:xmpp:sm:3' h='2' previd='s'/>";
    let waiting = format!("<message from='bob@hall.example/x' to='{ME}'><body>waited</body></message>");
    let features = format!("<stream:features>{}</stream:features>", bound_features());
    for written in [true, false] {
        let mut stage = asked("<resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>");
        stage.hears(FAR, &success(ME, resumed));
        assert_eq!(stage.said(NEAR), success(ME, resumed));
        stage.hears(FAR, &format!("{waiting}<r xmlns='urn:xmpp:sm:3'/>"));
        assert_eq!(stage.delivered(), [waiting.as_str()]);
        assert_eq!(stage.said(NEAR), "<r xmlns='urn:xmpp:sm:3'/>");
        if written {
            stage.hears(FAR, &features);
            let said = stage.said(NEAR);
            assert!(said.starts_with("<stream:features>") && said.contains(BIND), "{said}");
        }
        stage.hears(NEAR, "<a xmlns='urn:xmpp:sm:3' h='1'/><presence/>");
        assert_eq!(stage.said(FAR), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
        assert_eq!(stage.passed().len(), 1);
        assert!(stage.relay.is_bound() && stage.said(NEAR).is_empty());
    }
    // XEP-0386: what cannot be resumed is bound at once, where that was asked for, or later.
    let failed = "<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
    let both = "<bind xmlns='urn:xmpp:bind:0'/><resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>";
    let mut stage = asked(both);
    let word = success(ME, &format!("<bound xmlns='urn:xmpp:bind:0'/>{failed}"));
    stage.hears(FAR, &format!("{word}{features}"));
    assert!(stage.said(NEAR).starts_with(&word));
    assert!(stage.relay.is_bound());
    let mut stage = asked("<resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>");
    stage.hears(FAR, &format!("{}{features}", success("alice@hall.example", failed)));
    assert!(!stage.relay.is_bound() && stage.said(NEAR).contains(failed));
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    assert!(stage.relay.is_bound());
}

#[test]
fn sasl2_resumes_at_once() {
    let mut stage = asked("<resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>");
    stage.hears(FAR, &success("alice@hall.example", "<resumed xmlns='urn:xmpp:sm:3' h='2' previd='s'/>"));
    assert!(stage.relay.is_bound());
    stage.said(NEAR);
    stage.hears(NEAR, "<presence from='bob@hall.example'/>");
    assert_eq!(ended(&mut stage), "invalid-from");
}

#[test]
fn what_was_not_offered_with_sasl2_is_refused_when_used() {
    let rows = [
        ("<odd xmlns='urn:example'/>", "malformed-request"),
        ("<bind xmlns='urn:xmpp:bind:0'><odd xmlns='urn:example'/></bind>", "malformed-request"),
        ("<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-EXPR'/>", "invalid-mechanism"),
        ("<initial-response>?</initial-response>", "malformed-request"),
    ];
    for (inside, condition) in rows {
        let mut stage = offered(&modern());
        stage.said(NEAR);
        stage.said(FAR);
        stage.hears(NEAR, &authenticate("PLAIN", inside));
        assert_eq!(
            stage.said(NEAR),
            format!("<failure xmlns='{SASL2}'><{condition} xmlns='{SASL}'/></failure>"),
            "{inside}"
        );
        assert_eq!(stage.said(FAR), "");
    }
    for mechanism in ["SCRAM-SHA-1-PLUS", "HT-SHA-256-EXPR", "OAUTHBEARER"] {
        let mut stage = offered(&modern());
        stage.said(NEAR);
        stage.hears(NEAR, &authenticate(mechanism, ""));
        assert!(stage.said(NEAR).contains("<invalid-mechanism "), "{mechanism}");
    }
}

#[test]
fn a_token_is_used_like_a_mechanism() {
    let mut stage = offered(&modern());
    stage.said(FAR);
    let text = authenticate("HT-SHA-256-NONE", "<fast xmlns='urn:xmpp:fast:0' count='1'/>");
    stage.hears(NEAR, &text);
    assert_eq!(attempts(&mut stage)[0].mechanism, Mechanism::HashedToken256);
    stage.step(NEAR, Input::Tried(Ok(())));
    assert_eq!(stage.said(FAR), text);
}

#[test]
fn a_sasl2_success_must_fit_what_was_asked() {
    let bound = "<bound xmlns='urn:xmpp:bind:0'/>";
    let resumed = "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='s'/>";
    let rows = [
        (success(ME, bound), Reason::BackendFault),
        (success(ME, resumed), Reason::BackendFault),
        (success("alice@evil.example", ""), Reason::ForeignAddress),
        (success("hall.example", ""), Reason::ForeignAddress),
        (format!("<success xmlns='{SASL2}'/>"), Reason::BackendFault),
        (format!("<success xmlns='{SASL}'/>"), Reason::BackendFault),
        (success(ME, "<additional-data>?</additional-data>"), Reason::BackendFault),
    ];
    for (text, reason) in rows {
        let mut stage = asked("");
        stage.hears(FAR, &text);
        assert_eq!(ended(&mut stage), "internal-server-error", "{text}");
        assert_eq!(told(&stage), [reason], "{text}");
        assert!(!stage.relay.is_bound());
    }
}

/// C2S-19.
#[test]
fn no_white_space_during_a_sasl2_login() {
    let mut stage = asked("");
    stage.hears(FAR, &format!("<challenge xmlns='{SASL2}'>cj14</challenge>"));
    stage.said(NEAR);
    stage.hears(NEAR, " ");
    assert_eq!(ended(&mut stage), "not-authorized");
    let mut stage = bound();
    stage.hears(NEAR, " \n ");
    assert_eq!(stage.said(NEAR), "");
}

/// What the relay writes anew stands in any stream, in canonical form.
#[test]
fn what_is_written_anew_is_canonical() {
    let mut stage = offered(&modern());
    let mut all = stage.said(NEAR);
    stage.hears(
        NEAR,
        &format!(
            "<s:authenticate xmlns:s='{SASL2}' mechanism='PLAIN'><s:initial-response>AGFsaWNlAHB3</s:initial-response>\
             <s:user-agent id=\"a&quot;b'c\"><s:software xmlns:q='urn:q' q:k='v' xml:lang='en'>a &amp; b</s:software></s:user-agent></s:authenticate>"
        ),
    );
    stage.step(NEAR, Input::Tried(Ok(())));
    all += &stage.said(FAR);
    let body = all.split_once("<stream:features>").unwrap().1;
    let mut framer = Framer::new(Limits::default(), Content::Client);
    framer.feed(format!("{}<stream:features>{body}", hello()).as_bytes());
    let tokens: Vec<_> = std::iter::from_fn(|| framer.next()).collect();
    assert_eq!(tokens.len(), 3, "{all}");
    for token in &tokens[1..] {
        let Token::Element(frame) = token else { panic!("{token:?}") };
        assert!(frame.passed_as_received(), "{frame:?}");
    }
}

// A reload reaches whoever is on the way in: the deadlines of the new settings hold for a client as for a server.
#[test]
fn a_client_under_way_moves_to_the_reloaded_settings() {
    let mut stage = arrived();
    let before = stage.relay.deadline().unwrap();
    let mut next = home();
    next.timeouts.unauth /= 2;
    let sooner = next.timeouts.unauth;
    stage.step(NEAR, Input::Home(std::sync::Arc::new(next)));
    assert_eq!(before - stage.relay.deadline().unwrap(), sooner);
}

// RFC 6120 4.9.3.5: a reload that takes a domain away tells its clients so; those of other domains stay.
#[test]
fn a_client_of_a_domain_that_is_no_longer_served_is_told_that_it_is_gone() {
    let mut stage = bound();
    stage.step(NEAR, Input::Home(std::sync::Arc::new(home())));
    assert_eq!(stage.said(NEAR), "", "the same domain");
    let mut next = home();
    next.clients.clear();
    stage.step(NEAR, Input::Home(std::sync::Arc::new(next)));
    let said = stage.said(NEAR);
    assert!(said.contains("<host-gone") && said.ends_with("</stream:stream>"), "{said}");
    assert_eq!(stage.said(FAR), "</stream:stream>");
}

/// A home whose clients must show a certificate for their account.
fn strict() -> gatehouse::relay::Home {
    let mut home = home();
    home.clients.get_mut(&domain("hall.example")).unwrap().certificate =
        CertificateTerms { demand: Demand::Require, by: CertificateName::XmppAddress };
    home
}

/// A client with a certificate for that account, that has heard these features of its server.
fn certified(account: &str, features: &str) -> Stage {
    let mut channel = secured("hall.example", &["nobody.example"]);
    let shown = channel.certificate.as_mut().unwrap();
    shown.names = vec![gatehouse::stream::PresentedName::Xmpp(format!("{account}@hall.example"))];
    shown.of_client = Some(domain("hall.example"));
    let mut stage = Stage::new(strict(), any(), Flow::C2s, Some(channel));
    stage.hears(NEAR, &hello());
    stage.connected(FarId(1), None);
    stage.said(FAR);
    stage.hears(FAR, &greeting("B-1", features));
    stage
}

// C2S-15: "the account that the server behind names at bind (also by SASL2, Bind 2, resumption) must be the certificate's, else
// `not-authorized` before any stanza passes": the client does not even hear the address.
#[test]
fn the_account_that_the_server_names_must_be_that_of_the_certificate() {
    const TOKEN: &str = "OAUTHBEARER";
    let oauth = format!(
        "<auth xmlns='{SASL}' mechanism='{TOKEN}'>{}</auth>",
        STANDARD.encode("n,,\u{1}auth=x\u{1}\u{1}")
    );
    let in_by_token = |account: &str| {
        let mut stage = certified(account, &mechanisms(&[TOKEN]));
        stage.hears(NEAR, &oauth);
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &hello());
        stage.hears(FAR, &greeting("B-2", &bound_features()));
        stage.said(NEAR);
        stage
    };
    for (account, fits) in [("alice", true), ("bob", false)] {
        // By a bind, where the login has not shown whose it is.
        let mut stage = in_by_token(account);
        stage.hears(NEAR, &bind("b1"));
        stage.hears(FAR, &bind_result("b1", ME));
        if fits {
            assert!(stage.said(NEAR).contains(ME) && stage.relay.is_bound());
        } else {
            let said = stage.said(NEAR);
            assert!(!said.contains("alice") && said.contains("<not-authorized"), "{said}");
            assert!(!stage.relay.is_bound());
        }
        // By SASL2 with Bind 2, with a session that goes on, and alone.
        for inside in
            ["<bind xmlns='urn:xmpp:bind:0'/>", "<resume xmlns='urn:xmpp:sm:3' h='0' previd='p'/>", ""]
        {
            let mut stage = certified(account, &modern());
            stage.hears(
                NEAR,
                // The password is that of the certificate's account; the server has another name for it.
                &authenticate("PLAIN", inside).replace(
                    &STANDARD.encode("\0alice\0secret"),
                    &STANDARD.encode(format!("\0{account}\0secret")),
                ),
            );
            stage.step(NEAR, Input::Tried(Ok(())));
            stage.said(NEAR);
            let (identifier, bound) = match inside {
                "" => ("alice@hall.example", ""),
                resume if resume.contains("resume") => {
                    ("alice@hall.example", "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='p'/>")
                }
                _ => (ME, "<bound xmlns='urn:xmpp:bind:0'/>"),
            };
            // What the client hears of a login waits for the features that follow.
            let features = format!("<stream:features>{}</stream:features>", bound_features());
            stage.hears(FAR, &format!("{}{features}", success(identifier, bound)));
            let said = stage.said(NEAR);
            assert_eq!(said.contains("<success"), fits, "{account} {inside}: {said}");
            assert_eq!(said.contains("<not-authorized"), !fits, "{account} {inside}: {said}");
        }
    }
    // A session that is resumed for a login of which nobody has said whose it is: it may be anybody's.
    let mut stage = in_by_token("alice");
    stage.hears(NEAR, "<resume xmlns='urn:xmpp:sm:3' h='0' previd='p'/>");
    stage.hears(FAR, "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='p'/>");
    assert_eq!(ended(&mut stage), "not-authorized");
    // And for one that has shown it.
    let mut stage = certified("alice", &mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    stage.hears(NEAR, &hello());
    stage.hears(FAR, &greeting("B-2", &bound_features()));
    stage.said(NEAR);
    stage.hears(NEAR, "<resume xmlns='urn:xmpp:sm:3' h='0' previd='p'/>");
    stage.hears(FAR, "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='p'/>");
    assert!(stage.said(NEAR).contains("<resumed") && stage.relay.is_bound());
}

// C2S-11, C2S-15: the password of another is not even tried.
#[test]
fn a_certificate_is_no_help_in_guessing_the_password_of_another() {
    let mut stage = certified("alice", &mechanisms(&["PLAIN"]));
    stage.said(FAR);
    stage.hears(NEAR, &plain("bob"));
    assert!(attempts(&mut stage).is_empty());
    assert!(!stage.said(FAR).contains("<auth"), "the server hears nothing of it");
    let said = stage.said(NEAR);
    assert!(said.contains(&format!("<failure xmlns='{SASL}'><not-authorized/></failure>")), "{said}");
    assert_eq!(logins(&stage), [(None, None, Outcome::Deny, Reason::ClientCertificateOther)]);
}
