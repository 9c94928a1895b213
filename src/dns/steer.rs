//! The DNS server that leads a backend's federation to the gateway.
//!
//! For any domain of others than the asker's own the answer is the inside listener: SRV `_xmpp-server._tcp` names it with its port, and every
//! A or AAAA is its address, so that a server that asks for addresses only arrives as well. There is no
//! `_xmpps-server`: inside is plain TCP. It answers the backends' networks and refuses everybody else, over TCP without
//! reading an octet; the gateway's own resolver never asks it ([`crate::dns::resolver::Params::never`]).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::steer_tcp;
use crate::jid::Domain;

/// What to answer, and whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Where to listen, over UDP and TCP.
    pub listen: SocketAddr,
    /// The backends' networks. Others are refused.
    pub from: Vec<IpNet>,
    /// The inside listener's addresses: the first of each family is answered.
    pub answer: Vec<IpAddr>,
    /// The inside listener's port.
    pub port: u16,
    /// The name that SRV records point to; [`TARGET`] unless there is a reason.
    pub target: String,
    /// The domains hosted here.
    pub hosted: BTreeMap<Domain, Hosted>,
    /// Names that do not exist, nor anything below them: NXDOMAIN. [`PROBES`] are denied without being named here.
    pub never: Vec<Domain>,
}

/// What is said of a hosted domain to its own backend. Every other backend is led to the gateway, as for any other domain: what
/// backends have to say to each other passes through it (POL-08).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosted {
    /// Where its backend is.
    pub at: Vec<SocketAddr>,
    /// Whether it is told; else REFUSED.
    pub told: bool,
}

impl Hosted {
    fn is_at(&self, address: IpAddr) -> bool {
        self.at.iter().any(|at| at.ip() == address)
    }
}

/// A running steering server; dropping it ends it.
pub struct Steering {
    server: Server<Answers>,
    /// What is answered over TCP; it ends with this.
    tcp: JoinSet<()>,
    address: SocketAddr,
    /// The same sockets once more, for the program that takes the place of this one.
    sockets: Sockets,
}

/// Where it is asked, over TCP and UDP at one address.
#[derive(Debug)]
pub struct Sockets {
    /// Over TCP.
    pub tcp: std::net::TcpListener,
    /// Over UDP.
    pub udp: std::net::UdpSocket,
}

impl Sockets {
    /// Binds both. With port 0, both get the same free port.
    ///
    /// # Errors
    /// When one of them cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Sockets> {
        let tcp = std::net::TcpListener::bind(address)?;
        let udp = std::net::UdpSocket::bind(tcp.local_addr()?)?;
        Ok(Sockets { tcp, udp })
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn try_clone(&self) -> io::Result<Sockets> {
        Ok(Sockets { tcp: self.tcp.try_clone()?, udp: self.udp.try_clone()? })
    }
}

impl Steering {
    /// Binds both sockets and starts to answer.
    ///
    /// # Errors
    /// When one of them cannot be bound, or a name not be written in the DNS.
    pub fn start(params: Params) -> io::Result<Steering> {
        let sockets = Sockets::bind(params.listen)?;
        Steering::start_at(sockets, params)
    }

