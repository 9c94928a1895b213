//! The laws on the graphs of a client's stream: both machines walked completely, their relay to a fixed number of states.

use std::collections::{HashSet, VecDeque};
use std::mem::discriminant;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse::reason::{Flow, Reason};
use gatehouse::relay::{Arrival, Effect, Event, FarId, Input, Relay, Side};
use gatehouse::stream::client::features::Inline;
use gatehouse::stream::client::posing::{self, Posing};
use gatehouse::stream::client::serving::{self, Serving};
use gatehouse::stream::client::{Ask, Granted, Mechanism, Offer, Own, Profile, Rules, Wants, Word, opening};
use gatehouse::stream::{Secured, StreamIds};
use gatehouse::xml::{Content, Frame, Framer, Header, Limits, Token};

use super::pure::*;
use super::{SASL, TLS, at_most_one_error_then_the_tag, hash, may_go_in_clear, walk};

const SASL2: &str = "urn:xmpp:sasl:2";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const ME: &str = "alice@hall.example/r";
const FAR: Side = Side::Far(FarId(1));

/// The first tokens of a stream of clients that says this after its header.
fn tokens(text: &str) -> Vec<Token> {
    let mut framer = Framer::new(Limits::default(), Content::Client);
    framer.feed(&opening(None, None, None));
    framer.feed(text.as_bytes());
    std::iter::from_fn(|| framer.next()).skip(1).collect()
}

fn frame(text: &str) -> Frame {
    match tokens(text).as_slice() {
        [Token::Element(frame)] => frame.clone(),
        other => panic!("{text}: {other:?}"),
    }
}

fn client_header(attrs: &str) -> Header {
    let mut framer = Framer::new(Limits::default(), Content::Client);
    framer.feed(
        format!(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'{attrs}>"
        )
        .as_bytes(),
    );
    match framer.next() {
        Some(Token::Header(header)) => header,
        other => panic!("{attrs}: {other:?}"),
    }
}

/// What clients say, good and bad.
fn from_client() -> Vec<Frame> {
    [
        &format!("<starttls xmlns='{TLS}'/>"),
        &format!("<starttls xmlns='{TLS}'><x/></starttls>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGFsaWNlAHB3</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'/>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>?</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='GSSAPI'>=</auth>"),
        &format!("<response xmlns='{SASL}'>AGFsaWNlAHB3</response>"),
        &format!("<response xmlns='{SASL}'>?</response>"),
        &format!("<abort xmlns='{SASL}'/>"),
        &format!("<success xmlns='{SASL}'/>"),
        &format!(
            "<authenticate xmlns='{SASL2}' mechanism='PLAIN'><initial-response>AGFsaWNlAHB3</initial-response>\
             <bind xmlns='urn:xmpp:bind:0'/></authenticate>"
        ),
        &format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'><odd xmlns='urn:example'/></authenticate>"),
        &format!("<response xmlns='{SASL2}'>=</response>"),
        &format!("<iq type='set' id='b1'><bind xmlns='{BIND}'/></iq>"),
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<active xmlns='urn:xmpp:csi:0'/>",
        "<message to='bob@hall.example'><body>x</body></message>",
        &format!("<message from='{ME}' to='bob@hall.example'/>"),
        "<message from='bob@hall.example' to='alice@hall.example'/>",
        "<iq type='get' id='r1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='set' id='l1'><query xmlns='jabber:iq:auth'/></iq>",
        "<message xmlns='jabber:server' to='bob@hall.example'/>",
        "<result xmlns='jabber:server:dialback'/>",
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
        "<stream:features/>",
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<unknown xmlns='urn:example'/>",
    ]
    .iter()
    .map(|text| frame(text))
    .collect()
}

