//! What the core writes of its own accord: to whom it goes, in whose name, and that none of it is about another of its kind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::stage::*;
use gatehouse::jid::Domain;
use gatehouse::policy::Networks;
use gatehouse::reason::{Flow, Reason};
use gatehouse::relay::{Destination, Effect, FarId, Input, KeysBy, Load, RelayParams, Side};

/// Kinds and types, and whether an error may be about such a one.
const KINDS: [(&str, &str, bool); 19] = [
    ("message", "", true),
    ("message", "chat", true),
    ("message", "groupchat", true),
    ("message", "headline", true),
    ("message", "odd", true),
    ("message", "error", false),
    ("presence", "", true),
    ("presence", "unavailable", true),
    ("presence", "subscribe", true),
    ("presence", "unsubscribed", true),
    ("presence", "probe", true),
    ("presence", "error", false),
    ("iq", "get", true),
    ("iq", "set", true),
    ("iq", "result", false),
    ("iq", "error", false),
    ("iq", "odd", true),
    ("iq", "", true),
    ("odd", "", false),
];

/// Addresses of ours, of the peer, of others, and none.
const ADDRESSES: [&str; 9] = [
    "b@hall.example/h",
    "hall.example",
    "b@annex.example",
    "a@friend.example/x",
    "c@stranger.example",
    "d@rooms.hall.example",
    "e@foo_bar.example",
    "@hall.example",
    "",
];

fn stanza((kind, type_): (&str, &str), (from, to): (&str, &str), inner: &str) -> String {
    let mut out = format!("<{kind} id='1'");
    for (name, value) in
        [("type", type_), ("from", from), ("to", to)].iter().filter(|(_, value)| !value.is_empty())
    {
        out += &format!(" {name}='{value}'");
    }
    out + &format!(">{inner}</{kind}>")
}

/// What may be wrong inside.
fn inners() -> [String; 3] {
    [String::new(), "<a/><b/>".to_owned(), format!("{}{}", "<a>".repeat(300), "</a>".repeat(300))]
}

/// The domain of the address in this attribute.
fn of(stanza: &str, name: &str) -> String {
    let address = attribute(stanza, name);
    let bare = address.split('/').next().unwrap().to_owned();
    bare.split('@').next_back().unwrap().to_owned()
}

/// What leaves the relay on streams of others.
fn leaving(stage: &Stage) -> Vec<(&gatehouse::stream::Pair, Option<&Domain>, &str)> {
    let all = stage.effects.iter().filter_map(|effect| match effect {
        Effect::Carry(pair, passing) => Some((pair, None, text(&passing.octets))),
        Effect::Report { pair, via, stanza } => Some((pair, Some(via), text(stanza))),
        _ => None,
    });
    all.collect()
}

// RLY-09, DB-69, D9: what a remote server sends is answered to that server alone, in a name that is ours, once, and never where it is an
// error or an answer; whatever its addresses say.
#[test]
fn errors_about_what_comes_in_go_out_in_our_names_to_whoever_sent_it() {
    let mut answered = 0;
    for (kind, type_, may) in KINDS {
        for from in ADDRESSES {
            for to in ADDRESSES {
                for inner in inners() {
                    let mut stage = inbound(relays(), any(), "friend.example", &[]);
                    let far = admit(&mut stage, "friend.example", "hall.example");
                    stage.effects.clear();
                    let said = stanza((kind, type_), (from, to), &inner);
                    stage.hears(NEAR, &said);
                    // And what was taken does not arrive.
                    let unsent = stage.effects.iter().filter_map(|effect| match effect {
                        Effect::Pass(_, passing) => Some(passing.octets.clone()),
                        _ => None,
                    });
                    let unsent = unsent.collect();
                    stage.step(Side::Far(far), Input::Gone { reason: Reason::ConnectionLost, unsent });
                    let next: Vec<FarId> = stage.connects().into_iter().map(|(id, _)| id).collect();
                    for id in next {
                        stage.step(Side::Far(id), Input::Unreachable(Reason::BackendDown.into()));
                    }
                    let ours: Vec<_> = leaving(&stage)
                        .into_iter()
                        .filter(|(pair, ..)| pair.sender.as_str() != "friend.example")
                        .collect();
                    assert!(ours.len() <= usize::from(may), "{said}: {ours:?}");
                    for (pair, via, error) in ours {
                        answered += 1;
                        assert!(via.is_none() && pair.target.as_str() == "friend.example", "{said}: {error}");
                        assert_eq!(
                            (of(error, "from").as_str(), of(error, "to").as_str()),
                            (pair.sender.as_str(), pair.target.as_str()),
                            "{said}"
                        );
                        assert!(
                            relays().hosts(&pair.sender) && error.contains(" type='error' "),
                            "{said}: {error}"
                        );
                    }
                }
            }
        }
    }
    assert!(answered > 20, "{answered}");
}

