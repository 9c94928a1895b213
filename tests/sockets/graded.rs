//! `gatehouse grade` (DNS-11, DNS-12, DNS-16, CRT-08, CRT-09) of servers with more than one key, with more than is looked at, and with faults
//! that a handshake alone does not show; servers of openssl in zones that ldns signs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use gatehouse::demo::pki::{Identity, Leaf};
use gatehouse::demo::world::{Plan, World};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::grade::{Zone, configured, grade, has, must, printed, told, unbound};
use crate::zones::{Running, listens, tool};

const HALL: &str = "hall.example";
const POLICY: &str = "version: v1\nrules:\n  - { name: partners, domains: [friend.example] }\n";

/// A folder where openssl is an authority that the world trusts.
struct Lab {
    world: World,
    folder: PathBuf,
}

impl Lab {
    async fn new() -> Self {
        let world = World::build(&Plan::listed(HALL, POLICY)).await.unwrap();
        let folder = world.folder.path().join("lab");
        std::fs::create_dir(&folder).unwrap();
        openssl(
            &folder,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=Lab",
        );
        let roots = world.folder.path().join("pki/root.pem");
        let both = std::fs::read_to_string(&roots).unwrap()
            + &std::fs::read_to_string(folder.join("ca.pem")).unwrap();
        std::fs::write(roots, both).unwrap();
        Self { world, folder }
    }

    /// A certificate of that authority for this domain.
    fn issue(&self, name: &str, key: &str, domain: &str, more: &str) {
        openssl(
            &self.folder,
            &format!(
                "req -x509 -newkey {key} -nodes -keyout {name}.key -out {name}.pem -days 30 -subj /CN={name} -CA ca.pem -CAkey ca.key \
                 -addext basicConstraints=CA:FALSE -addext subjectAltName=DNS:{domain} {more}"
            ),
        );
    }

    /// The record of that key.
    fn record(&self, name: &str, at: &str) -> String {
        openssl(&self.folder, &format!("x509 -in {name}.pem -noout -pubkey -out {name}.pub"));
        openssl(&self.folder, &format!("pkey -pubin -in {name}.pub -outform DER -out {name}.spki"));
        let digest = openssl(&self.folder, &format!("dgst -sha256 -r {name}.spki"));
        format!("{at} IN TLSA 3 1 1 {}\n", digest.split(' ').next().unwrap())
    }

    /// A server with that certificate.
    fn serve(&self, at: SocketAddr, name: &str, more: &str) -> Running {
        let mut server = Command::new("openssl");
        server.args(["s_server", "-www", "-accept", &at.to_string()]).current_dir(&self.folder);
        server
            .args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}.key")])
            .args(more.split_whitespace());
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Running(server.spawn().unwrap());
        listens(at);
        server
    }

    /// An address on which nobody listens yet.
    fn place(&self, host: u8) -> SocketAddr {
        let IpAddr::V4(ip) = self.world.names.address().ip() else {
            panic!("an address of version 4 is due")
        };
        let [a, b, c, _] = ip.octets();
        TcpListener::bind((Ipv4Addr::new(a, b, c, host), 0)).unwrap().local_addr().unwrap()
    }
}

fn openssl(folder: &Path, arguments: &str) -> String {
    tool(folder, "openssl", &arguments.split_whitespace().collect::<Vec<_>>())
}

const EC: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

