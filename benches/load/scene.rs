//! What is measured, and what it stands on: certificates, the sink, HAProxy and the built gateway as processes.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::sink::{self, Doors};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// HAProxy: TLS to plain TCP.
    Haproxy,
    /// The gateway.
    Ours,
    /// Another build of it.
    Other,
}

/// The kind of key that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// ECDSA with P-256.
    Ecdsa,
    /// RSA of 2048 bits.
    Rsa,
}

/// How the gateway is to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Its key.
    pub key: Key,
    /// Worker threads.
    pub threads: usize,
    /// Policy rules; none: everybody may federate.
    pub rules: usize,
    /// Entries of lists that a rule asks, half domains and half digests of addresses. None of them is a peer's.
    pub entries: usize,
    /// Patches, each for a namespace of its own that nobody sends.
    pub patches: usize,
    /// Whether another policy is judged beside it.
    pub shadow: bool,
    /// Addresses of the server behind: from one of ours to one of its only so many connections have a port.
    pub backends: u8,
    /// Whether its limits are as shipped: where honest traffic would meet them.
    pub as_shipped: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            key: Key::Ecdsa,
            threads: 1,
            rules: 0,
            entries: 0,
            patches: 0,
            shadow: false,
            backends: 1,
            as_shipped: false,
        }
    }
}

/// Certificates and the sink; both last as long as the bench.
pub struct Scene {
    /// Where everything lies.
    pub folder: tempfile::TempDir,
    /// Where the sink listens.
    pub doors: Doors,
    /// The gateway's program.
    pub gateway: PathBuf,
    /// The program of another build.
    pub other: PathBuf,
    /// How many were started.
    started: AtomicUsize,
}

/// A process that ends with its owner.
pub struct Process(Child);

impl Process {
    /// Its id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// A process that takes TLS, and where.
pub struct Subject {
    /// The process.
    pub process: Process,
    /// Clients, TLS from the first octet.
    pub c2s: SocketAddr,
    /// Servers, TLS from the first octet.
    pub s2s: SocketAddr,
    /// Clients over WebSocket, where it takes them.
    pub web: SocketAddr,
    /// The control socket of the gateway.
    pub control: PathBuf,
    /// The file of its rules, and one with others that a reload puts in its place.
    rules: PathBuf,
    others: PathBuf,
    /// How long it took to listen.
    pub started: Duration,
}

impl Scene {
    /// Writes the certificates and starts the sink.
    pub fn set(gateway: PathBuf, other: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        certificates(folder.path());
        Self { folder, doors: sink::start(), gateway, other, started: AtomicUsize::new(0) }
    }

