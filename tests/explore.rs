//! The ten laws, on every edge of the reachable graphs.
//!
//! Both stream machines are walked completely: every state that any order of inputs from the alphabet can reach, every
//! input in every state. The relay, which composes them with guard and policy, has no end of claims and legs; it is walked
//! breadth first to a fixed number of states, every input in every state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "explore/client.rs"]
mod client;
mod pure;

use std::collections::{HashSet, VecDeque};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse::policy::Federation;
use gatehouse::reason::{Facing, Flow, Outcome, Reason};
use gatehouse::relay::{Arrival, ClaimId, Effect, Event, FarId, Input, Relay, Side};
use gatehouse::stream::initiating::{self, Errand, Initiating, Terms};
use gatehouse::stream::receiving::{self, By, Claim, Desk, Offer, Receiving, Ruling, Vouch};
use gatehouse::stream::{Answer, KeyCheck, Keyring, Secured, StreamIds, opening};
use gatehouse::xml::{Content, Frame, Framer, Header, Limits, Token};
use pure::*;

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";

/// First-level elements that strangers, peers and backends say.
fn elements() -> Vec<Frame> {
    [
        &format!("<starttls xmlns='{TLS}'/>"),
        &format!("<starttls xmlns='{TLS}'><x/></starttls>"),
        &format!("<proceed xmlns='{TLS}'/>"),
        &format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>ZXZpbC5leGFtcGxl</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>?</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>=</auth>"),
        &format!("<abort xmlns='{SASL}'/>"),
        &format!("<success xmlns='{SASL}'/>"),
        &format!("<failure xmlns='{SASL}'><not-authorized/></failure>"),
        &format!("<challenge xmlns='{SASL}'/>"),
        "<db:result from='friend.example' to='hall.example'>k1</db:result>",
        "<db:result from='friend.example' to='hall.example'>k2</db:result>",
        "<db:result from='stranger.example' to='hall.example'>k1</db:result>",
        "<db:result from='hall.example' to='hall.example'>k1</db:result>",
        "<db:result from='friend.example' to='nowhere.example'>k1</db:result>",
        "<db:result from='hall.example' to='friend.example'>k1</db:result>",
        "<db:result from='hall.example' to='friend.example' type='valid'/>",
        "<db:result from='hall.example' to='friend.example' type='invalid'/>",
        "<db:result from='hall.example' to='friend.example' type='error'/>",
        "<db:result from='friend.example' to='hall.example' type='valid'/>",
        "<db:result from='friend.example' to='hall.example' type='odd'/>",
        "<db:result to='hall.example'>k1</db:result>",
        "<db:verify from='friend.example' to='hall.example' id='i'>k1</db:verify>",
        "<db:verify from='friend.example' to='hall.example' id='i' type='valid'/>",
        "<db:verify from='hall.example' to='friend.example' id='i' type='valid'/>",
        "<message from='a@friend.example' to='b@hall.example'><body>x</body></message>",
        "<message from='a@stranger.example' to='b@hall.example'><body>x</body></message>",
        "<message from='a@friend.example' to='b@annex.example'><body>x</body></message>",
        "<iq from='b@hall.example' to='a@friend.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
        &format!(
            "<stream:features><starttls xmlns='{TLS}'/><mechanisms xmlns='{SASL}'>\
             <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"
        ),
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<message xmlns='jabber:client' from='a@friend.example' to='b@hall.example'/>",
        "<unknown xmlns='urn:example'/>",
    ]
    .iter()
    .map(|text| frame(text))
    .collect()
}

fn frame(text: &str) -> Frame {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(&opening(None, None, None, true));
    framer.feed(text.as_bytes());
    let mut tokens = std::iter::from_fn(|| framer.next());
    match (tokens.next(), tokens.next()) {
        (Some(Token::Header(_)), Some(Token::Element(frame))) => frame,
        other => panic!("{text}: {other:?}"),
    }
}

fn headers() -> Vec<Header> {
    let all = [
        header("friend.example", "hall.example"),
        header("", "hall.example"),
        header("stranger.example", "hall.example"),
        header("hall.example", "hall.example"),
        header("friend.example", "nowhere.example"),
        header("hall.example", "friend.example"),
        header("friend.example", ""),
        header("not a domain", "hall.example"),
        answer("id-1", false),
        answer("id-1", true),
        answer("", true),
    ];
    all.iter()
        .map(|text| {
            let mut framer = Framer::new(Limits::default(), Content::Server);
            framer.feed(text.as_bytes());
            match framer.next() {
                Some(Token::Header(header)) => header,
                other => panic!("{text}: {other:?}"),
            }
        })
        .collect()
}

