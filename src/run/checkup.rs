//! A look at a backend as a caller would see it: a connection, a stream header, the features; then the end. No key, no login
//! and no stanza is sent.
//!
//! What is found is one of a closed list, each with what to change on that server where it is known which one it is.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::jid::Domain;
use crate::net;
use crate::reason::{Cause, Flow, escaped};
use crate::xml::{CLOSE, Content, Element, Framer, Header, Limits, Token, names};

/// Whom to look at, and how.
#[derive(Clone, Debug)]
pub struct Visit<'a> {
    /// The address.
    pub address: SocketAddr,
    /// The domain that the server should serve.
    pub domain: &'a Domain,
    /// [`Flow::C2s`] for its port for clients; its port for servers otherwise.
    pub flow: Flow,
    /// A PROXY header that goes first, where the server expects one.
    pub introduction: Vec<u8>,
    /// How long to dial.
    pub dial: &'a net::connect::Params,
    /// How long the server may take to say anything.
    pub patience: Duration,
    /// Which server it is, where the operator says so.
    pub server: Option<ServerSoftware>,
}

/// What was seen at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The address.
    pub address: SocketAddr,
    /// What is wrong; none if nothing is.
    pub ailment: Option<Ailment>,
    /// The particulars: the system's error, or what the server said. One line, escaped and capped.
    pub words: String,
    /// Which server it is, by the operator's word or by its stream.
    pub server: Option<ServerSoftware>,
    /// It offers TLS without demanding it, which the gateway leaves where it is.
    pub offers_tls: bool,
}

impl CheckResult {
    /// What ails it, in words, with what to do; none if nothing does.
    pub fn trouble(&self, flow: Flow) -> Option<String> {
        let ailment = self.ailment?;
        let more = if self.words.is_empty() { String::new() } else { format!(" ({})", self.words) };
        Some(format!("{}{more}; {}", ailment.words(), ailment.remedy(self.server, flow)))
    }

    /// What is to be said of one that is well all the same, for this flow.
    pub fn remark(&self, flow: Flow) -> Option<String> {
        if self.ailment.is_some() || !self.offers_tls {
            return None;
        }
        let switch = match self.server {
            Some(server) => format!("{}: {}", server.name(), server.without_tls(flow)),
            None => "the server, for the addresses of the gateway".to_owned(),
        };
        Some(format!(
            "it offers TLS, which the gateway does not take up: it speaks to it in clear, and that goes well as long as TLS is not \
             demanded; to withdraw the offer, switch it off in {switch}"
        ))
    }
}

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ailment {
    /// It takes no connection.
    NotReached,
    /// This machine has no room for another connection: how the backend is, nobody knows.
    NotAsked,
    /// It takes the connection and says nothing.
    Silent,
    /// It closes the connection without a word.
    HangsUp,
    /// It speaks, and no XMPP stream for this flow.
    OtherService,
    /// It does not serve the domain.
    RefusesName,
    /// It ends the stream for another reason.
    StreamError,
    /// It speaks TLS from the first octet.
    SpeaksTls,
    /// It demands TLS of the gateway.
    WantsTls,
}

