//! The built gateway between the two networks, configured as an operator would.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::ca::{Leaf, private};
use super::world::{Host, Net, Process};
use super::{make_dir, write};

/// One hosted domain and the legacy server behind it.
pub struct Hosted<'a> {
    /// The domain.
    pub domain: &'a str,
    /// The certificate shown for it.
    pub leaf: &'a Leaf,
    /// The legacy server's address on the inside network.
    pub backend: Ipv4Addr,
    /// `any`, `listed` or `none`.
    pub federation: &'a str,
    /// The PROXY header towards the legacy server, and what else `backend:` may hold.
    pub backend_more: &'a str,
    /// More keys of the domain, a line each.
    pub more: &'a str,
}

/// What a gateway is started with.
pub struct Setup<'a> {
    /// The domains it serves.
    pub hosted: &'a [Hosted<'a>],
    /// The PEM file of authorities it believes.
    pub roots: &'a Path,
    /// The DNS server on the open network.
    pub dns: Ipv4Addr,
    /// The one policy file of all domains.
    pub policy: &'a str,
    /// More lines of the configuration.
    pub more: &'a str,
}

/// Where a gateway stands among others of its kind.
pub struct Stand<'a> {
    /// The last number of its addresses.
    pub last: u8,
    /// The files of its dialback secrets: world, inside.
    pub secrets: [&'a str; 2],
    /// More of its environment.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Default for Stand<'_> {
    fn default() -> Self {
        Self { last: 1, secrets: SECRETS, environment: &[] }
    }
}

/// A running gateway.
pub struct Gateway {
    process: Process,
    host: Host,
    audit: PathBuf,
    environment: Vec<(String, String)>,
}

impl Gateway {
    /// Writes the configuration and starts `gatehouse run`; returns when `/readyz` answers 200.
    pub fn start(host: &Host, setup: &Setup<'_>) -> Self {
        Self::start_at(host, setup, &Stand::default())
    }

    /// The same, somewhere.
    pub fn start_at(host: &Host, setup: &Setup<'_>, stand: &Stand<'_>) -> Self {
        let directory = host.directory();
        let secrets = make_dir(&directory.join("secrets"));
        for (name, text) in ["world", "inside"].into_iter().zip(stand.secrets) {
            write(&secrets.join(name), text);
            private(&secrets.join(name));
        }
        make_dir(&directory.join("policies"));
        write(&directory.join("policies/policy.yaml"), setup.policy);
        let audit = directory.join("audit.jsonl");
        let configuration = directory.join("gatehouse.yaml");
        write(&configuration, &yaml(setup, directory, stand));
        let words = [&[("NO_COLOR", "1")], stand.environment].concat();
        let environment: Vec<(String, String)> =
            words.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let process = launch(host, &environment);
        Self { process, host: host.clone(), audit, environment }
    }

