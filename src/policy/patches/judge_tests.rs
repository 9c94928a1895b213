use proptest::prelude::*;

use super::super::*;
use super::*;
use crate::config::load;
use crate::policy::{CaseOutcome, Day, Finding};
use crate::xml::{Content, Frame, Framer, Limits, Token};

fn today() -> Day {
    Day::parse("2027-01-01").unwrap()
}

fn tried(text: &str) -> Result<(Patches, Vec<CaseOutcome>), Vec<String>> {
    let (file, findings) = load::parse::<PatchFile>(text, "p.yaml");
    assert!(findings.is_empty(), "{findings:?}");
    compile_patches(&[PatchSource::new("p.yaml", file)], None, today())
        .map(|(patches, outcomes, _)| (patches, outcomes))
        .map_err(|findings| findings.iter().map(Finding::to_string).collect())
}

fn frame(stanza: &str) -> Frame {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>");
    framer.feed(stanza.as_bytes());
    let found = std::iter::from_fn(|| framer.next()).find_map(|token| match token {
        Token::Element(frame) => Some(frame),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{stanza}"))
}

const FILE: &str = r#"version: v1
patches:
  - name: deep-form
    reason: forms with many fields stop the server
    reference: CVE-2027-1
    owner: infra
    action: deny
    direction: inbound
    payload: "jabber:x:data"
    when:
      - { element: field, depth: 2, count: 3 }
      - { element: field, attribute: var, value-over: 10B }
  - name: old-avatar
    reason: the server keeps them for ever
    action: cut
    kinds: [presence]
    types: [none, unavailable]
    payload: "vcard-temp:x:update"
    expires: 2027-06-30
  - { name: long, reason: clients stop, action: deny, flows: [c2s], kinds: [message], larger-than: 200B, when: [{ element: body, namespace: "jabber:client", text-over: 100B }] }
  - { name: watched, reason: to learn, action: deny, mode: shadow, payload: "urn:x", hosted: [hall.example] }
  - { name: b-cut, reason: r, action: cut, payload: "urn:y" }
  - { name: a-cut, reason: r, action: cut, payload: "urn:y", when: [{ attribute: z, value: "1" }] }
  - { name: y-denied, reason: r, action: deny, payload: "urn:y", when: [{ element: bad, depth: 2- }] }
expect:
  - { stanza: "<message><x xmlns='jabber:x:data'><field var='12345678901'/><field/><field/></x></message>", verdict: deny, patch: deep-form }
  - { stanza: "<message><x xmlns='jabber:x:data'><field var='1234567890'/><field/><field/></x></message>", verdict: pass }
  - { stanza: "<message><x xmlns='jabber:x:data'><field var='12345678901'/><field/></x></message>", verdict: pass }
  - { stanza: "<message><x xmlns='jabber:x:data'><a><field var='12345678901'/><field/><field/></a></x></message>", verdict: pass }
  - { stanza: "<message><x xmlns='jabber:x:data'><field var='12345678901'/><field/><field/></x></message>", direction: outbound, verdict: pass }
  - { stanza: "<presence><x xmlns='vcard-temp:x:update'/></presence>", verdict: cut, patch: old-avatar }
  - { stanza: "<presence type='unavailable'><x xmlns='vcard-temp:x:update'/></presence>", verdict: cut }
  - { stanza: "<presence type='subscribe'><x xmlns='vcard-temp:x:update'/></presence>", verdict: pass }
  - { stanza: "<message><x xmlns='vcard-temp:x:update'/></message>", verdict: pass }
  - { stanza: "<presence><x xmlns='vcard-temp:x:update'/></presence>", today: 2027-07-01, verdict: pass }
  - { stanza: "<message><a xmlns='urn:x'/></message>", hosted: hall.example, verdict: pass, patch: watched }
  - { stanza: "<message><a xmlns='urn:y'/></message>", verdict: cut, patch: b-cut }
  - { stanza: "<message><a xmlns='urn:y' z='1'/></message>", verdict: cut, patch: a-cut }
  - { stanza: "<message><a xmlns='urn:y' z='1'><c><bad/></c></a></message>", verdict: deny, patch: y-denied }
"#;

// POL-12: each case is tried on the code path of the living gateway.
#[test]
fn a_file_of_patches_does_what_its_cases_say() {
    let (patches, outcomes) = tried(FILE).unwrap_or_else(|findings| panic!("{findings:#?}"));
    assert_eq!(outcomes.len(), 14);
    assert!(outcomes.iter().all(|outcome| outcome.passed), "{outcomes:#?}");
    assert_eq!(patches.next_expiry(today()), Day::parse("2027-07-01"));
    // It is told beforehand that a patch ends, with its owner and its line.
    let nothing = crate::policy::Sources {
        hosted: Vec::new(),
        sources: Vec::new(),
        today: Day::parse("2027-06-10").unwrap(),
        digest: String::new(),
    };
    let policy = crate::policy::build(&nothing).0.unwrap().with_patches(patches.clone());
    let told: Vec<String> = policy.remarks(30).iter().map(Finding::to_string).collect();
    assert!(
        told.len() == 1 && told[0].starts_with("p.yaml:13:") && told[0].contains("expires after 2027-06-30"),
        "{told:?}"
    );
    assert_eq!(policy.next_expiry(), Day::parse("2027-07-01"));
    let long = format!("<message><body>{}</body></message>", "x".repeat(200));
    let home = Domain::parse("hall.example").unwrap();
    for (flow, denied) in [(Flow::C2s, true), (Flow::S2sIn, false)] {
        let asked = PatchQuestion { flow, direction: Direction::Inbound, hosted: &home, today: today() };
        let frame = frame(&long);
        let by = patches
            .judge(frame.head(), &asked)
            .and_then(|struck| struck.deny)
            .map(|patch| patch.name.as_str());
        assert_eq!(by, denied.then_some("long"));
    }
}

// Names in a child mean what the stanza around it declares, however it is spelt.
#[test]
fn no_spelling_of_a_namespace_gets_by_a_patch() {
    let patches = |payload: &str| {
        let text = format!(
            "version: v1\npatches:\n  - {{ name: a, reason: r, action: deny, {payload}when: [{{ element: field, namespace: \"urn:x\", depth: 2 }}] }}\n"
        );
        tried(&text).unwrap().0
    };
    let home = Domain::parse("hall.example").unwrap();
    let asked =
        PatchQuestion { flow: Flow::S2sIn, direction: Direction::Inbound, hosted: &home, today: today() };
    for patches in [patches("payload: \"urn:x\", "), patches("")] {
        for (child, meets) in [
            ("<message><x xmlns='urn:x'><field/></x></message>", true),
            ("<message><p:x xmlns:p='urn:x'><p:field/></p:x></message>", true),
            ("<message xmlns:p='urn:x'><p:x><p:field/></p:x></message>", true),
            ("<message xmlns:p='urn:x'><x xmlns='urn:x'><p:field/></x></message>", true),
            ("<message xmlns:p='urn:x'><p:x><field xmlns='urn:x'/></p:x></message>", true),
            ("<message xmlns:o='urn:o'><x xmlns='urn:x'><field/></x></message>", true),
            ("<message xmlns:p='urn:o'><p:x xmlns:p='urn:x'><p:field/></p:x></message>", true),
            ("<message xmlns:p='urn:x'><p:x><field/></p:x></message>", false),
            ("<message xmlns:p='urn:x'><p:x xmlns:p='urn:o'><p:field/></p:x></message>", false),
            ("<message xmlns:p='urn:x'><p:x><field xmlns='urn:o'/></p:x></message>", false),
        ] {
            let frame = frame(child);
            assert_eq!(patches.judge(frame.head(), &asked).is_some(), meets, "{child}");
            let whole = frame.tree();
            let own: Vec<Element> = frame.head().children().map(|child| child.tree()).collect();
            assert_eq!(own, whole.elements().cloned().collect::<Vec<_>>(), "{child}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_patch_is_told_at_once() {
    let text = r#"version: v1
patches:
  - { action: deny, payload: "urn:x" }
  - { name: a, reason: r }
  - { name: a, reason: r, action: stop, payload: "urn:x", mode: quiet }
  - { name: c, reason: r, action: cut, kinds: [iq], payload: "urn:x" }
  - { name: d, reason: r, action: cut, larger-than: 1KiB }
  - { name: "e e", reason: r, action: deny, payload: "urn:x", flows: [], types: [], larger-than: many }
  - { name: f, reason: r, action: deny, payload: "urn:x", when: [{ }, { value: x }, { depth: 3-2 }, { count: 0 }] }
"#;
    let told = tried(text).unwrap_err();
    for words in [
        "has no name",
        "does not say why",
        "about every stanza",
        "has no `action`",
        "two patches are called \"a\"",
        "\"stop\" is not an action",
        "\"quiet\" is not a mode",
        "lives by its one child",
        "must say what",
        "cannot be the name",
        "`flows` is empty",
        "`types` is empty",
        "\"many\" is no size",
        "asks for nothing",
        "`value` without",
        "\"3-2\" is no depth",
        "\"0\" is no count",
    ] {
        assert!(told.iter().any(|line| line.contains(words)), "{words}: {told:#?}");
    }
    let case = |case: &str| {
        let text = format!(
            "version: v1\npatches:\n  - {{ name: a, reason: r, action: deny, payload: \"urn:x\" }}\nexpect:\n  - {{ {case} }}\n"
        );
        tried(&text).unwrap_err().join("\n")
    };
    for (text, words) in [
        ("stanza: \"<message/>\", verdict: deny", "expects deny, but gets pass"),
        ("stanza: \"<message><x xmlns='urn:x'/></message>\", verdict: pass", "gets deny (patch a)"),
        ("stanza: \"<message/>\", verdict: pass, patch: b", "there is no patch \"b\""),
        ("stanza: \"<message/>\", verdict: allow", "\"allow\" is not a verdict"),
        ("stanza: \"<message>\", verdict: pass", "has no end"),
        ("stanza: \"<message></iq>\", verdict: pass", "breaks the rules of XML"),
        ("stanza: \"<message/><message/>\", verdict: pass", "is not one message"),
        ("verdict: pass", "has no `stanza`"),
    ] {
        let told = case(text);
        assert!(told.contains(words), "{text}: {told}");
    }
}

// ------------------------------------------------------------- the compiled set against the plainest reading of the words

/// One patch, as plain words.
#[derive(Clone, Debug)]
struct Plain {
    deny: bool,
    shadow: bool,
    payload: Option<usize>,
    kinds: Vec<bool>,
    outbound: Option<bool>,
    conditions: Vec<Condition>,
}

/// Name, space, depths, whether its attribute is there, and how many at least.
type Condition = (Option<usize>, Option<usize>, (u32, u32), Option<bool>, u32);

const SPACES: [&str; 4] = ["urn:a", "urn:b", "urn:ab", "jabber:client"];
const NAMES: [&str; 3] = ["x", "y", "z"];

fn plain() -> impl Strategy<Value = Plain> {
    let condition = (
        proptest::option::of(0..3usize),
        proptest::option::of(0..4usize),
        (1..4u32, 0..3u32).prop_map(|(first, more)| (first, first + more)),
        proptest::option::of(any::<bool>()),
        1..4u32,
    );
    (
        any::<bool>(),
        proptest::bool::weighted(0.2),
        proptest::option::weighted(0.8, 0..4usize),
        proptest::collection::vec(any::<bool>(), 2),
        proptest::option::of(any::<bool>()),
        proptest::collection::vec(condition, 0..3),
    )
        .prop_map(|(deny, shadow, payload, kinds, outbound, conditions)| Plain {
            deny,
            shadow,
            payload,
            kinds,
            outbound,
            conditions,
        })
}

/// An element in canonical form, with others in it.
fn element() -> impl Strategy<Value = String> {
    let leaf = (0..3usize, 0..4usize, proptest::option::of(any::<bool>()), any::<bool>());
    let write = |(name, space, attribute, _): (usize, usize, Option<bool>, bool), inside: String| {
        let attribute = attribute.map_or(String::new(), |one| format!(" k='{}'", u8::from(one)));
        let space = if SPACES[space] == "jabber:client" { "jabber:server" } else { SPACES[space] };
        format!("<{0} xmlns='{space}'{attribute}>{inside}</{0}>", NAMES[name])
    };
    leaf.clone().prop_map(move |leaf| write(leaf, "t".into())).prop_recursive(3, 12, 3, move |inner| {
        (leaf.clone(), proptest::collection::vec(inner, 0..3))
            .prop_map(move |(leaf, inner)| write(leaf, inner.concat()))
    })
}

fn yaml(index: usize, patch: &Plain) -> String {
    let mut text = format!(
        "  - name: p{index}\n    reason: r\n    action: {}\n",
        if patch.deny { "deny" } else { "cut" }
    );
    if patch.shadow {
        text += "    mode: shadow\n";
    }
    if let Some(payload) = patch.payload {
        text += &format!("    payload: \"{}\"\n", SPACES[payload]);
    }
    let kinds: Vec<&str> =
        patch.kinds.iter().zip(["message", "presence"]).filter_map(|(on, kind)| on.then_some(kind)).collect();
    text += &format!("    kinds: [{}]\n", kinds.join(", "));
    if let Some(outbound) = patch.outbound {
        text += &format!("    direction: {}\n", if outbound { "outbound" } else { "inbound" });
    }
    text += "    when:\n";
    for (name, space, (first, last), attribute, count) in &patch.conditions {
        text += &format!("      - {{ depth: {first}-{last}, count: {count}");
        if let Some(name) = name {
            text += &format!(", element: {}", NAMES[*name]);
        }
        if let Some(space) = space {
            text += &format!(", namespace: \"{}\"", SPACES[*space]);
        }
        if let Some(one) = attribute {
            text += &format!(", attribute: k, value: \"{}\"", u8::from(*one));
        }
        text += " }\n";
    }
    text
}

fn all<'a>(element: &'a Element, depth: u32, found: &mut Vec<(&'a Element, u32)>) {
    found.push((element, depth));
    element.elements().for_each(|child| all(child, depth + 1, found));
}

fn holds(patch: &Plain, trees: &[&Element]) -> bool {
    patch.conditions.iter().all(|(name, space, (first, last), attribute, count)| {
        let mut found = Vec::new();
        trees.iter().for_each(|tree| all(tree, 1, &mut found));
        let like = found.iter().filter(|(element, depth)| {
            let space_of = if element.namespace == "jabber:server" {
                "jabber:client"
            } else {
                element.namespace.as_str()
            };
            (first..=last).contains(&depth)
                && name.is_none_or(|name| element.name == NAMES[name])
                && space.is_none_or(|space| space_of == SPACES[space])
                && attribute.is_none_or(|one| element.attr("k") == Some(if one { "1" } else { "0" }))
        });
        like.count() >= *count as usize
    })
}

proptest! {
    // POL-12: whatever the set, it decides as if each patch were asked by itself, of the whole tree.
    #[test]
    fn a_compiled_set_agrees_with_the_plainest_reading(
        patches in proptest::collection::vec(plain(), 1..8),
        children in proptest::collection::vec(element(), 0..4),
        (presence, outbound) in any::<(bool, bool)>(),
    ) {
        let fits = |p: &Plain| (p.payload.is_some() || (p.deny && !p.conditions.is_empty())) && p.kinds.contains(&true);
        let patches: Vec<Plain> = patches.into_iter().filter(fits).collect();
        let text: String = patches.iter().enumerate().map(|(index, patch)| yaml(index, patch)).collect();
        let (set, _) = tried(&format!("version: v1\npatches:\n{text}")).unwrap();
        let name = if presence { "presence" } else { "message" };
        let frame = frame(&format!("<{name}>{}</{name}>", children.concat()));
        let tree = frame.tree();
        let whole: Vec<&Element> = tree.elements().collect();

        let (mut deny, mut cut, mut shadow) = (None, std::collections::BTreeMap::new(), Vec::new());
        for (index, patch) in patches.iter().enumerate() {
            if !patch.kinds[usize::from(presence)] || patch.outbound.is_some_and(|only| only != outbound) {
                continue;
            }
            let label = format!("p{index}");
            let met: Vec<usize> = match patch.payload {
                None => if holds(patch, &whole) { vec![usize::MAX] } else { Vec::new() },
                Some(space) => whole.iter().enumerate().filter(|(_, child)| {
                    let of = if child.namespace == "jabber:server" { "jabber:client" } else { child.namespace.as_str() };
                    of == SPACES[space] && holds(patch, &[**child])
                }).map(|(at, _)| at).collect(),
            };
            if met.is_empty() {
                continue;
            }
            match (patch.shadow, patch.deny) {
                (true, _) => shadow.push(label),
                (false, true) => deny = deny.or(Some(label)),
                (false, false) => for at in met { cut.entry(at).or_insert_with(|| label.clone()); },
            }
        }
        let home = Domain::parse("hall.example").unwrap();
        let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
        let asked = PatchQuestion { flow: Flow::S2sIn, direction, hosted: &home, today: today() };
        let struck = set.judge(frame.head(), &asked).unwrap_or_default();
        prop_assert_eq!(struck.deny.map(|patch| patch.name.to_string()), deny);
        let cuts: std::collections::BTreeMap<_, _> = struck.cut.iter().map(|(at, patch)| (*at, patch.name.to_string())).collect();
        prop_assert_eq!(cuts, cut);
        let mut shadows: Vec<_> = struck.shadow.iter().map(|patch| patch.name.to_string()).collect();
        shadows.sort();
        prop_assert_eq!(shadows, shadow);
    }
}

// POL-12: what would name nothing is a mistake, and not "anything".
#[test]
fn words_of_a_patch_say_something() {
    for wrong in [
        "reason: \"\", payload: x",
        "reason: r, payload: \"\"",
        "reason: r, payload: \" \"",
        "reason: r, types: [\"\"], payload: x",
        "reason: r, when: [{ element: \"\" }]",
        "reason: r, when: [{ namespace: \"\" }]",
        "reason: r, when: [{ attribute: \"\" }]",
    ] {
        let text = format!("version: v1\npatches:\n  - {{ name: a, action: deny, {wrong} }}\n");
        let told = tried(&text).map(|_| ()).unwrap_err();
        assert!(told.len() == 1 && told[0].contains("` is empty"), "{wrong}: {told:?}");
    }
    let text = "version: v1\npatches:\n  - { name: a, action: deny, reason: r, when: [{ attribute: b, value: \"\" }] }\n";
    assert!(tried(text).is_ok());
}
