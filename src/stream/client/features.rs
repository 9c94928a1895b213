//! What of a server's features a client may see, as data (C2S-03 to C2S-08, CB-02, CB-10).
//!
//! The lists name what passes; everything else is left out. The same lists say what a client may then use.

use std::collections::BTreeSet;

use crate::reason::Reason;
use crate::xml::{Atom, Element, Node, names};

use super::Mechanism;
use super::signed::ShownMechanisms;

/// What the operator lets the clients of one domain use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// The mechanisms that may be offered.
    pub mechanisms: BTreeSet<Mechanism>,
    /// Whether accounts may be made from outside.
    pub registration: bool,
    /// Namespaces of features that pass after the login beside those that are known here (C2S-03).
    pub features: BTreeSet<String>,
    /// The largest stanza that passes, in octets.
    pub max_octets: usize,
    /// The largest element that is read before the login, in octets.
    pub early_octets: usize,
}

/// Features as the client is to see them, and what they let it do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientOffer {
    /// The element.
    pub text: String,
    /// The mechanisms of RFC 6120.
    pub sasl: BTreeSet<Mechanism>,
    /// Extensible SASL, if offered.
    pub sasl2: Option<Inline>,
    /// In-band registration.
    pub registration: bool,
    /// The server offers channel binding, which fails every client that can do it (CB-02).
    pub binds_channel: bool,
    /// What a client sees of the lists that a server may sign (CB-09).
    pub shown: ShownMechanisms,
}

impl ClientOffer {
    /// How many mechanisms a client may use in all.
    pub fn ways(&self) -> usize {
        let more = self.sasl2.iter().flat_map(|inline| inline.mechanisms.union(&inline.tokens));
        self.sasl.iter().chain(more).collect::<BTreeSet<_>>().len()
    }
}

/// What may go with a SASL2 login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inline {
    /// The mechanisms.
    pub mechanisms: BTreeSet<Mechanism>,
    /// Bind 2.
    pub bind: bool,
    /// Resumption of a session.
    pub resume: bool,
    /// The mechanisms of tokens.
    pub tokens: BTreeSet<Mechanism>,
}

/// Features that pass as they are once the login is done: namespace and name.
const AFTER_LOGIN: &[(&str, &str)] = &[
    (names::BIND, "bind"),
    (names::CAPABILITIES, "c"),
    (names::CSI, "csi"),
    (names::PRE_APPROVAL, "sub"),
    (names::ROSTER_VERSIONING, "ver"),
    (names::SESSION, "session"),
    (names::STREAM_MANAGEMENT, "sm"),
    (names::STREAM_MANAGEMENT_2, "sm"),
];

/// Features that never pass as they are, whatever the operator says.
const NEVER: &[&str] = &[
    names::BIND2,
    names::CHANNEL_BINDING,
    names::COMPRESSION,
    names::COMPRESSION_FEATURE,
    names::DIALBACK,
    names::FAST,
    names::LEGACY_AUTH_FEATURE,
    names::LIMITS,
    names::REGISTER_FEATURE,
    names::SASL,
    names::SASL2,
    names::STREAMS,
    names::TLS,
];

/// Whether an operator may let features of that namespace pass.
pub fn may_be_let_pass(namespace: &str) -> bool {
    !namespace.is_empty() && !NEVER.contains(&namespace)
}

/// What Bind 2 may switch on at once.
const WITH_BIND: &[&str] =
    &[names::CARBONS, names::CSI, names::STREAM_MANAGEMENT, names::STREAM_MANAGEMENT_2];

/// What a client sees before its login.
///
/// # Errors
/// What is wrong with the backend, if nobody could log in by what is left (C2S-04).
pub fn before_login(features: &Element, rules: &Rules) -> Result<ClientOffer, Reason> {
    wants_no_tls(features)?;
    let mut offer = ClientOffer::default();
    let mut kept = Vec::new();
    for feature in features.elements() {
        match (feature.namespace.as_str(), feature.name.as_str()) {
            (names::SASL, "mechanisms") => {
                offer.binds_channel |= binds_channel(feature);
                let (list, element) = mechanisms(feature, rules, is_login);
                offer.shown.sasl.extend(list.iter().map(|mechanism| mechanism.name()));
                offer.sasl.extend(list);
                kept.extend(element);
            }
            (names::SASL2, "authentication") => {
                offer.binds_channel |= binds_channel(feature);
                if let Some((inline, element)) = authentication(feature, rules) {
                    offer.shown.sasl2.extend(inline.mechanisms.iter().map(|mechanism| mechanism.name()));
                    offer.sasl2 = Some(inline);
                    kept.push(element);
                }
            }
            (names::CHANNEL_BINDING, "sasl-channel-binding") => {
                offer.binds_channel = true;
            }
            (names::REGISTER_FEATURE, "register") if rules.registration => {
                offer.registration = true;
                kept.push(feature.clone());
            }
            (names::CAPABILITIES, "c") => kept.push(feature.clone()),
            _ => {}
        }
    }
    if offer.sasl.is_empty() && offer.sasl2.is_none() {
        return Err(if offer.binds_channel { Reason::BackendBindsChannel } else { Reason::NoMechanism });
    }
    kept.push(limits(features, rules.early_octets, false));
    offer.text = list(features, kept);
    Ok(offer)
}

/// What a client sees after its login.
///
/// # Errors
/// `BackendWantsTls` where the backend requires STARTTLS even now.
pub fn after_login(features: &Element, rules: &Rules) -> Result<ClientOffer, Reason> {
    wants_no_tls(features)?;
    let passes = |feature: &&Element| {
        AFTER_LOGIN.iter().any(|(ns, name)| feature.is(ns, name))
            || rules.features.contains(feature.namespace.as_str())
    };
    let mut kept: Vec<_> = features.elements().filter(passes).cloned().collect();
    kept.push(limits(features, rules.max_octets, true));
    Ok(ClientOffer { text: list(features, kept), ..ClientOffer::default() })
}

