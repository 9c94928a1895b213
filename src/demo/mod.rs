//! A small world in one process: a DNS server, a certificate authority, servers outside and a legacy server inside.
//!
//! `gatehouse demo` plays it, and the tests over real sockets use the same parts. Everything here speaks for itself: the
//! peers read XML with [`node`], make their own keys and keep their own tables, and use nothing of the gateway, so that a
//! mistake of the gateway cannot hide behind the same mistake on the other side. What the gateway must be given (a
//! configuration, policies, certificates) is written to files and read by the code that `gatehouse run` uses.

#![allow(clippy::missing_errors_doc)] // a step fails in one way: its `Trouble` says what did not come about

pub mod client;
pub mod gate;
pub mod legacy;
pub mod names;
pub mod node;
pub mod peer;
pub mod pki;
pub mod session;
pub mod story;
mod summary;
pub mod teller;
pub mod wire;
pub mod world;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;

use node::Node;

/// What went wrong in the small world, in words.
#[derive(Debug)]
pub struct Trouble(pub String);

impl Trouble {
    /// Trouble of this description.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

macro_rules! trouble_from {
    ($($kind:ty => $what:literal),* $(,)?) => { $(
        impl From<$kind> for Trouble {
            fn from(error: $kind) -> Self { Self(format!(concat!($what, ": {}"), error)) }
        }
    )* };
}

trouble_from! {
    io::Error => "input or output",
    rcgen::Error => "certificate",
    rustls::Error => "TLS",
    rustls::server::VerifierBuilderError => "TLS",
    rustls_pki_types::InvalidDnsNameError => "server name",
    hickory_proto::ProtoError => "DNS",
}

/// The outcome of something done in the small world.
pub type Told<T> = Result<T, Trouble>;

/// How long a part of the world waits for something before it calls it missing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A place where what arrives is put, and waited for.
#[derive(Clone, Default)]
pub struct Inbox(Arc<(Mutex<Vec<Node>>, Notify)>);

impl Inbox {
    /// Puts something in.
    pub fn put(&self, node: Node) {
        held(&self.0.0).push(node);
        self.0.1.notify_waiters();
    }

    /// All that has arrived so far.
    pub fn all(&self) -> Vec<Node> {
        held(&self.0.0).clone()
    }

    /// How much has arrived so far.
    pub fn len(&self) -> usize {
        held(&self.0.0).len()
    }

    /// Whether nothing has arrived so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the first that fits.
    pub async fn wait(&self, fits: impl Fn(&Node) -> bool) -> Told<Node> {
        self.wait_for(PATIENCE, fits).await
    }

    /// Waits so long for the first that fits.
    pub async fn wait_for(&self, patience: Duration, fits: impl Fn(&Node) -> bool) -> Told<Node> {
        let search = async {
            loop {
                let changed = self.0.1.notified();
                tokio::pin!(changed);
                // Registered before the look, so that nothing put between the two is missed.
                changed.as_mut().enable();
                if let Some(found) = held(&self.0.0).iter().find(|n| fits(n)) {
                    return found.clone();
                }
                changed.await;
            }
        };
        tokio::time::timeout(patience, search)
            .await
            .map_err(|_| Trouble(format!("nothing that fits within {patience:?}; arrived: {}", self.list())))
    }

    /// Waits for a stanza with this body.
    pub async fn wait_body(&self, body: &str) -> Told<Node> {
        self.wait(|n| n.body() == Some(body)).await
    }

    fn list(&self) -> String {
        self.all().iter().map(|n| n.raw.chars().take(160).collect::<String>()).collect::<Vec<_>>().join(" | ")
    }
}

/// The content of a lock; a thread that panicked while holding it has already failed the test or the demo.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens at this address, on the wished port if it is free and on any other if it is not. Systems that know only
/// `127.0.0.1` get that one.
pub async fn bind(ip: Ipv4Addr, wished: u16) -> Told<TcpListener> {
    let ip = here(ip).await;
    match TcpListener::bind((ip, wished)).await {
        Ok(listener) => Ok(listener),
        Err(_) => Ok(TcpListener::bind((ip, 0)).await?),
    }
}

/// An address that is free now, for something that binds it by itself a moment later.
pub async fn free(ip: Ipv4Addr, wished: u16) -> Told<SocketAddr> {
    Ok(bind(ip, wished).await?.local_addr()?)
}

/// The address itself where the system has it, else `127.0.0.1`.
pub async fn here(ip: Ipv4Addr) -> Ipv4Addr {
    match TcpListener::bind((ip, 0)).await {
        Ok(_) => ip,
        Err(_) => Ipv4Addr::LOCALHOST,
    }
}

/// Opens a connection whose source is that address, so that the gateway can tell the parts of the world apart.
pub async fn dial(source: IpAddr, target: SocketAddr) -> Told<tokio::net::TcpStream> {
    let socket =
        if target.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = tokio::time::timeout(PATIENCE, socket.connect(target))
        .await
        .map_err(|_| Trouble(format!("no connection to {target} within {PATIENCE:?}")))?
        .map_err(|e| Trouble(format!("no connection to {target}: {e}")))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// 128 random bits in hexadecimal: stream ids, keys, names of scratch folders.
pub fn token() -> Told<String> {
    let mut octets = [0u8; 16];
    getrandom::fill(&mut octets).map_err(|e| Trouble(format!("no randomness: {e}")))?;
    Ok(octets.iter().map(|o| format!("{o:02x}")).collect())
}

#[cfg(test)]
mod tests;
