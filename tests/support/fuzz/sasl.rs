//! SASL: EXTERNAL between servers, and what a client's login is looked at for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use gatehouse::jid::{Domain, Jid};
use gatehouse::reason::SaslCondition;
use gatehouse::stream::client::{Mechanism, login};
use gatehouse::stream::sasl::{external, read_external};
use gatehouse::xml::{Content, Element};

/// The first line names the domain, the rest are elements.
pub fn sasl(data: &[u8]) {
    let line = data.split(|&b| b == b'\n').next().unwrap_or_default();
    let body = data.get(line.len() + 1..).unwrap_or_default();
    let Ok(domain) = std::str::from_utf8(line).map_err(drop).and_then(|l| Domain::parse(l).map_err(drop))
    else {
        return;
    };
    let own = super::framed(Content::Server, &external(&domain));
    assert_eq!(read_external(&own.tree(), &domain), Ok(()), "what we say ourselves");
    for content in [Content::Server, Content::Client] {
        for frame in super::frames(content, body) {
            let element = frame.tree();
            between_servers(&element, &domain);
            of_a_client(&element, &domain);
        }
    }
}

/// EXT-02 to EXT-05, from the text of the element alone.
fn between_servers(auth: &Element, domain: &Domain) {
    let text = auth.text();
    let outcome = read_external(auth, domain);
    let plain = auth.attr("mechanism") == Some("EXTERNAL") && auth.elements().count() == 0;
    let expected = match octets(&text) {
        _ if auth.attr("mechanism") != Some("EXTERNAL") => Err(SaslCondition::InvalidMechanism),
        _ if !plain => Err(SaslCondition::MalformedRequest),
        _ if text.is_empty() || text == "=" => Ok(()),
        None => Err(SaslCondition::IncorrectEncoding),
        Some(octets) if octets.len() > 1023 => Err(SaslCondition::IncorrectEncoding),
        Some(octets) => match std::str::from_utf8(&octets).ok().and_then(|name| Domain::parse(name).ok()) {
            Some(named) if named == *domain => Ok(()),
            _ => Err(SaslCondition::InvalidAuthzid),
        },
    };
    assert_eq!(outcome, expected, "{text:?}");
}

/// C2S-09 and C2S-11: what passes is base64 in its one form, and an account is a local part in its one form.
fn of_a_client(element: &Element, domain: &Domain) {
    let text = element.text();
    let payload = login::payload(element);
    match &payload {
        Ok(None) => assert!(text.is_empty()),
        Ok(Some(found)) => {
            assert!(text.len() <= 8192);
            let again = if found.is_empty() { "=".to_owned() } else { base64(found) };
            assert_eq!(again, text, "one form only");
        }
        Err(SaslCondition::MalformedRequest) => assert!(element.elements().next().is_some()),
        Err(SaslCondition::IncorrectEncoding) => {
            assert!(text.len() > 8192 || octets(&text).is_none(), "{text:?} is base64");
        }
        Err(other) => panic!("{other:?}"),
    }
    // The account is looked for in octets of any kind.
    let found = payload.ok().flatten().unwrap_or_else(|| text.into_owned().into_bytes());
    for &mechanism in Mechanism::ALL {
        let shown = login::shown(mechanism, &found, domain);
        if mechanism == Mechanism::Plain {
            // RFC 4616: authzid NUL authcid NUL password; to act as nobody, or as oneself, is to act as no other.
            let mut parts = found.split(|&b| b == 0);
            let (authzid, authcid) = (parts.next().unwrap_or_default(), parts.next());
            assert!(!shown.as_other || !(authzid.is_empty() || Some(authzid) == authcid), "{found:?}");
        }
        let Some(account) = shown.account else { continue };
        assert!(!account.is_empty() && account.len() <= 1023);
        assert_ne!(mechanism, Mechanism::Anonymous, "nobody is named");
        let address = format!("{account}@{domain}");
        let jid = Jid::parse(&address).expect("an account is an address");
        assert_eq!(jid.local_form().as_deref(), Some(account.as_str()), "one form only");
        assert_eq!(jid.to_domain(), *domain);
        if mechanism == Mechanism::Plain {
            // The secret is that of the second name; neither the first nor the password is the account.
            let name = found.split(|&b| b == 0).nth(1).expect("a second name");
            let name = std::str::from_utf8(name).expect("UTF-8");
            let written = name.strip_suffix(&format!("@{domain}")).unwrap_or(name);
            let same = format!("{}@{domain}", written.rsplit_once('@').map_or(written, |(local, _)| local));
            assert!(jid.is_same_bare(&Jid::parse(&same).expect("the name tried")), "{name} is not {account}");
        }
    }
}

/// RFC 4648 4, strictly: whole groups of four, padding only at the end, no bits beyond the octets.
fn octets(text: &str) -> Option<Vec<u8>> {
    if text == "=" {
        return Some(Vec::new());
    }
    let value = |c: u8| ALPHABET.iter().position(|a| *a == c);
    let mut found = Vec::new();
    let groups: Vec<&[u8]> = text.as_bytes().chunks(4).collect();
    for (index, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|c| **c == b'=').count();
        if group.len() != 4 || padding > 2 || (padding > 0 && index + 1 != groups.len()) {
            return None;
        }
        let mut bits = 0usize;
        for c in &group[..4 - padding] {
            bits = bits << 6 | value(*c)?;
        }
        bits <<= 6 * padding;
        let all = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        if all[3 - padding..].iter().any(|left| *left != 0) {
            return None;
        }
        found.extend(&all[..3 - padding]);
    }
    Some(found)
}

fn base64(octets: &[u8]) -> String {
    let mut text = String::new();
    for group in octets.chunks(3) {
        let bits =
            (0..3).fold(0usize, |bits, at| bits << 8 | usize::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            text.push(if at <= group.len() { char::from(ALPHABET[bits >> (18 - 6 * at) & 63]) } else { '=' });
        }
    }
    text
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
