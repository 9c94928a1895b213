//! Where a domain's server may be: its SRV records, or the domain itself (RFC 6120 3.2, XEP-0368).

use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};

use crate::dns::TlsMode;
use crate::dns::addresses::{PARTIAL_TTL, both};
use crate::dns::order::{Candidate, Rank, order};
use crate::dns::query::{Asker, DnsAnswer, QueryFault};
use crate::jid::Domain;

/// What the two SRV lookups came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Service {
    /// These, in the order to be tried, at most `MAX_TARGETS`.
    At(Vec<Candidate>),
    /// The domain says that it has no such service.
    None,
}

/// Asks for both services, which are two questions: where one fails and the other names servers, those are taken. A lookup
/// that failed is no "no records": beside it, an answer without servers says nothing (DNS-10).
pub(super) async fn find(asker: &Asker, domain: &Domain, seed: u64) -> Result<(Service, u32), QueryFault> {
    let name = |service: &str| {
        Name::from_ascii(format!("{service}._tcp.{}.", domain.to_ascii())).map_err(|_| QueryFault::Failed)
    };
    let heard = both(
        asker.ask(name("_xmpps-server")?, RecordType::SRV),
        asker.ask(name("_xmpp-server")?, RecordType::SRV),
        names_servers,
        GRACE,
    );
    let (direct, starttls, ttl) = match heard.await {
        (Some(Ok(direct)), Some(Ok(starttls))) => {
            let ttl = direct.ttl.min(starttls.ttl);
            (direct, starttls, ttl)
        }
        (Some(Ok(direct)), _) if names_servers(&direct) => {
            let ttl = direct.ttl.min(PARTIAL_TTL);
            (direct, DnsAnswer { records: Vec::new(), ttl, gone: false, secure: false }, ttl)
        }
        (_, Some(Ok(starttls))) if names_servers(&starttls) => {
            let ttl = starttls.ttl.min(PARTIAL_TTL);
            (DnsAnswer { records: Vec::new(), ttl, gone: false, secure: false }, starttls, ttl)
        }
        (Some(Err(fault)), _) | (_, Some(Err(fault))) => return Err(fault),
        // Neither was given up before the other had named servers.
        (None, _) | (_, None) => return Err(QueryFault::Timeout),
    };
    let fallback = Name::from_ascii(format!("{}.", domain.to_ascii())).map_err(|_| QueryFault::Failed)?;
    Ok((settle(direct, starttls, fallback, seed), ttl))
}

fn names_servers(found: &DnsAnswer) -> bool {
    found.records.iter().any(|data| matches!(data, RData::SRV(srv) if !srv.target.is_root()))
}

/// Merges both lists into one (DNS-01); `.` means "not here" (DNS-02); no record at all means the domain itself, with
/// STARTTLS (DNS-03).
pub fn settle(direct: DnsAnswer, starttls: DnsAnswer, fallback: Name, seed: u64) -> Service {
    if direct.records.is_empty() && starttls.records.is_empty() {
        let rank = Rank { priority: 0, weight: 0, mode: TlsMode::Starttls };
        return Service::At(vec![Candidate {
            rank,
            host: fallback,
            port: PORT,
            secure: false,
            itself: true,
        }]);
    }
    let of = |found: DnsAnswer, mode: TlsMode| {
        let secure = found.secure;
        found.records.into_iter().filter_map(move |data| match data {
            RData::SRV(srv) if !srv.target.is_root() => Some(Candidate {
                rank: Rank { priority: srv.priority, weight: srv.weight, mode },
                host: srv.target.to_lowercase(),
                port: srv.port,
                secure,
                itself: false,
            }),
            _ => None,
        })
    };
    let all = of(direct, TlsMode::Direct).chain(of(starttls, TlsMode::Starttls)).collect();
    let mut chosen: Vec<Candidate> = Vec::new();
    for candidate in order(all, seed, |candidate: &Candidate| candidate.rank) {
        let same = |other: &Candidate| {
            other.host == candidate.host
                && other.port == candidate.port
                && other.rank.mode == candidate.rank.mode
        };
        if chosen.len() < MAX_TARGETS && !chosen.iter().any(same) {
            chosen.push(candidate);
        }
    }
    if chosen.is_empty() { Service::None } else { Service::At(chosen) }
}

/// DNS-04.
const MAX_TARGETS: usize = 10;
/// What one service has left once the other has named servers.
const GRACE: Duration = Duration::from_millis(500);
const PORT: u16 = 5269;

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::SRV;

    fn found(records: &[(u16, u16, u16, &str)]) -> DnsAnswer {
        let records = records.iter().map(|(p, w, port, target)| {
            RData::SRV(SRV::new(*p, *w, *port, Name::from_ascii(target).unwrap()))
        });
        DnsAnswer { records: records.collect(), ttl: 60, gone: false, secure: false }
    }

    fn run(
        direct: &[(u16, u16, u16, &str)],
        starttls: &[(u16, u16, u16, &str)],
    ) -> Option<Vec<(String, u16, TlsMode)>> {
        match settle(found(direct), found(starttls), Name::from_ascii("a.example.").unwrap(), 1) {
            Service::At(list) => {
                Some(list.into_iter().map(|c| (c.host.to_ascii(), c.port, c.rank.mode)).collect())
            }
            Service::None => None,
        }
    }

    #[test]
    fn both_services_make_one_list() {
        use TlsMode::{Direct, Starttls};
        let list =
            run(&[(20, 0, 5270, "d2."), (5, 0, 443, "d1.")], &[(10, 0, 5269, "s1."), (20, 0, 5269, "s2.")]);
        let expected =
            [("d1.", 443, Direct), ("s1.", 5269, Starttls), ("d2.", 5270, Direct), ("s2.", 5269, Starttls)];
        assert_eq!(list.unwrap(), expected.map(|(host, port, mode)| (host.to_owned(), port, mode)));
    }

    // RFC 2782: a target of "." means that the service is decidedly not available at this domain.
    #[test]
    fn a_dot_is_no_and_forbids_the_fallback() {
        assert_eq!(run(&[(0, 0, 0, ".")], &[(0, 0, 0, ".")]), None);
        assert_eq!(run(&[], &[(0, 0, 0, ".")]), None);
        assert_eq!(run(&[(0, 0, 0, ".")], &[]), None);
        assert_eq!(
            run(&[(0, 0, 0, ".")], &[(1, 0, 5269, "s.")]).unwrap(),
            [("s.".to_owned(), 5269, TlsMode::Starttls)]
        );
    }

    #[test]
    fn no_record_means_the_domain_itself() {
        assert_eq!(run(&[], &[]).unwrap(), [("a.example.".to_owned(), 5269, TlsMode::Starttls)]);
    }

    #[test]
    fn ten_thousand_records_come_down_to_ten_different_ones() {
        let names: Vec<String> = (0..10_000).map(|n| format!("h{}.example.", n / 2)).collect();
        let records: Vec<_> = names.iter().map(|name| (1, 1, 5269, name.as_str())).collect();
        let mut list = run(&[], &records).unwrap();
        assert_eq!(list.len(), MAX_TARGETS);
        list.sort();
        list.dedup();
        assert_eq!(list.len(), MAX_TARGETS);
    }
}
