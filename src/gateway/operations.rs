//! What an operator can ask of a running gateway, and what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::act::Act;
use super::admin::Shows;
use super::bans::{Ban, BanList, BanTarget};
use super::cluster::{Cluster, Here};
use super::control::Answering;
use super::explain::Query;
use super::lifecycle::Lifecycle;
use super::loud::Loudness;
use super::named::named;
use super::protocol::{self, Answer, Disposition, Passed, Request, Stream, ToldFinding};
use super::quarantine::Settlement;
use super::reading::Reading;
use super::reload::Reloader;
use super::successor;
use crate::jid::{Domain, Jid};
use crate::metrics::CircuitState;
use crate::policy::Finding;
use crate::reason::{Flow, Reason};
use crate::run::circuit::Circuit;
use crate::run::observe::capped;
use crate::run::refusals::{RefusalQuery, RefusalRecord};
use crate::run::registry::{Registry, View};
use crate::run::{Tools, now};
use crate::status::Snapshot;

/// Where requests are dealt with.
#[derive(Debug)]
pub struct Operations {
    /// How much is logged.
    pub loudness: Loudness,
    /// The phases.
    pub lifecycle: Arc<Lifecycle>,
    /// What is read again.
    pub reloader: Arc<Reloader>,
    /// The bans.
    pub bans: Arc<BanList>,
    /// This node among others.
    pub cluster: Option<Arc<Cluster>>,
}

impl Operations {
    /// What the relays lean on now.
    pub fn tools(&self) -> Arc<Tools> {
        self.reloader.tools()
    }

    /// Does what is asked of this node.
    async fn answer_here(&self, request: &Request, uid: u32) -> Answer {
        let registry = &self.tools().registry;
        match request {
            Request::Streams { .. } => {
                let (views, silent) = registry.views(None).await;
                Answer::Streams { streams: views.iter().map(shown).collect(), silent }
            }
            Request::Target { domain, from } => self.target(domain, from.as_deref()),
            Request::Circuits { clear } => self.circuits(clear.as_deref()),
            Request::Close { target, cluster } => self.close(target, *cluster).await,
            Request::Cluster {} => match &self.cluster {
                Some(cluster) => Answer::Cluster { cluster: cluster.shown(self) },
                None => Answer::no(NO_CLUSTER),
            },
            Request::Ban { cluster: true, .. } | Request::Unban { cluster: true, .. }
                if self.cluster.is_none() =>
            {
                Answer::no(NO_CLUSTER)
            }
            Request::Ban { target, seconds, cluster } => match self.ban(target, *seconds, uid).await {
                Answer::Banned { target, seconds, pairs, connections, .. } => {
                    let cluster = self.passed(*cluster).await;
                    Answer::Banned { target, seconds, pairs, connections, cluster }
                }
                no => no,
            },
            Request::Unban { target, cluster } => self.unban(target, *cluster).await,
            Request::Bans {} => Answer::Bans { bans: self.bans.all().iter().map(shown_ban).collect() },
            Request::Quarantine {} => {
                let tools = self.tools();
                let (list, policy) = (&tools.bounds.quarantine, tools.registry.policy());
                Answer::Quarantine { domains: super::quarantine::shown(list, &policy) }
            }
            Request::Settle { cluster: true, .. } if self.cluster.is_none() => Answer::no(NO_CLUSTER),
            Request::Settle { domain, word, cluster } => self.settle(domain, *word, (*cluster, uid)).await,
            Request::Reload { plan: true } => match self.reloader.plan().await {
                Ok(plan) => Answer::Planned { plan },
                Err(findings) => refused(&findings),
            },
            Request::Reload { plan: false } => match Arc::clone(&self.reloader).reload().await {
                Ok(plan) => Answer::Reloaded { plan },
                Err(findings) => refused(&findings),
            },
            Request::Refusals { domain, reason, last, after, .. } => {
                let wanted = RefusalQuery {
                    domain: domain.as_deref().map(canonical),
                    reason: reason.clone(),
                    last: *last,
                    after: *after,
                };
                Answer::Refusals { refusals: self.refusals(&wanted) }
            }
            Request::Peers { domain } => {
                super::peers::list(self.tools().observe.peers(), &self.reloader.settings(), domain.as_deref())
            }
            Request::Forget { domain, key } => {
                let tools = self.tools();
                match super::peers::forget(&tools.observe, &tools.registry, domain, key.as_deref()) {
                    Ok(faces) => match self.close(domain, self.cluster.is_some()).await {
                        Answer::Closed { streams, .. } => Answer::Forgotten { faces, streams: streams.len() },
                        _ => Answer::Forgotten { faces, streams: 0 },
                    },
                    Err(message) => Answer::no(message),
                }
            }
            Request::Recognise { domain, key, approve } => {
                super::peers::settle(&self.tools(), domain, key.as_deref(), *approve)
            }
            Request::Shadow {} => super::rules::shadow(&self.tools(), &self.reloader.settings()).await,
            Request::Unused { seconds } => {
                let (settings, cases) = (self.reloader.settings(), self.reloader.cases());
                super::rules::unused(&self.tools(), &settings, cases, *seconds).await
            }
            Request::Promotion {} => match self.reloader.foreseen(Reading::of_promoted).await {
                Ok(plan) => Answer::Planned { plan },
                Err(findings) => refused(&findings),
            },
            Request::Restart {} => self.restart().await,
            Request::Config {} => Arc::clone(&self.reloader).shown().await,
            Request::Explain(asked) => self.explain(asked),
            Request::Log { level, area, seconds } => {
                match self.loudness.turn(level, area.as_deref(), seconds.map(Duration::from_secs)) {
                    Ok(()) => Answer::Logging { level: level.clone(), area: area.clone(), seconds: *seconds },
                    Err(message) => Answer::no(message),
                }
            }
            Request::Status { page, .. } => Answer::Status { snapshot: Box::new(self.overview(*page).await) },
            Request::Drain {} => match self.lifecycle.drain() {
                true => {
                    Answer::Draining { relays: registry.living(), seconds: self.lifecycle.grace().as_secs() }
                }
                false => Answer::no("the gateway drains already"),
            },
        }
    }

