//! SCRAM (RFC 5802) as a client plays it that believes nothing: the proof of the server is verified, and the hash of what it offers
//! (XEP-0474), with a list of one's own.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One exchange.
pub struct Scram {
    kind: Kind,
    /// What is said of channel binding, up to the second comma.
    header: String,
    bare: String,
    /// What the server must prove itself with, once it is known.
    due: Option<String>,
}

struct Kind {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

fn kind(mechanism: &str) -> Kind {
    match mechanism {
        "SCRAM-SHA-1" => Kind {
            digest: &digest::SHA1_FOR_LEGACY_USE_ONLY,
            hmac: hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            pbkdf2: pbkdf2::PBKDF2_HMAC_SHA1,
        },
        "SCRAM-SHA-256" => {
            Kind { digest: &digest::SHA256, hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 }
        }
        "SCRAM-SHA-512" => {
            Kind { digest: &digest::SHA512, hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 }
        }
        other => panic!("{other} is not played"),
    }
}

/// The value of a part like `r=`.
fn part<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split(',').find_map(|part| part.strip_prefix(name))
}

impl Scram {
    /// For this user, with what is said of channel binding: `n`, `y` or `p=` and a type.
    pub fn new(mechanism: &str, flag: &str, user: &str) -> Self {
        let bare = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
        Self { kind: kind(mechanism), header: format!("{flag},,"), bare, due: None }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("{}{}", self.header, self.bare)
    }

    /// The client's last message, upon the server's first.
    pub fn last(&mut self, heard: &str, password: &str) -> String {
        let told = |name| part(heard, name).unwrap_or_else(|| panic!("{name} is not in {heard}"));
        let nonce = told("r=");
        assert!(nonce.len() > 24 && nonce.starts_with(part(&self.bare, "r=").unwrap_or_default()), "{heard}");
        let salt = STANDARD.decode(told("s=")).expect("base64");
        let rounds = told("i=").parse().ok().and_then(NonZeroU32::new).expect("a number");
        let mut salted = vec![0; self.kind.digest.output_len()];
        pbkdf2::derive(self.kind.pbkdf2, rounds, &salt, password.as_bytes(), &mut salted);
        let client = self.mac(&salted, "Client Key");
        let stored = digest::digest(self.kind.digest, &client);
        let without = format!("c={},r={nonce}", STANDARD.encode(&self.header));
        let all = format!("{},{heard},{without}", self.bare);
        let signature = self.mac(stored.as_ref(), &all);
        let proof: Vec<u8> = client.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        let server = self.mac(&salted, "Server Key");
        self.due = Some(STANDARD.encode(self.mac(&server, &all)));
        format!("{without},p={}", STANDARD.encode(proof))
    }

    /// Whether the server's last message proves that it knows the password, too.
    pub fn is_proven(&self, heard: &str) -> bool {
        self.due.is_some() && part(heard, "v=") == self.due.as_deref()
    }

    /// Whether the server's first message vouches for these lists of mechanisms and of channel bindings; nothing where it vouches for none.
    pub fn vouches(&self, heard: &str, mechanisms: &[&str], bindings: &[&str]) -> Option<bool> {
        let joined = |list: &[&str]| {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.join("\u{1e}")
        };
        let mut text = joined(mechanisms);
        if !bindings.is_empty() {
            text = format!("{text}\u{1f}{}", joined(bindings));
        }
        let own = STANDARD.encode(digest::digest(self.kind.digest, text.as_bytes()));
        part(heard, "h=").map(|told| told == own)
    }

    fn mac(&self, key: &[u8], text: &str) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.kind.hmac, key), text.as_bytes()).as_ref().to_vec()
    }
}
