//! The reference of every key and the schemas for editors are made from the spec types, their comments included, by schemars
//! (feature `schema`). What neither a type nor its comment says in words a program knows stands here: choices, and which of several are needed.
//!
//! `GATEHOUSE_WRITE=1 cargo test --test pure reference` writes them; without it a file that is not what the types say fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use gatehouse::config::load;
use gatehouse::config::spec::FileSpec;
use gatehouse::policy::{PatchFile, PolicyFile};
use schemars::schema_for;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

/// One key of a map of the file.
#[derive(Clone, Debug)]
struct Key {
    name: String,
    meaning: String,
    default: Option<String>,
    example: Option<String>,
    /// From and to, where it is a number.
    range: Option<(u64, u64)>,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Word,
    Words,
    Map(String),
    Maps(String),
    Count,
    Size,
    Time,
    Rate,
    Pace,
    Flow,
}

impl Form {
    fn words(&self) -> String {
        match self {
            Self::Word => "a word".to_owned(),
            Self::Words => "a list of words".to_owned(),
            Self::Map(_) => "a map".to_owned(),
            Self::Maps(_) => "a list of maps".to_owned(),
            Self::Count => "a number".to_owned(),
            Self::Size => "octets, with the unit: `B`, `KiB`, `MiB`, `GiB`".to_owned(),
            Self::Time => "a time, with the unit: `ms`, `s`, `m`, `h`, `d`".to_owned(),
            Self::Rate => "so many a minute: `30/min`".to_owned(),
            Self::Pace => "so many a second: `500/s`".to_owned(),
            Self::Flow => "so many octets a second: `16MiB/s`".to_owned(),
        }
    }
}

/// Keys that take one of a few words, or lists of them. Each word stands in the comment of its field.
const CHOICES: &[(&str, &str, &[&str])] = &[
    ("FileSpec", "version", &["v1"]),
    ("FileSpec", "explain-to-users", &["on", "off"]),
    ("FileSpec", "bidi", &["on", "off"]),
    ("ListenSpec", "flow", &["s2s", "c2s", "websocket", "mixed", "inside"]),
    ("ListenSpec", "tls", &["starttls", "direct", "any", "proxy"]),
    ("ClientsSpec", "certificate", &["off", "request", "require"]),
    ("ClientsSpec", "match", &["xmpp-address", "email", "any"]),
    ("DomainSpec", "federation", &["any", "quarantine", "listed", "none"]),
    ("DomainSpec", "shadow-federation", &["any", "quarantine", "listed", "none"]),
    ("BackendSpec", "proxy-protocol", &["off", "v1", "v2"]),
    ("BackendSpec", "s2s-proxy-protocol", &["off", "v2"]),
    ("BackendSpec", "dialback-keys", &["by-address", "verify"]),
    ("BackendSpec", "channel-binding", &["none"]),
    ("BackendSpec", "register", &["off", "on"]),
    ("BackendSpec", "multiplex", &["on", "off"]),
    ("BackendSpec", "rfc7622", &["on", "off"]),
    (
        "BackendSpec",
        "server",
        &["ejabberd", "jabberd2", "mongooseim", "openfire", "prosody", "tigase", "wildfire"],
    ),
    ("AdminSpec", "status", &["off", "on"]),
    ("TrustSpec", "unknown-revocation", &["by-issuer", "accept", "refuse"]),
    ("ListSpec", "change", &["third", "any"]),
    ("ListSpec", "format", &["domains", "jid-sha256"]),
    ("DnsSpec", "dnssec", &["off", "resolver", "validate"]),
    ("RouteSpec", "tls", &["starttls", "direct", "none"]),
    ("SteeringSpec", "hosted", &["refuse", "backend"]),
    ("AuditSpec", "on-full", &["go-on", "refuse"]),
    ("LogSpec", "format", &["text", "json"]),
    ("LogSpec", "level", &["error", "warn", "info", "debug", "trace"]),
    ("PolicyFile", "version", &["v1"]),
    ("DefaultsSpec", "identity", &["dane", "certificate", "posh", "dialback"]),
    ("DefaultsSpec", "tls", &["1.2", "1.3", "none"]),
    ("RuleSpec", "verdict", &["allow", "deny", "quarantine"]),
    ("RuleSpec", "on-change", &["note", "hold"]),
    ("RuleSpec", "direction", &["inbound", "outbound", "both"]),
    ("RuleSpec", "identity", &["pin", "dane", "certificate", "posh", "dialback"]),
    ("RuleSpec", "tls", &["1.2", "1.3", "none"]),
    ("StanzasSpec", "allow", &["message", "presence", "iq"]),
    ("EgressSpec", "presence", &["full", "plain", "none"]),
    ("EgressSpec", "client-info", &["allow", "refuse"]),
    ("PatchFile", "version", &["v1"]),
    ("PatchSpec", "action", &["deny", "cut"]),
    ("PatchSpec", "mode", &["act", "shadow"]),
    ("PatchSpec", "direction", &["inbound", "outbound", "both"]),
    ("PatchSpec", "flows", &["s2s", "c2s"]),
    ("PatchSpec", "kinds", &["message", "presence", "iq"]),
    ("PatchCaseSpec", "direction", &["inbound", "outbound"]),
    ("PatchCaseSpec", "flow", &["s2s", "c2s"]),
    ("PatchCaseSpec", "verdict", &["pass", "deny", "cut"]),
    ("CaseSpec", "direction", &["inbound", "outbound"]),
    ("CaseSpec", "identity", &["pin", "dane", "certificate", "posh", "dialback", "none"]),
    ("CaseSpec", "tls", &["1.2", "1.3", "none"]),
    ("CaseSpec", "kind", &["message", "presence", "iq"]),
    ("CaseSpec", "verdict", &["allow", "deny", "quarantine"]),
];