    async fn unban(&self, target: &str, everywhere: bool) -> Answer {
        match target.parse::<BanTarget>() {
            Ok(target) if self.bans.lift(&target) => {
                let cluster = self.passed(everywhere).await;
                Answer::Unbanned { target: target.to_string(), cluster }
            }
            Ok(target) => Answer::no(format!("{target} is not banned: `gatehouse bans` lists who is")),
            Err(message) => Answer::no(message),
        }
    }

    async fn settle(&self, domain: &str, word: Disposition, (everywhere, uid): (bool, u32)) -> Answer {
        match super::quarantine::settle(&self.tools(), domain, word, uid).await {
            Ok(Settlement { party, seen, pairs, overruled }) => {
                let cluster = self.passed(everywhere).await;
                Answer::Settled { domain: party.into(), word, seen, pairs, overruled, cluster }
            }
            Err(message) => Answer::no(message),
        }
    }

    /// Another program takes the place of this one, if it would live by the files as they are.
    async fn restart(&self) -> Answer {
        let (sockets, socket) = match self.reloader.successor().await {
            Ok(found) => found,
            Err(findings) => return refused(&findings),
        };
        if let Some(why) = successor::objection(&self.reloader.settings().file).await {
            return Answer::no(why);
        }
        match self.lifecycle.restart(sockets) {
            true => Answer::Restarting {
                relays: self.tools().registry.living(),
                seconds: self.lifecycle.grace().as_secs(),
                socket,
            },
            false => Answer::no("the gateway drains already"),
        }
    }

    fn explain(&self, asked: &Query) -> Answer {
        let policy = self.tools().registry.policy();
        let explained = super::explain::explain(&self.reloader.settings(), &policy, asked);
        match explained.map(|explained| explained.told()) {
            Ok((allow, text, explanation)) => Answer::Explained { allow, text, explanation },
            Err(message) => Answer::no(message),
        }
    }

    fn target(&self, domain: &str, from: Option<&str>) -> Answer {
        let (domain, from) = match (named(domain), from.map(named).transpose()) {
            (Ok(domain), Ok(from)) => (domain, from),
            (Err(no), _) | (_, Err(no)) => return Answer::no(no),
        };
        let failed = self.tools().peering.circuits.state(&domain, from.as_ref());
        Answer::Target {
            failures: failed.map_or(0, |failed| failed.failures),
            open: failed.is_some_and(|failed| failed.open),
            seconds: failed.map_or(0, |failed| failed.next.saturating_duration_since(now()).as_secs()),
            reason: failed.map(|failed| failed.reason.label().to_owned()),
        }
    }

    fn circuits(&self, clear: Option<&str>) -> Answer {
        let circuits = &self.tools().peering.circuits;
        let cleared = match clear.map(named).transpose() {
            Ok(cleared) => cleared,
            Err(no) => return Answer::no(no),
        };
        // What the DNS said goes with it, whether anything else is held against the domain or not.
        cleared.iter().for_each(|domain| self.tools().transport.look_anew(domain));
        if let Some(domain) = cleared.as_ref().filter(|domain| !circuits.clear(domain)) {
            return Answer::no(format!(
                "nothing is held against {domain}: `gatehouse circuits` lists whom we leave alone"
            ));
        }
        let shown = |circuit: &Circuit| {
            let failed = &circuit.failed;
            protocol::Circuit {
                domain: capped(circuit.domain.as_str()),
                hosted: circuit.hosted.as_ref().map(ToString::to_string),
                state: if failed.open { CircuitState::Open } else { CircuitState::Failing }
                    .label()
                    .to_owned(),
                failures: failed.failures,
                reason: failed.reason.label().to_owned(),
                since: now().saturating_duration_since(failed.since).as_secs(),
                next: u64::try_from(failed.next.saturating_duration_since(now()).as_millis())
                    .unwrap_or(u64::MAX),
                untried: failed.untried,
            }
        };
        Answer::Circuits {
            circuits: circuits.snapshot().iter().map(shown).collect(),
            cleared: cleared.map(|domain| domain.to_string()),
        }
    }