// DNS-12: two addresses with keys of their own, one of them with two certificates, behind an alias (RFC 7671 7) whose end has a record
// for one key. Who publishes what is printed is done.
#[tokio::test(flavor = "multi_thread")]
async fn each_key_that_is_shown_anywhere_has_its_record() {
    const DUAL: &str = "dual.example";
    let lab = Lab::new().await;
    for (name, key) in [("one", EC), ("two", "rsa:2048"), ("three", EC)] {
        lab.issue(name, key, DUAL, "");
    }
    let first = lab.place(60);
    let second = SocketAddr::new(lab.place(61).ip(), first.port());
    let _servers = [
        lab.serve(first, "one", "-dcert two.pem -dkey two.key -cipher ECDHE+AESGCM"),
        lab.serve(second, "three", "-cipher ECDHE+AESGCM"),
    ];
    let port = first.port();
    let records = format!(
        "@ IN CAA 0 issue \"authority.example\"\n_xmpps-server._tcp IN SRV 0 0 {port} alias\nalias IN CNAME h\nh IN A {}\nh IN A {}\n",
        first.ip(),
        second.ip()
    );
    let mut zone = Zone::new(&lab.folder, DUAL, records);
    let at = format!("_{port}._tcp.h.{DUAL}.");
    zone.records += &lab.record("one", &at);
    let anchors = lab.folder.join(format!("{}.key", zone.key));
    let ip = lab.world.names.address().ip();
    let (before, resolver) = unbound(&lab.folder, ip, &[(DUAL, zone.sign(&lab.folder))]);
    let config = configured(&lab.world, "dual.yaml", resolver, &anchors);
    let (report, code) = grade(&config, DUAL, &[]).await;
    assert_eq!(code, 1, "{report:#}");
    must(
        &report,
        "todo",
        "TLSA",
        &format!("alias.{DUAL}:{port}, which stands for h.{DUAL}: 1 published, and none fits"),
    );
    for failing in [format!("{first}, RSA"), format!("{second}, ECDSA")] {
        must(&report, "todo", "TLSA", &failing);
        must(&report, "good", "names", DUAL);
    }
    assert!(!has(&report, "todo", "TLSA", &format!("{first}, ECDSA")), "{report:#}");
    must(&report, "good", "CAA", "0 issue \"authority.example\"");
    let current = printed(&report, "current");
    assert!(current.len() == 3 && current.iter().all(|record| record.starts_with(&at)), "{current:#?}");
    let file: Value = serde_json::from_str(report["posh"]["content"].as_str().unwrap()).unwrap();
    assert_eq!(file["fingerprints"].as_array().unwrap().len(), 3, "{file}");

    zone.records += &(current.join("\n") + "\n");
    let signed = zone.sign(&lab.folder);
    drop(before);
    let (before, resolver) = unbound(&lab.folder, ip, &[(DUAL, signed)]);
    let config = configured(&lab.world, "dual.yaml", resolver, &anchors);
    let (report, code) = grade(&config, DUAL, &[]).await;
    assert_eq!((&report["todo"], code), (&Value::from(0), 0), "{report:#}");
    must(&report, "good", "TLSA", "3 published, and fit");

    // One that is nobody's: told, and no fault.
    writeln!(zone.records, "{at} IN TLSA 3 1 1 {}", "07".repeat(32)).unwrap();
    let signed = zone.sign(&lab.folder);
    drop(before);
    let (_running, resolver) = unbound(&lab.folder, ip, &[(DUAL, signed)]);
    let config = configured(&lab.world, "dual.yaml", resolver, &anchors);
    let (report, code) = grade(&config, DUAL, &[]).await;
    assert_eq!((&report["todo"], code), (&Value::from(0), 0), "{report:#}");
    must(&report, "note", "TLSA", "4 published, 3 of which fit, and 1 no key that is shown");
}

