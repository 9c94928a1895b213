//! Prosody, from Debian's package, in the foreground.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::release::Release;
use super::server::{PASSWORD, Place, Proof, SECOND, Tls};
use super::world::{Net, Process};
use super::{fill, make_dir, write};

/// As a plain legacy server, from `deploy/prosody/prosody.cfg.lua`.
pub fn legacy(release: Release, place: &Place<'_>) -> Vec<Process> {
    legacy_with(release, place, &[])
}

/// The same, with words of the file replaced.
pub fn legacy_with(release: Release, place: &Place<'_>, replace: &[(&str, &str)]) -> Vec<Process> {
    let gateway = Net::Inside.address(1).to_string();
    start(release, place, "deploy/prosody/prosody.cfg.lua", &[("GATEWAY", &gateway)], replace)
}

/// As a remote server by dialback that serves these domains as well, each with the same accounts.
pub fn remote_of_many(
    release: Release,
    place: &Place<'_>,
    tls: &Tls<'_>,
    domains: &[String],
) -> Vec<Process> {
    let data = make_dir(&place.host.directory().join("data"));
    for domain in domains {
        account(&data, &Place { domain, ..*place });
    }
    let last = format!("VirtualHost \"{}\"", place.domain);
    let all = domains.iter().fold(last.clone(), |all, domain| format!("{all}\nVirtualHost \"{domain}\""));
    // Not every word of all of them: the log would cost more than the talk.
    let quiet = ("log = { debug", "log = { info");
    let mut processes = remote_with(release, place, tls, &[(&last, &all), quiet]);
    let log = place.host.directory().join("prosody.log");
    // The ports are open before the domains are.
    processes[0].ready("all domains to be there", Duration::from_secs(120), || {
        let log = fs::read_to_string(&log).map_err(|e| e.to_string())?;
        let there = |domain: &String| log.lines().any(|line| line.starts_with(&format!("{domain}:tls")));
        domains.iter().all(there).then_some(()).ok_or_else(|| "not yet".to_owned())
    });
    processes
}

/// As a remote server.
pub fn remote(release: Release, place: &Place<'_>, tls: &Tls<'_>) -> Vec<Process> {
    remote_with(release, place, tls, &[])
}

/// As a remote server that counts stanzas (XEP-0198), towards those whom it calls and for those who call it.
pub fn remote_that_counts(release: Release, place: &Place<'_>, tls: &Tls<'_>) -> Vec<Process> {
    let words = "\"smacks\", \"offline\"";
    remote_with(
        release,
        place,
        tls,
        &[("\"offline\"", words), ("authentication =", "smacks_enabled_s2s = true\nauthentication =")],
    )
}

/// The same, with words of the file replaced.
pub fn remote_with(
    release: Release,
    place: &Place<'_>,
    tls: &Tls<'_>,
    replace: &[(&str, &str)],
) -> Vec<Process> {
    let (dialback, secure) = match tls.proof {
        Proof::Dialback | Proof::Either => ("\"dialback\"", "false"),
        Proof::External => ("", "true"),
    };
    let values = [
        ("DIALBACK", dialback),
        ("SECURE_AUTH", secure),
        ("CHAIN", &tls.leaf.chain.to_string_lossy()),
        ("KEY", &tls.leaf.key.to_string_lossy()),
        ("ROOTS", tls.roots),
    ];
    start(release, place, "tests/support/remote/prosody.cfg.lua", &values, replace)
}

fn start(
    release: Release,
    place: &Place<'_>,
    template: &str,
    more: &[(&str, &str)],
    replace: &[(&str, &str)],
) -> Vec<Process> {
    let host = place.host;
    let data = make_dir(&host.directory().join("data"));
    let path = host.directory().join("prosody.cfg.lua");
    let (address, run) = (place.address.to_string(), host.directory().to_string_lossy());
    let data_path = data.to_string_lossy();
    let common = [("DOMAIN", place.domain), ("ADDRESS", &address), ("RUN", &run), ("DATA", &data_path)];
    fill(template, &[&common, more].concat(), &path);
    for (from, to) in replace {
        let text = fs::read_to_string(&path).expect("just written");
        assert!(text.contains(from), "{template} does not say {from}");
        write(&path, &text.replace(from, to));
    }
    started(release, place, &path)
}

/// As a plain legacy server, from the file that `gatehouse init --server prosody` has written for it.
pub fn legacy_of(release: Release, place: &Place<'_>, written: &Path) -> Vec<Process> {
    let directory = place.host.directory();
    let data = make_dir(&directory.join("data"));
    let path = directory.join("prosody.cfg.lua");
    let text = fs::read_to_string(written.join("prosody.cfg.lua")).expect("init has written it");
    let moved =
        [("/var/lib/prosody", &*data.to_string_lossy()), ("/run/prosody", &directory.to_string_lossy())];
    write(&path, &super::moved(text, &moved));
    started(release, place, &path)
}

fn started(release: Release, place: &Place<'_>, path: &Path) -> Vec<Process> {
    let host = place.host;
    let data = host.directory().join("data");
    // The tests run as root for their namespaces; in service Prosody has a user of its own and refuses this.
    let text = fs::read_to_string(path).expect("just written");
    write(path, &format!("run_as_root = true\n{text}"));
    account(&data, place);
    let path = path.to_string_lossy();
    let arguments = ["-F", "--config", &path];
    let mut process = host.spawn_of(release, "prosody", "prosody", &arguments, &[]);
    for port in [5222, 5269] {
        process.listening(host, SocketAddr::new(IpAddr::V4(place.address), port), Duration::from_secs(20));
    }
    vec![process]
}

/// Accounts are files, named by the domain with everything but letters and digits as `%xx`.
fn account(data: &Path, place: &Place<'_>) {
    let escaped: String = place
        .domain
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") })
        .collect();
    let accounts: PathBuf = make_dir(&data.join(escaped).join("accounts"));
    let text = format!("return {{ [\"password\"] = \"{PASSWORD}\"; }};\n");
    for user in [place.user, SECOND] {
        write(&accounts.join(format!("{user}.dat")), &text);
    }
}
