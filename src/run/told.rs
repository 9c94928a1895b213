//! What stands around an event, for the log, the records and the list of refusals: the address that was called, the
//! channel, the cause, and where the rule stands. The relays need none of it to decide, and bring none of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::now;
use super::pump::{Far, Pump};
use super::registry::Meta;
use crate::policy::{Action, Place, RuleName};
use crate::reason::{Cause, Class, Detail, Direction, Flow, Outcome, Reason};
use crate::relay::{self, ClaimId, Destination, Event, Input, Record, Side, Stroke};
use crate::stream::{Answer, Method, Pair, Secured};
use crate::xml::{Element, Kind, Rule, Token, names};

/// What is known beside an event.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The address that was called: the remote server's, outbound; the backend's where it is the trouble.
    pub called: Option<SocketAddr>,
    /// The channel to the remote side.
    pub channel: Option<Secured>,
    /// What it was in particular.
    pub detail: Option<Detail>,
    /// Where the rule stands that decided.
    pub place: Option<Place>,
    /// Its rule was looked for among those of the policy, and this one looks most like it.
    pub nearest: Option<String>,
    /// The rule that decided, where the event does not bring it.
    pub rule: Option<RuleName>,
    /// A refusal of the same stream was told already: this is its consequence.
    pub told: bool,
    /// Whether the refusal itself was told before.
    pub before: Before,
}

/// Whether a refusal is news: one event has one line, one entry and one record, whatever comes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// The same happened on this stream a moment ago.
    Again,
    /// The pair was refused, and this stanza went back for that.
    Follows,
    /// It is.
    #[default]
    News,
}

/// What a relay's events are completed from.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Pairs that may not pass.
    denied: HashMap<Pair, Denied>,
    /// The patch that kept a stanza away just now.
    patch: Option<(RuleName, Place)>,
    /// Why a login was refused last.
    login: Option<Reason>,
    /// How pairs stand in public, outbound: a leg may be gone when its end is told.
    proven: HashMap<Pair, Proven>,
    /// A refusal was told.
    told: bool,
    /// What the verifier met whose answer is being dealt with.
    met: Option<Box<Detail>>,
}

/// A pair that may not pass, and what was told of that.
#[derive(Debug)]
struct Denied {
    reason: Reason,
    rule: Option<RuleName>,
    place: Option<Place>,
    told: Option<Instant>,
    /// It was told of the pair, and not of a stanza.
    whole: bool,
}

impl Memory {
    /// The pair may not pass for this reason; a known one that is the same goes on.
    fn deny(&mut self, pair: &Pair, reason: Reason) -> &mut Denied {
        if self.denied.len() >= PAIRS && !self.denied.contains_key(pair) {
            self.denied.clear();
        }
        let fresh = || Denied { reason, rule: None, place: None, told: None, whole: false };
        let denied = self.denied.entry(pair.clone()).or_insert_with(fresh);
        if denied.reason != reason {
            *denied = fresh();
        }
        denied
    }

    /// Whether this refusal is news, which it is no more from now on.
    fn once(&mut self, event: &Event, carried: bool, now: Instant) -> Before {
        let (pair, reason, whole) = match event {
            Event::Rejected { record, .. } => (record.pair.as_ref(), record.reason, true),
            Event::Refused { pair, reason, .. } => (pair.as_ref(), *reason, false),
            _ => return Before::News,
        };
        self.told = true;
        let Some(pair) = pair else { return Before::News };
        // What was given to a courier goes back for what became of its one pair.
        let denied = match whole || carried {
            true => self.deny(pair, reason),
            // What is refused for itself, and not for its pair, is told each time.
            false => match self.denied.get_mut(pair).filter(|denied| denied.reason == reason) {
                Some(denied) => denied,
                None => return Before::News,
            },
        };
        if !whole && denied.whole {
            return Before::Follows;
        }
        if denied.told.is_some_and(|at| now < at + AGAIN) {
            return Before::Again;
        }
        (denied.told, denied.whole) = (Some(now), whole);
        Before::News
    }
}

#[derive(Debug, Default)]
struct Proven {
    called: Option<SocketAddr>,
    channel: Option<Secured>,
    method: Option<Method>,
    server: Option<Method>,
}

