//! The watching door: HTTP on a thread of its own, GET and HEAD only, changes nothing.
//!
//! It answers while the gateway is busy, and a scrape costs the relays nothing but the counters' reads. Whoever says nothing
//! keeps nobody else out (`gateway/places`), and a page in a browser that found the way here by a name of its own (DNS
//! rebinding) reads nothing: `Host` is an address, `localhost`, or a name that the operator listed.

use std::convert::Infallible;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::places::{Caller, Places};
use super::sockets::SocketFile;
use crate::config::settings::Http;
use crate::run::observe::Observe;
use crate::run::registry::{Phase, Registry};
use crate::run::seldom::Seldom;
use crate::status::{Snapshot, page};

/// The listener, for as long as this lives.
#[derive(Debug)]
pub struct Admin {
    at: Http,
    /// The same socket once more, for the program that takes the place of this one. A Unix socket is not handed over.
    socket: Option<TcpListener>,
    /// The place of the Unix socket, where it is one: it goes with this.
    _place: Option<SocketFile>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Admin {
    /// Answers at this socket.
    ///
    /// # Errors
    /// When the system does not let it be served, or the thread not be started.
    pub(super) fn start(socket: Socket, view: View) -> io::Result<Self> {
        let (listener, at, socket, place) = match socket {
            Socket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let at = Http::Address(listener.local_addr()?);
                let socket = listener.try_clone()?;
                (Listener::Tcp(listener), at, Some(socket), None)
            }
            Socket::Unix(mut place) => {
                let at = Http::Socket(place.path().to_owned());
                (Listener::Unix(place.open()?), at, None, Some(place))
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let view = Arc::new(view);
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, view) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { at, socket, _place: place, stop: Some(stop), thread: Some(thread) })
    }

    /// The socket, where it can be handed over.
    pub(super) fn socket(&self) -> Option<&TcpListener> {
        self.socket.as_ref()
    }

    /// Where it listens.
    pub fn at(&self) -> &Http {
        &self.at
    }

    /// The address where it listens, if it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.at.address()
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails only if the thread has ended.
            let _sent = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Who knows what the status page shows.
#[async_trait]
pub trait Shows: Debug + Send + Sync {
    /// Everything, with this page of the pairs (from 1).
    async fn snapshot(&self, page: usize) -> Snapshot;
}

/// Where that one will stand, for the door is opened before.
#[derive(Debug, Default)]
pub(super) struct Shown(OnceLock<Weak<dyn Shows>>);

impl Shown {
    /// It stands there.
    pub(super) fn by(&self, shows: &Arc<dyn Shows>) {
        // The first word holds; there is one.
        let _known = self.0.set(Arc::downgrade(shows));
    }

    fn get(&self) -> Option<Arc<dyn Shows>> {
        self.0.get()?.upgrade()
    }
}

/// What is answered from.
#[derive(Debug)]
pub(super) struct View {
    /// Names under which it may be asked, besides addresses and `localhost`.
    pub(super) hosts: Vec<String>,
    /// The counters, and how the backends are.
    pub(super) observe: Arc<Observe>,
    /// The phase and the policy.
    pub(super) registry: Arc<Registry>,
    /// Who knows the rest, where the status page is on.
    pub(super) status: Option<Arc<Shown>>,
}

/// What it shall listen at: bound, and nobody is answered yet.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(SocketFile),
}

/// A listening socket of either kind.
enum Listener {
    Tcp(TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

async fn serve(listener: Listener, view: Arc<View>) {
    let listener = match listener {
        Listener::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Ears::Tcp),
        Listener::Unix(listener) => tokio::net::UnixListener::from_std(listener).map(Ears::Unix),
    };
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin listener cannot be served");
            return;
        }
    };
    let mut places = Places::new(CONNECTIONS);
    let mut short = Seldom::default();
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                if short.may_log() {
                    tracing::warn!(%error, "the admin listener cannot accept");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let view = Arc::clone(&view);
        match stream {
            Stream::Tcp(stream) => places.seat(|caller| attend(stream, view, caller)).await,
            Stream::Unix(stream) => places.seat(|caller| attend(stream, view, caller)).await,
        }
    }
}

