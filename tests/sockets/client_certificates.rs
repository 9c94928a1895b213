//! Clients that must show a certificate beside their password (C2S-15): who is let in, who is not, and who is let go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use crate::sockets;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::pki::{Authority, Leaf, leaf_params, raw_names, xmpp};
use gatehouse::demo::client::{Account, Client};
use gatehouse::demo::dial;
use gatehouse::demo::wire::Wire;
use gatehouse::demo::world::{Plan, World};
use rcgen::{
    CertificateRevocationListParams, ExtendedKeyUsagePurpose, KeyIdMethod, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::sockets::HALL;

const JULIET: &str = "juliet@hall.example";
const PASSWORD: &str = "open sesame";

/// The gateway, and those who issue certificates to the staff.
struct Door {
    world: World,
    staff: Authority,
}

impl Door {
    async fn of(demand: &str, more: &str) -> Self {
        let world = World::build(&Plan::listed(HALL, sockets::POLICY)).await.unwrap();
        let staff = Authority::new("Staff");
        let door = Self { world, staff };
        std::fs::write(door.path("staff.pem"), pem("CERTIFICATE", &door.staff.certificate)).unwrap();
        door.revoke(&[200]);
        door.demand(demand, more).await;
        door
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.folder.path().join("pki").join(name)
    }

    /// Writes the list of those who are revoked, by serial number.
    fn revoke(&self, serials: &[u8]) {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2400, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&[*serial]),
                    revocation_time: date_time_ymd(2020, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.staff.issuer()).unwrap();
        std::fs::write(self.path("staff.crl"), list.pem().unwrap()).unwrap();
    }

    /// The domain asks its clients for this from now on.
    async fn demand(&self, demand: &str, more: &str) {
        let text = std::fs::read_to_string(&self.world.config).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.contains("clients:")).collect();
        let keys = match demand {
            "off" => String::new(),
            _ => format!(", roots: pki/staff.pem, crls: [pki/staff.crl]{more}"),
        };
        let clients = format!("    clients: {{ certificate: {demand}{keys} }}\n    federation: listed");
        let text = kept.join("\n").replace("    federation: listed", &clients) + "\n";
        std::fs::write(&self.world.config, text).unwrap();
        self.world.gate.reload().await.unwrap();
    }

    fn issue(
        &self,
        by: &Authority,
        names: &[(u8, Vec<u8>)],
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Leaf {
        let mut params = leaf_params(&[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        raw_names(&mut params, names);
        change(&mut params);
        by.sign(params)
    }

    fn of_juliet(&self, serial: u8) -> Leaf {
        self.issue(&self.staff, &[xmpp(JULIET.as_bytes())], |params| {
            params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        })
    }

    fn tls(&self, leaf: Option<&Leaf>) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.world.authority.pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        let mut config = match leaf {
            Some(leaf) => builder.with_client_auth_cert(leaf.chain.clone(), leaf.private()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    async fn login(&self, user: &str, leaf: Option<&Leaf>) -> Result<Client, String> {
        self.login_by(user, self.tls(leaf)).await
    }

    async fn login_by(&self, user: &str, tls: Arc<ClientConfig>) -> Result<Client, String> {
        let at = self.world.at.clients;
        let account = Account { user, domain: HALL, password: PASSWORD };
        Client::login_over_tls(at.ip(), at, account, tls).await.map_err(|trouble| trouble.0)
    }

    /// How the stream ends for who opens it under TLS with this certificate and tries to log in as that user; the
    /// condition, and whether a login was offered at all.
    async fn turned_away(&self, user: &str, leaf: Option<&Leaf>) -> (Option<String>, bool) {
        let at = self.world.at.clients;
        let mut wire = Wire::new(dial(at.ip(), at).await.unwrap());
        let header = format!(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{HALL}' version='1.0'>"
        );
        wire.send(&header).await.unwrap();
        wire.header().await.unwrap();
        wire.element().await.unwrap();
        wire.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await.unwrap();
        assert_eq!(wire.element().await.unwrap().name, "proceed");
        wire.secure(self.tls(leaf), HALL).await.unwrap();
        wire.send(&header).await.unwrap();
        wire.header().await.unwrap();
        let first = wire.element().await.unwrap();
        if first.name == "error" {
            return (first.condition().map(str::to_owned), false);
        }
        use base64::Engine as _;
        let plain = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
        let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>");
        wire.send(auth).await.unwrap();
        let failure = wire.element().await.unwrap();
        assert_eq!(
            (failure.name.as_str(), failure.condition()),
            ("failure", Some("not-authorized")),
            "{}",
            failure.raw
        );
        (wire.ending().await.unwrap().condition, true)
    }

    /// The audit record that fits, once there is one.
    async fn record(&self, fits: impl Fn(&Value) -> bool) -> Value {
        sockets::record(&self.world, fits).await
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn email(address: &str) -> (u8, Vec<u8>) {
    (0x81, address.as_bytes().to_vec())
}

// C2S-15: the certificate and the password must be of one account; and that account's stanzas pass.
#[tokio::test]
async fn who_shows_a_certificate_for_the_account_logs_in_with_the_password() {
    let door = Door::of("require", "").await;
    let leaf = door.of_juliet(7);
    let juliet = door.login("juliet", Some(&leaf)).await.unwrap();
    assert!(juliet.address.starts_with("juliet@hall.example/"));
    let inside = door.world.login("romeo", HALL).await.unwrap();
    juliet.say("romeo@hall.example", "by two factors").await.unwrap();
    inside.inbox.wait_body("by two factors").await.unwrap();
    // A wrong password is refused by the server, as ever.
    let at = door.world.at.clients;
    let wrong = Account { user: "juliet", domain: HALL, password: "guess" };
    let said = Client::login_over_tls(at.ip(), at, wrong, door.tls(Some(&leaf))).await.map(drop).unwrap_err();
    assert!(said.0.contains("not-authorized"), "{said:?}");
}

// "client certificates of a foreign CA, revoked, of another user, of two users": each has its refusal with the cause, before
// any password is heard by the server, and `request` lets no bad one by either.
#[tokio::test]
async fn every_other_certificate_is_refused_with_its_cause_before_a_password_is_heard() {
    use ExtendedKeyUsagePurpose::{EmailProtection, ServerAuth};
    let door = Door::of("require", "").await;
    let foreign = Authority::new("Foreign");
    let namesake = Authority::new("Staff");
    let names = || [xmpp(JULIET.as_bytes())];
    let staff = &door.staff;
    let with = |change: &dyn Fn(&mut rcgen::CertificateParams)| door.issue(staff, &names(), change);
    let (one, two) = (JULIET.as_bytes(), b"romeo@hall.example");
    let table = [
        (
            "a foreign authority",
            door.issue(&foreign, &names(), |_| {}),
            "client-certificate-untrusted",
            "unknown-issuer",
        ),
        (
            "one of the same name",
            door.issue(&namesake, &names(), |_| {}),
            "client-certificate-untrusted",
            "bad-certificate",
        ),
        ("revoked", door.of_juliet(200), "client-certificate-untrusted", "revoked"),
        (
            "two users",
            door.issue(staff, &[xmpp(one), xmpp(two)], |_| {}),
            "client-certificate-untrusted",
            "several-accounts",
        ),
        (
            "expired",
            with(&|params| params.not_after = date_time_ymd(2020, 1, 1)),
            "client-certificate-untrusted",
            "expired",
        ),
        (
            "not yet valid",
            with(&|params| params.not_before = date_time_ymd(2400, 1, 1)),
            "client-certificate-untrusted",
            "not-yet-valid",
        ),
        (
            "for servers",
            with(&|params| params.extended_key_usages = vec![ServerAuth]),
            "client-certificate-untrusted",
            "bad-certificate",
        ),
        (
            "for mail",
            with(&|params| params.extended_key_usages = vec![EmailProtection]),
            "client-certificate-untrusted",
            "bad-certificate",
        ),
        (
            "a mail address",
            door.issue(staff, &[email(JULIET)], |_| {}),
            "client-certificate-untrusted",
            "no-account",
        ),
        (
            "a domain",
            door.issue(staff, &[xmpp(b"hall.example")], |_| {}),
            "client-certificate-untrusted",
            "no-account",
        ),
        (
            "elsewhere",
            door.issue(staff, &[xmpp(b"juliet@annex.example")], |_| {}),
            "client-certificate-untrusted",
            "no-account",
        ),
    ];
    for demand in ["require", "request"] {
        door.demand(demand, "").await;
        for (what, leaf, reason, cause) in &table {
            let ended = door.turned_away("juliet", Some(leaf)).await;
            assert_eq!(ended, (Some("not-authorized".to_owned()), false), "{what}, {demand}");
            door.record(|r| r["event"] == "closed" && r["reason"] == *reason && r["cause"] == *cause).await;
        }
    }
    // Another user's: the password would be right.
    for demand in ["require", "request"] {
        door.demand(demand, "").await;
        let ended = door.turned_away("romeo", Some(&door.of_juliet(7))).await;
        assert_eq!(ended, (Some("not-authorized".to_owned()), true), "{demand}");
    }
    let record = door.record(|r| r["reason"] == "client-certificate-other").await;
    assert_eq!(record["cause"], "other-account", "{record}");
    // None at all.
    door.demand("require", "").await;
    assert_eq!(door.turned_away("juliet", None).await, (Some("not-authorized".to_owned()), false));
    let record = door.record(|r| r["reason"] == "client-certificate-missing").await;
    assert_eq!(record["cause"], "no-certificate", "{record}");
    for demand in ["request", "off"] {
        door.demand(demand, "").await;
        door.login("juliet", None).await.unwrap_or_else(|said| panic!("{demand}: {said}"));
    }
    // Where none is asked for, none is looked at.
    door.login("romeo", Some(&door.of_juliet(7))).await.unwrap();
    let (_, metrics) = door.world.get("/metrics").await.unwrap();
    assert!(metrics.contains("gatehouse_authentications_total"), "{metrics}");
}

// `match`: which of the names of a certificate is the account's.
#[tokio::test]
async fn mail_addresses_count_where_the_domain_says_so() {
    let door = Door::of("require", ", match: email").await;
    let by_mail = door.issue(&door.staff, &[email(JULIET)], |_| {});
    let both = door.issue(&door.staff, &[email("j.capulet@hall.example"), xmpp(JULIET.as_bytes())], |_| {});
    door.login("juliet", Some(&by_mail)).await.unwrap();
    assert!(door.turned_away("juliet", Some(&both)).await.1, "its mail address is another account's");
    door.demand("require", ", match: any").await;
    door.login("juliet", Some(&by_mail)).await.unwrap();
    door.login("juliet", Some(&both)).await.unwrap();
}

// CRT-12: "expiry or revocation ends the living stream"; and so does a domain that asks for more than it did.
#[tokio::test]
async fn who_is_revoked_expires_or_showed_none_is_let_go() {
    let door = Door::of("request", "").await;
    let juliet = door.login("juliet", Some(&door.of_juliet(7))).await.unwrap();
    let other = door.login("juliet", Some(&door.of_juliet(8))).await.unwrap();
    let romeo = door.login("romeo", None).await.unwrap();
    door.revoke(&[200, 7]);
    door.world.gate.reload().await.unwrap();
    assert_eq!(juliet.thrown_out().await.unwrap(), "reset");
    let record = door.record(|r| r["reason"] == "certificate-revoked").await;
    assert_eq!(record["cause"], "revoked", "{record}");
    door.demand("require", "").await;
    assert_eq!(romeo.thrown_out().await.unwrap(), "not-authorized");
    let inside = door.world.login("mercutio", HALL).await.unwrap();
    other.say("mercutio@hall.example", "still here").await.unwrap();
    inside.inbox.wait_body("still here").await.unwrap();

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = door.issue(&door.staff, &[xmpp(JULIET.as_bytes())], |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[9]));
        params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(5);
    });
    let brief = door.login("juliet", Some(&soon)).await.unwrap();
    assert_eq!(brief.thrown_out().await.unwrap(), "reset");
    door.record(|r| r["reason"] == "certificate-expired").await;
}

// RFC 9325 3.4: a session that is resumed shows what it showed, and it is judged by the lists of today. A ticket from before the
// domain asked shows nothing, and is no ticket any more.
#[tokio::test]
async fn a_resumed_tls_session_is_judged_again() {
    let door = Door::of("off", "").await;
    let mut tls = (*door.tls(Some(&door.of_juliet(7)))).clone();
    tls.resumption = Resumption::in_memory_sessions(8);
    let tls = Arc::new(tls);
    drop(door.login_by("juliet", Arc::clone(&tls)).await.unwrap());
    door.demand("require", "").await;
    for _ in 0..2 {
        drop(door.login_by("juliet", Arc::clone(&tls)).await.unwrap());
    }
    door.revoke(&[200, 7]);
    door.world.gate.reload().await.unwrap();
    assert!(door.login_by("juliet", Arc::clone(&tls)).await.is_err());
    door.record(|r| r["cause"] == "revoked" && r["reason"] == "client-certificate-untrusted").await;
}

/// Takes the PROXY header off what comes for the server behind, and keeps what stands behind its first sixteen octets.
async fn headers(door: &Door) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let (to, seen) = (door.world.legacy.c2s, Arc::new(Mutex::new(Vec::new())));
    let listener = TcpListener::bind(SocketAddr::new(to.ip(), 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut first = [0; 16];
                from.read_exact(&mut first).await.ok()?;
                let mut rest = vec![0; usize::from(u16::from_be_bytes([first[14], first[15]]))];
                from.read_exact(&mut rest).await.ok()?;
                kept.lock().unwrap().push(rest);
                let mut on = TcpStream::connect(to).await.ok()?;
                tokio::io::copy_bidirectional(&mut from, &mut on).await.ok()
            });
        }
    });
    let text = std::fs::read_to_string(&door.world.config).unwrap();
    let usual = format!("c2s: [\"{to}\"]");
    assert!(text.contains(&usual), "{text}");
    let told = format!("c2s: [\"{at}\"], proxy-protocol: v2");
    std::fs::write(&door.world.config, text.replace(&usual, &told)).unwrap();
    door.world.gate.reload().await.unwrap();
    seen
}

