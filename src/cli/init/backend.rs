//! The server behind, as far as it answers: which one it is, of which release, and whether it takes streams.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::server::Edition;
use super::{Args, Console};
use crate::jid::Domain;
use crate::reason::Flow;
use crate::run::checkup::{self, ServerSoftware, Visit};

/// Whose lines are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Those of whatever server answers there.
    ByStream,
    /// Those of this one, of the release that answers there.
    Named(ServerSoftware),
    /// Those of this one, whatever answers there.
    Exactly(ServerSoftware, Edition),
}

pub(super) fn server(text: &str) -> Result<Wanted, String> {
    if text.is_empty() {
        return Ok(Wanted::ByStream);
    }
    let (name, release) = text.split_once('@').map_or((text, None), |(name, release)| (name, Some(release)));
    let known =
        ServerSoftware::ALL.iter().copied().find(|server| server.label() == name).ok_or_else(|| {
            let names: Vec<&str> = ServerSoftware::ALL.iter().map(|server| server.label()).collect();
            format!("servers are {}", names.join(", "))
        })?;
    match (known, release) {
        (_, None) => Ok(Wanted::Named(known)),
        (ServerSoftware::Ejabberd, Some("23.01")) => Ok(Wanted::Exactly(known, Edition::First)),
        (ServerSoftware::Ejabberd, Some("24.12")) => Ok(Wanted::Exactly(known, Edition::WithSasl2)),
        (ServerSoftware::Ejabberd, Some(_)) => {
            Err("the lines are for ejabberd@23.01 and ejabberd@24.12; take the second for a release that \
             knows SASL2, or leave the release out where the server runs"
                .to_owned())
        }
        (_, Some(_)) => Err(format!("the lines for {name} are the same for each release: leave it out")),
    }
}

/// The server whose lines are written, and its edition as far as it can be known.
pub(super) fn which(wanted: Wanted, args: &Args, console: &mut Console) -> Option<(ServerSoftware, Edition)> {
    match wanted {
        Wanted::Exactly(server, edition) => Some((server, edition)),
        Wanted::Named(server) => {
            let edition = if server == ServerSoftware::Ejabberd { ask(args).1 } else { Some(Edition::First) };
            if edition.is_none() {
                console.complain(format_args!(
                    "warning: nothing shows which release of {server} is at {}; the lines are those of 23.01: for 24.12, name it, like --server ejabberd@24.12",
                    args.backend
                ));
            }
            Some((server, edition.unwrap_or_default()))
        }
        Wanted::ByStream => {
            let (seen, edition) = ask(args);
            if seen.is_none() {
                console.complain(format_args!(
                    "warning: {} does not show which server it is; name it, like --server prosody",
                    args.backend
                ));
            }
            Some((seen?, edition.unwrap_or_default()))
        }
    }
}

/// Which server answers there and which edition it is, as far as its stream shows it.
pub(super) fn ask(args: &Args) -> (Option<ServerSoftware>, Option<Edition>) {
    let (domain, address) = (&args.domain, args.backend);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return (None, None);
    };
    let tuning = crate::net::Tuning { patience: PATIENCE, dscp: None };
    let dial = crate::net::connect::Params { each: PATIENCE, total: PATIENCE, tuning, sources: Vec::new() };
    let visit = Visit {
        address,
        domain,
        flow: Flow::S2sIn,
        introduction: Vec::new(),
        dial: &dial,
        patience: PATIENCE,
        server: None,
    };
    runtime.block_on(async {
        let seen = checkup::look(&visit).await;
        let edition = match seen.server {
            Some(ServerSoftware::Ejabberd) if checkup::knows_sasl2(&visit).await => Some(Edition::WithSasl2),
            Some(_) => Some(Edition::First),
            None => None,
        };
        (seen.server, edition)
    })
}

/// Who calls on the backend through the gateway.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Clients,
    Servers,
}

impl Side {
    pub(super) fn namespace(self) -> &'static str {
        match self {
            Self::Clients => "jabber:client",
            Self::Servers => "jabber:server",
        }
    }

    pub(super) fn port(self) -> &'static str {
        match self {
            Self::Clients => "c2s",
            Self::Servers => "s2s",
        }
    }

    pub(super) fn whom(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Servers => "other servers",
        }
    }
}

pub(super) enum Greeted {
    Answers,
    Mute,
    Absent(io::Error),
}

/// Opens a stream as another server would, or a client, and waits for any answer that is one.
pub(super) fn greet(backend: SocketAddr, domain: &Domain, side: Side) -> Greeted {
    let mut stream = match TcpStream::connect_timeout(&backend, PATIENCE) {
        Ok(stream) => stream,
        Err(error) => return Greeted::Absent(error),
    };
    let namespace = side.namespace();
    let header = format!(
        "<?xml version='1.0'?><stream:stream xmlns='{namespace}' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' to='{domain}' version='1.0'>"
    );
    let mut answer: Vec<u8> = Vec::new();
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| stream.write_all(header.as_bytes()));
    let mut part = [0u8; 512];
    while asked.is_ok() && answer.len() < MOST {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(number) => answer.extend(part.iter().take(number)),
        }
        if answer.windows(STREAM.len()).any(|octets| octets == STREAM) {
            return Greeted::Answers;
        }
    }
    Greeted::Mute
}

pub(super) const STREAM: &[u8] = b"<stream:stream";

/// More than any stream header.
pub(super) const MOST: usize = 4096;

pub(super) const PATIENCE: Duration = Duration::from_secs(3);
