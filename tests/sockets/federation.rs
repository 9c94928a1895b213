//! Both directions, over real sockets: proof, dialback in all its roles, and what becomes of every stanza.
//!
//! DB-01 to DB-67, RLY-01 to RLY-21.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use gatehouse::demo::dial;
use gatehouse::demo::legacy::Habit;
use gatehouse::demo::peer::{Admit, Manner, Vouch};
use gatehouse::demo::session::{DIALBACK, Greeting, Login, Session, Word, word};
use gatehouse::demo::wire::{Item, Wire};
use gatehouse::demo::world::World;

use crate::sockets::*;

const ALL: [Habit; 7] = Habit::ALL;

// ---------------------------------------------------------------------------------------------- there and back

// Messages with odd Unicode and a 100 KB body, by certificate and by dialback, for each kind of backend.
#[tokio::test]
async fn messages_pass_both_ways_for_every_backend_and_either_proof() {
    for habit in ALL {
        let world = World::build(&plan().habit(habit)).await.unwrap();
        let friend = peer(&world, 10, FRIEND).await;
        let cousin = world.old_peer(11, &[COUSIN]).await.unwrap();
        let odd = "e\u{301} \u{1F468}\u{200D}\u{1F469} \u{202E}abc <&>'\" ]]> \u{FEFF}";
        let long = "\u{fc}x".repeat(34_000);
        for body in [odd, long.as_str()] {
            world.legacy.message("j@hall.example/desk", "r@friend.example", body);
            let arrived = friend.inbox.wait_body(body).await.unwrap();
            assert_eq!(arrived.attr("from"), Some("j@hall.example/desk"), "{habit:?}");
            world.legacy.message("j@hall.example/desk", "c@cousin.example", body);
            cousin.inbox.wait_body(body).await.unwrap();
        }
        assert_eq!(friend.proofs(), ["certificate hall.example"], "{habit:?}");
        assert_eq!(cousin.proofs(), ["dialback hall.example"], "{habit:?}");
        for mut stream in [by_certificate(&friend, HALL).await, by_dialback(&cousin, HALL).await] {
            let from = format!("a@{}/phone", stream.header.attr("to").unwrap());
            for body in [format!("{odd}{from}"), format!("{long}{from}")] {
                stream.message(&from, "j@hall.example", &body).await.unwrap();
                let arrived = world.legacy.inbox.wait_body(&body).await.unwrap();
                assert_eq!(arrived.attr("from"), Some(from.as_str()), "{habit:?}");
            }
        }
    }
}

// RLY-21: "Pings and disco to a local domain are answered by the legacy server, not by us".
#[tokio::test]
async fn a_ping_is_answered_by_the_backend() {
    for habit in ALL {
        let world = World::build(&plan().habit(habit)).await.unwrap();
        let friend = peer(&world, 10, FRIEND).await;
        let mut stream = by_certificate(&friend, HALL).await;
        stream
            .send("<iq from='a@friend.example/x' to='hall.example' id='p1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
            .await
            .unwrap();
        let pong = friend.inbox.wait(|n| n.attr("id") == Some("p1")).await.unwrap();
        assert_eq!(
            (pong.attr("type"), pong.attr("from")),
            (Some("result"), Some("hall.example")),
            "{habit:?}"
        );
        assert_eq!(world.legacy.inbox.all().iter().filter(|n| n.attr("id") == Some("p1")).count(), 1);
    }
}

// XEP-0368 3: "`_xmpps` targets use direct TLS", in both directions.
#[tokio::test]
async fn direct_tls_carries_both_directions() {
    let world = border().await;
    let identity = world.authority.issue(&gatehouse::demo::pki::Leaf::of(&[FRIEND])).unwrap();
    let friend = world.peer_with(10, &[FRIEND], identity.clone(), Manner::default()).await.unwrap();
    world.names.announce(FRIEND, None, Some(friend.direct)).unwrap();
    world.legacy.message("j@hall.example", "r@friend.example", "straight");
    friend.inbox.wait_body("straight").await.unwrap();
    let call = world.directly(friend.call(HALL).unwrap(), Some(&identity)).unwrap();
    let mut stream = call.open().await.unwrap();
    assert_eq!(stream.external(FRIEND).await.unwrap(), Login::Success);
    still_passes(&world, &mut stream, "r@friend.example", "j@hall.example", "and back").await;
}

// RLY-05: "Order is kept per pair".
#[tokio::test]
async fn order_is_kept() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for number in 0..300 {
        stream.message("a@friend.example", "j@hall.example", &format!("in {number}")).await.unwrap();
        world.legacy.message("j@hall.example", "a@friend.example", &format!("out {number}"));
    }
    world.legacy.inbox.wait_body("in 299").await.unwrap();
    friend.inbox.wait_body("out 299").await.unwrap();
    for (inbox, word) in [(&world.legacy.inbox, "in"), (&friend.inbox, "out")] {
        let bodies: Vec<String> = inbox.all().iter().filter_map(|n| n.body().map(str::to_owned)).collect();
        assert_eq!(bodies, (0..300).map(|n| format!("{word} {n}")).collect::<Vec<_>>());
    }
}

