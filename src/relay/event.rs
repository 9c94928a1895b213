//! What happened, as values.
//!
//! The core counts and tells nothing itself; it emits these, and `run/observe` turns each into one counter change, one
//! log line and, for streams and refusals, one audit record. Events hold no body, no key and no SASL data (LOG-02).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::filter::Admitted;
use crate::jid::Domain;
use crate::policy::{Action, Beside, Face, OnChange, Place, RuleName, Verdict};
use crate::reason::{Detail, Direction, Facing, Outcome, Reason, StreamCondition};
use crate::stream::client::Mechanism;
use crate::stream::{Method, Pair, RevocationCheck, Secured, TlsVersion};
use crate::xml::Kind;

/// The dialback role that an operation was done in (XEP-0220 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// We answered for a domain of ours whether a key is genuine.
    Authoritative,
    /// We sent a key and waited for the receiving server's word.
    Initiating,
    /// We were sent a key and judged the pair.
    Receiving,
    /// We asked the authoritative server about a key.
    Verifier,
}

impl Role {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Role] =
        &[Self::Authoritative, Self::Initiating, Self::Receiving, Self::Verifier];

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Authoritative => "authoritative",
            Self::Initiating => "initiating",
            Self::Receiving => "receiving",
            Self::Verifier => "verifier",
        }
    }
}

/// How a dialback operation came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DialbackOutcome {
    /// No answer, or a dialback error.
    Error,
    /// The key is not genuine.
    Invalid,
    /// An answer that nobody had asked for; it changed nothing.
    Unasked,
    /// The key is genuine, or the pair stands.
    Valid,
}

impl DialbackOutcome {
    /// Every value, for tables and tests.
    pub const ALL: &'static [DialbackOutcome] = &[Self::Error, Self::Invalid, Self::Unasked, Self::Valid];

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Invalid => "invalid",
            Self::Unasked => "unasked",
            Self::Valid => "valid",
        }
    }
}

/// What became of a stanza that a rule kept inside, or a part of it (`egress:`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Withheld {
    /// An error left in place of an answer.
    Answered,
    /// It left without some of its children.
    Cut,
    /// Nothing left, and nobody was told.
    Dropped,
}

impl Withheld {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Withheld] = &[Self::Answered, Self::Cut, Self::Dropped];

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Cut => "cut",
            Self::Dropped => "dropped",
        }
    }
}

/// What a patch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stroke {
    /// What it says.
    Acted(Action),
    /// Nothing, in shadow mode; what it would have done.
    Shadow(Action),
}

impl Stroke {
    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Acted(action) => action.label(),
            Self::Shadow(Action::Cut) => "shadow-cut",
            Self::Shadow(Action::Deny) => "shadow-deny",
        }
    }
}

/// What stream management came to, between servers (SM-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ManagementOutcome {
    /// A stream broke, and its session waits to go on.
    Broken,
    /// What is sent on a stream is counted.
    Enabled,
    /// A session whose stream broke did not go on in time.
    Expired,
    /// A session was to go on, and is not there.
    Refused,
    /// Stanzas that were not taken went out again, over another stream.
    Resent,
    /// A session went on over another stream.
    Resumed,
    /// Stanzas that were not acknowledged came back to their senders.
    Returned,
}

impl ManagementOutcome {
    /// Every value, for tables and tests.
    pub const ALL: &'static [ManagementOutcome] = &[
        Self::Broken,
        Self::Enabled,
        Self::Expired,
        Self::Refused,
        Self::Resent,
        Self::Resumed,
        Self::Returned,
    ];

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Enabled => "enabled",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Resent => "resent",
            Self::Resumed => "resumed",
            Self::Returned => "returned",
        }
    }
}

/// Which side said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Said {
    /// The other side, to us.
    Received,
    /// We, to the other side.
    Sent,
}

