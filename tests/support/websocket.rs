//! A WebSocket client that says what it likes, frame by frame, in clear or over TLS.

// Each test crate uses its own part of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse::demo::world::World;
use gatehouse::demo::{dial, free};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// Octets both ways.
pub trait Octets: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Octets for T {}

/// A connection on its way to a stream over WebSocket.
pub struct Web {
    io: Box<dyn Octets>,
    held: Vec<u8>,
}

/// What the other side said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message.
    Text(String),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The last frame, with its code.
    Close(Option<u16>),
    /// The connection ended.
    End,
}

pub const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
const PATIENCE: Duration = Duration::from_secs(20);

/// Puts a listener before the others of this world, at a free port of its first address: where it listens.
pub async fn listen(world: &World, keys: &str) -> SocketAddr {
    let std::net::IpAddr::V4(ip) = world.at.clients.ip() else { panic!("the small world has IPv4") };
    let at = free(ip, 0).await.unwrap();
    let text = std::fs::read_to_string(&world.config).unwrap();
    let line = format!("listen:\n  - {{ address: \"{at}\", {keys} }}\n");
    std::fs::write(&world.config, text.replacen("listen:\n", &line, 1)).unwrap();
    world.gate.reload().await.unwrap();
    at
}

impl Web {
    /// A connection in clear.
    pub async fn dial(at: SocketAddr) -> Self {
        Self { io: Box::new(dial(at.ip(), at).await.unwrap()), held: Vec::new() }
    }

    /// A connection under TLS, with these protocols offered.
    pub async fn secure(world: &World, at: SocketAddr, name: &str, alpn: &[&str]) -> Result<Self, String> {
        let mut config = rustls::ClientConfig::clone(&*world.authority.client(None, false).unwrap());
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = dial(at.ip(), at).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let tls = tls.await.map_err(|error| error.to_string())?;
        Ok(Self { io: Box::new(tls), held: Vec::new() })
    }

    /// Octets as they are. Who has been let go is not told.
    pub async fn write(&mut self, octets: &[u8]) {
        let _gone = self.io.write_all(octets).await;
        let _gone = self.io.flush().await;
    }

    /// An HTTP request, whose lines may be any: status, head, and body of the answer.
    pub async fn request(&mut self, text: &str) -> (u16, String, String) {
        self.write(text.as_bytes()).await;
        let end = loop {
            if let Some(at) = self.held.windows(4).position(|at| at == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return (0, String::new(), String::new());
            }
        };
        let head = String::from_utf8(self.held.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = String::new();
        if status != 101 {
            while self.more().await {}
            body = String::from_utf8(std::mem::take(&mut self.held)).unwrap();
        }
        (status, head, body)
    }

    /// The upgrade as it should be, with further lines.
    pub async fn upgrade(&mut self, host: &str, more: &str) -> (u16, String, String) {
        self.request(&upgrade_of("/xmpp-websocket", host, more)).await
    }

    async fn more(&mut self) -> bool {
        let mut portion = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.io.read(&mut portion)).await;
        let octets = read.expect("the gateway says something, or ends").unwrap_or(0);
        self.held.extend_from_slice(&portion[..octets]);
        octets > 0
    }

    /// A frame, masked as it must be.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.write(&masked(first, payload)).await;
    }

    /// A message.
    pub async fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    /// Opens a stream to this domain.
    pub async fn open(&mut self, domain: &str) {
        self.say(&format!("<open xmlns='{FRAMING}' to='{domain}' version='1.0'/>")).await;
    }

    /// What is said next.
    pub async fn next(&mut self) -> Said {
        loop {
            if let Some(said) = self.take() {
                return said;
            }
            if !self.more().await {
                return Said::End;
            }
        }
    }

    fn take(&mut self) -> Option<Said> {
        let [first, second, rest @ ..] = self.held.as_slice() else { return None };
        assert_eq!(second & 0x80, 0, "a server does not mask");
        assert_eq!(first & 0x70, 0, "no extension was agreed on");
        assert_eq!(first & 0x80, 0x80, "the gateway does not fragment");
        let (len, skip) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().unwrap())), 2),
            127 => (usize::try_from(u64::from_be_bytes(rest.get(..8)?.try_into().unwrap())).unwrap(), 8),
            len => (usize::from(len), 0),
        };
        let payload = rest.get(skip..skip + len)?.to_vec();
        let said = match first & 0x0f {
            1 => Said::Text(String::from_utf8(payload).unwrap()),
            8 => Said::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            9 => Said::Ping(payload),
            10 => Said::Pong(payload),
            other => panic!("a frame of kind {other}"),
        };
        self.held.drain(..2 + skip + len);
        Some(said)
    }

    /// The next message.
    pub async fn hear(&mut self) -> String {
        loop {
            match self.next().await {
                Said::Text(text) => return text,
                Said::Ping(_) | Said::Pong(_) => {}
                other => panic!("a message was due, not {other:?}"),
            }
        }
    }

    /// The next message that holds this; what came before it is let go.
    pub async fn hear_of(&mut self, word: &str) -> String {
        loop {
            let text = self.hear().await;
            if text.contains(word) {
                return text;
            }
        }
    }

    /// All that is said until the end: the messages, and the code of the last frame.
    pub async fn ending(&mut self) -> (Vec<String>, Option<u16>) {
        let (mut messages, mut code) = (Vec::new(), None);
        loop {
            match self.next().await {
                Said::Text(text) => messages.push(text),
                Said::Close(with) => code = with,
                Said::Ping(_) | Said::Pong(_) => {}
                Said::End => return (messages, code),
            }
        }
    }

    /// Logs in and binds.
    pub async fn login(&mut self, user: &str, domain: &str, password: &str) -> String {
        use base64::Engine as _;
        self.open(domain).await;
        self.hear_of("<mechanism").await;
        let plain = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"));
        self.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"))
            .await;
        self.hear_of("<success").await;
        self.open(domain).await;
        self.hear_of("urn:ietf:params:xml:ns:xmpp-bind").await;
        self.say("<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>").await;
        self.hear_of("<jid>").await
    }
}

/// A frame of a client.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len(), 0x80);
    let mask = [7, 77, 177, 250];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(octet, mask)| octet ^ mask));
    frame
}

/// The first octets of a frame of that length.
pub fn head(first: u8, len: usize, mask: u8) -> Vec<u8> {
    match len {
        0..126 => vec![first, mask | u8::try_from(len).unwrap()],
        126..65536 => [vec![first, mask | 126], u16::try_from(len).unwrap().to_be_bytes().to_vec()].concat(),
        _ => [vec![first, mask | 127], u64::try_from(len).unwrap().to_be_bytes().to_vec()].concat(),
    }
}

/// A request for a WebSocket.
pub fn upgrade_of(path: &str, host: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: xmpp\r\n{more}\r\n"
    )
}
