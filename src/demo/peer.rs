//! A server out in the world: it takes streams, proves itself and asks for proof, and misbehaves on demand.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::node::{Node, escape};
use super::pki::{Authority, Identity, names_domain};
use super::session::{Call, DIALBACK, Greeting, SASL, STREAMS};
use super::wire::{Item, Wire};
use super::{Inbox, PATIENCE, Told, Trouble, bind, held, token};

type KeyTable = HashMap<(String, String, String), String>;

/// The keys that a server has sent: sender, target and stream id lead to the key.
#[derive(Clone, Default)]
pub struct Keys(Arc<Mutex<KeyTable>>);

impl Keys {
    /// Remembers a key.
    pub fn put(&self, sender: &str, target: &str, stream: &str, key: &str) {
        held(&self.0).insert((sender.to_owned(), target.to_owned(), stream.to_owned()), key.to_owned());
    }

    /// Whether any key was sent for this pair on this stream.
    pub fn has(&self, sender: &str, target: &str, stream: &str) -> bool {
        held(&self.0).contains_key(&(sender.to_owned(), target.to_owned(), stream.to_owned()))
    }

    /// Forgets the key of this pair on this stream.
    pub fn forget(&self, sender: &str, target: &str, stream: &str) {
        held(&self.0).remove(&(sender.to_owned(), target.to_owned(), stream.to_owned()));
    }

    /// Whether this very key was sent.
    pub fn knows(&self, sender: &str, target: &str, stream: &str, key: &str) -> bool {
        let asked = (sender.to_owned(), target.to_owned(), stream.to_owned());
        held(&self.0).get(&asked).is_some_and(|known| known == key)
    }
}

/// Where the servers of the gateway's domains are to be found: what the world's DNS says, for the peers.
pub type AddressBook = Arc<Mutex<HashMap<String, SocketAddr>>>;

/// How a server answers when it is asked about a key of its own (XEP-0220, the authoritative server).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Vouch {
    /// As its table of keys says.
    #[default]
    Honest,
    /// Always yes.
    Always,
    /// Always no.
    Never,
    /// With a dialback error of this condition.
    Error(&'static str),
    /// Not at all.
    Silent,
    /// Honestly, after this time.
    Late(Duration),
    /// With a yes about another stream.
    OtherStream,
    /// By closing the connection.
    HangUp,
}

/// How a server decides about a key that was sent to it (XEP-0220, the receiving server).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admit {
    /// By asking the authoritative server.
    #[default]
    Honest,
    /// Yes, without asking.
    Always,
    /// No, without asking.
    Never,
    /// With a dialback error of this condition.
    Error(&'static str),
    /// Not at all.
    Silent,
    /// With a yes for a pair that nobody had asked about.
    OtherPair,
}

/// How a server takes a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Welcome {
    /// As it should.
    #[default]
    Proper,
    /// It takes the connection and says nothing.
    Mute,
    /// It closes the connection at once.
    HangUp,
    /// It sends its header one octet at a time, with this time between them.
    Trickle(Duration),
    /// It sends these octets in place of a header.
    Octets(Vec<u8>),
}

/// How a server behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Whether it offers STARTTLS.
    pub starttls: bool,
    /// Whether it offers EXTERNAL to whoever shows a certificate that names the header's `from`.
    pub external: bool,
    /// Whether it answers EXTERNAL with success.
    pub accepts_external: bool,
    /// Whether it offers dialback.
    pub dialback: bool,
    /// Whether it speaks version 1.0 at all.
    pub version: bool,
    /// As the authoritative server.
    pub vouch: Vouch,
    /// As the receiving server.
    pub admit: Admit,
    /// As the one who is called.
    pub welcome: Welcome,
    /// Said right after the features inside TLS; `{id}` stands for the id of the stream.
    pub unasked: Option<String>,
    /// Octets in clear, sent together with `<proceed/>`.
    pub with_proceed: Option<&'static str>,
    /// The `max-bytes` that it announces (XEP-0478).
    pub max_bytes: Option<usize>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            starttls: true,
            external: true,
            accepts_external: true,
            dialback: true,
            version: true,
            vouch: Vouch::Honest,
            admit: Admit::Honest,
            welcome: Welcome::Proper,
            unasked: None,
            with_proceed: None,
            max_bytes: None,
        }
    }
}

struct Shared {
    domains: Vec<String>,
    ip: Ipv4Addr,
    authority: Arc<Authority>,
    identity: Mutex<Identity>,
    manner: Mutex<Manner>,
    keys: Keys,
    inbox: Inbox,
    visits: AtomicUsize,
    proofs: Mutex<Vec<String>>,
    book: AddressBook,
}

