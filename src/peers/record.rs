//! What is remembered of one pair, as it stands in the file, in the store and in answers.
//!
//! What a later version writes beside what stands here is passed over, so that nodes of two versions read each other, and the way back to an
//! earlier one forgets nobody. Whatever changes the meaning of what stands here is another version of the file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::jid::Domain;
use crate::policy::{Drift, Face, compare};
use crate::reason::{Direction, Outcome, escaped};
use crate::stream::Pair;

/// A remote domain that was proven, for one pair.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The pair.
    pub pair: Pair,
    /// Which way its stanzas travel.
    pub direction: Direction,
    /// How it was proven, over which channel.
    pub look: Look,
    /// The rule that decided.
    pub rule: String,
    /// Whether that rule holds changes.
    pub hold: bool,
    /// Whether it passed, or is held.
    pub outcome: Outcome,
}

/// One pair of domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Peer {
    /// The domain that speaks.
    pub from: String,
    /// The domain that is spoken to.
    pub to: String,
    /// `inbound` or `outbound`, seen from the hosted domain.
    pub direction: String,
    /// The rule that decided last.
    pub rule: String,
    /// Whether that rule holds changes.
    pub hold: bool,
    /// When it was proven first.
    pub first: Timestamp,
    /// When it was proven last.
    pub last: Timestamp,
    /// It rises whenever an operator says something of it.
    pub epoch: i64,
    /// How it was proven; the newest last.
    pub faces: Vec<KnownFace>,
    /// Versions of TLS that were seen.
    pub tls: Vec<String>,
    /// Networks that it came from, or was reached in.
    pub networks: Vec<String>,
    /// What waits for an operator.
    pub waiting: Vec<WaitingFace>,
    /// How often a face came that is not among those that wait, because there is room for no more.
    #[serde(default)]
    pub unheard: u64,
    /// What was taken away, so that a node that has not heard of it does not bring it back.
    #[serde(default)]
    pub gone: Vec<Gone>,
    /// What has changed, the newest last.
    pub changes: Vec<PeerChange>,
}

/// What a remote domain shows of itself at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// How it was proven.
    pub face: Face,
    /// The version of TLS, `none` without.
    pub tls: String,
    /// The network of its address.
    pub network: Option<String>,
}

impl Look {
    /// Its key, `none` without.
    pub fn key(&self) -> String {
        self.face.key.map_or_else(|| "none".to_owned(), |key| key.to_string())
    }
}

impl std::fmt::Display for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The issuer is what the peer says of itself: it comes last and in quotation marks, so that it cannot be read as anything else.
        write!(f, "{}, key {}, TLS {}", self.face.label(), self.key(), self.tls)?;
        self.network.as_ref().map_or(Ok(()), |network| write!(f, ", network {network}"))?;
        self.face.root.as_ref().map_or(Ok(()), |root| write!(f, ", root {root}"))?;
        match &self.face.issuer {
            Some(issuer) => write!(f, ", issuer \"{}\"", escaped(issuer, WORDS)),
            None => f.write_str(", issuer none"),
        }
    }
}

/// A face that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFace {
    /// The face.
    pub look: Look,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// When an operator has let it in, or a rule that holds nothing; none: it was no change that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Timestamp>,
}

/// A face that was taken away: dismissed, forgotten, or given up for a stronger one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The face.
    pub face: Face,
    /// When. Who has seen it later has seen it anew.
    pub at: Timestamp,
    /// Whether an operator has had it forgotten: it waits from then on, whatever it is to those that are known.
    pub forgotten: bool,
}

/// A face that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingFace {
    /// The face.
    pub look: Look,
    /// What of it is another than before.
    pub what: Vec<Drift>,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// How often it was kept out.
    pub times: u64,
}

/// A pair of which an operator has said something, as it is now, and the faces of which he has said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledPeer {
    /// The pair.
    pub peer: Peer,
    /// The faces.
    pub faces: Vec<Look>,
}

/// One face of one pair, of which an operator has said something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The domain that speaks.
    pub from: String,
    /// The domain that is spoken to.
    pub to: String,
    /// The face.
    pub look: Look,
}

