//! DNSSEC and DANE both ways (DNS-09, DNS-11, DNS-12, DNS-13, DNS-15, DNS-18), with zones that ldns signs, unbound that serves and validates them, and
//! openssl and ldns-dane as further judges of the same certificates and records.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::zones;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::pki::{Authority, Identity, Leaf};
use gatehouse::demo::session::{Login, Word};
use gatehouse::demo::world::{Plan, World};

use crate::sockets::{HALL, record, still_passes};
use crate::steering::run;

/// The zones; all but the second are signed, or claim to be.
const ZONES: [&str; 9] = [
    "signed.example",
    "plain.example",
    "forged.example",
    "stripped.example",
    "stale.example",
    "claimed.example",
    "gaps.example",
    "hashed.example",
    "hollow.example",
];

/// A rule for all of them, with this condition.
fn policy(condition: &str) -> String {
    let domains: Vec<String> = ZONES.iter().map(|zone| format!("\"*.{zone}\"")).collect();
    format!("version: v1\nrules:\n  - {{ name: partners, domains: [{}]{condition} }}\n", domains.join(", "))
}

/// Who validates.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// unbound, which says so.
    Resolver,
    /// The gateway, from the keys of the zones.
    Gateway,
}

/// A server out there, and what its zone says of it.
struct Partner {
    domain: String,
    peer: Peer,
}

/// What a partner's zone says, and what must come of a message to it.
struct Case {
    what: &'static str,
    zone: &'static str,
    identity: Identity,
    /// Usage, selector, matching type and data of each TLSA record; the port is the right one or not.
    tlsa: Vec<(u8, u8, u8, Vec<u8>)>,
    right_port: bool,
    found: Found,
    /// The proof of the server, or the cause of the refusal.
    comes: Result<&'static str, &'static str>,
}

/// What leads to a server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    /// An SRV record.
    Srv,
    /// An SRV record that names an alias, at whose end are address and TLSA record (RFC 7671 7).
    Alias,
    /// An SRV record; the name of the TLSA record is an alias.
    Elsewhere,
    /// The domain itself, without SRV.
    Itself,
    /// An SRV record that names a host below a DNAME.
    Below,
}

fn own(names: &[&str]) -> Identity {
    Identity::self_signed(&Leaf { expired: true, ..Leaf::of(names) }).unwrap()
}

fn key_sha256(identity: &Identity) -> (u8, u8, u8, Vec<u8>) {
    (3, 1, 1, digest(&SHA256, &identity.der().unwrap().1).as_ref().to_vec())
}

/// A zone, signed or not: its file for unbound, and the file of its key.
fn sign(folder: &Path, zone: &str, records: &str, signed: bool) -> (PathBuf, Option<PathBuf>) {
    if !signed {
        return (zones::write(folder, zone, records), None);
    }
    let key = zones::key(folder, zone);
    let how: &[&str] = match zone {
        "stale.example" => &["-i", "20200101", "-e", "20200201"],
        // NSEC3 (RFC 5155).
        "hashed.example" | "hollow.example" => &["-n"],
        _ => &[],
    };
    (zones::sign(folder, zone, records, &key, how), Some(folder.join(format!("{key}.key"))))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What openssl makes of the same server and the same records.
fn second_judge(
    address: SocketAddr,
    host: &str,
    domain: &str,
    tlsa: &[(u8, u8, u8, Vec<u8>)],
    roots: &Path,
) -> bool {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-starttls", "xmpp-server", "-name", domain, "-servername", domain]);
    command.args([
        "-verify_return_error",
        "-brief",
        "-dane_ee_no_namechecks",
        "-dane_tlsa_domain",
        host,
        "-connect",
        &address.to_string(),
    ]);
    for (usage, selector, matching, data) in tlsa {
        if *usage < 2 {
            command.arg("-CAfile").arg(roots);
        }
        command.args(["-dane_tlsa_rrdata", &format!("{usage} {selector} {matching} {}", hex(data))]);
    }
    let done = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("DANE") || said.contains("erif"), "{said}");
    said.contains("Verification: OK") && said.contains("DANE TLSA")
}