/// A server out in the world.
pub struct Peer {
    /// The stanzas that it has accepted.
    pub inbox: Inbox,
    /// Where it takes streams with STARTTLS.
    pub address: SocketAddr,
    /// Where it takes streams with direct TLS.
    pub direct: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Peer {
    /// Starts a server for these domains (the first is its main one) at this address.
    pub async fn start(
        authority: Arc<Authority>,
        ip: Ipv4Addr,
        domains: &[&str],
        identity: Identity,
        manner: Manner,
        book: AddressBook,
    ) -> Told<Self> {
        let (starttls, direct) = (bind(ip, 5269).await?, bind(ip, 5270).await?);
        let (address, direct_address) = (starttls.local_addr()?, direct.local_addr()?);
        let IpAddr::V4(ip) = address.ip() else {
            return Err(Trouble::new("an IPv4 address was bound as IPv6"));
        };
        let inbox = Inbox::default();
        let shared = Arc::new(Shared {
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            ip,
            authority,
            identity: Mutex::new(identity),
            manner: Mutex::new(manner),
            keys: Keys::default(),
            inbox: inbox.clone(),
            visits: AtomicUsize::new(0),
            proofs: Mutex::default(),
            book,
        });
        let tasks = vec![
            tokio::spawn(listen(shared.clone(), starttls, false)),
            tokio::spawn(listen(shared.clone(), direct, true)),
        ];
        Ok(Self { inbox, address, direct: direct_address, shared, tasks })
    }

    /// Its main domain.
    pub fn domain(&self) -> &str {
        self.shared.domains.first().map_or("", String::as_str)
    }

    /// Changes how it behaves from the next connection on.
    pub fn behave(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut held(&self.shared.manner));
    }

    /// Changes its certificate from the next connection on.
    pub fn show(&self, identity: Identity) {
        *held(&self.shared.identity) = identity;
    }

    /// How many connections it has taken.
    pub fn visits(&self) -> usize {
        self.shared.visits.load(Ordering::SeqCst)
    }

    /// How callers have proven themselves so far, in order: `certificate DOMAIN` or `dialback DOMAIN`.
    pub fn proofs(&self) -> Vec<String> {
        held(&self.shared.proofs).clone()
    }

    /// The keys it has sent.
    pub fn keys(&self) -> Keys {
        self.shared.keys.clone()
    }

    /// A call to the gateway for that hosted domain, with its certificate, as its main domain.
    pub fn call(&self, hosted: &str) -> Told<Call> {
        let identity = held(&self.shared.identity).clone();
        self.shared.call(hosted, Some(&identity))
    }

    /// The same without a certificate: dialback is all it has.
    pub fn call_bare(&self, hosted: &str) -> Told<Call> {
        self.shared.call(hosted, None)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn call(&self, hosted: &str, identity: Option<&Identity>) -> Told<Call> {
        let target = held(&self.book).get(hosted).copied();
        let from = self.domains.first().map_or("", String::as_str);
        Ok(Call {
            source: self.ip.into(),
            target: target.ok_or_else(|| Trouble(format!("nobody serves {hosted}")))?,
            direct: false,
            tls: self.authority.client(identity, false)?,
            name: hosted.to_owned(),
            greeting: Greeting::of(from, hosted),
            keys: self.keys.clone(),
        })
    }

    /// XEP-0220 2.1.2: asks the authoritative server of the sender about the key.
    async fn verify(&self, sender: &str, target: &str, stream: &str, key: &str) -> Told<bool> {
        let identity = held(&self.identity).clone();
        let mut call = self.call(sender, Some(&identity))?;
        call.greeting = Greeting::of(target, sender);
        let mut session = call.open().await?;
        session
            .send(format!(
                "<db:verify from='{}' to='{}' id='{}'>{key}</db:verify>",
                escape(target),
                escape(sender),
                escape(stream)
            ))
            .await?;
        let answer = session.wire.element().await?;
        let genuine = answer.is(DIALBACK, "verify")
            && answer.attr("type") == Some("valid")
            && answer.attr("id") == Some(stream);
        session.close().await?;
        Ok(genuine)
    }

    fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|d| d == domain)
    }
}

async fn listen(shared: Arc<Shared>, listener: TcpListener, direct: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.visits.fetch_add(1, Ordering::SeqCst);
        let shared = shared.clone();
        tokio::spawn(async move {
            // What goes wrong on a stream ends it; the tests look at the gateway's side of it.
            let _ = Host::new(shared, stream).serve(direct).await;
        });
    }
}

/// One stream that was opened to the server.
struct Host {
    shared: Arc<Shared>,
    wire: Wire,
    manner: Manner,
    secured: bool,
    /// The domain that EXTERNAL has proven, and all pairs that dialback has.
    external: Option<String>,
    pairs: HashSet<(String, String)>,
    header: Node,
    id: String,
}