/// What the other side says of a trouble, if that is what this token is.
fn said(token: &Token) -> Option<Detail> {
    let Token::Element(frame) = token else { return None };
    let head = frame.head();
    if head.kind() != Kind::Other {
        return None;
    }
    let namespace = if frame.is(names::STREAMS, "error") {
        names::STREAM_ERRORS
    } else if frame.is(names::SASL, "failure") {
        names::SASL
    } else if head.namespace() == names::DIALBACK && head.is_type("error") {
        let answer = frame.tree();
        let error = answer.elements().find(|child| child.name == "error")?;
        return Some(words(error, names::STANZA_ERRORS));
    } else {
        return None;
    };
    Some(words(&frame.tree(), namespace))
}

fn words(error: &Element, namespace: &str) -> Detail {
    let mut conditions =
        error.elements().filter(|child| child.namespace == namespace && child.name != "text");
    let condition =
        conditions.next().map_or_else(|| "no condition".to_owned(), |child| child.name.to_string());
    let text = error.child(namespace, "text").map(Element::text);
    Detail::said(&condition, text.as_deref())
}

impl Pump {
    /// Tells what happened, with what is known around it.
    pub(super) fn tell(&mut self, event: Event) {
        let event = self.completed(event);
        let mut around = self.around(&event);
        if matches!(event, Event::Rejected { .. } | Event::Refused { .. }) {
            let carried = self.near.is_none();
            around.before = self.memory.get_or_insert_default().once(&event, carried, now());
        }
        self.tools.observe.note_with(&self.meta_of(&event), &event, &around);
    }

    /// What is said of a pair that travels against the flow of the relay is of the other flow (XEP-0288).
    fn meta_of(&self, event: &Event) -> Meta {
        let pair = match event {
            Event::Judged { pair, .. }
            | Event::Shadowed { pair, .. }
            | Event::Otherwise { pair, .. }
            | Event::Authenticated { pair, .. }
            | Event::Admitted { pair, .. } => Some(pair),
            Event::Ended { record } => record.pair.as_ref(),
            // A name that nobody has proven is no pair's.
            Event::Refused { pair, .. } if self.meta.flow == Flow::S2sOut => pair.as_ref(),
            _ => None,
        };
        let flow = match self.meta.flow {
            Flow::S2sIn => Flow::S2sOut,
            Flow::S2sOut => Flow::S2sIn,
            Flow::C2s => Flow::C2s,
        };
        match pair.is_some_and(|pair| self.is_inverse(pair)) {
            true => Meta { flow, ..self.meta },
            false => self.meta,
        }
    }

    /// Whether this pair travels against the flow of the relay: it does so where it was admitted, and may have ended since.
    fn is_inverse(&self, pair: &Pair) -> bool {
        let home = &self.tools.home;
        match (self.meta.flow, &self.near) {
            (Flow::S2sIn, Some(_)) => self.backs.as_ref().is_some_and(|backs| backs.has(pair)),
            (Flow::S2sOut, None) => home.hosts(&pair.target) && !home.hosts(&pair.sender),
            _ => false,
        }
    }

    /// What this token says of a trouble is remembered for whoever asks why.
    pub(super) fn overhear(&mut self, side: Side, token: &Token) {
        if matches!(token, Token::Violation(violation) if violation.rule == Rule::Readers) {
            self.tools.observe.metrics().readers_disagree();
        }
        if let (Some(said), Some(leg)) = (said(token), self.leg(side)) {
            leg.detail = Some(Box::new(said));
        }
    }

    /// The verifier has come back: what it met explains what follows from its answer.
    pub(super) fn verified(&mut self, claim: ClaimId, answer: Answer, met: Option<Box<Detail>>) {
        if met.is_some() {
            self.memory.get_or_insert_default().met = met;
        }
        self.step(Side::Near, Input::Verified(claim, answer));
        if let Some(memory) = &mut self.memory {
            memory.met = None;
        }
    }

    /// What a verifier met on its way, with the address where it did: the near leg of whoever asked is another connection.
    pub(super) fn met_by_verifier(&self, answer: Answer, detail: Option<Box<Detail>>) -> Option<Box<Detail>> {
        let Answer::Trouble(_) = answer else { return None };
        let far = self.fars.values().next_back()?;
        let met = far.leg.given_up().map(Box::new).or(detail).or_else(|| far.leg.detail.clone())?;
        let place = match far.leg.address() {
            Some(address) => format!("asking the authoritative server at {address}"),
            None => "asking the authoritative server".to_owned(),
        };
        let particulars = match &*met.particulars {
            "" => place,
            known => format!("{known}, {place}"),
        };
        Some(Box::new(Detail::new(met.cause, particulars)))
    }