impl Ailment {
    /// The word in logs and reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::HangsUp => "hangs-up",
            Self::NotAsked => "not-asked",
            Self::NotReached => "not-reached",
            Self::OtherService => "other-service",
            Self::RefusesName => "refuses-name",
            Self::Silent => "silent",
            Self::SpeaksTls => "speaks-tls",
            Self::StreamError => "stream-error",
            Self::WantsTls => "wants-tls",
        }
    }

    /// The same in words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::HangsUp => "it closes the connection without a word",
            Self::NotAsked => "this machine has no room for another connection to it",
            Self::NotReached => "it takes no connection",
            Self::OtherService => "what answers there is no XMPP stream of this kind",
            Self::RefusesName => "it does not serve this domain",
            Self::Silent => "it takes the connection and says nothing",
            Self::SpeaksTls => "it speaks TLS from the first octet, and the gateway speaks to it in clear",
            Self::StreamError => "it ends the stream",
            Self::WantsTls => "it demands TLS of the gateway, which speaks to it in clear",
        }
    }

    /// What to do about it.
    pub fn remedy(self, server: Option<ServerSoftware>, flow: Flow) -> String {
        match self {
            Self::NotAsked => format!("{}; or {}", Cause::NoPorts.remedy(), Cause::NoSockets.remedy()),
            Self::NotReached => "look whether the server runs, whether the address and port in `backend:` are its own, and whether a firewall is in between".to_owned(),
            Self::Silent => "does it expect a PROXY header? `proxy-protocol:` (for federation `s2s-proxy-protocol:`) and the port must fit".to_owned(),
            Self::HangsUp => "look at the log of the server: it may take connections of the gateway from another address only, or expect a PROXY header".to_owned(),
            Self::OtherService => match flow {
                Flow::C2s => "the port must be the server's for clients, in clear".to_owned(),
                Flow::S2sIn | Flow::S2sOut => "the port must be the server's for other servers, in clear".to_owned(),
            },
            Self::RefusesName => "add the domain to the server, or correct it in `domains:`".to_owned(),
            Self::SpeaksTls => match server {
                Some(server) => format!("name the port in clear in `backend:`; in {}: {}", server.name(), server.in_clear(flow)),
                None => "name the port in clear in `backend:`, that is, the one for STARTTLS, with TLS switched off there".to_owned(),
            },
            Self::StreamError => "look at the log of the server".to_owned(),
            Self::WantsTls => match server {
                Some(server) => format!("switch that off in {}: {}", server.name(), server.without_tls(flow)),
                None => "switch that off in the server, for the addresses of the gateway".to_owned(),
            },
        }
    }
}

/// A server that is known by name, and but for Wildfire recognised by its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerSoftware {
    /// ejabberd.
    Ejabberd,
    /// jabberd2.
    Jabberd2,
    /// MongooseIM; its stream looks like one of ejabberd's.
    Mongooseim,
    /// Openfire; the stream of Wildfire looks like one of it.
    Openfire,
    /// Prosody.
    Prosody,
    /// Tigase.
    Tigase,
    /// Wildfire, which became Openfire.
    Wildfire,
}

