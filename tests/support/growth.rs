//! A search for stanzas that servers write larger than they came: hill-climbing over trees of elements, with a fixed seed; what the
//! writers of known servers make of such a tree; and how a text measures (XML-18, XML-19).
#![allow(dead_code)]

use std::fmt::Write as _;

use gatehouse::reason::Reason;
use gatehouse::xml::{Content, Framer, Limits, Token};

use super::dice::Dice;

/// The same character so many times: as it is written, and what it is.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    kind: usize,
    count: usize,
}

/// As text and as value: written, and meant.
const TEXTS: [(&str, char); 8] = [
    ("x", 'x'),
    ("'", '\''),
    ("\"", '"'),
    ("&lt;", '<'),
    ("&amp;", '&'),
    ("&#13;", '\r'),
    ("&#x3e;", '>'),
    ("<![CDATA[']]>", '\''),
];
const VALUES: [(&str, char); 6] =
    [("v", 'v'), ("&apos;", '\''), ("\"", '"'), ("&lt;", '<'), ("&amp;", '&'), ("&#10;", '\n')];

/// Names of namespaces: short, usual, long, and some that servers know.
fn space(number: usize) -> String {
    match number % 8 {
        0 => "u".to_owned(),
        1 => "urn:example:one".to_owned(),
        2 => "urn:example:other".to_owned(),
        3 => format!("urn:{}", "n".repeat(180)),
        4 => format!("urn:{}", "m".repeat(900)),
        5 => "http://www.w3.org/1999/xhtml".to_owned(),
        6 => "urn:xmpp:forward:0".to_owned(),
        _ => "jabber:x:data".to_owned(),
    }
}

/// An element with what is in it.
#[derive(Clone, Debug, Default)]
pub struct Part {
    default: Option<usize>,
    /// Prefix and namespace.
    declared: Vec<(usize, usize)>,
    prefix: Option<usize>,
    /// Prefix and value; no two have the same name.
    attributes: Vec<(Option<usize>, Run)>,
    text: Run,
    parts: Vec<Part>,
    /// How many there are of it, side by side; none is one.
    times: usize,
}

/// What a tree is as sent, and as writers of servers write it again.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// As sent.
    pub sent: String,
    /// Prosody keeps a namespace for each element and each attribute, and no prefix (`util.stanza`).
    pub prosody: String,
    /// ejabberd keeps prefixes of attributes and their declarations where they were, and names each element by its namespace
    /// (`fxml`).
    pub ejabberd: String,
    /// What it so writes that XML-18 does not count: the namespace of an element that declares its own prefix, a second time.
    pub twice: usize,
}

struct Scope<'a> {
    /// What elements without a prefix are in.
    default: String,
    /// What the element above is in.
    parent: String,
    prefixes: Vec<(usize, String)>,
    content: &'a str,
}

fn escaped(c: char, count: usize, out: &mut String) {
    let one = match c {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '\'' => "&apos;",
        '"' => "&quot;",
        '\r' => "&#13;",
        '\n' => "&#10;",
        c => return out.extend(std::iter::repeat_n(c, count)),
    };
    out.push_str(&one.repeat(count));
}

impl Part {
    /// As it is sent in a stanza of that content, and written again.
    pub fn written(&self, content: Content) -> Written {
        let mut out = Written::default();
        let ns = content.ns();
        let scope =
            Scope { default: ns.to_owned(), parent: ns.to_owned(), prefixes: Vec::new(), content: ns };
        self.write(&scope, &mut out);
        out
    }

