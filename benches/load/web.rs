//! Clients over WebSocket: the same echo as without, each message in a frame of its own (RFC 7395).

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::mix::{Way, chat};
use super::scene::{Run, Scene, Who};
use super::sink::find;
use super::talk::Line;
use super::work::{Figures, Size, clients, cost, echo};

/// Sessions, each with one message under way.
const SESSIONS: usize = 128;

/// What an echo costs over WebSocket and over plain streams, of one process each.
pub async fn beside_plain(scene: &Scene, who: Who, size: &Size) -> Figures {
    let subject = scene.start(who, Run::default());
    let mut lines = clients(&subject, &scene.client(false, false), SESSIONS, "echo").await;
    let plain = echo(&subject, &mut lines, SESSIONS, size.echoes).await.micros();
    drop((lines, subject));

    let subject = scene.start(who, Run::default());
    let mut tls = ClientConfig::clone(&scene.client(false, false));
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (tls, mut lines) = (Arc::new(tls), Vec::new());
    for _ in 0..SESSIONS {
        lines.push(Web::login(subject.web, &tls).await);
    }
    let turns = size.echoes / SESSIONS;
    let message = chat(300, Way::ToServer).replacen("<message", "<message xmlns='jabber:client'", 1);
    let rounds = async |lines: &mut Vec<Web>, turns: usize| {
        let mut tasks = JoinSet::new();
        for mut web in lines.drain(..) {
            let message = message.clone();
            tasks.spawn(async move {
                for _ in 0..turns {
                    web.say(&message).await;
                    let answer = web.message().await;
                    assert!(find(&answer, b"</message>").is_some(), "{}", String::from_utf8_lossy(&answer));
                }
                web
            });
        }
        lines.extend(tasks.join_all().await);
    };
    rounds(&mut lines, turns.div_ceil(10)).await;
    let web = cost(&subject, turns * SESSIONS, rounds(&mut lines, turns)).await.micros();
    vec![("web", web / plain), ("web plain", plain), ("web framed", web)]
}

/// A session over WebSocket.
struct Web {
    line: Line,
    held: Vec<u8>,
}

impl Web {
    /// TLS, upgrade, stream, PLAIN, stream, bind.
    async fn login(to: SocketAddr, tls: &Arc<ClientConfig>) -> Self {
        let mut web = Self { line: Line::open(to, tls).await, held: Vec::new() };
        web.line
            .say(
                "GET /xmpp-websocket HTTP/1.1\r\nHost: montague.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n",
            )
            .await;
        let end = loop {
            if let Some(at) = find(&web.held, b"\r\n\r\n") {
                break at + 4;
            }
            web.more().await;
        };
        let head: Vec<u8> = web.held.drain(..end).collect();
        assert!(find(&head, b" 101 ").is_some(), "no upgrade: {}", String::from_utf8_lossy(&head));
        web.greet().await;
        let plain = STANDARD.encode("\0echo\0secret");
        web.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"))
            .await;
        web.hear("<success").await;
        web.greet().await;
        web.say(
            "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        )
        .await;
        web.hear("</iq>").await;
        web
    }

    async fn greet(&mut self) {
        self.say("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='montague.example' version='1.0'/>")
            .await;
        self.hear("features>").await;
    }

    /// Waits for a message in which this word is.
    async fn hear(&mut self, word: &str) {
        while find(&self.message().await, word.as_bytes()).is_none() {}
    }

    /// One message, masked as a client must.
    async fn say(&mut self, text: &str) {
        const MASK: [u8; 4] = [0x5E, 0xED, 0x0A, 0x51];
        let len = u16::try_from(text.len()).expect("short");
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(len.to_be_bytes());
        frame.extend(MASK);
        frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(octet, mask)| octet ^ mask));
        self.line.write(&frame).await;
    }

    /// The next message, whole in one frame as the gateway writes them.
    async fn message(&mut self) -> Vec<u8> {
        loop {
            let long = |at: usize, octets: usize| {
                let len = self.held.get(at..at + octets)?;
                Some((at + octets, len.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet))))
            };
            let sized = match self.held.get(1) {
                Some(126) => long(2, 2),
                Some(127) => long(2, 8),
                Some(len) => Some((2, usize::from(*len))),
                None => None,
            };
            if let Some((begin, len)) = sized.filter(|(begin, len)| self.held.len() >= begin + len) {
                let first = self.held[0];
                let payload = self.held.drain(..begin + len).skip(begin).collect();
                match first {
                    0x81 => return payload,
                    // Pings and pongs say nothing.
                    0x89 | 0x8A => continue,
                    other => panic!("a frame of kind {other:#x}: {}", String::from_utf8_lossy(&payload)),
                }
            }
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let read = tokio::time::timeout(super::PATIENCE, self.line.tls.read_buf(&mut self.held)).await;
        let count = read.expect("in time").expect("a connection");
        assert!(count > 0, "the end: {}", String::from_utf8_lossy(&self.held));
    }
}
