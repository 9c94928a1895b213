//! What the files say, and whether a gateway can live by it: one function for `check`, `run` and `reload`.
//!
//! Whatever is an error for one of them is an error for all three. What differs is what follows: `check` tells it, a reload
//! changes nothing, and a start goes on without what is wrong where that is the certificate of one domain among several, so
//! that no restart keeps every domain down for one of them (POL-10 holds for all else).

use std::collections::BTreeSet;
use std::path::Path;

use super::cluster::place;
use super::from_settings::{self, Credentials};
use super::secrets::FromFiles;
use super::{certificates, today, unix_seconds, written};
use crate::config::settings::{Http, Roots, Settings};
use crate::config::{self, Examined, Seen};
use crate::dns::Dnssec;
use crate::jid::Domain;
use crate::policy::{Compiled, Federation, Finding, Place, Policy, REMEMBER};

/// What was read, with everything that is to be said about it.
#[derive(Debug)]
pub struct Reading {
    /// The settings, without what was wrong; none if the file could not be read at all.
    pub settings: Option<Settings>,
    /// Every finding, in the order of the files.
    pub findings: Vec<Finding>,
    /// Cases of policy that were run.
    pub cases: usize,
    /// What is left to live by; none if an error concerns more than the certificate of one domain.
    read: Option<Read>,
}

/// Files that a gateway can live by.
#[derive(Debug)]
pub struct Read {
    /// What `gatehouse.yaml` says.
    pub settings: Settings,
    /// What the files held.
    pub seen: Seen,
    /// Certificates, keys and trust anchors.
    pub credentials: Credentials,
    /// Dialback secrets.
    pub secrets: FromFiles,
    /// The policy, its cases run.
    pub compiled: Compiled,
    /// What is to be looked at, and the errors that are borne.
    pub remarks: Vec<Finding>,
}

impl Reading {
    /// Reads the configuration and every file that it names.
    pub fn of(path: &Path) -> Self {
        Self::examined(config::examine(path))
    }

    /// The same with what is in the shadow in force.
    pub fn of_promoted(path: &Path) -> Self {
        let examined = config::examine(path);
        let mut findings = examined.findings;
        let settings = examined.settings.map(|settings| {
            if !settings.has_shadow() {
                let message = "no domain has a policy in the shadow, so there is nothing to promote";
                let remedy = "name its files, `shadow: [policies/next.yaml]` of a domain, and reload";
                findings.push(Finding::error(Place::whole(&settings.file), message, remedy));
            }
            settings.promoted()
        });
        Self::examined(Examined { settings, findings, ..examined })
    }

    /// The same for settings that are read already, with what was found in them.
    pub fn of_settings(settings: Settings, findings: Vec<Finding>) -> Self {
        Self::examined(Examined {
            settings: Some(settings),
            has_every_domain: true,
            findings,
            spoilt: Vec::new(),
        })
    }

