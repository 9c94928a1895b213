//! From files to a policy, or to every finding at once, each with its line.
//!
//! Files merge in any order. Two rules equally specific for one domain are an error that names both lines, never a
//! question of which came first. Nothing is guessed and nothing is skipped: a finding that is an error keeps the whole
//! policy from being made (POL-10).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::bounds;
use super::cases::{self, CaseOutcome};
use super::day::Day;
use super::domains::Pattern;
use super::file::{DefaultsSpec, RuleSpec, Scalar};
use super::finding::{Finding, Place, Placed};
use super::peers::OnChange;
use super::quarantine::Quarantine;
use super::question::Tls;
use super::read::Reader;
use super::rules::{Conditions, Rule, RuleName, mark};
use super::settings::{Bans, Federation, Hosted};
use super::source::{HostedSource, Sources};
use super::{Policy, Rules, people};
use crate::reason::{Direction, Outcome};

pub use super::read::octets;

/// A policy, what there is to say of it, and how its cases came out.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// Findings that do not keep it from being used.
    pub warnings: Vec<Finding>,
    /// The cases, all passed.
    pub cases: Vec<CaseOutcome>,
}

/// Makes the policy and runs every case. Any error, a failing case included, is no policy.
///
/// # Errors
/// Every finding, if one of them is an error.
pub fn compile(input: &Sources) -> Result<Compiled, Vec<Finding>> {
    let (policy, mut findings) = build(input);
    let Some(policy) = policy else { return Err(findings) };
    let cases = cases::run(&policy, &input.sources);
    findings.extend(cases.iter().filter_map(|case| case.finding.clone()));
    match findings.iter().any(Finding::is_error) {
        true => Err(findings),
        false => Ok(Compiled { policy, warnings: findings, cases }),
    }
}

/// Makes the policy without running its cases. No policy if any finding is an error.
pub fn build(input: &Sources) -> (Option<Policy>, Vec<Finding>) {
    let mut building = Building::default();
    let users: Vec<Arc<[usize]>> = (0..input.sources.len())
        .map(|source| {
            let uses =
                |(index, hosted): (usize, &HostedSource)| hosted.sources.contains(&source).then_some(index);
            input.hosted.iter().enumerate().filter_map(uses).collect()
        })
        .collect();
    let mut defaults = Vec::with_capacity(input.sources.len());
    for (source, users) in input.sources.iter().zip(&users) {
        let mut reader = Reader::new(&source.name);
        reader.version(source.file.version.as_ref());
        let of_file = Defaults::read(&mut reader, source.file.defaults.as_ref());
        for spec in &source.file.rules {
            building.rule(&mut reader, spec, &of_file, users, input);
        }
        building.findings.append(&mut reader.findings);
        defaults.push(of_file);
    }
    let hosted =
        input.hosted.iter().map(|hosted| building.hosted(hosted, &defaults, input)).collect::<Vec<_>>();
    let mut findings = building.findings;
    findings.sort();
    if findings.iter().any(Finding::is_error) {
        return (None, findings);
    }
    let by_domain = hosted.iter().enumerate().map(|(index, hosted)| (hosted.domain.clone(), index)).collect();
    let policy = Policy {
        rules: Arc::new(building.rules),
        hosted: Arc::new(hosted),
        by_domain: Arc::new(by_domain),
        bans: Arc::new(Bans::default()),
        known: Arc::default(),
        lists: Arc::default(),
        settled: Arc::default(),
        patches: None,
        today: input.today,
        digest: Arc::from(input.digest.as_str()),
        default_rule: RuleName::new(RuleName::DEFAULT),
        shadow: None,
    };
    (Some(policy), findings)
}

/// `defaults:` of a file.
struct Defaults {
    /// For who is in no quarantine.
    free: Arc<Conditions>,
    /// For who is in one.
    held: Arc<Conditions>,
    quarantine: Quarantine,
}

impl Defaults {
    fn read(reader: &mut Reader, spec: Option<&Placed<DefaultsSpec>>) -> Self {
        let free = reader.defaults(spec);
        let bounds = spec.and_then(|spec| spec.value.quarantine.as_ref());
        let quarantine = bounds::read(bounds, &Quarantine::default(), reader);
        Self { held: Arc::new(free.within(quarantine.clone())), free: Arc::new(free), quarantine }
    }
}

#[derive(Default)]
struct Building {
    rules: Rules,
    names: HashMap<String, Place>,
    /// Where each pattern stands, beside the index.
    stands: HashMap<(usize, Pattern), Place>,
    findings: Vec<Finding>,
}