    /// The last refusals; where no rule names a domain, with the one that looks most like it.
    pub fn refusals(&self, wanted: &RefusalQuery) -> Vec<RefusalRecord> {
        let policy = self.tools().registry.policy();
        let mut found = self.tools().observe.refusals().list(wanted);
        let mut near: BTreeMap<String, Option<String>> = BTreeMap::new();
        for refusal in &mut found {
            let remote = if refusal.flow == Flow::S2sOut.label() { &refusal.to } else { &refusal.from };
            let Some(remote) = remote.clone() else { continue };
            if refusal.reason != Reason::NotListed.label() || refusal.nearest.is_some() {
                continue;
            }
            // As many as one answer may take time for; whoever asks for more asks `policy explain`.
            if !near.contains_key(&remote) && near.len() < LOOKED_FOR {
                let nearest = Domain::parse(&remote).ok().and_then(|domain| policy.nearest(&domain));
                near.insert(remote.clone(), nearest.map(|nearest| nearest.to_string()));
            }
            refusal.nearest = near.get(&remote).cloned().flatten();
        }
        found
    }

    /// Ends streams here and, if that is asked, on all other nodes.
    async fn close(&self, target: &str, everywhere: bool) -> Answer {
        let registry = &self.tools().registry;
        match (everywhere, &self.cluster) {
            (false, _) => close(registry, target).await,
            (true, None) => Answer::no(NO_CLUSTER),
            (true, Some(cluster)) => {
                cluster.close(target);
                match close(registry, target).await {
                    Answer::Closed { streams, .. } => Answer::Closed { streams, cluster: true },
                    _ => Answer::Closed { streams: Vec::new(), cluster: true },
                }
            }
        }
    }

    /// Has the other nodes hear of what has changed here, if that is asked for.
    async fn passed(&self, asked: bool) -> Option<Passed> {
        match (&self.cluster, asked) {
            (Some(cluster), true) => Some(Passed { trouble: cluster.pass().await }),
            _ => None,
        }
    }

    async fn ban(&self, target: &str, seconds: u64, uid: u32) -> Answer {
        let target: BanTarget = match target.parse() {
            Ok(target) => target,
            Err(message) => return Answer::no(message),
        };
        if seconds == 0 || seconds > LONGEST_BAN.as_secs() {
            return Answer::no(format!(
                "a ban lasts from 1 second to {} hours",
                LONGEST_BAN.as_secs() / 3600
            ));
        }
        if let BanTarget::Domain(domain) = &target
            && self.tools().registry.policy().hosts(domain)
        {
            return Answer::no(format!("{domain} is served here"));
        }
        let registry = &self.tools().registry;
        let under = Arc::new(registry.policy().with_bans(self.bans.with(&target)));
        let (views, _silent) = registry.views(Some(&under)).await;
        if let Err(message) = self.bans.add(Ban {
            target: target.clone(),
            until: now() + Duration::from_secs(seconds),
            uid,
            decided: self.bans.wall(),
        }) {
            return Answer::no(message);
        }
        let lost = |view: &View| {
            view.snapshot.pairs.iter().filter(|p| p.verdict.as_ref().is_some_and(|v| !v.is_allow())).count()
        };
        // Who has no pair yet would not be judged again before it claims one.
        let mut connections = 0;
        if let BanTarget::Network(network) = &target {
            let here = |view: &&View| {
                view.snapshot.pairs.is_empty()
                    && view.meta.peer.is_some_and(|peer| network.contains(&peer.ip().to_canonical()))
            };
            connections =
                views.iter().filter(here).filter(|v| registry.close(v.meta.id, Reason::Banned)).count();
        }
        Answer::Banned {
            target: target.to_string(),
            seconds,
            pairs: views.iter().map(lost).sum(),
            connections,
            cluster: None,
        }
    }
}

#[async_trait]
impl Answering for Operations {
    /// Here and, where that is asked for, at the other nodes.
    async fn answer(&self, request: &Request, uid: u32) -> Answer {
        let Some(one) = request.of_each() else { return self.answer_here(request, uid).await };
        match &self.cluster {
            None => Answer::no(NO_CLUSTER),
            Some(cluster) => cluster.ask_all(&one, self.answer_here(&one, uid)).await,
        }
    }

