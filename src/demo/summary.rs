//! What the gateway counted during the story, in words: the same counters that Prometheus reads.

use std::collections::BTreeMap;

use super::Told;
use super::teller::Teller;
use super::world::{Metrics, label};

/// Tells what the counters moved by.
pub(super) fn tell(teller: &mut Teller<'_>, now: &Metrics, start: &Metrics) -> Told<()> {
    let count = |family: &str, labels: &[(&str, &str)]| now.sum(family, labels) - start.sum(family, labels);
    teller.heading("What Gatehouse counted meanwhile")?;
    let messages = |flow| count("stanzas_total", &[("flow", flow), ("kind", "message")]);
    let passed = format!(
        "{} from other servers, {} to other servers, {} between clients and the old server",
        messages("s2s-in"),
        messages("s2s-out"),
        messages("c2s")
    );
    teller.row("messages passed", &passed)?;
    let login = |outcome| count("authentications_total", &[("flow", "c2s"), ("outcome", outcome)]);
    teller.row("logins", &format!("{} right, {} wrong", login("allow"), login("deny")))?;
    let proven = |method| {
        ["s2s-in", "s2s-out"].map(|flow| {
            count("authentications_total", &[("flow", flow), ("method", method), ("outcome", "allow")])
        })
    };
    let (certificate, dialback) = (proven("certificate"), proven("dialback"));
    let both = |[inbound, outbound]: [f64; 2]| inbound + outbound;
    teller.row(
        "proofs between servers",
        &format!("{} by certificate, {} by dialback", both(certificate), both(dialback)),
    )?;
    for (what, family) in
        [("domains refused", "policy_verdicts_total"), ("stanzas refused", "stanzas_refused_total")]
    {
        let mut by_reason = BTreeMap::new();
        for (series, difference) in now.moved(start) {
            let denied = family != "policy_verdicts_total" || label(&series, "outcome") == Some("deny");
            if denied && series.starts_with(&format!("gatehouse_{family}")) {
                *by_reason.entry(label(&series, "reason").unwrap_or_default().to_owned()).or_insert(0.0) +=
                    difference;
            }
        }
        let told: Vec<String> = by_reason.iter().map(|(reason, times)| format!("{times} {reason}")).collect();
        teller.row(what, &told.join(", "))?;
    }
    teller.row(
        "encrypted connections",
        &format!("{} by TLS 1.3", count("tls_handshakes_total", &[("outcome", "done"), ("version", "1.3")])),
    )
}
