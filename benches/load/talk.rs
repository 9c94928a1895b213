//! One connection of the generator: TLS, then the words of a login, each waited for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::sink::find;

/// A connection under TLS.
pub struct Line {
    /// The octets.
    pub tls: TlsStream<TcpStream>,
    held: Vec<u8>,
}

/// A connection in clear, each from another address: one address may be allowed so many connections only.
pub async fn dial(to: SocketAddr) -> TcpStream {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed) % 4096;
    let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 7, 0, 1)) + next);
    let socket = TcpSocket::new_v4().expect("files are left");
    socket.bind((from, 0).into()).expect("ports are left");
    let stream = tokio::time::timeout(super::PATIENCE, socket.connect(to))
        .await
        .expect("in time")
        .expect("somebody listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// How a client's kernel sends what it says: as most libraries leave it, or at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nagle {
    /// A small word waits until the one before it is acknowledged.
    On,
    /// TCP_NODELAY.
    Off,
}

impl Line {
    /// Connects and shakes hands.
    pub async fn open(to: SocketAddr, tls: &Arc<ClientConfig>) -> Self {
        Self::open_with(to, tls, Nagle::Off).await
    }

    /// The same over such a socket.
    pub async fn open_with(to: SocketAddr, tls: &Arc<ClientConfig>, nagle: Nagle) -> Self {
        let stream = dial(to).await;
        stream.set_nodelay(nagle == Nagle::Off).expect("a socket");
        let name = ServerName::try_from("montague.example").expect("a name");
        let shaken = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        let tls = tokio::time::timeout(super::PATIENCE, shaken).await.expect("in time").expect("a handshake");
        Self { tls, held: Vec::new() }
    }

    /// Whether an earlier session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Says this in one write.
    pub async fn say(&mut self, words: &str) {
        self.write(words.as_bytes()).await;
    }

    /// Writes these octets at once.
    pub async fn write(&mut self, octets: &[u8]) {
        self.tls.write_all(octets).await.expect("the other side listens");
        self.tls.flush().await.expect("the other side listens");
    }

    /// Waits for this word and the end of the tag that it begins; what came so far is taken.
    pub async fn hear(&mut self, word: &str) -> String {
        loop {
            if let Some(at) = find(&self.held, word.as_bytes())
                && let Some(end) = find(&self.held[at..], b">")
            {
                let taken = self.held.drain(..at + end + 1).collect();
                return String::from_utf8(taken).expect("text");
            }
            let count = tokio::time::timeout(super::PATIENCE, self.tls.read_buf(&mut self.held)).await;
            let count = count.unwrap_or_else(|_| panic!("no {word} in time")).expect("a connection");
            assert!(count > 0, "no {word}, but the end: {}", String::from_utf8_lossy(&self.held));
        }
    }

    /// Reads so many octets and throws them away.
    pub async fn drain(&mut self, octets: usize, space: &mut [u8]) {
        let mut left = octets - self.held.len().min(octets);
        self.held.clear();
        while left > 0 {
            let count = tokio::time::timeout(super::PATIENCE, self.tls.read(space)).await.expect("in time");
            let count = count.expect("a connection");
            assert!(count > 0, "the end, {left} octets too early");
            left = left.saturating_sub(count);
        }
    }

    /// TLS, stream, PLAIN, stream, bind.
    pub async fn login(to: SocketAddr, tls: &Arc<ClientConfig>, user: &str) -> Self {
        let mut line = Self::open(to, tls).await;
        line.log_in(user).await;
        line
    }

    /// Opens a client's stream.
    pub async fn greet(&mut self) {
        let header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                      to='montague.example' version='1.0'>";
        self.say(header).await;
        self.hear("</stream:features").await;
    }

    /// The same on a connection that stands.
    pub async fn log_in(&mut self, user: &str) {
        self.greet().await;
        let plain = STANDARD.encode(format!("\0{user}\0secret"));
        self.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"))
            .await;
        self.hear("<success").await;
        self.greet().await;
        self.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>").await;
        self.hear("</iq").await;
    }

    /// TLS with a certificate, stream, EXTERNAL, stream: a server that may send.
    pub async fn federate(to: SocketAddr, tls: &Arc<ClientConfig>) -> Self {
        let header = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                      xmlns:db='jabber:server:dialback' from='capulet.example' to='montague.example' version='1.0'>";
        let mut line = Self::open(to, tls).await;
        line.say(header).await;
        let features = line.hear("</stream:features").await;
        assert!(features.contains("EXTERNAL"), "not believed: {features}");
        let identity = STANDARD.encode("capulet.example");
        line.say(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{identity}</auth>"
        ))
        .await;
        line.hear("<success").await;
        line.say(header).await;
        line.hear("<stream:features").await;
        line
    }

    /// Claims more domains of the same certificate on a server's stream, each a pair of its own.
    pub async fn claim(&mut self, names: &[String]) {
        for name in names {
            self.say(&format!("<db:result from='{name}' to='montague.example'>6b6579</db:result>")).await;
            let answer = self.hear("<db:result").await;
            assert!(answer.contains("'valid'"), "{name} is not believed: {answer}");
        }
    }

    /// Closes the stream, says goodbye and waits for the end.
    pub async fn close(mut self) {
        // The other side may have gone already.
        let _gone = self.tls.write_all(b"</stream:stream>").await;
        let _gone = self.tls.shutdown().await;
        let mut space = [0; 1024];
        let rest = async { while matches!(self.tls.read(&mut space).await, Ok(1..)) {} };
        let _late = tokio::time::timeout(Duration::from_secs(10), rest).await;
    }
}
