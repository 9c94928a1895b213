//! Who is connected, in the words of the control socket.

use serde::{Deserialize, Serialize};

/// A client that is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its address, as its server told it.
    pub jid: String,
    /// The TLS version.
    pub tls: Option<String>,
    /// Stanzas that passed, either way.
    pub stanzas: u64,
    /// Octets of those stanzas.
    pub octets: u64,
}

/// A pair that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The domain that speaks.
    pub from: String,
    /// The domain that is spoken to.
    pub to: String,
    /// It speaks the other way on the same connection (XEP-0288): against the stream's flow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// How the remote domain was proven; outbound, how we were.
    pub proof: String,
    /// Outbound, how the remote domain was proven to us; none inbound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_proof: Option<String>,
    /// The rule that admitted it.
    pub rule: String,
    /// The address of the remote server.
    pub address: Option<String>,
    /// The TLS version of the public leg.
    pub tls: Option<String>,
    /// SHA-256 of the remote server's certificate.
    pub fingerprint: Option<String>,
    /// Stanzas that passed.
    pub stanzas: u64,
    /// Octets of those stanzas.
    pub octets: u64,
    /// What stream management (XEP-0198) makes of it; none: nothing is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<CountedStream>,
}

/// A pair of which stanzas are counted (XEP-0198).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedStream {
    /// Whether it may go on over another connection, should this one break.
    pub resumes: bool,
    /// Stanzas that are sent and not acknowledged.
    pub unacknowledged: usize,
}
