//! Policy from files to verdicts, by the public surface: `config::load` reads, `policy::build` compiles, `Policy::judge` judges.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail as tests do

mod explaining;
mod files;
mod judging;
mod laws;
mod patterns;
mod pins;

use gatehouse::config::load;
use gatehouse::jid::Domain;
use gatehouse::policy::*;
use gatehouse::reason::{Direction, Flow, Reason};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn input(federation: Federation, files: &[&str]) -> Sources {
    let mut sources = Vec::new();
    for (index, text) in files.iter().enumerate() {
        let name = format!("{index}.yaml");
        let (file, findings) = load::parse::<PolicyFile>(text, &name);
        assert_eq!(findings, [], "{text}");
        sources.push(Source::new(&name, file));
    }
    let hosted = ["home.example", "other.example"].map(|name| HostedSource {
        domain: domain(name),
        federation,
        sources: (0..files.len()).collect(),
        place: Place::whole("gatehouse.yaml"),
    });
    Sources { hosted: hosted.to_vec(), sources, today: day("2026-11-21"), digest: "d".to_owned() }
}

fn compiled(federation: Federation, rules: &str) -> Policy {
    let text = format!("version: v1\nrules:\n{rules}");
    let (policy, findings) = build(&input(federation, &[&text]));
    policy.unwrap_or_else(|| panic!("{findings:#?}"))
}

fn errors(files: &[&str]) -> Vec<String> {
    let (policy, findings) = build(&input(Federation::Listed, files));
    assert!(policy.is_none());
    findings.iter().map(ToString::to_string).collect()
}

#[derive(Clone)]
struct Ask {
    hosted: &'static str,
    remote: String,
    direction: Direction,
    identity: Identity,
    tls: Tls,
    address: Option<IpAddr>,
}

fn from(remote: &str) -> Ask {
    Ask {
        hosted: "home.example",
        remote: remote.to_owned(),
        direction: Direction::Inbound,
        identity: Identity::Certificate,
        tls: Tls::V13,
        address: None,
    }
}

impl Ask {
    fn of(&self, policy: &Policy) -> Verdict {
        let (hosted, remote) = (domain(self.hosted), domain(&self.remote));
        let question = Federate {
            hosted: &hosted,
            remote: &remote,
            direction: self.direction,
            identity: self.identity,
            tls: self.tls,
            address: self.address,
            key: gatehouse::policy::ShownKey::Unknown,
        };
        let verdict = policy.judge(&Question::Federate(question), &mut ());
        // One code path: whoever listens hears the same verdict.
        assert_eq!(policy.judge(&Question::Federate(question), &mut Trail::default()), verdict);
        assert_eq!(verdict.permit().is_some(), verdict.is_allow());
        verdict
    }

    fn says(&self, policy: &Policy, reason: Reason, rule: &str) {
        let verdict = self.of(policy);
        assert_eq!((verdict.reason, verdict.rule.as_str()), (reason, rule), "{}", self.remote);
        assert_eq!(verdict.is_allow(), reason == Reason::Allowed);
    }
}

const WILD: &str = "  - { name: agency, domains: [\"*.agency.example\"] }\n";
