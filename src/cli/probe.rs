//! `gatehouse probe`: reaches a domain as the gateway would, and tells in words how far it came and why not further.
//!
//! It sends stream headers and STARTTLS, reads what is offered, and closes. No key, no SASL, no stanza is sent.

mod backend;
mod checkup;
mod login;
mod report;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::talk::Talk;
use super::{Console, Exit, Format, Reporting, control, once};
use crate::config::{self, Settings};
use crate::dns::{DnsFault, Dnssec, Resolver, Share, TlsMode};
use crate::gateway::from_settings::{self, Credentials};
use crate::gateway::protocol::{Answer, Request};
use crate::jid::Domain;
use crate::net;
use crate::policy::{
    Federate, Finding, Identity, KeyDigest, Policy, Proxy, Question, ShownKey, Tls, Verdict,
};
use crate::reason::{Cause, Direction, Reason};
use crate::relay;
use crate::run::BoxIo;
use crate::run::posh::{Files, Reach};
use crate::run::ways::{self, Undialled, WayOut};
use crate::stream::dane::Published;
use crate::stream::evidence::Evidence;
use crate::stream::{Method, Pair, Secured, features, identity};
use crate::tls::{Connector, HandshakeFault, KeyKind, Mode};
use crate::xml::Content;
pub(super) use report::shown;
use report::{Place, Report};

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The remote domain; with --c2s, one that is hosted here
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// Look at the backend of a hosted domain, where it takes clients: could they log in through the gateway?
    #[arg(long, conflicts_with = "from")]
    c2s: bool,
    /// Look at the backend of a hosted domain on both sides: does it answer, and if not, what to change there?
    #[arg(long, conflicts_with_all = ["from", "c2s"])]
    backend: bool,
    /// Print the keys of the servers' certificates as a line for `pins:` of a rule, whatever the certificates are worth
    #[arg(long, conflicts_with_all = ["c2s", "backend"])]
    pin: bool,
    /// Go on although the policy refuses the domain: look before there is a rule
    #[arg(long, conflicts_with_all = ["c2s", "backend"])]
    anyway: bool,
    /// With --c2s: log in for real with the address in the first line of this file and the password in its second
    #[arg(long, value_name = "FILE", requires = "c2s")]
    account: Option<PathBuf>,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The hosted domain on whose behalf to ask; the first of the configuration if none is named
    #[arg(long, value_name = "DOMAIN")]
    from: Option<String>,
    #[command(flatten)]
    report: Reporting,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let remote = match once::federating(&args.domain, console) {
        Ok(remote) => remote,
        Err(exit) => return exit,
    };
    if args.backend {
        return checkup::main(&args.config, &remote, args.report.format, console);
    }
    if args.c2s {
        return backend::main(&args.config, &remote, args.account.as_deref(), args.report.format, console);
    }
    let probe = match Probe::prepare(args, remote) {
        Ok(probe) => probe,
        Err(findings) => {
            console.complain_of(&findings);
            return Exit::Config;
        }
    };
    let circuit = probe.circuit();
    let mut report = match once::look(probe.run(), console) {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    let pins: Vec<String> = report.keys.iter().map(|key| format!("\"{key}\"")).collect();
    report.pin = (args.pin && !pins.is_empty()).then(|| format!("pins: [{}]", pins.join(", ")));
    report.circuit = circuit;
    match args.report.format {
        Format::Json => console.json(&report),
        Format::Text => console.print(report.text(console)),
    }
    let done = match (args.pin, args.anyway) {
        (true, _) => report.pin.is_some(),
        (false, true) => report.reachable,
        (false, false) => report.reachable && report.allowed,
    };
    if done { Exit::Done } else { Exit::No }
}

struct Probe {
    settings: Settings,
    hosted: Domain,
    remote: Domain,
    policy: Policy,
    /// A key is to be printed for a rule that may not be written yet: the policy does not keep us from looking.
    pin: bool,
    /// There may be no rule yet.
    anyway: bool,
    connector: Connector,
    /// Those that take one kind of key alone.
    kinds: Vec<(KeyKind, Connector)>,
}

/// A channel once TLS stands.
struct Shaken {
    io: BoxIo,
    address: SocketAddr,
    secured: Secured,
}

/// Why an address was not seen as far as was to be.
enum Trouble {
    /// It did not come about for another reason than TLS, in words.
    Other(String),
    /// TLS did not come about.
    Tls(HandshakeFault),
}

impl Trouble {
    fn is_of_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(words) => f.write_str(words),
            Self::Tls(fault) => write!(f, "no TLS: {fault}"),
        }
    }
}

