//! The names in a certificate, and name constraints for the kinds that the path validator does not know.
//!
//! Reads the subject alternative names only, never the Common Name (RFC 9525 2). What the names are worth is
//! [`crate::stream::identity`]'s business.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, NameConstraints, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::stream::secured::PresentedName;

/// The identifiers that XMPP knows, void ones left out (RFC 6120 13.7.1.2.1).
///
/// A certificate that carries the extension twice, or one that cannot be read, presents nothing.
pub fn presented(certificate: &X509Certificate<'_>) -> Vec<PresentedName> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    extension.value.general_names.iter().filter_map(identifier).collect()
}

fn identifier(name: &GeneralName<'_>) -> Option<PresentedName> {
    match name {
        GeneralName::DNSName(name) => is_ia5(name).then(|| PresentedName::Dns((*name).to_owned())),
        GeneralName::RFC822Name(name) => is_ia5(name).then(|| PresentedName::Email((*name).to_owned())),
        GeneralName::OtherName(kind, value) if kind.as_bytes() == SRV_NAME => {
            let text = explicit(value, IA5_STRING)?;
            is_ia5(text).then(|| PresentedName::Srv(text.to_owned()))
        }
        GeneralName::OtherName(kind, value) if kind.as_bytes() == XMPP_ADDR => {
            let text = explicit(value, UTF8_STRING)?;
            (!text.contains('\0')).then(|| PresentedName::Xmpp(text.to_owned()))
        }
        _ => None,
    }
}

fn is_ia5(name: &str) -> bool {
    name.is_ascii() && !name.contains('\0')
}

/// `[0] EXPLICIT` around one string of that tag, and nothing behind either (RFC 5280 4.2.1.6).
fn explicit(value: &[u8], tag: u8) -> Option<&str> {
    let (inner, rest) = element(value, EXPLICIT_0)?;
    let (text, behind) = element(inner, tag)?;
    (rest.is_empty() && behind.is_empty()).then(|| std::str::from_utf8(text).ok())?
}

/// One DER element of that tag with its length in the shortest form: its contents, and what follows it.
fn element(value: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = value.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let shortest = match first {
        0x81 => length > 0x7f,
        0x82 => length > 0xff,
        _ => true,
    };
    if shortest { rest.split_at_checked(length) } else { None }
}

/// What the authorities of a path allow the domains of our own name kinds to be.
///
/// RFC 5280 4.2.1.10 lets a constraint bind names of its own kind only, so an authority held to `dNSName` subtrees
/// could still issue any SRVName or xmppAddr. Here its `dNSName` subtrees bind those as well: who may not issue
/// `a.example` may not issue `_xmpp-server.a.example` either.
#[derive(Debug, Default)]
pub struct Constraints {
    permitted: Vec<Vec<String>>,
    excluded: Vec<String>,
    /// An authority is held to addresses or mailboxes and to no `dNSName`s: it is none for XMPP.
    no_xmpp: bool,
}

impl Constraints {
    /// Adds what one authority's certificate says.
    pub fn add_certificate(&mut self, authority: &X509Certificate<'_>) {
        for extension in authority.extensions() {
            if let ParsedExtension::NameConstraints(constraints) = extension.parsed_extension() {
                self.add(constraints);
            }
        }
    }

    /// Adds what a trust anchor says: the contents of its `NameConstraints`, without the outer tag.
    ///
    /// Contents that cannot be read permit nothing.
    pub fn add_anchor(&mut self, contents: &[u8]) {
        let Ok(length) = u16::try_from(contents.len()) else {
            return self.permitted.push(Vec::new());
        };
        let mut whole = vec![0x30];
        match u8::try_from(length) {
            Ok(short @ 0..=0x7f) => whole.push(short),
            Ok(long) => whole.extend([0x81, long]),
            Err(_) => {
                whole.push(0x82);
                whole.extend(length.to_be_bytes());
            }
        }
        whole.extend_from_slice(contents);
        match NameConstraints::from_der(&whole) {
            // One of the two is always there (RFC 5280 4.2.1.10); the parser does not insist on it.
            Ok((_, constraints))
                if constraints.permitted_subtrees.is_some() || constraints.excluded_subtrees.is_some() =>
            {
                self.add(&constraints);
            }
            _ => self.permitted.push(Vec::new()),
        }
    }

