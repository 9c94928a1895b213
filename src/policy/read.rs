//! From words of a file to values, with a finding for each word that means nothing.

mod egress;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::day::Day;
use super::domains::Pattern;
use super::file::{DefaultsSpec, QuotasSpec, RuleSpec, Scalar, StanzasSpec};
use super::finding::{Finding, Place, Placed};
use super::lists::Quorum;
use super::networks::{self, Networks};
use super::peers::OnChange;
use super::proxy::Proxy;
use super::question::{Identity, StanzaKind, Tls};
use super::rules::{Conditions, Quotas, Rate, StanzaRules};
use crate::jid::{Domain, Jid};
use crate::reason::{Class, Direction, Outcome, Reason};

/// Reads the words of one file and gathers what is wrong with them.
pub(super) struct Reader {
    file: Arc<str>,
    pub(super) findings: Vec<Finding>,
}

impl Reader {
    pub(super) fn new(file: &Arc<str>) -> Reader {
        Reader { file: Arc::clone(file), findings: Vec::new() }
    }

    pub(super) fn file(&self) -> &Arc<str> {
        &self.file
    }

    pub(super) fn error<T>(&mut self, at: &Placed<T>, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::error(at.place(&self.file), message, remedy));
    }

    pub(super) fn error_at(&mut self, at: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::error(at.clone(), message, remedy));
    }

    pub(super) fn warn<T>(&mut self, at: &Placed<T>, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::warning(at.place(&self.file), message, remedy));
    }

    /// A word that says something: nothing has an empty name.
    pub(super) fn not_empty(&mut self, name: &str, word: Option<&Scalar>) {
        if let Some(word) = word.filter(|word| word.value.trim().is_empty()) {
            self.error(word, format!("`{name}` is empty"), "write what is meant, or remove the key");
        }
    }

    /// The words of a list that names something where it stands.
    pub(super) fn named<'l>(&mut self, name: &str, list: Option<&'l Placed<Vec<Scalar>>>) -> &'l [Scalar] {
        let Some(list) = list else { return &[] };
        if list.value.is_empty() {
            self.error(list, format!("`{name}` is empty"), "name what is meant, or remove the key");
        }
        &list.value
    }

    pub(super) fn version(&mut self, word: Option<&Scalar>) {
        match word {
            Some(word) if word.value == "v1" => {}
            Some(word) => {
                self.error(word, format!("version \"{}\" is not known", word.value), "write `version: v1`")
            }
            None => self.error_at(
                &Place::whole(&self.file.clone()),
                "the file does not say which version of the format it is written in",
                "begin it with `version: v1`",
            ),
        }
    }

    pub(super) fn defaults(&mut self, spec: Option<&Placed<DefaultsSpec>>) -> Conditions {
        let builtin = Conditions::default();
        let Some(spec) = spec else { return builtin };
        let egress = egress::egress(spec.value.egress.as_ref(), self).map(Box::new);
        Conditions {
            stanzas: Arc::new(StanzaRules { egress, ..StanzaRules::default() }),
            identities: self.default_identities(spec.value.identity.as_ref(), builtin.identities),
            tls: spec.value.tls.as_ref().and_then(|word| self.lowest_tls(word)).unwrap_or(builtin.tls),
            ..builtin
        }
    }

    pub(super) fn terms(&mut self, spec: &RuleSpec, defaults: &Arc<Conditions>) -> Arc<Conditions> {
        let plain = spec.identity.is_none()
            && spec.pins.is_none()
            && spec.tls.is_none()
            && spec.on_change.is_none()
            && spec.via.is_none()
            && spec.stanzas.is_none()
            && spec.limits.is_none()
            && spec.egress.is_none();
        if plain {
            return Arc::clone(defaults);
        }
        let (identities, pins) = self.proofs(spec, defaults.identities);
        let egress = match &spec.egress {
            Some(spec) => egress::egress(Some(spec), self).map(Box::new),
            None => defaults.stanzas.egress.clone(),
        };
        Arc::new(Conditions {
            identities,
            pins,
            tls: spec.tls.as_ref().and_then(|word| self.lowest_tls(word)).unwrap_or(defaults.tls),
            stanzas: Arc::new(StanzaRules { egress, ..self.stanzas(spec.stanzas.as_ref()) }),
            quotas: self.quotas(spec.limits.as_ref()),
            on_change: spec.on_change.as_ref().and_then(|word| self.on_change(word)).unwrap_or_default(),
            via: spec.via.as_ref().and_then(|word| self.via(word)).map(Arc::new),
        })
    }

    fn via(&mut self, word: &Scalar) -> Option<Proxy> {
        match Proxy::parse(&word.value) {
            Ok(proxy) => Some(proxy),
            Err(what) => {
                // What stands there may hold a password.
                self.error(word, format!("`via` is no proxy: {what}"), Proxy::REMEDY);
                None
            }
        }
    }

    fn on_change(&mut self, word: &Scalar) -> Option<OnChange> {
        let table = [("note", OnChange::Note), ("hold", OnChange::Hold)];
        self.choose(word, "what becomes of a change", &table)
    }

    /// A key that could change nothing is a mistake, not a remark.
    pub(super) fn refuse_terms_of_deny(&mut self, spec: &RuleSpec) {
        let mut refuse = |name: &str, place: Option<Place>| {
            if let Some(place) = place {
                self.findings.push(Finding::error(
                    place,
                    format!("`{name}` in a rule that denies changes nothing"),
                    "remove the key, or the `verdict: deny`",
                ));
            }
        };
        let file = Arc::clone(&self.file);
        refuse("identity", spec.identity.as_ref().map(|at| at.place(&file)));
        refuse("pins", spec.pins.as_ref().map(|at| at.place(&file)));
        refuse("tls", spec.tls.as_ref().map(|at| at.place(&file)));
        refuse("on-change", spec.on_change.as_ref().map(|at| at.place(&file)));
        refuse("via", spec.via.as_ref().map(|at| at.place(&file)));
        refuse("stanzas", spec.stanzas.as_ref().map(|at| at.place(&file)));
        refuse("limits", spec.limits.as_ref().map(|at| at.place(&file)));
        refuse("egress", spec.egress.as_ref().map(|at| at.place(&file)));
        refuse("quarantine", spec.quarantine.as_ref().map(|at| at.place(&file)));
    }

    pub(super) fn verdict(&mut self, word: &Scalar) -> Option<Outcome> {
        let table = [("allow", Outcome::Allow), ("deny", Outcome::Deny), ("quarantine", Outcome::Quarantine)];
        self.choose(word, "a verdict", &table)
    }

    /// The outer none: no such word; the inner none: both directions.
    pub(super) fn direction(&mut self, word: &Scalar) -> Option<Option<Direction>> {
        let table =
            [("inbound", Some(Direction::Inbound)), ("outbound", Some(Direction::Outbound)), ("both", None)];
        self.choose(word, "a direction", &table)
    }

    pub(super) fn lowest_tls(&mut self, word: &Scalar) -> Option<Tls> {
        self.choose(word, "a version of TLS", &[("1.2", Tls::V12), ("1.3", Tls::V13), ("none", Tls::None)])
    }

    pub(super) fn identity(&mut self, word: &Scalar) -> Option<Identity> {
        let table = [
            ("pin", Identity::Pin),
            ("dane", Identity::Dane),
            ("certificate", Identity::Certificate),
            ("posh", Identity::Posh),
            ("dialback", Identity::Dialback),
            ("none", Identity::Absent),
        ];
        self.choose(word, "a proof of identity", &table)
    }

    pub(super) fn kind(&mut self, word: &Scalar) -> Option<StanzaKind> {
        let table =
            [("message", StanzaKind::Message), ("presence", StanzaKind::Presence), ("iq", StanzaKind::Iq)];
        self.choose(word, "a kind of stanza", &table)
    }

    pub(super) fn reason(&mut self, word: &Scalar) -> Option<Reason> {
        let found = Reason::ALL.iter().copied().find(|reason| reason.label() == word.value);
        if found.is_none() {
            let ours =
                Reason::ALL.iter().filter(|reason| reason.is(Class::OfPolicy)).map(|reason| reason.label());
            let remedy = format!("policy's reasons are {}", ours.collect::<Vec<_>>().join(", "));
            self.error(word, format!("\"{}\" is not a reason", word.value), remedy);
        }
        found
    }

    pub(super) fn domain(&mut self, word: &Scalar) -> Option<Domain> {
        match Domain::parse(&word.value) {
            Ok(domain) => Some(domain),
            Err(error) => {
                self.findings.push(Finding::no_domain(word.place(&self.file), &word.value, error));
                None
            }
        }
    }

    /// The domain of an address, as cases name it.
    pub(super) fn address_domain(&mut self, word: &Scalar) -> Option<Domain> {
        match Jid::parse(&word.value) {
            Ok(jid) => Some(jid.to_domain()),
            Err(error) => {
                self.error(
                    word,
                    format!("\"{}\" is no address: {error}", word.value),
                    "write it like example.com",
                );
                None
            }
        }
    }

    pub(super) fn ip(&mut self, word: &Scalar) -> Option<IpAddr> {
        let found = word.value.parse::<IpAddr>().ok();
        if found.is_none() {
            self.error(
                word,
                format!("\"{}\" is no IP address", word.value),
                "write it like 192.0.2.7 or 2001:db8::7",
            );
        }
        found
    }

    pub(super) fn day(&mut self, word: &Scalar) -> Option<Day> {
        let found = Day::parse(&word.value);
        if found.is_none() {
            self.error(word, format!("\"{}\" is no date", word.value), "write it like 2027-01-31");
        }
        found
    }

    pub(super) fn patterns(
        &mut self,
        list: Option<&Placed<Vec<Scalar>>>,
        rule: &Place,
    ) -> Vec<(Pattern, Place)> {
        let Some(list) = list.filter(|list| !list.value.is_empty()) else {
            self.error_at(
                rule,
                "this rule names no domains",
                "add `domains: [partner.example, \"*.agency.example\"]`",
            );
            return Vec::new();
        };
        let mut patterns = Vec::with_capacity(list.value.len());
        for word in &list.value {
            match Pattern::parse(&word.value) {
                Ok(pattern) => patterns.push((pattern, word.place(&self.file))),
                Err(_) if word.value == "*" => self.error(
                    word,
                    "\"*\" alone stands for nothing",
                    "say what holds for every domain with `federation: any`, `listed` or `none` in the configuration",
                ),
                Err(error) if word.value.contains('*') => self.error(
                    word,
                    format!("\"{}\" is no pattern: {error}", word.value),
                    "a wildcard is `*.` and a domain; it stands for one or more labels",
                ),
                Err(error) => self.error(
                    word,
                    format!("\"{}\" is no domain: {error}", word.value),
                    "write it like partner.example or \"*.agency.example\"",
                ),
            }
        }
        patterns
    }

    /// The lists that a rule asks, and how many must name a domain.
    pub(super) fn quorum(&mut self, spec: &RuleSpec, outcome: Option<Outcome>) -> Option<Quorum> {
        let Some(list) = &spec.lists else {
            if let Some(word) = &spec.quorum {
                self.error(word, "`quorum` without `lists`", "say of which lists: `lists: [..]`");
            }
            return None;
        };
        if matches!(outcome, Some(Outcome::Allow | Outcome::Quarantine)) {
            self.error(
                list,
                "`lists` in a rule that does not deny",
                "write `verdict: deny`: a list says who is kept out",
            );
        }
        if let Some(domains) = &spec.domains {
            self.error(domains, "a rule names domains or lists, not both", "make two rules of it");
        }
        let mut lists = BTreeSet::new();
        for word in &list.value {
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if word.value.is_empty() || !word.value.bytes().all(legal) {
                let message = format!("\"{}\" cannot be the name of a list", word.value);
                self.error(word, message, "write the name that it has under `lists:` of the configuration");
            } else if !lists.insert(word.value.clone()) {
                let message = format!("the list \"{}\" stands in this rule twice", word.value);
                self.error(word, message, "remove one: each list has one voice");
            }
        }
        if list.value.is_empty() {
            self.error(list, "`lists` is empty, so the rule is for nobody", "name a list");
        }
        let quorum = match &spec.quorum {
            None => 1,
            Some(word) => {
                let number = word.value.parse::<usize>().ok().filter(|n| (1..=lists.len()).contains(n));
                if number.is_none() {
                    let message = format!("\"{}\" of {} lists cannot agree", word.value, lists.len());
                    self.error(word, message, "write a number from 1 to that of the lists");
                }
                number.unwrap_or(1)
            }
        };
        Some(Quorum { lists, quorum })
    }

    pub(super) fn networks(&mut self, list: Option<&Placed<Vec<Scalar>>>) -> Networks {
        let Some(list) = list else { return Networks::default() };
        if list.value.is_empty() {
            self.error(
                list,
                "`networks` is empty, so no address would do",
                "remove the key, or name a network",
            );
        }
        let mut found = Vec::with_capacity(list.value.len());
        for word in &list.value {
            match networks::parse(&word.value) {
                Ok(network) => found.push(network),
                Err(message) => self.error(word, message, ""),
            }
        }
        Networks::new(found)
    }

    fn stanzas(&mut self, spec: Option<&Placed<StanzasSpec>>) -> StanzaRules {
        let Some(spec) = spec else { return StanzaRules::default() };
        let mut rules = StanzaRules::default();
        if let Some(list) = &spec.value.allow {
            if list.value.is_empty() {
                self.error(
                    list,
                    "`allow` is empty, so no stanza would pass",
                    "use `verdict: deny`, or name a kind",
                );
            }
            let admitted: BTreeSet<StanzaKind> =
                list.value.iter().filter_map(|word| self.kind(word)).collect();
            rules.refused_kinds =
                StanzaKind::ALL.iter().copied().filter(|kind| !admitted.contains(kind)).collect();
        }
        for word in self.named("deny-payloads", spec.value.deny_payloads.as_ref()) {
            if word.value.is_empty() {
                self.error(word, "a namespace cannot be empty", "write it like \"jabber:iq:register\"");
            }
            rules.refused_payloads.insert(word.value.clone());
        }
        rules
    }

    fn quotas(&mut self, spec: Option<&Placed<QuotasSpec>>) -> Quotas {
        let Some(spec) = spec else { return Quotas::default() };
        let stanzas = spec.value.stanzas.as_ref().and_then(|word| {
            self.rate(word, "write it like 50/s", |text| {
                text.parse::<u64>().map_err(|_| "no number".to_owned())
            })
        });
        let octets =
            spec.value.octets.as_ref().and_then(|word| self.rate(word, "write it like 64KiB/s", octets));
        let streams = self.number(spec.value.streams.as_ref(), "streams");
        let connections = self.number(spec.value.connections.as_ref(), "connections");
        let pairs = self.number(spec.value.pairs.as_ref(), "pairs");
        Quotas { stanzas, octets, streams, connections, pairs }
    }

    fn number(&mut self, word: Option<&Scalar>, what: &str) -> Option<u32> {
        let word = word?;
        let number = word.value.parse::<u32>().ok().filter(|number| *number > 0);
        if number.is_none() {
            self.error(word, format!("\"{}\" is no number of {what}", word.value), "write a number from 1");
        }
        number
    }

    fn rate(
        &mut self,
        word: &Scalar,
        remedy: &str,
        read: impl Fn(&str) -> Result<u64, String>,
    ) -> Option<Rate> {
        let number = word.value.strip_suffix("/s").map(|text| read(text.trim()));
        let rate = match number {
            Some(Ok(number)) => u32::try_from(number).ok().and_then(NonZeroU32::new),
            Some(Err(_)) | None => None,
        };
        if rate.is_none() {
            self.error(word, format!("\"{}\" is no rate from 1 to 4294967295 a second", word.value), remedy);
        }
        rate.map(|per_second| Rate { per_second })
    }

    pub(super) fn choose<T: Copy>(&mut self, word: &Scalar, what: &str, table: &[(&str, T)]) -> Option<T> {
        let found = table.iter().find(|(name, _)| *name == word.value).map(|(_, value)| *value);
        if found.is_none() {
            let close = table.iter().map(|(name, _)| (strsim::damerau_levenshtein(&word.value, name), *name));
            let meant = close.min().filter(|(apart, name)| *apart <= 2 && *apart < name.len());
            let mut remedy = meant.map_or_else(String::new, |(_, name)| format!("did you mean `{name}`? "));
            remedy.push_str("write ");
            for (index, (name, _)) in table.iter().enumerate() {
                let separator = match index {
                    0 => "",
                    _ if index + 1 == table.len() => " or ",
                    _ => ", ",
                };
                let _ = write!(remedy, "{separator}{name}");
            }
            self.error(word, format!("\"{}\" is not {what}", word.value), remedy);
        }
        found
    }
}

/// Reads a number of octets with its unit: `512B`, `64KiB`, `4MiB`, `1GiB`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn octets(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit.trim_start() {
        "B" => 1u64,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err(format!("\"{text}\" has no unit; write it like 512B, 64KiB or 4MiB")),
        _ => return Err(format!("\"{text}\" is no size; write it like 512B, 64KiB or 4MiB")),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.ok_or_else(|| format!("\"{text}\" is no size; write it like 512B, 64KiB or 4MiB"))
}
