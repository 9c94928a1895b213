//! The elements of dialback: what is understood is written back and understood the same, and what is refused is answered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use gatehouse::jid::Domain;
use gatehouse::reason::{Facing, Reason};
use gatehouse::stream::dialback::*;
use gatehouse::xml::{Content, Frame, names};

/// First-level elements between servers.
pub fn dialback(data: &[u8]) {
    for frame in super::frames(Content::Server, data) {
        let named = frame.tree();
        let ours = named.namespace == names::DIALBACK && ["result", "verify"].contains(&named.name.as_str());
        assert_eq!(is_dialback(&frame), ours);
        if ours {
            understood(&frame);
        }
    }
}

fn understood(frame: &Frame) {
    let element = frame.tree();
    let verify = element.name == "verify";
    let (from, to) = (element.attr("from").unwrap_or_default(), element.attr("to").unwrap_or_default());
    let domains = Domain::parse(from).ok().zip(Domain::parse(to).ok());
    spelt(frame, domains.as_ref());
    match read(frame, Facing::Public) {
        Ok(found) => {
            let (from, to) = domains.expect("both are domains");
            let again = match &found {
                Dialback::Claim { pair, key } => {
                    assert_eq!((&pair.sender, &pair.target), (&from, &to));
                    is_key(key, &element.text());
                    write_claim(pair, key)
                }
                Dialback::Ask(check) => {
                    // A question goes from the target of the pair to its sender.
                    assert_eq!((&check.pair.target, &check.pair.sender), (&from, &to));
                    is_key(&check.key, &element.text());
                    write_ask(check)
                }
                Dialback::Claimed { pair, kind } => {
                    assert_eq!((&pair.target, &pair.sender), (&from, &to));
                    match kind {
                        DialbackType::Valid | DialbackType::Invalid => {
                            write_claimed(pair, *kind == DialbackType::Valid)
                        }
                        DialbackType::Error(condition) => {
                            let of = |reason: &&Reason| Some(reason.stanza_condition()) == *condition;
                            let Some(reason) = Reason::ALL.iter().find(of) else { return };
                            write_refusal(pair, *reason)
                        }
                    }
                }
                Dialback::Asked { pair, stream, kind } => {
                    assert_eq!((&pair.sender, &pair.target), (&from, &to));
                    let check = gatehouse::stream::KeyCheck {
                        pair: pair.clone(),
                        stream: stream.clone(),
                        key: String::new(),
                    };
                    match kind {
                        DialbackType::Valid | DialbackType::Invalid => {
                            write_asked(&check, *kind == DialbackType::Valid)
                        }
                        DialbackType::Error(condition) => {
                            let Some(condition) = condition else { return };
                            write_ask_refused(&check, *condition)
                        }
                    }
                }
            };
            assert_eq!(verify, matches!(found, Dialback::Ask(_) | Dialback::Asked { .. }));
            let question = matches!(found, Dialback::Ask(_) | Dialback::Claim { .. });
            assert_eq!(element.attr("type").is_none(), question, "an answer has a type, a question has none");
            assert_eq!(read(&super::framed(Content::Server, &again), Facing::Public), Ok(found), "{again}");
        }
        Err(Unreadable::Fault(reason)) => {
            assert!(matches!(reason, Reason::DialbackMalformed | Reason::BadFormat), "{reason:?}");
            let bare = |text: &str| !text.is_empty() && !text.contains(['@', '/']);
            let id = element.attr("id").is_some_and(|id| (1..=256).contains(&id.len()));
            let kind = matches!(element.attr("type"), None | Some("valid" | "invalid" | "error"));
            let fine = domains.is_some() && bare(from) && bare(to) && (id || !verify) && kind;
            assert!(!fine, "a fault without a fault: {:?}", frame.octets());
        }
        Err(Unreadable::Refused { answer, reason }) => {
            // DB-07: the answer goes back where the element came from, of the same kind, and is an error.
            let back = super::framed(Content::Server, &answer).tree();
            assert_eq!((back.attr("from"), back.attr("to")), (Some(to), Some(from)), "{answer}");
            assert_eq!((back.name.as_str(), back.attr("type")), (element.name.as_str(), Some("error")));
            assert_eq!(back.attr("id"), element.attr("id").filter(|_| verify));
            assert_eq!(back.elements().count(), 1, "one error: {answer}");
            assert!(matches!(reason, Reason::DialbackBadKey | Reason::InvalidFrom), "{reason:?}");
            assert_eq!(domains.is_some(), reason == Reason::DialbackBadKey, "{answer}");
        }
    }
}

/// DB-02: some text within bounds, without white space around it, and nothing that the element does not hold.
fn is_key(key: &str, text: &str) {
    assert!((1..=1024).contains(&key.len()));
    assert_eq!(text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']), key);
}

/// Towards a backend more is read, and never the same otherwise: a name that is none is its own words, safe to be written.
fn spelt(frame: &Frame, domains: Option<&(Domain, Domain)>) {
    let (strict, read) = (read(frame, Facing::Public), read(frame, Facing::Backend));
    if domains.is_some() {
        return assert_eq!(strict, read);
    }
    let pair = match &read {
        Ok(Dialback::Claim { pair, .. } | Dialback::Claimed { pair, .. } | Dialback::Asked { pair, .. }) => {
            pair
        }
        Ok(Dialback::Ask(check)) => &check.pair,
        Err(_) => return,
    };
    assert!(!pair.is_of_names());
    for name in [&pair.sender, &pair.target] {
        assert!(!name.as_str().contains(['\'', '"', '<', '>', '&', '@', '/', ' ', '\n']), "{name:?}");
    }
    if let Ok(Dialback::Claim { pair, key }) = &read {
        let again = super::framed(Content::Server, &write_claim(pair, key));
        assert_eq!(gatehouse::stream::dialback::read(&again, Facing::Backend), read);
    }
}
