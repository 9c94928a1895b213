//! Logins and resumptions in every order that servers of both generations know, through the gateway: SASL of RFC 6120 and of XEP-0388, with
//! each flag of channel binding, Bind 2, and sessions that are there or gone. The client verifies the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use crate::clients::{account, base64, clear, goes_on, scene, secured};
use crate::support::dialogues::At;
use crate::support::programs::{Desk, jid};
use crate::support::raw::Raw;
use crate::support::release::Release;
use crate::support::scene::{HOSTED, Scene, Wishes};
use crate::support::scram::Scram;
use crate::support::server::{Legacy, PASSWORD, Place, SECOND, Server};
use crate::support::{ejabberd, prosody, wait_for};

const MORE: &str = "limits: { rate: 6000/min, login-failures-account: 100 }\ntimeouts: { login-delay: 10ms, login-delay-most: 20ms }\n";

/// In whose words a login is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Rfc6120,
    Sasl2,
}

use Profile::{Rfc6120, Sasl2};

/// A client that has read the features under TLS, and those features; its header says who it is, or does not.
fn offered(desk: &Desk, user: Option<&str>) -> (Raw, String) {
    let mut raw = clear(desk);
    raw.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    raw.hear("<proceed");
    raw.secure(&desk.roots, &[]).unwrap();
    match user {
        Some(user) => raw.open_from(&jid(user)),
        None => raw.open(),
    }
    let features = raw.hear("</stream:features>");
    (raw, features)
}

/// The text of each element of that name.
fn texts<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let end = format!("</{name}>");
    let ends = xml.match_indices(&end).map(|(at, _)| &xml[..at]);
    ends.map(|before| &before[before.rfind('>').unwrap() + 1..]).collect()
}

/// The mechanisms that are shown to a login in these words.
fn shown(features: &str, profile: Profile) -> Vec<&str> {
    let (begin, end) = match profile {
        Rfc6120 => ("<mechanisms", "</mechanisms>"),
        Sasl2 => ("<authentication", "</authentication>"),
    };
    let list = features.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
    // What may go with it has lists of its own.
    let list = list.map_or("", |(list, _)| list);
    texts(list.split("<inline").next().unwrap(), "mechanism")
}

/// What is in an element of that name that was just heard, up to its end tag.
fn payload(heard: &str, name: &str) -> Option<Vec<u8>> {
    let at = heard.rfind(&format!("<{name}"))?;
    let text = heard[at..].split_once('>')?.1.split('<').next()?;
    ::base64::Engine::decode(&::base64::engine::general_purpose::STANDARD, text).ok()
}

fn begin(raw: &mut Raw, profile: Profile, mechanism: &str, first: &[u8], inside: &str) {
    let first = base64(first);
    raw.say(&match profile {
        Rfc6120 => format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{first}</auth>"
        ),
        Sasl2 => format!(
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{mechanism}'><initial-response>{first}</initial-response>\
             <user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>Raw</software></user-agent>{inside}</authenticate>"
        ),
    });
}

/// What comes of it: a challenge, a success or a failure, to its end.
fn outcome(raw: &mut Raw) -> String {
    let mut heard = String::new();
    while !["</challenge>", "</success>", "</failure>"].iter().any(|end| heard.ends_with(end)) {
        heard += &raw.hear(">");
    }
    heard
}

/// A login with SCRAM by a client that verifies the server: its success, or what was said instead.
fn by_scram(
    raw: &mut Raw,
    (profile, mechanism, flag): (Profile, &str, &str),
    password: &str,
    inside: &str,
) -> Result<String, String> {
    let mut scram = Scram::new(mechanism, flag, "warden");
    begin(raw, profile, mechanism, scram.first().as_bytes(), inside);
    let heard = outcome(raw);
    let Some(first) = payload(&heard, "challenge") else { return Err(heard) };
    let answer = base64(scram.last(&String::from_utf8(first).unwrap(), password).as_bytes());
    raw.say(&match profile {
        Rfc6120 => format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{answer}</response>"),
        Sasl2 => format!("<response xmlns='urn:xmpp:sasl:2'>{answer}</response>"),
    });
    let heard = outcome(raw);
    let carried = if profile == Sasl2 { "additional-data" } else { "success" };
    let Some(last) = payload(&heard, carried) else { return Err(heard) };
    assert!(scram.is_proven(&String::from_utf8(last).unwrap()), "{profile:?} {mechanism} {flag}: {heard}");
    Ok(heard)
}

