//! The table of reasons: one entry for each, with every face that it has. Nothing else in the program lists reasons to say
//! something of them; an entry that lacks a column does not compile.

use super::class::{Class, Room};
use super::{StanzaCondition, StreamCondition};

macro_rules! reasons {
    ($( $name:ident = $label:literal, $words:literal;
        $stream:tt, $stanza:ident, $users:ident; [$($class:ident),*]; $limit:tt, $room:tt; $remedy:expr; )*) => {
        /// Why: one closed list for metrics, logs, people and the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( #[doc = $words] $name, )* }

        impl Reason {
            /// Every reason there is, in alphabetical order of meaning groups; for tables and tests.
            pub const ALL: &'static [Reason] = &[ $( Self::$name, )* ];

            /// The metric label and log field.
            pub const fn label(self) -> &'static str { match self { $( Self::$name => $label, )* } }

            /// What happened, in words for people.
            pub const fn words(self) -> &'static str { match self { $( Self::$name => $words, )* } }

            /// The stream error that tells it to the other side; none where the stream ends without one.
            pub const fn stream_condition(self) -> Option<StreamCondition> {
                match self { $( Self::$name => some!(StreamCondition, $stream), )* }
            }

            /// The stanza (or dialback) error that tells it for one stanza or one pair.
            pub const fn stanza_condition(self) -> StanzaCondition {
                match self { $( Self::$name => StanzaCondition::$stanza, )* }
            }

            /// The stanza condition for the backend's own server, whose users hear it (DB-62, RLY-18): what policy forbids is
            /// forbidden, what nobody can find is not found, and whatever else kept a pair from the world is a time-out.
            pub const fn backend_condition(self) -> StanzaCondition {
                match self { $( Self::$name => StanzaCondition::$users, )* }
            }

            /// Whether it is one of this class.
            pub const fn is(self, class: Class) -> bool {
                let classes: u64 = match self { $( Self::$name => 0 $( | Class::$class.bit() )*, )* };
                classes & class.bit() != 0
            }

            /// The key in the configuration that sets the limit it is about, if it is about one.
            pub const fn limit(self) -> Option<&'static str> { match self { $( Self::$name => some!($limit), )* } }

            /// What there is no room in, if that is why.
            pub const fn room(self) -> Option<Room> { match self { $( Self::$name => some!(Room, $room), )* } }

            /// What to do about it, for people who look after the gateway; empty where nothing is amiss.
            pub const fn remedy(self) -> &'static str { match self { $( Self::$name => $remedy, )* } }
        }
    };
}

/// `_` is none.
macro_rules! some {
    (_) => {
        None
    };
    ($word:literal) => {
        Some($word)
    };
    ($kind:ident, _) => {
        None
    };
    ($kind:ident, $name:ident) => {
        Some($kind::$name)
    };
}

const NOTHING: &str = "";
const ASK: &str = "ask the operators of that server; its own words stand beside";
const BINDING: &str = "switch channel binding off in the old server (Openfire: no `-PLUS` in `sasl.mechs`)";
const PROTOCOL: &str = "the other side breaks the protocol; nothing is to be done here";
const RAISE: &str = "if this is no attack, raise the limit in `limits:`";
const SETTING: &str = "the setting belongs into the old server: `gatehouse init --server` writes the lines";
const SLOW: &str = "if that network is slow, raise the time in `timeouts:`";
const WRITES: &str = "the sender's program writes what servers read differently; others are not harmed";