fn facts() -> Vec<Secured> {
    vec![
        secured("hall.example", &["friend.example"]),
        secured("hall.example", &[]),
        untrusted("", "friend.example"),
    ]
}

/// Everything one octet of ours may be, in clear on a public leg.
fn may_go_in_clear(octets: &Bytes) -> bool {
    let text = std::str::from_utf8(octets).unwrap();
    let is_header = text.starts_with("<?xml") || text.is_empty();
    let features = text.find("<stream:features>").map(|at| &text[at..]);
    let only_starttls = features
        .is_none_or(|f| f.contains("<starttls ") && !f.contains("mechanism") && !f.contains("dialback"));
    only_starttls
        && (is_header
            || text.starts_with("<starttls ")
            || text.starts_with("<proceed ")
            || text.starts_with("<failure ")
            || text.starts_with("<failed ")
            || text.starts_with("<stream:error>")
            || text.contains("type='error'")
            || text.starts_with("</stream:stream>"))
}

fn at_most_one_error_then_the_tag(octets: &Bytes) -> bool {
    let text = std::str::from_utf8(octets).unwrap();
    let errors = text.matches("<stream:error>").count();
    text.is_empty() || (errors <= 1 && text.ends_with("</stream:stream>"))
}

// -- the receiving machine, completely

fn desk() -> Desk {
    Desk {
        facing: Facing::Public,
        default_domain: None,
        dialback_errors: true,
        max_octets: 262_144,
        sasl_attempts: 2,
        questions: 1,
        header_time: Duration::from_secs(10),
        tls_time: Duration::from_secs(10),
    }
}

fn receiving_inputs() -> Vec<receiving::Input> {
    let mut inputs: Vec<_> = elements().into_iter().map(receiving::Input::Element).collect();
    for header in headers() {
        for external in [false, true] {
            let offer = Offer { external, dialback: true, refused: None };
            inputs.push(receiving::Input::Header(header.clone(), offer));
        }
        let offer = Offer { external: false, dialback: false, refused: Some(Reason::CertificateUntrusted) };
        inputs.push(receiving::Input::Header(header, offer));
    }
    inputs.extend(facts().into_iter().map(receiving::Input::Secured));
    let whom = pair("friend.example", "hall.example");
    for by in [By::External, By::Key { stream: "s".into(), key: "k1".into() }] {
        for ruling in [
            Ruling::Accepted,
            Ruling::Invalid,
            Ruling::Refused(Reason::BackendDown),
            Ruling::Refused(Reason::Blocked),
        ] {
            inputs.push(receiving::Input::Ruled(Claim { pair: whom.clone(), by: by.clone() }, ruling));
        }
    }
    let check = KeyCheck { pair: whom.reversed(), stream: "i".into(), key: "k1".into() };
    for vouch in [Vouch::Valid, Vouch::Invalid, Vouch::Refused(Reason::HostUnknown)] {
        inputs.push(receiving::Input::Vouched(check.clone(), vouch));
    }
    inputs.extend([receiving::Input::End, receiving::Input::Expired]);
    inputs
}

/// Walks the whole graph and shows every edge; gives the states.
fn receiving_graph(
    mut look: impl FnMut(&Receiving, &receiving::Input, &receiving::Stepped),
) -> HashSet<Receiving> {
    let now = Instant::now();
    let desk = desk();
    let direct = secured("hall.example", &["friend.example"]);
    let starts = [None, Some(direct)].map(|s| Receiving::new(&desk, StreamIds::new([1; 32]), s, now));
    walk(starts.into(), &receiving_inputs(), |state, input| {
        let stepped = state.clone().step(&desk, input.clone(), now);
        look(state, input, &stepped);
        stepped.ok().map(|(next, _)| next)
    })
}

// -- the initiating machine, completely

fn terms() -> Vec<Terms> {
    let whom = pair("hall.example", "friend.example");
    let speak = Errand::Speak(whom.clone());
    let ask = Errand::Ask(KeyCheck { pair: whom.reversed(), stream: "i".into(), key: "k1".into() });
    let terms = |facing, errand: &Errand, clear, external| Terms {
        facing,
        errand: errand.clone(),
        clear,
        external,
        dialback: true,
        step_time: Duration::from_secs(10),
        proof_time: Duration::from_secs(30),
    };
    vec![
        terms(Facing::Public, &speak, false, true),
        terms(Facing::Public, &speak, true, false),
        terms(Facing::Public, &ask, false, false),
        terms(Facing::Backend, &speak, false, false),
    ]
}

