//! `gatehouse check`: reads what `run` would read and prints every finding, each with what to do.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Console, Exit, Format, Reporting};
use crate::config::Settings;
use crate::config::settings::{Callers, Http, Listener};

use crate::gateway::reading::Reading;
use crate::gateway::unbound;
use crate::policy::{Finding, Place};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    report: Reporting,
}

#[derive(Serialize)]
struct Report {
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
    domains: usize,
    cases: usize,
    /// Where several domains are hosted: whose certificate each direct listener shows to who names no server (TLS-16).
    shown: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    listener: SocketAddr,
    domain: String,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let report = check(&args.config);
    match args.report.format {
        Format::Json => console.json(&report),
        Format::Text => print(&report, &args.config, console),
    }
    if report.errors > 0 { Exit::Config } else { Exit::Done }
}

fn check(path: &Path) -> Report {
    let reading = Reading::of(path);
    let held = reading.held_lists();
    let Reading { settings, mut findings, cases, .. } = reading;
    findings.extend(held);
    let domains = settings.as_ref().map_or(0, |settings| settings.domains.len());
    let shown = settings.iter().filter(|settings| settings.domains.len() > 1).flat_map(shown).collect();
    findings.extend(settings.iter().flat_map(check_addresses));
    findings.sort();
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    Report { errors, warnings: findings.len() - errors, findings, domains, cases, shown }
}

fn shown(settings: &Settings) -> impl Iterator<Item = Shown> {
    let shows = |listener: &&Listener| match &listener.role {
        // The proxy in front shows its own.
        Callers::Websocket(web) => !web.at_proxy,
        role => role.is_direct(),
    };
    settings.listeners.iter().filter(shows).filter_map(|listener| {
        let domain = settings.shown_at(listener)?.to_string();
        Some(Shown { listener: listener.address, domain })
    })
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
    let others = [
        settings.admin.http.as_ref().and_then(Http::address),
        settings.steering.as_ref().map(|steering| steering.listen),
    ];
    for address in others.into_iter().flatten().filter(|address| !here(*address)) {
        findings.push(absent(address, Place::whole(&settings.file)));
    }
    // Only where everybody is told no, so that a gateway that runs and holds the port is not blamed.
    let listeners = settings.listeners.iter().map(|listener| (listener.address, listener.place.clone()));
    let others = others.into_iter().flatten().map(|address| (address, Place::whole(&settings.file)));
    for (address, place) in listeners.chain(others).filter(|(address, _)| address.port() < 1024) {
        if let Err(error) = TcpListener::bind(address)
            && error.kind() == std::io::ErrorKind::PermissionDenied
        {
            let Finding { message, remedy, .. } = unbound(place.clone(), address, &error);
            findings.push(Finding::warning(place, format!("this user {message}"), remedy));
        }
    }
    findings
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
    for Shown { listener, domain } in &report.shown {
        console.line(format_args!(
            "{listener}: who names no server is shown the certificate of {domain} (`default` names another)"
        ));
    }
    if console.is_verbose() {
        let (domains, cases) = (plural(report.domains, "domain"), plural(report.cases, "case"));
        console.line(format_args!("{domains}, {cases} of policy passed"));
    }
}
