//! Namespaces of the field as constants, so that no other module spells one out.
//!
//! [`Atom`] is the small string of a parsed name: one of these constants, or shared text. What a namespace means is
//! none of this module's business.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Content;

macro_rules! namespaces {
    ($( $(#[$doc:meta])* $name:ident = $value:literal; )*) => {
        $( $(#[$doc])* pub const $name: &str = $value; )*

        const NAMESPACES: &[&str] = &[$( $name ),*];
    };
}

namespaces! {
    /// The stream element, its features and its errors (RFC 6120 4.8.1).
    STREAMS = "http://etherx.jabber.org/streams";
    /// Content namespace of client streams.
    CLIENT = "jabber:client";
    /// Content namespace of server streams.
    SERVER = "jabber:server";
    /// Dialback elements (XEP-0220 2.1).
    DIALBACK = "jabber:server:dialback";
    /// The stream feature that announces dialback (XEP-0220 2.4.2).
    DIALBACK_FEATURE = "urn:xmpp:features:dialback";
    /// Streams in both directions, as they are asked for (XEP-0288).
    BIDI = "urn:xmpp:bidi";
    /// The stream feature that announces them.
    BIDI_FEATURE = "urn:xmpp:features:bidi";
    /// The header and the end of a stream in messages (RFC 7395 3.3.2).
    FRAMING = "urn:ietf:params:xml:ns:xmpp-framing";
    /// STARTTLS (RFC 6120 5).
    TLS = "urn:ietf:params:xml:ns:xmpp-tls";
    /// SASL (RFC 6120 6).
    SASL = "urn:ietf:params:xml:ns:xmpp-sasl";
    /// Extensible SASL profile (XEP-0388).
    SASL2 = "urn:xmpp:sasl:2";
    /// Conditions of stream errors (RFC 6120 4.9.3).
    STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams";
    /// Conditions of stanza errors (RFC 6120 8.3.3).
    STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas";
    /// Application conditions of errors (`stanza-too-big`).
    ERRORS_APP = "urn:xmpp:errors";
    /// Resource binding (RFC 6120 7).
    BIND = "urn:ietf:params:xml:ns:xmpp-bind";
    /// Bind 2 (XEP-0386).
    BIND2 = "urn:xmpp:bind:0";
    /// Session establishment of RFC 3921.
    SESSION = "urn:ietf:params:xml:ns:xmpp-session";
    /// Stream limits advertisement (XEP-0478).
    LIMITS = "urn:xmpp:stream-limits:0";
    /// Stream management (XEP-0198).
    STREAM_MANAGEMENT = "urn:xmpp:sm:3";
    /// An older version of stream management that servers still speak.
    STREAM_MANAGEMENT_2 = "urn:xmpp:sm:2";
    /// Tokens for fast authentication (XEP-0484).
    FAST = "urn:xmpp:fast:0";
    /// The types of channel binding that a server takes (XEP-0440).
    CHANNEL_BINDING = "urn:xmpp:sasl-cb:0";
    /// Roster versioning (RFC 6121 2.6).
    ROSTER_VERSIONING = "urn:xmpp:features:rosterver";
    /// Subscription pre-approval (RFC 6121 3.4).
    PRE_APPROVAL = "urn:xmpp:features:pre-approval";
    /// Client state indication (XEP-0352).
    CSI = "urn:xmpp:csi:0";
    /// Unique and stable stanza ids (XEP-0359).
    SID = "urn:xmpp:sid:0";
    /// Delayed delivery (XEP-0203).
    DELAY = "urn:xmpp:delay";
    /// Delayed delivery as it was before that (XEP-0091).
    LEGACY_DELAY = "jabber:x:delay";
    /// Message carbons (XEP-0280).
    CARBONS = "urn:xmpp:carbons:2";
    /// Stanza forwarding (XEP-0297).
    FORWARD = "urn:xmpp:forward:0";
    /// Message archive management (XEP-0313).
    ARCHIVE = "urn:xmpp:mam:2";
    /// Rosters (RFC 6121 2).
    ROSTER = "jabber:iq:roster";
    /// In-band registration (XEP-0077).
    REGISTER = "jabber:iq:register";
    /// The stream feature of in-band registration.
    REGISTER_FEATURE = "http://jabber.org/features/iq-register";
    /// Legacy authentication (XEP-0078).
    LEGACY_AUTH = "jabber:iq:auth";
    /// The stream feature of legacy authentication.
    LEGACY_AUTH_FEATURE = "http://jabber.org/features/iq-auth";
    /// The stream feature of stream compression (XEP-0138).
    COMPRESSION_FEATURE = "http://jabber.org/features/compress";
    /// Stream compression (XEP-0138).
    COMPRESSION = "http://jabber.org/protocol/compress";
    /// Blocking command (XEP-0191).
    BLOCKING = "urn:xmpp:blocking";
    /// Privacy lists (XEP-0016).
    PRIVACY = "jabber:iq:privacy";
    /// Roster item exchange (XEP-0144).
    ROSTER_EXCHANGE = "http://jabber.org/protocol/rosterx";
    /// What a server grants to an entity of its own: privileges (XEP-0356), whatever the version.
    PRIVILEGE_FAMILY = "urn:xmpp:privilege:";
    /// What a server hands over to an entity of its own: delegated namespaces (XEP-0355), whatever the version.
    DELEGATION_FAMILY = "urn:xmpp:delegation:";
    /// Publish and subscribe (XEP-0060).
    PUBSUB = "http://jabber.org/protocol/pubsub";
    /// What is published, told to subscribers (XEP-0060).
    PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event";
    /// Rooms: what presence carries that joins one (XEP-0045).
    ROOMS = "http://jabber.org/protocol/muc";
    /// How a message is to be kept (XEP-0334).
    HINTS = "urn:xmpp:hints";
    /// Ping (XEP-0199).
    PING = "urn:xmpp:ping";
    /// Service discovery, information (XEP-0030).
    DISCO_INFO = "http://jabber.org/protocol/disco#info";
    /// Service discovery, items (XEP-0030).
    DISCO_ITEMS = "http://jabber.org/protocol/disco#items";
    /// Entity capabilities (XEP-0115).
    CAPABILITIES = "http://jabber.org/protocol/caps";
    /// jabberd2's feature that tells a client its address as the server saw it.
    ADDRESS_FEATURE = "http://affinix.com/jabber/address";
    /// The namespace of the prefix `xml` (Namespaces in XML 1.0, section 3).
    XML = "http://www.w3.org/XML/1998/namespace";
    /// The namespace of declarations themselves (Namespaces in XML 1.0, section 3).
    XMLNS = "http://www.w3.org/2000/xmlns/";
}

/// A parsed name or namespace: cheap to clone, compares like `str`.
#[derive(Clone)]
pub struct Atom(Spelling);

/// Two words wide: there are some in each stanza.
#[derive(Clone)]
enum Spelling {
    /// Its place among the common words. As wide as the other: a processor waits when it has to read in one wide piece what
    /// has just been written in a narrow one.
    Known(usize),
    Shared(Arc<str>),
}

impl Atom {
    /// The word spelled like this.
    pub fn new(text: &str) -> Self {
        Self::of(text.as_bytes())
    }

    /// The word that these octets spell; empty where they are no text.
    pub(super) fn of(octets: &[u8]) -> Self {
        let shared = || Self(Spelling::Shared(Arc::from(std::str::from_utf8(octets).unwrap_or_default())));
        Common::of(octets).map_or_else(shared, Self::from)
    }

    /// Its spelling.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Spelling::Known(place) => KNOWN.get(*place).copied().unwrap_or_default(),
            Spelling::Shared(text) => text,
        }
    }
}

impl Default for Atom {
    /// The empty word.
    fn default() -> Self {
        Self::new("")
    }
}

impl Deref for Atom {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Atom {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Atom {}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialEq<str> for Atom {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Atom {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl std::hash::Hash for Atom {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The words that need no allocation.
const KNOWN: [&str; NAMESPACES.len() + PAYLOADS.len()] = {
    let mut words = [""; NAMESPACES.len() + PAYLOADS.len()];
    let (one, other) = words.split_at_mut(NAMESPACES.len());
    one.copy_from_slice(NAMESPACES);
    other.copy_from_slice(PAYLOADS);
    words
};

/// Where in [`KNOWN`] the words are that have this place in the table, or one of those before it up to an empty one;
/// counted from one, with 0 for none.
const PLACES: [u8; PLACES_LEN] = {
    let mut places = [0u8; PLACES_LEN];
    let mut rest: &[&str] = &KNOWN;
    let mut count = 0;
    while let Some((word, others)) = rest.split_first() {
        count += 1;
        rest = others;
        let mut slot = digest(word.as_bytes());
        while let Some(place) = places.split_at_mut(slot % PLACES_LEN).1.first_mut() {
            if *place == 0 {
                *place = count;
                break;
            }
            slot += 1;
        }
    }
    places
};

/// Several times as many as there are words.
const PLACES_LEN: usize = 512;

/// A number that tells most of the common words apart.
const fn digest(word: &[u8]) -> usize {
    let (head, tail) = word.split_at(word.len() / 2);
    word.len() * 41 + number(head.first()) * 52 + number(tail.first()) * 95 + number(tail.last()) * 100
}

const fn number(octet: Option<&u8>) -> usize {
    match octet {
        Some(octet) => *octet as usize,
        None => 0,
    }
}

/// A common word, by its place in [`KNOWN`]: saves an allocation for each parsed name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common(usize);

impl Common {
    /// The common word that these octets spell.
    pub(super) fn of(octets: &[u8]) -> Option<Self> {
        let mut slot = digest(octets);
        loop {
            let place = usize::from(*PLACES.get(slot % PLACES_LEN)?).checked_sub(1)?;
            if KNOWN.get(place)?.as_bytes() == octets {
                return Some(Self(place));
            }
            slot += 1;
        }
    }
}

/// The place of a word that is in the table.
const fn place_of(word: &str) -> usize {
    let mut rest: &[&str] = &KNOWN;
    let mut place = 0;
    while let Some((known, others)) = rest.split_first() {
        if is_same(known.as_bytes(), word.as_bytes()) {
            break;
        }
        place += 1;
        rest = others;
    }
    assert!(place < KNOWN.len());
    place
}

const fn is_same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let (Some((a, of_one)), Some((b, of_other))) = (one.split_first(), other.split_first()) {
        if *a != *b {
            return false;
        }
        (one, other) = (of_one, of_other);
    }
    one.is_empty() && other.is_empty()
}

impl Common {
    /// The content namespace.
    pub(super) const fn of_content(content: Content) -> Self {
        const PLACES: [usize; 2] = [place_of(CLIENT), place_of(SERVER)];
        let [client, server] = PLACES;
        match content {
            Content::Client => Self(client),
            Content::Server => Self(server),
        }
    }

    /// Whether no element may declare it as its default namespace (rule N3).
    pub(super) fn is_reserved(self) -> bool {
        const PLACES: [usize; 3] = [place_of(STREAMS), place_of(XML), place_of(XMLNS)];
        PLACES.contains(&self.0)
    }
}

impl From<Common> for Atom {
    fn from(common: Common) -> Self {
        Self(Spelling::Known(common.0))
    }
}

/// Names and namespaces of common children of stanzas, and the names in a negotiation.
const PAYLOADS: &[&str] = &[
    "",
    "stream",
    "features",
    "mechanisms",
    "mechanism",
    "auth",
    "success",
    "starttls",
    "required",
    "optional",
    "bind",
    "session",
    "limits",
    "max-bytes",
    "sm",
    "csi",
    "ver",
    "node",
    "hash",
    "db",
    "iq",
    "message",
    "presence",
    "type",
    "id",
    "from",
    "to",
    "jid",
    "resource",
    "xml",
    "x",
    "c",
    "body",
    "query",
    "error",
    "active",
    "inactive",
    "composing",
    "paused",
    "gone",
    "thread",
    "subject",
    "show",
    "status",
    "priority",
    "delay",
    "stanza-id",
    "origin-id",
    "request",
    "received",
    "displayed",
    "markable",
    "sent",
    "forwarded",
    "ping",
    "pubsub",
    "event",
    "html",
    "a",
    "r",
    "store",
    "no-store",
    "private",
    "encrypted",
    "encryption",
    "reactions",
    "reply",
    "replace",
    "result",
    "fin",
    "data",
    "vCard",
    "occupant-id",
    "nick",
    "jabber:x:data",
    "jabber:x:oob",
    "jabber:x:conference",
    "vcard-temp",
    "vcard-temp:x:update",
    "urn:xmpp:receipts",
    "urn:xmpp:chat-markers:0",
    "urn:xmpp:eme:0",
    "urn:xmpp:reply:0",
    "urn:xmpp:reactions:0",
    "urn:xmpp:message-correct:0",
    "urn:xmpp:occupant-id:0",
    "urn:xmpp:avatar:metadata:update",
    "eu.siacs.conversations.axolotl",
    "http://jabber.org/protocol/chatstates",
    "http://jabber.org/protocol/muc#user",
    "http://jabber.org/protocol/nick",
    "http://jabber.org/protocol/pubsub#owner",
    "http://jabber.org/protocol/xhtml-im",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_word_is_found_and_no_other() {
        for word in NAMESPACES.iter().chain(PAYLOADS) {
            let known = Atom::new(word);
            assert!(known == *word && matches!(known.0, Spelling::Known(_)), "{word}");
            assert!(Common::of(format!("{word}~").as_bytes()).is_none());
        }
        assert!(Common::of("x".repeat(1000).as_bytes()).is_none());
        assert!(KNOWN.len() < PLACES.len() / 2, "the table is too short");
        assert_eq!(size_of::<Atom>(), 2 * size_of::<usize>());
    }
}
