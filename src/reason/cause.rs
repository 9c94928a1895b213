//! What a reason was in particular: one closed list, finer than [`Reason`](super::Reason), and the words that go with it.
//!
//! Operators read it in the log, the audit log and the list of refusals. It is no metric label and nothing on the wire
//! depends on it. Words of a peer enter through [`Detail::said`] only, escaped and capped (LOG-03).

use std::fmt::{self, Write as _};

use super::Reason;

words! {
    /// What it was in particular.
    Cause {
        /// Nothing was read before the other side closed or reset the connection.
        Cut = "cut",
        /// The certificate is not valid yet.
        NotYetValid = "not-yet-valid",
        /// The certificate, or one of its authorities, has expired.
        Expired = "expired",
        /// No path leads from the certificate to an authority that is trusted here.
        UnknownIssuer = "unknown-issuer",
        /// The certificate was issued by itself.
        SelfSigned = "self-signed",
        /// The certificate names other domains only.
        OtherName = "other-name",
        /// The certificate names no account of the domain.
        NoAccount = "no-account",
        /// The certificate names several accounts of the domain.
        SeveralAccounts = "several-accounts",
        /// The certificate names another account.
        OtherAccount = "other-account",
        /// The key of the certificate is none of those that the rule pins.
        KeyNotPinned = "key-not-pinned",
        /// The certificate is none of those that the domain names in the DNS.
        TlsaMismatch = "tlsa-mismatch",
        /// The domain names no certificate in the DNS, or does so without signatures.
        NoTlsa = "no-tlsa",
        /// The file in which the domain names its certificates could not be had.
        PoshNotFetched = "posh-not-fetched",
        /// That file is there and says nothing that counts.
        PoshUnusable = "posh-unusable",
        /// The certificate is none of those in that file.
        PoshMismatch = "posh-mismatch",
        /// The signatures in the DNS do not hold.
        DnsBogus = "dns-bogus",
        /// Validating the signatures in the DNS takes more than one look-up may cost.
        DnsTooMuch = "dns-too-much",
        /// Lists name the domain, or the sender there.
        OnLists = "on-lists",
        /// The rule pins the key for other days.
        PinExpired = "pin-expired",
        /// No certificate was shown.
        NoCertificate = "no-certificate",
        /// The certificate, or one of its authorities, was revoked.
        Revoked = "revoked",
        /// Nobody can say whether the certificate was revoked.
        RevocationUnknown = "revocation-unknown",
        /// The key or the signature of a certificate is too weak.
        WeakCertificate = "weak-certificate",
        /// The certificate breaks a rule of path validation.
        BadCertificate = "bad-certificate",
        /// No version of TLS in common.
        NoCommonVersion = "no-common-version",
        /// No key exchange group in common.
        NoCommonGroup = "no-common-group",
        /// No cipher suite in common.
        NoCommonSuite = "no-common-suite",
        /// No application protocol in common (ALPN).
        NoCommonProtocol = "no-common-protocol",
        /// No signature scheme in common.
        NoCommonScheme = "no-common-scheme",
        /// TLS 1.2 without the extended master secret.
        NoMasterSecret = "no-extended-master-secret",
        /// The other side has nothing in common with us that a handshake takes; it does not say what is missing.
        NothingInCommon = "nothing-in-common",
        /// The server name that we asked for is not served at the other side.
        NameNotThere = "name-not-there",
        /// The server name asked for is not served here.
        NameNotServed = "name-not-served",
        /// No server name was sent, and none is the default.
        NoServerName = "no-server-name",
        /// The other side ended the handshake with an alert.
        PeerAlert = "peer-alert",
        /// What came is not TLS.
        NotTls = "not-tls",
        /// The handshake broke another rule of TLS.
        BadHandshake = "bad-handshake",
        /// It was not done in time.
        TimedOut = "timed-out",
        /// The address refused the connection, or nothing reaches it.
        NotReached = "not-reached",
        /// This machine has no port left for another connection there.
        NoPorts = "no-ports",
        /// This machine has no file descriptor or no memory left for another connection.
        NoSockets = "no-sockets",
        /// The proxy on the way refuses our login, or asks for one.
        ProxyLogin = "proxy-login",
        /// The DNS knows no such domain.
        NoSuchDomain = "no-such-domain",
        /// The DNS knows the domain, and no XMPP server of it.
        NotInDns = "not-in-dns",
        /// The DNS answered with a failure, or not at all.
        DnsTrouble = "dns-trouble",
        /// The DNS names only addresses or ports that must not be dialled.
        MustNotDial = "must-not-dial",
        /// The other side offers no TLS.
        NoTls = "no-tls",
        /// The other side said so itself, in a stream error, a SASL failure or a dialback error.
        PeerSaid = "peer-said",
    }
}

