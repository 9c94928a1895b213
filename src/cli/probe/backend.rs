//! `gatehouse probe --c2s`: whether clients could log in at a backend through the gateway, and if not, what to change there.
//!
//! It opens streams to each address as the gateway would for a client, reads what is offered, and plays the exchanges as far as they
//! go: for an account that nobody has, broken off before anything is proven, or, with `--account`, for one that is there, to the
//! bind and out again. What cannot be seen without an account is said. No stanza is sent but the bind.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::super::{Console, Exit, Format, once, served};
use super::Talk;
use super::login::{self, Account, Flag, Heard, Scram};
use crate::config::Settings;
use crate::config::settings::{HostedDomain, ProxyVersion};
use crate::gateway::from_settings;
use crate::jid::Domain;
use crate::net::{self, proxy};
use crate::reason::{Flow, Reason};
use crate::run::checkup::{self, Ailment, ServerSoftware};
use crate::stream::client::signed::Signed;
use crate::stream::client::{Cause, ClientOffer, Mechanism, Profile, Rules, features};
use crate::xml::{Content, Element, Header, Token, names};

/// What was found at each address.
#[derive(Debug, Default, Serialize)]
struct Report {
    domain: String,
    addresses: Vec<Seen>,
    /// Whether clients can log in at one address at least, and at every one that answers.
    usable: bool,
}

#[derive(Debug, Serialize)]
struct Seen {
    address: SocketAddr,
    answers: bool,
    /// The mechanisms that clients are offered: in the words of RFC 6120, and in those of XEP-0388.
    mechanisms: Vec<&'static str>,
    mechanisms_sasl2: Vec<&'static str>,
    /// What became of each exchange.
    exchanges: Vec<String>,
    /// What would break logins, and what to do about it.
    trouble: Vec<String>,
    /// What could not be seen.
    unseen: Vec<String>,
}

/// What it takes to visit an address.
struct Visit<'a> {
    settings: &'a Settings,
    hosted: &'a HostedDomain,
    account: Option<&'a Account>,
    address: SocketAddr,
    rules: Rules,
}

