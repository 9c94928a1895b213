//! The client's side of a login at a backend, as far as a probe needs it: one exchange with SCRAM or PLAIN, in the words of RFC 6120 or
//! of XEP-0388.
//!
//! Without an account an exchange is broken off before anything secret is said. Nothing of an account is ever printed but its
//! address.

use std::num::NonZeroU32;
use std::path::Path;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Talk;
use crate::jid::{Domain, Jid};
use crate::run::observe::capped;
use crate::stream::client::{Cause, Mechanism, Profile, login};
use crate::xml::{Element, Token, escape_text, names};

/// Somebody who may log in.
pub(super) struct Account {
    pub(super) name: String,
    password: String,
}

impl Account {
    #[cfg(test)]
    pub(super) fn new(name: &str, password: &str) -> Self {
        Self { name: name.to_owned(), password: password.to_owned() }
    }

    /// Two lines: the address, and the password.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub(super) fn read(file: &Path, domain: &Domain) -> Result<Self, String> {
        use std::os::unix::fs::PermissionsExt as _;
        let unread = |error: std::io::Error| format!("cannot be read: {error}");
        let mode = std::fs::metadata(file).map_err(unread)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err("others can read the password in it: `chmod 600` it".to_owned());
        }
        let text = std::fs::read_to_string(file).map_err(unread)?;
        let mut lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines();
        let (Some(address), Some(password)) = (lines.next(), lines.next().filter(|line| !line.is_empty()))
        else {
            return Err("write the address in its first line, and the password in its second".to_owned());
        };
        let of_domain = Jid::parse(address.trim()).ok().filter(|jid| jid.to_domain() == *domain);
        match of_domain.and_then(|jid| jid.local.map(str::to_owned)) {
            Some(name) => Ok(Self { name, password: password.to_owned() }),
            None => Err(format!("its first line is no address of an account of {domain}")),
        }
    }
}

/// What a client says of channel binding (RFC 5802 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// It cannot.
    No,
    /// It can, and thinks that the server cannot.
    Yes,
}

impl Flag {
    pub(super) const BOTH: [Self; 2] = [Self::No, Self::Yes];

    /// As it is written.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::No => "n",
            Self::Yes => "y",
        }
    }
}

/// What a server answered.
pub(super) enum Heard {
    /// The payload of a challenge.
    Challenge(Vec<u8>),
    /// Condition and text, and what it failed of.
    Failure(String, Cause),
    /// The payload of a success, and who was let in where the server says so.
    Success(Vec<u8>),
}

/// Begins an exchange.
pub(super) async fn begin(
    talk: &mut Talk,
    profile: Profile,
    mechanism: Mechanism,
    first: &[u8],
) -> Result<Heard, String> {
    let (ns, name, payload) = (profile.namespace(), mechanism.name(), STANDARD.encode(first));
    let text = match profile {
        Profile::Sasl => format!("<auth xmlns='{ns}' mechanism='{name}'>{payload}</auth>"),
        Profile::Sasl2 => format!(
            "<authenticate xmlns='{ns}' mechanism='{name}'><initial-response>{payload}</initial-response></authenticate>"
        ),
    };
    talk.say(text.as_bytes()).await?;
    hear(talk, profile).await
}

/// Goes on with it.
pub(super) async fn respond(talk: &mut Talk, profile: Profile, payload: &[u8]) -> Result<Heard, String> {
    let text = format!("<response xmlns='{}'>{}</response>", profile.namespace(), STANDARD.encode(payload));
    talk.say(text.as_bytes()).await?;
    hear(talk, profile).await
}

/// Breaks it off, and hears that.
pub(super) async fn abort(talk: &mut Talk, profile: Profile) -> Result<(), String> {
    talk.say(profile.abort().as_bytes()).await?;
    hear(talk, profile).await.map(|_failure| ())
}

async fn hear(talk: &mut Talk, profile: Profile) -> Result<Heard, String> {
    let Token::Element(frame) = talk.hear().await? else {
        return Err("the server answers no login".to_owned());
    };
    let tree = frame.tree();
    let within = || match (profile, tree.name.as_str()) {
        (Profile::Sasl2, "success") => tree.child(names::SASL2, "additional-data"),
        _ => Some(&tree),
    };
    let payload = || {
        let read = within().map(login::payload).unwrap_or(Ok(None));
        read.map(Option::unwrap_or_default).map_err(|_| "the server writes bad base64".to_owned())
    };
    match tree.name.as_str() {
        _ if tree.namespace != profile.namespace() => {
            Err(format!("the server answers a login with {}", capped(&tree.name)))
        }
        "challenge" => Ok(Heard::Challenge(payload()?)),
        "success" => Ok(Heard::Success(payload()?)),
        "failure" => Ok(Heard::Failure(words(&tree), login::cause(&tree))),
        name => Err(format!("the server answers a login with {}", capped(name))),
    }
}

fn words(failure: &Element) -> String {
    let condition = failure.elements().find(|e| e.namespace == names::SASL && e.name != "text");
    let condition = condition.map_or_else(|| "failure".to_owned(), |e| capped(&e.name));
    match failure.elements().find(|e| e.name == "text") {
        Some(text) => format!("{condition}: {}", capped(&text.text())),
        None => condition,
    }
}

