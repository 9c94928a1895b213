//! Ways out through a proxy: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110 9.3.6).
//!
//! A proxy is asked for one address, or for one host that it looks up itself, and then is a plain connection to it. What may
//! be dialled was decided before, as for any other address. Upholds `bounded`: dialling and asking have one deadline each.

use std::fmt;
use std::net::SocketAddr;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_socks::Error as SocksError;
use tokio_socks::tcp::Socks5Stream;

use super::connect::{self, Params};
use super::shortage::Shortage;
use crate::policy::{Proxy, ProxyKind};

/// What a proxy is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An address, which was judged here.
    Address(SocketAddr),
    /// A host that the operator named, and a port; the proxy looks it up.
    Host(String, u16),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Connects through a proxy at the first of its `addresses` that answers.
///
/// # Errors
/// When no address of the proxy answers, it does not let us in, or it does not make the connection in time.
pub async fn connect(
    proxy: &Proxy,
    addresses: &[SocketAddr],
    wanted: &Wanted,
    params: &Params,
) -> Result<TcpStream, ViaFault> {
    let asked = async {
        let dialled = connect::connect(addresses, params).await.map_err(|down| ViaFault {
            lacking: down.shortage(),
            ..ViaFault::new(proxy, format!("not reached: {down}"))
        })?;
        ask(proxy, dialled.stream, wanted).await.map_err(|trouble| match trouble {
            Trouble::Login(what) => ViaFault { login: true, ..ViaFault::new(proxy, what) },
            Trouble::Other(what) => ViaFault::new(proxy, format!("no connection to {wanted}: {what}")),
        })
    };
    let late = |_| ViaFault::new(proxy, format!("no connection to {wanted} in time"));
    timeout(params.total, asked).await.map_err(late)?
}

/// What a proxy that was reached did not do.
enum Trouble {
    /// It asks for a login where we have none, or does not take ours.
    Login(String),
    /// Anything else.
    Other(String),
}

impl From<SocksError> for Trouble {
    fn from(error: SocksError) -> Self {
        match error {
            SocksError::AuthorizationRequired | SocksError::NoAcceptableAuthMethods => {
                Self::Login(format!("it asks for another login than it was shown: {error}"))
            }
            SocksError::PasswordAuthFailure(_) => Self::Login(format!("it refuses our login: {error}")),
            other => Self::Other(other.to_string()),
        }
    }
}

async fn ask(proxy: &Proxy, stream: TcpStream, wanted: &Wanted) -> Result<TcpStream, Trouble> {
    match proxy.kind() {
        ProxyKind::Socks5 | ProxyKind::Socks5h => {
            let stream = match (wanted, proxy.login()) {
                (Wanted::Address(address), None) => Socks5Stream::connect_with_socket(stream, *address).await,
                (Wanted::Host(host, port), None) => {
                    Socks5Stream::connect_with_socket(stream, (host.as_str(), *port)).await
                }
                (Wanted::Address(address), Some((user, password))) => {
                    Socks5Stream::connect_with_password_and_socket(stream, *address, user, password).await
                }
                (Wanted::Host(host, port), Some((user, password))) => {
                    let wanted = (host.as_str(), *port);
                    Socks5Stream::connect_with_password_and_socket(stream, wanted, user, password).await
                }
            };
            Ok(stream?.into_inner())
        }
        ProxyKind::Http => tunnel(proxy, stream, wanted).await,
    }
}

async fn tunnel(proxy: &Proxy, stream: TcpStream, wanted: &Wanted) -> Result<TcpStream, Trouble> {
    let words = |error: hyper::Error| Trouble::Other(error.to_string());
    let handshake =
        hyper::client::conn::http1::Builder::new().max_buf_size(ANSWER).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(words)?;
    let wanted = wanted.to_string();
    let mut request = Request::builder().method(Method::CONNECT).uri(&wanted).header(header::HOST, &wanted);
    if let Some((user, password)) = proxy.login() {
        let login =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{user}:{password}"));
        request = request.header(header::PROXY_AUTHORIZATION, format!("Basic {login}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| Trouble::Other(error.to_string()))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(words)?;
        match answer.status() {
            // RFC 9110 15.5.8. Any other refusal is about where we want to go.
            // COMPAT(tinyproxy 1.11): 401 for a login that is wrong.
            status @ (StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED) => {
                return Err(Trouble::Login(format!("it answers {status}")));
            }
            status if !status.is_success() => return Err(Trouble::Other(format!("it answers {status}"))),
            _ => {}
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(words)?;
        let none = |_| Trouble::Other("no connection".to_owned());
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(none)?;
        // Whom we call does not speak before we do.
        match parts.read_buf.is_empty() {
            true => Ok(parts.io.into_inner()),
            false => Err(Trouble::Other("it says more than its answer".to_owned())),
        }
    };
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        _ended = connection.with_upgrades() => asked.await,
    }
}

/// A proxy made no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViaFault {
    proxy: String,
    what: String,
    login: bool,
    lacking: Option<Shortage>,
}

impl ViaFault {
    /// That this proxy made no connection, and why.
    pub fn new(proxy: &Proxy, what: String) -> Self {
        Self { proxy: proxy.to_string(), what, login: false, lacking: None }
    }

    /// Whether it asks for a login that we do not have: that says nothing of whom it was to connect us to.
    pub fn is_of_login(&self) -> bool {
        self.login
    }

    /// What this machine lacked to ask it at all.
    pub fn shortage(&self) -> Option<Shortage> {
        self.lacking
    }
}

impl fmt::Display for ViaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}: {}", self.proxy, self.what)
    }
}

impl std::error::Error for ViaFault {}

/// Octets of an HTTP proxy's answer; hyper takes no smaller ceiling.
const ANSWER: usize = 8192;