    /// Starts it once more, as it was, after its end.
    pub fn again(&mut self) {
        self.process = launch(&self.host, &self.environment);
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Replaces words of one of its files, all of which stand there; the next reload reads it.
    pub fn rewrite(&self, file: &str, replace: &[(&str, &str)]) {
        let path = self.host.directory().join(file);
        let mut text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for (from, to) in replace {
            assert!(text.contains(from), "{} does not say {from}", path.display());
            text = text.replace(from, to);
        }
        write(&path, &text);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        let _status = self.process.ended(Duration::from_secs(60));
    }

    /// Pulls its plugs, or puts them in again.
    pub fn plug(&self, up: bool) {
        [Net::World, Net::Inside].into_iter().for_each(|net| self.host.plug(net, up));
    }

    /// What an address of the admin listener answers, which must be 200.
    pub fn admin(&self, path: &str) -> String {
        let (status, body) = self.host.http(ADMIN, path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The sum of a counter over all series that carry these labels. A family without such a series counts 0.
    pub fn metric(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(family, labels).iter().sum()
    }

    /// The values of all series of a family that carry these labels.
    pub fn series(&self, family: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        series(&self.admin("/metrics"), family, labels)
    }

    /// All lines of a metrics family, for the message of a failed test.
    pub fn family(&self, family: &str) -> String {
        self.admin("/metrics").lines().filter(|line| line.starts_with(family)).collect::<Vec<_>>().join("\n")
    }

    /// Asks the gateway to drain and waits for its end; then every stream has its audit record.
    pub fn drain(&mut self) -> Vec<serde_json::Value> {
        self.process.signal(Signal::TERM);
        let status = self.process.ended(Duration::from_secs(30));
        assert!(status.success(), "the drained gateway ended with {status}");
        self.audit()
    }

    /// The audit records so far.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text =
            fs::read_to_string(&self.audit).unwrap_or_else(|e| panic!("{}: {e}", self.audit.display()));
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("audit record {line}: {e}"));
        text.lines().map(parse).collect()
    }

    /// Runs another command of the gateway on its host, with its configuration: the exit code, and what it said.
    pub fn command(&self, label: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let configuration = self.host.directory().join("gatehouse.yaml");
        let configuration = configuration.to_string_lossy();
        let arguments = [arguments, &["--config", &configuration]].concat();
        let mut process =
            self.host.spawn(label, env!("CARGO_BIN_EXE_gatehouse"), &arguments, &[("NO_COLOR", "1")]);
        let status = process.ended(Duration::from_secs(30));
        (status.code(), process.log())
    }

    /// The authorities that its certificates come from, as a PEM file.
    pub fn roots(&self) -> PathBuf {
        self.host.directory().join("roots.pem")
    }

    /// Its own connections that stand to the port for servers of the one behind it.
    pub fn calls(&self) -> usize {
        let table = self.host.within(|| fs::read_to_string("/proc/thread-self/net/tcp"));
        let table = table.expect("the kernel tells");
        // Remote address and state, both in hexadecimal; the octets of the address the other way round.
        let inside = format!("{:08X}:1495", u32::from_ne_bytes(Net::Inside.address(10).octets()));
        let stands = |line: &&str| {
            let mut fields = line.split_whitespace().skip(2);
            fields.next() == Some(inside.as_str()) && fields.next() == Some("01")
        };
        table.lines().filter(stands).count()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Starts the program on its files, and waits until it is ready.
fn launch(host: &Host, environment: &[(String, String)]) -> Process {
    let configuration = host.directory().join("gatehouse.yaml");
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let arguments = ["run", "--config", &configuration.to_string_lossy()];
    let mut process = host.spawn("gatehouse", env!("CARGO_BIN_EXE_gatehouse"), &arguments, &environment);
    process.ready("/readyz of the gateway to answer 200", Duration::from_secs(20), || {
        match host.http(ADMIN, "/readyz") {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(format!("{status} {body}")),
            Err(e) => Err(e.to_string()),
        }
    });
    process
}

/// The values of all series of a family that carry these labels.
fn series(exposition: &str, family: &str, labels: &[(&str, &str)]) -> Vec<f64> {
    let carries = |line: &str| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")));
    exposition
        .lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(family) && carries(line))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect()
}

fn yaml(setup: &Setup<'_>, directory: &Path, stand: &Stand<'_>) -> String {
    let (world, inside) = (Net::World.address(stand.last), Net::Inside.address(stand.last));
    let mut text = format!(
        "version: v1\n\
         listen:\n  \
           - {{ flow: s2s, address: \"{world}:5269\" }}\n  \
           - {{ flow: s2s, address: \"{world}:5270\", tls: direct }}\n  \
           - {{ flow: c2s, address: \"{world}:5222\" }}\n  \
           - {{ flow: c2s, address: \"{world}:5223\", tls: direct }}\n  \
           - {{ flow: mixed, address: \"{world}:443\", tls: direct }}\n  \
           - {{ flow: mixed, address: \"{world}:8443\", tls: any, path: /xmpp-websocket, origins: [\"http://127.0.0.1:8080\"] }}\n  \
           - {{ flow: websocket, address: \"{world}:5443\", origins: [\"http://127.0.0.1:8080\"] }}\n  \
           - {{ flow: c2s, address: \"{world}:15222\", proxy-protocol: [192.0.2.40/32] }}\n  \
           - {{ flow: inside, address: \"{inside}:5269\", from: [198.51.100.0/24] }}\n\
         dialback: {{ secrets: {{ world: secrets/world, inside: secrets/inside }} }}\n\
         trust: {{ roots: \"{}\" }}\n\
         dns: {{ servers: [\"{}:53\"] }}\n\
         steering: {{ listen: \"{inside}:53\", from: [198.51.100.0/24], answer: {inside} }}\n\
         admin: {{ http: \"{ADMIN}\", socket: control.sock }}\n\
         log: {{ format: text, level: debug }}\n\
         audit: {{ file: \"{}\" }}\n\
         {}\
         domains:\n",
        setup.roots.display(),
        setup.dns,
        directory.join("audit.jsonl").display(),
        setup.more,
    );
    for Hosted { domain, leaf, backend, federation, backend_more, more } in setup.hosted {
        let _ = write!(
            text,
            "  - name: {domain}\n    certificate: {{ chain: \"{}\", key: \"{}\" }}\n    \
             backend: {{ c2s: [\"{NOBODY}:5222\", \"{backend}:5222\"], s2s: [\"{backend}:5269\"]{backend_more} }}\n    federation: {federation}\n    policies: [policies/policy.yaml]\n{more}",
            leaf.chain.display(),
            leaf.key.display(),
        );
    }
    text
}

/// An address of the inside network that no host has a server at: the gateway's own.
const NOBODY: &str = "198.51.100.1";

/// 256 bits each, as 64 hexadecimal digits.
pub const SECRETS: [&str; 2] = [
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
];

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);
