use super::write::Checksum;
use super::*;

/// Feeds octet by octet: the header and how many octets it took.
fn read_all(octets: &[u8]) -> Result<Option<(usize, ProxyHeader)>, ProxyFault> {
    let mut reader = Reader::default();
    for (index, octet) in octets.iter().enumerate() {
        assert!(reader.wants() >= 1);
        if let (_, Some(header)) = reader.feed(&[*octet])? {
            // All at once must come out the same.
            let whole = Reader::default().feed(octets)?;
            assert_eq!(whole, (index + 1, Some(header.clone())));
            return Ok(Some((index + 1, header)));
        }
    }
    Ok(None)
}

fn ends_of(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

fn sealed(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

const V4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0x14, 0x66, 0x14, 0x67];

// PROXY protocol 2.1.
// ACC-05.
#[test]
fn lines_are_read_by_the_letter() {
    let good = [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 5222 65535\r\n", ends_of("192.0.2.1:5222", "192.0.2.2:65535")),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 0 1\r\n", ends_of("192.0.2.1:0", "192.0.2.2:1")),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", ends_of("[2001:db8::1]:1", "[2001:db8::2]:2")),
        ("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n", ends_of("192.0.2.1:1", "[2001:db8::2]:2")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN what ever 1 2\r\n", None),
    ];
    for (line, addresses) in good {
        let (length, header) = read_all(format!("{line}<stream>").as_bytes()).unwrap().unwrap();
        assert_eq!((length, header.addresses), (line.len(), addresses), "{line:?}");
    }
    let bad = [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 5222 65536\r\n", ProxyFault::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 05222 1\r\n", ProxyFault::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +5222 1\r\n", ProxyFault::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 -1 1\r\n", ProxyFault::Line),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 1\r\n", ProxyFault::Line),
        ("PROXY TCP4 192.0.2.1  192.0.2.2 1 1\r\n", ProxyFault::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 1 \r\n", ProxyFault::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", ProxyFault::Line),
        ("PROXY TCP4 2001:db8::1 192.0.2.2 1 1\r\n", ProxyFault::Line),
        ("PROXY TCP5 192.0.2.1 192.0.2.2 1 1\r\n", ProxyFault::Family),
        ("PROXY UNKNOWNX\r\n", ProxyFault::Family),
        ("PROXY UNKNOWN\n", ProxyFault::Line),
        ("PROXY UNKNOWN\r \r\n", ProxyFault::Line),
        ("proxy UNKNOWN\r\n", ProxyFault::Signature),
        ("<?xml version='1.0'?>", ProxyFault::Signature),
        ("\x16\x03\x01\x02\x00", ProxyFault::Signature),
    ];
    for (line, fault) in bad {
        let found = read_all(line.as_bytes());
        let found = found.map(|header| header.map(|(_, header)| header));
        // An unknown word behind TCPx fields is a line fault or a family fault, never a header.
        match fault {
            ProxyFault::Family => assert!(found.is_err(), "{line:?}"),
            fault => assert_eq!(found, Err(fault), "{line:?}"),
        }
    }
}

// PROXY protocol 2.1: "107 chars" with the CRLF is the longest line.
#[test]
fn a_line_ends_within_107_octets() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(longest.len(), 107);
    assert!(read_all(longest.as_bytes()).unwrap().is_some());
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16));
    assert_eq!(read_all(longer.as_bytes()), Err(ProxyFault::TooLong));
}

