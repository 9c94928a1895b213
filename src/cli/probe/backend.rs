//! `gatehouse probe --c2s`: whether clients could log in at a backend through the gateway, and if not, what to change there.
//!
//! It opens a stream to each address as the gateway would for a client, and reads what is offered. Where SCRAM is offered it
//! begins one exchange for an account that nobody has, and breaks it off: only there does a server show that it signs its
//! list of mechanisms (XEP-0474). No password and no stanza is sent.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::super::{Console, Exit, Format};
use super::Talk;
use crate::config::settings::{HostedDomain, ProxyVersion};
use crate::config::{self, Settings};
use crate::gateway::parts;
use crate::jid::Domain;
use crate::net::{self, proxy};
use crate::policy::{Finding, Place};
use crate::reason::Reason;
use crate::stream::client::signed::Signed;
use crate::stream::client::{Mechanism, Rules, features, login};
use crate::xml::{Content, Header, Token, names};

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
    /// The mechanisms that clients are offered.
    mechanisms: Vec<&'static str>,
    /// What would break logins, and what to do about it.
    trouble: Vec<String>,
}

pub(super) fn main(file: &Path, domain: &Domain, format: Format, console: &mut Console) -> Exit {
    let settings = match config::load(file) {
        Ok((settings, _warnings)) => settings,
        Err(findings) => {
            console.complain_of(&findings);
            return Exit::Config;
        }
    };
    let Some(hosted) = settings.domains.iter().find(|hosted| hosted.name == *domain) else {
        let place = Place::whole(&settings.file);
        let message = format!("{domain} is not hosted here");
        console.complain_of(&[Finding::error(place, message, "name one of `domains`")]);
        return Exit::Config;
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            console.complain(format_args!("the runtime cannot be started: {error}"));
            return Exit::Fault;
        }
    };
    let report = runtime.block_on(probe(&settings, hosted));
    runtime.shutdown_background();
    match format {
        Format::Json => console.json(&report),
        Format::Text => console.print(report.text(console)),
    }
    if report.usable { Exit::Done } else { Exit::No }
}

async fn probe(settings: &Settings, hosted: &HostedDomain) -> Report {
    let mut report = Report { domain: hosted.name.to_string(), ..Report::default() };
    for address in &hosted.backend.c2s {
        report.addresses.push(visit(settings, hosted, *address).await);
    }
    let answering: Vec<&Seen> = report.addresses.iter().filter(|seen| seen.answers).collect();
    report.usable = !answering.is_empty() && answering.iter().all(|seen| seen.trouble.is_empty());
    report
}

async fn visit(settings: &Settings, hosted: &HostedDomain, address: SocketAddr) -> Seen {
    let mut seen = Seen { address, answers: false, mechanisms: Vec::new(), trouble: Vec::new() };
    if let Err(trouble) = look(settings, hosted, &mut seen).await {
        seen.trouble.push(trouble);
    }
    seen
}

async fn look(settings: &Settings, hosted: &HostedDomain, seen: &mut Seen) -> Result<(), String> {
    let dialled = net::connect(&[seen.address], &parts::dial(settings)).await;
    let mut stream = dialled.map_err(|fault| format!("no connection ({fault})"))?.stream;
    let ends = stream.local_addr().ok().map(|source| proxy::Addresses { source, destination: seen.address });
    let header = match hosted.backend.proxy {
        None => Vec::new(),
        Some(ProxyVersion::V1) => proxy::v1(ends),
        Some(ProxyVersion::V2) => {
            let outgoing = proxy::Outgoing { addresses: ends, ..proxy::Outgoing::default() };
            proxy::v2(&outgoing).unwrap_or_default()
        }
    };
    stream.write_all(&header).await.map_err(|error| format!("the connection broke: {error}"))?;
    let mut talk = Talk::new(Box::new(stream), Content::Client, settings.timeouts.unauth);
    let ours =
        Header { to: Some(hosted.name.to_string()), version: Some((1, 0)), ..Header::new(Content::Client) };
    talk.say(&ours.write_open()).await?;
    let silent = |trouble: String| match hosted.backend.proxy {
        Some(_) => format!(
            "{trouble}; does the server expect the PROXY header that the file tells the gateway to send?"
        ),
        None => {
            format!("{trouble}; does the server expect a PROXY header? The file says `proxy-protocol: off`")
        }
    };
    let Token::Header(_) = talk.hear().await.map_err(silent)? else {
        return Err("no stream header came".to_owned());
    };
    let Token::Element(frame) = talk.hear().await? else { return Err("no stream features came".to_owned()) };
    if !frame.is(names::STREAMS, "features") {
        return Err("no stream features came".to_owned());
    }
    seen.answers = true;
    let rules = Rules {
        mechanisms: hosted.backend.mechanisms.clone(),
        registration: hosted.backend.register,
        features: hosted.backend.features.clone(),
        max_octets: usize::try_from(settings.limits.stanza).unwrap_or(usize::MAX),
        early_octets: usize::try_from(settings.limits.preauth_element).unwrap_or(usize::MAX),
    };
    let offer = features::before_login(&frame.tree(), &rules).map_err(remedy)?;
    if offer.binds_channel {
        seen.trouble.push(remedy(Reason::BackendBindsChannel));
    }
    let inline = offer.sasl2.map(|sasl2| sasl2.mechanisms).unwrap_or_default();
    let offered: Vec<Mechanism> = offer.sasl.union(&inline).copied().collect();
    seen.mechanisms = offered.iter().map(|mechanism| mechanism.name()).collect();
    let scram = [Mechanism::ScramSha1, Mechanism::ScramSha256, Mechanism::ScramSha512];
    if let Some(mechanism) = scram.into_iter().find(|mechanism| offer.sasl.contains(mechanism)) {
        let first = STANDARD.encode("n,,n=gatehouse-probe,r=gatehouse-probe-nonce");
        talk.say(
            format!("<auth xmlns='{}' mechanism='{}'>{first}</auth>", names::SASL, mechanism.name())
                .as_bytes(),
        )
        .await?;
        if let Token::Element(answer) = talk.hear().await?
            && answer.is(names::SASL, "challenge")
        {
            let message = login::payload(&answer.tree()).ok().flatten();
            if offer.shown.signed(login::Profile::Sasl, mechanism, &message.unwrap_or_default())
                == Signed::Other
            {
                seen.trouble.push(
                    "the server signs its list of mechanisms (XEP-0474), which the gateway shortens: clients that check it \
                     will not log in; switch SCRAM downgrade protection off at the server"
                        .to_owned(),
                );
            }
            talk.say(format!("<abort xmlns='{}'/>", names::SASL).as_bytes()).await?;
        }
    }
    talk.say(b"</stream:stream>").await
}

