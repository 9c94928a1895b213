//! What stands between elements, and before the root: white space, text that is passed over, and octets that belong to no element.

use bytes::Buf;

use super::super::{Rule, Violation, chars};
use super::{Framer, Token};
use crate::reason::Reason;

impl Framer {
    /// Drops white space between elements, or before the root.
    pub(super) fn blank(&mut self) -> Option<Token> {
        let len = self.buffer.iter().position(|&b| !chars::is_space(b)).unwrap_or(self.buffer.len());
        if len == 0 {
            return None;
        }
        self.buffer.advance(len);
        self.scan.taken();
        let owed = self.scan.is_rooted() && !self.told;
        self.told = true;
        owed.then_some(Token::Keepalive)
    }

    /// Drops text between elements where that is wanted: whether it is to be told. None where it is a breach, or its first
    /// character is not complete.
    pub(super) fn pass_over(&mut self) -> Result<Option<bool>, Violation> {
        let Some(told) = self.text.filter(|_| self.scan.is_rooted()) else { return Ok(None) };
        let marked = |b: &u8| matches!(b, b'<' | b'&');
        let end = self.buffer.iter().position(marked).unwrap_or(self.buffer.len());
        let run = self.buffer.get(..end).unwrap_or_default();
        let whole = match std::str::from_utf8(run) {
            Ok(_) => end,
            // What follows may complete it.
            Err(e) if e.error_len().is_none() && end == self.buffer.len() => e.valid_up_to(),
            Err(_) => return Err(Violation::of(Rule::B1)),
        };
        if whole == 0 {
            return Ok(None);
        }
        chars::check(run.get(..whole).unwrap_or_default())?;
        self.buffer.advance(whole);
        self.scan.taken();
        self.text = Some(true);
        Ok(Some(!told))
    }

    /// Rule B3 at octet 0: false while too few octets are there to tell.
    pub(super) fn is_utf8_begun(&self) -> Result<bool, Violation> {
        match *self.buffer {
            [0xFE | 0xFF | 0, ..] | [_, 0, ..] => Err(Violation::of(Rule::B3)),
            [] | [_] => Ok(false),
            _ => Ok(true),
        }
    }

    /// An octet between elements that is neither `<` nor white space. Fine only while the character is unfinished.
    pub(super) fn stray(&self) -> Result<(), Violation> {
        let begun = self.buffer.get(..4).unwrap_or(&self.buffer);
        let character = match std::str::from_utf8(begun) {
            Ok(text) => text.chars().next(),
            Err(e) if e.valid_up_to() > 0 => {
                let valid = begun.get(..e.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(valid).ok().and_then(|t| t.chars().next())
            }
            Err(e) if e.error_len().is_some() => return Err(Violation::of(Rule::B1)),
            Err(_) => None,
        };
        let rooted = self.scan.is_rooted();
        Err(match character {
            None => return Ok(()),
            Some(c) if !chars::is_char(c) => Violation::of(Rule::B2),
            Some(_) if rooted => Violation::of(Rule::S1),
            Some('\u{FEFF}') => Violation::of(Rule::B4),
            // Before the root there is no stream level to be of bad format (XML 1.0, production 22).
            Some(_) => Violation::with(Rule::H1, Reason::NotWellFormed),
        })
    }
}