// RLY-05: "a second inbound stream for a pair must complete its own proof and never replaces the first before that".
#[tokio::test]
async fn a_second_stream_for_a_pair_needs_a_proof_of_its_own() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut first = by_certificate(&friend, HALL).await;
    let mut second = friend.call_bare(HALL).unwrap().open().await.unwrap();
    second.message("a@friend.example", "j@hall.example", "on hope").await.unwrap();
    assert_eq!(second.ending().await.unwrap().condition.as_deref(), Some("not-authorized"));
    still_passes(&world, &mut first, "a@friend.example", "j@hall.example", "the first stands").await;
}

// ------------------------------------------------------------------------------------------- what a stanza keeps

// RLY-06: "Payload is passed unmodified". RLY-16, RLY-17: forwarded stanzas, archive results, `muc#user`, `moved` untouched.
#[tokio::test]
async fn payloads_pass_as_they_came() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for (id, payload) in [
        (
            "f",
            "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='x@elsewhere.example' to='y@hall.example'><body>inner</body></message></forwarded>",
        ),
        ("m", "<x xmlns='http://jabber.org/protocol/muc#user'><item jid='z@other.example'/></x>"),
        ("v", "<moved xmlns='urn:xmpp:moved:1'><old-jid>old@friend.example</old-jid></moved>"),
        ("o", "<origin-id xmlns='urn:xmpp:sid:0' id='77'/>"),
        ("s", "<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='friend.example'/>"),
        ("d", "<delay xmlns='urn:xmpp:delay' from='friend.example' stamp='2020-01-01T00:00:00Z'/>"),
        ("n", "<a xmlns='urn:x'><b xmlns='urn:y' c='&lt;&amp;'>t</b></a>"),
    ] {
        let body = format!("{payload}<body>{id}</body>");
        stream
            .send(format!(
                "<message from='a@friend.example' to='j@hall.example' id='{id}' type='chat'>{body}</message>"
            ))
            .await
            .unwrap();
        let arrived = world.legacy.inbox.wait_body(id).await.unwrap();
        assert!(arrived.raw.ends_with(&format!(">{body}</message>")), "{}", arrived.raw);
        assert_eq!((arrived.attr("id"), arrived.attr("type")), (Some(id), Some("chat")));
    }
}

// RLY-12: "remove every `stanza-id` child whose `by` is a local domain or an address at one; leave all others".
// RLY-13: the same for `delay` by `from`.
#[tokio::test]
async fn marks_that_only_we_could_have_made_are_removed() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    stream
        .send(
            "<message from='a@friend.example' to='j@hall.example'>\
             <stanza-id xmlns='urn:xmpp:sid:0' id='1' by='hall.example'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' id='2' by='j@HALL.example'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' id='3' by='room@annex.example/x'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' id='4' by='friend.example'/>\
             <delay xmlns='urn:xmpp:delay' from='hall.example.' stamp='2020-01-01T00:00:00Z'/>\
             <delay xmlns='urn:xmpp:delay' from='friend.example' stamp='2021-01-01T00:00:00Z'/>\
             <origin-id xmlns='urn:xmpp:sid:0' id='5'/><body>marked</body></message>",
        )
        .await
        .unwrap();
    let arrived = world.legacy.inbox.wait_body("marked").await.unwrap();
    let left: Vec<(&str, Option<&str>)> =
        arrived.children.iter().map(|c| (c.name.as_str(), c.attr("id").or_else(|| c.attr("from")))).collect();
    assert_eq!(
        left,
        [
            ("stanza-id", Some("4")),
            ("delay", Some("friend.example")),
            ("origin-id", Some("5")),
            ("body", None)
        ]
    );
}

// RLY-07: "A stanza without `xml:lang` from a stream that had one gets it added when the outgoing stream's differs."
#[tokio::test]
async fn the_language_of_the_stream_goes_with_the_stanza() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut call = friend.call_bare(HALL).unwrap();
    call.greeting.lang = Some("sv".to_owned());
    let mut stream = call.open().await.unwrap();
    assert_eq!(stream.dialback(FRIEND, HALL).await.unwrap(), Word::Valid);
    stream.message("a@friend.example", "j@hall.example", "hej").await.unwrap();
    assert_eq!(world.legacy.inbox.wait_body("hej").await.unwrap().attr("xml:lang"), Some("sv"));
    stream
        .send(
            "<message from='a@friend.example' to='j@hall.example' xml:lang='de'><body>hallo</body></message>",
        )
        .await
        .unwrap();
    assert_eq!(world.legacy.inbox.wait_body("hallo").await.unwrap().attr("xml:lang"), Some("de"));
}

// RLY-20: "a full `from` on inbound subscribe/subscribed/... is treated as bare for policy"; RLY-11: no presence of our own.
#[tokio::test]
async fn presence_and_subscriptions_pass() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for kind in ["subscribe", "subscribed", "unsubscribe", "unsubscribed", "unavailable", "probe"] {
        stream
            .send(format!("<presence from='a@friend.example/x' to='j@hall.example' type='{kind}'/>"))
            .await
            .unwrap();
        world.legacy.inbox.wait(|n| n.name == "presence" && n.attr("type") == Some(kind)).await.unwrap();
    }
    world.legacy.send("<presence from='j@hall.example' to='a@friend.example' type='subscribed'/>");
    friend.inbox.wait(|n| n.name == "presence" && n.attr("type") == Some("subscribed")).await.unwrap();
    assert_eq!(friend.inbox.len(), 1, "no probe was answered by us: {:?}", friend.inbox.all());
}

// ---------------------------------------------------------------------------------------- what a stanza is refused

