//! Whole addresses: split, checked, and opaque beyond the domain.
//!
//! The domain leaves in canonical form, local part and resource as they were received (JID-07). Plain ASCII costs no
//! allocation.

use std::borrow::Cow;
use std::fmt;

use super::domain::{self, Domain};
use super::error::AddressError;
use super::prepare;

/// An address that every server behind us reads as the same address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Jid<'a> {
    /// The part before `@`, as received.
    pub local: Option<&'a str>,
    /// The domain, canonical.
    pub domain: Cow<'a, str>,
    /// The part after the first `/`, as received.
    pub resource: Option<&'a str>,
    as_received: bool,
}

impl<'a> Jid<'a> {
    /// Reads an address (JID-01 to JID-06).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &'a str) -> Result<Jid<'a>, AddressError> {
        Self::read(text, prepare::local, prepare::resource)
    }

    /// Reads an address as RFC 7622 alone has it, for a server that is known to read it so (JID-06). The domain must still be
    /// one that both generations read alike.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_rfc7622(text: &'a str) -> Result<Jid<'a>, AddressError> {
        Self::read(text, prepare::modern_local, prepare::modern_resource)
    }

    fn read(
        text: &'a str,
        read_local: Prepare<'a>,
        read_resource: Prepare<'a>,
    ) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > MAX_WHOLE {
            return Err(AddressError::TooLong);
        }
        // JID-01: at the first slash, then at the first @ of what precedes it, before any mapping.
        let (bare, resource) = match split(text, b'/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        let (local, name) = match split(bare, b'@') {
            Some((local, name)) => (Some(local), name),
            None => (None, bare),
        };
        let domain = domain::canonical(name).map_err(|error| match error {
            AddressError::Empty => AddressError::Domain,
            other => other,
        })?;
        local.map(read_local).transpose()?;
        resource.map(read_resource).transpose()?;
        let as_received = domain == name;
        Ok(Jid { local, domain, resource, as_received })
    }

    /// Whether the domain was canonical as received; if not, the address must be written anew (JID-07).
    pub fn domain_as_received(&self) -> bool {
        self.as_received
    }

    /// The domain as a value of its own.
    pub fn to_domain(&self) -> Domain {
        Domain::from_canonical(&self.domain)
    }

    /// The address without its resource.
    pub fn bare(&self) -> String {
        match self.local {
            Some(local) => format!("{local}@{}", self.domain),
            None => self.domain.clone().into_owned(),
        }
    }

    /// The address without its resource, in the form that compares.
    pub fn bare_form(&self) -> String {
        let form = |text| prepare::local(text).or_else(|_| prepare::modern_local(text));
        match self.local {
            Some(local) => format!("{}@{}", form(local).unwrap_or(Cow::Borrowed(local)), self.domain),
            None => self.domain.clone().into_owned(),
        }
    }

    /// The part before `@` in the form that compares (RFC 7622 3.3).
    pub fn local_form(&self) -> Option<Cow<'a, str>> {
        self.local.and_then(|text| prepare::local(text).ok())
    }

    /// The part after `/` in the form that compares (RFC 7622 3.4).
    pub fn resource_form(&self) -> Option<Cow<'a, str>> {
        self.resource.and_then(|text| prepare::resource(text).ok())
    }

    /// Whether both name the same account or host, whatever their resources and however the case is written.
    pub fn is_same_bare(&self, other: &Jid<'_>) -> bool {
        let form = |local: Option<&str>| local.map(|text| prepare::local(text).map(Cow::into_owned));
        self.domain == other.domain && (self.local == other.local || form(self.local) == form(other.local))
    }
}

/// How a part of an address is read.
type Prepare<'a> = fn(&'a str) -> Result<Cow<'a, str>, AddressError>;

/// A plain address: in ASCII, with nothing in it that is not as it should be, and with the domain spelt in its canonical
/// form. Most are, and there are two in each stanza; [`Jid::parse`] has the word about all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Octets of the bare address, which it begins with.
    pub bare: usize,
    /// Whether there is a local part: it is for an account and not for the domain itself.
    pub to_user: bool,
}

impl Plain {
    /// Reads an address in this domain.
    pub fn read(address: &[u8], domain: &Domain) -> Option<Self> {
        let local = prepare::plain_local(address);
        let (to_user, name) = match address.split_at_checked(local)? {
            (_, [b'@', name @ ..]) if (1..=prepare::MAX_PART).contains(&local) => (true, name),
            _ => (false, address),
        };
        let rest = name.strip_prefix(domain.as_str().as_bytes())?;
        let plain = match rest {
            [] => true,
            [b'/', resource @ ..] => prepare::is_plain_resource(resource),
            _ => false,
        };
        plain.then_some(Self { bare: address.len() - rest.len(), to_user })
    }
}

impl fmt::Display for Jid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(local) = self.local {
            write!(f, "{local}@")?;
        }
        f.write_str(&self.domain)?;
        match self.resource {
            Some(resource) => write!(f, "/{resource}"),
            None => Ok(()),
        }
    }
}

/// What stands before and after the first of these ASCII octets. Addresses are short: looking octet by octet is faster than
/// a search made for long text, and there are two in each stanza.
fn split(text: &str, at: u8) -> Option<(&str, &str)> {
    let position = text.bytes().position(|b| b == at)?;
    Some((text.get(..position)?, text.get(position + 1..)?))
}

/// RFC 7622 3.1: three parts of 1023 octets and two separators.
pub const MAX_WHOLE: usize = 3071;

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
