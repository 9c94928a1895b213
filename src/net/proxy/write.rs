//! Writing PROXY headers towards a backend.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{
    ALPN, AUTHORITY, Addresses, CRC32C, FIXED, LOCAL, MAX_UNIQUE_ID, MAX_V2, PROXY, SIGNATURE, SSL, TCP4,
    TCP6, UNIQUE_ID, UNSPEC,
};

/// What a version 2 header says (BE-05).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingHeader {
    /// The client's connection; `None` writes LOCAL, for streams that we open on our own behalf.
    pub addresses: Option<Addresses>,
    /// The protocol agreed on with the client.
    pub alpn: Option<Vec<u8>>,
    /// The server name that the client sent.
    pub authority: Option<String>,
    /// Our name for the connection.
    pub unique_id: Option<Vec<u8>>,
    /// The client's TLS; none writes no value about it.
    pub tls: Option<ClientTls>,
    /// What was found out about whom the connection stands in for; none writes nothing of it.
    pub facts: Option<ProvenPeer>,
    /// Whether to add a checksum.
    pub checksum: Checksum,
}

/// The client's TLS, as PP2_TYPE_SSL tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// The version, as `TLSv1.3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// Whether the client showed a certificate, and it holds.
    pub certified: bool,
}

/// What was verified, in the values that the specification leaves to applications (PP2_TYPE_MIN_CUSTOM and up).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenPeer {
    /// 0xE0: the domain that was proven.
    pub domain: String,
    /// 0xE1: how.
    pub method: String,
    /// 0xE2: the rule by which it may.
    pub rule: String,
}

/// Whether a header carries its CRC32C.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It does.
    Added,
    /// It does not.
    #[default]
    Omitted,
}

/// A version 1 line; `UNKNOWN` without addresses.
pub fn v1(addresses: Option<Addresses>) -> Vec<u8> {
    let Some(Addresses { source, destination }) = addresses else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (from, to, family) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (from.to_string(), to.to_string(), "TCP4"),
        (from, to) => (mapped(from).to_string(), mapped(to).to_string(), "TCP6"),
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// A version 2 header; `None` when a value does not fit into one.
pub fn v2(outgoing: &OutgoingHeader) -> Option<Vec<u8>> {
    let mut header = SIGNATURE.to_vec();
    match outgoing.addresses {
        None => header.extend([LOCAL, UNSPEC, 0, 0]),
        Some(Addresses { source, destination }) => match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.extend([PROXY, TCP4, 0, 0]);
                header.extend(from.octets());
                header.extend(to.octets());
                ports(&mut header, source, destination);
            }
            (from, to) => {
                header.extend([PROXY, TCP6, 0, 0]);
                header.extend(mapped(from).octets());
                header.extend(mapped(to).octets());
                ports(&mut header, source, destination);
            }
        },
    }
    if outgoing.unique_id.as_ref().is_some_and(|id| id.len() > MAX_UNIQUE_ID) {
        return None;
    }
    tlv(&mut header, ALPN, outgoing.alpn.as_deref())?;
    tlv(&mut header, AUTHORITY, outgoing.authority.as_deref().map(str::as_bytes))?;
    tlv(&mut header, UNIQUE_ID, outgoing.unique_id.as_deref())?;
    if let Some(tls) = &outgoing.tls {
        // PROXY protocol 2.2.6: bits of the first octet say TLS, and a certificate over this connection and in this session;
        // `verify` is not zero without a verified certificate.
        let mut value = match tls.certified {
            true => vec![OVER_TLS | CERTIFICATE_HERE | CERTIFICATE_KNOWN, 0, 0, 0, 0],
            false => vec![OVER_TLS, 0, 0, 0, 1],
        };
        tlv(&mut value, SSL_VERSION, Some(tls.version.as_bytes()))?;
        tlv(&mut value, SSL_CIPHER, Some(tls.cipher.as_bytes()))?;
        tlv(&mut header, SSL, Some(&value))?;
    }
    if let Some(ProvenPeer { domain, method, rule }) = &outgoing.facts {
        for (kind, value) in [(DOMAIN, domain), (METHOD, method), (RULE, rule)] {
            tlv(&mut header, kind, Some(value.as_bytes()))?;
        }
    }
    if outgoing.checksum == Checksum::Added {
        tlv(&mut header, CRC32C, Some(&[0; 4]))?;
    }
    if header.len() > MAX_V2 {
        return None;
    }
    let length = u16::try_from(header.len() - FIXED).ok()?;
    header.get_mut(14..16)?.copy_from_slice(&length.to_be_bytes());
    if outgoing.checksum == Checksum::Added {
        let at = header.len() - 4;
        let sum = checksum_without(&header, at);
        header.get_mut(at..)?.copy_from_slice(&sum);
    }
    Some(header)
}

fn ports(header: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn tlv(header: &mut Vec<u8>, kind: u8, value: Option<&[u8]>) -> Option<()> {
    if let Some(value) = value {
        header.push(kind);
        header.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        header.extend(value);
    }
    Some(())
}

/// CRC32C over the whole header, the four octets at `field` counted as zero (PROXY protocol 2.2.3).
pub(super) fn checksum_without(header: &[u8], field: usize) -> [u8; 4] {
    let mut crc = u32::MAX;
    for (index, octet) in header.iter().enumerate() {
        let octet = if (field..field.saturating_add(4)).contains(&index) { 0 } else { *octet };
        crc ^= u32::from(octet);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ CASTAGNOLI } else { crc >> 1 };
        }
    }
    (!crc).to_be_bytes()
}

/// The first of the types that are left to applications (PROXY protocol 2.2.8): the domain that was proven.
const DOMAIN: u8 = 0xe0;
/// How it was.
const METHOD: u8 = 0xe1;
/// The rule by which it may.
const RULE: u8 = 0xe2;

/// PP2_CLIENT_SSL.
const OVER_TLS: u8 = 0x01;
/// PP2_CLIENT_CERT_CONN.
const CERTIFICATE_HERE: u8 = 0x02;
/// PP2_CLIENT_CERT_SESS.
const CERTIFICATE_KNOWN: u8 = 0x04;
/// PP2_SUBTYPE_SSL_VERSION.
const SSL_VERSION: u8 = 0x21;
/// PP2_SUBTYPE_SSL_CIPHER.
const SSL_CIPHER: u8 = 0x23;

/// The polynomial of RFC 3720 B.4, bits reversed.
const CASTAGNOLI: u32 = 0x82f6_3b78;
