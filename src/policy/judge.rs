//! Judgement: a pure function of a question and a snapshot.
//!
//! It keeps no memory, waits for nothing and sees no stanza. The live gateway passes `()` as witness, which compiles to
//! nothing; `gatehouse policy explain` passes a [`super::Trail`] and learns of each rule considered. One code path.

use std::sync::Arc;

use super::Policy;
use super::beside::Beside;
use super::day::Day;
use super::domains::Pattern;
use super::finding::Place;
use super::peers::{Face, OnChange};
use super::proxy::Proxy;
use super::quarantine::{QuarantineState, SettledParties};
use super::question::{Arrive, Federate, Identity, Question, Tls};
use super::rules::{Conditions, Rule, RuleName};
use super::settings::{Federation, Hosted};
use super::verdict::{Permit, Verdict};
use crate::jid::{Domain, Jid};
use crate::reason::{Direction, Outcome, Reason};

/// Somebody who hears of each rule considered.
pub trait Witness {
    /// Whether to hear also of the rules after the one that decides.
    const CURIOUS: bool;

    /// This rule was considered.
    fn consider(&mut self, considered: Considered<'_>);
}

/// The live gateway does not listen.
impl Witness for () {
    const CURIOUS: bool = false;

    fn consider(&mut self, _: Considered<'_>) {}
}

/// A rule whose pattern stands for the remote domain, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Considered<'a> {
    /// The rule.
    pub rule: &'a RuleName,
    /// Where it stands.
    pub place: &'a Place,
    /// The parent of the wildcard that matched; none if the rule names the domain itself, or lists.
    pub below: Option<&'a str>,
    /// Whether it names lists.
    pub by_lists: bool,
    /// What became of it.
    pub bearing: Bearing,
}

/// What a rule has to do with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// It decides.
    Decides(Outcome, Reason),
    /// A more specific rule decided.
    LessSpecific,
    /// Its `hosted` does not hold the hosted domain.
    OtherHosted,
    /// It denies the other direction only.
    OtherDirection,
    /// It denies other networks only.
    OtherNetwork,
    /// It denied until a day that is past.
    Lapsed,
    /// Fewer lists than it asks for name the domain.
    TooFewLists,
}

impl Policy {
    /// The verdict, with its reason and the rule that gave it.
    pub fn judge<W: Witness>(&self, question: &Question<'_>, witness: &mut W) -> Verdict {
        match question {
            Question::Arrive(arrive) => self.judge_arrival(arrive),
            Question::Federate(federate) => self.judge_with_shadow(federate, witness),
        }
    }

    /// The verdict on a pair, with what the policy in the shadow says to the same question.
    fn judge_with_shadow<W: Witness>(&self, question: &Federate<'_>, witness: &mut W) -> Verdict {
        let verdict = self.judge_pair(question, witness);
        match &self.shadow {
            None => verdict,
            Some(shadow) => verdict.shadowed_by(shadow.judge_pair(question, &mut ())),
        }
    }

    /// The question of an old permit, judged by this policy (POL-07). A verdict that allows carries the new permit, which
    /// replaces the old one: what the rule lets pass may have changed.
    pub fn judge_again(&self, permit: &Permit) -> Verdict {
        let verdict = self.judge_with_shadow(&permit.question(), &mut ());
        match permit.face() {
            Some(face) => self.recall(verdict, face),
            None => verdict,
        }
    }

    /// The verdict on a pair whose remote domain was proven so: where its rule holds changes, and this is one, it waits. A pair of
    /// two domains that are served here is none of those.
    pub fn recall(&self, verdict: Verdict, face: &Arc<Face>) -> Verdict {
        let Some(permit) = verdict.permit().filter(|permit| !self.hosts(permit.remote())) else {
            return verdict;
        };
        let beside = verdict.beside.clone().filter(|beside| beside.is_allow());
        let verdict = verdict.recalled(face, self.keeps_out(&permit, face));
        let (Some(shadow), Some(beside)) = (self.shadow.as_deref(), beside) else { return verdict };
        let next = shadow.judge_pair(&permit.question(), &mut ()).permit();
        match next.is_some_and(|next| shadow.keeps_out(&next, face)) {
            true => {
                let (outcome, reason) = (Outcome::Deny, Reason::PeerChanged);
                verdict.with_beside(Some(Arc::new(Beside { outcome, reason, ..Beside::clone(&beside) })))
            }
            false => verdict,
        }
    }