    fn record(&self, act: &Act) {
        act.log();
        self.tools().observe.act(act);
    }
}

#[async_trait]
impl Here for Operations {
    fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    fn bans(&self) -> &BanList {
        &self.bans
    }

    async fn answer_another(&self, request: &Request) -> Answer {
        self.answer_here(request, 0).await
    }

    async fn close_for(&self, node: &str, target: &str) {
        let answer = close(&self.tools().registry, target).await;
        if let Answer::Closed { streams, .. } = &answer {
            tracing::info!(
                node = capped(node),
                target = capped(target),
                streams = streams.len(),
                "closed for another node"
            );
            self.record(&Act::by_signal("close", &answer));
        }
    }
}

#[async_trait]
impl Shows for Operations {
    async fn snapshot(&self, page: usize) -> Snapshot {
        self.overview(page).await
    }
}

async fn close(registry: &Registry, target: &str) -> Answer {
    let domain = Domain::parse(target).ok();
    let (views, _silent) = registry.views(None).await;
    let meant = |view: &&View| {
        view.meta.id.to_string() == target
            || view.snapshot.client.as_ref().is_some_and(|client| is_called(&client.address, target))
            || domain.as_ref().is_some_and(|domain| {
                view.snapshot.pairs.iter().any(|p| p.pair.sender == *domain || p.pair.target == *domain)
            })
    };
    let closed: Vec<String> = views
        .iter()
        .filter(meant)
        .filter(|view| registry.close(view.meta.id, Reason::ClosedByOperator))
        .map(|view| view.meta.id.to_string())
        .collect();
    match closed.is_empty() {
        true => Answer::no(format!(
            "no living stream is called {0}, carries {0} or is a client of that address",
            capped(target)
        )),
        false => Answer::Closed { streams: closed, cluster: false },
    }
}

/// Whether a client of this full address is meant by that one, full or bare.
fn is_called(address: &str, target: &str) -> bool {
    let Ok(target) = Jid::parse(target) else { return false };
    let Ok(own) = Jid::parse(address) else { return false };
    target.local.is_some()
        && own.is_same_bare(&target)
        && target.resource.as_ref().is_none_or(|r| own.resource.as_ref() == Some(r))
}

/// A refusal of files.
pub fn refused(findings: &[Finding]) -> Answer {
    Answer::Refused {
        message: "what was read is not good; what was in force stays in force".to_owned(),
        findings: findings.iter().map(ToldFinding::from).collect(),
    }
}

fn shown_ban(ban: &Ban) -> protocol::Ban {
    let seconds = ban.until.saturating_duration_since(now()).as_secs();
    protocol::Ban { target: ban.target.to_string(), seconds, uid: ban.uid }
}

fn shown(view: &View) -> Stream {
    let pairs = view.snapshot.pairs.iter().map(|standing| protocol::Pair {
        from: capped(standing.pair.sender.as_str()),
        to: capped(standing.pair.target.as_str()),
        back: standing.back,
        proof: standing.method.label().to_owned(),
        server_proof: ((view.meta.flow == Flow::S2sOut) != standing.back)
            .then(|| standing.identity.proof().map(str::to_owned))
            .flatten(),
        rule: standing.rule.as_str().to_owned(),
        address: standing.address.map(|address| address.to_string()),
        tls: standing.tls.map(|version| version.label().to_owned()),
        fingerprint: standing.fingerprint.clone(),
        stanzas: standing.stanzas,
        octets: standing.octets,
        managed: standing.managed.map(|kept| protocol::CountedStream {
            resumes: kept.resumes,
            unacknowledged: kept.unacknowledged,
        }),
    });
    Stream {
        stream: view.meta.id.to_string(),
        kind: view.snapshot.shape.to_owned(),
        flow: view.meta.flow.label().to_owned(),
        peer: view.meta.peer.map(|peer| peer.to_string()),
        since: view.since.to_string(),
        pairs: pairs.collect(),
        client: view.snapshot.client.as_ref().map(|client| protocol::Client {
            jid: capped(&client.address),
            tls: client.tls.map(|version| version.label().to_owned()),
            stanzas: client.stanzas,
            octets: client.octets,
        }),
    }
}

/// A domain as refusals are written with, if it is one.
fn canonical(name: &str) -> String {
    Domain::parse(name).map_or_else(|_| name.to_owned(), |domain| capped(domain.as_str()))
}

/// Domains of one answer for which a rule that looks alike is looked for.
const LOOKED_FOR: usize = 64;

const NO_CLUSTER: &str = "this gateway shares no store with others: name one, `cluster: { name, store }`";

/// What should hold for longer belongs into the policy.
const LONGEST_BAN: Duration = Duration::from_secs(365 * 24 * 3600);
