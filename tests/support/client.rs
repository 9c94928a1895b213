//! A small XMPP client over plain TCP: logs in, sends, and waits for what it was told to expect.
//!
//! Reading is strict (rxml) and goes on in a thread of its own; everything that arrives is kept in order, so nothing
//! is missed between two expectations, and a failed one lists what came instead.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rxml::error::EndOrError;
use rxml::{Event, Parse, Parser};

/// One element as received.
#[derive(Clone, Debug, Default)]
pub struct Element {
    /// Its namespace.
    pub namespace: String,
    /// Its local name.
    pub name: String,
    /// Its attributes without a namespace.
    pub attributes: Vec<(String, String)>,
    /// Its child elements.
    pub children: Vec<Element>,
    /// Its own text.
    pub text: String,
}

impl Element {
    /// The value of an attribute, or nothing.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the attribute has that value.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.attribute(name) == Some(value)
    }

    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Name, attributes and children, with long text cut: for a failure's message.
    pub fn outline(&self) -> String {
        let mut out = format!("<{}", self.name);
        for (key, value) in &self.attributes {
            let _ = write!(out, " {key}='{value}'");
        }
        out.push('>');
        out.extend(self.text.chars().take(60));
        out.extend(self.children.iter().map(Self::outline));
        out
    }
}

/// A logged-in session.
pub struct Client {
    stream: TcpStream,
    incoming: Receiver<Element>,
    kept: Vec<Element>,
    seen: Vec<String>,
    count: u32,
    jid: String,
}

