//! The words are true: every test that the manual names exists, every command of the README runs, every shipped file passes.
//!
//! The last test takes the README's first steps, with the shipped files and a real Prosody, up to a message each way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::release::Release;
use crate::support::repository;
use crate::support::world::{Net, World};

const GATEHOUSE: &str = env!("CARGO_BIN_EXE_gatehouse");

#[test]
fn every_test_that_the_manual_names_exists() {
    let mut named = 0;
    let mut missing = Vec::new();
    for page in ["src/manual/threats.rs", "src/manual/flows.rs"] {
        for word in text(page).split('`').filter(|word| word.contains(".rs::")) {
            let (file, test) = word.split_once("::").unwrap();
            named += 1;
            let source = fs::read_to_string(repository(file)).unwrap_or_default();
            // A test of that name, not a helper: its attribute stands right above it.
            let is_test = source.match_indices(&format!("fn {test}(")).any(|(at, _)| {
                source[..at].trim_end_matches("async ").trim_end().ends_with(']')
                    && source[..at].rsplit('#').next().is_some_and(|attribute| attribute.contains("test"))
            });
            if !is_test {
                missing.push(word.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
    assert!(named > 80, "the table of threats was not found: {named} tests named");
    for line in text("src/manual/threats.rs").lines().filter(|line| line.starts_with("//! | ")) {
        let is_head = line.contains("what went wrong elsewhere") || line.contains("---");
        assert!(is_head || line.contains(".rs::"), "a threat without a test: {line}");
    }
}

// The README's matrix is that of tests/servers/interop.rs, cell by cell.
#[test]
fn the_table_of_the_readme_is_the_matrix_of_the_tests() {
    let (readme, tests) = (text("README.md"), text("tests/servers/interop.rs"));
    let slug = |words: &str| {
        let named = VERSIONS.iter().find(|(name, _)| *name == words);
        named.unwrap_or_else(|| panic!("the README names {words:?}, which no test runs")).1
    };
    let table = readme.split("| remote server, by |").nth(1).unwrap();
    let mut cells = BTreeSet::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let columns: Vec<&str> = row.trim_matches([' ', '|']).split(" | ").collect();
        let (remote, proof) = columns[0].split_once(", ").unwrap();
        for legacy in columns[1].split(", ") {
            let cell = format!("{}_by_{proof}_and_{}_understand_each_other", slug(remote), slug(legacy));
            cells.insert(cell);
        }
    }
    let matrix: BTreeSet<String> = tests
        .lines()
        .filter(|line| line.contains("_understand_each_other: "))
        .map(|line| line.trim().split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(cells, matrix);
    // One `#[test]` is the matrix's own.
    let others = tests.lines().filter(|line| *line == "#[test]").count();
    assert!(
        readme.contains("Sixteen further tests in `tests/servers/interop.rs`") && others == 16,
        "{others} tests beside the matrix"
    );
}

/// The versions as the README names them, and as the tests do.
const VERSIONS: &[(&str, &str)] = &[
    ("ejabberd 23.01", "ejabberd_23"),
    ("ejabberd 24.12", "ejabberd_24"),
    ("jabberd2 2.7.0-4", "jabberd2_of_12"),
    ("jabberd2 2.7.0-8", "jabberd2_of_13"),
    ("Prosody 0.12.3", "prosody_0_12"),
    ("Prosody 13.0.1", "prosody_13"),
];

#[test]
fn every_place_that_the_pages_lead_to_exists() {
    for page in PAGES.into_iter().chain(GUIDES) {
        let folder = repository(page);
        let folder = folder.parent().unwrap();
        for link in text(page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            assert!(link.starts_with("https://") || folder.join(file).exists(), "{page} leads to {link}");
        }
    }
}

// The gateway's side of each page, and what the pages quote of the files beside them.
#[test]
fn the_pages_about_servers_quote_what_is_there() {
    for server in ["prosody", "ejabberd", "jabberd2", "openfire", "mongooseim", "tigase"] {
        let page = text(&format!("deploy/{server}/README.md"));
        let scratch = tempfile::tempdir().unwrap();
        certify(scratch.path());
        fs::create_dir(scratch.path().join("policies")).unwrap();
        fs::copy(repository("policies/partners.yaml"), scratch.path().join("policies/partners.yaml"))
            .unwrap();
        let configuration =
            page.split("```yaml gatehouse.yaml\n").nth(1).unwrap().split("```").next().unwrap();
        fs::write(scratch.path().join("gatehouse.yaml"), configuration).unwrap();
        let done = gatehouse(scratch.path(), &["check", "--config", "gatehouse.yaml"]);
        assert!(done.status.success(), "{server}: {}", told(&done));
        // What matters in the files, word for word.
        let files: String = fs::read_dir(repository(&format!("deploy/{server}")))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_none_or(|extension| extension != "md"))
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        let Some(table) = page.split("| line | without it |\n| --- | --- |\n").nth(1) else {
            assert!(page.contains("**Not run in the tests**"), "{server}");
            continue;
        };
        let mut quoted = 0;
        for row in table.lines().take_while(|line| line.starts_with('|')) {
            let line = row.split('|').nth(1).unwrap().trim();
            let told_otherwise = !line.starts_with('`') || line.contains(" has ");
            if !told_otherwise {
                let words = line.split('`').nth(1).unwrap();
                assert!(files.contains(words), "{server}: no {words:?} in its files");
                quoted += 1;
            }
        }
        assert!(quoted >= 3, "{server}: {quoted} lines quoted");
    }
}

// Contract 1: every command that a page shows is one that there is, with the options that it shows.
#[test]
fn every_command_of_the_pages_exists() {
    let commands: Vec<String> = blocks("sh").into_iter().flat_map(|(_, lines)| lines).collect();
    let pages: Vec<String> = PAGES.iter().map(|page| text(page)).collect();
    let shown =
        pages.iter().flat_map(|page| page.split("```sh").skip(1)).filter_map(|rest| rest.split("```").next());
    let lines = shown.flat_map(str::lines).map(|line| line.split(" | ").next().unwrap().trim());
    let mut seen = 0;
    // In a container it stands behind two dashes.
    for line in lines.filter_map(|line| line.rsplit(" -- ").next().unwrap().strip_prefix("gatehouse ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let has_two = ["audit", "policy"].contains(&words[0]);
        let named = words.iter().take(if has_two { 2 } else { 1 });
        let help = gatehouse(Path::new("."), &named.chain(&["--help"]).copied().collect::<Vec<_>>());
        let help = String::from_utf8(help.stdout).unwrap();
        for option in words.iter().filter(|word| word.starts_with("--")) {
            // With a value behind it, or none.
            let has = [' ', '\n'].iter().any(|end| help.contains(&format!("{option}{end}")));
            assert!(has, "gatehouse {line}: no {option} in\n{help}");
        }
        seen += 1;
    }
    assert!(seen >= 15, "{seen} commands found");
    assert!(commands.iter().any(|line| line == "cargo run --release -- demo"));
    let demo = gatehouse(Path::new("."), &["demo"]);
    let story = String::from_utf8(demo.stdout).unwrap();
    assert!(demo.status.success(), "{story}");
    // The list is shown before it is lived by, and a story for people ends in words.
    let at = |words: &str| story.find(words).unwrap_or_else(|| panic!("no {words:?} in {story}"));
    assert!(
        at("name: partners") < at("What happens") && at("What happens") < at("messages passed"),
        "{story}"
    );
    assert!(!story.contains("gatehouse_") && !story.contains("_total"), "{story}");
    assert!(commands.iter().any(|line| line == "tests/run"));
    let script = fs::metadata(repository("tests/run")).unwrap();
    assert!(script.permissions().mode() & 0o111 != 0, "tests/run cannot be run");
}

// All that there are, and on the manual page too.
#[test]
fn every_command_shows_an_example_in_its_help() {
    let help = |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
        String::from_utf8(gatehouse(Path::new("."), &words).stdout).unwrap()
    };
    let below = |help: &str| -> Vec<String> {
        let Some((_, rest)) = help.split_once("\nCommands:\n") else { return Vec::new() };
        let lines = rest.lines().take_while(|line| line.starts_with("  "));
        // A line further in goes on with the words of the one before.
        let names =
            lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(str::to_owned).collect()
    };
    let manual = String::from_utf8(gatehouse(Path::new("."), &["man"]).stdout).unwrap();
    let mut commands: Vec<String> = below(&help(&[]));
    let mut seen = 0;
    while let Some(command) = commands.pop() {
        let text = help(&command.split(' ').collect::<Vec<_>>());
        // A long line is wrapped.
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(&format!("Example: gatehouse {command}")), "{text}");
        let inner = below(&text);
        if inner.is_empty() {
            let words = manual.replace("\\-", "-").replace('\n', " ");
            assert!(words.contains(&format!("Example: gatehouse {command}")), "{command} in the manual page");
        }
        commands.extend(inner.into_iter().map(|name| format!("{command} {name}")));
        seen += 1;
    }
    assert!(seen >= 19, "{seen} commands found");
}

// What operators read speaks for itself: it cites no rule of the page for those who work on the code, by number or by name.
#[test]
fn nothing_that_an_operator_reads_cites_a_rule_by_its_number() {
    let page = text("src/manual/requirements.md");
    let ids: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|word| word.split_once('-').is_some_and(|(_, rest)| rest.bytes().all(|b| b.is_ascii_digit())))
        .collect();
    assert!(ids.len() > 250, "the rules were not found: {ids:?}");
    let is_rule = |word: &str| {
        ids.contains(word)
            || ["T-", "L-"].iter().any(|kind| {
                word.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            })
    };
    let mut cited = Vec::new();
    let mut read = 0;
    let mut look = |name: &str, text: &str| {
        read += 1;
        for (number, line) in text.lines().enumerate() {
            for word in
                line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| is_rule(word))
            {
                cited.push(format!("{name}:{}: {word}: {line}", number + 1));
            }
        }
    };
    // Pages, examples, schemas, alerts, dashboards, units.
    let mut folders: Vec<PathBuf> = ["deploy", "policies"].map(repository).to_vec();
    let mut files: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "SECURITY.md"].map(repository).to_vec();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for file in &files {
        if let Ok(text) = fs::read_to_string(file) {
            look(&file.display().to_string(), &text);
        }
    }
    // What the program says: the manual page holds the help of every command, the sources every line of the log.
    look("gatehouse man", &told(&gatehouse(&repository(""), &["man"])).replace("\\-", "-"));
    let mut folders = vec![repository("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.contains("tests.rs") && !name.contains("/manual/") {
                let source = fs::read_to_string(&path).unwrap();
                let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
                let said: Vec<&str> = code.flat_map(|line| line.split('"').skip(1).step_by(2)).collect();
                look(&name, &said.join("\n"));
            }
        }
    }
    assert!(read > 200, "{read} texts");
    assert!(cited.is_empty(), "{}", cited.join("\n"));
}