    fn examined(examined: Examined) -> Self {
        let Examined { settings, has_every_domain, mut findings, spoilt } = examined;
        let Some(settings) = settings else {
            return Self { settings: None, findings, cases: 0, read: None };
        };
        let told = findings.len();
        // First: what changes while it is read is then seen to have changed.
        let seen = Seen::of(&settings);
        findings.extend(from_settings::refused(&settings));
        // A policy that names a domain which is left out would be blamed for the configuration's mistake.
        let compiled = has_every_domain.then(|| config::policies(&settings, today()));
        let compiled = compiled.and_then(|outcome| match outcome {
            Ok(compiled) => {
                findings.extend(compiled.warnings.iter().cloned());
                findings.extend(compiled.policy.remarks(SOON));
                if settings.dns.dnssec == Dnssec::Off {
                    findings.extend(compiled.policy.needs_signatures());
                }
                if settings.state.is_none() {
                    findings.extend(compiled.policy.needs_memory());
                    findings.extend(forgetful(&settings));
                }
                // Where files of rules are missing that is what is wrong.
                if !findings.iter().any(config::is_unfound) {
                    findings.extend(compiled.policy.admit_nobody().map(|domain| nobody(&settings, domain)));
                }
                Some(compiled)
            }
            Err(more) => {
                findings.extend(more);
                None
            }
        });
        let shadow = has_every_domain.then(|| config::shadow(&settings, today())).flatten();
        let (compiled, unshadowed) = beside(compiled, shadow, &mut findings);
        if let Some(Compiled { policy, .. }) = &compiled
            && unshadowed.is_empty()
        {
            let both = std::iter::once(policy).chain(policy.shadow());
            let asked: BTreeSet<&str> = both.flat_map(Policy::list_names).collect();
            findings.extend(config::listed::unasked(&settings.lists, &asked));
        }
        let secrets = FromFiles::read(&settings).map_err(|more| findings.extend(more)).ok();
        findings.extend(files(&settings));
        // What the mistakes are is told already, and stays told.
        let mut more = findings.split_off(told);
        config::leave_out(&mut more, &spoilt);
        findings.extend(more);
        let mut whole = !findings.iter().any(Finding::is_error);
        // Nothing of it acts, so a start goes on without it.
        findings.extend(unshadowed);
        // From here on the errors of single domains.
        let now = unix_seconds();
        let mut spoilt = BTreeSet::new();
        for domain in &settings.domains {
            let word = certificates::check_domain(domain, settings.domains.len() == 1, now);
            if word.closes {
                spoilt.insert(domain.name.clone());
            }
            findings.extend(word.findings);
        }
        whole &= spoilt.len() < settings.domains.len();
        let credentials = match Credentials::read(&settings, &spoilt) {
            Ok(credentials) => Some(credentials),
            Err(more) => {
                whole = false;
                findings.extend(more);
                None
            }
        };
        if let Err(finding) = place::store(&settings) {
            whole = false;
            findings.push(finding);
        }
        // What follows from a path that is empty, which is told where it stands, has no place of its own.
        if findings.iter().any(|finding| finding.message == config::NO_PATH) {
            findings.retain(|finding| !finding.place.file.is_empty());
        }
        findings.sort();
        findings.dedup();
        let cases = compiled.as_ref().map_or(0, |compiled| compiled.cases.len());
        let read = match (credentials, secrets, compiled) {
            (Some(credentials), Some(secrets), Some(compiled)) if whole => Some(Read {
                settings: settings.clone(),
                seen,
                credentials,
                secrets,
                compiled,
                remarks: findings.clone(),
            }),
            _ => None,
        };
        Self { settings: Some(settings), findings, cases, read }
    }

    /// Lists that would be held, because they have changed too much since they were in force. A start and a reload tell of that where they
    /// compare them.
    pub fn held_lists(&self) -> Vec<Finding> {
        let known = self.read.as_ref().map(|read| (&read.settings, read.compiled.policy.lists()));
        known.map(|(settings, lists)| super::lists::held(settings, lists)).unwrap_or_default()
    }

    /// What a reload may take over: only what is without an error.
    ///
    /// # Errors
    /// Every error.
    pub fn faultless(self) -> Result<Read, Vec<Finding>> {
        match (self.read, self.findings.iter().any(Finding::is_error)) {
            (Some(read), false) => Ok(read),
            _ => Err(errors(self.findings)),
        }
    }

    /// What a start may live by: errors that concern the certificate of one domain are borne where another one is left.
    ///
    /// # Errors
    /// Every error.
    pub fn bearable(self) -> Result<Read, Vec<Finding>> {
        self.read.ok_or_else(|| errors(self.findings))
    }
}

/// The policy with the one that is in its shadow, of which everything is said as of any other; and what is wrong with that.
fn beside(
    compiled: Option<Compiled>,
    shadow: Option<Result<Compiled, Vec<Finding>>>,
    findings: &mut Vec<Finding>,
) -> (Option<Compiled>, Vec<Finding>) {
    match (compiled, shadow) {
        (Some(compiled), Some(Ok(shadow))) => {
            findings.extend(shadow.warnings);
            findings.extend(shadow.policy.remarks(SOON));
            let policy = compiled.policy.with_shadow(Some(shadow.policy));
            (Some(Compiled { policy, ..compiled }), Vec::new())
        }
        (compiled, Some(Err(wrong))) => (compiled, wrong),
        (compiled, _) => (compiled, Vec::new()),
    }
}

