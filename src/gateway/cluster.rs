//! A node among others that serve the same domains: twice a second it hears from the store what the others say, and says what they
//! have not heard yet.
//!
//! Nothing of it is waited for on a stanza's way. While the store is away, slow, full or holds something else, everything goes on
//! by what this node knows itself; what it has to say waits, within bounds, and is said when the store is back (CLU-03, CLU-04).
//! What a store holds is believed as far as it can be read: who may write to it may ban and close, and see no secret.

mod asked;
mod counts;
mod fellows;
mod peers;
pub(super) mod place;
mod row;
mod word;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore, watch};

use self::counts::{Batch, HELD, Together};
use self::fellows::{Fellow, Fellows, Time};
use self::peers::Sharing;
use self::row::Row;
use self::word::{Card, Event, What};
use super::bans::BanList;
use super::protocol::{Answer, Request};
use super::reload::Reloader;
use super::{millis, quarantine};
use crate::config::settings::{self, Settings};
use crate::limit::LoginOutcome;
use crate::metrics::Mismatch;
use crate::policy::{Finding, Place};
use crate::run::quarantine::Exchanged;
use crate::run::registry::Phase;
use crate::run::{self, now};
use crate::status;
use crate::store::{NodeReport, Store, StoreFault};

/// What the others have this node do.
#[async_trait]
pub trait Here: Send + Sync {
    /// What is in force here.
    fn reloader(&self) -> &Reloader;

    /// Who is banned here.
    fn bans(&self) -> &BanList;

    /// What this node answers another one.
    async fn answer_another(&self, request: &Request) -> Answer;

    /// Ends streams because an operator at another node says so.
    async fn close_for(&self, node: &str, target: &str);
}

/// This node and what it knows of the others.
#[derive(Debug)]
pub struct Cluster {
    asked: settings::Cluster,
    node: String,
    host: String,
    store: tokio::sync::Mutex<Store>,
    /// It has taken its leave, and says no more.
    left: AtomicBool,
    /// What is heard and said of peers.
    peers: Sharing,
    state: Mutex<State>,
    /// Milliseconds by which the clock of the store is ahead of this node's.
    ahead: AtomicI64,
    /// Somebody waits for the next exchange.
    hurry: Notify,
    /// How many exchanges have come out.
    rounds: watch::Sender<u64>,
    /// Questions of other nodes that are answered at one time.
    answering: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    /// What ails the store, and since when that is so.
    trouble: Option<String>,
    since: jiff::Timestamp,
    events: Row,
    together: Together,
    fellows: Fellows,
    differences: Vec<(Mismatch, String)>,
    config: Option<(Arc<Settings>, String)>,
}

