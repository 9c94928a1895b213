//! Where a way begins: the candidates of a destination, how they are dialled, and what a connection to a backend opens with.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::ways::{self, WayOut};
use super::super::{Failure, now};
use super::lacking::Lacking;
use super::{ConnectStep, Place, ProxyVersion, SetUp, Way};
use crate::dns::{DnsFault, Share};
use crate::metrics::Limit;
use crate::net::{self, Dialled, proxy};
use crate::reason::{Detail, Reason, Why, escaped};
use crate::relay::{Behalf, Destination};
use crate::stream::TlsVersion;

impl Way {
    /// The domain is not to be had. What an unproven peer has made us try is held against it for nobody else (LIM-06).
    pub(super) fn missed(&self, reason: Reason) {
        match &self.destination {
            Destination::World { target, behalf: Behalf::Claim, .. } => {
                self.inner.params.circuits.failed_claim(target);
            }
            Destination::World { from, target, .. } => {
                let apart = self.is_apart() && reason != Reason::DnsFailed;
                self.inner.params.circuits.failed(target, apart.then_some(from), reason);
            }
            Destination::Backend(_) | Destination::Client(_) => {}
        }
    }

    /// Whether the hosted domain has a way of its own there: a proxy that its rule names, or an address that it calls from. What comes
    /// of it is held against nobody else.
    pub(super) fn is_apart(&self) -> bool {
        let Destination::World { from, via, .. } = &self.destination else { return false };
        via.is_some() || self.out.is_none() && self.inner.params.sources.contains_key(from)
    }

    /// Waits until a stream may be set up with the first of these, where it is to carry stanzas.
    pub(super) async fn in_turn(&self, addresses: &[SocketAddr]) -> Option<SetUp> {
        let ours = match &self.destination {
            Destination::World { behalf, .. } => *behalf != Behalf::Claim,
            // It carries what a proven pair has written.
            Destination::Backend(_) => true,
            Destination::Client(_) => false,
        };
        // What a proxy calls is the proxy's to say.
        let address = addresses.first().filter(|_| ours && self.out.is_none())?;
        self.progress.at(ConnectStep::InTurn(*address));
        Some(self.inner.set_ups.enter(address.ip()).await)
    }

    /// Dials these for so long, on the way that the destination has.
    pub(super) async fn dial(&self, addresses: &[SocketAddr], total: Duration) -> Result<Dialled, Failure> {
        let mut dialling = net::connect::Params { total, ..self.inner.params.dial.clone() };
        // A proxy stands on a network of ours.
        if let (Destination::World { from, .. }, None) = (&self.destination, &self.out) {
            dialling.sources = self.inner.params.sources.get(from).cloned().unwrap_or_default();
        }
        // Of these there are few, each tried by itself.
        let backend = match self.destination {
            Destination::Backend(_) | Destination::Client(_) => addresses.first().copied(),
            Destination::World { .. } => None,
        };
        if let Some(known) = backend.and_then(|address| self.lacking().of(address, now())) {
            return Err(known);
        }
        let dialled = ways::dial(self.out.as_ref(), &self.inner.params.resolver, addresses, &dialling).await;
        dialled.map_err(|fault| {
            tracing::debug!(%fault, "not connected");
            let mut failure = told(fault.why(), &fault);
            if let Some(address) = addresses.last() {
                failure = failure.at(*address);
            }
            if let Some(address) = backend {
                self.lacking().note(address, &failure, now());
            }
            failure
        })
    }

    fn lacking(&self) -> MutexGuard<'_, Lacking> {
        self.inner.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No address was left to try, and at one this machine had no room for a connection: the operator is told.
    pub(super) fn lacks_room(&self, failure: &Failure) {
        let Some(detail) = &failure.detail else { return };
        if self.lacking().may_log() {
            tracing::error!(detail = %detail.particulars, remedy = detail.cause.remedy(),
                "a connection cannot be opened: {}", detail.cause.words());
        }
    }

    /// Whose share of the lookups these take.
    pub(super) fn share(&self) -> Share {
        match self.destination {
            Destination::World { behalf: Behalf::Carried, .. } => Share::Carried,
            Destination::World { behalf: Behalf::Claim, .. } => Share::Claims,
            Destination::World { behalf: Behalf::Own, .. }
            | Destination::Backend(_)
            | Destination::Client(_) => Share::Own,
        }
    }

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
                let (found, waited) = match self.out.as_ref().and_then(WayOut::target) {
                    Some(named) => (Ok(vec![named]), Duration::ZERO),
                    None => self.inner.params.resolver.targets_timed(target, self.share()).await,
                };
                if waited > Duration::ZERO {
                    self.inner.params.metrics.limited(Limit::Lookups);
                    self.inner.params.metrics.waited(Limit::Lookups, waited);
                }
                if matches!(found, Err(DnsFault::TooMuch)) {
                    self.inner.params.metrics.limited(Limit::Validation);
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
            Destination::Backend(domain) => {
                params.read_proxy_header.contains(domain).then_some(ProxyVersion::V2)
            }
            Destination::World { .. } => None,
        };
        let Some(version) = version else { return Ok(None) };
        let known = self.caller.as_ref().and_then(|caller| caller.ends);
        let ends = match &self.destination {
            // On the gateway's own account. The word LOCAL is not known everywhere: ejabberd waits for ever after it.
            Destination::Backend(_) => known.or(own),
            Destination::Client(_) | Destination::World { .. } => known,
        };
        let addresses = ends.map(|(source, destination)| proxy::Addresses { source, destination });
        match version {
            ProxyVersion::V1 => Ok(Some(proxy::v1(addresses))),
            ProxyVersion::V2 => {
                let secured = self.caller.as_ref().and_then(|caller| caller.secured.as_ref());
                let header = proxy::v2(&proxy::OutgoingHeader {
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

/// A failure with what was found out about it, in full.
fn told(why: Why, fault: &impl std::fmt::Display) -> Failure {
    let words = || escaped(&fault.to_string(), FAULT);
    let detail = why.detail.map(|detail| Box::new(Detail::new(detail.cause, words())));
    Failure { reason: why.reason, detail, address: None }
}

/// Characters of a fault of the DNS that are shown.
const FAULT: usize = 200;
