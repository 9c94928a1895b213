use super::*;

#[test]
fn a_list_names_domains_and_what_is_below_them() {
    let text = "# who sends spam\n\nspam.example\n  Bad.Example.  # once more\nspam.example\nb\u{fc}cher.example\nnot a domain\n\
                xn--bcher-kva.example\n10.0.0.1.example\na_b.example\ncom\nCo.UK.\nexample\n";
    let list = List::read("one", text);
    assert_eq!((list.name(), list.unread()), ("one", LeftOut { lines: 2, first: 7 }), "{list:?}");
    // What would name half of the world is told, and names nobody.
    assert_eq!(list.broad(), LeftOut { lines: 3, first: 11 });
    for (name, entry) in [
        ("spam.example", Some("spam.example")),
        ("a.b.spam.example", Some("spam.example")),
        ("notspam.example", None),
        ("example", None),
        ("a.com", None),
        ("a.co.uk", None),
        ("bad.example", Some("bad.example")),
        ("b\u{fc}cher.example", Some("b\u{fc}cher.example")),
        ("a.b\u{fc}cher.example", Some("b\u{fc}cher.example")),
    ] {
        assert_eq!(list.entry(&domain(name)), entry, "{name}");
    }
    // A copy says the same, and has no lines that say nothing.
    let copy = List::read("one", &list.to_text());
    assert_eq!(copy, List { unread: LeftOut::default(), broad: LeftOut::default(), ..list });
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

// POL-13: what is hashed is the prepared form in UTF-8, as others do.
#[test]
fn a_list_of_digests_names_domains_and_bare_addresses() {
    // What `printf %s spam.example | sha256sum` prints, and so on.
    let text = "8bb6634ad532175e1c706063fd69b452bf51917f61150b14da6500c018cf8df4 # for spam\n\n  \
                D4ED2EF10AEEEEA15E9753AF6CB21AD8FED869001B45BB833C4545155AC9DC22\n8bb6\nspam.example\n\
                8bb6634ad532175e1c706063fd69b452bf51917f61150b14da6500c018cf8df4\n\
                8bb6634ad532175e1c706063fd69b452bf51917f61150b14da6500c018cf8dfx\n";
    let list = List::read_as("one", text, ListFormat::JidSha256);
    assert_eq!((list.len(), list.unread(), list.octets()), (2, LeftOut { lines: 3, first: 4 }, 2 * 32));
    assert_eq!(list.entry(&domain("spam.example")), Some("spam.example"));
    assert_eq!(list.entry(&domain("a.b.spam.example")), Some("spam.example"));
    assert_eq!(list.entry(&domain("good.example")), None);
    // Nobody sees of which name a digest is: that of a public suffix names nobody.
    let broad = List::naming("three", &["com", "co.uk", "github.io"]);
    let entries = ["a.com", "com", "a.co.uk", "a.github.io"].map(|name| broad.entry(&domain(name)).is_some());
    assert_eq!(entries, [false, false, false, true]);
    assert!(list.names_address("bad@good.example") && !list.names_address("good@good.example"));
    // A list of domains names no address.
    assert!(!List::read("two", "good.example").names_address("good.example"));
    let copy = List::read_as("one", &list.to_text(), ListFormat::JidSha256);
    assert_eq!(copy, List { unread: LeftOut::default(), ..list });
}

#[test]
fn a_million_entries_are_found_each_and_no_other() {
    let text: String = (0..1_000_000).map(|n| format!("d{n}.host{}.example\n", n % 977)).collect();
    let list = List::read("large", &text);
    assert_eq!((list.len(), list.unread().lines), (1_000_000, 0));
    assert!(list.octets() < 40 << 20, "{}", list.octets());
    for n in (0..1_000_000).step_by(997) {
        let name = format!("d{n}.host{}.example", n % 977);
        assert_eq!(list.entry(&domain(&name)), Some(name.as_str()));
        assert_eq!(list.entry(&domain(&format!("x{name}"))), None);
    }
}

#[test]
fn what_cannot_be_used_or_changes_too_much_stays_as_it_was() {
    let of = |count: usize| {
        Slot::of(List::read("one", &(0..count).map(|n| format!("d{n}.example\n")).collect::<String>()))
    };
    let after = |old: usize, new: Slot| {
        let lists = Lists::new(vec![new]).after(&Lists::new(vec![of(old)]));
        let slot = lists.get("one").unwrap();
        (slot.list.len(), slot.held)
    };
    assert_eq!(after(30, of(40)), (40, None));
    assert_eq!(after(30, of(41)), (30, Some(Held::Grown)));
    assert_eq!(after(30, of(20)), (20, None));
    assert_eq!(after(30, of(19)), (30, Some(Held::Shrunk)));
    assert_eq!(after(30, of(0)), (30, Some(Held::Shrunk)));
    assert_eq!(after(0, of(1000)), (1000, None));
    assert_eq!(after(30, Slot { any_change: true, ..of(1) }), (1, None));
    assert_eq!(after(30, Slot { held: Some(Held::Unsigned), ..of(0) }), (30, Some(Held::Unsigned)));
    assert_eq!(
        after(30, Slot { held: Some(Held::Stale), any_change: true, ..of(0) }),
        (30, Some(Held::Stale))
    );
}