// CRT-09, and what scanners tell: revoked under a record that fits, keys and suites and versions that nobody should take, and a port and
// records of the DNS that keep others away.
#[tokio::test(flavor = "multi_thread")]
async fn faults_that_a_handshake_hides_are_told() {
    const LAB: &str = "lab.example";
    let lab = Lab::new().await;
    lab.issue("ec", EC, LAB, "");
    lab.issue("revoked", EC, LAB, "-set_serial 0x77");
    lab.issue("short", "rsa:1024", LAB, "");
    lab.issue("rsa", "rsa:2048", LAB, "");
    lab.issue("client", EC, LAB, "-addext extendedKeyUsage=clientAuth");
    std::fs::write(lab.folder.join("index"), "R\t400101000000Z\t200101000000Z\t77\tunknown\t/CN=revoked\n")
        .unwrap();
    std::fs::write(
        lab.folder.join("ca.conf"),
        "[ca]\ndefault_ca = lab\n[lab]\ndatabase = index\ncertificate = ca.pem\nprivate_key = ca.key\ndefault_md = sha256\n\
         crlnumber = number\ncrl_extensions = extensions\n[extensions]\nauthorityKeyIdentifier = keyid\n",
    )
    .unwrap();
    std::fs::write(lab.folder.join("number"), "01\n").unwrap();
    openssl(&lab.folder, "ca -config ca.conf -gencrl -crldays 30 -out lab.crl");
    let old = "-max_protocol TLSv1.2";
    let servers = [
        ("revoked", "revoked", String::new()),
        ("client", "client", String::new()),
        ("short", "short", "-cipher ALL:@SECLEVEL=0".to_owned()),
        ("naked", "rsa", format!("{old} -dcert ec.pem -dkey ec.key -cipher ALL:COMPLEMENTOFALL:@SECLEVEL=0")),
        ("cbc", "ec", format!("{old} -cipher ECDHE-ECDSA-AES256-SHA")),
        ("ancient", "ec", "-min_protocol TLSv1 -max_protocol TLSv1 -cipher ALL:@SECLEVEL=0".to_owned()),
    ];
    let mut records =
        "@ IN CAA 128 tbs \"unknown\"\n_xmpp-server._tcp IN SRV 0 0 80 low\nlow IN A 127.0.0.1\n".to_owned();
    let mut running = Vec::new();
    for (host, certificate, more) in &servers {
        let at = lab.place(70);
        running.push(lab.serve(at, certificate, more));
        writeln!(records, "_xmpps-server._tcp IN SRV 0 0 {} {host}\n{host} IN A {}", at.port(), at.ip())
            .unwrap();
        records += &lab.record(certificate, &format!("_{}._tcp.{host}", at.port()));
    }
    let zone = Zone::new(&lab.folder, LAB, records);
    let anchors = lab.folder.join(format!("{}.key", zone.key));
    let ip = lab.world.names.address().ip();
    let (_running, resolver) = unbound(&lab.folder, ip, &[(LAB, zone.sign(&lab.folder))]);
    let config = configured(&lab.world, "lab.yaml", resolver, &anchors);
    let text = std::fs::read_to_string(&config).unwrap();
    let list = lab.folder.join("lab.crl");
    let listed =
        text.replace("roots: pki/root.pem", &format!("roots: pki/root.pem, crls: [{}]", list.display()));
    assert_ne!(text, listed);
    std::fs::write(&config, listed).unwrap();

    let (report, code) = grade(&config, LAB, &[]).await;
    assert_eq!(code, 1, "{report:#}");
    must(&report, "todo", "CAA", "no authority issues that does not know the critical `tbs`");
    must(
        &report,
        "todo",
        "address",
        "low.lab.example:80: 127.0.0.1:80 is public, and its port is below 1024",
    );
    let tells = |mark: &str, what: &str, host: &str, words: &str| {
        let line = |line: &Value| {
            let told = line["words"].as_str().unwrap();
            line["mark"] == mark
                && line["what"] == what
                && told.starts_with(&format!("{host}."))
                && told.contains(words)
        };
        assert!(
            report["lines"].as_array().unwrap().iter().any(line),
            "no {mark} {what} {host} {words}: {report:#}"
        );
    };
    tells("todo", "chain", "revoked", "not trusted (revoked)");
    tells("todo", "chain", "client", "its extended key usage names clients alone");
    tells("todo", "address", "short", "an RSA key of 1024 bits");
    tells("todo", "address", "cbc", "no TLS");
    // What cannot be agreed upon can be read: what there is to say of the certificate is said all the same.
    for host in ["cbc", "ancient", "short"] {
        tells("note", "certificate", host, "that the server holds its key was not seen");
        tells("good", "names", host, LAB);
        tells("good", "TLSA", host, "1 published, and fit");
    }
    for host in ["cbc", "ancient"] {
        tells("good", "chain", host, "trusted, issued by CN=Lab");
    }
    tells("note", "chain", "short", "not trusted (weak)");
    tells("todo", "TLS", "cbc", "takes 1.2 with ECDHE-ECDSA-AES256-SHA");
    tells("todo", "address", "ancient", "no TLS");
    tells("todo", "TLS", "ancient", "takes 1.0, which is broken");
    tells("good", "TLS", "naked", "takes 1.2 with ECDHE-");
    for suite in [
        "NULL-SHA",
        "ECDHE-RSA-NULL-SHA",
        "AECDH-NULL-SHA",
        "ADH-AES256-GCM-SHA384",
        "ECDHE-RSA-CAMELLIA128-SHA256",
    ] {
        tells("todo", "TLS", "naked", suite);
    }
    let firewall = |line: &Value| line["advice"].as_str().is_some_and(|advice| advice.contains("firewall"));
    assert!(!report["lines"].as_array().unwrap().iter().any(firewall), "{report:#}");
}