impl ServerSoftware {
    /// Every one.
    pub const ALL: &'static [ServerSoftware] = &[
        Self::Ejabberd,
        Self::Jabberd2,
        Self::Mongooseim,
        Self::Openfire,
        Self::Prosody,
        Self::Tigase,
        Self::Wildfire,
    ];

    /// The one of this word.
    pub fn named(label: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|server| server.label() == label)
    }

    /// The word for it on the command line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ejabberd => "ejabberd",
            Self::Jabberd2 => "jabberd2",
            Self::Mongooseim => "mongooseim",
            Self::Openfire => "openfire",
            Self::Prosody => "prosody",
            Self::Tigase => "tigase",
            Self::Wildfire => "wildfire",
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ejabberd => "ejabberd",
            Self::Jabberd2 => "jabberd2",
            Self::Mongooseim => "MongooseIM",
            Self::Openfire => "Openfire",
            Self::Prosody => "Prosody",
            Self::Tigase => "Tigase",
            Self::Wildfire => "Wildfire",
        }
    }

    /// The setting that lets the gateway speak to it in clear.
    pub const fn without_tls(self, flow: Flow) -> &'static str {
        match (self, flow) {
            (Self::Ejabberd, Flow::C2s) => {
                "`starttls_required: false` and `starttls: false` in the listener `ejabberd_c2s`"
            }
            (Self::Ejabberd, _) => "`s2s_use_starttls: false`",
            (Self::Jabberd2, Flow::C2s) => "no `<pemfile/>` and no `require-starttls` in c2s.xml",
            (Self::Jabberd2, _) => "no `<pemfile/>` and no `<require_tls/>` in s2s.xml",
            (Self::Mongooseim, Flow::C2s) => "no section `tls` in `[[listen.c2s]]`",
            (Self::Mongooseim, _) => {
                "no section `tls` in `[[listen.s2s]]`, and `use_starttls = \"false\"` in `[s2s]` where the version knows it"
            }
            (Self::Openfire | Self::Wildfire, Flow::C2s) => {
                "the property `xmpp.client.tls.policy` = `disabled`"
            }
            (Self::Openfire, _) => "the property `xmpp.server.tls.policy` = `disabled`",
            (Self::Prosody, Flow::C2s) => "`c2s_require_encryption = false`, and no module `tls`",
            (Self::Prosody, _) => {
                "`s2s_require_encryption = false` and `s2s_secure_auth = false`, and no module `tls`"
            }
            (Self::Tigase, _) => "`'tls-required' = false`, also in the item of the domain itself",
            (Self::Wildfire, _) => "the property `xmpp.server.tls.enabled` = `false`",
        }
    }

    /// Where it has the port that it takes streams at in clear.
    const fn in_clear(self, flow: Flow) -> &'static str {
        match (self, flow) {
            (Self::Ejabberd, Flow::C2s) => "the listener `ejabberd_c2s` without `tls: true`",
            (Self::Ejabberd, _) => "the listener `ejabberd_s2s_in` without `tls: true`",
            (Self::Jabberd2, Flow::C2s) => "`<port>` in c2s.xml, and no `<ssl-port>`",
            (Self::Jabberd2, _) => "`<port>` in s2s.xml",
            (Self::Mongooseim, Flow::C2s) => "`[[listen.c2s]]` without a section `tls`",
            (Self::Mongooseim, _) => "`[[listen.s2s]]` without a section `tls`",
            (Self::Openfire | Self::Wildfire, Flow::C2s) => {
                "the property `xmpp.socket.plain.port`, which is 5222 (5223 is the one with TLS)"
            }
            (Self::Openfire | Self::Wildfire, _) => {
                "the property `xmpp.server.socket.port`, which is 5269 (5270 is the one with TLS)"
            }
            (Self::Prosody, Flow::C2s) => "`c2s_ports`, not `c2s_direct_tls_ports`",
            (Self::Prosody, _) => "`s2s_ports`, not `s2s_direct_tls_ports`",
            (Self::Tigase, Flow::C2s) => "the connection of `c2s` with `socket = 'plain'` (5222, not 5223)",
            (Self::Tigase, _) => "the connection of `s2s` with `socket = 'plain'` (5269)",
        }
    }

    fn of(header: &Header, features: Option<&Element>) -> Option<Self> {
        let has = |namespace: &str| {
            features.is_some_and(|features| features.elements().any(|child| child.namespace == *namespace))
        };
        let node = features.and_then(|features| {
            features.elements().filter(|child| child.name == "c").find_map(|caps| caps.attr("node"))
        });
        let node = node.unwrap_or_default();
        let known = [
            ("prosody", Self::Prosody),
            ("ejabberd", Self::Ejabberd),
            ("igniterealtime", Self::Openfire),
            ("openfire", Self::Openfire),
            ("tigase", Self::Tigase),
        ];
        if let Some((_, server)) = known.into_iter().find(|(word, _)| node.contains(word)) {
            return Some(server);
        }
        if has("http://affinix.com/jabber/address") {
            return Some(Self::Jabberd2);
        }
        // The shape of the stream's id is all that is left: digits, ten or forty letters and digits, or a UUID.
        let id = header.id.as_deref().unwrap_or_default();
        // Of those with a UUID, Prosody offers dialback to servers without its errors, and no capabilities.
        let dialback = features.and_then(|features| features.child(names::DIALBACK_FEATURE, "dialback"));
        if is_uuid(id)
            && dialback.is_some_and(|dialback| dialback.child(names::DIALBACK_FEATURE, "errors").is_none())
        {
            return Some(Self::Prosody);
        }
        let plain = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        match id.len() {
            8..=10 if plain => Some(Self::Openfire),
            15..=20 if id.bytes().all(|b| b.is_ascii_digit()) => Some(Self::Ejabberd),
            40 if plain => Some(Self::Jabberd2),
            _ => None,
        }
    }
}

