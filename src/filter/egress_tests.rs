use super::*;
use crate::config::load;
use crate::policy::*;
use crate::xml::{Content, Framer, Limits, Token};

/// A rule with that `egress`, through the files' own reading.
fn egress(words: &str) -> Egress {
    let text =
        format!("version: v1\nrules:\n  - {{ name: r, domains: [friend.example], egress: {{ {words} }} }}\n");
    let (file, findings) = load::parse::<PolicyFile>(&text, "p.yaml");
    assert!(findings.is_empty(), "{findings:?}");
    let domain = |name: &str| crate::jid::Domain::parse(name).unwrap();
    let (policy, findings) = build(&Sources {
        hosted: vec![HostedSource {
            domain: domain("hall.example"),
            federation: Federation::Listed,
            sources: vec![0],
            place: Place::whole("g.yaml"),
        }],
        sources: vec![Source::new("p.yaml", file)],
        today: Day::parse("2027-01-01").unwrap(),
        digest: String::new(),
    });
    let policy = policy.unwrap_or_else(|| panic!("{findings:?}"));
    let (hosted, remote) = (domain("hall.example"), domain("friend.example"));
    let question = Federate {
        hosted: &hosted,
        remote: &remote,
        direction: crate::reason::Direction::Outbound,
        identity: Identity::Unproven,
        tls: Tls::Unknown,
        address: None,
        key: ShownKey::Unknown,
    };
    let permit = policy.judge(&Question::Federate(question), &mut ()).permit().unwrap();
    permit.stanzas().egress().unwrap().clone()
}

/// What leaves, in a word.
fn leaves(egress: &Egress, stanza: &str) -> String {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(&crate::stream::opening(None, None, None, true));
    framer.feed(stanza.as_bytes());
    let frame = std::iter::from_fn(|| framer.next()).find_map(|token| match token {
        Token::Element(frame) => Some(frame),
        _ => None,
    });
    let frame = frame.unwrap_or_else(|| panic!("{stanza}"));
    match judge(frame.head(), egress) {
        Leaves::Whole => "whole".into(),
        Leaves::Without(children) => format!("without {children:?}"),
        Leaves::Nothing => "nothing".into(),
        Leaves::Error(condition) => condition.name().into(),
        Leaves::Refused => "refused".into(),
    }
}

fn table(words: &str, rows: &[(&str, &str)]) {
    let egress = egress(words);
    for (stanza, expected) in rows {
        let (name, rest) = stanza.split_once(' ').unwrap();
        let stanza = format!("{name} from='a@hall.example/d' to='b@friend.example/d' id='1' {rest}");
        assert_eq!(leaves(&egress, &stanza), *expected, "{words}: {stanza}");
    }
}

const TUNE: &str = "http://jabber.org/protocol/tune";