/// What a header says of the client's TLS: the flags, and 0 where a certificate was verified (PROXY protocol 2.2.6).
fn of_tls(header: &[u8]) -> Option<(u8, u32)> {
    // Behind two addresses and ports.
    let mut rest = header.get(12..)?;
    while let [kind, high, low, more @ ..] = rest {
        let (value, behind) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        if *kind == 0x20 {
            return Some((value[0], u32::from_be_bytes(value[1..5].try_into().unwrap())));
        }
        rest = behind;
    }
    None
}

// C2S-15: "facts travel in PROXY v2 TLVs where switched on": whether the client showed a certificate, and it holds.
#[tokio::test]
async fn the_server_behind_is_told_whether_a_certificate_was_shown() {
    let door = Door::of("request", "").await;
    let seen = headers(&door).await;
    let leaf = door.of_juliet(7);
    for (leaf, told) in [(Some(&leaf), (0x07, 0)), (None, (0x01, 1))] {
        seen.lock().unwrap().clear();
        let juliet = door.login("juliet", leaf).await.unwrap();
        let headers = seen.lock().unwrap().clone();
        let found: Vec<_> = headers.iter().filter_map(|header| of_tls(header)).collect();
        assert_eq!(found, [told], "{headers:?}");
        drop(juliet);
    }
}
