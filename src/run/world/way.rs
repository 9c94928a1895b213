//! Where a way begins: the candidates of a destination, and what a connection to a backend opens with.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::Failure;
use super::super::ways::WayOut;
use super::{Place, ProxyVersion, Way, told};
use crate::metrics::Limit;
use crate::net::proxy;
use crate::reason::Reason;
use crate::relay::Destination;
use crate::stream::TlsVersion;

impl Way {
    pub(super) async fn places(&self) -> Result<VecDeque<Place>, Failure> {
        match &self.destination {
            Destination::Client(domain) => {
                let clients = self.inner.params.clients.get(domain).ok_or(Reason::BackendDown)?;
                Ok(Place::in_turn(&clients.addresses))
            }
            Destination::Backend(domain) => {
                let addresses = self.inner.params.backends.get(domain).ok_or(Reason::BackendDown)?;
                Ok(Place::in_turn(addresses))
            }
            Destination::World { target, .. } => {
                let (found, waited) = match self.way_out().and_then(WayOut::target) {
                    Some(named) => (Ok(vec![named]), Duration::ZERO),
                    None => self.inner.params.resolver.targets_timed(target, self.share()).await,
                };
                if waited > Duration::ZERO {
                    self.inner.params.metrics.limited(Limit::Lookups);
                    self.inner.params.metrics.waited(Limit::Lookups, waited);
                }
                let targets = found.map_err(|fault| {
                    tracing::debug!(domain = %target, %fault, "no target");
                    told(fault.why(), &fault)
                })?;
                let places = targets.iter().enumerate().flat_map(|(target, t)| {
                    let place = move |address| Place {
                        address,
                        mode: t.mode,
                        target,
                        routed: t.routed,
                        published: Arc::clone(&t.published),
                    };
                    t.addresses.iter().copied().map(place)
                });
                Ok(places.collect())
            }
        }
    }

    /// The PROXY header for this connection, where the backend is told one.
    pub(super) fn introduction(
        &self,
        own: Option<(SocketAddr, SocketAddr)>,
    ) -> Result<Option<Vec<u8>>, Reason> {
        let params = &self.inner.params;
        let version = match &self.destination {
            Destination::Client(domain) => params.clients.get(domain).and_then(|clients| clients.proxy),
            Destination::Backend(domain) => params.told.contains(domain).then_some(ProxyVersion::V2),
            Destination::World { .. } => None,
        };
        let Some(version) = version else { return Ok(None) };
        let ends = match (&self.destination, &self.caller) {
            // On the gateway's own account. The word LOCAL is not known everywhere: ejabberd waits for ever after it.
            (Destination::Backend(_), None) => own,
            (_, caller) => caller.as_ref().and_then(|caller| caller.ends),
        };
        let addresses = ends.map(|(source, destination)| proxy::Addresses { source, destination });
        match version {
            ProxyVersion::V1 => Ok(Some(proxy::v1(addresses))),
            ProxyVersion::V2 => {
                let secured = self.caller.as_ref().and_then(|caller| caller.secured.as_ref());
                let header = proxy::v2(&proxy::Outgoing {
                    addresses,
                    alpn: secured.and_then(|secured| secured.alpn.clone()),
                    authority: secured.and_then(|secured| secured.sni.clone()),
                    unique_id: self.caller.as_ref().map(|caller| caller.name.clone().into_bytes()),
                    tls: secured.map(|secured| proxy::ClientTls {
                        version: match secured.version {
                            TlsVersion::AtProxy => "TLS".to_owned(),
                            version => format!("TLSv{}", version.label()),
                        },
                        cipher: secured.suite.to_owned(),
                        // Of a client that is not asked for one none is known.
                        certified: secured
                            .certificate
                            .as_ref()
                            .is_some_and(|shown| shown.trust.default.is_ok()),
                    }),
                    facts: self.caller.as_ref().and_then(|caller| caller.facts.clone()),
                    checksum: proxy::Checksum::Added,
                });
                // Each value is bounded where it comes from: this cannot fail.
                header.map(Some).ok_or(Reason::Internal)
            }
        }
    }
}
