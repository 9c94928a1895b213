//! Policy files and configurations: whatever is in them, the findings say where, and what loads is whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gatehouse::config;
use gatehouse::jid::Domain;
use gatehouse::policy::{
    Arrive, Day, Explanation, Federate, Federation, Finding, HostedSource, Identity, KeyDigest, OfStanza,
    Place, Policy, PolicyFile, Question, ShownKey, Source, Sources, StanzaKind, Tls, build, compile,
    stand_alone,
};
use gatehouse::reason::{Direction, Flow, Reason};

/// Parts of an input are held apart by a line of this.
const BETWEEN: &str = "\n=====\n";

/// Policy files of one gateway, each by itself and all together.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let today = Day::parse("2026-11-21").unwrap();
    let mut sources = Vec::new();
    for (index, text) in text.split(BETWEEN).take(3).enumerate() {
        let name = format!("p{index}.yaml");
        let (file, findings) = config::load::parse::<PolicyFile>(text, &name);
        let again = config::load::parse::<PolicyFile>(text, &name);
        assert_eq!((format!("{file:?}"), &findings), (format!("{:?}", again.0), &again.1), "read twice");
        told(&findings, &name, text);
        let alone = stand_alone(Source::new(&name, file.clone()), today);
        if let Ok(compiled) = compile(&alone) {
            judged(&compiled.policy, &alone);
        }
        if findings.is_empty() {
            sources.push((Source::new(&name, file), text));
        }
    }
    let hosted = ["hall.example", "annex.example", "bücher.example"].into_iter().zip(Federation::ALL);
    let input = Sources {
        hosted: hosted
            .map(|(name, federation)| HostedSource {
                domain: Domain::parse(name).unwrap(),
                federation: *federation,
                sources: (0..sources.len()).collect(),
                place: Place::whole("gatehouse.yaml"),
            })
            .collect(),
        sources: sources.iter().map(|(source, _)| source.clone()).collect(),
        today,
        digest: "digest".into(),
    };
    let (made, found) = build(&input);
    for finding in &found {
        let file = &*finding.place.file;
        let text = sources.iter().find(|(source, _)| &*source.name == file).map_or("", |(_, text)| text);
        let name = if text.is_empty() { "gatehouse.yaml" } else { file };
        if text.is_empty() && file != name {
            continue;
        }
        told(std::slice::from_ref(finding), name, text);
    }
    assert_eq!(
        made.is_none(),
        found.iter().any(Finding::is_error),
        "an error is no policy, and nothing else is"
    );
    match compile(&input) {
        Ok(compiled) => {
            assert!(compiled.cases.iter().all(|case| case.passed));
            judged(&compiled.policy, &input);
        }
        Err(findings) => assert!(findings.iter().any(Finding::is_error)),
    }
}

/// Each finding names the file and a line that it has, and says something in one line.
fn told(findings: &[Finding], name: &str, text: &str) {
    // YAML 1.2, section 5.4: a CR by itself breaks a line as well.
    let lines = u32::try_from(text.split(['\n', '\r']).count()).unwrap();
    for finding in findings {
        assert_eq!(&*finding.place.file, name);
        assert!(finding.place.line <= lines + 1, "line {} of {lines}: {finding}", finding.place.line);
        // Only what is missing from the whole file has no line.
        let whole = finding.message.contains("version") || finding.message.contains("no domain is served");
        assert!(
            finding.place.line > 0 || text.is_empty() || whole || !finding.is_error(),
            "no line: {finding}"
        );
        assert!(!finding.message.is_empty());
    }
}

/// Questions of every kind get one answer, the same from the living gateway and from `explain`.
fn judged(policy: &Policy, input: &Sources) {
    assert_eq!(policy.digest(), input.digest);
    let mut names: Vec<&str> = policy.rule_names().map(|name| name.as_str()).collect();
    assert_eq!(names.first(), Some(&"default"));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name twice");
    let rules = || input.sources.iter().flat_map(|source| &source.file.rules);
    let patterns = rules().flat_map(|rule| rule.value.domains.iter().flat_map(|list| &list.value));
    let told = patterns.take(3).map(|word| word.value.strip_prefix("*.").unwrap_or(&word.value).to_owned());
    let more: Vec<String> = told.flat_map(|name| [format!("a.{name}"), name]).collect();
    let fixed =
        ["friend.example", "a.b.friend.example", "localhost", "hall.example", "xn--bcher-kva.example"];
    let remotes = fixed.iter().map(|name| (*name).to_owned()).chain(more);
    let remotes: Vec<Domain> = remotes.filter_map(|name| Domain::parse(&name).ok()).collect();
    let addresses: [Option<IpAddr>; 3] =
        [None, Some([192, 0, 2, 7].into()), Some("2001:db8::7".parse().unwrap())];
    let channels = [
        (Identity::Unproven, Tls::Unknown),
        (Identity::Absent, Tls::V13),
        (Identity::Dialback, Tls::None),
        (Identity::Dialback, Tls::V12),
        (Identity::Certificate, Tls::V13),
        (Identity::Pin, Tls::V13),
    ];
    let later = policy.on(Day::parse("2031-01-01").unwrap());
    let mut turn = 0;
    for hosted in policy.hosted().cloned().chain([Domain::parse("nowhere.example").unwrap()]) {
        for remote in &remotes {
            for (identity, tls) in channels {
                turn += 1;
                let direction = if turn % 2 == 0 { Direction::Inbound } else { Direction::Outbound };
                let address = addresses[turn % 3];
                let key =
                    if turn % 5 == 0 { ShownKey::Pinned } else { ShownKey::Digest(KeyDigest::new([1; 32])) };
                let question = Federate { hosted: &hosted, remote, direction, identity, tls, address, key };
                judgement(if turn % 7 == 0 { &later } else { policy }, &question, turn);
            }
        }
    }
    let arrive = Arrive { flow: Flow::S2sIn, address: [192, 0, 2, 7].into() };
    assert!(policy.judge(&Question::Arrive(arrive), &mut ()).is_allow(), "nobody is banned");
    for finding in policy.remarks(30) {
        assert!(!finding.is_error());
    }
    assert!(policy.next_expiry().is_none_or(|day| day > policy.today()));
}

