//! Two questions that need not both be answered, and the addresses of a host (RFC 8305).

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use hickory_proto::rr::{RData, RecordType};
use tokio::time::timeout;

use crate::dns::order::Candidate;
use crate::dns::query::{Asker, DnsAnswer, QueryFault};

/// What came of one of two questions; none: it was not waited for any longer.
pub(super) type Heard = Option<Result<DnsAnswer, QueryFault>>;

/// Asks both. Once one has a useful answer, the other has so much time left: a server that is silent about one thing must
/// not cost what it tells about the other.
pub(super) async fn both(
    one: impl Future<Output = Result<DnsAnswer, QueryFault>>,
    other: impl Future<Output = Result<DnsAnswer, QueryFault>>,
    is_useful: impl Fn(&DnsAnswer) -> bool,
    grace: Duration,
) -> (Heard, Heard) {
    let useful = |heard: &Result<DnsAnswer, QueryFault>| heard.as_ref().is_ok_and(&is_useful);
    let (mut one, mut other) = (pin!(one), pin!(other));
    tokio::select! {
        heard = &mut one => {
            let rest = match useful(&heard) {
                true => timeout(grace, other).await.ok(),
                false => Some(other.await),
            };
            (Some(heard), rest)
        }
        heard = &mut other => {
            let rest = match useful(&heard) {
                true => timeout(grace, one).await.ok(),
                false => Some(one.await),
            };
            (rest, Some(heard))
        }
    }
}

/// What was found of a host.
pub(super) struct Addresses {
    /// Perhaps none.
    pub addresses: Vec<SocketAddr>,
    /// How long that holds, in seconds.
    pub ttl: u32,
    /// There is no such name.
    pub gone: bool,
    /// All of them stand under signatures.
    pub secure: bool,
    /// How many more there are.
    pub more: usize,
}

/// Both families, taken in turns, so that a broken one costs one attempt and not eight.
pub(super) async fn addresses(asker: &Asker, candidate: &Candidate) -> Result<Addresses, QueryFault> {
    let (six, four) = both(
        asker.ask(candidate.host.clone(), RecordType::AAAA),
        asker.ask(candidate.host.clone(), RecordType::A),
        |found| !found.records.is_empty(),
        RESOLUTION_DELAY,
    )
    .await;
    let whole = matches!((&six, &four), (Some(Ok(_)), Some(Ok(_))));
    let (six, four) = match (six, four) {
        (Some(Err(fault)), Some(Err(_))) => return Err(fault),
        // One family failed: what the other says will do, unless it says nothing.
        (Some(Err(fault)), Some(Ok(found))) | (Some(Ok(found)), Some(Err(fault)))
            if found.records.is_empty() =>
        {
            return Err(fault);
        }
        (six, four) => (six.and_then(Result::ok), four.and_then(Result::ok)),
    };
    let ttl = six.iter().chain(&four).map(|found| found.ttl).min().unwrap_or(PARTIAL_TTL);
    let ttl = if whole { ttl } else { ttl.min(PARTIAL_TTL) };
    let gone = six.iter().chain(&four).any(|found| found.gone);
    let ip = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let mut found = six.iter().chain(&four).filter(|found| !found.records.is_empty());
    let secure = found.all(|found| found.secure);
    let all: usize = six.iter().chain(&four).map(|found| found.records.iter().filter_map(ip).count()).sum();
    let list = |found: Option<DnsAnswer>| {
        found
            .map(|found| found.records.iter().filter_map(ip).take(MAX_ADDRESSES).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let (mut six, mut four) = (list(six).into_iter(), list(four).into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair.iter().all(Option::is_none) {
            break;
        }
        turns.extend(pair.into_iter().flatten().map(|ip| SocketAddr::new(ip, candidate.port)));
    }
    turns.truncate(MAX_ADDRESSES);
    let more = all.saturating_sub(turns.len());
    Ok(Addresses { addresses: turns, ttl, gone, secure, more })
}

/// DNS-04.
pub(super) const MAX_ADDRESSES: usize = 8;
/// RFC 8305 3: what the other family has after one has answered.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// What is known in part is soon asked again, in seconds.
pub(super) const PARTIAL_TTL: u32 = 30;
