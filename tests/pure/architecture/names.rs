//! One meaning for each name that a room hands to others: who reads `Place` somewhere need not ask whose.

use std::collections::{BTreeMap, BTreeSet};

use super::{code_lines, module, sources, word};

/// Names that mean the same in every room: each has one of its own.
const OF_EACH_ROOM: &[&str] = &[
    // Of the command line: what a command is asked with.
    "Args",
    // Of a state machine: what happens to it, what it wants done, what a step gives, where it begins.
    "Effect",
    "Greeting",
    "Input",
    "Stepped",
    "Upgrading",
    // What came of meeting the other nodes in the store.
    "Exchanged",
    // What a part is made with, filled in from the settings (a module owns its parameters).
    "Params",
];

/// Rooms that draw what others hold, under its own name: as the file has it, as the page shows it, as it goes over the control socket.
const PICTURES: &[&str] = &["src/config/", "src/status/", "src/gateway/protocol"];

/// Names that such a room shares with others. Each is the same thing, drawn.
const DRAWN: &[&str] = &[
    "Admin",
    "Audit",
    "Backend",
    "Ban",
    "Circuit",
    "Cluster",
    "HostedDomain",
    "Limit",
    "List",
    "Listener",
    "Pair",
    "Peer",
    "ProxyVersion",
    "Quarantined",
    "Route",
    "Secrets",
    "Shadow",
    "ShadowChange",
    "Steering",
    "Takes",
    "UnknownRevocation",
];

#[test]
fn an_exported_name_has_one_meaning() {
    let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut drawn = BTreeSet::new();
    for (path, text) in sources() {
        let picture = PICTURES.iter().any(|room| path.to_string_lossy().contains(room));
        let Some(module) = module(&path).filter(|module| module != "demo") else { continue };
        for (_, line) in code_lines(&text) {
            let kinds = ["struct ", "enum ", "trait ", "type "];
            let name =
                line.strip_prefix("pub ").and_then(|rest| kinds.iter().find_map(|k| rest.strip_prefix(k)));
            if let Some(name) = name {
                if picture {
                    drawn.insert(word(name));
                }
                homes.entry(word(name)).or_default().insert(format!("{module}: {}", path.display()));
            }
        }
    }
    assert!(homes.len() > 400, "the types were not found");
    homes.retain(|name, files| files.len() > 1 && !OF_EACH_ROOM.contains(&name.as_str()));
    let unshared: Vec<_> = DRAWN.iter().filter(|name| !homes.contains_key(**name)).collect();
    assert!(unshared.is_empty(), "not shared any more: {unshared:?}");
    homes.retain(|name, _| !(drawn.contains(name) && DRAWN.contains(&name.as_str())));
    assert!(homes.is_empty(), "names with more than one meaning: {homes:#?}");
}