// RLY-08: "IQ: `id` required, `type` one of get, set, result, error; get/set have exactly one child";
// `ST(bad-request,modify)`. RLY-10: "swap addresses, mirror `id`, keep the stanza kind".
#[tokio::test]
async fn an_iq_that_is_none_comes_back() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for (at, iq) in [
        "type='get'><a xmlns='urn:a'/><b xmlns='urn:b'/></iq>",
        "type='set'/>",
        "type='ask'><a xmlns='urn:a'/></iq>",
        "><a xmlns='urn:a'/></iq>",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("iq{at}");
        stream
            .send(format!("<iq from='a@friend.example/x' to='j@hall.example' id='{id}' {iq}"))
            .await
            .unwrap();
        let error = friend.inbox.wait(|n| n.attr("id") == Some(id.as_str())).await.unwrap();
        assert_eq!(condition(&error), Some("bad-request"), "{iq}");
        assert_eq!(error.child("error").unwrap().attr("type"), Some("modify"));
        assert_eq!(error.name, "iq");
        assert_eq!(
            (error.attr("from"), error.attr("to")),
            (Some("j@hall.example"), Some("a@friend.example/x"))
        );
        assert_eq!(error.children.len(), 1, "no payload goes back: {}", error.raw);
    }
    let before = refused(&world, "bad-iq").await;
    stream
        .send("<iq from='a@friend.example/x' to='j@hall.example' type='get'><a xmlns='urn:a'/></iq>")
        .await
        .unwrap();
    one_more_refused(&world, "bad-iq", before).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "unharmed").await;
}

// RLY-09: "Never answer a stanza of type error, or an IQ result, with an error."
#[tokio::test]
async fn an_error_is_never_answered() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let before = refused(&world, "bad-iq").await;
    stream.send("<iq from='a@friend.example' to='j@hall.example' type='error'/>").await.unwrap();
    stream
        .send("<iq from='a@friend.example' to='j@hall.example' type='result' id='r'><a xmlns='urn:a'/><b xmlns='urn:b'/></iq>")
        .await
        .unwrap();
    world.counted("stanzas_refused_total", &[("reason", "bad-iq")], before + 2.0).await.unwrap();
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "unharmed").await;
    assert!(friend.inbox.is_empty(), "{:?}", friend.inbox.all());
}

// RLY-11: "Errors we generate are identical for existing and non-existing users and for bare and full JIDs".
#[tokio::test]
async fn our_errors_tell_nothing_about_accounts() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let _julia = world.login("julia", HALL).await.unwrap();
    let mut stream = by_certificate(&friend, HALL).await;
    let mut told = Vec::new();
    for (id, to) in
        [("1", "julia@hall.example"), ("2", "nobody@hall.example"), ("3", "julia@hall.example/home")]
    {
        stream
            .send(format!(
                "<iq from='a@friend.example/x' to='{to}' id='{id}' type='set'><query xmlns='jabber:iq:roster'/></iq>"
            ))
            .await
            .unwrap();
        let error = friend.inbox.wait(|n| n.attr("id") == Some(id)).await.unwrap();
        told.push(error.raw.replace(to, "TO").replace(&format!("id='{id}'"), "ID"));
    }
    assert!(told[0] == told[1] && told[1] == told[2], "{told:#?}");
}

// RLY-14: "Foreign messages with `sent`/`received` in `urn:xmpp:carbons:2` as direct child are never legitimate"; `DROP`.
#[tokio::test]
async fn a_foreign_carbon_is_dropped() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for name in ["sent", "received"] {
        let before = refused(&world, "carbon-forged").await;
        stream
            .send(format!(
                "<message from='a@friend.example' to='j@hall.example' id='c'><{name} xmlns='urn:xmpp:carbons:2'>\
                 <forwarded xmlns='urn:xmpp:forward:0'/></{name}></message>"
            ))
            .await
            .unwrap();
        one_more_refused(&world, "carbon-forged", before).await;
    }
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "unharmed").await;
    assert_eq!(world.legacy.inbox.len(), 1);
    assert!(friend.inbox.is_empty(), "dropped, not answered");
}

// RLY-15: "Foreign IQ of type set with roster or blocking-command payload to a user is not forwarded";
// `ST(service-unavailable,cancel)`.
#[tokio::test]
async fn nobody_outside_changes_a_roster_or_a_block_list() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for (id, payload) in
        [("r", "<query xmlns='jabber:iq:roster'/>"), ("b", "<block xmlns='urn:xmpp:blocking'/>")]
    {
        stream
            .send(format!(
                "<iq from='a@friend.example' to='j@hall.example' id='{id}' type='set'>{payload}</iq>"
            ))
            .await
            .unwrap();
        let error = friend.inbox.wait(|n| n.attr("id") == Some(id)).await.unwrap();
        assert_eq!(condition(&error), Some("service-unavailable"));
        assert_eq!(error.child("error").unwrap().attr("type"), Some("cancel"));
    }
    assert!(world.legacy.inbox.is_empty());
}