impl Cause {
    /// What it means, in words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::BadCertificate => "the certificate breaks a rule of path validation",
            Self::BadHandshake => "the handshake broke a rule of TLS",
            Self::Cut => "the other side closed the connection",
            Self::Expired => "the certificate has expired",
            Self::KeyNotPinned => "the key of its certificate is none of those that the rule pins",
            Self::NameNotServed => "a server name was asked for that is not served here",
            Self::NameNotThere => "the other side does not serve the server name that we asked for",
            Self::NothingInCommon => {
                "the other side finds no cipher suite, group or signature scheme in common"
            }
            Self::NoAccount => "the certificate names no account of this domain",
            Self::NoCertificate => "no certificate was shown",
            Self::OtherAccount => "the certificate names another account",
            Self::SeveralAccounts => "the certificate names several accounts of this domain",
            Self::NoCommonGroup => "no key exchange group in common",
            Self::NoCommonProtocol => "no application protocol (ALPN) in common",
            Self::NoCommonScheme => "no signature scheme in common",
            Self::NoCommonSuite => "no cipher suite in common",
            Self::NoCommonVersion => "no version of TLS in common",
            Self::NoMasterSecret => {
                "refused on purpose: TLS 1.2 without the extended master secret (RFC 7627), which RFC 9325 3.5 asks for"
            }
            Self::NoServerName => "no server name was sent, and no domain is the default",
            Self::NoTls => "the other side offers no TLS",
            Self::NoSuchDomain => "there is no such domain",
            Self::NotInDns => "the domain has no XMPP server in the DNS",
            Self::DnsTrouble => "the DNS did not answer, or answered with a failure",
            Self::MustNotDial => "the DNS names only addresses that must not be dialled",
            Self::NoPorts => "this machine has no port left for another connection there",
            Self::NoSockets => "this machine has no file descriptor or no memory left for another connection",
            Self::NotReached => "the address takes no connection",
            Self::NotTls => "what came is not TLS",
            Self::ProxyLogin => "the proxy refuses our login, or asks for one",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::OnLists => "lists name the domain, or the sender there",
            Self::OtherName => "the certificate names other domains only",
            Self::PeerAlert => "the other side ended the handshake with an alert",
            Self::PeerSaid => "the other side said why",
            Self::PinExpired => "the rule pins this key, and not for today",
            Self::RevocationUnknown => "nobody can say whether the certificate was revoked",
            Self::Revoked => "the certificate was revoked",
            Self::SelfSigned => "the certificate was issued by itself",
            Self::DnsBogus => "the signatures of the DNS (DNSSEC) do not hold",
            Self::DnsTooMuch => {
                "validating the signatures of the DNS (DNSSEC) takes more questions or checks than one look-up may cost"
            }
            Self::TlsaMismatch => "the certificate is none of those that its domain names in the DNS (TLSA)",
            Self::NoTlsa => "its domain names no certificate in the DNS under signatures (TLSA)",
            Self::PoshNotFetched => {
                "the file in which its domain may name certificates (POSH) could not be fetched"
            }
            Self::PoshUnusable => {
                "the file in which its domain names certificates (POSH) says nothing that counts"
            }
            Self::PoshMismatch => "the certificate is none of those that its domain names in its file (POSH)",
            Self::TimedOut => "it was not done in time",
            Self::UnknownIssuer => "the certificate comes from an authority that is not trusted here",
            Self::WeakCertificate => "the key or the signature of a certificate is too weak",
        }
    }

    /// The same of a server that was called, for those who wrote to it.
    const fn for_users(self) -> &'static str {
        match self {
            Self::BadCertificate => "its certificate breaks the rules for certificates",
            Self::Cut => "its server closed the connection",
            Self::Expired => "its certificate has expired",
            Self::TlsaMismatch => "its server shows another certificate than its DNS names",
            Self::PoshMismatch => "its server shows another certificate than its domain names",
            Self::NoTlsa | Self::PoshNotFetched | Self::PoshUnusable => {
                "nothing that its domain publishes proves its server"
            }
            Self::KeyNotPinned | Self::PinExpired => "its server shows another key than was agreed",
            Self::NameNotThere => "its server does not serve it",
            Self::NoCertificate => "its server shows no certificate",
            Self::NoTls => "its server offers no TLS",
            Self::NoPorts | Self::NoSockets => "there is no room here for another connection just now",
            Self::NotReached => "its server refuses the connection, or nothing reaches it",
            Self::NotYetValid => "its certificate is not valid yet",
            Self::OtherName => "its certificate is for another name",
            Self::PeerSaid => "its server refused the stream for a reason of its own",
            Self::ProxyLogin => "the way out to its server is shut here",
            Self::Revoked | Self::RevocationUnknown => {
                "its certificate was revoked, or nobody can say whether it was"
            }
            Self::SelfSigned | Self::UnknownIssuer => {
                "its certificate is not from an authority that is trusted here"
            }
            Self::TimedOut => "its server did not answer in time",
            Self::WeakCertificate => "its certificate is too weak",
            Self::BadHandshake
            | Self::NoCommonGroup
            | Self::NoCommonProtocol
            | Self::NoCommonScheme
            | Self::NoCommonSuite
            | Self::NoCommonVersion
            | Self::NoMasterSecret
            | Self::NothingInCommon
            | Self::PeerAlert
            | Self::NotTls => "the TLS handshake with its server failed",
            Self::DnsBogus
            | Self::DnsTooMuch
            | Self::DnsTrouble
            | Self::MustNotDial
            | Self::NameNotServed
            | Self::NoAccount
            | Self::OnLists
            | Self::OtherAccount
            | Self::SeveralAccounts
            | Self::NoServerName
            | Self::NoSuchDomain => self.words(),
            Self::NotInDns => "it has no XMPP server in the DNS",
        }
    }

    /// What an operator can do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::BadCertificate | Self::WeakCertificate => {
                "that server needs another certificate, or a rule has to pin its key (`gatehouse probe --pin` prints the line)"
            }
            Self::BadHandshake | Self::NotTls => {
                "whoever calls there speaks another protocol; look which port it should call"
            }
            Self::Cut | Self::NotReached | Self::TimedOut => {
                "look whether that server runs, and whether a firewall is in between"
            }
            Self::Expired | Self::NotYetValid => {
                "that server needs a new certificate; where many are expired at once, look at the clock of this machine"
            }
            Self::KeyNotPinned => {
                "ask that server's operators, on another way than this, whether the key is theirs; `gatehouse probe --pin` prints the line for `pins:`"
            }
            Self::NameNotServed => {
                "host the name here if it should be (`domains:`), or have the other side call the name it means"
            }
            Self::NoAccount | Self::SeveralAccounts => {
                "that user needs a certificate for one account; `clients: { match }` says which of its names count"
            }
            Self::OnLists => "where they are wrong, write a rule that names the domain: it goes before them",
            Self::OtherAccount => "somebody tries another account than that of his certificate",
            Self::NoCertificate => {
                "that server must show a certificate, or a rule must take dialback (`identity: [dialback]`)"
            }
            Self::NameNotThere => {
                "the server that the DNS or a route names for that domain does not know it: `gatehouse probe` shows where it leads"
            }
            Self::NoCommonGroup => {
                "the other side must offer one of the groups X25519, P-256 and P-384 (RFC 9325 4.2): its list is set too narrow, or its TLS library is too old"
            }
            Self::NoCommonProtocol => "one of the two calls a port of the other that is for another service",
            Self::NoCommonScheme => {
                "one side takes no key of the kind that the other's certificate has: give the domain a certificate with a key of the other kind (RSA for ECDSA, or ECDSA for RSA), or have that server take both"
            }
            Self::NoCommonSuite => {
                "the other side must offer cipher suites with ECDHE and AEAD, like those with AES-GCM (RFC 9325 4.2)"
            }
            Self::NoCommonVersion => "the other side needs TLS 1.2 or newer (RFC 9325 3.1)",
            Self::NothingInCommon => {
                "the other side needs TLS with ECDHE and AEAD (RFC 9325), and must take the kind of key that our certificate has (ECDSA or RSA); its log says more"
            }
            Self::NoTls => {
                "that server must offer STARTTLS, or a rule must let the pair travel in clear (`tls: none`)"
            }
            Self::NoSuchDomain | Self::NotInDns => {
                "look whether the name is spelt right, and what the DNS says of it: `gatehouse probe`"
            }
            Self::DnsBogus => {
                "somebody forges answers, or that domain's operators have signed badly: `delv` and `dig +cd` show which"
            }
            Self::DnsTooMuch => {
                "that domain's operators have signed badly, or somebody wants to keep us busy: `delv +vtrace` shows the way; a validating \
                 resolver on this machine (`dns: { dnssec: resolver }`) is asked once, and caches"
            }
            Self::TlsaMismatch => {
                "that domain's operators must publish the new certificate, or somebody stands in between; ask them on another way"
            }
            Self::NoTlsa => {
                "that domain's operators must sign its zone and publish TLSA records, or a rule must take another proof; `dns: { dnssec }` must be on here"
            }
            Self::PoshNotFetched => {
                "that domain's operators must publish https://DOMAIN/.well-known/posh/xmpp-server.json, or a rule must take another proof"
            }
            Self::PoshUnusable => {
                "that domain's operators must mend the file: `fingerprints` with sha-256 or sha-512, and `expires` above 0"
            }
            Self::PoshMismatch => {
                "that domain's operators must publish the new certificate in their file, or somebody stands in between; ask them on another way"
            }
            Self::DnsTrouble => "look whether the resolver of this machine answers: `dns: { servers }`",
            Self::MustNotDial => "the records of that domain lead to private networks, or to ourselves",
            Self::NoMasterSecret => {
                "the other side's TLS library is older than 2016, or has it switched off: it needs a newer one"
            }
            Self::NoPorts => "widen `net.ipv4.ip_local_port_range`, or name more `backend:` addresses",
            Self::NoSockets => "raise the limit of open files (`LimitNOFILE=`), or give it more memory",
            Self::NoServerName => "have the other side send the name, or set `listen: { default: .. }`",
            Self::OtherName => {
                "that server needs a certificate for its domain, or a rule must take dialback (`identity: [dialback]`)"
            }
            Self::PeerAlert => {
                "the other side does not take our certificate or our TLS: look whether its roots know our authority"
            }
            Self::PeerSaid => "ask the operators of that server",
            Self::ProxyLogin => {
                "write the proxy's user and password into `via:`, or ask its operators: that server was not called"
            }
            Self::PinExpired => {
                "correct the dates in `pins:` of the rule, or ask that server's operators for the key that holds now"
            }
            Self::RevocationUnknown => "renew the lists of `trust: { crls }`, or set `unknown-revocation`",
            Self::Revoked => "that server needs a new certificate; ask its operators what has happened",
            Self::SelfSigned | Self::UnknownIssuer => {
                "pin its key in a rule (`gatehouse probe --pin` prints the line), name its authority for this peer in `trust: { peers }`, or take dialback in a rule (`identity: [dialback]`)"
            }
        }
    }
}