    /// The same at sockets that are bound.
    ///
    /// # Errors
    /// When they cannot be served, or a name not be written in the DNS.
    pub fn start_at(sockets: Sockets, params: Params) -> io::Result<Steering> {
        let answers = Answers::new(&params)?;
        let Sockets { tcp, udp } = sockets.try_clone()?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let address = tcp.local_addr()?;
        let (tcp, udp) = (TcpListener::from_std(tcp)?, UdpSocket::from_std(udp)?);
        let everybody = [IpNet::from(ipnet::Ipv4Net::default()), IpNet::from(ipnet::Ipv6Net::default())];
        let mut server = Server::with_access(answers.clone(), everybody, params.from.clone());
        server.register_socket(udp);
        let mut listening = JoinSet::new();
        listening.spawn(steer_tcp::serve(tcp, params.from, answers));
        Ok(Steering { server, tcp: listening, address, sockets })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Ends it in good order.
    pub async fn stop(mut self) {
        self.tcp.shutdown().await;
        // Whatever a task says at its end, it has ended.
        let _ = self.server.shutdown_gracefully().await;
    }
}

impl std::fmt::Debug for Steering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steering").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The answers, without a socket.
#[doc(hidden)] // open for the fuzz targets
#[derive(Clone, Debug)]
pub struct Answers {
    four: Option<Ipv4Addr>,
    six: Option<Ipv6Addr>,
    port: u16,
    target: Name,
    hosted: Vec<(Name, Hosted)>,
    never: Vec<Name>,
}

/// One answer.
#[derive(Debug, PartialEq)]
enum Answer {
    /// These records; none: the name exists and has no such record.
    Records(Vec<Record>),
    /// REFUSED.
    Refused,
    /// NXDOMAIN.
    Never,
}

impl Answers {
    /// What these parameters say.
    ///
    /// # Errors
    /// A name that the DNS cannot hold.
    pub fn new(params: &Params) -> io::Result<Answers> {
        let name = |text: &str| {
            Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).map_err(io::Error::other)
        };
        let hosted =
            params.hosted.iter().map(|(domain, hosted)| Ok((name(&domain.to_ascii())?, hosted.clone())));
        Ok(Answers {
            four: params.answer.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }),
            six: params.answer.iter().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }),
            port: params.port,
            target: name(&params.target)?,
            hosted: hosted.collect::<io::Result<_>>()?,
            never: PROBES
                .iter()
                .map(|probe| name(probe))
                .chain(params.never.iter().map(|domain| name(&domain.to_ascii())))
                .collect::<io::Result<_>>()?,
        })
    }

    /// Whether this is a domain of the backend that asks. Who asks from an address of no backend asks for one that forwards
    /// its questions: that is clear where there is only one.
    fn is_own(&self, hosted: &Hosted, asker: IpAddr) -> bool {
        let all = || self.hosted.iter().map(|(_, hosted)| hosted);
        match all().any(|other| other.is_at(asker)) {
            true => hosted.is_at(asker),
            false => all().all(|other| hosted.at.iter().any(|at| other.is_at(at.ip()))),
        }
    }

    fn answer(&self, asker: IpAddr, name: &Name, kind: RecordType) -> Answer {
        // What does not exist has nothing below it either (RFC 8020 2), services included.
        if self.never.iter().any(|never| never.zone_of(name)) {
            return Answer::Never;
        }
        let service = Service::of(name);
        let subject = match service {
            Service::None => name.clone(),
            Service::Other | Service::XmppServer => {
                name.trim_to(usize::from(name.num_labels()).saturating_sub(2))
            }
        };
        let home = self.hosted.iter().find(|(hosted, _)| *hosted == subject).map(|(_, hosted)| hosted);
        let home = home.filter(|hosted| self.is_own(hosted, asker));
        let (four, six, target, port): (Vec<Ipv4Addr>, Vec<Ipv6Addr>, Name, u16) = match home {
            Some(Hosted { told: false, .. }) => return Answer::Refused,
            Some(Hosted { at: addresses, .. }) => {
                let four = addresses
                    .iter()
                    .filter_map(|a| if let IpAddr::V4(ip) = a.ip() { Some(ip) } else { None });
                let six = addresses
                    .iter()
                    .filter_map(|a| if let IpAddr::V6(ip) = a.ip() { Some(ip) } else { None });
                let Some(first) = addresses.first() else { return Answer::Refused };
                (four.collect(), six.collect(), subject, first.port())
            }
            None => (
                self.four.into_iter().collect(),
                self.six.into_iter().collect(),
                self.target.clone(),
                self.port,
            ),
        };
        let data: Vec<RData> = match (service, kind) {
            (Service::XmppServer, RecordType::SRV) => vec![RData::SRV(SRV::new(0, 0, port, target))],
            (Service::None, RecordType::A) => four.into_iter().map(|ip| RData::A(A(ip))).collect(),
            (Service::None, RecordType::AAAA) => six.into_iter().map(|ip| RData::AAAA(AAAA(ip))).collect(),
            _ => Vec::new(),
        };
        Answer::Records(data.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data)).collect())
    }

    /// By what a negative answer is remembered for no longer than the others (RFC 2308 5).
    fn soa(&self) -> Record {
        let soa = SOA::new(self.target.clone(), self.target.clone(), 1, 3600, 600, 86400, TTL);
        Record::from_rdata(Name::root(), TTL, RData::SOA(soa))
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// A host.
    None,
    /// Some other service's name.
    Other,
    /// `_xmpp-server._tcp` of something.
    XmppServer,
}