    /// A leg is proven: how, is needed again when the pair ends.
    pub(super) fn remember(&mut self, side: Side) {
        let Side::Far(id) = side else { return };
        let Some(far) = self.fars.get(id) else { return };
        let Destination::World { from, target, .. } = &far.destination else { return };
        let pair = Pair { sender: from.clone(), target: target.clone() };
        let (called, channel) = (far.leg.called, far.leg.secured.clone());
        let known = self.memory.get_or_insert_default().proven.entry(pair).or_default();
        (known.called, known.channel) = (called, channel);
    }

    /// The event with what the relay no longer knows.
    fn completed(&mut self, mut event: Event) -> Event {
        match &mut event {
            Event::Authenticated { pair, method, outcome: Outcome::Allow, .. }
                if self.meta.flow == Flow::S2sOut =>
            {
                let known = self.memory.get_or_insert_default().proven.entry(pair.clone()).or_default();
                known.method = Some(*method);
            }
            Event::Admitted { pair, server: Some(server), .. } => {
                let known = self.memory.get_or_insert_default().proven.entry(pair.clone()).or_default();
                known.server = Some(*server);
            }
            Event::Judged { pair, verdict } if !verdict.is_allow() => {
                let denied = self.memory.get_or_insert_default().deny(pair, verdict.reason);
                (denied.rule, denied.place) = (Some(verdict.rule.clone()), verdict.place.clone());
            }
            Event::Judged { pair, .. } => {
                if let Some(memory) = &mut self.memory {
                    memory.denied.remove(pair);
                }
            }
            Event::Login { outcome: Outcome::Deny, reason, .. } => {
                self.memory.get_or_insert_default().login = Some(*reason);
            }
            Event::Patched { patch, place, stroke: Stroke::Acted(Action::Deny), .. } => {
                self.memory.get_or_insert_default().patch = Some((patch.clone(), place.clone()));
            }
            Event::Ended { record } => {
                if let Some(known) =
                    record.pair.as_ref().and_then(|pair| self.memory.as_ref()?.proven.get(pair))
                {
                    complete(record, known);
                }
            }
            _ => {}
        }
        event
    }

