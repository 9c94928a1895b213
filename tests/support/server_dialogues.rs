//! What servers write beside stanzas, what servers answer, and what the gateway makes of it, as one table; each row is asked of real
//! servers and of the gateway by tests/servers/server_dialogues.rs.
#![allow(dead_code)]

/// How far the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// In clear; the features were offered.
    Clear,
    /// Under TLS; nothing proven yet.
    Secured,
    /// Proven by a certificate.
    Proven,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// This is answered, and the stream goes on.
    Answers(&'static str),
    /// Nothing is answered, and the stream goes on.
    Silent,
    /// The stream ends, with this.
    Ends(&'static str),
}

/// One row.
pub struct Dialogue {
    pub at: At,
    pub says: &'static str,
    /// Prosody 0.12.3 and 13.0.1, ejabberd 23.01 and 24.12.
    pub servers: [Then; 4],
    pub ours: Then,
    /// Why it is another thing than what servers do, or which row of the requirements it is.
    pub why: &'static str,
}

const fn row(at: At, says: &'static str, servers: [Then; 4], ours: Then, why: &'static str) -> Dialogue {
    Dialogue { at, says, servers, ours, why }
}

use At::{Clear, Proven, Secured};
use Then::{Answers, Ends, Silent};

/// Of one mind in both generations.
const fn both(prosody: Then, ejabberd: Then) -> [Then; 4] {
    [prosody, prosody, ejabberd, ejabberd]
}

pub const DIALOGUES: &[Dialogue] = &[
    row(
        Clear,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls' id='5'> <required/></starttls>",
        both(Answers("<proceed"), Answers("<proceed")),
        Answers("<proceed"),
        "TLS-02",
    ),
    row(Clear, " ", both(Silent, Silent), Silent, "XML-14"),
    row(Clear, "text", both(Silent, Silent), Ends("<bad-format"), "XML-14: between stanzas only white space"),
    row(
        Clear,
        "<enable xmlns='urn:xmpp:sm:3'/>",
        both(Ends("<unsupported-stanza-type"), Ends("<policy-violation")),
        Answers("<unexpected-request"),
        "SM-01, XEP-0198 3: not before a proof",
    ),
    row(
        Clear,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
        both(Ends("<unsupported-stanza-type"), Answers("<encryption-required")),
        Answers("<encryption-required"),
        "as ejabberd",
    ),
    row(
        Clear,
        "<db:verify from='friend.example' to='@HOME@' id='x'>abc</db:verify>",
        both(Answers("type='invalid'"), Ends("<policy-violation")),
        Answers("<policy-violation"),
        "table 0.3: in clear nothing is said about keys",
    ),
    row(
        Clear,
        "<message from='a@friend.example' to='@USER@'><body>x</body></message>",
        both(Silent, Ends("<policy-violation")),
        Ends("<not-authorized"),
        "STR-16, as ejabberd",
    ),
    row(
        Clear,
        "<unknown xmlns='urn:example'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Clear,
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        both(Ends("<unsupported-stanza-type"), Answers("<setup-failed")),
        Answers("<setup-failed"),
        "table 0.3, as ejabberd",
    ),
    row(
        Clear,
        "<stream:features/>",
        both(Answers("<starttls"), Ends("<policy-violation")),
        Ends("<unsupported-stanza-type"),
        "table 0.3; ejabberd ends it too, by another condition",
    ),
    row(
        Clear,
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        both(Ends("</stream:stream>"), Ends("</stream:stream>")),
        Ends("</stream:stream>"),
        "their end",
    ),
    row(Secured, " ", both(Silent, Silent), Silent, "XML-14"),
    row(
        Secured,
        "text",
        both(Silent, Silent),
        Ends("<bad-format"),
        "XML-14: between stanzas only white space",
    ),
    row(
        Secured,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        both(Ends("<failure"), Ends("<failure")),
        Ends("<failure"),
        "TLS-03",
    ),
    row(
        Secured,
        "<enable xmlns='urn:xmpp:sm:3'/>",
        both(Ends("<unsupported-stanza-type"), Ends("<not-authorized")),
        Answers("<unexpected-request"),
        "SM-01, XEP-0198 3: not before a proof",
    ),
    row(
        Secured,
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        both(Ends("<unsupported-stanza-type"), Ends("<not-authorized")),
        Answers("<unexpected-request"),
        "SM-01, XEP-0198 5: not before a proof",
    ),
    row(
        Secured,
        "<r xmlns='urn:xmpp:sm:3'/>",
        both(Ends("<unsupported-stanza-type"), Ends("<not-authorized")),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Secured,
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        both(Silent, Answers("<aborted")),
        Answers("<aborted"),
        "as ejabberd",
    ),
    row(
        Secured,
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>YQ==</response>",
        both(Silent, Answers("<not-authorized")),
        Answers("<not-authorized"),
        "as ejabberd: no exchange is under way",
    ),
    row(
        Secured,
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Secured,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        both(Answers("<invalid-mechanism"), Answers("<invalid-mechanism")),
        Answers("<invalid-mechanism"),
        "as ejabberd",
    ),
    row(
        Secured,
        "<message from='a@friend.example' to='@USER@'><body>x</body></message>",
        both(Silent, Ends("<not-authorized")),
        Ends("<not-authorized"),
        "STR-16, as ejabberd",
    ),
    row(
        Secured,
        "<iq type='set' id='b' from='friend.example' to='@HOME@'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        both(Silent, Ends("<not-authorized")),
        Ends("<not-authorized"),
        "STR-16, as ejabberd",
    ),
    row(
        Secured,
        "<db:verify from='friend.example' to='@HOME@' id='x'>abc</db:verify>",
        both(Answers("type='invalid'"), Answers("type='invalid'")),
        Answers("type='invalid'"),
        "as both",
    ),
    row(
        Secured,
        "<db:verify from='friend.example' to='@HOME@' id='x' type='valid'/>",
        both(Silent, Ends("<not-authorized")),
        Silent,
        "DB-08: nobody asked",
    ),
    row(
        Secured,
        "<db:result from='friend.example' to='@HOME@' type='valid'/>",
        both(Silent, Ends("<not-authorized")),
        Silent,
        "DB-08: nobody asked",
    ),
    row(
        Secured,
        "<db:result to='@HOME@'>abc</db:result>",
        both(Ends("<improper-addressing"), Answers("<bad-request")),
        Ends("<improper-addressing"),
        "DB-02, as Prosody",
    ),
    row(
        Secured,
        "<unknown xmlns='urn:example'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Secured,
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        both(Ends("<unsupported-stanza-type"), Answers("<setup-failed")),
        Answers("<setup-failed"),
        "table 0.3, as ejabberd",
    ),
    row(
        Secured,
        "<stream:features/>",
        both(Ends("<unsupported-feature"), Ends("<not-authorized")),
        Ends("<unsupported-stanza-type"),
        "table 0.3; Prosody ends it too, by another condition",
    ),
    row(
        Secured,
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        both(Ends("</stream:stream>"), Ends("</stream:stream>")),
        Ends("</stream:stream>"),
        "their end",
    ),
    row(
        Secured,
        "<bidi xmlns='urn:xmpp:bidi'/>",
        [Ends("<unsupported-stanza-type"), Ends("<unsupported-stanza-type"), Silent, Ends("<not-authorized")],
        Silent,
        "SM-08: it is agreed on here; the servers of these dialogues have no module for it",
    ),
    row(
        Secured,
        "<inactive xmlns='urn:xmpp:csi:0'/>",
        both(Ends("<unsupported-stanza-type"), Ends("<not-authorized")),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(Proven, " ", both(Silent, Silent), Silent, "XML-14"),
    row(
        Proven,
        "text",
        both(Silent, Silent),
        Ends("<bad-format"),
        "XML-14: between stanzas only white space",
    ),
    row(
        Proven,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        both(Ends("<failure"), Ends("<failure")),
        Ends("<failure"),
        "TLS-03",
    ),
    row(
        Proven,
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<enable xmlns='urn:xmpp:sm:3'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Answers("<enabled"),
        "SM-01, XEP-0198 3",
    ),
    row(
        Proven,
        "<enable xmlns='urn:xmpp:sm:2'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<enable xmlns='urn:xmpp:sm:3'/><enable xmlns='urn:xmpp:sm:3'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Answers("<enabled"),
        "SM-01, XEP-0198 3",
    ),
    row(
        Proven,
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Answers("<item-not-found"),
        "SM-01, XEP-0198 5: there is none of that name",
    ),
    row(
        Proven,
        "<r xmlns='urn:xmpp:sm:3'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<a xmlns='urn:xmpp:sm:3' h='0'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<enabled xmlns='urn:xmpp:sm:3' id='x'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "SM-01, XEP-0198 3: told that there is none",
    ),
    row(
        Proven,
        "<failed xmlns='urn:xmpp:sm:3'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
        both(Ends("<unsupported-stanza-type"), Answers("<not-authorized")),
        Answers("<invalid-mechanism"),
        "as ejabberd, by another condition",
    ),
    row(
        Proven,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        both(Ends("<unsupported-stanza-type"), Answers("<not-authorized")),
        Answers("<invalid-mechanism"),
        "as ejabberd, by another condition",
    ),
    row(
        Proven,
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        both(Silent, Answers("<aborted")),
        Answers("<aborted"),
        "as ejabberd",
    ),
    row(
        Proven,
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>YQ==</response>",
        both(Silent, Answers("<not-authorized")),
        Answers("<not-authorized"),
        "as ejabberd: no exchange is under way",
    ),
    row(
        Proven,
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<stream:features/>",
        both(Ends("<unsupported-feature"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3; Prosody ends it too, by another condition",
    ),
    row(
        Proven,
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        both(Ends("</stream:stream>"), Ends("</stream:stream>")),
        Ends("</stream:stream>"),
        "their end",
    ),
    row(
        Proven,
        "<db:result from='friend.example' to='@HOME@' type='valid'/>",
        both(Silent, Silent),
        Silent,
        "DB-08: nobody asked",
    ),
    row(
        Proven,
        "<db:verify from='friend.example' to='@HOME@' id='x' type='valid'/>",
        both(Silent, Silent),
        Silent,
        "DB-08: nobody asked",
    ),
    row(
        Proven,
        "<db:result to='@HOME@'>abc</db:result>",
        both(Ends("<improper-addressing"), Answers("<bad-request")),
        Ends("<improper-addressing"),
        "DB-02, as Prosody",
    ),
    row(
        Proven,
        "<db:verify from='friend.example' to='@HOME@'>abc</db:verify>",
        both(Silent, Answers("<bad-request")),
        Ends("<improper-addressing"),
        "DB-02",
    ),
    row(
        Proven,
        "<db:verify from='friend.example' to='nowhere.example' id='n'>abc</db:verify>",
        both(Ends("<unsupported-stanza-type"), Answers("type='invalid'")),
        Answers("<item-not-found"),
        "DB-02: another condition than that of ejabberd",
    ),
    row(
        Proven,
        "<db:other from='friend.example' to='@HOME@'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<unknown xmlns='urn:example'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<unknown xmlns='urn:example' from='a@friend.example' to='@USER@'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<unknown/>",
        both(Ends("<not-authorized"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3; Prosody ends it too, by another condition",
    ),
    row(
        Proven,
        "<message xmlns='jabber:client' from='a@friend.example' to='@USER@'/>",
        both(Silent, Silent),
        Ends("<unsupported-stanza-type"),
        "STR-17: a look-alike of a stanza",
    ),
    row(
        Proven,
        "<iq type='set' id='b' from='friend.example' to='@HOME@'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        both(Silent, Silent),
        Silent,
        "the addressee's server answers, over the stream of the other way",
    ),
    row(
        Proven,
        "<iq type='get' id='q' from='friend.example' to='@HOME@'><query xmlns='urn:example'/></iq>",
        both(Silent, Silent),
        Silent,
        "the addressee's server answers, over the stream of the other way",
    ),
    row(
        Proven,
        "<iq type='other' id='q' from='friend.example' to='@HOME@'><query xmlns='urn:example'/></iq>",
        both(Silent, Answers("<bad-request")),
        Silent,
        "what is said of it goes over the stream of the other way",
    ),
    row(
        Proven,
        "<iq from='friend.example' to='@HOME@'><query xmlns='urn:example'/></iq>",
        both(Silent, Answers("<bad-request")),
        Silent,
        "what is said of it goes over the stream of the other way",
    ),
    row(
        Proven,
        "<inactive xmlns='urn:xmpp:csi:0'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
    row(
        Proven,
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        both(Ends("<unsupported-stanza-type"), Answers("<unsupported-method")),
        Answers("<setup-failed"),
        "as ejabberd, by another condition",
    ),
    row(
        Proven,
        "<bidi xmlns='urn:xmpp:bidi'/>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "SM-08: behind a proof it is too late",
    ),
    row(
        Proven,
        "<handshake xmlns='jabber:component:accept'>abc</handshake>",
        both(Ends("<unsupported-stanza-type"), Silent),
        Ends("<unsupported-stanza-type"),
        "table 0.3, as Prosody",
    ),
];
