//! What a file says of proofs: `identity`, `pins`, and the key of a case.

use super::day::Day;
use super::file::{RuleSpec, Scalar};
use super::finding::Placed;
use super::pins::{KeyDigest, Pin, Pins};
use super::question::Tls;
use super::read::Reader;
use super::rules::Identities;

/// A word of `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Certificate,
    Dane,
    Dialback,
    Pin,
    Posh,
}

/// Those that need no key of the rule's own.
const EVERYWHERE: [(&str, Named); 4] = [
    ("dane", Named::Dane),
    ("certificate", Named::Certificate),
    ("posh", Named::Posh),
    ("dialback", Named::Dialback),
];

const NAMED: [(&str, Named); 5] = [
    ("pin", Named::Pin),
    ("dane", Named::Dane),
    ("certificate", Named::Certificate),
    ("posh", Named::Posh),
    ("dialback", Named::Dialback),
];

impl Reader {
    /// `identity` of `defaults`, where no key can be pinned: a key is one partner's.
    pub(super) fn default_identities(
        &mut self,
        list: Option<&Placed<Vec<Scalar>>>,
        default: Identities,
    ) -> Identities {
        let Some(list) = list else { return default };
        for word in list.value.iter().filter(|word| word.value == "pin") {
            self.error(
                word,
                "keys are pinned by a rule, not by `defaults`",
                "write a rule for the domain, with `pins: [..]`",
            );
        }
        self.identities(list, &EVERYWHERE)
    }

    /// `identity` and `pins` of a rule.
    pub(super) fn proofs(&mut self, spec: &RuleSpec, default: Identities) -> (Identities, Pins) {
        let pins = self.pins(spec.pins.as_ref());
        let identities = spec.identity.as_ref().map_or(default, |list| self.identities(list, &NAMED));
        for word in spec.identity.iter().flat_map(|list| &list.value) {
            match (&spec.pins, word.value.as_str()) {
                (None, "pin") => self.error(
                    word,
                    "this rule asks for a pinned key and pins none",
                    "add `pins: [..]`; `gatehouse probe --pin` prints the line",
                ),
                // DNS-18.
                (Some(_), "dane" | "certificate" | "posh" | "dialback") => self.error(
                    word,
                    format!("this rule pins keys, so a mere {} proves nothing", word.value),
                    "take the word out, or `pins:`; pins are the only proof of their domains",
                ),
                _ => {}
            }
        }
        if let (Some(list), Some(word)) = (&spec.pins, &spec.tls)
            && self.lowest_tls(word) == Some(Tls::None)
        {
            self.error(
                list,
                "`pins` with `tls: none`: without TLS nobody shows a key",
                "take one of the two out",
            );
        }
        (identities, pins)
    }

    fn identities(&mut self, list: &Placed<Vec<Scalar>>, table: &[(&str, Named)]) -> Identities {
        if list.value.is_empty() {
            self.error(
                list,
                "`identity` is empty, so no proof would do",
                "remove the key, or name dane, certificate, posh or dialback",
            );
        }
        let mut taken = Identities { certificate: false, posh: false, dialback: false, written: true };
        // A pin in `defaults` has been told already.
        let told = |word: &&Scalar| table.len() < NAMED.len() && word.value == "pin";
        for word in list.value.iter().filter(|word| !told(word)) {
            match self.choose(word, "a proof of identity", table) {
                Some(Named::Dialback) => taken.dialback = true,
                Some(Named::Posh) => taken.posh = true,
                Some(Named::Certificate) => taken.certificate = true,
                Some(Named::Dane | Named::Pin) | None => {}
            }
        }
        // What is stronger than a proof that is named is taken, too.
        taken.certificate |= taken.posh || taken.dialback;
        taken
    }

    fn pins(&mut self, list: Option<&Placed<Vec<Scalar>>>) -> Pins {
        let Some(list) = list else { return Pins::default() };
        if list.value.is_empty() {
            self.error(
                list,
                "`pins` is empty, so no key would do",
                "remove the key, or name one: `gatehouse probe --pin` prints the line",
            );
        }
        let mut pins: Vec<Pin> = Vec::with_capacity(list.value.len());
        for word in &list.value {
            let Some(pin) = self.pin(word) else { continue };
            if pins.iter().any(|known| known.key == pin.key) {
                self.error(word, "this key is pinned twice", "remove one, or give one the dates of both");
                continue;
            }
            pins.push(pin);
        }
        Pins::new(pins)
    }

    fn pin(&mut self, word: &Scalar) -> Option<Pin> {
        let mut words = word.value.split_ascii_whitespace();
        let key = self.key_digest(word, words.next().unwrap_or_default());
        let (mut from, mut until) = (None, None);
        loop {
            let (place, day) = match (words.next(), words.next()) {
                (None, _) => break,
                (Some("from"), Some(day)) if from.is_none() => (&mut from, day),
                (Some("until"), Some(day)) if until.is_none() => (&mut until, day),
                _ => {
                    self.error(word, "behind the key is more than its days", PIN);
                    return None;
                }
            };
            let Some(day) = Day::parse(day) else {
                self.error(word, format!("\"{day}\" is no date"), "write it like 2027-01-31");
                return None;
            };
            *place = Some(day);
        }
        if let (Some(first), Some(last)) = (from, until)
            && last < first
        {
            self.error(word, format!("it ends on {last}, before it begins on {first}"), "correct the dates");
        }
        key.map(|key| Pin { key, from, until })
    }

    /// The key of a pin or of a case.
    pub(super) fn key_digest(&mut self, word: &Scalar, text: &str) -> Option<KeyDigest> {
        KeyDigest::parse(text)
            .map_err(|why| self.error(word, format!("\"{text}\" is no digest of a key: {why}"), PIN))
            .ok()
    }
}

const PIN: &str =
    "write it like \"sha256:01ab..\", then, where they are meant, `from 2027-01-01` and `until 2027-12-31`";