fn is_uuid(id: &str) -> bool {
    let parts: Vec<&str> = id.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl fmt::Display for ServerSoftware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Looks.
pub async fn look(visit: &Visit<'_>) -> CheckResult {
    let mut seen = CheckResult {
        address: visit.address,
        ailment: None,
        words: String::new(),
        server: visit.server,
        offers_tls: false,
    };
    let mut stream = match net::connect(&[visit.address], visit.dial).await {
        Ok(dialled) => dialled.stream,
        Err(fault) => {
            let lacking = fault.shortage().is_some();
            seen.ailment = Some(if lacking { Ailment::NotAsked } else { Ailment::NotReached });
            seen.words = fault.to_string();
            return seen;
        }
    };
    let outcome = tokio::time::timeout(visit.patience, talk(&mut stream, visit, &mut seen)).await;
    let (ailment, words) = match outcome {
        Ok(Ok(())) => (None, String::new()),
        Ok(Err((ailment, words))) => (Some(ailment), words),
        Err(_late) => (Some(Ailment::Silent), format!("within {} s", visit.patience.as_secs())),
    };
    (seen.ailment, seen.words) = (ailment, words);
    // Of those that begin with TLS some say so at once, some close, and some wait for more than a header is.
    let says_nothing = [Ailment::HangsUp, Ailment::OtherService, Ailment::Silent];
    if seen.ailment.is_some_and(|ailment| says_nothing.contains(&ailment)) && speaks_tls(visit).await {
        (seen.ailment, seen.words) = (Some(Ailment::SpeaksTls), String::new());
    }
    // In good order, as far as the server still listens; nothing depends on it.
    let _closed = tokio::time::timeout(FAREWELL, async {
        stream.write_all(CLOSE).await?;
        stream.shutdown().await?;
        stream.read(&mut [0; 256]).await
    })
    .await;
    seen
}

/// Whether it answers the beginning of TLS with TLS: with a handshake of its own, or with an alert.
pub async fn speaks_tls(visit: &Visit<'_>) -> bool {
    let asked = async {
        let mut stream = net::connect(&[visit.address], visit.dial).await.ok()?.stream;
        stream.write_all(&visit.introduction).await.ok()?;
        stream.write_all(HELLO).await.ok()?;
        let mut record = [0; 3];
        stream.read_exact(&mut record).await.ok()?;
        Some(matches!(record, [ALERT | HANDSHAKE, 3, 0..=4]))
    };
    matches!(tokio::time::timeout(visit.patience.min(BRIEF), asked).await, Ok(Some(true)))
}

/// Whether it knows SASL2 (XEP-0388): whoever does answers a mechanism that there is not with a failure in its namespace, whoever
/// does not says nothing, or ends the stream. It is all that tells the releases of ejabberd apart before a login.
pub async fn knows_sasl2(visit: &Visit<'_>) -> bool {
    let asked = async {
        let mut stream = net::connect(&[visit.address], visit.dial).await.ok()?.stream;
        let content = if visit.flow == Flow::C2s { Content::Client } else { Content::Server };
        stream.write_all(&visit.introduction).await.ok()?;
        stream.write_all(&greeting(visit, content)).await.ok()?;
        let mut ear = Ear { stream: &mut stream, framer: Framer::new(Limits::default(), content) };
        let Token::Header(_) = ear.hear().await.ok()? else { return None };
        let Token::Element(_features) = ear.hear().await.ok()? else { return None };
        let ask = format!("<authenticate xmlns='{}' mechanism='NONE'/>", names::SASL2);
        ear.stream.write_all(ask.as_bytes()).await.ok()?;
        match ear.hear().await.ok()? {
            Token::Element(frame) => Some(frame.is(names::SASL2, "failure")),
            _ => None,
        }
    };
    matches!(tokio::time::timeout(visit.patience, asked).await, Ok(Some(true)))
}

type Trouble = (Ailment, String);

async fn talk(stream: &mut TcpStream, visit: &Visit<'_>, seen: &mut CheckResult) -> Result<(), Trouble> {
    let broken = |error: std::io::Error| (Ailment::HangsUp, error.kind().to_string());
    let content = if visit.flow == Flow::C2s { Content::Client } else { Content::Server };
    let mut octets = visit.introduction.clone();
    octets.extend_from_slice(&greeting(visit, content));
    stream.write_all(&octets).await.map_err(broken)?;
    let mut ear = Ear { stream, framer: Framer::new(Limits::default(), content) };
    let header = match ear.hear().await? {
        Token::Header(header) => header,
        Token::Violation(_) => return Err((Ailment::OtherService, String::new())),
        _ => return Err((Ailment::HangsUp, "no stream header came".to_owned())),
    };
    seen.server = visit.server.or_else(|| ServerSoftware::of(&header, None));
    if header.version.is_none_or(|(major, _)| major < 1) {
        return Ok(());
    }
    let Token::Element(frame) = ear.hear().await? else {
        return Err((Ailment::HangsUp, "no stream features came".to_owned()));
    };
    let tree = frame.tree();
    if frame.is(names::STREAMS, "error") {
        return Err(refusal(&tree));
    }
    seen.server = visit.server.or_else(|| ServerSoftware::of(&header, Some(&tree))).or(seen.server);
    let starttls = tree.child(names::TLS, "starttls");
    if starttls.is_some_and(|starttls| starttls.child(names::TLS, "required").is_some()) {
        return Err((Ailment::WantsTls, String::new()));
    }
    seen.offers_tls = starttls.is_some();
    Ok(())
}

/// Our stream header.
fn greeting(visit: &Visit<'_>, content: Content) -> Vec<u8> {
    let ours = Header {
        to: Some(visit.domain.to_string()),
        version: Some((1, 0)),
        dialback: content == Content::Server,
        ..Header::new(content)
    };
    ours.write_open()
}

fn refusal(error: &Element) -> Trouble {
    let mut conditions =
        error.elements().filter(|child| child.namespace == *names::STREAM_ERRORS && child.name != "text");
    let condition =
        conditions.next().map_or_else(|| "no condition".to_owned(), |child| child.name.to_string());
    let ailment = match condition.as_str() {
        "host-unknown" | "host-gone" => Ailment::RefusesName,
        "invalid-namespace" | "bad-namespace-prefix" => Ailment::OtherService,
        _ => Ailment::StreamError,
    };
    let text = error.child(names::STREAM_ERRORS, "text").map(|text| escaped(text.text().trim(), WORDS));
    let words = [Some(escaped(&condition, WORDS)), text.filter(|text| !text.is_empty())];
    (ailment, words.into_iter().flatten().collect::<Vec<_>>().join(": "))
}

struct Ear<'a> {
    stream: &'a mut TcpStream,
    framer: Framer,
}