    fn add(&mut self, constraints: &NameConstraints<'_>) {
        let subtrees = |trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
            let names = trees.iter().flatten().filter_map(|tree| match tree.base {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            });
            names.collect::<Vec<_>>()
        };
        let permitted = subtrees(&constraints.permitted_subtrees);
        let trees = [&constraints.permitted_subtrees, &constraints.excluded_subtrees];
        let narrow = |tree: &x509_parser::extensions::GeneralSubtree<'_>| {
            matches!(tree.base, GeneralName::IPAddress(_) | GeneralName::RFC822Name(_))
        };
        self.no_xmpp |= permitted.is_empty() && trees.into_iter().flatten().flatten().any(narrow);
        if !permitted.is_empty() {
            self.permitted.push(permitted);
        }
        self.excluded.extend(subtrees(&constraints.excluded_subtrees));
    }

    /// Whether a name of ours lies where these authorities may issue. `dNSName`s are the path validator's.
    pub fn admit(&self, name: &PresentedName) -> bool {
        let domain = match name {
            PresentedName::Dns(_) => return true,
            PresentedName::Srv(name) => name.split_once('.').map_or("", |(_, domain)| domain),
            PresentedName::Xmpp(_) | PresentedName::Email(_) if self.no_xmpp => return false,
            // An account lies where its domain does.
            PresentedName::Xmpp(name) | PresentedName::Email(name) => {
                name.rsplit_once('@').map_or(name.as_str(), |(_, domain)| domain)
            }
        };
        let Ok(domain) = crate::jid::Domain::parse(domain) else { return false };
        let domain = domain.to_ascii();
        self.permitted.iter().all(|trees| trees.iter().any(|tree| is_within(&domain, tree)))
            && !self.excluded.iter().any(|tree| is_within(&domain, tree))
    }

    /// Whether nothing is constrained.
    pub fn is_empty(&self) -> bool {
        self.permitted.is_empty() && self.excluded.is_empty() && !self.no_xmpp
    }
}

/// RFC 5280 4.2.1.10: a name that adds labels to the left of the subtree's lies within; a leading dot is tolerated.
fn is_within(domain: &str, tree: &str) -> bool {
    let tree = tree.strip_prefix('.').unwrap_or(tree);
    tree.is_empty()
        || domain.strip_suffix(tree).is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
}

/// 1.3.6.1.5.5.7.8.7, id-on-dnsSRV (RFC 4985).
const SRV_NAME: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 7];
/// 1.3.6.1.5.5.7.8.5, id-on-xmppAddr (RFC 6120).
const XMPP_ADDR: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 5];
const EXPLICIT_0: u8 = 0xa0;
const IA5_STRING: u8 = 0x16;
const UTF8_STRING: u8 = 0x0c;

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 5280 4.2.1.6: the value is `[0] EXPLICIT ANY DEFINED BY type-id`.
    #[test]
    fn other_names_are_read_strictly() {
        let table: &[(&[u8], Option<&str>)] = &[
            (b"\xa0\x04\x16\x02ab", Some("ab")),
            (b"\xa0\x04\x0c\x02ab", None),
            (b"\xa0\x04\x16\x03ab", None),
            (b"\xa0\x04\x16\x02abX", None),
            (b"\xa0\x05\x16\x02abX", None),
            (b"\xa0\x05\x16\x81\x02ab", None),
            (b"\x16\x02ab", None),
            (b"\xa0", None),
            (b"", None),
        ];
        for (value, expected) in table {
            assert_eq!(explicit(value, IA5_STRING), *expected, "{value:x?}");
        }
    }

    #[test]
    fn constraints_on_dns_names_bind_our_names_too() {
        let constraints = Constraints {
            permitted: vec![vec!["a.example".into(), ".b.example".into()]],
            excluded: vec!["bad.a.example".into()],
            no_xmpp: false,
        };
        let table = [
            ("_xmpp-server.a.example", true),
            ("_xmpp-server.x.a.example", true),
            ("_xmpp-server.b.example", true),
            ("_xmpp-server.xa.example", false),
            ("_xmpp-server.bad.a.example", false),
            ("_xmpp-server.c.example", false),
            ("nothing", false),
        ];
        for (name, expected) in table {
            assert_eq!(constraints.admit(&PresentedName::Srv(name.into())), expected, "{name}");
        }
        assert!(constraints.admit(&PresentedName::Xmpp("A.example".into())));
        assert!(!constraints.admit(&PresentedName::Xmpp("c.example".into())));
        assert!(Constraints::default().is_empty());
    }

    // An anchor whose constraints cannot be read must not turn into one without constraints.
    #[test]
    fn unreadable_constraints_permit_nothing() {
        let mut constraints = Constraints::default();
        constraints.add_anchor(b"\xff\xff");
        assert!(!constraints.admit(&PresentedName::Xmpp("a.example".into())));
    }
}
