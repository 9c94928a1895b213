//! The SASL mechanisms that a client may use, as a closed list.
//!
//! A mechanism that is not named here is never offered, whatever the backend offers: those that can install a security
//! layer would blind the gateway (C2S-07), and those with a channel binding are about another channel (CB-02).

macro_rules! mechanisms {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $label:literal; )*) => {
        /// A mechanism that may be put on a domain's list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Mechanism { $( $(#[$doc])* $variant, )* }

        impl Mechanism {
            /// Every mechanism there is.
            pub const ALL: &'static [Mechanism] = &[ $( Self::$variant, )* ];

            /// The name on the wire.
            pub const fn name(self) -> &'static str { match self { $( Self::$variant => $name, )* } }

            /// The metric label and log field.
            pub const fn label(self) -> &'static str { match self { $( Self::$variant => $label, )* } }
        }
    };
}

mechanisms! {
    /// No account at all (RFC 4505); on no list unless a file says so.
    Anonymous = "ANONYMOUS", "anonymous";
    /// A token of XEP-0484 without channel binding.
    HashedToken256 = "HT-SHA-256-NONE", "ht-sha-256";
    /// A token of XEP-0484 without channel binding.
    HashedToken512 = "HT-SHA-512-NONE", "ht-sha-512";
    /// RFC 7628.
    OauthBearer = "OAUTHBEARER", "oauthbearer";
    /// RFC 4616.
    Plain = "PLAIN", "plain";
    /// RFC 5802.
    ScramSha1 = "SCRAM-SHA-1", "scram-sha-1";
    /// RFC 7677.
    ScramSha256 = "SCRAM-SHA-256", "scram-sha-256";
    /// SCRAM with a longer hash.
    ScramSha512 = "SCRAM-SHA-512", "scram-sha-512";
}

impl Mechanism {
    /// The list where no file says otherwise (C2S-05), with the tokens that a FAST list may hold.
    pub const DEFAULT: &'static [Mechanism] = &[
        Self::HashedToken256,
        Self::HashedToken512,
        Self::OauthBearer,
        Self::Plain,
        Self::ScramSha1,
        Self::ScramSha256,
        Self::ScramSha512,
    ];

    /// The mechanism of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mechanism| mechanism.name() == name)
    }
}