/// A cause, and what else is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detail {
    /// The cause.
    pub cause: Cause,
    /// Its particulars, one line, safe to be shown; empty where there are none.
    pub particulars: Box<str>,
}

impl Detail {
    /// A cause with particulars of our own.
    pub fn new(cause: Cause, particulars: impl Into<Box<str>>) -> Self {
        Self { cause, particulars: particulars.into() }
    }

    /// What the other side said: the condition that it named, and its text.
    pub fn said(condition: &str, text: Option<&str>) -> Self {
        let condition = escaped(condition, CONDITION);
        let particulars = match text.map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => format!("{condition}: {}", escaped(text, TEXT)),
            None => condition,
        };
        Self::new(Cause::PeerSaid, particulars)
    }
}

impl Detail {
    /// Whether the other side said that it does not want the domain: it was reached, and has decided.
    pub fn is_ban(&self) -> bool {
        const BANS: [&str; 5] =
            ["forbidden", "not-acceptable", "not-allowed", "not-authorized", "policy-violation"];
        let condition = self.particulars.split(':').next().unwrap_or_default();
        self.cause == Cause::PeerSaid && BANS.contains(&condition)
    }

    /// Whether the other side said that it wants TLS: there is no condition of its own for that, and servers say it in words.
    pub fn asks_for_tls(&self) -> bool {
        let words = self.particulars.to_ascii_lowercase();
        self.cause == Cause::PeerSaid && ["encrypt", "tls"].iter().any(|word| words.contains(word))
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.cause, &*self.particulars) {
            (cause, "") => f.write_str(cause.words()),
            (Cause::Expired, on) => write!(f, "the certificate expired {on}"),
            (cause, more) => write!(f, "{}: {more}", cause.words()),
        }
    }
}

