//! Conditions on the wire: of stream errors, of stanza errors and of SASL failures, as far as the gateway emits them.

macro_rules! conditions {
    ($(#[$doc:meta])* $name:ident, $namespace:literal { $( $variant:ident = $element:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // each variant is the RFC's own word
        pub enum $name { $( $variant, )* }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            #[doc = concat!("The element name in `", $namespace, "`.")]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $element, )* }
            }
        }
    };
}

conditions! {
    /// Stream error conditions of RFC 6120 4.9.3 that the gateway emits.
    StreamCondition, "urn:ietf:params:xml:ns:xmpp-streams" {
        BadFormat = "bad-format",
        BadNamespacePrefix = "bad-namespace-prefix",
        Conflict = "conflict",
        ConnectionTimeout = "connection-timeout",
        HostGone = "host-gone",
        HostUnknown = "host-unknown",
        ImproperAddressing = "improper-addressing",
        InternalServerError = "internal-server-error",
        InvalidFrom = "invalid-from",
        InvalidNamespace = "invalid-namespace",
        InvalidXml = "invalid-xml",
        NotAuthorized = "not-authorized",
        NotWellFormed = "not-well-formed",
        PolicyViolation = "policy-violation",
        RemoteConnectionFailed = "remote-connection-failed",
        Reset = "reset",
        ResourceConstraint = "resource-constraint",
        RestrictedXml = "restricted-xml",
        SystemShutdown = "system-shutdown",
        UndefinedCondition = "undefined-condition",
        UnsupportedEncoding = "unsupported-encoding",
        UnsupportedFeature = "unsupported-feature",
        UnsupportedStanzaType = "unsupported-stanza-type",
        UnsupportedVersion = "unsupported-version",
    }
}

impl StreamCondition {
    /// The condition of that name, for counting what others send us. The old spelling `xml-not-well-formed` counts.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "xml-not-well-formed" {
            return Some(Self::NotWellFormed);
        }
        Self::ALL.iter().copied().find(|condition| condition.name() == name)
    }
}

impl std::fmt::Display for StreamCondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

conditions! {
    /// Stanza error conditions (RFC 6120 8.3.3) that the gateway emits, also inside dialback errors (XEP-0220 2.5).
    StanzaCondition, "urn:ietf:params:xml:ns:xmpp-stanzas" {
        BadRequest = "bad-request",
        Forbidden = "forbidden",
        InternalServerError = "internal-server-error",
        ItemNotFound = "item-not-found",
        JidMalformed = "jid-malformed",
        NotAcceptable = "not-acceptable",
        NotAuthorized = "not-authorized",
        PolicyViolation = "policy-violation",
        RemoteConnectionFailed = "remote-connection-failed",
        RemoteServerNotFound = "remote-server-not-found",
        RemoteServerTimeout = "remote-server-timeout",
        ResourceConstraint = "resource-constraint",
        ServiceUnavailable = "service-unavailable",
        UnexpectedRequest = "unexpected-request",
    }
}

impl StanzaCondition {
    /// The error type that goes with the condition when the gateway emits it (RFC 6120 8.3.2).
    pub const fn kind(self) -> &'static str {
        match self {
            Self::BadRequest | Self::JidMalformed => "modify",
            Self::RemoteServerTimeout
            | Self::RemoteConnectionFailed
            | Self::ResourceConstraint
            | Self::InternalServerError
            | Self::UnexpectedRequest => "wait",
            Self::Forbidden | Self::NotAuthorized => "auth",
            Self::ItemNotFound
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable => "cancel",
        }
    }
}

conditions! {
    /// SASL failure conditions (RFC 6120 6.5) that the gateway emits.
    SaslCondition, "urn:ietf:params:xml:ns:xmpp-sasl" {
        Aborted = "aborted",
        EncryptionRequired = "encryption-required",
        IncorrectEncoding = "incorrect-encoding",
        InvalidAuthzid = "invalid-authzid",
        InvalidMechanism = "invalid-mechanism",
        MalformedRequest = "malformed-request",
        MechanismTooWeak = "mechanism-too-weak",
        NotAuthorized = "not-authorized",
        TemporaryAuthFailure = "temporary-auth-failure",
    }
}