impl Building {
    fn rule(
        &mut self,
        reader: &mut Reader,
        spec: &Placed<RuleSpec>,
        defaults: &Defaults,
        users: &Arc<[usize]>,
        input: &Sources,
    ) {
        let place = spec.place(reader.file());
        let name = self.name(reader, spec.value.name.as_ref(), &place);
        let outcome = spec.value.verdict.as_ref().map_or(Some(Outcome::Allow), |word| reader.verdict(word));
        let direction = spec.value.direction.as_ref().map_or(Some(None), |word| reader.direction(word));
        let terms = match outcome {
            Some(Outcome::Deny) => {
                reader.refuse_terms_of_deny(&spec.value);
                Arc::clone(&defaults.free)
            }
            Some(Outcome::Allow | Outcome::Quarantine) | None => reader.terms(&spec.value, &defaults.free),
        };
        let free = Arc::clone(&terms);
        let terms = match (outcome, &spec.value.quarantine) {
            (Some(Outcome::Quarantine), None) if Arc::ptr_eq(&terms, &defaults.free) => {
                Arc::clone(&defaults.held)
            }
            (Some(Outcome::Quarantine), bounds) => {
                Arc::new(terms.within(bounds::read(bounds.as_ref(), &defaults.quarantine, reader)))
            }
            (Some(Outcome::Allow), Some(bounds)) => {
                reader.error(
                    bounds,
                    "`quarantine` in a rule that allows changes nothing",
                    "write `verdict: quarantine`, or remove the key",
                );
                terms
            }
            (Some(Outcome::Allow), None) | (Some(Outcome::Deny) | None, _) => terms,
        };
        if let (Some(Some(Direction::Inbound)), Some(egress)) = (direction, &spec.value.egress) {
            reader.error(
                egress,
                "`egress` in a rule for the direction inbound changes nothing",
                "remove the key, or the `direction: inbound`",
            );
        }
        let networks = reader.networks(spec.value.networks.as_ref());
        let expires = spec.value.expires.as_ref().and_then(|word| reader.day(word));
        reader.not_empty("owner", spec.value.owner.as_ref());
        reader.not_empty("ticket", spec.value.ticket.as_ref());
        let words = |word: &Option<Scalar>| word.as_ref().map(|word| Arc::from(word.value.as_str()));
        let (owner, ticket) = (words(&spec.value.owner), words(&spec.value.ticket));
        let hosted = self.scope(reader, spec.value.hosted.as_ref(), users, input);
        let quorum = reader.quorum(&spec.value, outcome);
        let patterns = match &spec.value.lists {
            Some(_) => Vec::new(),
            None => reader.patterns(spec.value.domains.as_ref(), &place),
        };
        if let (Some(last), Some(word)) = (expires, spec.value.expires.as_ref())
            && input.today > last
        {
            let what = if outcome == Some(Outcome::Deny) { "no longer denies" } else { "no longer allows" };
            reader.warn(
                word,
                format!("this rule expired and {what} anything"),
                format!("remove it, or renew the date; the clock of this machine says {}", input.today),
            );
        }
        if let Some(list) = &spec.value.pins
            && terms.pins.are_over(input.today)
        {
            reader.warn(
                list,
                "no key that this rule pins counts today, so it admits nobody",
                "pin the key that holds now: `gatehouse probe --pin`",
            );
        }
        let index = self.rules.list.len();
        for (pattern, place) in &patterns {
            self.place_pattern(reader, pattern, place, index, &hosted, name.as_str());
        }
        // A rule with a finding is kept to the end of this run, so that ties with it are found too.
        let (outcome, direction) = (outcome.unwrap_or(Outcome::Deny), direction.flatten());
        let named: BTreeSet<&Pattern> = patterns.iter().map(|(pattern, _)| pattern).collect();
        let served: Vec<_> = hosted.iter().filter_map(|at| Some(&input.hosted.get(*at)?.domain)).collect();
        let who = (&named, served, &networks, direction, &quorum);
        let mark = mark((who, outcome, expires, &owner, &ticket, &terms, &free));
        patterns.into_iter().for_each(|(pattern, _)| self.rules.index.insert(pattern, index));
        if quorum.is_some() {
            self.place_lists(reader, &place, &hosted, name.as_str());
            self.rules.by_lists.push(index);
        }
        self.rules.list.push(Rule {
            name,
            place,
            outcome,
            direction,
            networks,
            expires,
            owner,
            ticket,
            hosted,
            terms,
            free,
            quorum,
            mark,
        });
    }

