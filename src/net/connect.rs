//! Dialling: the addresses in the order given, each a moment after the one before and with a deadline of its own (RFC 8305).
//!
//! Which addresses may be dialled was decided before ([`crate::dns::guard`]); what is dialled here is what was checked
//! there, since no name is looked up in between. Whether an address is this machine's, only the kernel knows: [`is_ours`].

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::shortage::{Shortage, source_towards};
use super::tune::{Tuning, mark, pace};
use crate::reason::{Cause, Reason, Why};

/// How long to try, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// For one address (T-connect).
    pub each: Duration,
    /// For all of them together.
    pub total: Duration,
    /// What is the same for all connections.
    pub tuning: Tuning,
    /// Addresses to dial from: the first of the target's family is used. Where there are some and none is of that family, the
    /// target is not dialled.
    pub sources: Vec<IpAddr>,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            each: Duration::from_secs(5),
            total: Duration::from_secs(20),
            tuning: Tuning { patience: Duration::from_secs(120), dscp: None },
            sources: Vec::new(),
        }
    }
}

/// A connection that stands.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TcpStream,
    /// The address that took it.
    pub address: SocketAddr,
    /// Addresses that have failed before it.
    pub failed: Vec<SocketAddr>,
}

/// Connects to the first address that answers. The next one is tried when the one before has failed, or has not answered
/// for [`STAGGER`]; the others go on meanwhile.
///
/// # Errors
/// What came of each address, when none answers in time.
pub async fn connect(addresses: &[SocketAddr], params: &Params) -> Result<Dialled, ConnectFault> {
    let end = Instant::now() + params.total;
    let mut left = addresses.iter().copied();
    let mut attempts = Vec::new();
    let mut dialling = JoinSet::new();
    let mut next = left.next();
    loop {
        if let Some(address) = next.take() {
            let params = params.clone();
            dialling.spawn(async move {
                let until = end.min(Instant::now() + params.each);
                (address, timeout_at(until, dial(address, &params)).await)
            });
        } else if dialling.is_empty() {
            return Err(ConnectFault { attempts });
        }
        tokio::select! {
            Some(done) = dialling.join_next() => {
                let Ok((address, outcome)) = done else { continue };
                match outcome {
                    Ok(Ok(stream)) => {
                        let failed = attempts.into_iter().map(|(address, _)| address).collect();
                        return Ok(Dialled { stream, address, failed });
                    }
                    Ok(Err(unmade)) => attempts.push((address, unmade)),
                    Err(_) => attempts.push((address, Unmade::Failed(io::ErrorKind::TimedOut))),
                }
                if Instant::now() < end {
                    next = left.next();
                }
            }
            () = sleep(STAGGER), if left.len() > 0 && Instant::now() < end => next = left.next(),
        }
    }
}

/// Whether this address is one of this machine's: what would go there comes from there. Nothing is sent.
pub fn is_ours(address: SocketAddr) -> bool {
    // Where there is no way, nothing will be dialled either.
    source_towards(address).is_ok_and(|source| source.ip().to_canonical() == address.ip().to_canonical())
}

/// RFC 8305 5: the recommended Connection Attempt Delay.
pub const STAGGER: Duration = Duration::from_millis(250);

async fn dial(address: SocketAddr, params: &Params) -> Result<TcpStream, Unmade> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| Unmade::of(Shortage::of(&error), &error))?;
    let failed = |error: io::Error| Unmade::Failed(error.kind());
    // From the first packet on.
    params.tuning.dscp.map_or(Ok(()), |dscp| mark(&socket, dscp)).map_err(failed)?;
    match params.sources.iter().find(|source| source.is_ipv4() == address.is_ipv4()) {
        Some(source) => {
            let bound = socket.bind(SocketAddr::new(*source, 0));
            bound.map_err(|error| Unmade::of(Shortage::binding(&error), &error))?;
        }
        None if params.sources.is_empty() => {}
        None => return Err(Unmade::Failed(io::ErrorKind::AddrNotAvailable)),
    }
    let connected = socket.connect(address).await;
    let stream = connected.map_err(|error| Unmade::of(Shortage::towards(address, &error), &error))?;
    pace(&stream, params.tuning).map_err(failed)?;
    Ok(stream)
}

/// Why there is no connection to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmade {
    /// What the other end, or the way there, came to.
    Failed(io::ErrorKind),
    /// Nothing was asked of it.
    Lacking(Shortage),
}

impl Unmade {
    fn of(shortage: Option<Shortage>, error: &io::Error) -> Unmade {
        shortage.map_or_else(|| Self::Failed(error.kind()), Self::Lacking)
    }
}

impl fmt::Display for Unmade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(kind) => kind.fmt(f),
            Self::Lacking(shortage) => shortage.fmt(f),
        }
    }
}

