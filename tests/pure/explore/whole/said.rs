//! What may happen to a relay between servers: what each side says, and what comes from outside.

use std::sync::Arc;

use bytes::Bytes;
use gatehouse::policy::Policy;
use gatehouse::reason::Reason;
use gatehouse::relay::{ClaimId, Input, RelayParams, Side};
use gatehouse::stream::dane::{Dane, Usage};
use gatehouse::stream::evidence::Evidence;
use gatehouse::stream::{KeyAnswer, KeyCheck};
use gatehouse::xml::Token;

use super::super::laws::{counted as counted_outside, *};
use super::super::stage::*;

/// What backends send back over the stream of a peer, and what becomes of the way.
pub fn goes_back(listed: &Arc<Policy>) -> Vec<(Side, Input)> {
    let stanza =
        |from: &str, to: &str| format!("<message from='b@{from}' to='a@{to}'><body>x</body></message>");
    let back = |from: &str, to: &str| Input::Back(pair(from, to), stanza(from, to).into());
    let unsent = vec![stanza("hall.example", "friend.example").into()];
    let mut inputs = vec![
        back("hall.example", "friend.example"),
        back("annex.example", "friend.example"),
        back("hall.example", "stranger.example"),
        Input::Withdraw(pair("hall.example", "friend.example"), Reason::TooManyPairs),
        Input::Policy(Arc::clone(listed)),
        Input::Gone { reason: Reason::ConnectionLost, unsent },
        element("<bidi xmlns='urn:xmpp:bidi'/>"),
        element("<message from='b@hall.example' to='a@friend.example'/>"),
    ];
    let mut worthless = facts()[0].certificate.clone().unwrap();
    worthless.trust.default = Err(gatehouse::stream::TrustFault::Revoked);
    inputs.push(Input::Retrusted(worthless));
    all(Side::Near, inputs)
}

/// What a peer sends back over a leg of ours, and what becomes of it.
pub fn comes_back(side: Side) -> Vec<(Side, Input)> {
    let offers =
        format!("<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>{BIDI}</stream:features>");
    let mut inputs: Vec<_> = [
        offers.as_str(),
        "<message from='b@hall.example' to='a@friend.example'/>",
        "<message from='a@stranger.example' to='b@hall.example'/>",
        "<iq from='a@friend.example' to='b@hall.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
    ]
    .map(element)
    .into();
    inputs.extend(refused().into_iter().take(2).map(Input::Token));
    let came = "<message from='a@friend.example' to='b@hall.example'/>";
    inputs.push(Input::Refused(came.into(), Reason::SenderTooFast));
    let mut all = all(side, inputs);
    all.push((Side::Near, Input::Withdraw(pair("friend.example", "hall.example"), Reason::TooManyStreams)));
    all
}

pub const BIDI: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";

fn element(text: &str) -> Input {
    Input::Token(Token::Element(frame(text)))
}

fn all(side: Side, inputs: impl IntoIterator<Item = Input>) -> Vec<(Side, Input)> {
    inputs.into_iter().map(|input| (side, input)).collect()
}

/// What a peer says of counting, and what comes of it outside.
pub fn from_counting_peer() -> Vec<(Side, Input)> {
    let mut inputs: Vec<_> =
        counting().into_iter().skip(6).map(|frame| Input::Token(Token::Element(frame))).collect();
    inputs.extend(counted_outside());
    all(Side::Near, inputs)
}

/// A session broke whose peer had agreed to both ways: how much of what went back he had taken, or that nobody goes on with it.
pub fn gone_on() -> Vec<(Side, Input)> {
    all(Side::Near, [Input::GoneOn(0), Input::GoneOn(1), Input::Forsaken])
}

/// What comes from outside for the pair of a peer and the leg that it has: a report of the gateway's own, and a stanza that has no
/// room there.
pub fn beside(leg: Side) -> Vec<(Side, Input)> {
    let (friend, stranger) =
        (pair("friend.example", "hall.example"), pair("stranger.example", "hall.example"));
    vec![
        (Side::Near, Input::Report(friend, report("friend.example", "hall.example"))),
        (Side::Near, Input::Report(stranger, report("stranger.example", "hall.example"))),
        (leg, overflow("friend.example", "hall.example")),
    ]
}

/// An error that this gateway has written.
fn report(from: &str, to: &str) -> Bytes {
    format!("<message from='a@{from}' to='b@{to}' id='1' type='error'>{GONE}</message>").into()
}

const GONE: &str = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";

/// A stanza that did not fit.
pub fn overflow(from: &str, to: &str) -> Input {
    Input::Overflow(format!("<message from='a@{from}' to='b@{to}' id='1'><body>x</body></message>").into())
}

/// What domains publish about the certificate of the near leg: one that is waited for, and one that is not.
pub fn published() -> Vec<(Side, Input)> {
    let found = |name: &str, dane| Input::Inquired(Evidence { dane, ..Evidence::none(domain(name)) });
    let proven = Dane::Proven(Usage::DaneEe);
    all(
        Side::Near,
        [
            found("friend.example", proven),
            found("friend.example", Dane::Unlisted),
            found("stranger.example", proven),
        ],
    )
}