/// The life of one pair, or of a stream that never came to one, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The pair, as far as it was known.
    pub pair: Option<Pair>,
    /// Who a stream that never came to a pair said that it is, and whom it asked for: the words of its header, which nobody has proven.
    pub named: (Option<Domain>, Option<Domain>),
    /// The TLS version of the public leg; none in clear.
    pub tls: Option<TlsVersion>,
    /// Its cipher suite.
    pub suite: Option<&'static str>,
    /// How identity was proved; none if it never was.
    pub method: Option<Method>,
    /// Outbound, how the server that was called was proven to us; none where dialback is all that policy asks of it.
    pub server: Option<Method>,
    /// SHA-256 of the peer's certificate, in hexadecimal.
    pub fingerprint: Option<String>,
    /// What is known of the revocation of that certificate (CRT-09).
    pub revocation: Option<RevocationCheck>,
    /// The rule that decided.
    pub rule: Option<RuleName>,
    /// What the policy in the shadow says of the pair; none without one.
    pub beside: Option<Arc<Beside>>,
    /// Why it ended.
    pub reason: Reason,
    /// What lies behind that, where more was found out.
    pub detail: Option<Detail>,
    /// Stanzas that passed.
    pub stanzas: u64,
    /// Octets of those stanzas.
    pub octets: u64,
}

impl Record {
    /// What the public leg shows of a stream that ended for this reason.
    pub fn of(public: Option<&Secured>, reason: Reason) -> Self {
        let certificate = public.and_then(|secured| secured.certificate.as_ref());
        Self {
            pair: None,
            named: (None, None),
            tls: public.map(|secured| secured.version),
            suite: public.map(|secured| secured.suite),
            method: None,
            server: None,
            fingerprint: certificate.map(|c| c.fingerprint.clone()),
            revocation: certificate.map(|c| c.revocation),
            rule: None,
            beside: None,
            reason,
            detail: None,
            stanzas: 0,
            octets: 0,
        }
    }

    /// The pair was this one.
    pub(super) fn admitted(&mut self, admitted: &Admitted) {
        self.method = Some(admitted.method());
        self.rule = Some(admitted.permit().rule().clone());
        self.beside = admitted.permit().beside().cloned();
        (self.stanzas, self.octets) = admitted.passed();
    }
}

