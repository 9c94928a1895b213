//! What stands around an event, for the log, the records and the list of refusals: the address that was called, the
//! channel, the cause, and where the rule stands. The relays need none of it to decide, and bring none of it.

mod memory;

use std::net::SocketAddr;

pub(super) use self::memory::Memory;
use self::memory::{complete, show};
use super::now;
use super::pump::{Backs, Far, Legs};
use super::registry::{Meta, Registry};
use crate::filter::{Admitted, Guard, PairRoute};
use crate::metrics::Metrics;
use crate::policy::{Action, Place, RuleName};
use crate::reason::{Cause, Class, Detail, Flow, Outcome, Reason};
use crate::relay::plan::{self, RelayParams};
use crate::relay::{self, Destination, Event, FarId, Relay, Side, Stroke};
use crate::stream::{KeyAnswer, Method, Pair, Secured};
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
    /// How the pair was proven that a refused stanza is of, where it was.
    pub method: Option<Method>,
    /// A refusal of the same stream was told that this end follows from.
    pub explained: bool,
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

/// What this token says of a trouble is remembered for whoever asks why.
pub(super) fn overhear(legs: &mut Legs, side: Side, token: &Token, metrics: &Metrics) {
    if matches!(token, Token::Violation(violation) if violation.rule == Rule::Readers) {
        metrics.readers_disagree();
    }
    if let Some(said) = said(token)
        && let Some(leg) = legs.get_mut(side)
    {
        leg.detail = Some(Box::new(said));
    }
}

/// What an event of a relay is completed from: what the relay is and holds, and what is remembered of it.
pub(super) struct Surroundings<'a> {
    pub(super) relay: &'a Relay,
    pub(super) meta: Meta,
    pub(super) legs: &'a Legs,
    pub(super) backs: &'a Backs,
    pub(super) memory: &'a mut Option<Box<Memory>>,
    pub(super) relays: &'a RelayParams,
    pub(super) registry: &'a Registry,
}