    fn around(&mut self, event: &Event) -> Around {
        if let Event::Unfit { pair: Some(pair), reason: Reason::OnLists, address, .. } = event {
            let listed = self.tools.registry.policy().listed(&pair.target, &pair.sender, address.as_deref());
            let detail = listed.map(|listed| Detail::new(Cause::OnLists, listed.to_string()));
            return Around { detail, ..Around::default() };
        }
        if let Event::Unfit { reason: Reason::Patched, .. } = event {
            let patch = self.memory.as_mut().and_then(|memory| memory.patch.take());
            let (rule, place) = patch.unzip();
            return Around { rule, place, ..Around::default() };
        }
        let memory = self.memory.as_deref();
        let (pair, reason) = match event {
            Event::Judged { pair, verdict } if !verdict.is_allow() => (Some(pair), verdict.reason),
            Event::Authenticated { pair, outcome: Outcome::Deny, reason, .. } => (Some(pair), *reason),
            Event::Admitted { pair, reason, .. } => (Some(pair), *reason),
            Event::Rejected { record, .. } | Event::Ended { record } | Event::Closed { record } => {
                (record.pair.as_ref(), record.reason)
            }
            Event::Refused { pair, reason, .. } => (pair.as_ref(), *reason),
            Event::StreamError { .. } => (None, Reason::PeerError),
            Event::Backend { .. } => (None, Reason::BackendDown),
            Event::Left { record, .. } => (None, record.reason),
            Event::Login { detail, .. } => return Around { detail: detail.clone(), ..Around::default() },
            _ => return Around::default(),
        };
        let told = memory.is_some_and(|memory| {
            memory.told || (matches!(event, Event::Closed { .. }) && memory.login == Some(reason))
        });
        let public = self.public(pair);
        let known = pair.and_then(|pair| memory?.proven.get(pair));
        let channel = public
            .and_then(|far| far.leg.shown.clone())
            .or_else(|| known.and_then(|known| known.channel.clone()))
            .or_else(|| {
                let near = self.meta.flow != Flow::S2sOut;
                near.then(|| self.relay.channel(Side::Near).cloned()).flatten()
            });
        let mut called =
            public.and_then(|far| far.leg.address()).or_else(|| known.and_then(|known| known.called));
        let backend = self.fars.values().find(|far| self.is_trouble(far));
        let met = match event {
            Event::Rejected { .. } => memory.and_then(|memory| memory.met.as_deref().cloned()),
            _ => None,
        };
        let detail = match reason {
            _ if met.is_some() => met,
            _ if reason.is(Class::Backend) && self.meta.flow != Flow::S2sOut => {
                called = backend.and_then(|far| far.leg.address());
                backend.and_then(|far| far.leg.detail.as_deref().cloned().or_else(|| far.leg.given_up()))
            }
            Reason::OnLists => pair.and_then(|pair| {
                let (hosted, remote) = match self.meta.flow {
                    Flow::S2sOut => (&pair.sender, &pair.target),
                    Flow::C2s | Flow::S2sIn => (&pair.target, &pair.sender),
                };
                let listed = self.tools.registry.policy().listed(hosted, remote, None)?;
                Some(Detail::new(Cause::OnLists, listed.to_string()))
            }),
            _ if reason.is(Class::Certified) => {
                let direction = match self.meta.flow {
                    Flow::S2sOut => Direction::Outbound,
                    Flow::C2s | Flow::S2sIn => Direction::Inbound,
                };
                pair.zip(channel.as_ref()).and_then(|(pair, shown)| {
                    relay::doubt_in_full(&self.tools.registry.policy(), pair, direction, Some(shown))
                })
            }
            Reason::DialbackTimeout if self.meta.flow == Flow::S2sOut => {
                public.and_then(|far| far.leg.given_up())
            }
            _ => match self.meta.flow {
                Flow::S2sOut => public.and_then(|far| far.leg.detail.as_deref().cloned()),
                Flow::C2s | Flow::S2sIn => {
                    self.near.as_ref().and_then(|near| near.detail.as_deref().cloned())
                }
            },
        };
        let detail = detail.or_else(|| match event {
            Event::Rejected { record, .. }
            | Event::Ended { record }
            | Event::Closed { record }
            | Event::Left { record, .. } => record.detail.clone(),
            _ => None,
        });
        let denied = pair.and_then(|pair| memory?.denied.get(pair)).filter(|denied| denied.reason == reason);
        let (rule, place) =
            denied.map(|denied| (denied.rule.clone(), denied.place.clone())).unwrap_or_default();
        let nearest = match (reason, pair, event) {
            (Reason::NotListed, Some(pair), Event::Rejected { .. } | Event::Refused { .. }) => {
                let policy = self.tools.registry.policy();
                let remote = if self.tools.home.hosts(&pair.sender) { &pair.target } else { &pair.sender };
                policy.nearest(remote).map(|near| near.to_string())
            }
            _ => None,
        };
        Around { called, channel, detail, place, nearest, rule, told, before: Before::News }
    }

    /// The leg in public that serves this pair; without a pair, the only one.
    fn public(&self, pair: Option<&Pair>) -> Option<&Far> {
        let serves = |far: &&Far| match (&far.destination, pair) {
            (Destination::World { from, target, .. }, Some(pair)) => {
                *from == pair.sender && *target == pair.target
            }
            (Destination::World { .. }, None) => self.fars.len() == 1,
            _ => false,
        };
        self.fars.values().find(serves)
    }

    /// A leg to a backend that has something to say of its trouble, or has none yet.
    fn is_trouble(&self, far: &Far) -> bool {
        matches!(far.destination, Destination::Backend(_) | Destination::Client(_))
            && (far.leg.detail.is_some() || self.fars.len() == 1)
    }
}

/// How soon the same refusal on the same stream is no news.
const AGAIN: Duration = Duration::from_secs(60);

/// Pairs that are remembered as refused, of one stream.
const PAIRS: usize = 1024;

fn complete(record: &mut Record, known: &Proven) {
    record.server = record.server.or(known.server);
    if let Some(channel) = known.channel.as_ref().filter(|_| record.tls.is_none()) {
        let shown = Record::of(Some(channel), record.reason);
        (record.tls, record.suite) = (shown.tls, shown.suite);
        (record.fingerprint, record.revocation) = (shown.fingerprint, shown.revocation);
    }
    if let Some(method) = known.method.filter(|_| matches!(record.method, None | Some(Method::Backend))) {
        record.method = Some(method);
    }
}
