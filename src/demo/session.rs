//! A stream that a peer opens towards the gateway, step by step and as honest or dishonest as its caller wants.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;

use super::node::{Node, escape};
use super::wire::{Ending, Item, Wire};
use super::{Told, Trouble, dial, held, token};

/// The namespace of SASL.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// The namespace of dialback.
pub const DIALBACK: &str = "jabber:server:dialback";
/// The namespace of streams.
pub const STREAMS: &str = "http://etherx.jabber.org/streams";

type KeyTable = HashMap<(String, String, String), String>;

/// The keys that a server has sent: sender, target and stream id lead to the key.
#[derive(Clone, Default)]
pub struct Keys(Arc<Mutex<KeyTable>>);

impl Keys {
    /// Remembers a key.
    pub fn put(&self, sender: &str, target: &str, stream: &str, key: &str) {
        held(&self.0).insert((sender.to_owned(), target.to_owned(), stream.to_owned()), key.to_owned());
    }

    /// Whether any key was sent for this pair on this stream.
    pub fn has(&self, sender: &str, target: &str, stream: &str) -> bool {
        held(&self.0).contains_key(&(sender.to_owned(), target.to_owned(), stream.to_owned()))
    }

    /// Forgets the key of this pair on this stream.
    pub fn forget(&self, sender: &str, target: &str, stream: &str) {
        held(&self.0).remove(&(sender.to_owned(), target.to_owned(), stream.to_owned()));
    }

    /// Whether this very key was sent.
    pub fn knows(&self, sender: &str, target: &str, stream: &str, key: &str) -> bool {
        let asked = (sender.to_owned(), target.to_owned(), stream.to_owned());
        held(&self.0).get(&asked).is_some_and(|known| known == key)
    }
}

/// What the header of a stream says.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    /// `from`.
    pub from: Option<String>,
    /// `to`.
    pub to: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// Whether it says `version='1.0'`.
    pub version: bool,
    /// `xml:lang`.
    pub lang: Option<String>,
}

impl Greeting {
    /// The usual header of a server today.
    pub fn of(from: &str, to: &str) -> Self {
        Self { from: Some(from.to_owned()), to: Some(to.to_owned()), version: true, ..Self::default() }
    }

    /// The header as octets.
    pub fn octets(&self) -> String {
        let mut out = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='{STREAMS}' xmlns:db='{DIALBACK}'"
        );
        for (name, value) in
            [("from", &self.from), ("to", &self.to), ("id", &self.id), ("xml:lang", &self.lang)]
        {
            if let Some(value) = value {
                out.push_str(&format!(" {name}='{}'", escape(value)));
            }
        }
        if self.version {
            out.push_str(" version='1.0'");
        }
        out.push('>');
        out
    }
}

/// How the stream is to be opened.
#[derive(Clone)]
pub struct Call {
    /// The address it comes from.
    pub source: IpAddr,
    /// The address it goes to.
    pub target: SocketAddr,
    /// Whether TLS comes first (XEP-0368) and not after STARTTLS.
    pub direct: bool,
    /// The TLS settings, certificate included.
    pub tls: Arc<ClientConfig>,
    /// The name in SNI.
    pub name: String,
    /// The header.
    pub greeting: Greeting,
    /// Where the keys that are sent are remembered, for the authoritative server of the same domain.
    pub keys: Keys,
}

/// What the gateway said to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The pair stands.
    Valid,
    /// The key was not genuine.
    Invalid,
    /// A dialback error with this condition; the stream stays.
    Error(String),
    /// The stream ended, with this condition if any.
    Ended(Option<String>),
}

/// What the gateway said to EXTERNAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// It was offered and it held.
    Success,
    /// It was refused with this condition.
    Failure(String),
    /// It was not offered.
    NotOffered,
}

/// An open stream.
pub struct Session {
    /// The connection.
    pub wire: Wire,
    /// The id that the gateway gave to the current stream.
    pub id: String,
    /// The header that the gateway sent last.
    pub header: Node,
    /// The features that the gateway sent last, if it sent any.
    pub features: Option<Node>,
    call: Call,
}

impl Call {
    /// Connects, and does nothing more.
    pub async fn connect(&self) -> Told<Wire> {
        Ok(Wire::new(dial(self.source, self.target).await?))
    }

    /// Connects and goes as far as the stream inside TLS, features read.
    pub async fn open(self) -> Told<Session> {
        let mut wire = self.connect().await?;
        if self.direct {
            wire.secure(self.tls.clone(), &self.name).await?;
            return self.greet(wire).await;
        }
        let mut session = self.greet(wire).await?;
        session.starttls().await?;
        Ok(session)
    }

    /// Connects and opens the stream in clear, as far as the features; or fails with the stream error's condition.
    pub async fn open_clear(self) -> Told<Session> {
        let wire = self.connect().await?;
        self.greet(wire).await
    }

    async fn greet(self, wire: Wire) -> Told<Session> {
        let mut session =
            Session { wire, id: String::new(), header: Node::default(), features: None, call: self };
        session.greet().await?;
        Ok(session)
    }
}

