//! A stanza that is legal XML and may not pass comes back alone, over real sockets: its stream goes on, and everybody else's
//! stanzas with it (XML-17 to XML-19, JID-06).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use gatehouse::demo::node::Node;
use gatehouse::demo::session::Session;
use gatehouse::demo::world::World;

use crate::sockets::*;

const ME: &str = "m@friend.example/x";
const YOU: &str = "j@hall.example";

/// What makes a stanza be refused: the label that counts it, whether it is a limit, attributes of its start tag, its inside.
fn kinds() -> Vec<(&'static str, bool, String, String)> {
    let many = |n: usize, one: &dyn Fn(usize) -> String| (0..n).map(one).collect::<String>();
    let attributes = many(70, &|i| format!(" a{i}='1'"));
    vec![
        ("attrs", true, attributes.clone(), String::new()),
        ("attrs", true, String::new(), format!("<x xmlns='urn:x'{attributes}/>")),
        ("attr-value", true, String::new(), format!("<img src='{}'/>", "A".repeat(9000))),
        ("depth", true, String::new(), format!("{}{}", "<b>".repeat(70), "</b>".repeat(70))),
        ("nsdecl", true, String::new(), format!("<x{}/>", many(40, &|i| format!(" xmlns:a{i}='u'")))),
        ("nodes", true, String::new(), "<b/>".repeat(9000)),
        ("name", true, String::new(), format!("<{}/>", "n".repeat(300))),
        ("name-beyond-ascii", false, String::new(), "<\u{e9}t\u{e9}/>".to_owned()),
        ("stanza", true, String::new(), format!("<body>{}</body>", "x".repeat(300_000))),
        ("grown", true, String::new(), format!("<body>{}</body>", "'".repeat(200_000))),
        ("namespace-unfit", false, String::new(), "<x xmlns='urn:{x}'/>".to_owned()),
        ("prefixed-content", false, String::new(), "<s:body xmlns:s='jabber:server'/>".to_owned()),
        (
            "streams-element",
            false,
            String::new(),
            "<features xmlns='http://etherx.jabber.org/streams'/>".to_owned(),
        ),
    ]
}

fn told(error: &Node, label: &str, limit: bool) {
    let expected = if limit { "policy-violation" } else { "not-acceptable" };
    assert_eq!(condition(error), Some(expected), "{label}: {}", error.raw);
    let inside = error.child("error").unwrap();
    assert_eq!(inside.attr("type"), Some("modify"));
    let text = &inside.child("text").unwrap().text;
    assert!(text.ends_with(&format!("({label})")), "{}", error.raw);
    // The limit and what was found, of either direction and whoever's limit it is: the smaller of the two is the limit.
    let numbers = text.split_once(": ").and_then(|(_, rest)| rest.split_once(", and "));
    let found =
        numbers.map(|(found, rest)| (found.parse::<u64>(), rest.split(' ').next().unwrap().parse::<u64>()));
    let told = matches!(found, Some((Ok(found), Ok(most))) if found > most && text.contains(" is the most "));
    assert_eq!(told, limit, "{text}");
    assert_eq!(inside.children.iter().any(|c| c.is("urn:xmpp:errors", "stanza-too-big")), limit);
    assert!(error.raw.len() < 1000, "no payload of the original");
}

// "a message of 800 octets with 70 attributes ended the stream of all: 6 of 25 messages of another user were lost".
#[tokio::test]
async fn one_users_refused_stanzas_cost_another_user_nothing() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for (round, (label, limit, attributes, inside)) in kinds().into_iter().enumerate() {
        let before = refused(&world, label).await;
        // `to` first, between and last.
        for (place, addresses) in [
            format!("to='{YOU}' from='{ME}' id='{round}-0'{attributes}"),
            format!("from='{ME}' id='{round}-1' to='{YOU}'{attributes}"),
            format!("{} from='{ME}' id='{round}-2' to='{YOU}'", attributes.trim_start()),
        ]
        .into_iter()
        .enumerate()
        {
            stream.send(format!("<message {}>{inside}</message>", addresses.trim_start())).await.unwrap();
            stream.message("p@friend.example/y", YOU, &format!("good {round}-{place}")).await.unwrap();
            world.legacy.inbox.wait_body(&format!("good {round}-{place}")).await.unwrap();
            let id = format!("{round}-{place}");
            let error = friend.inbox.wait(|n| n.attr("id") == Some(&id)).await.unwrap();
            assert_eq!((error.attr("to"), error.attr("from")), (Some(ME), Some(YOU)));
            told(&error, label, limit);
        }
        world.counted("stanzas_refused_total", &[("reason", label)], before + 3.0).await.unwrap();
    }
    assert_eq!(world.legacy.inbox.all().iter().filter(|n| n.attr("from") == Some(ME)).count(), 0);
    assert_eq!(world.metrics().await.unwrap().sum("stream_errors_total", &[("facing", "public")]), 0.0);
}

