use super::*;
use AddressError::*;

fn parts(text: &str) -> Result<(Option<&str>, String, Option<&str>), AddressError> {
    Jid::parse(text).map(|jid| (jid.local, jid.domain.into_owned(), jid.resource))
}

// JID-01: split at the first slash, then at the first @ of what precedes it.
#[test]
fn splits_before_any_mapping() {
    let whole = |l, d: &str, r| Ok((l, d.to_owned(), r));
    assert_eq!(parts("example.com"), whole(None, "example.com", None));
    assert_eq!(parts("a@example.com"), whole(Some("a"), "example.com", None));
    assert_eq!(parts("a@example.com/b"), whole(Some("a"), "example.com", Some("b")));
    assert_eq!(parts("example.com/a@b/c"), whole(None, "example.com", Some("a@b/c")));
    assert_eq!(parts("a@b@example.com"), Err(Domain));
    // U+FF20 and U+FF0F map to @ and / and must not split
    assert_eq!(parts("a\u{ff20}example.com"), Err(Domain));
    assert_eq!(parts("a\u{ff20}b@example.com"), Err(Local));
    assert_eq!(parts("a\u{ff0f}b@example.com"), Err(Local));
}

// JID-02: zero-length parts are invalid; 1023 octets each, 3071 in all.
#[test]
fn lengths_are_checked_at_the_boundary() {
    for (text, expected) in
        [("", Empty), ("/r", Domain), ("@example.com", Local), ("a@", Domain), ("a@/r", Domain)]
    {
        assert_eq!(parts(text), Err(expected), "{text:?}");
    }
    assert_eq!(parts("example.com/"), Err(Resource));
    assert_eq!(parts("a@example.com/"), Err(Resource));
    let fits = "a".repeat(1023);
    let over = "a".repeat(1024);
    assert!(Jid::parse(&format!("{fits}@example.com/{fits}")).is_ok());
    assert_eq!(parts(&format!("{over}@example.com")), Err(TooLong));
    assert_eq!(parts(&format!("example.com/{over}")), Err(TooLong));
    assert_eq!(parts(&"a".repeat(3072)), Err(TooLong));
    // what counts is the length after mapping: three octets become two
    let shrinks = "u\u{308}".repeat(511);
    assert!(Jid::parse(&format!("{shrinks}@example.com")).is_ok());
    assert!(Jid::parse(&format!("example.com/{shrinks}")).is_ok());
    assert_eq!(parts(&format!("{shrinks}u\u{308}@example.com")), Err(TooLong));
}

// JID-04 and JID-06: local parts.
#[test]
fn local_parts_that_differ_are_refused() {
    let table: &[(&str, Result<(), AddressError>)] = &[
        ("juliet", Ok(())),
        ("Juliet", Ok(())),
        ("o!#$%*+-=?^_`{|}~()[].,;\\", Ok(())),
        ("jürgen", Ok(())),
        ("JÜRGEN", Ok(())),
        ("ju\u{308}rgen", Ok(())),
        ("ｊｕｌｉｅｔ", Ok(())),
        ("a b", Err(Local)),
        ("a\"b", Err(Local)),
        ("a&b", Err(Local)),
        ("a'b", Err(Local)),
        ("a:b", Err(Local)),
        ("a<b", Err(Local)),
        ("a>b", Err(Local)),
        ("a\tb", Err(Local)),
        ("a\u{7f}b", Err(Local)),
        ("a\u{a0}b", Err(Local)),
        ("\u{ff02}a", Err(Local)),
        ("a\u{e000}", Err(Local)),
        // RFC 7622 4: the old form folds or deletes what the new one keeps or refuses
        ("straße", Err(Differs)),
        ("κόσμος", Err(Differs)),
        ("ΚΌΣΜΟΣ", Ok(())),
        ("a\u{200d}b", Err(Differs)),
        ("a\u{200c}b", Err(Differs)),
        ("a\u{ad}b", Err(Differs)),
        ("\u{fb01}sh", Err(Differs)),
        ("a²", Err(Differs)),
        ("\u{212a}elvin", Err(Differs)),
        ("ⅳ", Err(Differs)),
        ("\u{1d400}da", Err(Differs)),
    ];
    check(table, |local| format!("{local}@example.com"));
}

// JID-04 and JID-06: resources.
#[test]
fn resources_that_differ_are_refused() {
    let table: &[(&str, Result<(), AddressError>)] = &[
        ("balcony", Ok(())),
        ("Third Witch / of @ \"three\"", Ok(())),
        ("Größe", Ok(())),
        ("κόσμος", Ok(())),
        ("пример 例え", Ok(())),
        ("a\u{1f600}b", Ok(())),
        ("a\u{1f970}b", Ok(())),
        ("a\tb", Err(Resource)),
        ("a\u{7f}", Err(Resource)),
        ("a\u{85}b", Err(Resource)),
        ("a\u{e000}b", Err(Resource)),
        ("a\u{fffe}b", Err(Resource)),
        ("a\u{202e}b", Err(Resource)),
        ("a\u{e0041}b", Err(Resource)),
        // NFKC or a deletion would make it another address
        ("a\u{200d}b", Err(Differs)),
        ("a\u{ad}b", Err(Differs)),
        ("\u{2764}\u{fe0f}", Err(Differs)),
        ("a²", Err(Differs)),
        ("ｆｕｌｌ", Err(Differs)),
        ("\u{fb01}", Err(Differs)),
        ("\u{2165}", Err(Differs)),
        // the old form refuses mixed directions
        ("a\u{5d0}", Err(Differs)),
    ];
    check(table, |resource| format!("a@example.com/{resource}"));
}

