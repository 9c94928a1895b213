//! Why a server ended its client's stream, as far as the client may read it (C2S-18).
//!
//! The condition passes as it is, and so does the text, which people read: without control characters and what turns the
//! direction of writing, without addresses, and without names of hosts that are not hosted here. Where to go instead
//! (`see-other-host`) never passes: it names a place inside.

use std::net::{IpAddr, SocketAddr};

use crate::reason::StreamCondition;
use crate::xml::{CLOSE, Element, escape_attr, escape_text, names};

/// A stream error of the server, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ending {
    /// The name of the condition; empty if it names none.
    pub condition: String,
    text: Option<String>,
    language: Option<String>,
    /// The application condition, written.
    application: Option<String>,
}

impl Ending {
    /// Reads `<stream:error/>`.
    pub fn read(error: &Element) -> Self {
        let text = error.child(names::STREAM_ERRORS, "text");
        let language = text.and_then(|text| {
            let lang =
                text.attrs.iter().find(|(ns, name, _)| ns.as_deref() == Some(names::XML) && *name == "lang");
            lang.map(|(_, _, value)| value.clone())
        });
        Self {
            condition: crate::stream::fault::condition(error),
            text: text.map(|text| text.text().into_owned()),
            language: language.filter(|tag| is_language(tag)),
            application: error.elements().find_map(application),
        }
    }

    /// The text as it was written, for the operator alone.
    pub fn words(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The condition that the client hears; none where nothing of it may pass.
    pub fn told(&self) -> Option<StreamCondition> {
        match self.condition.as_str() {
            "see-other-host" => None,
            // ERR-02: what is no condition that we know is one that is not defined.
            name => Some(StreamCondition::parse(name).unwrap_or(StreamCondition::UndefinedCondition)),
        }
    }

    /// The error and the end of the stream. `hosted` tells of a name whether it is a domain that is hosted here.
    pub fn write(&self, condition: StreamCondition, hosted: impl Fn(&str) -> bool) -> Vec<u8> {
        let mut out = format!("<stream:error><{} xmlns='{}'/>", condition.name(), names::STREAM_ERRORS);
        let text = self.text.as_deref().map(|text| clean(text, hosted)).filter(|text| !text.is_empty());
        if let Some(text) = text {
            let lang = self.language.as_deref().map(|tag| format!(" xml:lang='{}'", escape_attr(tag)));
            out += &format!(
                "<text xmlns='{}'{}>{}</text>",
                names::STREAM_ERRORS,
                lang.unwrap_or_default(),
                escape_text(&text)
            );
        }
        out += self.application.as_deref().unwrap_or_default();
        out += "</stream:error>";
        let mut out = out.into_bytes();
        out.extend_from_slice(CLOSE);
        out
    }
}

/// The one application condition that clients act upon (XEP-0198 4), and its two numbers.
fn application(element: &Element) -> Option<String> {
    if !element.is(names::STREAM_MANAGEMENT, "handled-count-too-high") {
        return None;
    }
    let number = |name: &str| {
        let value = element.attr(name).filter(|v| v.len() <= 10 && v.bytes().all(|b| b.is_ascii_digit()));
        value.map(|value| format!(" {name}='{value}'")).unwrap_or_default()
    };
    let (h, sent) = (number("h"), number("send-count"));
    Some(format!("<handled-count-too-high xmlns='{}'{h}{sent}/>", names::STREAM_MANAGEMENT))
}

/// Whether this has the form of a language tag (RFC 5646 2.1), of a length that any has.
pub fn is_language(tag: &str) -> bool {
    (1..=35).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The text as it may be read outside.
pub fn clean(text: &str, hosted: impl Fn(&str) -> bool) -> String {
    let plain: String =
        text.chars().filter(|c| !is_hidden(*c)).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let mut out = String::with_capacity(plain.len());
    let mut rest = plain.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if names_a_place(run, &hosted) {
            out.push_str(HIDDEN);
        } else {
            out.push_str(run);
        }
        let next = after.find(is_part).unwrap_or(after.len());
        let (between, after) = after.split_at(next);
        out.push_str(between);
        rest = after;
    }
    let mut most = out.len().min(MOST);
    while !out.is_char_boundary(most) {
        most = most.saturating_sub(1);
    }
    out.truncate(most);
    out.trim().to_owned()
}

/// Control characters, and those that turn the direction of writing or are not seen.
fn is_hidden(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    turns || (c.is_control() && !c.is_whitespace())
}

/// Whether it may be a part of an address or of a name.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':' | '[' | ']' | '%')
}

