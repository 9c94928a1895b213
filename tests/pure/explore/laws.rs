//! What peers, proven or not, and backends say to a relay between servers, and the laws that hold on every step of it: for the
//! walk over its graph, and for the fuzz target.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use gatehouse::reason::{Flow, Outcome, Reason};
use gatehouse::relay::{Effect, Event, FarId, Input, Left, Passing, Relay, Side};
use gatehouse::stream::{Secured, opening};
use gatehouse::xml::{Content, Frame, Framer, Header, Limits, Token};

use super::stage::*;

pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";

/// First-level elements that peers, proven or not, and backends say.
pub fn elements() -> Vec<Frame> {
    [
        &format!("<starttls xmlns='{TLS}'/>"),
        &format!("<starttls xmlns='{TLS}'><x/></starttls>"),
        &format!("<proceed xmlns='{TLS}'/>"),
        &format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>ZXZpbC5leGFtcGxl</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>?</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>=</auth>"),
        &format!("<abort xmlns='{SASL}'/>"),
        &format!("<success xmlns='{SASL}'/>"),
        &format!("<failure xmlns='{SASL}'><not-authorized/></failure>"),
        &format!("<challenge xmlns='{SASL}'/>"),
        "<db:result from='friend.example' to='hall.example'>k1</db:result>",
        "<db:result from='friend.example' to='hall.example'>k2</db:result>",
        "<db:result from='stranger.example' to='hall.example'>k1</db:result>",
        "<db:result from='hall.example' to='hall.example'>k1</db:result>",
        "<db:result from='friend.example' to='nowhere.example'>k1</db:result>",
        "<db:result from='hall.example' to='friend.example'>k1</db:result>",
        "<db:result from='hall.example' to='friend.example' type='valid'/>",
        "<db:result from='hall.example' to='friend.example' type='invalid'/>",
        "<db:result from='hall.example' to='friend.example' type='error'/>",
        "<db:result from='friend.example' to='hall.example' type='valid'/>",
        "<db:result from='friend.example' to='hall.example' type='odd'/>",
        "<db:result to='hall.example'>k1</db:result>",
        "<db:verify from='friend.example' to='hall.example' id='i'>k1</db:verify>",
        "<db:verify from='friend.example' to='hall.example' id='i' type='valid'/>",
        "<db:verify from='hall.example' to='friend.example' id='i' type='valid'/>",
        "<message from='a@friend.example' to='b@hall.example'><body>x</body></message>",
        "<message from='a@stranger.example' to='b@hall.example'><body>x</body></message>",
        "<message from='a@friend.example' to='b@annex.example'><body>x</body></message>",
        "<iq from='b@hall.example' to='a@friend.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
        &format!(
            "<stream:features><starttls xmlns='{TLS}'/><mechanisms xmlns='{SASL}'>\
             <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"
        ),
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<bidi xmlns='urn:xmpp:bidi'/>",
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/><bidi xmlns='urn:xmpp:features:bidi'/></stream:features>",
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<message xmlns='jabber:client' from='a@friend.example' to='b@hall.example'/>",
        "<unknown xmlns='urn:example'/>",
    ]
    .iter()
    .map(|text| frame(text))
    .collect()
}

/// What peers say of counting stanzas (XEP-0198), in and out of its place.
pub fn counting() -> Vec<Frame> {
    [
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>",
        "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>",
        "<enabled xmlns='urn:xmpp:sm:3'/>",
        "<failed xmlns='urn:xmpp:sm:3' h='1'/>",
        "<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='1'/>",
        "<resumed xmlns='urn:xmpp:sm:3' previd='s2' h='1'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        "<a xmlns='urn:xmpp:sm:3' h='x'/>",
        "<resume xmlns='urn:xmpp:sm:3' previd='s1' h='0'/>",
        "<resume xmlns='urn:xmpp:sm:3' previd='s1' h='1'/>",
        "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
    ]
    .map(frame)
    .into()
}

/// What comes of it outside of the relay.
pub fn counted() -> [Input; 4] {
    let friend = domain("friend.example");
    [
        Input::Settled(1),
        Input::Settled(2),
        Input::Resumed(None),
        Input::Resumed(Some((Left::taken(1), friend))),
    ]
}

