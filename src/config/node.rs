//! A tree of lists, maps and scalars with positions, and how a spec is read from it.
//!
//! Reading goes on after a mistake: what does not fit is reported and left out, so that one run tells everything. Unknown
//! keys are named together with the key that was meant.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::fill::Fill;
use super::spoilt::{Spoilt, What};
use crate::policy::{Finding, PLACED, Place};

/// A value with its place.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) id: u32,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) kind: Kind,
}

/// What kind of value.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    Scalar { text: String, plain: bool },
}

impl Default for Kind {
    fn default() -> Kind {
        Kind::Scalar { text: String::new(), plain: true }
    }
}

/// A key with its place.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A spec as far as it could be read, what is wrong with the rest, and what is not known for it.
pub(super) type Outcome<T> = (T, Vec<Finding>, Vec<Spoilt>);

/// Reads a spec. After a mistake the value is left out and everything is read once more, until the rest fits.
pub(super) fn read<T: DeserializeOwned + Default>(
    root: &Node,
    file: &Arc<str>,
    fill: Option<&Fill<'_>>,
) -> Outcome<T> {
    let mut left_out = HashSet::new();
    let mut mistakes = Vec::new();
    loop {
        let (findings, spoilt) = (RefCell::default(), RefCell::default());
        let context = Context { file, root: root.id, left_out: &left_out, fill, findings, spoilt };
        let outcome = T::deserialize(Reading { node: root, context: &context, key: "" });
        let finish = |spec: T, mut mistakes: Vec<Finding>, more: Option<Spoilt>| {
            mistakes.extend(context.findings.take());
            mistakes.sort();
            let mut spoilt = context.spoilt.take();
            spoilt.extend(more);
            (spec, mistakes, spoilt)
        };
        let mistake = match outcome {
            Ok(spec) => return finish(spec, mistakes, None),
            Err(mistake) => mistake,
        };
        let place = Place { file: Arc::clone(file), line: mistake.line, column: mistake.column };
        mistakes.push(Finding::error(place, mistake.message, mistake.remedy));
        let known = mistake.id == root.id || !left_out.insert(mistake.id);
        if known || mistakes.len() >= MAX_MISTAKES {
            return finish(T::default(), mistakes, Some(Spoilt::file(file)));
        }
    }
}

struct Context<'a> {
    file: &'a Arc<str>,
    root: u32,
    left_out: &'a HashSet<u32>,
    fill: Option<&'a Fill<'a>>,
    findings: RefCell<BTreeSet<Finding>>,
    spoilt: RefCell<Vec<Spoilt>>,
}

#[derive(Clone, Copy)]
struct Reading<'a> {
    node: &'a Node,
    context: &'a Context<'a>,
    /// The key that the value stands at, also for those of a list.
    key: &'a str,
}

impl<'a> Reading<'a> {
    fn at(self, node: &'a Node) -> Reading<'a> {
        Reading { node, ..self }
    }

    fn is_nothing(self) -> bool {
        matches!(&self.node.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    fn text(self) -> Result<Cow<'a, str>, Mistake> {
        match (&self.node.kind, self.context.fill) {
            (Kind::Scalar { text, .. }, Some(fill)) if !self.is_nothing() => {
                fill.text(self.key, text).map_err(|(message, remedy)| self.mistake(message, remedy))
            }
            (Kind::Map(map), Some(fill)) if matches!(map.as_slice(), [(key, _)] if key.text == "file") => {
                let Some((_, node)) = map.first() else { return Ok(Cow::Borrowed("")) };
                let path = self.at(node).text()?;
                fill.file(self.key, path).map_err(|(message, remedy)| self.mistake(message, remedy))
            }
            _ => self.plain_text(),
        }
    }

    fn plain_text(self) -> Result<Cow<'a, str>, Mistake> {
        match &self.node.kind {
            _ if self.is_nothing() => {
                Err(self.mistake("a value is due here, and there is none", "write one, or remove the key"))
            }
            Kind::Scalar { text, .. } => Ok(Cow::Borrowed(text)),
            Kind::List(_) => {
                Err(self
                    .mistake("a single value is due here, not a list", "write it without brackets or dash"))
            }
            Kind::Map(_) => {
                Err(self.mistake("a single value is due here, not a map", "write the value after the key"))
            }
        }
    }

    fn list(self) -> Result<&'a [Node], Mistake> {
        match &self.node.kind {
            Kind::List(list) => Ok(list),
            _ if self.is_nothing() => Ok(&[]),
            _ => Err(self.mistake("a list is due here", "write [a, b] or one item a line after dashes")),
        }
    }