    fn name(&mut self, reader: &mut Reader, word: Option<&Scalar>, place: &Place) -> RuleName {
        let Some(word) = word else {
            reader.error_at(
                place,
                "this rule has no name",
                "add `name:`, the label in metrics, logs and explain",
            );
            return RuleName::new("");
        };
        let text = word.value.as_str();
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(legal) {
            reader.error(
                word,
                format!("\"{text}\" cannot be the name of a rule"),
                "use up to 64 letters, digits, `-`, `_` and `.`",
            );
        } else if text == RuleName::DEFAULT {
            reader.error(word, "\"default\" stands for \"no rule\"", "choose another name");
        }
        let here = word.place(reader.file());
        if let Some(first) = self.names.get(text) {
            reader.error(
                word,
                format!("two rules are called \"{text}\": here and at {first}"),
                "give each rule its own name; names are labels",
            );
        } else {
            self.names.insert(text.to_owned(), here);
        }
        RuleName::new(text)
    }

    fn scope(
        &mut self,
        reader: &mut Reader,
        list: Option<&Placed<Vec<Scalar>>>,
        users: &Arc<[usize]>,
        input: &Sources,
    ) -> Arc<[usize]> {
        let Some(list) = list else { return Arc::clone(users) };
        if list.value.is_empty() {
            reader.error(
                list,
                "`hosted` is empty, so the rule is for nobody",
                "remove the key or name a hosted domain",
            );
        }
        let mut scope = BTreeSet::new();
        for word in &list.value {
            if word.value.starts_with('*') {
                reader.error(
                    word,
                    format!("\"{}\" is a wildcard", word.value),
                    "name hosted domains one by one; they have no wildcards",
                );
                continue;
            }
            let Some(domain) = reader.domain(word) else { continue };
            let of_domain =
                |index: &&usize| input.hosted.get(**index).is_some_and(|hosted| hosted.domain == domain);
            match users.iter().find(of_domain) {
                Some(index) => {
                    scope.insert(*index);
                }
                None => reader.error(
                    word,
                    format!("{domain} is not a hosted domain that uses this file"),
                    "correct the name, or add this file to the domain's `policies`",
                ),
            }
        }
        scope.into_iter().collect()
    }

    fn place_pattern(
        &mut self,
        reader: &mut Reader,
        pattern: &Pattern,
        place: &Place,
        rule: usize,
        scope: &Arc<[usize]>,
        name: &str,
    ) {
        if let Some(first) = self.stands.get(&(rule, pattern.clone())) {
            reader.error_at(
                place,
                format!("{pattern} stands in this rule twice: here and at {first}"),
                "remove one",
            );
            return;
        }
        for &other in self.rules.index.at(pattern) {
            let Some(earlier) = self.rules.list.get(other) else { continue };
            if !earlier.hosted.iter().any(|hosted| scope.binary_search(hosted).is_ok()) {
                continue;
            }
            let first = self.stands.get(&(other, pattern.clone())).unwrap_or(&earlier.place);
            reader.error_at(
                place,
                format!(
                    "a tie: rule \"{name}\" here and rule \"{}\" at {first} are equally specific for {pattern}",
                    earlier.name
                ),
                "remove the domain from one of them, or keep them apart with `hosted`; order never decides",
            );
        }
        self.stands.insert((rule, pattern.clone()), place.clone());
    }

    /// One rule for each hosted domain asks lists: of two, order would decide.
    fn place_lists(&mut self, reader: &mut Reader, place: &Place, scope: &Arc<[usize]>, name: &str) {
        for rule in self.rules.by_lists.iter().filter_map(|rule| self.rules.list.get(*rule)) {
            if rule.hosted.iter().any(|hosted| scope.binary_search(hosted).is_ok()) {
                reader.error_at(
                    place,
                    format!(
                        "a tie: rule \"{name}\" here and rule \"{}\" at {} both ask lists for one hosted domain",
                        rule.name, rule.place
                    ),
                    "make one rule of them, or keep them apart with `hosted`; order never decides",
                );
            }
        }
    }

