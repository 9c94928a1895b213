//! One question to the configured servers, and the records that truly answer it.
//!
//! Names are asked exactly as given, with their final dot: no search domains, no hosts file, no special names. Answers
//! for other names are not answers. Chains of CNAME are followed, and end after `MAX_CNAMES`.
//!
//! Where signatures are looked at ([`Dnssec`]), an answer is secure, or insecure (nobody signs there), or bogus; what is bogus
//! is no answer (DNS-09).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::{DnsRequestOptions, DnsResponse, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use rustix::io::Errno;
use tokio::time::timeout;

use crate::dns::denial;
use crate::dns::work::{Paid, Purse};

/// The servers to ask, and whom their answers are believed by.
pub(super) struct Servers {
    pool: Pool,
    trusted: Trusted,
    each: Duration,
}

/// Asks the servers, for one look-up with all its names; it keeps no memory.
#[derive(Clone)]
pub(super) struct Asker {
    pool: Pool,
    signatures: Signatures,
    each: Duration,
}

/// Who looks at the signatures.
#[derive(Clone)]
enum Signatures {
    /// Nobody.
    Unread,
    /// The resolver, which says so (RFC 6840 5.8).
    Reported,
    /// We do, as long as there is something in the purse.
    Read(Box<DnssecDnsHandle<Paid<Pool>>>, Purse),
}

type Pool = NameServerPool<TokioRuntimeProvider>;

/// `dnssec:` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dnssec {
    /// Every answer is insecure.
    #[default]
    Off,
    /// A resolver on this machine or in a private network validates, and what it says counts.
    Resolver,
    /// The gateway validates: from the anchors of the root, or from those in this file of DNSKEY records.
    Validate(Option<PathBuf>),
}

/// What was found: perhaps nothing.
#[derive(Debug)]
pub struct DnsAnswer {
    /// The records' data, all of the type asked for.
    pub records: Vec<RData>,
    /// How long that holds, in seconds, as the server says.
    pub ttl: u32,
    /// There is no such name (NXDOMAIN): not of this type, nor of any other, nor below it.
    pub gone: bool,
    /// Every record on the way to these was signed, and the signatures hold.
    pub secure: bool,
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFault {
    /// Signatures are due and missing, or do not hold.
    Bogus,
    /// SERVFAIL, REFUSED, answers that answer something else, too long a chain.
    Failed,
    /// This machine had no room for the question: no file descriptor, or no memory for a socket.
    NoRoom,
    /// No answer in time.
    Timeout,
    /// Validating it takes more than one look-up may cost.
    TooMuch,
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

impl Servers {
    pub(super) fn new(addresses: &[SocketAddr], each: Duration, trusted: &Trusted) -> Result<Self, NetError> {
        let mut options = ResolverOpts::default();
        options.timeout = each;
        options.cache_size = 0;
        let configs = addresses.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        });
        let context = PoolContext::new(options, TlsConfig::new()?);
        let pool = NameServerPool::from_config(configs, Arc::new(context), TokioRuntimeProvider::default());
        Ok(Self { pool, trusted: trusted.clone(), each })
    }

    /// For one look-up: what it costs is counted from here.
    pub(super) fn asker(&self) -> Asker {
        let signatures = match &self.trusted {
            Trusted::Nobody => Signatures::Unread,
            Trusted::Resolver => Signatures::Reported,
            Trusted::Anchors(anchors) => {
                let purse = Purse::full();
                let paid = Paid::new(self.pool.clone(), purse.clone());
                let handle = DnssecDnsHandle::with_trust_anchor(paid, Arc::clone(anchors));
                Signatures::Read(Box::new(handle), purse)
            }
        };
        Asker { pool: self.pool.clone(), signatures, each: self.each }
    }
}

