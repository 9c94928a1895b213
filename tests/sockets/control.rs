//! The control socket, spoken to as an operator would: by the commands of the binary, against a gateway with live peers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::Login;
use serde_json::Value;

use crate::sockets::*;
use crate::steering::*;

/// The pairs of all streams, each with its stream.
fn pairs(answer: &Value) -> Vec<(Value, Value)> {
    let streams = answer["streams"].as_array().unwrap().iter();
    streams
        .flat_map(|stream| {
            stream["pairs"].as_array().unwrap().iter().map(|pair| (stream.clone(), pair.clone()))
        })
        .collect()
}

/// Whether this peer can prove itself to hall.example.
async fn is_admitted(peer: &Peer) -> bool {
    match peer.call(HALL).unwrap().open().await {
        Ok(mut stream) => matches!(stream.external(peer.domain()).await, Ok(Login::Success)),
        Err(_) => false,
    }
}

fn request(socket: &Path, line: &[u8]) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(line).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

// Who, how proven, since when, counts, TLS, rule.
#[tokio::test]
async fn streams_are_shown_with_their_proof_rule_and_counts() {
    let world = border().await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let mut first = by_certificate(&friend, HALL).await;
    let mut second = by_dialback(&cousin, HALL).await;
    still_passes(&world, &mut first, "a@friend.example", "j@hall.example", "one").await;
    still_passes(&world, &mut first, "a@friend.example", "j@hall.example", "two").await;
    still_passes(&world, &mut second, "c@cousin.example", "j@hall.example", "three").await;
    world.legacy.message("j@hall.example", "a@friend.example", "out");
    friend.inbox.wait_body("out").await.unwrap();

    let answer = ask(&world.socket(), &["streams"]).await;
    assert_eq!(answer["silent"], 0);
    let pairs = pairs(&answer);
    let of = |from: &str| pairs.iter().find(|(_, pair)| pair["from"] == from).unwrap().clone();
    let (stream, pair) = of(FRIEND);
    assert_eq!((&stream["flow"], &stream["kind"]), (&"s2s-in".into(), &"stream".into()));
    assert!(stream["since"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert!(stream["peer"].as_str().unwrap().starts_with("127."));
    assert_eq!(
        (&pair["to"], &pair["proof"], &pair["rule"]),
        (&HALL.into(), &"certificate".into(), &"partners".into())
    );
    assert_eq!((&pair["tls"], &pair["stanzas"]), (&"1.3".into(), &2.into()));
    assert_eq!(pair["fingerprint"].as_str().unwrap().len(), 64);
    assert!(pair["octets"].as_u64().unwrap() > 100);
    let (_, pair) = of(COUSIN);
    assert_eq!((&pair["proof"], &pair["stanzas"]), (&"dialback".into(), &1.into()));
    let (stream, pair) = of(HALL);
    assert_eq!(
        (&stream["flow"], &pair["to"], &pair["stanzas"]),
        (&"s2s-out".into(), &FRIEND.into(), &1.into())
    );

    let said = tell(&world.socket(), &["streams"]).await;
    assert_eq!(said.code, 0);
    assert!(
        said.out.contains(
            "    friend.example > hall.example  proof certificate  TLS 1.3  rule partners  2 stanzas"
        ),
        "{}",
        said.out
    );
}

#[tokio::test]
async fn a_stream_is_closed_by_its_name_or_by_a_domain() {
    let world = border().await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let mut by_name = by_certificate(&friend, HALL).await;
    let mut by_domain = by_certificate(&cousin, HALL).await;
    let answer = ask(&world.socket(), &["streams"]).await;
    let name = pairs(&answer).iter().find(|(_, pair)| pair["from"] == FRIEND).unwrap().0["stream"].clone();
    let name = name.as_str().unwrap();

    let closed = ask(&world.socket(), &["close", name]).await;
    assert_eq!(closed["streams"], serde_json::json!([name]));
    assert!(by_name.ending().await.unwrap().closed);
    still_passes(&world, &mut by_domain, "c@cousin.example", "j@hall.example", "not meant").await;

    ask(&world.socket(), &["close", COUSIN]).await;
    assert!(by_domain.ending().await.unwrap().closed);
    let record =
        record(&world, |r| r["event"] == "ended" && r["pair"] == "cousin.example>hall.example").await;
    assert_eq!(record["reason"], "closed-by-operator");

    let said = tell(&world.socket(), &["close", "nobody.example"]).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("no living stream"), "{said:?}");
    // The user of every action, refused ones too.
    let closes = records(&world, 3, |act| act["event"] == "control" && act["action"] == "close").await;
    let acts = records(&world, 1, |act| act["event"] == "control").await;
    let me = rustix::process::getuid().as_raw();
    assert!(acts.iter().all(|act| act["uid"] == me && act["pid"].as_i64().unwrap() > 0), "{acts:#?}");
    assert_eq!((closes.len(), acts.len()), (3, 3), "who only asks leaves no record: {acts:#?}");
    assert_eq!((&closes[0]["target"], &closes[0]["outcome"]), (&name.into(), &"done".into()));
    assert_eq!((&closes[2]["target"], &closes[2]["outcome"]), (&"nobody.example".into(), &"refused".into()));
}

#[tokio::test]
async fn a_banned_domain_loses_its_streams_and_comes_back_when_the_ban_is_lifted() {
    let world = border().await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let mut banned = by_certificate(&friend, HALL).await;
    let mut stays = by_certificate(&cousin, HALL).await;

    let answer = ask(&world.socket(), &["ban", FRIEND, "--for", "1h"]).await;
    assert_eq!((&answer["seconds"], &answer["pairs"]), (&3600.into(), &1.into()), "{answer}");
    for n in 0..3 {
        banned.message("a@friend.example", "j@hall.example", &format!("on its way {n}")).await.unwrap();
    }
    assert_eq!(banned.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    still_passes(&world, &mut stays, "c@cousin.example", "j@hall.example", "not meant").await;
    assert!((world.metrics().await.unwrap().sum("bans", &[]) - 1.0).abs() < 1e-9);

    let listed = ask(&world.socket(), &["bans"]).await;
    assert_eq!(listed["bans"][0]["target"], FRIEND);
    let left = listed["bans"][0]["seconds"].as_u64().unwrap();
    assert!((3500..=3600).contains(&left), "{left}");

    // What was on its way is one refusal, for the ban, and its repeats count in the list alone; each record says who it was, and none
    // is about our own answers.
    let _closed = banned.close().await;
    let ended = |r: &Value| r["event"] == "ended" && r["pair"] == "friend.example>hall.example";
    record(&world, ended).await;
    let told = records(&world, 3, |r| r["pair"].as_str().is_some_and(|pair| pair.contains(FRIEND))).await;
    let events: Vec<_> = told.iter().map(|r| (r["event"].clone(), r["reason"].clone())).collect();
    let expected = [("admitted", "allowed"), ("refused", "banned"), ("ended", "banned")];
    assert_eq!(events, expected.map(|(event, reason)| (event.into(), reason.into())), "{told:#?}");
    for one in &told {
        assert_eq!((&one["flow"], &one["proof"]), (&"s2s-in".into(), &"certificate".into()), "{one}");
        assert!(["peer", "tls", "suite", "fingerprint"].iter().all(|key| one[key].is_string()), "{one}");
    }
    let listed = ask(&world.socket(), &["refusals", "--domain", FRIEND]).await;
    assert_eq!((&listed[0]["reason"], &listed[0]["times"]), (&"banned".into(), &3.into()), "{listed:#}");
    assert!(!is_admitted(&friend).await);
    // A reload keeps the bans.
    assert_eq!(tell(&world.socket(), &["reload"]).await.code, 0);
    assert!((world.metrics().await.unwrap().sum("bans", &[]) - 1.0).abs() < 1e-9);
    assert!(!is_admitted(&friend).await);

    assert_eq!(tell(&world.socket(), &["unban", FRIEND]).await.code, 0);
    assert_eq!(tell(&world.socket(), &["unban", FRIEND]).await.code, 1);
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "back").await;
    let ban = record(&world, |act| act["event"] == "control" && act["action"] == "ban").await;
    assert_eq!((&ban["target"], &ban["seconds"]), (&FRIEND.into(), &3600.into()));
}

// What our own users send to a banned domain comes back as what policy forbids (RLY-18), and so does what is on a stream that
// stood before; once the ban is lifted it arrives again.
#[tokio::test]
async fn users_hear_that_a_domain_is_banned() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    world.legacy.message("j@hall.example", "a@friend.example", "before");
    friend.inbox.wait_body("before").await.unwrap();
    ask(&world.socket(), &["ban", FRIEND, "--for", "1h"]).await;
    let until = Instant::now() + Duration::from_secs(20);
    for from in ["j@hall.example", "k@hall.example"] {
        // The stream that stood hears of the ban a moment later.
        let back = loop {
            world.legacy.message(from, "a@friend.example", "during");
            let back = |n: &gatehouse::demo::node::Node| n.attr("to") == Some(from);
            if let Ok(back) = world.legacy.bounces.wait_for(Duration::from_millis(500), back).await {
                break back;
            }
            assert!(Instant::now() < until, "{from} hears nothing");
        };
        assert_eq!(condition(&back), Some("forbidden"), "{}", back.raw);
    }
    let queries = world.names.asked_about(FRIEND);
    world.legacy.message("j@hall.example", "b@friend.example", "nor this");
    let back = |n: &gatehouse::demo::node::Node| n.attr("from") == Some("b@friend.example");
    let back = world.legacy.bounces.wait(back).await.unwrap();
    assert_eq!(condition(&back), Some("forbidden"), "{}", back.raw);
    assert_eq!(world.names.asked_about(FRIEND), queries, "POL-04: a denied pair costs no lookup");
    let ended = |r: &Value| r["event"] == "ended" && r["pair"] == "hall.example>friend.example";
    let ended = record(&world, ended).await;
    assert_eq!((&ended["reason"], &ended["proof"]), (&"banned".into(), &"certificate".into()), "{ended}");
    assert!(["peer", "tls", "suite", "fingerprint"].iter().all(|key| ended[key].is_string()), "{ended}");
    ask(&world.socket(), &["unban", FRIEND]).await;
    loop {
        world.legacy.message("j@hall.example", "a@friend.example", "after");
        if friend.inbox.wait_for(Duration::from_millis(500), |n| n.body() == Some("after")).await.is_ok() {
            break;
        }
        assert!(Instant::now() < until + Duration::from_secs(20), "it is not reached again");
    }
}