// Rooms throw an occupant out at any error on a presence; whoever waits for an answer must not wait for ever.
#[tokio::test]
async fn each_kind_of_stanza_is_refused_in_its_own_way() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let odd = "<\u{e9}/>";
    for (stanza, what) in [
        ("presence", "dropped"),
        ("presence type='unavailable'", "dropped"),
        ("presence type='subscribe'", "answered"),
        ("message type='error'", "dropped"),
        ("message type='groupchat'", "answered"),
        ("iq type='get'", "answered"),
        ("iq type='set'", "answered"),
        ("iq type='result'", "replaced"),
        ("iq type='error'", "dropped"),
    ] {
        let name = stanza.split(' ').next().unwrap();
        let id = stanza.replace([' ', '\''], "");
        let before = refused(&world, "name-beyond-ascii").await;
        stream.send(format!("<{stanza} from='{ME}' to='{YOU}' id='{id}'>{odd}</{name}>")).await.unwrap();
        still_passes(&world, &mut stream, ME, YOU, &id).await;
        one_more_refused(&world, "name-beyond-ascii", before).await;
        let inside = world.legacy.inbox.all().into_iter().find(|n| n.attr("id") == Some(&id));
        match what {
            "answered" => {
                let error = friend.inbox.wait(|n| n.attr("id") == Some(&id)).await.unwrap();
                assert_eq!(error.name, name);
                told(&error, "name-beyond-ascii", false);
            }
            "replaced" => {
                let error = inside.clone().unwrap();
                assert_eq!(
                    (error.name.as_str(), error.attr("from"), error.attr("to")),
                    ("iq", Some(ME), Some(YOU))
                );
                told(&error, "name-beyond-ascii", false);
            }
            _ => {}
        }
        assert_eq!(inside.is_some(), what == "replaced", "{stanza}");
    }
    // What was to come back has come; of the rest nothing has.
    let came: Vec<_> =
        friend.inbox.all().into_iter().filter_map(|n| n.attr("id").map(str::to_owned)).collect();
    assert_eq!(came.len(), 4, "{came:?}");
}

// "Only what is broken ends a stream": a forged sender, an address that is none, and what is not well-formed behind it.
#[tokio::test]
async fn what_is_broken_ends_the_stream_although_it_would_be_refused() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let many: String = (0..70).map(|i| format!(" a{i}='1'")).collect();
    for (stanza, expected) in [
        (format!("<message from='a@cousin.example' to='{YOU}'{many}/>"), "invalid-from"),
        (format!("<message from='{ME}' to='j@annex.example'{many}/>"), "host-unknown"),
        (format!("<message to='{YOU}'{many}/>"), "improper-addressing"),
        (
            format!("<message from='{ME}' to='{}@hall.example'{many}/>", "j".repeat(3100)),
            "improper-addressing",
        ),
        (format!("<message from='{ME}' to='{YOU}'{many} to='{YOU}'/>"), "not-well-formed"),
        (format!("<message from='{ME}' to='{YOU}'{many}><a></b></message>"), "not-well-formed"),
        (format!("<message from='{ME}' to='{YOU}'{many}><!-- --></message>"), "restricted-xml"),
    ] {
        let mut stream = by_certificate(&friend, HALL).await;
        stream.send(&stanza).await.unwrap();
        let ending = stream.ending().await.unwrap();
        assert_eq!(ending.condition.as_deref(), Some(expected), "{}", &stanza[..120]);
    }
    // Before a proof the first one is the end, as it was.
    let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
    stream.send(format!("<message from='{ME}' to='{YOU}'{many}/>")).await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
}

