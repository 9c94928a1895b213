//! How a refusal, and what is remembered of a peer, read on the command line.

use std::fmt::Write as _;

use crate::gateway::protocol::{Named, Peer, RefusalRecord};

/// A few lines for people: who, why in particular, by which rule or limit, and what to do.
pub(super) fn text(refusal: &RefusalRecord) -> String {
    let who = match (&refusal.from, &refusal.to) {
        (Some(from), Some(to)) => format!("{from} > {to}"),
        (Some(from), None) => format!("{from} > ?"),
        (None, Some(to)) => to.clone(),
        (None, None) => "nobody yet".to_owned(),
    };
    let times = if refusal.times > 1 { format!("  {} times", refusal.times) } else { String::new() };
    let mut text = format!(
        "{}  {}  {who}  {}  {} refused: {}{times}\n    {}\n",
        refusal.time,
        refusal.flow,
        refusal.peer.as_deref().unwrap_or("-"),
        refusal.what,
        refusal.reason,
        refusal.detail.as_deref().unwrap_or(&refusal.words),
    );
    let mut more = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("    {name}: {value}\n"));
        }
    };
    let rule = match (refusal.rule.as_deref(), &refusal.place) {
        (Some(rule), Some(place)) => Some(format!("{rule} at {place}")),
        (Some("default") | None, _) => None,
        (Some(rule), None) => Some(rule.to_owned()),
    };
    more("rule", &rule);
    more("nearest", &refusal.nearest);
    more("limit", &refusal.limit);
    more("to do", &Some(refusal.remedy.clone()).filter(|remedy| !remedy.is_empty()));
    text
}

/// What is remembered of pairs, and how many there are besides.
pub(super) fn peers(peers: &[Peer], more: usize, kept: bool) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = peers.iter().try_for_each(|peer| write_peer(&mut text, peer));
    let waiting = peers.iter().filter(|peer| !peer.waiting.is_empty()).count();
    text.push_str(&format!("{} pairs, {waiting} with changes that wait\n", peers.len() + more));
    if more > 0 {
        text.push_str(&format!("{more} are not shown; --domain shows one\n"));
    }
    if !kept {
        text.push_str("all of it is forgotten at the next start: no `state:` folder is set\n");
    }
    text
}

/// What an operator has said of faces: each with its key, so that nobody has to guess what he has let in.
pub(super) fn settled(faces: &[Named], word: &str) -> String {
    faces.iter().map(|Named { from, to, look }| format!("{word} {from} > {to}: {look}\n")).collect()
}

/// One pair: how it was proven, what has changed last, and what waits.
fn write_peer(out: &mut String, peer: &Peer) -> std::fmt::Result {
    let Peer { from, to, direction, first, last, rule, .. } = peer;
    let hold = if peer.hold { "  on-change hold" } else { "" };
    writeln!(out, "{from} > {to}  {direction}  first {first}  last {last}  rule {rule}{hold}")?;
    for seen in &peer.faces {
        writeln!(out, "    proven by {}\n        first {}  last {}", seen.look, seen.first, seen.last)?;
    }
    let words =
        |what: &[crate::policy::Drift]| what.iter().map(|what| what.label()).collect::<Vec<_>>().join(", ");
    if let Some(change) = peer.changes.last() {
        writeln!(out, "    changed {}: {}, {}", change.at, words(&change.what), change.fate.label())?;
        writeln!(out, "        was {}\n        is  {}", change.before, change.after)?;
    }
    for waiting in &peer.waiting {
        let (first, last) = (waiting.first, waiting.last);
        writeln!(out, "    WAITS {}", waiting.look)?;
        writeln!(
            out,
            "        another than before: {}; kept out {} times, first {first}  last {last}",
            words(&waiting.what),
            waiting.times
        )?;
    }
    if peer.unheard > 0 {
        let times = peer.unheard;
        writeln!(
            out,
            "    and {times} times with faces for which there was no room: `dismiss` those above that are not the partner's, \
             and what comes then is shown"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_and_who_was_asked_for_are_told_apart() {
        let named = |from: Option<&str>, to: Option<&str>| {
            let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
            text(&RefusalRecord { from, to, ..RefusalRecord::default() })
        };
        for (from, to, words) in [
            (Some("a.example"), Some("b.example"), "  a.example > b.example  "),
            (Some("a.example"), None, "  a.example > ?  "),
            (None, Some("b.example"), "  b.example  "),
            (None, None, "  nobody yet  "),
        ] {
            assert!(named(from, to).contains(words), "{}", named(from, to));
        }
    }
}
