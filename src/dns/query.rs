//! One question to the configured servers, and the records that truly answer it.
//!
//! Names are asked exactly as given, with their final dot: no search domains, no hosts file, no special names. Answers
//! for other names are not answers. Chains of CNAME are followed, and end after `MAX_CNAMES`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::time::timeout;

/// Asks the servers; it keeps no memory.
#[derive(Clone)]
pub(super) struct Asker {
    pool: NameServerPool<TokioRuntimeProvider>,
    each: Duration,
}

/// What was found: perhaps nothing.
#[derive(Debug)]
pub struct Found {
    /// The records' data, all of the type asked for.
    pub records: Vec<RData>,
    /// How long that holds, in seconds, as the server says.
    pub ttl: u32,
    /// There is no such name (NXDOMAIN): not of this type, nor of any other, nor below it.
    pub gone: bool,
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFault {
    /// SERVFAIL, REFUSED, answers that answer something else, too long a chain.
    Failed,
    /// No answer in time.
    Timeout,
}

/// The addresses of the system's servers.
pub(super) fn system_servers() -> Result<Vec<SocketAddr>, NetError> {
    let (config, _) = hickory_resolver::system_conf::read_system_conf()?;
    let servers = config.name_servers().iter();
    Ok(servers
        .map(|server| {
            SocketAddr::new(server.ip, server.connections.first().map_or(53, |connection| connection.port))
        })
        .collect())
}

impl Asker {
    pub(super) fn new(servers: &[SocketAddr], each: Duration) -> Result<Asker, NetError> {
        let mut options = ResolverOpts::default();
        options.timeout = each;
        options.cache_size = 0;
        let configs = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        });
        let context = PoolContext::new(options, TlsConfig::new()?);
        let pool = NameServerPool::from_config(configs, Arc::new(context), TokioRuntimeProvider::default());
        Ok(Asker { pool, each })
    }

    /// All records of one type at a name.
    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Result<Found, QueryFault> {
        let mut name = name;
        name.set_fqdn(true);
        let mut hops = 0;
        let mut ttl = u32::MAX;
        loop {
            let Answers { records: answers, negative_ttl, gone } = self.once(name.clone(), kind).await?;
            let walk = walk(&answers, name, kind, &mut hops, &mut ttl)?;
            match walk {
                Walk::Found(records) => return Ok(Found { records, ttl, gone: false }),
                Walk::Nothing => {
                    return Ok(Found { records: Vec::new(), ttl: ttl.min(negative_ttl), gone });
                }
                Walk::Further(next) => name = next,
            }
        }
    }

    async fn once(&self, name: Name, kind: RecordType) -> Result<Answers, QueryFault> {
        let query = Query::query(name, kind);
        let asking = self.pool.lookup(query, DnsRequestOptions::default()).first_answer();
        let response = timeout(self.each, asking).await.map_err(|_| QueryFault::Timeout)?;
        match response {
            Ok(response) => {
                let response = DnsError::from_response(response);
                match response {
                    Ok(response) => {
                        let records = response.into_message().answers;
                        Ok(Answers { records, negative_ttl: NEGATIVE_TTL, gone: false })
                    }
                    Err(error) => absent(error),
                }
            }
            Err(NetError::Dns(error)) => absent(error),
            Err(NetError::Timeout) => Err(QueryFault::Timeout),
            Err(_) => Err(QueryFault::Failed),
        }
    }
}

/// One answer.
struct Answers {
    records: Vec<Record>,
    /// How long "no such records" holds.
    negative_ttl: u32,
    gone: bool,
}

/// "No such records" is an answer; every other error is none.
fn absent(error: DnsError) -> Result<Answers, QueryFault> {
    match error {
        DnsError::NoRecordsFound(none) => Ok(Answers {
            records: Vec::new(),
            negative_ttl: none.negative_ttl.unwrap_or(NEGATIVE_TTL),
            gone: none.response_code == ResponseCode::NXDomain,
        }),
        _ => Err(QueryFault::Failed),
    }
}

/// Where a chain of CNAME leads within one answer.
#[derive(Debug, PartialEq)]
pub enum Walk {
    /// The chain ends at these records.
    Found(Vec<RData>),
    /// The chain leads to a name of which this answer says nothing.
    Further(Name),
    /// There are no such records.
    Nothing,
}

