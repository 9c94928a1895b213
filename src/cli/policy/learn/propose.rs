//! From what was seen to rules: what belongs together stands together, and what is left out is told with its reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Seen;
use crate::jid::Domain;
use crate::policy::{Federate, Federation, Identity, Policy, Question, ShownKey, Tls, Trail, TrailStep};
use crate::reason::{Class, Direction, Outcome};
use crate::run::observe::capped;

/// What passed one way between our domain and another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// How often the pair was admitted.
    pub(super) times: u64,
    /// Stanzas that passed.
    pub(super) stanzas: u64,
    /// Octets of those.
    pub(super) octets: u64,
    /// The proofs that were shown.
    pub(super) proofs: BTreeSet<String>,
    /// The lowest version of TLS.
    pub(super) tls: Option<Tls>,
    /// When it was last heard of.
    pub(super) last: String,
}

impl Way {
    /// One more record of it, or what lives.
    pub(super) fn note(
        &mut self,
        proof: Option<&str>,
        tls: Option<Tls>,
        (stanzas, octets): (u64, u64),
        time: &str,
    ) {
        self.proofs.extend(proof.map(str::to_owned));
        self.tls = [self.tls, tls].into_iter().flatten().min();
        self.stanzas = self.stanzas.saturating_add(stanzas);
        self.octets = self.octets.saturating_add(octets);
        if time > self.last.as_str() {
            time.clone_into(&mut self.last);
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.stanzas > 0
    }

    /// Whether it is known how the remote domain was proven each time, in words that a rule has.
    fn is_proven(&self) -> bool {
        !self.proofs.is_empty() && self.proofs.iter().all(|proof| PROOFS.contains(&proof.as_str()))
    }

    fn is_proven_by(&self, proof: &str) -> bool {
        self.proofs.contains(proof)
    }
}

/// What passed between our domain and another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) inbound: Way,
    pub(super) outbound: Way,
}

impl Traffic {
    pub(super) fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
        }
    }

    fn used(&self) -> impl Iterator<Item = (Direction, &Way)> {
        let both = [(Direction::Inbound, &self.inbound), (Direction::Outbound, &self.outbound)];
        both.into_iter().filter(|(_, way)| way.is_used())
    }
}

/// What a rule asks for, as far as it is learned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LearnedConditions {
    /// None: both.
    pub(super) direction: Option<Direction>,
    /// Whether a certificate that speaks for the domain was shown, or something weaker, in whose place it is taken.
    pub(super) certificate: bool,
    /// Whether dialback was all that was shown, one way at least.
    pub(super) dialback: bool,
    /// Whether what the domain publishes over HTTPS was all that was shown, one way at least.
    pub(super) posh: bool,
    /// The lowest version of TLS.
    pub(super) tls: Tls,
}

/// A rule that is proposed.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    /// As they are written.
    pub(super) patterns: Vec<String>,
    pub(super) terms: LearnedConditions,
    /// The domains that were seen, with what passed.
    pub(super) seen: Vec<(Domain, Traffic)>,
    pub(super) cases: Vec<Case>,
}

/// A case that is proposed.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) remote: Domain,
    pub(super) direction: Direction,
    pub(super) identity: &'static str,
    pub(super) tls: Tls,
    /// None: allowed; else why not.
    pub(super) refused: Option<&'static str>,
}

/// What no rule is proposed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LeftOut {
    /// The remote domain.
    pub(super) domain: String,
    /// Why.
    pub(super) why: String,
}

