//! How a server out in the world behaves, for better or worse.

use std::time::Duration;

/// How a server answers when it is asked about a key of its own (XEP-0220, the authoritative server).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Vouch {
    /// As its table of keys says.
    #[default]
    Honest,
    /// Always yes.
    Always,
    /// Always no.
    Never,
    /// With a dialback error of this condition.
    Error(&'static str),
    /// Not at all.
    Silent,
    /// Honestly, after this time.
    Late(Duration),
    /// With a yes about another stream.
    OtherStream,
    /// By closing the connection.
    HangUp,
}

/// How a server decides about a key that was sent to it (XEP-0220, the receiving server).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admit {
    /// As `Honest`, but so long after the key came, which is noted among the proofs as `key DOMAIN`.
    Late(std::time::Duration),
    /// By asking the authoritative server.
    #[default]
    Honest,
    /// Yes, without asking.
    Always,
    /// No, without asking.
    Never,
    /// With a dialback error of this condition.
    Error(&'static str),
    /// Not at all.
    Silent,
    /// With a yes for a pair that nobody had asked about.
    OtherPair,
}

/// How a server takes a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Welcome {
    /// As it should.
    #[default]
    Proper,
    /// It takes the connection and says nothing.
    Mute,
    /// It says nothing more behind `<proceed/>`.
    Handshakeless,
    /// It says nothing more behind its header within TLS.
    Featureless,
    /// It closes the connection at once.
    HangUp,
    /// It sends its header one octet at a time, with this time between them.
    Trickle(Duration),
    /// It sends these octets in place of a header.
    Octets(Vec<u8>),
}

/// How a server behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Whether it offers STARTTLS.
    pub starttls: bool,
    /// Whether it offers EXTERNAL to whoever shows a certificate that names the header's `from`.
    pub external: bool,
    /// Whether it answers EXTERNAL with success.
    pub accepts_external: bool,
    /// Whether it offers dialback.
    pub dialback: bool,
    /// Whether it speaks version 1.0 at all.
    pub version: bool,
    /// As the authoritative server.
    pub vouch: Vouch,
    /// As the receiving server.
    pub admit: Admit,
    /// As the one who is called.
    pub welcome: Welcome,
    /// Said right after the features inside TLS; `{id}` stands for the id of the stream.
    pub unasked: Option<String>,
    /// Octets in clear, sent together with `<proceed/>`.
    pub with_proceed: Option<&'static str>,
    /// The `max-bytes` that it announces (XEP-0478).
    pub max_bytes: Option<usize>,
    /// Whether it leaves closing tags unanswered and its connections open.
    pub lingers: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            starttls: true,
            external: true,
            accepts_external: true,
            dialback: true,
            version: true,
            vouch: Vouch::Honest,
            admit: Admit::Honest,
            welcome: Welcome::Proper,
            unasked: None,
            with_proceed: None,
            max_bytes: None,
            lingers: false,
        }
    }
}
