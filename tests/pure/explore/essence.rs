//! What a state of a relay is walked as: its text, without what makes no difference, and with times that count from now.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::time::Instant;

/// The text without the values of these fields, each named as `" field: "`.
pub fn without(text: &str, fields: &[&str]) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((at, field)) = fields.iter().filter_map(|field| Some((rest.find(field)?, *field))).min() {
        let (before, behind) = rest.split_at(at + field.len());
        out += before;
        rest = &behind[end_of_value(behind)..];
    }
    out + rest
}

/// The text with each time in it as milliseconds from now: a relay does the same at any hour.
pub fn from_now(text: &str, now: Instant) -> String {
    let now = nanoseconds(&format!("{now:?}"));
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("Instant {") {
        let (before, behind) = rest.split_at(at);
        let (face, later) = behind.split_at(end_of_value(behind));
        out += before;
        out += &format!("{:+}", (nanoseconds(face) - now) / 1_000_000);
        rest = later;
    }
    out + rest
}

/// The time that is written so: seconds, then nanoseconds.
fn nanoseconds(face: &str) -> i128 {
    let mut numbers = face.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let mut next = || numbers.next().unwrap().parse::<i128>().unwrap();
    next() * 1_000_000_000 + next()
}

/// Where the value ends that this begins with.
pub fn end_of_value(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'(' | b'[' => depth += 1,
            b',' if depth == 0 => return at,
            // `Name { .. }` is one value.
            b' ' if depth == 0 && !text[at..].starts_with(" {") => return at,
            b'}' | b')' | b']' if depth == 0 => return at,
            b'}' | b')' | b']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// One number for it.
pub fn hash(of: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(of)
}

#[test]
fn what_makes_no_difference_is_left_out() {
    let text = "A { b: C { d: \"}, \\\" e\" }, f: Some((1, 2)), g: 3, h: [4] }";
    assert_eq!(without(text, &[" b: ", " g: "]), "A { b: , f: Some((1, 2)), g: , h: [4] }");
    let now = Instant::now();
    let later = now + std::time::Duration::from_millis(1500);
    assert_eq!(from_now(&format!("{:?} {later:?}", Some(now)), now), "Some(+0) +1500");
    assert_eq!(from_now(&format!("{now:?}"), later), "-1500");
}