// "How to add ..": six files of the sources at most, and each is there.
#[test]
fn what_is_to_be_touched_for_something_new_is_little_and_is_there() {
    let page = text("src/manual/architecture.md");
    let (_, section) = page.split_once("## How to add").unwrap();
    let mut seen = 0;
    for paragraph in section.split("\n\n").filter(|paragraph| paragraph.starts_with("**")) {
        let mut folder = "";
        let mut files = BTreeSet::new();
        for word in paragraph.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs")) {
            folder = word.rsplit_once('/').map_or(folder, |(folder, _)| folder);
            let file = format!("{folder}/{}", word.rsplit('/').next().unwrap());
            assert!(repository(&file).is_file(), "{file} is not there: {paragraph}");
            files.insert(file);
        }
        let sources = files.iter().filter(|file| file.starts_with("src/")).count();
        assert!((1..=6).contains(&sources), "{sources} files: {paragraph}");
        seen += 1;
    }
    assert!(seen >= 6, "{seen} pages");
}

// Keep a Changelog 1.1.0: versions with their day or none yet, and under them these kinds of change alone, each once.
#[test]
fn the_changelog_is_kept_as_changelogs_are() {
    let changelog = text("CHANGELOG.md");
    assert!(changelog.starts_with("# Changelog\n") && changelog.contains("keepachangelog.com/en/1.1.0"));
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    let mut seen = BTreeSet::new();
    for line in changelog.lines() {
        if let Some(version) = line.strip_prefix("## ") {
            let day = version.rsplit_once(" - ").map(|(_, day)| day);
            let dated = day
                .is_some_and(|day| day.len() == 10 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
            assert!(version == "[Unreleased]" || version.starts_with('[') && dated, "{line}");
            seen.clear();
        } else if let Some(kind) = line.strip_prefix("### ") {
            assert!(kinds.contains(&kind) && seen.insert(kind.to_owned()), "{line}");
        }
    }
    assert!(changelog.contains("## [Unreleased]\n"));
}

#[test]
fn the_configuration_in_the_readme_is_the_shipped_one() {
    let shown = blocks("yaml deploy/first/gatehouse.yaml");
    assert_eq!(shown[0].1.join("\n"), text("deploy/first/gatehouse.yaml").trim_end());
}

// Every file that is shipped passes, the keys that are only shown as a comment included.
#[test]
fn every_shipped_file_passes() {
    let scratch = tempfile::tempdir().unwrap();
    let folders = ["deploy", "policies"].map(repository);
    let copied = Command::new("cp").arg("-r").args(folders).arg(scratch.path()).status().unwrap();
    assert!(copied.success());
    let (mut configurations, mut policies) = (0, 0);
    let folders = ["deploy", "deploy/debian", "deploy/debian/policies", "deploy/first", "policies"]
        .map(|folder| scratch.path().join(folder));
    for folder in &folders {
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let shipped = fs::read_to_string(&file).unwrap();
            let name = file.file_name().unwrap().to_str().unwrap();
            let done = if shipped.contains("\ndomains:") {
                configurations += 1;
                certify(folder);
                // A line like `# audit: { .. }` is a key to take as it stands.
                let whole: String = shipped
                    .lines()
                    .map(|line| {
                        let key = line.strip_prefix("# ").filter(|rest| rest.contains(": {"));
                        format!("{}\n", key.unwrap_or(line))
                    })
                    .collect();
                // The folders of the system that the gateway's own user writes to.
                let whole = whole.replace("/var/log/gatehouse/", "").replace("/run/gatehouse/", "");
                let whole = whole.replace("/var/lib/gatehouse", ".");
                fs::write(&file, whole).unwrap();
                gatehouse(folder, &["check", "--config", name])
            } else {
                policies += 1;
                gatehouse(folder, &["policy", "test", name])
            };
            let said = told(&done);
            assert!(done.status.success() && !said.contains(": error: "), "{}: {said}", file.display());
        }
    }
    assert_eq!((configurations, policies), (3, 5));
}