// RLY-22: what a message has to say beside what is kept goes on; one that has nothing else to say stays inside.
#[test]
fn messages_leave_without_what_is_kept() {
    let state = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
    let event = |inside: &str| {
        format!(
            "<message type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'>{inside}</event></message>"
        )
    };
    let tune = format!("<items node='{TUNE}'><item id='1'><tune xmlns='{TUNE}'/></item></items>");
    let elsewhere = format!("<items node='urn:x'><item id='1'><tune xmlns='{TUNE}'/></item></items>");
    let gone = format!("<items node='{TUNE}'><retract id='1'/></items>");
    let with = |beside: &str| event(&tune).replace("</message>", &format!("{beside}</message>"));
    let rows = [
        (format!("<message type='chat'><body>x</body>{state}</message>"), "without [1]"),
        (format!("<message type='chat'>{state}<body>x</body>{state}</message>"), "without [0, 2]"),
        (format!("<message type='chat'>{state}</message>"), "nothing"),
        (
            format!(
                "<message type='chat'>{state}<thread>t</thread><no-store xmlns='urn:xmpp:hints'/><origin-id xmlns='urn:xmpp:sid:0' id='1'/></message>"
            ),
            "nothing",
        ),
        (
            format!("<message type='chat'>{state}<received xmlns='urn:xmpp:receipts' id='1'/></message>"),
            "without [0]",
        ),
        (format!("<message type='error'>{state}</message>"), "without [0]"),
        ("<message type='chat'><body>x</body></message>".to_owned(), "whole"),
        ("<message type='chat'><active xmlns='urn:x'/></message>".to_owned(), "whole"),
        (event(&tune), "nothing"),
        (event(&elsewhere), "nothing"),
        (event(&gone), "nothing"),
        (event("<items node='urn:x'><item id='1'><y xmlns='urn:y'/></item></items>"), "whole"),
        (
            with(
                "<addresses xmlns='http://jabber.org/protocol/address'><address type='replyto'/></addresses>",
            ),
            "nothing",
        ),
        (with("<delay xmlns='urn:xmpp:delay' stamp='2027-01-01T00:00:00Z'/>"), "nothing"),
        (with("<x xmlns='jabber:x:delay' stamp='20270101T00:00:00'/>"), "nothing"),
        (
            with(
                "<headers xmlns='http://jabber.org/protocol/shim'><header name='Collection'>t</header></headers>",
            ),
            "nothing",
        ),
        (with("<x xmlns='http://jabber.org/protocol/muc#user'/>"), "nothing"),
        (with("<x xmlns='http://jabber.org/protocol/muc#user'><item jid='a@b.example'/></x>"), "nothing"),
        (
            with("<x xmlns='http://jabber.org/protocol/muc#user'><invite to='c@d.example'/></x>"),
            "without [0]",
        ),
        (with("<x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x>"), "without [0]"),
        (with("<body>x</body>"), "without [0]"),
        (
            format!(
                "<message type='chat'><result xmlns='urn:xmpp:mam:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'>{state}</message></forwarded></result></message>"
            ),
            "whole",
        ),
    ];
    let rows: Vec<(&str, &str)> =
        rows.iter().map(|(stanza, expected)| (stanza.as_str(), *expected)).collect();
    table(&format!("cut: [\"http://jabber.org/protocol/chatstates\", \"{TUNE}\"]"), &rows);
}

// RLY-22: an answer becomes the error of a server that does not know of such things; a question leaves, for it tells nothing.
#[test]
fn answers_become_errors_and_questions_leave() {
    let pubsub = |node: &str| {
        format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{node}'/></pubsub>")
    };
    let published = format!(
        "<iq type='set'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{TUNE}'/></pubsub></iq>"
    );
    let rows = [
        (
            "<iq type='result'><query xmlns='jabber:iq:version'><name>x</name></query></iq>".to_owned(),
            "service-unavailable",
        ),
        ("<iq type='result'><time xmlns='urn:xmpp:time'/></iq>".to_owned(), "service-unavailable"),
        ("<iq type='result'><query xmlns='jabber:iq:time'/></iq>".to_owned(), "service-unavailable"),
        (
            "<iq type='result'><query xmlns='jabber:iq:last' seconds='4'/></iq>".to_owned(),
            "service-unavailable",
        ),
        ("<iq type='get'><query xmlns='jabber:iq:version'/></iq>".to_owned(), "whole"),
        ("<iq type='error'><query xmlns='jabber:iq:version'/></iq>".to_owned(), "whole"),
        ("<iq type='result'></iq>".to_owned(), "whole"),
        ("<iq type='result'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>".to_owned(), "whole"),
        ("<iq type='result'><vCard xmlns='vcard-temp'/></iq>".to_owned(), "service-unavailable"),
        ("<iq type='set'><vCard xmlns='vcard-temp'/></iq>".to_owned(), "refused"),
        (format!("<iq type='result'>{}</iq>", pubsub(TUNE)), "item-not-found"),
        (format!("<iq type='get'>{}</iq>", pubsub(TUNE)), "whole"),
        (format!("<iq type='result'>{}</iq>", pubsub("urn:x")), "whole"),
        (published, "refused"),
    ];
    let rows: Vec<(&str, &str)> =
        rows.iter().map(|(stanza, expected)| (stanza.as_str(), *expected)).collect();
    table(&format!("cut: [vcard-temp, \"{TUNE}\"], client-info: refuse"), &rows);
}

