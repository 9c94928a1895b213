//! The dialback secrets of a running gateway: read again with overlap.
//!
//! A file holds the secrets that nodes share: the first makes the keys, all verify them (CLU-02). One that a reload takes out
//! still verifies the keys of the time before, which others hold already (DB-13). What no file names is drawn at random: then
//! the node vouches for the keys that it remembers, and for no others.

use std::path::PathBuf;
use std::time::Instant;

use aws_lc_rs::{digest, hmac};

use crate::config::settings::Settings;
use crate::config::{Secret, read_secrets};
use crate::policy::{Finding, Place};
use crate::reason::{Facing, Reason};
use crate::run;
use crate::stream::keyring::hex;
use crate::stream::{Clock, Keyring, Keyrings};

/// What the files of the two realms hold; none where no file is named.
#[derive(Debug, Default)]
pub struct FromFiles {
    world: Option<Vec<Secret>>,
    inside: Option<Vec<Secret>>,
}

impl FromFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Every secret that cannot be read, and two that are the same.
    pub fn read(settings: &Settings) -> Result<Self, Vec<Finding>> {
        let files = &settings.secrets;
        let read = |file: &Option<PathBuf>| file.as_deref().map(read_secrets).transpose();
        let (world, inside) = match (read(&files.world), read(&files.inside)) {
            (Ok(world), Ok(inside)) => (world, inside),
            (world, inside) => return Err(world.err().into_iter().chain(inside.err()).collect()),
        };
        match (&world, &inside, &files.inside) {
            (Some(one), Some(other), Some(file)) if one.iter().any(|secret| other.contains(secret)) => {
                Err(vec![Finding::error(
                    Place::whole(&file.display().to_string()),
                    "both realms have the same secret",
                    "make another one: a key made for the one must never verify in the other",
                )])
            }
            _ => Ok(Self { world, inside }),
        }
    }
}

/// The secrets of both realms.
#[derive(Clone, Debug)]
pub struct Secrets {
    world: Realm,
    inside: Realm,
}

/// The secrets of one realm.
#[derive(Clone, Debug)]
enum Realm {
    /// Drawn at random, since no file is named.
    Drawn(Secret),
    /// Those of the file, in its order, and those that were there before, with the last epoch of their keys.
    Shared { lines: Vec<Secret>, before: Vec<(Secret, i64)> },
}

impl Realm {
    fn begin(lines: Option<Vec<Secret>>) -> Result<Self, Reason> {
        Ok(match lines {
            Some(lines) => Self::Shared { lines, before: Vec::new() },
            None => Self::Drawn(Secret::new(&run::seed()?)),
        })
    }

    fn renewed(&self, next: Option<Vec<Secret>>, epoch: i64) -> Result<Self, Reason> {
        Ok(match (self, next) {
            (Self::Drawn(_), None) => self.clone(),
            (Self::Shared { lines: old, before }, Some(lines)) => {
                let gone = old.iter().map(|secret| (secret.clone(), epoch.saturating_add(OVERLAP)));
                let before = before.iter().cloned().chain(gone);
                let verifies = |(secret, last): &(Secret, i64)| {
                    !lines.contains(secret) && last.saturating_add(OVERLAP) >= epoch
                };
                let before = before.filter(verifies).collect();
                Self::Shared { lines, before }
            }
            // Keys of before are remembered by who made them.
            (_, next) => Self::begin(next)?,
        })
    }

    fn ring(&self, facing: Facing, clock: Clock) -> Keyring {
        match self {
            Self::Drawn(secret) => Keyring::new(secret.octets()),
            Self::Shared { lines, before } => {
                let lines = lines.iter().map(|secret| (secret.octets(), None));
                let before = before.iter().map(|(secret, last)| (secret.octets(), Some(*last)));
                Keyring::shared(facing, clock, lines.chain(before))
            }
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Drawn(one), Self::Drawn(other)) => one == other,
            (Self::Shared { lines: one, .. }, Self::Shared { lines: other, .. }) => one == other,
            _ => false,
        }
    }
}

impl Secrets {
    /// Those of the files, and others drawn at random.
    ///
    /// # Errors
    /// When the system gives no random octets.
    pub fn begin(files: FromFiles) -> Result<Self, Reason> {
        Ok(Self { world: Realm::begin(files.world)?, inside: Realm::begin(files.inside)? })
    }

    /// The secrets that follow these, by that clock.
    ///
    /// # Errors
    /// When the system gives no random octets.
    pub fn renewed(&self, files: FromFiles, clock: Clock, now: Instant) -> Result<Self, Reason> {
        let epoch = clock.epoch(now);
        Ok(Self {
            world: self.world.renewed(files.world, epoch)?,
            inside: self.inside.renewed(files.inside, epoch)?,
        })
    }

