//! Single questions about what a domain publishes, for whoever wants to see it as it stands in the DNS: signed or not, and whether
//! or not it may be dialled. Nothing is remembered.

use hickory_proto::rr::{Name, RData, RecordType};

use super::Resolver;
use super::fault::DnsFault;
use crate::dns::TlsMode;
use crate::dns::addresses::addresses;
use crate::dns::order::{Candidate, Rank};
use crate::dns::query::DnsAnswer;
use crate::dns::tlsa;
use crate::jid::Domain;
use crate::stream::dane::Association;

/// What the DNS tells, perhaps nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedUp<T> {
    /// The records, at most 16 of them.
    pub values: Vec<T>,
    /// They stand under signatures that hold (DNS-09); of nothing that is never said.
    pub secure: bool,
    /// How many more there are.
    pub more: usize,
}

/// A CAA record (RFC 8659 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caa {
    /// An authority that does not know the tag must not issue.
    pub critical: bool,
    /// What it is about, like `issue`.
    pub tag: String,
    /// What it says of that, octets that are no text replaced.
    pub value: String,
}

/// Where an SRV record leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The host, without the final dot; empty where the domain says that it has no such service (RFC 2782).
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Resolver {
    /// The SRV records of this service (like `_xmpp-server`) at a domain.
    ///
    /// # Errors
    /// Why they are not known.
    pub async fn services(&self, domain: &Domain, service: &str) -> Result<LookedUp<Led>, DnsFault> {
        let name = format!("{service}._tcp.{}.", domain.to_ascii());
        self.records(&name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(Led { host: text(&srv.target), port: srv.port }),
            _ => None,
        })
        .await
    }

    /// The addresses of a host, those that must not be dialled among them.
    ///
    /// # Errors
    /// Why they are not known.
    pub async fn all_addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<LookedUp<std::net::SocketAddr>, DnsFault> {
        let host = Name::from_ascii(host).map_err(|_| DnsFault::NotFound)?;
        let rank = Rank { priority: 0, weight: 0, mode: TlsMode::Starttls };
        let candidate = Candidate { rank, host, port, secure: false, itself: false };
        let found = addresses(&self.ours.servers.asker(), &candidate).await?;
        let secure = found.secure && !found.addresses.is_empty();
        Ok(LookedUp { values: found.addresses, secure, more: found.more })
    }

    /// The TLSA records of a host at a port, none in the place of one that cannot be used (RFC 7671 4); and the host at whose name they
    /// stand, which is another where this one is an alias.
    ///
    /// # Errors
    /// Why they are not known.
    pub async fn tlsa(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(String, LookedUp<Option<Association>>), DnsFault> {
        let host = Name::from_ascii(format!("{host}.")).map_err(|_| DnsFault::NotFound)?;
        let (base, found) = tlsa::found(&self.ours.servers.asker(), &host, port).await?;
        Ok((text(&base), answered(&found, tlsa::read)))
    }

    /// The CAA records that count for a domain, and the name that they stand at: its own, or the next
    /// above that has some (RFC 8659 3).
    ///
    /// # Errors
    /// Why they are not known.
    pub async fn caa(&self, domain: &Domain) -> Result<Option<(String, LookedUp<Caa>)>, DnsFault> {
        let ascii = domain.to_ascii();
        let mut name: &str = &ascii;
        for _ in 0..LABELS {
            let told = self
                .records(&format!("{name}."), RecordType::CAA, |data| match data {
                    RData::CAA(record) => Some(Caa {
                        critical: record.issuer_critical,
                        tag: record.tag.clone(),
                        value: String::from_utf8_lossy(&record.value).into_owned(),
                    }),
                    _ => None,
                })
                .await?;
            if !told.values.is_empty() {
                return Ok(Some((name.to_owned(), told)));
            }
            match name.split_once('.') {
                Some((_, above)) => name = above,
                None => break,
            }
        }
        Ok(None)
    }

    /// Whether the guard lets the DNS lead us to this address.
    pub fn may_dial(&self, address: std::net::SocketAddr) -> bool {
        self.admits(address)
    }

    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<LookedUp<T>, DnsFault> {
        let name = Name::from_ascii(name).map_err(|_| DnsFault::NotFound)?;
        let found = self.ours.servers.asker().ask(name, kind).await?;
        Ok(answered(&found, read))
    }
}

fn answered<T>(found: &DnsAnswer, read: impl Fn(&RData) -> Option<T>) -> LookedUp<T> {
    let mut values: Vec<T> = found.records.iter().filter_map(read).collect();
    let more = values.len().saturating_sub(MOST);
    values.truncate(MOST);
    LookedUp { secure: found.secure && !values.is_empty(), values, more }
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

/// Records that are looked at.
const MOST: usize = 16;
/// Labels of a name that are climbed; a name has no more (RFC 1035 2.3.4).
const LABELS: usize = 127;
