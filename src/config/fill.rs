//! Values that are not written in the file itself: `${NAME}` from the environment, `{ file: PATH }` from another file.
//!
//! Both stand wherever a value stands. Where a value names a file already, `{ file: PATH }` is that name: what a secret's file
//! holds is never taken for a path, and so never told in a finding.

use std::borrow::Cow;
use std::path::Path;

/// What the environment holds under a name.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where values come from.
pub(super) struct Fill<'a> {
    pub(super) environment: Environment<'a>,
    /// Relative paths begin here.
    pub(super) folder: &'a Path,
}

/// What is wrong, and what to do.
type Problem = (String, &'static str);

impl Fill<'_> {
    /// A scalar as it reads.
    pub(super) fn text<'v>(&self, key: &str, text: &'v str) -> Result<Cow<'v, str>, Problem> {
        // Addresses are filled in where they are read, so that a finding tells both what is written and how it reads.
        match text.contains("${") && !ADDRESSES.contains(&key) {
            true => filled(text, self.environment),
            false => Ok(Cow::Borrowed(text)),
        }
    }

    /// What a file holds, or its name where a name is due.
    pub(super) fn file<'v>(&self, key: &str, path: Cow<'v, str>) -> Result<Cow<'v, str>, Problem> {
        if NAMES_OF_FILES.contains(&key) {
            return Ok(path);
        }
        let whole = self.folder.join(path.as_ref());
        let remedy = "let the gateway's user read it, or write the value itself";
        let text = std::fs::read_to_string(&whole)
            .map_err(|error| (format!("the value in {} cannot be read: {error}", whole.display()), remedy))?;
        match text.len() <= LONGEST {
            // Editors on Windows begin a file with a byte order mark; it says nothing.
            true => Ok(Cow::Owned(text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end().to_owned())),
            false => Err((format!("{} is larger than any value", whole.display()), "name the right file")),
        }
    }
}

/// The text with the environment's values for its `${NAME}`. What a value holds is not looked at again, and a name that is
/// not set is a mistake: an address with a hole in it may well be another address.
pub(super) fn filled<'v>(
    text: &'v str,
    environment: Environment<'_>,
) -> Result<Cow<'v, str>, (String, &'static str)> {
    if !text.contains('$') {
        return Ok(Cow::Borrowed(text));
    }
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        whole.push_str(before);
        let name = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, behind)) = name.filter(|(name, _)| is_name(name)) else {
            return Err((format!("\"{text}\" has a `$` that begins no name"), "write a name like ${POD_IP}"));
        };
        match environment(name).filter(|value| !value.is_empty()) {
            Some(value) => whole.push_str(&value),
            None => {
                return Err((
                    format!("\"{text}\" asks for {name}, which is not set in the environment"),
                    "set it where the gateway is started, or write the value itself",
                ));
            }
        }
        rest = behind;
    }
    whole.push_str(rest);
    Ok(Cow::Owned(whole))
}

/// POSIX.1-2017 8.1, as far as portable names go.
fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_uppercase() || c == '_';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// Keys whose values are addresses.
const ADDRESSES: &[&str] = &["address", "answer", "c2s", "http", "listen", "s2s", "servers"];

/// Keys whose values are the names of files.
pub(super) const NAMES_OF_FILES: &[&str] = &[
    "anchors", "chain", "crls", "file", "include", "inside", "key", "password", "patches", "policies",
    "roots", "shadow", "socket", "state", "world",
];

/// A value of more octets is none.
const LONGEST: usize = 64 * 1024;
