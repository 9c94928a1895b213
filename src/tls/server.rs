//! The accepting side: picks the certificate, agrees on a protocol, reports the facts.
//!
//! One [`Acceptor`] serves one listener. The certificate follows the server name sent by the client; without one, the
//! `to` of the stream (STARTTLS) or the default (TLS-16, RFC 6120 5.4.3.1). How long a handshake may take is the
//! caller's to say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::DistinguishedName;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::jid::Domain;
use crate::stream::secured::{ChannelFacts, Secured, TlsVersion};
use crate::tls::channel::Hello;
use crate::tls::fault::{FaultKind, HandshakeFault};
use crate::tls::keys::{Certificates, ChainAndKey};
use crate::tls::verify::{AnyChain, TrustStore};
use crate::tls::{Ahead, Alpn, Channel, Mode, VERSIONS, provider, suite, version};

/// What one listener's TLS is made of.
#[derive(Clone, Debug)]
pub struct Params {
    /// Direct TLS or STARTTLS.
    pub mode: Mode,
    /// The protocols this listener speaks; asked about on direct TLS only.
    pub alpn: Vec<Alpn>,
    /// The domain whose certificate is shown when neither server name nor stream names one.
    pub default: Option<Domain>,
    /// Whether servers that connect are asked for a certificate; it is never required (TLS-18). Clients are asked where their
    /// domain says so, and nowhere else: their programs would ask a person in turn (C2S-15).
    pub ask_certificate: bool,
    /// The hosted domains' certificates.
    pub certificates: Arc<Certificates>,
    /// What peers' chains are judged by.
    pub trust: Arc<TrustStore>,
}

impl Params {
    /// Whether clients alone come here.
    fn is_for_clients(&self) -> bool {
        !self.alpn.is_empty() && !self.alpn.contains(&Alpn::Server)
    }

    /// The protocols that clients speak here.
    fn clients(&self) -> impl Iterator<Item = Alpn> {
        self.alpn.iter().copied().filter(|alpn| *alpn != Alpn::Server)
    }

    /// Whether who comes is a client; `named`: it offered a protocol that clients speak here.
    fn takes_client(&self, named: bool) -> bool {
        self.is_for_clients() || named
    }
}

/// Accepts TLS on one listener.
pub struct Acceptor {
    current: RwLock<Arc<Snapshot>>,
    /// Kept over reloads. One for each domain, so that a ticket of one is nothing to another.
    tickets: RwLock<Tickets>,
}

/// By domain, and whether its clients are asked for a certificate: a ticket from when they were not shows none.
type Tickets = BTreeMap<(Domain, bool), Arc<dyn ProducesTickets>>;

struct Snapshot {
    params: Params,
    domains: BTreeMap<Domain, Configs>,
}

/// What one domain shows.
struct Configs {
    /// To whoever names no protocol, or that of servers.
    server: Arc<ServerConfig>,
    /// To whoever names a protocol of clients, on a listener that takes servers too.
    client: Option<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Builds the configurations of all domains.
    ///
    /// # Errors
    /// When rustls refuses a certificate or its key.
    pub fn new(params: Params) -> Result<Acceptor, rustls::Error> {
        let tickets = RwLock::new(Tickets::new());
        let current = Snapshot::new(params, &tickets)?;
        Ok(Acceptor { current: RwLock::new(Arc::new(current)), tickets })
    }

