//! The container files, as far as they can be held to account without a container engine: what they copy is there and is
//! enough, what they start is our command line, and the addresses of compose, gateway and Prosody are the same ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

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
    let compose: Value = serde_yaml::from_str(&read("deploy/container/compose.yml")).unwrap();
    let folder = TempDir::new().unwrap();
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
    for volume in compose["services"]["gatehouse"]["volumes"].as_array().unwrap() {
        let words: Vec<&str> = volume.as_str().unwrap().split(':').collect();
        assert_eq!(words[2], "ro");
        let source = [beside.path().join(words[0]), root("deploy/container").join(words[0])];
        let source = source.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{volume}"));
        let target = folder.path().join(words[1].strip_prefix("/etc/gatehouse/").unwrap());
        copy(source, &target);
    }
    let path = folder.path().join("gatehouse.yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .args(["check", "--format", "json", "--config"])
        .arg(path)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["errors"].as_u64(), output.status.code()), (Some(0), Some(0)), "{report}");
    // Its addresses are the network's of compose, not of the machine that tests; roots and IPv6 are the machine's too. A
    // container's port cannot be handed on to the host from its loopback address, so metrics stand on another.
    for finding in report["findings"].as_array().unwrap() {
        let message = finding["message"].as_str().unwrap();
        let elsewhere =
            ["is not an address of this machine", "trust anchors", "metrics and health are served to"];
        assert!(elsewhere.iter().any(|words| message.contains(words)), "{finding}");
    }
}