pub(super) fn main(
    file: &Path,
    domain: &Domain,
    account: Option<&Path>,
    format: Format,
    console: &mut Console,
) -> Exit {
    let Some(settings) = served::settings(file, console) else { return Exit::Config };
    let Some(hosted) = served::hosted(&settings, domain, console) else { return Exit::Config };
    let account =
        match account.map(|file| Account::read(file, domain).map_err(|fault| (file, fault))).transpose() {
            Ok(account) => account,
            Err((file, fault)) => {
                console.complain(format_args!("{}: {fault}", file.display()));
                return Exit::Config;
            }
        };
    let report = match once::look(probe(&settings, hosted, account.as_ref()), console) {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    match format {
        Format::Json => console.json(&report),
        Format::Text => console.print(report.text(console)),
    }
    if report.usable { Exit::Done } else { Exit::No }
}

async fn probe(settings: &Settings, hosted: &HostedDomain, account: Option<&Account>) -> Report {
    let mut report = Report { domain: hosted.name.to_string(), ..Report::default() };
    for address in &hosted.backend.c2s {
        let octets = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let rules = Rules {
            mechanisms: hosted.backend.mechanisms.clone(),
            registration: hosted.backend.register,
            features: hosted.backend.features.clone(),
            max_octets: octets(settings.limits.stanza),
            early_octets: octets(settings.limits.preauth_element),
        };
        let visit = Visit { settings, hosted, account, address: *address, rules };
        let mut seen = Seen::at(*address);
        if let Err(trouble) = visit.look(&mut seen).await {
            seen.trouble.push(trouble);
        }
        report.addresses.push(seen);
    }
    let answering: Vec<&Seen> = report.addresses.iter().filter(|seen| seen.answers).collect();
    report.usable = !answering.is_empty() && answering.iter().all(|seen| seen.trouble.is_empty());
    report
}

impl Visit<'_> {
    async fn look(&self, seen: &mut Seen) -> Result<(), String> {
        let (mut talk, features) = self.open().await?;
        seen.answers = true;
        let offer = features::before_login(&features, &self.rules).map_err(remedy)?;
        if offer.binds_channel {
            seen.trouble.push(remedy(Reason::BackendOffersBinding));
        }
        seen.mechanisms = offer.sasl.iter().map(|mechanism| mechanism.name()).collect();
        let modern = offer.sasl2.iter().flat_map(|inline| &inline.mechanisms);
        seen.mechanisms_sasl2 = modern.map(|mechanism| mechanism.name()).collect();
        let ways = ways(&offer);
        match self.account {
            None => {
                self.begin_all(&mut talk, &offer, &ways, seen).await?;
                let _closed = talk.say(b"</stream:stream>").await;
                seen.unseen.push(
                    "without an account (`--account`): whether a password is taken, what a server refuses at the end of an \
                     exchange only (as ejabberd does with clients that can bind a channel), and the bind"
                        .to_owned(),
                );
            }
            Some(account) => {
                let _closed = talk.say(b"</stream:stream>").await;
                for (profile, mechanism) in ways {
                    for flag in Flag::BOTH {
                        self.log_in(account, (profile, mechanism, Some(flag)), seen).await;
                    }
                }
                if offer.sasl.contains(&Mechanism::Plain) {
                    self.log_in(account, (Profile::Sasl, Mechanism::Plain, None), seen).await;
                }
            }
        }
        if offer.sasl2.as_ref().is_some_and(|inline| inline.resume || !inline.tokens.is_empty()) {
            seen.unseen.push("resumption and tokens that go with a login".to_owned());
        }
        Ok(())
    }

    /// A stream as the gateway opens it, and its features.
    async fn open(&self) -> Result<(Talk, Element), String> {
        let dialled = net::connect(&[self.address], &from_settings::dial(self.settings)).await;
        let mut stream = dialled.map_err(|fault| format!("no connection ({fault})"))?.stream;
        let proxy = self.hosted.backend.proxy;
        let ends =
            stream.local_addr().ok().map(|source| proxy::Addresses { source, destination: self.address });
        let header = match proxy {
            None => Vec::new(),
            Some(ProxyVersion::V1) => proxy::v1(ends),
            Some(ProxyVersion::V2) => {
                let outgoing = proxy::OutgoingHeader { addresses: ends, ..proxy::OutgoingHeader::default() };
                proxy::v2(&outgoing).unwrap_or_default()
            }
        };
        stream.write_all(&header).await.map_err(|error| format!("the connection broke: {error}"))?;
        let mut talk = Talk::new(Box::new(stream), Content::Client, self.settings.timeouts.unauth);
        let trouble = match self.greet(&mut talk).await {
            Ok(features) => return Ok((talk, features)),
            Err(trouble) => trouble,
        };
        if self.speaks_tls(header).await {
            let server = self.hosted.backend.server.and_then(ServerSoftware::named);
            let ailment = Ailment::SpeaksTls;
            return Err(format!("{}; {}", ailment.words(), ailment.remedy(server, Flow::C2s)));
        }
        Err(match proxy {
            Some(_) => format!(
                "{trouble}; does the server expect the PROXY header that the file tells the gateway to send?"
            ),
            None => {
                format!(
                    "{trouble}; does the server expect a PROXY header? The file says `proxy-protocol: off`"
                )
            }
        })
    }

    /// Whether nothing came because the port is one for TLS.
    async fn speaks_tls(&self, introduction: Vec<u8>) -> bool {
        checkup::speaks_tls(&checkup::Visit {
            address: self.address,
            domain: &self.hosted.name,
            flow: Flow::C2s,
            introduction,
            dial: &from_settings::dial(self.settings),
            patience: self.settings.timeouts.header,
            server: None,
        })
        .await
    }

    async fn greet(&self, talk: &mut Talk) -> Result<Element, String> {
        let to = Some(self.hosted.name.to_string());
        let ours = Header { to, version: Some((1, 0)), ..Header::new(Content::Client) };
        talk.say(&ours.write_open()).await?;
        let Token::Header(_) = talk.hear().await? else { return Err("no stream header came".to_owned()) };
        features_of(talk).await
    }

    /// Each exchange of SCRAM with both flags, for an account that nobody has.
    async fn begin_all(
        &self,
        talk: &mut Talk,
        offer: &ClientOffer,
        ways: &[(Profile, Mechanism)],
        seen: &mut Seen,
    ) -> Result<(), String> {
        for &(profile, mechanism) in ways {
            let mut refused = Vec::new();
            for flag in Flag::BOTH {
                let scram = Scram::new(mechanism, flag, "gatehouse-probe", &nonce()?);
                let way = way(profile, mechanism, Some(flag));
                match login::begin(talk, profile, mechanism, &scram.first()).await? {
                    Heard::Challenge(message) => {
                        seen.exchanges.push(format!("{way}: goes on"));
                        if offer.shown.signed(profile, mechanism, &message) == Signed::Other {
                            seen.signs_other(profile);
                        }
                        login::abort(talk, profile).await?;
                    }
                    Heard::Failure(words, cause) => {
                        seen.exchanges.push(format!("{way}: {words}"));
                        refused.push((flag, words, cause));
                    }
                    Heard::Success(_) => {
                        return Err(format!("{way}: the server lets in whom it does not know"));
                    }
                }
            }
            match refused.as_slice() {
                [(Flag::Yes, words, _)] => {
                    seen.refuses_who_can_bind(&way(profile, mechanism, Some(Flag::Yes)), words)
                }
                [(_, _, Cause::Way), (Flag::Yes, words, Cause::Way)] => {
                    seen.trouble.push(format!("{}: refused with either flag ({words})", mechanism.name()));
                }
                [] => {}
                // It says so of everybody that it does not know.
                _ => seen.unseen.push(format!(
                    "{}: the server refuses an account that is not there at once, whatever the flag",
                    way(profile, mechanism, None)
                )),
            }
        }
        Ok(())
    }

    /// A login for real, on a connection of its own.
    async fn log_in(
        &self,
        account: &Account,
        (profile, mechanism, flag): (Profile, Mechanism, Option<Flag>),
        seen: &mut Seen,
    ) {
        let way = way(profile, mechanism, flag);
        match self.try_out(account, (profile, mechanism, flag), seen).await {
            Ok(Ok(bound)) => {
                seen.exchanges.push(format!("{way}: bound as {}", crate::run::observe::capped(&bound)))
            }
            Ok(Err(words)) if flag == Some(Flag::Yes) => seen.refuses_who_can_bind(&way, &words),
            Ok(Err(words)) => seen.trouble.push(format!("{way}: refused ({words})")),
            Err(trouble) => seen.trouble.push(format!("{way}: {trouble}")),
        }
    }

    /// The address that was bound, or in what words the login was refused.
    async fn try_out(
        &self,
        account: &Account,
        (profile, mechanism, flag): (Profile, Mechanism, Option<Flag>),
        seen: &mut Seen,
    ) -> Result<Result<String, String>, String> {
        let (mut talk, features) = self.open().await?;
        let offer = features::before_login(&features, &self.rules).map_err(remedy)?;
        let scram = flag.map(|flag| Ok::<_, String>(Scram::new(mechanism, flag, &account.name, &nonce()?)));
        let scram = scram.transpose()?;
        let first = scram.as_ref().map_or_else(|| login::plain(account), Scram::first);
        let mut heard = login::begin(&mut talk, profile, mechanism, &first).await?;
        let mut expected = None;
        if let (Heard::Challenge(message), Some(scram)) = (&heard, &scram) {
            if offer.shown.signed(profile, mechanism, message) == Signed::Other {
                seen.signs_other(profile);
            }
            let (last, server) = scram.last(account, message)?;
            expected = Some(server);
            heard = login::respond(&mut talk, profile, &last).await?;
        }
        if let (Heard::Challenge(message), Some(server)) = (&heard, &expected) {
            // RFC 5802 5: the server's last message may come as a challenge.
            if message == server {
                heard = login::respond(&mut talk, profile, b"").await?;
            }
        } else if let (Heard::Success(message), Some(server)) = (&heard, &expected)
            && message != server
        {
            return Err("the server does not prove that it knows the account".to_owned());
        }
        match heard {
            Heard::Failure(words, _) => return Ok(Err(words)),
            Heard::Challenge(_) => return Err("the server asks for more than SCRAM has".to_owned()),
            Heard::Success(_) => {}
        }
        let features = match profile {
            Profile::Sasl => {
                talk.framer.restart();
                self.greet(&mut talk).await?
            }
            Profile::Sasl2 => features_of(&mut talk).await?,
        };
        features::after_login(&features, &self.rules).map_err(remedy)?;
        talk.say(login::bind().as_bytes()).await?;
        let Token::Element(answer) = talk.hear().await? else {
            return Err("the bind is not answered".to_owned());
        };
        let tree = answer.tree();
        let jid = tree.child(names::BIND, "bind").and_then(|bind| bind.child(names::BIND, "jid"));
        let bound = jid.map(|jid| jid.text().into_owned()).ok_or("the bind is refused")?;
        let _closed = talk.say(b"</stream:stream>").await;
        Ok(Ok(bound))
    }
}

