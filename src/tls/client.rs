//! The connecting side: shows the hosted domain's certificate, reports the peer's.
//!
//! A chain that does not hold never ends the handshake here; the facts go to the caller, who decides (CRT-13). Sessions
//! are not resumed, so each connection sees the peer's chain in full, and no early data is ever sent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption};
use rustls_pki_types::{ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::jid::Domain;
use crate::stream::dane::Published;
use crate::stream::evidence::Evidence;
use crate::stream::secured::{ChannelFacts, Secured};
use crate::tls::far_channel::Followed;
use crate::tls::fault::{FaultKind, HandshakeFault};
use crate::tls::keys::{Certificates, ChainAndKey};
use crate::tls::verify::{AnyChain, TrustStore};
use crate::tls::{Ahead, Alpn, FarChannel, KeyKind, Mode, VERSIONS, dane, provider, suite, version};

/// What connecting needs.
#[derive(Clone, Debug)]
pub struct Params {
    /// The hosted domains' certificates, to be shown.
    pub certificates: Arc<Certificates>,
    /// What peers' chains are judged by.
    pub trust: Arc<TrustStore>,
}

/// Opens TLS towards other servers. A snapshot: a reload makes a new one.
pub struct Connector {
    trust: Arc<TrustStore>,
    hosted: BTreeMap<Domain, Pair>,
    anonymous: Pair,
}

/// One configuration for each mode: they differ in ALPN.
struct Pair {
    starttls: Arc<ClientConfig>,
    direct: Arc<ClientConfig>,
}

impl Connector {
    /// Builds the configurations of all domains.
    ///
    /// # Errors
    /// When rustls refuses a certificate or its key.
    pub fn new(params: Params) -> Result<Connector, rustls::Error> {
        let hosted = params
            .certificates
            .iter()
            .map(|(domain, identity)| Ok((domain.clone(), Pair::new(Some(identity))?)));
        Ok(Connector {
            trust: Arc::clone(&params.trust),
            hosted: hosted.collect::<Result<_, rustls::Error>>()?,
            anonymous: Pair::new(None)?,
        })
    }

    /// One that shows no certificate, and sees those alone that are for a key of this kind.
    ///
    /// # Errors
    /// When rustls takes no such configuration.
    pub fn only(kind: KeyKind, trust: Arc<TrustStore>) -> Result<Connector, rustls::Error> {
        let anonymous = Pair::taking(None, AnyChain::only(kind))?;
        Ok(Connector { trust, hosted: BTreeMap::new(), anonymous })
    }

    /// What peers' chains are judged by.
    pub fn trust(&self) -> &TrustStore {
        &self.trust
    }

    /// Does one handshake with the server of `remote`, on behalf of `hosted` (which shows its certificate, if it has
    /// one and is asked). The server name is the A-label form of `remote`, whatever host is dialled (TLS-22, DNS-14);
    /// `published` is what the DNS says of that host under signatures.
    ///
    /// # Errors
    /// Why the handshake failed, or whom the other end did not prove to be.
    pub async fn connect<S>(
        &self,
        stream: S,
        hosted: Option<&Domain>,
        (remote, published): (&Domain, &Published),
        mode: Mode,
    ) -> Result<(FarChannel<S>, Secured), HandshakeFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let pair = hosted.and_then(|domain| self.hosted.get(domain)).unwrap_or(&self.anonymous);
        let config = match mode {
            Mode::Direct => &pair.direct,
            Mode::Starttls => &pair.starttls,
        };
        let sni = remote.to_ascii().into_owned();
        let name = ServerName::try_from(sni.clone())
            .map_err(|_| FaultKind::Refused(rustls::Error::UnsupportedNameType))?;
        let connecting =
            TlsConnector::from(Arc::clone(config)).connect(name, Ahead::new(Followed::new(stream)));
        let mut stream = connecting.await.map_err(HandshakeFault::from_io)?;
        let (ahead, session) = stream.get_mut();
        let version = version(session.protocol_version());
        ahead.settle(version);
        let chain = session.peer_certificates().unwrap_or_default();
        let certificate = self.trust.describe(chain, UnixTime::now());
        let secured = Secured::from(ChannelFacts {
            version,
            evidence: vec![Evidence {
                host: published.host.clone(),
                dane: dane::judge(published, certificate.as_ref(), remote, UnixTime::now()),
                ..Evidence::none(remote.clone())
            }],
            certificate,
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            sni: Some(sni),
            shown: None,
            suite: suite(session.negotiated_cipher_suite()),
        });
        Ok((FarChannel::new(stream), secured))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("hosted", &self.hosted.keys()).finish_non_exhaustive()
    }
}

impl Pair {
    fn new(identity: Option<&ChainAndKey>) -> Result<Pair, rustls::Error> {
        Self::taking(identity, AnyChain::new())
    }

    fn taking(identity: Option<&ChainAndKey>, chains: AnyChain) -> Result<Pair, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)?
            .dangerous() // it is not: see `tls::verify`, which judges after the handshake
            .with_custom_certificate_verifier(Arc::new(chains));
        let mut starttls = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
            None => builder.with_no_client_auth(),
        };
        starttls.require_ems = true; // RFC 9325 3.5
        starttls.enable_early_data = false; // TLS-14
        starttls.resumption = Resumption::disabled();
        let mut direct = starttls.clone();
        direct.alpn_protocols = vec![Alpn::Server.octets().to_vec()];
        Ok(Pair { starttls: Arc::new(starttls), direct: Arc::new(direct) })
    }
}