// Contract 3: "stanzas: { allow: [..], deny-payloads: [..] }".
#[tokio::test]
async fn a_rule_may_stop_kinds_and_payloads() {
    let policy = "version: v1\nrules:\n  - name: quiet\n    domains: [friend.example]\n    stanzas: { allow: [message, iq], \
                  deny-payloads: [\"jabber:iq:register\"] }\n";
    let world = World::build(&gatehouse::demo::world::Plan::listed(HALL, policy)).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    stream.send("<presence from='a@friend.example' to='j@hall.example' id='p'/>").await.unwrap();
    let error = friend.inbox.wait(|n| n.attr("id") == Some("p")).await.unwrap();
    assert_eq!(condition(&error), Some("policy-violation"));
    stream
        .send("<iq from='a@friend.example' to='hall.example' id='q' type='get'><query xmlns='jabber:iq:register'/></iq>")
        .await
        .unwrap();
    let error = friend.inbox.wait(|n| n.attr("id") == Some("q")).await.unwrap();
    assert_eq!(condition(&error), Some("policy-violation"));
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "allowed").await;
    assert_eq!(world.legacy.inbox.len(), 1);
}

// ------------------------------------------------------------------------------- dialback: the receiving server

async fn bare(world: &World, peer: &gatehouse::demo::peer::Peer) -> Session {
    let _ = world;
    peer.call_bare(HALL).unwrap().open().await.unwrap()
}

// DB-02: "`from` and `to` are required bare domains"; `SE(improper-addressing)`.
#[tokio::test]
async fn dialback_without_proper_domains_ends_the_stream() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    for element in [
        "<db:result to='hall.example'>k</db:result>",
        "<db:result from='cousin.example'>k</db:result>",
        "<db:result from='' to='hall.example'>k</db:result>",
        "<db:result from='c@cousin.example' to='hall.example'>k</db:result>",
        "<db:result from='cousin.example/x' to='hall.example'>k</db:result>",
        "<db:verify from='cousin.example' to='hall.example'>k</db:verify>",
        "<db:verify from='cousin.example' to='hall.example' id=''>k</db:verify>",
    ] {
        let mut stream = bare(&world, &cousin).await;
        stream.send(element).await.unwrap();
        assert_eq!(
            stream.ending().await.unwrap().condition.as_deref(),
            Some("improper-addressing"),
            "{element}"
        );
    }
    assert_eq!(world.names.asked_about(COUSIN), 0);
}

// DB-02: "the key is text only, 1-1024 bytes, no child elements"; "key: `DE(bad-request)`".
#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut stream = bare(&world, &cousin).await;
    for key in ["", "<x xmlns='urn:x'/>", &"k".repeat(1025)] {
        stream.send_key(COUSIN, HALL, key).await.unwrap();
        assert_eq!(stream.word().await.unwrap(), error("bad-request"), "{} octets", key.len());
    }
    assert_eq!(world.names.asked_about(COUSIN), 0);
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), Word::Valid);
}

// DB-03: "No `type` = request; `valid`, `invalid`, `error` = response; other values are neither"; `SE(bad-format)`.
#[tokio::test]
async fn dialback_of_an_unknown_type_ends_the_stream() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut stream = bare(&world, &cousin).await;
    stream
        .send("<db:result from='cousin.example' to='hall.example' type='perhaps'>k</db:result>")
        .await
        .unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("bad-format"));
}

// DB-08: a response "counts only if it arrives on the very stream on which we sent the request ... Otherwise it changes no
// state"; `DROP`; repeated: `SE(policy-violation)`.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_changes_nothing() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let unasked = [
        "<db:result from='cousin.example' to='hall.example' type='valid'/>",
        "<db:verify from='cousin.example' to='hall.example' id='x' type='valid'/>",
    ];
    stream.send(unasked[0]).await.unwrap();
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "unharmed").await;
    world.counted("dialback_total", &[("outcome", "unasked")], 1.0).await.unwrap();
    let mut other = by_certificate(&friend, HALL).await;
    other.send(unasked[1]).await.unwrap();
    other.message("c@cousin.example", "j@hall.example", "smuggled").await.unwrap();
    assert_eq!(other.ending().await.unwrap().condition.as_deref(), Some("invalid-from"));
    for _ in 0..50 {
        if stream.send(unasked[0]).await.is_err() {
            break;
        }
    }
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    assert!(cousin.inbox.is_empty());
    assert_eq!(world.legacy.inbox.len(), 1);
}

// DB-08 on the streams that we open, the attacks of 2012: a receiving server that answers for another pair wins nothing.
#[tokio::test]
async fn an_answer_about_another_pair_admits_nobody() {
    let world = World::build(&plan().timeout("dialback", "1s")).await.unwrap();
    let manner = Manner { external: false, admit: Admit::OtherPair, ..Manner::default() };
    let cousin = world.peer(10, &[COUSIN], manner).await.unwrap();
    world.legacy.message("j@hall.example", "c@cousin.example", "for cousin only");
    let bounce = world.legacy.bounces.wait(|n| n.attr("from") == Some("c@cousin.example")).await.unwrap();
    // DB-52: "`error`, stream loss, timeout -> bounce `ST(remote-server-timeout,wait)`".
    assert_eq!(condition(&bounce), Some("remote-server-timeout"));
    assert!(cousin.inbox.is_empty());
}

// DB-08: the same for the verifier's question. DB-22: it is asked of the authority found by DNS, on a connection of its own.
#[tokio::test]
async fn a_word_about_another_stream_proves_nothing() {
    let world = World::build(&plan().timeout("dialback", "1s")).await.unwrap();
    let cousin = peer(&world, 10, COUSIN).await;
    cousin.behave(|m| m.vouch = Vouch::OtherStream);
    let mut stream = bare(&world, &cousin).await;
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), error("remote-server-timeout"));
    assert_eq!(world.legacy.visits(), 0);
}