/// Whether a run of such characters is an address, or names a host that is not hosted here.
fn names_a_place(run: &str, hosted: &impl Fn(&str) -> bool) -> bool {
    let core = run.trim_matches(['.', '-', ':', '_', '@', '%']);
    let bare = core.trim_matches(['[', ']']);
    let zoneless = bare.split('%').next().unwrap_or_default();
    // One that begins with colons, too.
    let whole = run.trim_end_matches(['.', '-', '_', '@', '%']);
    if core.parse::<SocketAddr>().is_ok()
        || [bare, zoneless, whole].iter().any(|text| text.parse::<IpAddr>().is_ok())
    {
        return true;
    }
    // A port says that a host is meant, whatever the name looks like; Erlang's nodes are `name@host`.
    let (name, port) = match core.rsplit_once(':') {
        Some((name, port)) if port.len() > 1 && port.bytes().all(|b| b.is_ascii_digit()) => (name, true),
        _ => (core, false),
    };
    let port = port && name.chars().any(char::is_alphabetic);
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return true;
    }
    // Behind a scheme, or a label of the writer's own: `xmpp:user@host`.
    let name = name.rsplit(':').next().unwrap_or_default().trim_matches(['[', ']', '.']);
    let host = name.rsplit('@').next().unwrap_or_default();
    let is_named = port || host.len() < name.len() || host.eq_ignore_ascii_case("localhost") || is_host(host);
    is_named && !hosted(host)
}

/// Whether it has the form of a host's name: labels at dots, the last one a word.
fn is_host(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    name.contains('.')
        && name.split('.').all(|label| !label.is_empty())
        && last.chars().count() > 1
        && last.chars().any(char::is_alphabetic)
}

/// What stands for what may not be read.
const HIDDEN: &str = "...";

/// Octets of the text.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        clean(text, |name| name.eq_ignore_ascii_case("hall.example"))
    }

    #[test]
    fn what_people_read_stays_as_it_is() {
        for text in [
            "Replaced by new connection",
            "Your session was ended by an administrator: see https://hall.example/rules, or write to help@hall.example.",
            "alice@hall.example/desk is here. Version 0.12.3, 3 times; e.g. this (12:30)",
            "Vous avez été déconnecté – à bientôt",
            "Устройство заменено",
        ] {
            assert_eq!(cleaned(text), text);
        }
    }

    // C2S-18, ERR-01: no place inside is told to anybody.
    #[test]
    fn addresses_and_names_of_hosts_inside_are_not_read() {
        for (text, expected) in [
            ("node 10.0.0.5 is down", "node ... is down"),
            ("10.0.0.5:5222", "..."),
            ("at [2001:db8::1]:5222, or fe80::1%eth0.", "at ..., or ..."),
            ("moved to inside.lan:5222!", "moved to ...!"),
            ("ejabberd@localhost went away", "... went away"),
            ("ejabberd@node1 and db1:5432", "... and ..."),
            ("see http://chat.internal.corp/x", "see http://.../x"),
            ("ask bob@friend.example", "ask ..."),
            ("xmpp:root@inside.lan", "..."),
            ("::1 localhost 127.0.0.1/8", "... ... .../8"),
        ] {
            assert_eq!(cleaned(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_seen_or_turns_the_writing_is_left_out() {
        assert_eq!(cleaned("a\u{202e}b\u{0}c\u{200f}d\ne\u{feff}"), "abcd e");
        assert_eq!(cleaned("10.0.\u{200b}0.5"), "...");
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        let long = cleaned(&"ä".repeat(2000));
        assert_eq!(long.len(), 1024);
        assert_eq!(cleaned(&format!("x{}", "ä".repeat(2000))).len(), 1023);
    }
}
