//! The way of `deploy/security.md` from `any` to `listed`, with real servers: what was used is learned from the audit log, runs in
//! the shadow, and becomes the policy; nobody who is known is cut off, and who is not known is told before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::support::ca::Usage;
use crate::support::client::Client;
use crate::support::scene::{Cast, Peer, Scene};
use crate::support::server::{Legacy, Proof, Remote};

const POLICY: &str =
    "version: v1\ndefaults: { identity: [certificate, dialback], tls: \"1.2\" }\nrules: []\n";

fn exchange(one: &mut Client, other: &mut Client) {
    let id = one.message(other.jid(), "good day");
    other.expect_message(one.jid(), &id);
    let id = other.message(one.jid(), "and to you");
    one.expect_message(other.jid(), &id);
}

fn done(scene: &Scene, label: &str, arguments: &[&str]) -> String {
    let (code, said) = scene.gateway.command(label, arguments);
    assert_eq!(code, Some(0), "{said}");
    said
}

// POL-21, POL-23.
#[test]
fn from_any_to_listed_nobody_who_is_known_is_cut_off() {
    let peer = |program, proof, domain| Peer { program, proof, domain };
    let cast = Cast {
        remotes: &[
            peer(Remote::Prosody13, Proof::External, "friend.example"),
            peer(Remote::Prosody, Proof::Dialback, "old.example"),
            peer(Remote::Ejabberd24, Proof::External, "stranger.example"),
        ],
        legacy: Legacy::Prosody13,
        usage: Usage::Both,
        policy: POLICY,
    };
    let scene = Scene::start(&cast);
    let folder = scene.gateway.roots().parent().unwrap().to_owned();
    let file = folder.join("gatehouse.yaml");
    let edit = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    };
    edit("federation: listed", "federation: any");
    done(&scene, "open", &["reload"]);
    let mut inside = scene.legacy.login();
    let (mut friend, mut old) = (scene.remotes[0].login(), scene.remotes[1].login());
    exchange(&mut inside, &mut friend);
    exchange(&mut inside, &mut old);

    // Learn: both, both ways, each by what it proves itself with.
    let learned = folder.join("policies/learned.yaml");
    let said =
        done(&scene, "learn", &["policy", "learn", "--since", "1d", "--output", learned.to_str().unwrap()]);
    assert!(said.contains("2 rules"), "{said}");
    let text = std::fs::read_to_string(&learned).unwrap();
    let rule = |name: &str| {
        text.split("  - name: ").find(|rule| rule.starts_with(name)).unwrap_or_else(|| panic!("{text}"))
    };
    assert!(rule("learned-friend.example").contains("identity: [certificate]\n"), "{text}");
    assert!(rule("learned-old.example").contains("identity: [certificate, dialback]\n"), "{text}");
    assert!(
        !text.contains("direction: inbound\n") && !text.contains("direction: outbound\n"),
        "both ways: {text}"
    );

    // Shadow: who was not seen before is told, and speaks on.
    edit(
        "    policies: [policies/policy.yaml]\n",
        "    policies: [policies/policy.yaml]\n    shadow: [policies/learned.yaml]\n    shadow-federation: listed\n",
    );
    done(&scene, "check", &["check"]);
    done(&scene, "shadow", &["reload"]);
    let mut unlisted = scene.remotes[2].login();
    exchange(&mut inside, &mut unlisted);
    exchange(&mut inside, &mut friend);
    exchange(&mut inside, &mut old);
    let said = done(&scene, "told", &["policy", "shadow"]);
    assert!(said.contains("stranger.example > ") && said.contains("would be refused: not-listed"), "{said}");
    assert!(!said.contains("friend.example > ") && !said.contains("old.example > "), "{said}");
    assert!(said.contains("federation any -> listed"), "{said}");

    // Promote: from now on it is the list.
    let said = done(&scene, "promote", &["policy", "promote", "--yes"]);
    assert!(said.contains("what was in the shadow is the policy"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("policies: [policies/learned.yaml]\n") && !text.contains("shadow"), "{text}");
    exchange(&mut inside, &mut friend);
    exchange(&mut inside, &mut old);
    let id = inside.message(unlisted.jid(), "and now?");
    let (condition, words) = inside.told(&id);
    assert_eq!(condition, "forbidden");
    assert!(words.starts_with("stranger.example: no rule allows this domain"), "{words}");
}
