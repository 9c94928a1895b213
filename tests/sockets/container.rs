//! The container files, as far as they can be held to account without a container engine: what they copy is there and is
//! enough, what they start is our command line, and the addresses of compose, gateway and Prosody are the same ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::release;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The instructions of a Dockerfile, continued lines joined.
fn instructions(path: &str) -> Vec<(String, String)> {
    let text = read(path).replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.trim().to_owned())).unwrap())
        .collect()
}

fn all<'a>(instructions: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    instructions.iter().filter(|(word, _)| word == name).map(|(_, rest)| rest.as_str()).collect()
}

/// What is copied from the repository.
fn copied(instructions: &[(String, String)]) -> Vec<String> {
    let from_here = all(instructions, "COPY").into_iter().filter(|rest| !rest.starts_with("--from"));
    from_here
        .flat_map(|rest| {
            let mut words: Vec<&str> = rest.split_whitespace().collect();
            words.pop();
            words.into_iter().map(str::to_owned)
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

#[test]
fn what_the_image_copies_is_enough_for_cargo() {
    let dockerfile = instructions("deploy/container/Dockerfile");
    let folder = TempDir::new().unwrap();
    let copied = copied(&dockerfile);
    let pages = ["deploy/ejabberd", "deploy/jabberd2", "deploy/prosody"];
    assert_eq!(copied, [["Cargo.toml", "Cargo.lock", "src"].as_slice(), &pages, &["benches"]].concat());
    for name in &copied {
        copy(&root(name), &folder.path().join(name));
        let ignored = read("deploy/container/Dockerfile.dockerignore");
        assert!(ignored.lines().any(|line| line == format!("!{name}")), "{name} is kept from the build");
    }
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = &metadata["packages"][0];
    let has_binary = package["targets"].as_array().unwrap().iter().any(|target| {
        target["name"] == "gatehouse" && target["kind"][0] == "bin" && target["src_path"].as_str().is_some()
    });
    assert!(has_binary);
    // The compiler of the image is the one that the manifest asks for.
    let version = package["rust_version"].as_str().unwrap();
    assert!(all(&dockerfile, "FROM")[0].starts_with(&format!("rust:{version}-")), "{version}");
    // Nothing in the sources reads a file that is not copied.
    let mut folders = vec![root("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_string_lossy().ends_with("_tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                for part in text.split("include_str!(\"").skip(1) {
                    let name = part.split('"').next().unwrap();
                    let target = path.parent().unwrap().join(name).canonicalize().unwrap();
                    let there =
                        copied.iter().any(|name| target.starts_with(root(name).canonicalize().unwrap()));
                    assert!(there, "{}", target.display());
                }
            }
        }
    }
}

#[test]
fn the_image_starts_our_command_line_as_nobody_in_particular() {
    let dockerfile = instructions("deploy/container/Dockerfile");
    let list = |name| -> Vec<String> { serde_json::from_str(all(&dockerfile, name)[0]).unwrap() };
    let entry = list("ENTRYPOINT");
    assert!(
        all(&dockerfile, "COPY")
            .iter()
            .any(|rest| rest.ends_with(&format!("release/gatehouse {}", entry[0])))
    );
    assert_eq!(all(&dockerfile, "USER"), ["65532:65532"]);
    let command = list("CMD");
    let answer = Command::new(env!("CARGO_BIN_EXE_gatehouse")).args(&command).output().unwrap();
    // 78 and not 64: the words are understood, the file is not on this machine.
    assert!(!Path::new(&command[2]).exists());
    assert_eq!(answer.status.code(), Some(78), "{}", String::from_utf8_lossy(&answer.stderr));
    let exposed = all(&dockerfile, "EXPOSE")[0];
    let configuration = read("deploy/container/gatehouse.yaml");
    for port in exposed.split(' ') {
        assert!(configuration.contains(&format!(":{port}\"")), "nobody listens on {port}");
    }
}

#[test]
fn compose_gateway_and_prosody_agree_on_their_addresses() {
    let yaml = |path: &str| -> Value { serde_yaml::from_str(&read(path)).unwrap() };
    let compose = yaml("deploy/container/compose.yml");
    let (gateway, prosody) = (&compose["services"]["gatehouse"], &compose["services"]["prosody"]);
    let address = |service: &Value| {
        service["networks"]["inside"]["ipv4_address"].as_str().unwrap().parse::<std::net::Ipv4Addr>().unwrap()
    };
    let (ours, theirs) = (address(gateway), address(prosody));
    let subnet: ipnet::Ipv4Net =
        compose["networks"]["inside"]["ipam"]["config"][0]["subnet"].as_str().unwrap().parse().unwrap();
    assert!(subnet.contains(&ours) && subnet.contains(&theirs) && ours != theirs);
    // The old server has no way to the world of its own, and no port there.
    assert_eq!(compose["networks"]["inside"]["internal"], true);
    assert_eq!(prosody["networks"].as_object().unwrap().len(), 1);
    assert!(prosody.get("ports").is_none());
    assert_eq!(gateway["read_only"], true);
    assert_eq!(gateway["cap_drop"][0], "ALL");

    let settings = yaml("deploy/container/gatehouse.yaml");
    let inside = &settings["listen"][2];
    assert_eq!(inside["address"], format!("{ours}:15269"));
    assert_eq!(inside["from"][0], format!("{theirs}/32"));
    assert_eq!(settings["domains"][0]["backend"]["s2s"][0], format!("{theirs}:5269"));
    assert_eq!(settings["steering"]["answer"], ours.to_string());
    assert_eq!(settings["steering"]["listen"], format!("{ours}:53"));
    assert_eq!(settings["steering"]["from"][0], format!("{theirs}/32"));
    assert_eq!(read("deploy/container/resolv.conf"), format!("nameserver {ours}\n"));
    let world = gateway["networks"]["world"]["ipv4_address"].as_str().unwrap();
    assert_eq!(settings["admin"]["http"], format!("{world}:9469"));
    let subnet: ipnet::Ipv4Net =
        compose["networks"]["world"]["ipam"]["config"][0]["subnet"].as_str().unwrap().parse().unwrap();
    assert!(subnet.contains(&world.parse::<std::net::Ipv4Addr>().unwrap()) && !subnet.contains(&ours));
    let published: Vec<&str> =
        gateway["ports"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    assert!(published.contains(&"127.0.0.1:9469:9469"), "metrics are for this machine alone: {published:?}");

    for service in [gateway, prosody] {
        let build = &service["build"];
        assert_eq!(
            root("deploy/container").join(build["context"].as_str().unwrap()).canonicalize().unwrap(),
            root("").canonicalize().unwrap()
        );
        assert!(root(build["dockerfile"].as_str().unwrap()).is_file());
    }
    // Every place of the template is filled, with the same addresses.
    let dockerfile = instructions("deploy/container/prosody.Dockerfile");
    let mut text = read(&copied(&dockerfile)[0]);
    let fill = all(&dockerfile, "RUN").into_iter().find(|run| run.starts_with("sed")).unwrap();
    for pair in fill.split("'s|").skip(1) {
        let (place, value) = pair.split_once("|'").unwrap().0.split_once('|').unwrap();
        assert!(text.contains(place), "{place}");
        text = text.replace(place, value);
    }
    for place in ["@DOMAIN@", "@ADDRESS@", "@DATA@", "@RUN@"] {
        assert!(!text.contains(place), "{place} is left");
    }
    assert!(text.contains(&format!("interfaces = {{ \"{theirs}\" }}")));
    assert!(text.contains(&format!("VirtualHost {}", settings["domains"][0]["name"])));
}

#[test]
fn the_gateways_configuration_passes_check_where_it_is_mounted() {
    passes_check("deploy/container/compose.yml", "gatehouse");
}

/// That this service finds everything where compose mounts it, and nothing to complain about.
fn passes_check(file: &str, service: &str) {
    let compose: Value = serde_yaml::from_str(&read(file)).unwrap();
    let service = &compose["services"][service];
    let folder = TempDir::new().unwrap();
    let beside = made();
    for volume in service["volumes"].as_array().unwrap() {
        let words: Vec<&str> = volume.as_str().unwrap().split(':').collect();
        assert_eq!(words[2], "ro");
        let source = [beside.path().join(words[0]), root("deploy/container").join(words[0])];
        let source = source.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{volume}"));
        let target = folder.path().join(words[1].strip_prefix("/etc/gatehouse/").unwrap());
        copy(source, &target);
    }
    let environment = service["environment"].as_object().into_iter().flatten();
    let environment: Vec<(&str, &str)> =
        environment.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    has_no_findings(&folder.path().join("gatehouse.yaml"), &environment);
}

/// What operators put beside the files of the repository.
fn made() -> TempDir {
    let beside = TempDir::new().unwrap();
    let secret = |name: &str, text: &str| {
        let path = beside.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
    secret("pki/example.com.pem", &params.self_signed(&key).unwrap().pem());
    secret("pki/example.com.key", &key.serialize_pem());
    secret("secrets/world", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n");
    secret("secrets/inside", "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210\n");
    secret("secrets/store", "change-me\n");
    let page = read("deploy/README.md");
    let users: Vec<&str> = page.lines().filter(|line| line.starts_with("user ")).collect();
    assert_eq!(users.len(), 2, "the lines of the ACL: {users:?}");
    secret("secrets/users.acl", &format!("{}\n", users.join("\n")));
    secret("pki/store.pem", &params.self_signed(&key).unwrap().pem());
    beside
}

fn has_no_findings(path: &Path, environment: &[(&str, &str)]) {
    let output = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .args(["check", "--format", "json", "--config"])
        .arg(path)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["errors"].as_u64(), output.status.code()), (Some(0), Some(0)), "{report}");
    // Its addresses are the network's of compose, not of the machine that tests; roots and IPv6 are the machine's too. A
    // container's port cannot be handed on to the host from its loopback address, so metrics stand on another, and the store is alone
    // on its network.
    for finding in report["findings"].as_array().unwrap() {
        let message = finding["message"].as_str().unwrap();
        let elsewhere = [
            "is not an address of this machine",
            "trust anchors",
            "metrics and health are served to",
            "the store is spoken to in clear",
        ];
        assert!(elsewhere.iter().any(|words| message.contains(words)), "{finding}");
    }
}

const NODES: &str = "deploy/container/compose.nodes.yml";

// Two nodes, what they share, and the server behind that asks either: addresses, ports and records are the same ones everywhere.
#[test]
fn compose_of_two_nodes_agrees_with_itself() {
    let text = read(NODES);
    let compose: Value = serde_yaml::from_str(&text).unwrap();
    let (prosody, valkey) = (&compose["services"]["prosody"], &compose["services"]["valkey"]);
    let single: Value = serde_yaml::from_str(&read("deploy/container/compose.yml")).unwrap();
    let mut resolvers = String::new();
    let mut published = Vec::new();
    for name in ["gatehouse-1", "gatehouse-2"] {
        passes_check(NODES, name);
        let node = &compose["services"][name];
        let address = |network: &str| node["networks"][network]["ipv4_address"].as_str().unwrap().to_owned();
        assert_eq!(node["environment"]["GATE_INSIDE"], address("inside"));
        assert_eq!(node["environment"]["GATE_WORLD"], address("world"));
        resolvers.push_str(&format!("nameserver {}\n", address("inside")));
        published
            .extend(node["ports"].as_array().unwrap().iter().map(|port| port.as_str().unwrap().to_owned()));
        // Otherwise as the one that stands alone.
        for key in
            ["build", "read_only", "cap_drop", "security_opt", "sysctls", "stop_grace_period", "restart"]
        {
            assert_eq!(node[key], single["services"]["gatehouse"][key], "{key}");
        }
        for network in ["world", "inside", "store"] {
            let subnet = compose["networks"][network]["ipam"]["config"][0]["subnet"].as_str().unwrap();
            let subnet: ipnet::Ipv4Net = subnet.parse().unwrap();
            assert!(
                subnet.contains(&address(network).parse::<std::net::Ipv4Addr>().unwrap()),
                "{name} {network}"
            );
        }
    }
    assert_eq!(read("deploy/container/resolv.nodes.conf"), resolvers);
    for record in text.lines().filter(|line| line.contains(" SRV ")) {
        let port = record.split_whitespace().nth(5).unwrap();
        let inner = if record.contains("xmpps") { "5270" } else { "5269" };
        assert!(published.contains(&format!("{port}:{inner}")), "{record}");
    }
    let settings: Value = serde_yaml::from_str(&read("deploy/container/gatehouse.nodes.yaml")).unwrap();
    let theirs = prosody["networks"]["inside"]["ipv4_address"].as_str().unwrap();
    assert_eq!(settings["domains"][0]["backend"]["s2s"][0], format!("{theirs}:5269"));
    assert_eq!(prosody["networks"].as_object().unwrap().len(), 1);
    let store = valkey["networks"]["store"]["ipv4_address"].as_str().unwrap();
    assert_eq!(settings["cluster"]["store"], format!("redis://gate@{store}:6379"));
    assert_eq!(valkey["networks"].as_object().unwrap().len(), 1);
    for network in ["inside", "store"] {
        assert_eq!(compose["networks"][network]["internal"], true, "{network}");
    }
    assert!(valkey.get("ports").is_none());
}

// The store of compose starts as it is written there, with the rights of the page, and lets in who has the password and nobody else.
#[test]
fn the_store_of_compose_starts_with_the_rights_of_the_page() {
    let compose: Value = serde_yaml::from_str(&read(NODES)).unwrap();
    let beside = made();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let words = compose["services"]["valkey"]["command"].as_array().unwrap().iter();
    let words: Vec<String> = words
        .map(|word| match word.as_str().unwrap() {
            "6379" => port.clone(),
            "0.0.0.0" => "127.0.0.1".to_owned(),
            "/etc/valkey/users.acl" => beside.path().join("secrets/users.acl").display().to_string(),
            word => word.to_owned(),
        })
        .collect();
    assert_eq!(words[0], "valkey-server");
    // That of Debian 13, in its own files: the image has a later one.
    let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    let inside = release::Release::Trixie.command(&words[0], &arguments);
    let mut server = Command::new("unshare")
        .arg("--mount")
        .args(inside)
        .current_dir(beside.path())
        .env("LC_ALL", "C")
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("unshare");
    let say = |words: &[&str]| {
        let said =
            Command::new("redis-cli").args(["-p", &port, "--no-auth-warning"]).args(words).output().unwrap();
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    };
    let gate = |words: &[&str]| say(&[&["--user", "gate", "--pass", "change-me"], words].concat());
    let begun = std::time::Instant::now();
    while gate(&["HLEN", "gatehouse:{gate}:nodes"]) != "0" {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it does not start");
        assert!(server.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(gate(&["HLEN", "another"]).contains("NOPERM"));
    assert!(gate(&["FLUSHALL"]).contains("NOPERM"));
    assert!(say(&["PING"]).contains("NOAUTH"), "who has no name hears nothing");
    server.kill().unwrap();
    server.wait().unwrap();
}

// The pair on two machines: one file, and what differs in a drop-in of systemd each.
#[test]
fn the_configuration_of_the_pair_passes_check_on_both() {
    let page = read("deploy/README.md");
    for node in ["gate-1", "gate-2"] {
        let unit = read(&format!("deploy/pair/{node}.conf"));
        let line = unit.lines().find_map(|line| line.strip_prefix("Environment=")).unwrap();
        let environment: Vec<(&str, &str)> =
            line.split(' ').map(|word| word.split_once('=').unwrap()).collect();
        let beside = made();
        copy(&root("deploy/pair/gatehouse.yaml"), &beside.path().join("gatehouse.yaml"));
        copy(&root("policies"), &beside.path().join("policies"));
        let world = environment.iter().find(|(name, _)| *name == "GATE_WORLD").unwrap().1;
        let inside = environment.iter().find(|(name, _)| *name == "GATE_INSIDE").unwrap().1;
        assert!(
            page.contains(&format!("{node}.example.com.  A {world}")),
            "{node} is not in the records of the page"
        );
        assert!(page.contains(&format!("nameserver {inside}")));
        // The folder of the control socket is made by systemd.
        let text = fs::read_to_string(beside.path().join("gatehouse.yaml")).unwrap();
        let text = text.replace("/run/gatehouse/control.sock", "control.sock");
        fs::write(beside.path().join("gatehouse.yaml"), text).unwrap();
        has_no_findings(&beside.path().join("gatehouse.yaml"), &environment);
    }
}
