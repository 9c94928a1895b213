//! Whole relays: any inputs in any order, from states near the door and far from it, under the laws of `tests/pure/explore.rs`
//! on each step and under those that only a whole life can break.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

#[path = "../../pure/explore/client_laws.rs"]
mod client_laws;
#[path = "../../pure/explore/laws.rs"]
mod laws;
#[path = "../stage.rs"]
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse::policy::{Federation, Policy};
use gatehouse::reason::{Facing, Flow, Reason};
use gatehouse::relay::{
    Arrival, ClaimId, Destination, Effect, Event, FarId, Input, KeysBy, Left, Load, Passing, Relay,
    RelayParams, Said, Side,
};
use gatehouse::stream::{KeyAnswer, KeyCheck, Pair, Secured, dialback};
use gatehouse::xml::{Content, Framer, Kind, Limits, Token};
use laws::{Crossing, Law};
use stage::{admit, any, domain, inbound, pair, policy, relays, secured, untrusted};

/// Stanzas that passed one of these relays or were delivered, so that no law holds for want of them.
pub static PASSED: AtomicUsize = AtomicUsize::new(0);

/// Stanzas that travelled against the flow of a stream that goes both ways.
pub static AGAINST: AtomicUsize = AtomicUsize::new(0);

/// A relay between servers: the first octet tells where it begins, the rest what happens to it.
pub fn relay(data: &[u8]) {
    let Some((&start, script)) = data.split_first() else { return };
    let mut life = begin(start);
    life.live(script);
}

/// The same for a relay of a client.
pub fn relay_client(data: &[u8]) {
    let Some((&start, script)) = data.split_first() else { return };
    let mut relays = relays();
    relays.default_domain = (start & 2 != 0).then(|| domain("hall.example"));
    if start & 4 != 0 {
        relays.clients.get_mut(&domain("hall.example")).unwrap().registration = true;
    }
    let direct = (start & 1 != 0).then(|| secured("hall.example", &[]));
    let now = Instant::now();
    let arrival =
        Arrival { flow: Flow::C2s, address: [192, 0, 2, 7].into(), secured: direct.clone(), seed: [3; 32] };
    let relay = Relay::new(Arc::new(relays), any(), arrival, now);
    let mut life = Life::of(relay, Alphabet::of_clients(), client_laws::LAWS, now);
    life.note_secured(Side::Near, direct.is_some());
    life.live(script);
}

/// Where the life of a relay between servers begins.
fn begin(start: u8) -> Life {
    let mut relays = relays();
    relays.default_domain = (start & 0x10 != 0).then(|| domain("hall.example"));
    if start & 0x20 != 0 {
        for hosted in relays.hosted.values_mut() {
            (hosted.keys_by, hosted.multiplex) = (KeysBy::Verify, false);
        }
    }
    let listed = Arc::clone(&policies()[0]);
    let flow = if start & 1 == 0 { Flow::S2sIn } else { Flow::S2sOut };
    let ends = match flow {
        Flow::S2sIn => pair("friend.example", "hall.example"),
        _ => pair("hall.example", "friend.example"),
    };
    let now = Instant::now();
    match start >> 1 & 7 {
        0 | 1 => {
            let direct =
                (start & 2 != 0 && flow == Flow::S2sIn).then(|| secured("hall.example", &["friend.example"]));
            let arrival =
                Arrival { flow, address: [192, 0, 2, 7].into(), secured: direct.clone(), seed: [7; 32] };
            let relay = Relay::new(Arc::new(relays), listed, arrival, now);
            let mut life = Life::of(relay, Alphabet::of_servers(), laws::LAWS, now);
            life.note_secured(Side::Near, direct.is_some());
            life
        }
        2 => {
            // What unproven peers have caused, what a backend sends, and reports to a backend.
            let load = match (flow, start & 0x40 != 0) {
                (Flow::S2sOut, true) => Load::Own,
                (_, true) => Load::Report,
                (_, false) => Load::Carried,
            };
            let (relay, effects) = Relay::courier(Arc::new(relays), listed, ends, (load, None), now);
            let mut life = Life::of(relay, Alphabet::of_servers(), COURIER, now).after(&effects);
            life.courier = true;
            // It is made for a stanza.
            life.step(Side::Near, Input::Queue(load, stanza(life.alphabet, 0).expect("a stanza")));
            life
        }
        3 => {
            let check = KeyCheck { pair: ends, stream: "i".into(), key: "k1".into() };
            let facing = if flow == Flow::S2sIn { Facing::Public } else { Facing::Backend };
            let (relay, effects) = Relay::verifier(Arc::new(relays), listed, facing, check, now);
            let mut life = Life::of(relay, Alphabet::of_servers(), COURIER, now).after(&effects);
            life.may_answer = true;
            life
        }
        // Inside, with one pair that stands.
        _ => {
            let names: &[&str] = if start & 2 == 0 { &[] } else { &["friend.example"] };
            let mut stage = inbound(relays, listed, "friend.example", names);
            if names.is_empty() {
                admit(&mut stage, "friend.example", "hall.example");
            }
            let now = stage.now;
            let effects = std::mem::take(&mut stage.effects);
            let mut life = Life::of(stage.relay, Alphabet::of_servers(), laws::LAWS, now);
            life.note_secured(Side::Near, true);
            life.after(&effects)
        }
    }
}

