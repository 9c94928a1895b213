#![allow(clippy::unwrap_used)]

use super::*;
use crate::run::tests::policy;

fn pair(sender: &str, target: &str) -> Pair {
    let domain = |name: &str| crate::jid::Domain::parse(name).unwrap();
    Pair { sender: domain(sender), target: domain(target) }
}

fn case(from: &str, to: &str) -> CaseOutcome {
    CaseOutcome {
        place: crate::policy::Place::whole("p.yaml"),
        from: from.to_owned(),
        to: to.to_owned(),
        passed: true,
        outcome: "allow allowed (rule default)".to_owned(),
        finding: None,
    }
}

fn default_rule() -> RuleName {
    policy().rule_names().next().unwrap().clone()
}

#[test]
fn hits_and_times_go_on_over_a_restart() {
    let (used, cases) =
        (Used::default(), [case("a@one.example", "two.example"), case("x.example", "y.example")]);
    used.follow(&policy(), &cases);
    assert_eq!(used.of_rule("default").map(|uses| (uses.hits, uses.last)), Some((0, None)));
    used.judged(&pair("one.example", "two.example"), &default_rule());
    used.judged(&pair("other.example", "two.example"), &default_rule());
    let first = used.of_rule("default").unwrap();
    assert_eq!(first.hits, 2);
    assert_eq!(used.of_case(&cases[0]).unwrap().hits, 1);
    assert_eq!(used.of_case(&cases[1]).unwrap().hits, 0);
    let kept = used.to_keep().unwrap();
    assert_eq!(used.to_keep(), None, "nothing has changed since");

    let next = Used::default();
    next.follow(&policy(), &cases[..1]);
    next.judged(&pair("one.example", "two.example"), &default_rule());
    next.recall(kept);
    let then = next.of_rule("default").unwrap();
    assert_eq!((then.hits, then.first, then.known), (3, first.first, first.known));
    assert!(then.last > first.last);
    // A case that is gone is remembered, and counts on when it comes back.
    assert!(next.of_case(&cases[1]).unwrap().gone.is_some());
    next.follow(&policy(), &cases);
    assert_eq!(next.of_case(&cases[1]).unwrap().gone, None);
}

#[test]
fn what_is_gone_is_remembered_for_a_while_and_bounded() {
    let used = Used::default();
    let names = (0..GONE + 5).map(|n| (format!("rule-{n}"), Use::new(Timestamp::now())));
    used.recall(Uses { rules: names.collect(), ..Uses::default() });
    used.follow(&policy(), &[]);
    assert_eq!(used.rules().len(), GONE + 1, "and `default`");
    let long_ago = Timestamp::now().checked_sub(SignedDuration::from_hours(91 * 24)).unwrap();
    let old = Use { gone: Some(long_ago), ..Use::new(long_ago) };
    let used = Used::default();
    used.recall(Uses { rules: BTreeMap::from([("old".to_owned(), old)]), ..Uses::default() });
    used.follow(&policy(), &[]);
    assert_eq!(used.of_rule("old"), None);
}

#[test]
fn a_young_rule_is_not_called_unused() {
    let now = Timestamp::now();
    let ago = |days: i64| now.checked_sub(SignedDuration::from_hours(days * 24)).unwrap();
    let uses = |known, last| Use { last, ..Use::new(ago(known)) };
    assert!(uses(100, None).is_unused_since(ago(90)));
    assert!(uses(100, Some(ago(91))).is_unused_since(ago(90)));
    assert!(!uses(100, Some(ago(89))).is_unused_since(ago(90)));
    assert!(!uses(89, None).is_unused_since(ago(90)));
}

#[test]
fn each_step_before_the_end_of_a_rule_is_announced_once() {
    let used = Used::default();
    assert!(used.announces("r", "2027-01-31", 30));
    assert!(!used.announces("r", "2027-01-31", 30));
    assert!(used.announces("r", "2027-01-31", 7));
    assert!(!used.announces("r", "2027-01-31", 30), "a clock that is set back");
    assert!(used.announces("r", "2027-01-31", 1) && !used.announces("r", "2027-01-31", 1));
    assert!(used.announces("r", "2027-02-28", 30), "it was renewed");
    // Over a restart, too.
    let next = Used::default();
    next.follow(&policy(), &[]);
    next.recall(used.to_keep().unwrap());
    assert!(!next.announces("r", "2027-02-28", 30));
}

// Many more than are gone through at a time: none is missed, and none is forgotten with those that go.
#[test]
fn all_of_many_are_gone_through() {
    let used = Used::default();
    let names = (0..4 * PIECE + 3).map(|n| (format!("rule-{n}"), Use::new(Timestamp::now())));
    let names: BTreeMap<_, _> = names.collect();
    let long_ago = Timestamp::now().checked_sub(SignedDuration::from_hours(91 * 24)).unwrap();
    used.inner().rules =
        names.keys().map(|name| (name.clone(), Use { gone: Some(long_ago), ..Use::new(long_ago) })).collect();
    assert_eq!(used.rules().len(), names.len());
    let cases: Vec<_> = (0..3 * PIECE).map(|n| case(&format!("a@d{n}.example"), "two.example")).collect();
    used.expect(&policy(), &cases);
    assert_eq!(used.rules().len(), names.len() + 1, "what will be in force, beside what is");
    assert!(cases.iter().all(|case| used.of_case(case).is_some()));
    used.judged(&pair("d5.example", "two.example"), &default_rule());
    used.follow(&policy(), &cases);
    assert_eq!(used.rules().into_keys().collect::<Vec<_>>(), ["default"]);
    let kept = used.to_keep().unwrap();
    assert_eq!((kept.cases.len(), kept.cases["d5.example>two.example"].hits), (cases.len(), 1));
}