/// SM-01: nobody is counted, or looks for a session, before a pair of his stands; and behind a closing tag nobody is told a count.
pub fn relay_counted_behind_proof(edge: &Crossing<'_>) -> Breach {
    let mut closed = false;
    for effect in edge.effects {
        let proven = match effect {
            Effect::Enlist(Some((_, owner))) => {
                edge.before.guard().pairs().iter().any(|admitted| admitted.pair().sender == *owner)
            }
            Effect::Resume(_, _, askers) => askers.iter().all(|asker| {
                edge.before.guard().pairs().iter().any(|admitted| admitted.pair().sender == *asker)
            }),
            Effect::Enlist(None) => !edge.before.guard().is_empty(),
            Effect::Send(Side::Near, octets) => {
                let told = octets.starts_with(b"<a ") || octets.starts_with(b"<enabled ");
                let after = closed && told;
                closed |= octets.ends_with(b"</stream:stream>");
                !after
            }
            _ => true,
        };
        if !proven {
            return Err(format!("{:?}", edge.effects));
        }
    }
    Ok(())
}

pub fn frame(text: &str) -> Frame {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(&opening(None, None, None, true));
    framer.feed(text.as_bytes());
    let mut tokens = std::iter::from_fn(|| framer.next());
    match (tokens.next(), tokens.next()) {
        (Some(Token::Header(_)), Some(Token::Element(frame))) => frame,
        other => panic!("{text}: {other:?}"),
    }
}

/// Stanzas that the framer refuses where the stream is proven.
pub fn refused() -> Vec<Token> {
    let addresses =
        ["from='a@friend.example' to='b@hall.example'", "from='b@hall.example' to='a@friend.example'"];
    let others = ["from='a@stranger.example' to='b@hall.example'", "to='b@hall.example'"];
    let stanzas = ["message", "presence", "iq type='result' id='1'", "iq type='get' id='2'"];
    let all = addresses.into_iter().flat_map(|a| stanzas.map(|s| (s, a)));
    all.chain(others.map(|a| ("message", a)))
        .map(|(stanza, a)| refused_token(&format!("<{stanza} {a}><\u{e9}/>")))
        .collect()
}

/// This begun element, closed and refused.
pub fn refused_token(begun: &str) -> Token {
    let name = begun[1..].split(' ').next().unwrap();
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(&opening(None, None, None, true));
    framer.feed(format!("{begun}</{name}>").as_bytes());
    framer.next();
    let token = framer.next().unwrap();
    assert!(matches!(token, Token::Refused(_)), "{begun}: {token:?}");
    token
}

pub fn headers() -> Vec<Header> {
    let all = [
        header("friend.example", "hall.example"),
        header("", "hall.example"),
        header("stranger.example", "hall.example"),
        header("hall.example", "hall.example"),
        header("friend.example", "nowhere.example"),
        header("hall.example", "friend.example"),
        header("friend.example", ""),
        header("not a domain", "hall.example"),
        answer("id-1", false),
        answer("id-1", true),
        answer("", true),
    ];
    all.iter()
        .map(|text| {
            let mut framer = Framer::new(Limits::default(), Content::Server);
            framer.feed(text.as_bytes());
            match framer.next() {
                Some(Token::Header(header)) => header,
                other => panic!("{text}: {other:?}"),
            }
        })
        .collect()
}

pub fn facts() -> Vec<Secured> {
    vec![
        secured("hall.example", &["friend.example"]),
        secured("hall.example", &[]),
        untrusted("", "friend.example"),
    ]
}

/// Everything one octet of ours may be, in clear on a public leg.
pub fn may_go_in_clear(octets: &Bytes) -> bool {
    let text = std::str::from_utf8(octets).unwrap();
    let is_header = text.starts_with("<?xml") || text.is_empty();
    let features = text.find("<stream:features>").map(|at| &text[at..]);
    let only_starttls = features
        .is_none_or(|f| f.contains("<starttls ") && !f.contains("mechanism") && !f.contains("dialback"));
    only_starttls
        && (is_header
            || text.starts_with("<starttls ")
            || text.starts_with("<proceed ")
            || text.starts_with("<failure ")
            || text.starts_with("<failed ")
            || text.starts_with("<stream:error>")
            || text.contains("type='error'")
            || text.starts_with("</stream:stream>"))
}

