//! Real clients: slixmpp in the virtual environment that `tests/run` makes, go-sendxmpp from Debian.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::ca::Leaf;
use super::repository;
use super::scene::HOSTED;
use super::server::PASSWORD;
use super::world::{Host, Process};

/// How a client begins TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the first octet, on this port.
    Direct(u16),
    /// After negotiation, on the usual port.
    Starttls,
}

impl Way {
    fn port(self) -> u16 {
        match self {
            Self::Direct(port) => port,
            Self::Starttls => 5222,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
            Self::Starttls => "starttls",
        }
    }
}

/// A host where people sit.
pub struct Desk {
    /// The host.
    pub host: Host,
    /// Whom its clients believe.
    pub roots: PathBuf,
}

impl Desk {
    /// Runs a command of `clients/slix.py`; its result, or panics with what it said.
    pub fn slixmpp(&self, way: Way, command: &str, arguments: &[&str]) -> serde_json::Value {
        self.try_slixmpp(way, PASSWORD, command, arguments).unwrap_or_else(|log| panic!("{command}: {log}"))
    }

    /// The same with another password; what it said, where it failed.
    pub fn try_slixmpp(
        &self,
        way: Way,
        password: &str,
        command: &str,
        arguments: &[&str],
    ) -> Result<serde_json::Value, String> {
        self.slixmpp_with(way, password, &[], command, arguments)
    }

    /// The same with a certificate of one's own.
    pub fn slixmpp_showing(
        &self,
        way: Way,
        own: &Leaf,
        command: &str,
        arguments: &[&str],
    ) -> Result<serde_json::Value, String> {
        let (chain, key) = (own.chain.to_string_lossy(), own.key.to_string_lossy());
        let environment = [("SLIX_CERTIFICATE", &*chain), ("SLIX_KEY", &*key)];
        self.slixmpp_with(way, PASSWORD, &environment, command, arguments)
    }

    fn slixmpp_with(
        &self,
        way: Way,
        password: &str,
        environment: &[(&str, &str)],
        command: &str,
        arguments: &[&str],
    ) -> Result<serde_json::Value, String> {
        let python = repository("target/clients/bin/python");
        assert!(python.exists(), "{} is missing: tests/run makes it", python.display());
        let script = repository("tests/support/clients/slix.py");
        let (script, roots) = (script.to_string_lossy(), self.roots.to_string_lossy());
        let (gate, port) = (GATE.to_string(), way.port().to_string());
        let fixed = [&*script, command, &gate, &port, way.word(), &roots, password];
        let label = label(command);
        let mut process =
            self.host.spawn(&label, &python.to_string_lossy(), &[&fixed, arguments].concat(), environment);
        let status = process.ended(Duration::from_secs(120));
        let log = process.log();
        match log.lines().find_map(|line| line.strip_prefix("RESULT ")) {
            Some(result) if status.success() => {
                Ok(serde_json::from_str(result).expect("the script writes JSON"))
            }
            _ => Err(process.tail()),
        }
    }

    /// Logs in with profanity, which demands STARTTLS, and sends one message; panics unless it says that it is in.
    pub fn profanity(&self, port: u16, from: &str, to: &str, body: &str) {
        let script = repository("tests/support/clients/prof.py");
        let (gate, port) = (GATE.to_string(), port.to_string());
        let arguments = [&*script.to_string_lossy(), &gate, &port, from, PASSWORD, to, body];
        let roots = self.roots.to_string_lossy();
        let environment = [("SSL_CERT_FILE", &*roots)];
        let mut process = self.host.spawn(&label("profanity"), "/usr/bin/python3", &arguments, &environment);
        let status = process.ended(Duration::from_secs(60));
        assert!(status.success(), "profanity: {status}; it said:\n{}", process.tail());
    }

    /// Starts mcabber, which demands STARTTLS and checks the certificate, sends one message, waits for one from there, tells it as
    /// `HEARD BODY`, and ends well.
    pub fn mcabber(&self, from: &str, to: &str, body: &str) -> Process {
        let script = repository("tests/support/clients/mcab.py");
        let (script, roots) = (script.to_string_lossy(), self.roots.to_string_lossy());
        let gate = GATE.to_string();
        let arguments = [&*script, &gate, "5222", from, PASSWORD, &roots, to, body];
        self.host.spawn(&label("mcabber"), "/usr/bin/python3", &arguments, &[])
    }