    /// The proxy through which the rule of these two has the remote domain called; none where it names none. That holds whoever has
    /// something to say: mail that goes out, a question about a key, the file of a domain that only comes in.
    pub fn way_out(&self, hosted: &Domain, remote: &Domain) -> Option<Arc<Proxy>> {
        let permit = |direction| self.judge_pair(&Federate::of(hosted, remote, direction), &mut ()).permit();
        permit(Direction::Outbound).or_else(|| permit(Direction::Inbound))?.via().cloned()
    }

    /// Whether the rule of this permit has the face wait.
    fn keeps_out(&self, permit: &Permit, face: &Face) -> bool {
        permit.on_change() == OnChange::Hold
            && self.known.keep_out(permit.hosted(), permit.remote(), permit.direction(), face)
    }

    /// Two domains served here, from one backend to another (POL-08): by the sender's policy as it goes out, and by the
    /// addressee's as it comes in. Both must allow. What a rule asks of channel, proof and network is not asked here: nothing
    /// of it leaves the inside.
    pub fn judge_between(&self, sender: &Domain, target: &Domain) -> (Verdict, Verdict) {
        (
            self.judge_with_shadow(&Federate::inside(sender, target, Direction::Outbound), &mut ()),
            self.judge_with_shadow(&Federate::inside(target, sender, Direction::Inbound), &mut ()),
        )
    }

    /// The verdict that stands on this remote domain, whatever an operator says of its quarantine. None: for some domain served here, one
    /// way or the other, what he says counts.
    pub fn stands_anyway(&self, remote: &Domain) -> Option<Verdict> {
        let unsettled = self.with_settled(SettledParties::default());
        let mut first = None;
        for (index, hosted) in self.hosted.iter().enumerate() {
            for direction in [Direction::Inbound, Direction::Outbound] {
                let question = Federate::of(&hosted.domain, remote, direction);
                let verdict = unsettled.judge_pair(&question, &mut ());
                if verdict.outcome == Outcome::Quarantine {
                    return None;
                }
                first.get_or_insert(verdict);
            }
            // Or of what lies below it.
            let is_held = |rule: &Rule| rule.outcome == Outcome::Quarantine && rule.is_for(index);
            let below = |pattern: &Pattern| reaches_below(pattern, remote);
            let mut patterns = self.rules.index.patterns().filter(|(pattern, _)| below(pattern));
            let rules = |pattern: &Pattern| self.rules.index.at(pattern).iter();
            let of =
                |pattern: &Pattern| rules(pattern).filter_map(|rule| self.rules.list.get(*rule)).any(is_held);
            if patterns.any(|(pattern, _)| of(&pattern)) {
                return None;
            }
        }
        first
    }

    /// Whether a rule for this hosted domain keeps somebody below that name out, or in quarantine, whatever the day and the way.
    pub fn refuses_below(&self, hosted: &Domain, parent: &Domain) -> bool {
        let Some((index, _)) = self.find_hosted(hosted) else { return false };
        let keeps_out = |rule: &&Rule| rule.outcome != Outcome::Allow && rule.is_for(index);
        let rules = |pattern: &Pattern| self.rules.index.at(pattern).iter();
        self.rules
            .index
            .patterns()
            .map(|(pattern, _)| pattern)
            .filter(|pattern| reaches_below(pattern, parent))
            .any(|pattern| {
                rules(&pattern).filter_map(|rule| self.rules.list.get(*rule)).any(|rule| keeps_out(&rule))
            })
    }