/// What servers inside say, good and bad.
fn from_server() -> Vec<Frame> {
    let plain = format!("<mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms>");
    [
        &format!("<stream:features>{plain}<odd xmlns='urn:example'/></stream:features>"),
        &format!("<stream:features><starttls xmlns='{TLS}'><required/></starttls>{plain}</stream:features>"),
        &format!(
            "<stream:features><mechanisms xmlns='{SASL}'><mechanism>SCRAM-SHA-1-PLUS</mechanism></mechanisms>\
             <authentication xmlns='{SASL2}'><mechanism>PLAIN</mechanism><inline><sm xmlns='urn:xmpp:sm:3'/>\
             <bind xmlns='urn:xmpp:bind:0'/></inline></authentication></stream:features>"
        ),
        "<stream:features/>",
        &format!("<stream:features><bind xmlns='{BIND}'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>"),
        &format!("<challenge xmlns='{SASL}'>PQ==</challenge>"),
        &format!("<challenge xmlns='{SASL}'>?</challenge>"),
        &format!("<failure xmlns='{SASL}'><not-authorized/></failure>"),
        &format!("<success xmlns='{SASL}'/>"),
        &format!("<challenge xmlns='{SASL2}'>PQ==</challenge>"),
        &format!("<failure xmlns='{SASL2}'><not-authorized xmlns='{SASL}'/></failure>"),
        &format!("<success xmlns='{SASL2}'><authorization-identifier>alice@hall.example</authorization-identifier></success>"),
        &format!(
            "<success xmlns='{SASL2}'><authorization-identifier>{ME}</authorization-identifier>\
             <bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' location='inside.lan'/></bound></success>"
        ),
        &format!("<success xmlns='{SASL2}'><authorization-identifier>eve@evil.example</authorization-identifier></success>"),
        &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'><jid>{ME}</jid></bind></iq>"),
        &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'><jid>eve@evil.example/r</jid></bind></iq>"),
        "<iq type='error' id='b1'><error type='cancel'/></iq>",
        "<iq type='result' id='r1'><query xmlns='jabber:iq:register'/></iq>",
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
        "<failed xmlns='urn:xmpp:sm:3'/>",
        "<enabled xmlns='urn:xmpp:sm:3' id='s' location='inside.lan'/>",
        "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        "<message from='bob@hall.example/x' to='alice@hall.example/r'><body>x</body></message>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>inside.lan</see-other-host></stream:error>",
        "<unknown xmlns='urn:example'/>",
    ]
    .iter()
    .map(|text| frame(text))
    .collect()
}

fn headers() -> Vec<Header> {
    [
        " to='hall.example' version='1.0'",
        " to='hall.example' from='alice@hall.example' version='1.0'",
        " to='hall.example' from='bob@hall.example' version='1.0'",
        " to='hall.example'",
        " to='nowhere.example' version='1.0'",
        " id='s' from='hall.example' version='1.0'",
    ]
    .map(client_header)
    .into()
}

fn own() -> Own {
    Own::by_bind(ME, &domain("hall.example")).unwrap()
}

fn rules() -> Rules {
    Rules {
        mechanisms: Mechanism::DEFAULT.iter().copied().collect(),
        registration: true,
        features: std::collections::BTreeSet::new(),
        max_octets: 262_144,
    }
}

// -- the server towards the client, completely

fn desk() -> serving::Desk {
    serving::Desk {
        default_domain: None,
        sasl_attempts: 2,
        binds: 2,
        header_time: Duration::from_secs(10),
        tls_time: Duration::from_secs(10),
    }
}

fn serving_inputs() -> Vec<serving::Input> {
    let mut inputs: Vec<_> = from_client().into_iter().map(serving::Input::Element).collect();
    for header in headers() {
        let served = match header.to.as_deref() {
            Some("hall.example") => Ok(()),
            _ => Err(Reason::HostUnknown),
        };
        inputs.push(serving::Input::Header(header, served));
    }
    inputs.extend([secured("", &[]), secured("hall.example", &[])].map(serving::Input::Secured));
    let plain = Offer {
        text: "<stream:features/>".into(),
        sasl: [Mechanism::Plain].into(),
        registration: true,
        ..Offer::default()
    };
    let inline =
        Inline { mechanisms: [Mechanism::Plain].into(), bind: true, resume: true, ..Inline::default() };
    let modern = Offer { text: "<stream:features/>".into(), sasl2: Some(inline), ..Offer::default() };
    inputs.extend([plain, modern].map(serving::Input::Offered));
    for word in [
        Word::Bound(own()),
        Word::Challenge,
        Word::Failure { temporary: false },
        Word::Nonza,
        Word::Refused,
        Word::Registered,
        Word::Resumed,
        Word::Success(Granted::Restart),
        Word::Success(Granted::Open(own())),
        Word::Success(Granted::Bound(own())),
    ] {
        inputs.push(serving::Input::Word(word, Bytes::from_static(b"<word xmlns='urn:example'/>")));
    }
    inputs.extend([Ok(()), Err(Reason::LoginThrottled)].map(serving::Input::Tried));
    inputs.extend([serving::Input::Space, serving::Input::End, serving::Input::Expired]);
    inputs
}

