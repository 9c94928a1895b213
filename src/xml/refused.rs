//! An element that is legal XML and may not pass: what is kept of its start tag, and why (requirement XML-17).

use super::frame::Kind;
use super::{Limits, Rule, Violation};
use crate::reason::Reason;

/// Why an element is refused: the rule, and for a budget by how much it was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ElementRefusal {
    rule: Rule,
    reason: Reason,
    most: usize,
    found: usize,
}

impl ElementRefusal {
    /// The refusal that this violation is on a proven stream, if where the element ends is not in doubt.
    pub(super) fn of(violation: Violation, limits: &Limits) -> Option<Self> {
        let rule = violation.rule;
        // The same rules have forms that are not well-formed at all.
        let legal = |as_what| violation.reason() == as_what;
        let inside = limits.inside;
        let (reason, most) = match rule {
            Rule::ElementSize if inside => (Reason::OverInsideStanza, limits.element),
            Rule::ElementSize => (Reason::OverStanza, limits.element),
            Rule::Depth if inside => (Reason::OverInsideDepth, limits.depth),
            Rule::Depth => (Reason::OverDepth, limits.depth),
            Rule::Nodes if inside => (Reason::OverInsideNodes, limits.nodes),
            Rule::Nodes => (Reason::OverNodes, limits.nodes),
            Rule::Attributes if inside => (Reason::OverInsideAttrs, limits.attributes),
            Rule::Attributes => (Reason::OverAttrs, limits.attributes),
            Rule::Declarations if inside => (Reason::OverInsideNsdecl, limits.declarations),
            Rule::Declarations => (Reason::OverNsdecl, limits.declarations),
            Rule::Bindings if inside => (Reason::OverInsideBindings, limits.bindings),
            Rule::Bindings => (Reason::OverBindings, limits.bindings),
            Rule::ValueLength if inside => (Reason::OverInsideAttrValue, limits.value),
            Rule::ValueLength => (Reason::OverAttrValue, limits.value),
            Rule::NameLength => (Reason::OverName, limits.name),
            Rule::NamespaceLength => (Reason::OverNamespaceName, limits.namespace_name),
            Rule::Grown => (Reason::OverGrown, limits.grown),
            Rule::T3 if legal(Reason::XmlBudget) => (Reason::NameBeyondAscii, 0),
            Rule::N4 if legal(Reason::XmlBudget) => (Reason::NamespaceUnfit, 0),
            Rule::S3 if legal(Reason::InvalidXml) => (Reason::StreamsElement, 0),
            Rule::H3 => (Reason::HeaderPrefix, 0),
            Rule::N5 => (Reason::PrefixedContent, 0),
            _ => return None,
        };
        let found = if most > 0 { most.saturating_add(1) } else { 0 };
        Some(Self { rule, reason, most, found })
    }

    /// The same with what was counted, if that is more than is known.
    pub(super) fn with_found(self, counted: usize) -> Self {
        Self { found: self.found.max(counted), ..self }
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Why, for metric, log and wire; its label is the configuration's name of a limit.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The limit, and at least how much was found; none where it is not a matter of more or less.
    pub fn measure(&self) -> Option<(usize, usize)> {
        (self.most > 0).then_some((self.most, self.found))
    }
}

/// What is kept of the start tag of a refused element, whatever the order of its attributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    pub kind: Kind,
    pub from: Option<String>,
    pub to: Option<String>,
    pub id: Option<String>,
    pub type_: Option<String>,
    pub lang: Option<String>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { kind: Kind::Other, from: None, to: None, id: None, type_: None, lang: None }
    }
}

/// A stanza that was read to its end and refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RefusedStanza {
    kept: Kept,
    why: ElementRefusal,
    octets: usize,
}

impl RefusedStanza {
    pub(super) fn new(kept: Kept, why: ElementRefusal, octets: usize) -> Self {
        Self { kept, why, octets }
    }

    /// Which stanza. Never [`Kind::Other`]: such elements end their stream.
    pub fn kind(&self) -> Kind {
        self.kept.kind
    }

    /// The attribute `from`.
    pub fn from(&self) -> Option<&str> {
        self.kept.from.as_deref()
    }

    /// The attribute `to`.
    pub fn to(&self) -> Option<&str> {
        self.kept.to.as_deref()
    }

    /// The attribute `id`, unless it is longer than 1,024 octets.
    pub fn id(&self) -> Option<&str> {
        self.kept.id.as_deref()
    }

    /// The attribute `type`. One that is too long to mean anything is cut.
    pub fn type_(&self) -> Option<&str> {
        self.kept.type_.as_deref()
    }

    /// The attribute `xml:lang`, unless it is longer than 256 octets.
    pub fn lang(&self) -> Option<&str> {
        self.kept.lang.as_deref()
    }

    /// Why.
    pub fn why(&self) -> ElementRefusal {
        self.why
    }

    /// How many octets it had.
    pub fn octets(&self) -> usize {
        self.octets
    }
}
