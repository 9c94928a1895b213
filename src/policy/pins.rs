//! Keys that a rule pins: the domains of that rule are proven by one of them and by nothing less (DNS-18).
//!
//! A pin is the SHA-256 of a public key with its algorithm (SubjectPublicKeyInfo, RFC 5280 4.1), as in a TLSA record of
//! selector 1 and matching type 1. It is the key of the peer's own certificate: that of an authority above it pins nothing.

use std::fmt;
use std::sync::Arc;

use super::day::Day;
use crate::reason::{Cause, Detail};

/// The SHA-256 of a SubjectPublicKeyInfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Of these octets.
    pub const fn new(octets: [u8; 32]) -> KeyDigest {
        KeyDigest(octets)
    }

    /// The octets.
    pub const fn octets(self) -> [u8; 32] {
        self.0
    }

    /// Reads `sha256:` and 64 hexadecimal digits, with colons between them or without.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<KeyDigest, &'static str> {
        let digits = text.strip_prefix("sha256:").ok_or("it does not begin with `sha256:`")?;
        let pairs: Vec<&str> = match digits.contains(':') {
            true => digits.split(':').collect(),
            false => digits.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap_or("")).collect(),
        };
        let octets: Option<Vec<u8>> = pairs
            .into_iter()
            .map(|two| {
                let plain = two.len() == 2 && two.bytes().all(|digit| digit.is_ascii_hexdigit());
                plain.then(|| u8::from_str_radix(two, 16).ok()).flatten()
            })
            .collect();
        let octets = octets.ok_or("a SHA-256 is written in hexadecimal digits")?;
        octets.try_into().map(KeyDigest).map_err(|_| "a SHA-256 has 64 hexadecimal digits")
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// The key that the remote server showed on the channel that is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ShownKey {
    /// None is known.
    #[default]
    Unknown,
    /// This one.
    Digest(KeyDigest),
    /// One of those that the rule pins that day, whichever; cases and explanations suppose it, no channel shows it.
    Pinned,
    /// One of a certificate that the operator's own lists revoke: no rule takes it, whoever has pinned it.
    Revoked,
}

/// A key, and the days on which it counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pin {
    pub(super) key: KeyDigest,
    pub(super) from: Option<Day>,
    pub(super) until: Option<Day>,
}

impl Pin {
    fn holds(&self, today: Day) -> bool {
        self.from.is_none_or(|first| first <= today) && self.until.is_none_or(|last| today <= last)
    }
}

/// The keys of a rule; none where it pins none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pins(Arc<[Pin]>);

impl Pins {
    pub(super) fn new(pins: Vec<Pin>) -> Pins {
        Pins(pins.into())
    }

    /// Whether the rule pins nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this key proves its holder that day.
    pub(super) fn hold(&self, shown: ShownKey, today: Day) -> bool {
        self.0
            .iter()
            .any(|pin| pin.holds(today) && (shown == ShownKey::Pinned || shown == ShownKey::Digest(pin.key)))
    }

    /// Whether none of them counts that day.
    pub(super) fn are_over(&self, today: Day) -> bool {
        !self.is_empty() && !self.0.iter().any(|pin| pin.holds(today))
    }

    /// The first day after this one on which another set of them counts.
    pub(super) fn next_change(&self, today: Day) -> Option<Day> {
        let days = |pin: &Pin| [pin.from, pin.until.map(Day::next)];
        self.0.iter().flat_map(days).flatten().filter(|day| *day > today).min()
    }

    /// The last day on which any of them counts, if there is one.
    pub(super) fn last_day(&self) -> Option<Day> {
        let last: Option<Vec<Day>> = self.0.iter().map(|pin| pin.until).collect();
        last.and_then(|days| days.into_iter().max())
    }