    fn write(&self, above: &Scope<'_>, out: &mut Written) {
        let mut prefixes = above.prefixes.clone();
        let mut declared: Vec<(usize, String)> = Vec::new();
        for (prefix, number) in &self.declared {
            if declared.iter().all(|(known, _)| known != prefix) {
                declared.push((*prefix, space(*number)));
                prefixes.push((*prefix, space(*number)));
            }
        }
        let of = |prefix: Option<usize>| {
            let found = prefixes.iter().rev().find(|(known, _)| Some(*known) == prefix);
            found.map(|(known, space)| (*known, space.clone()))
        };
        let default = self.default.map_or_else(|| above.default.clone(), space);
        let prefix = of(self.prefix);
        let own = prefix.as_ref().map_or_else(|| default.clone(), |(_, space)| space.clone());

        let name = prefix.as_ref().map_or_else(|| "e".to_owned(), |(prefix, _)| format!("p{prefix}:e"));
        let mut one = Written {
            sent: format!("<{name}"),
            prosody: "<e".to_owned(),
            ejabberd: "<e".to_owned(),
            twice: 0,
        };
        if own != above.parent {
            for out in [&mut one.prosody, &mut one.ejabberd] {
                let _ = write!(out, " xmlns='{own}'");
            }
            let by_prefix =
                |(known, _): &(usize, String)| prefix.as_ref().is_some_and(|(prefix, _)| prefix == known);
            if declared.iter().any(by_prefix) {
                one.twice = own.len() + " xmlns=''".len();
            }
        }
        if self.default.is_some() {
            let _ = write!(one.sent, " xmlns='{default}'");
        }
        for (prefix, space) in &declared {
            for out in [&mut one.sent, &mut one.ejabberd] {
                let _ = write!(out, " xmlns:p{prefix}='{space}'");
            }
        }
        let mut made = 0;
        for (place, (prefix, run)) in self.attributes.iter().enumerate() {
            let (written, meant) = VALUES[run.kind % VALUES.len()];
            let name = match of(*prefix) {
                Some((prefix, space)) => {
                    made += 1;
                    let _ = write!(one.prosody, " xmlns:ns{made}='{space}' ns{made}:a{place}='");
                    format!(" p{prefix}:a{place}='")
                }
                None => {
                    let _ = write!(one.prosody, " a{place}='");
                    format!(" a{place}='")
                }
            };
            let _ = write!(one.sent, "{name}{}'", written.repeat(run.count));
            one.ejabberd.push_str(&name);
            for out in [&mut one.prosody, &mut one.ejabberd] {
                escaped(meant, run.count, out);
                out.push('\'');
            }
        }
        let (written, meant) = TEXTS[self.text.kind % TEXTS.len()];
        let empty = self.text.count == 0 && self.parts.is_empty();
        for out in [&mut one.sent, &mut one.prosody, &mut one.ejabberd] {
            out.push_str(if empty { "/>" } else { ">" });
        }
        if !empty {
            one.sent.push_str(&written.repeat(self.text.count));
            for out in [&mut one.prosody, &mut one.ejabberd] {
                escaped(meant, self.text.count, out);
            }
            let below = Scope { default, parent: own, prefixes, content: above.content };
            for part in &self.parts {
                part.write(&below, &mut one);
            }
            let _ = write!(one.sent, "</{name}>");
            one.prosody.push_str("</e>");
            one.ejabberd.push_str("</e>");
        }
        let times = self.times.max(1);
        out.sent.push_str(&one.sent.repeat(times));
        out.prosody.push_str(&one.prosody.repeat(times));
        out.ejabberd.push_str(&one.ejabberd.repeat(times));
        out.twice += one.twice * times;
    }

    /// Octets as sent, or so.
    fn cost(&self) -> usize {
        self.written(Content::Server).sent.len()
    }

