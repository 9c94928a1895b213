//! Dialback secrets from files.

use std::fs;
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

/// Reads a secret of at least 256 bits. White space at the end is not part of it.
pub fn read_secret(path: &Path) -> Result<Secret, Finding> {
    let whole = || Place::whole(&path.display().to_string());
    let octets = fs::read(path).map_err(|error| {
        let remedy = "make one: openssl rand -base64 48 > FILE; chmod 600 FILE";
        Finding::error(whole(), format!("the secret cannot be read: {error}"), remedy)
    })?;
    let octets = octets.trim_ascii_end().to_vec();
    let bits = strength(&octets);
    if bits < 256 {
        let remedy = "make one: openssl rand -base64 48 > FILE; chmod 600 FILE";
        return Err(Finding::error(
            whole(),
            format!("the secret has at most {bits} bits, and needs 256"),
            remedy,
        ));
    }
    Ok(Secret(octets))
}

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

    #[test]
    fn only_256_bits_are_enough() {
        assert_eq!(strength(b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), 256);
        assert_eq!(strength(b"0123456789abcdef"), 64);
        assert_eq!(strength(&[7; 64]), 0);
        assert!(strength(b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=") >= 256);
    }
}
