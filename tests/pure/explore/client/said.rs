//! What may happen to a relay of a client, by what of its life it belongs to.

use std::sync::Arc;

use gatehouse::policy::Policy;
use gatehouse::reason::Reason;
use gatehouse::relay::{Input, RelayParams, Side};
use gatehouse::stream::{PresentedName, Secured, TrustFault};
use gatehouse::xml::{Content, Framer, Limits, Token};

use super::super::client_laws::*;
use super::super::laws::{SASL, TLS};
use super::super::stage::*;
use super::past::{CUT, DENIED};

pub type Happens = Vec<(Side, Input)>;

fn elements(side: Side, texts: &[&str]) -> Happens {
    texts.iter().map(|text| (side, Input::Token(Token::Element(frame(text))))).collect()
}

fn near(texts: &[&str]) -> Happens {
    elements(Side::Near, texts)
}

fn far(texts: &[&str]) -> Happens {
    elements(FAR, texts)
}

fn header(side: Side, attrs: &str) -> Happens {
    vec![(side, Input::Token(Token::Header(client_header(attrs))))]
}

/// This begun element with something in it that we do not pass, closed and refused.
fn refused(side: Side, begun: &str) -> Happens {
    let name = begun[1..].split([' ', '>']).next().unwrap();
    let mut framer = Framer::new(Limits::default(), Content::Client);
    framer.feed(&gatehouse::stream::client::opening(None, None, None, None));
    framer.feed(format!("{begun}<\u{e9}/></{name}>").as_bytes());
    framer.next();
    let token = framer.next().unwrap();
    assert!(matches!(token, Token::Refused(_)), "{begun}: {token:?}");
    vec![(side, Input::Token(token))]
}

/// The streams themselves: headers, ends, white space, connections that come and go, and time.
pub fn streams() -> Happens {
    let mut all = header(Side::Near, " to='hall.example' version='1.0'");
    all.extend(header(Side::Near, " to='nowhere.example' version='1.0'"));
    all.extend(header(FAR, " id='s' from='hall.example' version='1.0'"));
    for side in [Side::Near, FAR] {
        for token in [Token::End, Token::Keepalive, Token::Text] {
            all.push((side, Input::Token(token)));
        }
        all.push((side, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }));
        all.push((side, Input::Stalled));
    }
    all.push((FAR, Input::Connected([192, 0, 2, 9].into(), None)));
    all.push((FAR, Input::Unreachable(Reason::BackendDown.into())));
    all.push((FAR, Input::Overflow("<message/>".into())));
    all.push((Side::Near, Input::Expired));
    all.extend(elements(FAR, &["<unknown xmlns='urn:example'/>", HOST_UNKNOWN, MOVED]));
    all.extend(near(&[RESET]));
    all
}

const RESET: &str = "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";

const HOST_UNKNOWN: &str = "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
     <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>ask inside.lan</text></stream:error>";

const MOVED: &str = "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>inside.lan\
     </see-other-host></stream:error>";

/// What the operator and the process do.
pub fn operator(gone: &Arc<RelayParams>, banned: &Arc<Policy>) -> Happens {
    [
        Input::Drain,
        Input::Close(Reason::ClosedByOperator),
        Input::RelayParams(Arc::clone(gone)),
        Input::Policy(Arc::clone(banned)),
    ]
    .map(|input| (Side::Near, input))
    .into()
}

/// Before TLS, where nothing but the way to it has a place.
pub fn clear() -> Happens {
    let mut all = near(&[
        &format!("<starttls xmlns='{TLS}'/>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGFsaWNlAHB3</auth>"),
        "<message to='bob@hall.example'><body>x</body></message>",
        "<iq type='set' id='l1'><query xmlns='jabber:iq:auth'/></iq>",
        "<result xmlns='jabber:server:dialback'/>",
    ]);
    all.extend(header(Side::Near, " to='hall.example'"));
    all.extend(header(Side::Near, " to='hall.example' from='alice@hall.example' version='1.0'"));
    all.push((Side::Near, Input::Secured(secured("", &[]))));
    all
}

/// Whether what was asked for may be tried.
pub fn leave() -> Happens {
    [Ok(()), Err(Reason::LoginThrottled)].map(|leave| (Side::Near, Input::Tried(leave))).into()
}

/// The login of RFC 6120 as it comes out well, and as it fails.
pub fn login() -> Happens {
    let mut all = near(&[
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGFsaWNlAHB3</auth>"),
        &format!("<abort xmlns='{SASL}'/>"),
    ]);
    all.extend(far(&[
        &format!("<stream:features>{}<odd xmlns='urn:example'/></stream:features>", plain()),
        "<stream:features/>",
        &format!("<failure xmlns='{SASL}'><not-authorized/></failure>"),
        &format!("<success xmlns='{SASL}'/>"),
    ]));
    all.extend(leave());
    all
}

