//! The way to a remote domain: straight, or through the proxy that the operator names for it, in a rule or in a route.
//!
//! What may be dialled is judged before and alike for both ways; a proxy is only asked for what was found here, or for the
//! host that a route names. Backends are never called through one.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dns::{ByDomain, Resolver, Server, Target};
use crate::jid::Domain;
use crate::net::connect::{ConnectFault, Dialled, Params};
use crate::net::via::{self, ViaFault, Wanted};
use crate::net::{self, Shortage};
use crate::policy::Proxy;
use crate::reason::{Cause, Reason, Why};

/// A way out through a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayOut {
    /// The proxy.
    pub proxy: Proxy,
    /// The server that it is asked for by name, which it looks up itself.
    pub named: Option<Server>,
}

impl WayOut {
    /// The one target that is not looked up here. Until the proxy has looked it up there is no address but the proxy's.
    pub fn target(&self) -> Option<Target> {
        let Server { host, port, mode } = self.named.clone()?;
        let unknown = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let addresses = vec![self.proxy.address().unwrap_or(unknown)];
        Some(Target { host, mode, addresses, routed: true, published: Arc::default() })
    }
}

/// What a route says of the way; one that names no proxy leads straight, also where a less specific route names one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// The proxy.
    pub proxy: Option<Proxy>,
    /// The server, where that is named by a host name.
    pub server: Option<Server>,
}

/// What routes say, by remote domain.
pub type WaysOut = ByDomain<Routed>;

/// The way to this domain, by the proxy of the rule if that names one, and else of the route; none: straight. Where a route leads to
/// holds either way.
pub fn way_out(routes: &WaysOut, rule: Option<&Proxy>, domain: &Domain) -> Option<WayOut> {
    let route = routes.of(domain);
    let proxy = rule.or_else(|| route?.proxy.as_ref())?.clone();
    let named = route.filter(|_| proxy.looks_up()).and_then(|route| route.server.clone());
    Some(WayOut { proxy, named })
}

/// Connects to the first of these addresses that answers, on this way. A proxy is asked for one after the other, and gives up
/// with the last, when it refuses our login, or when the time for all of them together is over.
///
/// # Errors
/// What came of them, or of the last.
pub async fn dial(
    way: Option<&WayOut>,
    resolver: &Resolver,
    addresses: &[SocketAddr],
    params: &Params,
) -> Result<Dialled, Undialled> {
    let Some(WayOut { proxy, named }) = way else {
        return net::connect(addresses, params).await.map_err(Undialled::Straight);
    };
    let mut failed = Vec::new();
    match timeout(params.total, through(proxy, named.as_ref(), resolver, addresses, params, &mut failed))
        .await
    {
        Ok(outcome) => outcome.map(|(stream, address)| Dialled { stream, address, failed }),
        Err(_late) => {
            let words = match failed.len() {
                0 => "no connection in time".to_owned(),
                tried => format!(
                    "no connection in time; asked in vain for {tried} of {} addresses",
                    addresses.len()
                ),
            };
            Err(Undialled::Proxy(ViaFault::new(proxy, words)))
        }
    }
}

/// Asks the proxy for one address after the other; those that it had no connection to are told in `failed`.
async fn through(
    proxy: &Proxy,
    named: Option<&Server>,
    resolver: &Resolver,
    addresses: &[SocketAddr],
    params: &Params,
    failed: &mut Vec<SocketAddr>,
) -> Result<(TcpStream, SocketAddr), Undialled> {
    let (host, port) = proxy.place();
    let at = match proxy.address() {
        Some(address) => vec![address],
        None => resolver.named(host, port).await.map_err(|fault| {
            Undialled::Proxy(ViaFault::new(proxy, format!("its name is not found: {fault}")))
        })?,
    };
    let mut last = Undialled::Straight(ConnectFault { attempts: Vec::new() });
    for address in addresses {
        let wanted = match named {
            Some(server) => Wanted::Host(server.host.clone(), server.port),
            None => Wanted::Address(*address),
        };
        match via::connect(proxy, &at, &wanted, params).await {
            Ok(stream) => return Ok((stream, *address)),
            // It would refuse the next question for the same login, and may count how often; or is not to be had at all.
            Err(fault) if fault.is_of_login() || fault.shortage().is_some() => {
                return Err(Undialled::Proxy(fault));
            }
            Err(fault) => last = Undialled::Proxy(fault),
        }
        failed.push(*address);
    }
    Err(last)
}

/// No connection came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undialled {
    /// Through the proxy.
    Proxy(ViaFault),
    /// Straight.
    Straight(ConnectFault),
}

impl Undialled {
    /// What it is called, where the other end is a remote server.
    pub fn why(&self) -> Why {
        if let Some(shortage) = self.shortage() {
            return Why::because(Reason::NoRoom, shortage.cause());
        }
        match self {
            Self::Proxy(fault) if fault.is_of_login() => Why::because(Reason::ProxyLogin, Cause::ProxyLogin),
            Self::Proxy(_) => Why::because(Reason::RemoteUnreachable, Cause::NotReached),
            Self::Straight(fault) => fault.why(),
        }
    }

    /// What this machine lacked for a connection, where it is that.
    pub fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Proxy(fault) => fault.shortage(),
            Self::Straight(fault) => fault.shortage(),
        }
    }
}

impl fmt::Display for Undialled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(fault) => fault.fmt(f),
            Self::Straight(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Undialled {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::dns::{self, DialGuard};

    // "bounded": one deadline spans all addresses of a target, whatever the proxy does with each.
    #[tokio::test]
    async fn a_silent_proxy_is_asked_for_many_addresses_within_one_deadline() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let resolver = Resolver::new(dns::Params {
            servers: vec!["127.0.0.1:9".parse().unwrap()],
            guard: DialGuard::default(),
            ..dns::Params::default()
        });
        let (resolver, total) = (resolver.unwrap(), Duration::from_millis(600));
        let params = Params { each: total, total, ..Params::default() };
        for scheme in ["socks5", "socks5h", "http"] {
            let proxy = Proxy::parse(&format!("{scheme}://{}", silent.local_addr().unwrap())).unwrap();
            let way = WayOut { proxy, named: None };
            let addresses: Vec<SocketAddr> = (1..=8).map(|n| ([192, 0, 2, n], 5269).into()).collect();
            let begun = std::time::Instant::now();
            let fault = dial(Some(&way), &resolver, &addresses, &params).await.unwrap_err();
            // Eight deadlines would be 4.8 s.
            assert!(begun.elapsed() < total * 4, "{scheme}: {:?}", begun.elapsed());
            assert!(fault.to_string().contains("in time"), "{fault}");
        }
    }
}
