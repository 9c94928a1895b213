//! A reader of XML for the peers, small and naive on purpose.
//!
//! It shares no line with [`crate::xml`], so that a mistake there cannot be repeated here and go unseen. It accepts more
//! than the gateway does: what it must find out is what was said, not whether it was said well.

use std::borrow::Cow;

/// One element with all that is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The name without its prefix.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The attributes as written (prefix included) with decoded values; declarations left out.
    pub attrs: Vec<(String, String)>,
    /// The elements inside.
    pub children: Vec<Node>,
    /// The text directly inside, put together.
    pub text: String,
    /// The octets as they arrived.
    pub raw: String,
}

impl Node {
    /// The value of an attribute.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|c| c.name == name)
    }

    /// Whether it bears this name in this namespace.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace == namespace
    }

    /// Whether it is a message, presence or iq.
    pub fn is_stanza(&self) -> bool {
        matches!(self.name.as_str(), "message" | "presence" | "iq")
            && matches!(self.namespace.as_str(), "jabber:server" | "jabber:client")
    }

    /// The text of the `<body/>`.
    pub fn body(&self) -> Option<&str> {
        self.child("body").map(|b| b.text.as_str())
    }

    /// The name of the first child that is a condition: any child but `<text/>`. For errors of all three kinds.
    pub fn condition(&self) -> Option<&str> {
        self.children.iter().find(|c| c.name != "text").map(|c| c.name.as_str())
    }
}

/// What stands next in the octets of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Not enough octets yet.
    Nothing,
    /// The stream header; the prefixes it declares hold for what follows.
    Header(Node, Vec<(String, String)>),
    /// A complete element of the first level.
    Element(Node),
    /// The closing tag of the stream.
    Close,
    /// No XML that this reader could make sense of.
    Garbage(String),
}

/// Looks at the beginning of `input`; tells what is there and how many octets it took.
pub fn read(input: &str, scope: &[(String, String)]) -> (Found, usize) {
    let mut cursor = Cursor { input, at: 0 };
    cursor.space();
    if cursor.rest().starts_with("<?xml") {
        match cursor.rest().find("?>") {
            Some(end) => cursor.at += end + 2,
            None => return (Found::Nothing, 0),
        }
        cursor.space();
    }
    if cursor.rest().starts_with("</") {
        return match cursor.rest().find('>') {
            Some(end) => (Found::Close, cursor.at + end + 1),
            None => (Found::Nothing, 0),
        };
    }
    match cursor.element(scope, true) {
        Ok(Some(Element::Open(node, scope))) => (Found::Header(node, scope), cursor.at),
        Ok(Some(Element::Whole(node))) => (Found::Element(node), cursor.at),
        Ok(None) => (Found::Nothing, 0),
        Err(why) => (Found::Garbage(why), 0),
    }
}

/// The five characters that must not stand as they are.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['<', '>', '&', '\'', '"']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

enum Element {
    Open(Node, Vec<(String, String)>),
    Whole(Node),
}

struct Cursor<'a> {
    input: &'a str,
    at: usize,
}