    fn judge_arrival(&self, arrive: &Arrive) -> Verdict {
        match self.bans.holds_address(arrive.address) {
            true => Verdict::deny(Reason::Banned, self.default_rule(), None),
            false => Verdict::arrive(self.default_rule()),
        }
    }

    fn judge_pair<W: Witness>(&self, question: &Federate<'_>, witness: &mut W) -> Verdict {
        let deny = |reason| Verdict::deny(reason, self.default_rule(), None);
        // POL-01: an unknown hosted domain does not federate. Nobody asks about one that was never served: it was taken out since.
        let Some((index, hosted)) = self.find_hosted(question.hosted) else {
            return deny(Reason::HostGone);
        };
        // POL-08: traffic between hosted domains never passes here.
        if self.hosts(question.remote) && question.identity != Identity::Inside {
            return deny(Reason::HomeClaimed);
        }
        if self.bans.holds_domain(question.remote)
            || question.address.is_some_and(|address| self.bans.holds_address(address))
        {
            return deny(Reason::Banned);
        }
        if hosted.federation == Federation::None {
            return deny(Reason::FederationOff);
        }
        match self.judge_rules(index, question, witness) {
            Some(verdict) => verdict,
            None => self.judge_default(hosted, question),
        }
    }

    fn judge_rules<W: Witness>(
        &self,
        hosted: usize,
        question: &Federate<'_>,
        witness: &mut W,
    ) -> Option<Verdict> {
        let mut decided = None;
        for (index, below) in self.rules.index.candidates(question.remote) {
            let Some(rule) = self.rules.list.get(index) else { continue };
            let bearing = match (&decided, rule.is_for(hosted)) {
                (_, false) => Bearing::OtherHosted,
                (Some(_), true) => Bearing::LessSpecific,
                (None, true) => self.bearing(rule, question),
            };
            let (rule_name, place, by_lists) = (&rule.name, &rule.place, false);
            witness.consider(Considered { rule: rule_name, place, below, by_lists, bearing });
            if let Bearing::Decides(outcome, reason) = bearing {
                let (name, place) = (rule.name.clone(), Some(rule.place.clone()));
                let verdict = match outcome {
                    Outcome::Allow => Verdict::federate(question, name, place, &rule.terms),
                    Outcome::Quarantine => {
                        self.quarantined(question, (name, place), (&rule.terms, &rule.free))
                    }
                    Outcome::Deny => Verdict::deny(reason, name, place),
                };
                if !W::CURIOUS {
                    return Some(verdict);
                }
                decided = Some(verdict);
            }
        }
        // What no rule names is asked of lists.
        for rule in self.rules.by_lists.iter().filter_map(|rule| self.rules.list.get(*rule)) {
            let Some(quorum) = rule.quorum.as_ref().filter(|_| rule.is_for(hosted)) else { continue };
            if decided.is_some() && !W::CURIOUS {
                break;
            }
            let enough = || self.lists.asked(quorum, question.remote, None).is_enough();
            let bearing = match self.bearing(rule, question) {
                _ if decided.is_some() => Bearing::LessSpecific,
                Bearing::Decides(..) if enough() => Bearing::Decides(Outcome::Deny, Reason::OnLists),
                Bearing::Decides(..) => Bearing::TooFewLists,
                other => other,
            };
            let (rule_name, place, by_lists) = (&rule.name, &rule.place, true);
            witness.consider(Considered { rule: rule_name, place, below: None, by_lists, bearing });
            if let Bearing::Decides(_, reason) = bearing {
                decided = Some(Verdict::deny(reason, rule.name.clone(), Some(rule.place.clone())));
            }
        }
        decided
    }