// JID-05, through an address.
#[test]
fn ambiguous_domains_are_refused_in_addresses() {
    assert_eq!(parts("a@faß.example"), Err(Ambiguous));
    assert_eq!(parts("a@192.0.2.1"), Err(Domain));
}

// JID-07: the canonical domain goes on, local and resource as received.
#[test]
fn only_the_domain_is_rewritten() {
    let jid = Jid::parse("Juliet@EXAMPLE.com./Balcony").unwrap();
    assert!(!jid.domain_as_received());
    assert_eq!(jid.to_string(), "Juliet@example.com/Balcony");
    assert_eq!(jid.bare(), "Juliet@example.com");
    assert_eq!(jid.to_domain(), super::Domain::parse("example.com").unwrap());
    assert!(jid.is_same_bare(&Jid::parse("juliet@example.com").unwrap()));
    assert!(!jid.is_same_bare(&Jid::parse("romeo@example.com").unwrap()));
    assert!(!jid.is_same_bare(&Jid::parse("example.com").unwrap()));
}

#[test]
fn plain_ascii_costs_no_allocation() {
    let jid = Jid::parse("juliet@example.com/balcony").unwrap();
    assert!(matches!(jid.domain, Cow::Borrowed(_)));
    assert!(jid.domain_as_received());
}

fn check(table: &[(&str, Result<(), AddressError>)], whole: impl Fn(&str) -> String) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(part, expected)| {
            let got = Jid::parse(&whole(part)).map(|_| ());
            (got != *expected).then(|| format!("{part:?}: {got:?}, expected {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

proptest::proptest! {
    // JID-06: what is accepted, stringprep reads as PRECIS does; writing and reading again changes nothing.
    #[test]
    fn accepted_addresses_are_read_alike(text in "([a-zA-Zäßςﬁ²\u{200d}]{0,4}@)?[a-zA-ZäßΣ.-]{1,9}(/[ -~äßς²😀]{0,5})?") {
        if let Ok(jid) = Jid::parse(&text) {
            let written = jid.to_string();
            let again = Jid::parse(&written).unwrap();
            proptest::prop_assert_eq!(again.to_string(), written.clone());
            proptest::prop_assert!(again.domain_as_received());
            if let Some(local) = jid.local {
                proptest::prop_assert_eq!(stringprep::nodeprep(local).unwrap(), prepare::local(local).unwrap());
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}") {
        let _ = Jid::parse(&text).map(|jid| jid.to_string());
    }
}

// The short way says nothing that the long one does not say, and takes what is usual.
#[test]
fn plain_addresses_are_read_alike_in_both_ways() {
    let domain: super::Domain = "hall.example".parse().unwrap();
    let long = "x".repeat(1024);
    let mut all: Vec<Vec<u8>> = [
        "hall.example",
        "hall.example/",
        "hall.example/r",
        "@hall.example",
        "a@hall.example",
        "A@hall.example/R r",
        "a@hall.example/",
        "a@hall.example/r/s@t",
        "a/b@hall.example",
        "a@b@hall.example",
        "a@HALL.example",
        "a@hall.example.",
        "a@hall.exampler",
        "a@xhall.example",
        "",
        "/",
        "a@",
        "hall.example@hall.example",
        "hall.example/hall.example",
        "\u{e9}@hall.example",
        "a@hall.example/\u{e9}",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    for octet in 0..=u8::MAX {
        all.extend([
            [b"a", &[octet][..], b"b@hall.example/r"].concat(),
            [b"ab@hall.example", &[octet][..], b"r"].concat(),
            [b"ab@hall.example/r", &[octet][..], b"s"].concat(),
        ]);
    }
    for len in [1023, 1024] {
        all.extend(
            [format!("{}@hall.example", &long[..len]), format!("a@hall.example/{}", &long[..len])]
                .map(String::into_bytes),
        );
    }
    for address in all {
        let plain = Plain::read(&address, &domain);
        let text = std::str::from_utf8(&address).ok().filter(|text| text.is_ascii());
        let read = text.and_then(|text| Jid::parse(text).ok());
        let read = read.filter(|jid| jid.domain == domain.as_str() && jid.domain_as_received());
        let read = read.map(|jid| Plain { bare: jid.bare().len(), to_user: jid.local.is_some() });
        assert_eq!(plain, read, "{:?}", String::from_utf8_lossy(&address));
    }
}
