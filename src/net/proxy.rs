//! PROXY headers, versions 1 and 2: read strictly, written plainly.
//!
//! [`Reader`] is pure and takes octets in any portions; [`read`] feeds it from a socket and takes not one octet more
//! than the header has. Whether a listener wants a header, and from whom, is its configuration's to say: nothing is
//! guessed (ACC-03). What a proxy tells about TLS is checked for form and thrown away, so that it can never pass for
//! proof (ACC-08).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::reason::Reason;

mod write;

pub use write::{Checksum, ClientTls, OutgoingHeader, ProvenPeer, v1, v2};

/// A header as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The connection's two ends; `None` where the header leaves them to the socket (`UNKNOWN`, LOCAL, UNSPEC, UNIX).
    pub addresses: Option<Addresses>,
    /// The application protocol the proxy agreed on (PP2_TYPE_ALPN).
    pub alpn: Option<Vec<u8>>,
    /// The host name the client asked the proxy for (PP2_TYPE_AUTHORITY).
    pub authority: Option<String>,
    /// The proxy's own name for the connection (PP2_TYPE_UNIQUE_ID).
    pub unique_id: Option<Vec<u8>>,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Who connected.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
}

/// Reads one header from the socket, and nothing behind it. The deadline is the caller's.
///
/// # Errors
/// When the stream ends or fails, or what it says is no header.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxyHeader, ReadFault> {
    let mut reader = Reader::default();
    let mut portion = [0; 256];
    loop {
        let wanted = reader.wants().min(portion.len());
        let room = portion.get_mut(..wanted).unwrap_or_default();
        let count = stream.read(room).await.map_err(ReadFault::Io)?;
        if count == 0 {
            return Err(ReadFault::Header(ProxyFault::Incomplete));
        }
        let (_, header) = reader.feed(room.get(..count).unwrap_or_default()).map_err(ReadFault::Header)?;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

/// Reads a header in portions.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    held: Vec<u8>,
}

impl Reader {
    /// How many octets may be read without risk of reading past the header; at least one.
    pub fn wants(&self) -> usize {
        let held = self.held.len();
        if held < SIGNATURE.len() {
            return SIGNATURE.len() - held;
        }
        match self.whole() {
            Some(whole) => whole.saturating_sub(held).max(1),
            None if self.held.starts_with(&SIGNATURE) => FIXED - held,
            // In a line only the next octet is safe, except that LF must follow CR.
            None => 1,
        }
    }

    /// Takes octets up to the end of the header: how many were taken, and the header once it is complete.
    ///
    /// Octets that cannot begin a header are refused at once, not when the portion is full.
    ///
    /// # Errors
    /// Why it is no header.
    pub fn feed(&mut self, octets: &[u8]) -> Result<(usize, Option<ProxyHeader>), ProxyFault> {
        for (index, octet) in octets.iter().enumerate() {
            self.held.push(*octet);
            if let Some(header) = self.advance()? {
                return Ok((index + 1, Some(header)));
            }
        }
        Ok((octets.len(), None))
    }

    /// The length of a version 2 header, once known.
    fn whole(&self) -> Option<usize> {
        let length: &[u8; 2] = self.held.get(14..16)?.try_into().ok()?;
        self.held.starts_with(&SIGNATURE).then(|| FIXED + usize::from(u16::from_be_bytes(*length)))
    }

    fn advance(&self) -> Result<Option<ProxyHeader>, ProxyFault> {
        let held = self.held.as_slice();
        let count = held.len();
        if SIGNATURE.starts_with(held) {
            return Ok(None);
        }
        if held.starts_with(&SIGNATURE) {
            return match self.whole() {
                _ if count == 13 && !matches!(held.last(), Some(&LOCAL | &PROXY)) => Err(ProxyFault::Command),
                Some(whole) if whole > MAX_V2 => Err(ProxyFault::TooLong),
                Some(whole) if count >= whole => binary(held).map(Some),
                _ => Ok(None),
            };
        }
        let known = count.min(LINE.len());
        if held.get(..known) != LINE.get(..known) {
            return Err(ProxyFault::Signature);
        }
        match held.split_last() {
            Some((b'\n', line)) => {
                let line = line.strip_suffix(b"\r").ok_or(ProxyFault::Line)?;
                text(std::str::from_utf8(line).map_err(|_| ProxyFault::Line)?).map(Some)
            }
            Some((_, line)) if line.last() == Some(&b'\r') => Err(ProxyFault::Line),
            _ if count >= MAX_V1 => Err(ProxyFault::TooLong),
            _ => Ok(None),
        }
    }
}

/// Version 1: one line, single spaces, plain decimals (PROXY protocol 2.1).
fn text(line: &str) -> Result<ProxyHeader, ProxyFault> {
    let rest = line.strip_prefix("PROXY ").ok_or(ProxyFault::Line)?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Ok(ProxyHeader::default());
    }
    let mut fields = rest.split(' ');
    let mut next = || fields.next().ok_or(ProxyFault::Line);
    let (family, source, destination) = (next()?, next()?, next()?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    if fields.next().is_some() {
        return Err(ProxyFault::Line);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| ProxyFault::Line),
        "TCP6" => text
            .parse::<Ipv6Addr>()
            .map(|address| IpAddr::V6(address).to_canonical())
            .map_err(|_| ProxyFault::Line),
        _ => Err(ProxyFault::Family),
    };
    Ok(ProxyHeader {
        addresses: Some(Addresses {
            source: SocketAddr::new(address(source)?, source_port),
            destination: SocketAddr::new(address(destination)?, destination_port),
        }),
        ..ProxyHeader::default()
    })
}