// PROXY protocol 2.2.
// ACC-06, ACC-08: what a proxy says of TLS is checked for form, and the header that comes of it has no place for it.
#[test]
fn binary_headers_are_read_by_the_letter() {
    let v6 =
        [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1, 0x20, 1, 0xd, 0xb8], &[0; 11], &[2, 0, 1, 0, 2]].concat();
    let good = [
        (sealed(PROXY, TCP4, V4), ends_of("192.0.2.1:5222", "192.0.2.2:5223")),
        (sealed(PROXY, TCP6, &v6), ends_of("[2001:db8::1]:1", "[2001:db8::2]:2")),
        (sealed(PROXY, UNSPEC, b""), None),
        (sealed(PROXY, UNIX_STREAM, &[0; 216]), None),
        (sealed(LOCAL, UNSPEC, b""), None),
        (sealed(LOCAL, TCP4, b"whatever"), None),
        (
            sealed(PROXY, TCP4, &[V4, &[0x04, 0, 3, 0, 0, 0]].concat()),
            ends_of("192.0.2.1:5222", "192.0.2.2:5223"),
        ),
        (sealed(PROXY, TCP4, &[V4, &[0xee, 0, 1, 7]].concat()), ends_of("192.0.2.1:5222", "192.0.2.2:5223")),
        (
            sealed(PROXY, TCP4, &[V4, &[SSL, 0, 9, 7, 0, 0, 0, 0, 0x22, 0, 1, b'x']].concat()),
            ends_of("192.0.2.1:5222", "192.0.2.2:5223"),
        ),
    ];
    for (octets, addresses) in good {
        let (length, header) = read_all(&[&octets[..], b"<stream>"].concat()).unwrap().unwrap();
        assert_eq!((length, header.addresses), (octets.len(), addresses), "{octets:x?}");
    }
    let with = |tlvs: &[u8]| sealed(PROXY, TCP4, &[V4, tlvs].concat());
    let bad = [
        (sealed(0x22, TCP4, V4), ProxyFault::Command),
        (sealed(0x11, TCP4, V4), ProxyFault::Command),
        (sealed(PROXY, 0x12, V4), ProxyFault::Family),
        (sealed(PROXY, 0x41, V4), ProxyFault::Family),
        (sealed(PROXY, TCP4, &V4[..11]), ProxyFault::Address),
        (sealed(PROXY, TCP6, V4), ProxyFault::Address),
        (sealed(PROXY, UNIX_STREAM, &[0; 215]), ProxyFault::Address),
        (with(&[ALPN, 0]), ProxyFault::Tlv),
        (with(&[ALPN, 0, 5, b'x']), ProxyFault::Tlv),
        (with(&[SSL, 0, 4, 0, 0, 0, 0]), ProxyFault::Tlv),
        (with(&[SSL, 0, 8, 0, 0, 0, 0, 0, 0x21, 0, 9]), ProxyFault::Tlv),
        (with(&[AUTHORITY, 0, 1, 0xff]), ProxyFault::Tlv),
        (with(&[ALPN, 0, 1, b'x', ALPN, 0, 1, b'x']), ProxyFault::Tlv),
        (with(&[CRC32C, 0, 3, 0, 0, 0]), ProxyFault::Tlv),
        (with(&[CRC32C, 0, 4, 1, 2, 3, 4]), ProxyFault::Checksum),
        (with(&[&[UNIQUE_ID, 0, 129][..], &[b'u'; 129]].concat()), ProxyFault::Tlv),
        (sealed(PROXY, UNSPEC, &vec![4; 4081]), ProxyFault::TooLong),
    ];
    for (octets, fault) in bad {
        assert_eq!(read_all(&octets), Err(fault), "{octets:x?}");
    }
}

// RFC 3720 B.4: the check value of CRC32C.
#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(super::write::checksum_without(b"123456789", usize::MAX), 0xe306_9283_u32.to_be_bytes());
}

