//! Whatever is let in may be stored, wrapped and written anew by the server behind, and its addressee reads it at every later login
//! (XML-18, XML-19): a search with a fixed seed for stanzas that grow most, by what the writers of known servers make of them, and then
//! by what real ones write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::support::ca::Usage;
use crate::support::client::Client;
use crate::support::growth::{Measure, Part, Search, Written, grown, judged, stanza};
use crate::support::raw::Raw;
use crate::support::release::Release;
use crate::support::scene::{Cast, HOSTED, Peer, Scene, Wishes};
use crate::support::server::{Legacy, Place, Proof, Remote, Server};
use crate::support::{ejabberd, prosody};
use gatehouse::xml::{Content, Limits};
use memchr::memmem;

const SEED: u64 = 0x6761_7465_686f_7573;

/// What a server may add: addresses, ids of its own, languages, the declaration of the content.
const ENVELOPE: usize = 700;

// The pure part: no writer that is known writes more than was counted at the door (but the namespace of an element that declares its own
// prefix, which ejabberd writes twice, so at most as much again as came in), and what it writes, wrapped as an archive does, keeps every
// limit of the way back to its reader.
#[test]
fn the_grown_size_is_never_less_than_what_known_writers_write() {
    let head = "type='chat' from='guest@friend.example/desk' to='warden@hall.example'";
    type Writer = (&'static str, fn(&Written) -> &String);
    let writers: [Writer; 2] =
        [("prosody", |written| &written.prosody), ("ejabberd", |written| &written.ejabberd)];
    for (writer, written_by) in writers {
        let (search, tried) = by_model(head, written_by);
        assert!(tried > 500, "{writer}: {tried} were let in");
        let (mut full, mut most) = (0, 0);
        for (goal, part, sent, came) in search.best() {
            println!("{writer}: {goal}: {sent:?} comes out as {came:?}");
            for way in 0..4 {
                let fits = |part: &Part| {
                    judged(
                        &stanza(head, "brim", &part.written(Content::Server).sent),
                        Limits::default(),
                        Content::Server,
                    )
                    .is_ok()
                };
                let Some(part) = part.to_the_brim(way, fits) else { continue };
                full += usize::from(holds(head, &part, written_by, None));
                most = most.max(written_by(&part.written(Content::Server)).len());
            }
        }
        assert!(full >= 12, "{writer}: {full} at the brim");
        println!("{writer}: {tried} tried; of those at the brim the longest is written with {most} octets");
        assert!(most > 200_000, "the search comes near the limits: {most}");
    }
}

/// A search by what a known writer would write, and how many it tried that are let in.
fn by_model(head: &str, written_by: fn(&Written) -> &String) -> (Search, usize) {
    let mut search = Search::new(SEED);
    let mut tried = 0;
    for _ in 0..40 {
        for part in search.propose(24, 1500) {
            tried += usize::from(holds(head, &part, written_by, Some(&mut search)));
        }
    }
    (search, tried)
}

/// Whether it is let in; and then that it is not written longer than was counted, and not refused on the way back.
fn holds(head: &str, part: &Part, by: fn(&Written) -> &String, search: Option<&mut Search>) -> bool {
    let written = part.written(Content::Server);
    let sent = stanza(head, "id", &written.sent);
    let Some(counted) = grown(&sent, Content::Server) else { return false };
    let again = stanza(head, "id", by(&written));
    assert!(
        again.len() <= counted + written.twice,
        "{} octets, and {counted} were counted: {sent}",
        again.len()
    );
    let wrapped = format!(
        "<message to='warden@hall.example/desk'><result xmlns='urn:xmpp:mam:2' id='1'><forwarded xmlns='urn:xmpp:forward:0'>\
         {}</forwarded></result></message>",
        again.replacen("<message ", "<message xmlns='jabber:client' ", 1)
    );
    let back = judged(&wrapped, Limits::inside(), Content::Client);
    assert_eq!(back, Ok(()), "{sent}");
    if let Some(search) = search {
        search.learn(part, Measure::of(&sent.replace("<![CDATA[']]>", "'")), Measure::of(&again));
    }
    true
}

// -- with real servers

const FRIEND: Peer = Peer { program: Remote::Prosody, proof: Proof::External, domain: "friend.example" };
const ROOM: &str = "hall@rooms.hall.example";
const NODES: &str = "pubsub.hall.example";
const GUEST: &str = "from='guest@friend.example/desk'";
/// Somebody else there, who hears nothing.
const BULK: &str = "from='bulk@friend.example/press'";
const ROUNDS: usize = 10;
const TIME: Duration = Duration::from_secs(40);
const EACH: usize = 16;

fn at(text: &str, id: &str) -> Option<usize> {
    memmem::find(text.as_bytes(), format!(">{id}<").as_bytes())
}

fn there<'a>(text: &str, ids: &'a [String]) -> Vec<&'a String> {
    ids.iter().filter(|id| at(text, id).is_some()).collect()
}

