//! How a refusal reads on the command line.

use crate::gateway::protocol::Refusal;

/// A few lines for people: who, why in particular, by which rule or limit, and what to do.
pub(super) fn text(refusal: &Refusal) -> String {
    let who = match (&refusal.from, &refusal.to) {
        (Some(from), Some(to)) => format!("{from} > {to}"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
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
