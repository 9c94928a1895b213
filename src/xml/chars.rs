//! Which characters XML allows, and which the house allows in names.
//!
//! Names are ASCII: the editions of XML disagree on the rest (rule T3). White space is space, tab, CR and LF and nothing
//! else; never use `char::is_whitespace` on XML.

use wide::u8x16;

use super::{Rule, Violation};

/// XML white space (XML 1.0 production 3).
pub(super) const fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\n' | b'\r')
}

/// The production `Char` of XML 1.0, section 2.2.
pub(super) const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// Rules B1 and B2 over complete octets. A sequence cut at the very end is a breach too.
pub(super) fn check(octets: &[u8]) -> Result<&str, Violation> {
    let text = std::str::from_utf8(octets).map_err(|_| Violation::of(Rule::B1))?;
    if legal(octets) { Ok(text) } else { Err(Violation::of(Rule::B2)) }
}

/// Rules B1 and B2 over octets whose last sequence may still be unfinished.
pub(super) fn check_begun(octets: &[u8]) -> Result<(), Violation> {
    let valid = match std::str::from_utf8(octets) {
        Ok(_) => octets.len(),
        Err(e) if e.error_len().is_some() => return Err(Violation::of(Rule::B1)),
        Err(e) => e.valid_up_to(),
    };
    if legal(octets.get(..valid).unwrap_or_default()) { Ok(()) } else { Err(Violation::of(Rule::B2)) }
}

/// Whether valid UTF-8 holds only `Char`. One pass that the compiler turns into vector code; only octets EF, which
/// begin U+FFFE and U+FFFF, make it look again.
fn legal(octets: &[u8]) -> bool {
    let (mut control, mut high) = (0u8, 0u8);
    for &b in octets {
        control |= u8::from(b < 0x20) & u8::from(b != b'\t') & u8::from(b != b'\n') & u8::from(b != b'\r');
        high |= u8::from(b == 0xEF);
    }
    control == 0 && (high == 0 || !has_noncharacter(octets))
}

/// Whether valid UTF-8 holds U+FFFE or U+FFFF.
fn has_noncharacter(octets: &[u8]) -> bool {
    let noncharacter = |i: usize| matches!(octets.get(i + 1..i + 3), Some([0xBF, 0xBE | 0xBF]));
    memchr::memchr_iter(0xEF, octets).any(noncharacter)
}

/// Whether there is a control character that canonical text has by reference only, or not at all.
pub(super) fn has_control(octets: &[u8]) -> bool {
    octets.iter().fold(false, |found, b| found | (*b < b' ' && !matches!(b, b'\t' | b'\n')))
}

/// Whether complete octets are UTF-8 and hold neither U+FFFE nor U+FFFF.
pub(super) fn is_text(octets: &[u8]) -> bool {
    simdutf8::basic::from_utf8(octets).is_ok() && !has_noncharacter(octets)
}

const START: u8 = 1;
const PART: u8 = 2;
const FOREIGN: u8 = 4;
/// May not stand for itself in a canonical attribute value; other control characters may stand nowhere.
const ESCAPED: u8 = 8;
/// May stand in a namespace name (rule N4), references aside.
const NAMESPACE: u8 = 16;

const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0u8;
    loop {
        let class = match i {
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => START | PART,
            b'0'..=b'9' | b'.' | b'-' => PART,
            0x80..=0xFF => FOREIGN,
            0..=0x1F | b'&' | b'<' | b'>' | b'"' | b'\'' => ESCAPED,
            _ => 0,
        };
        let class = match i {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'&' => class,
            b'!'..=b'~' => class | NAMESPACE,
            _ => class,
        };
        if let Some(slot) = table.split_at_mut(i as usize).1.first_mut() {
            *slot = class;
        }
        if i == 255 {
            break table;
        }
        i += 1;
    }
};

fn class(octet: u8) -> u8 {
    CLASS.get(usize::from(octet)).copied().unwrap_or_default()
}

/// Whether an element may begin with this octet, as far as a scanner can tell.
pub(super) fn may_begin_name(octet: u8) -> bool {
    octet == b':' || class(octet) & (START | FOREIGN) != 0
}

/// A qualified name at the beginning of some octets.
pub(super) struct Qualified {
    /// Octets it takes.
    pub len: usize,
    /// Octets of its prefix; none without a colon.
    pub prefix: Option<usize>,
}

/// Reads `NCName (':' NCName)?` off the front (rule T3). What may follow is the caller's affair.
pub(super) fn qualified(octets: &[u8]) -> Result<Qualified, Violation> {
    let first = part(octets)?;
    if octets.get(first) != Some(&b':') {
        return Ok(Qualified { len: first, prefix: None });
    }
    let rest = octets.get(first + 1..).unwrap_or_default();
    let second = part(rest)?;
    if rest.get(second) == Some(&b':') {
        return Err(Violation::of(Rule::T3));
    }
    Ok(Qualified { len: first + 1 + second, prefix: Some(first) })
}

