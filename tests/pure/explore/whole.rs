//! The graph of each use of the relay between servers, walked to its end.
//!
//! A relay is equal to another if both would do the same from here on, so the graph ends by itself, but for what has no end:
//! names of claims and legs go up, and so do numbers of stanzas that are counted: a relay may be given one after the other for ever.
//! An edge on which a name above [`Use::names`], or a number above [`COUNTED`], is given is looked at and not followed. Limits are small, so that what happens at them is in the graph.

mod said;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse::policy::{Federation, Policy};
use gatehouse::reason::{Facing, Flow};
use gatehouse::relay::{
    Arrival, ClaimId, Effect, FarId, Input, LaneId, Load, Relay, RelayParams, Side, StreamLimits, Timeouts,
};
use gatehouse::stream::KeyCheck;
use gatehouse::xml::Token;

use self::said::*;
use super::essence::{end_of_value, hash};
use super::laws::{Crossing, counting, facts};
use super::stage::*;

/// More states than a walk to the end comes to: whoever needs more has made a graph without an end.
const END: usize = 20_000;

/// One use of the relay, where its walk begins, and all that may happen to it.
pub struct Use {
    pub name: &'static str,
    pub start: Relay,
    pub inputs: Vec<(Side, Input)>,
    /// The highest name of a claim, leg or lane that is given in a history.
    pub names: u32,
    /// At least so many states are walked, to the end.
    pub end: usize,
    now: Instant,
}

/// Every use between servers.
pub fn uses() -> Vec<Use> {
    let now = Instant::now();
    let listed =
        policy(Federation::Listed, "version: v1\nrules:\n  - { name: ok, domains: [friend.example] }\n");
    let none = policy(Federation::None, "version: v1\nrules: []\n");
    let small = Arc::new(small());
    let arrival = |flow, secured| {
        let arrival = Arrival { flow, address: [192, 0, 2, 7].into(), secured, seed: [3; 32] };
        Relay::new(Arc::clone(&small), Arc::clone(&listed), arrival, now)
    };
    let courier = |sender, target, load| {
        Relay::courier(Arc::clone(&small), Arc::clone(&listed), pair(sender, target), (load, None), now).0
    };
    let verifier = |facing| {
        let check =
            KeyCheck { pair: pair("friend.example", "hall.example"), stream: "i".into(), key: "k1".into() };
        Relay::verifier(Arc::clone(&small), Arc::clone(&listed), facing, check, now).0
    };
    let (far1, far2) = (Side::Far(FarId(1)), Side::Far(FarId(2)));
    let peer = || [from_peer(), from_backend(far2), beside(far2), any_time(&none)].concat();
    let moved = {
        let mut moved = RelayParams::clone(&small);
        moved.hosted.remove(&domain("hall.example"));
        Arc::new(moved)
    };
    let made = |name, names, end, start, inputs| Use { name, start, inputs, names, end, now };
    let queue = |load: Load, sender: &str, target: &str| {
        let error = if load == Load::Report { " type='error'" } else { "" };
        let stanza = format!("<message from='a@{sender}' to='b@{target}'{error}/>");
        let mut inputs = any_time(&none);
        inputs.push((Side::Near, Input::Queue(load, stanza.into())));
        inputs.push((far1, overflow(sender, target)));
        // For a place others wait with reports alone.
        inputs.extend((load == Load::Report).then_some((Side::Near, Input::Yield)));
        inputs
    };
    let (hall, friend) = ("hall.example", "friend.example");
    // A leg begins anew, which is walked here from its beginning: the walks of legs that go both ways begin behind that.
    let alive = || vec![(Side::Near, Input::Alive)];
    vec![
        made("inbound in clear", 2, 3000, arrival(Flow::S2sIn, None), peer()),
        made("inbound by TLS", 2, 3000, arrival(Flow::S2sIn, Some(facts()[0].clone())), peer()),
        made("inbound counted", 2, 2500, enrolled(&small, &listed), [peer(), from_counting_peer()].concat()),
        made("inbound both ways", 3, 1500, agreed(&small, &listed), [peer(), goes_back(&listed)].concat()),
        made(
            "inbound both ways counted",
            3,
            1500,
            both_ways_counted(&small, &listed),
            [
                from_counting_peer(),
                goes_back(&listed),
                gone_on(),
                from_backend(far2),
                beside(far2),
                any_time(&none),
            ]
            .concat(),
        ),
        made("inbound looked up", 2, 5000, looked_up(&small), [peer(), published()].concat()),
        made(
            "outbound",
            4,
            200,
            arrival(Flow::S2sOut, None),
            [from_caller(&moved), any_time(&none)].concat(),
        ),
        made(
            "courier of a backend",
            2,
            9000,
            courier(hall, friend, Load::Own),
            [from_world(far1), from_world(far2), queue(Load::Own, hall, friend), alive()].concat(),
        ),
        made(
            "courier whose peer counts",
            3,
            11000,
            counted(&small, &listed, now),
            [
                from_counter(far1),
                from_world(far2),
                from_counter(far2),
                queue(Load::Own, hall, friend),
                alive(),
            ]
            .concat(),
        ),
        made(
            "courier both ways",
            2,
            10000,
            called(&small, &listed, false),
            [from_world(far1), comes_back(far1), from_world(far2), queue(Load::Own, hall, friend)].concat(),
        ),
        made(
            "courier both ways whose peer counts",
            3,
            600,
            called(&small, &listed, true),
            [from_counter(far1), comes_back(far1), from_counter(far2), queue(Load::Own, hall, friend)]
                .concat(),
        ),
        made(
            "courier of the gateway",
            2,
            400,
            courier(friend, hall, Load::Carried),
            [from_backend(far1), from_backend(far2), queue(Load::Carried, friend, hall)].concat(),
        ),
        made(
            "courier of reports",
            2,
            1900,
            courier(friend, hall, Load::Report),
            [from_backend(far1), from_backend(far2), queue(Load::Report, friend, hall)].concat(),
        ),
        made(
            "verifier in the world",
            1,
            140,
            verifier(Facing::Public),
            [from_world(far1), any_time(&none)].concat(),
        ),
        made(
            "verifier inside",
            1,
            6,
            verifier(Facing::Backend),
            [from_backend(far1), any_time(&none)].concat(),
        ),
    ]
}

