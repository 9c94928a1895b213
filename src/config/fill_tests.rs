//! `${NAME}` and `{ file: PATH }` at every value of `gatehouse.yaml`, one by one.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// A configuration with every key that there is, except those of `limits` and `timeouts`, which are added from their tables.
fn whole() -> Value {
    let mut whole = json!({
        "version": "v1",
        "include": ["conf.d/*.yaml"],
        "threads": "2",
        "listen": [
            { "flow": "s2s", "address": "127.0.0.1:5269", "tls": "starttls" },
            { "flow": "mixed", "address": "127.0.0.1:443", "tls": "direct", "default": "one.example" },
            { "flow": "c2s", "address": "127.0.0.1:5222", "proxy-protocol": ["192.0.2.0/24"] },
            { "flow": "websocket", "address": "127.0.0.1:5443", "path": "/ws", "origins": ["https://chat.example"] },
            { "flow": "inside", "address": "127.0.0.1:15269", "from": ["127.0.0.0/8", "10.0.0.0/24"] },
        ],
        "certificate": { "chain": "pki/all.pem", "key": "pki/all.key" },
        "domains": [
            {
                "name": "one.example",
                "certificate": { "chain": "pki/one.pem", "key": "pki/one.key" },
                "backend": {
                    "c2s": ["10.0.0.5:5222"], "s2s": ["10.0.0.5:5269", "10.0.0.6:5269"], "proxy-protocol": "v2",
                    "s2s-proxy-protocol": "v2",
                    "mechanisms": ["SCRAM-SHA-256", "PLAIN"], "channel-binding": "none", "register": "on",
                    "features": ["urn:example:odd"], "dialback-keys": "verify", "from": ["10.0.0.7/32"],
                    "dialback-timeout": "20s", "multiplex": "on", "check": "1m", "server": "openfire",
                    "limits": { "stanza": "128KiB", "attrs": "50", "nodes": "500", "attr-value": "4KiB" }, "rfc7622": "on",
                    "connections": "200",
                },
                "clients": { "certificate": "require", "roots": "pki/users.pem", "crls": ["pki/users.crl"], "match": "email" },
                "federation": "listed",
                "policies": ["policies.d/*.yaml"],
                "shadow": ["policies.d/*.yaml"],
                "shadow-federation": "any",
                "source": ["192.0.2.1"],
            },
            { "name": "two.example", "backend": { "s2s": ["10.0.0.5:5269"], "stanza": "64KiB" }, "federation": "none" },
        ],
        "default-domain": "one.example",
        "retired-domains": ["old.example"],
        "own-addresses": ["198.51.100.1"],
        "explain-to-users": "off",
        "bidi": "off",
        "dscp": "46",
        "lists": [{
            "name": "spammers", "file": "lists/spam.txt", "expires": "72h", "change": "any",
            "verify": { "minisign": "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3" },
            "format": "jid-sha256",
        }, { "name": "far", "url": "https://lists.example/spam.txt", "refresh": "1h" }],
        "patches": ["patches.d/*.yaml"],
        "dialback": { "secrets": { "world": "secrets/world", "inside": "secrets/inside" } },
        "cluster": { "name": "gate", "store": "rediss://gate@store.example.com:6380", "password": "secrets/store", "roots": "pki/store.pem" },
        "trust": {
            "roots": "pki/roots.pem", "crls": ["pki/list.crl"], "unknown-revocation": "refuse",
            "peers": [{ "domains": ["partner.example"], "roots": "pki/partner.pem" }],
        },
        "dns": {
            "servers": ["127.0.0.1:5353"], "allow-networks": ["192.0.2.0/24"], "dnssec": "validate", "anchors": "pki/root.keys",
            "routes": [{ "domain": "partner.example", "target": "192.0.2.9:5269", "tls": "direct", "via": "socks5://10.0.0.9:1080" }],
        },
        "steering": {
            "listen": "127.0.0.1:15353", "from": ["127.0.0.0/8"], "answer": "127.0.0.1", "hosted": "nxdomain",
            "never": ["nowhere.example"],
        },
        "admin": { "http": "127.0.0.1:9469", "hosts": ["watch.example"], "status": "on", "socket": "control.sock" },
        "log": { "format": "json", "level": "debug" },
        "audit": { "file": "audit.jsonl", "on-full": "refuse", "rotate-at": "1MiB" },
        "state": "state",
    });
    for (map, keys) in [("limits", Limits::KEYS), ("timeouts", Timeouts::KEYS)] {
        let all = keys.iter().map(|(key, default, _, _)| ((*key).to_owned(), Value::from(*default)));
        whole[map] = Value::Object(all.collect());
    }
    whole
}

