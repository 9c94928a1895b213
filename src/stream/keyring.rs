//! Dialback keys: made from a secret, known again by it, and bound to one facing.
//!
//! The key is the HMAC of XEP-0185 2 over receiving domain, originating domain and stream id, separated by spaces, which
//! no domain can hold (DB-12). World and inside have a [`Keyring`] each, so a key made for one never verifies in the
//! other (DB-04).
//!
//! A ring of a secret that one node has drawn for itself makes keys that this node alone vouches for, because it remembers
//! them. A ring of secrets that nodes share makes keys that each of these nodes knows again by itself, for as long as they
//! are young: the secret of the formula is then that of an epoch of ten seconds (CLU-02). Nothing is read from a key; the
//! candidates are computed, all of them and always, and compared in constant time.

use std::fmt;
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest, hmac};

use crate::reason::Facing;

use super::{KeyCheck, Pair};

/// What time it is by the wall, told from a clock that nobody sets: the wall's time was read once, with the other beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    at: Instant,
    unix: Duration,
}

impl Clock {
    /// At `at` it was `unix` since 1970.
    pub const fn new(at: Instant, unix: Duration) -> Self {
        Self { at, unix }
    }

    /// The time since 1970 at `now`.
    pub fn unix(&self, now: Instant) -> Duration {
        match now.checked_duration_since(self.at) {
            Some(since) => self.unix.saturating_add(since),
            None => self.unix.saturating_sub(self.at.saturating_duration_since(now)),
        }
    }

    /// The epoch at `now` (CLU-02).
    pub fn epoch(&self, now: Instant) -> i64 {
        i64::try_from(self.unix(now).as_secs() / EPOCH).unwrap_or(i64::MAX)
    }
}

/// The secrets of one realm.
#[derive(Clone)]
pub struct Keyring {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// One node's own: the secret of the formula.
    Own(Box<hmac::Key>),
    /// Those that nodes share.
    Shared { realm: &'static str, clock: Clock, lines: Vec<Line> },
}

/// One secret that nodes share.
#[derive(Clone)]
struct Line {
    root: hmac::Key,
    /// The last epoch of which its keys are known again; none: there is no end to it.
    last: Option<i64>,
}

/// Both realms.
#[derive(Clone, Debug)]
pub struct Keyrings {
    /// For keys that travel on the open Internet.
    pub world: Keyring,
    /// For keys that travel between us and the backends.
    pub inside: Keyring,
}

impl Keyrings {
    /// The realm of that network.
    pub fn facing(&self, facing: Facing) -> &Keyring {
        match facing {
            Facing::Backend => &self.inside,
            Facing::Public => &self.world,
        }
    }
}

impl Keyring {
    /// A ring of one secret that no other node has.
    pub fn new(secret: &[u8]) -> Self {
        Self { kind: Kind::Own(Box::new(key(secret))) }
    }

    /// A ring of secrets that nodes share: the first makes keys, all know them again. Without any it makes nothing.
    pub fn shared<'a>(
        facing: Facing,
        clock: Clock,
        secrets: impl IntoIterator<Item = (&'a [u8], Option<i64>)>,
    ) -> Self {
        let realm = match facing {
            Facing::Backend => "inside",
            Facing::Public => "world",
        };
        let line = |(secret, last): (&[u8], Option<i64>)| Line {
            root: hmac::Key::new(hmac::HMAC_SHA256, secret),
            last,
        };
        Self { kind: Kind::Shared { realm, clock, lines: secrets.into_iter().map(line).collect() } }
    }

