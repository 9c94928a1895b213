//! Certificates that renew themselves: the files are watched, and what has settled is checked and taken over.
//!
//! Every file that the configuration names is looked at, through all links, so that it does not matter whether a file is
//! written, moved into place, or reached through a folder that is swapped (certbot, Kubernetes). What looks the same twice in a
//! row has settled. Certificates, keys, trust anchors and revocation lists are then taken over by themselves, each certificate
//! on its own: a bad one is refused with a line and a count, and the one in force stays. All else waits for a reload, and is
//! told by `gatehouse_config_stale` until then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::from_settings::Credentials;
use super::reload::Reloader;
use super::{background, certificates, changes, lists, trust, unix_seconds};
use crate::config::settings::{CertificateFiles, HostedDomain, Settings};
use crate::config::{self, Seen, Trace};
use crate::metrics::Reload;
use crate::policy::Finding;
use crate::tls::{Certificates, keys};

/// Watches for as long as the gateway runs.
pub(super) async fn files(reloader: Arc<Reloader>) {
    let mut tick = super::ticks::every(LOOK);
    let mut eyes = Eyes::default();
    let mut looks: u32 = 0;
    loop {
        tick.tick().await;
        looks = looks.wrapping_add(1);
        let settings = reloader.settings();
        if looks.is_multiple_of(NAMES)
            && let Ok(Some(next)) = tokio::task::spawn_blocking({
                let settings = Arc::clone(&settings);
                move || config::looked_up_again(&settings)
            })
            .await
        {
            reloader.readdress(&settings, next).await;
            continue;
        }
        let looked = tokio::task::spawn_blocking(move || config::traces(&settings)).await;
        if let Ok(now) = looked
            && eyes.settled(now)
        {
            reloader.look_closer().await;
            reloader.reread_lists().await;
        } else if looks.is_multiple_of(AGES) {
            reloader.see_ages().await;
        }
    }
}

impl Reloader {
    /// Lists that have changed are taken over by themselves, and so is that one is held, or no more.
    async fn reread_lists(self: &Arc<Self>) {
        let settings = self.settings();
        if settings.lists.is_empty() {
            return;
        }
        // No reload comes between.
        let _services = self.services().await;
        let read = background::run({
            let settings = Arc::clone(&settings);
            move || (config::listed::read(&settings.lists), Seen::of(&settings))
        });
        let Ok((read, now)) = read.await else { return };
        let tools = self.tools();
        let before = tools.registry.policy();
        tools.registry.amend(|policy| {
            let next = policy.with_lists(read).after(policy);
            (next.lists() != policy.lists()).then_some(next)
        });
        let after = tools.registry.policy();
        lists::log_changes(Some(before.lists()), after.lists());
        tools.observe.metrics().lists(after.lists());
        let taken: Vec<PathBuf> = settings.lists.iter().flat_map(config::listed::files_of).collect();
        self.now_seen(&now, &taken);
    }

    /// A list grows old although nothing changes.
    async fn see_ages(self: &Arc<Self>) {
        let (settings, policy) = (self.settings(), self.tools().registry.policy());
        let aged =
            tokio::task::spawn_blocking(move || config::listed::have_aged(&settings.lists, policy.lists()));
        if aged.await.unwrap_or(false) {
            self.reread_lists().await;
        }
    }
}

/// What was seen the last time.
#[derive(Debug, Default)]
struct Eyes {
    last: BTreeMap<PathBuf, Trace>,
    judged: Option<BTreeMap<PathBuf, Trace>>,
}

impl Eyes {
    /// Whether something has changed since it was looked at closely, and looks as it did a moment ago.
    fn settled(&mut self, now: BTreeMap<PathBuf, Trace>) -> bool {
        if now != self.last {
            self.last = now;
            return false;
        }
        if self.judged.as_ref() == Some(&now) {
            return false;
        }
        self.judged = Some(now);
        true
    }
}

/// What came of files that have changed.
#[derive(Debug)]
pub(super) struct Renewal {
    /// With what was good; none where nothing was.
    pub(super) credentials: Option<Credentials>,
    /// Files that are in force now.
    pub(super) taken: Vec<PathBuf>,
    /// What was taken over, a line each.
    pub(super) lines: Vec<String>,
    /// What was refused: each certificate once, with all that is wrong with it.
    pub(super) refused: Vec<(Vec<PathBuf>, Vec<Finding>)>,
}