/// What ldns-dane makes of the same certificate and the same records.
fn third_judge(
    folder: &Path,
    name: &str,
    identity: &Identity,
    tlsa: &[(u8, u8, u8, Vec<u8>)],
    roots: &Path,
) -> bool {
    let (chain, _) = identity.write(folder, name).unwrap();
    let records = folder.join(format!("{name}.tlsa"));
    let mut text = String::new();
    for (usage, selector, matching, data) in tlsa {
        writeln!(text, "_5269._tcp.{name}. 60 IN TLSA {usage} {selector} {matching} {}", hex(data)).unwrap();
    }
    std::fs::write(&records, text).unwrap();
    let mut command = Command::new("ldns-dane");
    match tlsa.iter().all(|(usage, ..)| *usage == 3) {
        // RFC 7671 5.1: with usage 3 names are not looked at; the tool wants to be told.
        true => command.arg("-n"),
        false => command.arg("-f").arg(roots),
    };
    let done = command.arg("-c").arg(chain).arg("-t").arg(records).args(["verify", name, "5269"]).output();
    let done = done.unwrap_or_else(|e| panic!("ldns-dane ({e}); tests/run installs it"));
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("validate"), "{said}");
    done.status.success()
}

fn cases(trusted: &Authority) -> Vec<Case> {
    let good = |n: usize| trusted.issue(&Leaf::of(&[&format!("c{n}.signed.example")])).unwrap();
    let case = |what, identity, tlsa, comes| Case {
        what,
        zone: "signed.example",
        identity,
        tlsa,
        right_port: true,
        found: Found::Srv,
        comes,
    };
    let full = |identity: &Identity| identity.der().unwrap();
    let foreign = Authority::new("their own authority").unwrap();
    let mut all = Vec::new();
    let alone = own(&["nobody.example"]);
    all.push(case("3 1 1, nobody's certificate", alone.clone(), vec![key_sha256(&alone)], Ok("dane")));
    let data = digest(&SHA512, &full(&alone).0).as_ref().to_vec();
    all.push(case("3 0 2", alone.clone(), vec![(3, 0, 2, data)], Ok("dane")));
    all.push(case("3 1 0", alone.clone(), vec![(3, 1, 0, full(&alone).1)], Ok("dane")));
    let next = own(&["nobody.example"]);
    let both = vec![key_sha256(&alone), key_sha256(&next)];
    all.push(case("a roll-over with two records", next.clone(), both, Ok("dane")));
    let anchor = vec![(2, 0, 0, foreign.der())];
    let named = foreign.issue(&Leaf::of(&["c4.signed.example"])).unwrap();
    all.push(case("2 0 0, an authority of their own", named, anchor.clone(), Ok("dane")));
    let other = foreign.issue(&Leaf::of(&["elsewhere.example"])).unwrap();
    all.push(case("2 0 0, and another name", other, anchor, Err("tlsa-mismatch")));
    let known = good(6);
    let data = digest(&SHA256, &full(&known).1).as_ref().to_vec();
    all.push(case("1 1 1, trusted and named", known, vec![(1, 1, 1, data)], Ok("dane")));
    let data = digest(&SHA256, &full(&alone).1).as_ref().to_vec();
    all.push(case("1 1 1, trusted by nobody", alone.clone(), vec![(1, 1, 1, data)], Err("tlsa-mismatch")));
    all.push(case(
        "3 1 1 of another key, though trusted",
        good(8),
        vec![key_sha256(&alone)],
        Err("tlsa-mismatch"),
    ));
    let unusable = || {
        vec![(9, 1, 1, vec![7; 32]), (3, 1, 1, vec![7; 31]), (3, 7, 1, vec![7; 32]), (3, 1, 9, vec![7; 32])]
    };
    all.push(case("none usable, and trusted", good(9), unusable(), Ok("certificate")));
    all.push(case("none usable, and nobody's", own(&["c10.signed.example"]), unusable(), Err("expired")));
    let host = trusted.issue(&Leaf::of(&["h11.signed.example"])).unwrap();
    all.push(case("the name of the host of a secure SRV", host, vec![], Ok("certificate")));
    let wrong = case("3 1 1 at another port", alone.clone(), vec![key_sha256(&alone)], Err("self-signed"));
    all.push(Case { right_port: false, ..wrong });
    let plain =
        |what, identity, tlsa, comes| Case { zone: "plain.example", ..case(what, identity, tlsa, comes) };
    all.push(plain(
        "3 1 1 in a zone without signatures",
        alone.clone(),
        vec![key_sha256(&alone)],
        Err("self-signed"),
    ));
    let host = trusted.issue(&Leaf::of(&["h14.plain.example"])).unwrap();
    all.push(plain("the name of the host of an insecure SRV", host, vec![], Err("other-name")));
    let forged = case("signatures that do not hold", alone.clone(), vec![key_sha256(&alone)], Err("dns"));
    all.push(Case { zone: "forged.example", ..forged });
    // Whoever takes the record out of the answers gains nothing, though the certificate is good.
    let kept_back = trusted.issue(&Leaf::of(&["c16.stripped.example"])).unwrap();
    let kept = case("3 1 1 that is kept back", kept_back, vec![key_sha256(&alone)], Err("dns"));
    all.push(Case { zone: "stripped.example", ..kept });
    for found in [Found::Alias, Found::Elsewhere, Found::Itself] {
        let led = case("3 1 1 by another way", alone.clone(), vec![key_sha256(&alone)], Ok("dane"));
        all.push(Case { found, ..led });
    }
    let host = trusted.issue(&Leaf::of(&["c20.stale.example"])).unwrap();
    let stale = case("signatures of long ago, played again", host, vec![key_sha256(&alone)], Err("dns"));
    all.push(Case { zone: "stale.example", ..stale });
    let host = trusted.issue(&Leaf::of(&["c21.claimed.example"])).unwrap();
    let claimed = case("no signatures where the parent says that there are", host, vec![], Err("dns"));
    all.push(Case { zone: "claimed.example", ..claimed });
    let host = trusted.issue(&Leaf::of(&["c22.gaps.example"])).unwrap();
    let gaps = case("no proof that there is no TLSA", host, vec![], Err("dns"));
    all.push(Case { zone: "gaps.example", ..gaps });
    // Usage 0: the authority must have issued it, and be trusted here; shown beside the certificate it says nothing.
    let authority = |authority: &Authority| (0, 0, 1, digest(&SHA256, &authority.der()).as_ref().to_vec());
    let issued = good(23).beside(trusted);
    all.push(case("0 0 1 of its own authority", issued, vec![authority(trusted)], Ok("dane")));
    let beside = good(24).beside(trusted).beside(&foreign);
    let records = vec![authority(&foreign)];
    all.push(case("0 0 1 of an authority shown beside", beside, records.clone(), Err("tlsa-mismatch")));
    let named = foreign.issue(&Leaf::of(&["c25.signed.example"])).unwrap().beside(&foreign);
    all.push(case("0 0 1 of an authority trusted by nobody", named, records, Err("tlsa-mismatch")));
    let elsewhere = trusted.issue(&Leaf::of(&["elsewhere.example"])).unwrap().beside(trusted);
    let records = vec![authority(trusted)];
    all.push(case("0 0 1, and another name", elsewhere, records, Err("tlsa-mismatch")));
    let elsewhere = trusted.issue(&Leaf::of(&["elsewhere.example"])).unwrap();
    let data = digest(&SHA256, &full(&elsewhere).1).as_ref().to_vec();
    all.push(case("1 1 1, and another name", elsewhere, vec![(1, 1, 1, data)], Err("tlsa-mismatch")));
    let hashed =
        |what, identity, tlsa, comes| Case { zone: "hashed.example", ..case(what, identity, tlsa, comes) };
    let records = vec![key_sha256(&alone)];
    all.push(hashed("3 1 1 in a zone that hashes its names", alone, records, Ok("dane")));
    let host = trusted.issue(&Leaf::of(&["h29.hashed.example"])).unwrap();
    all.push(hashed("none there, and a proof of that", host, vec![], Ok("certificate")));
    let host = trusted.issue(&Leaf::of(&["c30.hollow.example"])).unwrap();
    let hollow = case("no proof that there is no TLSA, where names are hashed", host, vec![], Err("dns"));
    all.push(Case { zone: "hollow.example", ..hollow });
    let below = case("3 1 1 below a DNAME", own(&["x.example"]), vec![], Ok("dane"));
    all.push(Case { found: Found::Below, tlsa: vec![key_sha256(&below.identity)], ..below });
    all
}