/// A login with the password itself, in the words of XEP-0388.
fn authenticate(raw: &mut Raw, inside: &str) -> String {
    begin(raw, Sasl2, "PLAIN", format!("\0warden\0{PASSWORD}").as_bytes(), inside);
    outcome(raw)
}

/// The value of the first attribute of that name.
fn attribute<'a>(text: &'a str, name: &str) -> &'a str {
    let rest = text.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("{name}: {text}")).1;
    let quote = rest.chars().next().unwrap();
    rest[1..].split(quote).next().unwrap()
}

/// It asks for a resource, and goes on.
fn opens_again(desk: &Desk, mut raw: Raw) {
    raw.open();
    raw.hear("</stream:features>");
    goes_on(desk, raw, At::LoggedIn);
}

/// CB-02, CB-03, XEP-0440: nothing of channel binding is offered; who cannot bind one, and who says that he could, logs in with each
/// mechanism and sees the server proven; who demands it is refused by the gateway by name, and by the server by flag, on a stream
/// that goes on (C2S-11: that is no guess, and leaves each other mechanism its turn); `demanded` is what the server says to it.
fn flags(desk: &Desk, profile: Profile, user: Option<&str>, demanded: &str) {
    let (raw, features) = offered(desk, user);
    drop(raw);
    for hidden in ["-PLUS", "sasl-channel-binding", "tls-exporter", "tls-0rtt"] {
        assert!(!features.contains(hidden), "{hidden}: {features}");
    }
    let all: Vec<_> = shown(&features, profile).into_iter().map(str::to_owned).collect();
    let scrams: Vec<_> = all.iter().filter(|name| name.starts_with("SCRAM-")).collect();
    assert!(!scrams.is_empty() && all.iter().any(|name| name == "PLAIN"), "{features}");
    let success = |mut raw: Raw, mechanism: &str, flag: &str| {
        let heard = by_scram(&mut raw, (profile, mechanism, flag), PASSWORD, "");
        heard.unwrap_or_else(|heard| panic!("{profile:?} {mechanism} {flag}: {heard}"));
        match profile {
            Rfc6120 => opens_again(desk, raw),
            Sasl2 => {
                raw.hear("</stream:features>");
                goes_on(desk, raw, At::LoggedIn);
            }
        }
    };
    for mechanism in &scrams {
        for flag in ["n", "y"] {
            success(offered(desk, user).0, mechanism, flag);
        }
        let (mut raw, _) = offered(desk, user);
        let plus = format!("{mechanism}-PLUS");
        begin(&mut raw, profile, &plus, b"p=tls-exporter,,n=warden,r=abcdef", "");
        let heard = raw.hear("</failure>");
        assert!(heard.contains("<invalid-mechanism"), "{plus}: {heard}");
        let wrong = by_scram(&mut raw, (profile, mechanism, "n"), "abracadabra", "");
        let heard = wrong.expect_err("the password is another");
        assert!(heard.contains("<not-authorized"), "{mechanism}: {heard}");
        success(raw, mechanism, "y");
    }
    let (mut raw, _) = offered(desk, user);
    for mechanism in &scrams {
        match by_scram(&mut raw, (profile, mechanism, "p=tls-exporter"), PASSWORD, "") {
            // It binds nothing, and goes on as if that had been `n`.
            Ok(_) => {
                assert_eq!(demanded, "success", "{profile:?} {mechanism}");
                raw = offered(desk, user).0;
            }
            Err(heard) => {
                assert!(heard.contains(&format!("<{demanded}")), "{profile:?} {mechanism}: {heard}")
            }
        }
    }
    success(raw, scrams[0], "n");
}

/// Gone without a word, until the gateway knows it; somebody writes meanwhile.
fn vanishes(scene: &Scene, raw: Raw, body: &str) {
    drop(raw);
    wait_for("the stream to be gone", Duration::from_secs(10), || {
        let open = scene.gateway.metric("gatehouse_streams", &[("flow", "c2s")]);
        (open == 0.0).then_some(()).ok_or_else(|| open.to_string())
    });
    scene.legacy.login_as(SECOND).message(&jid("warden"), body);
}