impl Surroundings<'_> {
    /// What happened, completed, with what is known around it and of whom it is told; and it is remembered as told.
    pub(super) fn complete(&mut self, event: Event) -> (Meta, Event, Around) {
        let mut event = self.completed(event);
        let meta = self.meta_of(&event);
        let mut around = self.around(&event, meta.flow);
        if matches!(event, Event::Refused { .. } | Event::Unfit { .. })
            && let Some((rule, place)) = self.memory.as_mut().and_then(|memory| memory.ruled.take())
        {
            (around.rule, around.place) = (Some(rule), place);
        }
        if let Event::Rejected { record, .. } = &mut event {
            show(record, around.channel.as_ref());
        }
        if event.turned_away().is_some() {
            let carried = self.legs.near.is_none() || self.was_withdrawn(&event);
            around.before = self.memory.get_or_insert_default().once(&event, carried, now());
        }
        (meta, event, around)
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
            Event::Refused { pair, .. } | Event::Unfit { pair, .. } | Event::Patched { pair, .. }
                if self.meta.flow == Flow::S2sOut =>
            {
                pair.as_ref()
            }
            Event::Refused { .. } | Event::Unfit { .. } | Event::Patched { .. } => None,
            // Whose direction is said, or that are of a stream.
            Event::Backend { .. }
            | Event::Bound { .. }
            | Event::Closed { .. }
            | Event::Dialback { .. }
            | Event::Left { .. }
            | Event::Login { .. }
            | Event::Managed { .. }
            | Event::Met { .. }
            | Event::BackendMisconfigured { .. }
            | Event::Misnamed { .. }
            | Event::Passed { .. }
            | Event::Rejected { .. }
            | Event::Ruled { .. }
            | Event::StreamError { .. }
            | Event::Withheld { .. } => None,
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
        let relays = self.relays;
        match (self.meta.flow, &self.legs.near) {
            (Flow::S2sIn, Some(_)) => self.backs.has(pair),
            (Flow::S2sOut, None) => relays.hosts(&pair.target) && !relays.hosts(&pair.sender),
            _ => false,
        }
    }

    /// Whether this was refused because its pair, which stood, was taken back.
    fn was_withdrawn(&self, event: &Event) -> bool {
        let Event::Refused { pair: Some(pair), reason, .. } = event else { return false };
        self.withdrawn(pair) == Some(*reason)
    }

    /// Why this pair, which stood here, was taken back.
    fn withdrawn(&self, pair: &Pair) -> Option<Reason> {
        match self.standing(pair)?.route() {
            PairRoute::Withdrawn(reason) => Some(reason),
            PairRoute::Carried | PairRoute::Leg(_) => None,
        }
    }

    fn standing(&self, pair: &Pair) -> Option<&Admitted> {
        let in_guard = |guard: &'_ Guard| guard.find(pair.sender.as_str(), pair.target.as_str());
        let guards = [self.relay.guard(), self.relay.back()];
        guards.into_iter().find_map(|guard| guard.pair(in_guard(guard)?))
    }

    /// How this pair was proven, if it was.
    fn method(&self, pair: &Pair) -> Option<Method> {
        let known = self.memory.as_ref().and_then(|memory| memory.proven.get(pair)?.method);
        known.or_else(|| match self.standing(pair)?.method() {
            // To the peer we are proven by the certificate of the server that it has called.
            Method::Backend if self.meta.flow == Flow::S2sIn => Some(Method::Certificate),
            method => Some(method),
        })
    }

    /// Where the other side of this pair was called, and the channel to it.
    fn met(&self, pair: Option<&Pair>) -> (Option<SocketAddr>, Option<Secured>) {
        let public = self.public(pair);
        let inverse = pair.filter(|pair| self.is_inverse(pair));
        // What has come back over a leg of ours came on that of its inverse, which may be gone.
        let of_leg = inverse.filter(|_| self.legs.near.is_none()).map(Pair::reversed);
        let known = of_leg.as_ref().or(pair).and_then(|pair| self.memory.as_ref()?.proven.get(pair));
        let channel = public
            .and_then(|far| far.leg.shown.clone())
            .or_else(|| known.and_then(|known| known.channel.clone()))
            .or_else(|| {
                let near = self.meta.flow != Flow::S2sOut;
                near.then(|| self.relay.channel(Side::Near).cloned()).flatten()
            });
        let called = match inverse {
            // What goes back over a stream that has come goes to who has opened it.
            Some(_) if self.legs.near.is_some() => self.meta.peer,
            _ => public.and_then(|far| far.leg.address()).or_else(|| known.and_then(|known| known.called)),
        };
        (called, channel)
    }

    /// What a verifier met on its way, with the address where it did: the near leg of whoever asked is another connection.
    pub(super) fn met_by_verifier(
        &self,
        answer: KeyAnswer,
        detail: Option<Box<Detail>>,
    ) -> Option<Box<Detail>> {
        let KeyAnswer::Trouble(_) = answer else { return None };
        let far = self.legs.fars.values().next_back()?;
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
    pub(super) fn remember(&mut self, id: FarId) {
        let Some(far) = self.legs.fars.get(id) else { return };
        let Destination::World { from, target, .. } = &far.destination else { return };
        let pair = Pair { sender: from.clone(), target: target.clone() };
        let (called, channel) = (far.leg.called, self.relay.channel(Side::Far(id)).cloned());
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
                // What comes yet for a pair that stood goes back for why that was taken back.
                let reason = self.withdrawn(pair).unwrap_or(verdict.reason);
                let denied = self.memory.get_or_insert_default().deny(pair, reason);
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
                self.memory.get_or_insert_default().ruled = Some((patch.clone(), Some(place.clone())));
            }
            Event::Ruled { rule, place, .. } => {
                self.memory.get_or_insert_default().ruled = Some((rule.clone(), place.clone()));
            }
            Event::Ended { record } => {
                if let Some(known) =
                    record.pair.as_ref().and_then(|pair| self.memory.as_ref()?.proven.get(pair))
                {
                    complete(record, known);
                }
            }
            Event::Authenticated { .. }
            | Event::Admitted { .. }
            | Event::Login { .. }
            | Event::Patched { .. } => {}
            Event::Backend { .. }
            | Event::Bound { .. }
            | Event::Closed { .. }
            | Event::Dialback { .. }
            | Event::Left { .. }
            | Event::Managed { .. }
            | Event::Met { .. }
            | Event::BackendMisconfigured { .. }
            | Event::Misnamed { .. }
            | Event::Otherwise { .. }
            | Event::Passed { .. }
            | Event::Refused { .. }
            | Event::Rejected { .. }
            | Event::Shadowed { .. }
            | Event::StreamError { .. }
            | Event::Unfit { .. }
            | Event::Withheld { .. } => {}
        }
        event
    }

    /// What is known around an event of that flow.
    fn around(&self, event: &Event, flow: Flow) -> Around {
        if let Event::Unfit { pair, reason, address, .. } = event {
            return self.around_unfit(pair.as_ref(), *reason, address.as_deref());
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
            Event::Judged { .. } | Event::Authenticated { .. } => return Around::default(),
            // Nothing was refused, and nothing has ended.
            Event::Bound { .. }
            | Event::Dialback { .. }
            | Event::Managed { .. }
            | Event::Met { .. }
            | Event::BackendMisconfigured { .. }
            | Event::Misnamed { .. }
            | Event::Otherwise { .. }
            | Event::Passed { .. }
            | Event::Patched { .. }
            | Event::Ruled { .. }
            | Event::Shadowed { .. }
            | Event::Unfit { .. }
            | Event::Withheld { .. } => return Around::default(),
        };
        let explained = memory.is_some_and(|memory| memory.explains(reason));
        let public = self.public(pair);
        let (mut called, channel) = self.met(pair);
        let backend = self.legs.fars.values().find(|far| self.is_trouble(far));
        let rejected = memory.filter(|_| matches!(event, Event::Rejected { .. }));
        let met = rejected.and_then(|memory| memory.met.as_deref().cloned());
        let detail = if met.is_some() {
            met
        } else if reason.is(Class::Backend) && self.meta.flow != Flow::S2sOut {
            called = backend.and_then(|far| far.leg.address());
            backend.and_then(|far| far.leg.detail.as_deref().cloned().or_else(|| far.leg.given_up()))
        } else if reason == Reason::OnLists {
            pair.and_then(|pair| {
                let (hosted, remote) = pair.sides(plan::direction(flow));
                let listed = self.registry.policy().listed(hosted, remote, None)?;
                Some(Detail::new(Cause::OnLists, listed.to_string()))
            })
        } else if reason.is(Class::Certified) {
            pair.zip(channel.as_ref()).and_then(|(pair, shown)| {
                let direction = plan::direction(flow);
                relay::doubt_in_full(&self.registry.policy(), pair, direction, Some(shown))
            })
        } else if reason == Reason::DialbackTimeout && self.meta.flow == Flow::S2sOut {
            public.and_then(|far| far.leg.given_up())
        } else {
            match self.meta.flow {
                Flow::S2sOut => public.and_then(|far| far.leg.detail.as_deref().cloned()),
                Flow::C2s | Flow::S2sIn => {
                    self.legs.near.as_ref().and_then(|near| near.detail.as_deref().cloned())
                }
            }
        };
        let detail = detail.or_else(|| event.record()?.detail.clone());
        let denied = pair.and_then(|pair| memory?.denied.get(pair)).filter(|denied| denied.reason == reason);
        let (rule, place) =
            denied.map(|denied| (denied.rule.clone(), denied.place.clone())).unwrap_or_default();
        let turned_away = matches!(event, Event::Rejected { .. } | Event::Refused { .. });
        let unlisted = pair.filter(|_| turned_away && reason == Reason::NotListed);
        let nearest = unlisted.and_then(|pair| {
            let remote = if self.relays.hosts(&pair.sender) { &pair.target } else { &pair.sender };
            self.registry.policy().nearest(remote).map(|near| near.to_string())
        });
        let stanza = if let Event::Refused { pair, .. } = event { pair.as_ref() } else { None };
        let method = stanza.and_then(|pair| self.method(pair));
        Around { called, channel, detail, place, nearest, rule, method, explained, before: Before::News }
    }

    /// The same of a stanza that was refused for what it is.
    fn around_unfit(&self, pair: Option<&Pair>, reason: Reason, address: Option<&str>) -> Around {
        let listed = pair
            .filter(|_| reason == Reason::OnLists)
            .and_then(|pair| self.registry.policy().listed(&pair.target, &pair.sender, address));
        let detail = listed.map(|listed| Detail::new(Cause::OnLists, listed.to_string()));
        let (called, channel) = self.met(pair);
        let method = pair.and_then(|pair| self.method(pair));
        Around { called, channel, detail, method, ..Around::default() }
    }

    /// The leg in public that serves this pair or, going both ways, its inverse; without a pair, the only one.
    fn public(&self, pair: Option<&Pair>) -> Option<&Far> {
        let serves = |far: &&Far| match (&far.destination, pair) {
            (Destination::World { from, target, .. }, Some(pair)) => {
                (from, target) == (&pair.sender, &pair.target)
                    || (from, target) == (&pair.target, &pair.sender)
            }
            (Destination::World { .. }, None) => self.legs.fars.len() == 1,
            _ => false,
        };
        self.legs.fars.values().find(serves)
    }

    /// A leg to a backend that has something to say of its trouble, or has none yet.
    fn is_trouble(&self, far: &Far) -> bool {
        matches!(far.destination, Destination::Backend(_) | Destination::Client(_))
            && (far.leg.detail.is_some() || self.legs.fars.len() == 1)
    }
}
