use std::num::NonZeroU32;
use std::sync::Arc;

use super::*;
use crate::policy::{
    Day, Federation, HostedSource, Often, Place, PolicyFile, Quarantine, Source, Sources, build,
};

const HOUR: i64 = 3600 * 1000;
const TODAY: i64 = 20_000 * 24 * HOUR;

fn bounds(messages: u32, quiet_days: Option<u32>) -> Arc<Quarantine> {
    let messages = Often { many: NonZeroU32::new(messages).unwrap(), seconds: 3600 };
    let quiet_days = quiet_days.and_then(NonZeroU32::new);
    Arc::new(Quarantine { messages, quiet_days, ..Quarantine::default() })
}

fn stanza(counted: Counted, bounds: &Arc<Quarantine>) -> HeldStanza {
    HeldStanza { counted, bounds: Arc::clone(bounds) }
}

fn message(bounds: &Arc<Quarantine>) -> HeldStanza {
    stanza(Counted::Message, bounds)
}

impl QuarantineList {
    /// By the rule of whoever sent last, as where there is one rule.
    fn ripen_at(&self, now: i64) -> Vec<Box<str>> {
        self.ripen_by(now, |_, party| party.quiet_days)
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

// POL-24.
#[test]
fn so_many_of_each_kind_pass_in_their_time_and_no_more() {
    let (list, bounds) = (QuarantineList::default(), bounds(20, None));
    let sends =
        |name: &str, counted, at: i64| list.ask_at(&domain(name), &stanza(counted, &bounds), at).is_ok();
    let passed = |counted, at| (0..1000).filter(|_| sends("new.com", counted, at)).count();
    assert_eq!(passed(Counted::Message, TODAY), 20);
    assert_eq!(passed(Counted::Subscription, TODAY), 3);
    assert_eq!(passed(Counted::Other, TODAY), 600);
    // What lies below a registrable domain is the same party, and another one is another.
    assert!(!sends("rooms.new.com", Counted::Message, TODAY));
    assert!(sends("other.com", Counted::Message, TODAY));
    // None comes free before the whole time is over, and all of them a twenty-fourth later.
    assert_eq!(passed(Counted::Message, TODAY + HOUR / 20), 0);
    assert_eq!(passed(Counted::Message, TODAY + HOUR - 1), 0);
    assert_eq!(passed(Counted::Message, TODAY + HOUR + HOUR / 24), 20);
    assert_eq!(passed(Counted::Subscription, TODAY + 24 * HOUR - 1), 0);
    assert_eq!(passed(Counted::Subscription, TODAY + 25 * HOUR), 3);
    // A clock that is set back lets nobody send more.
    assert_eq!(passed(Counted::Message, TODAY - 9 * HOUR), 0);
}

#[test]
fn a_rate_that_does_not_divide_its_time_lets_all_of_it_pass() {
    for many in [1, 3, 7, 999, 1_000_000] {
        let (list, bounds) = (QuarantineList::default(), bounds(many, None));
        let count = (0..many + 5)
            .filter(|_| list.ask_at(&domain("new.com"), &message(&bounds), TODAY).is_ok())
            .count();
        assert_eq!(count, many as usize);
    }
}

#[test]
fn quiet_days_let_somebody_out_and_a_loud_one_begins_anew() {
    let (list, bounds) = (QuarantineList::default(), bounds(2, Some(3)));
    let day = 24 * HOUR;
    let sends = |n: i64| list.ask_at(&domain("new.com"), &message(&bounds), TODAY + n * day).is_ok();
    assert!(sends(0) && sends(1));
    // A day on which nothing came is no quiet one.
    assert!(list.ripen_at(TODAY + 9 * day).is_empty());
    assert!(sends(9));
    // The day must be over.
    assert!(list.ripen_at(TODAY + 9 * day).is_empty());
    // Too much on the day after: all is forgotten.
    assert!(sends(10) && sends(10) && !sends(10));
    assert!(list.ripen_at(TODAY + 11 * day).is_empty());
    assert!(sends(11) && sends(12) && sends(13));
    assert!(list.ripen_at(TODAY + 13 * day).is_empty());
    assert_eq!(list.ripen_at(TODAY + 14 * day), [Box::from("new.com")]);
    assert!(list.settled().approved.contains("new.com"));
    assert!(list.ripen_at(TODAY + 15 * day).is_empty(), "it is said once");
    // What an operator says holds, and begins the count anew.
    list.decide("new.com", Disposition::Held, 7).unwrap();
    assert!(list.settled().approved.is_empty());
    assert!(list.ripen_at(TODAY + 16 * day).is_empty());
    list.decide("new.com", Disposition::Refused, 7).unwrap();
    assert!(sends(20) && sends(21) && sends(22) && sends(23));
    assert!(list.ripen_at(TODAY + 24 * day).is_empty(), "who was refused is not let out by waiting");
}

// POL-24: quiet days under one rule are no way out of another: of all rules that are for some domain of this party, towards whichever
// domain of ours, the strictest holds.
#[test]
fn the_strictest_rule_of_a_party_holds_for_all_of_it() {
    let free = "domains: [new.com], verdict: quarantine, quarantine: { quiet-days: 2 }";
    let cases: [(_, _, u32); 7] = [
        (free, "", 2),
        (free, "domains: [rooms.new.com], verdict: quarantine", 99),
        (free, "domains: [rooms.new.com], verdict: quarantine, quarantine: { quiet-days: 4 }", 4),
        (free, "domains: [other.com], verdict: quarantine", 2),
        (free, "domains: [new.com], hosted: [annex.example], verdict: quarantine", 99),
        (
            free,
            "domains: [new.com], hosted: [annex.example], verdict: quarantine, quarantine: { quiet-days: 3 }",
            3,
        ),
        (free, "domains: [\"*.com\"], hosted: [annex.example], verdict: quarantine", 99),
    ];
    for (one, other, expected) in cases {
        let one =
            if other.contains("hosted") { format!("{one}, hosted: [hall.example]") } else { one.into() };
        let mut text = format!("version: v1\nrules:\n  - {{ name: one, {one} }}\n");
        if !other.is_empty() {
            text += &format!("  - {{ name: other, {other} }}\n");
        }
        let (file, findings) = crate::config::load::parse::<PolicyFile>(&text, "p.yaml");
        assert!(findings.is_empty(), "{findings:?}");
        let hosted = ["hall.example", "annex.example"].map(|name| HostedSource {
            domain: domain(name),
            federation: Federation::Listed,
            sources: vec![0],
            place: Place::whole("g.yaml"),
        });
        let input = Sources {
            hosted: hosted.into(),
            sources: vec![Source::new("p.yaml", file)],
            today: Day::parse("2026-11-21").unwrap(),
            digest: String::new(),
        };
        let policy = build(&input).0.unwrap();
        let (list, bounds) = (QuarantineList::default(), bounds(2, Some(2)));
        for n in 0..20_u32 {
            // It asks for little under the strict rule, and then is quiet under the other alone.
            if n == 0 {
                assert!(list.ask_at(&domain("rooms.new.com"), &message(&bounds), TODAY).is_ok());
            }
            let now = TODAY + i64::from(n) * 24 * HOUR;
            // Whoever looks is told of the rule that decides, whichever was used last.
            let told = list.all().first().and_then(|(name, party)| party.asked(name, &policy));
            assert!(n == 0 || told == (expected < 99).then_some(expected), "{text}: {told:?}");
            let out = list.ripen_by(now, |name, party| party.strictest(name, &policy));
            assert_eq!(!out.is_empty(), n == expected, "{text} after {n} days");
            if !out.is_empty() {
                break;
            }
            assert!(list.ask_at(&domain("new.com"), &message(&bounds), now).is_ok());
        }
    }
}

#[test]
fn it_outlives_a_restart() {
    let (list, bounds) = (QuarantineList::default(), bounds(2, Some(3)));
    let sends =
        |list: &QuarantineList, name: &str| list.ask_at(&domain(name), &message(&bounds), TODAY).is_ok();
    assert!(sends(&list, "new.com") && sends(&list, "new.com"));
    list.decide("good.com", Disposition::Approved, 7).unwrap();
    list.decide("bad.com", Disposition::Refused, 7).unwrap();
    let kept = serde_json::to_vec(&list.to_keep().unwrap()).unwrap();
    assert_eq!(list.to_keep(), None, "nothing has changed since");
    let after = QuarantineList::default();
    after.recall(serde_json::from_slice(&kept).unwrap()).unwrap();
    assert_eq!(after.settled(), list.settled());
    assert!(!sends(&after, "new.com"), "a restart is no second helping");
    // What an earlier version has written of what was sent does not stand in the way of what was decided.
    let earlier: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let mut earlier = earlier.clone();
    let party = earlier["parties"]["good.com"].as_object_mut().unwrap();
    party.remove("passed");
    party.insert("full".to_owned(), serde_json::json!([1, 2, 3]));
    let upgraded = QuarantineList::default();
    upgraded.recall(serde_json::from_value(earlier).unwrap()).unwrap();
    assert_eq!(upgraded.settled(), list.settled());
    // What is no name of a registrable domain, or of another version, is not believed.
    let text = String::from_utf8(kept).unwrap();
    let strange = QuarantineList::default();
    strange.recall(serde_json::from_str(&text.replace("good.com", "a.good.com")).unwrap()).unwrap();
    assert!(strange.settled().approved.is_empty());
    assert!(
        strange
            .recall(serde_json::from_str(&text.replace("\"version\":1", "\"version\":2")).unwrap())
            .is_err()
    );
}

#[test]
fn the_table_has_an_end_and_a_flood_is_no_way_around() {
    let (list, bounds) = (QuarantineList::default(), bounds(1, None));
    let sends = |name: &str, at| list.ask_at(&domain(name), &message(&bounds), at).is_ok();
    list.decide("good.com", Disposition::Approved, 7).unwrap();
    assert!(sends("first.com", TODAY));
    for n in 0..MOST + 10 {
        assert!(sends(&format!("d{n}.com"), TODAY + 1));
    }
    assert_eq!(list.len(), MOST);
    assert!(!list.knows("first.com") && list.knows("good.com"), "those seen longest ago make room");
    // Where all are decided about, nobody makes room, and who finds none sends nothing.
    let names: Vec<_> = list.all().into_iter().map(|(name, _)| name).collect();
    for name in names {
        list.decide(&name, Disposition::Refused, 7).unwrap();
    }
    assert!(!sends("another.com", TODAY + 2));
    assert!(list.decide("another.com", Disposition::Approved, 7).unwrap_err().contains("rule"));
}

/// Two that share a store.
fn two_nodes() -> (QuarantineList, QuarantineList) {
    let (one, two) = (QuarantineList::default(), QuarantineList::default());
    one.call("one");
    two.call("two");
    (one, two)
}

/// Both have told each other through the store.
fn meet(list: &QuarantineList, store: &mut BTreeMap<String, String>) -> Exchanged {
    let outcome = list.exchange(store);
    store.extend(outcome.say.iter().cloned());
    outcome.over.iter().for_each(|name| drop(store.remove(name)));
    outcome
}

// POL-24: what two nodes take at one moment, before either hears of the other, counts for both as soon as they hear it.
#[test]
fn what_nodes_take_at_the_same_moment_is_counted_by_both() {
    let ((one, two), mut store, bounds) = (two_nodes(), BTreeMap::new(), bounds(20, None));
    let now = one.now();
    let sends = |list: &QuarantineList| list.ask_at(&domain("new.com"), &message(&bounds), now).is_ok();
    for _ in 0..3 {
        assert!(sends(&one) && sends(&two) && sends(&one) && sends(&two));
        // Both have read before either writes.
        let (said, also) = (one.exchange(&store), two.exchange(&store));
        store.extend(said.say);
        store.extend(also.say);
        for list in [&one, &two, &one] {
            meet(list, &mut store);
        }
    }
    // A node that comes back without a memory hears it, too.
    let again = QuarantineList::default();
    again.call("again");
    meet(&again, &mut store);
    assert_eq!((0..30).filter(|_| sends(&again)).count(), 8);
    meet(&again, &mut store);
    meet(&one, &mut store);
    assert!(!sends(&one));
}

// CLU-06.
#[test]
fn nodes_count_together_and_the_later_decision_holds() {
    let ((one, two), mut store, bounds) = (two_nodes(), BTreeMap::new(), bounds(20, None));
    let now = one.now();
    let sends = |list: &QuarantineList| list.ask_at(&domain("new.com"), &message(&bounds), now).is_ok();
    assert!(sends(&one));
    meet(&one, &mut store);
    meet(&two, &mut store);
    // Each hears, takes five and tells: together no more than twenty.
    let mut passed = 1;
    for _ in 0..6 {
        for list in [&one, &two] {
            meet(list, &mut store);
            passed += (0..5).filter(|_| sends(list)).count();
            meet(list, &mut store);
        }
    }
    assert_eq!(passed, 20);
    // What nobody has changed is not said again.
    meet(&one, &mut store);
    meet(&two, &mut store);
    assert_eq!(meet(&one, &mut store), Exchanged::default());
    assert_eq!(meet(&two, &mut store), Exchanged::default());
    // A decision holds on both, and one that comes after it, wherever it is made.
    one.decide("new.com", Disposition::Approved, 7).unwrap();
    assert!(one.is_hurried());
    meet(&one, &mut store);
    assert!(meet(&two, &mut store).settled && two.settled().approved.contains("new.com"));
    two.decide("new.com", Disposition::Refused, 8).unwrap();
    meet(&two, &mut store);
    assert!(meet(&one, &mut store).settled);
    assert_eq!(one.settled(), two.settled());
    assert!(one.settled().refused.contains("new.com") && one.settled().approved.is_empty());
    // A node that was away brings nothing back.
    let away = QuarantineList::default();
    let kept = one.to_keep().unwrap();
    one.decide("new.com", Disposition::Held, 7).unwrap();
    meet(&one, &mut store);
    away.recall(kept).unwrap();
    meet(&away, &mut store);
    assert_eq!(away.settled(), SettledParties::default());
}

#[test]
fn what_cannot_be_is_not_believed() {
    let list = QuarantineList::default();
    let now = list.now();
    let party = |since: i64, rest: &str| format!(r#"{{"since":{since},"last":{now},"rule":"new"{rest}}}"#);
    let far = now + HOUR;
    let store = BTreeMap::from([
        ("good.com".to_owned(), party(now, "")),
        ("a.good.com".to_owned(), party(now, "")),
        ("no domain".to_owned(), party(now, "")),
        ("future.com".to_owned(), party(far, "")),
        ("decided.com".to_owned(), party(now, &format!(r#","decision":{{"at":{far},"word":"approved"}}"#))),
        ("emptied.com".to_owned(), party(now, r#","passed":[{"3600":{"9000000000000":{"x":1}}},{},{}]"#)),
        ("strange.com".to_owned(), "{}".to_owned()),
        ("more.com".to_owned(), party(now, r#","more":1"#)),
        ("days.com".to_owned(), party(now, r#","days":[999999999]"#)),
    ]);
    let outcome = list.exchange(&store);
    assert_eq!((outcome.foreign, list.len()), (7, 2), "{outcome:?}");
    assert!(list.knows("good.com") && list.knows("more.com"), "a later version may say more of somebody");
}

#[test]
fn who_was_not_seen_for_long_is_forgotten_unless_decided_about() {
    let (list, bounds) = (QuarantineList::default(), bounds(1, None));
    assert!(list.ask_at(&domain("new.com"), &message(&bounds), TODAY).is_ok());
    list.decide("good.com", Disposition::Approved, 7).unwrap();
    assert!(list.ripen_at(TODAY + FORGOTTEN).is_empty());
    assert!(list.knows("new.com"));
    list.ripen_at(TODAY + FORGOTTEN + 1);
    assert!(!list.knows("new.com") && list.knows("good.com"));
}
