//! The DNS server of the small world: real queries over UDP and TCP, and every bad manner a server can have.
//!
//! It remembers what it was asked, so that "no query was sent" can be seen from outside.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::UdpSocket;

use super::{Told, bind, held};

/// How long a record may be kept: not at all, so that a change is seen at once.
const TTL: u32 = 0;

/// How the server treats questions about a name.
#[derive(Clone, Debug)]
pub enum Manner {
    /// It answers with these records, whoever they are about; a lie if about another name than asked.
    Records(Vec<(String, RData)>),
    /// It never answers.
    Silent,
    /// It answers after this time, honestly.
    Slow(Duration),
    /// It says that it failed.
    Failing,
}

#[derive(Default)]
struct Book {
    records: HashMap<(String, RecordType), Vec<RData>>,
    manners: HashMap<String, Manner>,
    asked: Vec<(String, RecordType)>,
}

/// The DNS server.
pub struct Names {
    book: Arc<Mutex<Book>>,
    address: SocketAddr,
    // Dropped with the world: the server ends with it.
    _server: Server<Desk>,
}

struct Desk(Arc<Mutex<Book>>);

impl Names {
    /// Starts it at this address, on port 53 if that may be had.
    pub async fn start(ip: Ipv4Addr) -> Told<Self> {
        let book = Arc::new(Mutex::new(Book::default()));
        let mut server = Server::new(Desk(book.clone()));
        let tcp = bind(ip, 53).await?;
        let address = tcp.local_addr()?;
        server.register_socket(UdpSocket::bind(address).await?);
        server.register_listener(tcp, Duration::from_secs(5), 64);
        Ok(Self { book, address, _server: server })
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Announces a service: `_xmpp-server._tcp` and `_xmpps-server._tcp` of the domain, as far as there is one.
    pub fn announce(
        &self,
        domain: &str,
        starttls: Option<SocketAddr>,
        direct: Option<SocketAddr>,
    ) -> Told<()> {
        let host = format!("xmpp.{domain}");
        for (service, address) in [("_xmpp-server", starttls), ("_xmpps-server", direct)] {
            if let Some(address) = address {
                self.srv(&format!("{service}._tcp.{domain}"), 0, 0, &host, address.port())?;
                self.host(&host, address.ip());
            }
        }
        Ok(())
    }

    /// Adds an SRV record.
    pub fn srv(&self, name: &str, priority: u16, weight: u16, target: &str, port: u16) -> Told<()> {
        let record = RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(fqdn(target))?));
        self.add(name, RecordType::SRV, record);
        Ok(())
    }

    /// Adds an address.
    pub fn host(&self, name: &str, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.add(name, RecordType::A, RData::A(A(v4))),
            IpAddr::V6(v6) => self.add(name, RecordType::AAAA, RData::AAAA(AAAA(v6))),
        }
    }

    /// Adds an alias.
    pub fn alias(&self, name: &str, target: &str) -> Told<()> {
        self.add(name, RecordType::CNAME, RData::CNAME(CNAME(Name::from_ascii(fqdn(target))?)));
        Ok(())
    }

    /// Says how questions about this name, and all below it, are treated.
    pub fn behave(&self, name: &str, manner: Manner) {
        held(&self.book).manners.insert(fqdn(name), manner);
    }

    /// Questions about this name, or one below it, since the start.
    pub fn asked_about(&self, domain: &str) -> usize {
        let domain = fqdn(domain);
        held(&self.book).asked.iter().filter(|(name, _)| within(name, &domain)).count()
    }

    fn add(&self, name: &str, kind: RecordType, data: RData) {
        let mut book = held(&self.book);
        let known = book.records.entry((fqdn(name), kind)).or_default();
        if !known.contains(&data) {
            known.push(data);
        }
    }
}

enum Reply {
    None,
    Failure,
    Found(Vec<Record>),
    Unknown,
}

impl Book {
    fn reply(&self, name: &str, kind: RecordType) -> Reply {
        let manner = self.manners.iter().find(|(about, _)| within(name, about)).map(|(_, manner)| manner);
        match manner {
            Some(Manner::Silent) => Reply::None,
            Some(Manner::Failing) => Reply::Failure,
            Some(Manner::Records(records)) => {
                Reply::Found(records.iter().filter_map(|(about, data)| record(about, data)).collect())
            }
            Some(Manner::Slow(_)) | None => self.honest(name, kind),
        }
    }

    fn honest(&self, name: &str, kind: RecordType) -> Reply {
        let mut name = name.to_owned();
        let mut found = Vec::new();
        // An alias is followed here as a resolver would; a loop of them is given out as far as it was walked.
        for _ in 0..16 {
            if let Some(records) = self.records.get(&(name.clone(), kind)) {
                found.extend(records.iter().filter_map(|data| record(&name, data)));
                return Reply::Found(found);
            }
            let alias = self.records.get(&(name.clone(), RecordType::CNAME)).and_then(|all| all.first());
            let Some(RData::CNAME(CNAME(target))) = alias else { break };
            found.extend(alias.and_then(|data| record(&name, data)));
            name = target.to_ascii().to_ascii_lowercase();
        }
        let exists = self.records.keys().any(|(known, _)| within(known, &name));
        if exists || !found.is_empty() { Reply::Found(found) } else { Reply::Unknown }
    }
}

impl RequestHandler for Desk {
    // Written out by hand what `async_trait` would write: the trait asks for that shape, the crate is no dependency of ours.
    fn handle_request<'life0, 'life1, 'async_trait, R, T>(
        &'life0 self,
        request: &'life1 Request,
        mut out: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'async_trait>>
    where
        R: ResponseHandler + 'async_trait,
        T: Time + 'async_trait,
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let mut metadata = Metadata::response_from_request(&request.metadata);
            metadata.recursion_available = true;
            metadata.authoritative = true;
            let nothing = ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
            let Ok(info) = request.request_info() else { return nothing };
            let (name, kind) = (info.query.name().to_string().to_ascii_lowercase(), info.query.query_type());
            let (reply, wait) = {
                let mut book = held(&self.0);
                book.asked.push((name.clone(), kind));
                let wait = book.manners.iter().find_map(|(about, manner)| match manner {
                    Manner::Slow(time) if within(&name, about) => Some(*time),
                    _ => None,
                });
                (book.reply(&name, kind), wait)
            };
            if let Some(time) = wait {
                tokio::time::sleep(time).await;
            }
            let records = match reply {
                Reply::None => return nothing,
                Reply::Found(records) => records,
                Reply::Failure | Reply::Unknown => {
                    metadata.response_code = match reply {
                        Reply::Failure => ResponseCode::ServFail,
                        _ => ResponseCode::NXDomain,
                    };
                    Vec::new()
                }
            };
            let response = MessageResponseBuilder::from_message_request(request).build(
                metadata,
                records.iter(),
                [].iter(),
                [].iter(),
                [].iter(),
            );
            // An asker that went away gets no answer.
            out.send_response(response).await.unwrap_or(nothing)
        })
    }
}

fn record(name: &str, data: &RData) -> Option<Record> {
    Name::from_ascii(fqdn(name)).ok().map(|name| Record::from_rdata(name, TTL, data.clone()))
}

fn fqdn(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name.ends_with('.') { name } else { format!("{name}.") }
}

fn within(name: &str, domain: &str) -> bool {
    name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}
