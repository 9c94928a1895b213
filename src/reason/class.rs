//! Classes of reasons: what a part of the gateway asks of a reason instead of listing those it means. Which belong to a class
//! stands in the table.

macro_rules! classes {
    ($( $(#[$doc:meta])* $name:ident, )*) => {
        /// What reasons have in common.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Class { $( $(#[$doc])* $name, )* }

        impl Class {
            /// Every one.
            pub const ALL: &'static [Class] = &[ $( Self::$name, )* ];
        }
    };
}

classes! {
    /// A server that we called is not to be had. That the DNS failed or that nobody takes a connection is not among them: whoever
    /// looked knows that already.
    Absence,
    /// A connection to a backend broke, rather than that anything was said about the pair.
    Broken,
    /// How a stream ends whose peer was refused, and had nothing left to do there.
    AfterRefusal,
    /// The server behind is not there, or does not do its part.
    Backend,
    /// A certificate does not prove what the rule asks for.
    Certified,
    /// A policy in the shadow may be of another mind about a stanza that was refused for this, by the rule that admits its pair.
    Compared,
    /// The connection itself is gone or takes nothing, and the other side has said nothing: a stream that is counted may go on over
    /// another one (SM-01).
    Cut,
    /// An operator has decided this about the domain itself, beside all rules.
    Decided,
    /// There is no connection: on the way to a backend it is told as that.
    Down,
    /// A receiving server that ends a claim so does not believe our key, or says nothing to it.
    Doubt,
    /// A pair that stood ends with this as its own reason, and not because the policy is another (POL-07): it is about this very
    /// domain.
    EndsPair,
    /// A word about the pair, behind which no other address is tried.
    Final,
    /// The server behind refused a login of its own accord: it counts against who tried (C2S-11).
    Guess,
    /// The server behind is set up in a way in which some clients can log in, and others cannot.
    HalfFit,
    /// A server behind that ends a stream so does it in good order.
    InOrder,
    /// On the way to a backend: told as it is.
    Inside,
    /// The rule keeps what would leave inside, and its sender is told.
    KeptInside,
    /// The sender can mend it by sending later.
    Later,
    /// A peer took its leave where EXTERNAL had not come out well, instead of saying something about the pair.
    Leave,
    /// The server behind is set up in a way that the gateway cannot work with, and goes on.
    Misconfigured,
    /// A server behind speaks for a domain that the configuration does not give it.
    Misnamed,
    /// The configuration lacks a line that names the domain.
    MissingLine,
    /// The domain that was asked for is none that is served here.
    NotServed,
    /// What a remote address or its domain has sent lately (LIM-04, LIM-08).
    OfSender,
    /// Lists name the domain or the sender.
    OfLists,
    /// What the names in a stream header alone decide.
    OfNames,
    /// What a policy may decide for, so that a case of its file may expect it.
    OfPolicy,
    /// Somebody in quarantine has sent what does not pass there, or more of it than does.
    OfQuarantine,
    /// The rule that admits a pair refuses single stanzas of it for this.
    OfRule,
    /// The end of a stream without a pair that is nobody's trouble: old servers open and close empty connections all day.
    Ordinary,
    /// The same claim may come to something later: the trouble is here, and not with who claims.
    Passing,
    /// What a claim fails of behind its proof, or beside it.
    Proven,
    /// On the way to a backend: it does not answer our key.
    Silent,
    /// The stanza is over a limit of what one may be: told with `stanza-too-big` (XEP-0205, `urn:xmpp:errors`).
    TooBig,
    /// A server that is to be asked about a key is told of as one that cannot be asked (DB-28).
    CannotAsk,
    /// Before a header of the peer nobody would understand an error: the connection is cut without one (CLS-03).
    Unheard,
    /// The stanza is legal and may not pass for what stands in it (XML-17, JID-06).
    Unfit,
    /// No connection to a remote server has come about.
    Unreached,
    /// A client's certificate lets nobody in any more for what has become of it since, which is told instead (CRT-12).
    Unworthy,
}

impl Class {
    /// Its place in a set.
    pub(super) const fn bit(self) -> u64 {
        1 << self as u64
    }
}

words! {
    /// What there can be no room in, for one network or for all.
    Room {
        /// Attempts of one network in a minute.
        Attempts = "attempts",
        /// Clients of one network.
        Clients = "clients",
        /// Connections of one network.
        Connections = "connections",
        /// Connections of one registrable domain.
        DomainConnections = "domain-connections",
        /// Pairs of one registrable domain.
        DomainPairs = "domain-pairs",
        /// TLS handshakes.
        Handshakes = "handshakes",
        /// Memory of those who have proven nothing.
        Memory = "memory",
        /// Servers around one network.
        Servers = "servers",
        /// Streams of a rule.
        Streams = "streams",
        /// Connections in all.
        Total = "total",
        /// Those who have proven nothing.
        Unproven = "unproven",
    }
}
