//! The configuration: `gatehouse.yaml` and the policy files it names.
//!
//! Promises settings that are complete and valid, or every finding at once with file, line, column and remedy. Leaves to the
//! caller what else a run needs to be true on this machine: certificates, secrets and permissions; see `cli/check`. Nothing
//! here reads a clock; the day that policy is to be judged on is an argument.

mod agree;
mod assemble;
mod backends;
mod clients;
mod cluster;
mod dump;
mod fill;
mod hosting;
mod hosts;
pub mod limits;
pub mod list_file;
pub mod listed;
pub mod listening;
pub mod load;
mod node;
mod promote;
mod scalars;
mod secret;
mod seen;
pub mod settings;
pub mod spec;
mod spoilt;
mod units;
mod watching;
mod ways;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;

pub use agree::overlap;
pub use dump::{DumpLine, dump};
pub use limits::{Limits, PerMinute, Timeouts, duration};
pub use promote::{Rewrite, promotion};
pub use scalars::{NO_PATH, is_unfound};
pub use secret::{Secret, read_secrets};
pub use seen::{Seen, Trace, files, traces, trust};
pub use settings::{Settings, looked_up_again};
pub use spoilt::{Spoilt, leave_out};

use self::settings::HostedDomain;
use crate::jid::Domain;
use crate::policy::{
    self, Compiled, Day, Federation, Finding, HostedSource, PatchFile, PatchSource, Place, PolicyFile,
    Severity, Source, Sources,
};

/// Settings that can be run on, and warnings; or every finding.
///
/// # Errors
/// Every finding, if one of them is an error.
pub fn load(path: &Path) -> Result<(Settings, Vec<Finding>), Vec<Finding>> {
    let examined = examine(path);
    match examined.settings {
        Some(settings) if !examined.findings.iter().any(Finding::is_error) => {
            Ok((settings, examined.findings))
        }
        _ => Err(examined.findings),
    }
}

/// What could be read of a configuration, for reports only.
#[derive(Debug)]
pub struct Examined {
    /// The settings, without what was wrong; none if the file could not be read at all.
    pub settings: Option<Settings>,
    /// Whether every domain and every list of the file is in the settings.
    pub has_every_domain: bool,
    /// Every finding.
    pub findings: Vec<Finding>,
    /// What could not be read.
    pub spoilt: Vec<Spoilt>,
}

/// Reads a configuration, and goes on after mistakes.
#[allow(clippy::disallowed_methods)] // what `${NAME}` in the file is filled in from
pub fn examine(path: &Path) -> Examined {
    examine_in(path, &|name| std::env::var(name).ok())
}

fn examine_in(path: &Path, environment: fill::Environment<'_>) -> Examined {
    let name = path.display().to_string();
    let unread =
        |findings| Examined { settings: None, has_every_domain: false, findings, spoilt: Vec::new() };
    let text = match load::read_text(path, &name) {
        Ok(text) => text,
        Err(finding) => return unread(vec![finding]),
    };
    let machine = scalars::Machine { environment, look_up: &hosts::by_the_system };
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let fill = fill::Fill { environment, folder: &folder };
    let (spec, mut findings, mut spoilt) = load::parse_filled::<spec::FileSpec>(&text, &name, &fill);
    if spoilt.iter().any(Spoilt::is_file) {
        return unread(findings);
    }
    let (included, folders, more) = included(&name, &spec, &machine, &mut spoilt);
    findings.extend(more);
    let (mut settings, mut more) = assemble::assemble(&name, &spec, &included, &machine);
    leave_out(&mut more, &spoilt);
    let specs = || std::iter::once(&spec).chain(included.iter().map(|(_, spec)| spec));
    let domains: usize = specs().filter_map(|spec| spec.domains.as_ref()).map(|list| list.value.len()).sum();
    let listeners: usize = specs().filter_map(|spec| spec.listen.as_ref()).map(|list| list.value.len()).sum();
    let lists = spec.lists.as_ref().map_or(0, |list| list.value.len());
    let of = Arc::from(name.as_str());
    let known = |keys: &[&str], list: Option<Place>| {
        !spoilt.iter().any(|spoilt| spoilt.concerns(keys, list.as_ref()))
    };
    let has_all_domains = settings.domains.len() == domains
        && known(&["domains", "include", "name"], spec.domains.as_ref().map(|at| at.place(&of)));
    let has_all_listeners = (listeners == 0 || settings.listeners.len() == listeners)
        && known(&["listen", "include"], spec.listen.as_ref().map(|at| at.place(&of)));
    let has_all_lists =
        settings.lists.len() == lists && known(&["lists"], spec.lists.as_ref().map(|at| at.place(&of)));
    // What is not there because of another mistake is not blamed on whoever names it.
    let follows = |finding: &Finding| {
        let (message, none) = (finding.message.as_str(), settings.domains.is_empty());
        (message.ends_with(NOT_SERVED) && (none || !has_all_domains))
            || (message == hosting::NO_DOMAIN && !has_all_domains)
            || (message.starts_with(NOT_INSIDE) && !has_all_listeners)
            || message.contains(backends::NOT_LET_IN)
    };
    let (following, others): (Vec<_>, Vec<_>) = more.into_iter().partition(follows);
    findings.extend(others);
    // With nothing that it follows from it is the mistake itself.
    if !findings.iter().any(Finding::is_error) {
        findings.extend(following);
    }
    findings.sort();
    settings.beside.extend(folders);
    let has_every_domain = has_all_domains && has_all_lists && known(&["federation", "policies"], None);
    Examined { has_every_domain, settings: Some(settings), findings, spoilt }
}