type Step<T> = Result<Option<T>, String>;

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.input.get(self.at..).unwrap_or("")
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn element(&mut self, scope: &[(String, String)], first: bool) -> Step<Element> {
        let start = self.at;
        let Some(after) = self.rest().strip_prefix('<') else {
            return match self.rest() {
                "" => Ok(None),
                other => {
                    Err(format!("text where an element was due: {:?}", other.get(..20).unwrap_or(other)))
                }
            };
        };
        let Some(end) = tag_end(after) else { return Ok(None) };
        let tag = after.get(..end).unwrap_or("");
        self.at += end + 2;
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let (qname, attrs) = split_tag(tag)?;
        let mut scope = scope.to_vec();
        let mut kept = Vec::new();
        for (name, value) in attrs {
            match name.strip_prefix("xmlns") {
                Some("") => scope.push((String::new(), value)),
                Some(prefix) if prefix.starts_with(':') => scope.push((prefix.replacen(':', "", 1), value)),
                _ => kept.push((name, value)),
            }
        }
        let (prefix, local) = qname.split_once(':').unwrap_or(("", qname.as_str()));
        let namespace =
            scope.iter().rev().find(|(p, _)| p == prefix).map(|(_, n)| n.clone()).unwrap_or_default();
        let mut node = Node { name: local.to_owned(), namespace, attrs: kept, ..Node::default() };
        if first && !empty && local == "stream" {
            node.raw = self.input.get(start..self.at).unwrap_or("").to_owned();
            return Ok(Some(Element::Open(node, scope)));
        }
        if !empty && !self.content(&mut node, &qname, &scope)? {
            return Ok(None);
        }
        node.raw = self.input.get(start..self.at).unwrap_or("").to_owned();
        Ok(Some(Element::Whole(node)))
    }

    /// What stands between a start tag and its end tag; false while the end is not there yet.
    fn content(&mut self, node: &mut Node, qname: &str, scope: &[(String, String)]) -> Result<bool, String> {
        loop {
            let rest = self.rest();
            if let Some(cdata) = rest.strip_prefix("<![CDATA[") {
                let Some(end) = cdata.find("]]>") else { return Ok(false) };
                node.text.push_str(cdata.get(..end).unwrap_or(""));
                self.at += "<![CDATA[".len() + end + "]]>".len();
            } else if let Some(close) = rest.strip_prefix("</") {
                let Some(end) = close.find('>') else { return Ok(false) };
                let name = close.get(..end).unwrap_or("").trim_end();
                if name != qname {
                    return Err(format!("</{name}> where </{qname}> was due"));
                }
                self.at += end + 3;
                return Ok(true);
            } else if rest.starts_with('<') {
                match self.element(scope, false)? {
                    Some(Element::Whole(child)) => node.children.push(child),
                    _ => return Ok(false),
                }
            } else {
                let Some(end) = rest.find('<') else { return Ok(false) };
                node.text.push_str(&unescape(rest.get(..end).unwrap_or(""))?);
                self.at += end;
            }
        }
    }
}

/// The place of the `>` that ends the tag, with quoted values respected.
fn tag_end(after: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in after.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            _ => {}
        }
    }
    None
}

type Attrs = Vec<(String, String)>;

fn split_tag(tag: &str) -> Result<(String, Attrs), String> {
    let (name, mut rest) = match tag.find(char::is_whitespace) {
        Some(at) => tag.split_at(at),
        None => (tag, ""),
    };
    let mut attrs = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok((name.to_owned(), attrs));
        }
        let (key, after) = rest.split_once('=').ok_or_else(|| format!("no value in <{tag}>"))?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or("value without quotes")?;
        let (value, after) = after
            .get(1..)
            .and_then(|v| v.split_once(quote))
            .ok_or_else(|| format!("value without end in <{tag}>"))?;
        attrs.push((key.trim().to_owned(), unescape(value)?));
        rest = after;
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (name, after) = after.split_once(';').ok_or("a reference without end")?;
        out.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "apos" => '\'',
            "quot" => '"',
            other => character(other).ok_or_else(|| format!("unknown reference &{other};"))?,
        });
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn character(reference: &str) -> Option<char> {
    let number = reference.strip_prefix('#')?;
    match number.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    }
    .and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_read_only_when_its_end_is_there() {
        let whole = "<message to='a&amp;b'><body>x &lt; y</body><x xmlns='urn:x'/></message>";
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end], &[]).0, Found::Nothing, "{}", &whole[..end]);
        }
        let (Found::Element(node), used) = read(whole, &[(String::new(), "jabber:server".into())]) else {
            panic!()
        };
        assert_eq!(used, whole.len());
        assert_eq!(node.attr("to"), Some("a&b"));
        assert_eq!(node.body(), Some("x < y"));
        assert!(node.is_stanza());
        assert!(node.children[1].is("urn:x", "x"));
    }

    #[test]
    fn a_header_gives_its_prefixes_to_what_follows() {
        let (Found::Header(header, scope), _) = read(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
             xmlns:db='jabber:server:dialback' id='7'>",
            &[],
        ) else {
            panic!()
        };
        assert_eq!(header.attr("id"), Some("7"));
        let (Found::Element(node), _) = read("<db:result from='a' to='b'>k</db:result>", &scope) else {
            panic!()
        };
        assert!(node.is("jabber:server:dialback", "result"));
        assert_eq!(read("</stream:stream>", &scope).0, Found::Close);
    }
}