// Each entry: the label and what happened; then the stream condition, the stanza condition, the stanza condition for our own
// users; its classes; the key of the limit that it is about, and what there is no room in; and what to do.
reasons! {
    // -- the ordinary ends
    Finished = "finished", "the stream was closed in good order";
        _, ServiceUnavailable, RemoteServerTimeout; [Absence, Leave, Ordinary, Unheard, InOrder]; _, _; NOTHING;
    Idle = "idle", "no traffic for the idle time";
        _, ServiceUnavailable, RemoteServerTimeout; [Ordinary, InOrder]; _, _; NOTHING;
    Shutdown = "shutdown", "the gateway is shutting down";
        SystemShutdown, ServiceUnavailable, RemoteServerTimeout; [Ordinary, Inside]; _, _; NOTHING;
    ClosedByOperator = "closed-by-operator", "an operator closed the stream";
        Reset, ServiceUnavailable, RemoteServerTimeout; [Ordinary]; _, _; NOTHING;
    PeerError = "peer-error", "the other side ended the stream with a stream error";
        _, RemoteServerTimeout, RemoteServerTimeout; [Absence, Leave, Broken, AfterRefusal]; _, _; ASK;
    PeerPolicy = "peer-policy", "the other side ended the stream because of a policy of its own";
        _, RemoteServerTimeout, RemoteServerTimeout; [Leave, AfterRefusal]; _, _; ASK;
    ConnectionLost = "connection-lost", "the connection ended without a closing tag";
        _, RemoteServerTimeout, RemoteServerTimeout; [Absence, Broken, Ordinary, Down, Cut]; _, _; "look whether that server runs, and whether a firewall is in between";

    // -- policy
    Allowed = "allowed", "allowed";
        _, ServiceUnavailable, RemoteServerTimeout; [OfPolicy]; _, _; NOTHING;
    Blocked = "blocked", "a deny rule names this domain";
        PolicyViolation, PolicyViolation, Forbidden; [OfPolicy]; _, _; "to let it in, take the deny rule out or narrow it";
    NotListed = "not-listed", "no rule allows this domain";
        PolicyViolation, PolicyViolation, Forbidden; [OfPolicy]; _, _; "to let it in, write a rule that names it: `domains: [..]`";
    OnLists = "on-lists", "as many lists as the rule asks for name this domain or the sender";
        PolicyViolation, PolicyViolation, Forbidden; [EndsPair, Compared, OfLists, OfPolicy]; _, _; "where the lists are wrong, write a rule that names the domain: it goes before them";
    FederationOff = "federation-off", "the hosted domain does not federate";
        PolicyViolation, PolicyViolation, Forbidden; [OfPolicy]; _, _; "to let others in, set `federation: listed` for the hosted domain";
    WrongDirection = "wrong-direction", "the rule allows the other direction only";
        PolicyViolation, PolicyViolation, Forbidden; [OfPolicy]; _, _; "the rule needs `direction: both` if this way is meant, too";
    IdentityTooWeak = "identity-too-weak", "the rule asks for a stronger proof of identity";
        PolicyViolation, NotAuthorized, RemoteServerTimeout; [Certified, OfPolicy]; _, _; "that server must show a certificate for its name, or the rule must say `identity: [dialback]`";
    TlsTooOld = "tls-too-old", "the rule asks for a newer version of TLS, or for TLS at all";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; [OfPolicy]; _, _; "that server must speak a newer TLS, or the rule must ask for less (`tls:`)";
    WrongNetwork = "wrong-network", "the peer's address is not in the rule's networks";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; [OfPolicy]; _, _; "add the address to `networks:` of the rule if it is that partner's";
    RuleExpired = "rule-expired", "the rule that would allow this has expired";
        PolicyViolation, PolicyViolation, Forbidden; [EndsPair, OfPolicy]; _, _; "set a later `expires:` in the rule if the partner is still one";
    TooManyStreams = "too-many-streams", "the rule's number of concurrent streams is reached";
        PolicyViolation, ResourceConstraint, Forbidden; []; "limits: { streams } of the rule", Streams; "raise `limits: { streams }` of the rule";
    PeerChanged = "peer-changed", "this domain was proven in another way than before, and waits for an operator";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; [Passing, Proven, EndsPair, OfPolicy]; _, _; "`gatehouse peers` shows before and after: ask the partner on another way, then `gatehouse peers approve DOMAIN`";
    PolicyChanged = "policy-changed", "a reloaded policy no longer allows this pair";
        PolicyViolation, PolicyViolation, Forbidden; []; _, _; NOTHING;
    KindDenied = "kind-denied", "the rule does not let stanzas of this kind pass";
        PolicyViolation, PolicyViolation, Forbidden; [OfRule, Compared, OfPolicy]; _, _; "the rule's `stanzas:` say what passes";
    PayloadDenied = "payload-denied", "the rule does not let this payload pass";
        PolicyViolation, PolicyViolation, Forbidden; [OfRule, Compared, OfPolicy]; _, _; "the rule's `stanzas:` say what passes";
    KeptInside = "kept-inside", "the rule keeps this from leaving";
        PolicyViolation, ServiceUnavailable, PolicyViolation; [OfRule, KeptInside, OfPolicy]; _, _; "the rule's `egress:` says what does not leave";
    Patched = "patched", "a patch keeps stanzas like this one away";
        PolicyViolation, PolicyViolation, Forbidden; []; _, _; "the log names the patch and its line; look there for the reason, and until when it holds";
    Quarantined = "quarantined", "the domain is in quarantine: only some kinds of stanzas pass";
        PolicyViolation, PolicyViolation, Forbidden; [OfRule, Compared, OfQuarantine, OfPolicy]; _, _; "`gatehouse quarantine list` tells who waits, `gatehouse quarantine approve` lets a domain out";
    QuarantineRate = "quarantine-rate", "the domain is in quarantine and has sent more of this than passes there";
        _, PolicyViolation, PolicyViolation; [OfSender, Later, OfRule, OfQuarantine]; "quarantine: { messages, subscriptions, other } of the rule", _; "look at what it sends: `gatehouse quarantine approve` lets the domain out, `gatehouse quarantine refuse` shuts it out";
    NotApproved = "not-approved", "an operator refused this domain, which was in quarantine";
        PolicyViolation, PolicyViolation, Forbidden; [EndsPair, Decided, OfPolicy]; _, _; "`gatehouse quarantine hold` takes that back, `gatehouse quarantine approve` lets the domain out";
    Banned = "banned", "an operator banned this address or domain";
        PolicyViolation, PolicyViolation, Forbidden; [EndsPair, Decided, OfPolicy]; _, _; "`gatehouse bans` lists the bans, `gatehouse unban` lifts one";

    // -- arrival
    TooManyConnections = "too-many-connections", "too many connections from this network";
        _, ResourceConstraint, RemoteServerTimeout; []; "limits: { conn-s2s, conn-c2s }", Connections; RAISE;
    TooManyAttempts = "too-many-attempts", "too many new connections from this network in a short time";
        _, ResourceConstraint, RemoteServerTimeout; []; "limits: { rate }", Attempts; RAISE;
    TooManyUnproven = "too-many-unproven", "too many connections that have proven nothing yet";
        ResourceConstraint, ResourceConstraint, RemoteServerTimeout; []; "limits: { conn-unproven }", Unproven; RAISE;
    TooManyClients = "too-many-clients", "as many clients are logged in from this network as may be";
        ResourceConstraint, ResourceConstraint, RemoteServerTimeout; []; "limits: { conn-clients }", Clients; RAISE;
    TooManyServers = "too-many-servers", "as many servers are connected from around this network as may be";
        ResourceConstraint, ResourceConstraint, RemoteServerTimeout; []; "limits: { conn-servers }", Servers; RAISE;
    TooManyOfDomain = "too-many-of-domain", "the registrable domain of this server has as many connections as it may";
        ResourceConstraint, ResourceConstraint, RemoteServerTimeout; []; "limits: { conn-domain }, or limits: { connections } of a rule", DomainConnections; RAISE;
    TooManyPairsOfDomain = "too-many-pairs-of-domain", "the registrable domain of this server has as many pairs as it may";
        ResourceConstraint, ResourceConstraint, RemoteServerTimeout; []; "limits: { pairs-domain }, or limits: { pairs } of a rule", DomainPairs; RAISE;
    TooManyToBackend = "too-many-to-backend", "as many streams as may be lead to the server behind, and none gave way in time";
        ResourceConstraint, ResourceConstraint, RemoteServerTimeout; [Passing, Inside]; "backend: { connections }", _; "if the old server takes more, raise `backend: { connections }`";
    UnprovenMemory = "unproven-memory", "connections that have proven nothing hold as much memory as they may together";
        PolicyViolation, ResourceConstraint, RemoteServerTimeout; []; "limits: { memory-unproven }", Memory; RAISE;
    TooManyHandshakes = "too-many-handshakes", "more TLS handshakes were asked for than are begun in time";
        _, ResourceConstraint, RemoteServerTimeout; []; "limits: { tls-handshakes }", Handshakes; RAISE;
    NotFromHere = "not-from-here", "this listener does not take connections from that address";
        _, NotAuthorized, RemoteServerTimeout; []; _, _; "if that is the old server, add its address to `from:` of the inside listener; a proxy belongs in `proxy-protocol:`";
    AuditFull = "audit-full", "the audit log cannot be written, and the operator lets nobody in without it";
        _, ResourceConstraint, RemoteServerTimeout; []; _, _; "make room on the disk of the audit log";
    BadProxyHeader = "bad-proxy-header", "the PROXY header is missing or malformed";
        _, NotAuthorized, RemoteServerTimeout; []; _, _; "let the load balancer send a PROXY header, or take `proxy-protocol:` off the listener";
    WrongTransport = "wrong-transport", "TLS where a stream header was due, or the reverse";
        _, NotAuthorized, RemoteServerTimeout; [Absence]; _, _; "the other side calls the wrong port: direct TLS and STARTTLS have one each";
    BadUpgrade = "bad-upgrade", "an HTTP request that is not for a stream over WebSocket, nor for what leads to one";
        _, NotAuthorized, RemoteServerTimeout; []; _, _; "if that is a client of yours, give it the address `wss://DOMAIN` with the `path:` of the listener";
    ForeignOrigin = "foreign-origin", "a page of a site that is not listed asked for a stream over WebSocket";
        _, NotAuthorized, RemoteServerTimeout; []; _, _; "if that site is yours, add it to `origins:` of the listener";
    BadWebsocket = "bad-websocket", "a frame or message that is not allowed on a WebSocket with XMPP";
        BadFormat, BadRequest, RemoteServerTimeout; []; _, _; PROTOCOL;

    // -- time
    HeaderTimeout = "header-timeout", "no stream header in time";
        _, RemoteServerTimeout, RemoteServerTimeout; [Absence, Unheard]; "timeouts: { header }", _; SLOW;
    NegotiationTimeout = "negotiation-timeout", "no pair was proven in time";
        PolicyViolation, RemoteServerTimeout, RemoteServerTimeout; [AfterRefusal, Unheard]; "timeouts: { unauth }", _; SLOW;
    StanzaTimeout = "stanza-timeout", "an element was not finished in time";
        PolicyViolation, RemoteServerTimeout, RemoteServerTimeout; [Absence]; "timeouts: { stanza }", _; SLOW;
    DialbackTimeout = "dialback-timeout", "the authoritative or receiving server did not answer in time";
        PolicyViolation, RemoteServerTimeout, RemoteServerTimeout; [Doubt, Passing, Absence, Silent]; "timeouts: { dialback }", _; "look whether the DNS names that server, and whether it can be reached: `gatehouse probe`";
    CloseTimeout = "close-timeout", "the other side did not close its stream in time";
        _, RemoteServerTimeout, RemoteServerTimeout; []; _, _; SLOW;
    WriteTimeout = "write-timeout", "the other side did not take octets in time";
        ConnectionTimeout, RemoteServerTimeout, RemoteServerTimeout; [Absence, Cut]; "timeouts: { stanza }", _; SLOW;

    AckTimeout = "ack-timeout", "the other side did not acknowledge stanzas in time";
        ConnectionTimeout, RemoteServerTimeout, RemoteServerTimeout; [Absence, Cut]; "timeouts: { acknowledgement }", _; SLOW;
    Unacknowledged = "unacknowledged", "the connection ended, and nobody knows whether the other server got this";
        _, RemoteServerTimeout, RemoteServerTimeout; []; _, _; "nothing is sent twice; whoever wrote it may ask whether it arrived";

    // -- XML
    BadFormat = "bad-format", "text between first-level elements, or an element that fits no place";
        BadFormat, BadRequest, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    BadNamespacePrefix = "bad-namespace-prefix", "a namespace prefix that is not allowed there";
        BadNamespacePrefix, BadRequest, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    InvalidNamespace = "invalid-namespace", "a stream or content namespace that does not belong on this listener";
        InvalidNamespace, BadRequest, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    InvalidXml = "invalid-xml", "an element of the streams namespace inside a stanza";
        InvalidXml, BadRequest, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    NotWellFormed = "not-well-formed", "the XML is not well-formed";
        NotWellFormed, BadRequest, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    RestrictedXml = "restricted-xml", "a comment, processing instruction, DTD or foreign entity";
        RestrictedXml, BadRequest, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    ReadersDisagree = "readers-disagree", "two readings of the same octets differ: a fault of the gateway, which passes nothing that it is not sure of";
        InternalServerError, InternalServerError, RemoteServerTimeout; []; _, _; "report it as SECURITY.md says, with the version and what the other side is";
    UnsupportedEncoding = "unsupported-encoding", "the octets are not UTF-8";
        UnsupportedEncoding, BadRequest, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    XmlBudget = "xml-budget", "an element exceeds a limit on depth, names, attributes or nodes";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; [Absence]; "limits: { depth, nodes, attrs, nsdecl, name, attr-value }", _; RAISE;
    StanzaTooBig = "stanza-too-big", "an element exceeds the size limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig, Absence]; "limits: { stanza, preauth-element }", _; RAISE;

    // -- limits and rules that refuse one stanza of a proven stream (XML-17 to XML-19); labels of limits are their keys
    OverStanza = "stanza", "the stanza is larger than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { stanza }", _; RAISE;
    OverDepth = "depth", "the elements of the stanza are nested deeper than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { depth }", _; RAISE;
    OverNodes = "nodes", "the stanza has more elements than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { nodes }", _; RAISE;
    OverAttrs = "attrs", "an element of the stanza has more attributes than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { attrs }", _; RAISE;
    OverNsdecl = "nsdecl", "an element of the stanza has more namespace declarations than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { nsdecl }", _; RAISE;
    OverBindings = "bindings", "the stanza has more namespace declarations in scope than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { bindings }", _; RAISE;
    OverName = "name", "the stanza has a name longer than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { name }", _; RAISE;
    OverAttrValue = "attr-value", "the stanza has an attribute value longer than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { attr-value }", _; RAISE;
    OverNamespaceName = "namespace-name", "the stanza has a namespace name longer than the limit";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; _, _; WRITES;
    OverGrown = "grown", "the stanza would grow beyond the limit where it is stored or forwarded";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { grown }", _; RAISE;
    OverInsideStanza = "inside-stanza", "the stanza is larger than the limit for the server behind the gateway";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { inside-stanza }", _; RAISE;
    OverInsideDepth = "inside-depth", "the elements of the stanza are nested deeper than the limit for the server behind the gateway";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { inside-depth }", _; RAISE;
    OverInsideNodes = "inside-nodes", "the stanza has more elements than the limit for the server behind the gateway";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { inside-nodes }", _; RAISE;
    OverInsideAttrs = "inside-attrs", "an element of the stanza has more attributes than the limit for the server behind the gateway";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { inside-attrs }", _; RAISE;
    OverInsideNsdecl = "inside-nsdecl", "an element of the stanza has more namespace declarations than the limit for the server behind the gateway";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { inside-nsdecl }", _; RAISE;
    OverInsideBindings = "inside-bindings", "the stanza has more namespace declarations in scope than the limit for the server behind the gateway";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { inside-bindings }", _; RAISE;
    OverInsideAttrValue = "inside-attr-value", "the stanza has an attribute value longer than the limit for the server behind the gateway";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "limits: { inside-attr-value }", _; RAISE;
    NameBeyondAscii = "name-beyond-ascii", "the stanza has a name with letters beyond ASCII";
        PolicyViolation, NotAcceptable, NotAcceptable; [Unfit]; _, _; WRITES;
    NamespaceUnfit = "namespace-unfit", "the stanza has a namespace name with characters that servers read differently";
        PolicyViolation, NotAcceptable, NotAcceptable; [Unfit]; _, _; WRITES;
    HeaderPrefix = "header-prefix", "the stanza uses a namespace prefix that only the stream header declares";
        PolicyViolation, NotAcceptable, NotAcceptable; [Unfit]; _, _; WRITES;
    PrefixedContent = "prefixed-content", "an element of the stanza's own namespace is written with a prefix";
        PolicyViolation, NotAcceptable, NotAcceptable; [Unfit]; _, _; WRITES;
    StreamsElement = "streams-element", "an element of the streams namespace stands inside the stanza";
        PolicyViolation, NotAcceptable, NotAcceptable; [Unfit]; _, _; WRITES;

    // -- stream rules
    HostUnknown = "host-unknown", "the target domain is not served here, or not admitted on this stream";
        HostUnknown, ItemNotFound, ItemNotFound; [OfNames, NotServed]; _, _; "add the domain to `domains:` if it should be served here";
    NotConfigured = "not-configured", "a domain of a backend that is not in the configuration of the gateway";
        _, ItemNotFound, ItemNotFound; [Misnamed, MissingLine]; _, _; "add the domain under `domains:`, with a certificate and the same backend";
    OtherBackend = "other-backend", "a domain that belongs to another backend";
        _, ItemNotFound, ItemNotFound; [Misnamed]; _, _; "look at that server: it speaks for a domain of another one";
    SameBackend = "same-backend", "a domain that the sending server should host itself";
        _, ItemNotFound, ItemNotFound; []; _, _; "host the domain there, or have it looked up there";
    HostGone = "host-gone", "the domain was served here once, and is no more";
        HostGone, ItemNotFound, RemoteServerTimeout; [OfNames, EndsPair, NotServed, OfPolicy]; _, _; "add the domain to `domains:` again if it should be served here; `retired-domains:` names those that should not";
    ImproperAddressing = "improper-addressing", "an address is missing or malformed";
        ImproperAddressing, JidMalformed, JidMalformed; [OfNames]; _, _; PROTOCOL;
    NoDomain = "no-domain", "the name in an address is no domain name";
        ImproperAddressing, JidMalformed, JidMalformed; []; _, _; PROTOCOL;
    SingleLabel = "single-label", "a domain of one label, which no rule names";
        ImproperAddressing, NotAcceptable, Forbidden; [OfPolicy]; _, _; "a rule that names it lets it pass";
    InvalidFrom = "invalid-from", "the sender's domain was not proven on this stream";
        InvalidFrom, NotAcceptable, NotAcceptable; []; _, _; "somebody speaks for a domain that is not theirs; `gatehouse ban` keeps them out";
    HomeClaimed = "home-claimed", "a domain hosted here was claimed from outside";
        InvalidFrom, NotAcceptable, RemoteServerTimeout; [OfNames, OfPolicy]; _, _; "somebody speaks for a domain that is not theirs; `gatehouse ban` keeps them out";
    NotAuthorized = "not-authorized", "a stanza before its pair was proven";
        NotAuthorized, NotAuthorized, RemoteServerTimeout; [Final]; _, _; PROTOCOL;
    UnsupportedStanzaType = "unsupported-stanza-type", "an element that has no place in this state of the stream";
        UnsupportedStanzaType, BadRequest, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    UnsupportedVersion = "unsupported-version", "the stream version is not supported";
        UnsupportedVersion, BadRequest, RemoteServerTimeout; []; _, _; PROTOCOL;
    UnsupportedFeature = "unsupported-feature", "the peer requires a feature the gateway lacks";
        UnsupportedFeature, RemoteServerTimeout, RemoteServerTimeout; []; _, _; PROTOCOL;
    BadStarttls = "bad-starttls", "STARTTLS malformed, repeated or not offered";
        _, PolicyViolation, RemoteServerTimeout; []; _, _; PROTOCOL;
    EarlyOctets = "early-octets", "octets arrived in clear after the request for TLS";
        _, PolicyViolation, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    TlsFailed = "tls-failed", "the TLS handshake failed";
        _, RemoteServerTimeout, RemoteServerTimeout; [Absence]; _, _; "the cause says what the two sides do not share";
    TlsRequired = "tls-required", "this can be done over TLS only";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; [Absence]; _, _; "the other side must use TLS";
    CertificateUntrusted = "certificate-untrusted", "the certificate is not trusted, or speaks for another name";
        PolicyViolation, NotAuthorized, RemoteServerTimeout; [Absence, Certified]; _, _; "that server needs a certificate for its name; or trust its authority (`trust: { peers }`), or take dialback in a rule";
    CertificateExpired = "certificate-expired", "the certificate expired while the stream was open";
        Reset, NotAuthorized, RemoteServerTimeout; []; _, _; "that server needs a new certificate";
    CertificateRevoked = "certificate-revoked", "the certificate was revoked while the stream was open";
        Reset, NotAuthorized, RemoteServerTimeout; []; _, _; "that server needs a new certificate";
    CertificateDistrusted = "certificate-distrusted", "the certificate is no longer trusted since other authorities are (`trust`)";
        Reset, NotAuthorized, RemoteServerTimeout; []; _, _; "if that was not meant, trust its authority again (`trust: { roots, peers }`) and reload; or take dialback in a rule";
    ClientCertificateMissing = "client-certificate-missing", "clients of this domain must show a certificate, and none was shown";
        NotAuthorized, NotAuthorized, RemoteServerTimeout; []; _, _; "that user must install a certificate in his program; or the domain asks for less (`clients: { certificate: request }`)";
    ClientCertificateUntrusted = "client-certificate-untrusted", "the client's certificate is not trusted, or names no single account of this domain";
        NotAuthorized, NotAuthorized, RemoteServerTimeout; [Unworthy]; _, _; "that user needs a certificate from an authority in `clients: { roots }`, with the address of his account";
    ClientCertificateOther = "client-certificate-other", "the client's certificate is for another account than the one that logged in";
        NotAuthorized, NotAuthorized, RemoteServerTimeout; []; _, _; "somebody uses a certificate that is not for this account";
    SaslRefused = "sasl-refused", "the SASL exchange was refused";
        _, NotAuthorized, RemoteServerTimeout; [Absence, Leave, Guess]; _, _; "the user name or the password is wrong, or the server does not know the account";
    TooManySasl = "too-many-sasl", "too many failed SASL attempts on one stream";
        PolicyViolation, NotAuthorized, RemoteServerTimeout; [Guess]; "limits: { sasl-attempts }", _; RAISE;

    MechanismNotOffered = "mechanism-not-offered", "the client asked for a mechanism that it was not offered";
        _, NotAuthorized, RemoteServerTimeout; []; _, _; PROTOCOL;
    LoginThrottled = "login-throttled", "too many failed logins from this network or for this account";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; []; "limits: { login-failures-network, login-failures-account }", _; RAISE;
    LoginUnfit = "login-unfit", "a login failed of the way it was tried (mechanism, channel binding or form), not of a password";
        _, NotAuthorized, RemoteServerTimeout; []; _, _; PROTOCOL;
    RegistrationOff = "registration-off", "an account was asked for, which is not enabled for this domain";
        _, ServiceUnavailable, RemoteServerTimeout; []; _, _; "accounts are made by the operator; `backend: { register: on }` lets anybody ask for one";
    RegistrationThrottled = "registration-throttled", "more accounts were asked for from this network in an hour than one may";
        PolicyViolation, ResourceConstraint, RemoteServerTimeout; []; "limits: { registrations }", _; RAISE;
    TooManyBinds = "too-many-binds", "too many attempts to bind on one stream";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; []; _, _; PROTOCOL;
    LegacyAuth = "legacy-auth", "a login by jabber:iq:auth";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; []; _, _; "that program is too old to log in here: it needs SASL";
    NotBound = "not-bound", "a stanza or request before the login or the bind was done";
        NotAuthorized, NotAuthorized, RemoteServerTimeout; []; _, _; PROTOCOL;
    ForgedFrom = "forged-from", "a client spoke with an address that is not its own";
        InvalidFrom, NotAcceptable, RemoteServerTimeout; []; _, _; "somebody speaks for a domain that is not theirs; `gatehouse ban` keeps them out";

    // -- dialback
    DialbackInvalid = "dialback-invalid", "the authoritative server says that the key is not valid";
        _, Forbidden, InternalServerError; [Doubt, Final]; _, _; "somebody else speaks for that domain, or its DNS names another server";
    DialbackRefused = "dialback-refused", "the receiving server answered the key with an error";
        _, RemoteServerTimeout, RemoteServerTimeout; [Doubt, Broken, Final]; _, _; ASK;
    DialbackMalformed = "dialback-malformed", "a dialback element without addresses, id or key";
        ImproperAddressing, BadRequest, RemoteServerTimeout; []; _, _; PROTOCOL;
    DialbackBadKey = "dialback-bad-key", "a dialback key that is no key";
        BadFormat, BadRequest, BadRequest; []; _, _; PROTOCOL;
    Miscounted = "miscounted", "the other side acknowledged stanzas that were never sent";
        UndefinedCondition, NotAcceptable, RemoteServerTimeout; []; _, _; PROTOCOL;
    UnaskedAnswer = "unasked-answer", "a dialback answer that nobody asked for";
        PolicyViolation, NotAcceptable, RemoteServerTimeout; [Absence]; _, _; PROTOCOL;
    SecondKey = "second-key", "another key for a pair whose first key is still being verified";
        _, NotAcceptable, NotAcceptable; [Proven]; _, _; PROTOCOL;
    TooManyPairs = "too-many-pairs", "too many pairs or pending proofs on one stream";
        _, ResourceConstraint, ResourceConstraint; [Proven]; "limits: { pairs, pending-per-stream }", _; RAISE;
    TooManyRefusals = "too-many-refusals", "too much was refused on one stream in a short time";
        PolicyViolation, PolicyViolation, RemoteServerTimeout; []; _, _; PROTOCOL;

    // -- stanzas
    BadIq = "bad-iq", "an iq without id, type or its one child";
        PolicyViolation, BadRequest, BadRequest; []; _, _; PROTOCOL;
    JidMalformed = "jid-malformed", "an address whose local part or resource servers read differently, or not at all";
        ImproperAddressing, NotAcceptable, NotAcceptable; [Unfit]; _, _; "a server behind that reads RFC 7622 may be told so: `backend: { rfc7622: on }`";
    CarbonForged = "carbon-forged", "a message carbon from a foreign address";
        _, PolicyViolation, RemoteServerTimeout; []; _, _; PROTOCOL;
    RosterPush = "roster-push", "a change of a roster, block or privacy list, or a server's word to its own components, from a foreign address";
        _, ServiceUnavailable, ServiceUnavailable; []; _, _; PROTOCOL;
    BeyondPeerLimit = "beyond-peer-limit", "the stanza is larger than the receiving server takes";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; _, _; "that server takes no stanza of that size";
    BackendAttrs = "backend-attrs", "an element of the stanza has more attributes than the receiving server takes";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "backend: { limits: { attrs } }", _; "the old server takes no more, says `backend: { server }` or `backend: { limits }`";
    BackendNodes = "backend-nodes", "the stanza has more elements than the receiving server takes";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "backend: { limits: { nodes } }", _; "the old server takes no more, says `backend: { server }` or `backend: { limits }`";
    BackendAttrValue = "backend-attr-value", "the stanza has an attribute value longer than the receiving server takes";
        PolicyViolation, PolicyViolation, PolicyViolation; [TooBig]; "backend: { limits: { attr-value } }", _; "the old server takes no more, says `backend: { server }` or `backend: { limits }`";
    SenderTooFast = "sender-too-fast", "this address has sent more stanzas in a minute than one may";
        _, PolicyViolation, RemoteServerTimeout; [OfSender, Later]; "limits: { sender-stanzas }", _; RAISE;
    TooManyRecipients = "too-many-recipients", "this domain has written to more accounts here in a minute than one may";
        _, PolicyViolation, RemoteServerTimeout; [OfSender, Later]; "limits: { recipients }", _; RAISE;
    TooManySubscriptions = "too-many-subscriptions", "this domain has asked for more subscriptions in a minute than one may";
        _, PolicyViolation, RemoteServerTimeout; [OfSender]; "limits: { subscriptions }", _; RAISE;
    QueueFull = "queue-full", "the queue for this pair is full";
        ResourceConstraint, ResourceConstraint, ResourceConstraint; []; "limits: { queue-stanzas, queue-octets }", _; RAISE;

    // -- the far side
    RemoteNotFound = "remote-not-found", "the domain has no XMPP service in the DNS";
        RemoteConnectionFailed, RemoteServerNotFound, RemoteServerNotFound; [Leave, Final]; _, _; "look at the DNS of that domain (SRV _xmpp-server._tcp): `gatehouse probe`";
    RemoteUnreachable = "remote-unreachable", "no address of the remote server accepts a connection";
        RemoteConnectionFailed, RemoteServerTimeout, RemoteServerTimeout; [Down, Unreached, CannotAsk]; _, _; "look whether a firewall lets you out to that address: `gatehouse probe`";
    ProxyLogin = "proxy-login", "the proxy on the way to the remote server refuses our login, or asks for one";
        RemoteConnectionFailed, RemoteConnectionFailed, RemoteServerTimeout; [Unreached]; _, _; "write the proxy's user and password into `via:` of the rule or route: that server was not called";
    VerifyUnreachable = "verify-unreachable", "the authoritative server of the claimed domain accepts no connection";
        _, RemoteConnectionFailed, RemoteServerTimeout; []; _, _; "look whether a firewall lets you out to that address: `gatehouse probe`";
    RemoteFailed = "remote-failed", "the remote server ended the stream during negotiation";
        RemoteConnectionFailed, RemoteServerTimeout, RemoteServerTimeout; [Absence, Leave, Broken, Down]; _, _; ASK;
    DnsFailed = "dns-failed", "the DNS did not answer, or answered with a failure";
        RemoteConnectionFailed, RemoteServerTimeout, RemoteServerTimeout; []; _, _; "look at the DNS of that domain (SRV _xmpp-server._tcp): `gatehouse probe`";
    BackendDown = "backend-down", "the backend does not accept connections";
        InternalServerError, InternalServerError, RemoteServerTimeout; [Passing, Proven, Backend, Down]; _, _; "look whether the old server runs and listens there: `gatehouse probe --backend`";
    BackendFault = "backend-fault", "the backend broke the protocol or refused what it should take";
        InternalServerError, InternalServerError, RemoteServerTimeout; [Passing, Proven, Backend]; _, _; "look at the log of the old server at that time: `gatehouse probe --backend`";
    BackendSilent = "backend-silent", "the backend did not answer our key in time: its own look for the other domain hangs";
        InternalServerError, RemoteServerTimeout, RemoteServerTimeout; [Doubt, Passing, Proven, Backend, Inside]; _, _; "look at the log of the old server at that time: `gatehouse probe --backend`";
    BackendSlow = "backend-slow", "the backend did not take this before newer stanzas of the same server had waited for three quarters of `acknowledgement`";
        _, RemoteServerTimeout, RemoteServerTimeout; []; "timeouts: { acknowledgement }", _; "look why the old server takes so little: its load, and the network in between";
    BackendAsksElsewhere = "backend-asks-elsewhere", "the backend did not believe a pair and never asked this gateway about its key: let it find foreign domains at the inside listener, or look which other node it asked";
        InternalServerError, InternalServerError, RemoteServerTimeout; []; _, _; "let the old server find foreign domains at the inside listener: `gatehouse init --server` writes the lines";
    BackendWantsTls = "backend-wants-tls", "the backend requires STARTTLS of the gateway: switch that off there for its inside listener";
        InternalServerError, InternalServerError, RemoteServerTimeout; [Misconfigured]; _, _; "switch required TLS off in the old server, on the port that the gateway uses: `gatehouse init --server` writes the lines";
    BackendBindsChannel = "backend-binds-channel", "the backend offers channel binding only: switch it off there, for the channel is the gateway's";
        InternalServerError, InternalServerError, RemoteServerTimeout; [Misconfigured]; _, _; BINDING;
    BackendOffersBinding = "backend-offers-binding", "the backend offers channel binding beside other mechanisms: clients that can bind a channel say so and may be refused for it; switch it off there, for the channel is the gateway's";
        InternalServerError, InternalServerError, RemoteServerTimeout; [HalfFit]; _, _; BINDING;
    BackendSignsOffer = "backend-signs-offer", "the backend signs a list of mechanisms of which clients are shown less: clients that verify the list cannot log in; switch off there what they are not shown (ejabberd: `disable_sasl_mechanisms`), or the signature (ejabberd: `disable_sasl_scram_downgrade_protection: true`)";
        InternalServerError, InternalServerError, RemoteServerTimeout; [HalfFit]; _, _; SETTING;
    NoMechanism = "no-mechanism", "the backend offers no SASL mechanism that the list of this domain allows";
        InternalServerError, InternalServerError, RemoteServerTimeout; [Misconfigured]; _, _; "let the server offer one of `backend: { mechanisms }` without TLS, or name one there that it offers";
    ForeignAddress = "foreign-address", "the backend bound a client to an address outside its domain";
        InternalServerError, InternalServerError, RemoteServerTimeout; [Misconfigured]; _, _; SETTING;
    Overload = "overload", "the gateway is at a limit of its own";
        ResourceConstraint, ResourceConstraint, ResourceConstraint; [Passing]; "limits: { conn-total, pending-per-source, pending-per-domain }", Total; RAISE;
    NoRoom = "no-room", "this machine has no port, file descriptor or memory left for another connection";
        ResourceConstraint, ResourceConstraint, ResourceConstraint; [Passing, Inside]; _, _; "widen `sysctl net.ipv4.ip_local_port_range`, or raise the limit of open files: `cause` says which";
    Internal = "internal", "the gateway is at fault";
        InternalServerError, InternalServerError, RemoteServerTimeout; []; _, _; "this is a fault of the gateway: please report it with the lines around";
}