    /// Sends one message with go-sendxmpp; panics unless it says that all went well.
    pub fn go_sendxmpp(&self, way: Way, from: &str, to: &str, body: &str) {
        let text = self.host.directory().join("body.txt");
        super::write(&text, body);
        let (server, text) = (format!("{GATE}:{}", way.port()), text.to_string_lossy().into_owned());
        let mut arguments = vec!["-d", "-u", from, "-p", PASSWORD, "-j", &server, "-m", &text];
        if matches!(way, Way::Direct(_)) {
            arguments.push("-t");
        }
        arguments.push(to);
        let roots = self.roots.to_string_lossy();
        let environment = [("SSL_CERT_FILE", &*roots), ("XDG_CONFIG_HOME", "/nonexistent")];
        let mut process = self.host.spawn(&label("go-sendxmpp"), GO_SENDXMPP, &arguments, &environment);
        let status = process.ended(Duration::from_secs(60));
        assert!(status.success(), "go-sendxmpp: {status}; it said:\n{}", process.tail());
    }
}

impl Desk {
    /// Sends one message with sendxmpp by STARTTLS; it is built on XML::Stream, which writes a `from` of its own into headers.
    pub fn sendxmpp(&self, from: &str, to: &str, body: &str) {
        let text = self.host.directory().join("body.txt");
        super::write(&text, body);
        let (text, server) = (text.to_string_lossy().into_owned(), format!("{GATE}:5222"));
        let (user, domain) = from.split_once('@').expect("an address");
        let roots = self.roots.to_string_lossy();
        let arguments = [
            "-u",
            user,
            "-p",
            PASSWORD,
            "-j",
            &server,
            "-o",
            domain,
            "-t",
            "--no-tls-verify",
            "-m",
            &text,
            "-v",
            to,
        ];
        let environment = [("SSL_CERT_FILE", &*roots)];
        let mut process = self.host.spawn(&label("sendxmpp"), "/usr/bin/sendxmpp", &arguments, &environment);
        let status = process.ended(Duration::from_secs(60));
        assert!(status.success(), "sendxmpp: {status}; it said:\n{}", process.tail());
    }

    /// Sends one message by STARTTLS with a small program on this library, which is built here.
    pub fn by_library(&self, source: &str, package: &str, from: &str, to: &str, body: &str) {
        let program = self.built(source, package);
        let sent = self.sends(&program, Way::Starttls, &[], [from, to, body]);
        sent.unwrap_or_else(|said| panic!("{source}: {said}"));
    }

    /// The same with libstrophe, on which profanity is built, and a certificate of one's own; what it said, where it failed.
    pub fn strophe_showing(
        &self,
        way: Way,
        own: Option<&Leaf>,
        [from, to, body]: [&str; 3],
    ) -> Result<(), String> {
        let program = self.built("strophe.c", "libstrophe");
        let files = own.map(|own| [&own.chain, &own.key].map(|path| path.to_string_lossy().into_owned()));
        let mut environment: Vec<(&str, &str)> = Vec::new();
        if let Some([chain, key]) = &files {
            environment.extend([("STROPHE_CERTIFICATE", chain.as_str()), ("STROPHE_KEY", key)]);
        }
        if matches!(way, Way::Direct(_)) {
            environment.push(("STROPHE_DIRECT", "1"));
        }
        self.sends(&program, way, &environment, [from, to, body])
    }

    fn built(&self, source: &str, package: &str) -> PathBuf {
        let program = self.host.directory().join(Path::new(source).with_extension(""));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clients");
        let flags = std::process::Command::new("pkg-config").args(["--cflags", "--libs", package]).output();
        let flags = String::from_utf8(flags.expect("pkg-config").stdout).expect("flags");
        let compiler = if source.ends_with(".cpp") { "c++" } else { "cc" };
        let built = std::process::Command::new(compiler)
            .arg(folder.join(source))
            .args(flags.split_whitespace())
            .arg("-o")
            .arg(&program)
            .output()
            .expect("a compiler");
        assert!(built.status.success(), "{source}: {}", String::from_utf8_lossy(&built.stderr));
        program
    }

    fn sends(
        &self,
        program: &Path,
        way: Way,
        environment: &[(&str, &str)],
        [from, to, body]: [&str; 3],
    ) -> Result<(), String> {
        let (user, domain) = from.split_once('@').expect("an address");
        let (gate, port) = (GATE.to_string(), way.port().to_string());
        let arguments = [&*gate, &*port, user, domain, PASSWORD, to, body];
        let name = program.file_name().expect("a program").to_string_lossy();
        let mut process = self.host.spawn(&label(&name), &program.to_string_lossy(), &arguments, environment);
        let status = process.ended(Duration::from_secs(60));
        match status.success() {
            true => Ok(()),
            false => Err(format!("{status}; it said:\n{}", process.tail())),
        }
    }
}

/// A log of its own for each run.
pub fn label(command: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{command}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The full or bare address of a user behind the gateway.
pub fn jid(user: &str) -> String {
    format!("{user}@{HOSTED}")
}

/// The gateway's address on the open network.
pub const GATE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GO_SENDXMPP: &str = "/usr/bin/go-sendxmpp";
