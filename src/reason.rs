//! Why something was refused or ended, as one closed list with four faces.
//!
//! A [`Reason`] is at once a metric label, a log field, words for people and a condition on the wire. A refusal
//! that is not a `Reason` cannot be written. The small closed words that labels are made of ([`Flow`], [`Facing`],
//! [`Direction`], [`Outcome`]) live beside it. Nothing here comes from a peer: the law `closed_words`.

/// Stream error conditions of RFC 6120 4.9.3 that the gateway emits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // each variant is the RFC's own word
pub enum StreamCondition {
    BadFormat,
    BadNamespacePrefix,
    Conflict,
    ConnectionTimeout,
    HostGone,
    HostUnknown,
    ImproperAddressing,
    InternalServerError,
    InvalidFrom,
    InvalidNamespace,
    InvalidXml,
    NotAuthorized,
    NotWellFormed,
    PolicyViolation,
    RemoteConnectionFailed,
    Reset,
    ResourceConstraint,
    RestrictedXml,
    SystemShutdown,
    UndefinedCondition,
    UnsupportedEncoding,
    UnsupportedFeature,
    UnsupportedStanzaType,
    UnsupportedVersion,
}

impl StreamCondition {
    /// The element name in `urn:ietf:params:xml:ns:xmpp-streams`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::Conflict => "conflict",
            Self::ConnectionTimeout => "connection-timeout",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::InvalidFrom => "invalid-from",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidXml => "invalid-xml",
            Self::NotAuthorized => "not-authorized",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::Reset => "reset",
            Self::ResourceConstraint => "resource-constraint",
            Self::RestrictedXml => "restricted-xml",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::UnsupportedStanzaType => "unsupported-stanza-type",
            Self::UnsupportedVersion => "unsupported-version",
        }
    }

    /// The condition of that name, for counting what others send us. The old spelling `xml-not-well-formed` counts.
    pub fn parse(name: &str) -> Option<Self> {
        const ALL: [StreamCondition; 24] = [
            StreamCondition::BadFormat,
            StreamCondition::BadNamespacePrefix,
            StreamCondition::Conflict,
            StreamCondition::ConnectionTimeout,
            StreamCondition::HostGone,
            StreamCondition::HostUnknown,
            StreamCondition::ImproperAddressing,
            StreamCondition::InternalServerError,
            StreamCondition::InvalidFrom,
            StreamCondition::InvalidNamespace,
            StreamCondition::InvalidXml,
            StreamCondition::NotAuthorized,
            StreamCondition::NotWellFormed,
            StreamCondition::PolicyViolation,
            StreamCondition::RemoteConnectionFailed,
            StreamCondition::Reset,
            StreamCondition::ResourceConstraint,
            StreamCondition::RestrictedXml,
            StreamCondition::SystemShutdown,
            StreamCondition::UndefinedCondition,
            StreamCondition::UnsupportedEncoding,
            StreamCondition::UnsupportedFeature,
            StreamCondition::UnsupportedStanzaType,
            StreamCondition::UnsupportedVersion,
        ];
        if name == "xml-not-well-formed" {
            return Some(Self::NotWellFormed);
        }
        ALL.into_iter().find(|c| c.name() == name)
    }
}

/// Stanza error conditions (RFC 6120 8.3.3) that the gateway emits, also inside dialback errors (XEP-0220 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // each variant is the RFC's own word
pub enum StanzaCondition {
    BadRequest,
    Forbidden,
    InternalServerError,
    ItemNotFound,
    JidMalformed,
    NotAcceptable,
    NotAuthorized,
    PolicyViolation,
    RemoteConnectionFailed,
    RemoteServerNotFound,
    RemoteServerTimeout,
    ResourceConstraint,
    ServiceUnavailable,
}