/// What peers do, proven or not. What each machine counts by itself (attempts, questions, answers that nobody asked for) is
/// in the machines' own graphs and not here, where it would only multiply.
pub fn from_peer() -> Vec<(Side, Input)> {
    let said = [
        &format!("<starttls xmlns='{TLS}'/>"),
        &format!("<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>"),
        "<db:result from='friend.example' to='hall.example'>k1</db:result>",
        "<db:result from='friend.example' to='hall.example'>k2</db:result>",
        "<db:result from='stranger.example' to='hall.example'>k1</db:result>",
        "<message from='a@friend.example' to='b@hall.example'><body>x</body></message>",
        "<message from='a@stranger.example' to='b@hall.example'><body>x</body></message>",
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<unknown xmlns='urn:example'/>",
    ];
    let mut inputs: Vec<_> = said.map(element).into();
    inputs.extend(refused().into_iter().step_by(3).map(Input::Token));
    for names in [("friend.example", "hall.example"), ("stranger.example", "hall.example")] {
        inputs.push(greeting(names));
    }
    inputs.push(Input::Token(Token::End));
    inputs.extend(facts().into_iter().take(1).map(Input::Secured));
    inputs.extend([Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }, Input::Stalled]);
    for claim in [1, 3] {
        for answer in [KeyAnswer::Valid, KeyAnswer::Invalid] {
            inputs.push(Input::Verified(ClaimId(claim), answer));
        }
    }
    all(Side::Near, inputs)
}

fn greeting((from, to): (&str, &str)) -> Input {
    let header = headers()
        .into_iter()
        .find(|header| header.from.as_deref() == Some(from) && header.to.as_deref() == Some(to));
    Input::Token(Token::Header(header.unwrap()))
}

/// What a backend does on the stream that it opened, and what comes from outside: couriers without room, reports, and other params, in
/// which its domain is not served any more.
pub fn from_caller(moved: &Arc<RelayParams>) -> Vec<(Side, Input)> {
    let said = [
        "<db:result from='hall.example' to='friend.example'>k1</db:result>",
        "<db:result from='hall.example' to='stranger.example'>k1</db:result>",
        "<db:verify from='friend.example' to='hall.example' id='i'>k1</db:verify>",
        "<message from='b@hall.example' to='a@friend.example'><body>x</body></message>",
        "<message from='b@hall.example' to='a@stranger.example'><body>x</body></message>",
        "<message from='a@friend.example' to='b@hall.example'><body>x</body></message>",
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<unknown xmlns='urn:example'/>",
    ];
    let mut inputs: Vec<_> = said.map(element).into();
    inputs.extend(refused().into_iter().map(Input::Token));
    inputs.push(greeting(("hall.example", "friend.example")));
    inputs.push(Input::Token(Token::End));
    inputs.extend([Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }, Input::Stalled]);
    let check =
        KeyCheck { pair: pair("friend.example", "hall.example"), stream: "i".into(), key: "k1".into() };
    inputs.extend([true, false].map(|known| Input::Vouched(check.clone(), known)));
    inputs.push(overflow("hall.example", "friend.example"));
    inputs.push(Input::Report(
        pair("friend.example", "hall.example"),
        report("friend.example", "hall.example"),
    ));
    inputs.push(Input::RelayParams(Arc::clone(moved)));
    all(Side::Near, inputs)
}

/// What a backend does on a stream that we opened.
pub fn from_backend(side: Side) -> Vec<(Side, Input)> {
    let said = [
        "<db:result from='hall.example' to='friend.example' type='valid'/>",
        "<db:result from='hall.example' to='friend.example' type='invalid'/>",
        "<db:verify from='friend.example' to='hall.example' id='i' type='valid'/>",
        "<stream:error><invalid-from xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<message from='b@hall.example' to='a@friend.example'/>",
    ];
    let mut inputs: Vec<_> = said.map(element).into();
    // The header of a server without a version.
    inputs.extend(headers().into_iter().skip(8).take(1).map(|h| Input::Token(Token::Header(h))));
    inputs.extend(leg());
    all(side, inputs)
}

/// What it says of counting there.
pub fn from_counter(side: Side) -> Vec<(Side, Input)> {
    all(side, counting().into_iter().map(|frame| Input::Token(Token::Element(frame))))
}

/// What a server in the world does on a stream that we opened.
pub fn from_world(side: Side) -> Vec<(Side, Input)> {
    let tls = format!("xmlns='{TLS}'");
    let sasl = format!("xmlns='{SASL}'");
    let said = [
        "<db:result from='friend.example' to='hall.example' type='valid'/>",
        "<db:result from='friend.example' to='hall.example' type='invalid'/>",
        "<db:verify from='friend.example' to='hall.example' id='i' type='valid'/>",
        &format!("<proceed {tls}/>"),
        &format!("<success {sasl}/>"),
        &format!("<failure {sasl}><not-authorized/></failure>"),
        &format!(
            "<stream:features><starttls {tls}/><mechanisms {sasl}><mechanism>EXTERNAL</mechanism></mechanisms>\
             <dialback xmlns='urn:xmpp:features:dialback'/></stream:features>"
        ),
        "<message from='a@friend.example' to='b@hall.example'/>",
    ];
    let mut inputs: Vec<_> = said.map(element).into();
    inputs.extend(headers().into_iter().skip(9).take(1).map(|h| Input::Token(Token::Header(h))));
    inputs.extend(facts().into_iter().take(1).map(Input::Secured));
    inputs.extend(leg());
    all(side, inputs)
}

/// What happens to any leg that we opened.
fn leg() -> Vec<Input> {
    let unsent = vec!["<message from='a@friend.example' to='b@hall.example'/>".into()];
    vec![
        Input::Connected([192, 0, 2, 9].into(), None),
        Input::Unreachable(Reason::RemoteUnreachable.into()),
        Input::Token(Token::End),
        Input::Gone { reason: Reason::ConnectionLost, unsent },
        Input::Yield,
        Input::Close(Reason::TooManyPairs),
    ]
}

/// What time, the operator and the process do.
pub fn any_time(none: &Arc<Policy>) -> Vec<(Side, Input)> {
    all(
        Side::Near,
        [
            Input::Expired,
            Input::Drain,
            Input::Overtaken,
            Input::Policy(Arc::clone(none)),
            Input::Close(Reason::ClosedByOperator),
        ],
    )
}
