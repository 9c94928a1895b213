//! PROXY headers: read the same in any portions, never past their end, and as a second reader reads them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gatehouse::net::proxy::{
    Addresses, Checksum, ClientTls, OutgoingHeader, ProvenPeer, ProxyFault, ProxyHeader, Reader, v1, v2,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first octets of a connection. Input that begins with `#` gets the checksum that its header should have, `=` stands
/// for the signature.
pub fn proxy(data: &[u8]) {
    let octets = match data {
        [mark @ (b'#' | b'='), rest @ ..] => {
            let mut whole = [SIGNATURE, rest].concat();
            if *mark == b'#' {
                mend(&mut whole);
            }
            whole
        }
        octets => octets.to_vec(),
    };
    let whole = feed(&octets, octets.len().max(1));
    for size in [1, 2, 5, 13] {
        assert_eq!(feed(&octets, size), whole, "in portions of {size}");
    }
    assert_eq!(by_wants(&octets), whole, "as a socket is read");
    match &whole {
        Ok((taken, Some(header))) => {
            assert!(*taken <= 4096 && *taken <= octets.len());
            assert_eq!(
                feed(&octets[..taken - 1], usize::MAX),
                Ok((taken - 1, None)),
                "one octet less is no header"
            );
            assert_eq!(second(&octets[..*taken]).as_ref(), Some(header), "the second reader");
            written(header);
        }
        Ok((taken, None)) => {
            assert!(
                *taken == octets.len() && *taken < 4096,
                "nothing is waited for beyond the longest header"
            );
            assert!(octets.starts_with(SIGNATURE) || SIGNATURE.starts_with(&octets) || octets.len() < 107);
        }
        Err(_) => assert_eq!(second(&octets), None, "refused, and the second reader takes it"),
    }
}

fn feed(octets: &[u8], size: usize) -> Result<(usize, Option<ProxyHeader>), ProxyFault> {
    let mut reader = Reader::default();
    let mut taken = 0;
    for portion in octets.chunks(size.clamp(1, octets.len().max(1))) {
        let (count, header) = reader.feed(portion)?;
        assert!(count <= portion.len() && (header.is_some() || count == portion.len()));
        taken += count;
        if header.is_some() {
            return Ok((taken, header));
        }
    }
    Ok((taken, None))
}

/// Takes what the reader wants and no more; then every portion belongs to the header to its last octet.
fn by_wants(octets: &[u8]) -> Result<(usize, Option<ProxyHeader>), ProxyFault> {
    let mut reader = Reader::default();
    let mut rest = octets;
    while !rest.is_empty() {
        let wanted = reader.wants();
        assert!((1..=4096 + 65536).contains(&wanted));
        let (portion, later) = rest.split_at(wanted.min(rest.len()));
        let (count, header) = reader.feed(portion)?;
        assert_eq!(count, portion.len(), "read past the header");
        rest = later;
        if header.is_some() {
            return Ok((octets.len() - rest.len(), header));
        }
    }
    Ok((octets.len(), None))
}

/// What was read is written in both versions and read again.
fn written(header: &ProxyHeader) {
    let line = v1(header.addresses);
    let again = feed(&line, usize::MAX).expect("our own line");
    assert_eq!(
        again,
        (line.len(), Some(ProxyHeader { addresses: header.addresses.map(plain), ..ProxyHeader::default() }))
    );
    for checksum in [Checksum::Added, Checksum::Omitted] {
        let outgoing = OutgoingHeader {
            addresses: header.addresses,
            alpn: header.alpn.clone(),
            authority: header.authority.clone(),
            unique_id: header.unique_id.clone(),
            tls: Some(ClientTls {
                version: "TLSv1.3".into(),
                cipher: "TLS_AES_128_GCM_SHA256".into(),
                certified: checksum == Checksum::Added,
            }),
            facts: header.authority.clone().filter(|name| name.len() < 500).map(|name| ProvenPeer {
                domain: name.clone(),
                method: "dialback".into(),
                rule: name,
            }),
            checksum,
        };
        let Some(mut octets) = v2(&outgoing) else { continue };
        let expected = match header.addresses {
            Some(ends) => ProxyHeader { addresses: Some(plain(ends)), ..header.clone() },
            None => ProxyHeader::default(),
        };
        assert_eq!(feed(&octets, usize::MAX), Ok((octets.len(), Some(expected.clone()))));
        if checksum == Checksum::Added && header.addresses.is_some() {
            // A checksum finds any one octet that is wrong behind the fixed part; only its own mark may not be.
            let mark = octets.len() - 7;
            let at = 16
                + octets.iter().fold(0usize, |sum, o| sum * 31 % 4093 + usize::from(*o))
                    % (octets.len() - 16);
            octets[at] ^= 0x55;
            let changed = feed(&octets, usize::MAX);
            assert!(changed.is_err() || at >= mark || matches!(changed, Ok((_, None))), "{at}: {changed:?}");
        }
    }
}

fn plain(Addresses { source, destination }: Addresses) -> Addresses {
    let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    Addresses { source: plain(source), destination: plain(destination) }
}

// -- the second reader: from the whole header, by offsets

