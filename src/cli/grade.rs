//! `gatehouse grade`: how a domain looks from outside, as a public observatory would tell it, and what to do about each line.
//!
//! It asks the DNS, opens streams as an unproven peer that names no domain of its own, begins TLS and closes. No key is shown, nobody logs
//! in, no stanza is sent. The guard of the resolver holds as for peers, but for addresses of the gateway itself.

mod certificate;
mod hello;
mod names;
mod protocols;
mod publish;
mod report;
mod site;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use names::dns_advice;
use report::Report;
use rustls_pki_types::UnixTime;
use site::{Met, Site, Trouble};
use tokio::time::{timeout, timeout_at};

use super::talk::Talk;
use super::{Console, Exit, Format, Reporting, once};
use crate::config::{self, Settings};
use crate::dns::{self, Led, Resolver, Share};
use crate::gateway::from_settings::{self, Credentials};
use crate::jid::Domain;
use crate::net;
use crate::policy::{Finding, Place};
use crate::reason::Cause;
use crate::run::observe::capped;
use crate::run::posh::{Files, Reach};
use crate::run::{BoxIo, now};
use crate::stream::dane::Published;
use crate::stream::evidence::Posh;
use crate::stream::identity;
use crate::tls::keys::{self, Coming};
use crate::tls::{self, Connector, KeyKind, Mode};
use crate::xml::Content;

/// Arguments of `grade`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The domain, one that is hosted here or any other
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// The configuration: its resolver, its roots, its timeouts
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The next certificate, or the next private key, in PEM: print what to publish before the change, and tell whether it is there
    #[arg(long, value_name = "FILE")]
    next: Option<PathBuf>,
    /// For how long to look in all; what was not got to by then is told
    #[arg(long, value_name = "TIME", value_parser = config::duration, default_value = "2m")]
    within: Duration,
    #[command(flatten)]
    report: Reporting,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let domain = match once::federating(&args.domain, console) {
        Ok(domain) => domain,
        Err(exit) => return exit,
    };
    let next = match args.next.as_deref().map(keys::coming).transpose() {
        Ok(next) => next,
        Err(fault) => {
            console.complain(format_args!("error: {fault}"));
            return Exit::Config;
        }
    };
    let grade = match Grade::prepare(args, domain, next) {
        Ok(grade) => grade,
        Err(findings) => {
            console.complain_of(&findings);
            return Exit::Config;
        }
    };
    let report = match once::look(grade.run(args.within), console) {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    match args.report.format {
        Format::Json => console.json(&report),
        Format::Text => console.print(report.text(console)),
    }
    if report.todo == 0 { Exit::Done } else { Exit::No }
}

struct Grade {
    settings: Settings,
    domain: Domain,
    next: Option<Coming>,
    resolver: Resolver,
    connector: Connector,
    /// Those that take one kind of key alone: a server may have a certificate for each.
    kinds: Vec<(KeyKind, Connector)>,
}

/// The time that there is, and what there was none for.
struct Time {
    until: Instant,
    missed: Vec<String>,
}

impl Time {
    /// What comes of looking at this, if there is time for it; what was found of it until then is told all the same.
    async fn look<T: Default>(&mut self, what: &str, looking: impl Future<Output = T>) -> T {
        let found = match self.until <= now() {
            true => None,
            false => timeout_at(self.until.into(), looking).await.ok(),
        };
        found.unwrap_or_else(|| {
            self.missed.push(what.to_owned());
            T::default()
        })
    }
}

/// A place where the domain says that its server is.
struct Spot {
    led: Led,
    mode: Mode,
    /// The way to it stands under signatures.
    secure: bool,
}

