//! `gatehouse init`: writes a first configuration that admits nobody, asks the backend whether it is there, and tells the
//! next steps.
//!
//! Never overwrites: if one of its files is there already, nothing is written at all. A backend that does not answer is told
//! and is no reason to stop; it may be set up later.

mod backend;
mod server;

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use self::backend::{Greeted, Side, Wanted, greet, server, which};
use self::server::Edition;
use super::{Console, Exit};
use crate::jid::Domain;
use crate::run::checkup::ServerSoftware;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: gatehouse init --domain example.com --backend 10.0.0.5 --dir /etc/gatehouse"
)]
pub(super) struct Args {
    /// The domain to serve
    #[arg(long, value_name = "DOMAIN", value_parser = |text: &str| Domain::parse(text))]
    domain: Domain,
    /// The server behind the gateway: its address, with its port for federation if that is not 5269
    #[arg(long, value_name = "ADDRESS", value_parser = |text: &str| backend(text, 5269, 25269))]
    backend: SocketAddr,
    /// Serve clients too: where the server takes them, with its port if that is not 5222
    #[arg(long, value_name = "ADDRESS", value_parser = |text: &str| backend(text, 5222, 25222))]
    clients: Option<SocketAddr>,
    /// Write beside the configuration what belongs into that server, with the addresses filled in: ejabberd (of a release:
    /// ejabberd@23.01, ejabberd@24.12), jabberd2, mongooseim, openfire, prosody, tigase or wildfire; without a name or release it
    /// is recognised by its stream
    #[arg(long, value_name = "SERVER", num_args = 0..=1, default_missing_value = "", value_parser = server)]
    server: Option<Wanted>,
    /// Where to write; made if it is not there
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let Some(own) = own_address(args.backend.ip()) else {
        console.complain(format_args!("error: this machine has no way to {}", args.backend.ip()));
        return Exit::No;
    };
    let server = args.server.and_then(|wanted| which(wanted, args, console));
    let plan = Plan { domain: &args.domain, backend: args.backend, clients: args.clients, own, server };
    let files = match plan.files() {
        Ok(files) => files,
        Err(error) => {
            console.complain(format_args!("error: no randomness for secrets: {error}"));
            return Exit::Fault;
        }
    };
    let there: Vec<&File> = files.iter().filter(|file| args.dir.join(&file.name).exists()).collect();
    if !there.is_empty() {
        for file in there {
            let path = args.dir.join(&file.name);
            console.complain(format_args!("error: {} is there already", path.display()));
        }
        console.complain("nothing was written; name another folder with --dir, or move these away");
        return Exit::No;
    }
    if let Err((path, error)) = write(&args.dir, &files) {
        console.complain(format_args!("error: {} cannot be written: {error}", path.display()));
        return Exit::No;
    }
    if !console.is_quiet() {
        for file in &files {
            console.line(format_args!("wrote {}", args.dir.join(&file.name).display()));
        }
    }
    tell(&plan, Side::Servers, args.backend, console);
    if let Some(clients) = args.clients {
        tell(&plan, Side::Clients, clients, console);
    }
    if !console.is_quiet() {
        console.print(next(&args.dir, &plan));
    }
    Exit::Done
}

/// Asks the backend, and says what came of it.
fn tell(plan: &Plan<'_>, side: Side, address: SocketAddr, console: &mut Console) {
    let (domain, whom, port) = (plan.domain, side.whom(), side.port());
    match greet(address, domain, side) {
        Greeted::Answers if console.is_quiet() => {}
        Greeted::Answers => console.line(format_args!("the backend at {address} answers {whom}")),
        Greeted::Mute => console.complain(format_args!(
            "warning: {address} takes connections and answers no stream for {domain}; is it the {port} port of the backend, in clear?"
        )),
        Greeted::Absent(error) => console.complain(format_args!(
            "warning: the backend at {address} does not answer {whom}: {error}"
        )),
    }
}

struct Plan<'a> {
    domain: &'a Domain,
    backend: SocketAddr,
    clients: Option<SocketAddr>,
    own: IpAddr,
    /// Whose lines are written beside the configuration.
    server: Option<(ServerSoftware, Edition)>,
}

struct File {
    name: PathBuf,
    text: String,
    secret: bool,
}