/// A reason, with what is known of it in particular. The reason decides; the rest is for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Why {
    /// What decides, and is counted.
    pub reason: Reason,
    /// What it was in particular, where that was found out.
    pub detail: Option<Detail>,
}

impl Why {
    /// That reason, because of this.
    pub fn because(reason: Reason, cause: Cause) -> Self {
        Self { reason, detail: Some(Detail::new(cause, "")) }
    }

    /// What our own users read of it, behind the name of the domain: never the name of a rule, and nothing that a peer has
    /// written.
    pub fn for_users(&self) -> String {
        let label = self.reason.label();
        match self.detail.as_ref().map(|detail| (detail.cause, &*detail.particulars)) {
            Some((Cause::Expired, on)) if !on.is_empty() => format!("its certificate expired {on} ({label})"),
            Some((cause, _)) => format!("{} ({label})", cause.for_users()),
            None => format!("{} ({label})", self.reason.words()),
        }
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None }
    }
}

/// Somebody else's words as a value: without control characters, and of so many characters at most (LOG-03).
pub fn escaped(words: &str, most: usize) -> String {
    let mut out = String::new();
    for c in words.chars().take(most) {
        match c {
            // Also those that change the direction of what follows, so that a line cannot be made to read otherwise.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => {
                let _infallible = write!(out, "{}", c.escape_unicode());
            }
            c if c.is_control() || c == '\\' || c == '"' => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    if words.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

/// The day of a moment in seconds since 1970, as `2026-11-30`.
pub fn day(seconds: i64) -> String {
    // Days since 0000-03-01, in years that begin with March: the day that a leap year adds is the last one then.
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    format!("{year:04}-{month:02}-{day:02}")
}

/// Characters of a condition, and of a text.
const CONDITION: usize = 64;
const TEXT: usize = 253;

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