impl Grade {
    fn prepare(args: &Args, domain: Domain, next: Option<Coming>) -> Result<Self, Vec<Finding>> {
        let (settings, _warnings) = config::load(&args.config)?;
        let credentials = Credentials::read(&settings, &BTreeSet::new())?;
        let whole = |message: String, remedy: &str| {
            vec![Finding::error(Place::whole(&settings.file), message, remedy)]
        };
        // As the world sees it: no routes, and our own addresses are what is looked for.
        let mut params = dns::Params {
            routes: Vec::new(),
            hosted: Vec::new(),
            ..from_settings::resolver(&settings, Vec::new())
        };
        params.guard.own_addresses = Vec::new();
        let resolver = Resolver::new(params).map_err(|fault| whole(fault.to_string(), "look at `dns:`"))?;
        let connector = Connector::new(credentials.connecting())
            .map_err(|fault| whole(fault.to_string(), "look at the certificates of `domains`"))?;
        let only = |kind| Connector::only(kind, credentials.connecting().trust).map(|only| (kind, only));
        let kinds = KeyKind::ALL.into_iter().map(only).collect::<Result<_, _>>();
        let kinds = kinds.map_err(|fault| whole(fault.to_string(), "look at `trust`"))?;
        Ok(Self { settings, domain, next, resolver, connector, kinds })
    }

    async fn run(self, within: Duration) -> Report {
        let mut report = Report { domain: self.domain.to_string(), ..Report::default() };
        let mut time = Time { until: now() + within, missed: Vec::new() };
        let mut spots =
            time.look("where its servers are (SRV), and what they show", self.servers(&mut report)).await;
        time.look("where clients find it (SRV)", self.clients(&mut report)).await;
        time.look("CAA", self.caa(&mut report)).await;
        let mut known = BTreeSet::new();
        spots.retain(|spot| known.insert((spot.led.host.clone(), spot.led.port, spot.mode)));
        let left = spots.split_off(spots.len().min(SPOTS));
        report.unseen("SRV", left.iter().map(|spot| shown(&spot.led)), 0);
        let mut sites = Vec::new();
        for spot in &spots {
            time.look(&shown(&spot.led), self.spot(spot, &mut sites, &mut report)).await;
        }
        let looked = self.settings.dns.dnssec != dns::Dnssec::Off;
        for site in &sites {
            site.tell(&self.domain, self.next.as_ref(), looked, &mut report);
        }
        if let Some(next) = &self.next {
            let lenient = sites.iter().flat_map(|site| &site.met).any(|met| met.by_dane_alone(&self.domain));
            certificate::coming(next, (&self.domain, self.connector.trust()), lenient, &mut report);
        }
        let met: Vec<&Met> = sites.iter().flat_map(|site| &site.met).collect();
        time.look("POSH", self.file(&met, &mut report)).await;
        report.missed(time.missed, within);
        report
    }

    /// One place: its addresses, what they show, and what the DNS says of that.
    async fn spot(&self, spot: &Spot, sites: &mut Vec<Site>, report: &mut Report) {
        let Led { host, port } = &spot.led;
        let place = shown(&spot.led);
        let told = match self.resolver.all_addresses(host, *port).await {
            Ok(told) => told,
            Err(fault) => {
                let advice = dns_advice(fault, &format!("A {host}"));
                report.todo("address", format!("{place}: {}", names::words(fault)), advice);
                return;
            }
        };
        if told.values.is_empty() {
            report.todo(
                "address",
                format!("{place}: the host has none"),
                "publish A or AAAA for it, or take the SRV record away",
            );
            return;
        }
        let known = sites.iter().position(|site| site.led == spot.led);
        if known.is_none() {
            let records = self.resolver.tlsa(host, *port).await;
            sites.push(Site::new(spot.led.clone(), spot.secure && told.secure, records));
        }
        let index = known.unwrap_or(sites.len() - 1);
        let Some(site) = sites.get_mut(index) else { return };
        let mut scanned = None;
        for address in told.values.iter().take(ADDRESSES) {
            if !self.resolver.may_dial(*address) {
                self.forbidden(*address, &place, report);
                continue;
            }
            if self.address(*address, spot.mode, site, report).await {
                scanned = scanned.or(Some(*address));
            }
        }
        let left = told.values.iter().skip(ADDRESSES).map(|address| format!("{place} ({address})"));
        report.unseen("address", left, told.more);
        if let Some(address) = scanned {
            self.protocols(address, spot.mode, &place, report).await;
        }
    }

