//! What an operator is shown of a relay, and how it would fare under another policy.

use std::net::IpAddr;

use crate::filter::Route;
use crate::policy::{Policy, RuleName, Verdict};
use crate::reason::{Flow, Reason};
use crate::stream::{Method, Pair, TlsVersion};

use super::{Relay, Shape};

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

/// A pair that stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who speaks to whom.
    pub pair: Pair,
    /// How the remote domain was proven; outbound, how we were.
    pub method: Method,
    /// The rule that admitted it.
    pub rule: RuleName,
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
    /// The word of the other policy on it.
    pub verdict: Option<Verdict>,
}

impl Relay {
    /// The relay as it stands, and the word of another policy on each of its pairs. It is the same question that a
    /// reload puts to the relay (POL-07).
    pub fn portrait(&self, under: Option<&Policy>) -> Portrait {
        let pairs: Vec<Standing> = self
            .guard
            .pairs()
            .iter()
            .filter(|admitted| !matches!(admitted.route(), Route::Withdrawn(_)))
            .map(|admitted| {
                let pair = admitted.pair().clone();
                let public = self.shown_method(&pair);
                let record = self.record(Some(pair.clone()), None, Reason::Allowed);
                let (stanzas, octets) = admitted.passed();
                Standing {
                    method: public.unwrap_or(admitted.method()),
                    rule: admitted.permit().rule().clone(),
                    address: admitted.permit().question().address,
                    tls: record.tls,
                    fingerprint: record.fingerprint,
                    verdict: under.map(|policy| policy.judge_again(admitted.permit())),
                    pair,
                    stanzas,
                    octets,
                }
            })
            .collect();
        let refused = |standing: &Standing| standing.verdict.as_ref().is_some_and(|v| !v.is_allow());
        Portrait {
            shape: match self.shape {
                Shape::Courier(_) if !pairs.is_empty() => "stream",
                Shape::Courier(_) => "courier",
                Shape::Serving if self.flow == Flow::S2sOut => "inside",
                Shape::Serving => "stream",
                Shape::Verifier => "verifier",
            },
            client: self.client.as_ref().and_then(|client| client.portrait()),
            closes: !pairs.is_empty() && pairs.iter().all(refused),
            pairs,
        }
    }
}
