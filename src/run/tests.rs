//! What the tests of this room share: a policy, params of relays, and a transport made of pipes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::io::{DuplexStream, duplex};

use super::*;
use std::num::NonZeroU32;

use crate::limit::{LoginParams, Room, SenderParams};
use crate::metrics::Metrics;
use crate::policy::{Day, Federation, HostedSource, Networks, Place, Policy, Sources, build};
use crate::relay::plan::{HostedDomain, KeysBy, StreamLimits, Timeouts};
use crate::run::observe::Observe;
use crate::run::registry::{Phase, Registry};
use crate::stream::secured::{Certificate, Chain, ChannelFacts, PresentedName, RevocationCheck, Root, Trust};
use crate::stream::{Keyring, Keyrings, TlsVersion};

pub(crate) fn domain(s: &str) -> Domain {
    Domain::parse(s).unwrap()
}

/// `hall.example` federates with everybody.
pub(crate) fn policy() -> Arc<Policy> {
    federating(Federation::Any)
}

pub(crate) fn federating(federation: Federation) -> Arc<Policy> {
    let place = Place::whole("test");
    let hosted = HostedSource { domain: domain("hall.example"), federation, sources: Vec::new(), place };
    let today = Day::parse("2027-01-01").unwrap();
    let digest = federation.label().to_owned();
    let (policy, findings) = build(&Sources { hosted: vec![hosted], sources: Vec::new(), today, digest });
    Arc::new(policy.unwrap_or_else(|| panic!("{findings:?}")))
}

/// A transport that knows as many connections as the test has laid out, and hands the other ends to the test.
#[derive(Default)]
pub(crate) struct Scripted {
    pipes: Arc<Mutex<VecDeque<DuplexStream>>>,
    callers: Callers,
}

/// Whom each connection was to stand in for that leads to a server behind.
pub(crate) type Callers = Arc<Mutex<Vec<Option<Arc<Caller>>>>>;

impl Scripted {
    /// Those of the connections that are made.
    pub(crate) fn callers(&self) -> Callers {
        Arc::clone(&self.callers)
    }

    /// One more connection that will be taken; this is its other end.
    pub(crate) fn lay(&self, room: usize) -> DuplexStream {
        let (ours, theirs) = duplex(room);
        self.pipes.lock().unwrap().push_back(ours);
        theirs
    }
}

impl Transport for Scripted {
    fn secure_near(&self, _: BoxIo, _: Flow, _: Option<Domain>, _: Option<IpAddr>) -> Handshake {
        Box::pin(async { Err(Failure::from(Reason::TlsFailed)) })
    }

    /// TLS without the octets: the other end is at once what its certificate says.
    fn secure_far(&self, io: BoxIo, towards: Towards) -> Handshake {
        Box::pin(async move { Ok((io, secured(towards.target.as_str()))) })
    }

    fn inquire(
        &self,
        pair: crate::stream::Pair,
        _: Certificate,
        _: crate::stream::evidence::Sought,
        _: Option<Arc<crate::policy::Proxy>>,
    ) -> Later<crate::stream::evidence::Evidence> {
        Box::pin(async move { crate::stream::evidence::Evidence::none(pair.sender) })
    }

    fn route(&self, destination: &Destination, caller: Option<Arc<Caller>>) -> Box<dyn RemainingCandidates> {
        if matches!(destination, Destination::Backend(_)) {
            self.callers.lock().unwrap().push(caller);
        }
        Box::new(Pipes(Arc::clone(&self.pipes)))
    }

    fn look_anew(&self, _: &Domain) {}
}

struct Pipes(Arc<Mutex<VecDeque<DuplexStream>>>);

impl RemainingCandidates for Pipes {
    fn connect(self: Box<Self>, _candidate: AddressChoice) -> Connection {
        let pipe = self.0.lock().unwrap().pop_front();
        Box::pin(async move {
            let connected = pipe.map(|pipe| Connected {
                io: Box::new(pipe),
                address: "10.0.0.5:5269".parse().unwrap(),
                local: Some("10.0.0.1:4000".parse().unwrap()),
                secured: None,
                published: Arc::default(),
                set_up: None,
            });
            (self as Box<dyn RemainingCandidates>, connected.ok_or(Failure::from(Reason::RemoteUnreachable)))
        })
    }
}

/// A channel whose other end has a certificate for this domain, from an authority that everybody trusts.
pub(crate) fn secured(name: &str) -> Secured {
    Secured::from(ChannelFacts {
        version: TlsVersion::V13,
        certificate: Some(Certificate {
            fingerprint: "ab".repeat(32),
            key: None,
            names: vec![PresentedName::Dns(name.to_owned())],
            trust: Trust {
                default: Ok(Root { name: "CN=Root".to_owned(), key: [1; 32] }),
                peers: Vec::new(),
            },
            not_after: 4_000_000_000,
            expires: None,
            revocation: RevocationCheck::Off,
            issuer: String::new(),
            chain: Chain::default(),
            of_client: None,
        }),
        alpn: None,
        sni: None,
        shown: None,
        suite: "TLS13_AES_128_GCM_SHA256",
        evidence: Vec::new(),
    })
}

pub(crate) fn relays() -> RelayParams {
    let hosted = HostedDomain {
        keys_by: KeysBy::Address(Networks::default()),
        budget: Duration::from_secs(29),
        multiplex: true,
        max_octets: None,
        takes: crate::relay::Takes::default(),
        rfc7622: false,
        server: 0,
        at: std::sync::Arc::default(),
    };
    RelayParams {
        hosted: BTreeMap::from([(domain("hall.example"), hosted)]),
        clients: BTreeMap::new(),
        keys: Keyrings { world: Keyring::new(b"world"), inside: Keyring::new(b"inside") },
        limits: StreamLimits::default(),
        timeouts: Timeouts::default(),
        default_domain: None,
        retired: std::collections::BTreeSet::new(),
        departed: BTreeMap::new(),
        explain: true,
        bidi: true,
        dnssec: false,
    }
}

/// Tools around that transport.
pub(crate) fn tools(transport: Scripted) -> Arc<Tools> {
    let metrics = Arc::new(Metrics::new([domain("hall.example")]).unwrap());
    let registry = Registry::new(policy(), Duration::from_secs(30), 1);
    registry.enter_phase(Phase::Running);
    Arc::new(Tools {
        params: Params::default(),
        relays: Arc::new(relays()),
        transport: Arc::new(transport),
        registry,
        bounds: Bounds {
            rates: Arc::default(),
            senders: Arc::new(Senders::new(SenderParams::default(), now())),
            quarantine: Arc::default(),
            streams: Streams::new(),
            handshakes: Arc::new(Handshakes::new(NonZeroU32::MAX, Duration::from_secs(1), now())),
            unproven: Unproven::new(Room::default(), Arc::default()),
            proven: crate::limit::Proven::new(crate::limit::ProvenParams::default()),
            callbacks: Arc::default(),
            logins: Arc::new(Logins::new(LoginParams::default())),
            registrations: Arc::new(crate::limit::Registrations::new(10)),
        },
        peering: Peering {
            verifier: Arc::default(),
            strays: Arc::default(),
            couriers: Arc::new(courier::Couriers::new(256 << 20, now())),
            sessions: Arc::default(),
            partings: Arc::default(),
            backends: Arc::default(),
            circuits: circuit::Circuits::new(circuit::Params::default(), Arc::clone(&metrics)),
        },
        fetches: Arc::default(),
        workers: Default::default(),
        observe: Arc::new(Observe::new(metrics, None, now())),
    })
}
