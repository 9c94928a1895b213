//! From a file to any spec type, with positions: the one place that knows YAML.
//!
//! Only plain YAML is taken: one document of lists, maps and scalars. Anchors, aliases, tags and merge keys are refused, so
//! that a file says what it seems to say and cannot swell. Scalars stay text until somebody knows what they should mean;
//! `1.2` and `"1.2"` are the same.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_yaml::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::fill::Fill;
use super::node::{self, Key, Kind, Node};
use super::spoilt::Spoilt;
use crate::policy::{Finding, Place};

/// Reads the text of a file; a finding if it cannot be read, is too large or is no UTF-8.
///
/// # Errors
/// What stands in the way of reading it, with the remedy.
pub fn read_text(path: &Path, name: &str) -> Result<String, Finding> {
    let whole = || Place::whole(name);
    let unreadable = |error: std::io::Error| {
        Finding::error(whole(), format!("cannot be read: {error}"), "check the path and its permissions")
    };
    let mut octets = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut octets)).map_err(unreadable)?;
    if octets.len() as u64 > MAX_FILE {
        return Err(Finding::error(whole(), "is larger than 256 MiB", "split it"));
    }
    // Editors on Windows begin a file with a byte order mark; it says nothing.
    if octets.starts_with("\u{feff}".as_bytes()) {
        octets.drain(.."\u{feff}".len());
    }
    String::from_utf8(octets).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let place = Place { line: u32::try_from(line).unwrap_or(u32::MAX), ..whole() };
        Finding::error(place, "is not UTF-8", "save it as UTF-8")
    })
}

/// Reads a spec from the text of a file. Everything that fits is in the spec, everything else in the findings.
pub fn parse<T: DeserializeOwned + Default>(text: &str, name: &str) -> (T, Vec<Finding>) {
    let (spec, findings, _) = parse_in_full(text, name);
    (spec, findings)
}

/// The same, with what is not known for those findings.
pub(super) fn parse_in_full<T: DeserializeOwned + Default>(text: &str, name: &str) -> node::Outcome<T> {
    read(text, name, None)
}

/// The same where values may come from the environment or from other files.
pub(super) fn parse_filled<T: DeserializeOwned + Default>(
    text: &str,
    name: &str,
    fill: &Fill<'_>,
) -> node::Outcome<T> {
    read(text, name, Some(fill))
}

fn read<T: DeserializeOwned + Default>(text: &str, name: &str, fill: Option<&Fill<'_>>) -> node::Outcome<T> {
    match tree(text) {
        Ok(root) => node::read(&root, &Arc::from(name), fill),
        Err(refused) => {
            let place = Place { file: Arc::from(name), line: refused.line, column: refused.column };
            (
                T::default(),
                vec![Finding::error(place, refused.message, refused.remedy)],
                vec![Spoilt::file(name)],
            )
        }
    }
}

struct Refused {
    line: u32,
    column: u32,
    message: String,
    remedy: &'static str,
}

fn tree(text: &str) -> Result<Node, Refused> {
    let mut options = Options::default();
    options.emit_comments = false;
    options.emit_unresolved_aliases = true;
    let mut building = Building::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| refuse_scan(&error))?;
        building.take(event, &span)?;
    }
    Ok(building.root.unwrap_or_default())
}

#[derive(Default)]
struct Building {
    open: Vec<(Node, Option<Key>)>,
    root: Option<Node>,
    documents: u32,
    count: u32,
}

impl Building {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Refused> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.only_plain(anchor, tag.is_some(), span)?;
                let plain = style == ScalarStyle::Plain;
                let node = self.node(span, Kind::Scalar { text: text.into_owned(), plain });
                self.close(node, span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.only_plain(anchor, tag.is_some(), span)?;
                self.begin(span, Kind::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.only_plain(anchor, tag.is_some(), span)?;
                self.begin(span, Kind::Map(Vec::new()))
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((node, _)) => self.close(node, span),
                None => Ok(()),
            },
            Event::DocumentStart(..) => {
                self.documents += 1;
                match self.documents {
                    1 => Ok(()),
                    _ => Err(refuse(span, "a second document begins", "keep one document in a file")),
                }
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                Err(refuse(span, "an alias (*name) is not taken here", "write the value out"))
            }
            _ => Ok(()),
        }
    }

    fn only_plain(&self, anchor: usize, tagged: bool, span: &Span) -> Result<(), Refused> {
        match (anchor, tagged) {
            (0, false) => Ok(()),
            (_, true) => Err(refuse(span, "a tag (!name) is not taken here", "write the plain value")),
            _ => Err(refuse(
                span,
                "an anchor (&name) is not taken here",
                "write the value out where it is needed",
            )),
        }
    }

    fn node(&mut self, span: &Span, kind: Kind) -> Node {
        self.count = self.count.saturating_add(1);
        let (line, column) = position(span);
        Node { id: self.count, line, column, kind }
    }

    fn begin(&mut self, span: &Span, kind: Kind) -> Result<(), Refused> {
        if matches!(self.open.last(), Some((Node { kind: Kind::Map(_), .. }, None))) {
            return Err(refuse(span, "a list or map cannot be a key", "write a plain word before the colon"));
        }
        let node = self.node(span, kind);
        self.open.push((node, None));
        Ok(())
    }

    fn close(&mut self, node: Node, span: &Span) -> Result<(), Refused> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Node { kind: Kind::List(list), .. }, _)) => list.push(node),
            Some((Node { kind: Kind::Map(map), .. }, key @ Some(_))) => {
                map.extend(key.take().map(|key| (key, node)));
            }
            Some((Node { kind: Kind::Map(_), .. }, key @ None)) => match node.kind {
                Kind::Scalar { text, plain: true } if text == "<<" => {
                    return Err(refuse(span, "a merge key (<<) is not taken here", "write the keys out"));
                }
                Kind::Scalar { text, .. } => *key = Some(Key { text, line: node.line, column: node.column }),
                Kind::List(_) | Kind::Map(_) => {}
            },
            Some((Node { kind: Kind::Scalar { .. }, .. }, _)) => {}
        }
        Ok(())
    }
}

fn refuse(span: &Span, message: &str, remedy: &'static str) -> Refused {
    let (line, column) = position(span);
    Refused { line, column, message: message.to_owned(), remedy }
}

fn refuse_scan(error: &ScanError) -> Refused {
    let marker = error.marker();
    Refused {
        line: narrow(marker.line()),
        column: narrow(marker.col()).saturating_add(1),
        message: format!("{NOT_YAML}: {}", error.info()),
        remedy: "check indentation, quotes and brackets",
    }
}

fn position(span: &Span) -> (u32, u32) {
    (narrow(span.start.line()), narrow(span.start.col()).saturating_add(1))
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// How the finding begins after which nothing else of the file is known.
pub const NOT_YAML: &str = "this is not YAML";

/// A policy file of 100,000 rules has about 20 MB.
const MAX_FILE: u64 = 256 << 20;

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