impl SettledPeer {
    /// Each of the faces by itself.
    pub fn named(&self) -> impl Iterator<Item = Named> {
        let Peer { from, to, .. } = &self.peer;
        self.faces.iter().map(|look| Named { from: from.clone(), to: to.clone(), look: look.clone() })
    }
}

/// What was made of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeFate {
    /// An operator has said that it is the partner.
    Approved,
    /// An operator has said that it is not.
    Dismissed,
    /// An operator has said that it is the partner's no more.
    Forgotten,
    /// It waits.
    Held,
    /// It passed, and was told.
    Noted,
}

impl ChangeFate {
    /// The word in records.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Dismissed => "dismissed",
            Self::Forgotten => "forgotten",
            Self::Held => "held",
            Self::Noted => "noted",
        }
    }
}

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerChange {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Vec<Drift>,
    /// How it was.
    pub before: Look,
    /// How it is.
    pub after: Look,
    /// What was made of it.
    pub fate: ChangeFate,
}

impl Peer {
    pub(super) fn first(sight: &Sight, now: Timestamp) -> Self {
        let look = sight.look.clone();
        Self {
            from: sight.pair.sender.to_string(),
            to: sight.pair.target.to_string(),
            direction: sight.direction.label().to_owned(),
            rule: sight.rule.clone(),
            hold: sight.hold,
            first: now,
            last: now,
            epoch: 0,
            tls: vec![look.tls.clone()],
            networks: look.network.iter().cloned().collect(),
            faces: vec![KnownFace { look, first: now, last: now, approved: None }],
            waiting: Vec::new(),
            unheard: 0,
            gone: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The pair, if the record is one: a file or a store may hold anything.
    pub(super) fn pair(&self) -> Option<Pair> {
        let known = Direction::ALL.iter().any(|direction| direction.label() == self.direction);
        let bounded = self.faces.len() <= FACES
            && !(self.faces.is_empty() && self.gone.is_empty())
            && self.waiting.len() <= WAITING
            && self.gone.len() <= GONE
            && self.changes.len() <= CHANGES
            && self.networks.len() <= NETWORKS
            && self.tls.len() <= VERSIONS;
        if !known || !bounded {
            return None;
        }
        let (sender, target) = (Domain::parse(&self.from).ok()?, Domain::parse(&self.to).ok()?);
        Some(Pair { sender, target })
    }

    /// As the store holds it: what has changed is left out where that makes it long, and no rule holds the pair, so that those whom no rule holds cannot fill it.
    pub(super) fn written(&self) -> Option<String> {
        let text = serde_json::to_string(self).ok()?;
        if self.hold || text.len() <= LONG {
            return Some(text);
        }
        serde_json::to_string(&Self { changes: Vec::new(), ..self.clone() }).ok()
    }

    pub(super) fn direction(&self) -> Direction {
        let inbound = self.direction == Direction::Inbound.label();
        if inbound { Direction::Inbound } else { Direction::Outbound }
    }

    pub(super) fn remote<'a>(&self, pair: &'a Pair) -> &'a Domain {
        pair.sides(self.direction()).1
    }

    /// How it looked the last time that it passed.
    pub fn look(&self) -> Option<&Look> {
        self.faces.iter().max_by_key(|seen| seen.last).map(|seen| &seen.look)
    }

    fn known(&self) -> Vec<Face> {
        self.faces.iter().map(|seen| seen.look.face.clone()).collect()
    }

    /// Faces that wait whatever they are to those that are known, until an operator has said what they are. Where nobody is known, nobody
    /// is forgotten: who comes first is believed.
    pub(super) fn shunned(&self) -> impl Iterator<Item = &Face> {
        let forgotten = self.gone.iter().filter(|gone| gone.forgotten && !self.faces.is_empty());
        let known = |face: &&Face| self.faces.iter().any(|seen| seen.look.face.is_like(face));
        let waiting = self.waiting.iter().map(|waiting| &waiting.look.face);
        waiting.chain(forgotten.map(|gone| &gone.face)).filter(move |face| !known(face))
    }

    /// Whether it is to wait where a rule holds changes, by what is known by now.
    pub(super) fn keeps_out(&self, face: &Face) -> bool {
        compare(&self.known(), face).holds || self.shunned().any(|shunned| shunned.is_like(face))
    }