/// SM-05, XEP-0198 5: a session comes back in a login of RFC 6120; one that is gone leaves the bind to the client.
fn resumes(scene: &Scene, desk: &Desk) {
    let logged_in = || {
        let mut raw = offered(desk, None).0;
        by_scram(&mut raw, (Rfc6120, "SCRAM-SHA-1", "n"), PASSWORD, "").unwrap();
        raw.open();
        raw.hear("</stream:features>");
        raw
    };
    let mut raw = logged_in();
    raw.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    raw.hear("</iq>");
    raw.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/><presence/>");
    raw.hear("<enabled");
    let enabled = raw.hear(">");
    let session = attribute(&enabled, "id").to_owned();
    raw.hear("<presence");
    vanishes(scene, raw, "while you were away");
    let mut raw = logged_in();
    raw.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{session}' h='1'/>"));
    raw.hear("<resumed");
    raw.hear("while you were away");
    goes_on(desk, raw, At::Bound);
    let mut raw = logged_in();
    raw.say("<resume xmlns='urn:xmpp:sm:3' previd='gone' h='0'/>");
    raw.hear("<failed");
    goes_on(desk, raw, At::LoggedIn);
}

fn by_rfc6120(legacy: Legacy, demanded: &str) {
    let (scene, desk) = scene(legacy, &Wishes { gateway: MORE, ..Wishes::default() });
    flags(&desk, Rfc6120, None, demanded);
    flags(&desk, Rfc6120, Some("warden"), demanded);
    resumes(&scene, &desk);
    assert!(!scene.gateway.log().contains("panicked"));
}

#[test]
fn clients_of_prosody_log_in_by_rfc_6120_with_each_flag() {
    by_rfc6120(Legacy::Prosody, "success");
}

#[test]
fn clients_of_prosody_13_log_in_by_rfc_6120_with_each_flag() {
    by_rfc6120(Legacy::Prosody13, "success");
}

#[test]
fn clients_of_ejabberd_log_in_by_rfc_6120_with_each_flag() {
    by_rfc6120(Legacy::Ejabberd, "not-authorized");
}

#[test]
fn clients_of_ejabberd_24_log_in_by_rfc_6120_with_each_flag() {
    by_rfc6120(Legacy::Ejabberd24, "not-authorized");
}

const BIND: &str =
    "<bind xmlns='urn:xmpp:bind:0'><tag>raw</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
const GONE: &str = "<resume xmlns='urn:xmpp:sm:3' previd='gone' h='0'/>";

/// C2S-19, XEP-0388, XEP-0386, XEP-0198 9: a login with a bind and a session that can be resumed, a resumption of it with a message
/// that waited, one that fails and binds, and one that fails and leaves the bind to the client.
fn a_day(scene: &Scene, desk: &Desk) {
    let (mut raw, features) = offered(desk, Some("warden"));
    for offered in ["urn:xmpp:sasl:2", "urn:xmpp:bind:0", "urn:xmpp:sm:3"] {
        assert!(features.contains(offered), "{offered}: {features}");
    }
    // STR-15: tokens (XEP-0484) it offers to streams with a `from` alone, and none of ours has one, whoever calls.
    assert!(!features.contains("urn:xmpp:fast:0"), "{features}");
    let success = authenticate(&mut raw, BIND);
    assert!(success.contains("<bound") && success.contains("<enabled"), "{success}");
    let session = attribute(success.split_once("<enabled").unwrap().1, "id").to_owned();
    raw.hear("</stream:features>");
    raw.say("<presence/>");
    raw.hear("<presence");
    vanishes(scene, raw, "while you were away");
    let (mut raw, _) = offered(desk, Some("warden"));
    let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{session}' h='1'/>");
    let success = authenticate(&mut raw, &resume);
    assert!(success.contains("<resumed"), "{success}");
    // Prosody writes features behind what waited, ejabberd none.
    raw.hear("while you were away");
    goes_on(desk, raw, At::Bound);
    // What is not there cannot be resumed, and a bind takes its place.
    let (mut raw, _) = offered(desk, Some("warden"));
    let success = authenticate(&mut raw, &format!("{BIND}{GONE}"));
    assert!(success.contains("<failed") && success.contains("<bound"), "{success}");
    raw.hear("</stream:features>");
    goes_on(desk, raw, At::Bound);
    let (mut raw, _) = offered(desk, Some("warden"));
    let success = authenticate(&mut raw, GONE);
    assert!(success.contains("<failed") && !success.contains("<bound"), "{success}");
    raw.hear("</stream:features>");
    goes_on(desk, raw, At::LoggedIn);
}