// RLY-22: plain presence says whether somebody is there; rooms keep what they need, subscriptions are another matter.
#[test]
fn presence_leaves_as_the_rule_says() {
    let caps = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/>";
    let idle = "<idle xmlns='urn:xmpp:idle:1' since='2027-01-01T00:00:00Z'/>";
    let joins = "<x xmlns='http://jabber.org/protocol/muc'/>";
    let full = format!(
        "<presence ><show>away</show><status>in Rome</status><priority>1</priority>{caps}</presence>"
    );
    let join = format!("<presence >{caps}{joins}</presence>");
    let left = "<presence type='unavailable'><status>to Rome</status></presence>";
    let room = "<presence ><x xmlns='http://jabber.org/protocol/muc#user'><item/></x><occupant-id xmlns='urn:xmpp:occupant-id:0' id='1'/></presence>";
    let asks = "<presence type='subscribe'><status>It is me</status></presence>";
    let idles = format!("<presence ><show>away</show>{idle}</presence>");
    // What is no word about who is there carries none either.
    let typed = |of: &str| format!("<presence type='{of}'><status>in Rome</status>{caps}</presence>");
    let types = ["subscribed", "unsubscribe", "unsubscribed", "probe", "error"].map(typed);
    for stanza in &types {
        table("presence: plain", &[(stanza, "without [0, 1]")]);
        table("presence: none", &[(stanza, "without [0, 1]")]);
        table("client-info: refuse", &[(stanza, "whole")]);
    }
    let asks_fully = typed("subscribe");
    let failed = format!("<presence type='error'>{caps}<error type='cancel'/></presence>");
    table(
        "presence: plain",
        &[
            (&asks_fully, "without [1]"),
            (&failed, "without [0]"),
            (&full, "without [1, 3]"),
            (&join, "without [0]"),
            (left, "without [0]"),
            (room, "whole"),
            (asks, "whole"),
            (&idles, "without [1]"),
        ],
    );
    table(
        "presence: none",
        &[
            (&full, "nothing"),
            (&join, "refused"),
            // Directed: who was in a room before the rule came may leave it.
            (left, "without [0]"),
            (room, "nothing"),
            (asks, "whole"),
            ("<presence type='probe'/>", "whole"),
            ("<presence type='subscribed'/>", "whole"),
            ("<presence type='error'/>", "whole"),
        ],
    );
    table("client-info: refuse", &[(&idles, "without [1]"), (&full, "whole")]);
    table("cut: [\"http://jabber.org/protocol/caps\"]", &[(&full, "without [3]"), (asks, "whole")]);
    let gone = "<presence from='a@hall.example/d' to='b@friend.example' type='unavailable'/>";
    assert_eq!(leaves(&egress("presence: none"), gone), "nothing", "a contact is not told");
}

// The error that leaves is what a server writes that does not know of such things: no text, nothing of a policy.
#[test]
fn the_error_tells_nothing() {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(&crate::stream::opening(None, None, None, true));
    framer.feed(b"<iq from='a@hall.example/d' to='b@friend.example/d' id='1' type='result'><query xmlns='jabber:iq:last'/></iq>");
    let frame = std::iter::from_fn(|| framer.next()).find_map(|token| match token {
        Token::Element(frame) => Some(frame),
        _ => None,
    });
    let error = answer(frame.unwrap().head(), None, StanzaCondition::ServiceUnavailable).unwrap();
    assert_eq!(
        std::str::from_utf8(&error).unwrap(),
        "<iq type='error' id='1' to='b@friend.example/d' from='a@hall.example/d'><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    );
}