fn second(octets: &[u8]) -> Option<ProxyHeader> {
    if octets.starts_with(SIGNATURE) { second_v2(octets) } else { second_v1(octets) }
}

fn second_v1(octets: &[u8]) -> Option<ProxyHeader> {
    let end = octets.windows(2).take(106).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(&octets[..end]).ok()?;
    // A CR or LF by itself is no part of a line.
    if line.contains(['\r', '\n']) {
        return None;
    }
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(ProxyHeader::default()),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let ip = |word: &str| match *family {
                "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                _ => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            };
            // The one decimal form of the number.
            let port = |word: &str| word.parse::<u16>().ok().filter(|port| port.to_string() == word);
            let ends = Addresses {
                source: SocketAddr::new(ip(source)?, port(from)?),
                destination: SocketAddr::new(ip(destination)?, port(to)?),
            };
            Some(ProxyHeader { addresses: Some(plain(ends)), ..ProxyHeader::default() })
        }
        _ => None,
    }
}

fn second_v2(octets: &[u8]) -> Option<ProxyHeader> {
    let length = usize::from(u16::from_be_bytes(octets.get(14..16)?.try_into().ok()?));
    let whole = octets.get(..16 + length).filter(|whole| whole.len() <= 4096)?;
    let block = match (whole[12], whole[13]) {
        (0x20, _) => return Some(ProxyHeader::default()),
        (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        (0x21, 0x31) => 216,
        _ => return None,
    };
    let body = &whole[16..];
    let ends = body.get(..block)?;
    let port = |at: usize| u16::from_be_bytes([ends[at], ends[at + 1]]);
    let addresses = match block {
        12 => {
            let ip = |at: usize| Ipv4Addr::new(ends[at], ends[at + 1], ends[at + 2], ends[at + 3]);
            let (source, destination) = ((ip(0), port(8)).into(), (ip(4), port(10)).into());
            Some(Addresses { source, destination })
        }
        36 => {
            let ip = |at: usize| Ipv6Addr::from(u128::from_be_bytes(ends[at..at + 16].try_into().unwrap()));
            let (source, destination) = ((ip(0), port(32)).into(), (ip(16), port(34)).into());
            Some(plain(Addresses { source, destination }))
        }
        _ => None,
    };
    let mut header = ProxyHeader { addresses, ..ProxyHeader::default() };
    let values = values(whole, 16 + block)?;
    let only = |kind: u8| {
        let mut all = values.iter().filter(|(found, ..)| *found == kind);
        (all.next().map(|(_, at, len)| whole[*at..at + len].to_vec()), all.next().is_none())
    };
    let (alpn, authority, sum, id) = (only(1), only(2), only(3), only(5));
    if ![alpn.1, authority.1, sum.1, id.1].iter().all(|once| *once) {
        return None;
    }
    if let Some((_, at, len)) = values.iter().find(|(kind, ..)| *kind == 3)
        && (*len != 4 || crc32c(whole, *at) != whole[*at..at + 4])
    {
        return None;
    }
    for (_, at, len) in values.iter().filter(|(kind, ..)| *kind == 0x20) {
        if *len < 5 {
            return None;
        }
        self::values(&whole[..at + len], at + 5)?;
    }
    header.alpn = alpn.0;
    header.authority = authority.0.map(String::from_utf8).transpose().ok()?;
    header.unique_id = id.0;
    (header.unique_id.as_ref().is_none_or(|id| id.len() <= 128)).then_some(header)
}

/// Kind, offset and length of each value from `at` on; none unless the last one ends with the octets.
fn values(whole: &[u8], mut at: usize) -> Option<Vec<(u8, usize, usize)>> {
    let mut found = Vec::new();
    while at < whole.len() {
        let len = usize::from(whole.get(at + 1).copied()?) * 256 + usize::from(whole.get(at + 2).copied()?);
        whole.get(at + 3..at + 3 + len)?;
        found.push((whole[at], at + 3, len));
        at += 3 + len;
    }
    Some(found)
}

/// Puts the right checksum where a header has room for one.
fn mend(octets: &mut [u8]) {
    let Some(length) = octets.get(14..16).map(|l| usize::from(l[0]) * 256 + usize::from(l[1])) else {
        return;
    };
    let Some(whole) = octets.get_mut(..16 + length) else { return };
    let block = match whole[13] {
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => 0,
    };
    let Some(values) = values(whole, 16 + block) else { return };
    let Some((_, at, _)) = values.iter().find(|(kind, _, len)| *kind == 3 && *len == 4) else { return };
    let sum = crc32c(whole, *at);
    whole[*at..at + 4].copy_from_slice(&sum);
}

/// CRC-32C by a table of its own, four octets at `field` taken for zero.
fn crc32c(octets: &[u8], field: usize) -> [u8; 4] {
    static TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let (mut crc, mut bit) = (at as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[at] = crc;
            at += 1;
        }
        table
    };
    let mut crc = !0u32;
    for (at, octet) in octets.iter().enumerate() {
        let octet = if at >= field && at < field + 4 { 0 } else { *octet };
        crc = TABLE[usize::from(octet ^ crc as u8)] ^ crc >> 8;
    }
    (!crc).to_be_bytes()
}