    /// What makes and verifies keys, by that clock.
    pub fn keyrings(&self, clock: Clock) -> Keyrings {
        Keyrings {
            world: self.world.ring(Facing::Public, clock),
            inside: self.inside.ring(Facing::Backend, clock),
        }
    }

    /// A secret of another use that nodes with the same secrets have, too.
    pub fn for_accounts(&self) -> Option<[u8; 32]> {
        self.of_use(b"gatehouse accounts")
    }

    /// Another one: that by which they count together.
    pub fn for_counts(&self) -> Option<[u8; 32]> {
        self.of_use(b"gatehouse counts")
    }

    fn of_use(&self, purpose: &[u8]) -> Option<[u8; 32]> {
        match &self.world {
            Realm::Shared { lines, .. } => tag(lines.first()?, purpose).as_ref().first_chunk().copied(),
            Realm::Drawn(_) => None,
        }
    }

    /// A digest by which nodes know whether they have the same, in whatever order, and of which nothing can be learned.
    pub fn digest(&self) -> String {
        let of = |realm: &Realm| match realm {
            Realm::Shared { lines, .. } => {
                let mut all: Vec<String> =
                    lines.iter().map(|line| hex(tag(line, b"gatehouse digest").as_ref())).collect();
                all.sort();
                all.concat()
            }
            Realm::Drawn(_) => String::new(),
        };
        let both = format!("{} {}", of(&self.world), of(&self.inside));
        hex(digest::digest(&digest::SHA256, both.as_bytes()).as_ref())
    }

    /// Whether the secrets are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.world.is_same(&other.world) && self.inside.is_same(&other.inside)
    }
}

fn tag(secret: &Secret, purpose: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.octets()), purpose)
}

/// Epochs for which another node may still make keys by a secret that was taken out here: a reload of all nodes takes a
/// moment.
const OVERLAP: i64 = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::jid::Domain;
    use crate::stream::{KeyCheck, Pair};

    fn files(world: &[&str]) -> FromFiles {
        let lines = |words: &[&str]| Some(words.iter().map(|word| Secret::new(word.as_bytes())).collect());
        FromFiles { world: if world.is_empty() { None } else { lines(world) }, inside: None }
    }

    fn check(ring: &Keyring, now: Instant) -> KeyCheck {
        let domain = |s| Domain::parse(s).unwrap();
        let pair = Pair { sender: domain("hall.example"), target: domain("friend.example") };
        KeyCheck { key: ring.make(&pair, "s", now), pair, stream: "s".into() }
    }

    // DB-13: "rotated with an overlap of >= T-dialback"; who stole a secret has nothing of it two minutes after it was taken out.
    #[test]
    fn a_secret_that_a_reload_takes_out_verifies_a_little_longer() {
        let now = Instant::now();
        let clock = Clock::new(now, Duration::from_secs(1_800_000_000));
        let after = |seconds| now + Duration::from_secs(seconds);
        let old = Secrets::begin(files(&["old"])).unwrap();
        let made = |secrets: &Secrets, at| check(&secrets.keyrings(clock).world, at);
        let new = old.renewed(files(&["new"]), clock, now).unwrap();
        assert!(!new.is_same(&old));
        let knows = |secrets: &Secrets, check: &KeyCheck, at| secrets.keyrings(clock).world.knows(check, at);
        assert!(knows(&new, &made(&old, now), after(30)) && knows(&new, &made(&new, now), now));
        assert!(knows(&new, &made(&old, after(35)), after(35)));
        assert!(!knows(&new, &made(&old, after(60)), after(60)));
        // Another reload changes nothing of that, and one much later forgets it.
        let again = new.renewed(files(&["new"]), clock, after(20)).unwrap();
        assert!(again.is_same(&new) && knows(&again, &made(&old, now), after(30)));
        assert!(!knows(&again, &made(&old, after(60)), after(60)));
        let late = again.renewed(files(&["new", "newest"]), clock, after(600)).unwrap();
        assert!(matches!(&late.world, Realm::Shared { before, .. } if before.is_empty()));
    }

    #[test]
    fn a_drawn_secret_stays_until_a_file_is_named_and_another_is_drawn_after_it() {
        let now = Instant::now();
        let clock = Clock::new(now, Duration::from_secs(1_800_000_000));
        let drawn = Secrets::begin(files(&[])).unwrap();
        assert!(drawn.is_same(&drawn.renewed(files(&[]), clock, now).unwrap()));
        let named = drawn.renewed(files(&["one"]), clock, now).unwrap();
        let again = named.renewed(files(&[]), clock, now).unwrap();
        assert!(!named.is_same(&drawn) && !again.is_same(&named) && !again.is_same(&drawn));
        assert!(named.keyrings(clock).world.is_shared() && !again.keyrings(clock).world.is_shared());
    }
}
