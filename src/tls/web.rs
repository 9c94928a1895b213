//! TLS towards a web server, as a careful browser does it: a path to the anchors here, the name of the host, usage for servers, and the
//! revocation lists. Without all that there is no channel: what is fetched over it is believed (DNS-16).

use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::jid::Domain;
use crate::stream::identity;
use crate::stream::secured::Certificate;
use crate::tls::fault::HandshakeFault;
use crate::tls::verify::{AnyChain, TrustStore};
use crate::tls::{VERSIONS, provider};

/// Does one handshake with the web server of this host. Where `trust` has anchors for the domain on whose behalf it is asked, they
/// stand in place of the default ones.
///
/// # Errors
/// What is wrong, in words.
pub async fn connect<S>(
    stream: S,
    host: &str,
    domain: &Domain,
    trust: &TrustStore,
) -> Result<TlsStream<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "its name is none for TLS".to_owned())?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)
        .map_err(|error| error.to_string())?;
    let mut config = builder
        .dangerous() // it is not: the chain is judged below, before an octet is sent
        .with_custom_certificate_verifier(Arc::new(AnyChain::new()))
        .with_no_client_auth();
    config.require_ems = true; // RFC 9325 3.5
    config.enable_early_data = false; // TLS-14
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = connecting.await.map_err(|error| HandshakeFault::from_io(error).to_string())?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let shown = trust.describe_web(chain, UnixTime::now()).ok_or("it shows no certificate")?;
    identity::trusted_for(&shown, domain)
        .map_err(|fault| format!("its certificate is not trusted ({})", fault.label()))?;
    match identity::names_host(&shown, host) {
        true => Ok(stream),
        false => Err("its certificate is for another name".to_owned()),
    }
}

/// Whether the certificate itself, and none of its authorities, is in date (DNS-17).
pub fn is_in_date(certificate: &Certificate) -> bool {
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    certificate.chain.certificates().next().is_some_and(|leaf| {
        X509Certificate::from_der(&CertificateDer::from_slice(leaf)).is_ok_and(|(_, leaf)| {
            let validity = leaf.validity();
            validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp()
        })
    })
}
