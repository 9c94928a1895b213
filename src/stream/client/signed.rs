//! Lists that a server signs (XEP-0474): whether what a client was shown is what the server vouches for.
//!
//! A server that knows SCRAM downgrade protection puts a hash of what it offered into its first message. The gateway hides what
//! must not pass (C2S-05, CB-02), so the hash of what the client saw may be another; a client that checks it then gives up. Here
//! the two are compared, so that only what really fails is told (CB-09).

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Mechanism, Profile};

/// The mechanisms that a client saw, of each vocabulary; it sees no type of channel binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShownMechanisms {
    /// In `<mechanisms/>` (RFC 6120 6.4.1).
    pub sasl: Vec<&'static str>,
    /// In `<authentication/>` (XEP-0388 2.1).
    pub sasl2: Vec<&'static str>,
}

/// What a server's first message of SCRAM says of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// Nothing.
    No,
    /// It vouches for what the client saw.
    Same,
    /// It vouches for another list: a client that checks it will not go on.
    Other,
}

impl ShownMechanisms {
    /// Compares `message`, the server's first one in an exchange of this mechanism, with what was shown.
    pub fn signed(&self, profile: Profile, mechanism: Mechanism, message: &[u8]) -> Signed {
        let hash = match mechanism {
            Mechanism::ScramSha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Mechanism::ScramSha256 => &digest::SHA256,
            Mechanism::ScramSha512 => &digest::SHA512,
            _ => return Signed::No,
        };
        let part =
            |name: &[u8]| message.split(|octet| *octet == b',').find_map(|part| part.strip_prefix(name));
        let mut names = match profile {
            Profile::Sasl => self.sasl.clone(),
            Profile::Sasl2 => self.sasl2.clone(),
        };
        names.sort_unstable();
        let of = |joint: &str, tail: &str| {
            STANDARD.encode(digest::digest(hash, (names.join(joint) + tail).as_bytes()))
        };
        // XEP-0474 6.1; older drafts wrote `d`, with commas, and a bar before the types of channel binding.
        let same = match (part(b"h="), part(b"d=")) {
            (Some(told), _) => told == of("\u{1e}", "").as_bytes(),
            (None, Some(told)) => told == of(",", "").as_bytes() || told == of(",", "|").as_bytes(),
            (None, None) => return Signed::No,
        };
        if same { Signed::Same } else { Signed::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> ShownMechanisms {
        ShownMechanisms { sasl: vec!["SCRAM-SHA-256", "PLAIN", "SCRAM-SHA-1"], sasl2: vec!["PLAIN"] }
    }

    fn vouched(names: &str) -> String {
        format!("r=ab,s=cw==,i=4096,h={}", STANDARD.encode(digest::digest(&digest::SHA256, names.as_bytes())))
    }

    // XEP-0474 6.1: sorted by octets, joined with U+001E; that of its own vocabulary.
    #[test]
    fn a_list_is_compared_as_the_server_signs_it() {
        let judge =
            |profile, message: &str| shown().signed(profile, Mechanism::ScramSha256, message.as_bytes());
        let all = "PLAIN\u{1e}SCRAM-SHA-1\u{1e}SCRAM-SHA-256";
        assert_eq!(judge(Profile::Sasl, &vouched(all)), Signed::Same);
        assert_eq!(judge(Profile::Sasl2, &vouched(all)), Signed::Other);
        assert_eq!(judge(Profile::Sasl2, &vouched("PLAIN")), Signed::Same);
        assert_eq!(judge(Profile::Sasl, &vouched(&format!("{all}\u{1e}X-OAUTH2"))), Signed::Other);
        assert_eq!(judge(Profile::Sasl, &vouched(&format!("{all}\u{1f}tls-exporter"))), Signed::Other);
    }

    // RFC 5802 5.1: the attribute, and nothing that only looks like it within another value.
    #[test]
    fn a_signed_list_is_seen_in_the_first_message_of_the_server() {
        let judge = |message: &str| shown().signed(Profile::Sasl, Mechanism::ScramSha1, message.as_bytes());
        assert_eq!(judge("r=abc,s=c2FsdA==,i=4096,d=aGFzaA=="), Signed::Other);
        for message in ["r=h=abc,s=d=lt,i=4096", "no message", "r=abc,s=c2FsdA==,i=4096"] {
            assert_eq!(judge(message), Signed::No, "{message}");
        }
        assert_eq!(shown().signed(Profile::Sasl, Mechanism::Plain, b"h=x"), Signed::No);
    }
}