// DB-22: "never to the requester's address, never on the connection that carried the request".
#[tokio::test]
async fn the_question_goes_where_the_dns_says_and_not_to_the_asker() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let liar = Manner { vouch: Vouch::Always, ..Manner::default() };
    let identity = world.authority.issue(&gatehouse::demo::pki::Leaf::of(&[STRANGER])).unwrap();
    let impostor = world.peer_with(11, &[COUSIN], identity, liar).await.unwrap();
    let mut stream = impostor.call_bare(HALL).unwrap().open().await.unwrap();
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), Word::Invalid);
    assert_eq!((impostor.visits(), cousin.visits()), (0, 1));
    assert_eq!(world.legacy.visits(), 0);
}

// DB-27: "`invalid` from the authority: if the stream has no other authorised pair send `type='invalid'` and close".
#[tokio::test]
async fn an_invalid_key_closes_a_stream_that_has_nothing_else() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut stream = bare(&world, &cousin).await;
    stream.send_key(COUSIN, HALL, "made-up").await.unwrap();
    assert_eq!(stream.word().await.unwrap(), Word::Invalid);
    let ending = stream.ending().await.unwrap();
    assert_eq!((ending.closed, ending.condition), (true, None));
    world.counted("dialback_total", &[("role", "verifier"), ("outcome", "invalid")], 1.0).await.unwrap();
}

// DB-28: the map of trouble with the authoritative server.
#[tokio::test]
async fn each_trouble_with_the_authority_has_its_word() {
    let world = World::build(&plan().timeout("dialback", "1s")).await.unwrap();
    let cousin = peer(&world, 10, COUSIN).await;
    let mut stream = bare(&world, &cousin).await;
    for (vouch, expected) in [
        (Vouch::Error("item-not-found"), "remote-server-not-found"),
        (Vouch::HangUp, "remote-server-timeout"),
        (Vouch::Silent, "remote-server-timeout"),
    ] {
        cousin.behave(|m| m.vouch = vouch.clone());
        assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), error(expected), "{vouch:?}");
    }
    // "no usable DNS answer": a listed domain that nobody announced.
    assert_eq!(stream.dialback("x.friend.example", HALL).await.unwrap(), error("remote-server-not-found"));
    // "cannot connect": announced, and nobody listens.
    let nowhere = gatehouse::demo::free(std::net::Ipv4Addr::new(127, 60, 0, 1), 0).await.unwrap();
    world.names.announce("y.friend.example", Some(nowhere), None).unwrap();
    assert_eq!(stream.dialback("y.friend.example", HALL).await.unwrap(), error("remote-connection-failed"));
    cousin.behave(|m| m.vouch = Vouch::Honest);
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), Word::Valid);
}

// DB-06: "late answers find nothing": the operation has ended, the answer changes no state.
#[tokio::test]
async fn a_late_answer_finds_nothing() {
    let world = World::build(&plan().timeout("dialback", "1s")).await.unwrap();
    let cousin = peer(&world, 10, COUSIN).await;
    cousin.behave(|m| m.vouch = Vouch::Late(Duration::from_millis(1500)));
    let mut stream = bare(&world, &cousin).await;
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), error("remote-server-timeout"));
    // The honest answer is on its way while this is written.
    assert!(stream.wire.next_within(Duration::from_millis(900)).await.is_err(), "a late word was passed on");
    stream.message("c@cousin.example", "j@hall.example", "too early").await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("not-authorized"));
    assert_eq!(world.legacy.visits(), 0);
}

// DB-09: "Traffic of already authorised pairs ... keeps flowing while an operation is pending."
#[tokio::test]
async fn a_pending_proof_does_not_hold_up_other_pairs() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    cousin.behave(|m| m.vouch = Vouch::Silent);
    let mut stream = by_certificate(&friend, HALL).await;
    stream.claim(COUSIN, HALL).await.unwrap();
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "meanwhile").await;
}

// DB-25: "`valid` authorises (sender, target) on the one inbound stream whose ID was verified, nothing more".
#[tokio::test]
async fn a_proof_holds_on_its_own_stream_only() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut proven = by_dialback(&cousin, HALL).await;
    let mut other = bare(&world, &cousin).await;
    other.message("c@cousin.example", "j@hall.example", "borrowed").await.unwrap();
    assert_eq!(other.ending().await.unwrap().condition.as_deref(), Some("not-authorized"));
    still_passes(&world, &mut proven, "c@cousin.example", "j@hall.example", "own").await;
}

// DB-31: "More than L-pairs or L-pending"; `DE(resource-constraint)`.
#[tokio::test]
async fn too_many_pending_proofs_are_refused() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let names: Vec<String> = (0..14).map(|n| format!("n{n}.friend.example")).collect();
    let domains: Vec<&str> = names.iter().map(String::as_str).collect();
    let _silent =
        world.peer(11, &domains, Manner { vouch: Vouch::Silent, ..Manner::default() }).await.unwrap();
    let mut stream = by_certificate(&friend, HALL).await;
    for name in &names {
        stream.claim(name, HALL).await.unwrap();
    }
    // L-pending per stream is 10: the rest is refused at once.
    for _ in 0..4 {
        assert_eq!(stream.word().await.unwrap(), error("resource-constraint"));
    }
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "unharmed").await;
}