/// The length of the NCName at the front.
fn part(octets: &[u8]) -> Result<usize, Violation> {
    let len = plain_name(octets).unwrap_or(octets.len());
    let foreign = octets.get(len).is_some_and(|&b| class(b) == FOREIGN);
    if foreign {
        // The editions of XML disagree about these, and no protocol needs them.
        return Err(Violation::with(Rule::T3, crate::reason::Reason::XmlBudget));
    }
    match octets.first() {
        Some(&b) if begins_plain_name(b) => Ok(len),
        _ => Err(Violation::of(Rule::T3)),
    }
}

/// How many octets at the front may be part of an unprefixed name; none if all may.
pub(super) fn plain_name(octets: &[u8]) -> Option<usize> {
    find(octets, ends_name, |b| class(b) & PART == 0)
}

/// The same for a name of less than sixteen octets with as many behind its beginning, as most are; none for all others.
#[inline(always)]
pub(super) fn short_name(octets: &[u8]) -> Option<usize> {
    let ended = ends_name(u8x16::new(*octets.first_chunk()?)).to_bitmask();
    (ended != 0).then_some(ended.trailing_zeros() as usize)
}

/// Marks octets that are no part of an unprefixed name.
#[inline(always)]
fn ends_name(window: u8x16) -> u8x16 {
    let letter = within(window | all(b'a' ^ b'A'), b'a', b'z');
    let other = within(window, b'-', b'9') & !is(window, b'/') | is(window, b'_');
    !(letter | other)
}

/// Whether an unprefixed name may begin with this octet.
pub(super) fn begins_plain_name(octet: u8) -> bool {
    class(octet) & START != 0
}

/// How many octets at the front may stand in a canonical attribute value as they are; none if all may.
pub(super) fn plain_value(octets: &[u8]) -> Option<usize> {
    let end = |window: u8x16| {
        let quotes = is(window, b'"') | is_either(window, b'&', b'\'');
        within(window, 0, b' ' - 1) | quotes | is_either(window, b'<', b'>')
    };
    find(octets, end, |b| class(b) & ESCAPED != 0)
}

/// The first octet that is sought, sixteen at a time: `marks` tells which of them are, `sought` the same for one.
fn find(octets: &[u8], marks: impl Fn(u8x16) -> u8x16, sought: impl Fn(u8) -> bool) -> Option<usize> {
    let (windows, rest) = octets.as_chunks();
    for (passed, window) in windows.iter().enumerate() {
        let marked = marks(u8x16::new(*window)).to_bitmask();
        if marked != 0 {
            let ahead = usize::try_from(marked.trailing_zeros()).ok()?;
            return Some(passed * window.len() + ahead);
        }
    }
    let passed = octets.len() - rest.len();
    rest.iter().position(|&b| sought(b)).map(|ahead| passed + ahead)
}

/// Marks octets that are this one.
fn is(window: u8x16, octet: u8) -> u8x16 {
    window.simd_eq(all(octet))
}

/// Marks octets that are one of two that differ in one bit.
fn is_either(window: u8x16, one: u8, other: u8) -> u8x16 {
    is(window | all(one ^ other), one | other)
}

/// Marks octets from the first to the last.
fn within(window: u8x16, first: u8, last: u8) -> u8x16 {
    let above = window - all(first);
    above.min(all(last - first)).simd_eq(above)
}

fn all(octet: u8) -> u8x16 {
    u8x16::splat(octet)
}

/// Whether a namespace name keeps rule N4 and holds no reference.
pub(super) fn is_plain_namespace(octets: &[u8]) -> bool {
    octets.iter().all(|&b| class(b) & NAMESPACE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each octet at each place, alone and behind another that is sought.
    #[test]
    fn sixteen_at_a_time_find_what_one_at_a_time_does() {
        type Found = fn(&[u8]) -> Option<usize>;
        let value = |b: u8| b < 0x20 || b"&<>\"'".contains(&b);
        let name = |b: u8| !b.is_ascii_alphanumeric() && !b"-._".contains(&b);
        let short: Found = |octets| short_name(octets).or_else(|| plain_name(octets));
        let all: [(Found, &dyn Fn(u8) -> bool); 3] =
            [(plain_value, &value), (plain_name, &name), (short, &name)];
        for (found, sought) in all {
            for octet in 0..=u8::MAX {
                for at in 0..80 {
                    for (len, more) in [(at + 1, None), (at + 17, None), (at + 33, Some(b'<'))] {
                        let mut octets = vec![b'x'; len];
                        octets[at] = octet;
                        octets.extend(more);
                        assert_eq!(
                            found(&octets),
                            octets.iter().position(|&b| sought(b)),
                            "{octet:#x} at {at} of {len}"
                        );
                    }
                }
            }
        }
    }
}