impl Client {
    /// Authenticates with SASL PLAIN, binds a resource, opens a session where the server offers one (RFC 3921 3) and
    /// becomes available.
    pub fn login(stream: TcpStream, user: &str, password: &str, domain: &str) -> Self {
        let (sender, incoming) = channel();
        let reading = stream.try_clone().expect("a second handle");
        thread::spawn(move || {
            let mut stream = reading;
            let mut reader = Reader::default();
            let mut buffer = [0; 16 * 1024];
            // The sender is dropped at the end of the stream, which is how the client learns of it.
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                for element in reader.feed(&buffer[..count]) {
                    if sender.send(element).is_err() {
                        return;
                    }
                }
            }
        });
        let jid = format!("{user}@{domain}");
        let mut client = Self { stream, incoming, kept: Vec::new(), seen: Vec::new(), count: 0, jid };
        client.open(domain);
        client.expect("stream features before login", |e| e.name == "features");
        let plain = STANDARD.encode(format!("\0{user}\0{password}"));
        client.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        ));
        let answer =
            client.expect("the outcome of SASL", |e| e.namespace == "urn:ietf:params:xml:ns:xmpp-sasl");
        assert_eq!(answer.name, "success", "{}: {}", client.jid, answer.outline());
        client.open(domain);
        let features = client.expect("stream features after login", |e| e.name == "features");
        let bound = client.ask(
            "set",
            None,
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>desk</resource></bind>",
        );
        let full = bound.child("bind").and_then(|bind| bind.child("jid")).map(|jid| jid.text.clone());
        client.jid = full.unwrap_or_else(|| panic!("no address bound: {}", bound.outline()));
        if features.child("session").is_some() {
            client.ask("set", None, "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>");
        }
        // Servers send presence and subscriptions only to those who asked for their roster.
        client.ask("get", None, "<query xmlns='jabber:iq:roster'/>");
        client.send("<presence/>");
        client
    }

    /// The full address.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// The address without its resource.
    pub fn bare(&self) -> &str {
        self.jid.split('/').next().unwrap_or(&self.jid)
    }

    /// Sends octets as they are.
    pub fn send(&mut self, xml: &str) {
        self.stream.write_all(xml.as_bytes()).unwrap_or_else(|e| panic!("{} cannot send: {e}", self.jid));
    }

    /// Sends a chat message and returns its id.
    pub fn message(&mut self, to: &str, body: &str) -> String {
        let id = self.next_id();
        let (to, body) = (escape(to), escape(body));
        self.send(&format!("<message type='chat' id='{id}' to='{to}'><body>{body}</body></message>"));
        id
    }

    /// Sends a presence of that type to an address.
    pub fn presence(&mut self, to: &str, kind: &str) {
        self.send(&format!("<presence to='{}' type='{kind}'/>", escape(to)));
    }

    /// Sends an iq and waits for its result; an error panics.
    pub fn ask(&mut self, kind: &str, to: Option<&str>, payload: &str) -> Element {
        let id = self.request(kind, to, payload);
        self.result(&id, payload)
    }

    /// Sends an iq and returns its id.
    pub fn request(&mut self, kind: &str, to: Option<&str>, payload: &str) -> String {
        let id = self.next_id();
        let address = to.map(|to| format!(" to='{}'", escape(to))).unwrap_or_default();
        self.send(&format!("<iq type='{kind}' id='{id}'{address}>{payload}</iq>"));
        id
    }

    /// Waits for the result of the iq of that id; an error panics.
    pub fn result(&mut self, id: &str, about: &str) -> Element {
        self.expect(&format!("the result of {about}"), |e| {
            e.name == "iq" && e.has("id", id) && e.has("type", "result")
        })
    }

    /// Waits for the error that a stanza of ours of that id comes back with, and names its condition.
    pub fn refusal(&mut self, id: &str) -> String {
        let back =
            self.expect(&format!("an error about {id}"), |e| e.has("id", id) && e.has("type", "error"));
        let condition = back.child("error").and_then(|error| {
            error.children.iter().find(|child| child.namespace == STANZAS && child.name != "text")
        });
        condition
            .map_or_else(|| panic!("{}: no condition in {}", self.jid, back.outline()), |c| c.name.clone())
    }

    /// The same, with the text that came with it; errors about others of our stanzas are kept meanwhile.
    pub fn told(&mut self, id: &str) -> (String, String) {
        let what = format!("an error about {id}");
        let back =
            self.wait(&what, PATIENCE, |e| e.has("id", id) && e.has("type", "error"), |e| e.name == "error");
        let error = back.child("error").unwrap_or_else(|| panic!("{}: {}", self.jid, back.outline()));
        let stanzas = error.children.iter().filter(|child| child.namespace == STANZAS);
        let condition = stanzas.clone().find(|child| child.name != "text").map(|child| child.name.clone());
        let text = stanzas.clone().find(|child| child.name == "text").map(|child| child.text.clone());
        (condition.unwrap_or_default(), text.unwrap_or_default())
    }

    /// Waits for an element that `wanted` accepts; what else arrives is kept for later expectations.
    ///
    /// An error about something this client sent ends the wait at once, unless it is what is wanted.
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Element) -> bool) -> Element {
        self.expect_within(what, PATIENCE, wanted)
    }

    /// The same, for as long.
    pub fn expect_within(
        &mut self,
        what: &str,
        time: Duration,
        wanted: impl Fn(&Element) -> bool,
    ) -> Element {
        self.wait(what, time, wanted, |e| e.name == "error" || e.has("type", "error"))
    }

    fn wait(
        &mut self,
        what: &str,
        time: Duration,
        wanted: impl Fn(&Element) -> bool,
        failed: impl Fn(&Element) -> bool,
    ) -> Element {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return self.kept.remove(at);
        }
        let end = Instant::now() + time;
        loop {
            let element = match self.incoming.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(element) => element,
                Err(why) => {
                    panic!("{} waited for {what}: {why}; received so far: {:#?}", self.jid, self.seen)
                }
            };
            self.seen.push(element.outline());
            if wanted(&element) {
                return element;
            }
            assert!(!failed(&element), "{} waited for {what} and got {}", self.jid, element.outline());
            self.kept.push(element);
        }
    }

    /// Waits for a message from an address, by the id its sender gave it.
    pub fn expect_message(&mut self, from: &str, id: &str) -> Element {
        let what = format!("message {id} from {from}");
        self.expect(&what, |e| e.name == "message" && e.has("id", id) && e.has("from", from))
    }

    /// What arrived with this id while something else was waited for.
    pub fn kept(&mut self, id: &str) -> Option<Element> {
        let at = self.kept.iter().position(|element| element.has("id", id))?;
        Some(self.kept.remove(at))
    }

    /// The same, while errors about others of our stanzas are kept.
    pub fn arrived(&mut self, from: &str, id: &str) -> Element {
        let what = format!("message {id} from {from}");
        let wanted = |e: &Element| {
            e.name == "message" && e.has("id", id) && e.has("from", from) && !e.has("type", "error")
        };
        self.wait(&what, PATIENCE, wanted, |e| e.name == "error")
    }

    /// What has arrived so far and was waited for by nobody, errors too; from then on it is forgotten.
    pub fn so_far(&mut self) -> Vec<Element> {
        self.kept.extend(self.incoming.try_iter());
        std::mem::take(&mut self.kept)
    }

    /// Takes in what has arrived meanwhile.
    pub fn heed(&mut self) {
        while let Ok(element) = self.incoming.try_recv() {
            self.seen.push(element.outline());
            self.kept.push(element);
        }
    }

    /// Whether something that was received, and expected by nobody so far, is like this.
    pub fn has_received(&self, what: impl Fn(&Element) -> bool) -> bool {
        self.kept.iter().any(what)
    }

    /// Waits for an iq request of that namespace from an address and answers it.
    pub fn answer(&mut self, from: &str, namespace: &str, payload: &str) {
        let asked = self.expect(&format!("a request in {namespace} from {from}"), |e| {
            let about = e.children.iter().any(|child| child.namespace == namespace);
            e.name == "iq" && e.has("type", "get") && e.has("from", from) && about
        });
        let id = asked.attribute("id").unwrap_or_default();
        self.send(&format!("<iq type='result' id='{}' to='{}'>{payload}</iq>", escape(id), escape(from)));
    }

    fn open(&mut self, domain: &str) {
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='{domain}'>"
        ));
    }

    fn next_id(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.bare().replace(['@', '.'], "-"), self.count)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.write_all(b"</stream:stream>");
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Collects first-level elements; starts afresh after SASL success, as the stream does.
#[derive(Default)]
struct Reader {
    parser: Parser,
    open: Vec<Element>,
    opened: bool,
}