// README, "A first gateway in ten minutes": its very commands and files, with a Prosody inside and one outside, up to a message that
// arrives; with each Prosody that the README names.
#[test]
fn the_first_gateway_of_the_readme_carries_messages_of_prosody_0_12() {
    first_gateway(Release::Bookworm);
}

#[test]
fn the_first_gateway_of_the_readme_carries_messages_of_prosody_13() {
    first_gateway(Release::Trixie);
}

fn first_gateway(release: Release) {
    let mut world = World::new();
    // A machine by itself: no DNS, nobody else.
    let machine = world.host("machine", &[(Net::World, 1)], Net::World.address(53));

    // Steps 1 and 2. `explain` says no by its exit code where the answer is no; here it is yes.
    let steps: Vec<String> = blocks("sh first").into_iter().flat_map(|(_, lines)| lines).collect();
    assert!(steps.len() >= 6, "{steps:?}");
    let done =
        shell(machine.directory(), &format!("cd '{}'\n{}", repository("").display(), steps.join("\n")));
    assert!(done.status.success(), "{}", told(&done));
    assert!(told(&done).contains("gatehouse.yaml: clean"), "{}", told(&done));
    let folder = machine.directory().join("first-gateway");

    // The tests run as root for their namespaces; an ordinary user needs no such line.
    for name in ["prosody.cfg.lua", "partner.cfg.lua"] {
        let file = folder.join(name);
        let cfg = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("run_as_root = true\n{cfg}")).unwrap();
    }

    // Step 3.
    let account: Vec<String> = blocks("sh account").into_iter().flat_map(|(_, lines)| lines).collect();
    let lines = format!("cd '{}'\n{}", folder.display(), account.join("\n"));
    let mut made = machine.spawn_of(release, "account", "sh", &["-e", "-c", &lines], &[]);
    assert!(made.ended(Duration::from_secs(60)).success(), "{}", made.log());
    let starts = blocks("sh run").remove(0).1;
    let mut running: Vec<_> = starts
        .iter()
        .zip(["gatehouse", "prosody", "partner"])
        .map(|(line, name)| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let line = |program: &str| {
                format!("cd '{}' && exec {program} {}", folder.display(), words[1..].join(" "))
            };
            match words[0].as_str() {
                "gatehouse" => machine.spawn(name, "sh", &["-c", &line(GATEHOUSE)], &[("NO_COLOR", "1")]),
                server => machine.spawn_of(release, name, "sh", &["-c", &line(server)], &[]),
            }
        })
        .collect();
    assert_eq!(running.len(), 3);
    running[0].ready("/readyz to answer 200", Duration::from_secs(30), || {
        match machine.http(ADMIN, "/readyz") {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    for (at, address) in
        [(1, "127.0.0.1:25222"), (1, "127.0.0.1:25269"), (2, "127.0.0.2:35269"), (2, "127.0.0.2:35222")]
    {
        running[at].listening(&machine, address.parse().unwrap(), Duration::from_secs(60));
    }

    // Step 4: the message arrives, as promised; and an answer comes back.
    let typed = |name: &str| {
        let lines: Vec<String> =
            blocks(&format!("sh {name}")).into_iter().flat_map(|(_, lines)| lines).collect();
        let lines = format!("cd '{}'\nset -e\n{}", folder.display(), lines.join("\n"));
        let binaries = Path::new(GATEHOUSE).parent().unwrap();
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
        let mut process = machine.spawn(name, "sh", &["-c", &lines], &[("NO_COLOR", "1"), ("PATH", &path)]);
        (process.ended(Duration::from_secs(120)), process.log())
    };
    let (status, said) = typed("message");
    assert!(status.success() && said.contains("first contact") && said.contains("partner.example"), "{said}");
    let log = running[0].log();
    assert_eq!(log.matches("pair admitted").count(), 2, "{log}");
    assert!(log.contains("method=\"dialback\"") && log.contains("tls=\"1.3\""), "{log}");
    let login = |address: &str, user, domain| {
        let stream = machine.connect(address.parse().unwrap()).expect("Prosody takes clients");
        Client::login(stream, user, "secret", domain)
    };
    let mut juliet = login("127.0.0.1:25222", "juliet", "example.com");
    let mut romeo = login("127.0.0.2:35222", "romeo", "partner.example");
    let id = romeo.message(juliet.jid(), "and back");
    juliet.expect_message(romeo.jid(), &id);

    let (status, said) = typed("look");
    assert!(status.success(), "{said}");
    for words in ["ready", "gatehouse_stanzas_total{", "all is well", "reachable and allowed"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
}

/// The fenced blocks of the README whose first line begins so, with the whole first line.
fn blocks(kind: &str) -> Vec<(String, Vec<String>)> {
    let readme = text("README.md");
    let mut found = Vec::new();
    for (index, part) in readme.split("```").enumerate().filter(|(index, _)| index % 2 == 1) {
        let (head, body) = part.split_once('\n').unwrap_or_else(|| panic!("block {index} has no line"));
        if head == kind || head.starts_with(&format!("{kind} ")) {
            found.push((head.to_owned(), body.trim_end().lines().map(str::to_owned).collect()));
        }
    }
    assert!(!found.is_empty(), "the README has no block {kind:?}");
    found
}

fn text(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn gatehouse(folder: &Path, words: &[&str]) -> Output {
    Command::new(GATEHOUSE).args(words).current_dir(folder).env("NO_COLOR", "1").output().unwrap()
}

/// Runs the lines as a user would, who stops at the first that fails; `gatehouse` is on the path.
fn shell(home: &Path, lines: &str) -> Output {
    let binaries: PathBuf = Path::new(GATEHOUSE).parent().unwrap().to_owned();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    Command::new("sh").args(["-e", "-c", lines]).env("HOME", home).env("PATH", path).output().unwrap()
}

fn told(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|octets| String::from_utf8_lossy(octets).into_owned()).concat()
}

/// A certificate and secrets where the shipped configurations expect them.
fn certify(folder: &Path) {
    for name in ["pki", "secrets"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let made =
        rcgen::generate_simple_self_signed(["example.com", "conference.example.com"].map(str::to_owned))
            .unwrap();
    let files = [
        ("pki/example.com.pem", made.cert.pem()),
        ("pki/example.com.key", made.signing_key.serialize_pem()),
        ("secrets/world", "0123456789abcdef".repeat(4)),
        ("secrets/inside", "fedcba9876543210".repeat(4)),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 9469);

/// Pages for those who work on it.
const GUIDES: [&str; 8] = [
    "CONTRIBUTING.md",
    "SECURITY.md",
    "src/manual/architecture.md",
    "src/manual/cost.md",
    "src/manual/requirements.md",
    "src/manual/xml-rules.md",
    "tests/fuzz/README.md",
    "tests/soak/README.md",
];

const PAGES: [&str; 12] = [
    "README.md",
    "CHANGELOG.md",
    "deploy/README.md",
    "deploy/ejabberd/README.md",
    "deploy/jabberd2/README.md",
    "deploy/kubernetes/README.md",
    "deploy/mongooseim/README.md",
    "deploy/openfire/README.md",
    "deploy/prosody/README.md",
    "deploy/tigase/README.md",
    "deploy/security.md",
    "policies/README.md",
];
