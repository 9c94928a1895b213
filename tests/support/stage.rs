//! A relay and nothing else: policy from text, tokens by framers, effects recorded, time invented.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse::jid::Domain;
use gatehouse::policy::{Day, Networks, Policy};
use gatehouse::reason::{Flow, Reason};
use gatehouse::relay::{
    Arrival, ClientDomain, Destination, Effect, Event, FarId, HostedDomain, Input, KeysBy, Load, Relay,
    RelayParams, Side, StreamLimits, Timeouts,
};
use gatehouse::stream::{
    Certificate, Chain, ChannelFacts, Keyring, Keyrings, Pair, PresentedName, RevocationCheck, Root, Secured,
    TlsVersion, Trust, TrustFault,
};
use gatehouse::xml::{Content, Framer, Limits};

pub fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

pub fn pair(sender: &str, target: &str) -> Pair {
    Pair { sender: domain(sender), target: domain(target) }
}

/// A policy for `hall.example` (and `annex.example`) from one file's text.
pub fn policy(federation: gatehouse::policy::Federation, text: &str) -> Arc<Policy> {
    use gatehouse::policy::{HostedSource, Place, Source, Sources, compile};
    let (file, findings) = gatehouse::config::load::parse::<gatehouse::policy::PolicyFile>(text, "test.yaml");
    assert!(findings.is_empty(), "{findings:?}");
    let hosted = ["hall.example", "annex.example"].map(|name| HostedSource {
        domain: domain(name),
        federation,
        sources: vec![0],
        place: Place::whole("test"),
    });
    let input = Sources {
        hosted: hosted.into(),
        sources: vec![Source::new("test.yaml", file)],
        today: Day::parse("2026-11-21").unwrap(),
        digest: "test".into(),
    };
    Arc::new(compile(&input).map_err(|f| format!("{f:?}")).unwrap().policy)
}

pub fn any() -> Arc<Policy> {
    policy(gatehouse::policy::Federation::Any, "version: v1\nrules: []\n")
}