/// The names of domains that are not let in, for lack of a certificate that could be shown.
pub fn closed(settings: &Settings, credentials: &Credentials) -> Vec<Domain> {
    let names = settings.domains.iter().map(|domain| &domain.name);
    names.filter(|name| credentials.certificates.of(name).is_none()).cloned().collect()
}

fn errors(findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().filter(Finding::is_error).collect()
}

/// Domains that put everybody into quarantine, and have it forgotten with each start.
fn forgetful(settings: &Settings) -> impl Iterator<Item = Finding> {
    settings.domains.iter().filter(|domain| domain.federation == Federation::Quarantine).map(|domain| {
        let message = format!(
            "{} puts everybody into quarantine, and who was approved or refused is forgotten at each start",
            domain.name
        );
        Finding::warning(domain.place.clone(), message, REMEMBER)
    })
}

fn nobody(settings: &Settings, domain: &Domain) -> Finding {
    let hosted = settings.domains.iter().find(|hosted| hosted.name == *domain);
    let place = hosted.map_or_else(|| Place::whole(&settings.file), |hosted| hosted.place.clone());
    let message =
        format!("{domain} federates with nobody yet: `federation: listed`, and no rule allows anybody");
    let remedy = "name partners in a file of `policies`, like `rules: [{ name: partners, domains: [partner.example] }]`";
    Finding::warning(place, message, remedy)
}

/// Files that are no domain's own: their permissions, and the folders of what the gateway makes.
fn files(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for domain in &settings.domains {
        findings.extend(permissions(&domain.certificate.key, "private key"));
    }
    let password = settings.cluster.as_ref().and_then(|cluster| cluster.password.as_ref());
    let secrets = [settings.secrets.world.as_ref(), settings.secrets.inside.as_ref(), password];
    for path in secrets.into_iter().flatten() {
        findings.extend(permissions(path, "secret"));
    }
    if settings.trust.roots == Roots::System {
        findings.extend(certificates::check_system_roots(&settings.file));
    }
    if let Some(state) = settings.state.as_ref().filter(|state| !state.is_dir()) {
        let message = format!("the folder {} does not exist", state.display());
        findings.push(Finding::error(whole(state), message, "create it, writable by the gateway"));
    }
    let audit = settings.audit.as_ref().map(|audit| audit.file.as_path());
    let http = settings.admin.http.as_ref().and_then(Http::socket);
    let doors = [settings.admin.socket.as_deref(), http];
    for file in std::iter::once(audit).chain(doors).flatten() {
        findings.extend(folder(file));
    }
    for path in doors.into_iter().flatten() {
        let unfit = super::sockets::unfit(path);
        findings.extend(unfit.map(|(message, remedy)| Finding::error(whole(path), message, remedy)));
    }
    findings.extend(written::twice(settings));
    findings
}

/// The folder of a file that the gateway makes.
fn folder(file: &Path) -> Option<Finding> {
    if let Some(folder) = file.parent()
        && !folder.as_os_str().is_empty()
        && !folder.is_dir()
    {
        let message = format!("the folder {} does not exist", folder.display());
        return Some(Finding::error(whole(file), message, "create it, writable by the gateway"));
    }
    None
}

#[cfg(unix)]
fn permissions(path: &Path, what: &str) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let remedy = "chmod 640, and give it to the gateway's group";
    match mode & 0o027 {
        0 => None,
        excess if excess & 0o007 == 0 => {
            Some(Finding::warning(whole(path), format!("the {what} can be changed by its group"), remedy))
        }
        _ => Some(Finding::warning(
            whole(path),
            format!("the {what} is open to every user of the machine"),
            remedy,
        )),
    }
}

#[cfg(not(unix))]
fn permissions(_: &Path, _: &str) -> Option<Finding> {
    None
}

fn whole(path: &Path) -> Place {
    Place::whole(&path.display().to_string())
}

/// Rules that expire within so many days are told.
const SOON: i64 = 30;
