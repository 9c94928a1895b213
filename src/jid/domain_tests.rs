use super::*;
use AddressError::{Ambiguous, Domain as NoDomain, Empty, TooLong};

// JID-03, JID-05, JID-08: text as given, what comes of it.
#[test]
fn every_spelling_has_one_form_or_none() {
    let long_label = format!("{}.example", "a".repeat(64));
    let longest_label = format!("{}.example", "a".repeat(63));
    let long_name = format!("{}example", "abcdefg.".repeat(31));
    let long_international = format!("{}example", "ääääääääääääääääääääääää.".repeat(8));
    let table: &[(&str, Result<&str, AddressError>)] = &[
        // JID-03: case and one trailing dot
        ("example.com", Ok("example.com")),
        ("EXAMPLE.Com", Ok("example.com")),
        ("example.com.", Ok("example.com")),
        ("Example.COM.", Ok("example.com")),
        ("example.com..", Err(NoDomain)),
        (".", Err(NoDomain)),
        ("", Err(Empty)),
        (".example.com", Err(NoDomain)),
        ("a..example.com", Err(NoDomain)),
        ("localhost", Ok("localhost")),
        ("xmpp-1.example.com", Ok("xmpp-1.example.com")),
        ("3com.example", Ok("3com.example")),
        // JID-03: A-labels become U-labels
        ("xn--bcher-kva.example", Ok("bücher.example")),
        ("XN--BCHER-KVA.example", Ok("bücher.example")),
        ("Bücher.Example.", Ok("bücher.example")),
        ("BÜCHER.example", Ok("bücher.example")),
        ("bu\u{308}cher.example", Ok("bücher.example")),
        ("παράδειγμα.example", Ok("παράδειγμα.example")),
        ("пример.example", Ok("пример.example")),
        ("例え.example", Ok("例え.example")),
        ("דוגמה.example", Ok("דוגמה.example")),
        ("ｅｘａｍｐｌｅ.com", Ok("example.com")),
        // A-labels that are none
        ("xn--.example", Err(NoDomain)),
        ("xn--a.example", Err(NoDomain)),
        ("xn--example-.example", Err(NoDomain)),
        ("xn--\u{fc}.example", Err(NoDomain)),
        ("ab--cd.example", Err(NoDomain)),
        // JID-05: IDNA2003 folds these away, IDNA2008 does not
        ("faß.example", Err(Ambiguous)),
        ("FAẞ.example", Err(Ambiguous)),
        ("xn--fa-hia.example", Err(Ambiguous)),
        ("βόλος.example", Err(Ambiguous)),
        ("ΒΌΛΟΣ.example", Ok("βόλοσ.example")),
        ("xn--nxasmm1c.example", Err(Ambiguous)),
        ("a\u{200d}b.example", Err(Ambiguous)),
        ("a\u{200c}b.example", Err(Ambiguous)),
        ("क्\u{200d}ष.example", Err(Ambiguous)),
        ("क्\u{200c}ष.example", Err(Ambiguous)),
        ("exam\u{ad}ple.com", Err(Ambiguous)),
        ("exa\u{200b}mple.com", Err(Ambiguous)),
        ("\u{feff}example.com", Err(Ambiguous)),
        ("e\u{34f}xample.com", Err(Ambiguous)),
        ("ex\u{fe0f}ample.com", Err(Ambiguous)),
        // JID-05: separators that are no dots
        ("example\u{3002}com", Err(NoDomain)),
        ("example\u{ff0e}com", Err(NoDomain)),
        ("example\u{ff61}com", Err(NoDomain)),
        ("a.example\u{3002}com", Err(NoDomain)),
        ("example\u{2024}com", Err(Ambiguous)),
        // not letters and digits of IDNA2008
        ("☃.example", Err(NoDomain)),
        ("💩.example", Err(NoDomain)),
        ("a_b.example", Err(NoDomain)),
        ("*.example", Err(NoDomain)),
        ("-a.example", Err(NoDomain)),
        ("a-.example", Err(NoDomain)),
        ("a b.example", Err(NoDomain)),
        ("a\0b.example", Err(NoDomain)),
        ("a/b.example", Err(NoDomain)),
        ("user@example.com", Err(NoDomain)),
        ("example.com:5269", Err(NoDomain)),
        ("exa\u{fb01}.example", Err(Ambiguous)),
        ("\u{301}a.example", Err(NoDomain)),
        // JID-03: IP literals
        ("192.0.2.1", Err(NoDomain)),
        ("192.0.2.1.", Err(NoDomain)),
        ("127.1", Err(NoDomain)),
        ("0x7f.0x1", Err(NoDomain)),
        ("0x", Err(NoDomain)),
        ("2130706433", Err(NoDomain)),
        ("[2001:db8::1]", Err(NoDomain)),
        ("2001:db8::1", Err(NoDomain)),
        ("１９２.0.2.１", Err(NoDomain)),
        ("a.example.1", Err(NoDomain)),
        // JID-03: length in the DNS
        (&long_label, Err(NoDomain)),
        (&longest_label, Ok(&longest_label)),
        (&long_name, Err(TooLong)),
        (&long_international, Err(NoDomain)),
    ];
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(text, expected)| {
            let got = Domain::parse(text);
            let same = got.as_ref().map(Domain::as_str).map_err(|e| *e) == *expected;
            (!same).then(|| format!("{text:?}: {got:?}, expected {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// JID-09: look-alikes are distinct domains.
#[test]
fn look_alikes_stay_distinct() {
    let latin = Domain::parse("apple.example").unwrap();
    let cyrillic = Domain::parse("аррӏе.example");
    assert_ne!(cyrillic.ok(), Some(latin));
    assert_ne!(Domain::parse("examp1e.com").unwrap(), Domain::parse("example.com").unwrap());
    assert_ne!(Domain::parse("сom.example").unwrap(), Domain::parse("com.example").unwrap());
}

// POL-02: by label, never by substring.
#[test]
fn below_is_a_matter_of_labels() {
    let parent = Domain::parse("agency.example").unwrap();
    let below = |text: &str| Domain::parse(text).unwrap().is_below(&parent);
    assert!(below("a.agency.example"));
    assert!(below("b.a.agency.example"));
    assert!(!below("agency.example"));
    assert!(!below("notagency.example"));
    assert!(!below("example"));
    assert!(!below("agency.example.com"));
}

#[test]
fn a_labels_go_to_the_dns() {
    assert_eq!(Domain::parse("Bücher.example").unwrap().to_ascii(), "xn--bcher-kva.example");
    assert!(matches!(Domain::parse("example.com").unwrap().to_ascii(), Cow::Borrowed("example.com")));
    assert!(Domain::parse("localhost").unwrap().is_single_label());
    assert_eq!(Domain::parse("a.b.example").unwrap().parent(), Some("b.example"));
}

#[test]
fn a_public_suffix_is_what_a_registry_gives_names_under() {
    for (name, is_suffix, of_registry, above) in [
        ("com", true, true, 0),
        ("a.com", false, false, 1),
        ("b.a.com", false, false, 2),
        ("co.uk", true, true, 0),
        ("a.co.uk", false, false, 1),
        // Names below it are others', and it is somebody's.
        ("github.io", false, false, 1),
        ("a.github.io", false, false, 2),
        ("blogspot.co.uk", false, false, 1),
        // Nobody knows of these.
        ("localhost", true, false, 0),
        ("hall.example", false, false, 1),
    ] {
        let domain = Domain::parse(name).unwrap();
        let found = (domain.is_public_suffix(), domain.is_of_a_registry(), domain.above_suffix());
        assert_eq!(found, (is_suffix, of_registry, above), "{name}");
        let shared = ["com", "co.uk", "github.io", "localhost"].contains(&name);
        assert_eq!(domain.is_shared(), shared, "{name}");
    }
}

proptest::proptest! {
    // JID-08: parsing is idempotent, through U-labels and through A-labels.
    #[test]
    fn canonical_forms_are_fixed_points(text in "([a-zA-Z0-9äöüßςΣéя例\u{200d}\u{3002}\u{ad}-]{1,8}[.]){0,3}[a-zäя-]{1,5}[.]?") {
        if let Ok(domain) = Domain::parse(&text) {
            proptest::prop_assert_eq!(&Domain::parse(domain.as_str()).unwrap(), &domain);
            proptest::prop_assert_eq!(&Domain::parse(&domain.to_ascii()).unwrap(), &domain);
            proptest::prop_assert_eq!(&Domain::parse(&domain.to_ascii().to_ascii_uppercase()).unwrap(), &domain);
            let nameprepped = stringprep::nameprep(domain.as_str()).map(|form| form == domain.as_str());
            // Right-to-left labels under a left-to-right one: old servers refuse, they do not read differently.
            proptest::prop_assert!(nameprepped.unwrap_or(true));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,40}") {
        if let Ok(domain) = Domain::parse(&text) {
            proptest::prop_assert!(domain.to_ascii().is_ascii());
            proptest::prop_assert!(domain.to_ascii().len() <= 253);
        }
    }
}

// JID-05: a server of the old kind compares what nameprep has made of a name, which may be one where the name itself is none.
#[test]
fn what_is_no_name_is_read_as_old_servers_read_it() {
    let table = [
        ("x@stra\u{df}e.example/r", Some("strasse.example")),
        ("full\u{ff0e}width.EXAMPLE", Some("full.width.example")),
        ("FOO_bar.example", Some("foo_bar.example")),
        ("\u{1f468}\u{200d}\u{1f469}\u{fe0f}.Example", Some("\u{1f468}\u{1f469}.example")),
        ("a\u{200b}b_.example", Some("ab_.example")),
        ("ideographic\u{3002}example", Some("ideographic\u{3002}example")),
        ("x@a\u{ff20}b.example", None),
        ("x@a\u{ff0f}b.example", None),
        ("x@\u{ad}", None),
        ("a\u{a0}b.example", None),
        ("a\u{202e}b_.example", None),
    ];
    for (address, read) in table {
        assert_eq!(Domain::as_read(address).as_ref().map(Domain::as_str), read, "{address}");
    }
    for name in ["friend.example", "m\u{fc}nchen.example", "x@UPPER.example/r", "xn--mnchen-3ya.example"] {
        assert_eq!(Domain::as_read(name), Domain::as_spelt(name), "{name}");
    }
}

// JID-03: what is no domain name never becomes one by being spelt, and nothing that has to be escaped or hidden is spelt at all.
#[test]
fn what_is_spelt_is_known_from_a_name() {
    for name in ["friend.example", "m\u{fc}nchen.example", "x@UPPER.example/r"] {
        assert!(Domain::as_spelt(name).is_some_and(|name| name.is_name()), "{name}");
    }
    for name in
        ["foo_bar.example", "a@two..dots.example/r", "\u{1f4a9}.example", "[::1]", "stra\u{df}e.example"]
    {
        assert!(Domain::as_spelt(name).is_some_and(|name| !name.is_name()), "{name}");
    }
    for none in [
        "",
        "x@",
        "x@/y",
        "a b.example",
        "a\u{a0}b.example",
        "a'b.example",
        "a<b.example",
        "a&b.example",
        "a\\b.example",
        "a\nb.example",
        "a\u{202e}b_.example",
        "a\u{200b}b_.example",
        "a@b@c.example",
        &format!("_{}", "a".repeat(1023)),
    ] {
        assert_eq!(Domain::as_spelt(none), None, "{none}");
    }
}