/// What the dialogue came to.
struct Met {
    address: SocketAddr,
    secured: Secured,
    offered: features::Offered,
    dialback: bool,
}

impl Probe {
    fn prepare(args: &Args, remote: Domain) -> Result<Self, Vec<Finding>> {
        let (settings, _warnings) = config::load(&args.config)?;
        let compiled = config::policies(&settings, super::today())?;
        let credentials = Credentials::read(&settings, &BTreeSet::new())?;
        let whole = |message: String, remedy: &str| {
            vec![Finding::error(crate::policy::Place::whole(&settings.file), message, remedy)]
        };
        let hosted = match &args.from {
            None => settings.default_domain.as_ref().or(settings.domains.first().map(|d| &d.name)).cloned(),
            Some(name) => Domain::parse(name).ok().filter(|d| compiled.policy.hosts(d)),
        };
        let Some(hosted) = hosted else {
            return Err(whole(
                "no such domain is hosted here".to_owned(),
                "name one of `domains` with --from",
            ));
        };
        let connector = Connector::new(credentials.connecting())
            .map_err(|e| whole(e.to_string(), "look at the certificate of this domain"))?;
        let only = |kind| Connector::only(kind, credentials.connecting().trust).map(|only| (kind, only));
        let kinds = KeyKind::ALL.into_iter().map(only).collect::<Result<_, _>>();
        let kinds = kinds.map_err(|e| whole(e.to_string(), "look at `trust`"))?;
        Ok(Self {
            pin: args.pin,
            anyway: args.anyway,
            hosted,
            remote,
            policy: compiled.policy,
            connector,
            kinds,
            settings,
        })
    }

    /// Whether the gateway that runs with this configuration leaves the domain alone at present, if one runs and tells.
    fn circuit(&self) -> Option<String> {
        let socket = self.settings.admin.socket.as_ref()?;
        let from = Some(self.hosted.to_string());
        let request = Request::Target { domain: self.remote.to_string(), from };
        match control::talk(socket, &request) {
            Ok(Answer::Target { failures, open, seconds, reason: Some(reason) }) => {
                let state = if open { "open" } else { "closed" };
                Some(format!(
                    "{state} after {failures} failures ({reason}), tried again with the first stanza in {seconds} s"
                ))
            }
            _ => None,
        }
    }

    async fn run(self) -> Report {
        let mut report =
            Report { from: self.hosted.to_string(), domain: self.remote.to_string(), ..Report::default() };
        // As the gateway does: the policy first, and a pair that it refuses costs no look-up (POL-04).
        let first = self.judge(Identity::Unproven, Tls::Unknown, None, ShownKey::Unknown);
        report.judged(&first);
        if first.reason == Reason::NotListed {
            report.nearest = self.policy.nearest(&self.remote).map(|nearest| nearest.to_string());
        }
        if !first.is_allow() && !self.pin && !self.anyway {
            report
                .trouble
                .push(format!("the policy refuses this domain before any look-up: {}", first.reason.words()));
            return report;
        }
        let own = self.settings.listeners.iter().map(|l| l.address).collect();
        let resolver = match Resolver::new(from_settings::resolver(&self.settings, own)) {
            Ok(resolver) => resolver,
            Err(fault) => {
                report.trouble.push(fault.to_string());
                return report;
            }
        };
        let ways = from_settings::ways(&self.settings);
        let rule = self.policy.way_out(&self.hosted, &self.remote);
        let way = ways::way_out(&ways, rule.as_deref(), &self.remote);
        let way = way.as_ref();
        report.via = way.map(|way| way.proxy.to_string());
        report.via_by = way.map(|_| if rule.is_some() { "rule" } else { "route" });
        let found = match way.and_then(WayOut::target) {
            Some(named) => Ok(vec![named]),
            None => resolver.targets(&self.remote).await,
        };
        let targets = match found {
            Ok(targets) => targets,
            Err(fault) => {
                let name = self.remote.to_ascii();
                let more = match fault {
                    DnsFault::NoDomain | DnsFault::NotFound => {
                        format!("`dig SRV _xmpp-server._tcp.{name}` shows what the name server says")
                    }
                    // SRV, addresses, TLSA: any of them.
                    _ => format!("`gatehouse grade {name}` tells of which record that is said"),
                };
                report.trouble.push(format!("{fault}; {more}"));
                return report;
            }
        };
        report.targets = targets.iter().map(Place::of).collect();
        for target in &targets {
            for address in &target.addresses {
                // DNS-05: as the gateway, which dials itself only where a route says so.
                if !target.routed && net::connect::is_ours(*address) {
                    report.trouble.push(format!(
                        "{address}: an address of this machine, which is dialled only by `dns: {{ routes: [..] }}`"
                    ));
                    continue;
                }
                let there = (target.mode, &*target.published);
                match self.visit(&resolver, way, *address, there).await {
                    Ok(mut met) => {
                        report.has_key(&met.secured);
                        if report.address.is_none() {
                            self.read_file(&resolver, (&ways, rule.as_deref()), &mut met.secured).await;
                            self.tell(&mut report, &met);
                        }
                        // A rule has to name the keys of all servers.
                        if !self.pin {
                            return report;
                        }
                    }
                    Err(trouble) => {
                        report.trouble.push(format!("{address}: {trouble}"));
                        if !self.pin || !trouble.is_of_tls() {
                            continue;
                        }
                    }
                }
                self.other_keys(&resolver, way, *address, there, &mut report).await;
            }
        }
        report
    }

