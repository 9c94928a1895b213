//! What a connection is that has come in: TLS and ALPN, the namespace of a stream in clear, or an upgrade over HTTP tell, each once,
//! and nothing that is said later changes it (ACC-01).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::admission::Admission;
use super::web::Greeted;
use crate::metrics::Door;
use crate::net::Begun;
use crate::reason::{Cause, Detail, Flow, Reason};
use crate::run::websocket::{Frames, Socket};
use crate::run::{BoxIo, Failure, Tools, now, turn};
use crate::stream::secured::{ChannelFacts, Secured, TlsVersion};
use crate::tls::{Ahead, Alpn};
use crate::xml::{Content, Limits, StreamStart};

/// What a connection is, once that is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) flow: Flow,
    pub(super) io: BoxIo,
    pub(super) secured: Option<Secured>,
    /// What brings its messages, over WebSocket.
    pub(super) frames: Option<Arc<Frames>>,
}

impl Admission {
    /// Finds out what has come; none if it was no stream and has had its answer.
    pub(super) async fn known(
        &self,
        tools: &Tools,
        stream: TcpStream,
        peer: IpAddr,
    ) -> Result<Option<Known>, Failure> {
        if self.clear && !self.begins_with_tls(tools.params.first_byte, &stream).await? {
            let (flow, io) = self.in_clear(&tools.relays.limits.before_proof, stream).await?;
            return Ok(Some(Known { flow, io, secured: None, frames: None }));
        }
        let (io, secured) = self.direct_tls(tools, stream, peer).await?;
        let secured = match self.at_proxy {
            true => Some(behind_proxy()),
            false => secured,
        };
        let flow = self.flow_of(secured.as_ref())?;
        let over_http = self.door == Door::Websocket
            || secured.as_ref().is_some_and(|s| s.alpn.as_deref() == Some(Alpn::Http.octets()));
        let Some(web) = self.web.as_ref().filter(|_| over_http) else {
            return Ok(Some(Known { flow, io, secured, frames: None }));
        };
        match Arc::clone(web).greet(io, self.header).await? {
            Greeted::Answered => Ok(None),
            Greeted::Upgraded(io) => {
                let socket = Socket::new(io);
                let frames = Some(socket.frames());
                Ok(Some(Known { flow, io: Box::new(socket), secured, frames }))
            }
        }
    }

    /// What the first octet says on a listener for everybody; it is not taken.
    async fn begins_with_tls(&self, within: Duration, stream: &TcpStream) -> Result<bool, Reason> {
        let mut first = [0];
        match tokio::time::timeout(within, stream.peek(&mut first)).await {
            Ok(Ok(octets)) if octets > 0 => Ok(first == [TLS_HANDSHAKE]),
            Ok(_ended) => Err(Reason::ConnectionLost),
            Err(_late) => Err(Reason::HeaderTimeout),
        }
    }

    /// Whose stream begins there in clear, by the namespace of its header, which is read once more then (ACC-01).
    async fn in_clear(&self, limits: &Limits, mut stream: TcpStream) -> Result<(Flow, BoxIo), Reason> {
        let mut opening = StreamStart::new(limits);
        let mut held = Vec::new();
        let reading = async {
            loop {
                let mut portion = [0; 512];
                let octets = stream.read(&mut portion).await.map_err(|_| Reason::ConnectionLost)?;
                let portion = portion.get(..octets).unwrap_or_default();
                held.extend_from_slice(portion);
                match opening.feed(portion) {
                    Some(content) => break Ok(content),
                    None if octets == 0 => break Err(Reason::ConnectionLost),
                    None => {}
                }
            }
        };
        let content =
            tokio::time::timeout(self.header, reading).await.map_err(|_late| Reason::HeaderTimeout)??;
        let flow = match content {
            Content::Client => Flow::C2s,
            Content::Server => Flow::S2sIn,
        };
        Ok((flow, Box::new(Begun::new(held, stream))))
    }

    /// What it is once TLS stands: on a mixed listener the protocol agreed on decides, and nothing the peer sends
    /// afterwards (ACC-01, XEP-0368). Who agreed on none is neither.
    fn flow_of(&self, secured: Option<&Secured>) -> Result<Flow, Reason> {
        if self.door != Door::Mixed {
            return Ok(self.flow());
        }
        match secured.and_then(|secured| secured.alpn.as_deref()) {
            Some(alpn) if alpn == Alpn::Client.octets() || alpn == Alpn::Http.octets() => Ok(Flow::C2s),
            Some(alpn) if alpn == Alpn::Server.octets() => Ok(Flow::S2sIn),
            _ => Err(Reason::WrongTransport),
        }
    }

    async fn direct_tls(
        &self,
        tools: &Tools,
        stream: TcpStream,
        peer: IpAddr,
    ) -> Result<(BoxIo, Option<Secured>), Failure> {
        let Some(acceptor) = &self.direct else { return Ok((Box::new(stream), None)) };
        // T-first-byte runs here too: a silent peer need not be given a handshake's time.
        // An octet is waited for, not readiness, which may be told of a new socket before there is anything to read.
        let mut stream = Ahead::new(stream);
        match tokio::time::timeout(tools.params.first_byte, stream.begin()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false) | Err(_)) => return Err(Reason::ConnectionLost.into()),
            Err(_late) => return Err(Reason::HeaderTimeout.into()),
        }
        let begun = now();
        turn(&tools.bounds.handshakes, peer, tools.observe.metrics()).await?;
        // T-tls is one budget, for the turn and for the handshake.
        let left = self.handshake.saturating_sub(now().saturating_duration_since(begun));
        let shaken = acceptor.accept_begun(stream, self.default.as_ref());
        let outcome = match tokio::time::timeout(left, shaken).await {
            Ok(Ok((stream, secured))) => Ok((Box::new(stream) as BoxIo, secured)),
            Ok(Err(fault)) => Err(Failure::new(fault.reason(), fault.detail())),
            Err(_late) => {
                Err(Failure::new(Reason::TlsFailed, Detail::new(Cause::TimedOut, "the TLS handshake")))
            }
        };
        tools.observe.metrics().handshake(self.door, outcome.as_ref().ok().map(|(_, s)| s.version));
        outcome.map(|(io, secured)| (io, Some(secured)))
    }
}

/// The channel of who comes through a proxy that ends TLS: the operator says that there is one, and nobody says more.
fn behind_proxy() -> Secured {
    Secured::from(ChannelFacts {
        version: TlsVersion::AtProxy,
        certificate: None,
        alpn: None,
        sni: None,
        shown: None,
        suite: "unknown",
        evidence: Vec::new(),
    })
}

/// The content type of a TLS record that holds a ClientHello (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
