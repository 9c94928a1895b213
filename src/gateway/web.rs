//! HTTP in front of streams over WebSocket: one request a connection, for the upgrade (RFC 7395 3.1) or for the documents that
//! lead clients to it (XEP-0156).
//!
//! Everything else is refused without a word of what is here. An upgrade that carries a body, that somebody has written octets
//! behind, or that a page of a foreign site asks for, ends here as well: past this point nobody reads HTTP any more.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::config::settings::{Settings, Web};
use crate::jid::Domain;
use crate::reason::Reason;
use crate::run::BoxIo;
use crate::xml::escape_attr;

/// What one listener answers over HTTP.
#[derive(Debug)]
pub struct Site {
    path: String,
    /// `scheme://host[:port]` of pages that may ask; `*` for all.
    origins: Vec<String>,
    /// The domains that take clients.
    domains: Vec<Domain>,
}

/// What a connection has come to.
#[derive(Debug)]
pub(super) enum Greeted {
    /// It speaks XMPP in messages from here on.
    Upgraded(BoxIo),
    /// It has had its answer, and is over.
    Answered,
}

impl Site {
    /// As the settings have it. Without `origins` the pages of the domains themselves may ask.
    pub(super) fn new(web: &Web, settings: &Settings) -> Self {
        let domains: Vec<Domain> = settings
            .domains
            .iter()
            .filter(|domain| !domain.backend.c2s.is_empty())
            .map(|domain| domain.name.clone())
            .collect();
        let origins = match web.origins.is_empty() {
            true => domains.iter().map(|domain| format!("https://{domain}")).collect(),
            false => web.origins.clone(),
        };
        Self { path: web.path.clone(), origins, domains }
    }

