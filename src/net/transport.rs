//! One connection, in clear or under TLS, and the step from one to the other.
//!
//! An upgrade takes the plain stream by value: octets that somebody read from it before cannot come back
//! (RFC 6120 5.4.3.3). Under TLS a read of nothing means that the peer said `close_notify`; a connection that just ends
//! is an error, see [`is_truncation`] (TLS-21). Dropping a transport closes it at once; shutting it down says goodbye.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::jid::Domain;
use crate::stream::secured::Secured;
use crate::tls::{Acceptor, Ahead, Connector, HandshakeFault, Mode};

/// A connection.
#[derive(Debug)]
pub enum Transport {
    /// In clear.
    Plain(TcpStream),
    /// Under TLS that we opened.
    TlsClient(Box<client::TlsStream<Ahead<TcpStream>>>),
    /// Under TLS that we accepted.
    TlsServer(Box<server::TlsStream<Ahead<TcpStream>>>),
}

/// Accepts TLS on a connection. `fallback` is the `to` of the stream on STARTTLS.
pub async fn accept_tls(
    stream: TcpStream,
    acceptor: &Acceptor,
    fallback: Option<&Domain>,
) -> Result<(Transport, Secured), HandshakeFault> {
    let (stream, secured) = acceptor.accept(stream, fallback).await?;
    Ok((Transport::TlsServer(Box::new(stream)), secured))
}

/// Opens TLS on a connection to the server of `remote`, showing the certificate of `hosted`.
pub async fn connect_tls(
    stream: TcpStream,
    connector: &Connector,
    hosted: Option<&Domain>,
    remote: &Domain,
    mode: Mode,
) -> Result<(Transport, Secured), HandshakeFault> {
    let (stream, secured) = connector.connect(stream, hosted, remote, mode).await?;
    Ok((Transport::TlsClient(Box::new(stream)), secured))
}

/// Whether a read failed because the connection ended without `close_notify`, by FIN or reset: what was being read is
/// void.
pub fn is_truncation(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted)
}

impl Transport {
    /// The plain stream, for an upgrade; a transport under TLS comes back as it was.
    pub fn into_plain(self) -> Result<TcpStream, Transport> {
        match self {
            Self::Plain(stream) => Ok(stream),
            secured => Err(secured),
        }
    }

    /// Whether TLS stands.
    pub const fn is_secured(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// The address of the other end of the socket, IPv4 as IPv4.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr().map(super::listen::canonical)
    }

    /// The address of this end of the socket, IPv4 as IPv4.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr().map(super::listen::canonical)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::TlsClient(stream) => stream.get_ref().0.get_ref(),
            Self::TlsServer(stream) => stream.get_ref().0.get_ref(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::TlsClient(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::TlsServer(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::TlsClient(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::TlsServer(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::TlsClient(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::TlsServer(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::TlsClient(stream) => Pin::new(stream).poll_flush(cx),
            Self::TlsServer(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsClient(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsServer(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
