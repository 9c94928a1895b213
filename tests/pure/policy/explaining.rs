//! What people read of a verdict.

use super::*;

#[test]
fn explaining_names_every_rule_considered() {
    let policy = compiled(
        Federation::Listed,
        "  - { name: all, domains: [\"*.example\"] }
  - { name: branch, domains: [\"*.a.example\"], verdict: deny }
  - { name: elsewhere, domains: [b.a.example], hosted: [other.example] }\n",
    );
    let (hosted, remote) = (domain("home.example"), domain("b.a.example"));
    let question = Federate {
        hosted: &hosted,
        remote: &remote,
        direction: Direction::Inbound,
        identity: Identity::Certificate,
        tls: Tls::V13,
        address: None,
        key: gatehouse::policy::ShownKey::Unknown,
    };
    let told = Explanation::of(&policy, &question, &OfStanza::default());
    let steps: Vec<(&str, &str, u32)> =
        told.considered.iter().map(|step| (step.rule.as_str(), step.bearing, step.place.line)).collect();
    assert_eq!(
        steps,
        [("elsewhere", "other-hosted", 5), ("branch", "decides", 4), ("all", "less-specific", 3)]
    );
    assert!(!told.is_allow());
}

/// What `printf %s bad@good.example | sha256sum` prints.
const BAD: &str = "d4ed2ef10aeeeea15e9753af6cb21ad8fed869001b45bb833c4545155ac9dc22\n";

// POL-13: "a stanza of an address that is named is refused alone", and who asks about it hears the same.
#[test]
fn explaining_knows_the_senders_that_lists_name() {
    let rules = "  - { name: on-lists, verdict: deny, lists: [one] }\n  - { name: ours, domains: [cousin.example] }\n";
    let list = |name: &str| Slot::of(List::read_as(name, BAD, ListFormat::JidSha256));
    let policy = compiled(Federation::Any, rules).with_lists(Lists::new(vec![list("one")]));
    let shadow = compiled(Federation::Any, rules).with_lists(Lists::new(vec![list("two")]));
    let policy = policy.with_shadow(Some(shadow));
    let told = |remote: &str, direction: Direction, identity: Identity, sender: Option<&str>| {
        let (hosted, remote) = (domain("home.example"), domain(remote));
        let (tls, address, key) = (Tls::V13, None, gatehouse::policy::ShownKey::Unknown);
        let question = Federate { hosted: &hosted, remote: &remote, direction, identity, tls, address, key };
        let told = Explanation::of(&policy, &question, &OfStanza { sender, ..OfStanza::default() });
        // What the gateway does with such a stanza.
        let permit = policy.judge(&Question::Federate(question), &mut ()).permit();
        let refused = permit.zip(sender).is_some_and(|(permit, sender)| {
            direction == Direction::Inbound && policy.lists_against(&permit, sender).is_some()
        });
        assert!(identity == Identity::Inside || refused != told.is_allow(), "{told}");
        told
    };
    let (inbound, proven) = (Direction::Inbound, Identity::Certificate);
    for sender in ["bad@good.example", "BAD@good.example/phone"] {
        let told = told("good.example", inbound, proven, Some(sender));
        assert_eq!((told.reason, told.rule.as_str()), ("on-lists", "on-lists"), "{told}");
        assert!(told.considered.iter().any(|step| step.bearing == "decides" && step.rule == "on-lists"));
        let text = told.to_string();
        assert!(text.contains("one (bad@good.example); 1 of 1 lists") && text.contains(sender), "{text}");
        assert_eq!(told.shadow.unwrap().reason, "allowed");
    }
    for (remote, direction, identity, sender) in [
        ("good.example", inbound, proven, Some("good@good.example")),
        ("good.example", Direction::Outbound, proven, Some("bad@good.example")),
        ("good.example", inbound, Identity::Inside, Some("bad@good.example")),
        ("cousin.example", inbound, proven, Some("bad@good.example")),
    ] {
        assert!(told(remote, direction, identity, sender).is_allow(), "{remote} {direction:?} {identity:?}");
    }
    // A shadow that asks lists where the policy in force asks none.
    let asks = compiled(Federation::Any, rules).with_lists(Lists::new(vec![list("one")]));
    let other = compiled(Federation::Any, "").with_shadow(Some(asks));
    let permit = from("good.example").of(&other).permit().unwrap();
    assert!(other.asks_of_addresses() && other.lists_against(&permit, "bad@good.example").is_none());
    let word = other.beside_against(&permit, "bad@good.example").unwrap();
    assert_eq!((word.rule.as_str(), word.reason), ("on-lists", Reason::OnLists));
    assert_eq!(other.beside_against(&permit, "good@good.example"), None);
    // Who asks about the domain alone hears that this is not all.
    let text = told("good.example", inbound, proven, None).to_string();
    assert!(text.starts_with("allow") && text.contains("ask with a whole address"), "{text}");
}

// POL-24: what an operator says of a quarantine counts where there is one.
#[test]
fn a_word_about_quarantine_knows_who_is_in_none() {
    let rules = "  - { name: in, domains: [in.example, \"*.wide.example\"], verdict: quarantine }
  - { name: ours, domains: [ours.example] }
  - { name: banned, domains: [bad.example], verdict: deny }
  - { name: mixed, domains: [mixed.example] }
  - { name: below, domains: [a.mixed.example], verdict: quarantine }
  - { name: on-lists, verdict: deny, lists: [one] }\n";
    let anyway = |federation: Federation, remote: &str| {
        let lists = Lists::new(vec![Slot::of(List::read("one", "listed.example\n"))]);
        let policy = compiled(federation, rules).with_lists(lists);
        policy.stands_anyway(&domain(remote)).map(|verdict| verdict.rule.to_string())
    };
    for (remote, any, held) in [
        ("in.example", None, None),
        ("wide.example", None, None),
        ("a.wide.example", None, None),
        ("mixed.example", None, None),
        ("ours.example", Some("ours"), Some("ours")),
        ("bad.example", Some("banned"), Some("banned")),
        ("listed.example", Some("on-lists"), Some("on-lists")),
        ("new.example", Some("default"), None),
    ] {
        assert_eq!(anyway(Federation::Any, remote).as_deref(), any, "{remote}");
        assert_eq!(anyway(Federation::Quarantine, remote).as_deref(), held, "{remote}");
    }
}