    fn forbidden(&self, address: SocketAddr, place: &str, report: &mut Report) {
        let public = self.resolver.may_dial(SocketAddr::new(address.ip(), PLAIN));
        match public {
            true => report.todo(
                "address",
                format!("{place}: {address} is public, and its port is below 1024 and neither 443 nor {PLAIN}: gateways like this one do not call there"),
                "have the server listen at a port from 1024 on, at 443 or at 5269, and publish that",
            ),
            false => report.todo(
                "address",
                format!("{place}: {address} is none that the world can call"),
                "publish the public address; where this resolver answers otherwise than the world's, look from outside",
            ),
        }
    }

    /// What an address shows to whoever takes any key, and then to those that take one kind alone. Whether it speaks TLS there at all.
    async fn address(&self, address: SocketAddr, mode: Mode, site: &mut Site, report: &mut Report) -> bool {
        let (place, published) = (shown(&site.led), site.published());
        let first = site.met.len();
        let mut told = BTreeSet::new();
        let mut kinds = self.kinds.as_slice();
        match self.visit(&self.connector, address, mode, &published).await {
            Ok(met) => {
                if met.optional {
                    report.note(
                        "STARTTLS",
                        format!("{place} ({address}): offered, and not required"),
                        "have the server require it: what is not required may be left away by whoever stands in between",
                    );
                }
                site.met.push(met);
            }
            Err(trouble) => {
                report.todo("address", format!("{place}: {address}: {trouble}"), trouble.advice());
                if !trouble.is_of_tls() {
                    return false;
                }
                told.insert(trouble.to_string());
                kinds = if trouble.is_odd_key() { kinds } else { &[] };
            }
        }
        for (kind, connector) in kinds {
            if site.met.iter().skip(first).any(|met| met.kind == Some(*kind)) {
                continue;
            }
            match self.visit(connector, address, mode, &published).await {
                Ok(met) => {
                    let mut known = site.met.iter().skip(first);
                    if !known.any(|known| known.certificate.fingerprint == met.certificate.fingerprint) {
                        site.met.push(met);
                    }
                }
                Err(trouble) if trouble.is_odd_key() => {
                    if told.insert(trouble.to_string()) {
                        report.todo("address", format!("{place}: {address}: {trouble}"), trouble.advice());
                    }
                }
                Err(trouble) if trouble.is_of_tls() => {}
                Err(trouble) => report.note(
                    "address",
                    format!(
                        "{place}: {address}: whether it has a certificate for {} was not seen: {trouble}",
                        kind.label()
                    ),
                    "look again later: a limit of the server may have come in between",
                ),
            }
        }
        if site.met.len() == first {
            self.in_clear(address, mode, site, report).await;
        }
        let shown = site.met.get(first..).unwrap_or_default();
        for met in shown {
            let at = match shown {
                [_] => format!("{place} ({address})"),
                _ => format!("{place} ({})", met.called()),
            };
            let dane = met.is_proven();
            certificate::tell(&met.certificate, (&self.domain, self.connector.trust()), &at, dane, report);
        }
        true
    }

    /// What an address shows that nobody should agree with: what is wrong with its TLS does not hide what else there is to do.
    async fn in_clear(&self, address: SocketAddr, mode: Mode, site: &mut Site, report: &mut Report) {
        let (place, published, now) = (shown(&site.led), site.published(), UnixTime::now());
        for chain in self.shown_in_clear(address, mode).await {
            let Some(certificate) = self.connector.trust().describe(&chain, now) else { continue };
            let dane = tls::dane::judge(&published, Some(&certificate), &self.domain, now);
            report.note(
                "certificate",
                format!("{place}: {address}: read from a handshake that was not finished: that the server holds its key was not seen"),
                "the lines of its chain, names and records hold all the same",
            );
            site.met.push(Met::new(address, certificate, dane, false));
        }
    }

