//! What nodes say of themselves and of what happens to them, as it stands in the store.

use std::net::IpAddr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::config::settings::Settings;
use crate::gateway::protocol::Request;
use crate::metrics::Mismatch;
use crate::stream::keyring::hex;

/// A node, of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    pub(super) host: String,
    pub(super) version: String,
    /// The digest of what every node's configuration should say.
    pub(super) config: String,
    pub(super) policy: String,
    /// A digest of the secrets, of which nothing can be learned.
    pub(super) secrets: String,
    pub(super) phase: String,
    pub(super) streams: usize,
    /// Its clock, in milliseconds since 1970.
    pub(super) time: i64,
    /// Milliseconds by which it is behind that of the store.
    pub(super) behind: i64,
}

impl Card {
    /// The same, fit to be shown.
    pub(super) fn capped(mut self) -> Self {
        for text in [
            &mut self.host,
            &mut self.version,
            &mut self.config,
            &mut self.policy,
            &mut self.secrets,
            &mut self.phase,
        ] {
            *text = text.chars().filter(char::is_ascii_graphic).take(64).collect();
        }
        self
    }
}

/// Something that happened at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) node: String,
    /// It rises with each event of a node.
    pub(super) number: u64,
    /// When, in milliseconds since 1970 by the clock of the store.
    pub(super) time: i64,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    /// An attempt to log in came out.
    Login { network: IpAddr, account: Option<u64>, failed: bool },
    /// An operator has streams closed.
    Close { target: String },
    /// An operator asks all nodes what they know.
    Ask { question: String, request: Box<Request> },
}

/// The digest of what the configurations of all nodes should say alike: all but addresses of the node's own, and where its
/// files lie.
pub(super) fn common(settings: &Settings) -> String {
    let own = |key: &str| {
        let of_node = [
            "listen",
            "steering",
            "admin",
            "audit",
            "log",
            "own-addresses",
            "include",
            "threads",
            "state",
            "cluster.password",
        ];
        let files = ["certificate", "secrets", "policies", "roots", "crls"];
        of_node.iter().any(|prefix| key.starts_with(prefix)) || files.iter().any(|word| key.contains(word))
    };
    let mut hash = digest::Context::new(&digest::SHA256);
    for line in crate::config::dump(settings).into_iter().filter(|line| !own(&line.key)) {
        hash.update(line.key.as_bytes());
        hash.update(b"\0");
        hash.update(line.value.as_bytes());
        hash.update(b"\n");
    }
    hex(hash.finish().as_ref())
}

/// In what another node differs that should be the same, in words that begin with its host.
pub(super) fn differences(own: &Card, other: &Card, ahead: i64) -> Vec<(Mismatch, String)> {
    let host = &other.host;
    let mut found = Vec::new();
    if own.version != other.version {
        found.push((
            Mismatch::Version,
            format!("{host} runs version {}, this node {}", other.version, own.version),
        ));
    }
    if own.config != other.config {
        let words = "has another configuration: `gatehouse config dump` on both, and compare";
        found.push((Mismatch::Config, format!("{host} {words}")));
    }
    if own.policy != other.policy {
        let words = "has another policy: bring the same files to both, to the same paths, and reload";
        found.push((Mismatch::Policy, format!("{host} {words}")));
    }
    if own.secrets != other.secrets {
        let words = "has other secrets of dialback: neither vouches for all keys of the other";
        found.push((Mismatch::Secrets, format!("{host} {words}")));
    }
    if ahead.unsigned_abs() > APART {
        let (seconds, way) = (ahead.unsigned_abs() / 1000, if ahead > 0 { "ahead of" } else { "behind" });
        let words =
            format!("is {seconds} s {way} this node by its clock: have both follow the same time (NTP)");
        found.push((Mismatch::Clock, format!("{host} {words}")));
    }
    found
}

/// Milliseconds by which clocks may be apart, with what a word takes on its way.
const APART: u64 = 5000;

#[cfg(test)]
mod tests {
    use super::*;

    impl Card {
        /// One like many.
        pub(in crate::gateway::cluster) fn example() -> Self {
            Self {
                host: "gate-2".into(),
                version: "0.1.0".into(),
                config: "c".into(),
                policy: "p".into(),
                secrets: "s".into(),
                phase: "running".into(),
                streams: 3,
                time: 1_800_000_000_000,
                behind: 0,
            }
        }
    }

    // CLU-05: "Nodes whose policy or configuration differ tell it."
    #[test]
    fn each_difference_is_told_and_nothing_else() {
        let what = |other: &Card, ahead| -> Vec<Mismatch> {
            differences(&Card::example(), other, ahead).into_iter().map(|(what, _)| what).collect()
        };
        assert_eq!(
            what(
                &Card { host: "gate-3".into(), streams: 0, phase: "draining".into(), ..Card::example() },
                -1500
            ),
            []
        );
        let other = |change: &dyn Fn(&mut Card)| {
            let mut other = Card::example();
            change(&mut other);
            other
        };
        assert_eq!(what(&other(&|c| c.version = "0.2.0".into()), 0), [Mismatch::Version]);
        assert_eq!(what(&other(&|c| c.config = "x".into()), 0), [Mismatch::Config]);
        assert_eq!(what(&other(&|c| c.policy = "x".into()), 0), [Mismatch::Policy]);
        assert_eq!(what(&other(&|c| c.secrets = "x".into()), 0), [Mismatch::Secrets]);
        assert_eq!(what(&Card::example(), 3_600_000), [Mismatch::Clock]);
        assert_eq!(what(&Card::example(), i64::MIN), [Mismatch::Clock]);
    }

    #[test]
    fn words_are_read_as_they_are_written_and_capped_before_they_are_shown() {
        let event = Event {
            node: "a".into(),
            number: 7,
            time: 1,
            what: What::Login { network: [192, 0, 2, 1].into(), account: Some(u64::MAX), failed: true },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        assert!(
            serde_json::from_str::<Event>("{\"node\":\"a\",\"number\":1,\"time\":1,\"other\":{}}").is_err()
        );
        let odd = Card { host: format!("a\u{1b}[31m b{}", "x".repeat(100)), ..Card::example() };
        assert_eq!(odd.capped().host, format!("a[31mb{}", "x".repeat(58)));
    }
}