/// What a relay without a near leg is held to: it has no guard, and nobody claims anything on it.
const COURIER: &[(&str, Law)] = &[
    ("canonical_only", laws::relay_canonical_only),
    ("fault_is_final", laws::relay_fault_is_final),
    ("bounded", laws::relay_bounded),
    ("closed_words", laws::relay_closed_words),
];

/// Policies that all know friend.example only.
fn policies() -> &'static [Arc<Policy>] {
    static POLICIES: OnceLock<Vec<Arc<Policy>>> = OnceLock::new();
    POLICIES.get_or_init(|| {
        let rule = |more: &str| {
            format!("version: v1\nrules:\n  - {{ name: ok, domains: [friend.example]{more} }}\n")
        };
        let mut all: Vec<_> = [
            "",
            ", direction: inbound",
            ", identity: [certificate]",
            ", identity: [dialback]",
            ", tls: \"1.3\", stanzas: { allow: [message] }, limits: { streams: 2 }",
            ", networks: [203.0.113.0/24]",
            ", verdict: deny",
        ]
        .iter()
        .map(|more| policy(Federation::Listed, &rule(more)))
        .collect();
        all.push(policy(Federation::None, "version: v1\nrules: []\n"));
        all
    })
}

/// What the two sides may say, ready made.
struct Alphabet {
    content: Content,
    near: Vec<Token>,
    far: Vec<Token>,
    facts: Vec<Secured>,
}

impl Alphabet {
    fn of_servers() -> &'static Self {
        static ALPHABET: OnceLock<Alphabet> = OnceLock::new();
        ALPHABET.get_or_init(|| {
            let mut near: Vec<_> = laws::elements().into_iter().map(Token::Element).collect();
            near.extend(laws::headers().into_iter().map(Token::Header));
            near.extend([Token::End, Token::Keepalive]);
            near.extend(laws::refused());
            near.extend(laws::counting().into_iter().map(Token::Element));
            let mut facts = laws::facts();
            facts.push(secured("annex.example", &["hall.example", "friend.example"]));
            facts.push(secured("", &["stranger.example", "*.example"]));
            Self { content: Content::Server, far: near.clone(), near, facts }
        })
    }

    fn of_clients() -> &'static Self {
        static ALPHABET: OnceLock<Alphabet> = OnceLock::new();
        ALPHABET.get_or_init(|| {
            let with_headers = |elements: Vec<_>| {
                let mut all: Vec<_> = elements.into_iter().map(Token::Element).collect();
                all.extend(client_laws::headers().into_iter().map(Token::Header));
                all.extend([Token::End, Token::Keepalive]);
                all
            };
            let near = with_headers(client_laws::from_client());
            let far = with_headers(client_laws::from_server());
            let facts = vec![secured("", &[]), secured("hall.example", &[]), untrusted("", "x.example")];
            Self { content: Content::Client, near, far, facts }
        })
    }

    /// What a framer makes of octets: in a stream that is open, or at its beginning.
    fn read(&self, octets: &[u8], open: bool) -> Vec<Token> {
        let mut framer = Framer::new(Limits::before_proof(), self.content);
        if open {
            framer.feed(&match self.content {
                Content::Client => gatehouse::stream::client::opening(None, None, None, None),
                Content::Server => gatehouse::stream::opening(None, None, None, true),
            });
        }
        framer.feed(octets);
        std::iter::from_fn(|| framer.next()).skip(usize::from(open)).take(8).collect()
    }
}