pub fn relays() -> RelayParams {
    let hosted = HostedDomain {
        keys_by: KeysBy::Address(Networks::default()),
        budget: Duration::from_secs(29),
        multiplex: true,
        max_octets: None,
        takes: gatehouse::relay::Takes::default(),
        rfc7622: false,
        server: 0,
        at: std::sync::Arc::default(),
    };
    RelayParams {
        hosted: BTreeMap::from([(domain("hall.example"), hosted.clone()), (domain("annex.example"), hosted)]),
        clients: BTreeMap::from([(domain("hall.example"), ClientDomain::default())]),
        keys: Keyrings { world: Keyring::new(b"world secret"), inside: Keyring::new(b"inside secret") },
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

/// Facts of a channel whose peer shows a trusted certificate for these names; none for no certificate.
pub fn secured(sni: &str, names: &[&str]) -> Secured {
    Secured::from(ChannelFacts {
        version: TlsVersion::V13,
        certificate: (!names.is_empty()).then(|| Certificate {
            fingerprint: "00".repeat(32),
            key: None,
            names: names.iter().map(|n| PresentedName::Dns((*n).to_owned())).collect(),
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
        shown: (!sni.is_empty()).then(|| domain(sni)),
        sni: (!sni.is_empty()).then(|| sni.to_owned()),
        suite: "TLS13_AES_128_GCM_SHA256",
        evidence: Vec::new(),
    })
}

pub fn untrusted(sni: &str, name: &str) -> Secured {
    let mut facts = secured(sni, &[name]);
    facts.certificate.as_mut().unwrap().trust =
        Trust { default: Err(TrustFault::UnknownIssuer), peers: Vec::new() };
    facts
}

/// One relay under test.
pub struct Stage {
    pub relay: Relay,
    pub now: Instant,
    pub effects: Vec<Effect>,
    framers: BTreeMap<Side, Framer>,
    content: Content,
}

impl Stage {
    pub fn new(relays: RelayParams, policy: Arc<Policy>, flow: Flow, direct: Option<Secured>) -> Self {
        Self::at(Instant::now(), (Arc::new(relays), policy), flow, direct, [7; 32])
    }

    /// The same at a time that is said, with random octets of its own.
    pub fn at(
        now: Instant,
        (relays, policy): (Arc<RelayParams>, Arc<Policy>),
        flow: Flow,
        secured: Option<Secured>,
        seed: [u8; 32],
    ) -> Self {
        let arrival = Arrival { flow, address: [192, 0, 2, 7].into(), secured, seed };
        let relay = Relay::new(relays, policy, arrival, now);
        let content = gatehouse::relay::plan::content(flow);
        Self { relay, now, effects: Vec::new(), framers: BTreeMap::new(), content }
    }

    pub fn of((relay, effects): (Relay, Vec<Effect>)) -> Self {
        let content = Content::Server;
        Self { relay, now: Instant::now(), effects, framers: BTreeMap::new(), content }
    }

    /// One input, by hand.
    pub fn step(&mut self, side: Side, input: Input) {
        let effects = self.relay.step(side, input, self.now);
        for effect in &effects {
            if let Effect::Upgrade(side) | Effect::Restart(side) = effect {
                self.framer(*side).restart();
            }
            if let Effect::Retry(id, _) = effect {
                self.framers.remove(&Side::Far(*id));
            }
            // As the pump does for clients.
            if matches!(effect, Effect::Widen(Side::Near)) && self.content == Content::Client {
                self.framer(Side::Near).pass_over_text();
            }
        }
        self.effects.extend(effects);
    }

    /// These octets arrive on that side.
    pub fn hears(&mut self, side: Side, text: &str) {
        self.framer(side).feed(text.as_bytes());
        while self.relay.wants_read(side) {
            let Some(token) = self.framer(side).next() else { break };
            self.step(side, Input::Token(token));
        }
    }

    /// The far leg is connected, over TLS where facts are given.
    pub fn connected(&mut self, id: FarId, facts: Option<Secured>) {
        self.step(Side::Far(id), Input::Connected([192, 0, 2, 9].into(), facts));
    }

    /// What was sent to that side since the last asking.
    pub fn said(&mut self, side: Side) -> String {
        let mut text = String::new();
        self.effects.retain(|effect| match effect {
            Effect::Send(to, octets) if *to == side => {
                text += std::str::from_utf8(octets).unwrap();
                false
            }
            _ => true,
        });
        text
    }

    /// The stanzas that passed since the last asking.
    pub fn passed(&mut self) -> Vec<(FarId, String)> {
        let mut all = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Pass(id, stanza) => {
                all.push((*id, std::str::from_utf8(&stanza.octets).unwrap().to_owned()));
                false
            }
            _ => true,
        });
        all
    }

    /// The stanzas for the client since the last asking.
    pub fn delivered(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Deliver(octets) => {
                all.push(std::str::from_utf8(octets).unwrap().to_owned());
                false
            }
            _ => true,
        });
        all
    }

    /// The stanzas for couriers since the last asking.
    pub fn carried(&mut self) -> Vec<(Pair, String)> {
        let mut all = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Carry(pair, stanza) => {
                all.push((pair.clone(), std::str::from_utf8(&stanza.octets).unwrap().to_owned()));
                false
            }
            _ => true,
        });
        all
    }

    /// The stanzas of a backend for couriers since the last asking.
    pub fn handed(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Hand(_, octets) => {
                all.push(std::str::from_utf8(octets).unwrap().to_owned());
                false
            }
            _ => true,
        });
        all
    }

    /// The reports to backends since the last asking.
    pub fn reported(&mut self) -> Vec<(Pair, String)> {
        let mut all = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Report { pair, stanza, .. } => {
                all.push((pair.clone(), std::str::from_utf8(stanza).unwrap().to_owned()));
                false
            }
            _ => true,
        });
        all
    }

    /// The far legs asked for, in order.
    pub fn connects(&self) -> Vec<(FarId, Destination)> {
        self.effects
            .iter()
            .filter_map(|e| match e {
                Effect::Connect(id, to) => Some((*id, to.clone())),
                _ => None,
            })
            .collect()
    }

    pub fn notes(&self) -> Vec<&Event> {
        self.effects
            .iter()
            .filter_map(|e| if let Effect::Note(event) = e { Some(event) } else { None })
            .collect()
    }

    /// The reasons of refused stanzas and rejected claims.
    pub fn reasons(&self) -> Vec<Reason> {
        self.notes()
            .into_iter()
            .filter_map(|event| match event {
                Event::Refused { reason, .. } | Event::Unfit { reason, .. } => Some(*reason),
                Event::Rejected { record, .. } | Event::Ended { record } | Event::Closed { record } => {
                    Some(record.reason)
                }
                _ => None,
            })
            .collect()
    }

    pub fn has(&self, wanted: impl Fn(&Effect) -> bool) -> bool {
        self.effects.iter().any(wanted)
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        while self.relay.deadline().is_some_and(|at| at <= self.now) {
            let before = self.relay.deadline();
            self.step(Side::Near, Input::Expired);
            assert_ne!(before, self.relay.deadline(), "an expired deadline must move");
        }
    }

    /// Keeps the relay and nothing else: what it has done is forgotten, and its framers, most of what it takes, are made anew.
    pub fn rest(&mut self) {
        self.effects = Vec::new();
        self.framers.clear();
    }

    /// A framer for the near leg that has read this header, of which the relay has heard before.
    pub fn wake(&mut self, header: &str) {
        let framer = self.framer(NEAR);
        framer.feed(header.as_bytes());
        assert!(matches!(framer.next(), Some(gatehouse::xml::Token::Header(_))));
    }

    fn framer(&mut self, side: Side) -> &mut Framer {
        let content = self.content;
        self.framers.entry(side).or_insert_with(|| Framer::new(Limits::default(), content))
    }
}

