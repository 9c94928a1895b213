//! ejabberd, from Debian's package, as a plain Erlang program without distribution.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::server::{PASSWORD, Place, Proof, SECOND, Tls};
use super::world::Process;
use super::{fill, make_dir, repository};

/// As a plain legacy server, from `deploy/ejabberd/`.
pub fn legacy(place: &Place<'_>) -> Vec<Process> {
    start(place, "deploy/ejabberd/ejabberd.yml", &[])
}

/// The same, with words of the file replaced.
pub fn legacy_with(place: &Place<'_>, replace: &[(&str, &str)]) -> Vec<Process> {
    start_edited(place, "deploy/ejabberd/ejabberd.yml", &[], replace)
}

/// As a remote server.
pub fn remote(place: &Place<'_>, tls: &Tls<'_>) -> Vec<Process> {
    let dialback = match tls.proof {
        Proof::Dialback | Proof::Either => "  mod_s2s_dialback: {}",
        Proof::External => "",
    };
    let values = [
        ("DIALBACK", dialback),
        ("CHAIN", &tls.leaf.chain.to_string_lossy()),
        ("KEY", &tls.leaf.key.to_string_lossy()),
        ("ROOTS", tls.roots),
    ];
    start(place, "tests/support/remote/ejabberd.yml", &values)
}

fn start(place: &Place<'_>, template: &str, more: &[(&str, &str)]) -> Vec<Process> {
    start_edited(place, template, more, &[])
}

fn start_edited(
    place: &Place<'_>,
    template: &str,
    more: &[(&str, &str)],
    replace: &[(&str, &str)],
) -> Vec<Process> {
    let host = place.host;
    let path = host.directory().join("ejabberd.yml");
    let address = place.address.to_string();
    fill(template, &[&[("DOMAIN", place.domain), ("ADDRESS", &address)], more].concat(), &path);
    for (from, to) in replace {
        let text = fs::read_to_string(&path).expect("just written");
        assert!(text.contains(from), "{template} does not say {from}");
        super::write(&path, &text.replace(from, to));
    }
    let spool = make_dir(&host.directory().join("mnesia"));
    let spool = format!("\"{}\"", spool.display());
    // `-s` and `-eval` run in the order given, so the account is there before the ports are waited for to no purpose.
    let account = format!(
        "[ok = ejabberd_auth:try_register(User, <<\"{}\">>, <<\"{PASSWORD}\">>) || User <- [<<\"{}\">>, <<\"{SECOND}\">>]].",
        place.domain, place.user
    );
    let arguments = [
        ["-noinput", "-mnesia", "dir", &spool].as_slice(),
        // One scheduler that sleeps when idle: several servers share two cores here.
        &[
            "+S",
            "1:1",
            "+SDio",
            "1",
            "+sbwt",
            "none",
            "-boot",
            "start_clean",
            "-s",
            "ejabberd",
            "-eval",
            &account,
        ],
    ]
    .concat();
    let libraries = library();
    let environment = [
        ("ERL_LIBS", &*libraries.to_string_lossy()),
        ("ERL_INETRC", &repository("deploy/ejabberd/inetrc").to_string_lossy()),
        ("EJABBERD_CONFIG_PATH", &path.to_string_lossy()),
        ("EJABBERD_LOG_PATH", &host.directory().join("ejabberd.file.log").to_string_lossy()),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut process = host.spawn("ejabberd", "erl", &arguments, &environment);
    for port in [5222, 5269] {
        process.listening(host, SocketAddr::new(IpAddr::V4(place.address), port), Duration::from_secs(60));
    }
    vec![process]
}

/// The folder that holds the package's library: `/usr/lib/MACHINE/` with an `ejabberd-VERSION` in it.
fn library() -> PathBuf {
    let machines = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let holds = |path: &PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("ejabberd-"))
    };
    machines.into_iter().find(holds).expect("ejabberd is installed: tests/run sees to it")
}
