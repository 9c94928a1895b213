//! UTF-8 and the characters of XML, one octet at a time: for octets that nobody keeps.
//!
//! What is kept is checked as a whole, and faster, in `chars`; both have the same rules.

use super::{Rule, Violation};

/// UTF-8 and `Char`, octet by octet (rules B1 and B2).
#[derive(Clone, Copy, Default)]
pub(super) struct Utf8 {
    /// Octets that are due, and the range of the next one.
    due: u8,
    least: u8,
    most: u8,
    /// The sequence may turn out to be U+FFFE or U+FFFF.
    last: bool,
}

impl Utf8 {
    /// Whether a sequence is begun and not complete.
    pub(super) fn is_inside(self) -> bool {
        self.due > 0
    }

    /// Takes one octet.
    pub(super) fn take(&mut self, octet: u8) -> Result<(), Violation> {
        if self.due > 0 {
            if !(self.least..=self.most).contains(&octet) {
                return Err(Violation::of(Rule::B1));
            }
            self.due -= 1;
            if self.last {
                // EF BF BE and EF BF BF.
                self.last = octet == 0xBF && self.due == 1;
                if self.due == 0 && octet >= 0xBE {
                    return Err(Violation::of(Rule::B2));
                }
            }
            (self.least, self.most) = (0x80, 0xBF);
            return Ok(());
        }
        (self.due, self.least, self.most) = match octet {
            b'\t' | b'\n' | b'\r' | b' '..=0x7F => return Ok(()),
            0..=0x1F => return Err(Violation::of(Rule::B2)),
            0xC2..=0xDF => (1, 0x80, 0xBF),
            0xE0 => (2, 0xA0, 0xBF),
            0xED => (2, 0x80, 0x9F),
            0xE1..=0xEF => (2, 0x80, 0xBF),
            0xF0 => (3, 0x90, 0xBF),
            0xF1..=0xF3 => (3, 0x80, 0xBF),
            0xF4 => (3, 0x80, 0x8F),
            _ => return Err(Violation::of(Rule::B1)),
        };
        self.last = octet == 0xEF;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::chars;
    use super::*;

    fn octet_by_octet(octets: &[u8]) -> Result<Utf8, Violation> {
        let mut utf8 = Utf8::default();
        octets.iter().try_for_each(|&octet| utf8.take(octet)).map(|()| utf8)
    }

    // Each sequence of up to three octets, and of four around the borders.
    #[test]
    fn one_at_a_time_finds_what_the_whole_does() {
        let border = [
            0x00, 0x09, 0x1F, 0x20, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBD, 0xBE, 0xBF, 0xC0, 0xC2, 0xDF,
            0xFF,
        ];
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                for octets in [vec![first], vec![first, second]] {
                    same(&octets);
                }
                for third in border {
                    same(&[first, second, third]);
                    for fourth in [0x20, 0x7F, 0x80, 0xBF, 0xC0] {
                        same(&[first, second, third, fourth]);
                    }
                }
            }
        }
    }

    fn same(octets: &[u8]) {
        let one = octet_by_octet(octets);
        match chars::check(octets) {
            Ok(_) => assert!(one.is_ok_and(|utf8| !utf8.is_inside()), "{octets:x?}"),
            // What is cut at the end is not over yet; else one of the two rules is broken, whichever is met first.
            Err(_) => assert!(one.is_err() || one.is_ok_and(Utf8::is_inside), "{octets:x?}"),
        }
    }
}
