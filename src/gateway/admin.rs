//! The watching door: HTTP on a thread of its own, GET only, changes nothing.
//!
//! It answers while the gateway is busy, and a scrape costs the relays nothing but the counters' reads.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};

use super::accept::Seldom;
use crate::run::observe::Observe;
use crate::run::registry::{Phase, Registry};

/// The listener, for as long as this lives.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Admin {
    /// Binds the address and answers there.
    ///
    /// # Errors
    /// When the address cannot be bound, or the thread not started.
    pub fn start(address: SocketAddr, observe: Arc<Observe>, registry: Arc<Registry>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let view = Arc::new(View { observe, registry });
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, view) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails only if the thread has ended.
            let _told = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

#[derive(Debug)]
struct View {
    observe: Arc<Observe>,
    registry: Arc<Registry>,
}

async fn serve(listener: TcpListener, view: Arc<View>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin listener cannot be served");
            return;
        }
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut short = Seldom::default();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if short.may_tell() {
                    tracing::warn!(%error, "the admin listener cannot accept");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let view = Arc::clone(&view);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let response = view.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 * 1024);
            let served =
                tokio::time::timeout(LIFETIME, http.serve_connection(TokioIo::new(stream), service)).await;
            if let Ok(Err(error)) = served {
                tracing::debug!(%error, "an admin connection ended");
            }
        });
    }
}

impl View {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
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
                Phase::Running => reply(StatusCode::OK, TEXT, "ready\n".to_owned()),
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
            _ => reply(StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz, /readyz, /policy\n".to_owned()),
        }
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

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may be kept.
const LIFETIME: Duration = Duration::from_secs(300);

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