// The same outwards: the server behind shares its stream among all its users, too. Its ceilings are its own (L-inside-*).
#[tokio::test]
async fn outwards_the_stream_of_the_server_behind_goes_on_too() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    world.legacy.message(YOU, ME, "first");
    friend.inbox.wait_body("first").await.unwrap();
    let many: String = (0..300).map(|i| format!(" a{i}='1'")).collect();
    let declared =
        |from: usize, to: usize| (from..to).map(|i| format!(" xmlns:p{i}='u'")).collect::<String>();
    let nested: String = (0..5).map(|n| format!("<b{}>", declared(n * 120, (n + 1) * 120))).collect();
    let table = [
        ("inside-attrs", true, many, String::new()),
        ("inside-depth", true, String::new(), format!("{}{}", "<b>".repeat(300), "</b>".repeat(300))),
        ("inside-nsdecl", true, String::new(), format!("<x{}/>", declared(0, 140))),
        ("inside-bindings", true, String::new(), format!("{nested}{}", "</b>".repeat(5))),
        ("inside-attr-value", true, String::new(), format!("<img src='{}'/>", "A".repeat(1_100_000))),
        ("inside-nodes", true, String::new(), "<b/>".repeat(200_001)),
        ("inside-stanza", true, String::new(), format!("<body>{}</body>", "x".repeat(11 << 20))),
        ("name", true, String::new(), format!("<{}/>", "n".repeat(300))),
        ("namespace-name", true, String::new(), format!("<x xmlns='{}'/>", "n".repeat(1_100))),
        ("name-beyond-ascii", false, String::new(), "<\u{e9}/>".to_owned()),
        // More than the peer is known to take.
        ("beyond-peer-limit", true, String::new(), format!("<body>{}</body>", "x".repeat(300_000))),
    ];
    for (label, limit, attributes, inside) in table {
        world
            .legacy
            .send(format!("<message from='{YOU}' to='{ME}' id='{label}'{attributes}>{inside}</message>"));
        world.legacy.message("k@hall.example", ME, label);
        friend.inbox.wait_body(label).await.unwrap();
        let error = world.legacy.inbox.wait(|n| n.attr("id") == Some(label)).await.unwrap();
        assert_eq!((error.attr("to"), error.attr("from")), (Some(YOU), Some(ME)));
        told(&error, label, limit);
    }
    // Who waits for an answer that is too large hears that it does not come, by the same numbers.
    let answer =
        format!("<iq type='result' id='r' from='{YOU}' to='{ME}'><x>{}</x></iq>", "x".repeat(300_000));
    world.legacy.send(answer);
    let error = friend.inbox.wait(|n| n.attr("id") == Some("r")).await.unwrap();
    assert_eq!((error.name.as_str(), error.attr("type")), ("iq", Some("error")));
    told(&error, "beyond-peer-limit", true);
    // What the world may not send, our own server may: there it ends in a limit of the peer's alone.
    let seventy: String = (0..70).map(|i| format!(" a{i}='1'")).collect();
    world.legacy.send(format!("<message from='{YOU}' to='{ME}'><x{seventy}/><body>seventy</body></message>"));
    friend.inbox.wait_body("seventy").await.unwrap();
    assert_eq!(world.metrics().await.unwrap().sum("stream_errors_total", &[]), 0.0);
}

