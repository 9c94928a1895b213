use super::*;

// LIM-02: what waits for its end costs its octets and nothing else.
#[test]
fn what_is_not_taken_leaves_nothing_behind() {
    let children = format!("<iq>{}", "<a b=''/>".repeat(1000));
    for (end, stop) in [("", Stop::Unfinished), ("<!-- -->", Stop::Other)] {
        let mut memory = Canonical::default();
        let octets = format!("{children}{end}");
        let taken = memory.element(octets.as_bytes(), Content::Server, &Limits::default());
        assert!(taken.is_err_and(|why| why == stop), "{end}");
        assert_eq!(memory.open.capacity(), 0, "{end}");
    }
}

// Rule T5, whatever the names: those that fill a word, are longer than one, or have it in common with one that says something.
#[test]
fn two_attributes_of_one_name_are_not_taken_and_others_are() {
    let mut names: Vec<String> = (1..20).map(|len| "n".repeat(len)).collect();
    names.extend((0..70).map(|nth| format!("a{nth}")));
    for name in [
        "xmlns",
        "xml:lang",
        "from",
        "fromm",
        "frombyxx",
        "frombyxxx",
        "to",
        "t",
        "id",
        "type",
        "by",
        "xmlnsfoo",
    ] {
        names.push(name.to_owned());
    }
    let taken =
        |octets: &str| Canonical::default().element(octets.as_bytes(), Content::Server, &Limits::default());
    for one in &names {
        for other in &names {
            for between in ["", " q='x=\"y\"'"] {
                let octets =
                    format!("<iq><q {one}='u'{} {other}=\"u\"/></iq>", between.replace('"', "&quot;"));
                let expected = if one == other { Err(Stop::Other) } else { Ok(octets.len()) };
                assert_eq!(taken(&octets).map(|(len, _)| len), expected, "{octets}");
            }
        }
    }
    // With as little behind it as can be.
    assert!(taken("<a b=''/>").is_ok_and(|(len, _)| len == 9));
    assert!(taken("<a b='' b=''/>").is_err());
}

// What ends an element is its own name, to the last octet.
#[test]
fn an_end_tag_has_the_name_of_its_element() {
    let names =
        ["a", "b", "ab", "abcdefg", "abcdefgh", "abcdefgi", "abcdefghi", "abcdefghj", "abcdefghijklmnopq"];
    for one in names {
        for other in names {
            let octets = format!("<iq><{one}></{other}></iq>");
            let taken = Canonical::default().element(octets.as_bytes(), Content::Server, &Limits::default());
            assert_eq!(taken.is_ok(), one == other, "{octets}");
        }
    }
}
