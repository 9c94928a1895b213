#![allow(clippy::unwrap_used)]

use super::*;
use crate::jid::Domain;
use crate::policy::{Federate, Federation, Identity, Question, ShownKey, Tls};
use crate::reason::Direction;
use crate::run::tests::federating;

fn pair(sender: &str) -> Pair {
    Pair { sender: Domain::parse(sender).unwrap(), target: Domain::parse("hall.example").unwrap() }
}

/// What is said of a pair where this is in force, and that in the shadow.
fn verdict(now: Federation, next: Federation, pair: &Pair) -> Verdict {
    let policy = federating(now).with_shadow(Some((*federating(next)).clone()));
    let question = Federate {
        hosted: policy.hosted().next().unwrap(),
        remote: &pair.sender,
        direction: Direction::Inbound,
        identity: Identity::Certificate,
        tls: Tls::V13,
        address: None,
        key: ShownKey::Unknown,
    };
    policy.judge(&Question::Federate(question), &mut ())
}

fn told(shadow: &Shadow, now: Federation, next: Federation, sender: &str) -> ShadowChange {
    let pair = pair(sender);
    let verdict = verdict(now, next, &pair);
    let beside = verdict.beside.clone().unwrap();
    shadow.judged(Flow::S2sIn, &pair, &verdict, &beside)
}

#[test]
fn what_is_decided_otherwise_is_told_either_way() {
    let shadow = Shadow::default();
    shadow.follow("next");
    let (any, listed) = (Federation::Any, Federation::Listed);
    assert_eq!(told(&shadow, any, listed, "a.example"), ShadowChange::Refuses);
    assert_eq!(told(&shadow, any, listed, "a.example"), ShadowChange::Refuses);
    assert_eq!(told(&shadow, listed, any, "b.example"), ShadowChange::Admits);
    assert_eq!(told(&shadow, any, any, "c.example"), ShadowChange::None);
    let held = Federation::Quarantine;
    assert_eq!(told(&shadow, held, held, "d.example"), ShadowChange::None);
    assert_eq!(told(&shadow, any, held, "e.example"), ShadowChange::Holds);
    assert_eq!(told(&shadow, held, any, "f.example"), ShadowChange::Frees);
    let mut report = shadow.report();
    assert_eq!((report.digest.as_str(), report.alike, report.otherwise), ("next", 2, 5));
    let of_quarantine: Vec<_> = report
        .changes
        .iter()
        .filter(|change| change.reason == "quarantined")
        .map(|c| (c.from.as_str(), c.now.as_str(), c.next.as_str()))
        .collect();
    assert_eq!(of_quarantine, [("e.example", "allow", "quarantine"), ("f.example", "quarantine", "allow")]);
    let whole = report.clone();
    report.changes.retain(|change| change.reason != "quarantined");
    let shown: Vec<_> = report
        .changes
        .iter()
        .map(|c| (c.from.as_str(), c.now.as_str(), c.next.as_str(), c.reason.as_str(), c.asked))
        .collect();
    assert_eq!(
        shown,
        [("a.example", "allow", "deny", "not-listed", 2), ("b.example", "deny", "allow", "not-listed", 1)]
    );
    assert_eq!(
        report.rules.first().map(|way| (way.now.as_str(), way.next.as_str(), way.asked)),
        Some(("allow", "not-listed", 2))
    );

    // A restart goes on with it, if the same policy is in the shadow.
    let next = Shadow::default();
    next.follow("next");
    next.recall(whole.clone());
    assert_eq!(next.report(), whole);
    let other = Shadow::default();
    other.follow("other");
    other.recall(report);
    assert_eq!(other.report().changes, []);
    // Another policy is compared from the beginning.
    next.follow("other");
    assert_eq!((next.report().changes.len(), next.report().otherwise), (0, 0));
}

#[test]
fn stanzas_count_where_they_pass_or_not() {
    let shadow = Shadow::default();
    shadow.follow("next");
    let pair = pair("a.example");
    let verdict = verdict(Federation::Any, Federation::Listed, &pair);
    let beside = verdict.beside.clone().unwrap();
    for octets in [10, 20] {
        let what = (Outcome::Allow, beside.reason);
        shadow.stanza(
            (Flow::S2sIn, &pair, Concerned::of_pair(&beside)),
            what,
            &verdict.rule,
            &beside,
            octets,
        );
    }
    let report = shadow.report();
    let change = report.changes.first().unwrap();
    assert_eq!((change.what.as_str(), change.stanzas, change.octets), ("pair", 2, 30));
}

// POL-21: what lists of the shadow say of one address is told of him, and the pair of all others is not said to end.
#[test]
fn one_sender_is_told_apart_from_his_pair() {
    let shadow = Shadow::default();
    shadow.follow("next");
    let pair = pair("a.example");
    let verdict = verdict(Federation::Any, Federation::Listed, &pair);
    let beside = verdict.beside.clone().unwrap();
    let what = (Outcome::Allow, Reason::OnLists);
    for whose in [
        Concerned::Sender("bad@a.example"),
        Concerned::Sender("worse@a.example"),
        Concerned::Sender("bad@a.example"),
    ] {
        shadow.stanza((Flow::S2sIn, &pair, whose), what, &verdict.rule, &beside, 10);
    }
    let told = |shadow: &Shadow| -> Vec<_> {
        let changes = shadow.report().changes.into_iter();
        changes.map(|change| (change.what, change.sender.unwrap(), change.stanzas)).collect()
    };
    let expected = [("sender", "bad@a.example", 2), ("sender", "worse@a.example", 1)]
        .map(|(what, sender, stanzas)| (what.to_owned(), sender.to_owned(), stanzas));
    assert_eq!(told(&shadow), expected);
    // And so after a restart.
    let after = Shadow::default();
    after.follow("next");
    after.recall(shadow.report());
    after.stanza((Flow::S2sIn, &pair, Concerned::Sender("bad@a.example")), what, &verdict.rule, &beside, 10);
    assert_eq!(told(&after).first(), Some(&("sender".to_owned(), "bad@a.example".to_owned(), 3)));
}

#[test]
fn unproven_peers_cannot_make_it_grow() {
    let shadow = Shadow::default();
    shadow.follow("next");
    // One that carries something stays, whoever comes.
    let (kept, any, listed) = (pair("kept.example"), Federation::Any, Federation::Listed);
    let of_kept = verdict(any, listed, &kept);
    let beside = of_kept.beside.clone().unwrap();
    shadow.stanza(
        (Flow::S2sIn, &kept, Concerned::Pair),
        (Outcome::Allow, beside.reason),
        &of_kept.rule,
        &beside,
        1,
    );
    let one = verdict(listed, any, &pair("x.example"));
    let beside = one.beside.clone().unwrap();
    for n in 0..CHANGES + 100 {
        shadow.judged(Flow::S2sIn, &pair(&format!("a{n}.example")), &one, &beside);
    }
    let report = shadow.report();
    assert!(report.changes.len() <= CHANGES && report.left_out > 0, "{}", report.changes.len());
    assert!(report.changes.iter().any(|change| change.from == "kept.example"));
}
