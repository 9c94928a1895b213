//! Attempts to log in that nodes of one domain tell each other, and the digests that accounts have with all of them.
//!
//! Without a secret that the nodes share, digests are this process's own, and nothing is kept to be told.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use aws_lc_rs::hmac;

use super::held;

/// An attempt to log in that came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginOutcome {
    /// From where.
    pub network: IpAddr,
    /// The digest of the account, if the mechanism shows one.
    pub account: Option<u64>,
    /// Whether it failed.
    pub failed: bool,
}

/// How accounts are written down, and what other nodes have not heard yet.
#[derive(Debug, Default)]
pub struct Digests {
    own: RandomState,
    shared: Mutex<Option<Shared>>,
}

/// What nodes share.
#[derive(Debug)]
struct Shared {
    key: hmac::Key,
    unsent: VecDeque<(LoginOutcome, Instant)>,
}

impl Digests {
    /// Other nodes have this secret, too, and are to hear of attempts.
    pub fn share(&self, secret: [u8; 32]) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let mut shared = held(&self.shared);
        match &mut *shared {
            Some(shared) => shared.key = key,
            None => *shared = Some(Shared { key, unsent: VecDeque::new() }),
        }
    }

    /// The digest of an account of a hosted domain.
    pub fn of(&self, account: (&str, &str)) -> u64 {
        match &*held(&self.shared) {
            None => self.own.hash_one(account),
            Some(Shared { key, .. }) => {
                let (domain, name) = account;
                let tag = hmac::sign(key, format!("{domain}\0{name}").as_bytes());
                let first = tag.as_ref().first_chunk().copied().unwrap_or_default();
                u64::from_be_bytes(first)
            }
        }
    }

    /// Attempts that were not told yet, at most so many, the oldest first, each with its time.
    pub fn take(&self, most: usize) -> Vec<(LoginOutcome, Instant)> {
        let mut shared = held(&self.shared);
        let Some(Shared { unsent, .. }) = &mut *shared else { return Vec::new() };
        let count = unsent.len().min(most);
        unsent.drain(..count).collect()
    }

    pub(super) fn note(&self, attempt: LoginOutcome, now: Instant) {
        if let Some(Shared { unsent, .. }) = &mut *held(&self.shared) {
            if unsent.len() >= UNSENT {
                unsent.pop_front();
            }
            unsent.push_back((attempt, now));
        }
    }
}

/// Attempts that wait to be told. A flood that nobody hears of while the store is away is counted where it comes.
const UNSENT: usize = 10_000;
