//! `gatehouse check`: reads what `run` would read and prints every finding, each with what to do.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::certificates;
use super::{Console, Exit, Format};
use crate::config::settings::Roots;
use crate::config::{self, Settings};
use crate::policy::{Finding, Place};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The form of the report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
    domains: usize,
    cases: usize,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let report = check(&args.config);
    match args.format {
        Format::Json => console.json(&report),
        Format::Text => print(&report, &args.config, console),
    }
    if report.errors > 0 { Exit::Config } else { Exit::Done }
}

fn check(path: &Path) -> Report {
    let examined = config::examine(path);
    let mut findings = examined.findings;
    let (mut domains, mut cases) = (0, 0);
    if let Some(settings) = &examined.settings {
        domains = settings.domains.len();
        // A policy that names a domain which is left out would be blamed for the configuration's mistake.
        if examined.has_every_domain {
            match config::policies(settings, super::today()) {
                Ok(compiled) => {
                    cases = compiled.cases.len();
                    findings.extend(compiled.warnings);
                    findings.extend(compiled.policy.remarks(SOON));
                }
                Err(more) => findings.extend(more),
            }
        }
        findings.extend(crate::gateway::parts::refused(settings));
        findings.extend(check_files(settings));
        findings.extend(check_addresses(settings));
    }
    findings.sort();
    findings.dedup();
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    Report { errors, warnings: findings.len() - errors, findings, domains, cases }
}

fn check_files(settings: &Settings) -> Vec<Finding> {
    let now = super::unix_seconds();
    let mut findings = Vec::new();
    for domain in &settings.domains {
        findings.extend(certificates::check_domain(&domain.name, &domain.certificate, now));
        findings.extend(permissions(&domain.certificate.key, "private key"));
    }
    for path in [&settings.secrets.world, &settings.secrets.inside].into_iter().flatten() {
        findings.extend(config::read_secret(path).err());
        findings.extend(permissions(path, "secret"));
    }
    let secrets = [&settings.secrets.world, &settings.secrets.inside]
        .map(|path| path.as_ref().and_then(|path| config::read_secret(path).ok()));
    if let ([Some(world), Some(inside)], Some(path)) = (&secrets, &settings.secrets.inside)
        && world == inside
    {
        findings.push(Finding::error(
            whole(path),
            "both realms have the same secret",
            "make another one: a key made for the one must never verify in the other",
        ));
    }
    if let Roots::Pem(path) = &settings.trust.roots {
        findings.extend(certificates::check_roots(path));
    } else {
        findings.extend(certificates::check_system_roots(&settings.file));
    }
    findings.extend(settings.trust.peers.iter().flat_map(|peer| certificates::check_roots(&peer.roots)));
    findings.extend(settings.trust.crls.iter().flat_map(|path| certificates::check_crl(path)));
    let audit = settings.audit.as_ref().map(|audit| &audit.file);
    for file in [audit, settings.admin.socket.as_ref()].into_iter().flatten() {
        findings.extend(check_folder(file));
    }
    findings
}

/// The folder of a file that the gateway makes.
fn check_folder(file: &Path) -> Option<Finding> {
    if let Some(folder) = file.parent()
        && !folder.as_os_str().is_empty()
        && !folder.is_dir()
    {
        let message = format!("the folder {} does not exist", folder.display());
        return Some(Finding::error(whole(file), message, "create it, writable by the gateway"));
    }
    None
}

/// Addresses that this machine does not have. The port is not tried: a running gateway may hold it.
fn check_addresses(settings: &Settings) -> Vec<Finding> {
    let here = |address: SocketAddr| TcpListener::bind(SocketAddr::new(address.ip(), 0)).is_ok();
    let absent = |address: SocketAddr, place: Place| {
        let message = format!("{} is not an address of this machine", address.ip());
        Finding::warning(place, message, "correct it, unless this is another machine than the gateway's")
    };
    let mut findings = Vec::new();
    for listener in settings.listeners.iter().filter(|listener| !here(listener.address)) {
        findings.push(absent(listener.address, listener.place.clone()));
    }
    let others = [settings.admin.http, settings.steering.as_ref().map(|steering| steering.listen)];
    for address in others.into_iter().flatten().filter(|address| !here(*address)) {
        findings.push(absent(address, Place::whole(&settings.file)));
    }
    findings
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

fn print(report: &Report, path: &Path, console: &mut Console) {
    console.findings(&report.findings);
    if console.is_quiet() {
        return;
    }
    let plural = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let (errors, warnings) = (plural(report.errors, "error"), plural(report.warnings, "warning"));
    let summary =
        if report.findings.is_empty() { "clean".to_owned() } else { format!("{errors}, {warnings}") };
    console.line(format_args!("{}: {}", path.display(), console.mark(&summary, report.errors == 0)));
    if console.is_verbose() {
        let (domains, cases) = (plural(report.domains, "domain"), plural(report.cases, "case"));
        console.line(format_args!("{domains}, {cases} of policy passed"));
    }
}

fn whole(path: &Path) -> Place {
    Place::whole(&path.display().to_string())
}

/// Rules that expire within so many days are told.
const SOON: i64 = 30;
