//! Ways out through a proxy: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110 9.3.6).
//!
//! A proxy is asked for one address, or for one host that it looks up itself, and then is a plain connection to it. What may
//! be dialled was decided before, as for any other address. Upholds `bounded`: dialling and asking have one deadline each.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_socks::tcp::Socks5Stream;

use super::connect::{self, Params};

/// A proxy that connections to the world go through.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    login: Option<(String, String)>,
}

/// What it speaks, and who looks host names up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// SOCKS5, with addresses.
    Socks5,
    /// SOCKS5, with the names that a route has.
    Socks5h,
    /// HTTP CONNECT, with the names that a route has.
    Http,
}

impl Proxy {
    /// Reads `socks5://`, `socks5h://` or `http://`, then the login if there is one, the host and the port.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let kind = match scheme {
            "socks5" => Kind::Socks5,
            "socks5h" => Kind::Socks5h,
            "http" => Kind::Http,
            _ => return Err("the scheme is none of socks5, socks5h and http"),
        };
        let (login, authority) = match rest.rsplit_once('@') {
            Some((login, authority)) => (Some(login), authority),
            None => (None, rest),
        };
        let login = match login.map(|login| login.split_once(':')) {
            None => None,
            Some(Some((user, password))) if !user.is_empty() => Some((user.to_owned(), password.to_owned())),
            Some(_) => return Err("the login is no user, colon and password"),
        };
        if login.as_ref().is_some_and(|(user, password)| user.len() > LOGIN || password.len() > LOGIN) {
            return Err("user or password has more than 255 octets");
        }
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let uri: Uri = authority.parse().map_err(|_| "host and port cannot be read")?;
        let port = uri.port_u16().filter(|port| *port != 0).ok_or("it has no port")?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { kind, host, port, login })
    }

    /// Where it is: an address, or a name to be looked up.
    pub fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Its address, where it is not known by a name.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse::<IpAddr>().ok()?, self.port))
    }

    /// Whether it looks host names up, which then are not looked up here.
    pub const fn looks_up(&self) -> bool {
        !matches!(self.kind, Kind::Socks5)
    }
}

/// As it was written, without the login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Socks5 => "socks5",
            Kind::Socks5h => "socks5h",
            Kind::Http => "http",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// Never with the login.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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
/// When no address of the proxy answers, or it does not make the connection in time.
pub async fn connect(
    proxy: &Proxy,
    addresses: &[SocketAddr],
    wanted: &Wanted,
    params: &Params,
) -> Result<TcpStream, ViaFault> {
    let fault = |what: String| ViaFault::new(proxy, what);
    let asked = async {
        let dialled =
            connect::connect(addresses, params).await.map_err(|down| format!("not reached: {down}"))?;
        let made = ask(proxy, dialled.stream, wanted).await;
        made.map_err(|what| format!("no connection to {wanted}: {what}"))
    };
    let late = |_| fault(format!("no connection to {wanted} in time"));
    timeout(params.total, asked).await.map_err(late)?.map_err(fault)
}

async fn ask(proxy: &Proxy, stream: TcpStream, wanted: &Wanted) -> Result<TcpStream, String> {
    match proxy.kind {
        Kind::Socks5 | Kind::Socks5h => {
            let stream = match (wanted, &proxy.login) {
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
            stream.map(Socks5Stream::into_inner).map_err(|error| error.to_string())
        }
        Kind::Http => tunnel(proxy, stream, wanted).await,
    }
}

async fn tunnel(proxy: &Proxy, stream: TcpStream, wanted: &Wanted) -> Result<TcpStream, String> {
    let words = |error: hyper::Error| error.to_string();
    let handshake =
        hyper::client::conn::http1::Builder::new().max_buf_size(ANSWER).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(words)?;
    let wanted = wanted.to_string();
    let mut request = Request::builder().method(Method::CONNECT).uri(&wanted).header(header::HOST, &wanted);
    if let Some((user, password)) = &proxy.login {
        let login =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{user}:{password}"));
        request = request.header(header::PROXY_AUTHORIZATION, format!("Basic {login}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(words)?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(words)?;
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| "no connection".to_owned())?;
        // Whom we call does not speak before we do.
        match parts.read_buf.is_empty() {
            true => Ok(parts.io.into_inner()),
            false => Err("it says more than its answer".to_owned()),
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
}

impl ViaFault {
    /// That this proxy made no connection, and why.
    pub fn new(proxy: &Proxy, what: String) -> Self {
        Self { proxy: proxy.to_string(), what }
    }
}

impl fmt::Display for ViaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}: {}", self.proxy, self.what)
    }
}

impl std::error::Error for ViaFault {}

/// RFC 1929 2: octets of a user's name and of a password.
const LOGIN: usize = 255;
/// Octets of an HTTP proxy's answer; hyper takes no smaller ceiling.
const ANSWER: usize = 8192;