impl Seen {
    fn at(address: SocketAddr) -> Self {
        Self {
            address,
            answers: false,
            mechanisms: Vec::new(),
            mechanisms_sasl2: Vec::new(),
            exchanges: Vec::new(),
            trouble: Vec::new(),
            unseen: Vec::new(),
        }
    }

    fn refuses_who_can_bind(&mut self, way: &str, words: &str) {
        self.trouble.push(format!(
            "{way}: refused ({words}): clients that can bind a channel say `y` and cannot log in; switch channel binding off at the \
             server (ejabberd from 24.12: `allow_unencrypted_sasl2: true` on this listener; Openfire: no `-PLUS` in `sasl.mechs`)"
        ));
    }

    fn signs_other(&mut self, profile: Profile) {
        let list = match profile {
            Profile::Sasl => "",
            Profile::Sasl2 => " (SASL2)",
        };
        let trouble = format!("{}{list}", Reason::BackendSignsOffer.words());
        if !self.trouble.contains(&trouble) {
            self.trouble.push(trouble);
        }
    }
}

/// The strongest SCRAM of each vocabulary.
fn ways(offer: &ClientOffer) -> Vec<(Profile, Mechanism)> {
    const STRONGEST: [Mechanism; 3] = [Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::ScramSha1];
    let of = |list: &std::collections::BTreeSet<Mechanism>| STRONGEST.into_iter().find(|m| list.contains(m));
    let old = of(&offer.sasl).map(|mechanism| (Profile::Sasl, mechanism));
    let modern = offer.sasl2.as_ref().and_then(|inline| of(&inline.mechanisms));
    old.into_iter().chain(modern.map(|mechanism| (Profile::Sasl2, mechanism))).collect()
}

