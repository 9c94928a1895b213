//! The ten laws, on every edge of the reachable graphs.
//!
//! Both stream machines are walked completely: every state that any order of inputs from the alphabet can reach, every
//! input in every state. So are the uses of the relay of a client, with a clock (`explore/client/whole.rs`), and of that between servers
//! (`explore/whole.rs`), which is walked besides from several starts with a clock and all that anybody says, to a fixed number of states.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod client;
mod client_laws;
mod essence;
mod laws;
mod whole;

use std::collections::{HashSet, VecDeque};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::stage::{self, *};
use bytes::Bytes;
use essence::hash;
use gatehouse::policy::Federation;
use gatehouse::reason::{Facing, Flow, Reason};
use gatehouse::relay::{Arrival, ClaimId, Effect, FarId, Input, Load, Relay, Side};
use gatehouse::stream::initiating::{self, Errand, Initiating, InitiatingParams};
use gatehouse::stream::management::{Count, Manage, Taken};
use gatehouse::stream::receiving::{
    self, Claim, ClaimBasis, Receiving, ReceivingParams, Ruling, ServerOffer, Vouch,
};
use gatehouse::stream::{KeyAnswer, KeyCheck, Keyring, StreamIds, opening};
use gatehouse::xml::{Content, Framer, Limits, Token};
use laws::*;

fn at_most_one_error_then_the_tag(octets: &Bytes) -> bool {
    let text = std::str::from_utf8(octets).unwrap();
    let errors = text.matches("<stream:error>").count();
    text.is_empty() || (errors <= 1 && text.ends_with("</stream:stream>"))
}

// -- the receiving machine, completely

fn desk() -> ReceivingParams {
    ReceivingParams {
        facing: Facing::Public,
        counts: true,
        default_domain: None,
        dialback_errors: true,
        max_octets: 262_144,
        survived: 16 << 20,
        sasl_attempts: 2,
        questions: 1,
        header_time: Duration::from_secs(10),
        tls_time: Duration::from_secs(10),
    }
}