/// Walks the whole graph for each kind of errand and shows every edge; gives the states.
fn initiating_graph(
    mut look: impl FnMut(&Terms, &Initiating, &initiating::Input, &initiating::Stepped),
) -> HashSet<Initiating> {
    let now = Instant::now();
    let keys = Keyring::new(b"secret");
    let mut inputs: Vec<_> = elements().into_iter().map(initiating::Input::Element).collect();
    inputs.extend(headers().into_iter().map(initiating::Input::Header));
    inputs.extend(facts().into_iter().map(initiating::Input::Secured));
    inputs.extend([None, Some(facts()[0].clone())].map(initiating::Input::Connected));
    inputs.extend([initiating::Input::End, initiating::Input::Expired]);
    let mut states = HashSet::new();
    for terms in terms() {
        states.extend(walk(vec![Initiating::Dialling], &inputs, |state, input| {
            let stepped = state.clone().step(&terms, &keys, input.clone(), now);
            look(&terms, state, input, &stepped);
            stepped.ok().map(|(next, _)| next)
        }));
    }
    states
}

/// Breadth first from the starts over every input; `step` gives the state reached, if any.
fn walk<S: Clone + Eq + std::hash::Hash, I>(
    starts: Vec<S>,
    inputs: &[I],
    mut step: impl FnMut(&S, &I) -> Option<S>,
) -> HashSet<S> {
    let mut seen: HashSet<S> = starts.iter().cloned().collect();
    let mut open: VecDeque<S> = starts.into();
    while let Some(state) = open.pop_front() {
        for input in inputs {
            if let Some(reached) = step(&state, input)
                && seen.insert(reached.clone())
            {
                open.push_back(reached);
            }
        }
        assert!(seen.len() < 100_000, "the graph has no end");
    }
    seen
}

// -- the relay, to a fixed number of states

/// One edge of the relay's graph, looked at and let go: kept whole they would fill the memory.
struct Crossing<'a> {
    before: &'a Relay,
    side: Side,
    input: &'a Input,
    effects: &'a [Effect],
    after: &'a Relay,
}

/// What breaks a law on an edge.
type Breach = Result<(), String>;