// XML-18: "one stanza above it took four of another user's 25 messages along". By the table of known servers, and by hand.
#[tokio::test]
async fn what_the_receiving_server_does_not_take_comes_back_alone() {
    let mut plan = plan();
    plan.dialback_keys = "by-address, server: tigase, limits: { stanza: 20000B }";
    let world = World::build(&plan).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let attributes = |n: usize| (0..n).map(|i| format!(" a{i}=''")).collect::<String>();
    let of_octets = |n: usize| {
        let rest = format!("<message from='{ME}' to='{YOU}' id='octets-0'></message>").len();
        "x".repeat(n - rest)
    };
    for (label, fits, beyond) in [
        ("backend-attrs", format!("<x{}/>", attributes(54)), format!("<x{}/>", attributes(55))),
        ("backend-nodes", "<b/>".repeat(999), "<b/>".repeat(1000)),
        ("beyond-peer-limit", of_octets(20_000), of_octets(20_001)),
    ] {
        for (id, inside) in [("octets-0", fits), ("octets-1", beyond)] {
            stream
                .send(format!("<message from='{ME}' to='{YOU}' id='{id}'>{inside}</message>"))
                .await
                .unwrap();
        }
        still_passes(&world, &mut stream, "p@friend.example", YOU, label).await;
        let error =
            friend.inbox.wait(|n| n.attr("id") == Some("octets-1") && n.raw.contains(label)).await.unwrap();
        told(&error, label, true);
    }
    let came = world.legacy.inbox.all();
    assert_eq!(came.iter().filter(|n| n.attr("id") == Some("octets-0")).count(), 3);
    assert_eq!(came.iter().filter(|n| n.attr("id") == Some("octets-1")).count(), 0);
}

/// Sends the presence of an occupant and a message from there, and shows that the stream goes on.
async fn speak(world: &World, stream: &mut Session, nick: &str, body: &str) {
    let from = format!("room@friend.example/{nick}");
    stream.send(format!("<presence from='{from}' to='{YOU}' id='{body}'/>")).await.unwrap();
    stream.send(format!("<message type='groupchat' from='{from}' to='{YOU}' id='{body}'/>")).await.unwrap();
    still_passes(world, stream, ME, YOU, body).await;
}

// JID-06, RLY-01: a resource that stringprep refuses or changes is that stanza's affair. "message, iq: `ST(not-acceptable,
// modify)` to the bare address of the sender where that is clear; presence: `DROP`".
#[tokio::test]
async fn a_nick_that_old_servers_read_otherwise_ends_nothing() {
    let nicks = [
        "\u{2764}\u{fe0f}",
        "\u{1f469}\u{200d}\u{1f4bb}",
        "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
        "\u{ff21}\u{ff22}",
        "\u{fb01}n",
        "\u{1d400}",
        "a\u{200e}b",
        "",
    ];
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for (i, nick) in nicks.iter().enumerate() {
        let before = refused(&world, "jid-malformed").await;
        let body = format!("nick-{i}");
        speak(&world, &mut stream, nick, &body).await;
        let error = friend.inbox.wait(|n| n.attr("id") == Some(&body)).await.unwrap();
        assert_eq!(
            (error.name.as_str(), error.attr("to")),
            ("message", Some("room@friend.example")),
            "{nick:?}"
        );
        assert_eq!(condition(&error), Some("not-acceptable"));
        assert_eq!(error.child("error").unwrap().attr("type"), Some("modify"));
        world.counted("stanzas_refused_total", &[("reason", "jid-malformed")], before + 2.0).await.unwrap();
    }
    assert!(!world.legacy.inbox.all().iter().any(|n| n.attr("id").is_some_and(|id| id.starts_with("nick-"))));
    assert_eq!(world.metrics().await.unwrap().sum("stream_errors_total", &[]), 0.0);
    // A local part that is none, and no clear sender: dropped, counted, and nothing ends.
    stream.send("<message from='@friend.example' to='j@hall.example' id='none'/>").await.unwrap();
    still_passes(&world, &mut stream, ME, YOU, "after no local part").await;
}