/// What an element leads to.
enum Next {
    Stay,
    Restart,
    Leave,
}

impl Host {
    fn new(shared: Arc<Shared>, stream: TcpStream) -> Self {
        let manner = held(&shared.manner).clone();
        Self {
            shared,
            wire: Wire::new(stream),
            manner,
            secured: false,
            external: None,
            pairs: HashSet::new(),
            header: Node::default(),
            id: String::new(),
        }
    }

    async fn serve(mut self, direct: bool) -> Told<()> {
        // A stream of the small world may stay open as long as the world does.
        self.wire.patience = Duration::from_secs(24 * 3600);
        match self.manner.welcome.clone() {
            Welcome::HangUp => return Ok(()),
            Welcome::Mute => {
                // It reads, so that the caller can be seen to give up.
                while self.wire.item().await? != Item::End {}
                return Ok(());
            }
            Welcome::Octets(octets) => {
                self.wire.send(octets).await?;
                while self.wire.item().await? != Item::End {}
                return Ok(());
            }
            Welcome::Proper | Welcome::Trickle(_) => {}
        }
        if direct {
            self.tls(true).await?;
        }
        loop {
            self.header = match self.wire.item().await? {
                Item::Header(header) => header,
                Item::Element(_) | Item::Close | Item::End => return Ok(()),
            };
            self.greet().await?;
            loop {
                let next = match self.wire.item().await? {
                    Item::Element(node) => self.take(&node).await?,
                    Item::Header(_) => Next::Leave,
                    Item::Close => {
                        self.wire.send("</stream:stream>").await?;
                        Next::Leave
                    }
                    Item::End => return Ok(()),
                };
                match next {
                    Next::Stay => {}
                    Next::Restart => break,
                    Next::Leave => {
                        self.wire.shut().await;
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn tls(&mut self, direct: bool) -> Told<()> {
        let identity = held(&self.shared.identity).clone();
        self.wire.accept_tls(self.shared.authority.server(&identity, direct)?).await?;
        self.secured = true;
        Ok(())
    }

    async fn greet(&mut self) -> Told<()> {
        self.id = token()?;
        let modern = self.manner.version && self.header.attr("version").is_some();
        let header = Greeting {
            from: self.header.attr("to").map(str::to_owned).or_else(|| self.shared.domains.first().cloned()),
            to: self.header.attr("from").map(str::to_owned),
            id: Some(self.id.clone()),
            version: modern,
            lang: None,
        }
        .octets();
        if let Welcome::Trickle(pause) = self.manner.welcome {
            for octet in header.as_bytes() {
                self.wire.send([*octet]).await?;
                tokio::time::sleep(pause).await;
            }
        } else {
            self.wire.send(header).await?;
        }
        if modern {
            let features = self.features()?;
            self.wire.send(features).await?;
        }
        if let (true, Some(unasked)) = (self.secured, &self.manner.unasked) {
            let unasked = unasked.replace("{id}", &self.id);
            self.wire.send(unasked).await?;
        }
        Ok(())
    }

    fn features(&self) -> Told<String> {
        let mut features = String::from("<stream:features>");
        if !self.secured && self.manner.starttls {
            features.push_str("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>");
        } else {
            if self.external.is_none() && self.manner.external && self.certificate_speaks()? {
                features.push_str(&format!(
                    "<mechanisms xmlns='{SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>"
                ));
            }
            if self.manner.dialback {
                features.push_str("<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>");
            }
            if let Some(limit) = self.manner.max_bytes {
                features.push_str(&format!(
                    "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>{limit}</max-bytes></limits>"
                ));
            }
        }
        features.push_str("</stream:features>");
        Ok(features)
    }

    fn certificate_speaks(&self) -> Told<bool> {
        match (&self.wire.certificate, self.header.attr("from")) {
            (Some(certificate), Some(from)) => names_domain(certificate, from),
            _ => Ok(false),
        }
    }

    async fn take(&mut self, node: &Node) -> Told<Next> {
        match (node.namespace.as_str(), node.name.as_str()) {
            ("urn:ietf:params:xml:ns:xmpp-tls", "starttls") if !self.manner.starttls => {
                self.wire.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>").await?;
                Ok(Next::Leave)
            }
            ("urn:ietf:params:xml:ns:xmpp-tls", "starttls") => {
                let after = self.manner.with_proceed.unwrap_or("");
                self.wire.send(format!("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{after}")).await?;
                self.tls(false).await?;
                Ok(Next::Restart)
            }
            (SASL, "auth") if self.manner.accepts_external && self.certificate_speaks()? => {
                self.wire.send(format!("<success xmlns='{SASL}'/>")).await?;
                self.external = self.header.attr("from").map(str::to_owned);
                if let Some(domain) = &self.external {
                    held(&self.shared.proofs).push(format!("certificate {domain}"));
                }
                self.wire.restart();
                Ok(Next::Restart)
            }
            (SASL, "auth") => {
                self.wire.send(format!("<failure xmlns='{SASL}'><not-authorized/></failure>")).await?;
                Ok(Next::Stay)
            }
            (DIALBACK, "result") if node.attr("type").is_none() => self.receive_key(node).await,
            (DIALBACK, "verify") if node.attr("type").is_none() => self.vouch(node).await,
            (STREAMS, "error") => Ok(Next::Stay),
            _ if node.is_stanza() => self.accept_stanza(node).await,
            _ => self.fault("unsupported-stanza-type").await,
        }
    }

    async fn receive_key(&mut self, node: &Node) -> Told<Next> {
        let (from, to) = (node.attr("from").unwrap_or(""), node.attr("to").unwrap_or(""));
        let (sender, target) = (escape(from).into_owned(), escape(to).into_owned());
        let answer = |kind: &str| format!("<db:result from='{target}' to='{sender}' type='{kind}'/>");
        let error = |condition: &str| {
            format!(
                "<db:result from='{target}' to='{sender}' type='error'><error type='cancel'><{condition} \
                 xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>"
            )
        };
        let word = match self.manner.admit {
            _ if !self.shared.serves(to) => error("item-not-found"),
            Admit::Honest => match self.shared.verify(from, to, &self.id, &node.text).await {
                Ok(true) => answer("valid"),
                Ok(false) => answer("invalid"),
                Err(_) => error("remote-server-timeout"),
            },
            Admit::Always => answer("valid"),
            Admit::Never => answer("invalid"),
            Admit::Error(condition) => error(condition),
            Admit::Silent => return Ok(Next::Stay),
            Admit::OtherPair => format!("<db:result from='{target}' to='other.{sender}' type='valid'/>"),
        };
        if word.ends_with("type='valid'/>") && self.manner.admit != Admit::OtherPair {
            self.pairs.insert((from.to_owned(), to.to_owned()));
            held(&self.shared.proofs).push(format!("dialback {from}"));
        }
        self.wire.send(word).await?;
        Ok(Next::Stay)
    }

    async fn vouch(&mut self, node: &Node) -> Told<Next> {
        // The receiving server asks: `from` is the target of the pair, `to` is the sender.
        let (target, sender) = (node.attr("from").unwrap_or(""), node.attr("to").unwrap_or(""));
        let stream = node.attr("id").unwrap_or("");
        let answer = |stream: &str, kind: &str| {
            format!(
                "<db:verify from='{}' to='{}' id='{}' type='{kind}'/>",
                escape(sender),
                escape(target),
                escape(stream)
            )
        };
        let known = self.shared.keys.knows(sender, target, stream, &node.text);
        let honest = answer(stream, if known { "valid" } else { "invalid" });
        let word = match self.manner.vouch {
            Vouch::Honest => honest,
            Vouch::Always => answer(stream, "valid"),
            Vouch::Never => answer(stream, "invalid"),
            Vouch::Error(condition) => format!(
                "<db:verify from='{}' to='{}' id='{}' type='error'><error type='cancel'><{condition} \
                 xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:verify>",
                escape(sender),
                escape(target),
                escape(stream)
            ),
            Vouch::Silent => return Ok(Next::Stay),
            Vouch::Late(time) => {
                tokio::time::sleep(time).await;
                honest
            }
            Vouch::OtherStream => answer("another", "valid"),
            Vouch::HangUp => return Ok(Next::Leave),
        };
        self.wire.send(word).await?;
        Ok(Next::Stay)
    }

    async fn accept_stanza(&mut self, node: &Node) -> Told<Next> {
        let (from, to) = (domain_of(node.attr("from")), domain_of(node.attr("to")));
        let proven =
            self.external.as_deref() == Some(from) || self.pairs.contains(&(from.to_owned(), to.to_owned()));
        if !proven {
            return self.fault("invalid-from").await;
        }
        self.shared.inbox.put(node.clone());
        Ok(Next::Stay)
    }

    async fn fault(&mut self, condition: &str) -> Told<Next> {
        self.wire
            .send(format!(
                "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
            ))
            .await?;
        // The gateway's own closing tag is waited for, but not for ever.
        let _ = self.wire.next_within(PATIENCE).await;
        Ok(Next::Leave)
    }
}

/// The domain of an address.
pub fn domain_of(address: Option<&str>) -> &str {
    let address = address.unwrap_or("");
    let bare = address.split_once('/').map_or(address, |(bare, _)| bare);
    bare.split_once('@').map_or(bare, |(_, domain)| domain)
}