    /// What lists say of one sender whose pair this permit lets in: an entry may name a single address. A rule that names the domain goes
    /// before lists, and so does whatever else has decided but `federation`. It is the rule that asks them; none: too few name him.
    pub fn lists_against(&self, permit: &Permit, bare: &str) -> Option<(RuleName, Place)> {
        let rule = self.rule_against(&permit.question(), permit.rule(), bare)?;
        Some((rule.name.clone(), rule.place.clone()))
    }

    /// The same of the policy in the shadow, where that would let the pair in: its word on such a sender.
    pub fn beside_against(&self, permit: &Permit, bare: &str) -> Option<Arc<Beside>> {
        let (shadow, beside) = (self.shadow()?, permit.beside().filter(|beside| beside.is_allow())?);
        let rule = shadow.rule_against(&permit.question(), &beside.rule, bare)?;
        let (rule, place) = (rule.name.clone(), Some(rule.place.clone()));
        let (outcome, reason) = (Outcome::Deny, Reason::OnLists);
        Some(Arc::new(Beside { outcome, reason, rule, place, ..Beside::clone(beside) }))
    }

    /// The verdict on a stanza of such a sender, where this is the verdict on it whoever has sent it. Only who writes to us from outside
    /// is asked about.
    pub fn of_sender(&self, verdict: Verdict, bare: &str) -> Verdict {
        let permit = verdict.permit().filter(|permit| {
            permit.direction() == Direction::Inbound && permit.question().identity != Identity::Inside
        });
        let rule =
            permit.as_ref().and_then(|permit| self.rule_against(&permit.question(), permit.rule(), bare));
        match rule {
            Some(rule) => Verdict::deny(Reason::OnLists, rule.name.clone(), Some(rule.place.clone()))
                .with_beside(verdict.beside),
            None => verdict,
        }
    }

    /// The rule that asks lists which name this sender, where `decided` has let his pair in.
    fn rule_against(&self, question: &Federate<'_>, decided: &RuleName, bare: &str) -> Option<&Rule> {
        if self.rules.by_lists.is_empty() || decided != &self.default_rule || !self.lists.name_addresses() {
            return None;
        }
        let (index, _) = self.find_hosted(question.hosted)?;
        let mut rules = self.rules.by_lists.iter().filter_map(|rule| self.rules.list.get(*rule));
        let rule = rules.find(|rule| rule.is_for(index))?;
        let jid = Jid::parse(bare).or_else(|_| Jid::parse_rfc7622(bare)).ok()?;
        let listed = self.lists.asked(rule.quorum.as_ref()?, question.remote, Some(&jid.bare_form()));
        let holds = matches!(self.bearing(rule, question), Bearing::Decides(..));
        (holds && listed.is_enough()).then_some(rule)
    }

    fn judge_default(&self, hosted: &Hosted, question: &Federate<'_>) -> Verdict {
        let rule = self.default_rule();
        let refusal = match hosted.federation {
            Federation::None => Some(Reason::FederationOff),
            Federation::Listed => Some(Reason::NotListed),
            // JID-03: names of one label are refused by default; a rule may name them.
            Federation::Any | Federation::Quarantine if question.remote.is_single_label() => {
                Some(Reason::SingleLabel)
            }
            Federation::Any | Federation::Quarantine => unmet(&hosted.defaults, question, self.today),
        };
        match refusal {
            Some(reason) => Verdict::deny(reason, rule, None),
            None if hosted.federation == Federation::Quarantine => {
                self.quarantined(question, (rule, None), (&hosted.held, &hosted.defaults))
            }
            None => Verdict::federate(question, rule, None, &hosted.defaults),
        }
    }

