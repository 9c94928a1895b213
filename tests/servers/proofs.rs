//! Proofs beyond the public authorities with real servers: a Prosody or an ejabberd whose certificate nobody but itself has signed is
//! proven by its pinned key, by what its signed zone names (DANE), or by the file on its web server (POSH), when it is called and when
//! it calls; after a roll-over as before; and with a key that was never published it is refused both ways, with the cause in words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::interop::believed;
use crate::support::ca::{Authority, Leaf, Lone, Usage};
use crate::support::client::Client;
use crate::support::release::Release;
use crate::support::scene::{Cast, HOSTED, Scene, Wishes};
use crate::support::server::{Legacy, Place, Proof, Remote, Server, Tls};
use crate::support::world::{Host, Process};
use crate::support::{ejabberd, make_dir, prosody, wait_for, write, zones};

/// What proves the partner.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// A rule names two keys, with days.
    Pin,
    /// Its zone names them under signatures, which the resolver on the gateway's own machine validates.
    DaneByResolver,
    /// The same, and the gateway validates.
    DaneByGateway,
    /// The same of a server with direct TLS.
    DaneOverDirectTls,
    /// The DNS leads to it, and a change waits for an operator.
    Dialback,
    /// A file on its web server names the certificates.
    Posh,
}

impl By {
    /// The word in metrics and records.
    fn method(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::DaneByResolver | Self::DaneByGateway | Self::DaneOverDirectTls => "dane",
            Self::Dialback => "dialback",
            Self::Posh => "posh",
        }
    }

    /// The cause where it shows another key, and what one of our users reads then.
    fn refusal(self) -> (&'static str, &'static str) {
        match self {
            Self::Pin => ("key-not-pinned", "its server shows another key than was agreed"),
            Self::DaneByResolver | Self::DaneByGateway | Self::DaneOverDirectTls => {
                ("tlsa-mismatch", "its server shows another certificate than its DNS names")
            }
            Self::Dialback => ("peer-changed", "waits for an operator"),
            Self::Posh => ("posh-mismatch", "its server shows another certificate than its domain names"),
        }
    }
}

/// A gateway that takes one proof of `friend.example`, and the host of that domain's server. Processes end first.
struct Stage {
    by: By,
    program: Remote,
    accepts: Proof,
    friend: Option<Server>,
    _published: Vec<Process>,
    host: Host,
    scene: Scene,
    /// The key of today and the next one, both published, and one that is not.
    keys: [Lone; 3],
}

impl Stage {
    fn set(by: By, program: Remote, accepts: Proof) -> Self {
        let policy = format!(
            "version: v1\nrules:\n  - {{ name: partner, domains: [{FRIEND}], identity: [certificate] }}\n"
        );
        let cast = Cast { remotes: &[], legacy: Legacy::Prosody, usage: Usage::Both, policy: &policy };
        let mut scene = Scene::start_with(&cast, &Wishes { zones: &[(FRIEND, LAST)], ..Wishes::default() });
        let host = scene.outsider(LAST);
        let keys = [(); 3].map(|()| Lone::new(FRIEND));
        let published = match by {
            By::Pin | By::Dialback => Vec::new(),
            By::DaneByResolver | By::DaneByGateway | By::DaneOverDirectTls => signed(&scene, &keys, by),
            By::Posh => filed(&mut scene, &keys),
        };
        let condition = match by {
            // A roll-over as an operator plans it: the next key counts already, the one of today not for ever.
            By::Pin => format!(
                "pins: [\"{} until 2190-01-31\", \"{} from 2020-01-31\"]",
                pin(&keys[0]),
                pin(&keys[1])
            ),
            By::Dialback => "identity: [dialback], on-change: hold".to_owned(),
            _ => format!("identity: [{}]", by.method()),
        };
        scene.gateway.rewrite("policies/policy.yaml", &[("identity: [certificate]", &condition)]);
        let (code, said) = scene.gateway.command("reload", &["reload"]);
        assert_eq!(code, Some(0), "{said}");
        Self { by, program, accepts, friend: None, _published: published, host, scene, keys }
    }

