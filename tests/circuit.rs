//! Remote servers that do not answer: one attempt for all, a pause that grows, and every stanza back exactly once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/sockets.rs"]
mod sockets;

use std::process::Command;
use std::time::{Duration, Instant};

use gatehouse::demo::world::World;

use sockets::*;

/// What `gatehouse probe` says of the domain.
async fn probe(world: &World, domain: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(["probe", domain, "--from", HALL, "--config"]).arg(&world.config);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// How often what was sent with these bodies came back so far.
fn returned(world: &World) -> usize {
    world.legacy.bounces.all().iter().filter(|n| n.attr("from") == Some("a@friend.example")).count()
}

// CLS-07, and issue 4, item 3: "a circuit that opens after failures and says so in metrics and in `probe` .. everything
// unsent bounced with the right condition exactly once".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_left_alone_and_found_again() {
    let world = World::build(&plan().limit("circuit-failures", "2")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let address = friend.address;
    drop(friend);
    let until = Instant::now() + Duration::from_secs(30);
    let mut sent = 0;
    // Two failures in a row; between them nobody knocks.
    while world.metrics().await.unwrap().sum("circuits_open", &[]) < 1.0 {
        world.legacy.message("j@hall.example", "a@friend.example", &format!("n{sent}"));
        sent += 1;
        while returned(&world) < sent {
            assert!(Instant::now() < until, "{sent} were sent, and {} came back", returned(&world));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(Instant::now() < until, "the circuit does not open");
    }
    let told = probe(&world, FRIEND).await;
    assert!(
        told.lines().any(|line| line.starts_with("circuit") && line.contains("open after 2 failures")),
        "{told}"
    );
    let limited = world.metrics().await.unwrap().sum("limited_total", &[("limit", "circuit")]);
    assert!(sent < 3 || limited >= 1.0, "{sent} were sent, and {limited} did not knock");
    assert_eq!(returned(&world), sent, "each exactly once");
    for bounce in world.legacy.bounces.all() {
        assert_eq!(condition(&bounce), Some("remote-server-timeout"), "{}", bounce.raw);
    }
    // It comes back, where it was: after the pause it is found, and the circuit closes.
    let friend = world.peer(10, &[FRIEND], gatehouse::demo::peer::Manner::default()).await.unwrap();
    assert_eq!(friend.address, address);
    let until = Instant::now() + Duration::from_secs(30);
    while !friend.inbox.all().iter().any(|n| n.body() == Some("again")) {
        world.legacy.message("j@hall.example", "a@friend.example", "again");
        assert!(Instant::now() < until, "it is not found again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(world.metrics().await.unwrap().sum("circuits_open", &[]) < 1.0);
    assert!(!probe(&world, FRIEND).await.contains("circuit"));
}