fn serving_graph(mut look: impl FnMut(&Serving, &serving::Input, &serving::Stepped)) -> HashSet<Serving> {
    let (now, desk) = (Instant::now(), desk());
    let starts = [None, Some(secured("hall.example", &[]))]
        .map(|secured| Serving::new(&desk, StreamIds::new([1; 32]), secured, now));
    walk(starts.into(), &serving_inputs(), |state, input| {
        let stepped = state.clone().step(&desk, input.clone(), now);
        look(state, input, &stepped);
        stepped.ok().map(|(next, _)| next)
    })
}

// -- the client towards the server, completely

fn posing_graph(mut look: impl FnMut(&Posing, &posing::Input, &posing::Stepped)) -> HashSet<Posing> {
    let now = Instant::now();
    let terms = posing::Terms {
        to: domain("hall.example"),
        from: None,
        rules: rules(),
        step_time: Duration::from_secs(10),
    };
    let mut inputs: Vec<_> = from_server().into_iter().map(posing::Input::Element).collect();
    inputs.extend(headers().into_iter().map(posing::Input::Header));
    for ask in [
        Ask::Abort,
        Ask::Auth(Profile::Sasl, Wants::default()),
        Ask::Auth(Profile::Sasl2, Wants::default()),
        Ask::Auth(Profile::Sasl2, Wants { bind: true, resume: true }),
        Ask::Bind("b1".into()),
        Ask::Nonza,
        Ask::Register("r1".into()),
        Ask::Response,
        Ask::Resume,
    ] {
        inputs.push(posing::Input::Say(ask, Bytes::from_static(b"<ask xmlns='urn:example'/>")));
    }
    inputs.extend([posing::Input::Connected, posing::Input::End, posing::Input::Expired]);
    walk(vec![Posing::Dialling], &inputs, |state, input| {
        let stepped = state.clone().step(&terms, input.clone(), now);
        look(state, input, &stepped);
        stepped.ok().map(|(next, _)| next)
    })
}

#[test]
fn the_graphs_of_clients_are_whole() {
    let states = serving_graph(|_, _, _| {});
    assert!((50..50_000).contains(&states.len()), "serving: {}", states.len());
    assert_eq!(states.iter().map(discriminant).collect::<HashSet<_>>().len(), 7);
    let states = posing_graph(|_, _, _| {});
    assert!((15..50_000).contains(&states.len()), "posing: {}", states.len());
    assert_eq!(states.iter().map(discriminant).collect::<HashSet<_>>().len(), 6);
}

/// Law cipher_before_word: in clear, nothing but STARTTLS is said, and nobody inside hears of the client.
#[test]
fn clients_cipher_before_word() {
    serving_graph(|state, input, stepped| {
        if is_secured(state) {
            return;
        }
        match stepped {
            Ok((_, effects)) => {
                for effect in effects {
                    match effect {
                        serving::Effect::Send(octets) => {
                            assert!(may_go_in_clear(octets), "{state:?} {input:?}: {octets:?}");
                        }
                        serving::Effect::Call(..)
                        | serving::Effect::Say(..)
                        | serving::Effect::Try(..)
                        | serving::Effect::Pass(_)
                        | serving::Effect::Bound => panic!("{state:?} {input:?}: {effect:?}"),
                        _ => {}
                    }
                }
            }
            Err(fault) => assert!(may_go_in_clear(&fault.octets), "{state:?} {input:?}: {fault:?}"),
        }
    });
}

fn is_secured(state: &Serving) -> bool {
    // The states themselves are shut; their debug form shows the line.
    !format!("{state:?}").contains("secured: None")
}

