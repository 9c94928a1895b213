//! A server out in the world: it takes streams, proves itself and asks for proof, and misbehaves on demand.

mod host;
mod manner;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle};

pub use manner::{Admit, Manner, Vouch, Welcome};

use super::node::escape;
use super::pki::{Authority, Identity};
pub use super::session::Keys;
use super::session::{Call, DIALBACK, Greeting};
use super::{Inbox, Told, Trouble, bind, held};
use host::Host;

/// Where the servers of the gateway's domains are to be found: what the world's DNS says, for the peers.
pub type AddressBook = Arc<Mutex<HashMap<String, SocketAddr>>>;

struct Shared {
    domains: Vec<String>,
    ip: Ipv4Addr,
    authority: Arc<Authority>,
    identity: Mutex<Identity>,
    manner: Mutex<Manner>,
    keys: Keys,
    inbox: Inbox,
    visits: AtomicUsize,
    /// Those that serve its streams.
    served: Mutex<Vec<AbortHandle>>,
    proofs: Mutex<Vec<String>>,
    book: AddressBook,
}

/// A server out in the world.
pub struct Peer {
    /// The stanzas that it has accepted.
    pub inbox: Inbox,
    /// Where it takes streams with STARTTLS.
    pub address: SocketAddr,
    /// Where it takes streams with direct TLS.
    pub direct: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Peer {
    /// Starts a server for these domains (the first is its main one) at this address.
    pub async fn start(
        authority: Arc<Authority>,
        ip: Ipv4Addr,
        domains: &[&str],
        identity: Identity,
        manner: Manner,
        book: AddressBook,
    ) -> Told<Self> {
        let (starttls, direct) = (bind(ip, 5269).await?, bind(ip, 5270).await?);
        let (address, direct_address) = (starttls.local_addr()?, direct.local_addr()?);
        let IpAddr::V4(ip) = address.ip() else {
            return Err(Trouble::new("an IPv4 address was bound as IPv6"));
        };
        let inbox = Inbox::default();
        let shared = Arc::new(Shared {
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            ip,
            authority,
            identity: Mutex::new(identity),
            manner: Mutex::new(manner),
            keys: Keys::default(),
            inbox: inbox.clone(),
            visits: AtomicUsize::new(0),
            served: Mutex::default(),
            proofs: Mutex::default(),
            book,
        });
        let tasks = vec![
            tokio::spawn(listen(shared.clone(), starttls, false)),
            tokio::spawn(listen(shared.clone(), direct, true)),
        ];
        Ok(Self { inbox, address, direct: direct_address, shared, tasks })
    }

    /// Stops: no connection is taken, and those that it has taken are cut. Without this they live on when it goes.
    pub async fn stop(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // The sockets are closed when the task is gone, not before.
            let _ = task.await;
        }
        held(&self.shared.served).drain(..).for_each(|task| task.abort());
    }

    /// Its main domain.
    pub fn domain(&self) -> &str {
        self.shared.domains.first().map_or("", String::as_str)
    }

    /// Changes how it behaves from the next connection on.
    pub fn behave(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut held(&self.shared.manner));
    }

    /// Changes its certificate from the next connection on.
    pub fn show(&self, identity: Identity) {
        *held(&self.shared.identity) = identity;
    }

    /// How many connections it has taken.
    pub fn visits(&self) -> usize {
        self.shared.visits.load(Ordering::SeqCst)
    }

    /// How callers have proven themselves so far, in order: `certificate DOMAIN` or `dialback DOMAIN`.
    pub fn proofs(&self) -> Vec<String> {
        held(&self.shared.proofs).clone()
    }

    /// The keys it has sent.
    pub fn keys(&self) -> Keys {
        self.shared.keys.clone()
    }

    /// A call to the gateway for that hosted domain, with its certificate, as its main domain.
    pub fn call(&self, hosted: &str) -> Told<Call> {
        let identity = held(&self.shared.identity).clone();
        self.shared.call(hosted, Some(&identity))
    }

    /// The same without a certificate: dialback is all it has.
    pub fn call_bare(&self, hosted: &str) -> Told<Call> {
        self.shared.call(hosted, None)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn call(&self, hosted: &str, identity: Option<&Identity>) -> Told<Call> {
        let target = held(&self.book).get(hosted).copied();
        let from = self.domains.first().map_or("", String::as_str);
        Ok(Call {
            source: self.ip.into(),
            target: target.ok_or_else(|| Trouble(format!("nobody serves {hosted}")))?,
            direct: false,
            tls: self.authority.client(identity, false)?,
            name: hosted.to_owned(),
            greeting: Greeting::of(from, hosted),
            keys: self.keys.clone(),
        })
    }

    /// XEP-0220 2.1.2: asks the authoritative server of the sender about the key.
    async fn verify(&self, sender: &str, target: &str, stream: &str, key: &str) -> Told<bool> {
        let identity = held(&self.identity).clone();
        let mut call = self.call(sender, Some(&identity))?;
        call.greeting = Greeting::of(target, sender);
        let mut session = call.open().await?;
        session
            .send(format!(
                "<db:verify from='{}' to='{}' id='{}'>{key}</db:verify>",
                escape(target),
                escape(sender),
                escape(stream)
            ))
            .await?;
        let answer = session.wire.element().await?;
        let genuine = answer.is(DIALBACK, "verify")
            && answer.attr("type") == Some("valid")
            && answer.attr("id") == Some(stream);
        session.close().await?;
        Ok(genuine)
    }

    fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|d| d == domain)
    }
}

async fn listen(shared: Arc<Shared>, listener: TcpListener, direct: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.visits.fetch_add(1, Ordering::SeqCst);
        let task = shared.clone();
        let serving = tokio::spawn(async move {
            // What goes wrong on a stream ends it; the tests look at the gateway's side of it.
            let _ = Host::new(task, stream).serve(direct).await;
        });
        let mut served = held(&shared.served);
        served.retain(|task| !task.is_finished());
        served.push(serving.abort_handle());
    }
}

/// The domain of an address.
pub fn domain_of(address: Option<&str>) -> &str {
    let address = address.unwrap_or("");
    let bare = address.split_once('/').map_or(address, |(bare, _)| bare);
    bare.split_once('@').map_or(bare, |(_, domain)| domain)
}