/// A law, as it is asked of an edge.
type Law = fn(&Crossing<'_>) -> Breach;

/// The laws that the relay is held to, by name.
const LAWS: &[(&str, Law)] = &[
    ("proof_before_pass", relay_proof_before_pass),
    ("canonical_only", relay_canonical_only),
    ("fault_is_final", relay_fault_is_final),
    ("only_asked_answers", relay_only_asked_answers),
    ("home_is_home", relay_home_is_home),
    ("deny_by_default", relay_deny_by_default),
    ("bounded", relay_bounded),
    ("closed_words", relay_closed_words),
];

/// What the walk found.
#[derive(Default)]
struct Walked {
    edges: usize,
    passes: usize,
    breaches: Vec<(&'static str, String)>,
}

impl Walked {
    fn upholds(&self, law: &str) {
        let broken: Vec<_> =
            self.breaches.iter().filter(|(name, _)| *name == law).map(|(_, what)| what).collect();
        assert!(broken.is_empty(), "{law}: {broken:#?}");
    }

    fn look(&mut self, crossing: &Crossing<'_>) {
        self.edges += 1;
        self.passes += usize::from(crossing.effects.iter().any(|e| matches!(e, Effect::Pass(..))));
        for (name, law) in LAWS {
            if self.breaches.len() < 20
                && let Err(what) = law(crossing)
            {
                self.breaches.push((name, format!("after {:?} {:?}: {what}", crossing.side, crossing.input)));
            }
        }
    }
}

fn hash(relay: &Relay) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(format!("{relay:?}").as_bytes());
    hasher.finish()
}

const RELAY_STATES: usize = 300;

fn relay_graph() -> &'static Walked {
    static GRAPH: OnceLock<Walked> = OnceLock::new();
    GRAPH.get_or_init(|| {
        let now = Instant::now();
        let listed =
            policy(Federation::Listed, "version: v1\nrules:\n  - { name: ok, domains: [friend.example] }\n");
        let none = policy(Federation::None, "version: v1\nrules: []\n");
        let mut inputs: Vec<(Side, Input)> = Vec::new();
        for side in [Side::Near, Side::Far(FarId(2)), Side::Far(FarId(4))] {
            inputs.extend(elements().into_iter().map(|f| (side, Input::Token(Token::Element(f)))));
            let some = headers().into_iter().enumerate().filter(|(n, _)| side == Side::Near || *n >= 8);
            inputs.extend(some.map(|(_, h)| (side, Input::Token(Token::Header(h)))));
            inputs.push((side, Input::Token(Token::End)));
            inputs.extend(facts().into_iter().take(2).map(|f| (side, Input::Secured(f))));
            inputs.push((
                side,
                Input::Gone { reason: Reason::ConnectionLost, unsent: vec!["<message/>".into()] },
            ));
            inputs.push((side, Input::Stalled));
            if side != Side::Near {
                inputs.push((side, Input::Connected([192, 0, 2, 9].into(), None)));
                inputs.push((side, Input::Unreachable(Reason::RemoteUnreachable)));
            }
        }
        for claim in [1, 3] {
            for answer in [Answer::Valid, Answer::Invalid, Answer::Trouble(Reason::RemoteNotFound)] {
                inputs.push((Side::Near, Input::Verified(ClaimId(claim), answer)));
            }
        }
        inputs.extend([Input::Expired, Input::Drain, Input::Policy(none)].map(|i| (Side::Near, i)));
        let mut walked = Walked::default();
        let mut starts = Vec::new();
        for (flow, direct) in
            [(Flow::S2sIn, None), (Flow::S2sIn, Some(facts()[0].clone())), (Flow::S2sOut, None)]
        {
            let arrival = Arrival { flow, address: [192, 0, 2, 7].into(), secured: direct, seed: [3; 32] };
            starts.push(Relay::new(std::sync::Arc::new(home()), listed.clone(), arrival, now));
        }
        // Far from the start, so that what follows an admitted pair is walked as well.
        let mut inside = inbound(home(), listed.clone(), "friend.example", &[]);
        admit(&mut inside, "friend.example", "hall.example");
        starts.push(inside.relay);
        let mut outside = Stage::new(home(), listed.clone(), Flow::S2sOut, None);
        outside.hears(NEAR, &answer("", false));
        outside.hears(NEAR, "<db:result from='hall.example' to='friend.example'>k1</db:result>");
        outside.connected(FarId(2), Some(secured("", &["friend.example"])));
        outside.hears(Side::Far(FarId(2)), &answer("id-1", true));
        starts.push(outside.relay);
        for start in starts {
            let mut seen = HashSet::from([hash(&start)]);
            let mut open = VecDeque::from([start]);
            while let Some(before) = open.pop_front() {
                for (side, input) in &inputs {
                    let mut after = before.clone();
                    let at = match input {
                        Input::Expired => before.deadline().unwrap_or(now),
                        _ => now,
                    };
                    let effects = after.step(*side, input.clone(), at);
                    if seen.len() < RELAY_STATES && seen.insert(hash(&after)) {
                        open.push_back(after.clone());
                    }
                    walked.look(&Crossing {
                        before: &before,
                        side: *side,
                        input,
                        effects: &effects,
                        after: &after,
                    });
                }
            }
        }
        walked
    })
}

#[test]
fn the_graphs_are_of_a_size_that_was_looked_at() {
    // Each class of state is there, so that no law holds for want of cases.
    let states = receiving_graph(|_, _, _| {});
    assert!((20..50_000).contains(&states.len()), "receiving: {}", states.len());
    assert_eq!(states.iter().map(std::mem::discriminant).collect::<HashSet<_>>().len(), 4);
    let states = initiating_graph(|_, _, _, _| {});
    assert!((20..50_000).contains(&states.len()), "initiating: {}", states.len());
    assert_eq!(states.iter().map(std::mem::discriminant).collect::<HashSet<_>>().len(), 8);
    assert!(relay_graph().edges > 100_000, "{}", relay_graph().edges);
    assert!(relay_graph().passes > 100, "stanzas pass somewhere: {}", relay_graph().passes);
}

#[test]
fn proof_before_pass() {
    relay_graph().upholds("proof_before_pass");
    // The machine passes stanzas to the desk only; it takes no pair as proven but by a ruling.
    receiving_graph(|state, input, stepped| {
        if let Ok((_, effects)) = stepped
            && effects.iter().any(|e| matches!(e, receiving::Effect::Pass(_)))
        {
            assert!(matches!(state, Receiving::Open(_)) && matches!(input, receiving::Input::Element(_)));
        }
    });
}