/// How it ends what is said of a name that is no domain of ours.
const NOT_SERVED: &str = "is not one of `domains`";

/// How it begins what is said of an address that no inside listener has.
const NOT_INSIDE: &str = "no inside listener";

/// The files that a configuration includes.
fn included(
    name: &str,
    spec: &spec::FileSpec,
    machine: &scalars::Machine<'_>,
    spoilt: &mut Vec<Spoilt>,
) -> (Vec<hosting::Included>, Vec<PathBuf>, Vec<Finding>) {
    let mut reader = scalars::ScalarReader::new(name, machine);
    let mut included: Vec<hosting::Included> = Vec::new();
    for word in spec.include.iter().flat_map(|list| &list.value) {
        let before = reader.findings.len();
        let paths = reader.paths(word).0;
        if reader.findings.iter().skip(before).any(Finding::is_error) {
            spoilt.push(Spoilt::key(name, "include"));
        }
        for path in paths {
            let file = path.display().to_string();
            if included.iter().any(|(other, _)| *other == file) {
                continue;
            }
            let text = match load::read_text(&path, &file) {
                Ok(text) => text,
                Err(finding) => {
                    reader.findings.push(finding);
                    spoilt.push(Spoilt::file(&file));
                    continue;
                }
            };
            let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
            let fill = fill::Fill { environment: machine.environment, folder: &folder };
            let (spec, more, unknown) = load::parse_filled::<spec::FileSpec>(&text, &file, &fill);
            reader.findings.extend(more);
            spoilt.extend(unknown);
            included.push((file, spec));
        }
    }
    // Files that are not there yet are no mistake, unless all domains should come from them.
    if spec.domains.is_none() && included.iter().all(|(_, spec)| spec.domains.is_none()) {
        for finding in reader.findings.iter_mut().filter(|finding| is_unfound(finding)) {
            finding.severity = Severity::Error;
            spoilt.push(Spoilt::key(name, "include"));
        }
    }
    (included, reader.folders, reader.findings)
}

/// Reads the policy files that the settings name, and makes the policy for `today`, its cases run. Any error is no policy
/// (POL-10).
///
/// # Errors
/// Every finding, if one of them is an error.
pub fn policies(settings: &Settings, today: Day) -> Result<Compiled, Vec<Finding>> {
    compiled(settings, today, |domain| (&domain.policies, domain.federation))
}

/// The same for the policy in the shadow, where any domain has one: what the others live by is judged there, too.
pub fn shadow(settings: &Settings, today: Day) -> Option<Result<Compiled, Vec<Finding>>> {
    fn own(domain: &HostedDomain) -> (&[PathBuf], Federation) {
        (&domain.policies, domain.federation)
    }
    settings
        .has_shadow()
        .then(|| compiled(settings, today, |domain| domain.shadowed().unwrap_or_else(|| own(domain))))
}