impl Ear<'_> {
    async fn hear(&mut self) -> Result<Token, Trouble> {
        let mut octets = [0; 2048];
        loop {
            match self.framer.next() {
                Some(Token::Keepalive) => continue,
                Some(token) => return Ok(token),
                None => {}
            }
            match self.stream.read(&mut octets).await {
                Ok(0) => return Err((Ailment::HangsUp, String::new())),
                Ok(n) => self.framer.feed(octets.get(..n).unwrap_or_default()),
                Err(error) => return Err((Ailment::HangsUp, error.kind().to_string())),
            }
        }
    }
}

/// A ClientHello of TLS 1.2 that offers little and goes nowhere.
const HELLO: &[u8] = b"\x16\x03\x01\x00\x53\x01\x00\x00\x4f\x03\x03\
    is this port one for TLS at all?\x00\x00\x08\xc0\x2b\xc0\x2c\xc0\x2f\xc0\x30\x01\x00\x00\x1e\
    \x00\x0a\x00\x06\x00\x04\x00\x1d\x00\x17\x00\x0b\x00\x02\x01\x00\x00\x0d\x00\x0a\x00\x08\x04\x03\x08\x04\x04\x01\x02\x01";

/// The records that a server may begin with.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// How long it may take for them.
const BRIEF: Duration = Duration::from_secs(3);

/// How long a server may take to hear our goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// Characters of a server's words that are shown.
const WORDS: usize = 200;

#[cfg(test)]
#[path = "checkup_tests.rs"]
mod tests;
