//! Where the gateway listens, and for whom: impossible combinations are gone.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::jid::Domain;
use crate::policy::Place;

/// A listener has one fixed role (ACC-01).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// Who connects.
    pub role: Callers,
    /// Networks of proxies: if set, the PROXY header is required, and taken from these only; if not, it is refused.
    pub proxies: Option<Vec<IpNet>>,
    /// The domain whose certificate is shown to who names no server, where the file says so.
    pub default: Option<Domain>,
    /// Where the configuration names it.
    pub place: Place,
}

impl Callers {
    /// Whether TLS begins with the first octet.
    pub fn is_direct(&self) -> bool {
        matches!(
            self,
            Self::C2s(Encryption::Direct)
                | Self::Mixed(_)
                | Self::S2s(Encryption::Direct)
                | Self::Websocket(_)
        )
    }

    /// What it answers over HTTP, if it does.
    pub fn web(&self) -> Option<&Web> {
        match self {
            Self::Mixed(Mixed { web, .. }) => web.as_ref(),
            Self::Websocket(web) => Some(web),
            Self::C2s(_) | Self::Inside(_) | Self::S2s(_) => None,
        }
    }

    /// Whether clients connect there.
    pub fn takes_clients(&self) -> bool {
        matches!(self, Self::C2s(_) | Self::Mixed(_) | Self::Websocket(_))
    }
}

/// Who connects to a listener, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Clients.
    C2s(Encryption),
    /// Backends, in clear, from these networks only (ACC-02).
    Inside(Vec<IpNet>),
    /// Clients and remote servers on one port.
    Mixed(Mixed),
    /// Remote servers.
    S2s(Encryption),
    /// Clients over WebSocket (RFC 7395).
    Websocket(Web),
}

/// Clients and remote servers on one port: with TLS from the first octet they are told apart by ALPN (XEP-0368).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mixed {
    /// Whether streams may begin in clear as well; the namespace of their header tells who it is.
    pub starttls: bool,
    /// Clients may come over WebSocket.
    pub web: Option<Web>,
}

/// What is answered over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// The path of the WebSocket.
    pub path: String,
    /// Pages of these sites may ask for it; none: those of the domains themselves.
    pub origins: Vec<String>,
    /// TLS ends at the proxy in front.
    pub at_proxy: bool,
}

/// How a public connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// TLS from the first octet.
    Direct,
    /// TLS after negotiation.
    Starttls,
}
