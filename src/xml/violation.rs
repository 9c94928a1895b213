//! A breach of the XML rules: which rule, and the one [`Reason`] that is told outside.
//!
//! Rules carry the ids of the house's XML rules, so that a test, a log line and a review speak of the same thing.
//! A breach of a budget, or of a rule about what is legal XML and may not pass, only refuses the element where the stream is
//! proven (requirement XML-17, see [`super::ElementRefusal`]); every other one ends the stream (rule P1).

use std::fmt;

use crate::reason::Reason;

/// The first breach found in a stream. It is final: the framer yields nothing after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// The rule that was broken.
    pub rule: Rule,
    reason: Reason,
    /// Of a message that was not read because of its size: the limit.
    unread: Option<usize>,
}

impl Violation {
    /// A breach of `rule`, told outside with the rule's own reason.
    pub(super) const fn of(rule: Rule) -> Self {
        Self::with(rule, rule.reason())
    }

    /// A breach of `rule` in a form that has a reason of its own.
    pub(super) const fn with(rule: Rule, reason: Reason) -> Self {
        Self { rule, reason, unread: None }
    }

    /// The same, where what was over this limit was not even read.
    pub(super) const fn unread(self, most: usize) -> Self {
        Self { unread: Some(most), ..self }
    }

    /// Why, for metric, log and wire.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The octets that a message may have of which one had more (WS-04): nothing of it was read, so that it could not be refused alone.
    pub const fn most_of_unread(&self) -> Option<usize> {
        self.unread
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason.label(), self.rule.id())
    }
}

macro_rules! rules {
    ($( $(#[$doc:meta])* $name:ident = $id:literal, $reason:ident; )*) => {
        /// The rules whose breach ends a stream. Letters and figures are the rule's id; words are budgets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule { $( $(#[$doc])* $name, )* }

        impl Rule {
            /// Every rule, for tables and tests.
            pub const ALL: &'static [Rule] = &[ $( Self::$name, )* ];

            /// The rule's id, for logs and tests.
            pub const fn id(self) -> &'static str { match self { $( Self::$name => $id, )* } }

            /// The reason that a breach has unless its form asks for another.
            const fn reason(self) -> Reason { match self { $( Self::$name => Reason::$reason, )* } }
        }
    };
}

rules! {
    /// Well-formed UTF-8 only.
    B1 = "B1", UnsupportedEncoding;
    /// XML characters only.
    B2 = "B2", NotWellFormed;
    /// No UTF-16 and no UTF-32.
    B3 = "B3", UnsupportedEncoding;
    /// U+FEFF before the root is stray text.
    B4 = "B4", NotWellFormed;
    /// The XML declaration and what stands before the root.
    H1 = "H1", NotWellFormed;
    /// The root element and the content namespace.
    H2 = "H2", InvalidNamespace;
    /// A prefix that only the stream header declares (requirement STR-18).
    H3 = "H3", InvalidNamespace;
    /// What follows `<`.
    T1 = "T1", NotWellFormed;
    /// No `<` inside a tag.
    T2 = "T2", NotWellFormed;
    /// Names.
    T3 = "T3", NotWellFormed;
    /// The syntax of attributes.
    T4 = "T4", NotWellFormed;
    /// No attribute twice.
    T5 = "T5", NotWellFormed;
    /// End tags match.
    T6 = "T6", NotWellFormed;
    /// The place of `/`.
    T7 = "T7", NotWellFormed;
    /// Every prefix is declared.
    N1 = "N1", NotWellFormed;
    /// The prefixes `xml` and `xmlns` and the empty name.
    N2 = "N2", NotWellFormed;
    /// The characters of namespace names.
    N4 = "N4", XmlBudget;
    /// Elements of the content namespace carry no prefix.
    N5 = "N5", BadNamespacePrefix;
    /// The syntax of references and the characters they stand for.
    R1 = "R1", NotWellFormed;
    /// No entity but the predefined five.
    R2 = "R2", RestrictedXml;
    /// No `]]>` in text.
    R5 = "R5", NotWellFormed;
    /// The place of CDATA sections.
    R6 = "R6", NotWellFormed;
    /// No comment, processing instruction, DTD or late declaration.
    X1 = "X1", RestrictedXml;
    /// A message is exactly one element (RFC 7395 3.3.3).
    M1 = "M1", NotWellFormed;
    /// A message declares the namespaces that it uses (RFC 7395 3.3.3).
    M2 = "M2", InvalidNamespace;
    /// Messages are text, in frames as RFC 6455 has them.
    M3 = "M3", BadWebsocket;
    /// Only white space between first-level elements.
    S1 = "S1", BadFormat;
    /// No element of the streams namespace where it could reset a reader (requirement XML-09).
    S3 = "S3", InvalidXml;
    /// The two readers disagree about where the element's parts end.
    Disagreement = "disagreement", NotWellFormed;
    /// The short way and the long one find different things in the same octets: a fault of ours.
    Readers = "readers", ReadersDisagree;
    /// Octets of the stream header with its declaration.
    HeaderSize = "header size", XmlBudget;
    /// Octets of a first-level element.
    ElementSize = "element size", StanzaTooBig;
    /// Depth below the stream.
    Depth = "depth", XmlBudget;
    /// Elements in one first-level element.
    Nodes = "nodes", XmlBudget;
    /// Attributes of one element, declarations included.
    Attributes = "attributes", XmlBudget;
    /// Namespace declarations of one element.
    Declarations = "declarations", XmlBudget;
    /// Namespace bindings in scope.
    Bindings = "bindings", XmlBudget;
    /// Octets of a qualified name.
    NameLength = "name length", XmlBudget;
    /// Octets of an attribute value.
    ValueLength = "value length", XmlBudget;
    /// Octets of a namespace name.
    NamespaceLength = "namespace length", XmlBudget;
    /// Octets of an element as it may be written elsewhere (requirement XML-18).
    Grown = "grown size", StanzaTooBig;
    /// Octets of `from` and `to` of a refused element (RFC 7622 3.1).
    AddressLength = "address length", ImproperAddressing;
    /// Octets of a refused element that are read on to its end (requirement XML-17).
    Skip = "skip", StanzaTooBig;
    /// Octets of open names of a refused element.
    SkipNames = "open names", XmlBudget;
}
