//! Dialback keys: made from a secret, known again by it, and bound to one facing.
//!
//! The key is the HMAC of XEP-0185 2 over receiving domain, originating domain and stream id, separated by spaces, which
//! no domain can hold (DB-12). World and inside have a [`Keyring`] each, so a key made for one never verifies in the
//! other (DB-04).

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};

use crate::reason::Facing;

use super::{KeyCheck, Pair};

/// The secrets of one realm, newest first; the older ones still verify (rotation with overlap, DB-13).
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<hmac::Key>,
}

/// Both realms.
#[derive(Clone, Debug)]
pub struct Keyrings {
    /// For keys that travel on the open Internet.
    pub world: Keyring,
    /// For keys that travel between us and the backends.
    pub inside: Keyring,
}

impl Keyrings {
    /// The realm of that network.
    pub fn facing(&self, facing: Facing) -> &Keyring {
        match facing {
            Facing::Backend => &self.inside,
            Facing::Public => &self.world,
        }
    }
}

impl Keyring {
    /// A ring of one secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { keys: vec![key(secret)] }
    }

    /// The same with an older secret that still verifies.
    #[must_use]
    pub fn with_old(mut self, secret: &[u8]) -> Self {
        self.keys.push(key(secret));
        self
    }

    /// The key for this pair on the stream with that id, which the receiving side issued.
    pub fn make(&self, pair: &Pair, stream: &str) -> String {
        self.keys.first().map(|key| text(key, pair, stream)).unwrap_or_default()
    }

    /// Whether the key in `check` is one of ours. Takes the same time whatever the key (DB-14).
    pub fn knows(&self, check: &KeyCheck) -> bool {
        self.keys.iter().any(|key| {
            let ours = text(key, &check.pair, &check.stream);
            constant_time::verify_slices_are_equal(ours.as_bytes(), check.key.as_bytes()).is_ok()
        })
    }
}

impl fmt::Debug for Keyring {
    // LOG-02: a secret is never printed, not even by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} secrets)", self.keys.len())
    }
}

fn key(secret: &[u8]) -> hmac::Key {
    let digest = digest::digest(&digest::SHA256, secret);
    hmac::Key::new(hmac::HMAC_SHA256, hex(digest.as_ref()).as_bytes())
}

fn text(key: &hmac::Key, pair: &Pair, stream: &str) -> String {
    let message = format!("{} {} {}", pair.target, pair.sender, stream);
    hex(hmac::sign(key, message.as_bytes()).as_ref())
}

/// Lower-case hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        for nibble in [octet >> 4, octet & 0xf] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Domain;

    fn pair(sender: &str, target: &str) -> Pair {
        Pair { sender: Domain::parse(sender).unwrap(), target: Domain::parse(target).unwrap() }
    }

    // DB-10, DB-11, and the keys of requirements 21.1 and 21.3.
    #[test]
    fn the_published_keys_are_reproduced() {
        for (secret, receiving, originating, id, expected) in [
            (
                "s3cr3tf0rd14lb4ck",
                "montague.example",
                "capulet.example",
                "D60000229F",
                "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3",
            ),
            (
                "s3cr3tf0rd14lb4ck",
                "xmpp.example.com",
                "example.org",
                "D60000229F",
                "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643",
            ),
            (
                "d14lb4ck43v3r",
                "capulet.example",
                "montague.example",
                "417GAF25",
                "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d",
            ),
            (
                "ins1de-secret-B",
                "chat.example.org",
                "remote.example.net",
                "L-301",
                "106f5f2b93d185803ca5a5c678a8ddc9dc7702908233b18b8011a9508b051795",
            ),
            (
                "w0rld-secret-A",
                "remote.example.net",
                "chat.example.org",
                "rS-88",
                "894dfd55f6f9268f6c9c00dd0705d7f9ec4db5f238a0d598577eaf6f5dd4050b",
            ),
        ] {
            let ring = Keyring::new(secret.as_bytes());
            let pair = pair(originating, receiving);
            assert_eq!(ring.make(&pair, id), expected);
            assert!(ring.knows(&KeyCheck { pair, stream: id.into(), key: expected.into() }));
        }
    }

    // DB-12: no other cut of the same words has the same key. DB-14: a key of another length is merely wrong.
    #[test]
    fn a_key_is_for_one_cut_of_its_words() {
        let ring = Keyring::new(b"world");
        let check = |sender: &str, target: &str, stream: &str, key: &str| {
            ring.knows(&KeyCheck { pair: pair(sender, target), stream: stream.into(), key: key.into() })
        };
        let key = ring.make(&pair("a.example", "b.example"), "1");
        assert!(check("a.example", "b.example", "1", &key));
        assert!(!check("a.example", "b.examplea", "1", &key) && !check("ab.example", "example", "1", &key));
        for wrong in ["", "b", &key[1..], &format!("{key}0"), &key.to_uppercase()] {
            assert!(!check("a.example", "b.example", "1", wrong), "{wrong}");
        }
    }

    // DB-04: realms share no secret. DB-13: an old secret still verifies, but makes nothing.
    #[test]
    fn a_key_of_one_realm_is_unknown_in_the_other() {
        let pair = pair("a.example", "b.example");
        let (world, inside) = (Keyring::new(b"world"), Keyring::new(b"inside"));
        let check = KeyCheck { key: world.make(&pair, "1"), pair: pair.clone(), stream: "1".into() };
        assert!(world.knows(&check) && !inside.knows(&check));
        let rotated = Keyring::new(b"new").with_old(b"world");
        assert!(rotated.knows(&check));
        assert_ne!(rotated.make(&pair, "1"), check.key);
        assert!(!rotated.knows(&KeyCheck { pair: pair.reversed(), ..check }));
    }
}
