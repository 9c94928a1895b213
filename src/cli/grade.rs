//! `gatehouse grade`: how a domain looks from outside, as a public observatory would tell it, and what to do about each line.
//!
//! It asks the DNS, opens streams as a stranger that names no domain of its own, begins TLS and closes. No key is shown, nobody logs
//! in, no stanza is sent. The guard of the resolver holds as for peers, but for addresses of the gateway itself.

mod hello;
mod names;
mod protocols;
mod publish;
mod report;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use names::dns_advice;
use report::Report;
use tokio::time::{timeout, timeout_at};

use super::talk::Talk;
use super::{Console, Exit, Format, once};
use crate::config::{self, Settings};
use crate::dns::{self, DnsFault, Led, Resolver, Share, Told};
use crate::gateway::parts::{self, Credentials};
use crate::jid::Domain;
use crate::net;
use crate::policy::{Finding, Place};
use crate::reason::Cause;
use crate::run::observe::capped;
use crate::run::posh::{Files, Reach};
use crate::run::{BoxIo, now};
use crate::stream::dane::{Association, Dane, Published};
use crate::stream::evidence::Posh;
use crate::stream::secured::Certificate;
use crate::stream::{Secured, identity};
use crate::tls::keys::{self, Coming};
use crate::tls::{Connector, Mode};
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
    /// The form of the report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
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
    match args.format {
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

/// What a server has shown.
struct Met {
    address: SocketAddr,
    certificate: Certificate,
    secured: Secured,
}

impl Grade {
    fn prepare(args: &Args, domain: Domain, next: Option<Coming>) -> Result<Self, Vec<Finding>> {
        let (settings, _warnings) = config::load(&args.config)?;
        let credentials = Credentials::read(&settings, &BTreeSet::new())?;
        let whole = |message: String, remedy: &str| {
            vec![Finding::error(Place::whole(&settings.file), message, remedy)]
        };
        // As the world sees it: no routes, and our own addresses are what is looked for.
        let mut params =
            dns::Params { routes: Vec::new(), hosted: Vec::new(), ..parts::resolver(&settings, Vec::new()) };
        params.guard.own_addresses = Vec::new();
        let resolver = Resolver::new(params).map_err(|fault| whole(fault.to_string(), "look at `dns:`"))?;
        let connector = Connector::new(credentials.connecting())
            .map_err(|fault| whole(fault.to_string(), "look at the certificates of `domains`"))?;
        Ok(Self { settings, domain, next, resolver, connector })
    }

    async fn run(self, within: Duration) -> Report {
        let mut report = Report { domain: self.domain.to_string(), ..Report::default() };
        let mut time = Time { until: now() + within, missed: Vec::new() };
        let spots =
            time.look("where its servers are (SRV), and what they show", self.servers(&mut report)).await;
        time.look("where clients find it (SRV)", self.clients(&mut report)).await;
        time.look("CAA", self.caa(&mut report)).await;
        let (mut met, mut looked) = (Vec::new(), BTreeSet::new());
        for spot in spots.iter().take(SPOTS) {
            met.extend(time.look(&shown(&spot.led), self.spot(spot, &mut looked, &mut report)).await);
        }
        time.look("POSH", self.file(&met, &mut report)).await;
        report.missed(time.missed, within);
        report
    }

    /// One place: its addresses, what they show, and what the DNS says of that.
    async fn spot(&self, spot: &Spot, looked: &mut BTreeSet<(String, u16)>, report: &mut Report) -> Vec<Met> {
        let Led { host, port } = &spot.led;
        let place = shown(&spot.led);
        let told = match self.resolver.all_addresses(host, *port).await {
            Ok(told) => told,
            Err(fault) => {
                report.todo("address", format!("{place}: {fault}"), dns_advice(fault, &format!("A {host}")));
                return Vec::new();
            }
        };
        if told.values.is_empty() {
            report.todo(
                "address",
                format!("{place}: the host has none"),
                "publish A or AAAA for it, or take the SRV record away",
            );
            return Vec::new();
        }
        let secure = spot.secure && told.secure;
        let records = self.resolver.tlsa(host, *port).await;
        let usable: Vec<_> = match &records {
            Ok(told) => told.values.iter().flatten().cloned().collect(),
            Err(_) => Vec::new(),
        };
        let counts = secure && records.as_ref().is_ok_and(|told| told.secure);
        let published = Published {
            host: secure.then(|| host.as_str().into()),
            associations: if counts { usable.clone() } else { Vec::new() },
        };
        let mut met: Vec<Met> = Vec::new();
        for address in told.values.iter().take(ADDRESSES) {
            if !self.resolver.may_dial(*address) {
                report.todo(
                    "address",
                    format!("{place}: {address} is none that the world can call"),
                    "publish the public address; where this resolver answers otherwise than the world's, look from outside",
                );
                continue;
            }
            match self.visit(*address, spot.mode, &published).await {
                Ok(seen) => met.push(seen),
                Err(trouble) => report.todo(
                    "address",
                    format!("{place}: {address}: {trouble}"),
                    "is the gateway up, and does the firewall let the world call this port?",
                ),
            }
        }
        for seen in &met {
            self.certificate(seen, &place, report);
        }
        if let Some(first) = met.first() {
            self.protocols(first.address, spot.mode, &place, report).await;
        }
        if looked.insert((host.clone(), *port)) {
            self.tlsa(spot, secure, &records, &usable, &met, report);
        }
        met
    }

    fn certificate(&self, met: &Met, place: &str, report: &mut Report) {
        let Met { address, certificate, .. } = met;
        let dane = matches!(met.secured.dane(&self.domain), Dane::Proven(_));
        let at = format!("{place} ({address})");
        match identity::trusted_for(certificate, &self.domain) {
            Ok(()) => report.good("chain", format!("{at}: trusted, issued by {}", certificate.issuer)),
            Err(fault) if dane => report.note(
                "chain",
                format!("{at}: not trusted ({}), and proven by its TLSA record", fault.label()),
                "peers that do not look at DANE need a certificate of a public authority, or a pin",
            ),
            Err(fault) => report.todo(
                "chain",
                format!("{at}: not trusted ({})", fault.label()),
                "take a certificate of an authority in `trust: roots`, and put its intermediates into `chain`",
            ),
        }
        let names: Vec<String> = certificate.names.iter().map(super::probe::shown).collect();
        let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
        match identity::speaks_for(certificate, &self.domain) {
            true => report.good("names", format!("{at}: {names}")),
            false if dane => {
                report.note("names", format!("{at}: {names}"), format!("have it name {}, too", self.domain))
            }
            false => report.todo(
                "names",
                format!("{at}: {names}"),
                format!("have a certificate issued that names {}", self.domain),
            ),
        }
        let days = (certificate.not_after - super::unix_seconds()).div_euclid(86_400);
        match days {
            ..0 => report.todo("days left", format!("{at}: expired"), "renew it now"),
            0..SOON => report.todo(
                "days left",
                format!("{at}: {days}"),
                "renew it now: what renews it by itself has not",
            ),
            _ => report.good("days left", format!("{at}: {days}")),
        }
    }

    /// What the DNS says of the key, and what it should say.
    fn tlsa(
        &self,
        spot: &Spot,
        secure: bool,
        records: &Result<Told<Option<Association>>, DnsFault>,
        usable: &[Association],
        met: &[Met],
        report: &mut Report,
    ) {
        let Led { host, port } = &spot.led;
        let place = shown(&spot.led);
        let current =
            met.iter().find_map(|met| met.certificate.chain.certificates().next().and_then(Coming::of));
        for (key, of) in [("current", &current), ("next", &self.next)] {
            let record = of.as_ref().map(|of| publish::tlsa(host, *port, &of.key));
            report.tlsa.extend(record.map(|record| report::Record { key, record }));
        }
        let told = match records {
            Ok(told) => told,
            Err(fault) => {
                report.todo(
                    "TLSA",
                    format!("{place}: {fault}: whoever looks at DANE does not call"),
                    dns_advice(*fault, &format!("TLSA _{port}._tcp.{host}")),
                );
                return;
            }
        };
        if self.settings.dns.dnssec == dns::Dnssec::Off {
            report.note(
                "TLSA",
                format!("{place}: {} published; whether they count was not looked at", told.values.len()),
                "switch `dns: { dnssec }` on, and look again",
            );
            return;
        }
        let advice = match current {
            Some(_) => "publish the record below for the current key",
            None => "look again when the server can be reached: its record is printed then",
        };
        match (told.values.len(), secure) {
            (0, true) => {
                report.todo("TLSA", format!("{place}: none, though the way there is signed"), advice)
            }
            (0, false) => report.note(
                "TLSA",
                format!("{place}: none"),
                "sign the zone first: without signatures it counts for nobody",
            ),
            (_, false) => report.note(
                "TLSA",
                format!(
                    "{place}: {} published, without signatures: they count for nobody",
                    told.values.len()
                ),
                "sign the zone of the domain and that of the host",
            ),
            (_, true) if !told.secure => report.note(
                "TLSA",
                format!("{place}: published without signatures: they count for nobody"),
                "sign the zone that they stand in",
            ),
            (_, true) if usable.is_empty() => {
                report.todo("TLSA", format!("{place}: none that can be used"), advice)
            }
            (many, true) => {
                let failing =
                    met.iter().find(|met| !matches!(met.secured.dane(&self.domain), Dane::Proven(_)));
                match failing {
                    Some(met) => report.todo(
                        "TLSA",
                        format!("{place}: {many} published, and none fits what {} shows: whoever looks at DANE refuses it", met.address),
                        format!("{advice} at once, and take away what fits no key"),
                    ),
                    None if met.is_empty() => {}
                    None => report.good("TLSA", format!("{place}: {many} published, and fit")),
                }
            }
        }
        if let Some(next) = self.next.as_ref().filter(|_| secure && told.secure) {
            match publish::lists(usable, next) {
                true => report.good("TLSA", format!("{place}: the next key is published, too")),
                false => report.todo(
                    "TLSA",
                    format!("{place}: the next key is not published"),
                    "publish its record below beside the current one, and change the key when the TTL of the old answer has passed twice",
                ),
            }
        }
    }

    /// What the domain says by HTTPS of its certificate.
    async fn file(&self, met: &[Met], report: &mut Report) {
        let Some(first) = met.first() else { return };
        let next = self.next.as_ref();
        let current = first.certificate.chain.certificates().next();
        let certificates: Vec<&[u8]> =
            current.into_iter().chain(next.and_then(|next| next.certificate.as_deref())).collect();
        report.posh = publish::posh(&self.domain, &certificates);
        let (ways, dial) = (parts::ways(&self.settings), parts::dial(&self.settings));
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
        for seen in met {
            match files.judge(&self.domain, &seen.certificate, &reach).await {
                Posh::Proven => {
                    report.good("POSH", format!("published, and names what {} shows", seen.address))
                }
                Posh::Unasked => {}
                Posh::Not(detail) if detail.cause == Cause::PoshNotFetched => {
                    let chain = identity::trusted_for(&seen.certificate, &self.domain).is_ok();
                    let advice = match chain {
                        true => "nothing is needed: the certificate is trusted without it",
                        false => "publish the file below, where peers take POSH and no DANE",
                    };
                    report.note("POSH", format!("none: {detail}"), advice);
                    break;
                }
                Posh::Not(detail) => report.todo(
                    "POSH",
                    format!("published, and proves nothing for {}: {detail}", seen.address),
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

    /// A channel as far as the octet before TLS.
    async fn open(&self, address: SocketAddr, mode: Mode) -> Result<BoxIo, String> {
        let dialled = net::connect(&[address], &parts::dial(&self.settings)).await;
        let stream = dialled.map_err(|fault| format!("no connection ({fault})"))?.stream;
        let mut talk = Talk::new(Box::new(stream), Content::Server, self.settings.timeouts.unauth);
        if mode == Mode::Starttls {
            talk.starttls(None, &self.domain).await?;
        }
        Ok(talk.io)
    }

    async fn visit(&self, address: SocketAddr, mode: Mode, published: &Published) -> Result<Met, String> {
        let io = self.open(address, mode).await?;
        let handshake = self.connector.connect(io, None, (&self.domain, published), mode);
        match timeout(self.settings.timeouts.tls, handshake).await {
            Err(_late) => Err("no TLS: the server is silent in the handshake".to_owned()),
            Ok(Err(fault)) => Err(format!("no TLS: {fault}")),
            Ok(Ok((_stream, secured))) => match secured.certificate.clone() {
                Some(certificate) => Ok(Met { address, certificate, secured }),
                None => Err("it shows no certificate".to_owned()),
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

/// SRV records whose servers are looked at.
const SPOTS: usize = 8;
/// Addresses of a host that are called.
const ADDRESSES: usize = 4;
/// Days before the end of a certificate when something should have been done already.
const SOON: i64 = 14;
