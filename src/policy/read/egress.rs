//! `egress:` of a rule, from words to values.

use super::super::egress::{Egress, Presence};
use super::super::file::EgressSpec;
use super::super::finding::Placed;
use super::Reader;

/// What a rule keeps inside; none: everything leaves.
pub(super) fn egress(spec: Option<&Placed<EgressSpec>>, reader: &mut Reader) -> Option<Egress> {
    let spec = spec?;
    let mut egress = Egress::default();
    for word in reader.named("cut", spec.value.cut.as_ref()) {
        match word.value.as_str() {
            "" => reader.error(
                word,
                "a namespace cannot be empty",
                "write it like \"http://jabber.org/protocol/chatstates\"",
            ),
            "jabber:client" | "jabber:server" => reader.error(
                word,
                format!("\"{}\" is the namespace of stanzas themselves", word.value),
                "to stop stanzas of a kind use `stanzas: { allow: [..] }`; `presence: plain` cuts the status text",
            ),
            name => drop(egress.cut.insert(name.to_owned())),
        }
    }
    if let Some(word) = &spec.value.presence {
        let table = [("full", Presence::Full), ("plain", Presence::Plain), ("none", Presence::None)];
        egress.presence = reader.choose(word, "how much of presence leaves", &table).unwrap_or_default();
    }
    if let Some(word) = &spec.value.client_info {
        let table = [("allow", false), ("refuse", true)];
        egress.client_info =
            reader.choose(word, "what becomes of questions about clients", &table).unwrap_or_default();
    }
    if egress == Egress::default() {
        reader.warn(spec, "this `egress` keeps nothing inside", "remove it, or say what it is to keep");
    }
    Some(egress)
}
