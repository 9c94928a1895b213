//! Dialling: the addresses in the order given, one after the other, each with a deadline and all with one.
//!
//! Which addresses may be dialled was decided before ([`crate::dns::guard`]); what is dialled here is what was checked
//! there, since no name is looked up in between.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::tune::tune;
use crate::reason::{Cause, Reason, Why};

/// How long to try, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// For one address (T-connect).
    pub each: Duration,
    /// For all of them together.
    pub total: Duration,
    /// How long the other end may acknowledge nothing, once there is a connection.
    pub patience: Duration,
    /// Addresses to dial from: the first of the target's family is used.
    pub sources: Vec<IpAddr>,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            each: Duration::from_secs(5),
            total: Duration::from_secs(20),
            patience: Duration::from_secs(120),
            sources: Vec::new(),
        }
    }
}

/// Connects to the first address that answers.
pub async fn connect(
    addresses: &[SocketAddr],
    params: &Params,
) -> Result<(TcpStream, SocketAddr), ConnectFault> {
    let end = Instant::now() + params.total;
    let mut attempts = Vec::new();
    for address in addresses {
        let now = Instant::now();
        if now >= end {
            attempts.push((*address, io::ErrorKind::TimedOut));
            break;
        }
        match timeout_at(end.min(now + params.each), dial(*address, params)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(error)) => attempts.push((*address, error.kind())),
            Err(_) => attempts.push((*address, io::ErrorKind::TimedOut)),
        }
    }
    Err(ConnectFault { attempts })
}

async fn dial(address: SocketAddr, params: &Params) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = params.sources.iter().find(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(*source, 0))?;
    }
    let stream = socket.connect(address).await?;
    tune(&stream, params.patience)?;
    Ok(stream)
}

/// No address answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFault {
    /// Each address tried, and what came of it.
    pub attempts: Vec<(SocketAddr, io::ErrorKind)>,
}

impl ConnectFault {
    /// What it is called, where the other end is a remote server. Silence is told only where nothing else was met.
    pub fn why(&self) -> Why {
        let silent = self.attempts.iter().all(|(_, kind)| *kind == io::ErrorKind::TimedOut);
        let cause = if silent { Cause::TimedOut } else { Cause::NotReached };
        Why::because(Reason::RemoteUnreachable, cause)
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts.is_empty() {
            return f.write_str("no address to connect to");
        }
        for (index, (address, kind)) in self.attempts.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{address}: {kind}")?;
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
        let (stream, address) = connect(&[refused, accepted], &quick()).await.unwrap();
        assert_eq!(address, accepted);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn every_failed_attempt_is_told() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = gone.local_addr().unwrap();
        drop(gone);
        let fault = connect(&[refused], &quick()).await.unwrap_err();
        assert_eq!(fault.attempts, [(refused, io::ErrorKind::ConnectionRefused)]);
        assert_eq!(fault.why().reason, Reason::RemoteUnreachable);
        assert!(fault.to_string().contains("127.0.0.1"));
        assert_eq!(connect(&[], &quick()).await.unwrap_err().to_string(), "no address to connect to");
    }

    // A listener whose backlog is full accepts no more and refuses nothing: the address is silent.
    #[tokio::test]
    async fn a_silent_address_costs_its_deadline_and_no_more() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = socket.listen(1).unwrap();
        let address = silent.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok((stream, _)) = connect(&[address], &quick()).await {
            filling.push(stream);
            assert!(filling.len() < 10, "the backlog never fills");
        }
        let before = Instant::now();
        let fault = connect(&[address, address, address], &quick()).await.unwrap_err();
        // Three deadlines of one address would be 900 ms, without any the kernel gives up after minutes.
        assert!(before.elapsed() < Duration::from_secs(30));
        assert!(fault.attempts.iter().all(|(_, kind)| *kind == io::ErrorKind::TimedOut));
        // On a machine that is slow to wake us the first one may use up the time of all.
        assert!((2..=3).contains(&fault.attempts.len()), "{fault}");
    }

    #[tokio::test]
    async fn the_source_address_is_the_one_asked_for() {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let params =
            Params { sources: vec!["::1".parse().unwrap(), "127.0.0.9".parse().unwrap()], ..quick() };
        let (_stream, _) = connect(&[open.local_addr().unwrap()], &params).await.unwrap();
        let (_, peer) = open.accept().await.unwrap();
        assert_eq!(peer.ip(), "127.0.0.9".parse::<IpAddr>().unwrap());
    }
}
