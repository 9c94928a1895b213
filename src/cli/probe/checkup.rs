//! `gatehouse probe --backend DOMAIN`: whether the server behind answers where the gateway looks for it, and if not, what to
//! change there. It opens a stream on each side, as the running gateway does now and then, and closes it.

use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use super::super::{Console, Exit, Format, control, once, served};
use crate::gateway::doctor;
use crate::gateway::protocol::{Answer, Request};
use crate::jid::Domain;
use crate::reason::Flow;

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    domain: String,
    sides: Vec<Side>,
    /// What the running gateway knows besides.
    running: Option<String>,
    well: bool,
}

/// One address of one side.
#[derive(Debug, Serialize)]
struct Side {
    flow: &'static str,
    address: SocketAddr,
    server: Option<&'static str>,
    trouble: Option<String>,
    /// What is to be said of one that is well all the same.
    remark: Option<String>,
}

pub(super) fn main(file: &Path, domain: &Domain, format: Format, console: &mut Console) -> Exit {
    let Some(settings) = served::settings(file, console) else { return Exit::Config };
    let Some(hosted) = served::hosted(&settings, domain, console) else { return Exit::Config };
    let looking = async {
        let mut sides = Vec::new();
        for flow in [Flow::S2sIn, Flow::C2s] {
            let seen = doctor::look(&settings, hosted, flow).await;
            sides.extend(seen.iter().map(|seen| Side {
                flow: flow.label(),
                address: seen.address,
                server: seen.server.map(|server| server.name()),
                trouble: seen.trouble(flow),
                remark: seen.remark(flow),
            }));
        }
        sides
    };
    let sides = match once::look(looking, console) {
        Ok(sides) => sides,
        Err(exit) => return exit,
    };
    let well = sides.iter().all(|side| side.trouble.is_none());
    let running = settings.admin.socket.as_deref().and_then(|socket| {
        let answer = control::talk(socket, &Request::Status { page: 1, cluster: false }).ok()?;
        let Answer::Status { snapshot } = answer else { return None };
        let backend = snapshot.backends.into_iter().find(|backend| {
            backend.domain == hosted.name.to_string() && backend.flow == Flow::S2sIn.label()
        })?;
        backend.note
    });
    let report = Report { domain: domain.to_string(), sides, running, well };
    match format {
        Format::Json => console.json(&report),
        Format::Text => print(&report, console),
    }
    if report.well { Exit::Done } else { Exit::No }
}

fn print(report: &Report, console: &mut Console) {
    for side in &report.sides {
        let server = side.server.map(|server| format!(" ({server})")).unwrap_or_default();
        let words = side.trouble.as_deref().unwrap_or("answers");
        console.line(format_args!("{:<8}{}{server}  {words}", side.flow, side.address));
        if let Some(remark) = &side.remark {
            console.line(format_args!("{:<8}{remark}", ""));
        }
    }
    if let Some(note) = &report.running {
        console.line(format_args!("running {note}"));
    }
    let words =
        if report.well { "answers where the gateway looks for it" } else { "does not answer everywhere" };
    console.line(format_args!("result  {}", console.mark(words, report.well)));
}