// C2S-19: it writes features behind a resumption, too, behind what waited and `<r/>`.
#[test]
fn sasl2_of_prosody_13_logs_in_binds_and_resumes() {
    let modules = [("\"smacks\",", "\"smacks\", \"sasl2\", \"sasl2_bind2\", \"sasl2_sm\", \"sasl2_fast\",")];
    let modern =
        |place: &Place<'_>| Server::new(place, prosody::legacy_with(Release::Trixie, place, &modules));
    let (scene, desk) =
        scene(Legacy::Prosody13, &Wishes { legacy: Some(&modern), gateway: MORE, ..Wishes::default() });
    flags(&desk, Sasl2, Some("warden"), "success");
    a_day(&scene, &desk);
    assert!(!scene.gateway.log().contains("panicked"));
}

// STR-15: ejabberd offers SASL2 to streams with a `from` alone, which no stream of ours has, whoever calls: its clients log in by RFC 6120.
#[test]
fn ejabberd_24_offers_the_login_of_rfc_6120_alone() {
    let module = [("  mod_blocking: {}", "  mod_auth_fast: {}\n  mod_blocking: {}")];
    let modern =
        |place: &Place<'_>| Server::new(place, ejabberd::legacy_with(Release::Trixie, place, &module));
    let (_scene, desk) =
        scene(Legacy::Ejabberd24, &Wishes { legacy: Some(&modern), gateway: MORE, ..Wishes::default() });
    for user in [None, Some("warden")] {
        let (raw, features) = offered(&desk, user);
        assert!(!features.contains("urn:xmpp:sasl:2") && features.contains("SCRAM-SHA-512"), "{features}");
        goes_on(&desk, raw, At::Secured);
    }
}

/// What the gateway's log says of clients that cannot log in.
fn warnings(scene: &Scene) -> Vec<String> {
    scene.gateway.log().lines().filter(|line| line.contains("log in")).map(str::to_owned).collect()
}

// CB-09, XEP-0474: ejabberd 24.12 signs its list, of which clients see less. Said once, as what it is; and nothing is said where what
// they see is what it signs. A client that verifies it finds just that.
#[test]
fn a_list_that_ejabberd_signs_is_told_where_clients_see_another() {
    let protected = "disable_sasl_scram_downgrade_protection: false";
    let whole = format!("{protected}\ndisable_sasl_mechanisms: [DIGEST-MD5, X-OAUTH2, EXTERNAL, ANONYMOUS]");
    for (line, told) in [(protected, 1), (&whole, 0)] {
        let replace = [("disable_sasl_scram_downgrade_protection: true", line)];
        let signing =
            |place: &Place<'_>| Server::new(place, ejabberd::legacy_with(Release::Trixie, place, &replace));
        let (scene, desk) =
            scene(Legacy::Ejabberd24, &Wishes { legacy: Some(&signing), gateway: MORE, ..Wishes::default() });
        for user in [None, Some("warden")] {
            for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
                let (mut raw, features) = offered(&desk, user);
                let scram = Scram::new(mechanism, "n", "warden");
                begin(&mut raw, Rfc6120, mechanism, scram.first().as_bytes(), "");
                let heard = raw.hear("</challenge>");
                let first = payload(heard.trim_end_matches("</challenge>"), "challenge").unwrap();
                let vouched =
                    scram.vouches(&String::from_utf8(first).unwrap(), &shown(&features, Rfc6120), &[]);
                assert_eq!(vouched, Some(told == 0), "{mechanism}: {features}");
            }
        }
        let lines = warnings(&scene);
        assert_eq!(lines.len(), told, "{lines:?}");
        let truthful = |line: &String| line.contains("WARN") && line.contains("some clients cannot log in");
        assert!(lines.iter().all(truthful), "{lines:?}");
        // Who does not verify it logs in.
        goes_on(&desk, secured(&desk), At::Secured);
        let (_, said) =
            scene.gateway.command("probe", &["probe", "--c2s", HOSTED, "--account", &account(&desk)]);
        assert_eq!(said.contains("clients that verify the list cannot log in"), told == 1, "{said}");
    }
}