/// Keys of which one at least must be there.
const ONE_OF: &[(&str, &[&str])] = &[
    ("FileSpec", &["domains", "include"]),
    ("ListSpec", &["file", "url"]),
    ("RouteSpec", &["target", "via"]),
    ("RuleSpec", &["domains", "lists"]),
];

type Types = BTreeMap<String, Vec<Key>>;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The spec types, by name, as they tell of themselves.
fn types() -> Types {
    let mut order = Order::default();
    order.of::<FileSpec>();
    order.of::<PolicyFile>();
    order.of::<PatchFile>();
    let mut types = Types::new();
    for schema in [schema_for!(FileSpec), schema_for!(PolicyFile), schema_for!(PatchFile)] {
        let defined = schema.get("$defs").and_then(Value::as_object).into_iter().flatten();
        let whole = (schema.get("title").unwrap().as_str().unwrap(), schema.as_value());
        for (name, schema) in defined.map(|(name, schema)| (name.as_str(), schema)).chain([whole]) {
            let mut properties = schema["properties"].as_object().unwrap().clone();
            let fields = order.0.get(name).unwrap_or_else(|| panic!("{name} is not read"));
            let keys: Vec<Key> =
                fields.iter().map(|field| key(field, &properties.remove(*field).unwrap())).collect();
            assert!(properties.is_empty(), "{name} does not read {properties:?}");
            types.insert(name.to_owned(), keys);
        }
    }
    types
}

