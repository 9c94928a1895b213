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
mod hosts;
pub mod limits;
pub mod list_file;
pub mod listed;
pub mod listening;
mod lists;
pub mod load;
mod node;
mod promote;
mod secret;
mod seen;
pub mod settings;
pub mod spec;
mod units;
mod watching;
mod ways;
mod words;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

pub use dump::{DumpLine, dump};
pub use limits::{Limits, PerMinute, Timeouts, duration};
pub use promote::{Rewrite, promotion};
pub use secret::{Secret, read_secrets};
pub use seen::{Seen, Trace, traces, trust};
pub use settings::{Settings, looked_up_again};
pub use words::NO_PATH;

use self::settings::HostedDomain;
use crate::jid::Domain;
use crate::policy::{
    self, Compiled, Day, Federation, Finding, HostedSource, Input, PatchFile, PatchSource, PolicyFile, Source,
};

/// Settings that can be run on, and warnings; or every finding.
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
    /// Whether every domain of the file is in the settings.
    pub has_every_domain: bool,
    /// Every finding.
    pub findings: Vec<Finding>,
}

/// Reads a configuration, and goes on after mistakes.
#[allow(clippy::disallowed_methods)] // what `${NAME}` in the file is filled in from
pub fn examine(path: &Path) -> Examined {
    examine_in(path, &|name| std::env::var(name).ok())
}

fn examine_in(path: &Path, environment: fill::Environment<'_>) -> Examined {
    let name = path.display().to_string();
    let unread = |findings| Examined { settings: None, has_every_domain: false, findings };
    let text = match load::read_text(path, &name) {
        Ok(text) => text,
        Err(finding) => return unread(vec![finding]),
    };
    let outside = words::Outside { environment, look_up: &hosts::by_the_system };
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let fill = fill::Fill { environment, folder: &folder };
    let (spec, mut findings) = load::parse_filled::<spec::FileSpec>(&text, &name, &fill);
    if findings.iter().any(|finding| finding.message.starts_with(load::NOT_YAML)) {
        return unread(findings);
    }
    let (included, folders, more) = included(&name, &spec, &outside);
    findings.extend(more);
    let (mut settings, mut more) = assemble::assemble(&name, &spec, &included, &outside);
    leave_out_misspelt(&mut more, &findings);
    findings.extend(more);
    findings.sort();
    settings.beside.extend(folders);
    let specs = std::iter::once(&spec).chain(included.iter().map(|(_, spec)| spec));
    let named: usize = specs.filter_map(|spec| spec.domains.as_ref()).map(|list| list.value.len()).sum();
    Examined { has_every_domain: settings.domains.len() == named, settings: Some(settings), findings }
}

/// A key that is misspelt is not missing as well: whoever wrote what is asked for would have it twice.
fn leave_out_misspelt(missing: &mut Vec<Finding>, misspelt: &[Finding]) {
    for found in misspelt {
        let meant = found.remedy.strip_prefix("did you mean `").and_then(|rest| rest.strip_suffix("`?"));
        let Some(told) = meant.map(|key| format!("`{key}` is missing")) else { continue };
        // It is told where the map begins that the key stands in: of several, at the last one before it.
        let at = |finding: &Finding| (finding.place.line, finding.place.column);
        let here = missing.iter().enumerate().filter(|(_, finding)| {
            finding.message == told && finding.place.file == found.place.file && at(finding) <= at(found)
        });
        if let Some((place, _)) = here.max_by_key(|(_, finding)| at(finding)) {
            missing.remove(place);
        }
    }
}

/// The files that a configuration includes.
fn included(
    name: &str,
    spec: &spec::FileSpec,
    outside: &words::Outside<'_>,
) -> (Vec<lists::Included>, Vec<PathBuf>, Vec<Finding>) {
    let mut words = words::Words::new(name, outside);
    let mut included: Vec<lists::Included> = Vec::new();
    for word in spec.include.iter().flat_map(|list| &list.value) {
        for path in words.paths(word).0 {
            let file = path.display().to_string();
            if included.iter().any(|(other, _)| *other == file) {
                continue;
            }
            let text = match load::read_text(&path, &file) {
                Ok(text) => text,
                Err(finding) => {
                    words.findings.push(finding);
                    continue;
                }
            };
            let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
            let fill = fill::Fill { environment: outside.environment, folder: &folder };
            let (spec, more) = load::parse_filled::<spec::FileSpec>(&text, &file, &fill);
            words.findings.extend(more);
            included.push((file, spec));
        }
    }
    (included, words.folders, words.findings)
}