// DB-31, L-pairs.
#[tokio::test]
async fn too_many_pairs_on_one_stream_are_refused() {
    let world = World::build(&plan().limit("pairs", "2")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let third = peer(&world, 12, "x.friend.example").await;
    let mut stream = by_certificate(&friend, HALL).await;
    for (peer, expected) in [(&cousin, Word::Valid), (&third, error("resource-constraint"))] {
        let key = "k".repeat(20);
        peer.keys().put(peer.domain(), HALL, &stream.id, &key);
        stream.send_key(peer.domain(), HALL, &key).await.unwrap();
        assert_eq!(stream.word().await.unwrap(), expected, "{}", peer.domain());
    }
}

// DB-32: "Repeated request for an authorised pair -> answer `valid` again without lookup; ... different key while pending
// -> refuse the second": `DE(not-acceptable)`.
#[tokio::test]
async fn a_pair_is_not_proven_twice_and_not_by_two_keys() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut stream = by_dialback(&cousin, HALL).await;
    let visits = cousin.visits();
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), Word::Valid);
    assert_eq!(cousin.visits(), visits);
    cousin.behave(|m| m.vouch = Vouch::Silent);
    let mut stream = bare(&world, &cousin).await;
    stream.claim(COUSIN, HALL).await.unwrap();
    stream.claim(COUSIN, HALL).await.unwrap();
    assert_eq!(stream.word().await.unwrap(), error("not-acceptable"));
}

// DB-07: an unknown hosted domain is a dialback error; X0220 2.2.1: it MUST NOT close the stream.
#[tokio::test]
async fn an_unknown_target_domain_leaves_the_stream_open() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut stream = by_dialback(&cousin, HALL).await;
    assert_eq!(stream.dialback(COUSIN, "nosuch.example").await.unwrap(), error("item-not-found"));
    still_passes(&world, &mut stream, "c@cousin.example", "j@hall.example", "unharmed").await;
}

// ----------------------------------------------------------------------------- dialback: the authoritative server

async fn ask(stream: &mut Session, from: &str, to: &str, id: &str, key: &str) -> Word {
    stream.send(format!("<db:verify from='{from}' to='{to}' id='{id}'>{key}</db:verify>")).await.unwrap();
    let answer = stream.wire.element().await.unwrap();
    assert!(answer.is(DIALBACK, "verify"), "{}", answer.raw);
    assert_eq!(
        (answer.attr("from"), answer.attr("to"), answer.attr("id")),
        (Some(to), Some(from), Some(id)),
        "addresses swapped, id kept"
    );
    word(&answer)
}

// DB-40: "`verify` request whose `to` is not a local domain"; `DE(item-not-found)`.
// DB-41, DB-42: a key that is not ours, or that no stream of ours waits with, is `invalid`.
#[tokio::test]
async fn we_vouch_for_our_own_living_keys_only() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut stream = bare(&world, &cousin).await;
    assert_eq!(ask(&mut stream, COUSIN, FRIEND, "1", "k").await, error("item-not-found"));
    assert_eq!(ask(&mut stream, COUSIN, HALL, "1", "k").await, Word::Invalid);
    assert_eq!(ask(&mut stream, COUSIN, HALL, "1", &"0".repeat(64)).await, Word::Invalid);
}

// DB-43: "Accept verify requests on streams with no authenticated identity and with no or other header addresses".
#[tokio::test]
async fn a_question_about_a_key_needs_no_name() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut call = as_domain(bare_call(&cousin), None);
    let mut stream = call.clone().open().await.unwrap();
    assert_eq!(ask(&mut stream, COUSIN, HALL, "1", "k").await, Word::Invalid);
    call.greeting.version = false;
    let call = world.directly(call, None).unwrap();
    let mut stream = call.open().await.unwrap();
    assert_eq!(ask(&mut stream, COUSIN, HALL, "1", "k").await, Word::Invalid);
}

fn bare_call(peer: &gatehouse::demo::peer::Peer) -> gatehouse::demo::session::Call {
    peer.call_bare(HALL).unwrap()
}

// DB-04, D2: "World and inside realms share no secret, table or code path that looks an entry up without its realm".
#[tokio::test]
async fn a_key_for_the_inside_never_verifies_outside() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    // The backend's listener is played here, so that the inside key can be seen.
    world.legacy.stop().await;
    let listener = tokio::net::TcpListener::bind(world.legacy.s2s).await.unwrap();
    let mut stream = bare(&world, &cousin).await;
    stream.claim(COUSIN, HALL).await.unwrap();
    let mut inside = Wire::new(listener.accept().await.unwrap().0);
    inside.header().await.unwrap();
    inside.send(Greeting { id: Some("L-1".into()), ..Greeting::default() }.octets()).await.unwrap();
    let claim = inside.element().await.unwrap();
    assert!(claim.is(DIALBACK, "result"), "{}", claim.raw);
    let key = claim.text.clone();
    let mut outside = bare(&world, &cousin).await;
    for (from, to) in [(HALL, COUSIN), (COUSIN, HALL)] {
        assert_ne!(ask_any(&mut outside, from, to, "L-1", &key).await, Word::Valid);
    }
    // And the place where it does: DB-61, on the inside listener, while that stream waits.
    let mut back = Wire::new(dial(world.legacy.s2s.ip(), world.at.inside).await.unwrap());
    back.send(Greeting::default().octets()).await.unwrap();
    back.header().await.unwrap();
    let question =
        |key: &str| format!("<db:verify from='hall.example' to='cousin.example' id='L-1'>{key}</db:verify>");
    back.send(question("another")).await.unwrap();
    assert_eq!(word(&back.element().await.unwrap()), Word::Invalid);
    back.send(question(&key)).await.unwrap();
    assert_eq!(word(&back.element().await.unwrap()), Word::Valid);
    // DB-26, D3: the peer hears `valid` only now that the inside leg stands.
    assert!(
        stream.wire.next_within(Duration::from_millis(100)).await.is_err(),
        "told before the inside leg stood"
    );
    inside.send("<db:result from='hall.example' to='cousin.example' type='valid'/>").await.unwrap();
    assert_eq!(stream.word().await.unwrap(), Word::Valid);
    stream.message("c@cousin.example", "j@hall.example", "through").await.unwrap();
    assert_eq!(inside.element().await.unwrap().body(), Some("through"));
}

