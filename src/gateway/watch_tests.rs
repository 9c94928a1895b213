//! Renewals as certbot and Kubernetes make them.

use std::os::unix::fs::symlink;

use super::super::tests::{certificate, gateway, metrics, shown, world};
use super::*;

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// CRT-14: a renewed certificate is shown without anybody asking for it; a bad one is not, and is counted.
#[tokio::test]
async fn a_renewed_certificate_is_taken_over_and_a_bad_one_is_refused() {
    let (dir, gateway) = gateway().await;
    let first = shown(&gateway).await;
    certificate(dir.path());
    let applied = || metrics(&gateway).contains("renewals_total{outcome=\"applied\"} 0");
    until("it is counted", async || !applied()).await;
    let second = shown(&gateway).await;
    assert_ne!(second, first, "the new one is shown");
    let good = std::fs::read(dir.path().join("key.pem")).unwrap();
    std::fs::write(dir.path().join("key.pem"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    until("the foreign key is refused", async || {
        metrics(&gateway).contains("renewals_total{outcome=\"refused\"} 1")
    })
    .await;
    assert!(metrics(&gateway).contains("gatehouse_config_stale 1"));
    assert_eq!(shown(&gateway).await, second, "the good one is shown on");
    std::fs::write(dir.path().join("key.pem"), good).unwrap();
    until("all is as it runs", async || metrics(&gateway).contains("gatehouse_config_stale 0")).await;
    gateway.stop();
    gateway.stop();
    gateway.stopped().await;
}

// Kubernetes: the files are links into `..data`, which is itself a link that is replaced; certbot: links of single files.
#[tokio::test]
async fn links_are_followed_to_what_they_lead_to() {
    let (dir, settings) = world(
        "  - { flow: s2s, address: \"127.0.0.1:1111\", tls: direct }\n  - { flow: s2s, address: \"127.0.0.2:1111\", tls: direct }\n",
    );
    settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        certificate(&folder);
        folder
    };
    folder("one");
    folder("two");
    symlink("one", dir.path().join("..data")).unwrap();
    for name in ["chain.pem", "key.pem"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    let reading = super::super::reading::Reading::of(&dir.path().join("gatehouse.yaml"));
    let gateway = super::super::Gateway::start_with(reading, super::super::Inherited::default()).await;
    let gateway = gateway.unwrap_or_else(|fault| panic!("{fault}"));
    let mut eyes = Eyes::default();
    let settings = gateway.operations().reloader.settings();
    assert!(!eyes.settled(config::traces(&settings)) && eyes.settled(config::traces(&settings)));
    assert!(!eyes.settled(config::traces(&settings)), "nothing is new");
    symlink("two", dir.path().join("..data_tmp")).unwrap();
    std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    assert!(!eyes.settled(config::traces(&settings)) && eyes.settled(config::traces(&settings)));
    let first = shown(&gateway).await;
    let unmoved = || metrics(&gateway).contains("renewals_total{outcome=\"applied\"} 0");
    until("taken over", async || !unmoved()).await;
    assert_ne!(shown(&gateway).await, first);
    gateway.stop();
    gateway.stop();
    gateway.stopped().await;
}

// What is not a certificate waits for a reload, and is told.
#[tokio::test]
async fn a_changed_policy_waits_for_a_reload_and_is_told() {
    let (dir, gateway) = gateway().await;
    let text = std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap();
    let digest = gateway.tools().registry.policy().digest().to_owned();
    std::fs::write(dir.path().join("policy.yaml"), format!("{text}# changed\n")).unwrap();
    until("stale", async || metrics(&gateway).contains("gatehouse_config_stale 1")).await;
    assert_eq!(gateway.tools().registry.policy().digest(), digest);
    gateway.reload().await.unwrap();
    assert!(metrics(&gateway).contains("gatehouse_config_stale 0"));
    gateway.stop();
    gateway.stop();
    gateway.stopped().await;
}