/// Reads the policy files that the settings name, and makes the policy for `today`, its cases run. Any error is no policy
/// (POL-10).
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
    let mut findings = Vec::new();
    let mut sources = Vec::with_capacity(paths.len());
    let mut hash = digest::Context::new(&digest::SHA256);
    for path in &paths {
        let name = path.display().to_string();
        let (source, more) = policy_file(path, &name, &mut hash);
        sources.push(source);
        findings.extend(more);
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
        let (file, more) = read_file::<PatchFile>(path, &path.display().to_string(), &mut hash);
        patch_sources.push(PatchSource::new(&path.display().to_string(), file));
        findings.extend(more);
    }
    let mut digest = String::with_capacity(64);
    for octet in hash.finish().as_ref() {
        let _ = write!(digest, "{octet:02x}");
    }
    let names: Vec<Domain> = hosted.iter().map(|hosted| hosted.domain.clone()).collect();
    let compiled = policy::compile(&Input { hosted, sources, today, digest });
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
            findings.extend(compiled.err().into_iter().chain(patches.err()).flatten());
            leave_out_unread(&mut findings);
            findings.sort();
            Err(findings)
        }
    }
}

/// A file that could not be read at all lacks nothing: only why it could not be is told of it.
pub fn leave_out_unread(findings: &mut Vec<Finding>) {
    let is_why = |finding: &Finding| {
        ["cannot be read", "is larger", "is not UTF-8", load::NOT_YAML]
            .iter()
            .any(|why| finding.message.starts_with(why))
    };
    let unread: Vec<_> =
        findings.iter().filter(|finding| is_why(finding)).map(|finding| finding.place.file.clone()).collect();
    findings.retain(|finding| is_why(finding) || !unread.contains(&finding.place.file));
}

/// Reads one file of patches by itself, for `policy test`; none if it is no such file.
pub fn patch_source(path: &Path) -> Option<(PatchSource, Vec<Finding>)> {
    let name = path.display().to_string();
    let text = load::read_text(path, &name).ok()?;
    // A policy file has no such key, and a file of patches has it.
    let names_patches = |line: &str| {
        let line = line.trim_start_matches(['{', '"']);
        line.starts_with("patches:") || line.starts_with("patches\":")
    };
    text.lines().any(names_patches).then(|| {
        let (file, findings) = load::parse::<PatchFile>(&text, &name);
        (PatchSource::new(&name, file), findings)
    })
}

/// Reads one policy file by itself, for `policy test`.
pub fn policy_source(path: &Path) -> (Source, Vec<Finding>) {
    let mut hash = digest::Context::new(&digest::SHA256);
    policy_file(path, &path.display().to_string(), &mut hash)
}

fn policy_file(path: &Path, name: &str, hash: &mut digest::Context) -> (Source, Vec<Finding>) {
    let (file, findings) = read_file::<PolicyFile>(path, name, hash);
    (Source::new(name, file), findings)
}

fn read_file<T: serde::de::DeserializeOwned + Default>(
    path: &Path,
    name: &str,
    hash: &mut digest::Context,
) -> (T, Vec<Finding>) {
    match load::read_text(path, name) {
        Ok(text) => {
            hash.update(format!("{name}\0{}\0", text.len()).as_bytes());
            hash.update(text.as_bytes());
            load::parse::<T>(&text, name)
        }
        Err(finding) => (T::default(), vec![finding]),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "listed_tests.rs"]
mod listed_tests;

#[cfg(test)]
#[path = "fill_tests.rs"]
mod fill_tests;

#[cfg(test)]
#[path = "beside_tests.rs"]
mod beside_tests;
