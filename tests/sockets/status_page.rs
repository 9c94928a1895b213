//! The status page in a browser: headless Chromium loads that of a living gateway and one with 10,000 pairs, at the width of a
//! phone and of a desk, goes through it with the keyboard alone, and asks axe-core. With `GATEHOUSE_WRITE=1` the pictures of
//! `deploy/pictures/` are taken anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use gatehouse::demo::peer::Manner;
use gatehouse::demo::pki::Leaf;
use gatehouse::demo::session::Word;
use gatehouse::demo::world::World;
use gatehouse::status::{Pair, Snapshot, page};
use serde_json::Value;

use crate::sockets::*;

/// So many pairs as a large hoster has, under names as they come.
fn pairs() -> Vec<Pair> {
    let pair = |n: usize| Pair {
        from: format!("conference.department-{n:05}.partner-of-a-partner.example"),
        to: HALL.to_owned(),
        direction: "inbound".to_owned(),
        proof: "certificate".to_owned(),
        tls: Some("1.3".to_owned()),
        rule: "partners".to_owned(),
        since: "2026-11-30T12:00:00Z".to_owned(),
        stanzas: 1_000_000,
        address: Some("[2001:db8:1234:5678:9abc:def0:1234:5678]:54321".to_owned()),
    };
    (0..10_000).map(pair).collect()
}

/// Serves the page of this snapshot as the gateway does, whichever page of the pairs is asked for.
fn serve(snapshot: Snapshot) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            let n = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..n]).into_owned();
            let number =
                asked.split("page=").nth(1).and_then(|rest| rest.split([' ', '#', '&']).next()?.parse().ok());
            let mut shown = snapshot.clone();
            shown.turn_to(number.unwrap_or(1), pairs());
            let body = page::write(&shown);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Security-Policy: {}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                page::content_security_policy(),
                body.len()
            );
            // A browser that has enough hangs up.
            let _told = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    address
}

/// A gateway that has something to show: pairs, refusals, a circuit, a ban, a backend that is down.
async fn lived_in() -> (World, Vec<gatehouse::demo::session::Session>) {
    let world = World::build(&gatehouse::demo::world::Plan { check: "1s", ..plan() }).await.unwrap();
    let mut streams = Vec::new();
    for (host, domain) in (10..).zip([FRIEND, COUSIN, "office.friend.example", "bureau.agency.example"]) {
        let server = peer(&world, host, domain).await;
        let mut stream = by_certificate(&server, HALL).await;
        still_passes(&world, &mut stream, &format!("a@{domain}"), "j@hall.example", domain).await;
        world.legacy.message("j@hall.example", &format!("a@{domain}"), "back");
        server.inbox.wait_body("back").await.unwrap();
        streams.push(stream);
        // It lives as long as the process.
        std::mem::forget(server);
    }
    let fiend = peer(&world, 20, "fiend.example").await;
    let mut other = fiend.call_bare(HALL).unwrap().open().await.unwrap();
    assert!(matches!(other.dialback("fiend.example", HALL).await.unwrap(), Word::Error(_)));
    let gone = {
        let leaf = world.authority.issue(&Leaf::of(&["gone.friend.example"])).unwrap();
        world.peer_with(30, &["gone.friend.example"], leaf, Manner::default()).await.unwrap().address
    };
    world.names.announce("gone.friend.example", Some(gone), None).unwrap();
    world.legacy.message("j@hall.example", "a@gone.friend.example", "nobody there");
    let control = world.socket().display().to_string();
    let ban = ["ban", "spam.example", "--for", "1h", "--socket", &control].map(str::to_owned);
    let banned = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_gatehouse")).args(ban).output().unwrap().status.success()
    });
    assert!(banned.await.unwrap());
    (world, streams)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_reads_well_on_phone_and_desk_and_by_the_keyboard_alone() {
    let (world, _streams) = lived_in().await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let snapshot = loop {
        let (_, text) = world.get("/status.json").await.unwrap();
        let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
        let looked_at = snapshot.backends.iter().all(|backend| backend.state == "up");
        if looked_at && snapshot.refusals.len() >= 2 && !snapshot.circuits.is_empty() {
            break snapshot;
        }
        assert!(std::time::Instant::now() < end, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    // What the page says is all in the JSON: digests of what runs, and nothing that differs.
    assert!(snapshot.config.len() >= 12 && snapshot.policy.len() >= 12, "{snapshot:?}");
    assert!(snapshot.stale.is_empty() && !snapshot.version.is_empty(), "{snapshot:?}");
    let many = serve(snapshot);
    let live = format!("http://{}/status", world.at.admin);
    let folder = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(here.join("target/clients/bin/python"));
    command.arg(here.join("tests/support/browser.py"));
    command.args([live, format!("http://{many}/status")]).arg(folder.path()).env("HOME", folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let report: Value = serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(report["wrong"], serde_json::json!([]), "{report:#}");
    assert!(report["seen"].as_array().unwrap().len() >= 25, "{report:#}");
    for picture in ["status-desk.png", "status-phone.png"] {
        let taken = std::fs::read(folder.path().join(picture)).unwrap();
        assert!(taken.starts_with(b"\x89PNG") && taken.len() > 10_000, "{picture}: {} octets", taken.len());
        if std::env::var_os("GATEHOUSE_WRITE").is_some() {
            std::fs::create_dir_all(here.join("deploy/pictures")).unwrap();
            std::fs::write(here.join("deploy/pictures").join(picture), taken).unwrap();
        }
    }
}