    fn map(self) -> Result<&'a [(Key, Node)], Mistake> {
        match &self.node.kind {
            Kind::Map(map) => Ok(map),
            _ if self.is_nothing() => Ok(&[]),
            _ => Err(self.mistake("a map is due here", "write { key: value } or one key a line")),
        }
    }

    fn mistake(self, message: impl Into<String>, remedy: &str) -> Mistake {
        Mistake {
            id: self.node.id,
            line: self.node.line,
            column: self.node.column,
            message: message.into(),
            remedy: remedy.to_owned(),
        }
    }

    fn report(self, key: &Key, message: String, remedy: String) {
        let place = Place { file: Arc::clone(self.context.file), line: key.line, column: key.column };
        self.context.findings.borrow_mut().insert(Finding::error(place, message, remedy));
    }

    /// Something of this map or list was written, and is not known.
    fn spoil(self, what: What) {
        let Node { id, line, column, .. } = *self.node;
        let file = Arc::clone(self.context.file);
        let place = match id == self.context.root {
            true => Place { file, line: 0, column: 0 },
            false => Place { file, line, column },
        };
        let spoilt = Spoilt { place, what };
        let mut known = self.context.spoilt.borrow_mut();
        if !known.contains(&spoilt) {
            known.push(spoilt);
        }
    }

    /// The entries of a map that the spec knows; the rest is reported.
    fn known(self, fields: &'static [&'static str]) -> Result<Vec<(&'a str, &'a Node)>, Mistake> {
        let mut seen: Vec<(&str, &Key)> = Vec::new();
        let mut entries = Vec::new();
        for (key, node) in self.map()? {
            if let Some((_, first)) = seen.iter().find(|(text, _)| *text == key.text) {
                let message =
                    format!("`{}` stands here a second time; first at line {}", key.text, first.line);
                self.report(key, message, "keep one of them".to_owned());
                continue;
            }
            seen.push((&key.text, key));
            if !fields.contains(&key.text.as_str()) {
                let close = meant(&key.text, fields);
                let remedy = match close {
                    Some(field) => format!("did you mean `{field}`?"),
                    None => format!("known are: {}", fields.join(", ")),
                };
                self.report(key, format!("`{}` is not a key that is known here", key.text), remedy);
                if let Some(field) = close {
                    self.spoil(What::Key(field.to_owned()));
                }
            } else if self.context.left_out.contains(&node.id) {
                self.spoil(What::Key(key.text.clone()));
            } else {
                // A list that has lost an item may be empty for that.
                let lost = |item: &Node| self.context.left_out.contains(&item.id);
                if matches!(&node.kind, Kind::List(items) if items.iter().any(lost)) {
                    self.spoil(What::Key(key.text.clone()));
                }
                entries.push((key.text.as_str(), node));
            }
        }
        Ok(entries)
    }
}

impl<'de> Deserializer<'de> for Reading<'_> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.kind {
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
            Kind::Scalar { text, .. } => {
                visitor.visit_str(text).map_err(|error: Mistake| error.or_at(self.node))
            }
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_str(&self.text()?).map_err(|error: Mistake| error.or_at(self.node))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        // A key without a value: a list or map has nothing in it, a word is missing.
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let items = self.list()?;
        visitor
            .visit_seq(Items { reading: self, items: items.iter() })
            .map_err(|error| error.or_at(self.node))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let entries = self.map()?.iter().map(|(key, node)| (key.text.as_str(), node)).collect::<Vec<_>>();
        let entries = Entries { reading: self, entries: entries.into_iter(), value: None, key: "" };
        visitor.visit_map(entries).map_err(|error| error.or_at(self.node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        if name == PLACED {
            return visitor
                .visit_map(Spot { reading: self, next: 0 })
                .map_err(|error| error.or_at(self.node));
        }
        let entries =
            Entries { reading: self, entries: self.known(fields)?.into_iter(), value: None, key: "" };
        visitor.visit_map(entries).map_err(|error| error.or_at(self.node))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

struct Items<'a> {
    reading: Reading<'a>,
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let left_out = self.reading.context.left_out;
        for node in self.items.by_ref() {
            match left_out.contains(&node.id) {
                true => self.reading.spoil(What::Item),
                false => return seed.deserialize(self.reading.at(node)).map(Some),
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    reading: Reading<'a>,
    entries: std::vec::IntoIter<(&'a str, &'a Node)>,
    value: Option<&'a Node>,
    key: &'a str,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        (self.value, self.key) = (Some(node), key);
        let key: StrDeserializer<'_, Mistake> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        match self.value.take() {
            Some(node) => seed.deserialize(Reading { key: self.key, ..self.reading.at(node) }),
            None => Err(Mistake::custom("a value without a key")),
        }
    }
}

/// The synthetic map `line`, `column`, `value` of a placed value.
struct Spot<'a> {
    reading: Reading<'a>,
    next: u8,
}

impl<'de> MapAccess<'de> for Spot<'_> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let key = match self.next {
            0 => "line",
            1 => "column",
            2 => "value",
            _ => return Ok(None),
        };
        self.next += 1;
        let key: StrDeserializer<'_, Mistake> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let number = |number: u32| -> U32Deserializer<Mistake> { number.into_deserializer() };
        match self.next {
            1 => seed.deserialize(number(self.reading.node.line)),
            2 => seed.deserialize(number(self.reading.node.column)),
            _ => seed.deserialize(self.reading),
        }
    }
}

/// One value that does not fit; the innermost that is known to be wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Mistake {
    id: u32,
    line: u32,
    column: u32,
    message: String,
    remedy: String,
}

impl Mistake {
    fn or_at(self, node: &Node) -> Mistake {
        match self.id {
            0 => Mistake { id: node.id, line: node.line, column: node.column, ..self },
            _ => self,
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

impl serde::de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Mistake {
        Mistake { message: message.to_string(), ..Mistake::default() }
    }
}

/// The name that was meant by an unknown key, where one is close.
fn meant(key: &str, fields: &[&'static str]) -> Option<&'static str> {
    let apart = |field: &str| 1 + field.len() / 4;
    fields
        .iter()
        // A key that is far too long costs no comparison.
        .filter(|field| key.len().abs_diff(field.len()) <= apart(field))
        .map(|field| (strsim::damerau_levenshtein(&key.to_lowercase(), field), *field))
        .filter(|(distance, field)| *distance <= apart(field))
        .min()
        .map(|(_, field)| field)
}

/// A file with more mistakes than this is the wrong file.
const MAX_MISTAKES: usize = 50;
