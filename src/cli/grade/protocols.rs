//! Which versions of TLS and which suites a server takes, as scanners tell it.

use std::net::SocketAddr;

use rustls_pki_types::CertificateDer;
use tokio::time::timeout;

use super::Grade;
use super::hello::{self, Heard, Version};
use super::report::Report;
use crate::tls::{Alpn, Mode};

impl Grade {
    /// Versions and suites, by hellos of our own: TLS here speaks none of the old ones.
    pub(super) async fn protocols(&self, address: SocketAddr, mode: Mode, place: &str, report: &mut Report) {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for version in VERSIONS {
            let mut suites = version.suites();
            let mut taken = Vec::new();
            let asked = loop {
                match self.hello(address, mode, version, &suites).await {
                    Ok(Heard::Takes(met, suite)) if met == version && suites.contains(&suite) => {
                        suites.retain(|known| *known != suite);
                        taken.push(suite);
                        // Of a version that is broken it makes no difference with what.
                        if suites.is_empty() || version.is_broken() {
                            break Ok(());
                        }
                    }
                    Ok(_) => break Ok(()),
                    Err(trouble) => break Err(trouble),
                }
            };
            match asked {
                Err(trouble) => report.note(
                    "TLS",
                    format!("{place}: not all of {} was seen: {trouble}", version.label()),
                    "look again later: a limit of the server may have come in between",
                ),
                Ok(()) if taken.is_empty() => refused.push(version),
                Ok(()) => {}
            }
            if !taken.is_empty() {
                accepted.push((version, taken));
            }
        }
        for (version, taken) in &accepted {
            let names = |good: bool| -> Vec<String> {
                let named = taken.iter().map(|suite| hello::named(*suite));
                named.filter(|(_, is_good)| *is_good == good).map(|(name, _)| name).collect()
            };
            let (good, bad) = (names(true), names(false));
            if version.is_broken() {
                report.todo(
                    "TLS",
                    format!("{place}: takes {}, which is broken (RFC 8996)", version.label()),
                    "switch it off at the server that ends TLS there",
                );
                continue;
            }
            if !good.is_empty() {
                report.good("TLS", format!("{place}: takes {} with {}", version.label(), good.join(", ")));
            }
            if !bad.is_empty() {
                report.todo(
                    "TLS",
                    format!("{place}: takes {} with {}", version.label(), bad.join(", ")),
                    "leave none but suites with ECDHE, a certificate, and AES-GCM or ChaCha20 (RFC 9325 4.2)",
                );
            }
        }
        if refused.len() == VERSIONS.len() {
            report.todo(
                "TLS",
                format!("{place}: takes none of the versions from 1.0 to 1.3 with any suite that is known"),
                "is that a TLS server?",
            );
            return;
        }
        let labels = |versions: &[Version]| versions.iter().map(|v| v.label()).collect::<Vec<_>>().join(", ");
        let old: Vec<Version> = refused.iter().copied().filter(|v| v.is_broken()).collect();
        if !old.is_empty() {
            report.good("TLS", format!("{place}: refuses {}", labels(&old)));
        }
        if refused.contains(&Version::V13) {
            report.todo(
                "TLS",
                format!("{place}: refuses 1.3"),
                "switch it on at the server that ends TLS there",
            );
        }
    }

    /// The chains that an address shows in clear to whoever offers what it takes, whether that is good or not: one for each kind of key.
    pub(super) async fn shown_in_clear(
        &self,
        address: SocketAddr,
        mode: Mode,
    ) -> Vec<Vec<CertificateDer<'static>>> {
        let mut found: Vec<Vec<CertificateDer<'static>>> = Vec::new();
        for elliptic in [true, false] {
            for version in [Version::V12, Version::V11, Version::V10] {
                let mut suites = version.suites();
                suites.retain(|suite| hello::named(*suite).0.contains("ECDSA") == elliptic);
                let Ok(Some(chain)) = self.chain(address, mode, version, &suites).await else { continue };
                let chain: Vec<CertificateDer<'static>> =
                    chain.into_iter().map(CertificateDer::from).collect();
                if !found.contains(&chain) {
                    found.push(chain);
                }
                break;
            }
        }
        found
    }

    async fn chain(
        &self,
        address: SocketAddr,
        mode: Mode,
        version: Version,
        suites: &[u16],
    ) -> Result<Option<Vec<Vec<u8>>>, String> {
        let hello = self.written(mode, version, suites)?;
        let (io, _) = self.open(address, mode).await?;
        match timeout(self.settings.timeouts.tls, hello::chain(io, &hello)).await {
            Ok(chain) => chain,
            Err(_late) => Err("the server is silent in the handshake".to_owned()),
        }
    }

    fn written(&self, mode: Mode, version: Version, suites: &[u16]) -> Result<Vec<u8>, String> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| format!("no random octets: {error}"))?;
        let alpn = (mode == Mode::Direct).then(|| Alpn::Server.octets());
        Ok(hello::write(version, suites, &self.domain.to_ascii(), alpn, random))
    }

    async fn hello(
        &self,
        address: SocketAddr,
        mode: Mode,
        version: Version,
        suites: &[u16],
    ) -> Result<Heard, String> {
        let hello = self.written(mode, version, suites)?;
        let (io, _) = self.open(address, mode).await?;
        match timeout(self.settings.timeouts.tls, hello::ask(io, &hello)).await {
            Ok(heard) => heard,
            Err(_late) => Err("the server is silent in the handshake".to_owned()),
        }
    }
}

/// Those that are asked for, each with all the suites that it knows: there is an end to these.
const VERSIONS: [Version; 4] = [Version::V13, Version::V12, Version::V11, Version::V10];
