//! What the gateway remembers of remote domains: how each was proven, when, and what has changed of that.
//!
//! It decides nothing: which changes a rule holds, the policy says (`policy/peers`), to which [`Peers::known`] is given. It tells
//! what is news, keeps what is held until an operator has said what to make of it, and joins what two nodes know of one pair so
//! that it does not matter who says it first, or how often. It has no clock and waits for nobody; whoever tells it something says when. Only what was
//! proven comes here. All of it has a bound.

mod joined;
mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

pub use self::record::{
    ChangeFate, Gone, KnownFace, Look, Named, Peer, PeerChange, SettledPeer, Sight, WaitingFace,
};
use crate::jid::Domain;
use crate::policy::{Faces, KeyDigest, Known};
use crate::reason::{Outcome, escaped};
use crate::stream::Pair;

/// All that is remembered.
#[derive(Debug, Default)]
pub struct Peers {
    all: HashMap<Pair, Peer>,
    /// Something has changed that the policy must know of at once.
    news: bool,
    /// Something is not written down yet.
    unwritten: bool,
    /// Pairs of which other nodes have not heard yet.
    unsent: BTreeMap<String, Pair>,
    /// Pairs that found no room, because rules hold the changes of all that are here.
    left_out: u64,
    /// What has come to wait by what other nodes know, and was not told yet.
    met: Vec<(Peer, PeerChange)>,
}

impl Peers {
    /// It was proven so. What has changed, if that is news.
    pub fn saw(&mut self, sight: &Sight, now: Timestamp) -> Option<PeerChange> {
        let Some(peer) = self.all.get_mut(&sight.pair) else {
            // Who is held was known; where it was forgotten meanwhile, what it shows is no change of anything.
            if sight.outcome == Outcome::Deny || !self.has_room(sight.hold) {
                return None;
            }
            self.all.insert(sight.pair.clone(), Peer::first(sight, now));
            self.touched(&sight.pair);
            self.news |= sight.hold;
            return None;
        };
        (peer.rule, peer.hold) = (sight.rule.clone(), sight.hold);
        let before = peer.look().unwrap_or(&sight.look).clone();
        // Two that come within one moment are judged as if one had come after the other: what was known when it was let in is not what
        // is known now.
        let held = sight.outcome == Outcome::Deny || sight.hold && peer.keeps_out(&sight.look.face);
        let (what, structural) = match held {
            false => peer.passes(&sight.look, now),
            true => peer.waits(&sight.look, now),
        };
        let fate = if held { ChangeFate::Held } else { ChangeFate::Noted };
        let change = (!what.is_empty())
            .then(|| peer.note(PeerChange { at: now, what, before, after: sight.look.clone(), fate }));
        self.unwritten = true;
        if structural || change.is_some() {
            self.touched(&sight.pair);
            self.news |= structural && sight.hold;
        }
        change
    }

