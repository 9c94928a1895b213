//! What clients write beside stanzas, what servers answer, and what the gateway makes of it, as one table: played by the pure relay
//! (tests/pure/client_dialogues.rs) and by real servers behind the gateway (tests/servers/clients.rs).
//!
//! What Prosody 0.12.3 and 13.0.1 and ejabberd 23.01 and 24.12 answer is asked of each, on streams of its own: all but STARTTLS, which they have
//! not behind the gateway; that was read in their sources.
#![allow(dead_code)]

/// How far the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// In clear; the features were offered.
    Clear,
    /// Under TLS; no login yet.
    Secured,
    /// Logged in; no bind yet.
    LoggedIn,
    /// Bound.
    Bound,
}

/// What the gateway does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// It answers itself, with this, and the stream goes on.
    Answers(&'static str),
    /// The server hears it, and whatever it answers the client hears; the stream goes on.
    Passes,
    /// It is dropped and counted; the stream goes on.
    Drops,
    /// The stream ends, with this.
    Ends(&'static str),
}

/// One row.
pub struct Dialogue {
    pub at: At,
    pub says: &'static str,
    /// What is in Prosody's answer; empty for none.
    pub prosody: &'static str,
    /// What is in ejabberd's.
    pub ejabberd: &'static str,
    pub ours: Ours,
    /// Why it is another thing than what servers do, or which row of the requirements it is.
    pub why: &'static str,
}

const fn row(
    at: At,
    says: &'static str,
    (prosody, ejabberd): (&'static str, &'static str),
    ours: Ours,
    why: &'static str,
) -> Dialogue {
    Dialogue { at, says, prosody, ejabberd, ours, why }
}

use At::{Bound, Clear, LoggedIn, Secured};
use Ours::{Answers, Drops, Ends, Passes};

const UNEXPECTED: &str = "<unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";

pub const DIALOGUES: &[Dialogue] = &[
    // -- in clear
    row(
        Clear,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls' id='5'/>",
        ("<proceed", "<proceed"),
        Answers("<proceed "),
        "TLS-02: loudmouth writes an id",
    ),
    row(
        Clear,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'> <required/></starttls>",
        ("<proceed", "<proceed"),
        Answers("<proceed "),
        "TLS-02",
    ),
    row(
        Clear,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\n",
        ("<proceed", "<proceed"),
        Answers("<proceed "),
        "TLS-05: go-xmpp writes a line feed in the same write",
    ),
    row(
        Clear,
        "<enable xmlns='urn:xmpp:sm:3'/>",
        ("unexpected-request", "policy-violation"),
        Ends("<unsupported-stanza-type "),
        "table 0.3: in clear nothing but STARTTLS has a place",
    ),
    row(
        Clear,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        ("encryption-required", "encryption-required"),
        Ends("<not-authorized "),
        "C2S-01: a password that was said in clear is told by the end of the stream",
    ),
    // -- before the login
    row(
        Secured,
        "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
        ("service-unavailable", "not-authorized"),
        Answers(UNEXPECTED),
        "SM-10, XEP-0198 3: their conditions are others",
    ),
    row(
        Secured,
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        ("item-not-found", "not-authorized"),
        Answers(UNEXPECTED),
        "SM-10",
    ),
    row(
        Secured,
        "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>",
        ("service-unavailable", "not-authorized"),
        Answers("<service-unavailable "),
        "C2S-08: not enabled here",
    ),
    row(
        Secured,
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        ("unsupported-stanza-type", "setup-failed"),
        Answers("<setup-failed/>"),
        "SM-07",
    ),
    row(
        Secured,
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>YQ==</response>",
        ("not-authorized", "not-authorized"),
        Answers("<malformed-request/>"),
        "C2S-10: another condition than theirs, and no guess either",
    ),
    row(
        Secured,
        "<message to='scribe@hall.example'/>",
        ("service-unavailable", "not-authorized"),
        Ends("<not-authorized "),
        "STR-16: no stanza before the login",
    ),
    row(
        Secured,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ("<failure", "<failure"),
        Ends("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"),
        "TLS-03",
    ),
    // -- before the bind
    row(
        LoggedIn,
        "<enable xmlns='urn:xmpp:sm:3'/>",
        ("unexpected-request", "not-authorized"),
        Answers(UNEXPECTED),
        "SM-10: ejabberd's condition is another",
    ),
    row(
        LoggedIn,
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        ("<failed", "<failed"),
        Passes,
        "SM-05: the session is the server's",
    ),
    row(
        LoggedIn,
        "<message to='scribe@hall.example'/>",
        ("error", ""),
        Ends("<not-authorized "),
        "STR-16: no stanza before the bind",
    ),
    // -- bound
    row(
        Bound,
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        ("<failed", "<failed"),
        Passes,
        "table 0.3: xmpp.js sends it with SASL2",
    ),
    row(
        Bound,
        "<enable xmlns='urn:xmpp:sm:3'/><enable xmlns='urn:xmpp:sm:3'/>",
        ("unexpected-request", "unexpected-request"),
        Passes,
        "table 0.3: the second one is refused by the server",
    ),
    row(
        Bound,
        "<iq type='set' id='b2'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        ("error", "error"),
        Passes,
        "C2S-16: a result would end the stream (C2S-13)",
    ),
    row(
        Bound,
        "<iq type='set' id='u2'><unbind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>x</resource></unbind></iq>",
        ("error", "error"),
        Passes,
        "C2S-16",
    ),
    row(Bound, "<enabled xmlns='urn:xmpp:sm:3' id='x'/>", ("", ""), Drops, "table 0.3"),
    row(
        Bound,
        "<failed xmlns='urn:xmpp:sm:3'/>",
        ("unsupported-stanza-type", ""),
        Drops,
        "table 0.3, as ejabberd",
    ),
    row(Bound, "<stream:features/>", ("", ""), Drops, "table 0.3"),
    row(
        Bound,
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        ("aborted", "aborted"),
        Drops,
        "table 0.3: what it aborts is over here, and the answer would be the gateway's own word",
    ),
    row(
        Bound,
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>YQ==</response>",
        ("not-authorized", "not-authorized"),
        Drops,
        "table 0.3: as an abort",
    ),
    row(Bound, "text between elements", ("", ""), Drops, "table 0.3"),
    row(
        Bound,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        ("unsupported-stanza-type", "not-authorized"),
        Ends("<unsupported-stanza-type "),
        "as Prosody: who logs in twice on one stream is not who he was",
    ),
    row(
        Bound,
        "<unknown xmlns='urn:example'/>",
        ("unsupported-stanza-type", ""),
        Ends("<unsupported-stanza-type "),
        "table 0.3, as Prosody",
    ),
    row(
        Bound,
        "<iq type='set' id='1'><query xmlns='jabber:iq:auth'/></iq>",
        ("service-unavailable", "service-unavailable"),
        Ends("<policy-violation "),
        "C2S-08: never, whatever the server would make of it",
    ),
    row(
        Bound,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ("<failure", "<failure"),
        Ends("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"),
        "TLS-03",
    ),
];
