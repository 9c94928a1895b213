//! Quarantine, the verdict between yes and no: some kinds of stanzas pass, and only so many, until somebody says more.
//!
//! What a rule says of it is here, and who of those in quarantine was let out or shut out. What each has sent is counted
//! elsewhere, for policy keeps no memory.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::jid::Domain;

/// At most so many within a time, whenever it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Often {
    /// How many; all of them may come at once.
    pub many: NonZeroU32,
    /// Within so many seconds.
    pub seconds: u32,
}

impl Often {
    /// The times of which a rate may speak.
    pub const SECONDS: [u32; 4] = [1, MINUTE, HOUR, DAY];

    const fn new(many: NonZeroU32, seconds: u32) -> Self {
        Self { many, seconds }
    }

    /// What such words say, if they say something.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (many, unit) = text.split_once('/')?;
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
        let many = many.trim().parse().ok().filter(|many: &NonZeroU32| many.get() <= MOST)?;
        Some(Self::new(many, *seconds))
    }
}

impl fmt::Display for Often {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.seconds).map_or("?", |(name, _)| name);
        write!(f, "{}/{unit}", self.many)
    }
}

/// What passes of a domain in quarantine, and for how long it is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quarantine {
    /// Messages, errors excepted.
    pub messages: Often,
    /// Requests for subscriptions to presence.
    pub subscriptions: Often,
    /// All else that passes: presence, pings and disco, answers and errors.
    pub other: Often,
    /// What a sender reads whose stanza does not pass; none: the condition alone.
    pub text: Option<Arc<str>>,
    /// After so many quiet days it is over; none: somebody must say so.
    pub quiet_days: Option<NonZeroU32>,
}

impl Default for Quarantine {
    fn default() -> Self {
        let many = |n: u32| NonZeroU32::MIN.saturating_add(n - 1);
        Self {
            messages: Often::new(many(20), HOUR),
            subscriptions: Often::new(many(3), DAY),
            other: Often::new(many(600), HOUR),
            text: None,
            quiet_days: None,
        }
    }
}

impl Quarantine {
    /// How often stanzas that count like this may come.
    pub fn often(&self, counted: Counted) -> Often {
        match counted {
            Counted::Message => self.messages,
            Counted::Subscription => self.subscriptions,
            Counted::Other => self.other,
        }
    }

    /// Whether an iq passes with such a payload: pings, and questions of service discovery.
    pub fn admits_query(namespace: &str) -> bool {
        QUERIES.contains(&namespace)
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, subscriptions, other, quiet_days, .. } = self;
        write!(
            f,
            "messages {messages}, subscriptions {subscriptions}, other {other}, no iq but ping and disco; "
        )?;
        match quiet_days {
            Some(days) => write!(f, "until it is approved, or {days} quiet days have passed"),
            None => f.write_str("until it is approved"),
        }
    }
}

/// As what a stanza counts in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// A message that is no error.
    Message,
    /// A request for a subscription.
    Subscription,
    /// Anything else.
    Other,
}

impl Counted {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Counted] = &[Self::Message, Self::Subscription, Self::Other];
}

/// Who of those in quarantine was let out or shut out: registrable domains, for what lies below one is one party's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettledParties {
    /// They are treated as if the rule allowed them.
    pub approved: BTreeSet<Box<str>>,
    /// They are kept out.
    pub refused: BTreeSet<Box<str>>,
}

/// How one party in quarantine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuarantineState {
    Approved,
    Refused,
    Waiting,
}

impl SettledParties {
    pub(super) fn of(&self, remote: &Domain) -> QuarantineState {
        if self.approved.is_empty() && self.refused.is_empty() {
            return QuarantineState::Waiting;
        }
        let party = remote.registrable();
        match (self.refused.contains(&party), self.approved.contains(&party)) {
            (true, _) => QuarantineState::Refused,
            (false, true) => QuarantineState::Approved,
            (false, false) => QuarantineState::Waiting,
        }
    }
}

const MINUTE: u32 = 60;
const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;
const UNITS: [(&str, u32); 4] = [("s", 1), ("min", MINUTE), ("h", HOUR), ("day", DAY)];

/// Of anything, in any time.
pub(super) const MOST: u32 = 1_000_000;

/// Quiet days of each party are remembered one by one.
pub(super) const LONGEST_QUIET: u32 = 90;

/// Namespaces of the payloads of an iq that passes: XEP-0199 and XEP-0030.
const QUERIES: [&str; 3] =
    ["urn:xmpp:ping", "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_number_and_a_time() {
        for (text, written) in [("20/h", "20/h"), (" 3 / day ", "3/day"), ("1/s", "1/s"), ("7/min", "7/min")]
        {
            assert_eq!(Often::read(text).map(|often| often.to_string()).as_deref(), Some(written), "{text}");
        }
        for text in ["", "20", "0/h", "-1/h", "20/week", "1.5/h", "20/", "/h", "1000001/h", "4294967296/s"] {
            assert_eq!(Often::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_party_is_let_out_or_shut_out_with_all_below_it() {
        let party = |name: &str| BTreeSet::from([Box::from(name)]);
        let settled = SettledParties { approved: party("friend.com"), refused: party("spam.co.uk") };
        for (name, standing) in [
            ("friend.com", QuarantineState::Approved),
            ("rooms.friend.com", QuarantineState::Approved),
            ("notfriend.com", QuarantineState::Waiting),
            ("com", QuarantineState::Waiting),
            ("a.spam.co.uk", QuarantineState::Refused),
            ("other.co.uk", QuarantineState::Waiting),
        ] {
            assert_eq!(settled.of(&Domain::parse(name).unwrap()), standing, "{name}");
        }
        // Who is both was shut out.
        let both = SettledParties { approved: party("friend.com"), refused: party("friend.com") };
        assert_eq!(both.of(&Domain::parse("friend.com").unwrap()), QuarantineState::Refused);
        assert_eq!(
            SettledParties::default().of(&Domain::parse("friend.com").unwrap()),
            QuarantineState::Waiting
        );
    }
}