impl Asker {
    /// All records of one type at a name.
    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Result<DnsAnswer, QueryFault> {
        let mut name = name;
        name.set_fqdn(true);
        let mut hops = 0;
        let mut ttl = u32::MAX;
        let mut secure = true;
        loop {
            let Answers { records: answers, negative_ttl, gone, secure: signed } =
                self.once(name.clone(), kind).await.map_err(|fault| self.classified(fault))?;
            secure &= signed;
            let walk = walk(&answers, name, kind, &mut hops, &mut ttl)?;
            match walk {
                Walk::Found(records) => return Ok(DnsAnswer { records, ttl, gone: false, secure }),
                Walk::Nothing => {
                    return Ok(DnsAnswer { records: Vec::new(), ttl: ttl.min(negative_ttl), gone, secure });
                }
                Walk::Further(next) => name = next,
            }
        }
    }

    async fn once(&self, name: Name, kind: RecordType) -> Result<Answers, QueryFault> {
        let query = Query::query(name.clone(), kind);
        let mut options = DnsRequestOptions::default();
        let response = match &self.signatures {
            Signatures::Unread => timeout(self.each, self.pool.lookup(query, options).first_answer()).await,
            Signatures::Reported => {
                options.edns_set_dnssec_ok = true;
                timeout(self.each, self.pool.lookup(query, options).first_answer()).await
            }
            // Keys and delegations are asked about on the way.
            Signatures::Read(handle, _) => {
                timeout(self.each.saturating_mul(2), handle.lookup(query, options).first_answer()).await
            }
        };
        let response = response.map_err(|_| QueryFault::Timeout)?;
        let is_read = matches!(self.signatures, Signatures::Read(..));
        match response {
            Ok(response) if is_read && !denial::is_enough(&name, kind, &response) => Err(QueryFault::Bogus),
            Ok(response) => self.answers(response),
            Err(NetError::Dns(DnsError::Nsec { response, proof: Proof::Bogus, .. }))
                if denial::is_proven(&name, kind, &response) =>
            {
                self.answers(*response)
            }
            // An answer of which it is not proven that it had to come from a wildcard (RFC 9276 3.2).
            Err(NetError::Dns(DnsError::Nsec { response, proof: Proof::Insecure, .. }))
                if denial::is_answer(&name, kind, &response) =>
            {
                Ok(Answers { secure: false, ..self.answers(*response)? })
            }
            Err(NetError::Dns(error)) => absent(error),
            Err(NetError::Timeout) => Err(QueryFault::Timeout),
            // What a socket could not be made for is not in the error.
            Err(NetError::NoConnections) if lacks_room() => Err(QueryFault::NoRoom),
            Err(_) => Err(QueryFault::Failed),
        }
    }

    /// What a message brings whose proofs are in order.
    fn answers(&self, response: DnsResponse) -> Result<Answers, QueryFault> {
        let message = match DnsError::from_response(response) {
            Ok(response) => response.into_message(),
            Err(error) => return absent(error),
        };
        let secure = self.signed(&message)?;
        Ok(Answers { records: message.answers, negative_ttl: NEGATIVE_TTL, gone: false, secure })
    }
}

impl Asker {
    /// What could not be paid for comes out as one fault or another of the validation; it is neither forged nor missing.
    fn classified(&self, fault: QueryFault) -> QueryFault {
        match &self.signatures {
            Signatures::Read(_, purse) if purse.is_empty() => QueryFault::TooMuch,
            _ => fault,
        }
    }

    /// Whether all of this answer is signed, and the signatures hold.
    fn signed(&self, message: &Message) -> Result<bool, QueryFault> {
        let answers = || message.answers.iter().filter(|record| record.record_type() != RecordType::RRSIG);
        match self.signatures {
            Signatures::Unread => Ok(false),
            Signatures::Reported => Ok(message.metadata.authentic_data),
            Signatures::Read(..) if answers().any(|record| record.proof == Proof::Bogus) => {
                Err(QueryFault::Bogus)
            }
            Signatures::Read(..) => Ok(answers().all(|record| record.proof == Proof::Secure)),
        }
    }
}

