//! The two doors for operators, and what the configuration says of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::scalars::ScalarReader;
use super::spec;
use crate::policy::Scalar;

/// Watching and steering the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// Where to serve metrics and health.
    pub http: Option<Http>,
    /// Names under which it may be asked there, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Whether the status page answers there.
    pub status: bool,
    /// The control socket.
    pub socket: Option<PathBuf>,
}

/// Where metrics, health and the status page are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Http {
    /// At this address.
    Address(SocketAddr),
    /// On this Unix socket.
    Socket(PathBuf),
}

impl Http {
    /// The address, if it has one.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Socket(_) => None,
        }
    }

    /// The Unix socket, if it is one.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Address(_) => None,
            Self::Socket(path) => Some(path),
        }
    }
}

impl std::fmt::Display for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads `admin:`.
pub(super) fn admin(spec: &spec::FileSpec, reader: &mut ScalarReader) -> Admin {
    let Some(at) = &spec.admin else { return Admin::default() };
    let socket = at.value.socket.as_ref().map(|word| reader.path(word));
    let http = at.value.http.as_ref().and_then(|word| {
        let text = reader.filled_or_reported(word)?.into_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(word, path, socket.as_deref(), reader);
        }
        if text.starts_with(['/', '.']) {
            let message = format!("\"{text}\" is no address with a port");
            reader.error(word, message, format!("a Unix socket is written \"unix:{text}\""));
            return None;
        }
        let address = reader.socket(word, None)?;
        if !address.ip().to_canonical().is_loopback() {
            reader.warn(
                word,
                format!("metrics and health are served to everybody who reaches {address}"),
                "listen on 127.0.0.1, or make sure that only your monitoring reaches it",
            );
        }
        Some(Http::Address(address))
    });
    let listed = at.value.hosts.iter().flat_map(|list| &list.value);
    let hosts = listed.filter_map(|word| host(word, reader)).collect();
    let switch = [("off", false), ("on", true)];
    let status = at.value.status.as_ref().and_then(|word| reader.choose(word, "`on` or `off`", &switch));
    if let (Some(true), None) = (status, &at.value.http) {
        reader.error(
            at,
            "`status: on` without `http:`",
            "write where to serve it: `http: \"127.0.0.1:9469\"`, or `http: \"unix:/run/gatehouse/status.sock\"`",
        );
    }
    Admin { http, hosts, status: status.unwrap_or_default(), socket }
}

/// A Unix socket; the control socket is another.
fn unix(word: &Scalar, path: &str, control: Option<&Path>, reader: &mut ScalarReader) -> Option<Http> {
    if path.is_empty() {
        reader.error(word, "the path of the socket is missing", "write \"unix:/run/gatehouse/status.sock\"");
        return None;
    }
    let path = reader.beside(path);
    if control == Some(path.as_path()) {
        reader.error(word, "this is the control socket, too", "give `http` and `socket` a path each");
        return None;
    }
    Some(Http::Socket(path))
}

/// A name as `Host` has it, without a port.
fn host(word: &Scalar, reader: &mut ScalarReader) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let fits = !word.value.is_empty() && word.value.chars().all(plain);
    if !fits {
        let message = format!("\"{}\" is no name of a host", word.value);
        reader.error(
            word,
            message,
            "write a name without a port, like gate-1.example.com; addresses need not be listed",
        );
    }
    fits.then(|| word.value.clone())
}