/// What is wrong with the backend, and what to do there.
fn remedy(reason: Reason) -> String {
    let remedy = match reason {
        Reason::BackendWantsTls => "switch required TLS off on the port that the gateway uses",
        Reason::BackendBindsChannel => {
            "clients that can bind a channel would bind to the gateway's, and the server would not find it: switch channel \
             binding off there"
        }
        Reason::NoMechanism => {
            "let the server offer one of `mechanisms` without TLS, or add one that it offers to that list"
        }
        _ => "see the server's log",
    };
    format!("{}: {remedy}", reason.words())
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
            if seen.answers {
                line(
                    "offers",
                    &if seen.mechanisms.is_empty() {
                        "nothing".to_owned()
                    } else {
                        seen.mechanisms.join(", ")
                    },
                );
            }
            for trouble in &seen.trouble {
                line("trouble", trouble);
            }
        }
        let words =
            if self.usable { "clients can log in" } else { "clients cannot log in, or not all of them" };
        line("result", &console.mark(words, self.usable));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says this after its header, and then listens.
    async fn server(features: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' \
                          from='hall.example' version='1.0'>";
            stream
                .write_all(format!("{header}<stream:features>{features}</stream:features>").as_bytes())
                .await
                .unwrap();
            let mut heard = Vec::new();
            // It says no more; the visitor closes.
            let _end = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut heard).await;
        });
        address
    }

    // C2S-04, CB-02: in plain words, with what to do.
    #[tokio::test]
    async fn what_would_break_logins_is_said_in_plain_words() {
        let sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
        let plain: &str =
            Box::leak(format!("<mechanisms {sasl}><mechanism>PLAIN</mechanism></mechanisms>").into());
        let plus: &str = Box::leak(
            format!("<mechanisms {sasl}><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>PLAIN</mechanism></mechanisms>").into(),
        );
        let odd: &str =
            Box::leak(format!("<mechanisms {sasl}><mechanism>DIGEST-MD5</mechanism></mechanisms>").into());
        let tls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gatehouse.yaml");
        for (features, trouble) in [
            (plain, None),
            (plus, Some("switch channel binding off there")),
            (odd, Some("let the server offer one of `mechanisms`")),
            (tls, Some("switch required TLS off")),
        ] {
            let address = server(features).await;
            let text = format!(
                "version: v1\ndomains:\n  - name: hall.example\n    certificate: {{ chain: a, key: b }}\n    \
                 backend: {{ c2s: [\"{address}\"] }}\n    federation: none\n"
            );
            std::fs::write(&file, text).unwrap();
            let (settings, _) = config::load(&file).unwrap_or_else(|findings| panic!("{findings:?}"));
            let report = probe(&settings, &settings.domains[0]).await;
            let said = report.addresses[0].trouble.join("; ");
            assert_eq!(report.usable, trouble.is_none(), "{said}");
            assert!(said.contains(trouble.unwrap_or_default()), "{said}");
        }
    }

    #[test]
    fn every_fault_of_a_backend_comes_with_a_remedy() {
        for reason in [Reason::BackendWantsTls, Reason::BackendBindsChannel, Reason::NoMechanism] {
            assert!(
                remedy(reason).contains("switch") || remedy(reason).contains("let the server"),
                "{reason}"
            );
        }
    }
}
