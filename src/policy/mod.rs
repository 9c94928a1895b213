//! Decides whether a domain pair may federate.
//!
//! Judgement is a pure function of a [`Question`] and a snapshot, the [`Policy`]: it keeps no memory, waits for nothing and
//! sees no stanza. It reads no clock either: a snapshot knows the day it was made for, and [`Policy::next_expiry`] tells
//! the caller when to publish [`Policy::on`] another day; living streams then hear of an expired rule as of any other
//! change. Identity is established elsewhere. Files are read elsewhere too; [`compile`] takes what was read and answers
//! with a policy or with every finding at once. Law upheld: `deny_by_default`.

mod beside;
mod bounds;
mod cases;
mod compile;
mod day;
mod domains;
mod egress;
mod explain;
mod file;
mod finding;
mod judge;
mod lists;
mod nearest;
pub mod networks;
mod patches;
mod peers;
mod pins;
mod proofs;
mod proxy;
mod quarantine;
mod question;
mod read;
mod rules;
mod settings;
mod source;
mod verdict;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

pub use beside::Beside;
pub use cases::{CaseOutcome, run as run_cases, stand_alone};
pub use compile::{Compiled, REMEMBER, build, compile, octets};
pub use day::Day;
pub use domains::Pattern;
pub use egress::{Egress, Presence};
pub use explain::{ClientExplanation, Explanation, OfStanza, ShadowWord, StanzaFate, Trail, TrailStep};
pub use file::{
    CaseSpec, DefaultsSpec, EgressSpec, PolicyFile, QuarantineSpec, QuotasSpec, RuleSpec, Scalar, StanzasSpec,
};
pub use finding::{Finding, PLACED, Place, Placed, Severity};
pub use judge::{Bearing, Considered, Witness};
pub use lists::{Held, LeftOut, List, ListFormat, Listed, Lists, MOST as LARGEST_LIST, Slot};
pub use nearest::{Nearest, Search};
pub use networks::Networks;
pub use patches::{
    Action, ConditionSpec, Patch, PatchCaseSpec, PatchFile, PatchQuestion, PatchSource, PatchSpec, PatchWord,
    Patches, Struck, compile_patches, is_stanza, try_patches,
};
pub use peers::{Authority, Compared, Drift, Face, Faces, Known, OnChange, Recollection, compare};
pub use pins::{KeyDigest, Pins, ShownKey};
pub use proxy::{Proxy, ProxyKind};
pub use quarantine::{Counted, Often, Quarantine, SettledParties};
pub use question::{Arrive, Federate, Identity, Question, StanzaKind, StanzaType, Supposed, Tls};
pub use rules::{Conditions, Identities, Quotas, Rate, RuleName, StanzaRules};
pub use settings::{Bans, Federation};
pub use source::{HostedSource, Source, Sources};
pub use verdict::{Permit, Verdict};

use crate::jid::{Domain, Jid};
use crate::reason::{Detail, Outcome};
use domains::{ByDomain, Index};
use rules::Rule;
use settings::Hosted;

/// An immutable snapshot of all rules, for one day. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Arc<Rules>,
    hosted: Arc<Vec<Hosted>>,
    by_domain: Arc<ByDomain<usize>>,
    bans: Arc<Bans>,
    known: Arc<Known>,
    lists: Arc<Lists>,
    /// None: there is none, and nothing is asked.
    patches: Option<Arc<Patches>>,
    settled: Arc<SettledParties>,
    today: Day,
    digest: Arc<str>,
    default_rule: RuleName,
    /// Judged beside this one, and never acted upon.
    shadow: Option<Arc<Policy>>,
}

/// What the files say, whatever the day.
#[derive(Debug, Default)]
struct Rules {
    list: Vec<Rule>,
    index: Index,
    /// The patterns as they are compared with names that none of them stands for; made when that is asked first.
    near: OnceLock<nearest::Speller>,
    /// Those that ask lists.
    by_lists: Vec<usize>,
}