    /// The partner's server starts, or starts again, with the key of this place.
    fn show(&mut self, key: usize, words: &[(&str, &str)]) {
        self.friend = None;
        let leaf = self.keys[key].write(&format!("key-{key}"), self.host.directory());
        // Whoever does not know our authority asks back.
        let unknown = Authority::new("An authority that nobody knows");
        let authority = if self.accepts == Proof::Dialback { &unknown } else { &self.scene.authority };
        let roots = authority.write_root(self.host.directory());
        let place = Place { host: &self.host, address: Scene::outside(LAST), domain: FRIEND, user: "guest" };
        let tls = Tls { leaf: &leaf, roots: &roots.to_string_lossy(), proof: self.accepts };
        let release = match self.program {
            Remote::Ejabberd | Remote::Prosody => Release::Bookworm,
            Remote::Ejabberd24 | Remote::Prosody13 => Release::Trixie,
        };
        let direct = direct(&leaf);
        let mut words = words.to_vec();
        if self.by == By::DaneOverDirectTls {
            words.push(("s2s_ports = { 5269 }", &direct));
        }
        let processes = match self.program.is_ejabberd() {
            true => ejabberd::remote_with(release, &place, &tls, &words),
            false => prosody::remote_with(release, &place, &tls, &words),
        };
        self.friend = Some(Server::new(&place, processes));
    }

    fn users(&self) -> (Client, Client) {
        (self.friend.as_ref().unwrap().login(), self.scene.legacy.login())
    }

    /// How we prove ourselves to a server that wants it so.
    fn ours(&self) -> &'static str {
        match self.accepts {
            Proof::Dialback => "dialback",
            Proof::Either | Proof::External => "certificate",
        }
    }

    /// Mail goes both ways, on streams that this proof and no other has opened.
    fn is_proven(&self) {
        let (mut outside, mut inside) = self.users();
        talk(&mut inside, &mut outside);
        let (method, family) = (self.by.method(), "gatehouse_authentications_total");
        for candidate in ["pin", "dane", "certificate", "posh", "dialback"] {
            let labels = [("flow", "s2s-in"), ("method", candidate), ("outcome", "allow")];
            let count = self.scene.gateway.metric(family, &labels);
            assert_eq!(count >= 1.0, candidate == method, "{}", self.scene.gateway.family(family));
        }
        believed(self.friend.as_ref().unwrap(), self.program, HOSTED, self.ours());
    }

    /// Its mail is refused and ours comes back, each with the cause; and `probe` says what was tried.
    fn is_refused(&self) {
        let (mut outside, mut inside) = self.users();
        let (cause, words) = self.by.refusal();
        let id = inside.message(outside.jid(), "is it you?");
        let (condition, text) = inside.told(&id);
        assert!(condition.starts_with("remote-server-") && text.contains(words), "{condition}: {text}");
        outside.message(inside.jid(), "it is me");
        for (flow, pair) in
            [("s2s-out", format!("{HOSTED}>{FRIEND}")), ("s2s-in", format!("{FRIEND}>{HOSTED}"))]
        {
            let refused = wait_for(&format!("a record of {cause} {flow}"), Duration::from_secs(10), || {
                let records = self.scene.gateway.audit();
                let about = |r: &&serde_json::Value| r["flow"] == flow && r["cause"] == cause;
                records.iter().find(about).cloned().ok_or_else(|| format!("{records:#?}"))
            });
            assert!(refused["pair"] == pair && refused["event"] != "admitted", "{refused:#}");
        }
        assert!(!inside.has_received(|e| e.name == "message" && e.attribute("type") != Some("error")));
        let (code, said) = self.scene.gateway.command("probe", &["probe", FRIEND]);
        let (method, tried) = (self.by.method(), said.contains("not by"));
        assert!(code != Some(0) && tried && said.contains(&format!("{method}: ")), "{code:?}: {said}");
    }

    /// What the gateway remembers and has written down names the method, both ways.
    fn ends_recorded(mut self) {
        let method = self.by.method();
        let (code, said) = self.scene.gateway.command("peers", &["peers", "--domain", FRIEND]);
        assert!(
            code == Some(0) && said.matches(&format!("proven by {method}")).count() >= 2,
            "{code:?}: {said}"
        );
        let ours = self.ours();
        let records = self.scene.gateway.drain();
        let admitted = |flow: &str| {
            let found: Vec<_> =
                records.iter().filter(|r| r["event"] == "admitted" && r["flow"] == flow).cloned().collect();
            assert!(!found.is_empty(), "{flow}: {records:#?}");
            found
        };
        for record in admitted("s2s-in") {
            assert!(record["proof"] == method && record["rule"] == "partner", "{record:#}");
        }
        for record in admitted("s2s-out") {
            assert!(record["server_proof"] == method && record["proof"] == ours, "{record:#}");
        }
    }
}