impl Cluster {
    /// The node of these settings, if they name a cluster. Nobody is called yet.
    ///
    /// # Errors
    /// When a file cannot be read, or the system gives no random octets for a name.
    pub(super) fn begin(settings: &Settings) -> Result<Option<Arc<Self>>, Finding> {
        let Some((asked, params)) = settings.cluster.clone().zip(place::store(settings)?) else {
            return Ok(None);
        };
        let lacks = |_| {
            Finding::error(
                Place::whole(&settings.file),
                "the system gives no random octets",
                "this is a fault of the machine",
            )
        };
        let name: String =
            run::seed().map_err(lacks)?.iter().take(4).map(|octet| format!("{octet:02x}")).collect();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        let state = State {
            trouble: Some("it was not asked yet".to_owned()),
            since: jiff::Timestamp::now(),
            events: Row::new(UNSENT),
            together: Together::new(),
            fellows: Fellows::default(),
            differences: Vec::new(),
            config: None,
        };
        let store = tokio::sync::Mutex::new(Store::new(params));
        Ok(Some(Arc::new(Self {
            asked,
            node: name,
            host,
            store,
            left: AtomicBool::new(false),
            peers: Sharing::default(),
            state: Mutex::new(state),
            ahead: AtomicI64::new(0),
            hurry: Notify::new(),
            rounds: watch::Sender::new(0),
            answering: Arc::new(Semaphore::new(ANSWERS)),
        })))
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all other nodes close what an operator means.
    pub(super) fn close(&self, target: &str) {
        self.say(What::Close { target: target.to_owned() }, self.wall());
    }

    fn say(&self, what: What, time: i64) {
        let mut state = self.held();
        let event = Event { node: self.node.clone(), number: state.events.next(), time, what };
        if let Ok(text) = serde_json::to_string(&event) {
            state.events.say(text);
        }
    }

    /// Hears and speaks once.
    pub(super) async fn exchange(self: &Arc<Self>, here: &Arc<dyn Here>) {
        let mut store = self.store.lock().await;
        if self.left.load(Ordering::Relaxed) {
            return;
        }
        let outcome = self.exchanged(&mut store, here).await;
        drop(store);
        self.forget(here.as_ref());
        self.came_out(here.as_ref(), outcome.err());
        self.rounds.send_modify(|rounds| *rounds = rounds.saturating_add(1));
    }

    async fn exchanged(self: &Arc<Self>, store: &mut Store, here: &Arc<dyn Here>) -> Result<(), StoreFault> {
        let tools = here.reloader().tools();
        if let Some(secret) = here.reloader().account_secret() {
            tools.bounds.logins.shared().share(secret);
        }
        let memory =
            i64::try_from(here.reloader().settings().timeouts.login_memory.as_millis()).unwrap_or(i64::MAX);
        let after = {
            let state = self.held();
            [state.events.after(memory), state.together.row.after(COUNTED)]
        };
        let [events, counts] = &after;
        // Ten times as seldom as the rest: who is in quarantine can wait a little, and there may be many.
        let asks = here.reloader().tools().bounds.quarantine.is_hurried()
            || self.rounds.borrow().is_multiple_of(SELDOM);
        let heard = store.read(events, counts, asks).await?;
        let ahead = heard.time.saturating_sub(millis());
        self.ahead.store(ahead, Ordering::Relaxed);
        here.bans().set_ahead(ahead);
        let bans = here.bans().exchange(&heard.bans);
        tools.bounds.quarantine.set_ahead(ahead);
        let held = match asks {
            true => tools.bounds.quarantine.exchange(&heard.quarantine),
            false => Exchanged::default(),
        };
        if held.settled {
            quarantine::publish(&tools);
        }
        let met = self.held().fellows.meet(&self.node, &heard.nodes, self.time());
        let mut foreign = bans.foreign + held.foreign + met;
        for (name, text) in &heard.events {
            match serde_json::from_str::<Event>(text) {
                Ok(event) if event.node == self.node => {}
                Ok(event) if self.held().events.is_news(&event.node, event.number) => {
                    self.apply(here, event).await
                }
                Ok(_) => {}
                Err(_) => foreign += 1,
            }
            self.held().events.heard(name);
        }
        foreign += self.count(here.as_ref(), &heard.counts);
        for (attempt, at) in tools.bounds.logins.shared().take(UNSENT) {
            let ago = i64::try_from(now().saturating_duration_since(at).as_millis()).unwrap_or(i64::MAX);
            let LoginOutcome { network, account, failed } = attempt;
            self.say(What::Login { network, account, failed }, self.wall().saturating_sub(ago));
        }
        self.say_counts(here.as_ref());
        let word = serde_json::to_string(&self.card(here.as_ref())).unwrap_or_default();
        let gone = self.held().fellows.gone(now());
        let said = {
            let state = self.held();
            let (events, counts) = (state.events.unsent(AT_ONCE), state.together.row.unsent(AT_ONCE));
            NodeReport {
                node: (self.node.clone(), word),
                gone,
                bans: bans.say,
                over: bans.over,
                quarantine: held.say,
                forgotten: held.over,
                events,
                counts,
            }
        };
        store.write(&said).await?;
        {
            let mut state = self.held();
            state.events.said(said.events.len());
            state.together.row.said(said.counts.len());
        }
        foreign += self.peers.share(store, &tools).await?;
        match foreign {
            0 => Ok(()),
            count => Err(StoreFault::unread(count)),
        }
    }

    /// Takes in what the others have counted. How many words cannot be read.
    fn count(&self, here: &dyn Here, words: &[(String, String)]) -> usize {
        let tools = here.reloader().tools();
        let mut foreign = 0;
        for (name, text) in words {
            self.held().together.row.heard(name);
            match Batch::read(text) {
                Some(batch) if batch.node == self.node => {}
                Some(batch) => {
                    if self.held().together.row.is_news(&batch.node, batch.number) {
                        let ago = self.ago(batch.time);
                        tools.bounds.senders.seen_elsewhere(&batch.counts(), ago, now());
                        self.held().together.hear(batch.node, batch.held);
                    }
                }
                None => foreign += 1,
            }
        }
        foreign
    }

    /// Has the others hear what was counted here, once they have heard what came before.
    fn say_counts(&self, here: &dyn Here) {
        let (tools, at) = (here.reloader().tools(), now());
        let mut state = self.held();
        if !state.together.is_told() {
            return;
        }
        let here = state.fellows.here(at).count();
        let nodes = u32::try_from(here).unwrap_or(u32::MAX).saturating_add(1);
        let (counts, held) =
            (tools.bounds.senders.unsent(nodes, at), tools.bounds.proven.held_here(nodes, HELD));
        state.together.say(&self.node, (self.wall(), at), counts, held);
    }

    /// What others hold counts for as long as they are heard and let somebody in: who was there comes here next.
    fn forget(&self, here: &dyn Here) {
        let (at, running) = (now(), Phase::Running.label());
        let mut state = self.held();
        let State { together, fellows, .. } = &mut *state;
        let held = together.sum(|node| {
            fellows
                .get(node)
                .is_some_and(|fellow| fellow.is_heard(at, COUNTS_FOR) && fellow.card.phase == running)
        });
        here.reloader().tools().bounds.proven.held_elsewhere(held);
    }

    /// The time by which nodes tell each other when something was, in milliseconds since 1970: that of the store.
    fn wall(&self) -> i64 {
        self.time().store
    }

    fn time(&self) -> Time {
        let own = millis();
        Time { at: now(), own, store: own.saturating_add(self.ahead.load(Ordering::Relaxed)) }
    }

    fn ago(&self, time: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.wall().saturating_sub(time)).unwrap_or(0))
    }

    async fn apply(self: &Arc<Self>, here: &Arc<dyn Here>, event: Event) {
        let ago = self.ago(event.time);
        match event.what {
            What::Login { network, account, failed } => {
                let attempt = LoginOutcome { network, account, failed };
                here.reloader().tools().bounds.logins.seen_elsewhere(attempt, ago, now());
            }
            // An order is for those who live when it is given.
            What::Close { target } if ago < ORDER => here.close_for(&event.node, &target).await,
            What::Ask { question, request } if ago < ORDER => self.asked_by_another(here, question, *request),
            What::Close { .. } | What::Ask { .. } => {}
        }
    }

    fn card(&self, here: &dyn Here) -> Card {
        let registry = Arc::clone(&here.reloader().tools().registry);
        let settings = here.reloader().settings();
        let mut state = self.held();
        let config = match &state.config {
            Some((known, digest)) if Arc::ptr_eq(known, &settings) => digest.clone(),
            _ => {
                let digest = word::common(&settings);
                state.config = Some((settings, digest.clone()));
                digest
            }
        };
        Card {
            host: self.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config,
            policy: registry.policy().digest().to_owned(),
            secrets: here.reloader().secrets_digest(),
            phase: registry.phase().label().to_owned(),
            streams: registry.living(),
            time: millis(),
            behind: self.ahead.load(Ordering::Relaxed),
        }
    }

    /// Tells what has changed.
    fn came_out(&self, here: &dyn Here, fault: Option<StoreFault>) {
        let observe = Arc::clone(&here.reloader().tools().observe);
        let own = self.card(here);
        let up = !matches!(fault, Some(StoreFault::Silent(_) | StoreFault::Refused(_)));
        let trouble = fault.map(|fault| fault.to_string());
        let mut state = self.held();
        if state.trouble.is_some() != trouble.is_some() {
            state.since = jiff::Timestamp::now();
            match &trouble {
                Some(why) => {
                    tracing::warn!(store = %self.asked.store, why, "the store of the cluster is in trouble: traffic goes on by what this node knows itself");
                }
                None => {
                    tracing::info!(store = %self.asked.store, node = self.node, "the store of the cluster is in order")
                }
            }
        }
        observe.fellows().say(trouble.clone());
        state.trouble = trouble;
        let at = now();
        let fellows: Vec<&Fellow> = state.fellows.here(at).map(|(_, fellow)| fellow).collect();
        let differences: Vec<(Mismatch, String)> =
            fellows.iter().flat_map(|fellow| word::differences(&own, &fellow.card, fellow.ahead)).collect();
        let what: Vec<Mismatch> = differences.iter().map(|(what, _)| *what).collect();
        observe.metrics().cluster_store(up);
        observe.metrics().cluster_nodes(fellows.len() + 1, &what);
        let fresh = |kind: &(Mismatch, String)| {
            !state
                .differences
                .iter()
                .any(|(what, host)| *what == kind.0 && host.split(' ').next() == kind.1.split(' ').next())
        };
        for (_, words) in differences.iter().filter(|difference| fresh(difference)) {
            tracing::warn!("nodes of the cluster differ: {words}");
        }
        state.differences = differences;
    }

    /// How it stands, for people.
    pub(super) fn shown(&self, here: &dyn Here) -> status::Cluster {
        let own = self.card(here);
        let state = self.held();
        let at = now();
        let node = |name: &str, card: &Card, heard: Instant, ahead: i64| status::NodeRow {
            node: name.to_owned(),
            host: card.host.clone(),
            version: card.version.clone(),
            config: card.config.clone(),
            policy: card.policy.clone(),
            phase: card.phase.clone(),
            streams: card.streams,
            heard: at.saturating_duration_since(heard).as_secs(),
            ahead,
        };
        let others = state.fellows.all().map(|(name, f)| node(name, &f.card, f.heard, f.ahead));
        let mut differences: Vec<String> = state.differences.iter().map(|(_, words)| words.clone()).collect();
        differences.sort();
        differences.dedup();
        status::Cluster {
            name: self.asked.name.clone(),
            store: self.asked.store.to_string(),
            trouble: state.trouble.clone(),
            since: state.since.to_string(),
            untold: state.events.waiting(),
            nodes: std::iter::once(node(&self.node, &own, at, 0)).chain(others).collect(),
            differences,
        }
    }
}

/// Keeps company with the others for as long as the gateway runs.
pub(super) async fn attend(cluster: Arc<Cluster>, here: Weak<dyn Here>) {
    let mut tick = tokio::time::interval(PAUSE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _time = tick.tick() => {}
            () = cluster.hurry.notified() => {}
        }
        let Some(here) = here.upgrade() else { return };
        cluster.exchange(&here).await;
    }
}

/// From one exchange to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// In one of so many exchanges it is said who is in quarantine, and whenever somebody has decided.
const SELDOM: u64 = 10;

/// What a node holds counts at the others for so long after its last word.
const COUNTS_FOR: Duration = Duration::from_secs(3);

/// What was counted longer ago, in milliseconds, is over.
const COUNTED: i64 = 60_000;

/// How long an order to close is an order.
const ORDER: Duration = Duration::from_secs(30);

/// Questions that are answered at one time.
const ANSWERS: usize = 4;

/// Events that wait to be said, and those that are said at one time.
const UNSENT: usize = 10_000;
const AT_ONCE: usize = 1000;
