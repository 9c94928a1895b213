//! What `gatehouse init --server` writes, fed to the real servers of both generations: the server starts from its files, the
//! gateway from its own, a message passes each way, and the server is recognised by its stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::support::ca::{Authority, Usage};
use crate::support::scene::{HOSTED, Peer, remote};
use crate::support::server::{Legacy, Place, Proof, Remote, Server};
use crate::support::unbound::{self, Zone};
use crate::support::world::{Host, Net, Process, World};
use crate::support::write;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gatehouse");
const FRIEND: &str = "friend.example";

/// Runs a command of the gateway on this host, in its folder: what it said, and whether it ended well.
fn command(host: &Host, arguments: &[&str]) -> (String, bool) {
    let mut process = host.spawn("command", PROGRAM, arguments, &[("NO_COLOR", "1")]);
    let status = process.ended(Duration::from_secs(60));
    (process.log(), status.success())
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} does not say {from}", file.display());
    write(file, &text.replace(from, to));
}

/// What the operator does after `init`: the certificate, the first partner, and the anchors and resolver of this small world.
fn complete(folder: &Path, known: &Authority, resolver: Ipv4Addr) {
    let leaf = known.leaf(HOSTED, Usage::Both, &folder.join("pki"));
    assert_eq!(leaf.chain, folder.join("pki").join(format!("{HOSTED}.pem")), "where init looks for it");
    let roots = known.write_root(folder);
    let file = folder.join("gatehouse.yaml");
    let trust =
        format!("trust: {{ roots: \"{}\" }}\ndns: {{ servers: [\"{resolver}:53\"] }}", roots.display());
    edit(&file, "trust: { roots: system }", &trust);
    edit(&file, "[::]:", &format!("{}:", Net::World.address(1)));
    let partners = folder.join("policies/partners.yaml");
    edit(&partners, "rules: []", &format!("rules:\n  - {{ name: partners, domains: [{FRIEND}] }}"));
}

fn run(host: &Host, config: &str) -> Process {
    let mut process = host.spawn("gatehouse", PROGRAM, &["run", "--config", config], &[("NO_COLOR", "1")]);
    let admin = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);
    process.ready("the gateway to be ready", Duration::from_secs(30), || match host.http(admin, "/readyz") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    process
}

fn walk(asked: &str, program: Legacy) {
    // The release belongs to what is asked for, not to the folder.
    let name = asked.split('@').next().unwrap();
    let mut world = World::new();
    let known = Authority::new("An authority that both sides know");
    let resolver = Net::World.address(53);
    let dns_host = world.host("dns", &[(Net::World, 53)], resolver);
    let zones = [
        Zone { domain: HOSTED, address: Some(Net::World.address(1)) },
        Zone { domain: FRIEND, address: Some(Net::World.address(10)) },
    ];
    let _dns = unbound::start(&dns_host, resolver, &zones);
    let door = world.host("gateway", &[(Net::World, 1), (Net::Inside, 1)], resolver);
    let home = world.host("legacy", &[(Net::Inside, 10)], Net::Inside.address(1));
    let outside = world.host("friend", &[(Net::World, 10)], resolver);
    let backend = Net::Inside.address(10);

    // The lines, by name: the server is not there yet.
    let folder = door.directory().join("gate");
    let dir = folder.display().to_string();
    let address = backend.to_string();
    let init = ["init", "--domain", HOSTED, "--backend", &address, "--clients", &address];
    let (said, well) = command(&door, &[&init[..], &["--dir", &dir, "--server", asked]].concat());
    assert!(well && said.contains(&format!("server-{name}")), "{said}");
    complete(&folder, &known, resolver);
    let config = folder.join("gatehouse.yaml").display().to_string();
    let (said, well) = command(&door, &["check", "--config", &config]);
    assert!(well, "{said}");

    let mut gateway = run(&door, &config);
    let place = Place { host: &home, address: backend, domain: HOSTED, user: "warden" };
    let server = Server::legacy_of(program, &place, &folder.join(format!("server-{name}")));
    let peer = Peer { program: Remote::Prosody, proof: Proof::Either, domain: FRIEND };
    let friend = remote(&outside, Net::World.address(10), &peer, &known, Usage::Both);

    let (mut inside, mut guest) = (server.login(), friend.login());
    let id = guest.message(inside.jid(), "in");
    inside.expect_message(guest.jid(), &id);
    let id = inside.message(guest.jid(), "and out");
    guest.expect_message(inside.jid(), &id);

    let (said, well) = command(&door, &["probe", "--backend", HOSTED, "--config", &config]);
    assert!(well, "{said}");
    let log = gateway.log();
    assert!(!log.contains("ERROR") && !log.contains("asks-elsewhere"), "{log}");

    // Recognised by its stream, or its release by it: the same lines once more.
    for (again, server) in [("again", vec!["--server"]), ("named", vec!["--server", name])] {
        let again = door.directory().join(again);
        let dir = again.display().to_string();
        let (said, well) = command(&door, &[&init[..], &["--dir", &dir], &server].concat());
        assert!(well && again.join(format!("server-{name}")).exists(), "{said}");
        assert!(!said.contains("nothing shows which release") && !said.contains("does not show"), "{said}");
        for file in fs::read_dir(again.join(format!("server-{name}"))).unwrap().flatten() {
            let first = folder.join(format!("server-{name}")).join(file.file_name());
            // Only a secret made at random differs.
            let lines = |path: &Path| -> Vec<String> {
                let text = fs::read_to_string(path).unwrap();
                text.lines()
                    .filter(|line| !line.to_lowercase().contains("secret"))
                    .map(str::to_owned)
                    .collect()
            };
            let (once, twice) = (lines(&first), lines(&file.path()));
            assert_eq!(once.len(), twice.len());
            assert!(name == "jabberd2" || once == twice, "{once:?} {twice:?}");
        }
    }
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.ended(Duration::from_secs(30)).success(), "{}", gateway.log());
}

macro_rules! servers {
    ($($test:ident: $name:literal, $program:ident;)*) => {
        $(#[test]
        fn $test() {
            walk($name, Legacy::$program);
        })*
    };
}

servers! {
    ejabberd_23_starts_from_what_init_writes: "ejabberd@23.01", Ejabberd;
    ejabberd_24_starts_from_what_init_writes: "ejabberd@24.12", Ejabberd24;
    jabberd2_of_12_starts_from_what_init_writes: "jabberd2", Jabberd2;
    jabberd2_of_13_starts_from_what_init_writes: "jabberd2", Jabberd2Of13;
    prosody_0_12_starts_from_what_init_writes: "prosody", Prosody;
    prosody_13_starts_from_what_init_writes: "prosody", Prosody13;
}