/// The same, on the runtime that serves it.
enum Ears {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Ears {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// Serves one connection, request by request.
async fn attend<S>(stream: S, view: Arc<View>, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let spoke = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&spoke);
    let caller = Arc::new(caller);
    let service = service_fn(move |request| {
        heard.store(true, Ordering::Relaxed);
        let (view, caller) = (Arc::clone(&view), Arc::clone(&caller));
        async move {
            let response = view.answer(&request).await;
            // What takes time from here on is to be read, and who does not read is silent.
            caller.waits();
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(16 * 1024);
    let serving = tokio::time::timeout(LIFETIME, http.serve_connection(TokioIo::new(stream), service));
    let silence = async {
        tokio::time::sleep(PATIENCE).await;
        if spoke.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = serving => {
            if let Ok(Err(error)) = served {
                tracing::debug!(%error, "an admin connection ended");
            }
        }
        () = silence => tracing::debug!("an admin connection ended: no request came"),
    }
}

impl View {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        // RFC 9112 3.2: none, or two, is no request of HTTP/1.1 whatever else it says.
        let names = request.headers().get_all(HOST).iter().count();
        if names > 1 || (names == 0 && request.version() >= Version::HTTP_11) {
            return reply(StatusCode::BAD_REQUEST, TEXT, ONE_HOST.to_owned());
        }
        if !self.is_asked(request) {
            return reply(StatusCode::MISDIRECTED_REQUEST, TEXT, MISDIRECTED.to_owned());
        }
        // RFC 9110 9.3.2: the same without the body, which is left out behind us.
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => match self.observe.metrics().text() {
                Ok(text) => reply(StatusCode::OK, crate::metrics::CONTENT_TYPE, text),
                Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            },
            "/healthz" => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => match self.registry.phase() {
                Phase::Starting => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n".to_owned()),
                Phase::Running if self.observe.refuses() => {
                    reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "audit log cannot be written\n".to_owned())
                }
                Phase::Running => {
                    reply(StatusCode::OK, TEXT, format!("ready\n{}{}", self.backends(), self.store()))
                }
                Phase::Draining(_) | Phase::Closing(_) => {
                    reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".to_owned())
                }
                Phase::Stopped => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopped\n".to_owned()),
            },
            "/policy" => {
                let policy = self.registry.policy();
                let rules: Vec<&str> = policy.rule_names().map(|r| r.as_str()).collect();
                reply(
                    StatusCode::OK,
                    "application/json",
                    format!("{}\n", json!({ "digest": policy.digest(), "rules": rules })),
                )
            }
            "/status" | "/status.json" if self.status.is_some() => self.status_page(request).await,
            _ => reply(StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz, /readyz, /policy\n".to_owned()),
        }
    }

    /// A line for each side of a backend that is down. The gateway is ready all the same: it answers for the others.
    fn backends(&self) -> String {
        let down = self.observe.health().states().into_iter().filter_map(|((domain, flow), state)| {
            let state = state.filter(|state| !state.up)?;
            let seen = state
                .seen
                .iter()
                .filter_map(|seen| Some(format!("{} {}", seen.address, seen.trouble(flow)?)));
            Some(format!("backend {domain} {flow} down: {}\n", seen.collect::<Vec<_>>().join("; ")))
        });
        down.collect()
    }

    /// A line if the store that nodes share is in trouble. Traffic goes on all the same.
    fn store(&self) -> String {
        self.observe.fellows().trouble().map(|why| format!("cluster: {why}\n")).unwrap_or_default()
    }

    /// The status page, or the same as JSON. `?page=N` turns the pages of the pairs.
    async fn status_page(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(shows) = self.status.as_ref().and_then(|shown| shown.get()) else {
            return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n".to_owned());
        };
        let query = request.uri().query().unwrap_or_default();
        let page = query.split('&').find_map(|part| part.strip_prefix("page=")?.parse().ok()).unwrap_or(1);
        let snapshot = shows.snapshot(page).await;
        let mut response = match request.uri().path() {
            "/status" => {
                let policy = HeaderValue::try_from(page::content_security_policy());
                let mut response = reply(StatusCode::OK, "text/html; charset=utf-8", page::write(&snapshot));
                // It is made of base64 and words of ours.
                if let Ok(policy) = policy {
                    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
                }
                response
            }
            _ => match serde_json::to_string(&snapshot) {
                Ok(json) => reply(StatusCode::OK, "application/json", format!("{json}\n")),
                Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            },
        };
        for (name, value) in
            [(X_CONTENT_TYPE_OPTIONS, "nosniff"), (X_FRAME_OPTIONS, "DENY"), (REFERRER_POLICY, "no-referrer")]
        {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl View {
    /// Whether the request was meant for us: a name that is not ours is how a page in a browser comes here. Who names nothing
    /// (HTTP/1.0) is no browser.
    fn is_asked(&self, request: &Request<Incoming>) -> bool {
        let named = request.headers().get_all(HOST).iter().map(HeaderValue::to_str);
        let host = named.map(|host| host.ok()).chain(request.uri().host().map(Some));
        let ours = |host: &str| {
            let name = name_of(host);
            name.eq_ignore_ascii_case("localhost")
                || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
                || self.hosts.iter().any(|listed| listed.eq_ignore_ascii_case(name))
        };
        host.into_iter().all(|host| host.is_some_and(ours))
    }
}

/// The host of `host` or `host:port`, brackets included.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Connections at one time: scrapers and probes, not the public.
const CONNECTIONS: usize = 64;

/// How long the first request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a kept connection may be silent between two requests; a scraper comes back in less.
const IDLE: Duration = Duration::from_secs(60);

const ONE_HOST: &str = "HTTP/1.1 asks with one `Host`, no less and no more\n";

const MISDIRECTED: &str =
    "this name is not listed: write it to `admin: { hosts: [..] }`, or ask by address\n";

/// How long a connection may be kept.
const LIFETIME: Duration = Duration::from_secs(300);

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
