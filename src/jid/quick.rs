//! Domains of letters that every preparation leaves as they are, in their canonical form without asking each of them.
//!
//! Lists name millions of domains, and reading one with all that the two generations of preparation ask costs some microseconds.
//! Most internationalized names need none of it: small letters of Latin, Greek and Cyrillic, kana, ideographs and Hangul syllables
//! map to themselves, combine with nothing and mean the same wherever they stand. What has any other letter is for
//! [`super::domain`] to read; that both come to the same is a test over each of these letters, alone and together.

use idna::punycode;

/// The canonical form; none: it has to be read with care, and may be no domain.
pub(super) fn canonical(text: &str) -> Option<String> {
    let (mut form, mut octets) = (String::with_capacity(text.len()), 0);
    for label in text.split('.') {
        if !form.is_empty() {
            form.push('.');
            octets += 1;
        }
        octets += match label.strip_prefix(PREFIX) {
            Some(rest) => {
                let decoded = punycode::decode_to_string(rest)?;
                if encoded(&decoded)? != rest {
                    return None;
                }
                form.push_str(&decoded);
                label.len()
            }
            None if label.is_ascii() => {
                form.push_str(label);
                is_plain(label).then_some(label.len())?
            }
            None => {
                form.push_str(label);
                PREFIX.len() + encoded(label)?.len()
            }
        };
    }
    // An address in numbers has a last label of ASCII; which are such is for others to say.
    let last = form.rsplit('.').next()?;
    (octets <= MOST && !last.starts_with(|letter: char| letter.is_ascii_digit())).then_some(form)
}

/// The form in A-labels of a canonical name; none: as above.
pub(super) fn ascii(form: &str) -> Option<String> {
    let mut ascii = String::with_capacity(form.len() + PREFIX.len());
    for label in form.split('.') {
        if !ascii.is_empty() {
            ascii.push('.');
        }
        if label.is_ascii() {
            is_plain(label).then(|| ascii.push_str(label))?;
        } else {
            ascii.push_str(PREFIX);
            ascii.push_str(&encoded(label)?);
        }
    }
    (ascii.len() <= MOST).then_some(ascii)
}

/// What stands behind the prefix of the A-label of this U-label.
fn encoded(label: &str) -> Option<String> {
    let stable = label.chars().all(|letter| is_plain_letter(letter) || is_stable(letter));
    if label.is_ascii() || !stable || has_odd_hyphens(label) {
        return None;
    }
    punycode::encode_str(label).filter(|encoded| PREFIX.len() + encoded.len() <= LABEL)
}

fn is_plain(label: &str) -> bool {
    !label.is_empty() && label.len() <= LABEL && label.chars().all(is_plain_letter) && !has_odd_hyphens(label)
}

fn is_plain_letter(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
}

fn has_odd_hyphens(label: &str) -> bool {
    let mut third = label.chars().skip(2);
    label.starts_with('-') || label.ends_with('-') || (third.next() == Some('-') && third.next() == Some('-'))
}

/// Letters beyond ASCII that all of IDNA2003, IDNA2008, PRECIS and NFKC map to themselves, wherever they stand.
fn is_stable(letter: char) -> bool {
    match letter {
        // Latin; without the sharp s.
        '\u{e0}'..='\u{f6}' | '\u{f8}'..='\u{ff}' => true,
        // Latin, where capital and small letters alternate; without the dotless i, ligatures, kra and what has a dot or an apostrophe in it.
        '\u{131}' | '\u{133}' => false,
        '\u{101}'..='\u{137}' | '\u{14b}'..='\u{177}' => u32::from(letter) % 2 == 1,
        '\u{13a}'..='\u{13e}' | '\u{142}'..='\u{148}' | '\u{17a}'..='\u{17e}' => u32::from(letter) % 2 == 0,
        // Greek; without the final sigma.
        '\u{3ac}'..='\u{3af}' | '\u{3b1}'..='\u{3c1}' | '\u{3c3}'..='\u{3c9}' | '\u{3cc}'..='\u{3ce}' => true,
        // Cyrillic.
        '\u{430}'..='\u{45f}' => true,
        // Hiragana and katakana; without marks.
        '\u{3041}'..='\u{3093}' | '\u{30a1}'..='\u{30f4}' => true,
        // Ideographs and Hangul syllables.
        '\u{4e00}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7a3}' => true,
        _ => false,
    }
}