/// A rule, for people who look after it.
#[derive(Clone, Copy, Debug)]
pub struct RuleView<'a> {
    /// Its name.
    pub name: &'a RuleName,
    /// Where it stands.
    pub place: &'a Place,
    /// Whether it allows or denies.
    pub outcome: Outcome,
    /// The proxy through which its domains are called.
    pub via: Option<&'a Proxy>,
    /// The last day on which it holds.
    pub expires: Option<Day>,
    /// Whether that day is past.
    pub expired: bool,
    /// Who asked for it.
    pub owner: Option<&'a str>,
    /// Where it was asked for.
    pub ticket: Option<&'a str>,
}

impl RuleView<'_> {
    /// Whose it is, for people: ` (owner Ada Novak, ticket SEC-17)`, or nothing.
    pub fn people(&self) -> String {
        people(self.owner, self.ticket)
    }
}

fn people(owner: Option<&str>, ticket: Option<&str>) -> String {
    let named = |what: &str, word: Option<&str>| word.map(|word| format!("{what} {word}"));
    let known: Vec<String> = [named("owner", owner), named("ticket", ticket)].into_iter().flatten().collect();
    if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
}

impl Policy {
    /// Whether this domain is served here.
    pub fn hosts(&self, domain: &Domain) -> bool {
        self.by_domain.contains_key(domain)
    }

    /// The domains served here, in the order of the configuration.
    pub fn hosted(&self) -> impl Iterator<Item = &Domain> {
        self.hosted.iter().map(|hosted| &hosted.domain)
    }

    /// Domains that admit only what a rule allows, while no rule that holds today allows anybody.
    pub fn admit_nobody(&self) -> impl Iterator<Item = &Domain> {
        let allows = |index: usize| {
            self.rules.list.iter().any(|rule| rule.outcome != Outcome::Deny && rule.is_for(index))
        };
        let hosted = self.hosted.iter().enumerate();
        hosted
            .filter(move |(index, hosted)| hosted.federation == Federation::Listed && !allows(*index))
            .map(|(_, hosted)| &hosted.domain)
    }

    /// What a hosted domain says of federation; none for a domain that is not served here.
    pub fn federation(&self, domain: &Domain) -> Option<Federation> {
        self.find_hosted(domain).map(|(_, hosted)| hosted.federation)
    }

    /// A digest of everything the policy was made from.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The names of all rules, `default` first: the closed set of the metric label `rule`.
    pub fn rule_names(&self) -> impl Iterator<Item = &RuleName> {
        std::iter::once(&self.default_rule).chain(self.rules.list.iter().map(|rule| &rule.name))
    }

    /// The names of rules that this one has, too, and that say another thing there.
    pub fn changed_rules(&self, other: &Policy) -> impl Iterator<Item = &RuleName> {
        let marks: HashMap<&str, u64> =
            other.rules.list.iter().map(|rule| (rule.name.as_str(), rule.mark)).collect();
        let differs =
            move |rule: &&Rule| marks.get(rule.name.as_str()).is_some_and(|mark| *mark != rule.mark);
        self.rules.list.iter().filter(differs).map(|rule| &rule.name)
    }