// JID-06: "message, iq: `ST(not-acceptable, modify)`": its sender hears it, though Prosody and ejabberd throw away whatever comes
// from an address that is none.
#[tokio::test]
async fn who_writes_to_an_address_that_is_none_is_told_by_its_domain() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let long = "r".repeat(1024);
    let (resource, local) = (format!("j@{HALL}/{long}"), format!("{long}@{HALL}"));
    // The last is one for RFC 7622, and so for whoever wrote to it.
    let wide = format!("j@{HALL}/\u{ff21}\u{ff22}");
    let table = [
        (format!("j@{HALL}/"), HALL),
        (format!("j j@{HALL}"), HALL),
        (format!("j&quot;@{HALL}"), HALL),
        (resource, HALL),
        (local, HALL),
        (wide.clone(), &*wide),
    ];
    for (n, (to, speaker)) in table.iter().enumerate() {
        // Over a budget besides, or not.
        for (word, inside) in [("fit", "<x xmlns='urn:x'/>"), ("unfit", "<\u{e9}/>")] {
            let id = format!("{word}-{n}");
            stream
                .send(format!("<message from='{ME}' to='{to}' id='{id}'>{inside}</message>"))
                .await
                .unwrap();
            let error = friend.inbox.wait(|n| n.attr("id") == Some(&id)).await.unwrap();
            assert_eq!(
                (error.attr("from"), condition(&error)),
                (Some(*speaker), Some("not-acceptable")),
                "{to}"
            );
        }
        still_passes(&world, &mut stream, ME, YOU, &format!("after-{n}")).await;
    }
}

// "To a back-end declared `rfc7622: on` it passes", both ways; what RFC 7622 does not allow passes nowhere.
#[tokio::test]
async fn a_server_that_reads_rfc_7622_gets_what_that_allows() {
    let mut plan = plan();
    plan.dialback_keys = "by-address, rfc7622: on";
    let world = World::build(&plan).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for (i, nick) in ["\u{2764}\u{fe0f}", "\u{1f469}\u{200d}\u{1f4bb}", "\u{ff21}\u{ff22}"].iter().enumerate()
    {
        let body = format!("nick-{i}");
        speak(&world, &mut stream, nick, &body).await;
        let from = format!("room@friend.example/{nick}");
        let came = world.legacy.inbox.all();
        let passed =
            came.iter().filter(|n| n.attr("id") == Some(&body) && n.attr("from") == Some(&from)).count();
        let allowed = gatehouse::jid::Jid::parse_rfc7622(&from).is_ok();
        assert_eq!(passed, if allowed { 2 } else { 0 }, "{nick:?}");
        if allowed {
            world.legacy.message(YOU, &from, &body);
            friend.inbox.wait(|n| n.attr("to") == Some(&from)).await.unwrap();
        }
    }
    assert!(gatehouse::jid::Jid::parse_rfc7622("room@friend.example/\u{ff21}").is_ok());
    speak(&world, &mut stream, "a\u{1}b".replace('\u{1}', "\u{200e}").as_str(), "control").await;
}

/// So many are refused: 1,024 may be answered at once, and ten a second behind those, where the machine is as fast as that.
const MANY: usize = 1_100;

// DB-70, LIM-09: whoever has more refused than may be answered at once is read more slowly, and each is answered; others notice
// nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refused_message_of_one_sender_is_answered_however_many_there_are() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let mut bystander = Bystander::of(&world, "j@hall.example").await;
    bystander.unharmed(&world).await;
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        for n in 0..MANY {
            let refused = format!(
                "<message from='a@friend.example/x' to='j@hall.example' id='m{n}'><\u{e9}/></message>"
            );
            stream.send(refused).await.unwrap();
        }
        stream
    });
    for _ in 0..5 {
        let calm = Instant::now();
        bystander.unharmed(&world).await;
        assert!(calm.elapsed() < Duration::from_secs(5), "{:?}", calm.elapsed());
    }
    let until = begun + Duration::from_secs(180);
    while friend.inbox.len() < MANY {
        assert!(Instant::now() < until, "{} of {MANY} were answered", friend.inbox.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{MANY} were answered after {:?}", begun.elapsed());
    let answers = friend.inbox.all();
    let ids: std::collections::HashSet<_> = answers.iter().filter_map(|n| n.attr("id")).collect();
    assert_eq!(ids.len(), MANY, "each once");
    assert_eq!(condition(&answers[0]), Some("not-acceptable"));
    assert!(refused(&world, "queue-full").await < 1.0);
    // It is the same stream still.
    let mut stream = sending.await.unwrap();
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "and goes on").await;
}
