//! `gatehouse probe`: how far this gateway would get with a remote domain, over real sockets, TLS and DNS queries.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::{Command, Output};

use crate::sockets::*;
use gatehouse::demo::world::World;

async fn probe(world: &World, domain: &str, more: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(["probe", domain, "--from", HALL, "--config"]).arg(&world.config).args(more);
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let told = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), told)
}

fn tells(report: &str, key: &str, value: &str) -> bool {
    report.lines().any(|line| line.starts_with(key) && line.contains(value))
}

// Contract 1: "SRV and addresses, TLS version and chain, names, EXTERNAL or dialback offered, the policy's verdict"; 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_listed_domain_is_reached_and_described() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let (code, told) = probe(&world, FRIEND, &[]).await;
    assert_eq!(code, 0, "{told}");
    for (key, value) in [
        ("target", "starttls"),
        ("TLS", "1.3"),
        ("certificate", "trusted"),
        ("names", FRIEND),
        ("offers", "EXTERNAL"),
        ("policy", "partners"),
        ("result", "reachable and allowed"),
    ] {
        assert!(tells(&told, key, value), "{key} {value}:\n{told}");
    }
    let (code, told) = probe(&world, FRIEND, &["--format", "json"]).await;
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["domain"], FRIEND);
    assert!(friend.proofs().is_empty(), "a probe proves nothing and sends no stanza");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_policy_denies_is_told_before_any_lookup() {
    let world = border().await;
    let (code, told) = probe(&world, STRANGER, &[]).await;
    assert!(
        code == 1 && tells(&told, "policy", "not-listed") && tells(&told, "result", "not allowed"),
        "{told}"
    );
    // A name misspelt is told as `policy explain` does.
    assert!(!told.contains("nearest"), "{told}");
    let (code, told) = probe(&world, "freind.example", &[]).await;
    assert!(code == 1 && tells(&told, "nearest", "friend.example in rule partners at "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_is_nowhere_is_told_with_the_likely_cause() {
    let world = border().await;
    let (code, told) = probe(&world, COUSIN, &[]).await;
    assert!(code == 1 && tells(&told, "trouble", "") && !tells(&told, "TLS", "1"), "{told}");
}