/// Where every value stands.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, inner)| places(inner, &format!("{at}/{key}"), found))
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, inner)| places(inner, &format!("{at}/{n}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

/// What the gateway would live by, and what is said of it; without places, for those move with the words.
fn read(folder: &Path, whole: &Value, value: &str) -> (Vec<(String, String)>, Vec<String>) {
    let file = folder.join("gatehouse.yaml");
    std::fs::write(&file, serde_json::to_string(whole).unwrap()).unwrap();
    let environment = |name: &str| (name == "VALUE").then(|| value.to_owned());
    let Examined { settings, findings, .. } = examine_in(&file, &environment);
    let lines = dump(&settings.unwrap()).into_iter().map(|line| (line.key, line.value)).collect();
    (lines, findings.iter().map(|finding| finding.message.clone()).collect())
}

// "`${NAME}` and `{ file: path }` wherever a value or secret stands".
#[test]
fn every_value_may_come_from_the_environment_or_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for inner in ["policies.d", "patches.d", "conf.d"] {
        std::fs::create_dir(folder.path().join(inner)).unwrap();
    }
    std::fs::write(folder.path().join("policies.d/a.yaml"), "version: v1\nrules: []\n").unwrap();
    std::fs::write(folder.path().join("patches.d/a.yaml"), "version: v1\npatches: []\n").unwrap();
    let more = "domains:\n  - { name: three.example, certificate: { chain: c, key: k }, backend: { s2s: [\"10.0.0.5:5269\"] }, \
                federation: none }\n";
    std::fs::write(folder.path().join("conf.d/three.yaml"), more).unwrap();
    let whole = whole();
    let plain = read(folder.path(), &whole, "");
    assert!(plain.1.iter().all(|said| !said.contains("not a key")), "{:#?}", plain.1);
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    assert!(all.len() > 150, "{}", all.len());
    for place in &all {
        let value = whole.pointer(place).and_then(Value::as_str).unwrap().to_owned();
        let mut filled = whole.clone();
        *filled.pointer_mut(place).unwrap() = "${VALUE}".into();
        assert_eq!(read(folder.path(), &filled, &value), plain, "{place}: from the environment");
        // A path stays one: a secret's file is not opened for its name.
        let key = place.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap();
        let held = match fill::NAMES_OF_FILES.contains(&key) {
            true => value.clone(),
            false => {
                // As every other editor writes it: with a byte order mark before it.
                let mark = if all.iter().position(|other| other == place).unwrap() % 2 == 0 {
                    "\u{feff}"
                } else {
                    ""
                };
                std::fs::write(folder.path().join("value"), format!("{mark}{value}\n")).unwrap();
                "value".to_owned()
            }
        };
        *filled.pointer_mut(place).unwrap() = json!({ "file": held });
        assert_eq!(read(folder.path(), &filled, ""), plain, "{place}: from a file");
    }
}

// The table above is whole: every key that the schema knows stands in it.
#[test]
fn the_table_of_values_has_every_key() {
    let schema = include_str!("../../deploy/schemas/gatehouse.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    fn keys<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(map) => {
                let named = map.get("properties").and_then(Value::as_object);
                found.extend(named.into_iter().flat_map(|named| named.keys()).map(String::as_str));
                map.values().for_each(|inner| keys(inner, found));
            }
            Value::Array(list) => list.iter().for_each(|inner| keys(inner, found)),
            _ => {}
        }
    }
    let mut known = BTreeSet::new();
    keys(&schema, &mut known);
    let whole = whole();
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let shown: BTreeSet<&str> = all.iter().flat_map(|place| place.split('/')).collect();
    let missing: Vec<_> = known.difference(&shown).collect();
    assert!(missing.is_empty() && known.len() > 100, "{missing:?} of {}", known.len());
}