/// All that is proposed.
#[derive(Clone, Debug, Default)]
pub(super) struct Proposal {
    pub(super) rules: Vec<Rule>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Proposal {
    fn leave_out(&mut self, remote: &Domain, why: Option<String>) {
        self.left_out.extend(why.map(|why| LeftOut { domain: capped(remote.as_str()), why }));
    }
}

/// Rules for those who are to stay. `all`: also for those whom a rule of this policy allows.
pub(super) fn propose(seen: &Seen, policy: &Policy, all: bool) -> Proposal {
    let mut proposal = Proposal::default();
    let mut learned: BTreeMap<(String, LearnedConditions), Vec<(Domain, Traffic)>> = BTreeMap::new();
    for (remote, traffic) in &seen.traffic {
        match terms(remote, traffic, seen, policy, all) {
            Ok((terms, traffic, refused)) => {
                let party = remote.registrable().to_string();
                learned.entry((party, terms)).or_default().push((remote.clone(), traffic));
                proposal.leave_out(remote, refused);
            }
            Err(why) => proposal.leave_out(remote, Some(why)),
        }
    }
    for (remote, (reason, times)) in &seen.refused {
        if !seen.traffic.contains_key(remote) {
            let why = format!("was refused {times} times and never let in, last for {}", capped(reason));
            proposal.leave_out(remote, Some(why));
        }
    }
    if seen.unreadable > 0 {
        let why = format!("{} records name no domain", seen.unreadable);
        proposal.left_out.push(LeftOut { domain: "-".to_owned(), why });
    }
    let several = policy.hosted().count() > 1;
    let mut names: BTreeSet<String> = match all {
        true => BTreeSet::new(),
        false => policy.rule_names().map(|name| name.as_str().to_owned()).collect(),
    };
    for ((party, terms), seen_there) in learned {
        let at = if several { Some(&seen.hosted) } else { None };
        let name = name(&party, at, &mut names);
        let cases = seen_there.iter().flat_map(|(remote, traffic)| cases(remote, traffic, &terms)).collect();
        let patterns = patterns(&seen_there, &seen.hosted, policy);
        proposal.rules.push(Rule { name, patterns, terms, seen: seen_there, cases });
    }
    proposal
}

/// What a rule for this domain would ask, and for which traffic; beside, what of it is refused by now. Or why there is none.
fn terms(
    remote: &Domain,
    traffic: &Traffic,
    seen: &Seen,
    policy: &Policy,
    all: bool,
) -> Result<(LearnedConditions, Traffic, Option<String>), String> {
    if policy.hosts(remote) {
        return Err("is served here".to_owned());
    }
    if !all && let Some(rule) = named(remote, &seen.hosted, policy) {
        return Err(format!("{rule} names it already"));
    }
    // What was let in to be looked at is no list of whom one knows.
    if !all && policy.federation(&seen.hosted) == Some(Federation::Quarantine) {
        return Err("is or was in quarantine: whom you have approved, learn with --all".to_owned());
    }
    let (traffic, refused) = standing(remote, traffic, &seen.hosted, policy);
    if traffic.used().next().is_none() {
        if let Some(why) = refused {
            return Err(why);
        }
        let times = traffic.inbound.times + traffic.outbound.times;
        return Err(format!("was admitted {times} times, and no stanza passed"));
    }
    if traffic.used().any(|(_, way)| way.proofs.contains("pin")) {
        return Err("is proven by a pinned key: keep its rule, for the log does not hold the key".to_owned());
    }
    if let Some((direction, way)) = traffic.used().find(|(_, way)| !way.is_proven()) {
        return Err(format!(
            "{} stanzas passed {direction}, and it is not known how it was proven: the audit log tells it when a pair is admitted",
            way.stanzas
        ));
    }
    let direction = match (traffic.inbound.is_used(), traffic.outbound.is_used()) {
        (true, true) => None,
        (true, false) => Some(Direction::Inbound),
        (false, _) => Some(Direction::Outbound),
    };
    let shown = |proof| traffic.used().any(|(_, way)| way.is_proven_by(proof));
    let terms = LearnedConditions {
        direction,
        certificate: ["certificate", "posh", "dialback"].into_iter().any(shown),
        dialback: shown("dialback"),
        posh: shown("posh"),
        tls: traffic.used().filter_map(|(_, way)| way.tls).min().unwrap_or(Tls::V12),
    };
    Ok((terms, traffic, refused))
}

/// The traffic that a rule or an operator still lets be, and what is said of the rest: somebody has refused that since, or lets it be
/// looked at. Whom no rule names is another matter: to learn such is what this is for.
fn standing(
    remote: &Domain,
    traffic: &Traffic,
    hosted: &Domain,
    policy: &Policy,
) -> (Traffic, Option<String>) {
    let (mut left, mut why) = (traffic.clone(), Vec::new());
    for (direction, _) in traffic.used() {
        let question = Question::Federate(Federate::of(hosted, remote, direction));
        let verdict = policy.judge(&question, &mut ());
        let decided = verdict.place.is_some() || verdict.reason.is(Class::Decided);
        let by =
            verdict.place.map_or_else(String::new, |place| format!(" (rule {} at {place})", verdict.rule));
        match verdict.outcome {
            Outcome::Quarantine => {
                why.push(format!("is in quarantine {direction}, and nobody has approved it{by}"))
            }
            Outcome::Deny if decided => {
                why.push(format!("is refused {direction}: {}{by}", verdict.reason.words()));
            }
            Outcome::Allow | Outcome::Deny => continue,
        }
        *left.way(direction) = Way::default();
    }
    (left, (!why.is_empty()).then(|| why.join("; ")))
}

/// The rule of the policy in force that names this domain, whatever it says.
fn named(remote: &Domain, hosted: &Domain, policy: &Policy) -> Option<String> {
    [Direction::Inbound, Direction::Outbound].into_iter().find_map(|direction| {
        let question = Federate {
            hosted,
            remote,
            direction,
            identity: Identity::Certificate,
            tls: Tls::V13,
            address: None,
            key: ShownKey::Unknown,
        };
        let mut trail = Trail::default();
        let _verdict = policy.judge(&Question::Federate(question), &mut trail);
        let names = |step: &TrailStep| !["other-hosted", "too-few-lists"].contains(&step.bearing);
        let step = trail.steps.into_iter().find(names)?;
        Some(format!("rule {} at {}", step.rule, step.place))
    })
}

/// The domains of one party and one set of conditions, as a rule names them: several below one name are written as a wildcard.
/// But not where somebody there is refused, whom such a rule would let in.
fn patterns(seen: &[(Domain, Traffic)], hosted: &Domain, policy: &Policy) -> Vec<String> {
    let mut below: BTreeMap<String, Vec<&Domain>> = BTreeMap::new();
    let mut patterns = BTreeSet::new();
    for (remote, _) in seen {
        match remote.parent().filter(|parent| is_of_party(remote, parent)) {
            Some(parent) => below.entry(parent.to_owned()).or_default().push(remote),
            None => {
                patterns.insert(remote.to_string());
            }
        }
    }
    for (parent, remotes) in below {
        let all_welcome =
            || Domain::parse(&parent).is_ok_and(|parent| !policy.refuses_below(hosted, &parent));
        match remotes.len() >= SEVERAL && all_welcome() {
            true => {
                patterns.insert(format!("*.{parent}"));
            }
            false => patterns.extend(remotes.iter().map(ToString::to_string)),
        }
    }
    patterns.into_iter().collect()
}

/// Whether everything below `parent` belongs to the party that has this domain below it.
fn is_of_party(remote: &Domain, parent: &str) -> bool {
    let party = remote.registrable();
    Domain::parse(parent).is_ok_and(|parent| {
        let ascii = parent.to_ascii();
        *ascii == *party || ascii.strip_suffix(&*party).is_some_and(|rest| rest.ends_with('.'))
    })
}

fn name(party: &str, at: Option<&Domain>, taken: &mut BTreeSet<String>) -> String {
    let mut whole = format!("learned-{party}");
    if let Some(hosted) = at {
        whole.push_str("-at-");
        whole.push_str(&hosted.to_ascii());
    }
    let legal =
        |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    let whole: String = whole.chars().map(legal).take(LONGEST).collect();
    let mut name = whole.clone();
    for n in 2u64.. {
        if taken.insert(name.clone()) {
            break;
        }
        name = format!("{whole}-{n}");
    }
    name
}

/// What must come out for this domain: all that was seen, and what the rule keeps out.
fn cases(remote: &Domain, traffic: &Traffic, terms: &LearnedConditions) -> Vec<Case> {
    let case = |direction, identity, refused| Case {
        remote: remote.clone(),
        direction,
        identity,
        tls: terms.tls,
        refused,
    };
    let mut cases = Vec::new();
    for (direction, way) in traffic.used() {
        // The weakest first.
        let weakest = PROOFS.into_iter().find(|proof| way.is_proven_by(proof));
        cases.extend(weakest.map(|proof| case(direction, proof, None)));
    }
    let direction = terms.direction.unwrap_or(Direction::Inbound);
    // In clear nobody who is called can prove anything, and the rule takes that.
    let takes_all = direction == Direction::Outbound && terms.tls == Tls::None;
    if !terms.dialback && !takes_all {
        cases.push(case(direction, "dialback", Some("identity-too-weak")));
    }
    let strongest = if terms.certificate { "certificate" } else { "dane" };
    match terms.direction {
        Some(Direction::Inbound) => {
            cases.push(case(Direction::Outbound, strongest, Some("wrong-direction")));
        }
        Some(Direction::Outbound) => {
            cases.push(case(Direction::Inbound, strongest, Some("wrong-direction")));
        }
        None => {}
    }
    cases
}

/// Proofs of which a rule may be learned, the weakest first. A pinned key is not among them, for no record holds it.
const PROOFS: [&str; 4] = ["dialback", "posh", "certificate", "dane"];

/// So many domains below one name are written as a wildcard.
const SEVERAL: usize = 3;

/// Letters of a name, with room for a number.
const LONGEST: usize = 56;
