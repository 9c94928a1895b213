//! Follows the records of one direction of TLS by their headers, counts the full ones, and tells a handshake behind the handshake.
//!
//! In TLS 1.2 that is a renegotiation, which XMPP forbids and which is to end the connection without a word (TLS-13, RFC
//! 6120 5.3.5); rustls would answer it with a warning and go on. In TLS 1.3 such records look like all others.

/// How far the octets seen so far go into the records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records {
    /// Octets of that header that were seen.
    seen: u8,
    /// Octets until the next header: of this body, once its header is whole.
    left: usize,
    /// ChangeCipherSpec has come: one more record of a handshake is due, the Finished.
    turned: bool,
    /// Records of a handshake since then.
    since: u8,
    /// This one holds as much as any can.
    full: bool,
    /// So many of those have ended.
    ended: u32,
}

impl Records {
    /// Whether a handshake began anew. Of TLS 1.2 only: TLS 1.3 sends a ChangeCipherSpec that means nothing.
    pub fn has_begun_anew(&self) -> bool {
        self.since > 1
    }

    /// How many records have passed that hold as much as any can, from the first octet to the last.
    pub(super) fn full_ones(&self) -> u32 {
        self.ended
    }

    /// These octets come next.
    pub fn pass(&mut self, mut octets: &[u8]) {
        while let Some((&octet, rest)) = octets.split_first() {
            if self.seen == HEADER {
                let body = self.left.min(octets.len());
                self.left -= body;
                octets = octets.get(body..).unwrap_or_default();
            } else {
                match self.seen {
                    0 => self.begin(octet),
                    3 => self.left = usize::from(octet) << 8,
                    4 => self.left |= usize::from(octet),
                    _ => {}
                }
                self.seen += 1;
                self.full = self.seen == HEADER && self.left >= RECORD;
                octets = rest;
            }
            if self.seen == HEADER && self.left == 0 {
                self.seen = 0;
                self.ended = self.ended.wrapping_add(u32::from(self.full));
            }
        }
    }

    fn begin(&mut self, content: u8) {
        match content {
            CHANGE_CIPHER_SPEC => self.turned = true,
            HANDSHAKE if self.turned => self.since = self.since.saturating_add(1),
            _ => {}
        }
    }
}

/// Octets of a full record (RFC 8446 5.1).
pub(super) const RECORD: usize = 16 * 1024;

/// Octets of a record's header: type, version, length (RFC 5246 6.2.1).
const HEADER: u8 = 5;

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: u8, length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        // A body that looks like headers of handshakes.
        [vec![content, 3, 3, high, low], vec![HANDSHAKE; usize::from(length)]].concat()
    }

    // A record holds 16 KiB at most; what it is sealed in comes on top, and what holds less is none of them.
    #[test]
    fn full_records_count_when_their_last_octet_has_passed() {
        let all = [record(23, 16_406), record(23, 16_383), record(23, 22), record(23, 16_406)].concat();
        for portion in [1, 3, 16_411, 16_412, 100_000] {
            let mut records = Records::default();
            let (last, but_last) = all.split_last().unwrap();
            but_last.chunks(portion).for_each(|octets| records.pass(octets));
            assert_eq!(records.full_ones(), 1, "{portion}");
            records.pass(&[*last]);
            assert_eq!(records.full_ones(), 2, "{portion}");
        }
    }

    // TLS-13: whatever the portions, only the second record of a handshake behind ChangeCipherSpec counts.
    #[test]
    fn a_handshake_behind_the_handshake_is_seen() {
        let hello = [record(22, 300), record(22, 70), record(20, 1), record(22, 40)].concat();
        let talk = [record(23, 0), record(23, 16_400), record(21, 2), record(23, 5)].concat();
        for portion in [1, 2, 3, 5, 7, 64, 100_000] {
            let mut records = Records::default();
            for octets in [&hello, &talk, &talk] {
                octets.chunks(portion).for_each(|octets| records.pass(octets));
                assert!(!records.has_begun_anew(), "{portion}");
            }
            records.pass(&[HANDSHAKE]);
            assert!(records.has_begun_anew(), "{portion}");
        }
    }
}
