//! Configurations in several files, values from elsewhere, and names of backends.

use std::path::Path;

use super::settings::WrittenTarget;
use super::*;

fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn read(dir: &tempfile::TempDir) -> (Settings, Vec<String>) {
    let examined = examine(&dir.path().join("gatehouse.yaml"));
    let root = format!("{}/", dir.path().display());
    let told = examined.findings.iter().map(|finding| finding.to_string().replace(&root, "")).collect();
    (examined.settings.unwrap(), told)
}

const DOMAIN: &str = "    backend: { s2s: [\"10.0.0.5:5269\"] }\n    federation: listed\n";

// "include:": lists count as if they stood in the first file; paths are relative to the file that names them.
#[test]
fn included_files_bring_listeners_and_domains() {
    let main = format!(
        "version: v1\ninclude: [\"domains.d/*.yaml\"]\ncertificate: {{ chain: all.pem, key: all.key }}\ndomains:\n  - name: \
         one.example\n{DOMAIN}"
    );
    let two = format!("domains:\n  - name: two.example\n{DOMAIN}    policies: [two.policy]\n");
    let three = format!(
        "listen: [{{ flow: s2s, address: \"192.0.2.1:5269\" }}]\ndomains:\n  - name: three.example\n    certificate: {{ chain: \
         three.pem, key: three.key }}\n{DOMAIN}"
    );
    let dir = files(&[
        ("gatehouse.yaml", &main),
        ("domains.d/3.yaml", &three),
        ("domains.d/2.yaml", &two),
        ("domains.d/.2.yaml.swp", "junk"),
        ("domains.d/readme", "junk"),
    ]);
    let (settings, told) = read(&dir);
    assert_eq!(told, Vec::<String>::new());
    let names: Vec<&str> = settings.domains.iter().map(|domain| domain.name.as_str()).collect();
    assert_eq!(names, ["one.example", "two.example", "three.example"]);
    let path = |path: &Path| path.strip_prefix(dir.path()).unwrap().display().to_string();
    let chains: Vec<String> = settings.domains.iter().map(|domain| path(&domain.certificate.chain)).collect();
    assert_eq!(chains, ["all.pem", "all.pem", "domains.d/three.pem"], "one certificate is said once");
    assert_eq!(path(&settings.domains[1].policies[0]), "domains.d/two.policy");
    assert_eq!(settings.listeners.len(), 1, "no standard listener beside one that is written");
    let seen = Seen::of(&settings);
    std::fs::write(dir.path().join("domains.d/4.yaml"), "").unwrap();
    assert_eq!(seen.differing(&Seen::of(&settings)), [dir.path().join("domains.d")], "a new file is seen");
}

#[test]
fn what_is_wrong_in_an_included_file_is_told_there() {
    let main = format!(
        "version: v1\ninclude: [a.yaml, b.yaml, none/*.yaml]\ndomains:\n  - name: one.example\n    certificate: {{ chain: c, key: k \
         }}\n{DOMAIN}"
    );
    let again = format!(
        "limits: {{ stanza: 1MiB }}\ndomains:\n  - name: one.example\n    certificate: {{ chain: c, key: k }}\n{DOMAIN}"
    );
    let dir = files(&[("gatehouse.yaml", &main), ("a.yaml", &again)]);
    let (_, told) = read(&dir);
    let has = |words: &str| assert!(told.iter().any(|told| told.contains(words)), "{words}: {told:#?}");
    has("a.yaml:1:");
    has("an included file has `listen`, `domains` and `certificate` alone");
    has("a.yaml:3:5: error: one.example is served already, see gatehouse.yaml:4:5");
    has("b.yaml: error: cannot be read");
    has("the folder none cannot be read");
}

#[test]
fn policies_may_be_a_folder_of_files() {
    let main = format!(
        "version: v1\ndomains:\n  - name: one.example\n    certificate: {{ chain: c, key: k }}\n{DOMAIN}    policies: \
         [policies.d/b.yaml, \"policies.d/*.yaml\"]\n"
    );
    let dir = files(&[("gatehouse.yaml", &main), ("policies.d/a.yaml", ""), ("policies.d/b.yaml", "")]);
    let (settings, told) = read(&dir);
    assert_eq!(told, Vec::<String>::new());
    let names: Vec<_> = settings.domains[0].policies.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["b.yaml", "a.yaml"], "each once");
}