/// Octets of a name as the DNS counts them.
const MOST: usize = 253;

/// And of a label.
const LABEL: usize = 63;

/// What A-labels begin with.
const PREFIX: &str = "xn--";

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;
    use crate::jid::domain::with_care;

    /// All quick letters, looked for once.
    fn stable() -> &'static [char] {
        static LETTERS: OnceLock<Vec<char>> = OnceLock::new();
        let all = || (0x80..0x11_0000).filter_map(char::from_u32).filter(|letter| is_stable(*letter));
        LETTERS.get_or_init(|| all().collect())
    }

    // JID-05, JID-08: each letter that is read quickly is one that everybody reads alike: at the beginning, within and at the end.
    #[test]
    fn each_quick_letter_is_read_as_with_care() {
        let letters = stable();
        assert!(letters.len() > 30_000);
        for &letter in letters {
            let name = format!("{letter}.a{letter}b.{letter}{letter}");
            let quick = canonical(&name);
            assert_eq!(quick.as_deref(), Some(name.as_str()), "U+{:04X}", u32::from(letter));
            assert_eq!(with_care(&name).as_deref(), Ok(name.as_str()), "U+{:04X}", u32::from(letter));
        }
    }

    #[test]
    fn what_has_other_letters_is_left_to_who_reads_with_care() {
        for name in [
            "stra\u{df}e.de",
            "\u{131}.tr",
            "\u{3c3}\u{3c2}.gr",
            "\u{5d0}.il",
            "a\u{301}.fr",
            "B\u{fc}cher.de",
            "-\u{fc}.de",
            "\u{fc}-.de",
            "ab--\u{fc}.de",
            "xn--.de",
            "xn--a.de",
            "xn--bcher-kva-.de",
            "XN--bcher-kva.de",
            "xn--strae-oqa.de",
            "\u{fc}..de",
            "",
            ".",
            "\u{fc}.1",
            "\u{fc}.0x7f",
            "\u{fc} .de",
            "\u{fc}_.de",
            "\u{30fb}.jp",
        ] {
            assert_eq!(canonical(name), None, "{name}");
        }
        let long = "\u{fc}".repeat(60);
        for name in [format!("{long}.de"), vec!["b\u{fc}cher"; 30].join(".")] {
            assert_eq!((canonical(&name), ascii(&name)), (None, None), "{name}");
        }
    }

    proptest! {
        // Whatever is read quickly is read with care to the same, spelled either way, and the DNS has it so, too.
        #[test]
        fn both_ways_come_to_the_same(
            labels in prop::collection::vec(("[a-z0-9-]{0,3}", prop::collection::vec(0usize..100_000, 0..9), "[a-z0-9-]{0,3}"), 1..5)
        ) {
            let letters = stable();
            let label = |(before, within, behind): &(String, Vec<usize>, String)| {
                let within: String = within.iter().filter_map(|n| letters.get(n % letters.len())).collect();
                format!("{before}{within}{behind}")
            };
            let name = labels.iter().map(label).collect::<Vec<_>>().join(".");
            if let Some(quick) = canonical(&name) {
                prop_assert_eq!(Ok(quick.clone()), with_care(&name));
                let written = ascii(&quick);
                let careful = crate::jid::domain::ascii_with_care(&quick).ok().map(Cow::into_owned);
                prop_assert_eq!(&written, &careful);
                let written = written.unwrap_or_default();
                prop_assert_eq!(canonical(&written), Some(quick.clone()));
                prop_assert_eq!(Ok(quick), with_care(&written));
            }
        }
    }
}
