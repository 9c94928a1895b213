//! Gathers what the status page, its JSON and `gatehouse status` show.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::bans::Ban;
use super::operations::Operations;
use crate::reason::{Flow, Reason};
use crate::run::Tools;
use crate::run::health::State;
use crate::run::now;
use crate::run::observe::capped;
use crate::run::refusals::RefusalQuery;
use crate::status::{Backend, BackendAddress, Circuit, Limit, OwnCertificate, Pair, Rule, SHOWN, Snapshot};

impl Operations {
    /// Everything, with this page of the pairs (from 1).
    pub async fn overview(&self, page: usize) -> Snapshot {
        let tools = self.tools();
        let observe = &tools.observe;
        let (views, silent) = tools.registry.views(None).await;
        let pairs: Vec<Pair> = views
            .iter()
            .flat_map(|view| view.snapshot.pairs.iter().map(move |standing| (view, standing)))
            .map(|(view, standing)| Pair {
                from: capped(standing.pair.sender.as_str()),
                to: capped(standing.pair.target.as_str()),
                direction: match (view.meta.flow == Flow::S2sOut) != standing.back {
                    true => "outbound".to_owned(),
                    false => "inbound".to_owned(),
                },
                proof: standing.method.label().to_owned(),
                tls: standing.tls.map(|version| version.label().to_owned()),
                rule: standing.rule.as_str().to_owned(),
                since: view.since.to_string(),
                stanzas: standing.stanzas,
                address: standing.address.map(|address| address.to_string()),
            })
            .collect();
        let policy = tools.registry.policy();
        let (rules, all_rules, ending) = super::rules::apart(&tools, rules).await.unwrap_or_default();
        let mut refusals = self.refusals(&RefusalQuery { last: Some(SHOWN), ..RefusalQuery::default() });
        refusals.reverse();
        let seconds = |ban: &Ban| ban.until.saturating_duration_since(now()).as_secs();
        let (config, stale) = self.reloader.digest().await;
        let mut snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: jiff::Timestamp::now().to_string(),
            started: observe.metrics().started().to_string(),
            phase: tools.registry.phase().label().to_owned(),
            policy: policy.digest().to_owned(),
            config,
            stale,
            alarms: Vec::new(),
            backends: self.backends(),
            certificates: self.certificates(),
            clients: views.iter().filter(|view| view.snapshot.client.is_some()).count(),
            silent,
            circuits: self.remembered(),
            refusals,
            rules,
            all_rules,
            lists: super::lists::shown(&self.reloader.settings(), &tools.fetches, policy.lists()),
            quarantine: super::quarantine::on_page(&tools.bounds.quarantine, &policy),
            all_quarantine: tools.bounds.quarantine.len(),
            bans: self
                .bans
                .all()
                .iter()
                .map(|ban| crate::status::Ban { target: ban.target.to_string(), seconds: seconds(ban) })
                .collect(),
            limits: observe
                .metrics()
                .limits_met()
                .into_iter()
                .map(|(limit, times)| Limit { limit: limit.to_owned(), times })
                .collect(),
            ..Snapshot::default()
        };
        snapshot.shadow = policy.shadow().map(|_| super::rules::shadow_shown(&observe.shadow().report()));
        snapshot.peers = super::peers::shown(tools.observe.peers());
        snapshot.turn_to(page, pairs);
        snapshot.cluster = self.cluster.as_ref().map(|cluster| cluster.shown(self));
        snapshot.alarms = self.alarms(&snapshot, ending);
        snapshot
    }

    fn backends(&self) -> Vec<Backend> {
        let tools = self.tools();
        let states: BTreeMap<_, Option<State>> = tools.observe.health().states().into_iter().collect();
        let mut all = Vec::new();
        for domain in &self.reloader.settings().domains {
            for (flow, addresses) in [(Flow::S2sIn, &domain.backend.s2s), (Flow::C2s, &domain.backend.c2s)] {
                if addresses.is_empty() {
                    continue;
                }
                let state = states.get(&(domain.name.clone(), flow));
                let known = state.and_then(Option::as_ref);
                let word = match (state, known) {
                    (None, _) => "not checked",
                    (Some(_), None) => "not looked at yet",
                    (Some(_), Some(state)) if state.up => "up",
                    (Some(_), Some(_)) => "down",
                };
                let streams = tools.peering.backends.of(&domain.name).filter(|_| flow == Flow::S2sIn);
                let streams = streams.map(|backend| backend.streams());
                let seen = known.map(|state| state.seen.as_slice()).unwrap_or_default();
                all.push(Backend {
                    domain: domain.name.to_string(),
                    flow: flow.label().to_owned(),
                    state: word.to_owned(),
                    // A server that is down asks nobody, wherever it looks.
                    note: (flow == Flow::S2sIn
                        && word != "down"
                        && !tools.observe.seeking().has_found(&domain.name))
                    .then(|| NOT_ASKED.to_owned()),
                    streams: streams.map(|(open, _)| open),
                    waiting: streams.map_or(0, |(_, waiting)| waiting),
                    since: known.map(|state| state.since.to_string()),
                    server: seen.iter().find_map(|seen| seen.server).map(|server| server.name().to_owned()),
                    addresses: match seen.is_empty() {
                        true => addresses
                            .iter()
                            .map(|address| BackendAddress {
                                address: address.to_string(),
                                trouble: None,
                                remark: Some(word.to_owned()),
                            })
                            .collect(),
                        false => seen
                            .iter()
                            .map(|seen| BackendAddress {
                                address: seen.address.to_string(),
                                trouble: seen.trouble(flow),
                                remark: seen.remark(flow).map(|remark| format!("answers; {remark}")),
                            })
                            .collect(),
                    },
                });
            }
        }
        all
    }

    fn certificates(&self) -> Vec<OwnCertificate> {
        let now = jiff::Timestamp::now();
        let mut all: Vec<OwnCertificate> = self
            .reloader
            .ends()
            .into_iter()
            .filter_map(|(domain, not_after)| {
                let end = jiff::Timestamp::from_second(not_after).ok()?;
                let days = (not_after - now.as_second()).div_euclid(24 * 3600);
                Some(OwnCertificate { domain: domain.to_string(), not_after: end.to_string(), days })
            })
            .collect();
        all.sort_by_key(|certificate| certificate.days);
        all
    }

    fn remembered(&self) -> Vec<Circuit> {
        let held = self.tools().peering.circuits.snapshot();
        let shown = held.iter().take(SHOWN).map(|circuit| Circuit {
            domain: capped(circuit.domain.as_str()),
            hosted: circuit.hosted.as_ref().map(ToString::to_string),
            state: if circuit.failed.open { "open" } else { "failing" }.to_owned(),
            reason: circuit.failed.reason.label().to_owned(),
            failures: circuit.failed.failures,
            since: now().saturating_duration_since(circuit.failed.since).as_secs(),
            next: circuit.failed.next.saturating_duration_since(now()).as_secs(),
        });
        shown.collect()
    }

    /// What an operator should look at first.
    fn alarms(&self, snapshot: &Snapshot, ending: Vec<String>) -> Vec<String> {
        let mut alarms = Vec::new();
        for backend in snapshot.backends.iter().filter(|backend| backend.state == "down") {
            let troubles = backend.addresses.iter().filter_map(|address| {
                address.trouble.as_ref().map(|trouble| format!("{}: {trouble}", address.address))
            });
            let troubles: Vec<String> = troubles.collect();
            alarms.push(format!(
                "the server behind {} ({}) is down: {}",
                backend.domain,
                backend.flow,
                troubles.join("; ")
            ));
        }
        for certificate in &snapshot.certificates {
            match certificate.days {
                days if days < 0 => {
                    alarms.push(format!(
                        "the certificate of {} has expired: by the clock of this machine, which says {}",
                        certificate.domain, snapshot.time
                    ));
                }
                days @ 0..14 => {
                    alarms.push(format!("the certificate of {} ends in {days} days", certificate.domain))
                }
                _ => {}
            }
        }
        for domain in self.reloader.closed() {
            alarms.push(format!(
                "{domain} is closed: its certificate cannot be shown; `gatehouse check` says why"
            ));
        }
        if !snapshot.stale.is_empty() {
            alarms.push(format!(
                "these files are not as they were when they were read, `gatehouse reload --plan` tells what would change: {}",
                snapshot.stale.join(", ")
            ));
        }
        let tools = self.tools();
        alarms.extend(ending);
        for list in &snapshot.lists {
            if let (Some(_), Some(note)) = (&list.held, &list.note) {
                alarms.push(format!("the list {} is held: {note}", list.name));
            }
            if let Some(why) = &list.trouble {
                alarms.push(format!("the list {} cannot be fetched: {why}", list.name));
            }
        }
        for peer in snapshot.peers.iter().filter(|peer| peer.state == "waits").take(WAITING) {
            alarms.push(format!(
                "{} > {} is proven in another way than before ({}), and waits: `gatehouse peers`",
                peer.from, peer.to, peer.what
            ));
        }
        for domain in &self.reloader.settings().domains {
            if tools.observe.is_astray(&domain.name) && !tools.observe.seeking().has_found(&domain.name) {
                let reason = Reason::BackendAsksElsewhere;
                alarms.push(format!("the server behind {}: {}", domain.name, reason.words()));
            }
        }
        if let Some(cluster) = &snapshot.cluster {
            alarms.extend(cluster.trouble.iter().cloned());
            alarms.extend(cluster.differences.iter().cloned());
        }
        if tools.bounds.unproven.is_full(now()) {
            alarms.push(
                "connections that have proven nothing fill all their places (`limits: { conn-unproven }`): those of the networks with most make room"
                    .to_owned(),
            );
        }
        if tools.observe.refuses() {
            alarms.push("the audit log cannot be written, and nobody new is let in".to_owned());
        }
        alarms
    }
}