// The same of what a server behind sends: nothing of ours goes into the world about it, and what goes back goes to that server.
#[test]
fn errors_about_what_goes_out_go_back_to_the_server_behind_alone() {
    let mut answered = 0;
    for (kind, type_, may) in KINDS {
        for from in ADDRESSES {
            for to in ADDRESSES {
                for inner in inners() {
                    let mut stage = Stage::new(relays(), any(), Flow::S2sOut, None);
                    stage.hears(NEAR, &header("hall.example", "friend.example"));
                    stage.effects.clear();
                    let said = stanza((kind, type_), (from, to), &inner);
                    stage.hears(NEAR, &said);
                    let all = leaving(&stage);
                    assert!(all.len() <= usize::from(may), "{said}: {all:?}");
                    for (_, via, error) in all {
                        answered += 1;
                        assert!(via.is_some_and(|via| relays().hosts(via)), "{said}: {error}");
                        assert!(error.contains(" type='error' "), "{said}: {error}");
                    }
                }
            }
        }
    }
    assert!(answered > 100, "{answered}");
}

/// What comes of a stanza that its courier cannot deliver.
fn undelivered(relays: RelayParams, (sender, target, load): (&str, &str, Load), said: &str) -> Stage {
    let mut stage = courier(relays, any(), sender, target, load);
    stage.step(NEAR, Input::Queue(load, said.to_owned().into()));
    for _ in 0..20 {
        let tried: Vec<FarId> = stage.connects().into_iter().map(|(id, _)| id).collect();
        for id in tried {
            stage.step(Side::Far(id), Input::Unreachable(Reason::RemoteUnreachable.into()));
        }
        stage.wait(std::time::Duration::from_secs(30));
    }
    stage
}

// CLS-02, DB-69, POL-08: what couriers cannot deliver goes back the way it came, and an answer of ours nowhere. Between two servers behind
// it goes back inside.
#[test]
fn what_no_courier_can_deliver_goes_back_the_way_it_came() {
    let mut between = relays();
    between.hosted.get_mut(&domain("annex.example")).unwrap().server = 1;
    let mut without = relays();
    without.hosted.remove(&domain("hall.example"));
    for (kind, type_, may) in KINDS.into_iter().filter(|(kind, ..)| *kind != "odd") {
        for (relays, sender, target, load, back) in [
            (&relays(), "hall.example", "friend.example", Load::Own, "report"),
            (&between, "hall.example", "annex.example", Load::Own, "report"),
            (&relays(), "friend.example", "hall.example", Load::Admitted, "carry"),
            // Whose it was is not known any more.
            (&without, "hall.example", "friend.example", Load::Own, ""),
        ] {
            let said = stanza((kind, type_), (&format!("a@{sender}/x"), &format!("b@{target}")), "");
            let stage = undelivered(relays.clone(), (sender, target, load), &said);
            let all = leaving(&stage);
            let told = all.len();
            assert!(told <= usize::from(may && !back.is_empty()), "{said}: {all:?}");
            assert!(
                told == 1
                    || back.is_empty()
                    || kind == "presence"
                    || !may
                    || (kind, type_) == ("iq", "")
                    || (kind, type_) == ("iq", "odd"),
                "{said}"
            );
            for (pair, via, error) in all {
                assert_eq!((pair.sender.as_str(), pair.target.as_str()), (target, sender), "{said}");
                assert_eq!(via.map(Domain::as_str), (back == "report").then_some("hall.example"), "{said}");
                assert!(error.contains(" type='error' "), "{said}: {error}");
            }
        }
        // Answers of the gateway's own, which are errors.
        for (sender, target, load) in [
            ("hall.example", "friend.example", Load::Carried),
            ("friend.example", "hall.example", Load::Report),
        ] {
            let said = stanza((kind, "error"), (&format!("a@{sender}/x"), &format!("b@{target}")), "");
            assert_eq!(leaving(&undelivered(relays(), (sender, target, load), &said)), [], "{said}");
        }
    }
}

/// Names that are none, as a server behind spells them.
const ODD: [&str; 10] = [
    "foo_bar.example",
    "-friend.example",
    "*.friend.example",
    "x!y.friend.example",
    "192.0.2.77",
    "[2001:db8::1]",
    "a..b.friend.example",
    "friend.example:5269",
    "%00.friend.example",
    "{}$(id).friend.example",
];

