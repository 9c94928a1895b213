//! The limits that are counted, as one closed list of labels (law `closed_words`).

/// A limit that slows or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// New connections per network and minute.
    Attempts,
    /// Streams of ours to a server behind.
    Backend,
    /// Stanzas that the gateway itself must deliver (bounces).
    Carried,
    /// Attempts to reach a remote domain that did not answer lately.
    Circuit,
    /// Clients per network.
    Clients,
    /// Open connections per network that have proven nothing.
    Connections,
    /// Connections of servers of one registrable domain.
    DomainConnections,
    /// Pairs of one registrable domain.
    DomainPairs,
    /// TLS handshakes per second.
    Handshakes,
    /// Failed logins per network and account.
    Logins,
    /// Domains looked up in the DNS at one time.
    Lookups,
    /// Memory of all connections that have proven nothing.
    Memory,
    /// Octets per second of a pair.
    Octets,
    /// The queue of a pair.
    Queue,
    /// Different recipients of a remote domain per minute.
    Recipients,
    /// Requests for new accounts per network and hour.
    Registrations,
    /// Stanzas of a remote address per minute.
    Senders,
    /// Connections of servers from around one network.
    Servers,
    /// Stanzas per second of a pair.
    Stanzas,
    /// Admitted streams of a rule.
    Streams,
    /// Requests for subscriptions of a remote domain per minute.
    Subscriptions,
    /// Open connections in all.
    Total,
    /// Connections that have proven nothing.
    Unproven,
    /// Questions and signatures that validating one look-up in the DNS may cost.
    Validation,
    /// Dialback verifications, and look-ups of what unproven peers publish, under way.
    Verifications,
}

impl Limit {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Limit] = &[
        Self::Attempts,
        Self::Backend,
        Self::Carried,
        Self::Circuit,
        Self::Clients,
        Self::Connections,
        Self::DomainConnections,
        Self::DomainPairs,
        Self::Handshakes,
        Self::Logins,
        Self::Lookups,
        Self::Memory,
        Self::Octets,
        Self::Queue,
        Self::Recipients,
        Self::Registrations,
        Self::Senders,
        Self::Servers,
        Self::Stanzas,
        Self::Streams,
        Self::Subscriptions,
        Self::Total,
        Self::Unproven,
        Self::Validation,
        Self::Verifications,
    ];

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Backend => "backend",
            Self::Carried => "carried",
            Self::Circuit => "circuit",
            Self::Clients => "clients",
            Self::Connections => "connections",
            Self::DomainConnections => "domain-connections",
            Self::DomainPairs => "domain-pairs",
            Self::Handshakes => "handshakes",
            Self::Logins => "logins",
            Self::Lookups => "lookups",
            Self::Memory => "memory",
            Self::Octets => "octets",
            Self::Queue => "queue",
            Self::Recipients => "recipients",
            Self::Registrations => "registrations",
            Self::Senders => "senders",
            Self::Servers => "servers",
            Self::Stanzas => "stanzas",
            Self::Streams => "streams",
            Self::Subscriptions => "subscriptions",
            Self::Total => "total",
            Self::Unproven => "unproven",
            Self::Validation => "validation",
            Self::Verifications => "verifications",
        }
    }
}
