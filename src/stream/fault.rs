//! The end of a stream, with its reason and the octets that say so.

use bytes::Bytes;

use crate::jid::Domain;
use crate::reason::{Cause, Detail, Reason, StreamCondition, Why};
use crate::xml::{CLOSE, Element, escape_text, names};

/// A stream that is over: what to send, if anything, and why. There is no state "failed"; a step that ends in a fault has
/// consumed its state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Fault {
    /// Why.
    pub reason: Reason,
    /// What lies behind it, where more is known.
    pub detail: Option<Detail>,
    /// The last octets of the stream: our header if it was not out yet, the error, the closing tag. Empty: the connection
    /// is cut without a word.
    pub octets: Bytes,
}

impl Fault {
    /// The stream ends with the error of that reason, behind `header`, which is empty where ours is out already
    /// (RFC 6120 4.9.1.2). A reason without a stream condition ends the stream with the closing tag alone.
    pub fn told(reason: Reason, header: &[u8]) -> Self {
        let mut octets = header.to_vec();
        if let Some(error) = error_element(reason) {
            octets.extend_from_slice(error.as_bytes());
        }
        octets.extend_from_slice(CLOSE);
        Self { reason, detail: None, octets: octets.into() }
    }

    /// The same with these words in the place of the fixed ones: whose stanza ended the stream reads the limit and what was found
    /// (XML-17).
    pub fn saying(reason: Reason, words: &str) -> Self {
        let error = reason.stream_condition().map(|condition| error(condition, &detail(reason, Some(words))));
        let octets = [error.unwrap_or_default().as_bytes(), CLOSE].concat();
        Self { reason, detail: None, octets: octets.into() }
    }

    /// The header names another domain than the one whose certificate was shown: the text says whose it was (STR-15).
    pub fn of_another_certificate(shown: &Domain, header: &[u8]) -> Self {
        let reason = Reason::HostUnknown;
        let mut octets = header.to_vec();
        let text = format!("the certificate shown here is that of {shown}");
        if let Some(condition) = reason.stream_condition() {
            octets.extend_from_slice(error(condition, &text_element(&text)).as_bytes());
        }
        octets.extend_from_slice(CLOSE);
        Self { reason, detail: None, octets: octets.into() }
    }

    /// The stream ends with these words of another vocabulary (a STARTTLS failure), then the closing tag.
    pub fn worded(reason: Reason, element: &str) -> Self {
        let mut octets = element.as_bytes().to_vec();
        octets.extend_from_slice(CLOSE);
        Self { reason, detail: None, octets: octets.into() }
    }

    /// The stream ends with the closing tag alone: there is nothing that the other side did wrong, or nobody to tell.
    pub fn closed(reason: Reason) -> Self {
        Self { reason, detail: None, octets: Bytes::from_static(CLOSE) }
    }

    /// The connection is cut; nothing is sent.
    pub fn silent(reason: Reason) -> Self {
        Self { reason, detail: None, octets: Bytes::new() }
    }

    /// The same, because of this.
    pub fn because(self, cause: Cause) -> Self {
        Self { detail: Some(Detail::new(cause, "")), ..self }
    }

    /// The same, because the other side said so.
    pub fn said(self, condition: &str, text: Option<&str>) -> Self {
        Self { detail: Some(Detail::said(condition, text)), ..self }
    }

    /// The same, with what was due then, where nothing else is known in particular.
    pub fn waiting_for(mut self, due: Due) -> Self {
        if let Some(detail) = &mut self.detail {
            due.complete(detail);
        }
        self
    }

    /// Reason and cause.
    pub fn why(&self) -> Why {
        Why { reason: self.reason, detail: self.detail.clone() }
    }
}

/// What was due from the other side of a stream that we opened: how far it had come when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// The connection itself.
    Connection,
    /// Its stream header.
    Header,
    /// Its stream features.
    Features,
    /// Its leave to begin TLS.
    Proceed,
    /// Its part of the handshake.
    Handshake,
    /// Its word on our certificate.
    Success,
    /// Its word on our key.
    Ruling,
    /// Its word on a key of its own.
    Answer,
    /// Its word on stream management.
    Count,
    /// Nothing: the pair stands, or the question is answered.
    Nothing,
}

impl Due {
    /// That it did not come, in words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Connection => "no connection was made",
            Self::Header => "connected, and its stream header did not come",
            Self::Features => "its stream header came, and its stream features did not",
            Self::Proceed => "its answer to STARTTLS did not come",
            Self::Handshake => "in the TLS handshake",
            Self::Success => "our certificate was shown by SASL EXTERNAL, and its answer did not come",
            Self::Ruling => "our dialback key was sent, and its answer did not come",
            Self::Answer => "the question about the dialback key was sent, and its answer did not come",
            Self::Count => "the pair stood, and the answer about stream management did not come",
            Self::Nothing => "",
        }
    }

    /// Says so in a detail that has no particulars, where it explains one: something did not come, or the other side left.
    pub fn complete(self, detail: &mut Detail) {
        if detail.particulars.is_empty() && matches!(detail.cause, Cause::Cut | Cause::TimedOut) {
            detail.particulars = self.words().into();
        }
    }
}

/// The condition that a stream error of the other side names; empty if it names none.
pub fn condition(error: &Element) -> String {
    error
        .elements()
        .find(|e| e.namespace == names::STREAM_ERRORS && e.name != "text")
        .map(|e| e.name.to_string())
        .unwrap_or_default()
}

/// The text of a stream error of the other side.
pub fn text(error: &Element) -> Option<String> {
    error.child(names::STREAM_ERRORS, "text").map(|text| text.text().to_string())
}

/// The stream error of that reason, if it has one. ERR-01: the text is ours, fixed, in English.
pub fn error_element(reason: Reason) -> Option<String> {
    let condition = reason.stream_condition()?;
    // XML-17: whose stanza ended the stream reads why.
    let told = reason != Reason::StanzaTooBig && (reason.is_too_big() || reason.is_unfit());
    let words = told.then(|| format!("{} ({})", reason.words(), reason.label()));
    Some(error(condition, &detail(reason, words.as_deref())))
}

/// What stands beside the condition.
fn detail(reason: Reason, words: Option<&str>) -> String {
    let mut detail = words.map(text_element).unwrap_or_default();
    // LIM-01, XEP-0205: the application condition names the size.
    if reason.is_too_big() {
        detail += &format!("<stanza-too-big xmlns='{}'/>", names::ERRORS_APP);
    }
    detail
}

fn error(condition: StreamCondition, detail: &str) -> String {
    format!("<stream:error><{} xmlns='{}'/>{detail}</stream:error>", condition.name(), names::STREAM_ERRORS)
}

fn text_element(text: &str) -> String {
    format!("<text xmlns='{}' xml:lang='en'>{}</text>", names::STREAM_ERRORS, escape_text(text))
}