/// All the rest of it: what is malformed or not offered, challenges, and failures of other kinds.
pub fn more_of_login() -> Happens {
    let mut all = near(&[
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'/>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>?</auth>"),
        &format!("<auth xmlns='{SASL}' mechanism='GSSAPI'>=</auth>"),
        &format!("<response xmlns='{SASL}'>AGFsaWNlAHB3</response>"),
        &format!("<response xmlns='{SASL}'>?</response>"),
        &format!("<success xmlns='{SASL}'/>"),
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<unknown xmlns='urn:example'/>",
    ]);
    all.extend(far(&[
        &format!(
            "<stream:features><starttls xmlns='{TLS}'><required/></starttls>{}</stream:features>",
            plain()
        ),
        &format!("<challenge xmlns='{SASL}'>PQ==</challenge>"),
        &format!("<challenge xmlns='{SASL}'>?</challenge>"),
        &format!("<failure xmlns='{SASL}'><temporary-auth-failure/></failure>"),
        &format!("<failure xmlns='{SASL}'><malformed-request/></failure>"),
        &format!("<failure xmlns='{SASL2}'><not-authorized xmlns='{SASL}'/></failure>"),
    ]));
    all
}

fn plain() -> String {
    format!("<mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms>")
}

/// An account is asked for.
pub fn registration() -> Happens {
    let mut all = near(&[
        "<iq type='get' id='r1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='set' id='r1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='set' id='r2'><query xmlns='jabber:iq:register'/></iq>",
    ]);
    all.extend(far(&[
        "<iq type='result' id='r1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='error' id='r2'><error type='cancel'/></iq>",
    ]));
    all
}

/// Extensible SASL, with Bind 2 and with a session that goes on.
pub fn login2() -> Happens {
    let with = |more: &str| {
        format!(
            "<authenticate xmlns='{SASL2}' mechanism='PLAIN'><initial-response>AGFsaWNlAHB3</initial-response>{more}\
             </authenticate>"
        )
    };
    let said = |identifier: &str, more: &str| {
        format!(
            "<success xmlns='{SASL2}'><authorization-identifier>{identifier}</authorization-identifier>{more}</success>"
        )
    };
    let mut all = near(&[
        &with(""),
        &with("<bind xmlns='urn:xmpp:bind:0'/>"),
        &with("<resume xmlns='urn:xmpp:sm:3' h='0' previd='s'/>"),
        &format!("<abort xmlns='{SASL2}'/>"),
    ]);
    all.extend(far(&[
        &format!(
            "<stream:features><authentication xmlns='{SASL2}'><mechanism>PLAIN</mechanism><inline>\
             <sm xmlns='urn:xmpp:sm:3'/><bind xmlns='urn:xmpp:bind:0'/></inline></authentication></stream:features>"
        ),
        &format!("<failure xmlns='{SASL2}'><not-authorized xmlns='{SASL}'/></failure>"),
        &said("alice@hall.example", ""),
        &said("eve@evil.example", ""),
        &said(
            ME,
            "<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' location='inside.lan'/></bound>",
        ),
        &said("alice@hall.example", "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='s'/>"),
    ]));
    all.extend(leave());
    all
}

/// All the rest of that.
pub fn more_of_login2() -> Happens {
    let mut all = near(&[
        &format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'/>"),
        &format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'><odd xmlns='urn:example'/></authenticate>"),
        &format!("<response xmlns='{SASL2}'>=</response>"),
        &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGFsaWNlAHB3</auth>"),
        "<iq type='get' id='r1'><query xmlns='jabber:iq:register'/></iq>",
        "<r xmlns='urn:xmpp:sm:3'/>",
    ]);
    all.extend(far(&[
        &format!("<challenge xmlns='{SASL2}'>PQ==</challenge>"),
        &format!("<challenge xmlns='{SASL}'>PQ==</challenge>"),
        &format!("<failure xmlns='{SASL2}'><temporary-auth-failure xmlns='{SASL}'/></failure>"),
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
    ]));
    all
}

/// An address is bound.
pub fn bind() -> Happens {
    let mut all = near(&[&format!("<iq type='set' id='b1'><bind xmlns='{BIND}'/></iq>")]);
    all.extend(far(&[
        &format!("<stream:features><bind xmlns='{BIND}'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>"),
        &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'><jid>{ME}</jid></bind></iq>"),
    ]));
    all
}