/// Follows the chain within one answer; `hops` and `ttl` go on from answer to answer.
///
/// # Errors
/// `Failed` for records that answer another question, and for too long a chain.
pub fn walk(
    answers: &[Record],
    name: Name,
    kind: RecordType,
    hops: &mut usize,
    ttl: &mut u32,
) -> Result<Walk, QueryFault> {
    let asked = name.clone();
    let mut name = name;
    loop {
        let mut records = Vec::new();
        let mut next = None;
        for record in answers.iter().filter(|record| record.name == name) {
            match &record.data {
                data if data.record_type() == kind => records.push((record.ttl, data.clone())),
                RData::CNAME(target) => next = Some((record.ttl, target.0.clone())),
                _ => {}
            }
        }
        if !records.is_empty() {
            *ttl = records.iter().map(|(ttl, _)| *ttl).fold(*ttl, u32::min);
            return Ok(Walk::Found(records.into_iter().map(|(_, data)| data).collect()));
        }
        match next {
            Some((life, target)) => {
                *hops += 1;
                *ttl = life.min(*ttl);
                if *hops > MAX_CNAMES {
                    return Err(QueryFault::Failed);
                }
                name = target;
            }
            None if name != asked => return Ok(Walk::Further(name)),
            // Records, but none for the name that was asked for: not an answer, and not "no records" either.
            None if answers.iter().any(|record| record.name != asked) => return Err(QueryFault::Failed),
            None => return Ok(Walk::Nothing),
        }
    }
}

/// DNS-04.
const MAX_CNAMES: usize = 8;
/// For negative answers without SOA.
const NEGATIVE_TTL: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{A, CNAME};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn alias(from: &str, to: &str) -> Record {
        Record::from_rdata(name(from), 60, RData::CNAME(CNAME(name(to))))
    }

    fn host(at: &str, ttl: u32) -> Record {
        Record::from_rdata(name(at), ttl, RData::A(A::new(192, 0, 2, 1)))
    }

    fn run(answers: &[Record]) -> (Result<Walk, QueryFault>, u32) {
        let mut ttl = u32::MAX;
        let found = walk(answers, name("a.example."), RecordType::A, &mut 0, &mut ttl);
        (found, ttl)
    }

    #[test]
    fn only_records_of_the_name_asked_for_answer() {
        let data = RData::A(A::new(192, 0, 2, 1));
        assert_eq!(run(&[]), (Ok(Walk::Nothing), u32::MAX));
        assert_eq!(
            run(&[host("a.example.", 40), host("evil.example.", 1)]),
            (Ok(Walk::Found(vec![data.clone()])), 40)
        );
        assert_eq!(run(&[host("A.EXAMPLE.", 40)]).0, Ok(Walk::Found(vec![data.clone()])));
        assert_eq!(run(&[host("evil.example.", 40)]).0, Err(QueryFault::Failed));
        assert_eq!(run(&[alias("evil.example.", "a.example.")]).0, Err(QueryFault::Failed));
        assert_eq!(run(&[alias("a.example.", "b.example.")]), (Ok(Walk::Further(name("b.example."))), 60));
        let chain =
            [host("c.example.", 90), alias("b.example.", "c.example."), alias("a.example.", "b.example.")];
        assert_eq!(run(&chain), (Ok(Walk::Found(vec![data])), 60));
    }

    #[test]
    fn chains_and_loops_of_cname_end() {
        assert_eq!(run(&[alias("a.example.", "a.example.")]).0, Err(QueryFault::Failed));
        assert_eq!(
            run(&[alias("a.example.", "b.example."), alias("b.example.", "a.example.")]).0,
            Err(QueryFault::Failed)
        );
        let chain = |length: usize| {
            let mut records = vec![alias("a.example.", "n1.example.")];
            records.extend(
                (1..length).map(|n| alias(&format!("n{n}.example."), &format!("n{}.example.", n + 1))),
            );
            records.push(host(&format!("n{length}.example."), 60));
            records
        };
        assert!(matches!(run(&chain(8)).0, Ok(Walk::Found(_))));
        assert_eq!(run(&chain(9)).0, Err(QueryFault::Failed));
    }
}
