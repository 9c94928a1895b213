//! What a listener demands of who connects to it.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::web::Site;
use crate::jid::Domain;
use crate::limit::Arrivals;
use crate::metrics::Door;
use crate::tls::Acceptor;

/// What one listener demands. Other demands after a reload concern who comes after it.
#[derive(Debug)]
pub struct Admission {
    /// Its name in metrics and logs.
    pub door: Door,
    /// Networks that may connect; none: all.
    pub from: Option<Vec<IpNet>>,
    /// Proxies that may connect, and must send a PROXY header; none: no such header is read.
    pub proxies: Option<Vec<IpNet>>,
    /// TLS from the first octet.
    pub direct: Option<Arc<Acceptor>>,
    /// Streams may begin in clear where TLS from the first octet is taken, too.
    pub clear: bool,
    /// TLS ends at the proxy in front.
    pub at_proxy: bool,
    /// What is answered over HTTP, and the way to a WebSocket.
    pub web: Option<Arc<Site>>,
    /// The domain whose certificate is shown to who names none (TLS-16).
    pub default: Option<Domain>,
    /// How many may arrive.
    pub arrivals: Arc<Arrivals>,
    /// T-header, also for the PROXY header (ACC-04).
    pub header: Duration,
    /// T-tls.
    pub handshake: Duration,
    /// T-unauth.
    pub unauth: Duration,
}