/// Of each domain these files and this federation.
fn compiled<'a>(
    settings: &'a Settings,
    today: Day,
    lives_by: impl Fn(&'a HostedDomain) -> (&'a [PathBuf], Federation),
) -> Result<Compiled, Vec<Finding>> {
    let mut paths: Vec<&PathBuf> = settings.domains.iter().flat_map(|domain| lives_by(domain).0).collect();
    paths.sort();
    paths.dedup();
    let (mut findings, mut spoilt) = (Vec::new(), Vec::new());
    let mut sources = Vec::with_capacity(paths.len());
    let mut hash = digest::Context::new(&digest::SHA256);
    for path in &paths {
        let name = path.display().to_string();
        let (file, more, unknown) = read_file::<PolicyFile>(path, &name, &mut hash);
        sources.push(Source::new(&name, file));
        findings.extend(more);
        spoilt.extend(unknown);
    }
    let hosted: Vec<HostedSource> = settings
        .domains
        .iter()
        .map(|domain| {
            let (policies, federation) = lives_by(domain);
            hash.update(format!("{}\0{}\0", domain.name, federation.label()).as_bytes());
            HostedSource {
                domain: domain.name.clone(),
                federation,
                sources: policies.iter().filter_map(|path| paths.iter().position(|p| *p == path)).collect(),
                place: domain.place.clone(),
            }
        })
        .collect();
    let mut patch_sources = Vec::with_capacity(settings.patches.len());
    for path in &settings.patches {
        let (file, more, unknown) = read_file::<PatchFile>(path, &path.display().to_string(), &mut hash);
        patch_sources.push(PatchSource::new(&path.display().to_string(), file));
        findings.extend(more);
        spoilt.extend(unknown);
    }
    let mut digest = String::with_capacity(64);
    for octet in hash.finish().as_ref() {
        let _ = write!(digest, "{octet:02x}");
    }
    let names: Vec<Domain> = hosted.iter().map(|hosted| hosted.domain.clone()).collect();
    // What is wrong in a file leaves out rules, and with them cases fail: only what else is wrong is looked for.
    let broken = findings.iter().any(Finding::is_error);
    if broken {
        sources.iter_mut().for_each(|source: &mut Source| source.file.expect.clear());
        patch_sources.iter_mut().for_each(|source: &mut PatchSource| source.file.expect.clear());
    }
    let compiled = policy::compile(&Sources { hosted, sources, today, digest });
    let patches = policy::compile_patches(&patch_sources, Some(&names), today);
    match (compiled, patches) {
        (Ok(mut compiled), Ok((patches, cases, warnings))) if findings.is_empty() => {
            let names: Vec<String> = settings.lists.iter().map(|list| list.name.clone()).collect();
            let unknown = compiled.policy.unknown_lists(&names);
            if !unknown.is_empty() {
                return Err(unknown);
            }
            let lists = listed::read(&settings.lists);
            compiled.warnings.extend(listed::warnings(&settings.lists, &lists));
            compiled.policy = compiled.policy.with_patches(patches).with_lists(lists);
            compiled.cases.extend(cases);
            compiled.warnings.extend(warnings);
            Ok(compiled)
        }
        (compiled, patches) => {
            let mut more: Vec<Finding> = compiled.err().into_iter().chain(patches.err()).flatten().collect();
            leave_out(&mut more, &spoilt);
            findings.extend(more);
            findings.sort();
            Err(findings)
        }
    }
}

/// Reads one file of patches by itself, for `policy test`; none if it is no such file.
pub fn patch_source(path: &Path) -> Option<(PatchSource, Vec<Finding>, Vec<Spoilt>)> {
    let name = path.display().to_string();
    let text = load::read_text(path, &name).ok()?;
    // A policy file has no such key, and a file of patches has it.
    let names_patches = |line: &str| {
        let line = line.trim_start_matches(['{', '"']);
        line.starts_with("patches:") || line.starts_with("patches\":")
    };
    text.lines().any(names_patches).then(|| {
        let (file, findings, spoilt) = load::parse_in_full::<PatchFile>(&text, &name);
        (PatchSource::new(&name, file), findings, spoilt)
    })
}

/// Reads one policy file by itself, for `policy test`; and what is not known for what is wrong.
pub fn policy_source(path: &Path) -> (Source, Vec<Finding>, Vec<Spoilt>) {
    let mut hash = digest::Context::new(&digest::SHA256);
    let name = path.display().to_string();
    let (file, findings, spoilt) = read_file::<PolicyFile>(path, &name, &mut hash);
    (Source::new(&name, file), findings, spoilt)
}

fn read_file<T: serde::de::DeserializeOwned + Default>(
    path: &Path,
    name: &str,
    hash: &mut digest::Context,
) -> (T, Vec<Finding>, Vec<Spoilt>) {
    match load::read_text(path, name) {
        Ok(text) => {
            hash.update(format!("{name}\0{}\0", text.len()).as_bytes());
            hash.update(text.as_bytes());
            load::parse_in_full::<T>(&text, name)
        }
        Err(finding) => (T::default(), vec![finding], vec![Spoilt::file(name)]),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "clients_tests.rs"]
mod clients_tests;

#[cfg(test)]
#[path = "listed_tests.rs"]
mod listed_tests;

#[cfg(test)]
#[path = "fill_tests.rs"]
mod fill_tests;

#[cfg(test)]
#[path = "beside_tests.rs"]
mod beside_tests;