/// The rules that expire first, then those that decided last; how many there are; and those that are near their end. Of many
/// rules it takes a while.
fn rules(tools: &Tools) -> (Vec<Rule>, usize, Vec<String>) {
    let policy = tools.registry.policy();
    let used = tools.observe.used().rules();
    let mut all: Vec<_> = policy
        .rules()
        .map(|rule| {
            let uses = used.get(rule.name.as_str());
            (rule.expires.is_none(), rule.expires, Reverse(uses.and_then(|uses| uses.last)), rule, uses)
        })
        .collect();
    let count = all.len();
    all.sort_by_key(|(lasts, expires, last, ..)| (*lasts, *expires, *last));
    let shown = all.into_iter().take(SHOWN).map(|(_, _, last, rule, uses)| Rule {
        name: rule.name.as_str().to_owned(),
        place: rule.place.to_string(),
        verdict: rule.outcome.label().to_owned(),
        expires: rule.expires.map(|day| day.to_string()),
        expired: rule.expired,
        used: last.0.map(|at| at.to_string()),
        hits: uses.map_or(0, |uses| uses.hits),
        known: uses.map(|uses| uses.known.to_string()),
        owner: rule.owner.map(str::to_owned),
        ticket: rule.ticket.map(str::to_owned),
    });
    (shown.collect(), count, super::rules::ending(&policy))
}

/// Nothing is wrong with that in the first minutes.
const NOT_ASKED: &str = "has not asked this gateway about a key yet: where nothing passes, it looks for other domains elsewhere than at the inside listener";

/// Pairs that wait and are alarms at one time.
const WAITING: usize = 10;
