//! The snapshot as one page of HTML: plain styles, no script, nothing loaded from anywhere.
//!
//! It reads well on a phone and on a desk, with the keyboard alone and aloud: one heading a section, a caption and headings
//! for each table, a way past the tables, and no meaning in colour alone.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Snapshot;

/// What the page may load: its own styles, by their digest, and nothing else; nobody may put it into a frame.
pub fn content_security_policy() -> String {
    let digest = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The whole page.
pub fn write(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(64 * 1024);
    // Writing to a string cannot fail.
    let _infallible = fill(&mut out, snapshot);
    out
}

fn fill(out: &mut String, s: &Snapshot) -> fmt::Result {
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Gatehouse: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">To the contents</a>\n<header>\n<h1>Gatehouse</h1>\n\
         <p>Version {}, {} since <time>{}</time>. Configuration <code>{}</code>, policy <code>{}</code>. Seen <time>{}</time>.</p>\n</header>\n<nav aria-label=\"Sections\">\n<ul>\n",
        Text(&s.phase),
        Text(&s.version),
        Text(&s.phase),
        Text(&moment(&s.started)),
        Text(s.config.get(..12).unwrap_or(&s.config)),
        Text(s.policy.get(..12).unwrap_or(&s.policy)),
        Text(&moment(&s.time)),
    )?;
    let is_there = |id: &str| match id {
        "shadow" => s.shadow.is_some(),
        "lists" => !s.lists.is_empty(),
        "quarantine" => !s.quarantine.is_empty(),
        "peers" => !s.peers.is_empty(),
        _ => true,
    };
    for (id, title) in SECTIONS.into_iter().filter(|(id, _)| is_there(id)) {
        writeln!(out, "<li><a href=\"#{id}\">{title}</a></li>")?;
    }
    out.write_str("</ul>\n</nav>\n<main id=\"main\">\n<section aria-labelledby=\"alarms\">\n<h2 id=\"alarms\">State</h2>\n")?;
    if s.alarms.is_empty() {
        out.write_str("<p class=\"good\">All is well.</p>\n")?;
    } else {
        out.write_str("<ul class=\"bad\">\n")?;
        s.alarms.iter().try_for_each(|alarm| writeln!(out, "<li>{}</li>", Text(alarm)))?;
        out.write_str("</ul>\n")?;
    }
    out.write_str("</section>\n")?;
    nodes(out, s)?;
    backends(out, s)?;
    certificates(out, s)?;
    pairs(out, s)?;
    refusals(out, s)?;
    policy(out, s)?;
    barred(out, s)?;
    out.write_str("</main>\n</body>\n</html>\n")
}

/// The nodes that share a store; nothing where there is none.
fn nodes(out: &mut String, s: &Snapshot) -> fmt::Result {
    let Some(cluster) = &s.cluster else { return Ok(()) };
    let heads =
        &["Node", "Machine", "Version", "Phase", "Streams", "Configuration", "Policy", "Heard", "Clock"];
    let title = format!("Cluster {}: {} nodes", cluster.name, cluster.nodes.len());
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    table(out, "nodes", &title, heads, &cluster.nodes, |node| {
        vec![
            node.node.clone(),
            node.host.clone(),
            node.version.clone(),
            node.phase.clone(),
            node.streams.to_string(),
            short(&node.config),
            short(&node.policy),
            format!("{} s ago", node.heard),
            node.clock(),
        ]
    })
}

fn backends(out: &mut String, s: &Snapshot) -> fmt::Result {
    table(
        out,
        "backends",
        "Servers behind",
        &["Domain", "Side", "State", "Since", "Server", "Addresses"],
        &s.backends,
        |b| {
            let addresses = b.addresses.iter().map(|address| match address.words() {
                "answers" => format!("{} answers", address.address),
                words => format!("{}: {words}", address.address),
            });
            vec![
                b.domain.clone(),
                b.flow.clone(),
                b.state.clone(),
                b.since.as_deref().map(moment).unwrap_or_default(),
                b.server.clone().unwrap_or_default(),
                addresses.chain(b.streams()).chain(b.note.clone()).collect::<Vec<_>>().join("; "),
            ]
        },
    )
}

fn certificates(out: &mut String, s: &Snapshot) -> fmt::Result {
    table(out, "certificates", "Certificates", &["Domain", "Days left", "Until"], &s.certificates, |c| {
        vec![c.domain.clone(), c.days.to_string(), moment(&c.not_after)]
    })
}

