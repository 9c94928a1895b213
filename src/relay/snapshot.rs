//! What an operator is shown of a relay, and how it would fare under another policy.

use std::net::IpAddr;
use std::sync::Arc;

use crate::filter::{Admitted, Guard, PairRoute};
use crate::policy::{Beside, Identity, Policy, RuleName, Verdict};
use crate::reason::{Direction, Reason};
use crate::stream::{Certificate, Method, Pair, TlsVersion};

use super::{Record, Relay, Shape, Side, judge};

/// A relay at one moment.
#[derive(Clone, Debug)]
pub struct RelaySnapshot {
    /// What it is for: `stream`, `courier`, `verifier`, or `inside` for the stream of a backend, whose pairs are carried by
    /// streams of their own.
    pub shape: &'static str,
    /// The pairs that stand.
    pub pairs: Vec<EstablishedPair>,
    /// The client, once its server has said who that is.
    pub client: Option<Logged>,
    /// Whether a whole stream would end under the other policy, because no pair of it would be left.
    pub closes: bool,
}

/// A client that is logged in.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its address, as far as its server told it.
    pub address: String,
    /// The TLS version.
    pub tls: Option<TlsVersion>,
    /// Stanzas that passed, either way.
    pub stanzas: u64,
    /// Octets of those stanzas.
    pub octets: u64,
    /// Why it would end, were the certificate by which it was let in judged by other authorities.
    pub doubt: Option<Reason>,
}

/// A pair of which stanzas are counted (SM-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedPair {
    /// Whether it may go on over another connection.
    pub resumes: bool,
    /// Stanzas that are sent and not acknowledged.
    pub unacknowledged: usize,
}

/// A pair that stands.
#[derive(Clone, Debug)]
pub struct EstablishedPair {
    /// Who speaks to whom.
    pub pair: Pair,
    /// It travels against the flow of its relay, on a stream that goes both ways.
    pub back: bool,
    /// How the remote domain was proven; outbound, how we were.
    pub method: Method,
    /// How the remote domain was proven to us when the pair was admitted, either way.
    pub identity: Identity,
    /// The rule that admitted it.
    pub rule: RuleName,
    /// Whether its remote domain is in quarantine.
    pub quarantined: bool,
    /// The address of the remote server.
    pub address: Option<IpAddr>,
    /// The TLS version of the public leg.
    pub tls: Option<TlsVersion>,
    /// SHA-256 of the remote server's certificate, in hexadecimal.
    pub fingerprint: Option<String>,
    /// Stanzas that passed.
    pub stanzas: u64,
    /// Octets of those stanzas.
    pub octets: u64,
    /// What stream management makes of it; none: nothing is counted.
    pub managed: Option<CountedPair>,
    /// What the policy in the shadow says of it; none without one.
    pub beside: Option<Arc<Beside>>,
    /// The word of the other policy on it.
    pub verdict: Option<Verdict>,
    /// Why it would end, were the certificate that it stands on judged by other authorities.
    pub doubt: Option<Reason>,
}

/// What a relay would be under: a policy, and what the certificates that its legs have shown would be worth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Under<'a> {
    /// The policy; none: what is in force, of which nothing is asked.
    pub policy: Option<&'a Policy>,
    /// Those certificates that are judged anew.
    pub again: &'a [(Side, Certificate)],
}

impl Under<'_> {
    fn again(&self, near: bool) -> Option<&Certificate> {
        self.again.iter().find(|(side, _)| (*side == Side::Near) == near).map(|(_, again)| again)
    }
}

impl Relay {
    /// The relay as it stands, and the word of another policy on each of its pairs. It is the same question that a
    /// reload puts to the relay (POL-07).
    pub fn snapshot(&self, under: Option<&Policy>) -> RelaySnapshot {
        self.snapshot_under(&Under { policy: under, again: &[] })
    }

