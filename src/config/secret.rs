//! Dialback secrets from files.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::policy::{Finding, Place};

/// A secret. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// From octets at hand.
    pub fn new(octets: &[u8]) -> Self {
        Self(octets.to_vec())
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Reads secrets of at least 256 bits each, at least one. A file of text has one in each line, and white space at the end of a
/// line is not part of it; any other file is one secret.
///
/// # Errors
/// A file that cannot be read, or is not that.
pub fn read_secrets(path: &Path) -> Result<Vec<Secret>, Finding> {
    let file = path.display().to_string();
    let octets = fs::read(path).map_err(|error| {
        // A new one in the place of one that is there would part this node from those that share it.
        let remedy = match error.kind() {
            ErrorKind::NotFound => MAKE,
            ErrorKind::PermissionDenied => "let the gateway's user or group read the file",
            _ => "name the file that holds the secret",
        };
        Finding::error(Place::whole(&file), format!("the secret cannot be read: {error}"), remedy)
    })?;
    let secrets = lines(&octets);
    match secrets.iter().position(|secret| strength(secret) < 256) {
        Some(at) => {
            let bits = secrets.get(at).map_or(0, |secret| strength(secret));
            let which =
                if secrets.len() == 1 { "the secret".to_owned() } else { format!("secret {}", at + 1) };
            let problem = format!("{which} has at most {bits} bits, and needs 256");
            Err(Finding::error(Place::whole(&file), problem, MAKE))
        }
        None if secrets.len() > MOST => {
            let problem = format!("{} secrets, and at most {MOST} may be in one file", secrets.len());
            let remedy = "the first makes keys, the others are those that it replaces or that are to replace it; take out the others";
            Err(Finding::error(Place::whole(&file), problem, remedy))
        }
        None => Ok(secrets.into_iter().map(Secret).collect()),
    }
}

/// The secrets in a file; of a file that has none, the one that is not there.
fn lines(octets: &[u8]) -> Vec<Vec<u8>> {
    let octets = octets.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(octets);
    let is_text = octets.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    let split = octets.split(|b| is_text && *b == b'\n').map(<[u8]>::trim_ascii_end);
    for line in split.filter(|line| !line.is_empty()) {
        if !secrets.iter().any(|known| known == line) {
            secrets.push(line.to_vec());
        }
    }
    if secrets.is_empty() {
        secrets.push(Vec::new());
    }
    secrets
}

const MAKE: &str = "make one: openssl rand -base64 48 > FILE; chmod 600 FILE";

/// Secrets in one file: each costs six HMACs for every question about a key.
const MOST: usize = 4;

/// The most that so many octets of such an alphabet can hold.
fn strength(octets: &[u8]) -> usize {
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=');
    let bits = if octets.iter().all(u8::is_ascii_hexdigit) {
        4
    } else if octets.iter().all(is_base64) {
        6
    } else {
        8
    };
    let distinct = octets.iter().collect::<std::collections::BTreeSet<_>>().len();
    // Sixteen times the same octet is no secret, however long.
    if distinct < 8 { 0 } else { octets.len().saturating_mul(bits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // CLU-02: "a secrets file holds lines".
    #[test]
    fn a_file_of_text_has_a_secret_in_each_line_and_any_other_is_one() {
        let (one, two) = ("0123456789abcdef".repeat(4), "fedcba9876543210".repeat(4));
        for (text, found) in [
            (one.clone(), vec![&one]),
            (format!("\u{feff}{one}\r\n\r\n{two} \n\n"), vec![&one, &two]),
            (format!("{one}\n{two}\n{one}"), vec![&one, &two]),
        ] {
            assert_eq!(lines(text.as_bytes()), found.iter().map(|s| s.as_bytes()).collect::<Vec<_>>());
        }
        assert_eq!(lines(b"\n\x00\xff\n1"), [b"\n\x00\xff\n1"]);
        assert_eq!(lines(b" \n"), [b""]);
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let file = dir.path().join("secret");
            fs::write(&file, text).unwrap();
            read_secrets(&file).map(|secrets| secrets.len()).map_err(|finding| finding.message)
        };
        assert_eq!(read(&format!("{one}\n{two}\n")), Ok(2));
        assert_eq!(
            read(&format!("{one}\nshort\n")).unwrap_err(),
            "secret 2 has at most 0 bits, and needs 256"
        );
        let many: Vec<_> = ["a", "b", "c", "d", "e"].map(|word| format!("{one}{word}")).into();
        assert_eq!(read(&many.join("\n")).unwrap_err(), "5 secrets, and at most 4 may be in one file");
        assert_eq!(read(&many[..4].join("\n")), Ok(4));
    }

    #[test]
    fn only_256_bits_are_enough() {
        assert_eq!(strength(b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), 256);
        assert_eq!(strength(b"0123456789abcdef"), 64);
        assert_eq!(strength(&[7; 64]), 0);
        assert!(strength(b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=") >= 256);
    }
}
