//! Domain names in their one canonical form.
//!
//! Two domains are the same exactly when their canonical forms are the same octets (JID-08): lower case, U-labels, no
//! trailing dot. The same function serves headers, dialback, certificates, policy and stanzas. Look-alikes stay distinct
//! (JID-09); nothing here guesses.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::error::AddressError;
use super::{prepare, quick};

/// A domain name, canonical and unambiguous: what two servers, old and new, read alike.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Reads a domain name in any legal spelling.
    ///
    /// Refuses what is no name in the DNS (IP literals, wildcards, empty labels, over 253 octets as A-labels; JID-03) and
    /// what IDNA2003 and IDNA2008 read differently (JID-05). A single label is a name; whether it may appear is for the
    /// caller to ask ([`Domain::is_single_label`]).
    ///
    /// # Errors
    /// Why it is none that every party reads alike.
    pub fn parse(text: &str) -> Result<Domain, AddressError> {
        canonical(text).map(|form| Domain(Arc::from(form.as_ref())))
    }

    /// The name in this address as a server behind has written it, also where it is no domain name: whoever wrote to it can be
    /// told so in its name, and nothing else is ever done with such a one ([`Domain::is_name`]). None where nobody could speak
    /// in that name on a stream: it is empty, too long, or holds what would have to be escaped or hidden.
    pub fn as_spelt(address: &str) -> Option<Domain> {
        let name = name_in(address);
        let speakable = |c: char| match c {
            '"' | '&' | '\'' | '<' | '>' | '@' | '\\' | '\u{7f}'..='\u{a0}' => false,
            // What has no width of its own, changes the direction, or is for private use or nothing; but for what joins emoji.
            '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{ad}' => false,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => false,
            '\u{3164}' | '\u{ffa0}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => false,
            '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' => false,
            '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'.. => false,
            c => c > ' ' && !c.is_whitespace(),
        };
        Domain::parse(name).ok().or_else(|| {
            let is_one = (1..=prepare::MAX_PART).contains(&name.len()) && name.chars().all(speakable);
            is_one.then(|| Domain(Arc::from(name)))
        })
    }

    /// The same as a server of the old kind reads what it has written (JID-05): nameprep is done to it, so `stra\u{df}e` is `strasse`, and what
    /// is no name may be read as one. Who is told on a stream of its own name must hear that one: the server compares what it has read.
    pub fn as_read(address: &str) -> Option<Domain> {
        let read = prepare::old(name_in(address));
        // What looks alike has become a sign that parts an address.
        if read.contains(['@', '/']) { None } else { Self::as_spelt(&read) }
    }

    /// Whether it is a domain name: all are but those that are only spelt ([`Domain::as_spelt`]).
    pub fn is_name(&self) -> bool {
        canonical(&self.0).is_ok_and(|form| form == *self.0)
    }

    /// The canonical form, U-labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form for DNS, SNI and certificates, A-labels.
    pub fn to_ascii(&self) -> Cow<'_, str> {
        if self.0.is_ascii() {
            return Cow::Borrowed(&self.0);
        }
        // The canonical form was made only after this very conversion had succeeded.
        to_ascii(&self.0).unwrap_or(Cow::Borrowed(&self.0))
    }

    /// The part of it that somebody has registered, as the DNS writes it, by the public suffix list and its private part: what lies below it
    /// is one party's. A domain that is a public suffix itself, or whose top level nobody knows, stands for itself.
    pub fn registrable(&self) -> Box<str> {
        let ascii = self.to_ascii();
        psl::domain_str(&ascii).unwrap_or(&ascii).into()
    }

    /// Whether it is its own registrable part while others have names below it, as `github.io` is.
    pub fn is_shared(&self) -> bool {
        psl::domain_str(&self.to_ascii()).is_none()
    }

    /// Whether anybody may have a name of his own below it, as below `com` and `co.uk`: it has one label only, or a registry of the
    /// public suffix list gives names under it. What somebody lets others have names under, like `github.io`, is none.
    pub fn is_public_suffix(&self) -> bool {
        Self::is_suffix(&self.to_ascii())
    }

    /// The same of a name that is canonical, and in ASCII, as it stands.
    pub fn is_suffix(ascii: &str) -> bool {
        !ascii.contains('.') || Self::suffix(ascii) == ascii.len()
    }

    /// Whether it is a public suffix of the list that a registry has. A single label that nobody knows is none.
    pub fn is_of_a_registry(&self) -> bool {
        let ascii = self.to_ascii();
        let found = psl::suffix(ascii.as_bytes());
        found.is_some_and(|found| {
            found.typ() == Some(psl::Type::Icann) && found.as_bytes() == ascii.as_bytes()
        })
    }

    /// How many labels it has more than the public suffix that it lies below.
    pub fn above_suffix(&self) -> usize {
        let ascii = self.to_ascii();
        let rest = ascii.len() - Self::suffix(&ascii);
        ascii.bytes().take(rest).filter(|octet| *octet == b'.').count()
    }

    /// Octets of the public suffix that a registry has; of the last label where none is known.
    fn suffix(ascii: &str) -> usize {
        let last = || ascii.rsplit('.').next().map_or(0, str::len);
        let Some(found) = psl::suffix(ascii.as_bytes()) else { return last() };
        let length = found.as_bytes().len();
        let above = ascii.get(ascii.len() - length..).and_then(|suffix| suffix.split_once('.'));
        match (found.typ(), above) {
            (Some(psl::Type::Icann), _) => length,
            // A private one lies below one of a registry.
            (Some(psl::Type::Private), Some((_, above))) => Self::suffix(above),
            _ => last(),
        }
    }

    /// Whether the name has one label only, like `localhost`.
    pub fn is_single_label(&self) -> bool {
        !self.0.contains('.')
    }

    /// Whether this is a proper subdomain of `parent`, label by label (POL-02).
    pub fn is_below(&self, parent: &Domain) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }

    /// The name without its left-most label; none for a single label.
    pub fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, parent)| parent)
    }

    pub(super) fn from_canonical(form: &str) -> Domain {
        Domain(Arc::from(form))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({})", self.0)
    }
}

