//! Features: what a server inside says of itself, and what of it a client may see.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use std::collections::BTreeSet;

use gatehouse::reason::Reason;
use gatehouse::stream::client::Mechanism;
use gatehouse::stream::client::features::{
    ClientOffer, Inline, Rules, after_login, before_login, goes_with_bind,
};
use gatehouse::xml::{Atom, Content, Element, Node, names};

/// The first line names the mechanisms of the rules, `register`, namespaces of further features and a number for the largest
/// stanza, with commas between; the rest are elements of a server inside, or of one that we called.
pub fn features(data: &[u8]) {
    let line = data.split(|&b| b == b'\n').next().unwrap_or_default();
    let body = data.get(line.len() + 1..).unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let words: Vec<&str> = line.split(',').collect();
    let rules = Rules {
        mechanisms: words.iter().filter_map(|word| Mechanism::parse(word)).collect(),
        registration: words.contains(&"register"),
        features: words.iter().filter(|word| word.contains(':')).map(|word| (*word).to_owned()).collect(),
        max_octets: words.iter().find_map(|word| word.parse().ok()).unwrap_or(262_144),
        early_octets: 16_384,
    };
    for frame in super::frames(Content::Client, body) {
        let said = frame.tree();
        before(&said, &rules);
        after(&said, &rules);
        assert_eq!(
            goes_with_bind(&said),
            said.is(BIND2, "tag") || WITH_BIND.contains(&said.namespace.as_str())
        );
    }
    for frame in super::frames(Content::Server, body) {
        of_a_server(&frame.tree());
    }
}

fn before(said: &Element, rules: &Rules) {
    let wants_tls = said.elements().find(|e| e.is(names::TLS, "starttls"));
    let wants_tls = wants_tls.is_some_and(|e| e.child(names::TLS, "required").is_some());
    let offer = match before_login(said, rules) {
        Err(Reason::BackendWantsTls) => return assert!(wants_tls),
        Err(reason) => {
            assert!(matches!(reason, Reason::BackendBindsChannel | Reason::NoMechanism), "{reason:?}");
            let logins = logins(said, names::SASL, "mechanisms", rules);
            let modern = logins_modern(said, rules);
            return assert!(logins.is_empty() && modern.is_empty(), "{logins:?} {modern:?} would do");
        }
        Ok(offer) => offer,
    };
    assert!(!wants_tls, "the server would refuse the login");
    let told = seen(said, &offer);
    for feature in told.elements() {
        match (feature.namespace.as_str(), feature.name.as_str()) {
            (names::SASL, "mechanisms") => {
                only(feature, |e| listed(e, names::SASL, rules).is_some_and(|m| !is_token(m)));
                bare(feature);
            }
            (names::SASL2, "authentication") => {
                bare(feature);
                only(feature, |e| {
                    e.is(names::SASL2, "inline")
                        || listed(e, names::SASL2, rules).is_some_and(|m| !is_token(m))
                });
                let lists: Vec<_> = feature.elements().filter(|e| e.is(names::SASL2, "inline")).collect();
                assert!(lists.len() <= 1);
                lists.into_iter().for_each(|list| inline(list, rules));
            }
            (names::REGISTER_FEATURE, "register") => assert!(rules.registration && offer.registration),
            (names::CAPABILITIES, "c") => {}
            (names::LIMITS, "limits") => limits(feature, said, rules.early_octets, false),
            other => panic!("{other:?} is shown before the login"),
        }
    }
    // What is told is what may be used, in both directions.
    assert_eq!(offer.sasl, logins(&told, names::SASL, "mechanisms", rules));
    assert_eq!(offer.sasl, logins(said, names::SASL, "mechanisms", rules));
    assert_eq!(offer.registration, told.child(names::REGISTER_FEATURE, "register").is_some());
    assert_eq!(offer.sasl2.is_some(), told.child(names::SASL2, "authentication").is_some());
    if let Some(Inline { mechanisms, bind, resume, tokens }) = &offer.sasl2 {
        let all: Vec<_> = told.elements().filter(|e| e.is(names::SASL2, "authentication")).collect();
        let last = all.last().unwrap();
        assert!(!mechanisms.is_empty() && mechanisms.is_subset(&rules.mechanisms));
        let list = last.child(names::SASL2, "inline");
        assert_eq!(*bind, list.is_some_and(|list| list.child(BIND2, "bind").is_some()));
        assert_eq!(*resume, list.is_some_and(|list| list.child(names::STREAM_MANAGEMENT, "sm").is_some()));
        assert!(tokens.iter().all(|token| is_token(*token)) && tokens.is_subset(&rules.mechanisms));
    }
    assert!(!offer.text.contains("-PLUS</"), "{}", offer.text);
}

fn after(said: &Element, rules: &Rules) {
    let Ok(offer) = after_login(said, rules) else { return };
    let told = seen(said, &offer);
    let allowed = [
        (names::BIND, "bind"),
        (names::CAPABILITIES, "c"),
        (names::CSI, "csi"),
        (names::PRE_APPROVAL, "sub"),
        (names::ROSTER_VERSIONING, "ver"),
        (names::SESSION, "session"),
        (names::STREAM_MANAGEMENT, "sm"),
        (names::STREAM_MANAGEMENT_2, "sm"),
    ];
    let (last, others) = {
        let mut all: Vec<_> = told.elements().collect();
        (all.pop().expect("our own limits"), all)
    };
    let passes = |feature: &Element| {
        allowed.iter().any(|(namespace, name)| feature.is(namespace, name))
            || rules.features.contains(feature.namespace.as_str())
    };
    for feature in &others {
        let known = passes(feature) && said.elements().any(|e| e == *feature);
        assert!(known, "{feature:?} is shown after the login");
    }
    // None of the list is lost either.
    assert_eq!(said.elements().filter(|e| passes(e)).count(), others.len());
    assert!(last.is(names::LIMITS, "limits"));
    limits(last, said, rules.max_octets, true);
    assert!(offer.sasl.is_empty() && offer.sasl2.is_none() && !offer.registration);
}