/// An exchange in words.
fn way(profile: Profile, mechanism: Mechanism, flag: Option<Flag>) -> String {
    let flag = flag.map(|flag| format!(", flag {}", flag.label())).unwrap_or_default();
    match profile {
        Profile::Sasl => format!("{}{flag}", mechanism.name()),
        Profile::Sasl2 => format!("{} by SASL2{flag}", mechanism.name()),
    }
}

async fn features_of(talk: &mut Talk) -> Result<Element, String> {
    match talk.hear().await? {
        Token::Element(frame) if frame.is(names::STREAMS, "features") => Ok(frame.tree()),
        _ => Err("no stream features came".to_owned()),
    }
}

fn nonce() -> Result<[u8; 32], String> {
    crate::run::seed().map_err(|reason| reason.words().to_owned())
}

/// What is wrong with the backend, and what to do there.
fn remedy(reason: Reason) -> String {
    format!("{}: {}", reason.words(), reason.remedy())
}

impl Report {
    fn text(&self, console: &Console) -> String {
        let mut out = String::new();
        let mut line = |what: &str, words: &str| {
            // Writing to a string cannot fail.
            let _written = writeln!(out, "{what:<12}{words}");
        };
        line("domain", &self.domain);
        if self.addresses.is_empty() {
            line("trouble", "its backend has no address for clients (`c2s:`)");
        }
        for seen in &self.addresses {
            line("backend", &seen.address.to_string());
            let listed = |list: &[&str]| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
            if seen.answers {
                line("offers", &listed(&seen.mechanisms));
            }
            if !seen.mechanisms_sasl2.is_empty() {
                line("by SASL2", &listed(&seen.mechanisms_sasl2));
            }
            for exchange in &seen.exchanges {
                line("tried", exchange);
            }
            for trouble in &seen.trouble {
                line("trouble", trouble);
            }
            for unseen in &seen.unseen {
                line("not seen", unseen);
            }
        }
        let words =
            if self.usable { "clients can log in" } else { "clients cannot log in, or not all of them" };
        line("result", &console.mark(words, self.usable));
        out
    }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