fn pairs(out: &mut String, s: &Snapshot) -> fmt::Result {
    let heads = &["From", "To", "Direction", "Proof", "TLS", "Rule", "Since", "Stanzas", "Remote address"];
    let title = format!("Federation: {} pairs, {} clients", s.all_pairs, s.clients);
    table(out, "federation", &title, heads, &s.pairs, |p| {
        vec![
            p.from.clone(),
            p.to.clone(),
            p.direction.clone(),
            p.proof.clone(),
            p.tls.clone().unwrap_or_else(|| "none".to_owned()),
            p.rule.clone(),
            moment(&p.since),
            p.stanzas.to_string(),
            p.address.clone().unwrap_or_default(),
        ]
    })?;
    if s.pages > 1 {
        out.write_str("<nav aria-label=\"Pages of pairs\">\n<p>")?;
        if s.page > 1 {
            write!(out, "<a rel=\"prev\" href=\"?page={}#federation\">Previous</a> ", s.page - 1)?;
        }
        write!(out, "Page {} of {}", s.page, s.pages)?;
        if s.page < s.pages {
            write!(out, " <a rel=\"next\" href=\"?page={}#federation\">Next</a>", s.page.saturating_add(1))?;
        }
        out.write_str("</p>\n</nav>\n")?;
    }
    Ok(())
}

/// Who did not answer, and what was refused.
fn refusals(out: &mut String, s: &Snapshot) -> fmt::Result {
    let heads = &["Domain", "For", "State", "Reason", "Failures", "Since", "Next attempt"];
    table(out, "circuits", "Remote domains that did not answer", heads, &s.circuits, |c| {
        vec![
            c.domain.clone(),
            c.hosted.clone().unwrap_or_else(|| "all".to_owned()),
            c.state.clone(),
            c.reason.clone(),
            c.failures.to_string(),
            format!("{} s ago", c.since),
            format!("in {} s", c.next),
        ]
    })?;
    let heads = &["When", "Times", "From", "To", "Address", "Reason", "Why", "Rule or limit", "What to do"];
    table(out, "refusals", "Last refusals", heads, &s.refusals, |r| {
        let rule = [&r.rule, &r.place, &r.nearest.as_ref().map(|near| format!("nearest: {near}")), &r.limit];
        vec![
            moment(&r.time),
            r.times.to_string(),
            r.from.clone().unwrap_or_default(),
            r.to.clone().unwrap_or_default(),
            r.peer.clone().unwrap_or_default(),
            r.reason.clone(),
            r.detail.clone().unwrap_or_else(|| r.words.clone()),
            rule.into_iter().flatten().cloned().collect::<Vec<_>>().join(" "),
            r.remedy.clone(),
        ]
    })
}

/// What the policy says, and what it would say otherwise.
fn policy(out: &mut String, s: &Snapshot) -> fmt::Result {
    let title = match s.all_rules > s.rules.len() {
        true => format!("Rules: {} of {}", s.rules.len(), s.all_rules),
        false => "Rules".to_owned(),
    };
    table(
        out,
        "rules",
        &title,
        &["Rule", "Verdict", "Expires", "Used last", "Times", "Whose", "Place"],
        &s.rules,
        |r| {
            let expires = r.expires.clone().unwrap_or_default();
            vec![
                r.name.clone(),
                r.verdict.clone(),
                if r.expired { format!("{expires} (expired)") } else { expires },
                r.used.as_deref().map_or_else(|| "never".to_owned(), moment),
                r.hits.to_string(),
                [&r.owner, &r.ticket].into_iter().flatten().cloned().collect::<Vec<_>>().join(", "),
                r.place.clone(),
            ]
        },
    )?;
    if let Some(shadow) = &s.shadow {
        let title = format!(
            "Policy in the shadow: {} would be refused, {} admitted, since {}",
            shadow.refused,
            shadow.admitted,
            moment(&shadow.since)
        );
        let heads =
            &["From", "To", "What", "Would be", "Reason", "Rule", "Next rule", "Asked", "Stanzas", "Last"];
        table(out, "shadow", &title, heads, &shadow.changes, |c| {
            vec![
                c.from.clone(),
                c.to.clone(),
                c.what.clone(),
                match &*c.next {
                    "allow" => "admitted",
                    "quarantine" => "in quarantine",
                    _ => "refused",
                }
                .to_owned(),
                c.reason.clone(),
                c.rule.clone(),
                c.next_rule.clone(),
                c.asked.to_string(),
                c.stanzas.to_string(),
                moment(&c.last),
            ]
        })?;
    }
    if !s.lists.is_empty() {
        let heads = &["List", "Domains", "State", "What to do", "File"];
        table(out, "lists", "Lists that rules ask", heads, &s.lists, |l| {
            vec![
                l.name.clone(),
                l.domains.to_string(),
                l.state(),
                [l.note.clone(), l.trouble.as_ref().map(|why| format!("not fetched: {why}"))]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; "),
                l.file.clone(),
            ]
        })?;
    }
    Ok(())
}

