//! What is remembered of one pair, as it stands in the file, in the store and in answers.

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
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
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
    /// It rises whenever something is taken away; of two nodes the one that has more of it is right.
    pub epoch: i64,
    /// How it was proven; the newest last.
    pub faces: Vec<Seen>,
    /// Versions of TLS that were seen.
    pub tls: Vec<String>,
    /// Networks that it came from, or was reached in.
    pub networks: Vec<String>,
    /// What waits for an operator.
    pub waiting: Vec<Waiting>,
    /// What has changed, the newest last.
    pub changes: Vec<Change>,
}

/// What a remote domain shows of itself at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
        let issuer =
            self.face.issuer.as_deref().map_or_else(|| "none".to_owned(), |issuer| escaped(issuer, WORDS));
        write!(f, "{}, issuer {issuer}, key {}, TLS {}", self.face.label(), self.key(), self.tls)?;
        self.network.as_ref().map_or(Ok(()), |network| write!(f, ", network {network}"))
    }
}

/// A face that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The face.
    pub look: Look,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
}

/// A face that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
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

/// What was made of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// An operator has said that it is the partner.
    Approved,
    /// An operator has said that it is not.
    Dismissed,
    /// It waits.
    Held,
    /// It passed, and was told.
    Noted,
}

impl Fate {
    /// The word in records.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Dismissed => "dismissed",
            Self::Held => "held",
            Self::Noted => "noted",
        }
    }
}

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Vec<Drift>,
    /// How it was.
    pub before: Look,
    /// How it is.
    pub after: Look,
    /// What was made of it.
    pub fate: Fate,
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
            faces: vec![Seen { look, first: now, last: now }],
            waiting: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The pair, if the record is one: a file or a store may hold anything.
    pub(super) fn pair(&self) -> Option<Pair> {
        let known = Direction::ALL.iter().any(|direction| direction.label() == self.direction);
        let bounded = self.faces.len() <= FACES
            && !self.faces.is_empty()
            && self.waiting.len() <= WAITING
            && self.changes.len() <= CHANGES
            && self.networks.len() <= NETWORKS
            && self.tls.len() <= VERSIONS;
        if !known || !bounded {
            return None;
        }
        let (sender, target) = (Domain::parse(&self.from).ok()?, Domain::parse(&self.to).ok()?);
        Some(Pair { sender, target })
    }

    /// As the store holds it: what has changed is left out where that makes it long, and no rule holds the pair, lest strangers fill it.
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
    pub fn look(&self) -> Look {
        let newest = self.faces.iter().max_by_key(|seen| seen.last);
        newest.map_or_else(Look::none, |seen| seen.look.clone())
    }

    /// It passes, looking so. What of it is another than ever before, and whether what is known of it is other now.
    pub(super) fn passes(&mut self, look: &Look, now: Timestamp) -> (Vec<Drift>, bool) {
        self.last = self.last.max(now);
        let waited = self.waiting.len();
        self.waiting.retain(|waiting| !waiting.look.face.is_like(&look.face));
        let mut structural = self.waiting.len() < waited;
        let faces: Vec<Face> = self.faces.iter().map(|seen| seen.look.face.clone()).collect();
        let mut what = compare(&faces, &look.face).drifts;
        match self.faces.iter_mut().find(|seen| seen.look.face.is_like(&look.face)) {
            Some(seen) => (seen.look, seen.last) = (look.clone(), now),
            None => {
                structural = true;
                // DNS-18: what is proven better from now on is not to slide back.
                let before = self.faces.len();
                let all_weaker = faces.iter().all(|face| face.method < look.face.method);
                self.faces.retain(|_| !all_weaker);
                if self.faces.len() < before {
                    self.rise(now);
                }
                self.faces.push(Seen { look: look.clone(), first: now, last: now });
                self.thin();
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
        let faces: Vec<Face> = self.faces.iter().map(|seen| seen.look.face.clone()).collect();
        let what = compare(&faces, &look.face).drifts;
        if what.is_empty() {
            // It was approved while it was on its way.
            return (what, false);
        }
        let waiting = Waiting { look: look.clone(), what: what.clone(), first: now, last: now, times: 1 };
        self.waiting.push(waiting);
        self.thin();
        (what, true)
    }

    /// An operator has said what to make of what waits.
    pub(super) fn settle(&mut self, is_meant: impl Fn(&Waiting) -> bool, now: Timestamp, fate: Fate) {
        let before = self.look();
        self.rise(now);
        let (meant, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_meant);
        self.waiting = rest;
        for Waiting { look, what, .. } in meant {
            if fate == Fate::Approved {
                self.faces.push(Seen { look: look.clone(), first: now, last: now });
            }
            self.note(Change { at: now, what, before: before.clone(), after: look, fate });
        }
        self.thin();
    }

    pub(super) fn note(&mut self, change: Change) -> Change {
        self.changes.push(change.clone());
        self.thin();
        change
    }

    /// What two nodes know of the same pair, together.
    pub(super) fn join(mut self, other: &Peer) -> Peer {
        (self.first, self.last) = (self.first.min(other.first), self.last.max(other.last));
        self.hold |= other.hold;
        if other.epoch > self.epoch {
            (self.epoch, self.faces) = (other.epoch, other.faces.clone());
            (self.waiting, self.changes) = (other.waiting.clone(), other.changes.clone());
        } else if other.epoch == self.epoch {
            for seen in &other.faces {
                match self.faces.iter_mut().find(|own| own.look.face.is_like(&seen.look.face)) {
                    Some(own) => (own.first, own.last) = (own.first.min(seen.first), own.last.max(seen.last)),
                    None => self.faces.push(seen.clone()),
                }
            }
            for waiting in &other.waiting {
                match self.waiting.iter_mut().find(|own| own.look.face.is_like(&waiting.look.face)) {
                    Some(own) => {
                        (own.last, own.times) = (own.last.max(waiting.last), own.times.max(waiting.times))
                    }
                    None => self.waiting.push(waiting.clone()),
                }
            }
            let news = other.changes.iter().filter(|change| !self.changes.contains(change));
            let news: Vec<Change> = news.cloned().collect();
            self.changes.extend(news);
            self.changes.sort_by_key(|change| change.at);
        }
        for (own, others, most) in
            [(&mut self.networks, &other.networks, NETWORKS), (&mut self.tls, &other.tls, VERSIONS)]
        {
            for word in others {
                if !own.contains(word) && own.len() < most {
                    own.push(word.clone());
                }
            }
        }
        let faces = &self.faces;
        self.waiting.retain(|waiting| !faces.iter().any(|seen| seen.look.face.is_like(&waiting.look.face)));
        self.thin();
        self
    }

    /// Whether it says something of faces, networks or TLS that the other record does not say, and has room for.
    pub(super) fn adds_to(&self, other: &Peer) -> bool {
        let knows = |face: &Face| other.faces.iter().any(|seen| seen.look.face.is_like(face));
        let holds = |face: &Face| other.waiting.iter().any(|waiting| waiting.look.face.is_like(face));
        let more = |own: &[String], theirs: &[String], most| {
            theirs.len() < most && own.iter().any(|word| !theirs.contains(word))
        };
        self.epoch > other.epoch
            || more(&self.networks, &other.networks, NETWORKS)
            || more(&self.tls, &other.tls, VERSIONS)
            || self.epoch == other.epoch
                && (self.faces.iter().any(|seen| !knows(&seen.look.face))
                    || self.waiting.iter().any(|waiting| !holds(&waiting.look.face)))
    }

    fn rise(&mut self, now: Timestamp) {
        self.epoch = now.as_millisecond().max(self.epoch.saturating_add(1));
    }

    /// No more of anything than there is room for: what was not seen for longest goes.
    fn thin(&mut self) {
        while self.faces.len() > FACES {
            let oldest = self.faces.iter().enumerate().min_by_key(|(_, seen)| seen.last).map(|(at, _)| at);
            self.faces.remove(oldest.unwrap_or(0));
        }
        while self.waiting.len() > WAITING {
            let oldest =
                self.waiting.iter().enumerate().min_by_key(|(_, waiting)| waiting.last).map(|(at, _)| at);
            self.waiting.remove(oldest.unwrap_or(0));
        }
        let over = self.changes.len().saturating_sub(CHANGES);
        self.changes.drain(..over);
    }
}

impl Look {
    fn none() -> Self {
        let face = Face { method: crate::policy::Identity::Absent, issuer: None, key: None };
        Self { face, tls: "none".to_owned(), network: None }
    }
}

/// Faces of one pair that are known.
const FACES: usize = 8;

/// Faces of one pair that wait.
const WAITING: usize = 4;

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