impl StanzaCondition {
    /// The element name in `urn:ietf:params:xml:ns:xmpp-stanzas`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Forbidden => "forbidden",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::JidMalformed => "jid-malformed",
            Self::NotAcceptable => "not-acceptable",
            Self::NotAuthorized => "not-authorized",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::RemoteServerNotFound => "remote-server-not-found",
            Self::RemoteServerTimeout => "remote-server-timeout",
            Self::ResourceConstraint => "resource-constraint",
            Self::ServiceUnavailable => "service-unavailable",
        }
    }

    /// The error type that goes with the condition when the gateway emits it (RFC 6120 8.3.2).
    pub const fn kind(self) -> &'static str {
        match self {
            Self::BadRequest | Self::JidMalformed => "modify",
            Self::RemoteServerTimeout
            | Self::RemoteConnectionFailed
            | Self::ResourceConstraint
            | Self::InternalServerError => "wait",
            Self::Forbidden | Self::NotAuthorized => "auth",
            Self::ItemNotFound
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable => "cancel",
        }
    }
}

/// SASL failure conditions (RFC 6120 6.5) that the gateway emits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // each variant is the RFC's own word
pub enum SaslCondition {
    Aborted,
    EncryptionRequired,
    IncorrectEncoding,
    InvalidAuthzid,
    InvalidMechanism,
    MalformedRequest,
    MechanismTooWeak,
    NotAuthorized,
    TemporaryAuthFailure,
}