/// What happened. Fields are named for what they hold; `after` runs from the claim, or from the question.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Policy was asked about a pair.
    Judged { pair: Pair, verdict: Box<Verdict> },
    /// A pair that stands was judged again and goes on as before; the policy in the shadow is another, or says another thing.
    Shadowed { pair: Pair, verdict: Box<Verdict> },
    /// A proof of identity came out, for the hosted domain of the pair.
    Authenticated { pair: Pair, method: Method, outcome: Outcome, reason: Reason },
    /// A dialback operation ended.
    Dialback { role: Role, facing: Facing, outcome: DialbackOutcome, after: Duration },
    /// A pair may pass stanzas from now on. `server` and `beside` as in [`Record`]; `reason` is `Allowed` or `Quarantined`.
    Admitted {
        pair: Pair,
        method: Method,
        server: Option<Method>,
        rule: RuleName,
        reason: Reason,
        beside: Option<Arc<Beside>>,
        after: Duration,
    },
    /// A remote domain was proven so, for this pair: it passes, or waits for an operator because it was proven otherwise before.
    Met {
        pair: Pair,
        direction: Direction,
        face: Box<Face>,
        tls: Option<TlsVersion>,
        address: Option<IpAddr>,
        rule: RuleName,
        on_change: OnChange,
        outcome: Outcome,
    },
    /// A claim ended without admission.
    Rejected { record: Box<Record>, after: Duration },
    /// An admitted pair ended.
    Ended { record: Box<Record> },
    /// The near leg ended before any pair was claimed, or after all had been told.
    Closed { record: Box<Record> },
    /// A stanza passed.
    Passed { hosted: Domain, kind: Kind, octets: usize },
    /// A rule kept a stanza inside, or a part of it. Who sent it is not told.
    Withheld { hosted: Domain, rule: RuleName, what: Withheld },
    /// A stanza met a patch. If it was refused, that is told beside this.
    Patched { pair: Option<Pair>, hosted: Domain, patch: RuleName, place: Place, stroke: Stroke },
    /// A rule refuses a stanza for this reason: a refusal that follows tells of it.
    Ruled { rule: RuleName, place: Option<Place>, reason: Reason },
    /// The policy in the shadow would have decided otherwise about a stanza of a pair that stands under `rule`: it passed, and
    /// would be refused for `reason`; or it was refused for `reason`, and would pass. `outcome` is what became of it; `sender` the bare
    /// address that this is about, where it is about that alone.
    Otherwise {
        pair: Pair,
        sender: Option<Box<str>>,
        rule: RuleName,
        outcome: Outcome,
        reason: Reason,
        beside: Arc<Beside>,
        octets: usize,
    },
    /// A stanza was refused: bounced, dropped, or the end of its stream.
    Refused { pair: Option<Pair>, hosted: Option<Domain>, reason: Reason },
    /// A stanza was refused for what it is: over a limit, or with something in it that does not pass. `address` is the one to
    /// blame, as it came; `measure` the limit and what was found.
    Unfit {
        pair: Option<Pair>,
        hosted: Option<Domain>,
        reason: Reason,
        address: Option<String>,
        measure: Option<(usize, usize)>,
        octets: usize,
    },
    /// A backend used a name that it may not use (DB-62): `NotConfigured` or `OtherBackend`. `via` is the hosted domain whose
    /// backend it seems to be.
    Misnamed { name: Domain, reason: Reason, via: Option<Domain> },
    /// A stream error was sent or received.
    StreamError { facing: Facing, said: Said, condition: Option<StreamCondition> },
    /// Stream management came to this; of stanzas, so many.
    Managed { what: ManagementOutcome, stanzas: usize },
    /// A far leg found its backend up or down.
    Backend { hosted: Domain, up: bool },
    /// A login came out. `account` as in [`super::LoginAttempt`]; the mechanism is none where the client named one that it was
    /// not offered.
    Login {
        hosted: Domain,
        mechanism: Option<Mechanism>,
        account: Option<String>,
        outcome: Outcome,
        reason: Reason,
        detail: Option<Detail>,
    },
    /// A client has an address: its stream counts from now on.
    Bound { hosted: Domain, after: Duration },
    /// A bound client left.
    Left { hosted: Domain, record: Box<Record> },
    /// The backend of this domain is set up so that clients cannot log in through the gateway (C2S-04), or so that no
    /// remote server is believed there (BE-01).
    BackendMisconfigured { hosted: Domain, reason: Reason },
}

/// What an event is about.
struct Subject<'a> {
    /// A pair or a stanza was turned away: of that pair, as far as it is the pair's own matter, for this reason.
    refusal: Option<(Option<&'a Pair>, Reason)>,
    /// A pair or a stream ended, of which is told in full.
    record: Option<&'a Record>,
}

impl Event {
    /// The pair that was turned away, as far as it is the pair's own matter, and why.
    pub fn turned_away(&self) -> Option<(Option<&Pair>, Reason)> {
        self.subject().refusal
    }

    /// Of whom it tells in full: a pair or a stream that ended.
    pub fn record(&self) -> Option<&Record> {
        self.subject().record
    }

    fn subject(&self) -> Subject<'_> {
        let (refusal, record) = match self {
            Self::Rejected { record, .. } => {
                (Some((record.pair.as_ref(), record.reason)), Some(record.as_ref()))
            }
            Self::Refused { pair, reason, .. } => (Some((pair.as_ref(), *reason)), None),
            Self::Unfit { reason, .. } => (Some((None, *reason)), None),
            Self::Ended { record } | Self::Closed { record } | Self::Left { record, .. } => {
                (None, Some(record.as_ref()))
            }
            Self::Admitted { .. }
            | Self::Authenticated { .. }
            | Self::Backend { .. }
            | Self::Bound { .. }
            | Self::Dialback { .. }
            | Self::Judged { .. }
            | Self::Login { .. }
            | Self::Managed { .. }
            | Self::Met { .. }
            | Self::BackendMisconfigured { .. }
            | Self::Misnamed { .. }
            | Self::Otherwise { .. }
            | Self::Passed { .. }
            | Self::Patched { .. }
            | Self::Ruled { .. }
            | Self::Shadowed { .. }
            | Self::StreamError { .. }
            | Self::Withheld { .. } => (None, None),
        };
        Subject { refusal, record }
    }
}