    /// Answers the one request of this connection, within this time.
    ///
    /// # Errors
    /// Why it is no stream.
    pub(super) async fn greet(self: Arc<Self>, io: BoxIo, patience: Duration) -> Result<Greeted, Reason> {
        let verdict = Arc::new(OnceLock::new());
        let told = Arc::clone(&verdict);
        let service = service_fn(move |request: Request<Incoming>| {
            let (response, outcome) = self.answer(&request);
            // One request a connection: there is no second verdict.
            let _first = told.set(outcome);
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(patience)
            .keep_alive(false)
            .max_headers(HEADERS)
            .max_buf_size(REQUEST);
        let served = http.serve_connection(TokioIo::new(io), service).without_shutdown();
        let parts = match tokio::time::timeout(patience, served).await {
            Ok(Ok(parts)) => parts,
            Ok(Err(error)) if error.is_timeout() => return Err(Reason::HeaderTimeout),
            Ok(Err(error)) if error.is_incomplete_message() || error.is_closed() => {
                return Err(Reason::ConnectionLost);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no HTTP request");
                return Err(Reason::BadUpgrade);
            }
            Err(_late) => return Err(Reason::HeaderTimeout),
        };
        let mut io = parts.io.into_inner();
        match verdict.get() {
            // RFC 6455 4.1: a client writes nothing before it has the answer. What is there was put there by somebody else.
            Some(Ok(true)) if !parts.read_buf.is_empty() => Err(Reason::BadUpgrade),
            Some(Ok(true)) => Ok(Greeted::Upgraded(io)),
            outcome => {
                // What was said may still be read; a client that does not close loses it, at the latest then.
                let _closed = tokio::time::timeout(patience, io.shutdown()).await;
                match outcome {
                    Some(Err(reason)) => Err(*reason),
                    Some(Ok(_)) => Ok(Greeted::Answered),
                    None => Err(Reason::ConnectionLost),
                }
            }
        }
    }

    /// The answer, and whether it is a stream from then on.
    fn answer(&self, request: &Request<Incoming>) -> (Response<Full<Bytes>>, Result<bool, Reason>) {
        let headers = request.headers();
        let (path, whole) = (request.uri().path(), request.uri().authority().is_some());
        // Only proxies ask for whole addresses, and whoever writes two hosts means two things.
        let host = only(headers, &HOST).filter(|_| !whole && request.version() == Version::HTTP_11);
        let Some(host) = host.and_then(|host| host.parse::<Authority>().ok()) else {
            return (reply(StatusCode::BAD_REQUEST), Err(Reason::BadUpgrade));
        };
        if path == self.path {
            return match self.upgrade(request) {
                Ok(response) => (response, Ok(true)),
                Err(refusal) => (refusal.0, Err(refusal.1)),
            };
        }
        let kind = match path {
            "/.well-known/host-meta" => Document::Xrd,
            "/.well-known/host-meta.json" => Document::Json,
            _ => return (reply(StatusCode::NOT_FOUND), Err(Reason::BadUpgrade)),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return (not_allowed("GET, HEAD"), Err(Reason::BadUpgrade));
        }
        // The address is made of the name that was asked for, and only of one that is ours.
        let named = Domain::parse(host.host()).ok().filter(|name| self.domains.contains(name));
        let Some(domain) = named else {
            return (reply(StatusCode::NOT_FOUND), Err(Reason::BadUpgrade));
        };
        let port = host.port_u16().filter(|port| *port != 443).map(|port| format!(":{port}"));
        let address = format!("wss://{domain}{}{}", port.unwrap_or_default(), self.path);
        (document(kind, &address), Ok(false))
    }

    /// RFC 6455 4.2, RFC 7395 3.1.
    fn upgrade(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
        let headers = request.headers();
        let refused = |response| Err(Box::new((response, Reason::BadUpgrade)));
        if request.method() != Method::GET {
            return refused(not_allowed("GET"));
        }
        let asks = words(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"))
            && only(headers, &UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
        if !asks {
            let mut response = reply(StatusCode::UPGRADE_REQUIRED);
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            return refused(response);
        }
        if only(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
            let mut response = reply(StatusCode::UPGRADE_REQUIRED);
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return refused(response);
        }
        // What has a body is meant for somebody who reads it otherwise than we do.
        if headers.contains_key(TRANSFER_ENCODING) || !request.body().is_end_stream() {
            return refused(reply(StatusCode::BAD_REQUEST));
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY);
        let Some(key) = key.filter(|key| STANDARD.decode(key).is_ok_and(|octets| octets.len() == 16)) else {
            return refused(reply(StatusCode::BAD_REQUEST));
        };
        if !words(headers, &SEC_WEBSOCKET_PROTOCOL).any(|word| word == PROTOCOL) {
            return refused(reply(StatusCode::BAD_REQUEST));
        }
        if !self.is_listed(headers) {
            return Err(Box::new((reply(StatusCode::FORBIDDEN), Reason::ForeignOrigin)));
        }
        let accepts =
            digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, [key.as_bytes(), MAGIC].concat().as_slice());
        let Ok(accepts) = HeaderValue::try_from(STANDARD.encode(accepts)) else {
            return refused(reply(StatusCode::BAD_REQUEST));
        };
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let answer = response.headers_mut();
        answer.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
        answer.insert(SEC_WEBSOCKET_ACCEPT, accepts);
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        Ok(response)
    }

    /// Whether the page that asks may: browsers name it, and nobody else need (RFC 6455 10.2).
    fn is_listed(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(ORIGIN) || self.origins.iter().any(|listed| listed == "*") {
            return true;
        }
        only(headers, &ORIGIN)
            .is_some_and(|origin| self.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin)))
    }
}

type Refusal = Box<(Response<Full<Bytes>>, Reason)>;

/// The two ways to write the same.
#[derive(Clone, Copy)]
enum Document {
    Json,
    Xrd,
}

/// XEP-0156 3: where streams over WebSocket are.
fn document(kind: Document, address: &str) -> Response<Full<Bytes>> {
    let (kind, text) = match kind {
        Document::Json => {
            ("application/json", format!("{}\n", json!({ "links": [{ "rel": RELATION, "href": address }] })))
        }
        Document::Xrd => (
            "application/xrd+xml",
            format!(
                "<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n  \
                 <Link rel='{RELATION}' href='{}'/>\n</XRD>\n",
                escape_attr(address)
            ),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // XEP-0156 3.4: a client in a browser is a page of anybody's site.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The value of a header that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

/// The words of a header that is a list.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn reply(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = reply(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The protocol that both sides name (RFC 7395 3.1).
const PROTOCOL: &str = "xmpp";

/// What a key is hashed with, so that no other server answers by accident (RFC 6455 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// XEP-0156 3.2.
const RELATION: &str = "urn:xmpp:alt-connections:websocket";

/// Headers of a request. Browsers send some twenty, with cookies that are none of ours.
const HEADERS: usize = 64;

/// Octets of a request.
const REQUEST: usize = 16 * 1024;