/// The stanza of that id, as it is written in a page of an archive.
fn found<'a>(text: &'a str, id: &str) -> Option<&'a str> {
    let body = at(text, id)?;
    let begin = memmem::rfind(&text.as_bytes()[..body], b"<message")?;
    let end = body + memmem::find(&text.as_bytes()[body..], b"</message>")? + "</message>".len();
    Some(&text[begin..end])
}

/// A search by what this server writes into its archive, read where it stands; those that grew most, as much of each as is let in.
fn search(legacy: Legacy, writer: &mut Raw, within: &mut Raw) -> (Vec<Part>, Vec<String>) {
    let head = format!("type='chat' to='warden@{HOSTED}' {BULK}");
    let model: fn(&Written) -> &String = match legacy {
        Legacy::Ejabberd | Legacy::Ejabberd24 => |written| &written.ejabberd,
        _ => |written| &written.prosody,
    };
    let mut search = by_model(&head, model).0.afresh();
    let (mut ids, mut after) = (Vec::new(), String::new());
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS && begun.elapsed() < TIME {
        let parts = search.propose(EACH, 1500);
        let id = |n: usize| format!("grow-{rounds}-{n}");
        let sent: Vec<String> =
            parts.iter().map(|part| stanza(&head, "", &part.written(Content::Server).sent)).collect();
        for (n, text) in sent.iter().enumerate() {
            writer.say(&text.replacen(
                "id=''><body></body>",
                &format!("id='{0}'><body>{0}</body>", id(n)),
                1,
            ));
            ids.push(id(n));
        }
        let last = format!("last-{rounds}");
        writer.say(&stanza(&head, &last, ""));
        let mut page = String::new();
        let end = Instant::now() + Duration::from_secs(20);
        while at(&page, &last).is_none() {
            assert!(Instant::now() < end, "{last} is not in the archive");
            let (more, to) = within.archive("", &after);
            (page, after) = (page + &more, to);
            sleep(Duration::from_millis(30));
        }
        for (n, part) in parts.iter().enumerate() {
            let Some(came) = found(&page, &id(n)) else { continue };
            let counted = grown(&sent[n], Content::Server).expect("it was let in");
            assert!(
                came.len() <= counted + part.written(Content::Server).twice + ENVELOPE,
                "{} octets came out, and {counted} were counted: {}\n{came}",
                came.len(),
                sent[n]
            );
            search.learn(part, Measure::of(&sent[n].replace("<![CDATA[']]>", "'")), Measure::of(came));
        }
        rounds += 1;
    }
    let mut brim = Vec::new();
    for (goal, part, sent, came) in search.best() {
        eprintln!("{legacy:?}: after {rounds} rounds: {goal}: {sent:?} comes out as {came:?}");
        for way in 0..4 {
            let fits = |part: &Part| {
                let text = stanza(&head, "grow-brim-99", &part.written(Content::Server).sent);
                judged(&text, Limits::default(), Content::Server).is_ok()
            };
            brim.extend(part.to_the_brim(way, fits));
        }
    }
    assert!(brim.len() >= 12, "{}", brim.len());
    (brim, ids)
}

/// Sends them all; their ids.
fn send(writer: &mut Raw, word: &str, head: &str, brim: &[Part]) -> Vec<String> {
    let ids: Vec<String> = (0..brim.len()).map(|n| format!("{word}-{n}")).collect();
    for (id, part) in ids.iter().zip(brim) {
        writer.say(&stanza(head, id, &part.written(Content::Server).sent));
    }
    ids
}

fn node(id: &str, payload: &str) -> String {
    format!(
        "<publish node='{id}'><item id='{id}'><entry xmlns='urn:example:entry'><body>{id}</body>{payload}</entry></item></publish>"
    )
}

fn ask(client: &mut Raw, id: &str, words: &str) -> String {
    client.say(words);
    let (one, two) = (format!(" id='{id}'"), format!(" id=\"{id}\""));
    loop {
        let tag = client.hear(">");
        if tag.contains(&one) || tag.contains(&two) {
            // A result may have nothing in it.
            return if tag.ends_with("/>") { tag } else { tag + &client.hear("</iq>") };
        }
    }
}

/// The items of these nodes, each in an answer of its own.
fn items(client: &mut Raw, to: &str, ids: &[String]) -> String {
    let mut all = String::new();
    for id in ids {
        let query =
            format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{id}'/></pubsub>");
        all += &ask(client, &format!("i-{id}"), &format!("<iq type='get' id='i-{id}'{to}>{query}</iq>"));
    }
    all
}

