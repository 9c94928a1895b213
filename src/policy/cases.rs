//! The `expect` block: cases that must come out as told, on the code path of the living gateway.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::Policy;
use super::day::Day;
use super::domains::{Index, Pattern};
use super::file::{CaseSpec, Scalar};
use super::finding::{Finding, Place, Placed};
use super::lists::{List, Lists, Slot};
use super::pins::ShownKey;
use super::question::{Federate, Identity, Question, StanzaKind, StanzaType, Supposed, Tls};
use super::read::Reader;
use super::rules::RuleName;
use super::settings::Federation;
use super::source::{HostedSource, Source, Sources};
use super::verdict::Verdict;
use crate::jid::{Domain, Jid};
use crate::reason::Direction;

/// How one case came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseOutcome {
    /// Where the case stands.
    #[serde(flatten)]
    pub place: Place,
    /// The sender; of a case of patches the stanza, as it begins.
    pub from: String,
    /// The addressee; of a case of patches the direction.
    pub to: String,
    /// Whether it came out as told.
    pub passed: bool,
    /// What came out, like `deny not-listed (rule default)`; empty if the case could not be run.
    pub outcome: String,
    /// What is wrong, if anything is.
    pub finding: Option<Finding>,
}

/// Runs the cases of all files against a policy.
pub fn run(policy: &Policy, sources: &[Source]) -> Vec<CaseOutcome> {
    let mut outcomes = Vec::new();
    // Looked up by each case, of which there may be as many as rules.
    let rules: HashSet<&str> = policy.rule_names().map(RuleName::as_str).collect();
    for source in sources {
        let mut reader = Reader::new(&source.name);
        for case in &source.file.expect {
            outcomes.extend(run_case(policy, &rules, &mut reader, case));
        }
    }
    outcomes
}

/// What a policy file needs to be tested by itself, without a configuration.
///
/// Hosted are the domains its rules name in `hosted`, and of each case the side that is not remote: not the one a rule's
/// pattern stands for; if that tells nothing, the addressee. Their federation is `listed` unless a case says otherwise.
pub fn stand_alone(source: Source, today: Day) -> Sources {
    let rules = || source.file.rules.iter().map(|rule| &rule.value);
    let words = rules().filter_map(|rule| rule.hosted.as_ref()).flat_map(|list| &list.value);
    let mut hosted: Vec<Domain> = words.filter_map(|word| Domain::parse(&word.value).ok()).collect();
    let mut patterns = Index::default();
    rules()
        .filter_map(|rule| rule.domains.as_ref())
        .flat_map(|list| &list.value)
        .filter_map(|word| Pattern::parse(&word.value).ok())
        .for_each(|pattern| patterns.insert(pattern, 0));
    let named: HashSet<Domain> = hosted.iter().cloned().collect();
    for case in &source.file.expect {
        let domain = |word: &Option<Placed<String>>| {
            word.as_ref().and_then(|word| Jid::parse(&word.value).ok()).map(|jid| jid.to_domain())
        };
        let (Some(from), Some(to)) = (domain(&case.value.from), domain(&case.value.to)) else { continue };
        let is_remote = |domain: &Domain| patterns.candidates(domain).next().is_some();
        let outbound = match case.value.direction.as_ref().map(|word| word.value.as_str()) {
            Some("outbound") => true,
            Some(_) => false,
            None if named.contains(&from) || named.contains(&to) => !named.contains(&to),
            None => is_remote(&to) && !is_remote(&from),
        };
        hosted.push(if outbound { from } else { to });
    }
    // Rules are compared for a domain that they are for; a file that names none is for some domain all the same.
    if hosted.is_empty() {
        hosted.extend(Domain::parse("hosted.invalid"));
    }
    hosted.sort();
    hosted.dedup();
    let place = Place::whole(&source.name);
    let hosted = hosted
        .into_iter()
        .map(|domain| HostedSource {
            domain,
            federation: Federation::Listed,
            sources: vec![0],
            place: place.clone(),
        })
        .collect();
    Sources { hosted, sources: vec![source], today, digest: String::new() }
}

