//! ejabberd, from Debian's package, as a plain Erlang program without distribution.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::release::Release;
use super::server::{PASSWORD, Place, Proof, SECOND, Tls};
use super::world::Process;
use super::{fill, make_dir, repository};

/// As a plain legacy server, from `deploy/ejabberd/`.
pub fn legacy(release: Release, place: &Place<'_>) -> Vec<Process> {
    legacy_with(release, place, &[])
}

/// The same, with words of the file replaced.
pub fn legacy_with(release: Release, place: &Place<'_>, replace: &[(&str, &str)]) -> Vec<Process> {
    let newer: &[(&str, &str)] = match release {
        Release::Bookworm => &[],
        // What the file says to do.
        Release::Trixie => &[("#24 ", "")],
    };
    start_edited(release, place, "deploy/ejabberd/ejabberd.yml", &[], &[newer, replace].concat())
}

/// As a remote server.
pub fn remote(release: Release, place: &Place<'_>, tls: &Tls<'_>) -> Vec<Process> {
    remote_with(release, place, tls, &[])
}

/// The same, with words of the file replaced.
pub fn remote_with(
    release: Release,
    place: &Place<'_>,
    tls: &Tls<'_>,
    replace: &[(&str, &str)],
) -> Vec<Process> {
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
    start_edited(release, place, "tests/support/remote/ejabberd.yml", &values, replace)
}

fn start_edited(
    release: Release,
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
    let inetrc = host.directory().join("inetrc");
    fs::copy(repository("deploy/ejabberd/inetrc"), &inetrc).expect("the shipped file is there");
    started(release, place, &path)
}

/// As a plain legacy server, from the files that `gatehouse init --server ejabberd` has written for it.
pub fn legacy_of(release: Release, place: &Place<'_>, written: &Path) -> Vec<Process> {
    let directory = place.host.directory();
    let path = directory.join("ejabberd.yml");
    fs::copy(written.join("ejabberd.yml"), &path).expect("init has written it");
    fs::copy(written.join("inetrc"), directory.join("inetrc")).expect("init has written it");
    started(release, place, &path)
}

fn started(release: Release, place: &Place<'_>, path: &Path) -> Vec<Process> {
    let host = place.host;
    let spool = make_dir(&host.directory().join("mnesia"));
    let spool = format!("\"{}\"", spool.display());
    // `-s` and `-eval` run in the order given, so the account is there before the ports are waited for to no purpose.
    let account = format!(
        // It may be started again.
        "[case ejabberd_auth:try_register(User, <<\"{}\">>, <<\"{PASSWORD}\">>) of ok -> ok; {{error, exists}} -> ok end || \
         User <- [<<\"{}\">>, <<\"{SECOND}\">>]].",
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
    let libraries = library(release);
    let inetrc = host.directory().join("inetrc");
    let environment = [
        ("ERL_LIBS", &*libraries.to_string_lossy()),
        ("ERL_INETRC", &inetrc.to_string_lossy()),
        ("EJABBERD_CONFIG_PATH", &path.to_string_lossy()),
        ("EJABBERD_LOG_PATH", &host.directory().join("ejabberd.file.log").to_string_lossy()),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut process = host.spawn_of(release, "ejabberd", "erl", &arguments, &environment);
    let [clients, servers] = [5222, 5269].map(|port| SocketAddr::new(IpAddr::V4(place.address), port));
    process.listening(host, servers, Duration::from_secs(60));
    process.answering(host, (place.domain, clients), Duration::from_secs(60));
    vec![process]
}

/// The folder that holds the package's library, as the release sees it: `/usr/lib/MACHINE/` with an `ejabberd-VERSION` in it.
fn library(release: Release) -> PathBuf {
    let root = release.root();
    let machines =
        fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten().map(|entry| entry.path());
    let holds = |path: &PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("ejabberd-"))
    };
    let found = machines.into_iter().find(holds).expect("ejabberd is there: tests/run sees to it");
    Path::new("/").join(found.strip_prefix(&root).expect("a path below the root"))
}
