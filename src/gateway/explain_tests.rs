#![allow(clippy::unwrap_used)]

use super::*;
use crate::config;
use crate::policy::{self, Day, Federation, HostedSource, Place, Source, Sources};

/// How the explanation of this stanza begins, and what it says of what leaves, under this rule for `friend.example`.
fn told(rule: &str, direction: Direction, stanza: &str) -> (String, Option<String>) {
    let text = format!("version: v1\nrules:\n  - {{ name: r, domains: [friend.example], {rule} }}\n");
    let (file, findings) = config::load::parse(&text, "now.yaml");
    assert_eq!(findings, []);
    let domain = |name: &str| Domain::parse(name).unwrap();
    let place = Place::whole("gatehouse.yaml");
    let (hosted, remote) = (domain("home.example"), domain("friend.example"));
    let hosts =
        HostedSource { domain: hosted.clone(), federation: Federation::Listed, sources: vec![0], place };
    let (sources, today) = (vec![Source::new("now.yaml", file)], Day::parse("2026-11-21").unwrap());
    let input = Sources { hosted: vec![hosts], sources, today, digest: String::new() };
    let policy = policy::build(&input).0.unwrap();
    let identity = Identity::Certificate;
    let question = Federate { identity, tls: Tls::V13, ..Federate::of(&hosted, &remote, direction) };
    let explanation = Explanation::of_stanza(&policy, &question, stanza, None, &fate).unwrap();
    (format!("{} {}", explanation.verdict, explanation.reason), explanation.leaves)
}

const STATES: &str = "http://jabber.org/protocol/chatstates";

// RLY-22: what is cut passes for the rest, and what that is is told; what does not leave is told with what is seen of it.
#[test]
fn it_is_told_what_of_a_stanza_leaves() {
    let discreet = format!("egress: {{ cut: [\"{STATES}\"], presence: plain, client-info: refuse }}");
    let active = format!("<active xmlns='{STATES}'/>");
    let out = |more: &str, stanza: &str| {
        let ends = "from='a@home.example/x' to='b@friend.example' id='1'";
        told(&discreet, Direction::Outbound, &stanza.replacen(more, &format!("{more} {ends}"), 1))
    };
    let leaves = |words: &str| Some(words.to_owned());
    assert_eq!(
        out("<message", &format!("<message><body>x</body>{active}</message>")),
        ("allow allowed".into(), leaves(&format!("passes, without active ({STATES})")))
    );
    assert_eq!(
        out("<presence", "<presence><show>away</show><status>in Rome</status></presence>"),
        ("allow allowed".into(), leaves("passes, without status"))
    );
    assert_eq!(out("<message", "<message><body>x</body></message>"), ("allow allowed".into(), None));
    let kept = |words: &str| ("deny kept-inside".to_owned(), leaves(words));
    assert_eq!(
        out("<message", &format!("<message>{active}</message>")),
        kept("nothing leaves, and nobody is told")
    );
    assert_eq!(
        out("<iq", "<iq type='result'><query xmlns='jabber:iq:version'/></iq>"),
        kept("an error leaves in its place")
    );
    assert_eq!(
        out("<iq", "<iq type='get'><query xmlns='jabber:iq:version'/></iq>"),
        ("allow allowed".into(), None)
    );
    // Nothing is cut of what comes in.
    let comes =
        format!("<message from='b@friend.example' to='a@home.example'><body>x</body>{active}</message>");
    assert_eq!(told(&discreet, Direction::Inbound, &comes), ("allow allowed".into(), None));
}

// POL-24: of an iq in quarantine its type counts as well.
#[test]
fn a_whole_stanza_in_quarantine_is_judged_as_it_passes() {
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    for (kind, payload, verdict) in [
        ("get", ping, "quarantine quarantined"),
        ("set", ping, "deny quarantined"),
        ("get", "<query xmlns='jabber:iq:version'/>", "deny quarantined"),
        ("error", "<query xmlns='jabber:iq:version'/>", "quarantine quarantined"),
    ] {
        let stanza =
            format!("<iq type='{kind}' id='1' from='b@friend.example' to='a@home.example'>{payload}</iq>");
        assert_eq!(told("verdict: quarantine", Direction::Inbound, &stanza).0, verdict, "{kind} {payload}");
    }
}