impl SaslCondition {
    /// The element name in `urn:ietf:params:xml:ns:xmpp-sasl`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}

macro_rules! reasons {
    ($( $(#[$doc:meta])* $name:ident = $label:literal, $words:literal, $stream:expr, $stanza:expr; )*) => {
        /// Why: one closed list for metrics, logs, people and the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( $(#[$doc])* #[doc = $words] $name, )* }

        impl Reason {
            /// Every reason there is, in alphabetical order of meaning groups; for tables and tests.
            pub const ALL: &'static [Reason] = &[ $( Self::$name, )* ];

            /// The metric label and log field.
            pub const fn label(self) -> &'static str { match self { $( Self::$name => $label, )* } }

            /// What happened, in words for people.
            pub const fn words(self) -> &'static str { match self { $( Self::$name => $words, )* } }

            /// The stream error that tells it to the other side; none where the stream ends without one.
            pub const fn stream_condition(self) -> Option<StreamCondition> { match self { $( Self::$name => $stream, )* } }

            /// The stanza (or dialback) error that tells it for one stanza or one pair.
            pub const fn stanza_condition(self) -> StanzaCondition { match self { $( Self::$name => $stanza, )* } }
        }
    };
}

use StanzaCondition as Z;
use StreamCondition as S;

reasons! {
    // -- the ordinary ends
    Finished = "finished", "the stream was closed in good order", None, Z::ServiceUnavailable;
    Idle = "idle", "no traffic for the idle time", None, Z::ServiceUnavailable;
    Shutdown = "shutdown", "the gateway is shutting down", Some(S::SystemShutdown), Z::ServiceUnavailable;
    ClosedByOperator = "closed-by-operator", "an operator closed the stream", Some(S::Reset), Z::ServiceUnavailable;
    PeerError = "peer-error", "the other side ended the stream with a stream error", None, Z::RemoteServerTimeout;
    PeerPolicy = "peer-policy", "the other side ended the stream because of a policy of its own", None, Z::RemoteServerTimeout;
    ConnectionLost = "connection-lost", "the connection ended without a closing tag", None, Z::RemoteServerTimeout;

    // -- policy
    Allowed = "allowed", "allowed", None, Z::ServiceUnavailable;
    Blocked = "blocked", "a deny rule names this domain", Some(S::PolicyViolation), Z::PolicyViolation;
    NotListed = "not-listed", "no rule allows this domain", Some(S::PolicyViolation), Z::PolicyViolation;
    FederationOff = "federation-off", "the hosted domain does not federate", Some(S::PolicyViolation), Z::PolicyViolation;
    WrongDirection = "wrong-direction", "the rule allows the other direction only", Some(S::PolicyViolation), Z::PolicyViolation;
    IdentityTooWeak = "identity-too-weak", "the rule asks for a stronger proof of identity", Some(S::PolicyViolation), Z::NotAuthorized;
    TlsTooOld = "tls-too-old", "the rule asks for a newer version of TLS, or for TLS at all", Some(S::PolicyViolation), Z::PolicyViolation;
    WrongNetwork = "wrong-network", "the peer's address is not in the rule's networks", Some(S::PolicyViolation), Z::PolicyViolation;
    RuleExpired = "rule-expired", "the rule that would allow this has expired", Some(S::PolicyViolation), Z::PolicyViolation;
    TooManyStreams = "too-many-streams", "the rule's number of concurrent streams is reached", Some(S::PolicyViolation), Z::ResourceConstraint;
    PolicyChanged = "policy-changed", "a reloaded policy no longer allows this pair", Some(S::PolicyViolation), Z::PolicyViolation;
    KindDenied = "kind-denied", "the rule does not let stanzas of this kind pass", Some(S::PolicyViolation), Z::PolicyViolation;
    PayloadDenied = "payload-denied", "the rule does not let this payload pass", Some(S::PolicyViolation), Z::PolicyViolation;
    KeptInside = "kept-inside", "the rule keeps this from leaving", Some(S::PolicyViolation), Z::ServiceUnavailable;
    Patched = "patched", "a patch keeps stanzas like this one away", Some(S::PolicyViolation), Z::PolicyViolation;
    Banned = "banned", "an operator banned this address or domain", Some(S::PolicyViolation), Z::PolicyViolation;

    // -- arrival
    TooManyConnections = "too-many-connections", "too many connections from this network", None, Z::ResourceConstraint;
    TooManyAttempts = "too-many-attempts", "too many new connections from this network in a short time", None, Z::ResourceConstraint;
    TooManyStrangers = "too-many-strangers", "too many connections that have proven nothing yet", None, Z::ResourceConstraint;
    TooManyClients = "too-many-clients", "as many clients are logged in from this network as may be", Some(S::ResourceConstraint), Z::ResourceConstraint;
    TooManyServers = "too-many-servers", "as many servers are connected from around this network as may be", Some(S::ResourceConstraint), Z::ResourceConstraint;
    TooManyOfDomain = "too-many-of-domain", "the registrable domain of this server has as many connections as it may", Some(S::ResourceConstraint), Z::ResourceConstraint;
    TooManyPairsOfDomain = "too-many-pairs-of-domain", "the registrable domain of this server has as many pairs as it may", Some(S::ResourceConstraint), Z::ResourceConstraint;
    TooManyToBackend = "too-many-to-backend", "as many streams as may be lead to the server behind, and none gave way in time", Some(S::ResourceConstraint), Z::ResourceConstraint;
    StrangersMemory = "strangers-memory", "connections that have proven nothing hold as much memory as they may together", Some(S::PolicyViolation), Z::ResourceConstraint;
    TooManyHandshakes = "too-many-handshakes", "more TLS handshakes were asked for than are begun in time", None, Z::ResourceConstraint;
    NotFromHere = "not-from-here", "this listener does not take connections from that address", None, Z::NotAuthorized;
    AuditFull = "audit-full", "the audit log cannot be written, and the operator lets nobody in without it", None, Z::ResourceConstraint;
    BadProxyHeader = "bad-proxy-header", "the PROXY header is missing or malformed", None, Z::NotAuthorized;
    WrongTransport = "wrong-transport", "TLS where a stream header was due, or the reverse", None, Z::NotAuthorized;

    // -- time
    HeaderTimeout = "header-timeout", "no stream header in time", None, Z::RemoteServerTimeout;
    NegotiationTimeout = "negotiation-timeout", "no pair was proven in time", Some(S::PolicyViolation), Z::RemoteServerTimeout;
    StanzaTimeout = "stanza-timeout", "an element was not finished in time", Some(S::PolicyViolation), Z::RemoteServerTimeout;
    DialbackTimeout = "dialback-timeout", "the authoritative or receiving server did not answer in time", Some(S::PolicyViolation), Z::RemoteServerTimeout;
    CloseTimeout = "close-timeout", "the other side did not close its stream in time", None, Z::RemoteServerTimeout;
    WriteTimeout = "write-timeout", "the other side did not take octets in time", Some(S::ConnectionTimeout), Z::RemoteServerTimeout;

    // -- XML
    BadFormat = "bad-format", "text between first-level elements, or an element that fits no place", Some(S::BadFormat), Z::BadRequest;
    BadNamespacePrefix = "bad-namespace-prefix", "a namespace prefix that is not allowed there", Some(S::BadNamespacePrefix), Z::BadRequest;
    InvalidNamespace = "invalid-namespace", "a stream or content namespace that does not belong on this listener", Some(S::InvalidNamespace), Z::BadRequest;
    InvalidXml = "invalid-xml", "an element of the streams namespace inside a stanza", Some(S::InvalidXml), Z::BadRequest;
    NotWellFormed = "not-well-formed", "the XML is not well-formed", Some(S::NotWellFormed), Z::BadRequest;
    RestrictedXml = "restricted-xml", "a comment, processing instruction, DTD or foreign entity", Some(S::RestrictedXml), Z::BadRequest;
    ReadersDisagree = "readers-disagree", "two readings of the same octets differ: a fault of the gateway, which passes nothing that it is not sure of", Some(S::InternalServerError), Z::InternalServerError;
    UnsupportedEncoding = "unsupported-encoding", "the octets are not UTF-8", Some(S::UnsupportedEncoding), Z::BadRequest;
    XmlBudget = "xml-budget", "an element exceeds a limit on depth, names, attributes or nodes", Some(S::PolicyViolation), Z::PolicyViolation;
    StanzaTooBig = "stanza-too-big", "an element exceeds the size limit", Some(S::PolicyViolation), Z::PolicyViolation;

    // -- limits and rules that refuse one stanza of a proven stream (XML-17 to XML-19); labels of limits are their keys
    OverStanza = "stanza", "the stanza is larger than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverDepth = "depth", "the elements of the stanza are nested deeper than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverNodes = "nodes", "the stanza has more elements than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverAttrs = "attrs", "an element of the stanza has more attributes than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverNsdecl = "nsdecl", "an element of the stanza has more namespace declarations than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverBindings = "bindings", "the stanza has more namespace declarations in scope than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverName = "name", "the stanza has a name longer than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverAttrValue = "attr-value", "the stanza has an attribute value longer than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverNamespaceName = "namespace-name", "the stanza has a namespace name longer than the limit", Some(S::PolicyViolation), Z::PolicyViolation;
    OverGrown = "grown", "the stanza would grow beyond the limit where it is stored or forwarded", Some(S::PolicyViolation), Z::PolicyViolation;
    OverInsideStanza = "inside-stanza", "the stanza is larger than the limit for the server behind the gateway", Some(S::PolicyViolation), Z::PolicyViolation;
    OverInsideDepth = "inside-depth", "the elements of the stanza are nested deeper than the limit for the server behind the gateway", Some(S::PolicyViolation), Z::PolicyViolation;
    OverInsideNodes = "inside-nodes", "the stanza has more elements than the limit for the server behind the gateway", Some(S::PolicyViolation), Z::PolicyViolation;
    OverInsideAttrs = "inside-attrs", "an element of the stanza has more attributes than the limit for the server behind the gateway", Some(S::PolicyViolation), Z::PolicyViolation;
    OverInsideNsdecl = "inside-nsdecl", "an element of the stanza has more namespace declarations than the limit for the server behind the gateway", Some(S::PolicyViolation), Z::PolicyViolation;
    OverInsideBindings = "inside-bindings", "the stanza has more namespace declarations in scope than the limit for the server behind the gateway", Some(S::PolicyViolation), Z::PolicyViolation;
    OverInsideAttrValue = "inside-attr-value", "the stanza has an attribute value longer than the limit for the server behind the gateway", Some(S::PolicyViolation), Z::PolicyViolation;
    NameBeyondAscii = "name-beyond-ascii", "the stanza has a name with letters beyond ASCII", Some(S::PolicyViolation), Z::NotAcceptable;
    NamespaceUnfit = "namespace-unfit", "the stanza has a namespace name with characters that servers read differently", Some(S::PolicyViolation), Z::NotAcceptable;
    HeaderPrefix = "header-prefix", "the stanza uses a namespace prefix that only the stream header declares", Some(S::PolicyViolation), Z::NotAcceptable;
    PrefixedContent = "prefixed-content", "an element of the stanza's own namespace is written with a prefix", Some(S::PolicyViolation), Z::NotAcceptable;
    StreamsElement = "streams-element", "an element of the streams namespace stands inside the stanza", Some(S::PolicyViolation), Z::NotAcceptable;

    // -- stream rules
    HostUnknown = "host-unknown", "the target domain is not served here, or not admitted on this stream", Some(S::HostUnknown), Z::ItemNotFound;
    NotConfigured = "not-configured", "a domain of a backend that is not in the configuration of the gateway", None, Z::ItemNotFound;
    OtherBackend = "other-backend", "a domain that belongs to another backend", None, Z::ItemNotFound;
    SameBackend = "same-backend", "a domain that the sending server should host itself", None, Z::ItemNotFound;
    HostGone = "host-gone", "the target domain was served here once, and is no more", Some(S::HostGone), Z::ItemNotFound;
    ImproperAddressing = "improper-addressing", "an address is missing or malformed", Some(S::ImproperAddressing), Z::JidMalformed;
    SingleLabel = "single-label", "a domain of one label, which no rule names", Some(S::ImproperAddressing), Z::NotAcceptable;
    InvalidFrom = "invalid-from", "the sender's domain was not proven on this stream", Some(S::InvalidFrom), Z::NotAcceptable;
    HomeClaimed = "home-claimed", "a domain hosted here was claimed from outside", Some(S::InvalidFrom), Z::NotAcceptable;
    NotAuthorized = "not-authorized", "a stanza before its pair was proven", Some(S::NotAuthorized), Z::NotAuthorized;
    UnsupportedStanzaType = "unsupported-stanza-type", "an element that has no place in this state of the stream", Some(S::UnsupportedStanzaType), Z::BadRequest;
    UnsupportedVersion = "unsupported-version", "the stream version is not supported", Some(S::UnsupportedVersion), Z::BadRequest;
    UnsupportedFeature = "unsupported-feature", "the peer requires a feature the gateway lacks", Some(S::UnsupportedFeature), Z::RemoteServerTimeout;
    BadStarttls = "bad-starttls", "STARTTLS malformed, repeated or not offered", None, Z::PolicyViolation;
    EarlyOctets = "early-octets", "octets arrived in clear after the request for TLS", None, Z::PolicyViolation;
    TlsFailed = "tls-failed", "the TLS handshake failed", None, Z::RemoteServerTimeout;
    TlsRequired = "tls-required", "this can be done over TLS only", Some(S::PolicyViolation), Z::PolicyViolation;
    CertificateUntrusted = "certificate-untrusted", "the certificate is not trusted, or speaks for another name", Some(S::PolicyViolation), Z::NotAuthorized;
    CertificateExpired = "certificate-expired", "the certificate expired while the stream was open", Some(S::Reset), Z::NotAuthorized;
    CertificateRevoked = "certificate-revoked", "the certificate was revoked, or is no longer trusted, while the stream was open", Some(S::Reset), Z::NotAuthorized;
    ClientCertificateMissing = "client-certificate-missing", "clients of this domain must show a certificate, and none was shown", Some(S::NotAuthorized), Z::NotAuthorized;
    ClientCertificateUntrusted = "client-certificate-untrusted", "the client's certificate is not trusted, or names no single account of this domain", Some(S::NotAuthorized), Z::NotAuthorized;
    ClientCertificateOther = "client-certificate-other", "the client's certificate is for another account than the one that logged in", Some(S::NotAuthorized), Z::NotAuthorized;
    SaslRefused = "sasl-refused", "the SASL exchange was refused", None, Z::NotAuthorized;
    TooManySasl = "too-many-sasl", "too many failed SASL attempts on one stream", Some(S::PolicyViolation), Z::NotAuthorized;

    MechanismNotOffered = "mechanism-not-offered", "the client asked for a mechanism that it was not offered", None, Z::NotAuthorized;
    LoginThrottled = "login-throttled", "too many failed logins from this network or for this account", Some(S::PolicyViolation), Z::PolicyViolation;
    LoginUnfit = "login-unfit", "a login failed of the way it was tried (mechanism, channel binding or form), not of a password", None, Z::NotAuthorized;
    RegistrationOff = "registration-off", "an account was asked for, which is not enabled for this domain", None, Z::ServiceUnavailable;
    RegistrationThrottled = "registration-throttled", "more accounts were asked for from this network in an hour than one may", Some(S::PolicyViolation), Z::ResourceConstraint;
    TooManyBinds = "too-many-binds", "too many attempts to bind on one stream", Some(S::PolicyViolation), Z::PolicyViolation;
    LegacyAuth = "legacy-auth", "a login by jabber:iq:auth", Some(S::PolicyViolation), Z::PolicyViolation;
    NotBound = "not-bound", "a stanza or request before the login or the bind was done", Some(S::NotAuthorized), Z::NotAuthorized;
    ForgedFrom = "forged-from", "a client spoke with an address that is not its own", Some(S::InvalidFrom), Z::NotAcceptable;

    // -- dialback
    DialbackInvalid = "dialback-invalid", "the authoritative server says that the key is not valid", None, Z::Forbidden;
    DialbackRefused = "dialback-refused", "the receiving server answered the key with an error", None, Z::RemoteServerTimeout;
    DialbackMalformed = "dialback-malformed", "a dialback element without addresses, id or key", Some(S::ImproperAddressing), Z::BadRequest;
    DialbackBadKey = "dialback-bad-key", "a dialback key that is no key", Some(S::BadFormat), Z::BadRequest;
    UnaskedAnswer = "unasked-answer", "a dialback answer that nobody asked for", Some(S::PolicyViolation), Z::NotAcceptable;
    SecondKey = "second-key", "another key for a pair whose first key is still being verified", None, Z::NotAcceptable;
    TooManyPairs = "too-many-pairs", "too many pairs or pending proofs on one stream", None, Z::ResourceConstraint;
    TooManyRefusals = "too-many-refusals", "too much was refused on one stream in a short time", Some(S::PolicyViolation), Z::PolicyViolation;

    // -- stanzas
    BadIq = "bad-iq", "an iq without id, type or its one child", Some(S::PolicyViolation), Z::BadRequest;
    JidMalformed = "jid-malformed", "an address whose local part or resource servers read differently, or not at all", Some(S::ImproperAddressing), Z::NotAcceptable;
    CarbonForged = "carbon-forged", "a message carbon from a foreign address", None, Z::PolicyViolation;
    RosterPush = "roster-push", "a change of a roster, block or privacy list, or a server's word to its own components, from a foreign address", None, Z::ServiceUnavailable;
    BeyondPeerLimit = "beyond-peer-limit", "the stanza is larger than the receiving server takes", Some(S::PolicyViolation), Z::PolicyViolation;
    BackendAttrs = "backend-attrs", "an element of the stanza has more attributes than the receiving server takes", Some(S::PolicyViolation), Z::PolicyViolation;
    BackendNodes = "backend-nodes", "the stanza has more elements than the receiving server takes", Some(S::PolicyViolation), Z::PolicyViolation;
    BackendAttrValue = "backend-attr-value", "the stanza has an attribute value longer than the receiving server takes", Some(S::PolicyViolation), Z::PolicyViolation;
    SenderTooFast = "sender-too-fast", "this address has sent more stanzas in a minute than one may", None, Z::PolicyViolation;
    TooManyRecipients = "too-many-recipients", "this domain has written to more accounts here in a minute than one may", None, Z::PolicyViolation;
    TooManySubscriptions = "too-many-subscriptions", "this domain has asked for more subscriptions in a minute than one may", None, Z::PolicyViolation;
    QueueFull = "queue-full", "the queue for this pair is full", Some(S::ResourceConstraint), Z::ResourceConstraint;

    // -- the far side
    RemoteNotFound = "remote-not-found", "the domain has no XMPP service in the DNS", Some(S::RemoteConnectionFailed), Z::RemoteServerNotFound;
    RemoteUnreachable = "remote-unreachable", "no address of the remote server accepts a connection", Some(S::RemoteConnectionFailed), Z::RemoteServerTimeout;
    VerifyUnreachable = "verify-unreachable", "the authoritative server of the claimed domain accepts no connection", None, Z::RemoteConnectionFailed;
    RemoteFailed = "remote-failed", "the remote server ended the stream during negotiation", Some(S::RemoteConnectionFailed), Z::RemoteServerTimeout;
    DnsFailed = "dns-failed", "the DNS did not answer, or answered with a failure", Some(S::RemoteConnectionFailed), Z::RemoteServerTimeout;
    BackendDown = "backend-down", "the backend does not accept connections", Some(S::InternalServerError), Z::InternalServerError;
    BackendFault = "backend-fault", "the backend broke the protocol or refused what it should take", Some(S::InternalServerError), Z::InternalServerError;
    BackendSilent = "backend-silent", "the backend did not answer our key in time: its own look for the other domain hangs", Some(S::InternalServerError), Z::RemoteServerTimeout;
    BackendAsksElsewhere = "backend-asks-elsewhere", "the backend did not believe a pair and never asked this gateway about its key: let it find foreign domains at the inside listener, or look which other node it asked", Some(S::InternalServerError), Z::InternalServerError;
    BackendWantsTls = "backend-wants-tls", "the backend requires STARTTLS of the gateway: switch that off there for its inside listener", Some(S::InternalServerError), Z::InternalServerError;
    BackendBindsChannel = "backend-binds-channel", "the backend offers channel binding only: switch it off there, for the channel is the gateway's", Some(S::InternalServerError), Z::InternalServerError;
    BackendOffersBinding = "backend-offers-binding", "the backend offers channel binding beside other mechanisms: clients that can bind a channel say so and may be refused for it; switch it off there, for the channel is the gateway's", Some(S::InternalServerError), Z::InternalServerError;
    BackendSignsOffer = "backend-signs-offer", "the backend signs a list of mechanisms of which clients are shown less: clients that verify the list cannot log in; switch off there what they are not shown (ejabberd: `disable_sasl_mechanisms`), or the signature (ejabberd: `disable_sasl_scram_downgrade_protection: true`)", Some(S::InternalServerError), Z::InternalServerError;
    NoMechanism = "no-mechanism", "the backend offers no SASL mechanism that the list of this domain allows", Some(S::InternalServerError), Z::InternalServerError;
    ForeignAddress = "foreign-address", "the backend bound a client to an address outside its domain", Some(S::InternalServerError), Z::InternalServerError;
    Overload = "overload", "the gateway is at a limit of its own", Some(S::ResourceConstraint), Z::ResourceConstraint;
    Internal = "internal", "the gateway is at fault", Some(S::InternalServerError), Z::InternalServerError;
}

impl Reason {
    /// Whether it is what a remote address or its domain has sent lately (LIM-04, LIM-08).
    pub const fn is_of_sender(self) -> bool {
        matches!(self, Self::SenderTooFast | Self::TooManyRecipients | Self::TooManySubscriptions)
    }

    /// Whether the stanza was over a limit of what one may be: told with `stanza-too-big` (XEP-0205, `urn:xmpp:errors`).
    pub const fn is_too_big(self) -> bool {
        matches!(
            self,
            Self::BackendAttrValue
                | Self::BackendAttrs
                | Self::BackendNodes
                | Self::BeyondPeerLimit
                | Self::OverAttrValue
                | Self::OverAttrs
                | Self::OverBindings
                | Self::OverDepth
                | Self::OverGrown
                | Self::OverInsideAttrValue
                | Self::OverInsideAttrs
                | Self::OverInsideBindings
                | Self::OverInsideDepth
                | Self::OverInsideNodes
                | Self::OverInsideNsdecl
                | Self::OverInsideStanza
                | Self::OverName
                | Self::OverNamespaceName
                | Self::OverNodes
                | Self::OverNsdecl
                | Self::OverStanza
                | Self::StanzaTooBig
        )
    }

    /// Whether the stanza was legal and may not pass for what stands in it (XML-17, JID-06).
    pub const fn is_unfit(self) -> bool {
        matches!(
            self,
            Self::HeaderPrefix
                | Self::JidMalformed
                | Self::NameBeyondAscii
                | Self::NamespaceUnfit
                | Self::PrefixedContent
                | Self::StreamsElement
        )
    }

    /// Whether waiting mends nothing: it is forbidden, or there is no such domain.
    pub const fn is_lasting(self) -> bool {
        matches!(self.backend_condition(), Z::Forbidden | Z::ItemNotFound | Z::RemoteServerNotFound)
    }

    /// The stanza condition for the backend's own server, whose users hear it (DB-62, RLY-18): what policy forbids is
    /// forbidden, what nobody can find is not found, and whatever else kept a pair from the world is a time-out.
    pub const fn backend_condition(self) -> StanzaCondition {
        if self.is_too_big() || self.is_unfit() {
            return self.stanza_condition();
        }
        match self {
            Self::Banned
            | Self::Blocked
            | Self::FederationOff
            | Self::KindDenied
            | Self::NotListed
            | Self::Patched
            | Self::PayloadDenied
            | Self::PolicyChanged
            | Self::RuleExpired
            | Self::SingleLabel
            | Self::TooManyStreams
            | Self::WrongDirection => Z::Forbidden,
            // Not what is lasting: presence goes on to be sent, and rooms lose nobody.
            Self::KeptInside => Z::PolicyViolation,
            Self::DialbackInvalid => Z::InternalServerError,
            Self::BadIq
            | Self::DialbackBadKey
            | Self::HostUnknown
            | Self::InvalidFrom
            | Self::NotConfigured
            | Self::OtherBackend
            | Self::SameBackend
            | Self::Overload
            | Self::QueueFull
            | Self::RemoteNotFound
            | Self::RosterPush
            | Self::SecondKey
            | Self::TooManyPairs => self.stanza_condition(),
            _ => Z::RemoteServerTimeout,
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $label:literal ),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$vdoc])* $variant, )* }
        impl $name {
            /// Every value, for tables and tests.
            pub const ALL: &'static [$name] = &[ $( Self::$variant, )* ];
            /// The metric label and log field.
            pub const fn label(self) -> &'static str { match self { $( Self::$variant => $label, )* } }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.label()) }
        }
    };
}

