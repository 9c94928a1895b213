//! What the tests of this room share: a policy, a home, and an outside made of pipes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

use super::*;
use crate::metrics::Metrics;
use crate::policy::{Day, Federation, HostedSource, Input, Place, Policy, build};
use crate::relay::plan::{HostedDomain, KeysBy, StreamLimits, Timeouts};
use crate::run::observe::Observe;
use crate::run::registry::{Phase, Registry};
use crate::stream::{Keyring, Keyrings};

pub(crate) fn domain(s: &str) -> Domain {
    Domain::parse(s).unwrap()
}

/// `hall.example` federates with everybody.
pub(crate) fn policy() -> Arc<Policy> {
    federating(Federation::Any)
}

pub(crate) fn federating(federation: Federation) -> Arc<Policy> {
    let place = Place::file("test");
    let hosted = HostedSource { domain: domain("hall.example"), federation, sources: Vec::new(), place };
    let today = Day::parse("2027-01-01").unwrap();
    let digest = federation.label().to_owned();
    let (policy, findings) = build(&Input { hosted: vec![hosted], sources: Vec::new(), today, digest });
    Arc::new(policy.unwrap_or_else(|| panic!("{findings:?}")))
}

/// An outside that knows as many connections as the test has laid out, and hands the other ends to the test.
#[derive(Default)]
pub(crate) struct Scripted {
    pipes: Arc<Mutex<VecDeque<DuplexStream>>>,
}

impl Scripted {
    /// One more connection that will be taken; this is its other end.
    pub(crate) fn lay(&self, room: usize) -> DuplexStream {
        let (ours, theirs) = duplex(room);
        self.pipes.lock().unwrap().push_back(ours);
        theirs
    }
}

impl Outside for Scripted {
    fn secure_near(&self, _io: BoxIo, _named: Option<Domain>) -> Handshake {
        Box::pin(async { Err(Reason::TlsFailed) })
    }

    fn secure_far(&self, _io: BoxIo, _from: Domain, _target: Domain) -> Handshake {
        Box::pin(async { Err(Reason::TlsFailed) })
    }

    fn route(&self, _destination: &Destination) -> Box<dyn Route> {
        Box::new(Pipes(Arc::clone(&self.pipes)))
    }
}

struct Pipes(Arc<Mutex<VecDeque<DuplexStream>>>);

impl Route for Pipes {
    fn connect(self: Box<Self>, _candidate: Candidate) -> Connection {
        let pipe = self.0.lock().unwrap().pop_front();
        Box::pin(async move {
            let connected = pipe.map(|pipe| Connected {
                io: Box::new(pipe),
                address: "10.0.0.5".parse().unwrap(),
                secured: None,
            });
            (self as Box<dyn Route>, connected.ok_or(Reason::RemoteUnreachable))
        })
    }
}

pub(crate) fn home() -> Home {
    let hosted = HostedDomain { keys_by: KeysBy::Address, multiplex: true };
    Home {
        hosted: BTreeMap::from([(domain("hall.example"), hosted)]),
        keys: Keyrings { world: Keyring::new(b"world"), inside: Keyring::new(b"inside") },
        limits: StreamLimits::default(),
        timeouts: Timeouts::default(),
        default_domain: None,
    }
}

/// Tools around that outside.
pub(crate) fn tools(outside: Scripted) -> Arc<Tools> {
    let metrics = Arc::new(Metrics::new([domain("hall.example")]).unwrap());
    let registry = Registry::new(policy(), Duration::from_secs(30), 1);
    registry.enter_phase(Phase::Running);
    Arc::new(Tools {
        params: Params::default(),
        home: Arc::new(home()),
        outside: Arc::new(outside),
        registry,
        verifier: verifier::Verifier::default(),
        couriers: courier::Couriers::new(now()),
        streams: Streams::new(),
        observe: Arc::new(Observe::new(metrics, None, now())),
    })
}