    /// It passes, looking so. What of it is another than ever before, and whether what is known of it is other now.
    pub(super) fn passes(&mut self, look: &Look, now: Timestamp) -> (Vec<Drift>, bool) {
        self.last = self.last.max(now);
        let faces = self.known();
        // Whoever is believed as the first is so in spite of what was said before: that one was forgotten.
        let forgotten = self.gone.iter().any(|gone| gone.forgotten && gone.face.is_like(&look.face));
        let approved = (forgotten || self.keeps_out(&look.face)).then_some(now);
        let waited = self.waiting.len();
        self.waiting.retain(|waiting| !waiting.look.face.is_like(&look.face));
        let mut structural = self.waiting.len() < waited;
        let mut what = compare(&faces, &look.face).drifts;
        match self.faces.iter_mut().find(|seen| seen.look.face.is_like(&look.face)) {
            Some(seen) => (seen.look, seen.last) = (look.clone(), now),
            None => {
                structural = true;
                // DNS-18: what is proven better from now on is not to slide back.
                if faces.iter().all(|face| face.method < look.face.method) {
                    self.faces.clear();
                    faces.into_iter().for_each(|face| self.goes(Gone { face, at: now, forgotten: false }));
                }
                self.faces.push(KnownFace { look: look.clone(), first: now, last: now, approved });
            }
        }
        if !self.tls.contains(&look.tls) && self.tls.len() < VERSIONS {
            self.tls.push(look.tls.clone());
            what.push(Drift::Tls);
        }
        // Who comes from everywhere is not told of again and again.
        if let Some(network) = &look.network
            && !self.networks.contains(network)
            && self.networks.len() < NETWORKS
        {
            self.networks.push(network.clone());
            what.push(Drift::Network);
        }
        self.thin();
        what.sort();
        (what, structural)
    }