/// The keys of each type as the reader is told of them, in the order in which they are declared: a schema has none.
#[derive(Default)]
struct Order(BTreeMap<&'static str, &'static [&'static str]>);

impl Order {
    fn of<'de, T: Deserialize<'de>>(&mut self) {
        T::deserialize(self).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Each map has all of its keys, each list one entry, and all else is a word.
impl<'de> Deserializer<'de> for &mut Order {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_str("x")
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_u32(1)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_seq(Each { order: self, left: [""].iter() })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.insert(name, fields);
        visitor.visit_map(Each { order: self, left: fields.iter() })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// The keys of a map, or the entries of a list.
struct Each<'a> {
    order: &'a mut Order,
    left: std::slice::Iter<'a, &'static str>,
}

impl<'de> MapAccess<'de> for Each<'_> {
    type Error = serde::de::value::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        self.left.next().map(|key| seed.deserialize(key.into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        seed.deserialize(&mut *self.order)
    }
}

impl<'de> SeqAccess<'de> for Each<'_> {
    type Error = serde::de::value::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        self.left.next().map(|_| seed.deserialize(&mut *self.order)).transpose()
    }
}

/// What a property is, beside that it may be absent.
fn form_of(schema: &Value) -> Form {
    let named = |schema: &Value| {
        let reference = schema["$ref"].as_str().or_else(|| schema["anyOf"][0]["$ref"].as_str());
        reference.map(|reference| reference.rsplit('/').next().unwrap().to_owned())
    };
    match (schema.get("items"), named(schema)) {
        (Some(items), _) => named(items).map_or(Form::Words, Form::Maps),
        (None, Some(name)) => Form::Map(name),
        (None, None) => Form::Word,
    }
}

/// Without the rules that a comment cites for those who work on the code, as `(LIM-06)` or `(L-skip, XML-17)`.
fn without_rules(comment: &str) -> String {
    let is_rule = |word: &str| {
        word.split_once('-').is_some_and(|(group, rest)| {
            let number = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
            let name = rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b.is_ascii_digit());
            let upper =
                !group.is_empty() && group.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
            upper && (number || ["L", "T"].contains(&group) && name)
        })
    };
    let (mut text, mut rest) = (String::new(), comment);
    while let Some((before, (inside, after))) =
        rest.split_once(" (").and_then(|(before, behind)| Some((before, behind.split_once(')')?)))
    {
        text += before;
        if !inside.split([',', ' ']).filter(|word| !word.is_empty()).all(is_rule) {
            text += &format!(" ({inside})");
        }
        rest = after;
    }
    text + rest
}

/// A key by its name and what its field says of itself. A limit says in a row what it counts, its default and its ends.
fn key(name: &str, schema: &Value) -> Key {
    let comment = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    let comment = without_rules(comment.trim());
    let comment = comment.as_str();
    let (comment, example) = match comment.split_once("Example: ") {
        Some((comment, example)) => (comment.trim(), Some(example.trim_end_matches('.').to_owned())),
        None => (comment, None),
    };
    let (meaning, default) = match (comment.split_once("Default: "), comment.split_once("No default.")) {
        (Some((meaning, default)), None) => {
            (meaning, Some(default.trim_end_matches('.').replace("see [`DialbackSpec`]", "see there")))
        }
        (None, Some((meaning, _))) => (meaning, None),
        (None, None) => (comment, Some("nothing".to_owned())),
        (Some(_), Some(_)) => panic!("{name} has a default and has none: {comment}"),
    };
    let (name, meaning) = (name.to_owned(), meaning.trim().to_owned());
    let Some(row) = schema["x-row"].as_array() else {
        return Key { name, meaning, default, example, range: None, form: form_of(schema) };
    };
    let row: Vec<&str> = row.iter().map(|word| word.as_str().unwrap()).collect();
    let [kind, default, least, most] = row[..] else { panic!("{name}: {row:?}") };
    assert!(meaning.starts_with(char::is_uppercase), "{name}: {meaning}");
    Key {
        meaning,
        default: Some(format!("`{default}`; from `{least}` to `{most}`")),
        example: Some(format!("`{name}: {default}`")),
        range: least.parse().ok().zip(most.parse().ok()),
        form: match kind {
            "count" => Form::Count,
            "size" => Form::Size,
            "time" => Form::Time,
            "rate" => Form::Rate,
            "pace" => Form::Pace,
            "flow" => Form::Flow,
            other => panic!("{name}: {other}"),
        },
        name,
    }
}

fn is_needed(of: &str, key: &Key) -> bool {
    // Needed by inside listeners only.
    key.default.is_none() && (of, key.name.as_str()) != ("ListenSpec", "from")
}

fn reference(types: &Types) -> String {
    let mut text = String::from(
        "# Every key\n\nMade from the types that read the files; `tests/pure/reference.rs` keeps it true. Do not edit it: edit the \
         comments in\n`src/config/spec.rs`, `src/config/limits.rs`, `src/policy/file.rs` and `src/policy/patches/file.rs`.\n\nA key in **bold** must be \
         there. Editors complete and check keys with the schemas in [schemas](schemas): begin a file with\n\
         `# yaml-language-server: $schema=PATH/gatehouse.schema.json`.\n\n\
         Any value of `gatehouse.yaml` may come from elsewhere. `${NAME}` in it is what the environment variable NAME holds at the\n\
         start or reload: `address: \"${POD_IP}:5269\"`, or `\"[${POD_IP}]:5269\"` where that is an IPv6 address. `{ file: PATH }` in its\n\
         place is what that file holds; where a value is the name of a file already, it is that name. A variable that is not set, or\n\
         empty, and a file that cannot be read are errors; there is no default. Policy files are taken as they are.\n\n\
         A word that is missing behind its key is an error, and never the default: remove the key. `true` and `false` stand for `on` and `off`.\n",
    );
    for (title, start) in
        [("gatehouse.yaml", "FileSpec"), ("Policy files", "PolicyFile"), ("Files of patches", "PatchFile")]
    {
        write!(text, "\n## {title}\n").unwrap();
        section(&mut text, types, start, "");
    }
    text
}

fn section(text: &mut String, types: &Types, name: &str, path: &str) {
    if !path.is_empty() {
        write!(text, "\n### `{path}`\n").unwrap();
    }
    text.push_str("\n| key | meaning | written as | default | example |\n| --- | --- | --- | --- | --- |\n");
    for key in &types[name] {
        let mark = if is_needed(name, key) { "**" } else { "" };
        writeln!(
            text,
            "| {mark}`{}`{mark} | {} | {} | {} | {} |",
            key.name,
            key.meaning,
            key.form.words(),
            key.default.as_deref().unwrap_or("none"),
            key.example.as_deref().unwrap_or("")
        )
        .unwrap();
    }
    for key in &types[name] {
        let dot = if path.is_empty() { "" } else { "." };
        match &key.form {
            Form::Map(inner) => section(text, types, inner, &format!("{path}{dot}{}", key.name)),
            Form::Maps(inner) => section(text, types, inner, &format!("{path}{dot}{}[]", key.name)),
            _ => {}
        }
    }
}

fn schema(types: &Types, name: &str, title: &str) -> Value {
    let mut schema = map_schema(types, name);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!(title);
    schema
}

fn map_schema(types: &Types, name: &str) -> Value {
    let mut properties = Map::new();
    for key in &types[name] {
        let choices = CHOICES.iter().find(|(of, field, _)| *of == name && *field == key.name);
        let word = || match choices {
            // A reader of YAML takes a bare 1.2 for a number.
            Some((_, _, words)) if words.contains(&"1.2") => {
                json!({ "enum": ["1.2", "1.3", "none", 1.2, 1.3] })
            }
            // Editors that follow YAML 1.1 take a bare `on` or `off` for a truth value, and so does the reader.
            Some((_, _, words)) => {
                let mut all = json!(words);
                let truths =
                    [("on", true), ("off", false)].into_iter().filter(|(word, _)| words.contains(word));
                all.as_array_mut().unwrap().extend(truths.map(|(_, truth)| json!(truth)));
                json!({ "enum": all })
            }
            None => json!({ "type": ["string", "number", "boolean"] }),
        };
        let pattern = |text: &str| json!({ "type": "string", "pattern": text });
        let mut value = match &key.form {
            Form::Word => word(),
            Form::Words => json!({ "type": "array", "items": word() }),
            Form::Map(inner) => map_schema(types, inner),
            Form::Maps(inner) => json!({ "type": "array", "items": map_schema(types, inner) }),
            Form::Count => {
                let (least, most) = key.range.unwrap();
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Form::Size => pattern("^[0-9]+ *(B|KiB|MiB|GiB)$"),
            Form::Time => pattern("^[0-9]+(ms|s|m|h|d)$"),
            Form::Rate => pattern("^[0-9]+/min$"),
            Form::Pace => pattern("^[0-9]+/s$"),
            Form::Flow => pattern("^[0-9]+ *(B|KiB|MiB|GiB)/s$"),
        };
        if may_come_from_elsewhere(types, name) {
            match (&key.form, value.get("items").cloned()) {
                (Form::Map(_) | Form::Maps(_), _) => {}
                (_, Some(items)) => value["items"] = or_from_elsewhere(&items),
                (_, None) => value = or_from_elsewhere(&value),
            }
        }
        let default = key.default.as_ref().map_or_else(String::new, |text| format!(" Default: {text}."));
        value["description"] = json!(format!("{}{default}", key.meaning));
        properties.insert(key.name.clone(), value);
    }
    let needed: Vec<&str> =
        types[name].iter().filter(|key| is_needed(name, key)).map(|key| key.name.as_str()).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    if let Some((_, keys)) = ONE_OF.iter().find(|(of, _)| *of == name) {
        schema["anyOf"] = keys.iter().map(|key| json!({ "required": [key] })).collect();
    }
    schema
}

/// Whether it is a map of `gatehouse.yaml`: policy files are taken as they are.
fn may_come_from_elsewhere(types: &Types, name: &str) -> bool {
    let mut of_policy = Order::default();
    of_policy.of::<PolicyFile>();
    of_policy.of::<PatchFile>();
    types.contains_key(name) && !of_policy.0.contains_key(name)
}

/// What is written, or where it stands.
fn or_from_elsewhere(value: &Value) -> Value {
    let file = json!({
        "type": "object", "additionalProperties": false, "required": ["file"],
        "properties": { "file": { "type": "string" } }
    });
    // Any text will do where the value may be any.
    let takes_text = value["type"].as_array().is_some_and(|types| types.contains(&json!("string")));
    match takes_text {
        true => json!({ "anyOf": [value, file] }),
        false => json!({ "anyOf": [value, { "type": "string", "pattern": "[$][{][A-Z_]" }, file] }),
    }
}

fn made() -> Vec<(&'static str, String)> {
    let types = types();
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap() + "\n";
    vec![
        ("deploy/configuration.md", reference(&types)),
        (
            "deploy/schemas/gatehouse.schema.json",
            pretty(&schema(&types, "FileSpec", "Gatehouse configuration")),
        ),
        (
            "deploy/schemas/patches.schema.json",
            pretty(&schema(&types, "PatchFile", "Gatehouse file of patches")),
        ),
        ("deploy/schemas/policy.schema.json", pretty(&schema(&types, "PolicyFile", "Gatehouse policy file"))),
    ]
}

#[test]
fn the_reference_and_the_schemas_are_what_the_types_say() {
    for (path, text) in made() {
        if std::env::var_os("GATEHOUSE_WRITE").is_some() {
            fs::create_dir_all(root(path).parent().unwrap()).unwrap();
            fs::write(root(path), &text).unwrap();
        }
        let shipped = fs::read_to_string(root(path)).unwrap_or_default();
        assert!(
            shipped == text,
            "{path} is stale; write it with GATEHOUSE_WRITE=1 cargo test --test pure reference"
        );
    }
}

#[test]
fn every_key_has_its_words_and_every_choice_stands_in_them() {
    let types = types();
    assert!(types.len() > 18, "{:?}", types.keys());
    for (name, keys) in &types {
        assert!(!keys.is_empty(), "{name}");
        for key in keys {
            assert!(
                key.meaning.len() > 4 && key.meaning.ends_with(['.', ')']),
                "{name} {}: {key:?}",
                key.name
            );
        }
    }
    for (name, field, words) in CHOICES {
        let key = types[*name].iter().find(|key| key.name == *field).unwrap();
        let said = [Some(&key.meaning), key.default.as_ref(), key.example.as_ref()];
        for word in *words {
            let stands = said.into_iter().flatten().any(|said| said.contains(word));
            assert!(stands, "{name}.{field}: {word} does not stand in the comment");
        }
    }
}

/// A value for every key: what the schema offers, the reader must know.
fn all_keys(schema: &Value) -> Value {
    if let Some(properties) = schema.get("properties") {
        let map = properties.as_object().unwrap().iter();
        return Value::Object(map.map(|(key, inner)| (key.clone(), all_keys(inner))).collect());
    }
    if schema["type"] == "array" {
        return json!([all_keys(&schema["items"])]);
    }
    json!("x")
}

#[test]
fn the_reader_knows_every_key_of_the_schemas() {
    let types = types();
    // JSON is YAML.
    let text = all_keys(&schema(&types, "FileSpec", "")).to_string();
    let (spec, findings) = load::parse::<FileSpec>(&text, "all");
    assert!(findings.is_empty(), "{findings:?}");
    assert!(spec.audit.is_some() && spec.limits.is_some());
    let text = all_keys(&schema(&types, "PolicyFile", "")).to_string();
    let (file, findings) = load::parse::<PolicyFile>(&text, "all");
    assert!(findings.is_empty() && file.rules.len() == 1, "{findings:?}");
    let patches = all_keys(&schema(&types, "PatchFile", "")).to_string();
    let (patches, found) = load::parse::<PatchFile>(&patches, "all");
    assert!(found.is_empty() && patches.patches.len() == 1, "{found:?}");
    let (_, findings) = load::parse::<PolicyFile>(&text.replace("\"ticket\"", "\"tikcet\""), "all");
    assert_eq!(findings.len(), 1, "a key that is in no schema was taken");
}

/// Each key with the words that the reader offers for it.
type Told = BTreeMap<(String, String), Vec<String>>;

/// A file with `x` for every word of which nothing is told yet, one key on a line, and what stands on which line.
fn all_wrong(
    types: &Types,
    told: &Told,
    name: &str,
    text: &mut String,
    lines: &mut BTreeMap<u64, (String, String)>,
) {
    text.push('{');
    for key in &types[name] {
        write!(text, "\n\"{}\": ", key.name).unwrap();
        let line = u64::try_from(text.matches('\n').count()).unwrap() + 1;
        lines.insert(line, (name.to_owned(), key.name.clone()));
        let word = told.get(&(name.to_owned(), key.name.clone())).map_or("x", |words| &words[0]);
        match &key.form {
            Form::Map(inner) => all_wrong(types, told, inner, text, lines),
            Form::Maps(inner) => {
                text.push('[');
                all_wrong(types, told, inner, text, lines);
                text.push(']');
            }
            Form::Words => write!(text, "[{word}]").unwrap(),
            _ => text.push_str(word),
        }
        text.push(',');
    }
    text.push('}');
}

// A word that the reader takes and the schema does not know would be marked as wrong in every editor.
#[test]
fn the_reader_offers_the_very_choices_of_the_schemas() {
    let types = types();
    let folder = tempfile::TempDir::new().unwrap();
    let mut told = Told::new();
    // A mistake may hide the next one of the same map: what is told is set right, until nothing new is told.
    loop {
        let before = told.len();
        for (start, command) in [
            ("FileSpec", &["check", "--config"][..]),
            ("PolicyFile", &["policy", "test"]),
            ("PatchFile", &["policy", "test"]),
        ] {
            let (mut text, mut lines) = (String::new(), BTreeMap::new());
            all_wrong(&types, &told, start, &mut text, &mut lines);
            let path = folder.path().join(start);
            fs::write(&path, text).unwrap();
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"))
                .args(command)
                .arg(&path)
                .args(["--format", "json"])
                .output()
                .unwrap();
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            for finding in report["findings"].as_array().unwrap() {
                let message = finding["message"].as_str().unwrap();
                let offer = finding["remedy"].as_str().unwrap().strip_prefix("write ");
                let offer =
                    offer.filter(|offer| message.starts_with("\"x\" is not ") && !offer.starts_with('`'));
                if let (Some(offer), Some(at)) = (offer, lines.get(&finding["line"].as_u64().unwrap())) {
                    let words = offer.trim_start_matches("one of ").replace(" or ", ", ");
                    let words = words.split(", ").map(|word| word.replace('"', ""));
                    told.insert(at.clone(), words.collect());
                }
            }
        }
        if told.len() == before {
            break;
        }
    }
    for (at, words) in &told {
        let known = CHOICES.iter().find(|(of, field, _)| (*of, *field) == (at.0.as_str(), at.1.as_str()));
        let mut known: Vec<&str> = known.unwrap_or_else(|| panic!("{at:?} takes {words:?}")).2.to_vec();
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        known.sort_unstable();
        words.sort_unstable();
        assert_eq!(known, words, "{at:?}");
    }
    // One word is no choice, and cases are not read while rules are wrong; everything else must have been heard of.
    for (of, field, _) in CHOICES.iter().filter(|(of, _, words)| words.len() > 1 && !of.ends_with("CaseSpec"))
    {
        assert!(told.contains_key(&((*of).to_owned(), (*field).to_owned())), "{of}.{field}: {told:?}");
    }
}

/// As much of JSON Schema as the schemas use.
fn fault(schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(all) = schema["anyOf"].as_array() {
        let faults: Option<Vec<String>> = all.iter().map(|one| fault(one, value, at)).collect();
        if let Some(faults) = faults {
            return Some(faults.join(", and "));
        }
    }
    if let Some(words) = schema.get("enum") {
        let fits = words.as_array().unwrap().contains(value);
        return (!fits).then(|| format!("{at}: {value} is not one of {words}"));
    }
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(number) if schema["type"] == "integer" && number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::Null => "null",
    };
    let takes = &schema["type"];
    if takes.is_null() {
        return missing(schema, value, at);
    }
    if takes != kind && !takes.as_array().is_some_and(|kinds| kinds.contains(&json!(kind))) {
        return Some(format!("{at}: {value} is no {takes}"));
    }
    let number = |bound: &str| schema[bound].as_u64().zip(value.as_u64());
    let within = number("minimum").is_none_or(|(least, is)| is >= least)
        && number("maximum").is_none_or(|(most, is)| is <= most);
    let fits = schema["pattern"].as_str().is_none_or(|pattern| fits(pattern, value.as_str().unwrap_or("")));
    if !within || !fits {
        return Some(format!("{at}: {value} is not within {schema}"));
    }
    if let Some(missing) = missing(schema, value, at) {
        return Some(missing);
    }
    let entries = value.as_object().into_iter().flatten().find_map(|(key, inner)| match schema["properties"]
        .get(key)
    {
        Some(schema) => fault(schema, inner, &format!("{at}.{key}")),
        None => Some(format!("{at}: {key} is not known")),
    });
    let mut items = value.as_array().into_iter().flatten();
    entries.or_else(|| items.find_map(|inner| fault(&schema["items"], inner, &format!("{at}[]"))))
}

fn missing(schema: &Value, value: &Value, at: &str) -> Option<String> {
    let mut needed = schema["required"].as_array().into_iter().flatten();
    let missing = needed.find(|needed| value.get(needed.as_str().unwrap()).is_none());
    missing.map(|needed| format!("{at}: {needed} is missing"))
}

/// As much of regular expressions as the patterns use: figures, spaces, one choice of words, and what stands for itself.
fn fits(pattern: &str, text: &str) -> bool {
    if pattern == "[$][{][A-Z_]" {
        let mut names = text.split("${").skip(1);
        return names.any(|name| name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_'));
    }
    let rest = pattern.strip_prefix("^[0-9]+").and_then(|rest| rest.strip_suffix('$')).unwrap();
    let behind = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let behind_space = behind.trim_start_matches(' ');
    let (rest, behind) = match rest.strip_prefix(" *") {
        Some(rest) => (rest, behind_space),
        None => (rest, behind),
    };
    let units: Vec<String> = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((units, after)) => units.split('|').map(|unit| format!("{unit}{after}")).collect(),
        None => vec![rest.to_owned()],
    };
    text.starts_with(|c: char| c.is_ascii_digit()) && units.iter().any(|unit| unit == behind)
}

const LIMITED: [&str; 2] = ["LimitsSpec", "TimeoutsSpec"];

/// What the reader says of a configuration: the errors alone.
fn errors_of(folder: &Path, config: &Value) -> Vec<String> {
    let path = folder.join("gatehouse.yaml");
    fs::write(&path, config.to_string()).unwrap();
    let findings = gatehouse::config::examine(&path).findings;
    findings.iter().filter(|finding| finding.is_error()).map(ToString::to_string).collect()
}

/// A small configuration.
fn small() -> Value {
    json!({
        "version": "v1",
        "domains": [{
            "name": "hall.example",
            "certificate": { "chain": "c.pem", "key": "k.pem" },
            "backend": { "s2s": ["127.0.0.1:25269"] },
            "federation": "any"
        }]
    })
}

// What an editor marks as wrong the program must not take, and the other way round: at both ends of each number, one beyond, and in the
// spellings that people try.
#[test]
fn schema_and_reader_agree_on_every_limit() {
    let types = types();
    let schema = schema(&types, "FileSpec", "");
    let folder = tempfile::tempdir().unwrap();
    for (section, name) in ["limits", "timeouts"].into_iter().zip(LIMITED) {
        for key in &types[name] {
            let mut values = vec![
                json!("x"),
                json!(""),
                json!(true),
                json!("5"),
                json!("7 KiB"),
                json!("3x"),
                json!("${X}s s"),
            ];
            if let Some((least, most)) = key.range {
                values.extend([json!(least), json!(most), json!(most + 1)]);
                values.extend(least.checked_sub(1).map(|less| json!(less)));
            }
            // The least and the most in words, as the reference has them.
            let told = key.default.as_deref().unwrap_or_default();
            values.extend(
                told.split('`').skip(1).step_by(2).filter(|_| key.range.is_none()).map(|word| json!(word)),
            );
            for value in values {
                let mut config = small();
                config[section] = json!({ key.name.clone(): value });
                let marked = fault(&schema, &config, "").is_some();
                // Others that must be larger than it are another matter.
                let wrong = errors_of(folder.path(), &config);
                let words = ["is out of range", "write it like `", "is not set"];
                let refused = wrong.iter().any(|told| words.iter().any(|words| told.contains(words)));
                let between_units = value.is_string() && !marked;
                // A pattern has no ends, and a number may be written as a word for the reader.
                assert!(
                    marked == refused
                        || (between_units && refused)
                        || (marked && value == json!("5") && key.range.is_some()),
                    "{section}.{}: {value}: marked {marked}, {wrong:?}",
                    key.name
                );
            }
        }
    }
}

// The same of keys that must be there, and of words.
#[test]
fn schema_and_reader_agree_on_what_may_be_left_out() {
    let types = types();
    let (of_file, of_policy) = (schema(&types, "FileSpec", ""), schema(&types, "PolicyFile", ""));
    let folder = tempfile::tempdir().unwrap();
    let policy_errors = |policy: &Value| -> Vec<String> {
        let (file, mut findings) = load::parse::<PolicyFile>(&policy.to_string(), "policy");
        let source = gatehouse::policy::Source::new("policy", file);
        let today = gatehouse::policy::Day::parse("2026-01-01").unwrap();
        let input = gatehouse::policy::stand_alone(source, today);
        let (policy, more) = gatehouse::policy::build(&input);
        findings.extend(more);
        let cases = policy.map(|policy| gatehouse::policy::run_cases(&policy, &input.sources));
        findings.extend(cases.into_iter().flatten().filter_map(|case| case.finding));
        findings.iter().filter(|finding| finding.is_error()).map(ToString::to_string).collect()
    };
    // Whole in the eyes of both; then one key after the other is taken out.
    let mut config = small();
    config["listen"] = json!([{ "flow": "inside", "address": "127.0.0.1:15269", "from": ["127.0.0.0/8"] }]);
    config["lists"] = json!([
        { "name": "one", "file": "one.txt", "verify": { "minisign": "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3" } },
        { "name": "two", "url": "https://lists.example/x", "refresh": "1d", "expires": "3d" }
    ]);
    config["state"] = json!("state");
    config["dns"] = json!({ "routes": [
        { "domain": "a.example", "target": "192.0.2.1:5269" }, { "domain": "b.example", "via": "socks5://192.0.2.2:1080" }
    ] });
    config["trust"] = json!({ "peers": [{ "domains": ["a.example"], "roots": "r.pem" }] });
    config["steering"] =
        json!({ "listen": "127.0.0.1:15353", "from": ["127.0.0.0/8"], "answer": "127.0.0.1" });
    config["audit"] = json!({ "file": "audit.jsonl" });
    let policy = json!({
        "version": "v1",
        "rules": [
            { "name": "a", "domains": ["a.example"], "limits": { "stanzas": "1/s" } },
            { "name": "l", "verdict": "deny", "lists": ["one", "two"], "quorum": 2 }
        ],
        "expect": [
            { "from": "a.example", "to": "hall.example", "verdict": "allow", "rule": "a" },
            { "from": "b@b.example", "to": "hall.example", "federation": "any", "verdict": "deny", "reason": "on-lists", "lists": ["one"], "sender-lists": ["two"] }
        ]
    });
    for (whole, schema, errors) in [
        (
            &config,
            &of_file,
            &(|config: &Value| errors_of(folder.path(), config)) as &dyn Fn(&Value) -> Vec<String>,
        ),
        (&policy, &of_policy, &policy_errors),
    ] {
        assert_eq!((fault(schema, whole, ""), errors(whole)), (None, Vec::new()));
        for path in paths(whole, "") {
            let mut less = whole.clone();
            let (map, key) = path.rsplit_once('/').unwrap();
            less.pointer_mut(map).unwrap().as_object_mut().unwrap().remove(key);
            let told = errors(&less);
            let marked = fault(schema, &less, "").is_some();
            let missing = told.iter().any(|told| {
                [
                    "is missing",
                    "has no",
                    "names no domains",
                    "does not say",
                    "no domain is served",
                    "needs `from`",
                    "leads nowhere",
                ]
                .iter()
                .any(|words| told.contains(words))
            });
            // Needed by that listener, and by a domain that federates or for which the file has none: a schema does not know.
            let conditional = ["/from", "/certificate", "/s2s"].iter().any(|key| path.ends_with(key));
            assert!(marked == missing || conditional, "without {path}: marked {marked}, {told:?}");
        }
    }
    for (key, value) in [
        ("bidi", json!(true)),
        ("bidi", json!("on")),
        ("bidi", json!("yes")),
        ("bidi", json!("${BIDI_OF_NOBODY}")),
    ] {
        let mut config = small();
        config[key] = value.clone();
        // A variable that is not set is wrong here, and is not the editor's business.
        let wrong = errors_of(folder.path(), &config).iter().any(|told| !told.contains("not set"));
        assert_eq!(fault(&of_file, &config, "").is_some(), wrong, "{key}: {value}");
    }
    let mut config = small();
    config["domains"][0]["federation"] = json!({ "file": "federation.txt" });
    assert_eq!(fault(&of_file, &config, ""), None);
}

/// Where each key of each map stands.
fn paths(value: &Value, at: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (key, inner) in value.as_object().into_iter().flatten() {
        all.push(format!("{at}/{key}"));
        all.extend(paths(inner, &format!("{at}/{key}")));
    }
    for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
        all.extend(paths(inner, &format!("{at}/{index}")));
    }
    all
}

#[test]
fn the_schemas_take_every_shipped_file_and_refuse_a_slip() {
    let types = types();
    // YAML 1.2, as editors read it: `off` is a word.
    let words = || serde_yaml::options! { strict_booleans: true };
    let yaml = |text: &str| -> Value { serde_yaml::from_str_with_options(text, words()).unwrap() };
    let read = |path: &str| fs::read_to_string(root(path)).unwrap();
    let schema_of = |name| schema(&types, name, "");
    let example = read("deploy/gatehouse.example.yaml");
    assert_eq!(fault(&schema_of("FileSpec"), &yaml(&example), "example"), None);
    for name in ["open", "partners", "closed"] {
        let text = read(&format!("policies/{name}.yaml"));
        assert_eq!(fault(&schema_of("PolicyFile"), &yaml(&text), name), None);
    }
    for (right, slip) in [
        ("federation: listed", "federation: lisetd"),
        ("federation: listed", "federaton: listed"),
        ("version: v1", "version: v2"),
        ("pairs: 50", "pairs: many"),
    ] {
        assert!(example.contains(right));
        let text = example.replace(right, slip);
        assert!(fault(&schema_of("FileSpec"), &yaml(&text), "slip").is_some(), "{slip}");
    }
}
