//! The filter for clients: whether a stanza may leave them, and what is taken off it.
//!
//! On such a stream nothing is ever dropped or answered here (SM-02, SM-03): a stanza passes, or its stream ends.

use crate::reason::Reason;
use crate::stream::client::Own;
use crate::xml::{Edits, Head};

/// C2S-16: `from` is absent or the client's own, and is taken off; the server inside writes it anew. `language` is the
/// `xml:lang` of the stream that the stanza came on, `written` that of the stream that it leaves on (RLY-07).
///
/// # Errors
/// `ForgedFrom` for any other `from`.
pub fn inspect(
    head: &Head,
    own: &Own,
    language: Option<&str>,
    written: Option<&str>,
) -> Result<Edits, Reason> {
    let from = head.from();
    if let Some(from) = &from
        && !own.may_say(from)
    {
        return Err(Reason::ForgedFrom);
    }
    Ok(Edits { remove_from: from.is_some(), ..carried(head, language, written) })
}

/// What a stanza leaned on travels with it when the stream that it leaves on has another language (RLY-07).
pub fn carried(head: &Head, language: Option<&str>, written: Option<&str>) -> Edits {
    let lang = language.filter(|_| language != written && head.lang().is_none());
    Edits { lang: lang.map(str::to_owned), ..Edits::default() }
}