async fn ask_any(stream: &mut Session, from: &str, to: &str, id: &str, key: &str) -> Word {
    stream.send(format!("<db:verify from='{from}' to='{to}' id='{id}'>{key}</db:verify>")).await.unwrap();
    word(&stream.wire.element().await.unwrap())
}

// -------------------------------------------------------------------------------- dialback: the initiating server

// DB-50: "Use EXTERNAL first". EXT-08: "on failure try dialback on the same stream if still open and allowed".
#[tokio::test]
async fn after_a_refused_certificate_dialback_is_tried() {
    let world = border().await;
    let cousin =
        world.peer(10, &[COUSIN], Manner { accepts_external: false, ..Manner::default() }).await.unwrap();
    world.legacy.message("j@hall.example", "c@cousin.example", "second try");
    cousin.inbox.wait_body("second try").await.unwrap();
    assert_eq!(cousin.proofs(), ["dialback hall.example"]);
}

// DB-52: "`invalid` -> bounce `ST(internal-server-error,cancel)`"; "`error` ... -> `ST(remote-server-timeout,wait)`".
// RLY-18, as the backend hears it.
#[tokio::test]
async fn every_no_of_the_receiving_server_comes_back_to_the_sender() {
    let world = World::build(&plan().timeout("dialback", "1s")).await.unwrap();
    let manner = Manner { external: false, ..Manner::default() };
    for (host, admit, expected) in [
        (10, Admit::Never, "internal-server-error"),
        (11, Admit::Error("policy-violation"), "remote-server-timeout"),
        (12, Admit::Silent, "remote-server-timeout"),
    ] {
        let domain = format!("h{host}.friend.example");
        let manner = Manner { admit: admit.clone(), ..manner.clone() };
        let peer = world.peer(host, &[&domain], manner).await.unwrap();
        let to = format!("c@{domain}");
        world.legacy.message("j@hall.example", &to, "anybody?");
        let bounce = world.legacy.bounces.wait(|n| n.attr("from") == Some(to.as_str())).await.unwrap();
        assert_eq!(condition(&bounce), Some(expected), "{admit:?}: {}", bounce.raw);
        assert!(peer.inbox.is_empty());
    }
}