    /// Replaces everything; handshakes begun before keep what they began with (CRT-14).
    ///
    /// # Errors
    /// When rustls refuses a certificate or its key; then all is as before.
    pub fn replace(&self, params: Params) -> Result<(), rustls::Error> {
        let next = Arc::new(Snapshot::new(params, &self.tickets)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does one handshake. `fallback` is the `to` of the stream on STARTTLS.
    ///
    /// After a fault nothing more is to be sent: the alert, where one is due, has been (RFC 6120 5.4.3.2).
    ///
    /// # Errors
    /// Why the handshake failed.
    pub async fn accept<S>(
        &self,
        stream: S,
        fallback: Option<&Domain>,
    ) -> Result<(Channel<S>, Secured), HandshakeFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.accept_begun(Ahead::new(stream), fallback).await
    }

    /// The same on a stream of which something may have been read.
    ///
    /// # Errors
    /// Why the handshake failed.
    pub async fn accept_begun<S>(
        &self,
        stream: Ahead<S>,
        fallback: Option<&Domain>,
    ) -> Result<(Channel<S>, Secured), HandshakeFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let snapshot = self.current();
        let mut hello = Hello::hear(stream)
            .await
            .map_err(|(error, heard)| HandshakeFault::from_io(error).heard(&heard, None))?;
        let asked = hello.accepted.client_hello();
        let sni = asked.server_name().map(str::to_ascii_lowercase);
        let client = asked.alpn().is_some_and(|mut offered| {
            offered.any(|alpn| snapshot.params.clients().any(|ours| alpn == ours.octets()))
        });
        let is_client = snapshot.params.takes_client(client);
        let Some((shown, config)) = snapshot.choose(sni.as_deref(), fallback, client) else {
            // Best effort: the connection ends either way.
            let _ = hello.ahead.write_all(&UNRECOGNIZED_NAME).await;
            let _ = hello.ahead.shutdown().await;
            return Err(HandshakeFault::from(FaultKind::UnrecognizedName).asked(sni.as_deref()));
        };
        let mut stream = match hello.shake(config).await {
            Ok(stream) => stream,
            Err((error, mut ahead, heard)) => {
                // The alert, if there is one; the connection ends either way.
                let _ = ahead.let_go().await;
                let ours = snapshot.params.certificates.of(&shown).map(ChainAndKey::key);
                return Err(HandshakeFault::from_io(error).heard(&heard, ours).asked(sni.as_deref()));
            }
        };
        let version = version(stream.session().protocol_version());
        if version == TlsVersion::V12 {
            // The client's part is not done before it has heard this.
            let told = stream.ahead().let_go().await.map_err(FaultKind::Closed);
            told.map_err(|kind| HandshakeFault::from(kind).asked(sni.as_deref()))?;
        }
        stream.ahead().settle(version);
        let session = stream.session();
        let chain = session.peer_certificates().unwrap_or_default();
        let secured = Secured::from(ChannelFacts {
            version,
            // By what holds now: a reload may have come while the handshake ran (CRT-12).
            certificate: if is_client {
                self.current().params.trust.describe_client(&shown, chain, UnixTime::now())
            } else {
                self.current().params.trust.describe(chain, UnixTime::now())
            },
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            sni,
            shown: Some(shown),
            suite: suite(session.negotiated_cipher_suite()),
            evidence: Vec::new(),
        });
        Ok((stream, secured))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Snapshot {
    fn new(params: Params, tickets: &RwLock<Tickets>) -> Result<Self, rustls::Error> {
        let mut tickets = tickets.write().unwrap_or_else(PoisonError::into_inner);
        let asks = |domain: &Domain| params.trust.clients.contains_key(domain);
        tickets
            .retain(|(domain, asked), _| params.certificates.of(domain).is_some() && asks(domain) == *asked);
        let mut domains = BTreeMap::new();
        for (domain, identity) in params.certificates.iter() {
            let named = (domain.clone(), asks(domain));
            let ticketer = match tickets.get(&named) {
                Some(ticketer) => Arc::clone(ticketer),
                None => {
                    // Keys change every 6 hours and tickets live for 12, well within RFC 9325 3.4.
                    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
                    tickets.insert(named, Arc::clone(&ticketer));
                    ticketer
                }
            };
            let config = |ask: Option<Vec<DistinguishedName>>, alpn: &[Alpn]| {
                let builder =
                    ServerConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS)?;
                let builder = match ask {
                    Some(issuers) => builder.with_client_cert_verifier(Arc::new(AnyChain::hinting(issuers))),
                    None => builder.with_client_cert_verifier(Arc::new(NoClientAuth)),
                };
                let mut config = builder.with_cert_resolver(identity.resolver());
                config.require_ems = true; // RFC 9325 3.5
                config.max_early_data_size = 0; // TLS-14
                config.ignore_client_order = true; // RFC 9325 4.2.1: our order, which is by strength
                config.session_storage = Arc::new(NoServerSessionStorage {});
                // Who resumes gets a new one each time (RFC 8446 C.4), and a client has one connection at a time.
                config.send_tls13_tickets = 1;
                config.ticketer = Arc::clone(&ticketer);
                if params.mode == Mode::Direct {
                    config.alpn_protocols = alpn.iter().map(|alpn| alpn.octets().to_vec()).collect();
                }
                Ok::<_, rustls::Error>(Arc::new(config))
            };
            let servers = || params.ask_certificate.then(Vec::new);
            let clients = || params.trust.issuers_of_clients(domain);
            let both = params.alpn.contains(&Alpn::Server) && params.clients().next().is_some();
            let configs = if both {
                Configs {
                    server: config(servers(), &[Alpn::Server])?,
                    client: Some(config(clients(), &params.clients().collect::<Vec<_>>())?),
                }
            } else {
                let asked = if params.is_for_clients() { clients() } else { servers() };
                Configs { server: config(asked, &params.alpn)?, client: None }
            };
            domains.insert(domain.clone(), configs);
        }
        Ok(Snapshot { params, domains })
    }

    /// TLS-16. A name we do not know fails on direct TLS (RFC 6066 3); on STARTTLS the stream has named the domain, and
    /// servers are known to send the name of the SRV target instead.
    fn choose(
        &self,
        sni: Option<&str>,
        fallback: Option<&Domain>,
        client: bool,
    ) -> Option<(Domain, Arc<ServerConfig>)> {
        let of = |domain: &Domain| self.domains.get_key_value(domain);
        let named = sni.and_then(|sni| Domain::parse(sni).ok()).and_then(|domain| of(&domain));
        let configs = match (named, sni, self.params.mode) {
            (Some(configs), _, _) => Some(configs),
            (None, Some(_), Mode::Direct) => None,
            _ => fallback.and_then(of).or_else(|| self.params.default.as_ref().and_then(of)),
        };
        configs.map(|(domain, configs)| {
            let config = match &configs.client {
                Some(config) if client => Arc::clone(config),
                _ => Arc::clone(&configs.server),
            };
            (domain.clone(), config)
        })
    }
}

/// A fatal alert in clear, as any is before ServerHello (RFC 8446 6): rustls has no way to say this one.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