    /// Starts one or the other.
    pub fn start(&self, who: Who, run: Run) -> Subject {
        let [c2s, s2s, web] = free();
        // Two may run beside each other.
        let nth = self.started.fetch_add(1, Ordering::Relaxed);
        let own = |name: &str, ending: &str| self.path(&format!("{name}-{nth}.{ending}"));
        let (control, rules_file, others) =
            (own("control", "sock"), own("rules", "yaml"), own("others", "yaml"));
        let begun = Instant::now();
        let mut command = match who {
            Who::Haproxy => {
                fs::write(self.path("haproxy.cfg"), self.haproxy(run, c2s, s2s)).expect("written");
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f"]).arg(self.path("haproxy.cfg"));
                command
            }
            Who::Ours | Who::Other => {
                let config = own("gatehouse", "yaml");
                fs::write(&config, self.gatehouse(run, nth, c2s, s2s, web)).expect("written");
                fs::write(&rules_file, rules(run, "first")).expect("written");
                fs::write(&others, rules(run, "second")).expect("written");
                fs::write(own("next", "yaml"), rules(Run { rules: 10, ..Run::default() }, "next"))
                    .expect("written");
                fs::write(own("domains", "txt"), domains(run.entries / 2)).expect("written");
                fs::write(own("digests", "txt"), digests(run.entries / 2)).expect("written");
                fs::write(own("patches", "yaml"), patches(run.patches)).expect("written");
                let program = if who == Who::Ours { &self.gateway } else { &self.other };
                let mut command = Command::new(program);
                command.args(["run", "--config"]).arg(config);
                command
            }
        };
        let log_file = own("log", "txt");
        let log = fs::File::create(&log_file).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{who:?} does not start: {e}"));
        while TcpStream::connect(c2s).is_err() || TcpStream::connect(s2s).is_err() {
            if child.try_wait().expect("a child").is_some() || begun.elapsed() > super::PATIENCE {
                panic!("{who:?} does not listen: {}", fs::read_to_string(&log_file).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let started = begun.elapsed();
        Subject { process: Process(child), c2s, s2s, web, control, rules: rules_file, others, started }
    }

    /// Reloads with the other rules, each of which is then new; how long that took. They were written when it was started: whoever
    /// measures what others notice of a reload would measure the writing.
    pub fn reload(&self, subject: &Subject) -> Duration {
        let before = self.path("replaced.yaml");
        for (from, to) in
            [(&subject.rules, &before), (&subject.others, &subject.rules), (&before, &subject.others)]
        {
            fs::rename(from, to).expect("a file");
        }
        let begun = Instant::now();
        let mut command = Command::new(&self.gateway);
        let output = command.args(["reload", "--socket"]).arg(&subject.control).output();
        let output = output.expect("the command starts");
        assert!(output.status.success(), "no reload: {}", String::from_utf8_lossy(&output.stderr));
        begun.elapsed()
    }

    /// A TLS client; `proven`: with the certificate of the peer. One suite and one curve, so that both sides do the same.
    pub fn client(&self, proven: bool, resuming: bool) -> Arc<ClientConfig> {
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(self.path("root.pem")).expect("a file") {
            roots.add(root.expect("a certificate")).expect("a root");
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = if proven {
            let chain = CertificateDer::pem_file_iter(self.path("peer.pem")).expect("a file");
            let chain = chain.map(|c| c.expect("a certificate")).collect();
            let key = PrivateKeyDer::from_pem_file(self.path("peer.key")).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        } else {
            builder.with_no_client_auth()
        };
        if !resuming {
            config.resumption = rustls::client::Resumption::disabled();
        }
        Arc::new(config)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn haproxy(&self, run: Run, c2s: SocketAddr, s2s: SocketAddr) -> String {
        let (at, Doors { c2s: clients, external, .. }) = (self.folder.path().display(), self.doors);
        let name = name(run.key);
        format!(
            "global\n  nbthread {}\n  maxconn {}\n\
             \x20 ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n  ssl-default-bind-options ssl-min-ver TLSv1.2\n\
             defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
             frontend clients\n  bind {c2s} ssl crt {at}/{name}.both\n  default_backend clients\n\
             backend clients\n  server sink {clients}\n\
             frontend servers\n  bind {s2s} ssl crt {at}/{name}.both ca-file {at}/root.pem verify required\n  default_backend servers\n\
             backend servers\n  server sink {external}\n",
            run.threads,
            // Two files for each connection, and some for itself.
            (super::meter::open_files() - 100) / 2,
        )
    }

    /// Every limit holds and is counted; none is so low that what floods meets it.
    fn gatehouse(&self, run: Run, nth: usize, c2s: SocketAddr, s2s: SocketAddr, web: SocketAddr) -> String {
        let Doors { c2s: clients, dialback, .. } = self.doors;
        let port = clients.port();
        let clients: Vec<_> = (1..=run.backends).map(|nth| format!("\"{}\"", sink::at(nth, port))).collect();
        let clients = clients.join(", ");
        let name = name(run.key);
        let limits = if run.as_shipped { "" } else { OUT_OF_THE_WAY };
        let federation = match run.rules {
            0 => "any".to_owned(),
            _ => format!("listed\n    policies: [rules-{nth}.yaml]"),
        };
        let shadow = if run.shadow {
            format!("\n    shadow: [next-{nth}.yaml]\n    shadow-federation: listed")
        } else {
            String::new()
        };
        let lists = if run.entries > 0 {
            format!(
                "lists:\n  - {{ name: domains, file: domains-{nth}.txt }}\n  - \
                 {{ name: digests, file: digests-{nth}.txt, format: jid-sha256 }}\n"
            )
        } else {
            String::new()
        };
        let patches =
            if run.patches > 0 { format!("patches: [patches-{nth}.yaml]\n") } else { String::new() };
        format!(
            "version: v1\n\
             threads: {}\n\
             listen:\n  - {{ flow: c2s, address: \"{c2s}\", tls: direct }}\n  - {{ flow: s2s, address: \"{s2s}\", tls: direct }}\n  - \
             {{ flow: websocket, address: \"{web}\" }}\n\
             domains:\n  - name: montague.example\n    certificate: {{ chain: {name}.pem, key: {name}.key }}\n    \
             backend: {{ c2s: [{clients}], s2s: [\"{dialback}\"] }}\n    federation: {federation}{shadow}\n\
             trust: {{ roots: root.pem }}\n\
             admin: {{ socket: control-{nth}.sock }}\n\
             {lists}{patches}{limits}\
             timeouts: {{ first-byte: 1m }}\n\
             log: {{ level: warn }}\n",
            run.threads,
        )
    }
}

/// No work that floods meets a limit.
const OUT_OF_THE_WAY: &str = "limits:\n  conn-c2s: 100000\n  conn-s2s: 100000\n  conn-total: 500000\n  conn-unproven: 100000\n  \
    memory-unproven: 64GiB\n  rate: 60000/min\n  tls-handshakes: 100000/s\n  stream-stanzas: 1000000/s\n  \
    stream-octets: 1GiB/s\n  domain-stanzas: 1000000/s\n  domain-octets: 1GiB/s\n  \
    pair-stanzas: 1000000/s\n  pair-octets: 1GiB/s\n  pairs: 1000\n  sender-stanzas: 600000/min\n  \
    queue-stanzas: 100000\n";

/// So many rules; one of them lets the peer in, and one asks the lists, where there are any.
fn rules(run: Run, owner: &str) -> String {
    let mut text = format!(
        "version: v1\nrules:\n  - {{ name: peer, owner: {owner}, domains: [capulet.example], verdict: allow }}\n"
    );
    if run.entries > 0 {
        text += "  - { name: on-lists, verdict: deny, lists: [domains, digests] }\n";
    }
    for n in 1..run.rules {
        let verdict = if n % 3 == 0 { "deny" } else { "allow" };
        let _infallible = writeln!(
            text,
            "  - {{ name: r{n}, domains: [\"d{n}.example\", \"*.w{n}.example\"], verdict: {verdict} }}"
        );
    }
    text
}

/// So many domains, one a line.
fn domains(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        let _infallible = writeln!(text, "s{n}.example");
        text
    })
}

/// So many digests, one a line: of nobody's address.
fn digests(count: usize) -> String {
    (0..count as u64).fold(String::new(), |mut text, n| {
        // Spread as digests are, so that none is near another.
        let word = |salt: u64| (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ salt;
        let _infallible =
            writeln!(text, "{:016x}{:016x}{:016x}{:016x}", word(n), word(!n), word(n << 7), word(3));
        text
    })
}

/// So many patches.
fn patches(count: usize) -> String {
    (0..count).fold(String::from("version: v1\npatches:\n"), |mut text, n| {
        let _infallible = writeln!(
            text,
            "  - {{ name: p{n}, reason: it loops on these, action: deny, payload: \"urn:example:{n}\", \
             when: [{{ element: field, depth: 2, count: 1000 }}] }}"
        );
        text
    })
}

fn name(key: Key) -> &'static str {
    match key {
        Key::Ecdsa => "ecdsa",
        Key::Rsa => "rsa",
    }
}

/// Addresses that are free now, no two of them the same. No other process uses this IP address, so that they stay free until
/// they are taken.
fn free<const N: usize>() -> [SocketAddr; N] {
    let [.., high, low] = std::process::id().to_be_bytes();
    let taken: [TcpListener; N] = std::array::from_fn(|_| {
        TcpListener::bind(SocketAddr::from(([127, 9, high, low], 0))).expect("a free port")
    });
    taken.map(|listener| listener.local_addr().expect("a listener"))
}

fn certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("a root").pem();
    let issuer = Issuer::new(params, key);
    fs::write(folder.join("root.pem"), &root).expect("written");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    let made = || KeyPair::generate().expect("a key");
    for (name, domain, key) in [
        ("ecdsa", "montague.example", made()),
        ("rsa", "montague.example", rsa),
        ("peer", "capulet.example", made()),
    ] {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::DnsName(domain.try_into().expect("a name")));
        let all = format!("*.{domain}");
        params.subject_alt_names.push(SanType::DnsName(all.as_str().try_into().expect("a name")));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain = params.signed_by(&key, &issuer).expect("a leaf").pem();
        let key = key.serialize_pem();
        fs::write(folder.join(format!("{name}.pem")), &chain).expect("written");
        fs::write(folder.join(format!("{name}.key")), &key).expect("written");
        fs::write(folder.join(format!("{name}.both")), chain + &key).expect("written");
        fs::set_permissions(folder.join(format!("{name}.key")), PermissionsExt::from_mode(0o600))
            .expect("ours");
    }
}