/// The features that are left, and nothing else of the element.
fn list(features: &Element, kept: Vec<Element>) -> String {
    Element { attrs: Vec::new(), ..features.with(nodes(kept)) }.write()
}

/// C2S-04.
fn wants_no_tls(features: &Element) -> Result<(), Reason> {
    let starttls = features.child(names::TLS, "starttls");
    match starttls.is_some_and(|starttls| starttls.child(names::TLS, "required").is_some()) {
        true => Err(Reason::BackendWantsTls),
        false => Ok(()),
    }
}

/// The mechanisms of a list that may pass, and the list with those.
fn mechanisms(
    list: &Element,
    rules: &Rules,
    kind: fn(Mechanism) -> bool,
) -> (BTreeSet<Mechanism>, Option<Element>) {
    let may = |element: &&Element| parse(list, element, rules).is_some_and(kind);
    let kept: Vec<_> = list.elements().filter(may).map(mechanism).collect();
    let names = list.elements().filter_map(|e| parse(list, e, rules)).filter(|m| kind(*m)).collect();
    let bare = Element { attrs: Vec::new(), ..list.with(nodes(kept.clone())) };
    (names, (!kept.is_empty()).then_some(bare))
}

/// A list's mechanisms are in its own namespace; an element of another that is called so is something else, and hidden.
fn parse(list: &Element, element: &Element, rules: &Rules) -> Option<Mechanism> {
    let named =
        element.is(&list.namespace, "mechanism").then(|| Mechanism::parse(element.text().trim_ascii()))?;
    named.filter(|mechanism| rules.mechanisms.contains(mechanism))
}

fn mechanism(element: &Element) -> Element {
    Element { attrs: Vec::new(), ..element.with(vec![Node::Text(element.text().trim_ascii().to_owned())]) }
}

fn binds_channel(list: &Element) -> bool {
    list.elements().any(|e| e.name == "mechanism" && e.text().trim_ascii().ends_with("-PLUS"))
}

const fn is_token(mechanism: Mechanism) -> bool {
    matches!(mechanism, Mechanism::HashedToken256 | Mechanism::HashedToken512)
}

const fn is_login(mechanism: Mechanism) -> bool {
    !is_token(mechanism)
}

/// C2S-19: the same filter on SASL2, on what may go with it, and on the tokens of FAST.
fn authentication(feature: &Element, rules: &Rules) -> Option<(Inline, Element)> {
    let (names, _) = mechanisms(feature, rules, is_login);
    if names.is_empty() {
        return None;
    }
    let mut inline = Inline { mechanisms: names, ..Inline::default() };
    let may = |element: &&Element| parse(feature, element, rules).is_some_and(is_login);
    let mut kept: Vec<_> = feature.elements().filter(may).map(mechanism).collect();
    if let Some(list) = feature.child(names::SASL2, "inline") {
        let mut within = Vec::new();
        for offered in list.elements() {
            match (offered.namespace.as_str(), offered.name.as_str()) {
                (names::STREAM_MANAGEMENT, "sm") => {
                    inline.resume = true;
                    within.push(offered.with(Vec::new()));
                }
                (names::BIND2, "bind") => {
                    inline.bind = true;
                    within.push(bind(offered));
                }
                (names::FAST, "fast") => {
                    // CB-10: tls-0rtt goes with the attributes.
                    let (tokens, element) = mechanisms(offered, rules, is_token);
                    inline.tokens = tokens;
                    within.extend(element);
                }
                _ => {}
            }
        }
        kept.push(list.with(nodes(within)));
    }
    Some((inline, Element { attrs: Vec::new(), ..feature.with(nodes(kept)) }))
}

/// Bind 2 with the features that may be switched on at once.
fn bind(offered: &Element) -> Element {
    let Some(list) = offered.child(names::BIND2, "inline") else { return offered.with(Vec::new()) };
    let may = |e: &&Element| {
        e.is(names::BIND2, "feature") && e.attr("var").is_some_and(|var| WITH_BIND.contains(&var))
    };
    let kept: Vec<_> = list.elements().filter(may).map(|e| e.with(Vec::new())).collect();
    offered.with(vec![Node::Element(list.with(nodes(kept)))])
}

/// Whether a client may ask for this together with Bind 2.
pub fn goes_with_bind(request: &Element) -> bool {
    request.is(names::BIND2, "tag") || WITH_BIND.contains(&request.namespace.as_str())
}

/// SM-09: our limit, or the backend's where that is lower; and how long the backend bears silence, which here is borne for
/// ever.
fn limits(features: &Element, ours: usize, idle: bool) -> Element {
    let theirs = features.child(names::LIMITS, "limits");
    let number = |name: &str| {
        theirs.and_then(|limits| limits.child(names::LIMITS, name)?.text().trim_ascii().parse::<usize>().ok())
    };
    let element = |name: &str, children| Element {
        name: Atom::new(name),
        namespace: Atom::new(names::LIMITS),
        attrs: Vec::new(),
        children,
    };
    let max = number("max-bytes").map_or(ours, |theirs| theirs.min(ours));
    let told = [("max-bytes", Some(max)), ("idle-seconds", number("idle-seconds").filter(|_| idle))];
    let told = told
        .into_iter()
        .filter_map(|(name, value)| Some(Node::Element(element(name, vec![Node::Text(value?.to_string())]))));
    element("limits", told.collect())
}

fn nodes(elements: Vec<Element>) -> Vec<Node> {
    elements.into_iter().map(Node::Element).collect()
}