    fn hosted(&mut self, source: &HostedSource, defaults: &[Defaults], input: &Sources) -> Hosted {
        let mut terms: Option<(&Defaults, Place)> = None;
        for &index in &source.sources {
            let (Some(file), Some(of_file)) = (input.sources.get(index), defaults.get(index)) else {
                continue;
            };
            let Some(spec) = &file.file.defaults else { continue };
            let place = spec.place(&file.name);
            match &terms {
                Some((first, stands)) if first.held != of_file.held => self.findings.push(Finding::error(
                    place,
                    format!(
                        "these defaults and those at {stands} differ, and {} uses both files",
                        source.domain
                    ),
                    "make them equal, or keep `defaults` in one of the files",
                )),
                Some(_) => {}
                None => terms = Some((of_file, place)),
            }
        }
        if source.federation == Federation::None && !source.sources.is_empty() {
            self.findings.push(Finding::warning(
                source.place.clone(),
                format!("{} does not federate, so its policies decide nothing", source.domain),
                "set `federation: listed`, or remove `policies`",
            ));
        }
        Hosted {
            domain: source.domain.clone(),
            federation: source.federation,
            defaults: terms.as_ref().map_or_else(Arc::default, |(terms, _)| Arc::clone(&terms.free)),
            held: terms.map_or_else(
                || Arc::new(Conditions::default().within(Quarantine::default())),
                |(terms, _)| Arc::clone(&terms.held),
            ),
        }
    }
}

/// What to do where something is forgotten that should not be.
pub const REMEMBER: &str = "name a folder where it is kept: `state: /var/lib/gatehouse`";

impl Rule {
    /// Whether the rule asks for no TLS at all; `check` warns of it.
    pub(super) fn allows_clear_text(&self) -> bool {
        self.outcome != Outcome::Deny && self.terms.tls == Tls::None
    }
}

impl Policy {
    /// Rules that take nothing less than what a domain names in the DNS under signatures: where nobody looks at those, they let nobody
    /// in.
    pub fn needs_signatures(&self) -> Vec<Finding> {
        let rules = self.rules.list.iter().filter(|rule| {
            rule.outcome != Outcome::Deny && rule.terms.pins.is_empty() && !rule.terms.identities.certificate
        });
        let told = rules.map(|rule| {
            Finding::warning(
                rule.place.clone(),
                format!("rule \"{}\" takes DANE alone, and nobody looks at signatures in the DNS", rule.name),
                "set `dns: { dnssec: validate }`, or `resolver` where one validates, or let the rule take another proof",
            )
        });
        told.collect()
    }

    /// Rules that live by what was seen and decided before: where that is forgotten with each start, who comes first after it is
    /// believed, and who was refused writes again.
    pub fn needs_memory(&self) -> Vec<Finding> {
        let told = self.rules.list.iter().filter_map(|rule| {
            let message = if rule.outcome == Outcome::Quarantine {
                format!(
                    "rule \"{}\" puts into quarantine, and who was approved or refused is forgotten at each start",
                    rule.name
                )
            } else if rule.terms.on_change == OnChange::Hold {
                format!(
                    "rule \"{}\" holds changes, and how domains were proven is forgotten at each start",
                    rule.name
                )
            } else {
                return None;
            };
            Some(Finding::warning(rule.place.clone(), message, REMEMBER))
        });
        told.collect()
    }

    /// What an operator should look at although nothing is wrong: rules that let traffic travel in clear, and rules
    /// and patches that expire within `days`.
    pub fn remarks(&self, days: i64) -> Vec<Finding> {
        let mut findings = Vec::new();
        let soon = |last: Day| last >= self.today && last.days() - self.today.days() < days;
        for patch in self.patches().into_iter().flat_map(super::Patches::iter) {
            if let Some(last) = patch.expires.filter(|last| soon(*last)) {
                let owner = patch.owner.as_ref().map_or(String::new(), |owner| format!(" ({owner})"));
                findings.push(Finding::warning(
                    patch.place.clone(),
                    format!("patch \"{}\"{owner} expires after {last}", patch.name),
                    "renew the date if the server behind still needs it",
                ));
            }
        }
        for rule in &self.rules.list {
            if rule.allows_clear_text() {
                findings.push(Finding::warning(
                    rule.place.clone(),
                    format!("rule \"{}\" admits streams without TLS", rule.name),
                    "ask for `tls: \"1.2\"` unless the peer really has none",
                ));
            }
            if let Some(last) = rule.terms.pins.last_day()
                && last >= self.today
                && last.days() - self.today.days() < days
            {
                findings.push(Finding::warning(
                    rule.place.clone(),
                    format!("the last key that rule \"{}\" pins counts until {last}", rule.name),
                    "pin the next one beside it: `gatehouse probe --pin`",
                ));
            }
            if let Some(last) = rule.expires
                && last >= self.today
                && last.days() - self.today.days() < days
            {
                findings.push(Finding::warning(
                    rule.place.clone(),
                    format!(
                        "rule \"{}\" expires after {last}{}",
                        rule.name,
                        people(rule.owner.as_deref(), rule.ticket.as_deref())
                    ),
                    "renew the date if it should go on",
                ));
            }
        }
        findings
    }
}
