//! What the DNS has published, under signatures, about the server of a domain: the host that a secure SRV record names, and
//! the certificates or keys that TLSA records associate with it (RFC 6698, RFC 7673). Plain data: `dns` finds it, `tls` compares.

use crate::reason::{Cause, Detail};

/// What is published about one server, as far as its answers were secure; nothing where they were not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Published {
    /// The host that a secure SRV record named: another name by which its certificate may speak for the domain (DNS-13).
    pub host: Option<Box<str>>,
    /// Its TLSA records, those that can be used.
    pub associations: Vec<Association>,
}

/// A TLSA record that can be used (RFC 7671 4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Association {
    /// What it constrains.
    pub usage: Usage,
    /// What of a certificate it is about.
    pub selector: Selector,
    /// How that is written.
    pub matching: Matching,
    /// The octets.
    pub data: Box<[u8]>,
}

/// Certificate usages (RFC 7218 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Usage {
    /// PKIX-TA(0): an authority of a path that holds by the anchors here.
    PkixTa,
    /// PKIX-EE(1): the certificate, whose path holds by the anchors here.
    PkixEe,
    /// DANE-TA(2): an authority that the domain itself names as anchor.
    DaneTa,
    /// DANE-EE(3): the certificate or its key, and nothing besides: neither name nor date nor authority is asked.
    DaneEe,
}

/// Selectors (RFC 7218 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Cert(0).
    Certificate,
    /// SPKI(1).
    Key,
}

/// Matching types (RFC 7218 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Matching {
    /// Full(0).
    Full,
    /// SHA2-256(1).
    Sha256,
    /// SHA2-512(2).
    Sha512,
}

impl Association {
    /// The record of these fields, if it can be used: values that are known, a digest of its length, and something to make an
    /// anchor of (a bare key alone is none).
    pub fn read(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Option<Self> {
        let usage = match usage {
            0 => Usage::PkixTa,
            1 => Usage::PkixEe,
            2 => Usage::DaneTa,
            3 => Usage::DaneEe,
            _ => return None,
        };
        let selector = match selector {
            0 => Selector::Certificate,
            1 => Selector::Key,
            _ => return None,
        };
        let matching = match (matching, data.len()) {
            (0, 1..=MOST) => Matching::Full,
            (1, 32) => Matching::Sha256,
            (2, 64) => Matching::Sha512,
            _ => return None,
        };
        Some(Self { usage, selector, matching, data: data.into() })
    }
}

/// What comparing a server's certificate with its TLSA records came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dane {
    /// Nobody has looked, or what led to the server was not secure.
    #[default]
    Unasked,
    /// There was nothing to compare with.
    Unpublished,
    /// One of them holds, for this usage.
    Proven(Usage),
    /// There are records about the server that we called, and none holds: it is not the domain's, whatever else speaks for it.
    Failed,
    /// There are records about the servers of a domain that calls us, and none is about the certificate that it shows. What it
    /// is called with it need not call with: this proves nothing, and nothing against it.
    Unlisted,
    /// The records could not be had, for this reason.
    Unknown(Cause),
}

impl Dane {
    /// Why it proves nothing; none if it does.
    pub fn doubt(self) -> Option<Detail> {
        match self {
            Self::Proven(_) | Self::Unasked => None,
            Self::Unpublished => Some(Detail::new(Cause::NoTlsa, "")),
            Self::Failed | Self::Unlisted => Some(Detail::new(Cause::TlsaMismatch, "")),
            Self::Unknown(cause) => Some(Detail::new(cause, "")),
        }
    }

    /// Of what several servers of one domain have published about the certificate that another of them calls with: one record that
    /// holds is enough (DNS-15).
    #[must_use]
    pub fn of_caller(found: impl IntoIterator<Item = Dane>) -> Self {
        let mut all = Self::Unpublished;
        for one in found {
            all = match (all, one) {
                (Self::Proven(usage), Self::Proven(other)) => Self::Proven(usage.max(other)),
                (Self::Proven(usage), _) | (_, Self::Proven(usage)) => Self::Proven(usage),
                (_, Self::Failed | Self::Unlisted) | (Self::Unlisted, _) => Self::Unlisted,
                (Self::Unknown(cause), _) | (_, Self::Unknown(cause)) => Self::Unknown(cause),
                (Self::Unasked | Self::Unpublished | Self::Failed, Self::Unasked | Self::Unpublished) => {
                    Self::Unpublished
                }
            };
        }
        all
    }
}

/// Octets of a whole certificate or key in a record.
const MOST: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    // DNS-15: a domain's servers are many, and the one that calls need not be the one that is called.
    #[test]
    fn one_record_of_any_server_proves_who_calls() {
        use Dane::{Failed, Proven, Unknown, Unlisted, Unpublished};
        let (ee, ta) = (Proven(Usage::DaneEe), Proven(Usage::DaneTa));
        let trouble = Unknown(Cause::DnsTrouble);
        for (found, all) in [
            (vec![], Unpublished),
            (vec![Unpublished, Dane::Unasked], Unpublished),
            (vec![Failed], Unlisted),
            (vec![Unpublished, Failed, Unpublished], Unlisted),
            (vec![Failed, ta, Unpublished, ee, Failed], ee),
            (vec![ta, trouble], ta),
            (vec![Unpublished, trouble], trouble),
            (vec![trouble, Failed], Unlisted),
        ] {
            assert_eq!(Dane::of_caller(found.clone()), all, "{found:?}");
            assert_eq!(Dane::of_caller(found.iter().rev().copied()), all, "{found:?}");
            assert_eq!(all.doubt().is_none(), matches!(all, Proven(_)));
        }
    }

    // RFC 7671 4.1: "unusable" are records with values that the client does not know or data that cannot be.
    #[test]
    fn records_that_mean_nothing_cannot_be_used() {
        for usage in 0..=3 {
            for selector in 0..=1 {
                assert!(Association::read(usage, selector, 1, &[7; 32]).is_some());
                assert!(Association::read(usage, selector, 2, &[7; 64]).is_some());
                assert!(Association::read(usage, selector, 0, &[7; 300]).is_some());
            }
        }
        for (usage, selector, matching, length) in [
            (4, 0, 1, 32),
            (255, 0, 1, 32),
            (3, 2, 1, 32),
            (3, 1, 3, 32),
            (3, 1, 1, 31),
            (3, 1, 2, 32),
            (3, 1, 0, 0),
        ] {
            assert!(
                Association::read(usage, selector, matching, &vec![7; length]).is_none(),
                "{usage} {selector} {matching}"
            );
        }
    }
}
