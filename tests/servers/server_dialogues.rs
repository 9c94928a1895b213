//! The table of dialogues between servers, asked of Prosody and ejabberd of both generations and of the gateway: where servers answer
//! and go on, so does the gateway, or the table says why not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

#[path = "../support/server_dialogues.rs"]
mod table;

use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::ca::{Leaf, Usage};
use crate::support::programs::GATE;
use crate::support::raw::Raw;
use crate::support::scene::{Cast, HOSTED, Peer, Scene, Wishes, address};
use crate::support::server::{Legacy, Proof, Remote};
use crate::support::world::Host;
use table::{At, DIALOGUES, Dialogue, Then};

const ME: &str = "friend.example";
const PEERS: [Peer; 4] = [
    Peer { program: Remote::Prosody, proof: Proof::Either, domain: "old.example" },
    Peer { program: Remote::Prosody13, proof: Proof::Either, domain: "new.example" },
    Peer { program: Remote::Ejabberd, proof: Proof::Either, domain: "older.example" },
    Peer { program: Remote::Ejabberd24, proof: Proof::Either, domain: "newer.example" },
];

/// Whom to ask.
struct Asked<'a> {
    host: &'a Host,
    at: std::net::SocketAddr,
    domain: &'a str,
    user: &'a str,
    roots: &'a Path,
    own: &'a Leaf,
}

impl Asked<'_> {
    fn call(&self) -> TcpStream {
        self.host.connect(self.at).unwrap_or_else(|e| panic!("{}: {e}", self.at))
    }

    /// A stream that has come so far.
    fn stream(&self, at: At) -> Raw {
        let mut raw = Raw::of(self.call());
        raw.open_server(ME, self.domain);
        raw.hear("</stream:features>");
        if at != At::Clear {
            self.secure(&mut raw);
        }
        if at == At::Proven {
            self.prove(&mut raw);
        }
        raw
    }

    fn secure(&self, raw: &mut Raw) {
        raw.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        raw.hear("<proceed");
        self.shake(raw);
    }

    fn shake(&self, raw: &mut Raw) {
        raw.secure_as(self.roots, &[], self.domain, Some(self.own)).expect("TLS");
        raw.open_server(ME, self.domain);
        raw.hear("</stream:features>");
    }

    fn prove(&self, raw: &mut Raw) {
        raw.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
        raw.hear("<success");
        raw.open_server(ME, self.domain);
        raw.hear("</stream:features>");
    }

    /// What is answered, and whether the stream goes on.
    fn ask(&self, dialogue: &Dialogue) -> (String, bool) {
        let mut raw = self.stream(dialogue.at);
        let says = dialogue
            .says
            .replace("@HOME@", self.domain)
            .replace("@USER@", &format!("{}@{}", self.user, self.domain));
        raw.say(&says);
        // The start of TLS is an answer to go on with.
        if says.starts_with("<starttls") && dialogue.at == At::Clear {
            let heard = raw.hear_within("<proceed", Duration::from_secs(5));
            self.shake(&mut raw);
            return (heard, true);
        }
        let go_on = match dialogue.at {
            At::Clear => "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_owned(),
            At::Secured => {
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>".to_owned()
            }
            At::Proven => format!("<db:verify from='{ME}' to='{}' id='alive'>abc</db:verify>", self.domain),
        };
        let word = match dialogue.at {
            At::Clear => "<proceed",
            At::Secured => "<success",
            At::Proven => "alive",
        };
        // What is answered comes first: on one stream nothing overtakes.
        let mut heard = raw.hear_within("</stream:stream>", Duration::from_millis(400));
        if heard.contains("</stream:stream>") {
            return (heard, false);
        }
        raw.say(&go_on);
        let more = raw.hear_within(word, Duration::from_secs(5));
        let goes_on = more.contains(word);
        heard += &more;
        if goes_on {
            let end = heard.rfind('<').map_or(0, |last| {
                if heard[last..].starts_with("</") { heard[..last].rfind('<').unwrap_or(last) } else { last }
            });
            heard.truncate(end);
        }
        (heard, goes_on)
    }
}

fn fits(then: Then, (heard, goes_on): &(String, bool)) -> bool {
    match then {
        Then::Answers(words) => *goes_on && heard.contains(words),
        Then::Silent => *goes_on && heard.trim().is_empty(),
        Then::Ends(words) => !goes_on && heard.contains(words),
    }
}

#[test]
fn the_dialogues_of_servers_come_out_as_the_table_says() {
    let policy = "version: v1\nrules:\n  - { name: family, domains: [friend.example, old.example, new.example, older.example, newer.example], verdict: allow }\n";
    let cast = Cast { remotes: &PEERS, legacy: Legacy::Prosody13, usage: Usage::Both, policy };
    let more = "limits: { rate: 6000/min }\n";
    let wishes = Wishes { gateway: more, zones: &[(ME, 30)], ..Wishes::default() };
    let mut scene = Scene::start_with(&cast, &wishes);
    let (desk, roots) = (scene.outsider(30), scene.gateway.roots());
    let own = scene.authority.leaf(ME, Usage::Both, desk.directory());
    let mut all: Vec<Asked<'_>> = PEERS
        .iter()
        .enumerate()
        .map(|(n, peer)| Asked {
            host: &desk,
            at: (address(n), 5269).into(),
            domain: peer.domain,
            user: "guest",
            roots: &roots,
            own: &own,
        })
        .collect();
    all.push(Asked {
        host: &desk,
        at: (GATE, 5269).into(),
        domain: HOSTED,
        user: "warden",
        roots: &roots,
        own: &own,
    });
    let answers: Vec<Vec<(String, bool)>> = thread::scope(|scope| {
        let asked: Vec<_> = all
            .iter()
            .map(|who| scope.spawn(move || DIALOGUES.iter().map(|d| who.ask(d)).collect::<Vec<_>>()))
            .collect();
        asked.into_iter().map(|asked| asked.join().expect("asked")).collect()
    });
    let mut wrong = Vec::new();
    for (n, dialogue) in DIALOGUES.iter().enumerate() {
        let expected = dialogue.servers.into_iter().chain([dialogue.ours]);
        for (who, expected) in expected.enumerate() {
            let name =
                PEERS.get(who).map_or_else(|| "the gateway".to_owned(), |peer| format!("{:?}", peer.program));
            let (heard, goes_on) = &answers[who][n];
            if std::env::var_os("GATEHOUSE_TABLE").is_some() {
                println!("{:?} {} | {name} | {goes_on} | {heard}", dialogue.at, dialogue.says);
            }
            if !fits(expected, &answers[who][n]) {
                wrong.push(format!(
                    "{:?} {}: {name}: {expected:?}, and was {heard:?}, goes on: {goes_on}",
                    dialogue.at, dialogue.says
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!scene.gateway.log().contains("panicked"));
}