fn relay_proof_before_pass(edge: &Crossing<'_>) -> Breach {
    for effect in edge.effects {
        // What a broken leg left unsent was admitted when it came.
        let stranded = matches!(edge.input, Input::Gone { .. });
        if matches!(effect, Effect::Pass(..) | Effect::Carry(..))
            && edge.before.guard().is_empty()
            && !stranded
        {
            return Err(format!("passed before any pair stood: {:?}", edge.effects));
        }
        if let Effect::Note(Event::Admitted { pair, .. }) = effect {
            let judged = edge.effects.iter().any(|e| {
                matches!(e, Effect::Note(Event::Judged { pair: p, verdict })
                    if p == pair && verdict.outcome == Outcome::Allow)
            });
            if !judged {
                return Err(format!("admitted without a verdict: {:?}", edge.effects));
            }
        }
    }
    Ok(())
}

#[test]
fn cipher_before_word() {
    receiving_graph(|state, input, stepped| {
        // A ruling in clear exists only where a rule says `tls: none`; the relay's walk has no such rule.
        if state.secured().is_some()
            || matches!(input, receiving::Input::Ruled(..) | receiving::Input::Vouched(..))
        {
            return;
        }
        match stepped {
            Ok((_, effects)) => {
                for effect in effects {
                    if let receiving::Effect::Send(octets) = effect {
                        assert!(may_go_in_clear(octets), "{state:?} {input:?}: {octets:?}");
                    }
                }
            }
            Err(fault) => assert!(may_go_in_clear(&fault.octets), "{state:?} {input:?}: {fault:?}"),
        }
    });
    initiating_graph(|terms, state, input, stepped| {
        let direct = matches!(input, initiating::Input::Connected(Some(_)) | initiating::Input::Secured(_));
        if terms.facing == Facing::Backend || terms.clear || state.secured().is_some() || direct {
            return;
        }
        if let Ok((_, effects)) = stepped {
            for effect in effects {
                if let initiating::Effect::Send(octets) = effect {
                    assert!(may_go_in_clear(octets), "{state:?} {input:?}: {octets:?}");
                }
            }
        }
    });
}

#[test]
fn no_early_octets() {
    receiving_graph(|state, input, stepped| {
        if matches!(state, Receiving::Upgrading(_))
            && matches!(
                input,
                receiving::Input::Element(_) | receiving::Input::Header(..) | receiving::Input::End
            )
        {
            let fault = stepped.as_ref().expect_err("octets during an upgrade");
            assert!(fault.octets.is_empty() && fault.reason == Reason::EarlyOctets);
        }
    });
    initiating_graph(|_, state, input, stepped| {
        if matches!(state, Initiating::Upgrading(_))
            && matches!(
                input,
                initiating::Input::Element(_) | initiating::Input::Header(_) | initiating::Input::End
            )
        {
            assert!(stepped.as_ref().expect_err("octets during an upgrade").octets.is_empty());
        }
    });
    // The framer knows whether it is empty, which is what the pump asks at an upgrade.
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(&opening(None, None, None, true));
    framer.next();
    assert!(framer.is_empty());
    framer.feed(format!("<starttls xmlns='{TLS}'/><message").as_bytes());
    framer.next();
    assert!(!framer.is_empty());
}

#[test]
fn canonical_only() {
    relay_graph().upholds("canonical_only");
}