/// Whom the answers are believed by.
#[derive(Clone)]
pub(super) enum Trusted {
    Nobody,
    Resolver,
    Anchors(Arc<TrustAnchors>),
}

impl Trusted {
    /// Reads the anchors.
    pub(super) fn of(dnssec: &Dnssec) -> Result<Trusted, String> {
        match dnssec {
            Dnssec::Off => Ok(Trusted::Nobody),
            Dnssec::Resolver => Ok(Trusted::Resolver),
            Dnssec::Validate(None) => Ok(Trusted::Anchors(Arc::default())),
            Dnssec::Validate(Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
                let keys = plain_keys(text.strip_prefix('\u{feff}').unwrap_or(&text));
                if keys.is_empty() {
                    return Err("it holds no DNSKEY record".to_owned());
                }
                let anchors = keys.parse::<TrustAnchors>().map_err(|error| error.to_string())?;
                Ok(Trusted::Anchors(Arc::new(anchors)))
            }
        }
    }
}

/// The DNSKEY records of a file as the parser of anchors takes them: tools write them with and without a TTL, and a remark behind.
fn plain_keys(text: &str) -> String {
    let mut keys = String::new();
    for line in text.lines() {
        let mut words = line.split(';').next().unwrap_or_default().split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        if words.any(|word| word.eq_ignore_ascii_case("DNSKEY")) {
            let data: Vec<&str> = words.collect();
            keys.push_str(&format!("{name} 3600 IN DNSKEY {}\n", data.join(" ")));
        }
    }
    keys
}

/// One answer.
struct Answers {
    records: Vec<Record>,
    /// How long "no such records" holds.
    negative_ttl: u32,
    gone: bool,
    secure: bool,
}

/// Whether a socket cannot be made for want of a file descriptor or of memory.
fn lacks_room() -> bool {
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .is_err_and(|error| Errno::from_io_error(&error).is_some_and(|errno| lacking.contains(&errno)))
}

/// "No such records" is an answer; every other error is none.
fn absent(error: DnsError) -> Result<Answers, QueryFault> {
    match error {
        DnsError::NoRecordsFound(none) => Ok(Answers {
            records: Vec::new(),
            negative_ttl: none.negative_ttl.unwrap_or(NEGATIVE_TTL),
            gone: none.response_code == ResponseCode::NXDomain,
            // What a resolver says of nothing is not handed on with its mark.
            secure: false,
        }),
        // A name that is provably not signed, of which there is nothing.
        DnsError::Nsec { proof: Proof::Insecure, response, .. } => Ok(Answers {
            records: Vec::new(),
            negative_ttl: NEGATIVE_TTL,
            gone: response.response_code == ResponseCode::NXDomain,
            secure: false,
        }),
        DnsError::Nsec { .. } | DnsError::DnssecBogus => Err(QueryFault::Bogus),
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
    fn anchors_are_read_as_tools_write_them() {
        let key = "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==";
        let folder = tempfile::tempdir().unwrap();
        for (text, fits) in [
            (format!("example.\tIN\tDNSKEY\t{key} ;{{id = 1 (ksk), size = 256b}}\n"), true),
            (format!("\u{feff}example. IN DNSKEY {key}\n"), true),
            (format!("; a remark\n. 172800 IN DNSKEY {key}\n"), true),
            ("example. IN DS 1 13 2 00\n".to_owned(), false),
            ("example. IN DNSKEY 257 3 13 ?\n".to_owned(), false),
            (String::new(), false),
        ] {
            let path = folder.path().join("anchors");
            std::fs::write(&path, &text).unwrap();
            assert_eq!(Trusted::of(&Dnssec::Validate(Some(path))).is_ok(), fits, "{text}");
        }
        assert!(Trusted::of(&Dnssec::Validate(Some("/nowhere".into()))).is_err());
        assert!(
            matches!(Trusted::of(&Dnssec::Validate(None)), Ok(Trusted::Anchors(anchors)) if !anchors.is_empty())
        );
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