/// A relay, its clock, and what may be said of its past.
struct Life {
    relay: Relay,
    alphabet: &'static Alphabet,
    laws: &'static [(&'static str, Law)],
    now: Instant,
    start: Instant,
    /// Sides under TLS.
    secured: BTreeSet<Side>,
    /// Sides on which TLS was asked for and is not there yet.
    upgrading: BTreeSet<Side>,
    /// Sides that have heard our closing tag, and sides whose connection we gave up.
    closed: BTreeSet<Side>,
    over: BTreeSet<Side>,
    /// Sides whose stream the other end has closed: a framer gives nothing behind a closing tag or a violation.
    ended: BTreeSet<Side>,
    /// Stanzas handed to each far leg: what an outbox can give back.
    passed: BTreeMap<Side, Vec<Bytes>>,
    /// Pairs that were admitted, ever.
    admitted: BTreeSet<(String, String)>,
    /// Keys that went out.
    keys: Vec<KeyCheck>,
    courier: bool,
    /// The near side said that its stream is broken: what it says behind that is not looked at (RFC 6120 4.9.1.1).
    broken: bool,
    may_answer: bool,
    records: usize,
}

impl Life {
    fn of(
        relay: Relay,
        alphabet: &'static Alphabet,
        laws: &'static [(&'static str, Law)],
        now: Instant,
    ) -> Self {
        Self {
            relay,
            alphabet,
            laws,
            now,
            start: now,
            secured: BTreeSet::new(),
            upgrading: BTreeSet::new(),
            closed: BTreeSet::new(),
            over: BTreeSet::new(),
            ended: BTreeSet::new(),
            passed: BTreeMap::new(),
            admitted: BTreeSet::new(),
            keys: Vec::new(),
            courier: false,
            broken: false,
            may_answer: false,
            records: 0,
        }
    }

    /// These effects were before.
    fn after(mut self, effects: &[Effect]) -> Self {
        effects.iter().for_each(|effect| self.remember(effect));
        self
    }

    fn note_secured(&mut self, side: Side, is: bool) {
        if is {
            self.secured.insert(side);
        }
    }

    fn live(&mut self, script: &[u8]) {
        let mut script = script.iter().copied();
        for _ in 0..64 {
            if !self.turn(&mut script) {
                break;
            }
        }
        // Left alone, it ends: a wait for each deadline that it names, and no more of them than there are kinds of waits.
        for _ in 0..64 {
            let Some(at) = self.relay.deadline() else { break };
            self.now = self.now.max(at);
            self.step(Side::Near, Input::Expired);
        }
        if !self.relay.is_bound() {
            let waits = self.relay.deadline();
            assert!(
                self.relay.is_done() || waits.is_none_or(|at| at > self.start + Duration::from_secs(60)),
                "{:?}",
                self.relay
            );
        }
    }

    /// One thing happens; false when the script is at its end.
    fn turn(&mut self, script: &mut impl Iterator<Item = u8>) -> bool {
        let (Some(what), Some(which)) = (script.next(), script.next()) else { return false };
        let pick = usize::from(which);
        // A client has one far leg.
        let number = if self.relay.flow() == Flow::C2s { 1 } else { 1 + u32::from(what >> 5) };
        let far = Side::Far(FarId(number));
        let side = if what & 0x10 == 0 { Side::Near } else { far };
        let alphabet = self.alphabet;
        let input = match what & 0x0f {
            0..=2 => {
                let list = if side == Side::Near { &alphabet.near } else { &alphabet.far };
                return self.hears(side, list[pick % list.len()].clone());
            }
            open @ (3 | 4) => {
                let octets: Vec<u8> = script.take(pick).collect();
                return alphabet.read(&octets, open == 3).into_iter().all(|token| self.hears(side, token));
            }
            5 => Input::Secured(alphabet.facts[pick % alphabet.facts.len()].clone()),
            6 => {
                let facts =
                    pick.checked_sub(128).map(|pick| alphabet.facts[pick % alphabet.facts.len()].clone());
                return self.step(far, Input::Connected([192, 0, 2, which].into(), facts));
            }
            7 => {
                let answers =
                    [KeyAnswer::Valid, KeyAnswer::Invalid, KeyAnswer::Trouble(Reason::RemoteNotFound)];
                Input::Verified(ClaimId(1 + u32::from(what >> 4)), answers[pick % 3])
            }
            8 => Input::Gone { reason: reason(pick), unsent: self.unsent(side, pick) },
            9 => {
                self.now += Duration::from_millis(u64::from(which) * 400);
                Input::Expired
            }
            10 => {
                self.now = self.now.max(self.relay.deadline().unwrap_or(self.now));
                Input::Expired
            }
            11 => Input::Policy(Arc::clone(&policies()[pick % policies().len()])),
            12 => {
                return self.step(
                    far,
                    if which & 1 == 0 { Input::Unreachable(reason(pick).into()) } else { Input::Stalled },
                );
            }
            // Only a courier is given stanzas to carry.
            13 if self.courier && which & 1 == 0 => match stanza(alphabet, pick) {
                Some(octets) => Input::Queue(Load::Carried, octets),
                None => return true,
            },
            13 => match self.unsent(far, pick).pop() {
                Some(octets) => return self.step(far, Input::Overflow(octets)),
                None => return true,
            },
            14 => match self.keys.get(pick % self.keys.len().max(1)).cloned() {
                // Somebody asks about a key of ours, and somebody answers us with it.
                Some(check) if which & 1 == 0 => {
                    let octets = dialback::write_ask(&check).into_bytes();
                    return alphabet
                        .read(&octets, true)
                        .into_iter()
                        .all(|token| self.hears(Side::Near, token));
                }
                Some(check) => Input::Vouched(check, which & 2 == 0),
                None => Input::Tried(if which & 1 == 0 { Ok(()) } else { Err(Reason::LoginThrottled) }),
            },
            _ => match which % 7 {
                0 => Input::Drain,
                1 => Input::Close(reason(pick)),
                2 => Input::Tried(if which & 0x80 == 0 { Ok(()) } else { Err(Reason::LoginThrottled) }),
                3 => Input::Stalled,
                5 => Input::Settled(u32::from(which >> 4)),
                6 if which & 0x80 == 0 => Input::Resumed(None),
                6 => Input::Resumed(Some((Left::taken(u32::from(which >> 4)), domain("friend.example")))),
                // What a backend sends over a stream of the peer, and what becomes of that when it breaks.
                4 if which & 0x80 != 0 => match which / 7 % 5 {
                    0 => Input::Back(pair("hall.example", "friend.example"), reply()),
                    1 => Input::GoneOn(u32::from(what >> 4)),
                    2 => Input::Forsaken,
                    3 => Input::Overtaken,
                    _ => Input::Withdraw(pair("hall.example", "friend.example"), reason(pick)),
                },
                _ => Input::RelayParams(Arc::new(RelayParams {
                    default_domain: Some(domain("annex.example")),
                    ..relays()
                })),
            },
        };
        self.step(side, input)
    }

    /// The last few stanzas that went to that side.
    fn unsent(&self, side: Side, pick: usize) -> Vec<Bytes> {
        let all = self.passed.get(&side).map_or(&[][..], Vec::as_slice);
        all[all.len().saturating_sub(pick % 4)..].to_vec()
    }

    /// The pump gives no token of a side that is not read, nor of a connection that is no more.
    fn hears(&mut self, side: Side, token: Token) -> bool {
        if self.over.contains(&side) || self.ended.contains(&side) || !self.relay.wants_read(side) {
            return true;
        }
        if matches!(token, Token::End | Token::Violation(_)) {
            self.ended.insert(side);
        }
        self.step(side, Input::Token(token))
    }

    fn step(&mut self, side: Side, input: Input) -> bool {
        let before = self.relay.clone();
        match &input {
            Input::Secured(_) => {
                // A handshake that was not asked for does not come out.
                if !self.upgrading.remove(&side) {
                    return true;
                }
                self.secured.insert(side);
            }
            Input::Connected(_, Some(_)) => self.note_secured(side, true),
            _ => {}
        }
        let effects = self.relay.step(side, input.clone(), self.now);
        let crossing =
            Crossing { before: &before, side, input: &input, effects: &effects, after: &self.relay };
        for (name, law) in self.laws {
            if let Err(what) = law(&crossing) {
                panic!("{name}: after {side:?} {input:?}: {what}");
            }
        }
        self.leaves_a_trace(&crossing);
        for effect in &effects {
            self.allows(effect);
            self.remember(effect);
        }
        let again = before.clone().step(side, input, self.now);
        assert_eq!(again.len(), effects.len(), "the same input in the same state");
        true
    }

    /// No stanza goes in silence: it passes, goes back, is noted, or ends its stream.
    fn leaves_a_trace(&self, crossing: &Crossing<'_>) {
        let Input::Token(Token::Element(frame)) = crossing.input else { return };
        let open =
            !self.broken && !self.closed.contains(&crossing.side) && !self.over.contains(&crossing.side);
        if crossing.side == Side::Near && open && frame.head().kind() != Kind::Other {
            assert!(!crossing.effects.is_empty(), "in silence: {:?}", crossing.input);
        }
    }

    fn facing(&self, side: Side) -> Facing {
        let near = match self.relay.flow() {
            Flow::S2sOut => Facing::Backend,
            _ => Facing::Public,
        };
        match (side, near) {
            (Side::Near, facing) => facing,
            (_, Facing::Public) => Facing::Backend,
            (_, Facing::Backend) => Facing::Public,
        }
    }

    /// What the past forbids.
    fn allows(&self, effect: &Effect) {
        let speaks = |side: Side, octets: &Bytes| {
            assert!(!self.over.contains(&side), "to a connection that was given up: {effect:?}");
            assert!(!self.closed.contains(&side), "behind the closing tag: {effect:?}");
            // The law cipher_before_word; no policy here says `tls: none`.
            let clear = self.facing(side) == Facing::Public && !self.secured.contains(&side);
            assert!(!clear || laws::may_go_in_clear(octets), "in clear: {effect:?}");
            assert!(!self.upgrading.contains(&side) || !clear, "while TLS begins: {effect:?}");
        };
        match effect {
            Effect::Send(side, octets) => speaks(*side, octets),
            Effect::Deliver(octets) => {
                PASSED.fetch_add(1, Ordering::Relaxed);
                speaks(Side::Near, octets);
            }
            Effect::Pass(id, Passing { octets, .. }) => {
                PASSED.fetch_add(1, Ordering::Relaxed);
                speaks(Side::Far(*id), octets);
                if self.relay.flow() != Flow::C2s && !self.courier {
                    // The law proof_before_pass, by the addresses of the stanza itself.
                    let ends = ends(octets).expect("a stanza between servers has both addresses");
                    let known = (ends.sender.to_string(), ends.target.to_string());
                    assert!(self.admitted.contains(&known), "{ends} was never admitted: {effect:?}");
                }
            }
            Effect::Back(pair, octets) => {
                AGAINST.fetch_add(1, Ordering::Relaxed);
                speaks(Side::Near, octets);
                let known = (pair.sender.to_string(), pair.target.to_string());
                assert!(self.admitted.contains(&known), "{pair} was never admitted: {effect:?}");
            }
            Effect::Inward(_, pair, _) => {
                AGAINST.fetch_add(1, Ordering::Relaxed);
                let known = (pair.sender.to_string(), pair.target.to_string());
                assert!(self.admitted.contains(&known), "{pair} was never admitted: {effect:?}");
            }
            Effect::Answer(..) => assert!(self.may_answer, "an answer that nobody waits for"),
            // The law deny_by_default, for names of any spelling: no cost for anybody but the one that is listed.
            Effect::Connect(_, Destination::World { target, .. }) => {
                assert_eq!(target.as_str(), "friend.example", "{effect:?}");
            }
            Effect::Connect(_, Destination::Backend(hosted) | Destination::Client(hosted)) => {
                assert!(["hall.example", "annex.example"].contains(&hosted.as_str()), "{effect:?}");
            }
            Effect::Note(Event::Closed { .. } | Event::Left { .. }) => {
                assert_eq!(self.records, 0, "told twice: {effect:?}")
            }
            _ => {}
        }
    }

    fn remember(&mut self, effect: &Effect) {
        match effect {
            Effect::Send(side, octets) if octets.ends_with(b"</stream:stream>") => {
                self.closed.insert(*side);
            }
            Effect::Pass(id, stanza) => {
                self.passed.entry(Side::Far(*id)).or_default().push(stanza.octets.clone());
            }
            Effect::Upgrade(side) => {
                self.upgrading.insert(*side);
            }
            Effect::Finish(side) | Effect::Cut(side) => {
                self.over.insert(*side);
                self.upgrading.remove(side);
            }
            Effect::Retry(id, _) => {
                let side = Side::Far(*id);
                self.passed.remove(&side);
                let sets = [
                    &mut self.secured,
                    &mut self.upgrading,
                    &mut self.closed,
                    &mut self.over,
                    &mut self.ended,
                ];
                for set in sets {
                    set.remove(&side);
                }
            }
            Effect::Await(_, check) | Effect::Vouch(check, _) | Effect::Verify(_, check) => {
                self.keys.push(check.clone())
            }
            Effect::Answer(..) => self.may_answer = false,
            Effect::Note(Event::Admitted { pair, .. }) => {
                self.admitted.insert((pair.sender.to_string(), pair.target.to_string()));
            }
            Effect::Note(Event::Closed { .. } | Event::Left { .. }) => self.records += 1,
            Effect::Note(Event::StreamError { said: Said::Received, facing, .. }) => {
                self.broken |= *facing == self.facing(Side::Near);
            }
            _ => {}
        }
    }
}

fn reason(pick: usize) -> Reason {
    Reason::ALL[pick % Reason::ALL.len()]
}

/// A stanza that goes back.
fn reply() -> Bytes {
    let text = "<message from='b@hall.example' to='a@friend.example'><body>x</body></message>";
    laws::frame(text).octets().clone()
}

/// Some stanza of the alphabet.
fn stanza(alphabet: &Alphabet, pick: usize) -> Option<Bytes> {
    let mut stanzas = alphabet.near.iter().filter_map(|token| match token {
        Token::Element(frame) if frame.head().kind() != Kind::Other => Some(frame.octets().clone()),
        _ => None,
    });
    stanzas.nth(pick / 2 % 4)
}

/// The two domains of a stanza.
fn ends(octets: &Bytes) -> Option<Pair> {
    let frame = laws::frame(std::str::from_utf8(octets).unwrap());
    let of = |address: Option<std::borrow::Cow<'_, str>>| {
        let address = address?;
        let bare = address.split('/').next()?;
        gatehouse::jid::Domain::parse(bare.rsplit('@').next()?).ok()
    };
    Some(Pair { sender: of(frame.head().from())?, target: of(frame.head().to())? })
}
