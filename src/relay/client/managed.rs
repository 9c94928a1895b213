//! How far the stream management of a client is (XEP-0198), as a gateway between it and its server hears it.

/// How far the stream management of a client is. Nobody takes it back once it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Managed {
    /// Nobody has asked for it, or it was refused.
    No,
    /// The client has asked, and counts from there on.
    Asked,
    /// The server has granted it.
    Yes,
}

impl Managed {
    /// One of the two says this to the other. Management begins when the client asks for it, and with a session that is resumed or managed
    /// from the login on.
    pub(super) fn hears(&mut self, octets: &[u8]) {
        // Such words are short, and written by us.
        let says = |word: &str| octets.windows(word.len()).any(|at| at == word.as_bytes());
        *self = match *self {
            Self::Yes => Self::Yes,
            _ if says("<enabled ") || says("<resumed ") => Self::Yes,
            Self::No if octets.starts_with(b"<enable ") => Self::Asked,
            Self::Asked if octets.starts_with(b"<failed ") => Self::No,
            as_before => as_before,
        };
    }
}
