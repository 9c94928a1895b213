//! Why something was refused or ended, as one closed list with four faces.
//!
//! A [`Reason`] is at once a metric label, a log field, words for people and a condition on the wire. A refusal
//! that is not a `Reason` cannot be written. All that is known of one stands in one table. The small closed words that labels are made of ([`Flow`], [`Facing`],
//! [`Direction`], [`Outcome`]) live beside it. Nothing here comes from a peer: the law `closed_words`.

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
mod class;
mod condition;
mod table;

pub use cause::{Cause, Detail, Why, day, escaped};
pub use class::{Class, Room};
pub use condition::{SaslCondition, StanzaCondition, StreamCondition};
pub use table::Reason;

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
        /// It may go on within narrow bounds, until somebody says more.
        Quarantine = "quarantine",
    }
}

impl Reason {
    /// Whether it is what a remote address or its domain has sent lately (LIM-04, LIM-08).
    pub const fn is_of_sender(self) -> bool {
        self.is(Class::OfSender)
    }

    /// Whether the stanza was over a limit of what one may be: told with `stanza-too-big` (XEP-0205, `urn:xmpp:errors`).
    pub const fn is_too_big(self) -> bool {
        self.is(Class::TooBig)
    }

    /// Whether the stanza was legal and may not pass for what stands in it (XML-17, JID-06).
    pub const fn is_unfit(self) -> bool {
        self.is(Class::Unfit)
    }

    /// Whether a receiving server that ends a claim for this reason does not believe our key, or says nothing to it.
    pub const fn is_doubt(self) -> bool {
        self.is(Class::Doubt)
    }

    /// Whether the same claim may come to something later: the trouble is here, and not with who claims.
    pub const fn is_passing(self) -> bool {
        self.is(Class::Passing)
    }

    /// The type of the error that tells it for one pair (RFC 6120 8.3.2): that of its condition, but for what may come to something
    /// later.
    pub const fn kind_of_error(self) -> &'static str {
        if self.is_passing() { "wait" } else { self.stanza_condition().kind() }
    }

    /// Whether waiting mends nothing: it is forbidden, or there is no such domain, nor can there be one.
    pub const fn is_lasting(self) -> bool {
        matches!(
            self.backend_condition(),
            StanzaCondition::Forbidden
                | StanzaCondition::ItemNotFound
                | StanzaCondition::JidMalformed
                | StanzaCondition::RemoteServerNotFound
        )
    }

    /// Why a pair that stood ends, where the policy, asked again, says this of it (POL-07): what became of this very domain is told as
    /// that, and whatever else is that the policy is another.
    pub const fn of_standing(self) -> Reason {
        if self.is(Class::EndsPair) { self } else { Self::PolicyChanged }
    }

    /// What it is where a server could not be asked about a key (DB-28): trouble in asking is told as that.
    pub const fn of_asking(self) -> Reason {
        if self.is(Class::CannotAsk) { Self::VerifyUnreachable } else { self }
    }

    /// What it is called on the way to a backend: the world learns nothing of the inside.
    pub const fn of_backend(self) -> Reason {
        if self.is(Class::Silent) {
            Self::BackendSilent
        } else if self.is(Class::Inside) {
            self
        } else if self.is(Class::Down) {
            Self::BackendDown
        } else {
            Self::BackendFault
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
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

    // What is a class without a member, or a remedy without a word, is a mistake in the table.
    #[test]
    fn the_table_is_whole() {
        for class in Class::ALL {
            assert!(Reason::ALL.iter().any(|reason| reason.is(*class)), "{class:?} has nobody");
        }
        for room in Room::ALL {
            assert_eq!(Reason::ALL.iter().filter(|reason| reason.room() == Some(*room)).count(), 1, "{room}");
        }
        for reason in Reason::ALL {
            assert_eq!(reason.of_backend().of_backend(), reason.of_backend(), "{reason}");
            assert!(reason.limit().is_none_or(|key| key.contains(": ")), "{reason}");
            assert!(!reason.words().is_empty());
        }
        let nothing = Reason::ALL.iter().filter(|reason| reason.remedy().is_empty());
        let ends = ["finished", "idle", "shutdown", "closed-by-operator", "allowed", "policy-changed"];
        assert_eq!(nothing.map(|reason| reason.label()).collect::<Vec<_>>(), ends);
    }

    // POL-05: "not allow-listed", "blocked" and "federation off" look the same to the peer.
    #[test]
    fn three_kinds_of_no_look_the_same_outside() {
        let face = |r: Reason| (r.stream_condition(), r.stanza_condition());
        assert_eq!(face(Reason::NotListed), face(Reason::Blocked));
        assert_eq!(face(Reason::NotListed), face(Reason::FederationOff));
        assert_eq!(face(Reason::NotListed), face(Reason::OnLists));
    }
}