impl Plan<'_> {
    fn files(&self) -> Result<Vec<File>, getrandom::Error> {
        let open = |name: &str, text| File { name: PathBuf::from(name), text, secret: false };
        let secret = |name: &str| Ok(File { name: PathBuf::from(name), text: random()?, secret: true });
        let mut files = vec![
            open("gatehouse.yaml", self.configuration()),
            open("policies/partners.yaml", self.policy()),
            secret("secrets/world")?,
            secret("secrets/inside")?,
        ];
        if let Some((server, edition)) = self.server {
            let word = random()?;
            let plain: String = word.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
            let lines = server::files(server, edition, &self.known(&plain));
            files.extend(lines.into_iter().map(|(name, text)| File {
                name: name.into(),
                text,
                secret: true,
            }));
        }
        Ok(files)
    }

    fn known<'a>(&'a self, secret: &'a str) -> server::Known<'a> {
        let (inside, steering) = (self.inside(), self.steering());
        server::Known {
            domain: self.domain,
            backend: self.backend.ip(),
            gateway: self.own,
            inside,
            steering,
            ports: (self.clients.map_or(5222, |clients| clients.port()), self.backend.port()),
            secret,
        }
    }

    fn inside(&self) -> SocketAddr {
        SocketAddr::new(self.own, 15269)
    }

    /// Resolvers of other machines ask port 53; on this machine that port is often taken.
    fn steering(&self) -> SocketAddr {
        SocketAddr::new(self.own, if self.own.is_loopback() { 15353 } else { 53 })
    }

    fn configuration(&self) -> String {
        let Plan { domain, backend, own, .. } = self;
        let (inside, steering) = (self.inside(), self.steering());
        let from = IpNet::from(backend.ip());
        // Without clients the lines stand there as comments: what to add is then seen, and where.
        let (mark, clients) = match self.clients {
            Some(clients) => ("", clients),
            None => ("# ", SocketAddr::new(backend.ip(), if own.is_loopback() { 25222 } else { 5222 })),
        };
        format!(
            r#"# Gatehouse for {domain}, written by `gatehouse init`. Paths are relative to this file.
# `gatehouse check --config gatehouse.yaml` reads it as `gatehouse run` will, and tells what is missing.
version: v1

listen:
  # The world: other servers, with STARTTLS and with TLS from the first octet.
  - {{ flow: s2s, address: "[::]:5269" }}
  - {{ flow: s2s, address: "[::]:5270", tls: direct }}
  # Clients, likewise; with `c2s:` below.
  {mark}- {{ flow: c2s, address: "[::]:5222" }}
  {mark}- {{ flow: c2s, address: "[::]:5223", tls: direct }}
  # The backend's way out, in clear. Nobody but the backend may connect here.
  - {{ flow: inside, address: "{inside}", from: ["{from}"] }}

domains:
  - name: "{domain}"
    # The certificate with its issuers, and its key (mode 600, or 640 where the gateway's group reads it). Both are watched: what is
    # renewed there is taken over by itself.
    certificate: {{ chain: "pki/{domain}.pem", key: "pki/{domain}.key" }}
    backend:
      # Where the old server takes federation, in clear. Let it accept that from the gateway alone.
      s2s: ["{backend}"]
      # Where it takes clients, in clear. It decides every login, as before.
      {mark}c2s: ["{clients}"]
      # A key that came from the backend's address is the backend's own; `verify` asks it back.
      dialback-keys: by-address
    # `listed`: only whom a rule names. `any`: all whom no rule denies. `none`: nobody.
    federation: listed
    policies: [policies/partners.yaml]

# One secret for each side, both made at random. Nodes that serve the same domain share them.
dialback: {{ secrets: {{ world: secrets/world, inside: secrets/inside }} }}

# Whose certificates are believed: the system's trust anchors, or a PEM file.
trust: {{ roots: system }}

# A resolver for the backend alone: it answers every domain with the inside listener, so that the backend's federation
# comes here. Let the backend's machine ask it.
steering: {{ listen: "{steering}", from: ["{from}"], answer: "{own}" }}

# Metrics and health for this machine: /metrics, /readyz, /healthz, /policy.
# Under gatehouse.service add `socket: /run/gatehouse/control.sock`, for `gatehouse reload`, `streams`, `ban`.
admin: {{ http: "127.0.0.1:9469" }}

log: {{ format: text, level: info }}
# audit: {{ file: /var/log/gatehouse/audit.jsonl }}
"#
        )
    }

    fn policy(&self) -> String {
        let domain = self.domain;
        format!(
            r#"# Whom {domain} federates with: nobody yet. A partner is let in by a rule like this one:
#
#   - name: partners
#     domains: [partner.example, "*.agency.example"]
#     identity: [certificate]
#     owner: who asked for it
#
# `gatehouse policy explain --config gatehouse.yaml --from partner.example --to {domain}` tells what becomes of whom.
version: v1
rules: []

# Cases that must come out as told; every load runs them, and one that fails keeps the old policy in force.
expect:
  - {{ from: stranger.invalid, to: "{domain}", verdict: deny, reason: not-listed }}
"#
        )
    }
}