/// A courier for this pair, under this policy.
pub fn courier(relays: RelayParams, policy: Arc<Policy>, sender: &str, target: &str, load: Load) -> Stage {
    let now = Instant::now();
    Stage::of(Relay::courier(Arc::new(relays), policy, pair(sender, target), (load, None), now))
}

/// A stream header between servers.
pub fn header(from: &str, to: &str) -> String {
    let attr =
        |name: &str, value: &str| if value.is_empty() { String::new() } else { format!(" {name}='{value}'") };
    format!(
        "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams'{}{} version='1.0'>",
        attr("from", from),
        attr("to", to)
    )
}

/// The response header of a server that has no version, or one that has, with this id.
pub fn answer(id: &str, modern: bool) -> String {
    let version = if modern { " version='1.0'" } else { "" };
    format!(
        "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams' id='{id}'{version}>"
    )
}

pub const NEAR: Side = Side::Near;

/// The attribute of that name in the last tag that has it.
pub fn attribute(text: &str, name: &str) -> String {
    let start = text.rfind(&format!(" {name}='")).unwrap() + name.len() + 3;
    text[start..].split('\'').next().unwrap().to_owned()
}

/// Bytes as text.
pub fn text(octets: &Bytes) -> &str {
    std::str::from_utf8(octets).unwrap()
}

/// An inbound stream on direct TLS from `peer`, greeted and offered.
pub fn inbound(relays: RelayParams, policy: Arc<Policy>, peer: &str, names: &[&str]) -> Stage {
    let mut stage = Stage::new(relays, policy, Flow::S2sIn, Some(secured("hall.example", names)));
    stage.hears(NEAR, &header(peer, "hall.example"));
    stage
}

/// Claims `sender>target` by dialback on the inbound stream and lets everything come out well. Gives the far leg.
pub fn admit(stage: &mut Stage, sender: &str, target: &str) -> FarId {
    let before = stage.connects().len();
    stage.hears(NEAR, &format!("<db:result from='{sender}' to='{target}'>key-{sender}</db:result>"));
    let verify = stage.effects.iter().rev().find_map(|e| match e {
        Effect::Verify(id, check) if check.pair == pair(sender, target) => Some(*id),
        _ => None,
    });
    if let Some(claim) = verify {
        stage.step(NEAR, Input::Verified(claim, gatehouse::stream::KeyAnswer::Valid));
    }
    let (id, _) = stage.connects()[before];
    stand(stage, id, sender, target);
    id
}

/// The backend takes the connection and the key.
pub fn stand(stage: &mut Stage, id: FarId, sender: &str, target: &str) {
    stage.connected(id, None);
    stage.hears(Side::Far(id), &answer("L-301", false));
    stage.hears(Side::Far(id), &format!("<db:result from='{target}' to='{sender}' type='valid'/>"));
}