    /// Every rule, in the order of the files.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'_>> {
        self.rules.list.iter().map(|rule| RuleView {
            name: &rule.name,
            place: &rule.place,
            outcome: rule.outcome,
            via: rule.terms.via.as_deref(),
            expires: rule.expires,
            expired: rule.has_expired(self.today),
            owner: rule.owner.as_deref(),
            ticket: rule.ticket.as_deref(),
        })
    }

    /// The day this snapshot is for.
    pub fn today(&self) -> Day {
        self.today
    }

    /// The first day on which a rule, a patch or a pin that still holds today will have expired, or a pin begins to count; the caller then publishes [`Policy::on`].
    pub fn next_expiry(&self) -> Option<Day> {
        let rules = || self.rules.list.iter();
        let lasting = rules().filter_map(|rule| rule.expires).filter(|last| *last >= self.today);
        let pins = rules().filter_map(|rule| rule.terms.pins.next_change(self.today));
        let patches = self.patches().and_then(|patches| patches.next_expiry(self.today));
        lasting.map(Day::next).chain(pins).chain(patches).min()
    }

    /// Why the key that a remote server showed does not prove its domain, where the rule of that pair pins keys; none where
    /// it does, or where nothing is pinned.
    pub fn doubt_key(&self, asked: &Federate<'_>) -> Option<Detail> {
        let question = Federate { identity: Identity::Unproven, tls: Tls::Unknown, ..*asked };
        let permit = self.judge(&Question::Federate(question), &mut ()).permit()?;
        permit.pins().doubt(asked.key, self.today)
    }

    /// The same rules on another day.
    pub fn on(&self, today: Day) -> Policy {
        self.mapped(|policy| Policy { today, ..policy.clone() })
    }

    /// The same rules with these bans in place of the present ones.
    pub fn with_bans(&self, bans: Bans) -> Policy {
        let bans = Arc::new(bans);
        self.mapped(|policy| Policy { bans: Arc::clone(&bans), ..policy.clone() })
    }

    /// The same rules with these let out of quarantine or shut out.
    pub fn with_settled(&self, settled: SettledParties) -> Policy {
        let settled = Arc::new(settled);
        self.mapped(|policy| Policy { settled: Arc::clone(&settled), ..policy.clone() })
    }

    /// Who was let out of quarantine, and who was shut out.
    pub fn settled(&self) -> &SettledParties {
        &self.settled
    }

    /// The policy in the shadow of this one, if there is one.
    pub fn shadow(&self) -> Option<&Policy> {
        self.shadow.as_deref()
    }

    /// The same rules with that policy in their shadow, on the same day, under the same bans, and with the same let out of quarantine.
    pub fn with_shadow(&self, shadow: Option<Policy>) -> Policy {
        let alike = |shadow: Policy| Policy {
            bans: Arc::clone(&self.bans),
            settled: Arc::clone(&self.settled),
            known: Arc::clone(&self.known),
            today: self.today,
            ..shadow
        };
        Policy { shadow: shadow.map(|shadow| Arc::new(alike(shadow))), ..self.clone() }
    }

    /// Another of each: of this policy, and of the one in its shadow.
    fn mapped(&self, change: impl Fn(&Policy) -> Policy) -> Policy {
        let shadow = self.shadow.as_deref().map(|shadow| Arc::new(change(shadow)));
        Policy { shadow, ..change(self) }
    }

    /// The same rules with these lists in place of the present ones.
    pub fn with_lists(&self, lists: Lists) -> Policy {
        let lists = Arc::new(lists);
        self.mapped(|policy| Policy { lists: Arc::clone(&lists), ..policy.clone() })
    }

    /// The same, where what outlives a reload is as `before` had it: bans, who is out of quarantine, how peers were proven,
    /// and lists that are held.
    pub fn after(&self, before: &Policy) -> Policy {
        let (bans, settled) = (Arc::clone(&before.bans), Arc::clone(&before.settled));
        let known = Arc::clone(&before.known);
        let lists = Arc::new(self.lists.after(&before.lists));
        self.mapped(|policy| Policy {
            bans: Arc::clone(&bans),
            settled: Arc::clone(&settled),
            known: Arc::clone(&known),
            lists: Arc::clone(&lists),
            ..policy.clone()
        })
    }

    /// Whether lists may name single addresses, so that senders are to be asked about: by this policy, or by that in its shadow.
    pub fn asks_of_addresses(&self) -> bool {
        let asks = |policy: &Policy| !policy.rules.by_lists.is_empty() && policy.lists.name_addresses();
        asks(self) || self.shadow().is_some_and(asks)
    }

    /// The lists that rules may ask.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// The names of lists that rules ask, in no order.
    pub fn list_names(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.by_lists.iter().filter_map(|rule| self.rules.list.get(*rule));
        rules
            .filter_map(|rule| rule.quorum.as_ref())
            .flat_map(|quorum| quorum.lists.iter().map(String::as_str))
    }

    /// What lists say of a remote domain, or of an address there, where a rule for this hosted domain asks them.
    pub fn listed(&self, hosted: &Domain, remote: &Domain, address: Option<&str>) -> Option<Listed> {
        let (index, _) = self.find_hosted(hosted)?;
        let rules = self.rules.by_lists.iter().filter_map(|rule| self.rules.list.get(*rule));
        let asks = rules.filter(|rule| rule.is_for(index)).find_map(|rule| rule.quorum.as_ref())?;
        let jid =
            address.and_then(|address| Jid::parse(address).or_else(|_| Jid::parse_rfc7622(address)).ok());
        let bare = jid.map(|jid| jid.bare_form());
        Some(self.lists.asked(asks, remote, bare.as_deref()))
    }

    /// The names of lists that rules ask and that are none of these, each with the rule that asks.
    pub fn unknown_lists(&self, known: &[String]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for rule in &self.rules.list {
            for list in rule.quorum.iter().flat_map(|quorum| &quorum.lists) {
                if !known.contains(list) {
                    findings.push(Finding::error(
                        rule.place.clone(),
                        format!(
                            "rule \"{}\" asks the list \"{list}\", and there is none of that name",
                            rule.name
                        ),
                        "name it under `lists:` of the configuration, or correct the name",
                    ));
                }
            }
        }
        findings
    }

    /// The same rules with these patches in place of the present ones.
    pub fn with_patches(&self, patches: Patches) -> Policy {
        let patches = Some(Arc::new(patches)).filter(|patches| patches.iter().next().is_some());
        Policy { patches, ..self.clone() }
    }

    /// The patches in force; none where there is none.
    pub fn patches(&self) -> Option<&Patches> {
        self.patches.as_deref()
    }

    /// The same rules with these pairs remembered in place of the present ones.
    pub fn with_known(&self, known: Known) -> Policy {
        let known = Arc::new(known);
        self.mapped(|policy| Policy { known: Arc::clone(&known), ..policy.clone() })
    }

    /// The bans in force.
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    /// The rule whose pattern looks most like this domain; none where nothing looks alike. A wildcard counts for its parent, too:
    /// it does not stand for that domain itself (POL-02). And a domain counts for those above and below it, which it does not stand for
    /// either: whoever lists a server may have meant its rooms.
    ///
    /// Among more than [`Search::MOST`] patterns those are compared that begin or end most like the domain.
    pub fn nearest(&self, domain: &Domain) -> Option<Nearest> {
        self.search_nearest(domain).nearest
    }

    /// Makes ready what [`Policy::nearest`] searches in, which of many rules takes a while: else who asks first waits for it.
    pub fn prepare_nearest(&self) {
        let _speller = self.rules.speller();
    }

    /// The same as [`Policy::nearest`], with what the search cost.
    pub fn search_nearest(&self, domain: &Domain) -> Search {
        self.rules.search_nearest(domain)
    }

    fn with_federation(&self, index: usize, federation: Federation) -> Policy {
        let mut hosted = Vec::clone(&self.hosted);
        if let Some(entry) = hosted.get_mut(index) {
            entry.federation = federation;
        }
        Policy { hosted: Arc::new(hosted), ..self.clone() }
    }

    fn find_hosted(&self, domain: &Domain) -> Option<(usize, &Hosted)> {
        let index = *self.by_domain.get(domain)?;
        self.hosted.get(index).map(|hosted| (index, hosted))
    }
}