// What is not looked at is told, and is no "nothing to be done"; and `--quiet` is about what is wrong alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_looked_at_is_told() {
    const MANY: &str = "many.example";
    let lab = Lab::new().await;
    lab.issue("ec", EC, MANY, "");
    let at = lab.place(80);
    let _server = lab.serve(at, "ec", "");
    let names = &lab.world.names;
    for host in 0..18_u8 {
        names
            .srv(&format!("_xmpps-server._tcp.{MANY}"), 0, 0, &format!("h{host}.{MANY}"), at.port())
            .unwrap();
        names.host(&format!("h{host}.{MANY}"), at.ip());
    }
    names.srv(&format!("_xmpp-server._tcp.{MANY}"), 0, 0, &format!("h0.{MANY}"), at.port()).unwrap();
    for host in 81..85 {
        let SocketAddr::V4(at) = at else { panic!("an address of version 4 is due") };
        let [a, b, c, _] = at.ip().octets();
        names.host(&format!("h0.{MANY}"), IpAddr::from([a, b, c, host]));
    }
    let (report, code) = grade(&lab.world.config, MANY, &[]).await;
    assert_eq!(code, 1, "{report:#}");
    must(&report, "todo", "SRV", "not looked at: 2 more");
    must(&report, "todo", "SRV", &format!("not looked at: h15.{MANY}:{}", at.port()));
    must(&report, "todo", "address", &format!("not looked at: h0.{MANY}:{} (", at.port()));
    assert!(report["missed"].as_array().unwrap().len() >= 3, "{report:#}");

    let config = lab.world.config.display().to_string();
    let said = told(&["--quiet", "grade", MANY, "--config", &config]).await;
    assert!(said.code == 1 && said.out.contains("not looked at: 2 more"), "{said:?}");
    assert!(
        !said.out.lines().any(|line| line.starts_with("good") || line.starts_with("note")),
        "{}",
        said.out
    );
}

/// A server that offers STARTTLS and does not require it.
async fn easy_going(world: &World, at: SocketAddr, domain: &str) {
    let identity = world.authority.issue(&Leaf::of(&[domain])).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(world.authority.server(&identity, false).unwrap());
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut octets = [0; 2048];
                let _read = stream.read(&mut octets).await.ok()?;
                let offer = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>\
                             <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
                stream.write_all(offer.as_bytes()).await.ok()?;
                let _read = stream.read(&mut octets).await.ok()?;
                stream.write_all(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await.ok()?;
                acceptor.accept(stream).await.ok()
            });
        }
    });
}

/// A server that speaks XMPP behind TLS, with a certificate for each kind of key.
async fn of_two_keys(lab: &Lab, at: SocketAddr, names: [&str; 2]) {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let keys = names.map(|name| {
        let file = |end: &str| lab.folder.join(format!("{name}.{end}"));
        let chain = vec![CertificateDer::from_pem_file(file("pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        Arc::new(CertifiedKey::new(chain, provider.key_provider.load_private_key(key).unwrap()))
    });
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByKind(keys)));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                let _read = stream.read(&mut [0; 2048]).await.ok()?;
                let features = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>\
                                <stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>";
                stream.write_all(features.as_bytes()).await.ok()?;
                stream.read(&mut [0; 2048]).await.ok()
            });
        }
    });
}