impl Session {
    /// Sends a header and reads what is said to it.
    pub async fn greet(&mut self) -> Told<()> {
        self.wire.restart();
        self.wire.send(self.call.greeting.octets()).await?;
        self.header = self.wire.header().await?;
        self.id = self.header.attr("id").unwrap_or_default().to_owned();
        self.features = None;
        if self.header.attr("version").is_some() {
            let node = self.wire.element().await?;
            if node.is(STREAMS, "error") {
                return Err(Trouble(format!(
                    "stream error {}",
                    node.condition().unwrap_or("without condition")
                )));
            }
            if !node.is(STREAMS, "features") {
                return Err(Trouble(format!("features were due, not {}", node.raw)));
            }
            self.features = Some(node);
        }
        Ok(())
    }

    /// STARTTLS, and a new stream inside it.
    pub async fn starttls(&mut self) -> Told<()> {
        self.wire.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
        let answer = self.wire.element().await?;
        if answer.name != "proceed" {
            return Err(Trouble(format!("no <proceed/> but {}", answer.raw)));
        }
        self.wire.secure(self.call.tls.clone(), &self.call.name).await?;
        self.greet().await
    }

    /// Changes the header for the next stream on this connection.
    pub fn say(&mut self, greeting: Greeting) {
        self.call.greeting = greeting;
    }

    /// Whether the features offer EXTERNAL.
    pub fn offers_external(&self) -> bool {
        self.features
            .as_ref()
            .and_then(|f| f.child("mechanisms"))
            .is_some_and(|m| m.children.iter().any(|c| c.text.trim() == "EXTERNAL"))
    }

    /// Whether the features offer dialback.
    pub fn offers_dialback(&self) -> bool {
        self.features.as_ref().is_some_and(|f| f.child("dialback").is_some())
    }

    /// SASL EXTERNAL with the certificate of this connection, if it is offered; then the new stream.
    pub async fn external(&mut self, identity: &str) -> Told<Login> {
        if !self.offers_external() {
            return Ok(Login::NotOffered);
        }
        let response = STANDARD.encode(identity);
        self.wire.send(format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>{response}</auth>")).await?;
        let answer = self.wire.element().await?;
        match answer.name.as_str() {
            "success" => {
                self.greet().await?;
                Ok(Login::Success)
            }
            "failure" => Ok(Login::Failure(answer.condition().unwrap_or("").to_owned())),
            _ => Err(Trouble(format!("no answer to EXTERNAL but {}", answer.raw))),
        }
    }

    /// Sends a genuine key for this pair, and waits for the word about it.
    pub async fn dialback(&mut self, sender: &str, target: &str) -> Told<Word> {
        self.claim(sender, target).await?;
        self.word().await
    }

    /// Sends a genuine key for this pair.
    pub async fn claim(&mut self, sender: &str, target: &str) -> Told<()> {
        let key = token()?;
        self.call.keys.put(sender, target, &self.id, &key);
        self.send_key(sender, target, &key).await
    }

    /// Sends a key of which the authoritative server knows nothing.
    pub async fn send_key(&mut self, sender: &str, target: &str, key: &str) -> Told<()> {
        let (sender, target) = (escape(sender), escape(target));
        self.wire.send(format!("<db:result from='{sender}' to='{target}'>{key}</db:result>")).await
    }

    /// The next word about a key.
    pub async fn word(&mut self) -> Told<Word> {
        loop {
            match self.wire.next().await? {
                Item::Element(node) if node.is(DIALBACK, "result") => return Ok(word(&node)),
                Item::Element(node) if node.is(STREAMS, "error") => {
                    let condition = node.condition().map(str::to_owned);
                    self.wire.ending().await?;
                    return Ok(Word::Ended(condition));
                }
                Item::Close | Item::End => return Ok(Word::Ended(None)),
                Item::Element(_) | Item::Header(_) => {}
            }
        }
    }

    /// Sends anything.
    pub async fn send(&mut self, octets: impl AsRef<[u8]>) -> Told<()> {
        self.wire.send(octets).await
    }

    /// Sends a chat message.
    pub async fn message(&mut self, from: &str, to: &str, body: &str) -> Told<()> {
        let (from, to, body) = (escape(from), escape(to), escape(body));
        self.send(format!("<message from='{from}' to='{to}' type='chat'><body>{body}</body></message>")).await
    }

    /// Reads until the stream has ended, and tells how.
    pub async fn ending(&mut self) -> Told<Ending> {
        self.wire.ending().await
    }

    /// Closes the stream in good order.
    pub async fn close(mut self) -> Told<Ending> {
        self.send("</stream:stream>").await?;
        self.ending().await
    }
}

/// What an answer to a key says.
pub fn word(node: &Node) -> Word {
    match node.attr("type") {
        Some("valid") => Word::Valid,
        Some("invalid") => Word::Invalid,
        Some("error") => Word::Error(
            node.child("error").and_then(Node::condition).unwrap_or("without condition").to_owned(),
        ),
        other => Word::Error(format!("an answer of type {other:?}")),
    }
}