    /// Why this key proves nothing that day; none if it does, or if nothing is pinned.
    pub(super) fn doubt(&self, shown: ShownKey, today: Day) -> Option<Detail> {
        if self.is_empty() || self.hold(shown, today) {
            return None;
        }
        let key = match shown {
            ShownKey::Digest(key) => key,
            ShownKey::Revoked => return Some(Detail::new(Cause::Revoked, "")),
            ShownKey::Pinned | ShownKey::Unknown => return Some(Detail::new(Cause::NoCertificate, "")),
        };
        Some(match self.0.iter().find(|pin| pin.key == key) {
            None => Detail::new(Cause::KeyNotPinned, key.to_string()),
            Some(Pin { until: Some(last), .. }) if *last < today => {
                Detail::new(Cause::PinExpired, format!("{key} until {last}"))
            }
            Some(Pin { from, .. }) => {
                let first = from.map(|first| format!(" from {first}")).unwrap_or_default();
                Detail::new(Cause::PinExpired, format!("{key}{first}"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn a_pin_is_read_with_colons_and_without() {
        let key = KeyDigest::parse(&format!("sha256:{HEX}")).unwrap();
        assert_eq!(key.to_string(), format!("sha256:{HEX}"));
        let colons: Vec<String> =
            HEX.as_bytes().chunks(2).map(|two| String::from_utf8(two.to_vec()).unwrap()).collect();
        assert_eq!(KeyDigest::parse(&format!("sha256:{}", colons.join(":").to_uppercase())), Ok(key));
        for wrong in [
            HEX.to_owned(),
            format!("sha1:{HEX}"),
            "sha256:".to_owned(),
            format!("sha256:{}", &HEX[1..]),
            format!("sha256:{HEX}00"),
            format!("sha256:+1{}", &HEX[2..]),
            format!("sha256:{}é", &HEX[2..]),
            format!("sha256: {HEX}"),
            format!("sha256:{}::", colons.join(":")),
        ] {
            assert!(KeyDigest::parse(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pin_counts_on_its_days_and_on_no_other() {
        let key = |n| KeyDigest::new([n; 32]);
        let (old, new, next) = (key(1), key(2), key(3));
        let pins = Pins::new(vec![
            Pin { key: old, from: None, until: Some(day("2026-12-31")) },
            Pin { key: new, from: Some(day("2026-12-01")), until: Some(day("2027-12-31")) },
        ]);
        let holds = |key, on: &str| pins.hold(ShownKey::Digest(key), day(on));
        for (on, expected) in [
            ("2026-11-30", [true, false]),
            ("2026-12-01", [true, true]),
            ("2026-12-31", [true, true]),
            ("2027-01-01", [false, true]),
            ("2028-01-01", [false, false]),
        ] {
            assert_eq!([holds(old, on), holds(new, on)], expected, "{on}");
            assert!(!holds(next, on), "{on}");
            assert_eq!(pins.are_over(day(on)), expected == [false, false], "{on}");
        }
        assert_eq!(pins.next_change(day("2026-11-30")), Some(day("2026-12-01")));
        assert_eq!(pins.next_change(day("2026-12-01")), Some(day("2027-01-01")));
        assert_eq!(pins.next_change(day("2028-01-01")), None);
        assert_eq!(pins.last_day(), Some(day("2027-12-31")));
        let said = pins.doubt(ShownKey::Digest(old), day("2027-01-01")).unwrap();
        assert!(said.to_string().ends_with("until 2026-12-31"), "{said}");
        assert_eq!(pins.doubt(ShownKey::Digest(next), day("2027-01-01")).unwrap().cause, Cause::KeyNotPinned);
        assert_eq!(pins.doubt(ShownKey::Unknown, day("2027-01-01")).unwrap().cause, Cause::NoCertificate);
        // DNS-18: what the operator's own lists revoke is no key of anybody's, pinned or not.
        assert!(!pins.hold(ShownKey::Revoked, day("2026-12-15")));
        assert_eq!(pins.doubt(ShownKey::Revoked, day("2026-12-15")).unwrap().cause, Cause::Revoked);
        assert_eq!(Pins::default().doubt(ShownKey::Unknown, day("2027-01-01")), None);
    }
}