/// A word and an answer.
fn talk(first: &mut Client, second: &mut Client) {
    for _ in 0..2 {
        let id = first.message(second.jid(), "good day");
        second.expect_message(first.jid(), &id);
        let id = second.message(first.jid(), "and to you");
        first.expect_message(second.jid(), &id);
    }
}

/// The line of a rule for this key.
fn pin(key: &Lone) -> String {
    format!("sha256:{}", hex(digest(&SHA256, &key.public_key()).as_ref()))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

/// What a Prosody says that listens for direct TLS as well.
fn direct(leaf: &Leaf) -> String {
    let (chain, key) = (leaf.chain.display(), leaf.key.display());
    format!(
        "s2s_ports = {{ 5269 }}\ns2s_direct_tls_ports = {{ 5270 }}\n\
         s2s_direct_tls_ssl = {{ certificate = \"{chain}\", key = \"{key}\" }}"
    )
}

/// A resolver on the gateway's own host with these zones, which it asks from the next reload on; `more` are keys of its `dns:`.
fn resolver(
    scene: &Scene,
    folder: &Path,
    served: &[(&str, std::path::PathBuf, Option<std::path::PathBuf>)],
    more: &str,
) -> Process {
    let address: SocketAddr = "127.0.0.1:5353".parse().unwrap();
    let host = scene.gateway.host();
    let path = zones::configuration(folder, address, served);
    let mut process = host.spawn("names", "unbound", &["-d", "-c", &path.to_string_lossy()], &[]);
    process.listening(host, address, Duration::from_secs(10));
    let before = format!("servers: [\"{}:53\"]", Scene::outside(53));
    scene.gateway.rewrite("gatehouse.yaml", &[(&before, &format!("servers: [\"{address}\"]{more}"))]);
    process
}

/// The signed zone of the partner, with TLSA records for the first two keys, below one that is trusted.
fn signed(scene: &Scene, keys: &[Lone; 3], by: By) -> Vec<Process> {
    let folder = make_dir(&scene.gateway.host().directory().join("names"));
    let (service, port) = match by {
        By::DaneOverDirectTls => ("_xmpps-server", 5270),
        _ => ("_xmpp-server", 5269),
    };
    let mut records = format!("{service}._tcp IN SRV 0 0 {port} xmpp\nxmpp IN A {}\n", Scene::outside(LAST));
    for key in &keys[..2] {
        let data = hex(digest(&SHA256, &key.public_key()).as_ref());
        writeln!(records, "_{port}._tcp.xmpp IN TYPE52 \\# 35 030101{data}").unwrap();
    }
    let key = zones::key(&folder, FRIEND);
    let below = zones::sign(&folder, FRIEND, &records, &key, &[]);
    let delegation = std::fs::read_to_string(folder.join(format!("{key}.ds"))).unwrap();
    let above = format!("{FRIEND}. IN NS ns.{FRIEND}.\nns.{FRIEND}. IN A 127.0.0.1\n{delegation}");
    let anchor = zones::key(&folder, "example");
    let top = zones::sign(&folder, "example", &above, &anchor, &[]);
    let anchor = folder.join(format!("{anchor}.key"));
    let (validates, more) = match by {
        By::DaneByGateway => (None, format!(", dnssec: validate, anchors: \"{}\"", anchor.display())),
        _ => (Some(anchor), ", dnssec: resolver".to_owned()),
    };
    vec![resolver(scene, &folder, &[(FRIEND, below, None), ("example", top, validates)], &more)]
}

/// A web server with a file for the first two certificates, under a name that the public authorities vouch for.
fn filed(scene: &mut Scene, keys: &[Lone; 3]) -> Vec<Process> {
    let folder = make_dir(&scene.gateway.host().directory().join("names"));
    let records = format!(
        "@ IN A {}\n_xmpp-server._tcp IN SRV 0 0 5269 xmpp\nxmpp IN A {}\n",
        Scene::outside(WEB),
        Scene::outside(LAST)
    );
    let zone = zones::write(&folder, FRIEND, &records);
    let names = resolver(scene, &folder, &[(FRIEND, zone, None)], "");
    let host = scene.outsider(WEB);
    let leaf = scene.authority.leaf(FRIEND, Usage::Server, host.directory());
    let named: Vec<String> = keys[..2]
        .iter()
        .map(|key| format!("{{\"sha-256\":\"{}\"}}", STANDARD.encode(digest(&SHA256, key.der()).as_ref())))
        .collect();
    let place = make_dir(&host.directory().join("site/.well-known/posh"));
    write(
        &place.join("xmpp-server.json"),
        &format!("{{\"fingerprints\":[{}],\"expires\":3600}}", named.join(",")),
    );
    let address = SocketAddr::new(Scene::outside(WEB).into(), 443);
    let (site, at) = (host.directory().join("site"), Scene::outside(WEB).to_string());
    let words = [
        "-c",
        SERVES,
        &at,
        &site.to_string_lossy(),
        &leaf.chain.to_string_lossy(),
        &leaf.key.to_string_lossy(),
    ];
    let mut web = host.spawn("web", "python3", &words, &[]);
    web.listening(&host, address, Duration::from_secs(10));
    vec![names, web]
}

/// A static web server: address, folder, certificate, key.
const SERVES: &str = "
import functools, http.server, ssl, sys
address, folder, chain, key = sys.argv[1:]
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
server = http.server.ThreadingHTTPServer((address, 443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(chain, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

const FRIEND: &str = "friend.example";
const LAST: u8 = 30;
const WEB: u8 = 80;

/// From the key of today over that of tomorrow to one that nobody has published.
fn story(by: By, program: Remote, accepts: Proof) {
    let mut stage = Stage::set(by, program, accepts);
    for published in [0, 1] {
        stage.show(published, &[]);
        stage.is_proven();
    }
    stage.show(2, &[]);
    stage.is_refused();
    stage.ends_recorded();
}

macro_rules! stories {
    ($($name:ident: $by:ident of $program:ident, which takes us by $accepts:ident;)*) => {$(
        #[test]
        fn $name() {
            story(By::$by, Remote::$program, Proof::$accepts);
        }
    )*};
}

// DNS-18: a pinned key alone. DNS-09, DNS-11, DNS-12, DNS-15: what a signed zone names, for the server that is called and for the one
// that calls. DNS-16, DNS-17: what a file names. CRT-08, DB-30: and the other side takes us by our certificate, or by dialback.
stories! {
    prosody_0_12_is_proven_by_its_key: Pin of Prosody, which takes us by Dialback;
    prosody_13_is_proven_by_its_key: Pin of Prosody13, which takes us by External;
    ejabberd_23_is_proven_by_its_key: Pin of Ejabberd, which takes us by External;
    ejabberd_24_is_proven_by_its_key: Pin of Ejabberd24, which takes us by Dialback;
    prosody_0_12_is_proven_by_its_zone: DaneByResolver of Prosody, which takes us by External;
    prosody_13_is_proven_by_its_zone: DaneByGateway of Prosody13, which takes us by Dialback;
    prosody_13_is_proven_by_its_zone_over_direct_tls: DaneOverDirectTls of Prosody13, which takes us by External;
    ejabberd_23_is_proven_by_its_zone: DaneByGateway of Ejabberd, which takes us by Dialback;
    ejabberd_24_is_proven_by_its_zone: DaneByResolver of Ejabberd24, which takes us by External;
    prosody_0_12_is_proven_by_its_file: Posh of Prosody, which takes us by Dialback;
    prosody_13_is_proven_by_its_file: Posh of Prosody13, which takes us by External;
    ejabberd_23_is_proven_by_its_file: Posh of Ejabberd, which takes us by External;
    ejabberd_24_is_proven_by_its_file: Posh of Ejabberd24, which takes us by Dialback;
}

// SM-08: one stream both ways, whoever calls; the key that was pinned proves what goes out on it and what comes in.
#[test]
fn a_pinned_key_proves_both_ways_of_one_stream() {
    for (program, they_call) in
        [(Remote::Prosody13, true), (Remote::Prosody13, false), (Remote::Prosody, true)]
    {
        let mut stage = Stage::set(By::Pin, program, Proof::External);
        stage.show(0, &[("\"offline\",", "\"offline\", \"s2s_bidi\",")]);
        let (mut outside, mut inside) = stage.users();
        match they_call {
            true => talk(&mut outside, &mut inside),
            false => talk(&mut inside, &mut outside),
        }
        let flow = if they_call { "s2s-out" } else { "s2s-in" };
        let back = stage.scene.gateway.metric("gatehouse_bidi_stanzas_total", &[("flow", flow)]);
        assert!(back >= 2.0, "{program:?}: {}", stage.scene.gateway.family("gatehouse_bidi"));
        let (code, said) = stage.scene.gateway.command("peers", &["peers", "--domain", FRIEND]);
        assert!(code == Some(0) && said.matches("proven by pin").count() == 2, "{code:?}: {said}");
        // The rule forgets this key: the stream that stands on it ends, and nothing goes either way any more.
        let other = pin(&stage.keys[2]);
        stage.scene.gateway.rewrite("policies/policy.yaml", &[(&pin(&stage.keys[0]), &other)]);
        let (code, said) = stage.scene.gateway.command("reload-pins", &["reload"]);
        assert_eq!(code, Some(0), "{said}");
        stage.is_refused();
    }
}

// DNS-18, D9: of a partner that only the DNS names the key is remembered. With another one its mail is held and ours comes back, until an
// operator has looked; then both pass at once.
#[test]
fn another_key_of_prosody_0_12_waits_until_an_operator_approves() {
    another_key_waits(Remote::Prosody);
}

#[test]
fn another_key_of_prosody_13_waits_until_an_operator_approves() {
    another_key_waits(Remote::Prosody13);
}

fn another_key_waits(program: Remote) {
    let mut stage = Stage::set(By::Dialback, program, Proof::Dialback);
    stage.show(0, &[]);
    stage.is_proven();
    stage.show(1, &[]);
    let (mut outside, mut inside) = stage.users();
    let (reason, words) = stage.by.refusal();
    let id = inside.message(outside.jid(), "is it you?");
    let (condition, text) = inside.told(&id);
    assert!(condition.starts_with("remote-server-") && text.contains(words), "{condition}: {text}");
    outside.message(inside.jid(), "it is me");
    let gateway = &stage.scene.gateway;
    wait_for("its claim to be held", Duration::from_secs(10), || {
        let records = gateway.audit();
        let held = records.iter().any(|r| r["flow"] == "s2s-in" && r["reason"] == reason);
        held.then_some(()).ok_or_else(|| format!("{records:#?}"))
    });
    let (code, said) = gateway.command("waits", &["peers", "--domain", FRIEND]);
    assert!(code == Some(0) && said.matches("WAITS dialback").count() == 2, "{code:?}: {said}");
    let (code, said) = gateway.command("approve", &["peers", "approve", FRIEND]);
    assert_eq!(code, Some(0), "{said}");
    let (mut outside, mut inside) = stage.users();
    talk(&mut inside, &mut outside);
}