// DB-66: "Many targets multiplexed by the legacy server on one stream are independent: one slow or failing peer neither
// blocks nor closes the others."
#[tokio::test]
async fn one_stream_of_the_backend_carries_many_targets_independently() {
    let world = World::build(&plan().habit(Habit::Jabberd2).timeout("dialback", "2s")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mute = Manner { external: false, admit: Admit::Silent, ..Manner::default() };
    let _silent = world.peer(12, &["silent.friend.example"], mute).await.unwrap();
    for to in
        ["x@silent.friend.example", "x@nowhere.friend.example", "x@stranger.example", "r@friend.example"]
    {
        world.legacy.message("j@hall.example", to, "to all");
    }
    friend.inbox.wait_body("to all").await.unwrap();
    let bounced = async |to: &str| {
        let bounce = world.legacy.bounces.wait(|n| n.attr("from") == Some(to)).await.unwrap();
        condition(&bounce).map(str::to_owned)
    };
    assert_eq!(bounced("x@nowhere.friend.example").await.as_deref(), Some("remote-server-not-found"));
    assert_eq!(bounced("x@stranger.example").await.as_deref(), Some("forbidden"));
    world.legacy.message("k@annex.example", "c@cousin.example", "another sender on the same stream");
    cousin.inbox.wait_body("another sender on the same stream").await.unwrap();
    assert_eq!(bounced("x@silent.friend.example").await.as_deref(), Some("remote-server-timeout"));
    world.legacy.message("j@hall.example", "r@friend.example", "and again");
    friend.inbox.wait_body("and again").await.unwrap();
}

// DB-63: "The legacy server's key is either trusted ... or verified at its *configured* address, never through DNS".
#[tokio::test]
async fn the_backends_key_can_be_verified_at_its_configured_address() {
    let mut plan = plan();
    plan.dialback_keys = "verify";
    let world = World::build(&plan).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    world.legacy.message("j@hall.example", "r@friend.example", "verified");
    friend.inbox.wait_body("verified").await.unwrap();
    let mut forged = Wire::new(dial(world.legacy.s2s.ip(), world.at.inside).await.unwrap());
    forged.send(Greeting::of(HALL, FRIEND).octets()).await.unwrap();
    forged.header().await.unwrap();
    forged.element().await.unwrap();
    forged.send("<db:result from='hall.example' to='friend.example'>made-up</db:result>").await.unwrap();
    assert_eq!(word(&forged.element().await.unwrap()), Word::Invalid);
    assert_eq!(world.names.asked_about(&format!("_tcp.{HALL}")), 0);
}

// TLS-08: "As client, absence of `starttls` in features MUST NOT lead to plaintext".
#[tokio::test]
async fn nothing_leaves_in_clear() {
    let world = border().await;
    let clear = Manner { starttls: false, ..Manner::default() };
    let friend = world.peer(10, &[FRIEND], clear).await.unwrap();
    friend.behave(|m| m.admit = Admit::Always);
    world.legacy.message("j@hall.example", "r@friend.example", "secret");
    world.legacy.bounces.wait(|n| n.attr("from") == Some("r@friend.example")).await.unwrap();
    assert!(friend.visits() > 0 && friend.inbox.is_empty() && friend.proofs().is_empty());
}

// TLS-06: "As client: any plaintext byte after the `>` of `<proceed/>` MUST abort".
#[tokio::test]
async fn octets_after_proceed_end_the_attempt() {
    let world = border().await;
    let manner = Manner { with_proceed: Some(" "), ..Manner::default() };
    let friend = world.peer(10, &[FRIEND], manner).await.unwrap();
    world.legacy.message("j@hall.example", "r@friend.example", "secret");
    world.legacy.bounces.wait(|n| n.attr("from") == Some("r@friend.example")).await.unwrap();
    assert!(friend.inbox.is_empty() && friend.proofs().is_empty());
}

// CRT-13: "Outbound, a certificate that fails CRT-01...07 ends that attempt", where the rule asks for certificates.
#[tokio::test]
async fn a_domain_that_must_show_a_certificate_gets_nothing_without() {
    wrong_certificates("pinned.agency.example", "identity: [certificate]").await;
}

// CRT-13: "encrypted-but-unauthenticated outbound needs explicit per-domain policy": a rule that says nothing of identity
// is none.
#[tokio::test]
async fn nothing_is_sent_to_a_server_with_a_wrong_certificate() {
    wrong_certificates("usual.agency.example", "verdict: allow").await;
}

async fn wrong_certificates(parent: &str, rule: &str) {
    use gatehouse::demo::pki::{Authority, Leaf};
    let policy =
        format!("version: v1\nrules:\n  - {{ name: agencies, domains: [\"*.{parent}\"], {rule} }}\n");
    let world = World::build(&gatehouse::demo::world::Plan::listed(HALL, &policy)).await.unwrap();
    let elsewhere = Authority::new("Elsewhere").unwrap();
    let good = |domain: &str| Leaf::of(&[domain]);
    for (host, what) in ["expired", "another name", "a foreign root", "NUL in the name"].iter().enumerate() {
        let domain = format!("w{host}.{parent}");
        let identity = match *what {
            "expired" => world.authority.issue(&Leaf { expired: true, ..good(&domain) }),
            "another name" => world.authority.issue(&good(COUSIN)),
            "a foreign root" => elsewhere.issue(&good(&domain)),
            _ => world.authority.issue(&good(&format!("{domain}\0.stranger.example"))),
        };
        let host = u8::try_from(host).unwrap() + 10;
        let admit = Manner { external: false, admit: Admit::Always, ..Manner::default() };
        let peer = world.peer_with(host, &[&domain], identity.unwrap(), admit).await.unwrap();
        world.names.announce(&domain, Some(peer.address), None).unwrap();
        let to = format!("c@{domain}");
        world.legacy.message("j@hall.example", &to, "for the right one only");
        let bounce = world.legacy.bounces.wait(|n| n.attr("from") == Some(to.as_str())).await;
        assert!(peer.inbox.is_empty(), "{what}: the message was sent");
        let told = bounce.unwrap();
        assert_eq!(condition(&told), Some("remote-server-timeout"), "{what}");
        assert!(peer.visits() > 0 && peer.proofs().is_empty(), "{what}");
    }
}

// SM-09: "honour the peer's announced `max-bytes` on output"; "local sender: `ST(policy-violation,modify)`".
#[tokio::test]
async fn a_stanza_too_large_for_the_peer_comes_back() {
    let world = border().await;
    let friend =
        world.peer(10, &[FRIEND], Manner { max_bytes: Some(20_000), ..Manner::default() }).await.unwrap();
    let julia = world.login("julia", HALL).await.unwrap();
    julia.say("r@friend.example", "short").await.unwrap();
    friend.inbox.wait_body("short").await.unwrap();
    julia.say("r@friend.example", &"x".repeat(30_000)).await.unwrap();
    let error = world.legacy.inbox.wait(|n| n.attr("type") == Some("error")).await.unwrap();
    assert_eq!(condition(&error), Some("policy-violation"));
    julia.say("r@friend.example", "short again").await.unwrap();
    friend.inbox.wait_body("short again").await.unwrap();
    assert_eq!(friend.inbox.len(), 2);
}

// CLS-01, CLS-02: "A received closing tag is answered at once".
#[tokio::test]
async fn a_stream_that_is_closed_is_closed_from_both_sides() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "last words").await;
    stream.send("</stream:stream>").await.unwrap();
    assert_eq!(stream.wire.next().await.unwrap(), Item::Close);
    assert_eq!(stream.wire.next().await.unwrap(), Item::End);
}
