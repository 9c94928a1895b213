//! What a file says of quarantine.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::file::{QuarantineSpec, Scalar};
use super::finding::Placed;
use super::quarantine::{LONGEST_QUIET, MOST, Often, Quarantine};
use super::read::Reader;

/// `quarantine:` of a rule or of `defaults`; what it does not say is as `before`.
pub(super) fn read(
    spec: Option<&Placed<QuarantineSpec>>,
    before: &Quarantine,
    reader: &mut Reader,
) -> Quarantine {
    let Some(spec) = spec.map(|spec| &spec.value) else { return before.clone() };
    let mut rate =
        |word: &Option<Scalar>, before| word.as_ref().and_then(|word| often(word, reader)).unwrap_or(before);
    let messages = rate(&spec.messages, before.messages);
    let subscriptions = rate(&spec.subscriptions, before.subscriptions);
    let other = rate(&spec.other, before.other);
    let text = match &spec.text {
        None => before.text.clone(),
        Some(word) => said(word, reader),
    };
    let quiet_days = match &spec.quiet_days {
        None => before.quiet_days,
        Some(word) => {
            let days = word.value.parse::<NonZeroU32>().ok().filter(|days| days.get() <= LONGEST_QUIET);
            if days.is_none() {
                let remedy = format!("write a number from 1 to {LONGEST_QUIET}, or leave the key out");
                reader.error(word, format!("\"{}\" is no number of days", word.value), remedy);
            }
            days
        }
    };
    Quarantine { messages, subscriptions, other, text, quiet_days }
}

fn often(word: &Scalar, reader: &mut Reader) -> Option<Often> {
    let often = Often::read(&word.value);
    if often.is_none() {
        reader.error(
            word,
            format!("\"{}\" is no rate from 1 to {MOST} in a time", word.value),
            "write it like 20/h; the units are s, min, h and day",
        );
    }
    often
}

/// What senders read. XML of ours is written around it, so it must be legal there.
fn said(word: &Scalar, reader: &mut Reader) -> Option<Arc<str>> {
    let text = word.value.trim();
    let legal = text.chars().all(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}'));
    if text.is_empty() || text.len() > LONGEST_TEXT || !legal {
        reader.error(
            word,
            format!("this is no text from 1 to {LONGEST_TEXT} octets without control characters"),
            "shorten it, or leave the key out",
        );
        return None;
    }
    Some(Arc::from(text))
}

const LONGEST_TEXT: usize = 500;