/// The first of these keys that the other side can verify a signature of.
#[derive(Debug)]
struct ByKind([Arc<CertifiedKey>; 2]);

impl ResolvesServerCert for ByKind {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(fits).cloned()
    }
}

// DNS-18: a rule has to name every key that a server may show; it shows one of them to whoever takes any.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_key_of_a_server_is_printed_for_a_rule_that_pins_it() {
    const TWO: &str = "friend.example";
    let lab = Lab::new().await;
    lab.issue("ec", EC, TWO, "");
    lab.issue("rsa", "rsa:2048", TWO, "");
    let at = lab.place(90);
    of_two_keys(&lab, at, ["ec", "rsa"]).await;
    lab.world.names.announce(TWO, None, Some(at)).unwrap();
    let pins = ["ec", "rsa"].map(|name| {
        let record = lab.record(name, "x");
        format!("\"sha256:{}\"", record.trim().rsplit(' ').next().unwrap())
    });
    let config = lab.world.config.display().to_string();
    let said = told(&["probe", TWO, "--config", &config, "--pin"]).await;
    let line = said.out.lines().find_map(|line| line.strip_prefix("to paste")).map(str::trim);
    assert_eq!((said.code, line), (0, Some(&*format!("pins: [{}]", pins.join(", ")))), "{said:?}");
    assert!(!said.out.contains("trouble"), "a kind that it has not is no trouble: {said:?}");
    // Who does not ask for pins is not kept longer than it takes.
    let said = told(&["probe", TWO, "--config", &config, "--format", "json"]).await;
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["keys"].as_array().map(Vec::len), Some(1), "{report:#}");
}

// STR-11 as others should have it; and the next certificate is judged before it is shown.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_come_is_judged_before_it_does() {
    const EASY: &str = "easy.example";
    let world = World::build(&Plan::listed(HALL, POLICY)).await.unwrap();
    let at = TcpListener::bind((world.names.address().ip(), 0)).unwrap().local_addr().unwrap();
    easy_going(&world, at, EASY).await;
    world.names.announce(EASY, Some(at), None).unwrap();
    let (report, code) = grade(&world.config, EASY, &[]).await;
    assert_eq!((&report["todo"], code), (&Value::from(0), 0), "{report:#}");
    must(&report, "note", "STARTTLS", "offered, and not required");
    must(&report, "note", "POSH", "its host has no address in the DNS");
    let config = world.config.display().to_string();
    let said = told(&["--quiet", "grade", EASY, "--config", &config]).await;
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");

    let issued = |leaf: Leaf| world.authority.issue(&leaf).unwrap();
    for (name, next, what, words) in [
        ("expired", issued(Leaf { expired: true, ..Leaf::of(&[EASY]) }), "days left", "expired"),
        ("early", issued(Leaf { early: true, ..Leaf::of(&[EASY]) }), "chain", "not trusted (not-yet-valid)"),
        ("other", issued(Leaf::of(&["elsewhere.example"])), "names", "elsewhere.example"),
        ("authority", issued(Leaf { authority: true, ..Leaf::of(&[EASY]) }), "chain", "not trusted (is-ca)"),
        ("alone", Identity::self_signed(&Leaf::of(&[EASY])).unwrap(), "chain", "not trusted (self-signed)"),
    ] {
        let (chain, _key) = next.write(world.folder.path(), name).unwrap();
        let (report, code) = grade(&world.config, EASY, &["--next", &chain.display().to_string()]).await;
        assert_eq!(code, 1, "{name}: {report:#}");
        must(&report, "todo", what, &format!("the next certificate: {words}"));
    }
    let (chain, _key) = issued(Leaf::of(&[EASY])).write(world.folder.path(), "good").unwrap();
    let (report, code) = grade(&world.config, EASY, &["--next", &chain.display().to_string()]).await;
    assert_eq!((&report["todo"], code), (&Value::from(0), 0), "{report:#}");
    must(&report, "good", "chain", "the next certificate: trusted");
}
