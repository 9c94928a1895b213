//! What an operator can do about a reason, in one line; and the limit of the configuration that it is about.

use super::Reason;

impl Reason {
    /// Whether a receiving server that ends a claim for this reason does not believe our key, or says nothing to it.
    pub const fn is_doubt(self) -> bool {
        matches!(
            self,
            Self::BackendSilent | Self::DialbackInvalid | Self::DialbackRefused | Self::DialbackTimeout
        )
    }

    /// Whether the same claim may come to something later: the trouble is here, and not with who claims.
    pub const fn is_passing(self) -> bool {
        matches!(
            self,
            Self::BackendDown
                | Self::BackendFault
                | Self::BackendSilent
                | Self::DialbackTimeout
                | Self::Overload
                | Self::TooManyToBackend
        )
    }

    /// What to do about it, for people who look after the gateway; empty where nothing is amiss.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Allowed
            | Self::ClosedByOperator
            | Self::Finished
            | Self::Idle
            | Self::PolicyChanged
            | Self::Shutdown => "",
            Self::Blocked => "to let it in, take the deny rule out or narrow it",
            Self::NotConfigured => "add the domain under `domains:`, with a certificate and the same backend",
            Self::OtherBackend => "look at that server: it speaks for a domain of another one",
            Self::SameBackend => "host the domain there, or have it looked up there",
            Self::Banned => "`gatehouse bans` lists the bans, `gatehouse unban` lifts one",
            Self::NotListed => "to let it in, write a rule that names it: `domains: [..]`",
            Self::FederationOff => "to let others in, set `federation: listed` for the hosted domain",
            Self::WrongDirection => "the rule needs `direction: both` if this way is meant, too",
            Self::IdentityTooWeak => {
                "that server must show a certificate for its name, or the rule must say `identity: [dialback]`"
            }
            Self::TlsTooOld => "that server must speak a newer TLS, or the rule must ask for less (`tls:`)",
            Self::WrongNetwork => "add the address to `networks:` of the rule if it is that partner's",
            Self::RuleExpired => "set a later `expires:` in the rule if the partner is still one",
            Self::KindDenied | Self::PayloadDenied => "the rule's `stanzas:` say what passes",
            Self::KeptInside => "the rule's `egress:` says what does not leave",
            Self::Patched => {
                "the log names the patch and its line; look there for the reason, and until when it holds"
            }
            Self::TooManyStreams => "raise `limits: { streams }` of the rule",
            Self::TooManyToBackend => "if the old server takes more, raise `backend: { connections }`",
            Self::TooManyConnections
            | Self::TooManyClients
            | Self::TooManyServers
            | Self::TooManyOfDomain
            | Self::TooManyPairsOfDomain
            | Self::TooManyAttempts
            | Self::TooManyStrangers
            | Self::StrangersMemory
            | Self::TooManyHandshakes
            | Self::TooManyPairs
            | Self::TooManySasl
            | Self::RegistrationThrottled
            | Self::LoginThrottled
            | Self::SenderTooFast
            | Self::TooManyRecipients
            | Self::TooManySubscriptions
            | Self::QueueFull
            | Self::StanzaTooBig
            | Self::XmlBudget
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
            | Self::OverNodes
            | Self::OverNsdecl
            | Self::OverStanza
            | Self::Overload => "if this is no attack, raise the limit in `limits:`",
            Self::NotFromHere => {
                "if that is the old server, add its address to `from:` of the inside listener; a proxy belongs in `proxy-protocol:`"
            }
            Self::ReadersDisagree => {
                "report it as SECURITY.md says, with the version and what the other side is"
            }
            Self::AuditFull => "make room on the disk of the audit log",
            Self::BadProxyHeader => {
                "let the load balancer send a PROXY header, or take `proxy-protocol:` off the listener"
            }
            Self::WrongTransport => {
                "the other side calls the wrong port: direct TLS and STARTTLS have one each"
            }
            Self::HeaderTimeout
            | Self::NegotiationTimeout
            | Self::StanzaTimeout
            | Self::WriteTimeout
            | Self::CloseTimeout => "if that network is slow, raise the time in `timeouts:`",
            Self::DialbackTimeout => {
                "look whether the DNS names that server, and whether it can be reached: `gatehouse probe`"
            }
            Self::BadFormat
            | Self::BadNamespacePrefix
            | Self::InvalidNamespace
            | Self::InvalidXml
            | Self::NotWellFormed
            | Self::RestrictedXml
            | Self::UnsupportedEncoding
            | Self::ImproperAddressing
            | Self::NotAuthorized
            | Self::UnsupportedStanzaType
            | Self::UnsupportedVersion
            | Self::UnsupportedFeature
            | Self::BadStarttls
            | Self::EarlyOctets
            | Self::DialbackMalformed
            | Self::DialbackBadKey
            | Self::UnaskedAnswer
            | Self::SecondKey
            | Self::BadIq
            | Self::CarbonForged
            | Self::RosterPush
            | Self::TooManyRefusals
            | Self::LoginUnfit
            | Self::MechanismNotOffered
            | Self::TooManyBinds
            | Self::NotBound => "the other side breaks the protocol; nothing is to be done here",
            Self::JidMalformed => {
                "a server behind that reads RFC 7622 may be told so: `backend: { rfc7622: on }`"
            }
            Self::HeaderPrefix
            | Self::NameBeyondAscii
            | Self::NamespaceUnfit
            | Self::OverNamespaceName
            | Self::PrefixedContent
            | Self::StreamsElement => {
                "the sender's program writes what servers read differently; others are not harmed"
            }
            Self::BackendAttrValue | Self::BackendAttrs | Self::BackendNodes => {
                "the old server takes no more, says `backend: { server }` or `backend: { limits }`"
            }
            Self::LegacyAuth => "that program is too old to log in here: it needs SASL",
            Self::HostUnknown => "add the domain to `domains:` if it should be served here",
            Self::HostGone => "the domain is in `retired-domains:`",
            Self::SingleLabel => "a rule that names it lets it pass",
            Self::InvalidFrom | Self::HomeClaimed | Self::ForgedFrom => {
                "somebody speaks for a domain that is not theirs; `gatehouse ban` keeps them out"
            }
            Self::TlsFailed => "the cause says what the two sides do not share",
            Self::TlsRequired => "the other side must use TLS",
            Self::ClientCertificateMissing => {
                "that user must install a certificate in his program; or the domain asks for less (`clients: { certificate: request }`)"
            }
            Self::ClientCertificateUntrusted => {
                "that user needs a certificate from an authority in `clients: { roots }`, with the address of his account"
            }
            Self::ClientCertificateOther => "somebody uses a certificate that is not for this account",
            Self::CertificateUntrusted => {
                "that server needs a certificate for its name; or trust its authority (`trust: { peers }`), or take dialback in a rule"
            }
            Self::CertificateExpired | Self::CertificateRevoked => "that server needs a new certificate",
            Self::SaslRefused => {
                "the user name or the password is wrong, or the server does not know the account"
            }
            Self::DialbackInvalid => "somebody else speaks for that domain, or its DNS names another server",
            Self::DialbackRefused | Self::PeerError | Self::PeerPolicy | Self::RemoteFailed => {
                "ask the operators of that server; its own words stand beside"
            }
            Self::BeyondPeerLimit => "that server takes no stanza of that size",
            Self::ConnectionLost => "look whether that server runs, and whether a firewall is in between",
            Self::RemoteNotFound | Self::DnsFailed => {
                "look at the DNS of that domain (SRV _xmpp-server._tcp): `gatehouse probe`"
            }
            Self::RemoteUnreachable | Self::VerifyUnreachable => {
                "look whether a firewall lets you out to that address: `gatehouse probe`"
            }
            Self::BackendDown => {
                "look whether the old server runs and listens there: `gatehouse probe --backend`"
            }
            Self::BackendFault | Self::BackendSilent => {
                "look at the log of the old server at that time: `gatehouse probe --backend`"
            }
            Self::BackendAsksElsewhere => {
                "let the old server find foreign domains at the inside listener: `gatehouse init --server` writes the lines"
            }
            Self::BackendWantsTls
            | Self::BackendBindsChannel
            | Self::BackendSignsOffer
            | Self::ForeignAddress => {
                "the setting belongs into the old server: `gatehouse init --server` writes the lines"
            }
            Self::BackendOffersBinding => {
                "switch channel binding off in the old server: `gatehouse probe --c2s` tells where"
            }
            Self::RegistrationOff => {
                "accounts are made by the operator; `backend: { register: on }` lets anybody ask for one"
            }
            Self::NoMechanism => {
                "let the old server offer PLAIN or SCRAM, or name more in `backend: { mechanisms }`"
            }
            Self::Internal => "this is a fault of the gateway: please report it with the lines around",
        }
    }

    /// The key in the configuration that sets the limit it is about, if it is about one.
    pub const fn limit(self) -> Option<&'static str> {
        Some(match self {
            Self::TooManyConnections => "limits: { conn-s2s, conn-c2s }",
            Self::TooManyAttempts => "limits: { rate }",
            Self::TooManyClients => "limits: { conn-clients }",
            Self::TooManyServers => "limits: { conn-servers }",
            Self::TooManyOfDomain => "limits: { conn-domain }, or limits: { connections } of a rule",
            Self::TooManyPairsOfDomain => "limits: { pairs-domain }, or limits: { pairs } of a rule",
            Self::TooManyStreams => "limits: { streams } of the rule",
            Self::TooManyStrangers => "limits: { conn-unproven }",
            Self::TooManyToBackend => "backend: { connections }",
            Self::StrangersMemory => "limits: { memory-unproven }",
            Self::TooManyHandshakes => "limits: { tls-handshakes }",
            Self::TooManyPairs => "limits: { pairs, pending-per-stream }",
            Self::TooManySasl => "limits: { sasl-attempts }",
            Self::RegistrationThrottled => "limits: { registrations }",
            Self::LoginThrottled => "limits: { login-failures-network, login-failures-account }",
            Self::SenderTooFast => "limits: { sender-stanzas }",
            Self::TooManyRecipients => "limits: { recipients }",
            Self::TooManySubscriptions => "limits: { subscriptions }",
            Self::BackendAttrValue => "backend: { limits: { attr-value } }",
            Self::BackendAttrs => "backend: { limits: { attrs } }",
            Self::BackendNodes => "backend: { limits: { nodes } }",
            Self::OverAttrValue => "limits: { attr-value }",
            Self::OverAttrs => "limits: { attrs }",
            Self::OverBindings => "limits: { bindings }",
            Self::OverDepth => "limits: { depth }",
            Self::OverGrown => "limits: { grown }",
            Self::OverInsideAttrValue => "limits: { inside-attr-value }",
            Self::OverInsideAttrs => "limits: { inside-attrs }",
            Self::OverInsideBindings => "limits: { inside-bindings }",
            Self::OverInsideDepth => "limits: { inside-depth }",
            Self::OverInsideNodes => "limits: { inside-nodes }",
            Self::OverInsideNsdecl => "limits: { inside-nsdecl }",
            Self::OverInsideStanza => "limits: { inside-stanza }",
            Self::OverName => "limits: { name }",
            Self::OverNodes => "limits: { nodes }",
            Self::OverNsdecl => "limits: { nsdecl }",
            Self::OverStanza => "limits: { stanza }",
            Self::QueueFull => "limits: { queue-stanzas, queue-octets }",
            Self::StanzaTooBig => "limits: { stanza, preauth-element }",
            Self::XmlBudget => "limits: { depth, nodes, attrs, nsdecl, name, attr-value }",
            Self::Overload => "limits: { conn-total, pending-per-source, pending-per-domain }",
            Self::HeaderTimeout => "timeouts: { header }",
            Self::NegotiationTimeout => "timeouts: { unauth }",
            Self::StanzaTimeout | Self::WriteTimeout => "timeouts: { stanza }",
            Self::DialbackTimeout => "timeouts: { dialback }",
            _ => return None,
        })
    }
}
