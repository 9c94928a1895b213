//! What clients and their servers say to a relay of a client, good and bad, and the laws that hold on every step of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse::relay::{Effect, Event, FarId, Input, Passing, Side};
use gatehouse::stream::client::opening;
use gatehouse::xml::{Content, Frame, Framer, Header, Limits, Token};

use super::laws::{Crossing, Law, SASL, TLS};
use super::stage::*;

pub const SASL2: &str = "urn:xmpp:sasl:2";

pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";

pub const ME: &str = "alice@hall.example/r";

pub const FAR: Side = Side::Far(FarId(1));

/// The first tokens of a stream of clients that says this after its header.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut framer = Framer::new(Limits::default(), Content::Client);
    framer.feed(&opening(None, None, None, None));
    framer.feed(text.as_bytes());
    std::iter::from_fn(|| framer.next()).skip(1).collect()
}

pub fn frame(text: &str) -> Frame {
    match tokens(text).as_slice() {
        [Token::Element(frame)] => frame.clone(),
        other => panic!("{text}: {other:?}"),
    }
}

pub fn client_header(attrs: &str) -> Header {
    let mut framer = Framer::new(Limits::default(), Content::Client);
    framer.feed(
        format!(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'{attrs}>"
        )
        .as_bytes(),
    );
    match framer.next() {
        Some(Token::Header(header)) => header,
        other => panic!("{attrs}: {other:?}"),
    }
}

/// What clients say, good and bad.
pub fn from_client() -> Vec<Frame> {
    [
        &format!("<starttls xmlns='{TLS}'/>"),
        &format!("<starttls xmlns='{TLS}'><x/></starttls>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGFsaWNlAHB3</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'/>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>?</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='GSSAPI'>=</auth>"),
        &format!("<response xmlns='{SASL}'>AGFsaWNlAHB3</response>"),
        &format!("<response xmlns='{SASL}'>?</response>"),
        &format!("<abort xmlns='{SASL}'/>"),
        &format!("<success xmlns='{SASL}'/>"),
        &format!(
            "<authenticate xmlns='{SASL2}' mechanism='PLAIN'><initial-response>AGFsaWNlAHB3</initial-response>\
             <bind xmlns='urn:xmpp:bind:0'/></authenticate>"
        ),
        &format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'><odd xmlns='urn:example'/></authenticate>"),
        &format!("<response xmlns='{SASL2}'>=</response>"),
        &format!("<iq type='set' id='b1'><bind xmlns='{BIND}'/></iq>"),
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<active xmlns='urn:xmpp:csi:0'/>",
        "<message to='bob@hall.example'><body>x</body></message>",
        &format!("<message from='{ME}' to='bob@hall.example'/>"),
        "<message from='bob@hall.example' to='alice@hall.example'/>",
        "<iq type='get' id='r1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='set' id='l1'><query xmlns='jabber:iq:auth'/></iq>",
        "<message xmlns='jabber:server' to='bob@hall.example'/>",
        "<result xmlns='jabber:server:dialback'/>",
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
        "<stream:features/>",
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<unknown xmlns='urn:example'/>",
    ]
    .iter()
    .map(|text| frame(text))
    .collect()
}

/// What servers inside say, good and bad.
pub fn from_server() -> Vec<Frame> {
    let plain = format!("<mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms>");
    [
        &format!("<stream:features>{plain}<odd xmlns='urn:example'/></stream:features>"),
        &format!("<stream:features><starttls xmlns='{TLS}'><required/></starttls>{plain}</stream:features>"),
        &format!(
            "<stream:features><mechanisms xmlns='{SASL}'><mechanism>SCRAM-SHA-1-PLUS</mechanism></mechanisms>\
             <authentication xmlns='{SASL2}'><mechanism>PLAIN</mechanism><inline><sm xmlns='urn:xmpp:sm:3'/>\
             <bind xmlns='urn:xmpp:bind:0'/></inline></authentication></stream:features>"
        ),
        "<stream:features/>",
        &format!("<stream:features><bind xmlns='{BIND}'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>"),
        &format!("<challenge xmlns='{SASL}'>PQ==</challenge>"),
        &format!("<challenge xmlns='{SASL}'>?</challenge>"),
        &format!("<failure xmlns='{SASL}'><not-authorized/></failure>"),
        &format!("<success xmlns='{SASL}'/>"),
        &format!("<challenge xmlns='{SASL2}'>PQ==</challenge>"),
        &format!("<failure xmlns='{SASL2}'><not-authorized xmlns='{SASL}'/></failure>"),
        &format!("<success xmlns='{SASL2}'><authorization-identifier>alice@hall.example</authorization-identifier></success>"),
        &format!(
            "<success xmlns='{SASL2}'><authorization-identifier>{ME}</authorization-identifier>\
             <bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' location='inside.lan'/></bound></success>"
        ),
        &format!("<success xmlns='{SASL2}'><authorization-identifier>eve@evil.example</authorization-identifier></success>"),
        &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'><jid>{ME}</jid></bind></iq>"),
        &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'><jid>eve@evil.example/r</jid></bind></iq>"),
        "<iq type='error' id='b1'><error type='cancel'/></iq>",
        "<iq type='result' id='r1'><query xmlns='jabber:iq:register'/></iq>",
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
        "<failed xmlns='urn:xmpp:sm:3'/>",
        "<enabled xmlns='urn:xmpp:sm:3' id='s' location='inside.lan'/>",
        "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        "<message from='bob@hall.example/x' to='alice@hall.example/r'><body>x</body></message>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>inside.lan</see-other-host></stream:error>",
        "<unknown xmlns='urn:example'/>",
    ]
    .iter()
    .map(|text| frame(text))
    .collect()
}