#[tokio::test]
async fn a_banned_network_is_shown_the_door_and_a_ban_ends_by_itself() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut silent = friend.call(HALL).unwrap().open_clear().await.unwrap();
    let mut proven = by_certificate(&friend, HALL).await;
    let network = format!("{}/32", friend.address.ip());
    let answer = ask(&world.socket(), &["ban", &network, "--for", "1h"]).await;
    assert_eq!((&answer["pairs"], &answer["connections"]), (&1.into(), &1.into()), "{answer}");
    assert_eq!(silent.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    assert_eq!(proven.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    assert!(friend.call(HALL).unwrap().open_clear().await.is_err(), "banned, and heard all the same");

    ask(&world.socket(), &["ban", &network, "--for", "1s"]).await;
    for _ in 0..300 {
        if world.metrics().await.unwrap().sum("bans", &[]) < 0.5 {
            assert_eq!(
                friend.call(HALL).unwrap().open().await.unwrap().external(FRIEND).await.unwrap(),
                Login::Success
            );
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the ban does not end");
}

#[tokio::test]
async fn what_is_no_ban_is_refused_and_changes_nothing() {
    let world = border().await;
    for (arguments, code, words) in [
        (vec!["ban", HALL, "--for", "1h"], 1, "is served here"),
        (vec!["ban", "10.0.0.1/8", "--for", "1h"], 1, "prefix"),
        (vec!["ban", "no domain", "--for", "1h"], 1, "no address, network or domain"),
        (vec!["ban", FRIEND, "--for", "0s"], 1, "lasts from"),
        (vec!["ban", FRIEND, "--for", "1"], 64, "unit"),
        (vec!["ban", FRIEND], 64, "--for"),
    ] {
        let said = tell(&world.socket(), &arguments).await;
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        assert!(said.err.contains(words), "{arguments:?}: {said:?}");
    }
    assert!(world.metrics().await.unwrap().sum("bans", &[]) < 0.5);
}

#[tokio::test]
async fn the_socket_is_ours_alone_bounded_and_goes_with_the_gateway() {
    let world = border().await;
    let socket = world.socket();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let path = socket.clone();
    tokio::task::spawn_blocking(move || {
        for (line, words) in [
            (b"streams\n".to_vec(), "no request"),
            (b"{\"do\":\"explode\"}\n".to_vec(), "no request"),
            (b"{\"do\":\"streams\",\"more\":1}\n".to_vec(), "no request"),
            (vec![b'x'; 5000], "at most 4096 octets"),
        ] {
            let answer = request(&path, &line);
            assert_eq!(answer["answer"], "refused");
            assert!(answer["message"].as_str().unwrap().contains(words), "{answer}");
        }
        // Callers that say nothing, or half of something, delay nobody, and are let go after two seconds.
        let began = Instant::now();
        let silent: Vec<_> = (0..80).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for stream in silent.iter().take(40) {
            // Some were let go already, for want of a place.
            let _half = (&*stream).write_all(b"{\"do\":");
        }
        let answer = request(&path, b"{\"do\":\"bans\"}\n");
        assert_eq!(answer["bans"], serde_json::json!([]));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        for stream in silent {
            stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
            let gone = BufReader::new(stream).read_line(&mut String::new());
            assert!(gone.is_ok() || gone.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
        }
    })
    .await
    .unwrap();
    world.gate.stop().await.unwrap();
    assert_eq!(
        records(&world, 4, |act| act["event"] == "control" && act["action"] == "unreadable").await.len(),
        4
    );
    assert!(!socket.exists());
    let said = tell(&socket, &["streams"]).await;
    assert_eq!((said.code, said.out.as_str()), (69, ""));
    assert!(said.err.contains("no running gateway"), "{said:?}");
}

// The kernel's word counts, whatever the file's mode.
#[test]
fn another_user_may_not_steer_even_if_the_file_lets_him() {
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::getuid().is_root() {
        // Nobody but root can be somebody else; then the mode of the file, shown above, is all there is to show.
        assert_ne!(rustix::process::getuid().as_raw(), 0);
        return;
    }
    let mut running = Running::start("");
    let open =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(running.folder.path(), 0o755);
    open(&running.socket(), 0o666);
    let copy = running.folder.path().join("gatehouse");
    std::fs::copy(PROGRAM, &copy).unwrap();
    open(&copy, 0o755);
    let output = std::process::Command::new(&copy)
        .args(["drain", "--socket"])
        .arg(running.socket())
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("user 65534 may not steer"), "{output:?}");
    let (code, _) = running.stop();
    assert_eq!(code, 0);
    // The record is on its way to the disk when the caller has his answer; the end of the process waits for it.
    let audit = std::fs::read_to_string(running.audit()).unwrap();
    assert!(audit.contains("\"uid\":65534") && audit.contains("\"outcome\":\"refused\""), "{audit}");
}

#[test]
fn a_socket_that_a_dead_gateway_left_is_replaced_and_a_living_one_is_not() {
    let mut running = Running::start("");
    let said = run(&["run", "--config", &running.folder.path().join("gatehouse.yaml").display().to_string()]);
    assert_eq!(said.code, 78, "{said:?}");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(running.socket().exists());
    running.again();
    let said = run(&["drain", "--socket", &running.socket().display().to_string()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(running.wait().0, 0);
    assert!(!running.socket().exists());
}

// Who is there, from where, as whom; and the end of it.
#[tokio::test]
async fn clients_are_shown_with_their_address_and_can_be_closed_by_it() {
    let world = border().await;
    let (julia, nick) = (
        world.login_from_outside("julia", HALL, None).await.unwrap(),
        world.login_from_outside("nick", HALL, None).await.unwrap(),
    );
    let nicks = nick.address.clone();
    julia.say(&nicks, "are you there?").await.unwrap();
    nick.inbox.wait_body("are you there?").await.unwrap();
    let answer = ask(&world.socket(), &["streams"]).await;
    let streams = answer["streams"].as_array().unwrap();
    let of = |jid: &str| streams.iter().find(|stream| stream["client"]["jid"] == jid).unwrap().clone();
    let (hers, his) = (of(&julia.address), of(&nicks));
    assert_eq!((&hers["flow"], &hers["client"]["tls"]), (&"c2s".into(), &"1.3".into()));
    assert!(hers["peer"].as_str().unwrap().starts_with("127."), "{hers}");
    assert!(hers["client"]["stanzas"].as_u64().unwrap() >= 1, "{hers}");
    let said = tell(&world.socket(), &["streams"]).await;
    assert!(said.out.contains(&format!("    {}  TLS 1.3", julia.address)), "{}", said.out);
    // By the bare address; nobody else is meant by it.
    let answer = ask(&world.socket(), &["close", "nick@hall.example"]).await;
    assert_eq!(answer["streams"], serde_json::json!([his["stream"]]));
    assert_eq!(nick.thrown_out().await.unwrap(), "reset");
    let again = tell(&world.socket(), &["close", "nobody@hall.example"]).await;
    assert_eq!(again.code, 1, "{}", again.err);
    julia.say(&julia.address, "still here").await.unwrap();
    julia.inbox.wait_body("still here").await.unwrap();
}