/// One edge of the relay's graph, looked at and let go: kept whole they would fill the memory.
pub struct Crossing<'a> {
    pub before: &'a Relay,
    pub side: Side,
    pub input: &'a Input,
    pub effects: &'a [Effect],
    pub after: &'a Relay,
}

/// What breaks a law on an edge.
pub type Breach = Result<(), String>;

/// A law, as it is asked of an edge.
pub type Law = fn(&Crossing<'_>) -> Breach;

/// The laws that the relay is held to, by name.
pub const LAWS: &[(&str, Law)] = &[
    ("proof_before_pass", relay_proof_before_pass),
    ("canonical_only", relay_canonical_only),
    ("fault_is_final", relay_fault_is_final),
    ("only_asked_answers", relay_only_asked_answers),
    ("home_is_home", relay_home_is_home),
    ("deny_by_default", relay_deny_by_default),
    ("bounded", relay_bounded),
    ("closed_words", relay_closed_words),
    ("reports_only", relay_reports_only),
    ("refused_ends_nothing", relay_refused_ends_nothing),
    ("counted_behind_proof", relay_counted_behind_proof),
    ("only_inverses_go_back", relay_only_inverses_go_back),
];

/// SM-08: what travels against the flow of its relay is the inverse of a pair that stands there, was judged by itself, and has
/// addresses of that pair.
pub fn relay_only_inverses_go_back(edge: &Crossing<'_>) -> Breach {
    for effect in edge.effects {
        let (pair, octets) = match effect {
            Effect::Back(pair, octets) | Effect::Inward(_, pair, Passing { octets, .. }) => (pair, octets),
            _ => continue,
        };
        let text = std::str::from_utf8(octets).unwrap();
        let (from, to) = (format!("@{}'", pair.sender), format!("@{}'", pair.target));
        if !text.contains(&from) || !text.contains(&to) {
            return Err(format!("{pair} has no such stanza: {text}"));
        }
        let known = |guard: &gatehouse::filter::Guard, pair: &gatehouse::stream::Pair| {
            guard.find(pair.sender.as_str(), pair.target.as_str()).is_some()
        };
        let inverse = match effect {
            Effect::Back(..) => known(edge.before.guard(), &pair.reversed()),
            _ => {
                edge.before.speaks_for(FarId(1)).or(edge.before.speaks_for(FarId(2)))
                    == Some(&pair.reversed())
            }
        };
        let admitted = edge
            .effects
            .iter()
            .any(|e| matches!(e, Effect::Note(Event::Admitted { pair: p, .. }) if p == pair));
        if !inverse || !(admitted || known(edge.before.back(), pair)) {
            return Err(format!("{pair} may not go back: {:?}", edge.effects));
        }
    }
    // Where a way is opened, the pair behind it stands.
    for effect in edge.effects {
        if let Effect::WayBack(pair, true) = effect
            && edge.after.guard().find(pair.target.as_str(), pair.sender.as_str()).is_none()
        {
            return Err(format!("{pair} was opened: {:?}", edge.effects));
        }
    }
    Ok(())
}

/// XML-17: a stanza that is only refused ends no stream of a pair that stands, nor anything else on it.
pub fn relay_refused_ends_nothing(edge: &Crossing<'_>) -> Breach {
    let Input::Token(Token::Refused(refused)) = edge.input else { return Ok(()) };
    let domain =
        |address: Option<&str>| address.and_then(|a| a.split('@').nth(1)).unwrap_or_default().to_owned();
    let (from, to) = (domain(refused.from()), domain(refused.to()));
    if edge.side != Side::Near || edge.before.guard().find(&from, &to).is_none() {
        return Ok(());
    }
    // Where a header is due, as behind EXTERNAL, no framer finds a stanza.
    if edge
        .effects
        .iter()
        .any(|e| matches!(e, Effect::Send(Side::Near, octets) if octets.starts_with(b"<?xml")))
    {
        return Ok(());
    }
    let ends = edge.effects.iter().any(|effect| match effect {
        Effect::Cut(_) | Effect::Finish(_) => true,
        Effect::Send(_, octets) => octets.ends_with(b"</stream:stream>"),
        _ => false,
    });
    if ends || edge.before.guard().pairs().len() != edge.after.guard().pairs().len() {
        return Err(format!("{:?}", edge.effects));
    }
    Ok(())
}

pub fn relay_proof_before_pass(edge: &Crossing<'_>) -> Breach {
    for effect in edge.effects {
        // What an outbox gives back was admitted when it came.
        let stranded = matches!(edge.input, Input::Gone { .. } | Input::Overflow(_));
        // What a courier has was admitted where it came from, and what the gateway says itself needs no proof.
        let courier = edge.before.snapshot(None).shape == "courier";
        if matches!(effect, Effect::Pass(..) | Effect::Carry(..))
            && edge.before.guard().is_empty()
            // An error about what came back goes the other way, for whom the pair stands.
            && edge.before.back().is_empty()
            && !(stranded || courier)
        {
            return Err(format!("passed before any pair stood: {:?}", edge.effects));
        }
        if let Effect::Note(Event::Admitted { pair, .. }) = effect {
            let judged = edge.effects.iter().any(|e| {
                matches!(e, Effect::Note(Event::Judged { pair: p, verdict })
                    if p == pair && verdict.outcome == Outcome::Allow)
            });
            if !judged {
                return Err(format!("admitted without a verdict: {:?}", edge.effects));
            }
        }
    }
    Ok(())
}

/// What backends are told are errors without anything of the stanza but its addresses and its id, and none of it comes from
/// a relay that a peer speaks to.
pub fn relay_reports_only(edge: &Crossing<'_>) -> Breach {
    for effect in edge.effects {
        // A report that was written elsewhere goes on as it is, over the leg of its pair or to the backend.
        if let Input::Report(pair, report) = edge.input {
            match effect {
                Effect::Pass(id, passing)
                    if edge.before.speaks_for(*id) == Some(pair) && passing.octets == *report => {}
                Effect::Report { pair: whom, stanza, .. } if whom == pair && stanza == report => {}
                _ => return Err(format!("more than the report: {effect:?}")),
            }
            continue;
        }
        let Effect::Report { stanza, .. } = effect else { continue };
        let frame = frame(std::str::from_utf8(stanza).unwrap());
        let head = frame.head();
        let only_error = head.children().len() == 1 && head.children().all(|child| child.is_named("error"));
        // What goes back over the stream of a peer came from a backend all the same, and is kept where it is counted.
        let of_a_backend = edge.before.flow() == Flow::S2sOut
            || matches!(edge.input, Input::Back(..) | Input::Gone { .. })
            || edge.before.room_back().is_some()
            || edge.before.holds_back();
        if !head.is_type("error") || !only_error || !of_a_backend {
            return Err(format!("no error of ours: {stanza:?}"));
        }
    }
    Ok(())
}

pub fn relay_canonical_only(edge: &Crossing<'_>) -> Breach {
    for effect in edge.effects {
        if let Effect::Pass(_, Passing { octets, .. })
        | Effect::Carry(_, Passing { octets, .. })
        | Effect::Hand(_, octets)
        | Effect::Back(_, octets)
        | Effect::Inward(_, _, Passing { octets, .. })
        | Effect::Report { stanza: octets, .. } = effect
            && octets != "<message/>"
        {
            let again = frame(std::str::from_utf8(octets).unwrap());
            if !again.passed_as_received() || again.octets() != octets {
                return Err(format!("not canonical: {octets:?}"));
            }
        }
    }
    Ok(())
}

/// Behind a closing tag of ours nothing more is sent to that side.
pub fn relay_fault_is_final(edge: &Crossing<'_>) -> Breach {
    for side in [Side::Near, Side::Far(FarId(2)), Side::Far(FarId(4))] {
        let mut closed = false;
        for effect in edge.effects {
            match effect {
                Effect::Send(to, octets) if *to == side => {
                    if closed {
                        return Err(format!("{:?}", edge.effects));
                    }
                    closed = octets.ends_with(b"</stream:stream>");
                }
                Effect::Back(..) if closed && side == Side::Near => {
                    return Err(format!("{:?}", edge.effects));
                }
                Effect::Retry(id, _) if Side::Far(*id) == side => closed = false,
                _ => {}
            }
        }
    }
    Ok(())
}

pub fn relay_only_asked_answers(edge: &Crossing<'_>) -> Breach {
    let Input::Token(Token::Element(frame)) = edge.input else { return Ok(()) };
    let text = std::str::from_utf8(frame.octets()).unwrap();
    let answers = ["type='valid'", "type='invalid'"];
    if edge.side != Side::Near || !text.starts_with("<db:") || !answers.iter().any(|a| text.contains(a)) {
        return Ok(());
    }
    let changed = edge.effects.iter().any(|e| {
        matches!(
            e,
            Effect::Connect(..)
                | Effect::Admitted(..)
                | Effect::Verify(..)
                | Effect::Answer(..)
                | Effect::LeaveUnproven
                | Effect::EnterClients
                | Effect::Widen(_)
                | Effect::Remember(_)
        )
    });
    if changed || edge.before.guard().pairs().len() < edge.after.guard().pairs().len() {
        return Err(format!("{:?}", edge.effects));
    }
    Ok(())
}

pub fn relay_home_is_home(edge: &Crossing<'_>) -> Breach {
    if edge.before.flow() != Flow::S2sIn {
        return Ok(());
    }
    let home = domain("hall.example");
    let admitted = edge.after.guard().pairs().iter().any(|admitted| admitted.pair().sender == home);
    let asked =
        edge.effects.iter().any(|e| matches!(e, Effect::Verify(_, check) if check.pair.sender == home));
    if admitted || asked { Err(format!("{:?}", edge.effects)) } else { Ok(()) }
}

pub fn relay_deny_by_default(edge: &Crossing<'_>) -> Breach {
    let friend = domain("friend.example");
    for admitted in edge.after.guard().pairs().iter().chain(edge.after.back().pairs()) {
        let pair = admitted.pair();
        if pair.sender != friend && pair.target != friend {
            return Err(format!("{pair} is admitted"));
        }
    }
    for effect in edge.effects {
        let spent = match effect {
            // A backend is asked about its own keys at its own address (DB-63), whomever it wants to reach: it is judged by what it
            // sends behind them (DB-62).
            Effect::Verify(_, check) if edge.before.flow() == Flow::S2sOut => {
                !["hall.example", "annex.example"].contains(&check.pair.sender.as_str())
            }
            Effect::Verify(_, check) => check.pair.sender != friend,
            Effect::Connect(_, to) => {
                let text = format!("{to:?}");
                text.contains("stranger") || text.contains("nowhere")
            }
            _ => false,
        };
        if spent {
            return Err(format!("cost for a pair that nobody allowed: {effect:?}"));
        }
    }
    Ok(())
}

/// Every wait has a deadline: whatever is not over says when it will be, and moves when that comes.
pub fn relay_bounded(edge: &Crossing<'_>) -> Breach {
    if !edge.after.is_done() {
        let Some(at) = edge.after.deadline() else { return Err(format!("no deadline: {:?}", edge.after)) };
        let mut later = edge.after.clone();
        later.step(Side::Near, Input::Expired, at);
        if !later.is_done() && later.deadline() == Some(at) {
            return Err(format!("stuck: {:?}", edge.after));
        }
    }
    if edge.after.guard().pairs().len() > 50
        || edge.after.back().pairs().len() > 50
        || edge.effects.len() >= 64
    {
        return Err(format!("{:?}", edge.effects));
    }
    Ok(())
}

pub fn relay_closed_words(edge: &Crossing<'_>) -> Breach {
    for effect in edge.effects {
        if let Effect::Note(Event::Judged { verdict, .. }) = effect {
            let known =
                Reason::ALL.contains(&verdict.reason) && ["ok", "default"].contains(&verdict.rule.as_str());
            if !known {
                return Err(verdict.rule.to_string());
            }
        }
    }
    Ok(())
}