fn judgement(policy: &Policy, question: &Federate<'_>, turn: usize) {
    let asked = Question::Federate(*question);
    let verdict = policy.judge(&asked, &mut ());
    assert_eq!(policy.judge(&asked, &mut ()), verdict, "asked twice");
    assert_eq!(verdict.permit().is_some(), verdict.is_allow());
    // Who is in quarantine may come, and less may pass.
    assert_eq!(verdict.is_allow(), matches!(verdict.reason, Reason::Allowed | Reason::Quarantined));
    assert!(policy.rule_names().any(|name| *name == verdict.rule), "{verdict:?}");
    if verdict.is_allow() {
        // The law deny_by_default: hosted, not home, and proven as far as the question says.
        assert!(policy.hosts(question.hosted) && !policy.hosts(question.remote), "{question:?}");
        assert!(policy.federation(question.hosted) != Some(Federation::None));
        assert_ne!(question.identity, Identity::Absent);
        let named = verdict.rule.as_str() != "default";
        let open =
            matches!(policy.federation(question.hosted), Some(Federation::Any | Federation::Quarantine));
        assert!(named || open, "{question:?}");
        let permit = verdict.permit().unwrap();
        assert_eq!(policy.judge_again(&permit), verdict, "judged again");
    }
    let kind = StanzaKind::ALL.get(turn % (StanzaKind::ALL.len() + 1)).copied();
    let payload = turn.is_multiple_of(3).then_some("jabber:iq:register");
    let explained = Explanation::of(policy, question, &OfStanza { kind, payload, sender: None });
    let narrowed = verdict.clone().for_stanza(kind, payload);
    assert_eq!((explained.verdict, explained.reason), (narrowed.outcome.label(), narrowed.reason.label()));
    assert_eq!(explained.rule, narrowed.rule.as_str());
    assert!(verdict.is_allow() || !narrowed.is_allow(), "a stanza where its pair may not");
    assert!(explained.considered.len() <= policy.rule_names().count());
}

/// A configuration, and behind the line the policy file that it may name as `p.yaml`.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, policy) = text.split_once(BETWEEN).unwrap_or((text, "version: v1\nrules: []\n"));
    let folder = folder();
    let (path, policy_path) = (folder.join("gatehouse.yaml"), folder.join("p.yaml"));
    std::fs::write(&path, text).unwrap();
    let examined = config::examine(&path);
    told_all(&examined.findings, &path, text);
    let loaded = config::load(&path);
    assert_eq!(format!("{loaded:?}"), format!("{:?}", config::load(&path)), "loaded twice");
    let (settings, warnings) = match loaded {
        Err(findings) => {
            assert!(findings.iter().any(Finding::is_error));
            return assert_eq!(findings, examined.findings);
        }
        Ok(loaded) => loaded,
    };
    assert!(examined.has_every_domain && warnings == examined.findings);
    assert!(!settings.domains.is_empty());
    for (index, domain) in settings.domains.iter().enumerate() {
        assert!(settings.domains[..index].iter().all(|other| other.name != domain.name));
        let needs = domain.federation != Federation::None;
        assert!(!needs || !domain.backend.s2s.is_empty(), "{domain:?}");
    }
    for (index, listener) in settings.listeners.iter().enumerate() {
        assert!(settings.listeners[..index].iter().all(|other| other.address != listener.address));
        assert_ne!(listener.address.port(), 0);
    }
    // Only the file beside it is read: other paths are the operator's machine.
    if settings.domains.iter().flat_map(|domain| &domain.policies).any(|path| *path != policy_path) {
        return;
    }
    let today = Day::parse("2026-11-21").unwrap();
    std::fs::write(&policy_path, policy).unwrap();
    let first = config::policies(&settings, today);
    let second = config::policies(&settings, today);
    match (&first, &second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.policy.digest(), second.policy.digest(), "loaded twice");
            assert_eq!(first.warnings, second.warnings);
            if settings.domains.iter().any(|domain| !domain.policies.is_empty()) {
                std::fs::write(&policy_path, format!("{policy}\n")).unwrap();
                if let Ok(other) = config::policies(&settings, today) {
                    assert_ne!(other.policy.digest(), first.policy.digest(), "another file, the same digest");
                }
            }
        }
        (Err(first), Err(second)) => assert_eq!(first, second),
        _ => panic!("loaded twice, and once only: {first:?} {second:?}"),
    }
}

fn told_all(findings: &[Finding], path: &Path, text: &str) {
    told(findings, &path.display().to_string(), text);
}

/// A place of our own; whoever ends before its process removes it.
pub fn folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("gatehouse-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    });
    folder.clone()
}