// BE-05, BE-07: nothing but the types of the specification is written.
#[test]
fn what_is_written_can_be_read() {
    let addresses = [
        None,
        ends_of("192.0.2.1:5222", "192.0.2.2:1"),
        ends_of("[2001:db8::1]:65535", "[2001:db8::2]:2"),
        ends_of("192.0.2.1:5222", "[2001:db8::2]:2"),
    ];
    for addresses in addresses {
        let line = v1(addresses);
        assert_eq!(
            read_all(&line).unwrap().unwrap(),
            (line.len(), ProxyHeader { addresses, ..ProxyHeader::default() })
        );
        for checksum in [Checksum::Added, Checksum::Omitted] {
            let outgoing = OutgoingHeader {
                addresses,
                alpn: Some(b"xmpp-client".to_vec()),
                authority: Some("a.example".into()),
                unique_id: Some(vec![7; 128]),
                tls: Some(ClientTls {
                    version: "TLSv1.3".into(),
                    cipher: "TLS13_AES_128_GCM_SHA256".into(),
                    certified: false,
                }),
                facts: None,
                checksum,
            };
            let octets = v2(&outgoing).unwrap();
            let (length, header) = read_all(&octets).unwrap().unwrap();
            assert_eq!((length, header.addresses), (octets.len(), addresses));
            if addresses.is_some() {
                assert_eq!(header.authority, outgoing.authority);
                assert_eq!(header.alpn, outgoing.alpn);
                assert_eq!(header.unique_id, outgoing.unique_id);
            }
        }
    }
    assert_eq!(v2(&OutgoingHeader { unique_id: Some(vec![7; 129]), ..OutgoingHeader::default() }), None);
    assert_eq!(v2(&OutgoingHeader { authority: Some("x".repeat(4090)), ..OutgoingHeader::default() }), None);
}

// PROXY protocol 2.2.6, octet for octet: what is told of the client's TLS.
#[test]
fn the_clients_tls_is_told_as_the_specification_lays_it_out() {
    let tls = Some(ClientTls { version: "TLSv1.3".into(), cipher: "X".into(), certified: false });
    let addresses = ends_of("192.0.2.1:1", "192.0.2.2:2");
    let header = v2(&OutgoingHeader { addresses, tls, ..OutgoingHeader::default() }).unwrap();
    let value = b"\x20\x00\x13\x01\x00\x00\x00\x01\x21\x00\x07TLSv1.3\x23\x00\x01X";
    assert_eq!(header.get(28..), Some(&value[..]));
}

// ACC-04: nothing behind the header may be lost or looked at.
#[tokio::test]
async fn reading_from_a_socket_takes_the_header_only() {
    let headers = [
        v1(ends_of("192.0.2.1:5222", "192.0.2.2:1")),
        v1(None),
        v2(&OutgoingHeader { addresses: ends_of("192.0.2.1:1", "192.0.2.2:1"), ..OutgoingHeader::default() })
            .unwrap(),
        v2(&OutgoingHeader::default()).unwrap(),
    ];
    for header in headers {
        let all = [&header[..], b"<stream:stream>"].concat();
        let mut rest = all.as_slice();
        read(&mut rest).await.unwrap();
        assert_eq!(rest, b"<stream:stream>", "{header:x?}");
        let mut cut = &header[..header.len() - 1];
        assert!(matches!(read(&mut cut).await, Err(ReadFault::Header(ProxyFault::Incomplete))));
    }
}

proptest::proptest! {
    // Whatever comes, in whatever portions: no panic, no octet taken twice, the same answer.
    #[test]
    fn portions_make_no_difference(
        start in 0..3_usize,
        command in 0x1f_u8..0x23,
        family in proptest::sample::select(vec![UNSPEC, TCP4, TCP6, UNIX_STREAM, 0x12]),
        length in 0..300_u16,
        tail in proptest::collection::vec(0..8_u8, 0..320),
        cut in 1..40_usize,
    ) {
        let start: Vec<u8> = match start {
            0 => [&SIGNATURE[..], &[command, family], &length.to_be_bytes()].concat(),
            1 => b"PROXY TCP4 192.0.2.1 192.0.2.2 1 ".to_vec(),
            _ => Vec::new(),
        };
        let octets = [start, tail].concat();
        let whole = Reader::default().feed(&octets);
        let mut reader = Reader::default();
        let mut taken = 0;
        let mut found = Ok((octets.len(), None));
        for portion in octets.chunks(cut) {
            match reader.feed(portion) {
                Ok((count, None)) => taken += count,
                Ok((count, header)) => {
                    found = Ok((taken + count, header));
                    break;
                }
                Err(fault) => {
                    found = Err(fault);
                    break;
                }
            }
        }
        proptest::prop_assert_eq!(whole, found);
    }
}