// DB-62, JID-03: a name that is none goes into a report, and nowhere else: not to a server in the world, the DNS or a question about a
// key, whatever a rule for what lies above it says.
#[test]
fn a_name_that_is_none_reaches_nobody_but_the_server_that_wrote_it() {
    let mut verified = relays();
    verified.hosted.values_mut().for_each(|hosted| hosted.keys_by = KeysBy::Verify);
    let mut by_address = relays();
    let networks = Networks::new(vec!["192.0.2.0/24".parse().unwrap()]);
    by_address.hosted.values_mut().for_each(|hosted| hosted.keys_by = KeysBy::Address(networks.clone()));
    for params in [relays(), verified, by_address] {
        for name in ODD {
            let mut stage = Stage::new(params.clone(), any(), Flow::S2sOut, None);
            stage.hears(NEAR, &header("hall.example", "friend.example"));
            stage.effects.clear();
            for said in [
                format!("<db:result from='hall.example' to='{name}'>k</db:result>"),
                format!("<db:result from='{name}' to='friend.example'>k</db:result>"),
                format!("<db:verify from='hall.example' to='{name}' id='i'>k</db:verify>"),
                format!("<db:verify from='{name}' to='friend.example' id='i'>k</db:verify>"),
                format!("<message from='a@hall.example' to='b@{name}' id='1'/>"),
                format!("<message from='a@{name}' to='b@friend.example' id='1'/>"),
                format!("<iq type='get' from='{name}' to='{name}' id='1'><a/></iq>"),
            ] {
                stage.hears(NEAR, &said);
            }
            for effect in &stage.effects {
                let goes = matches!(
                    effect,
                    Effect::Connect(..)
                        | Effect::Verify(..)
                        | Effect::Carry(..)
                        | Effect::Hand(..)
                        | Effect::OpenLane(..)
                );
                assert!(!goes, "{name}: {effect:?}");
            }
            let odd = Domain::as_spelt(name).unwrap();
            let report = gatehouse::stream::Pair { sender: odd, target: domain("hall.example") };
            let via = Some(domain("hall.example"));
            let policy = any();
            let (relay, effects) = gatehouse::relay::Relay::courier(
                std::sync::Arc::new(params.clone()),
                policy,
                report,
                (Load::Report, via),
                stage.now,
            );
            let mut courier = Stage::of((relay, effects));
            courier.step(
                NEAR,
                Input::Queue(
                    Load::Report,
                    format!("<message type='error' from='b@{name}' to='a@hall.example'/>").into(),
                ),
            );
            for _ in 0..3 {
                courier.wait(std::time::Duration::from_secs(61));
            }
            let calls = courier.connects();
            assert!(
                !calls.is_empty()
                    && calls.iter().all(|(_, to)| *to == Destination::Backend(domain("hall.example"))),
                "{name}: {calls:?}"
            );
        }
    }
}

// A name that is only spelt stands in lines, records and metrics as it is: nothing in it changes what is read beside it, and nothing asked
// of it is more than of a name.
#[test]
fn a_name_that_is_only_spelt_hides_nothing_where_it_is_shown() {
    let ignorable = |c: char| {
        matches!(u32::from(c), 0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f
            | 0x200b..=0x200c | 0x200e..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfeff | 0xffa0
            | 0xfff0..=0xfffb | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
    };
    let mut spelt = 0;
    let some = [
        0..0x3200,
        0xd7b0..0xd800,
        0xe000..0xe010,
        0xf8f0..0xfa00,
        0xfe00..0x10000,
        0x1bca0..0x1bcb0,
        0x1d170..0x1d180,
        0xe0000..0xe0200,
    ];
    // The two that part an address are in no name.
    for c in some.into_iter().flatten().filter_map(char::from_u32).filter(|c| !"@/".contains(*c)) {
        let Some(name) = Domain::as_spelt(&format!("a{c}_b.friend.example")) else { continue };
        if name.is_name() {
            continue;
        }
        spelt += 1;
        assert!(!c.is_control() && !c.is_whitespace() && !ignorable(c), "{c:?}");
        assert!(!"'\"&<>\\".contains(c), "{c:?}");
        let friend = domain("friend.example");
        assert!(name.is_below(&friend) && !name.is_public_suffix() && name != friend, "{c:?}");
        let _whole = (name.registrable(), name.above_suffix(), name.is_shared(), name.to_ascii());
    }
    assert!(spelt > 5_000, "{spelt}");
}