    /// What waits of this domain is as good as what was known, from now on: all of it, where one face alone waits, or what has this
    /// key (`none` for no certificate). The pairs that were held for it.
    ///
    /// # Errors
    /// In words: nothing waits, or more than one face does and no key says which.
    pub fn approve(
        &mut self,
        domain: &Domain,
        key: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<SettledPeer>, String> {
        self.settle(domain, key, now, ChangeFate::Approved)
    }

    /// What waits of this domain is forgotten; if it comes again, it is told anew.
    ///
    /// # Errors
    /// In words: nothing waits, or nothing with that key.
    pub fn dismiss(
        &mut self,
        domain: &Domain,
        key: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<SettledPeer>, String> {
        self.settle(domain, key, now, ChangeFate::Dismissed)
    }

    /// What is known of this domain is so no more: all of it, or what has this key. Where anything else is known of a pair, it waits as a change
    /// from then on; where nothing is, who comes first is believed.
    ///
    /// # Errors
    /// In words: nothing is known, or nothing with that key.
    pub fn forget(
        &mut self,
        domain: &Domain,
        key: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<SettledPeer>, String> {
        self.settle(domain, key, now, ChangeFate::Forgotten)
    }

    fn settle(
        &mut self,
        domain: &Domain,
        key: Option<&str>,
        now: Timestamp,
        fate: ChangeFate,
    ) -> Result<Vec<SettledPeer>, String> {
        let wanted = match key {
            None => None,
            Some("none") => Some(None),
            Some(key) => Some(Some(KeyDigest::parse(key).map_err(|why| {
                let shown = escaped(key, SHOWN);
                format!("\"{shown}\" is no digest of a key ({why}): {}", keys_of(domain, fate))
            })?)),
        };
        let is_meant = |look: &Look| wanted.is_none_or(|key| look.face.key == key);
        let takes = |peer: &Peer| peer.open_to(fate).any(is_meant);
        let of = |(pair, peer): &(&Pair, &Peer)| peer.remote(pair) == domain && takes(peer);
        let meant: Vec<Pair> = self.all.iter().filter(of).map(|(pair, _)| pair.clone()).collect();
        if meant.is_empty() {
            let is_so = if fate == ChangeFate::Forgotten { "is known" } else { "waits" };
            return Err(match key {
                None => {
                    format!(
                        "nothing of {domain} {is_so}: `gatehouse peers --domain {domain}` shows what is known of it"
                    )
                }
                Some(key) => {
                    let shown = escaped(key, SHOWN);
                    format!("nothing of {domain} with the key {shown} {is_so}: {}", keys_of(domain, fate))
                }
            });
        }
        let several = |pair: &Pair| self.all.get(pair).is_some_and(|peer| peer.waiting.len() > 1);
        if fate == ChangeFate::Approved && wanted.is_none() && meant.iter().any(several) {
            let keys = meant.iter().filter_map(|pair| self.all.get(pair)).flat_map(|peer| &peer.waiting);
            let keys: BTreeSet<String> = keys.map(|waiting| waiting.look.key()).collect();
            let keys: Vec<String> = keys.into_iter().collect();
            return Err(format!(
                "{domain} has shown more than one face that waits: say which is the partner's, `--key` and one of {}",
                keys.join(", ")
            ));
        }
        let mut settled = Vec::new();
        for pair in meant {
            let Some(peer) = self.all.get_mut(&pair) else { continue };
            let faces = peer.settle(is_meant, now, fate);
            settled.push(SettledPeer { peer: peer.clone(), faces });
            self.touched(&pair);
        }
        self.news = true;
        settled.sort_by(|a, b| (&a.peer.from, &a.peer.to).cmp(&(&b.peer.from, &b.peer.to)));
        Ok(settled)
    }

    /// What the policy looks at.
    pub fn known(&self) -> Known {
        Known::new(self.all.iter().map(|(pair, peer)| {
            let (hosted, remote) = pair.sides(peer.direction());
            let faces = peer.faces.iter().map(|seen| seen.look.face.clone()).collect();
            let known = Faces { known: faces, shunned: peer.shunned().cloned().collect() };
            (hosted.clone(), remote.clone(), peer.direction(), known)
        }))
    }

    /// What is remembered, of this remote domain or of all: what waits first, then what changed last; at most so many, and how many
    /// there are besides.
    pub fn list(&self, domain: Option<&Domain>, most: usize) -> (Vec<Peer>, usize) {
        let meant =
            self.all.iter().filter(|(pair, peer)| domain.is_none_or(|domain| peer.remote(pair) == domain));
        let mut found: Vec<Peer> = meant.map(|(_, peer)| peer.clone()).collect();
        let order = |peer: &Peer| {
            let changed = peer.changes.last().map(|change| change.at);
            (std::cmp::Reverse((!peer.waiting.is_empty(), changed)), peer.from.clone(), peer.to.clone())
        };
        found.sort_by_cached_key(order);
        let more = found.len().saturating_sub(most);
        found.truncate(most);
        (found, more)
    }

    /// How many pairs have changes that wait, and how many found no room.
    pub fn waiting(&self) -> (usize, u64) {
        (self.all.values().filter(|peer| !peer.waiting.is_empty()).count(), self.left_out)
    }

    /// Whether something has changed that the policy must know of at once, since this was asked last.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// All of it, if something of it is not written down yet.
    pub fn to_keep(&mut self) -> Option<Vec<Peer>> {
        std::mem::take(&mut self.unwritten).then(|| self.all.values().cloned().collect())
    }

    /// It was not written down after all.
    pub fn not_kept(&mut self) {
        self.unwritten = true;
    }

    /// Takes in what was written down, beside what is known already. How many of these records are none.
    pub fn recall(&mut self, kept: Vec<Peer>) -> usize {
        let mut unread = 0;
        for peer in kept {
            match peer.pair() {
                Some(pair) if self.all.len() < MOST => {
                    self.unsent.insert(pair.to_string(), pair.clone());
                    self.all.entry(pair).or_insert(peer);
                }
                Some(_) | None => unread += 1,
            }
        }
        unread
    }

    /// What other nodes have not heard yet of pairs that a rule holds, or of the others; at most so many: the name of each pair, and
    /// what is known of it.
    pub fn unsent(&self, hold: bool, most: usize) -> Vec<(String, String)> {
        let records = self.unsent.iter().filter_map(|(name, pair)| Some((name, self.all.get(pair)?)));
        let meant = records.filter(|(_, peer)| peer.hold == hold).take(most);
        meant.filter_map(|(name, peer)| Some((name.clone(), peer.written()?))).collect()
    }

    /// These the others know now, unless they have changed meanwhile.
    pub fn told(&mut self, said: &[(String, String)]) {
        for (name, text) in said {
            let now = self.unsent.get(name).and_then(|pair| self.all.get(pair)).and_then(Peer::written);
            if now.is_none_or(|now| now == *text) {
                self.unsent.remove(name);
            }
        }
    }

    /// Takes in what other nodes know of pairs that rules hold; it is all there is of them. How many of these records are none.
    pub fn hear(&mut self, heard: &BTreeMap<String, String>) -> usize {
        let unread = heard.iter().filter(|(name, text)| !self.take_in(Some(name), text, true)).count();
        // The store may have lost what it was told.
        let held = self.all.iter().filter(|(_, peer)| peer.hold);
        let held = held.map(|(pair, _)| (pair.to_string(), pair.clone()));
        self.unsent.extend(held.filter(|(name, _)| !heard.contains_key(name)));
        unread
    }

    /// Takes in what other nodes have come to know of pairs that no rule holds. How many of these records are none.
    pub fn hear_noted<'a>(&mut self, heard: impl IntoIterator<Item = &'a str>) -> usize {
        heard.into_iter().filter(|text| !self.take_in(None, text, false)).count()
    }

    /// The store has lost what it was told of pairs that no rule holds.
    pub fn share_anew(&mut self) {
        let noted = self.all.iter().filter(|(_, peer)| !peer.hold);
        self.unsent.extend(noted.map(|(pair, _)| (pair.to_string(), pair.clone())));
    }

    /// Takes in one record, under this name where it has one. Whether it is a record.
    fn take_in(&mut self, name: Option<&str>, text: &str, hold: bool) -> bool {
        let theirs = serde_json::from_str::<Peer>(text).ok();
        let Some((pair, theirs)) = theirs.and_then(|peer| Some((peer.pair()?, peer))) else { return false };
        let own = pair.to_string();
        if name.is_some_and(|name| name != own) {
            return false;
        }
        let ours = self.all.get(&pair).cloned();
        if ours.is_none() && !self.has_room(hold) {
            return true;
        }
        let (joined, fresh) = match &ours {
            None => (theirs.clone(), Vec::new()),
            Some(ours) => ours.join(&theirs),
        };
        let room = MOST_MET.saturating_sub(self.met.len());
        self.met.extend(fresh.into_iter().take(room).map(|change| (joined.clone(), change)));
        if joined.adds_to(&theirs) {
            self.unsent.insert(own, pair.clone());
        } else {
            self.unsent.remove(&own);
        }
        if ours.is_none_or(|ours| joined.adds_to(&ours)) {
            self.unwritten = true;
            self.news |= joined.hold;
        }
        self.all.insert(pair, joined);
        true
    }

    /// What has come to wait since this was asked last, because other nodes know otherwise; each with its pair.
    pub fn take_met(&mut self) -> Vec<(Peer, PeerChange)> {
        std::mem::take(&mut self.met)
    }

    fn touched(&mut self, pair: &Pair) {
        self.unwritten = true;
        self.unsent.insert(pair.to_string(), pair.clone());
    }

    /// Whether one more may come. What no rule holds and nobody has seen for longest goes first, a tenth at once; what a rule holds
    /// never goes for one that no rule holds, or anybody could have us forget a partner.
    fn has_room(&mut self, hold: bool) -> bool {
        if self.all.len() < MOST {
            return true;
        }
        let idle = self.all.iter().filter(|(_, peer)| !peer.hold && peer.waiting.is_empty());
        let mut idle: Vec<(Timestamp, Pair)> = idle.map(|(pair, peer)| (peer.last, pair.clone())).collect();
        idle.sort_by_key(|(last, _)| *last);
        for (_, pair) in idle.iter().take(MOST / 10) {
            self.all.remove(pair);
            self.unsent.remove(&pair.to_string());
        }
        if idle.is_empty() && hold {
            self.left_out = self.left_out.saturating_add(1);
        }
        !idle.is_empty()
    }
}

/// Where the keys stand that may be named.
fn keys_of(domain: &Domain, fate: ChangeFate) -> String {
    let behind = if fate == ChangeFate::Forgotten { "`proven by`" } else { "WAITS" };
    format!(
        "write it as `gatehouse peers --domain {domain}` shows it behind {behind}, or `none` for no certificate"
    )
}

/// Characters of a key that was named which are shown: a whole one is no longer.
const SHOWN: usize = 120;

/// Changes by what other nodes know that are told at one time.
const MOST_MET: usize = 100;

/// Pairs that are remembered.
pub const MOST: usize = 10_000;

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "peers/joined_tests.rs"]
mod joined_tests;