    /// The same where certificates are judged anew, too.
    pub fn snapshot_under(&self, under: &Under<'_>) -> RelaySnapshot {
        let shown = |guard: &Guard, back: bool| -> Vec<EstablishedPair> {
            let here = guard.pairs().iter().filter(|a| !matches!(a.route(), PairRoute::Withdrawn(_)));
            here.map(|admitted| self.standing(admitted, back, under)).collect()
        };
        let mut pairs = shown(self.guard(), false);
        let refused = |standing: &EstablishedPair| {
            standing.doubt.is_some() || standing.verdict.as_ref().is_some_and(|v| !v.is_allow())
        };
        // What may go back is the stream's affair as long as one pair of its own is left.
        let closes = !pairs.is_empty() && pairs.iter().all(refused);
        pairs.extend(shown(self.back(), true));
        RelaySnapshot {
            shape: match self.shape {
                Shape::Courier(_) if pairs.is_empty() => "courier",
                Shape::Client(_) | Shape::Courier(_) | Shape::Inbound(_) => "stream",
                Shape::Outbound(_) => "inside",
                Shape::Verifier(_) => "verifier",
            },
            client: match &self.shape {
                Shape::Client(client) => client.snapshot(under.again(true), &self.relays),
                Shape::Courier(_) | Shape::Inbound(_) | Shape::Outbound(_) | Shape::Verifier(_) => None,
            },
            closes,
            pairs,
        }
    }

    fn standing(&self, admitted: &Admitted, back: bool, under: &Under<'_>) -> EstablishedPair {
        let (stanzas, octets) = admitted.passed();
        // Outbound, the near proof is the backend's network; what counts is how we were proven in public.
        let (record, shown) = match &self.shape {
            Shape::Courier(courier) if back => (courier.record(Reason::Allowed), None),
            Shape::Courier(courier) => (courier.record(Reason::Allowed), courier.method()),
            // To the peer we are proven by the certificate of the server that it has called.
            Shape::Inbound(inbound) => {
                let shown = back.then_some(Method::Certificate);
                (inbound.near().record(None, None, Reason::Allowed), shown)
            }
            Shape::Client(_) | Shape::Outbound(_) | Shape::Verifier(_) => {
                (Box::new(Record::of(None, Reason::Allowed)), None)
            }
        };
        let managed = match &self.shape {
            Shape::Courier(courier) => courier.managed(),
            Shape::Inbound(inbound) => inbound.managed(),
            Shape::Client(_) | Shape::Outbound(_) | Shape::Verifier(_) => None,
        };
        EstablishedPair {
            managed,
            pair: admitted.pair().clone(),
            back,
            method: shown.unwrap_or(admitted.method()),
            identity: admitted.permit().question().identity,
            rule: admitted.permit().rule().clone(),
            quarantined: admitted.permit().quarantine().is_some(),
            address: admitted.permit().question().address,
            tls: record.tls,
            fingerprint: record.fingerprint,
            stanzas,
            octets,
            beside: admitted.permit().beside().cloned(),
            verdict: under.policy.map(|policy| policy.judge_again(admitted.permit())),
            doubt: under.policy.and_then(|policy| self.doubt(admitted, back, (policy, under))),
        }
    }

    /// Why the pair would end, were the certificate that it stands on judged so.
    fn doubt(
        &self,
        admitted: &Admitted,
        back: bool,
        (policy, under): (&Policy, &Under<'_>),
    ) -> Option<Reason> {
        let address = admitted.permit().question().address;
        match &self.shape {
            // What goes back over the stream of a server ends with that, or goes on by itself.
            Shape::Inbound(inbound) if !back => {
                let leans = !matches!(admitted.method(), Method::Backend | Method::Dialback);
                let channel = (inbound.near().secured().filter(|_| leans)?, under.again(true)?);
                judge::foreseen(policy, (admitted.pair(), Direction::Inbound), channel, address, false)
            }
            Shape::Courier(courier) => {
                let (forward, both) = courier.outward()?;
                let channel = (courier.channel()?, under.again(false)?);
                judge::foreseen(policy, (forward, Direction::Outbound), channel, address, both)
            }
            Shape::Client(_) | Shape::Inbound(_) | Shape::Outbound(_) | Shape::Verifier(_) => None,
        }
    }
}