    /// Whether other nodes may have these secrets.
    pub const fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared { .. })
    }

    /// The key for this pair on the stream with that id, which the receiving side issued.
    pub fn make(&self, pair: &Pair, stream: &str, now: Instant) -> String {
        match &self.kind {
            Kind::Own(secret) => text(secret, pair, stream),
            Kind::Shared { realm, clock, lines } => {
                let made = |line: &Line| text(&of_epoch(line, realm, clock.epoch(now)), pair, stream);
                lines.first().map(made).unwrap_or_default()
            }
        }
    }

    /// Whether the key in `check` was made by one of these secrets, and lately where nodes share them. Takes the same time
    /// whatever the key (DB-14).
    pub fn knows(&self, check: &KeyCheck, now: Instant) -> bool {
        match &self.kind {
            Kind::Own(secret) => is(secret, check),
            Kind::Shared { realm, clock, lines } => {
                let epoch = clock.epoch(now);
                let mut known = false;
                for line in lines {
                    for candidate in epoch.saturating_sub(OLDER)..=epoch.saturating_add(NEWER) {
                        let matches = is(&of_epoch(line, realm, candidate), check);
                        known |= matches & line.last.is_none_or(|last| candidate <= last);
                    }
                }
                known
            }
        }
    }

    /// How many seconds before (negative) or after our time the key in `check` was made, if it was made by one of these
    /// secrets outside the time in which it is known, and within a day: by a node whose clock does not go as ours does.
    /// This takes tens of milliseconds, and its result is for operators alone.
    pub fn astray(&self, check: &KeyCheck, now: Instant) -> Option<i64> {
        let Kind::Shared { realm, clock, lines } = &self.kind else { return None };
        let epoch = clock.epoch(now);
        let near = |off: &i64| !(-OLDER..=NEWER).contains(off);
        let offs = (1..=ASTRAY).flat_map(|off| [-off, off]).filter(near);
        let made = |off: &i64| {
            let of = |line: &Line| is(&of_epoch(line, realm, epoch.saturating_add(*off)), check);
            lines.iter().filter(|line| line.last.is_none()).any(of)
        };
        offs.into_iter().find(made).map(|off| off.saturating_mul(SECONDS))
    }
}

impl fmt::Debug for Keyring {
    // LOG-02: a secret is never printed, not even by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Own(_) => f.write_str("Keyring(own)"),
            Kind::Shared { lines, .. } => write!(f, "Keyring({} secrets)", lines.len()),
        }
    }
}

/// What the formula takes for a secret, made an HMAC key (DB-10).
fn key(secret: &[u8]) -> hmac::Key {
    let digest = digest::digest(&digest::SHA256, secret);
    hmac::Key::new(hmac::HMAC_SHA256, hex(digest.as_ref()).as_bytes())
}

/// The same for an epoch of a shared secret (CLU-02).
fn of_epoch(line: &Line, realm: &str, epoch: i64) -> hmac::Key {
    let message = format!("gatehouse dialback {realm} {epoch}");
    key(hex(hmac::sign(&line.root, message.as_bytes()).as_ref()).as_bytes())
}

fn text(key: &hmac::Key, pair: &Pair, stream: &str) -> String {
    let message = format!("{} {} {}", pair.target, pair.sender, stream);
    hex(hmac::sign(key, message.as_bytes()).as_ref())
}

fn is(key: &hmac::Key, check: &KeyCheck) -> bool {
    let ours = text(key, &check.pair, &check.stream);
    constant_time::verify_slices_are_equal(ours.as_bytes(), check.key.as_bytes()).is_ok()
}

/// How long an epoch lasts, in seconds.
const EPOCH: u64 = 10;
const SECONDS: i64 = 10;

/// Epochs before ours of which keys are known again: T-dialback, and a clock that is ten seconds ahead of the maker's
/// (CLU-02).
const OLDER: i64 = 4;

/// Epochs after ours of which keys are known: the maker's clock may be ten seconds ahead.
const NEWER: i64 = 1;

/// How far a clock that is wrong is looked for, in epochs: fourteen hours, as far as zones lie apart.
const ASTRAY: i64 = 14 * 360;

/// Lower-case hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        for nibble in [octet >> 4, octet & 0xf] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