    fn any<'a>(&'a mut self, dice: &mut Dice) -> &'a mut Part {
        if self.parts.is_empty() || dice.chance(3) {
            return self;
        }
        let at = dice.below(self.parts.len());
        self.parts[at].any(dice)
    }

    fn each(&mut self, change: &mut dyn FnMut(&mut Part)) {
        change(self);
        for part in &mut self.parts {
            part.each(change);
        }
    }

    fn run(dice: &mut Dice) -> Run {
        let count = [0, 1, 3, 20, 200][dice.below(5)];
        Run { kind: dice.below(24), count }
    }

    /// One change.
    fn mutate(&mut self, dice: &mut Dice) {
        let part = self.any(dice);
        let kind = dice.below(14);
        match kind {
            0 => part.parts.push(Part::default()),
            1 => drop(part.parts.pop()),
            2 => {
                let copy = part.clone();
                part.parts.push(copy);
            }
            3 => part.text = Self::run(dice),
            4 => part.default = (!dice.chance(3)).then(|| dice.below(8)),
            5 => {
                let (prefix, number) = (dice.below(6), dice.below(8));
                part.declared.push((prefix, number));
                part.prefix = Some(prefix);
            }
            6 => {
                let (prefix, number) = (dice.below(40), dice.below(8));
                part.declared.push((prefix, number));
                part.attributes.push((Some(prefix), Self::run(dice)));
            }
            7 => part.attributes.push((Some(dice.below(6)), Self::run(dice))),
            8 => part.attributes.push((None, Self::run(dice))),
            9 => part.prefix = (!dice.chance(3)).then(|| dice.below(6)),
            10 => part.times = [1, 2, 5, 20, 60][dice.below(5)],
            // What is declared here, and used below.
            11 | 12 => {
                let Some((prefix, _)) = part.declared.last().copied() else { return };
                let times = [1, 5, 20, 60][dice.below(4)];
                let mut child = Part { times, ..Part::default() };
                match kind {
                    11 => child.prefix = Some(prefix),
                    _ => child.attributes = vec![(Some(prefix), Run::default()); 1 + dice.below(4)],
                }
                part.parts.push(child);
            }
            _ => {
                let _ = (part.attributes.pop(), part.declared.pop());
            }
        }
    }

    /// So many times as much, in one of four ways: side by side, attributes, prefixes, depth.
    pub fn swollen(&self, way: usize, n: usize) -> Part {
        let mut part = self.clone();
        match way % 4 {
            0 => part.times = part.times.max(1).saturating_mul(n),
            1 => part.each(&mut |part| {
                let all = part.attributes.clone();
                part.attributes = (0..n).flat_map(|_| all.iter().copied()).take(70).collect();
            }),
            2 => part.each(&mut |part| {
                let number = part.declared.first().map_or(0, |(_, number)| *number);
                for prefix in (1000..).take(n.saturating_sub(1).min(40)) {
                    part.declared.push((prefix, number));
                    part.attributes.push((Some(prefix), Run::default()));
                }
            }),
            _ => {
                for _ in 1..n.min(80) {
                    let mut outer = self.clone();
                    outer.times = 1;
                    let mut at = &mut outer;
                    while !at.parts.is_empty() {
                        at = &mut at.parts[0];
                    }
                    at.times = 1;
                    at.parts.push(part);
                    part = outer;
                }
            }
        }
        part
    }

    /// As much of it as is let in.
    pub fn to_the_brim(&self, way: usize, fits: impl Fn(&Part) -> bool) -> Option<Part> {
        let ok = |n: usize| {
            let part = self.swollen(way, n);
            (part.cost() < 300_000 && fits(&part)).then_some(part)
        };
        let mut best = ok(1)?;
        let (mut low, mut high) = (1, 2);
        while high < 10_000
            && let Some(part) = ok(high)
        {
            (best, low, high) = (part, high, high * 2);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match ok(middle) {
                Some(part) => (best, low) = (part, middle),
                None => high = middle,
            }
        }
        Some(best)
    }
}

/// A text of one element, as it measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Its length.
    pub octets: usize,
    /// How deep; the outermost element is one.
    pub depth: usize,
    /// Attributes of one element at most, declarations included.
    pub attributes: usize,
    /// Declarations of one element at most.
    pub declarations: usize,
}

impl Measure {
    /// By the tags of a text without CDATA, comments and the like.
    pub fn of(text: &str) -> Self {
        let mut measure = Self { octets: text.len(), ..Self::default() };
        let (mut depth, mut rest) = (0_usize, text);
        while let Some(at) = rest.find('<') {
            rest = &rest[at + 1..];
            if rest.starts_with('/') {
                depth = depth.saturating_sub(1);
                continue;
            }
            let (mut attributes, mut declarations, mut end) = (0, 0, 0);
            let mut open = None;
            let octets = rest.as_bytes();
            for (at, octet) in octets.iter().enumerate() {
                match (open, octet) {
                    (None, b'>') => {
                        end = at;
                        break;
                    }
                    (None, b'\'' | b'"') => {
                        open = Some(*octet);
                        attributes += 1;
                        let name = rest[..at].rsplit(char::is_whitespace).next().unwrap_or_default();
                        declarations += usize::from(name.starts_with("xmlns"));
                    }
                    (Some(quote), octet) if quote == *octet => open = None,
                    _ => {}
                }
            }
            depth += 1;
            measure.depth = measure.depth.max(depth);
            measure.attributes = measure.attributes.max(attributes);
            measure.declarations = measure.declarations.max(declarations);
            if rest[..end].ends_with('/') {
                depth -= 1;
            }
            rest = &rest[end..];
        }
        measure
    }