impl Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Domain {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl std::str::FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Domain, AddressError> {
        Domain::parse(text)
    }
}

/// JID-01: the first `/`, then the first `@` of what precedes it.
fn name_in(address: &str) -> &str {
    let bare = address.split_once('/').map_or(address, |(bare, _)| bare);
    bare.split_once('@').map_or(bare, |(_, name)| name)
}

/// The canonical form of a domain name; borrowed when the text already is canonical ASCII.
pub(super) fn canonical(text: &str) -> Result<Cow<'_, str>, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > prepare::MAX_PART {
        return Err(AddressError::TooLong);
    }
    // RFC 7622 3.2: one trailing dot is stripped before anything else.
    let text = text.strip_suffix('.').unwrap_or(text);
    if is_canonical_ascii(text) {
        return within_dns_length(text).map(Cow::Borrowed);
    }
    match quick::canonical(text) {
        Some(form) => Ok(Cow::Owned(form)),
        None => with_care(text).map(Cow::Owned),
    }
}

/// The same of what is not canonical ASCII, whatever letters it has.
pub(super) fn with_care(text: &str) -> Result<String, AddressError> {
    if text.contains(FOREIGN_DOTS) {
        return Err(AddressError::Domain);
    }
    let names = Uts46::new();
    let (form, outcome) = names.to_unicode(text.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    if outcome.is_err() {
        return Err(agreed(text).err().unwrap_or(AddressError::Domain));
    }
    let given = agreed(text)?;
    // What is forwarded is read by the next hop once more: it must be a fixed point of both generations.
    let mut labels = 0usize;
    for label in form.split('.') {
        labels += 1;
        if prepare::label(label)? != label {
            return Err(AddressError::Ambiguous);
        }
    }
    // Two mappings must not have parted ways, nor made a new dot.
    if labels != text.split('.').count() || given.is_some_and(|given| given != form) {
        return Err(AddressError::Ambiguous);
    }
    let form = form.into_owned();
    if !form.is_ascii() {
        to_ascii(&form)?;
    } else if is_canonical_ascii(&form) {
        within_dns_length(&form)?;
    } else {
        return Err(AddressError::Domain);
    }
    Ok(form)
}

/// What both generations make of the labels as given; none if some are A-labels, which only IDNA decodes.
fn agreed(text: &str) -> Result<Option<String>, AddressError> {
    let mut form = String::with_capacity(text.len());
    let mut whole = true;
    for (index, label) in text.split('.').enumerate() {
        if index > 0 {
            form.push('.');
        }
        if label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--")) {
            whole = false;
        } else if !label.is_empty() {
            form.push_str(&prepare::label(label)?);
        }
    }
    Ok(whole.then_some(form))
}

fn to_ascii(form: &str) -> Result<Cow<'_, str>, AddressError> {
    match quick::ascii(form) {
        Some(ascii) => Ok(Cow::Owned(ascii)),
        None => ascii_with_care(form),
    }
}

pub(super) fn ascii_with_care(form: &str) -> Result<Cow<'_, str>, AddressError> {
    Uts46::new()
        .to_ascii(form.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify)
        .map_err(|_| AddressError::Domain)
}

/// Lower-case letters, digits and hyphens in labels of 1 to 63 octets, no reserved label (RFC 5890 2.3.1), no IPv4 literal.
fn is_canonical_ascii(text: &str) -> bool {
    let mut last: &[u8] = b"";
    for label in text.as_bytes().split(|&b| b == b'.') {
        let letters = label.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        let hyphens = label.starts_with(b"-") || label.ends_with(b"-") || label.get(2..4) == Some(b"--");
        if !letters || hyphens || label.is_empty() || label.len() > 63 {
            return false;
        }
        last = label;
    }
    !is_number(last)
}

/// Whether resolvers take a name with this last label for an IPv4 address, `127.1` and `0x7f` included.
fn is_number(label: &[u8]) -> bool {
    let digits = label.strip_prefix(b"0x").map(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    digits.unwrap_or_else(|| label.iter().all(u8::is_ascii_digit))
}

fn within_dns_length(text: &str) -> Result<&str, AddressError> {
    if text.len() > 253 { Err(AddressError::TooLong) } else { Ok(text) }
}

/// JID-05: label separators that only some software takes for dots.
const FOREIGN_DOTS: [char; 3] = ['\u{3002}', '\u{ff0e}', '\u{ff61}'];

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
