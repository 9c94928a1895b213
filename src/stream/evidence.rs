//! What a domain publishes about its certificates, compared with the one that a channel shows. It was looked up for one domain,
//! and is of no worth for another: whoever asks names the domain. Plain data; `run` finds it, `tls` compares.

use super::dane::Dane;
use crate::jid::Domain;
use crate::reason::Detail;

/// What came of looking for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// The domain that it speaks for.
    pub domain: Domain,
    /// Where we connected: the host that a secure SRV record names, which the certificate may name in the domain's stead
    /// (DNS-13).
    pub host: Option<Box<str>>,
    /// What the TLSA records make of the certificate (DNS-12, DNS-15).
    pub dane: Dane,
    /// What the file that the domain publishes by HTTPS makes of it (DNS-16).
    pub posh: Posh,
}

impl Evidence {
    /// Nothing was found for this domain.
    pub fn none(domain: Domain) -> Self {
        Self { domain, host: None, dane: Dane::default(), posh: Posh::default() }
    }
}

/// What comparing a certificate with the POSH file of a domain came to (RFC 7711).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Posh {
    /// No rule takes such a proof here, or another was there before: nobody has looked.
    #[default]
    Unasked,
    /// The file names the certificate, which is in date.
    Proven,
    /// It proves nothing, for this reason.
    Not(Box<Detail>),
}

impl Posh {
    /// Why it proves nothing, if it was asked for.
    pub fn doubt(&self) -> Option<Detail> {
        match self {
            Self::Not(detail) => Some(Detail::clone(detail)),
            Self::Unasked | Self::Proven => None,
        }
    }
}

/// What to look for: what would be taken as a proof, and is not on the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sought {
    /// TLSA records.
    pub dane: bool,
    /// The POSH file.
    pub posh: bool,
}

impl Sought {
    /// Whether there is nothing to look for.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}