    /// It is held, looking so. What is news of that, and whether what waits is other now.
    pub(super) fn waits(&mut self, look: &Look, now: Timestamp) -> (Vec<Drift>, bool) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.look.face.is_like(&look.face)) {
            (waiting.look, waiting.last) = (look.clone(), now);
            waiting.times = waiting.times.saturating_add(1);
            return (Vec::new(), false);
        }
        let what = compare(&self.known(), &look.face).drifts;
        if what.is_empty() {
            // It was approved while it was on its way.
            return (what, false);
        }
        if self.waiting.len() >= WAITING {
            // Who shows one face after the other does not have those forgotten that an operator is to look at.
            self.unheard = self.unheard.saturating_add(1);
            return (Vec::new(), false);
        }
        let waiting = WaitingFace { look: look.clone(), what: what.clone(), first: now, last: now, times: 1 };
        self.waiting.push(waiting);
        self.thin();
        (what, true)
    }

    /// Of what an operator may say this.
    pub(super) fn open_to(&self, fate: ChangeFate) -> impl Iterator<Item = &Look> {
        let of_known = fate == ChangeFate::Forgotten;
        let known = self.faces.iter().map(|seen| &seen.look).filter(move |_| of_known);
        known.chain(self.waiting.iter().map(|waiting| &waiting.look).filter(move |_| !of_known))
    }

    /// An operator has said what to make of what waits, or that what is known is the partner's no more. What it was said of.
    pub(super) fn settle(
        &mut self,
        is_meant: impl Fn(&Look) -> bool,
        now: Timestamp,
        fate: ChangeFate,
    ) -> Vec<Look> {
        let before = self.look().cloned();
        self.rise(now);
        let meant: Vec<Look> = self.open_to(fate).filter(|look| is_meant(look)).cloned().collect();
        if fate == ChangeFate::Forgotten {
            self.faces.retain(|seen| !is_meant(&seen.look));
        } else {
            self.waiting.retain(|waiting| !is_meant(&waiting.look));
            self.unheard = 0;
        }
        let known = self.known();
        for look in &meant {
            let mut what = compare(&known, &look.face).drifts;
            if fate == ChangeFate::Approved {
                let (look, approved) = (look.clone(), Some(now));
                self.faces.push(KnownFace { look, first: now, last: now, approved });
            } else {
                let forgotten = fate == ChangeFate::Forgotten;
                self.goes(Gone { face: look.face.clone(), at: now, forgotten });
                if what.is_empty() {
                    what.push(Drift::Key);
                }
            }
            // Where nothing was known, it has changed from nothing else.
            let before = before.clone().unwrap_or_else(|| look.clone());
            self.note(PeerChange { at: now, what, before, after: look.clone(), fate });
        }
        self.thin();
        meant
    }

    /// It was taken away. What was forgotten once stays so until it is approved.
    pub(super) fn goes(&mut self, gone: Gone) {
        match self.gone.iter_mut().find(|known| known.face.is_like(&gone.face)) {
            Some(known) => {
                known.at = known.at.max(gone.at);
                known.forgotten |= gone.forgotten;
            }
            None => self.gone.push(gone),
        }
    }

    pub(super) fn note(&mut self, change: PeerChange) -> PeerChange {
        self.changes.push(change.clone());
        self.thin();
        change
    }

    /// Whether it says something that the other record does not say, and has room for.
    pub(super) fn adds_to(&self, other: &Peer) -> bool {
        let more = |own: &[String], theirs: &[String], most| {
            theirs.len() < most && own.iter().any(|word| !theirs.contains(word))
        };
        let known = |all: &[KnownFace], seen: &KnownFace| {
            all.iter().any(|own| own.look.face.is_like(&seen.look.face) && own.approved >= seen.approved)
        };
        let waits = |all: &[WaitingFace], one: &WaitingFace| {
            all.iter().any(|own| own.look.face.is_like(&one.look.face))
        };
        self.epoch > other.epoch
            || more(&self.networks, &other.networks, NETWORKS)
            || more(&self.tls, &other.tls, VERSIONS)
            || self.faces.iter().any(|seen| !known(&other.faces, seen))
            || other.faces.iter().any(|seen| !known(&self.faces, seen))
            || self.waiting.iter().any(|waiting| !waits(&other.waiting, waiting))
            || other.waiting.iter().any(|waiting| !waits(&self.waiting, waiting))
            || self.gone.iter().any(|gone| !other.gone.contains(gone))
    }

    fn rise(&mut self, now: Timestamp) {
        self.epoch = now.as_millisecond().max(self.epoch.saturating_add(1));
    }

    /// No more of anything than there is room for, in one order. Of what is known goes what was not seen for longest, and of what waits
    /// what came last: an operator has not seen it yet, and nobody is to push out what he has to look at.
    pub(super) fn thin(&mut self) {
        while self.faces.len() > FACES {
            let oldest = self.faces.iter().enumerate().min_by_key(|(_, seen)| (seen.last, order(&seen.look)));
            self.faces.remove(oldest.map_or(0, |(at, _)| at));
        }
        self.faces.sort_by_cached_key(|seen| (seen.first, order(&seen.look)));
        self.waiting.sort_by_cached_key(|waiting| (waiting.first, order(&waiting.look)));
        self.waiting.truncate(WAITING);
        self.gone.sort_by_cached_key(|gone| (gone.forgotten, gone.at, order(&gone.face)));
        self.gone.drain(..self.gone.len().saturating_sub(GONE));
        self.changes.sort_by_cached_key(|change| (change.at, order(change)));
        self.changes.drain(..self.changes.len().saturating_sub(CHANGES));
        for (words, most) in [(&mut self.networks, NETWORKS), (&mut self.tls, VERSIONS)] {
            words.sort();
            words.truncate(most);
        }
    }
}

/// An order among those that nothing else tells apart.
pub(super) fn order(one: &impl std::fmt::Debug) -> String {
    format!("{one:?}")
}

/// Faces of one pair that are known.
const FACES: usize = 8;

/// Faces of one pair that wait.
const WAITING: usize = 16;

/// Faces of one pair that were taken away.
const GONE: usize = 16;

/// Changes of one pair that are told of.
const CHANGES: usize = 8;

/// Networks of one pair.
const NETWORKS: usize = 16;

/// Versions of TLS of one pair; as many as there are, and a few for those to come.
const VERSIONS: usize = 8;

/// Octets of a record that no rule holds, from which on it is told without its changes.
const LONG: usize = 4096;

/// Characters of an issuer that are shown.
const WORDS: usize = 200;
