//! What is shipped for watching, against a real Prometheus: rules with their unit tests, and every query of the dashboard.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sockets::*;
use gatehouse::demo::free;
use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::{Login, Word};
use gatehouse::demo::world::{Plan, World};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder())
        .output()
        .expect("promtool: install the Debian package prometheus, as tests/run does");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}");
}

fn yaml(path: &Path) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn promtool_takes_the_configuration_and_the_rules() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["test", "rules", "gatehouse.test.yml"]);
}

// A unit test that never lets an alert fire would pass with any expression.
#[test]
fn every_alert_and_every_recording_rule_has_its_unit_test() {
    let tests = yaml(&folder().join("gatehouse.test.yml")).to_string();
    let rules = |name: &str| {
        let file = yaml(&folder().join(name));
        file["groups"][0]["rules"].as_array().unwrap().clone()
    };
    let alerts = rules("gatehouse.alerts.yml");
    let mut seen = BTreeSet::new();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(seen.insert(name), "{name} twice");
        assert!(tests.contains(&format!("alertname=\\\"{name}\\\"")), "{name} fires in no test");
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        for words in ["summary", "description"] {
            assert!(
                alert["annotations"][words].as_str().is_some_and(|text| !text.is_empty()),
                "{name} {words}"
            );
        }
    }
    for rule in rules("gatehouse.rules.yml") {
        let name = rule["record"].as_str().unwrap().to_owned();
        let alerted = alerts.iter().any(|alert| alert["expr"].as_str().unwrap().contains(&name));
        assert!(tests.contains(&name) || alerted, "{name} is in no test");
    }
}