fn relay_canonical_only(edge: &Crossing<'_>) -> Breach {
    for effect in edge.effects {
        if let Effect::Pass(_, octets) | Effect::Carry(_, octets) = effect
            && octets != "<message/>"
        {
            let again = frame(std::str::from_utf8(octets).unwrap());
            if !again.passed_as_received() || again.octets() != octets {
                return Err(format!("not canonical: {octets:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn fault_is_final() {
    receiving_graph(|state, input, stepped| {
        if let Err(fault) = stepped {
            assert!(at_most_one_error_then_the_tag(&fault.octets), "{state:?} {input:?}: {fault:?}");
        }
    });
    initiating_graph(|_, _, input, stepped| {
        if let Err(fault) = stepped {
            assert!(at_most_one_error_then_the_tag(&fault.octets), "{input:?}: {fault:?}");
        }
    });
    relay_graph().upholds("fault_is_final");
}

/// Behind a closing tag of ours nothing more is sent to that side.
fn relay_fault_is_final(edge: &Crossing<'_>) -> Breach {
    for side in [Side::Near, Side::Far(FarId(2)), Side::Far(FarId(4))] {
        let mut closed = false;
        for effect in edge.effects {
            match effect {
                Effect::Send(to, octets) if *to == side => {
                    if closed {
                        return Err(format!("{:?}", edge.effects));
                    }
                    closed = octets.ends_with(b"</stream:stream>");
                }
                Effect::Retry(id, _) if Side::Far(*id) == side => closed = false,
                _ => {}
            }
        }
    }
    Ok(())
}

#[test]
fn only_asked_answers() {
    relay_graph().upholds("only_asked_answers");
    initiating_graph(|terms, state, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        if effects.iter().any(|e| matches!(e, initiating::Effect::Answered(_))) {
            assert!(
                matches!(terms.errand, Errand::Ask(_)) && matches!(state, Initiating::Awaiting(_)),
                "{input:?}"
            );
        }
    });
}

fn relay_only_asked_answers(edge: &Crossing<'_>) -> Breach {
    let Input::Token(Token::Element(frame)) = edge.input else { return Ok(()) };
    let text = std::str::from_utf8(frame.octets()).unwrap();
    let answers = ["type='valid'", "type='invalid'"];
    if edge.side != Side::Near || !text.starts_with("<db:") || !answers.iter().any(|a| text.contains(a)) {
        return Ok(());
    }
    let changed = edge.effects.iter().any(|e| {
        matches!(
            e,
            Effect::Connect(..)
                | Effect::Admitted(..)
                | Effect::Verify(..)
                | Effect::Answer(_)
                | Effect::Widen(_)
        )
    });
    if changed || edge.before.guard().pairs().len() < edge.after.guard().pairs().len() {
        return Err(format!("{:?}", edge.effects));
    }
    Ok(())
}

#[test]
fn home_is_home() {
    relay_graph().upholds("home_is_home");
}

fn relay_home_is_home(edge: &Crossing<'_>) -> Breach {
    if edge.before.flow() != Flow::S2sIn {
        return Ok(());
    }
    let home = domain("hall.example");
    let admitted = edge.after.guard().pairs().iter().any(|admitted| admitted.pair().sender == home);
    let asked =
        edge.effects.iter().any(|e| matches!(e, Effect::Verify(_, check) if check.pair.sender == home));
    if admitted || asked { Err(format!("{:?}", edge.effects)) } else { Ok(()) }
}

#[test]
fn deny_by_default() {
    relay_graph().upholds("deny_by_default");
}

fn relay_deny_by_default(edge: &Crossing<'_>) -> Breach {
    let friend = domain("friend.example");
    for admitted in edge.after.guard().pairs() {
        let pair = admitted.pair();
        if pair.sender != friend && pair.target != friend {
            return Err(format!("{pair} is admitted"));
        }
    }
    for effect in edge.effects {
        let spent = match effect {
            Effect::Verify(_, check) => check.pair.sender != friend,
            Effect::Connect(_, to) => {
                let text = format!("{to:?}");
                text.contains("stranger") || text.contains("nowhere")
            }
            _ => false,
        };
        if spent {
            return Err(format!("cost for a pair that nobody allowed: {effect:?}"));
        }
    }
    Ok(())
}

#[test]
fn bounded() {
    relay_graph().upholds("bounded");
}

/// Every wait has a deadline: whatever is not over says when it will be, and moves when that comes.
fn relay_bounded(edge: &Crossing<'_>) -> Breach {
    if !edge.after.is_done() {
        let Some(at) = edge.after.deadline() else { return Err(format!("no deadline: {:?}", edge.after)) };
        let mut later = edge.after.clone();
        later.step(Side::Near, Input::Expired, at);
        if !later.is_done() && later.deadline() == Some(at) {
            return Err(format!("stuck: {:?}", edge.after));
        }
    }
    if edge.after.guard().pairs().len() > 50 || edge.effects.len() >= 64 {
        return Err(format!("{:?}", edge.effects));
    }
    Ok(())
}

#[test]
fn closed_words() {
    relay_graph().upholds("closed_words");
}

fn relay_closed_words(edge: &Crossing<'_>) -> Breach {
    for effect in edge.effects {
        if let Effect::Note(Event::Judged { verdict, .. }) = effect {
            let known =
                Reason::ALL.contains(&verdict.reason) && ["ok", "default"].contains(&verdict.rule.as_str());
            if !known {
                return Err(verdict.rule.to_string());
            }
        }
    }
    Ok(())
}