/// What else is said between the login and the first stanza.
pub fn more_of_bind() -> Happens {
    let mut all = near(&[
        "<iq type='set' id='s1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
        &format!("<iq type='set' id='b2' from='eve@hall.example'><bind xmlns='{BIND}'/></iq>"),
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<active xmlns='urn:xmpp:csi:0'/>",
        "<iq type='set' id='l1'><query xmlns='jabber:iq:auth'/></iq>",
        "<message to='bob@hall.example'><body>x</body></message>",
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
        &format!("<starttls xmlns='{TLS}'/>"),
    ]);
    all.extend(far(&[
        &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'><jid>eve@evil.example/r</jid></bind></iq>"),
        "<iq type='error' id='b1'><error type='cancel'/></iq>",
        "<iq type='result' id='s1'/>",
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
        "<failed xmlns='urn:xmpp:sm:3'/>",
        "<message from='bob@hall.example/x' to='alice@hall.example/r'><body>x</body></message>",
    ]));
    all
}

/// Stanzas both ways, one each.
pub fn stanzas() -> Happens {
    let mut all = near(&["<message to='bob@hall.example'><body>x</body></message>"]);
    all.extend(far(&[
        "<message from='bob@hall.example/x' to='alice@hall.example/r'><body>x</body></message>",
    ]));
    all
}

/// Every kind of stanza, and what may not pass.
pub fn more_stanzas() -> Happens {
    let mut all = near(&[
        &format!("<message from='{ME}' to='bob@hall.example' xml:lang='nl'/>"),
        "<message from='bob@hall.example' to='alice@hall.example'/>",
        "<message xmlns='jabber:server' to='bob@hall.example'/>",
        "<presence/>",
        "<iq type='get' id='p1'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='set' id='u1'><unbind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        "<iq type='set' id='l1'><query xmlns='jabber:iq:auth'/></iq>",
        "<stream:features/>",
        "<unknown xmlns='urn:example'/>",
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
    ]);
    all.extend(far(&[
        "<presence from='bob@hall.example/x' to='alice@hall.example/r'/>",
        "<iq type='result' id='p1'/>",
        &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'><jid>{ME}</jid></bind></iq>"),
        "<stream:features/>",
    ]));
    for (from_client, from_server) in [
        ("<message to='bob@hall.example'>", "<message from='bob@hall.example/x'>"),
        ("<message type='error' to='bob@hall.example'>", "<message type='error' from='bob@hall.example/x'>"),
        ("<presence>", "<presence from='bob@hall.example/x'>"),
        (
            "<presence type='subscribe' to='bob@hall.example'>",
            "<presence type='subscribe' from='bob@hall.example'>",
        ),
        (
            "<iq type='get' id='1' to='bob@hall.example/x'>",
            "<iq type='get' id='1' from='bob@hall.example/x'>",
        ),
        (
            "<iq type='result' id='2' to='bob@hall.example/x'>",
            "<iq type='result' id='2' from='bob@hall.example/x'>",
        ),
    ] {
        all.extend(refused(Side::Near, from_client));
        all.extend(refused(FAR, from_server));
    }
    all.extend(refused(Side::Near, "<message from='bob@hall.example'>"));
    // And what patches say of some.
    for namespace in [DENIED, CUT] {
        for (side, address) in [(Side::Near, "to='bob@hall.example'"), (FAR, "from='bob@hall.example/x'")] {
            for stanza in ["message", "iq type='get' id='3'", "presence"] {
                let name = stanza.split(' ').next().unwrap();
                let text = format!("<{stanza} {address}><x xmlns='{namespace}'/></{name}>");
                all.extend(elements(side, &[&text]));
            }
        }
    }
    all
}

/// Stream management (XEP-0198) and client state on a stream that has its address.
pub fn management() -> Happens {
    let mut all = near(&[
        "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
        "<enabled xmlns='urn:xmpp:sm:3'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
        "<inactive xmlns='urn:xmpp:csi:0'/>",
    ]);
    all.extend(far(&[
        "<enabled xmlns='urn:xmpp:sm:3' id='s' location='inside.lan'/>",
        "<failed xmlns='urn:xmpp:sm:3'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='s'/>",
    ]));
    all
}

/// A channel whose certificate names these accounts.
pub fn certified(accounts: &[&str]) -> Secured {
    let mut channel = secured("hall.example", &["nobody.example"]);
    let shown = channel.certificate.as_mut().unwrap();
    shown.names = accounts.iter().map(|account| PresentedName::Xmpp((*account).to_owned())).collect();
    shown.of_client = Some(domain("hall.example"));
    channel
}

/// The certificate is worth something else.
pub fn judged_again() -> Happens {
    let good = certified(&["alice@hall.example"]).certificate.clone().unwrap();
    let other = certified(&["bob@hall.example"]).certificate.clone().unwrap();
    let mut revoked = good.clone();
    revoked.trust.default = Err(TrustFault::Revoked);
    [good, other, revoked].map(|shown| (Side::Near, Input::Retrusted(shown))).into()
}