/// Ended by its id when the test is over, however it ends.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// The shipped configuration with the shipped rules; only the target and the pace are the test's own.
    async fn start(target: SocketAddr) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        for name in ["gatehouse.rules.yml", "gatehouse.alerts.yml"] {
            fs::copy(self::folder().join(name), folder.path().join(name)).unwrap();
        }
        let mut text = fs::read_to_string(self::folder().join("prometheus.yml")).unwrap();
        for (shipped, own) in [
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("evaluation_interval: 15s", "evaluation_interval: 1s"),
            ("127.0.0.1:9469", &target.to_string()),
        ] {
            assert!(text.contains(shipped), "{shipped}");
            text = text.replace(shipped, own);
        }
        let configuration = folder.path().join("prometheus.yml");
        fs::write(&configuration, text).unwrap();
        let address = free(Ipv4Addr::LOCALHOST, 0).await.unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus: install the Debian package of that name, as tests/run does");
        Self { process, address, folder }
    }

    /// `GET` of the API, with its `data`; the reason in words otherwise.
    fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let query: Vec<String> =
            query.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
        let get = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let host = self.address;
            write!(stream, "GET /api/v1/{path}?{} HTTP/1.0\r\nHost: {host}\r\n\r\n", query.join("&"))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = get().map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let answer: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
    }

    /// The series of an instant query.
    fn series(&self, expression: &str) -> Result<Vec<Value>, String> {
        Ok(self.ask("query", &[("query", expression)])?["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until a query has an answer that satisfies.
    async fn wait(&self, expression: &str, enough: impl Fn(f64) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.series(expression);
            let value = answer.as_ref().ok().and_then(|series| number(series.first()?));
            if value.is_some_and(&enough) {
                return;
            }
            if Instant::now() > until {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("{expression} is {answer:?}; the log of Prometheus:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn number(series: &Value) -> Option<f64> {
    series["value"][1].as_str()?.parse().ok()
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|octet| match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(octet).to_string(),
            _ => format!("%{octet:02X}"),
        })
        .collect()
}

/// Every expression of the dashboard, with its panel.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    found
}

/// As Grafana fills it in with "All" chosen.
fn filled(expression: &str) -> String {
    let text = expression
        .replace("$__rate_interval", "1m")
        .replace("$__range", "5m")
        .replace("$job", ".*")
        .replace("$instance", ".*")
        .replace("$domain", ".*");
    assert!(!text.contains('$'), "a variable that the dashboard does not have: {expression}");
    text
}

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/gatehouse.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

const SLOWED: &str = r#"version: v1
rules:
  - name: partners
    domains: [friend.example]
    limits: { stanzas: 1/s }
  - { name: old-acquaintance, domains: [cousin.example], identity: [dialback] }
"#;

/// Puts a policy into the shadow that would admit whom the other refuses, and the other way round.
fn shadow(world: &World) {
    let (folder, next) = (world.folder.path(), format!("  - {{ name: forgiven, domains: [{STRANGER}] }}\n"));
    fs::write(folder.join("policies/next.yaml"), format!("version: v1\nrules:\n{next}")).unwrap();
    let file = folder.join("gatehouse.yaml");
    let (text, policies) =
        (fs::read_to_string(&file).unwrap(), format!("policies: [\"policies/{HALL}.yaml\"]\n"));
    assert!(text.contains(&policies), "{text}");
    let beside = "    shadow: [policies/next.yaml]\n";
    fs::write(&file, text.replace(&policies, &format!("{policies}{beside}"))).unwrap();
}

/// Who lives outside. The DNS is asked about each of them once, so they stay where they are.
struct Outside {
    friend: Peer,
    cousin: Peer,
    unlisted: Peer,
}

impl Outside {
    async fn of(world: &World) -> Self {
        Self {
            friend: peer(world, 20, FRIEND).await,
            cousin: world.old_peer(21, &[COUSIN]).await.unwrap(),
            unlisted: peer(world, 22, STRANGER).await,
        }
    }

    /// Something of everything that the metrics know: both directions, proofs of both kinds, refusals, a forged sender, a
    /// limit, a handshake that fails, a reload.
    async fn act(&self, world: &World, round: &str) {
        let mut stream = by_certificate(&self.friend, HALL).await;
        for number in 0..4 {
            let body = format!("{round} in {number}");
            stream.message("f@friend.example", "j@hall.example", &body).await.unwrap();
        }
        world.legacy.inbox.wait_body(&format!("{round} in 3")).await.unwrap();
        // One that goes both ways (XEP-0288).
        let mut both = self.friend.call(HALL).unwrap().open().await.unwrap();
        both.send("<bidi xmlns='urn:xmpp:bidi'/>").await.unwrap();
        assert_eq!(both.external(FRIEND).await.unwrap(), Login::Success);
        both.message("f@friend.example", "j@hall.example", &format!("{round} both ways")).await.unwrap();
        world.legacy.inbox.wait_body(&format!("{round} both ways")).await.unwrap();
        world.legacy.message("j@hall.example", "f@friend.example", &format!("{round} back"));
        assert!(both.wire.element().await.unwrap().is("jabber:server", "message"));
        let mut stream = by_dialback(&self.cousin, HALL).await;
        stream.message("c@cousin.example", "j@hall.example", &format!("{round} by dialback")).await.unwrap();
        world.legacy.message("j@hall.example", "c@cousin.example", &format!("{round} out"));
        self.cousin.inbox.wait_body(&format!("{round} out")).await.unwrap();
        stream.message("x@bank.example", "j@hall.example", "forged").await.unwrap();
        stream.ending().await.unwrap();
        let mut stream = self.unlisted.call_bare(HALL).unwrap().open().await.unwrap();
        assert!(matches!(stream.dialback(STRANGER, HALL).await.unwrap(), Word::Error(_)));
        // Nonsense where a TLS handshake is due.
        let mut direct = TcpStream::connect(world.at.direct).unwrap();
        direct.write_all(b"nonsense, and more of it than any record header has").unwrap();
        let mut answer = Vec::new();
        let _alert = direct.read_to_end(&mut answer);
        world.gate.reload().await.unwrap();
    }
}

// Every query of the dashboard and every rule, on what a real Prometheus scraped under traffic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboard_has_an_answer_under_traffic() {
    let plan = Plan::listed(HALL, SLOWED).limit("conn-s2s", "1000").limit("rate", "6000/min");
    let world = World::build(&plan).await.unwrap();
    shadow(&world);
    let prometheus = Prometheus::start(world.at.admin).await;
    let outside = Outside::of(&world).await;
    world.gate.reload().await.unwrap();
    outside.act(&world, "first").await;
    // The second round is what a rate sees: a series that is born has none yet.
    prometheus.wait("sum(gatehouse_stanzas_total)", |sum| sum >= 6.0).await;
    prometheus.wait("sum(gatehouse_stream_errors_total)", |sum| sum >= 1.0).await;
    let before = world.metrics().await.unwrap().sum("stanzas_total", &[]);
    outside.act(&world, "second").await;
    prometheus.wait("sum(gatehouse_stanzas_total)", |sum| sum >= before + 6.0).await;
    prometheus.wait("sum(rate(gatehouse_stream_errors_total[1m]))", |rate| rate > 0.0).await;

    // Nothing goes wrong here, or nothing of this kind is open when we look; their series are there all the same.
    let still = [
        "Reloads refused",
        "Audit records lost",
        "Connections open",
        "Pairs open",
        "Open pairs",
        "Bans, quarantine, and remote servers left alone",
        "Log lines left out, or lost",
        "Other nodes",
        "Kept inside, and patches",
        "Rules near their end",
        "Remote domains proven in another way than before",
        "Stream management between servers",
        "Lists that rules ask",
    ];
    let dashboard = dashboard();
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 25, "{}", expressions.len());
    for (title, expression) in &expressions {
        let series =
            prometheus.series(&filled(expression)).unwrap_or_else(|error| panic!("{title}: {error}"));
        assert!(!series.is_empty(), "{title}: no series for {expression}");
        let moved = series.iter().filter_map(number).any(|value| value > 0.0);
        assert!(moved || still.contains(&title.as_str()), "{title}: nothing moved: {series:?}");
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["definition"].as_str() else { continue };
        let (selector, label) = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "))
            .unwrap();
        let values =
            prometheus.ask(&format!("label/{label}/values"), &[("match[]", &filled(selector))]).unwrap();
        assert!(values.as_array().is_some_and(|list| !list.is_empty()), "{query}: {values}");
    }

    let groups = prometheus.ask("rules", &[]).unwrap();
    let mut names = BTreeSet::new();
    for rule in
        groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert_eq!(rule["health"], "ok", "{rule}");
        let name = rule["name"].as_str().unwrap();
        names.insert(name.to_owned());
        assert_ne!(rule["state"], "firing", "{rule}");
        if rule["type"] == "recording" {
            assert!(!prometheus.series(name).unwrap().is_empty(), "{name} records nothing");
        }
    }
    assert_eq!(names.len(), 35, "{names:?}");
    every_selector_is_of_a_series(&prometheus, &expressions);
}

