//! Addresses: one reading, the same again, and the same to both generations of preparation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use gatehouse::jid::{AddressError, Domain, Jid};
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use precis_profiles::{OpaqueString, UsernameCaseMapped};

/// Lines of addresses; each is read by itself and next to the one before it.
pub fn jid(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut last: Option<Jid<'_>> = None;
    for line in text.split('\n') {
        if let Ok(name) = Domain::parse(line) {
            domain(line, &name);
        }
        let Ok(jid) = Jid::parse(line) else { continue };
        address(line, &jid);
        if let Some(last) = &last {
            let same = last.is_same_bare(&jid);
            assert_eq!(same, jid.is_same_bare(last), "sameness goes both ways");
            assert_eq!(
                same,
                last.domain == jid.domain && last.local_form() == jid.local_form(),
                "{last} {jid}"
            );
        }
        last = Some(jid);
    }
}

fn domain(line: &str, name: &Domain) {
    let form = name.as_str();
    // JID-08: a fixed point, in each of its spellings.
    let ascii = name.to_ascii();
    assert!(ascii.is_ascii() && (1..=253).contains(&ascii.len()), "{ascii}");
    assert!(ascii.split('.').all(|label| (1..=63).contains(&label.len())), "{ascii}");
    for spelling in [form, &ascii, &ascii.to_ascii_uppercase(), &format!("{form}.")] {
        assert_eq!(Domain::parse(spelling).as_ref(), Ok(name), "{line:?} as {spelling:?}");
    }
    // JID-03: no address of a host, no wild card, no separator of an address.
    assert!(
        form.parse::<std::net::IpAddr>().is_err() && !form.contains(['*', '@', '/', ':', '[', ' ', '\0'])
    );
    assert!(!form.ends_with('.') && !form.starts_with('.') && !form.contains(".."));
    // JID-05: what old servers read is this, or nothing at all.
    for label in form.split('.') {
        if let Ok(old) = stringprep::nameprep(label) {
            assert_eq!(old, label, "{line:?}: old servers read another name");
        }
        assert_eq!(
            UsernameCaseMapped::enforce(label).as_deref(),
            Ok(label),
            "{line:?}: new servers read another name"
        );
    }
    let given = line.strip_suffix('.').unwrap_or(line);
    if !given.split('.').any(|label| label.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("xn--")))
        && let Ok(old) = given.split('.').map(stringprep::nameprep).collect::<Result<Vec<_>, _>>()
    {
        assert_eq!(old.join("."), form, "as it was given, old servers read another name");
    }
    assert_eq!(name.parent().is_none(), name.is_single_label());
    if let Some(parent) = name.parent().and_then(|parent| Domain::parse(parent).ok()) {
        assert!(name.is_below(&parent) && !parent.is_below(name) && !name.is_below(name));
    }
}

fn address(line: &str, jid: &Jid<'_>) {
    // JID-01: the parts are the octets of the address, cut where RFC 7622 cuts.
    let (bare, resource) = line.split_once('/').map_or((line, None), |(bare, rest)| (bare, Some(rest)));
    let (local, name) = bare.split_once('@').map_or((None, bare), |(local, name)| (Some(local), name));
    assert_eq!((jid.local, jid.resource), (local, resource));
    assert_eq!(Domain::parse(name).as_ref(), Ok(&jid.to_domain()));
    assert_eq!(jid.domain_as_received(), name == jid.domain);
    assert!([local, resource].into_iter().flatten().all(|part| (1..=1023 * 4).contains(&part.len())));

    let written = jid.to_string();
    let again = Jid::parse(&written).expect("what we write is an address");
    assert!(again.domain_as_received() && again.is_same_bare(jid) && again.to_string() == written);
    assert_eq!((again.local, again.resource), (local, resource));
    assert_eq!(Jid::parse(&jid.bare()).map(|bare| bare.to_string()), Ok(jid.bare()));

    // JID-06: whatever was accepted has one form, and both generations give that form or none.
    if let Some(local) = local {
        let form = jid.local_form().expect("an accepted local part has a form");
        assert!(
            form.len() <= 1023 && !form.contains(['"', '&', '\'', '/', ':', '<', '>', '@', ' ']),
            "{form:?}"
        );
        assert_eq!(
            stringprep::nodeprep(local).as_deref().unwrap_or(&form),
            form,
            "old servers read {local:?} otherwise"
        );
        assert_eq!(UsernameCaseMapped::enforce(local).as_deref().unwrap_or(&form), form, "new ones do");
        let settled = format!("{form}@{}", jid.domain);
        let settled = Jid::parse(&settled).expect("the form is an address");
        assert_eq!(settled.local_form().as_deref(), Some(&*form), "the form has another form");
    }
    if let Some(resource) = resource {
        let form = jid.resource_form().expect("an accepted resource has a form");
        assert!(form.len() <= 1023 && !form.chars().any(char::is_control), "{form:?}");
        assert_eq!(stringprep::resourceprep(resource).as_deref().unwrap_or(&form), form, "{resource:?}");
        assert_eq!(OpaqueString::enforce(resource).as_deref().unwrap_or(&form), form, "{resource:?}");
        let settled = format!("{}/{form}", jid.domain);
        let settled = Jid::parse(&settled).expect("the form is an address");
        assert_eq!(settled.resource_form().as_deref(), Some(&*form), "the form has another form");
    } else if line.len() < 3071 {
        assert_eq!(Jid::parse(&format!("{line}/")).err(), Some(AddressError::Resource));
    }
}