    /// What the domain says by HTTPS of its certificate.
    async fn file(&self, met: &[&Met], report: &mut Report) {
        if met.is_empty() {
            return;
        }
        let next = self.next.as_ref();
        let mut certificates: Vec<&[u8]> = Vec::new();
        let current = met.iter().filter_map(|met| met.certificate.chain.certificates().next());
        for der in current.chain(next.and_then(|next| next.certificate.as_deref())) {
            if !certificates.contains(&der) {
                certificates.push(der);
            }
        }
        report.posh = publish::posh(&self.domain, &certificates);
        let (ways, dial) = (from_settings::ways(&self.settings), from_settings::dial(&self.settings));
        let reach = Reach {
            resolver: &self.resolver,
            ways: &ways,
            via: None,
            dial: &dial,
            sources: &[],
            trust: self.connector.trust(),
            share: Share::Own,
        };
        let files = Files::default();
        let trusted = met.iter().all(|met| identity::trusted_for(&met.certificate, &self.domain).is_ok());
        for seen in met {
            match files.judge(&self.domain, &seen.certificate, &reach).await {
                Posh::Proven => {
                    report.good("POSH", format!("published, and names what {} shows", seen.called()))
                }
                Posh::Unasked => {}
                Posh::Not(detail) if detail.cause == Cause::PoshNotFetched => {
                    let advice = match trusted {
                        true => "nothing is needed: the certificate is trusted without it",
                        false => "publish the file below, where peers take POSH and no DANE",
                    };
                    report.note("POSH", format!("none: {detail}"), advice);
                    break;
                }
                Posh::Not(detail) => report.todo(
                    "POSH",
                    format!("published, and proves nothing for {}: {detail}", seen.called()),
                    "publish the file below in its place, or take it away",
                ),
            }
        }
        if next.is_some_and(|next| next.certificate.is_none()) {
            report.note(
                "POSH",
                "the next key has no certificate yet",
                "give the certificate with --next when it is issued: the file names certificates",
            );
        }
    }

    /// A channel as far as the octet before TLS; and whether it could be left at that.
    async fn open(&self, address: SocketAddr, mode: Mode) -> Result<(BoxIo, bool), String> {
        let dialled = net::connect(&[address], &from_settings::dial(&self.settings)).await;
        let stream = dialled.map_err(|fault| format!("no connection ({fault})"))?.stream;
        let mut talk = Talk::new(Box::new(stream), Content::Server, self.settings.timeouts.unauth);
        let optional = match mode {
            Mode::Direct => false,
            Mode::Starttls => !talk.starttls(None, &self.domain).await?.starttls_required,
        };
        Ok((talk.io, optional))
    }

    async fn visit(
        &self,
        connector: &Connector,
        address: SocketAddr,
        mode: Mode,
        published: &Published,
    ) -> Result<Met, Trouble> {
        let (io, optional) = self.open(address, mode).await.map_err(Trouble::Before)?;
        let handshake = connector.connect(io, None, (&self.domain, published), mode);
        match timeout(self.settings.timeouts.tls, handshake).await {
            Err(_late) => Err(Trouble::Silent),
            Ok(Err(fault)) => Err(Trouble::Tls(fault)),
            Ok(Ok((_stream, secured))) => match secured.certificate.clone() {
                Some(certificate) => {
                    let dane = secured.dane(&self.domain);
                    Ok(Met::new(address, certificate, dane, optional))
                }
                None => Err(Trouble::Before("it shows no certificate".to_owned())),
            },
        }
    }
}

fn shown(led: &Led) -> String {
    match led.host.as_str() {
        "" => "no such service".to_owned(),
        host => format!("{}:{}", capped(host), led.port),
    }
}

/// Servers that are looked at.
const SPOTS: usize = 16;
/// Addresses of a host that are called.
const ADDRESSES: usize = 4;
/// A port that may be called wherever the address may.
const PLAIN: u16 = 5269;