/// A selector with a misspelt label or value selects nothing and says nothing. Each word that rules and dashboard compare a
/// label with is a word of the field: seen in a series, or one of the closed lists.
fn every_selector_is_of_a_series(prometheus: &Prometheus, dashboard: &[(String, String)]) {
    let mut texts: Vec<String> = dashboard.iter().map(|(_, expression)| expression.clone()).collect();
    for name in ["gatehouse.rules.yml", "gatehouse.alerts.yml"] {
        let file = yaml(&folder().join(name));
        let rules = file["groups"][0]["rules"].as_array().unwrap();
        texts.extend(rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()));
    }
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for series in prometheus.series("{__name__=~\"gatehouse_.*|up\"}").unwrap() {
        let metric = series["metric"].as_object().unwrap();
        for (label, value) in metric {
            labels.entry(label.clone()).or_default().insert(value.as_str().unwrap().to_owned());
        }
    }
    let closed: BTreeSet<&str> = gatehouse::reason::Reason::ALL.iter().map(|reason| reason.label()).collect();
    let changes: BTreeSet<&str> =
        gatehouse::metrics::ShadowChange::ALL.iter().map(|change| change.label()).collect();
    let mut compared = 0;
    for text in &texts {
        for part in text.split('{').skip(1) {
            let selector = part.split_once('}').unwrap().0;
            for matcher in selector.split(", ").filter(|matcher| !matcher.is_empty()) {
                let (label, values) = matcher.split_once(['=', '~']).unwrap();
                let known =
                    labels.get(label).unwrap_or_else(|| panic!("no series has the label {label}: {text}"));
                for value in values.trim_matches(|c| "=~\"".contains(c)).split('|') {
                    let fine = value.starts_with('$') || known.contains(value) || value == "none";
                    assert!(
                        fine || (label == "reason" && closed.contains(value))
                            || (label == "change" && changes.contains(value)),
                        "no {label} is {value}: {text}"
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 60, "{compared}");
}

// The families that nobody watches: each one is on the dashboard or in an alert.
#[test]
fn every_family_is_watched() {
    let mut watched: String = expressions(&dashboard()).into_iter().map(|(_, text)| text + "\n").collect();
    for name in ["gatehouse.rules.yml", "gatehouse.alerts.yml"] {
        watched += &fs::read_to_string(folder().join(name)).unwrap();
    }
    // Not those of any process, which every dashboard of processes has.
    let sources = [
        include_str!("../../src/metrics/table.rs").rsplit_once("families! {").unwrap().1,
        include_str!("../../src/metrics/circuit.rs"),
        include_str!("../../src/metrics/cluster.rs"),
        include_str!("../../src/metrics/files.rs"),
        include_str!("../../src/metrics/lists.rs"),
        include_str!("../../src/metrics/shadow.rs"),
    ];
    let is_family =
        |word: &&str| word.contains('_') && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let words = sources.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    let families: BTreeSet<&str> = words.filter(is_family).collect();
    assert!(families.len() >= 35 && families.contains("list_fetches_total"), "{families:?}");
    // What has a new name is told under the old one for a version more, and watched under the new one.
    let replaced = ["certificate_not_after_seconds"];
    let families = families.into_iter().filter(|family| !replaced.contains(family));
    for family in families.chain(["connections{", "streams{"]) {
        assert!(watched.contains(&format!("gatehouse_{family}")), "nobody watches gatehouse_{family}");
    }
}
