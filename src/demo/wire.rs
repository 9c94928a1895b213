//! One connection of a peer: plain or TLS, read element by element, written as it comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::node::{Found, Node, read};
use super::{PATIENCE, Told, Trouble};

trait Octets: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Octets for T {}

/// What came out of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A stream header.
    Header(Node),
    /// An element of the first level.
    Element(Node),
    /// The closing tag.
    Close,
    /// The connection ended.
    End,
}

/// How a stream came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// The condition of the stream error, if one was sent.
    pub condition: Option<String>,
    /// The whole stream error.
    pub error: Option<Node>,
    /// Whether the closing tag came.
    pub closed: bool,
    /// What else came before the end.
    pub before: Vec<Node>,
}

/// A connection.
pub struct Wire {
    io: Box<dyn Octets>,
    held: Vec<u8>,
    scope: Vec<(String, String)>,
    /// How long to wait for the next element.
    pub patience: Duration,
    /// The other side's certificate, after TLS.
    pub certificate: Option<CertificateDer<'static>>,
    /// The other side's address.
    pub address: Option<SocketAddr>,
}

impl Wire {
    /// A connection that stands.
    pub fn new(stream: TcpStream) -> Self {
        let address = stream.peer_addr().ok();
        // Without it a reply may wait for the other side's delayed acknowledgement; a connection that is gone has none.
        let _ = stream.set_nodelay(true);
        Self {
            io: Box::new(stream),
            held: Vec::new(),
            scope: Vec::new(),
            patience: PATIENCE,
            certificate: None,
            address,
        }
    }

    /// Writes octets.
    pub async fn send(&mut self, octets: impl AsRef<[u8]>) -> Told<()> {
        let writing = async {
            self.io.write_all(octets.as_ref()).await?;
            self.io.flush().await
        };
        Ok(tokio::time::timeout(PATIENCE, writing)
            .await
            .map_err(|_| Trouble::new("the other side takes no octets"))??)
    }

    /// The next thing on the stream, within the patience of this connection.
    pub async fn next(&mut self) -> Told<Item> {
        let patience = self.patience;
        self.next_within(patience).await
    }

    /// The next thing on the stream, within this time.
    pub async fn next_within(&mut self, patience: Duration) -> Told<Item> {
        tokio::time::timeout(patience, self.item())
            .await
            .map_err(|_| Trouble(format!("the other side said nothing for {patience:?}")))?
    }

    /// The next thing on the stream, whenever it comes. Nothing is lost if this is given up half way.
    pub async fn item(&mut self) -> Told<Item> {
        loop {
            if let Some(item) = self.cut()? {
                return Ok(item);
            }
            if self.fill().await? == 0 {
                return Ok(Item::End);
            }
        }
    }

    /// The next element; anything else is trouble.
    pub async fn element(&mut self) -> Told<Node> {
        match self.next().await? {
            Item::Element(node) => Ok(node),
            other => Err(Trouble(format!("an element was due, not {other:?}"))),
        }
    }

    /// The next header; anything else is trouble.
    pub async fn header(&mut self) -> Told<Node> {
        match self.next().await? {
            Item::Header(node) => Ok(node),
            other => Err(Trouble(format!("a stream header was due, not {other:?}"))),
        }
    }

    /// Reads until the connection ends, and tells how.
    pub async fn ending(&mut self) -> Told<Ending> {
        let mut ending = Ending::default();
        loop {
            match self.next().await? {
                Item::Element(node) if node.is("http://etherx.jabber.org/streams", "error") => {
                    ending.condition = node.condition().map(str::to_owned);
                    ending.error = Some(node);
                }
                Item::Element(node) | Item::Header(node) => ending.before.push(node),
                Item::Close => {
                    ending.closed = true;
                    // Answered as RFC 6120 4.4 asks; the other side may be gone already.
                    let _ = self.send("</stream:stream>").await;
                }
                Item::End => return Ok(ending),
            }
        }
    }

    /// A new stream on the same connection: nothing of the old one is left.
    pub fn restart(&mut self) {
        self.scope.clear();
    }

    /// TLS as the client, with this name in SNI.
    pub async fn secure(&mut self, config: Arc<ClientConfig>, name: &str) -> Told<()> {
        let io = self.lend()?;
        let name = ServerName::try_from(name.to_owned())?;
        let tls = tokio::time::timeout(PATIENCE, TlsConnector::from(config).connect(name, io))
            .await
            .map_err(|_| Trouble::new("the TLS handshake did not end"))?
            .map_err(|e| Trouble(format!("TLS handshake: {e}")))?;
        self.certificate = first(tls.get_ref().1.peer_certificates());
        self.io = Box::new(tls);
        self.restart();
        Ok(())
    }

    /// TLS as the server.
    pub async fn accept_tls(&mut self, config: Arc<ServerConfig>) -> Told<()> {
        let io = self.lend()?;
        let tls = tokio::time::timeout(PATIENCE, TlsAcceptor::from(config).accept(io))
            .await
            .map_err(|_| Trouble::new("the TLS handshake did not end"))?
            .map_err(|e| Trouble(format!("TLS handshake: {e}")))?;
        self.certificate = first(tls.get_ref().1.peer_certificates());
        self.io = Box::new(tls);
        self.restart();
        Ok(())
    }

    /// Ends the writing half: FIN, after close_notify where there is TLS.
    pub async fn shut(&mut self) {
        // A connection that is gone already needs no farewell.
        let _ = self.io.shutdown().await;
    }

    fn lend(&mut self) -> Told<Box<dyn Octets>> {
        if !self.held.is_empty() {
            return Err(Trouble(format!(
                "octets in clear where TLS was due: {:?}",
                String::from_utf8_lossy(&self.held)
            )));
        }
        Ok(std::mem::replace(&mut self.io, Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink()))))
    }

    fn cut(&mut self) -> Told<Option<Item>> {
        let text = match std::str::from_utf8(&self.held) {
            Ok(text) => text,
            Err(error) => {
                let whole = self.held.get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(whole).unwrap_or_default()
            }
        };
        let (found, used) = read(text, &self.scope);
        let item = match found {
            Found::Nothing => None,
            Found::Header(node, scope) => {
                self.scope = scope;
                Some(Item::Header(node))
            }
            Found::Element(node) => Some(Item::Element(node)),
            Found::Close => Some(Item::Close),
            Found::Garbage(why) => return Err(Trouble(format!("{why} in {text:?}"))),
        };
        self.held.drain(..used);
        Ok(item)
    }

    async fn fill(&mut self) -> Told<usize> {
        match self.io.read_buf(&mut self.held).await {
            Ok(count) => Ok(count),
            // A reset, or TLS cut off without close_notify, is an end like another to a peer of the small world.
            Err(error) if is_end(error.kind()) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_end(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn first(chain: Option<&[CertificateDer<'static>]>) -> Option<CertificateDer<'static>> {
    chain.and_then(|chain| chain.first()).cloned()
}
