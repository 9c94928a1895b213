//! The filter for fail2ban, on the log of a gateway that was tried: it finds who guesses passwords, claims other names or speaks
//! no XMPP, and nobody else, in text, as JSON and as the journal of systemd hands it over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use gatehouse::demo::dial;
use gatehouse::demo::session::Word;
use gatehouse::demo::world::Plan;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::apart::*;
use crate::sockets::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gatehouse");
const FILTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/fail2ban/filter.d/gatehouse.conf");

/// How often the filter finds each address in these lines.
fn found(folder: &Path, lines: &str, mode: &str) -> BTreeMap<String, usize> {
    let file = folder.join("lines");
    fs::write(&file, lines).unwrap();
    let mut command = Command::new("fail2ban-regex");
    let filter = format!("{FILTER}[mode={mode}]");
    let output = command.args(["--out", "ip", "--datepattern", "{^LN-BEG}"]).arg(&file).arg(filter).output();
    let output = output.expect("fail2ban: tests/run installs it");
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeMap::new();
    out.lines().for_each(|ip| *found.entry(ip.to_owned()).or_default() += 1);
    found
}

/// Whom it has found.
fn addresses(found: &BTreeMap<String, usize>) -> Vec<&str> {
    found.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_filter_finds_who_does_harm_and_nobody_else() {
    for format in ["text", "json"] {
        let plan = Plan { log: "info", ..plan() }.timeout("first-byte", "2s");
        let edit = |text: String, _: &_| text.replace("format: text", &format!("format: {format}"));
        let apart = Apart::build_with(&plan, edit, Command::new(PROGRAM)).await;
        let world = &apart.world;
        // Passwords are guessed; a right one is none of that.
        for _ in 0..3 {
            assert!(world.login_from_outside("juliet", HALL, Some("wrong")).await.is_err());
        }
        let romeo = world.login_from_outside("romeo", HALL, None).await.unwrap();
        // A domain that no rule names has done nothing wrong.
        let unlisted = peer(world, 20, STRANGER).await;
        let mut stream = unlisted.call_bare(HALL).unwrap().open().await.unwrap();
        assert!(matches!(stream.dialback(STRANGER, HALL).await.unwrap(), Word::Error(_)));
        // A partner, whose words on its way out are a line about somebody else.
        let friend = peer(world, 21, FRIEND).await;
        let mut stream = by_certificate(&friend, HALL).await;
        still_passes(world, &mut stream, "a@friend.example", "j@hall.example", "in").await;
        let lines = "\n2026-11-30T12:00:00.000000Z  INFO login flow=c2s domain=hall.example peer=203.0.113.9:1 relay=1-1 \
                     mechanism=\"plain\" outcome=\"deny\" reason=\"sasl-refused\"\n\
                     {\"timestamp\":\"2026-11-30T12:00:00.000000Z\",\"level\":\"INFO\",\"message\":\"login\",\"flow\":\"c2s\",\
                     \"domain\":\"hall.example\",\"peer\":\"203.0.113.9:1\",\"relay\":\"1-1\",\"mechanism\":\"plain\",\
                     \"outcome\":\"deny\",\"reason\":\"sasl-refused\"}\n";
        let text = gatehouse::demo::node::escape(lines);
        let error = "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                     <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>";
        stream.wire.send(format!("{error}{text}</text></stream:error></stream:stream>")).await.unwrap();
        // A partner's server that forges a sender, one that claims another's name, and one that claims ours.
        let forger = peer(world, 22, "forger.friend.example").await;
        let mut stream = by_certificate(&forger, HALL).await;
        stream.message("a@cousin.example", "j@hall.example", "forged").await.unwrap();
        let liar = peer(world, 23, "liar.friend.example").await;
        let mut lying = liar.call_bare(HALL).unwrap().open().await.unwrap();
        assert!(!matches!(lying.dialback(FRIEND, HALL).await.unwrap(), Word::Valid));
        let thief = peer(world, 24, "thief.friend.example").await;
        let mut call = thief.call_bare(HALL).unwrap();
        call.greeting.from = Some(HALL.to_owned());
        if let Ok(mut stream) = call.open().await {
            let _refused = stream.dialback(HALL, HALL).await;
        }
        // No XMPP at all.
        for (source, at) in [("127.99.0.5", world.at.public), ("127.99.0.6", world.at.direct)] {
            let mut odd = dial(source.parse().unwrap(), at).await.unwrap();
            odd.write_all(b"GET / HTTP/1.1\r\nHost: hall.example\r\n\r\n").await.unwrap();
            let _ended = odd.read_to_end(&mut Vec::new()).await;
        }
        for words in [
            "sasl-refused",
            "not-listed",
            "invalid-from",
            "dialback-invalid",
            "not-well-formed",
            "wrong-transport",
        ] {
            apart.logged(words).await;
        }
        let log = apart.log();
        let guesser = romeo_address(&log);
        let [forger, liar, thief] = [&forger, &liar, &thief].map(|peer| peer.address.ip().to_string());
        let folder = world.folder.path();
        let normal = found(folder, &log, "normal");
        assert_eq!(normal.get(&guesser), Some(&3), "{normal:?}\n{log}");
        let mut expected = vec![guesser.as_str(), &forger, &thief];
        expected.sort_unstable();
        assert_eq!(addresses(&normal), expected, "{format}\n{log}");
        let aggressive = found(folder, &log, "aggressive");
        let mut more = [&expected[..], &[&liar, "127.99.0.5", "127.99.0.6"]].concat();
        more.sort_unstable();
        assert_eq!(addresses(&aggressive), more, "{format}\n{log}");
        // The same as the journal hands it over.
        let journal: String = log.lines().map(|line| format!("gate gatehouse[17]: {line}\n")).collect();
        assert_eq!(found(folder, &journal, "aggressive"), aggressive, "{format}");
        // IPv6, which this world does not speak.
        let six = log.replace(&format!("{guesser}:"), "[2001:db8::5]:");
        assert_eq!(found(folder, &six, "normal").get("2001:db8::5"), Some(&3), "{format}");
        drop(romeo);
        acts(&apart);
    }
}

/// The address of the clients of this world: the one that logged in at last.
fn romeo_address(log: &str) -> String {
    let line = log.lines().find(|line| line.contains("sasl-refused")).unwrap();
    let after = line.split("peer").nth(1).unwrap();
    after.trim_start_matches(['=', '"', ':']).split(':').next().unwrap().to_owned()
}

/// The commands of the action do what they say.
fn acts(apart: &Apart) {
    let action = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/fail2ban/action.d/gatehouse.conf"),
    );
    let action = action.unwrap();
    let socket = apart.world.socket().display().to_string();
    let run = |key: &str| {
        let line = action.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap();
        let line =
            line.replace("<ip>", "203.0.113.9").replace("<bantime>", "3600").replace("<socket>", &socket);
        let program = line.replacen("gatehouse", PROGRAM, 1);
        let done = Command::new("sh").args(["-e", "-c", &program]).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let bans = || {
        let said = Command::new(PROGRAM).args(["bans", "--socket", &socket]).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    run("actionban");
    assert!(bans().contains("203.0.113.9"), "{}", bans());
    run("actionunban");
    assert!(!bans().contains("203.0.113.9"), "{}", bans());
}

// fail2ban itself reads jail, filter and action, as an operator would lay them down.
#[test]
fn fail2ban_takes_the_jail_as_it_is_shipped() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/fail2ban");
    let copy = |from: &Path| {
        let from = format!("{}/.", from.display());
        assert!(Command::new("cp").args(["-r", &from]).arg(folder.path()).status().unwrap().success());
    };
    copy(Path::new("/etc/fail2ban"));
    // Debian's own jail asks for a log that this machine need not have.
    fs::remove_dir_all(folder.path().join("jail.d")).unwrap();
    copy(&shipped);
    let done = Command::new("fail2ban-client").arg("-c").arg(folder.path()).arg("-t").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("OK"), "{said}");
    let dumped = Command::new("fail2ban-client").arg("-c").arg(folder.path()).arg("-d").output().unwrap();
    let dumped = String::from_utf8_lossy(&dumped.stdout).into_owned();
    for words in ["'gatehouse'", "gatehouse ban <ip>", "_SYSTEMD_UNIT=gatehouse.service"] {
        assert!(dumped.contains(words), "no {words} in {dumped}");
    }
}