/// A peer that has its pair, and has us count.
fn enrolled(relays: &Arc<RelayParams>, policy: &Arc<Policy>) -> Relay {
    let mut stage =
        inbound(RelayParams::clone(relays), Arc::clone(policy), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    assert!(stage.has(|effect| matches!(effect, Effect::Enlist(_))));
    stage.relay
}

/// A peer that has agreed to both ways and has its pair.
fn agreed(relays: &Arc<RelayParams>, policy: &Arc<Policy>) -> Relay {
    let mut stage =
        inbound(RelayParams::clone(relays), Arc::clone(policy), "friend.example", &["friend.example"]);
    stage.hears(NEAR, "<bidi xmlns='urn:xmpp:bidi'/>");
    admit(&mut stage, "friend.example", "hall.example");
    assert!(stage.has(|effect| matches!(effect, Effect::WayBack(_, true))));
    stage.relay
}

/// A peer that has agreed to both ways, has its pair, and has us count.
fn both_ways_counted(relays: &Arc<RelayParams>, policy: &Arc<Policy>) -> Relay {
    let mut relays = RelayParams::clone(relays);
    relays.timeouts.resume = Duration::from_secs(60);
    let mut stage = Stage::of((agreed(&Arc::new(relays), policy), Vec::new()));
    stage.wake(&header("friend.example", "hall.example"));
    stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    assert!(stage.has(|effect| matches!(effect, Effect::Enlist(Some(_)))));
    stage.relay
}

/// A peer that shows a certificate of nobody's: what its domain publishes about it is looked up (DNS-15).
fn looked_up(small: &Arc<RelayParams>) -> Relay {
    let policy = policy(
        Federation::Listed,
        "version: v1\nrules:\n  - { name: ok, domains: [friend.example], identity: [dane, dialback] }\n",
    );
    let relays = RelayParams { dnssec: true, ..RelayParams::clone(small) };
    let shown = untrusted("hall.example", "nobody.example");
    let mut stage = Stage::new(relays, policy, Flow::S2sIn, Some(shown));
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    assert!(stage.has(|effect| matches!(effect, Effect::Inquire(..))));
    stage.relay
}

/// A courier that has asked its peer to answer on its leg.
fn called(relays: &Arc<RelayParams>, policy: &Arc<Policy>, counts: bool) -> Relay {
    let mut stage =
        courier(RelayParams::clone(relays), Arc::clone(policy), "hall.example", "friend.example", Load::Own);
    let far = Side::Far(FarId(1));
    stage.connected(FarId(1), Some(secured("", &["friend.example"])));
    stage.hears(far, &answer("one", true));
    stage.hears(
        far,
        &format!(
            "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>{BIDI}{}</stream:features>",
            if counts { "<sm xmlns='urn:xmpp:sm:3'/>" } else { "" }
        ),
    );
    assert!(stage.said(far).contains("urn:xmpp:bidi"));
    if counts {
        stage.hears(far, "<db:result from='friend.example' to='hall.example' type='valid'/>");
        stage.hears(far, "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>");
    }
    stage.relay
}

/// What happens at a limit is a few steps away.
fn small() -> RelayParams {
    let mut relays = relays();
    relays.limits = StreamLimits {
        pairs: 1,
        pending: 1,
        sasl_attempts: 2,
        questions: 1,
        refusals: 1,
        queue_stanzas: 1,
        inside_queue: 100,
        inside_pairs: 1,
        inside_pending: 1,
        unacked_stanzas: 1,
        ..StreamLimits::default()
    };
    // A clock that stands still: whatever is waited for may be over as soon as the wait begins. The order of deadlines is
    // the matter of the walk beside this one, which has a clock and no end.
    let zero = Duration::ZERO;
    relays.timeouts = Timeouts {
        header: zero,
        tls: zero,
        unauth: zero,
        dialback: zero,
        queue: zero,
        close: zero,
        acknowledgement: zero,
        resume: zero,
        idle: zero,
        verify_idle: zero,
        courier: zero,
        report: zero,
    };
    relays
}

/// A courier of a backend whose stream is counted.
fn counted(relays: &Arc<RelayParams>, listed: &Arc<Policy>, now: Instant) -> Relay {
    let whom = pair("hall.example", "friend.example");
    let mut stage =
        Stage::of(Relay::courier(Arc::clone(relays), Arc::clone(listed), whom, (Load::Own, None), now));
    let far = Side::Far(FarId(1));
    stage.connected(FarId(1), Some(secured("", &["friend.example"])));
    stage.hears(far, &answer("id-1", true));
    for frame in counting().into_iter().take(1) {
        stage.step(far, Input::Token(Token::Element(frame)));
    }
    stage.hears(far, "<db:result from='friend.example' to='hall.example' type='valid'/>");
    stage.hears(far, "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>");
    assert!(stage.relay.snapshot(None).pairs[0].managed.is_some_and(|kept| kept.resumes));
    stage.relay
}

/// What a state is walked as; none if a number of a stanza in it is above [`COUNTED`]. Why a leg ends is told and written, and so often another that it would multiply all: of states that
/// differ in nothing else one is walked. So it is with what each machine counts by itself, which is in its own graph; of the rest it
/// matters whether its limit is reached. One key is like another.
fn essence(relay: &Relay) -> Option<u64> {
    let text = format!("{relay:?}").replace("\"k2\"", "\"k1\"");
    let (mut essence, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some((at, (field, most))) =
        FIELDS.iter().filter_map(|field| Some((rest.find(field.0)?, *field))).min()
    {
        let (before, behind) = rest.split_at(at + field.len());
        let end = end_of_value(behind);
        essence += before;
        // Of stanzas that come back against the flow the number is told alone, and is no such number here: `Taken(2)`.
        if let Ok(count) = behind[..end].parse::<u64>() {
            if most == COUNTED && count > most {
                return None;
            }
            essence += &count.min(most).to_string();
        }
        rest = &behind[end..];
    }
    Some(hash(&(essence + rest)))
}

/// Numbers of stanzas go up for ever where they are counted, as names do: states in which they are no higher are walked.
const COUNTED: u64 = 2;

/// Fields that [`essence`] leaves out, or counts so far.
const FIELDS: [(&str, u64); 9] = [
    (", detail: ", 0),
    (", reason: ", 0),
    (" failures: ", 0),
    (" questions: ", 0),
    (" refusals: ", 2),
    (" repeats: ", 1),
    (" settled: ", COUNTED),
    (" taken: ", COUNTED),
    (" unasked: ", 0),
];

/// The highest name that these effects give.
fn named(effects: &[Effect]) -> u32 {
    let names = effects.iter().map(|effect| match effect {
        Effect::Connect(FarId(name), _)
        | Effect::Verify(ClaimId(name), _)
        | Effect::OpenLane(LaneId(name), _) => *name,
        _ => 0,
    });
    names.max().unwrap_or_default()
}

/// A word for each input, and all those words: whoever adds an input adds it here, and to a walk.
macro_rules! words_of_inputs {
    ($($word:ident),* $(,)?) => {
        fn word(input: &Input) -> &'static str {
            match input { $(Input::$word { .. } => stringify!($word),)* }
        }

        const WORDS: &[&str] = &[$(stringify!($word)),*];
    };
}

words_of_inputs!(
    Token,
    Secured,
    Connected,
    Unreachable,
    Gone,
    Stalled,
    Overflow,
    Refused,
    Queue,
    Report,
    Back,
    Withdraw,
    Yield,
    Alive,
    Serves,
    Resumed,
    GoneOn,
    Forsaken,
    Overtaken,
    Settled,
    Verified,
    Inquired,
    Vouched,
    Tried,
    Policy,
    Retrusted,
    RelayParams,
    Expired,
    Drain,
    Close,
);

/// What no list of inputs has: [`answered`] gives the first wherever it is asked for, and only a client's relay asks for the second.
const ELSEWHERE: [&str; 2] = ["Serves", "Tried"];

#[test]
fn every_input_is_given_in_some_walk() {
    let given: HashSet<_> = uses()
        .iter()
        .flat_map(|of| of.inputs.iter().map(|(_, input)| word(input)).collect::<Vec<_>>())
        .collect();
    for word in WORDS {
        assert_ne!(given.contains(word), ELSEWHERE.contains(word), "{word}");
    }
    assert!(super::client::whole::is_given(|input| matches!(input, Input::Tried(_))));
}

/// Every input in every state that can be reached. Gives the number of states; none if there are more than the most.
pub fn walk(of: &Use, mut look: impl FnMut(&Crossing<'_>)) -> Option<usize> {
    // Most edges lead to a state that was met already, which is found out at less cost than what it is walked as.
    let mut met = HashSet::from([hash(&of.start)]);
    let mut seen: HashSet<(u64, usize)> =
        essence(&of.start).map(|essence| (essence, 0)).into_iter().collect();
    let mut open = VecDeque::from([(of.start.clone(), 0)]);
    while let Some((before, relays)) = open.pop_front() {
        for (side, input) in &of.inputs {
            // The pump gives no token of a side that is not read.
            if matches!(input, Input::Token(_)) && !before.wants_read(*side) {
                continue;
            }
            // Nor what goes back, where there is no room for it, or what went before may yet be asked for.
            if matches!(input, Input::Back(..)) && (before.room_back() == Some(false) || before.holds_back())
            {
                continue;
            }
            // Its text does not tell which params it has.
            let relays = match input {
                Input::RelayParams(relays) => Arc::as_ptr(relays) as usize,
                _ => relays,
            };
            let mut after = before.clone();
            let at = match input {
                Input::Expired => before.deadline().unwrap_or(of.now),
                _ => of.now,
            };
            let effects = after.step(*side, input.clone(), at);
            look(&Crossing { before: &before, side: *side, input, effects: &effects, after: &after });
            if named(&effects) > of.names {
                continue;
            }
            let serves = effects.iter().any(|effect| matches!(effect, Effect::Serves));
            let next = match serves {
                false => vec![after],
                true => [true, false].map(|serves| answered(&after, serves, at, &mut look)).into(),
            };
            // With one that has nothing left to do the pump ends.
            let mut is_new = |next: &Relay| {
                met.insert(hash(next)) && essence(next).is_some_and(|essence| seen.insert((essence, relays)))
            };
            open.extend(
                next.into_iter().filter(|next| !next.is_done() && is_new(next)).map(|next| (next, relays)),
            );
        }
        if seen.len() > END {
            return None;
        }
    }
    Some(seen.len())
}

/// What follows at once where the relay asks whether it serves anybody.
fn answered(before: &Relay, serves: bool, at: Instant, look: &mut impl FnMut(&Crossing<'_>)) -> Relay {
    let (side, input) = (Side::Near, Input::Serves(serves));
    let mut after = before.clone();
    let effects = after.step(side, input.clone(), at);
    look(&Crossing { before, side, input: &input, effects: &effects, after: &after });
    after
}
