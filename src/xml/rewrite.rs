//! A frame with other addresses, another language, or without some of its children.
//!
//! The start tag is written anew from decoded values, children are left out by the ranges that the strict reading found;
//! nothing is ever edited by searching in octets (rules, section 6). Canonical in, canonical out.

use bytes::Bytes;

use super::content::escape_value_char;
use super::tag::{self, Role};
use super::{Frame, Limits};

/// What to change in a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Edits {
    /// The new `from`.
    pub from: Option<String>,
    /// The new `to`.
    pub to: Option<String>,
    /// The new `xml:lang`.
    pub lang: Option<String>,
    /// Whether `from` goes; a new one wins over this.
    pub remove_from: bool,
    /// Indexes of the direct children that go.
    pub cut: Vec<usize>,
}

impl Edits {
    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The frame's octets after the edits.
pub fn rewrite(frame: &Frame, edits: &Edits) -> Bytes {
    if edits.is_empty() {
        return frame.octets().clone();
    }
    let octets = frame.octets().as_ref();
    let head = frame.head();
    let tag_end = head.surface.spans.tag.range().end;
    let mut out = Vec::with_capacity(octets.len() + 128);
    write_tag(&mut out, octets, tag_end, edits);
    let mut at = tag_end;
    let mut cut = vec![false; head.children().len()];
    for &index in &edits.cut {
        if let Some(slot) = cut.get_mut(index) {
            *slot = true;
        }
    }
    for (child, _) in head.children().zip(cut).filter(|(_, cut)| *cut) {
        out.extend_from_slice(octets.get(at..child.range().start).unwrap_or_default());
        at = child.range().end;
    }
    out.extend_from_slice(octets.get(at..).unwrap_or_default());
    Bytes::from(out)
}

/// Writes the start tag with the changed attributes in their old places and new ones at the end.
fn write_tag(out: &mut Vec<u8>, octets: &[u8], tag_end: usize, edits: &Edits) {
    let empty = octets.get(..tag_end).is_some_and(|t| t.ends_with(b"/>"));
    let mut attrs = Vec::new();
    let inside_end = tag_end.saturating_sub(1 + usize::from(empty));
    // It was read under budgets once; this time the tag's own length is budget enough.
    let Ok(tag) = tag::read(octets, 1, inside_end, &Limits::boundless(), &mut attrs) else {
        out.extend_from_slice(octets.get(..tag_end).unwrap_or_default());
        return;
    };
    let mut due = [("from", &edits.from), ("to", &edits.to), ("xml:lang", &edits.lang)].map(Some);
    out.push(b'<');
    out.extend_from_slice(tag.name.of(octets));
    for attr in &attrs {
        let name = attr.name.text(octets);
        let slot = due.iter_mut().find(|slot| slot.is_some_and(|(n, value)| n == name && value.is_some()));
        if let Some((name, Some(value))) = slot.and_then(Option::take) {
            write_attr(out, name, value);
        } else if !(edits.remove_from && attr.role == Role::Plain && name == "from") {
            out.push(b' ');
            let written = attr.name.range().start..attr.value.range().end + 1;
            out.extend_from_slice(octets.get(written).unwrap_or_default());
        }
    }
    for (name, value) in due.into_iter().flatten() {
        if let Some(value) = value {
            write_attr(out, name, value);
        }
    }
    out.extend_from_slice(if empty { b"/>" } else { b">" });
}

fn write_attr(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    value.chars().filter(|&c| super::chars::is_char(c)).for_each(|c| escape_value_char(out, c));
    out.push(b'\'');
}
