//! The graph of each use of the relay between servers, walked to its end where that is within reach.
//!
//! A relay is equal to another if both would do the same from here on, so the graph ends by itself, but for what has no end:
//! names of claims and legs go up, and a relay may be given one claim after the other for ever. An edge on which a name above
//! [`Use::names`] is given is looked at and not followed. Limits are small, so that what happens at them is in the graph.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse::policy::{Federation, Policy};
use gatehouse::reason::{Facing, Flow, Reason};
use gatehouse::relay::{
    Arrival, ClaimId, Effect, FarId, Home, Input, LaneId, Load, Relay, Side, StreamLimits, Timeouts,
};
use gatehouse::stream::{Answer, KeyCheck};
use gatehouse::xml::Token;

use super::laws::{counted as counted_outside, *};
use super::stage::*;

/// More states than a walk to the end comes to: whoever needs more has made a graph without an end.
const END: usize = 20_000;

/// States of those that have no end, for stanzas are counted on them, or whose end nobody has walked to yet: couriers of reports, and
/// those that go both ways.
const CEILING: usize = 1_500;

/// One use of the relay, where its walk begins, and all that may happen to it.
pub struct Use {
    pub name: &'static str,
    pub start: Relay,
    pub inputs: Vec<(Side, Input)>,
    /// The highest name of a claim, leg or lane that is given in a history.
    pub names: u32,
    /// At least so many states are walked, to the end; none: that is not within reach.
    pub end: Option<usize>,
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
    let peer = || [from_peer(), from_backend(far2), any_time(&none)].concat();
    let made = |name, names, end, start, inputs| Use { name, start, inputs, names, end, now };
    let queue = |load: Load, sender: &str, target: &str| {
        let error = if load == Load::Report { " type='error'" } else { "" };
        let stanza = format!("<message from='a@{sender}' to='b@{target}'{error}/>");
        let mut inputs = any_time(&none);
        inputs.push((Side::Near, Input::Queue(load, stanza.into())));
        // For a place others wait with reports alone.
        inputs.extend((load == Load::Report).then_some((Side::Near, Input::Yield)));
        inputs
    };
    let (hall, friend) = ("hall.example", "friend.example");
    vec![
        made("inbound in clear", 2, Some(1000), arrival(Flow::S2sIn, None), peer()),
        made("inbound by TLS", 2, Some(1000), arrival(Flow::S2sIn, Some(facts()[0].clone())), peer()),
        made("inbound counted", 2, None, enrolled(&small, &listed), [peer(), from_counting_peer()].concat()),
        made(
            "inbound both ways",
            3,
            Some(400),
            agreed(&small, &listed),
            [peer(), goes_back(&listed)].concat(),
        ),
        made(
            "outbound",
            4,
            Some(100),
            arrival(Flow::S2sOut, None),
            [from_caller(), any_time(&none)].concat(),
        ),
        made(
            "courier of a backend",
            2,
            Some(3000),
            courier(hall, friend, Load::Own),
            [from_world(far1), from_world(far2), queue(Load::Own, hall, friend)].concat(),
        ),
        made(
            "courier whose peer counts",
            3,
            None,
            counted(&small, &listed, now),
            [from_counter(far1), from_world(far2), from_counter(far2), queue(Load::Own, hall, friend)]
                .concat(),
        ),
        made(
            "courier both ways",
            2,
            None,
            called(&small, &listed, false),
            [from_world(far1), comes_back(far1), from_world(far2), queue(Load::Own, hall, friend)].concat(),
        ),
        made(
            "courier both ways whose peer counts",
            3,
            None,
            called(&small, &listed, true),
            [from_counter(far1), comes_back(far1), from_counter(far2), queue(Load::Own, hall, friend)]
                .concat(),
        ),
        made(
            "courier of the gateway",
            2,
            Some(300),
            courier(friend, hall, Load::Carried),
            [from_backend(far1), from_backend(far2), queue(Load::Carried, friend, hall)].concat(),
        ),
        made(
            "courier of reports",
            2,
            None,
            courier(friend, hall, Load::Report),
            [from_backend(far1), from_backend(far2), queue(Load::Report, friend, hall)].concat(),
        ),
        made(
            "verifier in the world",
            1,
            Some(100),
            verifier(Facing::Public),
            [from_world(far1), any_time(&none)].concat(),
        ),
        made(
            "verifier inside",
            1,
            Some(5),
            verifier(Facing::Backend),
            [from_backend(far1), any_time(&none)].concat(),
        ),
    ]
}