async fn walk_through(by: By) {
    let world = World::build(&Plan::listed(HALL, &policy("")).limit("rate", "6000/min")).await.unwrap();
    let folder = world.folder.path().join("dns");
    std::fs::create_dir(&folder).unwrap();
    let mut cases = cases(&world.authority);
    // The alias that a DNAME stands for has no signature of its own, and hickory takes none without: nobody is reached.
    let unread = |case: &&mut Case| by == By::Gateway && case.found == Found::Below;
    cases.iter_mut().filter(unread).for_each(|case| case.comes = Err("dns"));
    let mut partners = Vec::new();
    let mut zones: Vec<(&str, String)> = ZONES.into_iter().map(|zone| (zone, String::new())).collect();
    for (n, case) in cases.iter().enumerate() {
        let domain = format!("c{n}.{}", case.zone);
        let host = 20 + u8::try_from(n).unwrap();
        let peer = world.peer_with(host, &[&domain], case.identity.clone(), Manner::default()).await.unwrap();
        let (ip, port) = (peer.address.ip(), peer.address.port());
        let text = &mut zones.iter_mut().find(|(zone, _)| *zone == case.zone).unwrap().1;
        let (mut at, leads) = (format!("h{n}"), format!("_xmpp-server._tcp.c{n} IN SRV 0 0 {port} h{n}\n"));
        match case.found {
            Found::Srv => writeln!(text, "{leads}h{n} IN A {ip}").unwrap(),
            Found::Alias => {
                at = format!("t{n}");
                writeln!(text, "{leads}h{n} IN CNAME t{n}\nt{n} IN A {ip}").unwrap();
            }
            Found::Elsewhere => {
                writeln!(text, "{leads}h{n} IN A {ip}\n_{port}._tcp.h{n} IN CNAME _{port}._tcp.r{n}")
                    .unwrap();
                at = format!("r{n}");
            }
            Found::Below => {
                at = format!("h{n}.t{n}");
                writeln!(text, "{}.d{n}\nd{n} IN DNAME t{n}\n{at} IN A {ip}", leads.trim_end()).unwrap();
            }
            Found::Itself => {
                assert_eq!(port, 5269, "a domain without SRV is called at the port of the standard");
                writeln!(text, "c{n} IN A {ip}").unwrap();
                at = format!("c{n}");
            }
        }
        let port = if case.right_port { port } else { 443 };
        for (usage, selector, matching, data) in &case.tlsa {
            writeln!(
                text,
                "_{port}._tcp.{at} IN TYPE52 \\# {} {usage:02x}{selector:02x}{matching:02x}{}",
                3 + data.len(),
                hex(data)
            )
            .unwrap();
        }
        partners.push(Partner { domain, peer });
    }
    // Above them one zone that is trusted: it signs for two of them, and says that the third is not signed.
    let mut above = String::new();
    let mut served: Vec<_> = zones
        .iter()
        .map(|(zone, text)| {
            let (file, key) = sign(&folder, zone, text, *zone != "plain.example");
            if *zone == "forged.example" {
                // Another address, under the signature of the first.
                let text = std::fs::read_to_string(&file).unwrap();
                let lines =
                    text.lines().map(|line| match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                        [name, ttl, "IN", "A", ip] if name.starts_with('h') => {
                            format!("{name} {ttl} IN A {}", ip.replacen("127.", "126.", 1))
                        }
                        _ => line.to_owned(),
                    });
                std::fs::write(&file, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
            }
            if *zone == "claimed.example" {
                // As it was before it was signed; the parent has its key.
                std::fs::copy(folder.join(zone), &file).unwrap();
            }
            if matches!(*zone, "gaps.example" | "hollow.example") {
                let text = std::fs::read_to_string(&file).unwrap();
                let kept = |line: &&str| {
                    !line.split_ascii_whitespace().any(|word| ["NSEC", "NSEC3"].contains(&word))
                };
                std::fs::write(&file, text.lines().filter(kept).collect::<Vec<_>>().join("\n") + "\n")
                    .unwrap();
            }
            if *zone == "stripped.example" {
                let text = std::fs::read_to_string(&file).unwrap();
                let kept = |line: &&str| {
                    !matches!(
                        line.split_ascii_whitespace().collect::<Vec<_>>()[..],
                        [_, _, _, "TLSA", ..] | [_, _, _, "RRSIG", "TLSA", ..]
                    )
                };
                let less: Vec<&str> = text.lines().filter(kept).collect();
                assert_eq!(less.len() + 2, text.lines().count(), "{text}");
                std::fs::write(&file, less.join("\n") + "\n").unwrap();
            }
            writeln!(above, "{zone}. IN NS ns.{zone}.\nns.{zone}. IN A 127.0.0.1").unwrap();
            if let Some(key) = key {
                above += &std::fs::read_to_string(key.with_extension("ds")).unwrap();
            }
            (*zone, file, None)
        })
        .collect();
    let (file, key) = sign(&folder, "example", &above, true);
    std::fs::copy(key.as_ref().unwrap(), folder.join("anchors")).unwrap();
    // Who does not validate is given no key.
    served.push(("example", file, key.filter(|_| by == By::Resolver)));
    let (_running, resolver) = zones::unbound(&folder, world.names.address().ip(), &served);
    let text = std::fs::read_to_string(&world.config).unwrap();
    let dnssec = match by {
        By::Resolver => "dnssec: resolver".to_owned(),
        By::Gateway => format!("dnssec: validate, anchors: {}", folder.join("anchors").display()),
    };
    let before = format!("dns: {{ servers: [\"{}\"]", world.names.address());
    assert!(text.contains(&before), "{text}");
    let text = text.replace(&before, &format!("dns: {{ servers: [\"{}\"], {dnssec}", resolver));
    std::fs::write(&world.config, text).unwrap();
    world.gate.reload().await.unwrap();

    for (n, (case, partner)) in cases.iter().zip(&partners).enumerate() {
        let (what, domain) = (case.what, &partner.domain);
        world.legacy.message("j@hall.example", &format!("a@{domain}"), &format!("to {n}"));
        let pair = format!("hall.example>{domain}");
        match case.comes {
            Ok(proof) => {
                let admitted = record(&world, |r| r["event"] == "admitted" && r["pair"] == *pair).await;
                assert_eq!(admitted["server_proof"], proof, "{by:?} {what}: {admitted}");
                partner.peer.inbox.wait_body(&format!("to {n}")).await.unwrap();
            }
            Err(cause) => {
                let refused = record(&world, |r| r["event"] != "admitted" && r["pair"] == *pair).await;
                let found = refused["cause"].as_str().unwrap_or_default();
                let fits = match cause {
                    "dns" if by == By::Gateway => found == "dns-bogus",
                    "dns" => found == "dns-trouble",
                    // Expired and issued by itself: either is the truth.
                    "expired" | "self-signed" => ["expired", "self-signed"].contains(&found),
                    cause => found == cause,
                };
                assert!(fits, "{by:?} {what}: {refused}");
                assert!(partner.peer.inbox.is_empty(), "{by:?} {what}");
            }
        }
        let usable = case.tlsa.iter().all(|(usage, selector, matching, data)| {
            *usage <= 3 && *selector <= 1 && *matching <= 2 && data.len() != 31
        });
        if by == By::Resolver
            && case.zone == "signed.example"
            && case.right_port
            && case.found == Found::Srv
            && usable
            && !case.tlsa.is_empty()
        {
            let (usage, roots) = (case.tlsa[0].0, world.folder.path().join("pki/root.pem"));
            let host = if usage < 3 { domain.clone() } else { format!("h{n}.{}", case.zone) };
            let agrees = second_judge(partner.peer.address, &host, domain, &case.tlsa, &roots);
            assert_eq!(agrees, case.comes == Ok("dane"), "openssl judges otherwise: {what}");
            // It looks for an anchor in its own store, so it is not asked about those that a zone brings.
            if usage != 2 {
                let agrees = third_judge(&folder, &host, &case.identity, &case.tlsa, &roots);
                assert_eq!(agrees, case.comes == Ok("dane"), "ldns-dane judges otherwise: {what}");
            }
        }
    }
    // DNS-15, DNS-18: a rule that takes nothing less has each of them proven when it calls, too, and says why not.
    let strict = policy(", identity: [dane]");
    std::fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), strict).unwrap();
    world.gate.reload().await.unwrap();
    let dns = if by == By::Gateway { "dns-bogus" } else { "dns-trouble" };
    for (n, (case, Partner { domain, peer })) in cases.iter().zip(&partners).enumerate() {
        let (what, pair) = (case.what, format!("{domain}>hall.example"));
        let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
        let cause = match case.comes {
            Ok("dane") => {
                assert!(stream.offers_external(), "{by:?} {what}");
                assert_eq!(stream.external(domain).await.unwrap(), Login::Success, "{by:?} {what}");
                let body = format!("from {n}");
                still_passes(&world, &mut stream, &format!("a@{domain}"), "j@hall.example", &body).await;
                let came = record(&world, |r| r["event"] == "admitted" && r["pair"] == *pair).await;
                assert_eq!(came["proof"], "dane", "{by:?} {what}: {came}");
                continue;
            }
            Err("tlsa-mismatch") => "tlsa-mismatch",
            Err("dns") => dns,
            Ok(_) | Err(_) => "no-tlsa",
        };
        assert!(!stream.offers_external(), "{by:?} {what}");
        let ended = stream.ending().await.unwrap();
        assert_eq!(ended.condition.as_deref(), Some("policy-violation"), "{by:?} {what}");
        let refused = record(&world, |r| r["event"] != "admitted" && r["pair"] == *pair).await;
        assert_eq!(refused["cause"], cause, "{by:?} {what}: {refused}");
        if case.comes == Ok("certificate") {
            let pair = format!("hall.example>{domain}");
            world.legacy.message("j@hall.example", &format!("a@{domain}"), &format!("no more {n}"));
            let refused = record(&world, |r| r["cause"] == "no-tlsa" && r["pair"] == *pair).await;
            assert_eq!(refused["flow"], "s2s-out", "{refused}");
        }
    }
    // The same with certificate and dialback beside it: the strongest that holds is the one that is told.
    std::fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), policy("")).unwrap();
    world.gate.reload().await.unwrap();
    for (case, Partner { domain, peer }) in cases.iter().zip(&partners).take(3) {
        let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.dialback(domain, HALL).await.unwrap(), Word::Valid, "{}", case.what);
    }
    let labels = [("method", "dane"), ("flow", "s2s-in")];
    world.counted("authentications_total", &labels, 3.0).await.unwrap();
    let config = world.config.display().to_string();
    let domain = partners[0].domain.clone();
    let said =
        tokio::task::spawn_blocking(move || run(&["probe", &domain, "--config", &config])).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.contains("secure (DNSSEC), TLSA records: 1") && said.out.contains("proven by   dane"),
        "{}",
        said.out
    );
}

// DNS-09: "a "secure" flag counts only from a validating resolver on a trusted path". DNS-11, DNS-12, DNS-13.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_dns_names_proves_a_server_where_the_resolver_validates() {
    walk_through(By::Resolver).await;
}

// "or own validation": the resolver says nothing, and hands on what is forged.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_dns_names_proves_a_server_where_the_gateway_validates() {
    walk_through(By::Gateway).await;
}
