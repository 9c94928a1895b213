//! The canonical form, written while an element is read.

use super::super::Span;
use super::super::content::write_value;
use super::super::tag::Tag;
use super::{Place, Strict};

impl Strict {
    /// Where an octet of the input that is about to be written will be.
    pub(super) fn position(&self, input: usize) -> usize {
        if self.writing { self.out.len() } else { input }
    }

    /// Begins to write the canonical form, if that has not begun.
    pub(super) fn write_from(&mut self, octets: &[u8], at: usize) {
        if !self.writing {
            self.writing = true;
            self.out.reserve(octets.len());
            self.out.extend_from_slice(octets.get(..at).unwrap_or_default());
        }
    }

    /// Passes canonical octets on.
    pub(super) fn pass(&mut self, octets: &[u8], start: usize, end: usize) {
        if self.writing {
            self.out.extend_from_slice(octets.get(start..end).unwrap_or_default());
        }
    }

    /// Writes a start tag, and moves the spans of its values where they are written anew. Tells where it ends.
    pub(super) fn write_tag(&mut self, octets: &[u8], place: Place, tag: &Tag) -> usize {
        if tag.canonical {
            let begin = self.position(place.start);
            self.pass(octets, place.start, place.end);
            for attr in &mut self.attrs {
                attr.value = attr.value.moved(place.start, begin);
            }
            return begin + (place.end - place.start);
        }
        self.write_from(octets, place.start);
        self.out.push(b'<');
        self.out.extend_from_slice(tag.name.of(octets));
        for attr in &mut self.attrs {
            self.out.push(b' ');
            self.out.extend_from_slice(attr.name.of(octets));
            self.out.extend_from_slice(b"='");
            let begin = self.out.len();
            write_value(&mut self.out, attr.value.text(octets));
            attr.value = Span::new(begin, self.out.len());
            self.out.push(b'\'');
        }
        self.out.extend_from_slice(if place.empty { b"/>" } else { b">" });
        self.out.len()
    }
}