/// A peer that has its pair, and has us count.
fn enrolled(home: &Arc<Home>, policy: &Arc<Policy>) -> Relay {
    let mut stage = inbound(Home::clone(home), Arc::clone(policy), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    assert!(stage.has(|effect| matches!(effect, Effect::Enlist(_))));
    stage.relay
}

/// A peer that has agreed to both ways and has its pair.
fn agreed(home: &Arc<Home>, policy: &Arc<Policy>) -> Relay {
    let mut stage = inbound(Home::clone(home), Arc::clone(policy), "friend.example", &["friend.example"]);
    stage.hears(NEAR, "<bidi xmlns='urn:xmpp:bidi'/>");
    admit(&mut stage, "friend.example", "hall.example");
    assert!(stage.has(|effect| matches!(effect, Effect::WayBack(_, true))));
    stage.relay
}

/// A courier that has asked its peer to answer on its leg.
fn called(home: &Arc<Home>, policy: &Arc<Policy>, counts: bool) -> Relay {
    let mut stage =
        courier(Home::clone(home), Arc::clone(policy), "hall.example", "friend.example", Load::Own);
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

/// What backends send back over the stream of a peer, and what becomes of the way.
fn goes_back(listed: &Arc<Policy>) -> Vec<(Side, Input)> {
    let stanza =
        |from: &str, to: &str| format!("<message from='b@{from}' to='a@{to}'><body>x</body></message>");
    let back = |from: &str, to: &str| Input::Back(pair(from, to), stanza(from, to).into());
    let unsent = vec![stanza("hall.example", "friend.example").into()];
    let mut inputs = vec![
        back("hall.example", "friend.example"),
        back("annex.example", "friend.example"),
        back("hall.example", "stranger.example"),
        Input::Withdraw(pair("hall.example", "friend.example"), Reason::TooManyPairs),
        Input::Policy(Arc::clone(listed)),
        Input::Gone { reason: Reason::ConnectionLost, unsent },
        element("<bidi xmlns='urn:xmpp:bidi'/>"),
        element("<message from='b@hall.example' to='a@friend.example'/>"),
    ];
    let mut worthless = facts()[0].certificate.clone().unwrap();
    worthless.trust.default = Err(gatehouse::stream::TrustFault::Revoked);
    inputs.push(Input::Retrusted(worthless));
    all(Side::Near, inputs)
}

/// What a peer sends back over a leg of ours, and what becomes of it.
fn comes_back(side: Side) -> Vec<(Side, Input)> {
    let offers =
        format!("<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>{BIDI}</stream:features>");
    let mut inputs: Vec<_> = [
        offers.as_str(),
        "<message from='b@hall.example' to='a@friend.example'/>",
        "<message from='a@stranger.example' to='b@hall.example'/>",
        "<iq from='a@friend.example' to='b@hall.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
    ]
    .map(element)
    .into();
    inputs.extend(refused().into_iter().take(2).map(Input::Token));
    let came = "<message from='a@friend.example' to='b@hall.example'/>";
    inputs.push(Input::Refused(came.into(), Reason::SenderTooFast));
    let mut all = all(side, inputs);
    all.push((Side::Near, Input::Withdraw(pair("friend.example", "hall.example"), Reason::TooManyStreams)));
    all
}

const BIDI: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";

/// What happens at a limit is a few steps away.
fn small() -> Home {
    let mut home = home();
    home.limits = StreamLimits {
        pairs: 1,
        pending: 1,
        sasl_attempts: 2,
        questions: 1,
        refusals: 1,
        queue_stanzas: 1,
        inside_queue: 100,
        inside_pairs: 1,
        inside_pending: 1,
        ..StreamLimits::default()
    };
    // A clock that stands still: whatever is waited for may be over as soon as the wait begins. The order of deadlines is
    // the matter of the walk beside this one, which has a clock and no end.
    let zero = Duration::ZERO;
    home.timeouts = Timeouts {
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
    home
}

fn element(text: &str) -> Input {
    Input::Token(Token::Element(frame(text)))
}

fn all(side: Side, inputs: impl IntoIterator<Item = Input>) -> Vec<(Side, Input)> {
    inputs.into_iter().map(|input| (side, input)).collect()
}

/// What a peer says of counting, and what comes of it outside.
fn from_counting_peer() -> Vec<(Side, Input)> {
    let mut inputs: Vec<_> =
        counting().into_iter().skip(6).map(|frame| Input::Token(Token::Element(frame))).collect();
    inputs.extend(counted_outside());
    all(Side::Near, inputs)
}

/// What strangers and peers do. What each machine counts by itself (attempts, questions, answers that nobody asked for) is
/// in the machines' own graphs and not here, where it would only multiply.
fn from_peer() -> Vec<(Side, Input)> {
    let said = [
        &format!("<starttls xmlns='{TLS}'/>"),
        &format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>"),
        "<db:result from='friend.example' to='hall.example'>k1</db:result>",
        "<db:result from='friend.example' to='hall.example'>k2</db:result>",
        "<db:result from='stranger.example' to='hall.example'>k1</db:result>",
        "<message from='a@friend.example' to='b@hall.example'><body>x</body></message>",
        "<message from='a@stranger.example' to='b@hall.example'><body>x</body></message>",
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<unknown xmlns='urn:example'/>",
    ];
    let mut inputs: Vec<_> = said.map(element).into();
    inputs.extend(refused().into_iter().step_by(3).map(Input::Token));
    for names in [("friend.example", "hall.example"), ("stranger.example", "hall.example")] {
        inputs.push(greeting(names));
    }
    inputs.push(Input::Token(Token::End));
    inputs.extend(facts().into_iter().take(1).map(Input::Secured));
    inputs.extend([Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }, Input::Stalled]);
    for claim in [1, 3] {
        for answer in [Answer::Valid, Answer::Invalid] {
            inputs.push(Input::Verified(ClaimId(claim), answer));
        }
    }
    all(Side::Near, inputs)
}

fn greeting((from, to): (&str, &str)) -> Input {
    let header = headers()
        .into_iter()
        .find(|header| header.from.as_deref() == Some(from) && header.to.as_deref() == Some(to));
    Input::Token(Token::Header(header.unwrap()))
}

/// What a backend does on the stream that it opened.
fn from_caller() -> Vec<(Side, Input)> {
    let said = [
        "<db:result from='hall.example' to='friend.example'>k1</db:result>",
        "<db:result from='hall.example' to='stranger.example'>k1</db:result>",
        "<db:verify from='friend.example' to='hall.example' id='i'>k1</db:verify>",
        "<message from='b@hall.example' to='a@friend.example'><body>x</body></message>",
        "<message from='b@hall.example' to='a@stranger.example'><body>x</body></message>",
        "<message from='a@friend.example' to='b@hall.example'><body>x</body></message>",
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<unknown xmlns='urn:example'/>",
    ];
    let mut inputs: Vec<_> = said.map(element).into();
    inputs.extend(refused().into_iter().map(Input::Token));
    inputs.push(greeting(("hall.example", "friend.example")));
    inputs.push(Input::Token(Token::End));
    inputs.extend([Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }, Input::Stalled]);
    let check =
        KeyCheck { pair: pair("friend.example", "hall.example"), stream: "i".into(), key: "k1".into() };
    inputs.extend([true, false].map(|known| Input::Vouched(check.clone(), known)));
    all(Side::Near, inputs)
}

/// What a backend does on a stream that we opened.
fn from_backend(side: Side) -> Vec<(Side, Input)> {
    let said = [
        "<db:result from='hall.example' to='friend.example' type='valid'/>",
        "<db:result from='hall.example' to='friend.example' type='invalid'/>",
        "<db:verify from='friend.example' to='hall.example' id='i' type='valid'/>",
        "<stream:error><invalid-from xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<message from='b@hall.example' to='a@friend.example'/>",
    ];
    let mut inputs: Vec<_> = said.map(element).into();
    // The header of a server without a version.
    inputs.extend(headers().into_iter().skip(8).take(1).map(|h| Input::Token(Token::Header(h))));
    inputs.extend(leg());
    all(side, inputs)
}

/// A courier of a backend whose stream is counted.
fn counted(home: &Arc<Home>, listed: &Arc<Policy>, now: Instant) -> Relay {
    let whom = pair("hall.example", "friend.example");
    let mut stage =
        Stage::of(Relay::courier(Arc::clone(home), Arc::clone(listed), whom, (Load::Own, None), now));
    let far = Side::Far(FarId(1));
    stage.connected(FarId(1), Some(secured("", &["friend.example"])));
    stage.hears(far, &answer("id-1", true));
    for frame in counting().into_iter().take(1) {
        stage.step(far, Input::Token(Token::Element(frame)));
    }
    stage.hears(far, "<db:result from='friend.example' to='hall.example' type='valid'/>");
    stage.hears(far, "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>");
    assert!(stage.relay.portrait(None).pairs[0].managed.is_some_and(|kept| kept.resumes));
    stage.relay
}

/// What it says of counting there.
fn from_counter(side: Side) -> Vec<(Side, Input)> {
    all(side, counting().into_iter().map(|frame| Input::Token(Token::Element(frame))))
}

/// What a server in the world does on a stream that we opened.
fn from_world(side: Side) -> Vec<(Side, Input)> {
    let tls = format!("xmlns='{TLS}'");
    let sasl = format!("xmlns='{SASL}'");
    let said = [
        "<db:result from='friend.example' to='hall.example' type='valid'/>",
        "<db:result from='friend.example' to='hall.example' type='invalid'/>",
        "<db:verify from='friend.example' to='hall.example' id='i' type='valid'/>",
        &format!("<proceed {tls}/>"),
        &format!("<success {sasl}/>"),
        &format!("<failure {sasl}><not-authorized/></failure>"),
        &format!(
            "<stream:features><starttls {tls}/><mechanisms {sasl}><mechanism>EXTERNAL</mechanism></mechanisms>\
             <dialback xmlns='urn:xmpp:features:dialback'/></stream:features>"
        ),
        "<message from='a@friend.example' to='b@hall.example'/>",
    ];
    let mut inputs: Vec<_> = said.map(element).into();
    inputs.extend(headers().into_iter().skip(9).take(1).map(|h| Input::Token(Token::Header(h))));
    inputs.extend(facts().into_iter().take(1).map(Input::Secured));
    inputs.extend(leg());
    all(side, inputs)
}

/// What happens to any leg that we opened.
fn leg() -> Vec<Input> {
    let unsent = vec!["<message from='a@friend.example' to='b@hall.example'/>".into()];
    vec![
        Input::Connected([192, 0, 2, 9].into(), None),
        Input::Unreachable(Reason::RemoteUnreachable.into()),
        Input::Token(Token::End),
        Input::Gone { reason: Reason::ConnectionLost, unsent },
        Input::Yield,
        Input::Close(Reason::TooManyPairs),
    ]
}

/// What time, the operator and the process do.
fn any_time(none: &Arc<Policy>) -> Vec<(Side, Input)> {
    all(
        Side::Near,
        [
            Input::Expired,
            Input::Drain,
            Input::Policy(Arc::clone(none)),
            Input::Close(Reason::ClosedByOperator),
        ],
    )
}

fn hash(of: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(of)
}

/// What a state is walked as. Why a leg ends is told and written, and so often another that it would multiply all: of states that
/// differ in nothing else one is walked. So it is with what each machine counts by itself, which is in its own graph; of the rest it
/// matters whether its limit is reached. One key is like another.
fn essence(relay: &Relay) -> u64 {
    let text = format!("{relay:?}").replace("\"k2\"", "\"k1\"");
    let (mut essence, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some((at, (field, most))) =
        FIELDS.iter().filter_map(|field| Some((rest.find(field.0)?, *field))).min()
    {
        let (before, behind) = rest.split_at(at + field.len());
        let end = end_of_value(behind);
        essence += before;
        if let Ok(count) = behind[..end].parse::<u64>() {
            essence += &count.min(most).to_string();
        }
        rest = &behind[end..];
    }
    hash(&(essence + rest))
}

/// Fields that [`essence`] leaves out, or counts so far.
const FIELDS: [(&str, u64); 7] = [
    (", detail: ", 0),
    (", reason: ", 0),
    (" failures: ", 0),
    (" questions: ", 0),
    (" refusals: ", 2),
    (" repeats: ", 1),
    (" unasked: ", 0),
];

/// Where the value of a field ends that this begins with.
fn end_of_value(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'(' | b'[' => depth += 1,
            b',' | b' ' if depth == 0 => return at,
            b'}' | b')' | b']' if depth == 0 => return at,
            b'}' | b')' | b']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The highest name that these effects give.
fn named(effects: &[Effect]) -> u32 {
    let names = effects.iter().map(|effect| match effect {
        Effect::Connect(FarId(name), _)
        | Effect::Verify(ClaimId(name), _)
        | Effect::Lane(LaneId(name), _) => *name,
        _ => 0,
    });
    names.max().unwrap_or_default()
}

/// Every input in every state that can be reached. Gives the number of states; none if there are more than the most.
pub fn walk(of: &Use, mut look: impl FnMut(&Crossing<'_>)) -> Option<usize> {
    // Most edges lead to a state that was met already, which is found out at less cost than what it is walked as.
    let mut met = HashSet::from([hash(&of.start)]);
    let mut seen = HashSet::from([essence(&of.start)]);
    let mut open = VecDeque::from([of.start.clone()]);
    let most = if of.end.is_some() { END } else { CEILING };
    while let Some(before) = open.pop_front() {
        for (side, input) in &of.inputs {
            // The pump gives no token of a side that is not read.
            if matches!(input, Input::Token(_)) && !before.wants_read(*side) {
                continue;
            }
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
            let mut is_new = |next: &Relay| met.insert(hash(next)) && seen.insert(essence(next));
            open.extend(next.into_iter().filter(|next| !next.is_done() && is_new(next)));
        }
        if seen.len() > most {
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