/// What clients say that servers answer or overlook. Apart from the rest: what fuzzing has learnt names those by their places.
pub fn more_from_client() -> Vec<Frame> {
    [
        "<iq type='set' id='s1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
        "<enabled xmlns='urn:xmpp:sm:3'/>",
        "<iq type='set' id='u1'><unbind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    ]
    .map(frame)
    .into()
}

/// And what servers say to that, and of why they go.
pub fn more_from_server() -> Vec<Frame> {
    [
        "<iq type='result' id='s1'/>",
        "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>from inside.lan</text></stream:error>",
    ]
    .map(frame)
    .into()
}

pub fn headers() -> Vec<Header> {
    [
        " to='hall.example' version='1.0'",
        " to='hall.example' from='alice@hall.example' version='1.0'",
        " to='hall.example' from='bob@hall.example' version='1.0'",
        " to='hall.example'",
        " to='nowhere.example' version='1.0'",
        " id='s' from='hall.example' version='1.0'",
    ]
    .map(client_header)
    .into()
}

pub const LAWS: &[(&str, Law)] = &[
    ("proof_before_pass", proof_before_pass),
    ("canonical_only", canonical_only),
    ("fault_is_final", fault_is_final),
    ("nothing_dropped", nothing_dropped),
    ("bounded", bounded),
];

pub fn proof_before_pass(edge: &Crossing<'_>) -> Result<(), String> {
    for effect in edge.effects {
        let wrong = match effect {
            Effect::Pass(..) | Effect::Deliver(_) => !edge.before.is_bound(),
            Effect::LeaveUnproven
            | Effect::EnterClients
            | Effect::Widen(_)
            | Effect::Remember(_)
            | Effect::Note(Event::Bound { .. }) => !edge.after.is_bound(),
            _ => false,
        };
        if wrong {
            return Err(format!("{effect:?}"));
        }
    }
    Ok(())
}

pub fn canonical_only(edge: &Crossing<'_>) -> Result<(), String> {
    for effect in edge.effects {
        if let Effect::Pass(_, Passing { octets, .. }) | Effect::Deliver(octets) = effect {
            let again = frame(text(octets));
            if !again.passed_as_received() || again.octets() != octets {
                return Err(format!("not canonical: {octets:?}"));
            }
        }
    }
    Ok(())
}

/// Behind a closing tag, or behind the end of the connection, nothing more goes to that side.
pub fn fault_is_final(edge: &Crossing<'_>) -> Result<(), String> {
    for side in [Side::Near, FAR] {
        let mut closed = false;
        for effect in edge.effects {
            let speaks = match effect {
                Effect::Send(to, octets) if *to == side => {
                    if closed {
                        return Err(format!("{:?}", edge.effects));
                    }
                    closed = octets.ends_with(b"</stream:stream>");
                    false
                }
                Effect::Finish(to) | Effect::Cut(to) if *to == side => {
                    closed = true;
                    false
                }
                Effect::Deliver(_) => side == Side::Near,
                Effect::Pass(..) | Effect::Retry(..) => side == FAR,
                Effect::Restart(to) | Effect::Upgrade(to) => *to == side,
                _ => false,
            };
            if speaks && closed {
                return Err(format!("{:?}", edge.effects));
            }
        }
    }
    Ok(())
}

/// SM-02: on a bound stream each stanza passes once or ends the stream, and none is made here.
pub fn nothing_dropped(edge: &Crossing<'_>) -> Result<(), String> {
    // What is refused, as it is not counted, comes back as an error (XML-17).
    let refused = matches!(edge.input, Input::Token(Token::Refused(_)));
    let made = edge.before.is_bound()
        && !refused
        && edge.effects.iter().any(|effect| match effect {
            Effect::Send(_, octets) => {
                ["<message", "<iq", "<presence"].iter().any(|name| octets.starts_with(name.as_bytes()))
            }
            _ => false,
        });
    if made {
        return Err(format!("made: {:?}", edge.effects));
    }
    let Input::Token(Token::Element(frame)) = edge.input else { return Ok(()) };
    let stanza = frame.head().kind() != gatehouse::xml::Kind::Other;
    // A stream that has an end already: its side is only read for the closing tag.
    let ending = edge.before.deadline().is_some();
    if !stanza || !edge.before.is_bound() || ending {
        return Ok(());
    }
    let passed = edge
        .effects
        .iter()
        .filter(|effect| match edge.side {
            Side::Near => matches!(effect, Effect::Pass(..)),
            Side::Far(_) => matches!(effect, Effect::Deliver(_)),
        })
        .count();
    let ended = edge.effects.iter().any(|effect| match effect {
        Effect::Send(_, octets) => octets.ends_with(b"</stream:stream>"),
        _ => false,
    });
    let over = edge.before.is_done();
    if over || (passed == 1) != ended { Ok(()) } else { Err(format!("{:?}", edge.effects)) }
}

/// Every wait but that of a bound stream has a deadline, and moves when it comes.
pub fn bounded(edge: &Crossing<'_>) -> Result<(), String> {
    if !edge.after.is_done() {
        match edge.after.deadline() {
            None if edge.after.is_bound() => {}
            None => return Err(format!("no deadline: {:?}", edge.after)),
            Some(at) => {
                let mut later = edge.after.clone();
                later.step(Side::Near, Input::Expired, at);
                if !later.is_done() && later.deadline() == Some(at) {
                    return Err(format!("stuck: {:?}", edge.after));
                }
            }
        }
    }
    if edge.effects.len() >= 64 { Err("too many effects".into()) } else { Ok(()) }
}