/// Reads what has changed.
pub(super) fn renew(settings: &Settings, old: &Credentials, changed: &[PathBuf]) -> Renewal {
    let has_changed = |path: &Path| changed.iter().any(|other| other == path);
    let now = unix_seconds();
    let mut identities: BTreeMap<_, _> =
        old.certificates.iter().map(|(domain, identity)| (domain.clone(), identity.clone())).collect();
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    // Several domains may show one certificate: it is read and told once.
    let mut by_files: Vec<(&CertificateFiles, Vec<&HostedDomain>)> = Vec::new();
    for domain in &settings.domains {
        match by_files.iter_mut().find(|(files, _)| **files == domain.certificate) {
            Some((_, domains)) => domains.push(domain),
            None => by_files.push((&domain.certificate, vec![domain])),
        }
    }
    for (files, domains) in by_files {
        if !has_changed(&files.chain) && !has_changed(&files.key) {
            continue;
        }
        let alone = settings.domains.len() == 1;
        let found = domains.iter().flat_map(|domain| certificates::check_domain(domain, alone, now).findings);
        let mut errors: Vec<Finding> = found.filter(Finding::is_error).collect();
        errors.sort();
        errors.dedup();
        let paths = vec![files.chain.clone(), files.key.clone()];
        match (errors.is_empty(), keys::load(&files.chain, &files.key)) {
            (true, Ok(identity)) => {
                identities.extend(domains.iter().map(|domain| (domain.name.clone(), identity.clone())));
                taken.extend(paths);
            }
            // What is wrong with a file that cannot be loaded is among the errors.
            (_, _) => refused.push((paths, errors)),
        }
    }
    let mut trust = Arc::clone(&old.trust);
    let anchors: Vec<PathBuf> = config::trust(settings);
    let moved = anchors.iter().any(|path| has_changed(path));
    let mut lines = Vec::new();
    if moved {
        match trust::read_trust(settings) {
            Ok(read) => {
                trust = Arc::new(read);
                lines.push("trust anchors or revocation lists".to_owned());
                taken.extend(anchors);
            }
            Err(findings) => refused.push((anchors, findings)),
        }
    }
    let next = old.with(Certificates::from_identities(identities), trust);
    lines.extend(changes::certificates(old, &next));
    Renewal { credentials: (!taken.is_empty()).then_some(next), taken, lines, refused }
}

impl Reloader {
    /// Something has changed on the disk: certificates are taken over, and of the rest it is told that it differs.
    async fn look_closer(self: &Arc<Self>) {
        // No reload comes between.
        let _services = self.services().await;
        let (settings, seen) = (self.settings(), self.seen());
        let old = self.credentials();
        let known = self.refused();
        let read = tokio::task::spawn_blocking({
            let (settings, seen, old) = (Arc::clone(&settings), seen.clone(), old);
            move || {
                let now = Seen::of(&settings);
                let mut changed: BTreeSet<PathBuf> = seen.differing(&now).into_iter().collect();
                // What was refused as it is now was told then.
                let again = known.differing(&now);
                changed.retain(|path| again.contains(path) || !known.knows(path));
                let changed: Vec<PathBuf> = changed.into_iter().collect();
                (renew(&settings, &old, &changed), now)
            }
        });
        let Ok((renewal, now)) = read.await else { return };
        let tools = self.tools();
        let metrics = tools.observe.metrics();
        let Renewal { credentials, taken, lines, refused } = renewal;
        if let Some(credentials) = credentials {
            match self.show(credentials) {
                Ok(()) => {
                    for line in lines {
                        tracing::info!(renewed = line, "taken over");
                        metrics.renewed(Reload::Applied);
                    }
                    self.now_seen(&now, &taken);
                }
                Err(finding) => {
                    metrics.renewed(Reload::Refused);
                    tracing::error!(%finding, "a renewal is refused; what was in force stays in force");
                }
            }
        }
        for (paths, findings) in refused {
            metrics.renewed(Reload::Refused);
            for finding in findings {
                tracing::warn!(%finding, "a renewal is refused; what was in force stays in force");
            }
            self.now_refused(&now, &paths);
        }
        metrics.stale(!self.seen().differing(&now).is_empty());
    }
}

/// How often the files are looked at: with all else that is looked at now and then ([`super::ticks`]). Nothing else wakes a gateway that
/// has nothing to do, and row `idle` of `cargo bench --bench load` tells what a wake costs.
const LOOK: Duration = Duration::from_secs(5);

/// How many such looks there are to one at the age of lists.
const AGES: u32 = 2;

/// How many such looks there are to one look-up of the names of backends.
const NAMES: u32 = 3;

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