    /// A server may have a certificate for each kind of key, and shows one of them: what it shows to those who take one kind alone.
    async fn other_keys(
        &self,
        resolver: &Resolver,
        way: Option<&WayOut>,
        address: SocketAddr,
        there: (TlsMode, &Published),
        report: &mut Report,
    ) {
        for (kind, connector) in &self.kinds {
            match self.shake(connector, resolver, way, address, there).await {
                Ok(shaken) => report.has_key(&shaken.secured),
                // It has none of that kind.
                Err(trouble) if trouble.is_of_tls() => {}
                Err(trouble) => report.trouble.push(format!(
                    "{address}: whether it has a certificate for {} was not seen: {trouble}",
                    kind.label()
                )),
            }
        }
    }

    fn judge(&self, identity: Identity, tls: Tls, address: Option<SocketAddr>, key: ShownKey) -> Verdict {
        let federate = Federate {
            hosted: &self.hosted,
            remote: &self.remote,
            direction: Direction::Outbound,
            identity,
            tls,
            address: address.map(|a| a.ip()),
            key,
        };
        self.policy.judge(&Question::Federate(federate), &mut ())
    }

    fn tell(&self, report: &mut Report, met: &Met) {
        report.reachable = true;
        report.address = Some(met.address);
        report.tls = Some(met.secured.version.label());
        report.external = met.offered.external;
        report.dialback = met.dialback;
        let certificate = met.secured.certificate.as_ref();
        let key = certificate.and_then(|shown| shown.key).map(KeyDigest::new);
        report.key = key.map(|key| key.to_string());
        // As the gateway does. CRT-13: towards a server that nothing proves, the policy must take dialback alone.
        let outbound = Pair { sender: self.hosted.clone(), target: self.remote.clone() };
        let (way, address) = (Direction::Outbound, Some(met.address.ip()));
        let (proof, verdict) = relay::shown_to(&self.policy, &outbound, way, Some(&met.secured), address);
        let method = proof.map(|proof| proof.method());
        report.proof = method.map(Method::label);
        for (proof, doubt) in relay::doubts(&self.policy, &outbound, way, Some(&met.secured)) {
            let off = doubt.cause == Cause::NoTlsa && self.settings.dns.dnssec == Dnssec::Off;
            let more = if off { "; nobody looks at signatures here (`dns: { dnssec: off }`)" } else { "" };
            report.not_proven.push(format!("{proof}: {doubt}{more}"));
        }
        let proven_apart = matches!(method, Some(Method::Pin | Method::Dane | Method::Posh));
        match certificate {
            None => report.chain = Some("no certificate".to_owned()),
            Some(certificate) => {
                report.names = certificate.names.iter().map(shown).collect();
                let trusted = identity::trusted_for(certificate, &self.remote);
                let speaks = identity::speaks_for(certificate, &self.remote);
                report.chain =
                    Some(trusted.map_or_else(|fault| fault.label().to_owned(), |()| "trusted".to_owned()));
                if let Some(fault) = trusted.err().filter(|_| !proven_apart) {
                    report
                        .trouble
                        .push(format!("the server's certificate is not trusted ({})", fault.label()));
                }
                if !speaks && !proven_apart {
                    report.trouble.push(format!("the server's certificate does not name {}", self.remote));
                }
            }
        }
        if !met.offered.external && !met.dialback {
            report.reachable = false;
            report.trouble.push(
                "neither EXTERNAL nor dialback is offered: the server does not trust our certificate, or has federation off"
                    .to_owned(),
            );
        }
        report.judged(&verdict);
        if !verdict.is_allow() {
            report
                .trouble
                .push(format!("the policy refuses the server as it is: {}", verdict.reason.words()));
        }
    }