/// Law proof_before_pass: stanzas pass in one state, and that state is reached by a word that was asked for.
#[test]
fn clients_proof_before_pass() {
    let mut bound = 0;
    serving_graph(|state, input, stepped| {
        let Ok((next, effects)) = stepped else { return };
        if effects.iter().any(|e| matches!(e, serving::Effect::Pass(_))) {
            assert!(matches!(state, Serving::Bound(_)) && matches!(input, serving::Input::Element(_)));
        }
        if matches!(next, Serving::Bound(_)) && !matches!(state, Serving::Bound(_)) {
            bound += 1;
            let serving::Input::Word(word, _) = input else { panic!("{state:?} {input:?}") };
            let asked = match (state, word) {
                (Serving::Login(_), Word::Success(Granted::Bound(_))) => state.attempt().is_some(),
                (Serving::Binding(_), Word::Bound(_) | Word::Resumed) => !state.wants_read(),
                _ => false,
            };
            assert!(asked, "{state:?} {input:?}");
            assert_eq!(next.own().map(Own::domain), Some(&domain("hall.example")));
        }
        // C2S-12: a new stream after a login begins with the backend's word in an exchange of this client.
        if effects.contains(&serving::Effect::Restart) && !matches!(state, Serving::Upgrading(_)) {
            assert!(state.attempt().is_some(), "{state:?} {input:?}");
            assert!(matches!(input, serving::Input::Word(Word::Success(Granted::Restart), _)));
        }
    });
    assert!(bound > 0);
    posing_graph(|state, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            let asked = match effect {
                posing::Effect::Deliver(_) => state.is_bound(),
                posing::Effect::Word(Word::Success(_) | Word::Challenge | Word::Failure { .. }, _) => {
                    matches!(state, Posing::Login(Some(_), _))
                }
                posing::Effect::Word(Word::Registered, _) => matches!(state, Posing::Login(_, Some(_))),
                posing::Effect::Word(Word::Bound(_), _) => {
                    matches!(state, Posing::Binding(posing::Asked::Bind(_)))
                }
                posing::Effect::Word(Word::Resumed, _) => {
                    matches!(state, Posing::Binding(posing::Asked::Resume))
                }
                _ => true,
            };
            assert!(asked, "{state:?} {input:?}: {effect:?}");
        }
    });
}

/// Law no_early_octets.
#[test]
fn clients_no_early_octets() {
    serving_graph(|state, input, stepped| {
        let speaks = matches!(
            input,
            serving::Input::Element(_)
                | serving::Input::Header(..)
                | serving::Input::End
                | serving::Input::Space
        );
        if matches!(state, Serving::Upgrading(_)) && speaks {
            let fault = stepped.as_ref().expect_err("octets during an upgrade");
            assert!(fault.octets.is_empty() && fault.reason == Reason::EarlyOctets);
        }
    });
}

/// Laws fault_is_final and closed_words: one error, then the tag; and what the server inside said is in none of it.
#[test]
fn clients_fault_is_final() {
    serving_graph(|state, input, stepped| {
        if let Err(fault) = stepped {
            assert!(at_most_one_error_then_the_tag(&fault.octets), "{state:?} {input:?}: {fault:?}");
        }
    });
    posing_graph(|state, input, stepped| {
        if let Err(fault) = stepped {
            assert!(at_most_one_error_then_the_tag(&fault.octets), "{state:?} {input:?}: {fault:?}");
        }
    });
}

/// Only what is on the lists is offered, and only what was offered is passed on (C2S-05, C2S-06).
#[test]
fn clients_use_what_was_offered() {
    let mut said = 0;
    serving_graph(|state, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            if let serving::Effect::Say(ask, octets) = effect {
                said += 1;
                assert!(matches!(state, Serving::Login(_) | Serving::Binding(_) | Serving::Bound(_)));
                let text = text(octets);
                assert!(
                    !text.contains("GSSAPI") && !text.contains("urn:example"),
                    "{input:?}: {ask:?} {text}"
                );
            }
        }
    });
    assert!(said > 0);
    posing_graph(|_, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            let told = match effect {
                posing::Effect::Offered(offer) => offer.text.clone(),
                posing::Effect::Word(_, octets) => text(octets).to_owned(),
                _ => continue,
            };
            for hidden in ["PLUS", "urn:example", "inside.lan", TLS] {
                assert!(!told.contains(hidden), "{input:?}: {told}");
            }
        }
    });
}