fn enter(user: &mut Client) {
    user.send(&format!("<presence to='{ROOM}/guest'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
    user.expect("to be in the room", |e| e.name == "presence" && e.has("from", &format!("{ROOM}/guest")));
}

/// All places where this server stores or copies: what is in there is read through the gateway, at every later login.
fn what_grows_is_read(legacy: Legacy, start: &dyn Fn(&Place<'_>) -> Server) {
    let policy = "version: v1\nrules:\n  - { name: family, domains: [friend.example], verdict: allow }\n";
    let cast = Cast { remotes: &[FRIEND], legacy, usage: Usage::Both, policy };
    let wishes = Wishes { legacy: Some(start), hosted: &["rooms.hall.example", NODES], ..Wishes::default() };
    let mut scene = Scene::start_with(&cast, &wishes);
    let (desk, roots) = (scene.outsider(30), scene.gateway.roots());
    // It writes what it likes in the name of the friend, whose server hears what comes back.
    let leaf = scene.authority.leaf("friend.example", Usage::Both, desk.directory());
    let writer = |to: &str| Raw::server(&desk, &roots, &leaf, "friend.example", to);
    let mut outside = scene.remotes[0].login();
    let mut within = Raw::inside(scene.legacy.connect(), "warden", "within");
    let mut chat = writer(HOSTED);

    // The archive, and what is kept for who is away.
    let (brim, mut sent) = search(legacy, &mut chat, &mut within);
    let head = format!("type='chat' to='warden@{HOSTED}' {BULK}");
    sent.extend(send(&mut chat, "kept", &head, &brim));
    chat.say(&stanza(&head, "the-last", ""));
    let end = Instant::now() + Duration::from_secs(30);
    let stored = loop {
        let (all, _) = within.archive("", "");
        if at(&all, "the-last").is_some() {
            break all;
        }
        assert!(Instant::now() < end, "the last one is not in the archive");
    };
    let expected = there(&stored, &sent);
    let longest = sent.iter().filter_map(|id| found(&stored, id)).map(str::len).max().unwrap();
    let count = |metric: &str| scene.gateway.metric(metric, &[]) + 0.0;
    let refused = count("gatehouse_stanzas_refused_total");
    eprintln!(
        "{legacy:?}: {} of {} stored, {refused} refused at the door, the longest is written with {longest} octets",
        expected.len(),
        sent.len()
    );
    assert!(expected.len() > sent.len() / 2 && longest > 100_000);
    for login in 0..2 {
        let mut client = Raw::bound(&desk, &roots, "warden", &format!("desk{login}"));
        if login == 0 {
            client.say("<presence/>");
            let kept = client.hear(">the-last<");
            assert_eq!(there(&kept, &sent), expected, "what was kept");
        }
        let (all, _) = client.archive("", "");
        assert_eq!(there(&all, &sent), expected, "the archive at login {login}");
    }

    // Copies of what another client gets.
    let mut copies = Raw::bound(&desk, &roots, "warden", "copies");
    copies.say("<presence/><iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    copies.hear("id='c'");
    let mut first = Raw::bound(&desk, &roots, "warden", "first");
    first.say("<presence/>");
    first.hear("/first");
    let head = format!("type='chat' to='warden@{HOSTED}/first' {BULK}");
    // Both are read while it is written: the server cuts off who takes nothing for long.
    let (sent, got, copied) = thread::scope(|all| {
        let got = all.spawn(|| first.hear(">the-last-copy<"));
        let copied = all.spawn(|| copies.hear(">the-last-copy<"));
        let sent = send(&mut chat, "copied", &head, &brim);
        chat.say(&stanza(&head, "the-last-copy", ""));
        (sent, got.join().unwrap(), copied.join().unwrap())
    });
    let expected = there(&got, &sent);
    assert!(expected.len() > sent.len() / 2, "{expected:?}");
    assert_eq!(there(&copied, &sent), expected, "the copies");
    drop((first, copies));

    // The archive of a room.
    enter(&mut outside);
    let head = format!("type='groupchat' to='{ROOM}' {GUEST}");
    let mut room = writer("rooms.hall.example");
    let sent = send(&mut room, "said", &head, &brim);
    room.say(&stanza(&head, "the-last-word", ""));
    outside.arrived(&format!("{ROOM}/guest"), "the-last-word");
    let archive = format!(" to='{ROOM}'");
    within
        .say(&format!("<presence to='{ROOM}/within'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
    within.hear(">the-last-word<");
    let expected_text = within.archive(&archive, "").0;
    let expected = there(&expected_text, &sent);
    assert!(expected.len() > sent.len() / 2, "{expected:?}");
    for login in 0..2 {
        let mut client = Raw::bound(&desk, &roots, "warden", &format!("room{login}"));
        client.say(&format!(
            "<presence to='{ROOM}/desk{login}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        ));
        client.hear(">the-last-word<");
        assert_eq!(there(&client.archive(&archive, "").0, &sent), expected, "the room at login {login}");
    }

    // Items at a service, published from outside; and items of her own.
    let brim: Vec<Part> = brim.into_iter().chain([Part::default()]).collect();
    let to = format!(" to='{NODES}'");
    let ids: Vec<String> = (0..brim.len()).map(|n| format!("item-{n}")).collect();
    for id in &ids {
        let form = "<configure><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
            <value>http://jabber.org/protocol/pubsub#node_config</value></field><field var='pubsub#publish_model'>\
            <value>open</value></field><field var='pubsub#persist_items'><value>1</value></field></x></configure>";
        let create =
            format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'><create node='{id}'/>{form}</pubsub>");
        let said =
            ask(&mut within, &format!("n-{id}"), &format!("<iq type='set' id='n-{id}'{to}>{create}</iq>"));
        assert!(!said.contains("error"), "{said}");
    }
    let mut service = writer(NODES);
    for (id, part) in ids.iter().zip(&brim) {
        let inside = node(id, &part.written(Content::Server).sent);
        service.say(&format!(
            "<iq type='set' id='{id}'{to} {BULK}><pubsub xmlns='http://jabber.org/protocol/pubsub'>{inside}</pubsub></iq>"
        ));
    }
    // The last one is small, and stands when all before it are read.
    let end = Instant::now() + Duration::from_secs(30);
    while at(&items(&mut within, &to, &ids[brim.len() - 1..]), &ids[brim.len() - 1]).is_none() {
        assert!(Instant::now() < end, "the last item is not there");
        sleep(Duration::from_millis(100));
    }
    let mut owner = Raw::bound(&desk, &roots, "warden", "owner");
    let own: Vec<String> = (0..brim.len()).map(|n| format!("own-{n}")).collect();
    for (id, part) in own.iter().zip(&brim) {
        let inside = node(id, &part.written(Content::Client).sent);
        ask(
            &mut owner,
            &format!("o-{id}"),
            &format!(
                "<iq type='set' id='o-{id}'><pubsub xmlns='http://jabber.org/protocol/pubsub'>{inside}</pubsub></iq>"
            ),
        );
    }
    for (ids, to, what) in [(&ids, &*to, "items of a service"), (&own, "", "items of her own")] {
        let text = items(&mut within, to, ids);
        let expected = there(&text, ids);
        eprintln!("{legacy:?}: {} of {} {what} stored", expected.len(), ids.len());
        assert!(expected.len() >= ids.len() / 4, "{what}: {expected:?}");
        for login in 0..2 {
            let mut client = Raw::bound(&desk, &roots, "warden", &format!("items{login}"));
            assert_eq!(there(&items(&mut client, to, ids), ids), expected, "{what} at login {login}");
        }
    }
    let errors = "gatehouse_stream_errors_total";
    assert_eq!(count(errors), 0.0, "{}", scene.gateway.family(errors));
}

#[test]
fn what_grows_most_at_prosody_is_read_at_every_later_login() {
    what_grows_is_read(Legacy::Prosody, &|place| {
        let modules = ("\"offline\",", "\"offline\", \"mam\", \"carbons\", \"pep\",");
        let host = format!("VirtualHost \"{HOSTED}\"");
        let rooms = format!(
            "{host}\nComponent \"rooms.{HOSTED}\" \"muc\"\n  modules_enabled = {{ \"muc_mam\" }}\n  \
             muc_room_locking = false\n  muc_log_by_default = true\n\
             Component \"{NODES}\" \"pubsub\"\n  admins = {{ \"warden@{HOSTED}\" }}\n"
        );
        Server::new(place, prosody::legacy_with(Release::Bookworm, place, &[modules, (&host, &rooms)]))
    });
}

#[test]
fn what_grows_most_at_ejabberd_is_read_at_every_later_login() {
    what_grows_is_read(Legacy::Ejabberd, &|place| {
        let all = "  mod_offline: {}\n  mod_mam: { default: always }\n  \
            mod_muc: { host: rooms.hall.example, default_room_options: { mam: true } }\n  \
            mod_caps: {}\n  mod_pubsub: { host: pubsub.hall.example, plugins: [flat, pep] }";
        Server::new(place, ejabberd::legacy_with(Release::Bookworm, place, &[("  mod_offline: {}", all)]))
    });
}