fn port(text: &str) -> Result<u16, ProxyFault> {
    let plain = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().map_err(|_| ProxyFault::Line) } else { Err(ProxyFault::Line) }
}

/// Version 2, complete (PROXY protocol 2.2).
fn binary(whole: &[u8]) -> Result<ProxyHeader, ProxyFault> {
    let (fixed, body) = whole.split_first_chunk::<FIXED>().ok_or(ProxyFault::Incomplete)?;
    let [.., command, family, _, _] = *fixed;
    if command == LOCAL {
        // The proxy speaks for itself: the family and all that follows are ignored, their length is not.
        return Ok(ProxyHeader::default());
    }
    let (addresses, tlvs) = match family {
        UNSPEC => (None, body),
        TCP4 => {
            let (block, rest) = body.split_first_chunk::<12>().ok_or(ProxyFault::Address)?;
            let [a, b, c, d, e, f, g, h, ports @ ..] = *block;
            (Some(ends(IpAddr::from([a, b, c, d]), IpAddr::from([e, f, g, h]), ports)), rest)
        }
        TCP6 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(ProxyFault::Address)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(ProxyFault::Address)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(ProxyFault::Address)?;
            let plain = |octets: &[u8; 16]| IpAddr::from(*octets).to_canonical();
            (Some(ends(plain(source), plain(destination), *ports)), rest)
        }
        UNIX_STREAM => (None, body.split_at_checked(UNIX_BLOCK).ok_or(ProxyFault::Address)?.1),
        // Datagrams do not come through a TCP listener.
        _ => return Err(ProxyFault::Family),
    };
    let mut header = ProxyHeader { addresses, ..ProxyHeader::default() };
    let mut checked = false;
    for tlv in Tlvs(tlvs) {
        let (kind, value) = tlv?;
        match kind {
            ALPN => once(&mut header.alpn, value.to_vec())?,
            AUTHORITY => {
                let name = std::str::from_utf8(value).map_err(|_| ProxyFault::Tlv)?;
                once(&mut header.authority, name.to_owned())?;
            }
            CRC32C => {
                if std::mem::replace(&mut checked, true) {
                    return Err(ProxyFault::Tlv);
                }
                let sum: [u8; 4] = value.try_into().map_err(|_| ProxyFault::Tlv)?;
                if write::checksum_without(whole, value.as_ptr().addr() - whole.as_ptr().addr()) != sum {
                    return Err(ProxyFault::Checksum);
                }
            }
            UNIQUE_ID if value.len() > MAX_UNIQUE_ID => return Err(ProxyFault::Tlv),
            UNIQUE_ID => once(&mut header.unique_id, value.to_vec())?,
            SSL => {
                let (_, inner) = value.split_first_chunk::<5>().ok_or(ProxyFault::Tlv)?;
                Tlvs(inner).try_for_each(|inner| inner.map(drop))?;
            }
            _ => {} // NOOP, NETNS and kinds that are not known are skipped
        }
    }
    Ok(header)
}

fn ends(source: IpAddr, destination: IpAddr, [a, b, c, d]: [u8; 4]) -> Addresses {
    Addresses {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    }
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), ProxyFault> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(ProxyFault::Tlv),
    }
}

/// Type, length, value; the last must end where the header ends.
struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u8, &'a [u8]), ProxyFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let whole = std::mem::take(&mut self.0);
        let Some(([kind, high, low], rest)) = whole.split_first_chunk::<3>() else {
            return Some(Err(ProxyFault::Tlv));
        };
        let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        else {
            return Some(Err(ProxyFault::Tlv));
        };
        self.0 = rest;
        Some(Ok((*kind, value)))
    }
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// The address block is shorter than its family needs.
    Address,
    /// The checksum does not fit.
    Checksum,
    /// Neither LOCAL nor PROXY of version 2.
    Command,
    /// A family or protocol that cannot be on a TCP listener.
    Family,
    /// The connection ended within the header.
    Incomplete,
    /// A version 1 line that breaks the grammar.
    Line,
    /// The first octets begin no header.
    Signature,
    /// A value that breaks its length, or comes twice.
    Tlv,
    /// Longer than a header may be.
    TooLong,
}

impl ProxyFault {
    /// The reason to count and to log.
    pub const fn reason(self) -> Reason {
        Reason::BadProxyHeader
    }
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "the PROXY header's address block is too short",
            Self::Checksum => "the PROXY header's checksum does not fit",
            Self::Command => "the PROXY header has an unknown version or command",
            Self::Family => "the PROXY header has a family that TCP does not have",
            Self::Incomplete => "the connection ended within the PROXY header",
            Self::Line => "the PROXY header's line breaks the grammar",
            Self::Signature => "no PROXY header",
            Self::Tlv => "the PROXY header has a malformed or repeated value",
            Self::TooLong => "the PROXY header is too long",
        })
    }
}

impl std::error::Error for ProxyFault {}

/// Why no header could be read from a socket.
#[derive(Debug)]
pub enum ReadFault {
    /// The header is wrong.
    Header(ProxyFault),
    /// The socket failed.
    Io(io::Error),
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(fault) => fault.fmt(f),
            Self::Io(error) => write!(f, "cannot read the PROXY header: {error}"),
        }
    }
}

impl std::error::Error for ReadFault {}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const LINE: &[u8] = b"PROXY ";
const FIXED: usize = 16;
const MAX_V1: usize = 107;
const MAX_V2: usize = 4096;
const MAX_UNIQUE_ID: usize = 128;
const UNIX_BLOCK: usize = 216;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;

#[cfg(test)]
mod tests;