/// Who waits, who may not come, and what there was too much of.
fn barred(out: &mut String, s: &Snapshot) -> fmt::Result {
    if !s.quarantine.is_empty() {
        let title = match s.all_quarantine > s.quarantine.len() {
            true => format!("Quarantine: {} of {}", s.quarantine.len(), s.all_quarantine),
            false => "Quarantine".to_owned(),
        };
        let heads = &["Domain", "State", "Rule", "Last", "Quiet days", "Refused"];
        table(out, "quarantine", &title, heads, &s.quarantine, |q| {
            let (last, refused) = (moment(&q.last), q.refused.to_string());
            vec![q.domain.clone(), q.state.clone(), q.rule.clone(), last, q.quiet.clone(), refused]
        })?;
    }
    if !s.peers.is_empty() {
        let heads = &["From", "To", "Direction", "State", "What", "Before", "After", "When", "Rule"];
        table(out, "peers", "Remote domains proven in another way than before", heads, &s.peers, |p| {
            vec![
                p.from.clone(),
                p.to.clone(),
                p.direction.clone(),
                p.state.clone(),
                p.what.clone(),
                p.before.clone(),
                p.after.clone(),
                moment(&p.at),
                p.rule.clone(),
            ]
        })?;
    }
    table(out, "bans", "Bans", &["Whom", "Seconds left"], &s.bans, |b| {
        vec![b.target.clone(), b.seconds.to_string()]
    })?;
    table(out, "limits", "Limits that were met", &["Limit", "Times"], &s.limits, |l| {
        vec![l.limit.clone(), l.times.to_string()]
    })
}

/// A moment as people read it: to the second. The JSON has it whole.
fn moment(time: &str) -> String {
    let whole = time.split(['.', 'Z']).next().unwrap_or(time);
    format!("{}\u{a0}UTC", whole.replace('T', "\u{a0}"))
}

/// A section with one table. Whoever uses the keyboard can scroll a table that is wider than the screen; on a phone each row
/// stands by itself, with the name of each field before it. The roles say that it is a table all the same.
fn table<T>(
    out: &mut String,
    id: &str,
    title: &str,
    heads: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> fmt::Result {
    let title = Text(title);
    write!(out, "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n")?;
    if items.is_empty() {
        return out.write_str("<p>None.</p>\n</section>\n");
    }
    write!(
        out,
        "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"Table: {title}\">\n<table role=\"table\">\n<caption>{title}</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">"
    )?;
    heads.iter().try_for_each(|head| write!(out, "<th scope=\"col\" role=\"columnheader\">{head}</th>"))?;
    out.write_str("</tr></thead>\n<tbody role=\"rowgroup\">\n")?;
    for item in items {
        out.write_str("<tr role=\"row\">")?;
        for (at, (field, head)) in row(item).iter().zip(heads).enumerate() {
            let long = if field.chars().count() > LONG { " class=\"long\"" } else { "" };
            match at {
                0 => write!(out, "<th scope=\"row\" role=\"rowheader\"{long}>{}</th>", Text(field))?,
                _ => write!(out, "<td role=\"cell\" data-head=\"{head}\"{long}>{}</td>", Text(field))?,
            }
        }
        out.write_str("</tr>\n")?;
    }
    out.write_str("</tbody>\n</table>\n</div>\n</section>\n")
}

/// Text for HTML, in an element or in a quoted attribute.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A field of more characters is broken over lines.
const LONG: usize = 48;

const SECTIONS: [(&str, &str); 13] = [
    ("alarms", "State"),
    ("backends", "Servers behind"),
    ("certificates", "Certificates"),
    ("federation", "Federation"),
    ("circuits", "Not answering"),
    ("refusals", "Refusals"),
    ("rules", "Rules"),
    ("shadow", "Shadow"),
    ("lists", "Lists"),
    ("quarantine", "Quarantine"),
    ("peers", "Changed peers"),
    ("bans", "Bans"),
    ("limits", "Limits"),
];

const STYLE: &str = "\
:root{color-scheme:light dark}a{color:#0b57d0}\
@media(prefers-color-scheme:dark){:root{background:#121212;color:#e8e8e8}a{color:#a8c7fa}}\
body{font:1rem/1.45 system-ui,sans-serif;margin:0 auto;max-width:80rem;padding:0 1rem 2rem}\
h1{font-size:1.5rem;margin:1rem 0 .25rem}h2{font-size:1.15rem;margin:1.5rem 0 .5rem}\
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;padding:0}nav a{display:inline-block;padding:.25rem 0}\
.skip{position:absolute;left:-100rem}.skip:focus{position:static}\
.wide{overflow-x:auto}:focus-visible{outline:3px solid;outline-offset:2px}\
table{border-collapse:collapse;width:100%}caption{position:absolute;left:-100rem}\
th,td{border-bottom:1px solid #8888;padding:.35rem .75rem .35rem 0;text-align:left;vertical-align:top;white-space:nowrap}\
.long{white-space:normal;min-width:18rem}tbody th{font-weight:600}\
@media(max-width:45rem){table,tbody,tr,tbody th,td{display:block}thead{position:absolute;left:-100rem}\
tr{border-bottom:1px solid #8888;padding:.5rem 0}th,td,.long{border:0;padding:.1rem 0;white-space:normal;min-width:0;overflow-wrap:anywhere}\
td:empty{display:none}td::before{content:attr(data-head) ': ';opacity:.8}}\
.good::before{content:'\\2713\\00a0'}.bad{border-left:.3rem solid;padding-left:1.5rem}\
code{overflow-wrap:anywhere}";

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
