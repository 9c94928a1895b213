//! How long an element may become where it is stored, wrapped and sent on (requirement XML-18).
//!
//! Servers write a prefix as a declaration on every element that uses it, and quotes in text as references. What is let in is
//! measured as they may write it, in the reading that judges it.

use super::names;

/// What an element costs whose namespace is neither its parent's nor declared on it: a declaration of its own.
pub(super) const fn of_element(namespace: usize) -> usize {
    namespace.saturating_add(9)
}

/// What a prefixed attribute costs: a prefix that the other server makes up, and its declaration.
pub(super) const fn of_attribute(namespace: usize) -> usize {
    namespace.saturating_add(25)
}

/// What `xml:lang` costs.
pub(super) const OF_LANG: usize = of_attribute(names::XML.len());

/// By how much this canonical form may grow beyond `most`: its grown size if that is more. `namespaces` is what its elements and
/// attributes cost. Quotes are counted only where they can matter, as in few elements.
pub(super) fn beyond(canonical: &[u8], namespaces: usize, most: usize) -> Option<usize> {
    let least = canonical.len().saturating_add(namespaces);
    if least.saturating_add(canonical.len().saturating_mul(OF_QUOTE)) <= most {
        return None;
    }
    let grown = least.saturating_add(quotes(canonical).saturating_mul(OF_QUOTE));
    (grown > most).then_some(grown)
}

/// Quotes in text. In the canonical language neither `<` nor `>` stands for itself but around tags.
fn quotes(canonical: &[u8]) -> usize {
    let mut rest = canonical;
    let mut found = 0;
    while let Some(tag) = memchr::memchr(b'<', rest) {
        let (text, after) = rest.split_at(tag);
        found += memchr::memchr2_iter(b'"', b'\'', text).count();
        let end = memchr::memchr(b'>', after).map_or(after.len(), |end| end + 1);
        rest = after.get(end..).unwrap_or_default();
    }
    found
}

/// `"` becomes `&quot;`.
const OF_QUOTE: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_count_in_text_and_nowhere_else() {
        assert_eq!(quotes(b"<a b='\"c' d=\"'\">\"x'<e/>'&quot;</a>"), 3);
        assert_eq!(beyond(b"<a>'</a>", 0, 13), None);
        assert_eq!(beyond(b"<a>'</a>", 0, 12), Some(13));
        assert_eq!(beyond(b"<a>x</a>", 7, 15), None);
        assert_eq!(beyond(b"<a>x</a>", 8, 15), Some(16));
        assert_eq!(OF_LANG, 61);
    }
}
