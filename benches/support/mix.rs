//! The seeded mix: stanzas as servers and clients exchange them, the same on every run.

// Each bench takes what it needs.
#![allow(dead_code)]

use std::fmt::Write as _;

/// Who sends to whom, and so who is named in a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a server to another.
    Servers,
    /// From a server to its client.
    ToClient,
    /// From a client to its server: no `from`.
    ToServer,
}

/// So many stanzas of the mix: messages, presences, queries and answers, 765 octets on average between servers.
pub fn mix(count: usize, way: Way) -> String {
    stanzas(count, way).concat()
}

/// The same, each by itself.
pub fn stanzas(count: usize, way: Way) -> Vec<String> {
    let mut dice = Dice(0x5EED);
    let mut all = Vec::with_capacity(count);
    for i in 0..count {
        let mut out = String::new();
        let (a, b) = (dice.below(5000), dice.below(5000));
        let from = format!("user{a}@capulet.example/client.{:08x}", dice.below(u32::MAX));
        let from = if way == Way::ToServer { String::new() } else { format!(" from='{from}'") };
        let to = format!("user{b}@montague.example");
        let id = format!("{:08x}-{:04x}", dice.below(u32::MAX), dice.below(65_536));
        let write = match dice.below(10) {
            0..=4 => {
                let words = words(&mut dice, 25, 118);
                write!(
                    out,
                    "<message{from} to='{to}' id='{id}' type='chat'><body>{words}</body><active xmlns='http://jabber.org/protocol/chatstates'/>\
                     <request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/><origin-id xmlns='urn:xmpp:sid:0' id='{id}'/>\
                     <stanza-id xmlns='urn:xmpp:sid:0' by='room{b}@capulet.example' id='{i}'/></message>"
                )
            }
            5..=7 => write!(
                out,
                "<presence{from} to='{to}'><priority>5</priority><show>away</show><status>{}</status>\
                 <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://client.example/' ver='{id}='/>\
                 <x xmlns='vcard-temp:x:update'><photo>{id}{id}</photo></x></presence>",
                words(&mut dice, 2, 12)
            ),
            8 => write!(
                out,
                "<iq{from} to='{to}/r' id='{id}' type='get'><query xmlns='http://jabber.org/protocol/disco#info' node='{id}'/></iq>"
            ),
            _ => {
                let features: String = (0..dice.below(24) + 10)
                    .map(|n| format!("<feature var='http://jabber.org/protocol/feature#{n}'/>"))
                    .collect();
                write!(
                    out,
                    "<iq{from} to='{to}/r' id='{id}' type='result'><query xmlns='http://jabber.org/protocol/disco#info'>\
                     <identity category='client' type='phone' name='Talk &amp; More'/>{features}</query></iq>"
                )
            }
        };
        write.expect("a string takes all");
        all.push(out);
    }
    all
}

/// Some words, a few of them beyond ASCII or escaped.
fn words(dice: &mut Dice, least: u32, most: u32) -> String {
    const WORDS: [&str; 10] = [
        "but",
        "soft",
        "what",
        "light",
        "through",
        "yonder",
        "window",
        "breaks",
        "l\u{e0}",
        "&lt;it is the east&gt;",
    ];
    let count = least + dice.below(most - least);
    let mut out = String::new();
    for _ in 0..count {
        out.push_str(WORDS[usize::try_from(dice.below(10)).expect("small")]);
        out.push(' ');
    }
    out
}

/// A chat message of that many octets, between servers or from a client.
pub fn chat(len: usize, way: Way) -> String {
    let from = if way == Way::ToServer { "" } else { " from='juliet@capulet.example/balcony'" };
    let begin = format!("<message{from} to='romeo@montague.example' id='a1' type='chat'><body>");
    let end = "</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>";
    format!("{begin}{}{end}", "x".repeat(len - begin.len() - end.len()))
}

/// A small generator of numbers that are the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = u32::try_from(self.0 >> 33).unwrap_or_default();
        high % bound.max(1)
    }
}