impl Reader {
    fn feed(&mut self, mut octets: &[u8]) -> Vec<Element> {
        let mut done = Vec::new();
        loop {
            let event = match self.parser.parse(&mut octets, false) {
                Ok(Some(event)) => event,
                Ok(None) | Err(EndOrError::NeedMoreData) => return done,
                Err(EndOrError::Error(e)) => {
                    done.push(Element {
                        name: "error".to_owned(),
                        text: format!("unreadable: {e}"),
                        ..Element::default()
                    });
                    return done;
                }
            };
            match event {
                Event::StartElement(_, (namespace, name), attributes) => {
                    let attributes =
                        attributes.into_iter().filter(|((space, _), _)| space.as_str().is_empty());
                    let attributes =
                        attributes.map(|((_, key), value)| (key.as_str().to_owned(), value)).collect();
                    if self.opened {
                        let (namespace, name) = (namespace.as_str().to_owned(), name.as_str().to_owned());
                        self.open.push(Element { namespace, name, attributes, ..Element::default() });
                    }
                    self.opened = true;
                }
                Event::EndElement(_) => {
                    let Some(element) = self.open.pop() else { return done };
                    match self.open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => {
                            if element.name == "success" {
                                self.parser = Parser::default();
                                self.opened = false;
                            }
                            done.push(element);
                        }
                    }
                }
                Event::Text(_, text) => {
                    if let Some(element) = self.open.last_mut() {
                        element.text.push_str(&text);
                    }
                }
                Event::XmlDeclaration(..) => {}
            }
        }
    }
}

/// Escapes text for content and for attributes in either quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// How long a client waits for anything. Nothing in a healthy world takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(30);
