//! The memory of peers in a running gateway: read at the start, given to the policy, kept on the disk, and steered by operators.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::named::named;
use super::protocol::Answer;
use crate::config::settings::Settings;
use crate::peers::{Named, Peer, SettledPeer};
use crate::run::observe::{Observe, capped};
use crate::run::registry::Registry;
use crate::run::remembered::Remembered;
use crate::run::{Tools, kept};
use crate::status;

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Kept<T> {
    version: u32,
    peers: Vec<T>,
}

/// Reads what an earlier process has left, and has the policy look at it. A file that cannot be read is moved aside, so that what it
/// may still tell be written over.
pub(super) fn recall(settings: &Settings, tools: &Tools) {
    if let Some(folder) = &settings.state {
        read(&folder.join(NAME), tools.observe.peers());
    }
    publish(&tools.observe, &tools.registry);
}

fn read(path: &Path, peers: &Remembered) {
    let trouble = match kept::read::<Kept<serde_json::Value>>(path) {
        Ok(None) => return,
        Ok(Some(kept)) if kept.version == VERSION => return take(path, kept.peers, peers),
        Ok(Some(kept)) => kept::of_version(kept.version),
        Err(error) => error.to_string(),
    };
    let aside = kept::set_aside(path);
    tracing::error!(file = %path.display(), aside = %aside.display(), error = trouble,
        "how peers were proven before the start is not known: the file cannot be read; who comes first is believed, \
         also where a rule says `on-change: hold`");
}

/// Takes in those that are records, each by itself: one that a later version has written otherwise costs no other.
fn take(path: &Path, written: Vec<serde_json::Value>, peers: &Remembered) {
    let all = written.len();
    let read: Vec<Peer> =
        written.into_iter().filter_map(|record| serde_json::from_value(record).ok()).collect();
    let unread = all - read.len() + peers.with(|peers| peers.recall(read));
    if unread > 0 {
        let aside = kept::copy_aside(path);
        tracing::error!(file = %path.display(), aside = %aside.display(), unread,
            "records of how peers were proven cannot be read, and are left aside: of those domains who comes first is believed");
    }
}

/// Has the policy look at what is known now, and counts what waits.
pub(super) fn publish(observe: &Observe, registry: &Registry) {
    let peers = observe.peers();
    registry.amend(|policy| Some(policy.with_known(peers.with(|peers| peers.known()))));
    let (waiting, left_out) = peers.with(|peers| peers.waiting());
    observe.metrics().peers(waiting, left_out);
}

/// Gives to the policy what is news for it, and writes down what is remembered: what a rule holds at once, the rest now and then.
pub(super) async fn attend(now: impl Fn() -> (Arc<Settings>, Arc<Tools>) + Send + Sync) {
    let mut due = tokio::time::Instant::now() + OFTEN;
    let mut failing = false;
    loop {
        let (settings, tools) = now();
        tokio::select! {
            () = tools.observe.peers().news() => {
                publish(&tools.observe, &tools.registry);
                // What comes in a row is written once.
                due = due.min(tokio::time::Instant::now() + SOON);
                continue;
            }
            () = tokio::time::sleep_until(due) => due = tokio::time::Instant::now() + OFTEN,
        }
        let Some(folder) = settings.state.clone() else { continue };
        let kept = tokio::task::spawn_blocking(move || keep(&folder, tools.observe.peers())).await;
        match kept {
            Ok(Err(error)) if !failing => {
                tracing::error!(%error, "how peers were proven cannot be kept over a restart");
                failing = true;
            }
            Ok(Ok(())) if failing => {
                tracing::warn!("how peers were proven is kept again");
                failing = false;
            }
            _ => {}
        }
    }
}

/// The same once more at the end.
pub(super) fn keep_now(settings: &Settings, peers: &Remembered) {
    let Some(folder) = &settings.state else { return };
    if let Err(error) = keep(folder, peers) {
        tracing::error!(folder = %folder.display(), %error, "how peers were proven is not kept");
    }
}

fn keep(folder: &Path, peers: &Remembered) -> std::io::Result<()> {
    let Some(all) = peers.with(|peers| peers.to_keep()) else { return Ok(()) };
    let written = kept::write(&folder.join(NAME), &Kept { version: VERSION, peers: all });
    if written.is_err() {
        peers.with(|peers| peers.not_kept());
    }
    written
}

/// How remote domains were proven.
pub(super) fn list(peers: &Remembered, settings: &Settings, domain: Option<&str>) -> Answer {
    let domain = match domain.map(named).transpose() {
        Ok(domain) => domain,
        Err(no) => return Answer::no(no),
    };
    let (peers, more) = peers.with(|peers| peers.list(domain.as_ref(), LISTED));
    Answer::Peers { peers, more, kept: settings.state.is_some() }
}

/// An operator says what to make of what waits. What is approved is tried again at once.
pub(super) fn settle(tools: &Tools, domain: &str, key: Option<&str>, approve: bool) -> Answer {
    let domain = match named(domain) {
        Ok(domain) => domain,
        Err(no) => return Answer::no(no),
    };
    let (peers, now) = (tools.observe.peers(), Timestamp::now());
    let settled = peers.with(|peers| match approve {
        true => peers.approve(&domain, key, now),
        false => peers.dismiss(&domain, key, now),
    });
    match settled {
        Ok(peers) => {
            publish(&tools.observe, &tools.registry);
            if approve {
                // Whether anything was held against it is of no matter.
                let _cleared = tools.peering.circuits.clear(&domain);
                tools.transport.look_anew(&domain);
            }
            let faces = peers.iter().flat_map(SettledPeer::named).collect();
            let peers = peers.into_iter().map(|settled| settled.peer).collect();
            Answer::Recognised { peers, approved: approve, faces }
        }
        Err(message) => Answer::no(message),
    }
}

/// An operator says that what is known is the partner's no more. What that was; the policy has heard of it.
pub(super) fn forget(
    observe: &Observe,
    registry: &Registry,
    domain: &str,
    key: Option<&str>,
) -> Result<Vec<Named>, String> {
    let domain = named(domain)?;
    let forgotten = observe.peers().with(|peers| peers.forget(&domain, key, Timestamp::now()))?;
    publish(observe, registry);
    Ok(forgotten.iter().flat_map(SettledPeer::named).collect())
}

/// What the status page shows: what waits, and what has changed last.
pub(super) fn shown(peers: &Remembered) -> Vec<status::Peer> {
    let (peers, _more) = peers.with(|peers| peers.list(None, status::SHOWN));
    let changed = peers.iter().filter_map(|peer| {
        let change = peer.changes.last()?;
        let words: Vec<&str> = change.what.iter().map(|what| what.label()).collect();
        Some(status::Peer {
            from: capped(&peer.from),
            to: capped(&peer.to),
            direction: peer.direction.clone(),
            rule: peer.rule.clone(),
            state: match peer.waiting.len() {
                0 => change.fate.label().to_owned(),
                _ => "waits".to_owned(),
            },
            what: words.join(", "),
            before: change.before.to_string(),
            after: change.after.to_string(),
            at: change.at.to_string(),
        })
    });
    changed.collect()
}

/// The name of the file in the folder `state`.
pub(super) const NAME: &str = "peers.json";

const VERSION: u32 = 1;

/// Pairs of one answer.
const LISTED: usize = 1000;

/// How often what is remembered is written down.
const OFTEN: Duration = Duration::from_secs(60);

/// How long more is waited for before what is news is written down.
const SOON: Duration = Duration::from_millis(500);