    /// Somebody who is in quarantine by this rule, unless he was let out or shut out. Nobody inside is in quarantine: what comes from
    /// another backend of ours is not the world's.
    fn quarantined(
        &self,
        question: &Federate<'_>,
        (rule, place): (RuleName, Option<Place>),
        (held, free): (&Arc<Conditions>, &Arc<Conditions>),
    ) -> Verdict {
        let standing = match question.identity {
            Identity::Inside => QuarantineState::Approved,
            Identity::Unproven
            | Identity::Absent
            | Identity::Pin
            | Identity::Dane
            | Identity::Certificate
            | Identity::Posh
            | Identity::Dialback => self.settled.of(question.remote),
        };
        match standing {
            QuarantineState::Approved => Verdict::federate(question, rule, place, free),
            QuarantineState::Refused => Verdict::deny(Reason::NotApproved, rule, place),
            QuarantineState::Waiting => Verdict::federate(question, rule, place, held),
        }
    }

    /// A deny rule that does not fit is passed over, so that the next one is asked; an allow rule that does not fit denies:
    /// it is the most specific word on the domain.
    fn bearing(&self, rule: &Rule, question: &Federate<'_>) -> Bearing {
        let other_way = rule.direction.is_some_and(|only: Direction| only != question.direction);
        let outside = match question.address {
            Some(address) => !rule.networks.is_any() && !rule.networks.contains(address),
            None => !rule.networks.is_any(),
        };
        let expired = rule.has_expired(self.today);
        if rule.outcome == Outcome::Deny {
            return match (expired, other_way, outside) {
                (true, _, _) => Bearing::Lapsed,
                (_, true, _) => Bearing::OtherDirection,
                (_, _, true) => Bearing::OtherNetwork,
                (false, false, false) => Bearing::Decides(Outcome::Deny, Reason::Blocked),
            };
        }
        let awaited =
            question.address.is_none() && matches!(question.identity, Identity::Unproven | Identity::Inside);
        let refusal = if expired {
            Some(Reason::RuleExpired)
        } else if other_way {
            Some(Reason::WrongDirection)
        } else if outside && !awaited {
            Some(Reason::WrongNetwork)
        } else {
            unmet(&rule.terms, question, self.today)
        };
        match refusal {
            Some(reason) => Bearing::Decides(Outcome::Deny, reason),
            None if rule.outcome == Outcome::Quarantine => {
                Bearing::Decides(Outcome::Quarantine, Reason::Quarantined)
            }
            None => Bearing::Decides(Outcome::Allow, Reason::Allowed),
        }
    }

    fn default_rule(&self) -> RuleName {
        self.default_rule.clone()
    }
}

/// Whether a pattern stands for nothing but names below that one.
fn reaches_below(pattern: &Pattern, parent: &Domain) -> bool {
    match pattern {
        Pattern::Exact(name) => name.is_below(parent),
        Pattern::Below(above) => above == parent || above.is_below(parent),
    }
}

/// What of the conditions the channel and the proof do not meet.
fn unmet(terms: &Arc<Conditions>, question: &Federate<'_>, today: Day) -> Option<Reason> {
    let unproven = question.identity == Identity::Unproven;
    let tls_met = match question.tls {
        // Before proof the channel may still be upgraded.
        Tls::Unknown | Tls::None if unproven => true,
        Tls::Unknown => false,
        Tls::None | Tls::V12 | Tls::V13 => question.tls >= terms.tls,
    };
    let identity_met = match question.identity {
        Identity::Unproven | Identity::Inside => true,
        Identity::Absent => false,
        // DNS-18: a domain whose key is pinned is proven by that key, whatever else speaks for it.
        _ if !terms.pins.is_empty() => terms.pins.hold(question.key, today),
        // Nothing but a key that no rule pins (any more).
        Identity::Pin => false,
        // The strongest after a pin: every rule without pins takes it.
        Identity::Dane => true,
        Identity::Certificate => terms.identities.certificate,
        Identity::Posh => terms.identities.posh,
        Identity::Dialback => match question.direction {
            Direction::Inbound => terms.identities.dialback,
            Direction::Outbound => terms.takes_unnamed_servers(),
        },
    };
    match (tls_met, identity_met) {
        (false, _) => Some(Reason::TlsTooOld),
        (true, false) => Some(Reason::IdentityTooWeak),
        (true, true) => None,
    }
}