/// SM-09: never more than we take, nor than the server does; and how long it bears silence once the login is done.
fn limits(told: &Element, said: &Element, ours: usize, idle: bool) {
    let number = |of: &Element, name: &str| {
        of.child(names::LIMITS, name).and_then(|e| e.text().trim_ascii().parse::<usize>().ok())
    };
    let theirs = said.child(names::LIMITS, "limits");
    let max = number(told, "max-bytes").expect("a number");
    assert!(max <= ours && theirs.and_then(|of| number(of, "max-bytes")).is_none_or(|theirs| max <= theirs));
    let silence = theirs.and_then(|of| number(of, "idle-seconds")).filter(|_| idle);
    assert_eq!(number(told, "idle-seconds"), silence);
}

/// What the client reads: canonical, of the same name, and nothing of the element but its features.
fn seen(said: &Element, offer: &ClientOffer) -> Element {
    let told = super::framed(Content::Client, &offer.text).tree();
    assert_eq!((&told.name, &told.namespace), (&said.name, &said.namespace));
    bare(&told);
    only(&told, |_| true);
    told
}

/// Elements only, each of which passes.
fn only(list: &Element, passes: impl Fn(&Element) -> bool) {
    for node in &list.children {
        match node {
            Node::Element(element) => assert!(passes(element), "{element:?} in {list:?}"),
            Node::Text(text) => panic!("{text:?} in {list:?}"),
        }
    }
}

fn bare(element: &Element) {
    assert!(element.attrs.is_empty(), "{element:?}");
}

/// The mechanism that an element of a list names, if the rules know it.
fn listed(element: &Element, namespace: &str, rules: &Rules) -> Option<Mechanism> {
    let fits =
        element.is(namespace, "mechanism") && element.attrs.is_empty() && element.elements().count() == 0;
    let text = element.text();
    rules.mechanisms.iter().copied().find(|m| fits && m.name() == text)
}

fn is_token(mechanism: Mechanism) -> bool {
    mechanism.name().starts_with("HT-")
}

/// The logins of all lists of that name.
fn logins(said: &Element, namespace: &str, name: &str, rules: &Rules) -> BTreeSet<Mechanism> {
    said.elements().filter(|e| e.is(namespace, name)).flat_map(|list| named(list, rules)).collect()
}

fn logins_modern(said: &Element, rules: &Rules) -> BTreeSet<Mechanism> {
    logins(said, names::SASL2, "authentication", rules)
}

fn named(list: &Element, rules: &Rules) -> Vec<Mechanism> {
    let own = list.elements().filter(|e| e.is(&list.namespace, "mechanism"));
    let texts = own.map(|e| e.text().trim_ascii().to_owned());
    texts
        .filter_map(|text| rules.mechanisms.iter().copied().find(|m| m.name() == text))
        .filter(|m| !is_token(*m))
        .collect()
}

fn inline(list: &Element, rules: &Rules) {
    only(list, |e| e.is(names::STREAM_MANAGEMENT, "sm") || e.is(BIND2, "bind") || e.is(names::FAST, "fast"));
    for offered in list.elements() {
        if offered.is(names::STREAM_MANAGEMENT, "sm") {
            assert!(offered.children.is_empty());
        } else if offered.is(names::FAST, "fast") {
            // CB-10: nothing said early.
            bare(offered);
            only(offered, |e| listed(e, names::FAST, rules).is_some_and(is_token));
        } else {
            only(offered, |e| e.is(BIND2, "inline"));
            let lists: Vec<_> = offered.elements().collect();
            assert!(lists.len() <= 1);
            for list in lists {
                only(list, |e| {
                    let known = e.attr("var").is_some_and(|var| WITH_BIND.contains(&var));
                    e.is(BIND2, "feature") && known && e.children.is_empty()
                });
            }
        }
    }
}

/// What we take from a server that we called: the four things, wherever they stand, and nothing else.
fn of_a_server(said: &Element) {
    use gatehouse::stream::features::read;
    let offered = read(said);
    let has = |namespace: &str, name: &str| said.elements().any(|e| e.is(namespace, name));
    assert_eq!(offered.starttls, has(names::TLS, "starttls"));
    assert_eq!(offered.dialback, has(names::DIALBACK_FEATURE, "dialback"));
    assert!(!offered.external || has(names::SASL, "mechanisms"));
    assert!(offered.max_octets.is_none() || has(names::LIMITS, "limits"));
    // RFC 6120 4.3.2: what is unknown changes nothing.
    let unknown = Element { name: Atom::new("odd"), namespace: Atom::new("urn:odd"), ..Element::default() };
    let mut more = said.clone();
    more.children.insert(0, Node::Element(unknown.clone()));
    more.children.push(Node::Element(unknown));
    assert_eq!(read(&more), offered);
}

const BIND2: &str = "urn:xmpp:bind:0";

/// What Bind 2 may switch on at once (C2S-19).
const WITH_BIND: &[&str] = &["urn:xmpp:carbons:2", "urn:xmpp:csi:0", "urn:xmpp:sm:3", "urn:xmpp:sm:2"];