mod cause;
mod remedy;

pub use cause::{Cause, Detail, Why, day, escaped};

words! {
    /// Which of the three ways traffic takes through the gateway.
    Flow {
        /// A client in the world to the backend.
        C2s = "c2s",
        /// A remote server to the backend.
        S2sIn = "s2s-in",
        /// The backend to a remote server.
        S2sOut = "s2s-out",
    }
}

words! {
    /// Which network a leg looks at.
    Facing {
        /// The open Internet.
        Public = "public",
        /// The plain network where the backends live.
        Backend = "backend",
    }
}

words! {
    /// Which way the stanzas of a pair travel, seen from the hosted domain.
    Direction {
        /// From the remote domain to the hosted one.
        Inbound = "inbound",
        /// From the hosted domain to the remote one.
        Outbound = "outbound",
    }
}

words! {
    /// How something that was judged came out.
    Outcome {
        /// It may go on.
        Allow = "allow",
        /// It may not.
        Deny = "deny",
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

impl std::fmt::Display for StreamCondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_kebab_case() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            assert!(seen.insert(reason.label()), "{} twice", reason.label());
            assert!(reason.label().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        }
    }

    // POL-05: "not allow-listed", "blocked" and "federation off" look the same to the peer.
    #[test]
    fn three_kinds_of_no_look_the_same_outside() {
        let face = |r: Reason| (r.stream_condition(), r.stanza_condition());
        assert_eq!(face(Reason::NotListed), face(Reason::Blocked));
        assert_eq!(face(Reason::NotListed), face(Reason::FederationOff));
    }
}