/// No address answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFault {
    /// Each address tried, and what came of it.
    pub attempts: Vec<(SocketAddr, Unmade)>,
}

impl ConnectFault {
    /// What this machine lacked where it did not even ask an address: whether the other end is reached is not known then.
    pub fn shortage(&self) -> Option<Shortage> {
        self.attempts.iter().find_map(|(_, unmade)| match unmade {
            Unmade::Lacking(shortage) => Some(*shortage),
            Unmade::Failed(_) => None,
        })
    }

    /// What it is called, where the other end is a remote server. Silence is told only where nothing else was met.
    pub fn why(&self) -> Why {
        if let Some(shortage) = self.shortage() {
            return Why::because(Reason::NoRoom, shortage.cause());
        }
        let silent = |unmade: &Unmade| *unmade == Unmade::Failed(io::ErrorKind::TimedOut);
        let silent = self.attempts.iter().all(|(_, unmade)| silent(unmade));
        let cause = if silent { Cause::TimedOut } else { Cause::NotReached };
        Why::because(Reason::RemoteUnreachable, cause)
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts.is_empty() {
            return f.write_str("no address to connect to");
        }
        for (index, (address, unmade)) in self.attempts.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{address}: {unmade}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectFault {}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn quick() -> Params {
        Params { each: Duration::from_millis(300), total: Duration::from_millis(500), ..Params::default() }
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = gone.local_addr().unwrap();
        drop(gone);
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let accepted = open.local_addr().unwrap();
        let dialled = connect(&[refused, accepted], &quick()).await.unwrap();
        assert_eq!((dialled.address, dialled.failed), (accepted, vec![refused]));
        assert!(dialled.stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn every_failed_attempt_is_told() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = gone.local_addr().unwrap();
        drop(gone);
        let fault = connect(&[refused], &quick()).await.unwrap_err();
        assert_eq!(fault.attempts, [(refused, Unmade::Failed(io::ErrorKind::ConnectionRefused))]);
        assert_eq!(fault.why().reason, Reason::RemoteUnreachable);
        assert!(fault.to_string().contains("127.0.0.1"));
        assert_eq!(connect(&[], &quick()).await.unwrap_err().to_string(), "no address to connect to");
    }

    /// A listener whose backlog is full accepts no more and refuses nothing: the address is silent, for as long as these live.
    async fn silent() -> (SocketAddr, (TcpListener, Vec<Dialled>)) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok(dialled) = connect(&[address], &quick()).await {
            filling.push(dialled);
            assert!(filling.len() < 10, "the backlog never fills");
        }
        (address, (listener, filling))
    }

    #[tokio::test]
    async fn a_silent_address_costs_its_deadline_and_no_more() {
        let (address, _silent) = silent().await;
        let before = Instant::now();
        let fault = connect(&[address, address, address], &quick()).await.unwrap_err();
        // Three deadlines of one address would be 900 ms, without any the kernel gives up after minutes.
        assert!(before.elapsed() < Duration::from_secs(30));
        assert!(fault.attempts.iter().all(|(_, unmade)| *unmade == Unmade::Failed(io::ErrorKind::TimedOut)));
        // On a machine that is slow to wake us the first one may use up the time of all.
        assert!((2..=3).contains(&fault.attempts.len()), "{fault}");
    }

    #[tokio::test]
    async fn the_source_address_is_the_one_asked_for() {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let params =
            Params { sources: vec!["::1".parse().unwrap(), "127.0.0.9".parse().unwrap()], ..quick() };
        let _dialled = connect(&[open.local_addr().unwrap()], &params).await.unwrap();
        let (_, peer) = open.accept().await.unwrap();
        assert_eq!(peer.ip(), "127.0.0.9".parse::<IpAddr>().unwrap());
    }

    // RFC 8305, DNS-10: "both families, staggered by 250 ms": a silent address costs a moment and not its deadline.
    #[tokio::test]
    async fn a_silent_address_costs_a_moment_where_another_answers() {
        let (address, _silent) = silent().await;
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let long = Duration::from_secs(60);
        let params = Params { each: long, total: long, ..Params::default() };
        let before = Instant::now();
        let dialled = connect(&[address, open.local_addr().unwrap()], &params).await.unwrap();
        assert_eq!((dialled.address, dialled.failed), (open.local_addr().unwrap(), Vec::new()));
        assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
    }

    // DNS-05: "every address of this machine .. check the address actually dialled".
    #[test]
    fn the_kernel_knows_which_addresses_are_ours() {
        assert!(is_ours("127.0.0.1:6379".parse().unwrap()));
        assert!(is_ours("[::ffff:127.0.0.1]:6379".parse().unwrap()));
        assert!(!is_ours("192.0.2.1:6379".parse().unwrap()));
        // Loopback is one machine with one address, as far as sources go.
        assert!(!is_ours("127.0.0.2:6379".parse().unwrap()));
    }
}