fn run_case(
    policy: &Policy,
    rules: &HashSet<&str>,
    reader: &mut Reader,
    case: &Placed<CaseSpec>,
) -> Vec<CaseOutcome> {
    let place = case.place(reader.file());
    let text =
        |word: &Option<Placed<String>>| word.as_ref().map_or_else(String::new, |word| word.value.clone());
    let (from, to) = (text(&case.value.from), text(&case.value.to));
    if let Some(word) = case.value.rule.as_ref().filter(|word| !rules.contains(word.value.as_str())) {
        reader.error(
            word,
            format!("there is no rule \"{}\"", word.value),
            "correct the name; `default` stands for no rule",
        );
    }
    let verdict = ask(policy, reader, &case.value, &place);
    let mut outcome = CaseOutcome { place, from, to, passed: true, outcome: String::new(), finding: None };
    if let Some(verdict) = &verdict {
        outcome.outcome = format!("{} {} (rule {})", verdict.outcome, verdict.reason, verdict.rule);
        outcome.finding = compare(&case.value, verdict, &outcome);
        outcome.passed = outcome.finding.is_none();
    }
    if reader.findings.is_empty() {
        return vec![outcome];
    }
    // A case that cannot be read is a case that fails, once for each thing that is wrong with it.
    let findings = std::mem::take(&mut reader.findings);
    let failed = |finding| CaseOutcome {
        passed: false,
        finding: Some(finding),
        outcome: String::new(),
        ..outcome.clone()
    };
    findings.into_iter().map(failed).collect()
}