// -- the relay of a client, to a fixed number of states

const STATES: usize = 1_500;

struct Crossing<'a> {
    before: &'a Relay,
    side: Side,
    input: &'a Input,
    effects: &'a [Effect],
    after: &'a Relay,
}

type Law = fn(&Crossing<'_>) -> Result<(), String>;

const LAWS: &[(&str, Law)] = &[
    ("proof_before_pass", proof_before_pass),
    ("canonical_only", canonical_only),
    ("fault_is_final", fault_is_final),
    ("nothing_dropped", nothing_dropped),
    ("bounded", bounded),
];

#[derive(Default)]
struct Walked {
    states: usize,
    passed: usize,
    delivered: usize,
    breaches: Vec<String>,
}

fn relay_inputs() -> Vec<(Side, Input)> {
    let element = |frame| Input::Token(Token::Element(frame));
    let mut inputs: Vec<_> = from_client().into_iter().map(|f| (Side::Near, element(f))).collect();
    inputs.extend(from_server().into_iter().map(|f| (FAR, element(f))));
    for (n, header) in headers().into_iter().enumerate() {
        let side = if n < 5 { Side::Near } else { FAR };
        inputs.push((side, Input::Token(Token::Header(header))));
    }
    for side in [Side::Near, FAR] {
        inputs.push((side, Input::Token(Token::End)));
        inputs.push((side, Input::Token(Token::Keepalive)));
        inputs.push((side, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }));
        inputs.push((side, Input::Stalled));
    }
    inputs.push((Side::Near, Input::Secured(secured("", &[]))));
    inputs.push((FAR, Input::Connected([192, 0, 2, 9].into(), None)));
    inputs.push((FAR, Input::Unreachable(Reason::BackendDown)));
    inputs.push((Side::Near, Input::Tried(Ok(()))));
    inputs.push((Side::Near, Input::Tried(Err(Reason::LoginThrottled))));
    inputs.extend([Input::Expired, Input::Drain].map(|input| (Side::Near, input)));
    inputs
}

fn graph() -> &'static Walked {
    static GRAPH: OnceLock<Walked> = OnceLock::new();
    GRAPH.get_or_init(|| {
        let now = Instant::now();
        let inputs = relay_inputs();
        let mut walked = Walked::default();
        let start = |secured: Option<Secured>| {
            let arrival = Arrival { flow: Flow::C2s, address: [192, 0, 2, 7].into(), secured, seed: [3; 32] };
            Relay::new(Arc::new(home()), any(), arrival, now)
        };
        let starts = [start(None), start(Some(secured("hall.example", &[])))];
        let mut seen: HashSet<_> = starts.iter().map(hash).collect();
        let mut open = VecDeque::from(starts);
        while let Some(before) = open.pop_front() {
            walked.states += 1;
            for (side, input) in &inputs {
                // The pump gives no token of a side that is not read.
                if matches!(input, Input::Token(_)) && !before.wants_read(*side) {
                    continue;
                }
                let mut after = before.clone();
                let at = match input {
                    Input::Expired => before.deadline().unwrap_or(now),
                    _ => now,
                };
                let effects = after.step(*side, input.clone(), at);
                if seen.len() < STATES && seen.insert(hash(&after)) {
                    open.push_back(after.clone());
                }
                let crossing =
                    Crossing { before: &before, side: *side, input, effects: &effects, after: &after };
                walked.passed += effects.iter().filter(|e| matches!(e, Effect::Pass(..))).count();
                walked.delivered += effects.iter().filter(|e| matches!(e, Effect::Deliver(_))).count();
                for (name, law) in LAWS {
                    if walked.breaches.len() < 10
                        && let Err(what) = law(&crossing)
                    {
                        walked.breaches.push(format!("{name}: after {side:?} {input:?}: {what}"));
                    }
                }
            }
        }
        walked
    })
}