fn receiving_inputs() -> Vec<receiving::Input> {
    let mut inputs: Vec<_> = elements().into_iter().map(receiving::Input::Element).collect();
    inputs.extend(counting().into_iter().map(receiving::Input::Element));
    for header in headers() {
        for external in [false, true] {
            let offer = ServerOffer { external, dialback: true, bidi: true, refused: None };
            inputs.push(receiving::Input::Header(header.clone(), offer));
        }
        let offer = ServerOffer { refused: Some(Reason::CertificateUntrusted), ..ServerOffer::default() };
        inputs.push(receiving::Input::Header(header, offer));
    }
    inputs.extend(facts().into_iter().map(receiving::Input::Secured));
    let whom = pair("friend.example", "hall.example");
    for by in [ClaimBasis::External, ClaimBasis::Key { stream: "s".into(), key: "k1".into() }] {
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

fn terms() -> Vec<InitiatingParams> {
    let whom = pair("hall.example", "friend.example");
    let speak = Errand::Speak(whom.clone());
    let ask = Errand::Ask(KeyCheck { pair: whom.reversed(), stream: "i".into(), key: "k1".into() });
    let terms = |facing, errand: &Errand, clear, external, manage: &Manage| InitiatingParams {
        facing,
        errand: errand.clone(),
        clear,
        external,
        manage: manage.clone(),
        bidi: external,
        taken: Taken::default(),
        step_time: Duration::from_secs(10),
        proof_time: Duration::from_secs(30),
        anew: InitiatingParams::times_anew(facing),
    };
    vec![
        terms(Facing::Public, &speak, false, true, &Manage::Enable),
        terms(Facing::Public, &speak, false, true, &Manage::Resume("s1".into())),
        terms(Facing::Public, &speak, true, false, &Manage::Off),
        terms(Facing::Public, &ask, false, false, &Manage::Off),
        terms(Facing::Backend, &speak, false, false, &Manage::Off),
    ]
}

/// Walks the whole graph for each kind of errand and shows every edge; gives the states.
fn initiating_graph(
    mut look: impl FnMut(&InitiatingParams, &Initiating, &initiating::Input, &initiating::Stepped),
) -> HashSet<Initiating> {
    let now = Instant::now();
    let keys = Keyring::new(b"secret");
    let mut inputs: Vec<_> = elements().into_iter().map(initiating::Input::Element).collect();
    inputs.extend(counting().into_iter().map(initiating::Input::Element));
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

/// What the walk found.
#[derive(Default)]
struct Walked {
    /// The uses of the relay whose graph was walked: with the least number of states, and their number if it came to its end.
    uses: Vec<(&'static str, usize, Option<usize>)>,
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

    fn add(&mut self, other: Self) {
        self.uses.extend(other.uses);
        self.edges += other.edges;
        self.passes += other.passes;
        self.breaches.extend(other.breaches);
    }

    fn look(&mut self, crossing: &Crossing<'_>) {
        self.uphold(LAWS, crossing);
    }

    fn uphold(&mut self, laws: &[(&'static str, Law)], crossing: &Crossing<'_>) {
        self.edges += 1;
        self.passes += usize::from(crossing.effects.iter().any(|e| matches!(e, Effect::Pass(..))));
        for (name, law) in laws {
            if self.breaches.len() < 20
                && let Err(what) = law(crossing)
            {
                self.breaches.push((name, format!("after {:?} {:?}: {what}", crossing.side, crossing.input)));
            }
        }
    }
}

/// So many states of each start are walked in the wide: with every header, element and channel there is, limits as they are by
/// default, and a clock. That graph has no end. Each claim has a name of its own and each time that comes moves deadlines to
/// new ones, so states far from the start are never those of before; what ends is walked to its end in `explore/whole.rs`, where limits
/// are small, the clock stands still and histories with high names are not followed. Here it is what happens near the start that
/// counts: words in an order that no peer would think of.
const RELAY_STATES: usize = 150;

fn relay_graph() -> &'static Walked {
    static GRAPH: OnceLock<Walked> = OnceLock::new();
    GRAPH.get_or_init(|| {
        let now = Instant::now();
        let listed =
            policy(Federation::Listed, "version: v1\nrules:\n  - { name: ok, domains: [friend.example] }\n");
        let none = policy(Federation::None, "version: v1\nrules: []\n");
        let mut inputs: Vec<(Side, Input)> = Vec::new();
        for side in [Side::Near, Side::Far(FarId(1)), Side::Far(FarId(2)), Side::Far(FarId(4))] {
            inputs.extend(elements().into_iter().map(|f| (side, Input::Token(Token::Element(f)))));
            inputs.extend(refused().into_iter().map(|token| (side, Input::Token(token))));
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
                inputs.push((side, Input::Yield));
                inputs.push((side, Input::Connected([192, 0, 2, 9].into(), None)));
                inputs.push((side, Input::Unreachable(Reason::RemoteUnreachable.into())));
            }
        }
        for claim in [1, 3] {
            for answer in [KeyAnswer::Valid, KeyAnswer::Invalid, KeyAnswer::Trouble(Reason::RemoteNotFound)] {
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
            starts.push(Relay::new(std::sync::Arc::new(relays()), listed.clone(), arrival, now));
        }
        // Far from the start, so that what follows an admitted pair is walked as well.
        let mut inside = inbound(relays(), listed.clone(), "friend.example", &[]);
        admit(&mut inside, "friend.example", "hall.example");
        starts.push(inside.relay);
        let mut outside = Stage::new(relays(), listed.clone(), Flow::S2sOut, None);
        outside.hears(NEAR, &answer("", false));
        outside.hears(NEAR, "<db:result from='hall.example' to='friend.example'>k1</db:result>");
        starts.push(outside.relay);
        for (sender, target, load) in [
            ("hall.example", "friend.example", Load::Own),
            ("hall.example", "friend.example", Load::Carried),
            ("friend.example", "hall.example", Load::Report),
        ] {
            let mut made = courier(relays(), listed.clone(), sender, target, load);
            let error = if load == Load::Report { " type='error'" } else { "" };
            let stanza = format!("<message from='a@{sender}' to='b@{target}'{error}/>");
            made.step(NEAR, Input::Queue(load, stanza.clone().into()));
            inputs.push((Side::Near, Input::Queue(load, stanza.into())));
            starts.push(made.relay);
        }
        inputs.extend(counting().into_iter().map(|f| (Side::Near, Input::Token(Token::Element(f)))));
        inputs.extend(counted().map(|input| (Side::Near, input)));
        inputs.extend([Input::Yield, Input::Alive].map(|input| (Side::Near, input)));
        inputs.extend([true, false].map(|serves| (Side::Near, Input::Serves(serves))));
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
        // Where the clock stands still every deadline has come already.
        let laws: Vec<_> = LAWS.iter().copied().filter(|(name, _)| *name != "bounded").collect();
        std::thread::scope(|scope| {
            let laws = &laws;
            let walk = move |of: whole::Use| {
                let mut walked = Walked::default();
                let begun = Instant::now();
                let states = whole::walk(&of, |crossing| walked.uphold(laws, crossing));
                println!("{}: {states:?} states in {:?}", of.name, begun.elapsed());
                walked.uses.push((of.name, of.end, states));
                walked
            };
            let walks: Vec<_> = whole::uses().into_iter().map(|of| scope.spawn(move || walk(of))).collect();
            walks.into_iter().for_each(|walk| walked.add(walk.join().unwrap()));
        });
        walked
    })
}

#[test]
fn what_a_relay_is_used_for_is_walked_to_its_end() {
    let uses = &relay_graph().uses;
    for (name, least, states) in uses {
        assert!(
            states.is_some_and(|states| states >= *least),
            "{name} has no end, or is not begun: {uses:?}"
        );
    }
}

#[test]
fn the_graphs_are_of_a_size_that_was_looked_at() {
    // Each class of state is there, so that no law holds for want of cases.
    let states = receiving_graph(|_, _, _| {});
    assert!((20..50_000).contains(&states.len()), "receiving: {}", states.len());
    assert_eq!(states.iter().map(std::mem::discriminant).collect::<HashSet<_>>().len(), 4);
    let states = initiating_graph(|_, _, _, _| {});
    assert!((20..50_000).contains(&states.len()), "initiating: {}", states.len());
    assert_eq!(states.iter().map(std::mem::discriminant).collect::<HashSet<_>>().len(), 9);
    assert!(relay_graph().edges > 100_000, "{}", relay_graph().edges);
    assert!(relay_graph().passes > 100, "stanzas pass somewhere: {}", relay_graph().passes);
}

// DB-69: only errors that this gateway wrote pass on a report stream, and no octet of a peer.
#[test]
fn reports_only() {
    relay_graph().upholds("reports_only");
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

// SM-08: in the relay by its law; in the machines, stanzas of a peer are taken on a stream of ours only where that was agreed on,
// and nothing is agreed on in clear.
#[test]
fn only_inverses_go_back() {
    relay_graph().upholds("only_inverses_go_back");
    let mut agreed = 0;
    receiving_graph(|state, _, stepped| {
        if let Ok((after, _)) = stepped
            && after.is_bidi()
        {
            agreed += 1;
            assert!(after.is_secured(), "{state:?}");
        }
    });
    let mut came = 0;
    initiating_graph(|terms, state, input, stepped| {
        if let Ok((_, effects)) = stepped
            && effects.iter().any(|e| matches!(e, initiating::Effect::Pass(_)))
        {
            came += 1;
            assert!(terms.bidi && state.is_bidi() && state.is_secured(), "{state:?} {input:?}");
        }
    });
    assert!(agreed > 10 && came > 10, "{agreed} and {came}");
}

// XML-17.
#[test]
fn refused_ends_nothing() {
    relay_graph().upholds("refused_ends_nothing");
}

#[test]
fn cipher_before_word() {
    receiving_graph(|state, input, stepped| {
        // A ruling in clear exists only where a rule says `tls: none`; the relay's walk has no such rule.
        if state.is_secured() || matches!(input, receiving::Input::Ruled(..) | receiving::Input::Vouched(..))
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
        if terms.facing == Facing::Backend || terms.clear || state.is_secured() || direct {
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

// ERR-01.
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

// SM-01: what a peer says of counting is taken where it was asked to count, and nothing of it stands in for a proof.
#[test]
fn only_asked_counts() {
    let mut taken = 0;
    initiating_graph(|terms, state, input, stepped| {
        let Ok((next, effects)) = stepped else { return };
        for effect in effects {
            match effect {
                initiating::Effect::Acknowledged(_) => {
                    assert!(matches!(state, Initiating::Established(_)) && terms.manage != Manage::Off);
                    taken += 1;
                }
                initiating::Effect::Established(established) if established.managed.count != Count::Off => {
                    assert!(matches!(state, Initiating::Managing(_)), "{state:?} {input:?}");
                    let resumed = matches!(established.managed.count, Count::Resumed(_));
                    assert!(!resumed || matches!(terms.manage, Manage::Resume(_)));
                    taken += 1;
                }
                _ => {}
            }
        }
        if matches!(next, Initiating::Managing(_)) && !matches!(state, Initiating::Managing(_)) {
            assert!(
                matches!(state, Initiating::Awaiting(_) | Initiating::Featuring(_)),
                "{state:?} {input:?}"
            );
        }
    });
    assert!(taken > 10, "{taken}");
}

// SM-01: a session is of somebody who is proven, on the very stream.
#[test]
fn counted_behind_proof() {
    relay_graph().upholds("counted_behind_proof");
}

#[test]
fn home_is_home() {
    relay_graph().upholds("home_is_home");
}

#[test]
fn deny_by_default() {
    relay_graph().upholds("deny_by_default");
}

#[test]
fn bounded() {
    relay_graph().upholds("bounded");
}

#[test]
fn closed_words() {
    relay_graph().upholds("closed_words");
}