    /// What the domain publishes by HTTPS about the certificate, where the rule takes that (DNS-16). A file is read also where a
    /// stronger proof is there: whoever looks wants to know.
    async fn read_file(
        &self,
        resolver: &Resolver,
        (ways, via): (&ways::WaysOut, Option<&Proxy>),
        secured: &mut Secured,
    ) {
        let first = self.judge(Identity::Unproven, Tls::Unknown, None, ShownKey::Unknown);
        let takes = first.permit().is_some_and(|permit| permit.takes_posh());
        let Some(shown) = secured.certificate.clone().filter(|_| takes) else { return };
        let (dial, sources) = (from_settings::dial(&self.settings), from_settings::sources(&self.settings));
        let reach = Reach {
            resolver,
            ways,
            via,
            dial: &dial,
            sources: sources.get(&self.hosted).map_or(&[], Vec::as_slice),
            trust: self.connector.trust(),
            share: Share::Own,
        };
        let posh = Files::default().judge(&self.remote, &shown, &reach).await;
        let known = secured.evidence(&self.remote).cloned();
        let known = known.unwrap_or_else(|| Evidence::none(self.remote.clone()));
        secured.attest(Evidence { posh, ..known });
    }

    /// Connects as the gateway would: on the way out of that domain, from the address of ours.
    async fn dial(
        &self,
        resolver: &Resolver,
        way: Option<&WayOut>,
        address: SocketAddr,
    ) -> Result<net::connect::Dialled, Undialled> {
        let mut dialling = from_settings::dial(&self.settings);
        if way.is_none() {
            dialling.sources =
                from_settings::sources(&self.settings).remove(&self.hosted).unwrap_or_default();
        }
        ways::dial(way, resolver, &[address], &dialling).await
    }

    /// Goes as far as TLS.
    async fn shake(
        &self,
        connector: &Connector,
        resolver: &Resolver,
        way: Option<&WayOut>,
        address: SocketAddr,
        (mode, published): (TlsMode, &Published),
    ) -> Result<Shaken, Trouble> {
        let times = &self.settings.timeouts;
        let net::connect::Dialled { stream, address, .. } =
            self.dial(resolver, way, address).await.map_err(|fault| {
                let words = fault.to_string();
                let words = words.strip_prefix(&format!("{address}: ")).unwrap_or(&words);
                let guess = match &fault {
                    Undialled::Proxy(fault) if fault.is_of_login() => Reason::ProxyLogin.remedy(),
                    Undialled::Proxy(_) => "look at the proxy, and at what it may reach",
                    Undialled::Straight(_) => "the server is down there, or a firewall is in between",
                };
                Trouble::Other(format!("no connection ({words}): {guess}"))
            })?;
        let mut plain = Talk::new(Box::new(stream), Content::Server, times.unauth);
        let mode = match mode {
            TlsMode::Direct => Mode::Direct,
            TlsMode::Starttls => {
                plain.starttls(Some(&self.hosted), &self.remote).await.map_err(Trouble::Other)?;
                Mode::Starttls
            }
        };
        let remote = (&self.remote, published);
        let handshake = connector.connect(plain.io, Some(&self.hosted), remote, mode);
        match tokio::time::timeout(times.tls, handshake).await {
            Ok(Ok((stream, secured))) => Ok(Shaken { io: Box::new(stream), address, secured }),
            Ok(Err(fault)) => Err(Trouble::Tls(fault)),
            Err(_late) => Err(Trouble::Other("no TLS: the server is silent in the handshake".to_owned())),
        }
    }

    /// Goes as far as the features after TLS.
    async fn visit(
        &self,
        resolver: &Resolver,
        way: Option<&WayOut>,
        address: SocketAddr,
        there: (TlsMode, &Published),
    ) -> Result<Met, Trouble> {
        let shaken = self.shake(&self.connector, resolver, way, address, there).await?;
        let Shaken { io, address, secured } = shaken;
        let mut talk = Talk::new(io, Content::Server, self.settings.timeouts.unauth);
        let (header, offered) = talk
            .greet(Some(&self.hosted), &self.remote)
            .await
            .map_err(|trouble| Trouble::Other(format!("behind the TLS handshake: {trouble}")))?;
        // Good manners; what the server answers does not matter any more.
        let _closed = talk.say(b"</stream:stream>").await;
        Ok(Met { address, secured, offered, dialback: offered.dialback || header.dialback })
    }
}