/// RFC 4616.
pub(super) fn plain(account: &Account) -> Vec<u8> {
    format!("\0{}\0{}", account.name, account.password).into_bytes()
}

/// One exchange with SCRAM (RFC 5802).
pub(super) struct Scram {
    mechanism: Mechanism,
    flag: Flag,
    bare: String,
}

impl Scram {
    /// The exchange that this first message begins.
    #[cfg(test)]
    pub(super) fn of(mechanism: Mechanism, first: &str) -> Self {
        let flag = if first.starts_with('y') { Flag::Yes } else { Flag::No };
        Self { mechanism, flag, bare: first[3..].to_owned() }
    }

    /// For an account of this name.
    pub(super) fn new(mechanism: Mechanism, flag: Flag, name: &str, nonce: &[u8]) -> Self {
        let name = name.replace('=', "=3D").replace(',', "=2C");
        Self { mechanism, flag, bare: format!("n={name},r={}", STANDARD.encode(nonce).replace('=', "")) }
    }

    /// The client's first message.
    pub(super) fn first(&self) -> Vec<u8> {
        format!("{},,{}", self.flag.label(), self.bare).into_bytes()
    }

    /// The client's last message, and what the server's last must be.
    ///
    /// # Errors
    /// In words, where the server's first message is none.
    pub(super) fn last(&self, account: &Account, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
        let broken = || "the server's first message of SCRAM is none".to_owned();
        let message = std::str::from_utf8(message).map_err(|_| broken())?;
        let part = |name: &str| message.split(',').find_map(|part| part.strip_prefix(name));
        let nonce = part("r=").ok_or_else(broken)?;
        let salt = STANDARD.decode(part("s=").ok_or_else(broken)?).map_err(|_| broken())?;
        let rounds = part("i=").and_then(|rounds| rounds.parse::<NonZeroU32>().ok()).ok_or_else(broken)?;
        if rounds.get() > MOST_ROUNDS
            || !self.bare.split(",r=").nth(1).is_some_and(|own| nonce.starts_with(own))
        {
            return Err(broken());
        }
        let (derived, keyed, hashed) = match self.mechanism {
            Mechanism::ScramSha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
            Mechanism::ScramSha256 => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
            _ => (
                pbkdf2::PBKDF2_HMAC_SHA1,
                hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                &digest::SHA1_FOR_LEGACY_USE_ONLY,
            ),
        };
        let mut salted = vec![0; hashed.output_len()];
        pbkdf2::derive(derived, rounds, &salt, account.password.as_bytes(), &mut salted);
        let of = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(keyed, key), text).as_ref().to_vec();
        let header = STANDARD.encode(format!("{},,", self.flag.label()));
        let unproven = format!("c={header},r={nonce}");
        let all = format!("{},{message},{unproven}", self.bare);
        let client = of(&salted, b"Client Key");
        let signature = of(digest::digest(hashed, &client).as_ref(), all.as_bytes());
        let proof: Vec<u8> = client.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        let server = of(&of(&salted, b"Server Key"), all.as_bytes());
        let last = format!("{unproven},p={}", STANDARD.encode(proof));
        Ok((last.into_bytes(), format!("v={}", STANDARD.encode(server)).into_bytes()))
    }
}

/// The bind, with an id of its own.
pub(super) fn bind() -> String {
    format!(
        "<iq type='set' id='bind'><bind xmlns='{}'><resource>{}</resource></bind></iq>",
        names::BIND,
        escape_text("gatehouse-probe")
    )
}

/// More rounds than this, and a server would have us work for it.
const MOST_ROUNDS: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    // The exchange of RFC 7677 3.
    #[test]
    fn scram_computes_what_the_standard_shows() {
        let account = Account { name: "user".into(), password: "pencil".into() };
        let scram = Scram {
            mechanism: Mechanism::ScramSha256,
            flag: Flag::No,
            bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
        };
        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let message =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, server) = scram.last(&account, message).unwrap();
        assert!(last.ends_with(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        assert_eq!(server, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        for broken in ["r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=rOprNGfwEbeRWgbNEkqOx,s=?,i=1", ""] {
            assert!(scram.last(&account, broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn an_account_is_two_lines_that_nobody_else_can_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("account");
        let domain = Domain::parse("hall.example").unwrap();
        let read = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            Account::read(&file, &domain).map(|account| (account.name, account.password))
        };
        assert_eq!(read("alice@hall.example\npa ss\n", 0o600), Ok(("alice".to_owned(), "pa ss".to_owned())));
        // A byte order mark says nothing.
        let marked = read("\u{feff}alice@hall.example\npa ss\n", 0o600);
        assert_eq!(marked, Ok(("alice".to_owned(), "pa ss".to_owned())));
        assert!(read("alice@hall.example\npa ss\n", 0o640).unwrap_err().contains("chmod 600"));
        assert!(read("alice@hall.example\n", 0o600).unwrap_err().contains("second"));
        assert!(read("alice@other.example\nx\n", 0o600).unwrap_err().contains("no address"));
        assert!(
            Account::read(&folder.path().join("nowhere"), &domain)
                .is_err_and(|e| e.contains("cannot be read"))
        );
    }
}
