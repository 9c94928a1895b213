//! What an operator is shown of a relay, and how it would fare under another policy.

use std::net::IpAddr;
use std::sync::Arc;

use crate::filter::{Admitted, Guard, Route};
use crate::policy::{Beside, Policy, RuleName, Verdict};
use crate::reason::Reason;
use crate::stream::{Method, Pair, TlsVersion};

use super::{Record, Relay, Shape};

/// A relay at one moment.
#[derive(Clone, Debug)]
pub struct Portrait {
    /// What it is for: `stream`, `courier`, `verifier`, or `inside` for the stream of a backend, whose pairs are carried by
    /// streams of their own.
    pub shape: &'static str,
    /// The pairs that stand.
    pub pairs: Vec<Standing>,
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
}

/// A pair of which stanzas are counted (SM-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whether it may go on over another connection.
    pub resumes: bool,
    /// Stanzas that are sent and not acknowledged.
    pub unacknowledged: usize,
}

/// A pair that stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who speaks to whom.
    pub pair: Pair,
    /// It travels against the flow of its relay, on a stream that goes both ways.
    pub back: bool,
    /// How the remote domain was proven; outbound, how we were.
    pub method: Method,
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
    pub managed: Option<Kept>,
    /// What the policy in the shadow says of it; none without one.
    pub beside: Option<Arc<Beside>>,
    /// The word of the other policy on it.
    pub verdict: Option<Verdict>,
}

impl Relay {
    /// The relay as it stands, and the word of another policy on each of its pairs. It is the same question that a
    /// reload puts to the relay (POL-07).
    pub fn portrait(&self, under: Option<&Policy>) -> Portrait {
        let shown = |guard: &Guard, back: bool| -> Vec<Standing> {
            let here = guard.pairs().iter().filter(|a| !matches!(a.route(), Route::Withdrawn(_)));
            here.map(|admitted| self.standing(admitted, back, under)).collect()
        };
        let mut pairs = shown(self.guard(), false);
        let refused = |standing: &Standing| standing.verdict.as_ref().is_some_and(|v| !v.is_allow());
        // What may go back is the stream's affair as long as one pair of its own is left.
        let closes = !pairs.is_empty() && pairs.iter().all(refused);
        pairs.extend(shown(self.back(), true));
        Portrait {
            shape: match self.shape {
                Shape::Courier(_) if pairs.is_empty() => "courier",
                Shape::Client(_) | Shape::Courier(_) | Shape::Inbound(_) => "stream",
                Shape::Outbound(_) => "inside",
                Shape::Verifier(_) => "verifier",
            },
            client: match &self.shape {
                Shape::Client(client) => client.portrait(),
                _ => None,
            },
            closes,
            pairs,
        }
    }

    fn standing(&self, admitted: &Admitted, back: bool, under: Option<&Policy>) -> Standing {
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
            _ => (Box::new(Record::of(None, Reason::Allowed)), None),
        };
        let managed = match &self.shape {
            Shape::Courier(courier) => courier.managed(),
            Shape::Inbound(inbound) => inbound.managed(),
            _ => None,
        };
        Standing {
            managed,
            pair: admitted.pair().clone(),
            back,
            method: shown.unwrap_or(admitted.method()),
            rule: admitted.permit().rule().clone(),
            quarantined: admitted.permit().quarantine().is_some(),
            address: admitted.permit().question().address,
            tls: record.tls,
            fingerprint: record.fingerprint,
            stanzas,
            octets,
            beside: admitted.permit().beside().cloned(),
            verdict: under.map(|policy| policy.judge_again(admitted.permit())),
        }
    }
}
