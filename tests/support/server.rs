//! A real XMPP server, as remote peer or as plain legacy server, whichever program it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::ca::Leaf;
use super::client::Client;
use super::release::Release;
use super::world::{Host, Process};
use super::{ejabberd, jabberd2, prosody};

/// How a remote server proves itself and wants the other side proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By dialback alone: its certificate comes from an authority nobody knows, and it knows nobody else's.
    Dialback,
    /// By certificate, or by dialback where that fails.
    Either,
    /// By certificate alone: SASL EXTERNAL, no dialback.
    External,
}

/// A program that may be the remote server, of the Debian release that has this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// ejabberd 23.01.
    Ejabberd,
    /// ejabberd 24.12.
    Ejabberd24,
    /// Prosody 0.12.3.
    Prosody,
    /// Prosody 13.0.1.
    Prosody13,
}

impl Remote {
    /// Whether it is an ejabberd; otherwise it is a Prosody.
    pub fn is_ejabberd(self) -> bool {
        matches!(self, Self::Ejabberd | Self::Ejabberd24)
    }

    fn release(self) -> Release {
        match self {
            Self::Ejabberd | Self::Prosody => Release::Bookworm,
            Self::Ejabberd24 | Self::Prosody13 => Release::Trixie,
        }
    }
}

/// A program that may be the server behind the gateway, of the Debian release that has this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// ejabberd 23.01.
    Ejabberd,
    /// ejabberd 24.12.
    Ejabberd24,
    /// jabberd2 2.7.0-4.
    Jabberd2,
    /// jabberd2 2.7.0-8.
    Jabberd2Of13,
    /// Prosody 0.12.3.
    Prosody,
    /// Prosody 13.0.1.
    Prosody13,
}

impl Legacy {
    fn release(self) -> Release {
        match self {
            Self::Ejabberd | Self::Jabberd2 | Self::Prosody => Release::Bookworm,
            Self::Ejabberd24 | Self::Jabberd2Of13 | Self::Prosody13 => Release::Trixie,
        }
    }
}

/// What a remote server shows and trusts.
pub struct Tls<'a> {
    /// Its certificate.
    pub leaf: &'a Leaf,
    /// The PEM file of authorities it knows.
    pub roots: &'a str,
    /// How proof is made.
    pub proof: Proof,
}

/// Where a server stands and whom it serves.
pub struct Place<'a> {
    /// Its host.
    pub host: &'a Host,
    /// Its address there.
    pub address: Ipv4Addr,
    /// The domain it serves.
    pub domain: &'a str,
    /// Its account; the password is [`PASSWORD`], also that of [`SECOND`].
    pub user: &'a str,
}

/// A running server with one account.
pub struct Server {
    processes: Vec<Process>,
    host: Host,
    address: SocketAddr,
    domain: String,
    user: String,
}

impl Server {
    /// Starts a remote server.
    pub fn remote(program: Remote, place: &Place<'_>, tls: &Tls<'_>) -> Self {
        let processes = match program {
            Remote::Ejabberd | Remote::Ejabberd24 => ejabberd::remote(program.release(), place, tls),
            Remote::Prosody | Remote::Prosody13 => prosody::remote(program.release(), place, tls),
        };
        Self::new(place, processes)
    }

    /// Starts a plain legacy server from its files in `deploy/`.
    pub fn legacy(program: Legacy, place: &Place<'_>) -> Self {
        let processes = match program {
            Legacy::Ejabberd | Legacy::Ejabberd24 => ejabberd::legacy(program.release(), place),
            Legacy::Jabberd2 | Legacy::Jabberd2Of13 => jabberd2::legacy(program.release(), place),
            Legacy::Prosody | Legacy::Prosody13 => prosody::legacy(program.release(), place),
        };
        Self::new(place, processes)
    }

    /// The same from the files that `gatehouse init --server` has written into this folder.
    pub fn legacy_of(program: Legacy, place: &Place<'_>, written: &Path) -> Self {
        let release = program.release();
        let processes = match program {
            Legacy::Ejabberd | Legacy::Ejabberd24 => ejabberd::legacy_of(release, place, written),
            Legacy::Jabberd2 | Legacy::Jabberd2Of13 => jabberd2::legacy_of(release, place, written),
            Legacy::Prosody | Legacy::Prosody13 => prosody::legacy_of(release, place, written),
        };
        Self::new(place, processes)
    }

    /// A server of these processes.
    pub fn new(place: &Place<'_>, processes: Vec<Process>) -> Self {
        Self {
            processes,
            host: place.host.clone(),
            address: SocketAddr::new(IpAddr::V4(place.address), 5222),
            domain: place.domain.to_owned(),
            user: place.user.to_owned(),
        }
    }

    /// The domain it serves.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Logs the server's first user in.
    pub fn login(&self) -> Client {
        self.login_as(&self.user)
    }

    /// Logs this user in.
    pub fn login_as(&self, user: &str) -> Client {
        self.login_to(user, &self.domain)
    }

    /// Logs this user of one of its domains in.
    pub fn login_to(&self, user: &str, domain: &str) -> Client {
        let stream = self.host.connect(self.address).unwrap_or_else(|e| panic!("{}: {e}", self.address));
        Client::login(stream, user, PASSWORD, domain)
    }

    /// A connection to its port for clients, as it stands on the inside network.
    pub fn connect(&self) -> TcpStream {
        self.host.connect(self.address).unwrap_or_else(|e| panic!("{}: {e}", self.address))
    }

    /// Ends it, as a crash would; its host stays and refuses connections.
    pub fn stop(&mut self) {
        self.processes.clear();
    }

    /// Ends it in good order: what it keeps is whole.
    pub fn end(&mut self) {
        for mut process in std::mem::take(&mut self.processes) {
            process.signal(Signal::TERM);
            let _status = process.ended(Duration::from_secs(20));
        }
    }

    /// Sends its processes a signal.
    pub fn signal(&self, signal: Signal) {
        self.processes.iter().for_each(|process| process.signal(signal));
    }

    /// What all its processes have written.
    pub fn log(&self) -> String {
        self.processes.iter().map(Process::log).collect()
    }
}

/// The password of every account.
pub const PASSWORD: &str = "open sesame";

/// The second account of every server.
pub const SECOND: &str = "scribe";