fn next(dir: &Path, plan: &Plan<'_>) -> String {
    let domain = plan.domain;
    let config = dir.join("gatehouse.yaml");
    let mut text = String::from("\nNext:\n");
    let mut steps = vec![
        format!(
            "put the certificate of {domain} at {}, its key beside it as {domain}.key",
            dir.join("pki").join(format!("{domain}.pem")).display()
        ),
        format!("gatehouse check --config {}", config.display()),
        format!("name the first partner in {}", dir.join("policies/partners.yaml").display()),
        format!(
            "let the backend send its federation here: let it resolve names at {}, or route it to {}",
            plan.steering(),
            plan.inside()
        ),
        format!("gatehouse run --config {}", config.display()),
        format!("in the public DNS: _xmpp-server._tcp.{domain}. SRV 0 0 5269 and the name of this machine"),
    ];
    if let Some((server, _)) = plan.server {
        steps.insert(3, server::step(server, &plan.known("")));
    }
    if plan.clients.is_some() {
        let probe = format!("gatehouse probe --c2s {domain} --config {}", config.display());
        steps.insert(2, format!("{probe}, which tells whether clients can log in at the backend"));
        steps.push(format!("and _xmpp-client._tcp.{domain}. SRV 0 0 5222 likewise"));
    }
    for (number, step) in steps.iter().enumerate() {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "  {}. {step}", number.saturating_add(1));
    }
    text
}

/// An address as it is typed: the port may be left out. `elsewhere` is what to take where the port is the gateway's own.
fn backend(text: &str, standard: u16, elsewhere: u16) -> Result<SocketAddr, String> {
    let plain = text.trim_start_matches('[').trim_end_matches(']');
    let (address, written) = match (text.parse::<SocketAddr>(), plain.parse::<IpAddr>()) {
        (Ok(address), _) => (address, true),
        (_, Ok(ip)) => (SocketAddr::new(ip, standard), false),
        _ => return Err(format!("write it like 10.0.0.5 or 10.0.0.5:{standard}")),
    };
    let ip = address.ip().to_canonical();
    if ip.is_unspecified() || ip.is_multicast() || address.port() == 0 {
        return Err(format!("nobody can be reached at {address}"));
    }
    if ip.is_loopback() && !written {
        return Err(format!(
            "on this machine port {standard} is for the gateway: move the server to another, and write it like {}",
            SocketAddr::new(ip, elsewhere)
        ));
    }
    Ok(address)
}

/// Our own address on the way to the backend. Nothing is sent: the kernel only looks up the route.
fn own_address(backend: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if backend.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((backend, 5269)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// 384 random bits in base64, on a line.
fn random() -> Result<String, getrandom::Error> {
    let mut octets = [0u8; 48];
    getrandom::fill(&mut octets)?;
    Ok(STANDARD.encode(octets) + "\n")
}

fn write(dir: &Path, files: &[File]) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    fs::create_dir_all(dir).map_err(at(dir))?;
    for file in files {
        let folder = dir.join(&file.name);
        if let Some(folder) = folder.parent().filter(|folder| !folder.ends_with("secrets")) {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
    }
    for folder in ["pki", "secrets"].map(|name| dir.join(name)) {
        closed_folder(&folder).map_err(at(&folder))?;
    }
    for file in files {
        let path = dir.join(&file.name);
        let mut options = OpenOptions::new();
        // A file that came meanwhile is not ours to replace.
        options.write(true).create_new(true);
        if file.secret {
            for_us_alone(&mut options);
        }
        options.open(&path).and_then(|mut open| open.write_all(file.text.as_bytes())).map_err(at(&path))?;
    }
    Ok(())
}

/// A folder that only we may enter; one that is there stays as it is.
fn closed_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// From the first octet on, not by a change afterwards.
fn for_us_alone(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _unchanged = options;
}
