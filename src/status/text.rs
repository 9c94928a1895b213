//! The snapshot as text for a terminal.

use std::fmt::Write as _;

use super::Snapshot;

/// The whole of it.
pub fn write(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _infallible = fill(&mut out, snapshot);
    out
}

fn fill(out: &mut String, s: &Snapshot) -> std::fmt::Result {
    writeln!(out, "gatehouse {}  {}  since {}", s.version, s.phase, s.started)?;
    writeln!(out, "configuration {}", s.config)?;
    writeln!(out, "policy {}", s.policy)?;
    match s.alarms.is_empty() {
        true => writeln!(out, "all is well")?,
        false => s.alarms.iter().try_for_each(|alarm| writeln!(out, "! {alarm}"))?,
    }
    if let Some(cluster) = &s.cluster {
        writeln!(out)?;
        write_cluster(out, cluster)?;
    }
    backends(out, s)?;
    federation(out, s)?;
    policy(out, s)?;
    barred(out, s)
}

/// The servers behind, and what they are shown by.
fn backends(out: &mut String, s: &Snapshot) -> std::fmt::Result {
    writeln!(out, "\nbackends")?;
    for backend in &s.backends {
        let since = backend.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
        let server = backend.server.as_deref().map(|server| format!("  {server}")).unwrap_or_default();
        writeln!(out, "  {:<32} {:<7} {}{since}{server}", backend.domain, backend.flow, backend.state)?;
        if let Some(streams) = backend.streams() {
            writeln!(out, "      {streams}")?;
        }
        if let Some(note) = &backend.note {
            writeln!(out, "      {note}")?;
        }
        for address in &backend.addresses {
            writeln!(out, "      {}  {}", address.address, address.words())?;
        }
    }
    writeln!(out, "\ncertificates")?;
    for certificate in &s.certificates {
        writeln!(
            out,
            "  {:<32} {} days, until {}",
            certificate.domain, certificate.days, certificate.not_after
        )?;
    }
    Ok(())
}

/// The pairs that stand, who does not answer, and what was refused.
fn federation(out: &mut String, s: &Snapshot) -> std::fmt::Result {
    writeln!(out, "\nfederation: {} pairs, {} clients", s.all_pairs, s.clients)?;
    for pair in &s.pairs {
        writeln!(
            out,
            "  {} > {}  {}  proof {}  TLS {}  rule {}  {} stanzas  {}  since {}",
            pair.from,
            pair.to,
            pair.direction,
            pair.proof,
            pair.tls.as_deref().unwrap_or("none"),
            pair.rule,
            pair.stanzas,
            pair.address.as_deref().unwrap_or("-"),
            pair.since
        )?;
    }
    if s.pages > 1 {
        writeln!(out, "  page {} of {}; --page shows another", s.page, s.pages)?;
    }
    if s.silent > 0 {
        writeln!(out, "  {} streams did not answer", s.silent)?;
    }
    section(out, "remote domains that did not answer lately", &s.circuits, |out, circuit| {
        writeln!(
            out,
            "  {:<32} {} ({} failures, {}), tried again in {} s",
            circuit.domain, circuit.state, circuit.failures, circuit.reason, circuit.next
        )
    })?;
    section(out, "last refusals", &s.refusals, |out, refusal| {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        writeln!(
            out,
            "  {}  {} > {}  {}  {}: {}",
            refusal.time,
            name(&refusal.from),
            name(&refusal.to),
            refusal.peer.as_deref().unwrap_or("-"),
            refusal.reason,
            refusal.detail.as_deref().unwrap_or(&refusal.words)
        )
    })
}

/// What the policy says, and what it would say otherwise.
fn policy(out: &mut String, s: &Snapshot) -> std::fmt::Result {
    section(out, "rules", &s.rules, |out, rule| {
        let expires = rule.expires.as_deref().map(|day| format!("  until {day}")).unwrap_or_default();
        let expired = if rule.expired { " (expired)" } else { "" };
        let used = rule.used.as_deref().unwrap_or("never");
        let (name, verdict, hits) = (&rule.name, &rule.verdict, rule.hits);
        writeln!(out, "  {name:<24} {verdict}{expires}{expired}  used {used}, {hits} times  {}", rule.place)
    })?;
    section(out, "remote domains proven in another way than before", &s.peers, |out, peer| {
        writeln!(
            out,
            "  {} > {}  {}  {}: {}\n      was {}\n      is  {}",
            peer.from, peer.to, peer.at, peer.state, peer.what, peer.before, peer.after
        )
    })?;
    if let Some(shadow) = &s.shadow {
        writeln!(
            out,
            "\npolicy in the shadow since {}: {} questions decided alike, {} otherwise; {} would be refused ({} stanzas), {} admitted",
            shadow.since, shadow.alike, shadow.otherwise, shadow.refused, shadow.stanzas, shadow.admitted
        )?;
        for change in &shadow.changes {
            writeln!(
                out,
                "  {} > {}  {}  {} ({})  rule {} -> {}  {} stanzas  last {}",
                change.from,
                change.to,
                change.what,
                change.next,
                change.reason,
                change.rule,
                change.next_rule,
                change.stanzas,
                change.last
            )?;
        }
    }
    section(out, "lists that rules ask", &s.lists, |out, list| {
        let note = list.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        let trouble = list.trouble.as_deref().map(|why| format!("; not fetched: {why}")).unwrap_or_default();
        writeln!(
            out,
            "  {:<24} {} domains  {}{note}{trouble}  {}",
            list.name,
            list.domains,
            list.state(),
            list.file
        )
    })
}

/// Who waits, who may not come, and what there was too much of.
fn barred(out: &mut String, s: &Snapshot) -> std::fmt::Result {
    let title = match s.all_quarantine > s.quarantine.len() {
        true => format!("quarantine: {} of {}", s.quarantine.len(), s.all_quarantine),
        false => "quarantine".to_owned(),
    };
    section(out, &title, &s.quarantine, |out, one| {
        writeln!(
            out,
            "  {}  {}  rule {}  last {}  {} quiet days  {} refused",
            one.domain, one.state, one.rule, one.last, one.quiet, one.refused
        )
    })?;
    section(out, "bans", &s.bans, |out, ban| writeln!(out, "  {}  {} s more", ban.target, ban.seconds))?;
    section(out, "limits that were met", &s.limits, |out, limit| {
        writeln!(out, "  {}  {} times", limit.limit, limit.times)
    })
}

/// Nodes that share a store.
pub fn cluster(cluster: &super::Cluster) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _infallible = write_cluster(&mut out, cluster);
    out
}

fn write_cluster(out: &mut String, c: &super::Cluster) -> std::fmt::Result {
    writeln!(out, "cluster {}: {} nodes", c.name, c.nodes.len())?;
    let state = c.trouble.as_deref().unwrap_or("in order");
    writeln!(out, "  store {}  {state} since {}  {} to be told", c.store, c.since, c.untold)?;
    for node in &c.nodes {
        writeln!(
            out,
            "  {}  {}  {}  {}  {} streams  config {:.12}  policy {:.12}  heard {} s ago  clock {}",
            node.node,
            node.host,
            node.version,
            node.phase,
            node.streams,
            node.config,
            node.policy,
            node.heard,
            node.clock()
        )?;
    }
    c.differences.iter().try_for_each(|difference| writeln!(out, "! {difference}"))
}

fn section<T>(
    out: &mut String,
    title: &str,
    items: &[T],
    line: impl Fn(&mut String, &T) -> std::fmt::Result,
) -> std::fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    items.iter().try_for_each(|item| line(out, item))
}