fn ask(policy: &Policy, reader: &mut Reader, case: &CaseSpec, place: &Place) -> Option<Verdict> {
    for (name, word) in [("from", &case.from), ("to", &case.to), ("verdict", &case.verdict)] {
        if word.is_none() {
            reader.error_at(place, format!("this case has no `{name}`"), "a case needs from, to and verdict");
        }
    }
    if let Some(word) = &case.verdict {
        reader.verdict(word);
    }
    if let Some(word) = &case.reason {
        reader.reason(word);
    }
    reader.not_empty("payload", case.payload.as_ref());
    let _said = reader.named("lists", case.lists.as_ref());
    let _said = reader.named("sender-lists", case.sender_lists.as_ref());
    let from = case.from.as_ref().and_then(|word| reader.address_domain(word));
    let to = case.to.as_ref().and_then(|word| reader.address_domain(word));
    let key = case.key.as_ref().map(|word| reader.key_digest(word, &word.value));
    let assumed = if key.is_some() { Identity::Pin } else { Identity::Certificate };
    let identity = case.identity.as_ref().map_or(Some(assumed), |word| reader.identity(word));
    let key = match (key.flatten(), identity) {
        (Some(key), _) => ShownKey::Digest(key),
        (None, Some(Identity::Pin)) => ShownKey::Pinned,
        (None, _) => ShownKey::Unknown,
    };
    let tls = case.tls.as_ref().map_or(Some(Tls::V13), |word| reader.lowest_tls(word));
    let address = case.ip.as_ref().map(|word| reader.ip(word));
    let today = case.today.as_ref().map_or(Some(policy.today()), |word| reader.day(word));
    let kind = case.kind.as_ref().map(|word| reader.kind(word));
    let type_ = case.r#type.as_ref().and_then(|word| type_of(word, kind, reader));
    let ways = [("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];
    let told = case.direction.as_ref().and_then(|word| reader.choose(word, "the direction of a case", &ways));
    let federation = case.federation.as_ref().map(|word| {
        reader.choose(
            word,
            "a federation setting",
            &Federation::ALL.iter().map(|f| (f.label(), *f)).collect::<Vec<_>>(),
        )
    });
    if !reader.findings.is_empty() {
        return None;
    }
    let (from, to) = (from?, to?);
    let direction = match told {
        Some(direction) => direction,
        None if policy.hosts(&to) => Direction::Inbound,
        None => Direction::Outbound,
    };
    let (hosted, remote) = match direction {
        Direction::Inbound => (&to, &from),
        Direction::Outbound => (&from, &to),
    };
    let Some((index, _)) = policy.find_hosted(hosted) else {
        reader.error_at(
            place,
            format!("{hosted} is not a hosted domain"),
            "name one of the configuration's domains, or correct `direction`",
        );
        return None;
    };
    let sender = case.from.as_ref().and_then(|word| bare(&word.value));
    let lists = supposed(policy, reader, case, (remote, direction, sender.as_deref()))?;
    let policy = &policy.with_lists(lists);
    let policy = match federation.flatten() {
        Some(federation) => policy.with_federation(index, federation),
        None => policy.clone(),
    };
    let question = Federate {
        hosted,
        remote,
        direction,
        identity: identity?,
        tls: tls?,
        address: address.flatten(),
        key,
    };
    let policy = policy.on(today?);
    let of_pair = policy.judge(&Question::Federate(question), &mut ());
    let verdict = of_pair.for_supposed(&Supposed {
        kind: kind.flatten(),
        type_,
        payload: case.payload.as_ref().map(|word| word.value.as_str()),
        directed: case.to.as_ref().is_some_and(|word| word.value.contains('/')),
    });
    Some(match sender {
        Some(sender) => policy.of_sender(verdict, &sender),
        None => verdict,
    })
}

/// The type of a stanza of this kind; none of the two may be wrong.
fn type_of(word: &Scalar, kind: Option<Option<StanzaKind>>, reader: &mut Reader) -> Option<StanzaType> {
    match kind {
        None => {
            reader.error(
                word,
                "a `type` without a `kind`",
                "add `kind: iq`, `kind: message` or `kind: presence`",
            );
            None
        }
        // What is wrong with the kind was told.
        Some(None) => None,
        Some(Some(kind)) => reader.choose(word, &format!("a type of {}", kind.label()), StanzaType::of(kind)),
    }
}

/// The bare address, where it is one of somebody and not of the domain itself.
fn bare(text: &str) -> Option<String> {
    Jid::parse(text).ok().filter(|jid| jid.local.is_some()).map(|jid| jid.bare_form())
}

/// The lists that a case supposes, and what stands in them; none: something is wrong with it.
fn supposed(
    policy: &Policy,
    reader: &mut Reader,
    case: &CaseSpec,
    (remote, direction, sender): (&Domain, Direction, Option<&str>),
) -> Option<Lists> {
    let known: Vec<&str> = policy.list_names().collect();
    let mut entries: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (list, entry) in [(&case.lists, Some(remote.as_str())), (&case.sender_lists, sender)] {
        let Some(list) = list else { continue };
        if let Some(word) = list.value.iter().find(|word| !known.contains(&word.value.as_str())) {
            reader.error(word, format!("no rule asks a list \"{}\"", word.value), "correct the name");
            return None;
        }
        let Some(entry) = entry else {
            reader.error(
                list,
                "`sender-lists` name a sender, and `from` names a domain alone",
                "write the sender's address, like `from: bad@stranger.example`, or `lists` for the domain",
            );
            return None;
        };
        for word in &list.value {
            entries.entry(&word.value).or_default().push(entry);
        }
    }
    if let Some(list) = case.sender_lists.as_ref().filter(|_| direction == Direction::Outbound) {
        reader.error(
            list,
            "`sender-lists` of a case outbound: lists are asked about who writes to us",
            "take `sender-lists` out, or turn `from` and `to` round",
        );
        return None;
    }
    let lists = entries.into_iter().map(|(name, entries)| Slot::of(List::naming(name, &entries)));
    Some(Lists::new(lists.collect()))
}

fn compare(case: &CaseSpec, verdict: &Verdict, outcome: &CaseOutcome) -> Option<Finding> {
    let differs =
        |word: &Option<Placed<String>>, got: &str| word.as_ref().is_some_and(|word| word.value != got);
    let expected: Vec<&str> =
        [&case.verdict, &case.reason].into_iter().flatten().map(|word| word.value.as_str()).collect();
    let rule = case.rule.as_ref().map_or_else(String::new, |word| format!(" (rule {})", word.value));
    let wrong = differs(&case.verdict, verdict.outcome.label())
        || differs(&case.reason, verdict.reason.label())
        || differs(&case.rule, verdict.rule.as_str());
    let by = verdict.place.as_ref().map_or_else(String::new, |place| format!(" at {place}"));
    wrong.then(|| {
        Finding::error(
            outcome.place.clone(),
            format!(
                "the case {} -> {} expects {}{rule}, but gets {}{by}",
                outcome.from,
                outcome.to,
                expected.join(" "),
                outcome.outcome
            ),
            "correct the rule or the case",
        )
    })
}

impl Source {
    /// A file under a name.
    pub fn new(name: &str, file: super::file::PolicyFile) -> Source {
        Source { name: Arc::from(name), file }
    }
}
