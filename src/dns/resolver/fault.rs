//! Why there is nowhere to dial, and why there is no resolver.

use std::fmt;
use std::net::SocketAddr;

use crate::dns::query::QueryFault;
use crate::reason::{Cause, Reason, Why};

/// Why there is nowhere to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsFault {
    /// As much is looked up as may be: not the domain's fault.
    Busy,
    /// Signatures in the DNS do not hold (DNSSEC).
    Bogus,
    /// The DNS answered with a failure, or with answers to other questions.
    Failed,
    /// There are addresses, and none may be dialled (DNS-05, DNS-06).
    Guarded,
    /// There is no such domain.
    NoDomain,
    /// This machine had no room for the question: not the domain's fault.
    NoRoom,
    /// The domain has no XMPP service.
    NotFound,
    /// The DNS did not answer in time.
    Timeout,
    /// Validating its signatures takes more than one look-up may cost.
    TooMuch,
}

impl DnsFault {
    /// What to count, to log and to tell the sender.
    pub fn why(self) -> Why {
        match self {
            Self::Busy => Reason::Overload.into(),
            Self::Bogus => Why::because(Reason::DnsFailed, Cause::DnsBogus),
            Self::Failed => Why::because(Reason::DnsFailed, Cause::DnsTrouble),
            Self::Guarded => Why::because(Reason::RemoteUnreachable, Cause::MustNotDial),
            Self::NoDomain => Why::because(Reason::RemoteNotFound, Cause::NoSuchDomain),
            Self::NoRoom => Why::because(Reason::NoRoom, Cause::NoSockets),
            Self::NotFound => Why::because(Reason::RemoteNotFound, Cause::NotInDns),
            Self::Timeout => Why::because(Reason::DnsFailed, Cause::DnsTrouble),
            Self::TooMuch => Why::because(Reason::DnsFailed, Cause::DnsTooMuch),
        }
    }
}

impl From<QueryFault> for DnsFault {
    fn from(fault: QueryFault) -> DnsFault {
        match fault {
            QueryFault::Bogus => DnsFault::Bogus,
            QueryFault::Failed => DnsFault::Failed,
            QueryFault::NoRoom => DnsFault::NoRoom,
            QueryFault::Timeout => DnsFault::Timeout,
            QueryFault::TooMuch => DnsFault::TooMuch,
        }
    }
}

impl fmt::Display for DnsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "as many domains are being looked up as may be",
            Self::Bogus => "the signatures of the DNS (DNSSEC) do not hold",
            Self::Failed => "the DNS answered with a failure",
            Self::Guarded => "the DNS names only addresses or ports that must not be dialled",
            Self::NoDomain => "there is no such domain in the DNS",
            Self::NoRoom => "this machine has no room for the question",
            Self::NotFound => "the domain has no XMPP service in the DNS",
            Self::Timeout => "the DNS did not answer in time",
            Self::TooMuch => {
                "validating what the DNS says of it (DNSSEC) takes more than one look-up may cost"
            }
        })
    }
}

impl std::error::Error for DnsFault {}

/// Why no resolver could be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupFault {
    /// The file of trust anchors cannot be used.
    Anchors(String),
    /// A resolver that is to be believed about signatures is neither on this machine nor in a private network.
    Far(SocketAddr),
    /// The server is the steering server, whose answers all lead back to us.
    Steering(SocketAddr),
    /// The system's configuration cannot be used.
    System(String),
}

impl fmt::Display for SetupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anchors(why) => {
                write!(f, "the trust anchors of `dns: {{ anchors }}` cannot be used: {why}")
            }
            Self::Far(server) => write!(
                f,
                "{server} is asked over a network that is not ours, so what it says of signatures is nobody's word; write `dnssec: \
                 validate`, or name a resolver on this machine or in a private network"
            ),
            Self::Steering(server) => write!(
                f,
                "{server} is the gateway's own steering server; name another in `dns: {{ servers: [..] }}`"
            ),
            Self::System(error) => write!(
                f,
                "the system's DNS configuration cannot be used: {error}; name servers in `dns: {{ servers: [..] }}`"
            ),
        }
    }
}

impl std::error::Error for SetupFault {}