    fn all(self) -> [usize; 4] {
        [self.octets, self.depth, self.attributes, self.declarations]
    }
}

/// What is looked for, each for itself.
pub const GOALS: [&str; 4] = ["octets", "depth", "attributes", "declarations"];

/// The best so far by each goal.
pub struct Search {
    dice: Dice,
    /// What is tried first.
    first: Vec<Part>,
    best: Vec<Option<(f64, Part, Measure, Measure)>>,
}

impl Search {
    /// From nothing.
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), first: Vec::new(), best: vec![None; GOALS.len()] }
    }

    /// What was found by other measures is tried first, and counts no longer.
    pub fn afresh(mut self) -> Self {
        let found = std::mem::replace(&mut self.best, vec![None; GOALS.len()]);
        self.first = found.into_iter().flatten().map(|(_, part, ..)| part).collect();
        self
    }

    /// So many to try next: changes of the best, and mixtures of two of them. None is longer than so many octets.
    pub fn propose(&mut self, count: usize, most: usize) -> Vec<Part> {
        let mut all = std::mem::take(&mut self.first);
        while all.len() < count {
            let goal = all.len() % GOALS.len();
            let mut part = self.best[goal].as_ref().map(|(_, part, ..)| part.clone()).unwrap_or_default();
            let other = self.dice.below(GOALS.len());
            if self.dice.chance(4)
                && let Some((_, other, ..)) = self.best[other].clone()
            {
                part.any(&mut self.dice).parts.push(other);
            }
            for _ in 0..=self.dice.below(5) {
                part.mutate(&mut self.dice);
            }
            if part.cost() <= most {
                all.push(part);
            }
        }
        all
    }

    /// It went in so, and came out so.
    pub fn learn(&mut self, part: &Part, sent: Measure, came: Measure) {
        for (goal, best) in self.best.iter_mut().enumerate() {
            let (sent_of, came_of) = (sent.all()[goal], came.all()[goal]);
            let more = f64::from(u32::try_from(came_of.saturating_sub(sent_of)).unwrap());
            let out = f64::from(u32::try_from(came_of).unwrap());
            // Growth first; what comes out for an octet leads where nothing grows yet.
            let score = (more + out / 10.0) / f64::from(u32::try_from(sent.octets).unwrap());
            if best.as_ref().is_none_or(|(known, ..)| score > *known) {
                *best = Some((score, part.clone(), sent, came));
            }
        }
    }

    /// The best by each goal.
    pub fn best(&self) -> impl Iterator<Item = (&'static str, &Part, Measure, Measure)> {
        GOALS.iter().zip(&self.best).filter_map(|(goal, best)| {
            let (_, part, sent, came) = best.as_ref()?;
            Some((*goal, part, *sent, *came))
        })
    }
}

/// A stanza with this inside.
pub fn stanza(head: &str, id: &str, inside: &str) -> String {
    format!("<message {head} id='{id}'><body>{id}</body>{inside}</message>")
}

/// What a framer of these limits says of a stanza on a proven stream.
pub fn judged(
    stanza: &str,
    limits: Limits,
    content: Content,
) -> Result<(), (Reason, Option<(usize, usize)>)> {
    let mut framer = Framer::new(limits, content);
    let open = format!(
        "<stream:stream xmlns='{}' xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
         id='i' version='1.0'>",
        content.ns()
    );
    framer.feed(open.as_bytes());
    framer.feed(stanza.as_bytes());
    match (framer.next(), framer.next()) {
        (Some(Token::Header(_)), Some(Token::Element(_))) => Ok(()),
        (Some(Token::Header(_)), Some(Token::Refused(refused))) => {
            Err((refused.why().reason(), refused.why().measure()))
        }
        other => panic!("{other:?}: {}", &stanza[..stanza.len().min(300)]),
    }
}

/// The grown size of a stanza that is let in otherwise (XML-18).
pub fn grown(stanza: &str, content: Content) -> Option<usize> {
    judged(stanza, Limits::default(), content).ok()?;
    match judged(stanza, Limits { grown: 1, ..Limits::default() }, content) {
        Err((Reason::OverGrown, Some((_, found)))) => Some(found),
        other => panic!("{other:?}"),
    }
}