impl Service {
    fn of(name: &Name) -> Service {
        let mut labels = name.iter();
        match (labels.next(), labels.next()) {
            (Some(first), Some(second)) if first.starts_with(b"_") && second.starts_with(b"_") => {
                let ours =
                    first.eq_ignore_ascii_case(b"_xmpp-server") && second.eq_ignore_ascii_case(b"_tcp");
                if ours && labels.next().is_some() { Service::XmppServer } else { Service::Other }
            }
            _ => Service::None,
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Answers {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        // We do not recurse; but stub resolvers distrust a server that says so.
        metadata.recursion_available = true;
        let answer = match request.request_info() {
            Ok(info)
                if request.metadata.op_code == OpCode::Query && info.query.query_class() == DNSClass::IN =>
            {
                let asker = request.src().ip().to_canonical();
                self.answer(asker, info.query.original().name(), info.query.query_type())
            }
            _ => Answer::Refused,
        };
        let builder = MessageResponseBuilder::from_message_request(request);
        let sent = match &answer {
            Answer::Refused => {
                handle.send_response(builder.error_msg(&request.metadata, ResponseCode::Refused)).await
            }
            Answer::Never => {
                metadata.response_code = ResponseCode::NXDomain;
                let soa = self.soa();
                handle.send_response(builder.build(metadata, [], [], [&soa], [])).await
            }
            Answer::Records(records) => {
                let soa = self.soa();
                let authority = records.is_empty().then_some(&soa);
                handle.send_response(builder.build(metadata, records, [], authority, [])).await
            }
        };
        // A response that could not be sent is the asker's loss; it will ask again.
        sent.unwrap_or_else(|_| {
            metadata.response_code = ResponseCode::ServFail;
            ResponseInfo::from(hickory_proto::op::Header { metadata, counts: Default::default() })
        })
    }
}

/// The default name of SRV targets, in the domain set aside for private use.
pub const TARGET: &str = "gateway.gatehouse.internal";
/// What servers ask for at their start to see whether their DNS makes up answers. Tigase takes whatever comes back for "there
/// is no such domain" ever after: with the gateway's address here, no domain would exist for it.
pub const PROBES: &[&str] = &["hit-nxdomain.opendns.com"];
/// Short: the answer of a node that has died since must not keep a server from asking the next one, and a change of configuration is
/// to arrive. A server asks when it opens a stream, and no more often.
const TTL: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let hosted = [
            ("hall.example", Hosted { at: vec!["10.0.0.5:5269".parse().unwrap()], told: true }),
            ("closed.example", Hosted { at: vec!["10.0.0.5:5269".parse().unwrap()], told: false }),
        ];
        Answers::new(&Params {
            listen: "127.0.0.1:0".parse().unwrap(),
            from: Vec::new(),
            answer: vec!["10.0.0.1".parse().unwrap()],
            port: 5299,
            target: TARGET.into(),
            hosted: hosted.map(|(domain, hosted)| (Domain::parse(domain).unwrap(), hosted)).into(),
            never: vec![Domain::parse("nowhere.example").unwrap()],
        })
        .unwrap()
    }

    const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

    fn ask(name: &str, kind: RecordType) -> Option<Vec<RData>> {
        match answers().answer(BACKEND, &Name::from_ascii(name).unwrap(), kind) {
            Answer::Refused | Answer::Never => None,
            Answer::Records(records) => Some(records.into_iter().map(|record| record.data).collect()),
        }
    }

    fn srv(port: u16, target: &str) -> RData {
        RData::SRV(SRV::new(0, 0, port, Name::from_ascii(target).unwrap()))
    }

    #[test]
    fn every_foreign_domain_leads_to_the_inside_listener() {
        use RecordType::{A as HostA, AAAA as HostAaaa, MX, SRV as Srv};
        let gateway = RData::A(A::new(10, 0, 0, 1));
        let table = [
            ("_xmpp-server._tcp.friend.example.", Srv, vec![srv(5299, "gateway.gatehouse.internal.")]),
            ("_XMPP-Server._TCP.Friend.example.", Srv, vec![srv(5299, "gateway.gatehouse.internal.")]),
            ("_xmpps-server._tcp.friend.example.", Srv, vec![]),
            ("_xmpp-client._tcp.friend.example.", Srv, vec![]),
            ("_jabber._tcp.friend.example.", Srv, vec![]),
            ("_xmpp-server._tcp.", Srv, vec![]),
            ("_xmpp-server._tcp.friend.example.", HostA, vec![]),
            ("friend.example.", HostA, vec![gateway.clone()]),
            ("friend.example.", HostAaaa, vec![]),
            ("friend.example.", MX, vec![]),
            ("gateway.gatehouse.internal.", HostA, vec![gateway]),
        ];
        for (name, kind, expected) in table {
            assert_eq!(ask(name, kind), Some(expected), "{name} {kind}");
        }
    }