#[test]
fn a_clients_relay_keeps_the_laws() {
    let walked = graph();
    assert!(walked.breaches.is_empty(), "{:#?}", walked.breaches);
    assert!(walked.states > 100 && walked.passed > 10 && walked.delivered > 10, "{}", walked.states);
}

fn proof_before_pass(edge: &Crossing<'_>) -> Result<(), String> {
    for effect in edge.effects {
        let wrong = match effect {
            Effect::Pass(..) | Effect::Deliver(_) => !edge.before.is_bound(),
            Effect::Widen(_) | Effect::Note(Event::Bound { .. }) => !edge.after.is_bound(),
            _ => false,
        };
        if wrong {
            return Err(format!("{effect:?}"));
        }
    }
    Ok(())
}

fn canonical_only(edge: &Crossing<'_>) -> Result<(), String> {
    for effect in edge.effects {
        if let Effect::Pass(_, octets) | Effect::Deliver(octets) = effect {
            let again = frame(text(octets));
            if !again.passed_as_received() || again.octets() != octets {
                return Err(format!("not canonical: {octets:?}"));
            }
        }
    }
    Ok(())
}

/// Behind a closing tag, or behind the end of the connection, nothing more goes to that side.
fn fault_is_final(edge: &Crossing<'_>) -> Result<(), String> {
    for side in [Side::Near, FAR] {
        let mut closed = false;
        for effect in edge.effects {
            let speaks = match effect {
                Effect::Send(to, octets) if *to == side => {
                    if closed {
                        return Err(format!("{:?}", edge.effects));
                    }
                    closed = octets.ends_with(b"</stream:stream>");
                    false
                }
                Effect::Finish(to) | Effect::Cut(to) if *to == side => {
                    closed = true;
                    false
                }
                Effect::Deliver(_) => side == Side::Near,
                Effect::Pass(..) | Effect::Retry(..) => side == FAR,
                Effect::Restart(to) | Effect::Upgrade(to) => *to == side,
                _ => false,
            };
            if speaks && closed {
                return Err(format!("{:?}", edge.effects));
            }
        }
    }
    Ok(())
}

/// SM-02: on a bound stream each stanza passes once or ends the stream, and none is made here.
fn nothing_dropped(edge: &Crossing<'_>) -> Result<(), String> {
    let made = edge.before.is_bound()
        && edge.effects.iter().any(|effect| match effect {
            Effect::Send(_, octets) => {
                ["<message", "<iq", "<presence"].iter().any(|name| octets.starts_with(name.as_bytes()))
            }
            _ => false,
        });
    if made {
        return Err(format!("made: {:?}", edge.effects));
    }
    let Input::Token(Token::Element(frame)) = edge.input else { return Ok(()) };
    let stanza = frame.head().kind() != gatehouse::xml::Kind::Other;
    // A stream that has an end already: its side is only read for the closing tag.
    let ending = edge.before.deadline().is_some();
    if !stanza || !edge.before.is_bound() || ending {
        return Ok(());
    }
    let passed = edge
        .effects
        .iter()
        .filter(|effect| match edge.side {
            Side::Near => matches!(effect, Effect::Pass(..)),
            Side::Far(_) => matches!(effect, Effect::Deliver(_)),
        })
        .count();
    let ended = edge.effects.iter().any(|effect| match effect {
        Effect::Send(_, octets) => octets.ends_with(b"</stream:stream>"),
        _ => false,
    });
    let over = edge.before.is_done();
    if over || (passed == 1) != ended { Ok(()) } else { Err(format!("{:?}", edge.effects)) }
}

/// Every wait but that of a bound stream has a deadline, and moves when it comes.
fn bounded(edge: &Crossing<'_>) -> Result<(), String> {
    if !edge.after.is_done() {
        match edge.after.deadline() {
            None if edge.after.is_bound() => {}
            None => return Err(format!("no deadline: {:?}", edge.after)),
            Some(at) => {
                let mut later = edge.after.clone();
                later.step(Side::Near, Input::Expired, at);
                if !later.is_done() && later.deadline() == Some(at) {
                    return Err(format!("stuck: {:?}", edge.after));
                }
            }
        }
    }
    if edge.effects.len() >= 64 { Err("too many effects".into()) } else { Ok(()) }
}