// "`${NAME}` and `{ file: path }` wherever a value or secret stands".
#[test]
fn values_come_from_the_environment_and_from_files() {
    let main = "version: v1\ndomains:\n  - name: { file: name.txt }\n    certificate: { chain: c, key: { file: k } }\n    backend: { s2s: \
                [\"10.0.0.5:5269\"], stanza: { file: size } }\n    federation: listed\nlimits: { stanza: \"${CARGO_PKG_VERSION_MINOR}KiB\", \
                depth: \"${NO_SUCH_NAME}\" }\ndialback: { secrets: { world: { file: world } } }\n";
    let dir = files(&[
        ("gatehouse.yaml", main),
        ("name.txt", "one.example\n"),
        ("size", "64KiB\n"),
        ("k", "NOT TO BE TOLD"),
        ("world", "NOT TO BE TOLD"),
    ]);
    let (settings, told) = read(&dir);
    assert_eq!(settings.domains[0].name.as_str(), "one.example");
    assert_eq!(settings.domains[0].backend.takes.stanza, Some(64 << 10));
    assert!(settings.domains[0].certificate.key.ends_with("k"), "a name of a file stays one");
    assert!(settings.secrets.world.as_ref().unwrap().ends_with("world"));
    // The minor version of the package, which cargo sets: it is filled in, and out of range.
    assert!(told.iter().any(|told| told.contains("KiB` is out of range")), "{told:#?}");
    assert!(told.iter().any(|told| told.contains("NO_SUCH_NAME, which is not set")), "{told:#?}");
    assert!(!told.iter().any(|told| told.contains("NOT TO BE TOLD")), "{told:#?}");
}

// Host names for backends; where one leads to is an address like any other.
#[test]
fn backends_may_be_named() {
    let main = "version: v1\ndomains:\n  - name: one.example\n    certificate: { chain: c, key: k }\n    backend: { s2s: [\"localhost:5269\", \
                \"10.0.0.5:5269\"], c2s: [\"nowhere.invalid:5222\"] }\n    federation: listed\n";
    let dir = files(&[("gatehouse.yaml", main)]);
    let (mut settings, told) = read(&dir);
    let backend = &settings.domains[0].backend;
    assert!(
        backend.s2s.contains(&"127.0.0.1:5269".parse().unwrap())
            || backend.s2s.contains(&"[::1]:5269".parse().unwrap())
    );
    assert_eq!(backend.s2s.last(), Some(&"10.0.0.5:5269".parse().unwrap()));
    assert!(matches!(&backend.named.s2s[..], [WrittenTarget::Host(..), WrittenTarget::Address(_)]));
    assert!(
        told.iter().any(|told| told.contains("warning: nowhere.invalid leads to no address now")),
        "{told:#?}"
    );
    assert!(looked_up_again(&settings).is_none(), "nothing is different");
    settings.domains[0].backend.s2s = vec!["192.0.2.1:5269".parse().unwrap()];
    let next = looked_up_again(&settings).unwrap();
    assert_ne!(next.domains[0].backend.s2s, settings.domains[0].backend.s2s);
    // What a name led to holds on while it leads nowhere.
    settings.domains[0].backend.c2s = vec!["192.0.2.2:5222".parse().unwrap()];
    assert_eq!(looked_up_again(&settings).unwrap().domains[0].backend.c2s, settings.domains[0].backend.c2s);
}

// "config dump": what is in force, secrets left out, defaults marked; and every key of the file is there.
#[test]
fn every_key_is_dumped_and_no_secret() {
    let main = format!(
        "version: v1\ndomains:\n  - name: one.example\n    certificate: {{ chain: c, key: k }}\n{DOMAIN}dialback: {{ secrets: {{ world: world, \
         inside: inside }} }}\nlimits: {{ depth: 65 }}\n"
    );
    let secret = "0123456789abcdef".repeat(4);
    let dir = files(&[("gatehouse.yaml", &main), ("world", &secret), ("inside", "x")]);
    let (settings, _) = read(&dir);
    let lines = dump(&settings);
    assert!(!format!("{lines:?}").contains(&secret));
    let of = |key: &str| lines.iter().find(|line| line.key == key).unwrap_or_else(|| panic!("{key}"));
    assert_eq!((of("limits.depth").value.as_str(), of("limits.depth").default), ("65", false));
    assert_eq!((of("limits.stanza").value.as_str(), of("limits.stanza").default), ("256KiB", true));
    assert!(of("dialback.secrets.world").value.ends_with("/world"));
    let all = Limits::KEYS.iter().map(|key| ("limits", key));
    for (map, (key, default, _, _)) in all.chain(Timeouts::KEYS.iter().map(|key| ("timeouts", key))) {
        let line = of(&format!("{map}.{key}"));
        assert!(!line.default || same(&line.value, default), "{key}: {} is not {default}", line.value);
    }
}

/// Whether two words of the file mean the same.
fn same(one: &str, other: &str) -> bool {
    let octets = |text: &str| crate::policy::octets(text.trim_end_matches("/s")).ok();
    one == other
        || duration(one).ok().is_some_and(|time| duration(other).ok() == Some(time))
        || octets(one).is_some_and(|size| octets(other) == Some(size))
}

// Whoever names nobody does not mean everybody, nor that nothing is looked at.
#[test]
fn a_list_that_names_nothing_is_a_mistake_where_leaving_it_out_says_another_thing() {
    let main = format!(
        "version: v1\ndomains:\n  - name: one.example\n    certificate: {{ chain: c, key: k }}\n{DOMAIN}dns: {{ servers: [] }}\ntrust: {{ \
         crls: [] }}\n"
    );
    let (_, told) = read(&files(&[("gatehouse.yaml", &main)]));
    for words in ["`servers` is empty", "`crls` is empty"] {
        assert!(told.iter().any(|told| told.contains(words)), "{words}: {told:#?}");
    }
}