    // Tigase's probe, and what the operator names: in any writing, with every service and name below, for every type.
    #[test]
    fn what_never_exists_is_denied_with_all_below_it() {
        let kinds = [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT];
        let never = [
            "hit-nxdomain.opendns.com.",
            "HIT-NXDOMAIN.OpenDNS.com.",
            "nowhere.example.",
            "a.b.nowhere.example.",
            "_xmpp-server._tcp.nowhere.example.",
        ];
        for (name, kind) in never.iter().flat_map(|name| kinds.map(|kind| (name, kind))) {
            let answer = answers().answer(BACKEND, &Name::from_ascii(name).unwrap(), kind);
            assert_eq!(answer, Answer::Never, "{name} {kind}");
        }
        for name in ["opendns.com.", "example.", "anowhere.example.", "nowhere.example.net."] {
            assert!(
                matches!(
                    answers().answer(BACKEND, &Name::from_ascii(name).unwrap(), RecordType::A),
                    Answer::Records(_)
                ),
                "{name}"
            );
        }
    }

    // POL-08: "on the inside it passes from back-end to back-end", judged; past the gateway nobody would judge it.
    #[test]
    fn domains_of_another_backend_lead_to_the_gateway() {
        let mut all = answers();
        let annex = Hosted { at: vec!["10.0.0.6:5269".parse().unwrap()], told: true };
        all.hosted.push((Name::from_ascii("annex.example.").unwrap(), annex));
        let told = |asker: [u8; 4], name: &str| match all.answer(
            asker.into(),
            &Name::from_ascii(name).unwrap(),
            RecordType::A,
        ) {
            Answer::Records(records) => match records.first().map(|record| &record.data) {
                Some(RData::A(A(ip))) => Some(*ip),
                _ => None,
            },
            Answer::Refused | Answer::Never => None,
        };
        let [gateway, hall, annex] = [1, 5, 6].map(|last| [10, 0, 0, last]);
        for (asker, name, expected) in [
            (hall, "hall.example.", Some(hall)),
            (hall, "closed.example.", None),
            (hall, "annex.example.", Some(gateway)),
            (annex, "annex.example.", Some(annex)),
            (annex, "hall.example.", Some(gateway)),
            (annex, "closed.example.", Some(gateway)),
            // Who forwards questions may do so for either of them.
            ([10, 0, 0, 9], "hall.example.", Some(gateway)),
            ([10, 0, 0, 9], "annex.example.", Some(gateway)),
        ] {
            assert_eq!(told(asker, name), expected.map(Ipv4Addr::from), "{asker:?} {name}");
        }
        let forwarded = answers().answer(
            [10, 0, 0, 9].into(),
            &Name::from_ascii("closed.example.").unwrap(),
            RecordType::A,
        );
        assert_eq!(forwarded, Answer::Refused, "with one backend it is clear who asks");
    }

    #[test]
    fn hosted_domains_are_answered_as_configured() {
        use RecordType::{A as HostA, SRV as Srv};
        assert_eq!(ask("hall.example.", HostA), Some(vec![RData::A(A::new(10, 0, 0, 5))]));
        assert_eq!(ask("HALL.example.", HostA), Some(vec![RData::A(A::new(10, 0, 0, 5))]));
        assert_eq!(ask("_xmpp-server._tcp.hall.example.", Srv), Some(vec![srv(5269, "hall.example.")]));
        assert_eq!(ask("_xmpps-server._tcp.hall.example.", Srv), Some(vec![]));
        assert_eq!(ask("closed.example.", HostA), None);
        assert_eq!(ask("_xmpp-server._tcp.closed.example.", Srv), None);
        // A subdomain of a hosted domain is foreign unless hosted itself.
        assert_eq!(ask("x.closed.example.", HostA), Some(vec![RData::A(A::new(10, 0, 0, 1))]));
    }
}
