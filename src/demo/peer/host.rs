//! One stream that was opened to a server out in the world, from its header to its end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::super::node::{Node, escape};
use super::super::pki::names_domain;
use super::super::session::{DIALBACK, Greeting, SASL, STREAMS};
use super::super::wire::{Item, Wire};
use super::super::{PATIENCE, Told, held, token};
use super::manner::{Admit, Manner, Vouch, Welcome};
use super::{Shared, domain_of};

/// One stream that was opened to the server.
pub(super) struct Host {
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
    pub(super) fn new(shared: Arc<Shared>, stream: TcpStream) -> Self {
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

    pub(super) async fn serve(mut self, direct: bool) -> Told<()> {
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
            Welcome::Featureless | Welcome::Handshakeless | Welcome::Proper | Welcome::Trickle(_) => {}
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
                    Item::Close if self.manner.lingers => {
                        while self.wire.item().await? != Item::End {}
                        return Ok(());
                    }
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
        if modern && !(self.secured && self.manner.welcome == Welcome::Featureless) {
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
                if self.manner.welcome == Welcome::Handshakeless {
                    // What comes is not even read.
                    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
                }
                self.tls(false).await?;
                Ok(Next::Restart)
            }
            (SASL, "auth") if self.manner.admit == Admit::Silent => Ok(Next::Stay),
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
        if let Admit::Late(time) = self.manner.admit {
            held(&self.shared.proofs).push(format!("key {from}"));
            tokio::time::sleep(time).await;
        }
        let word = match self.manner.admit {
            _ if !self.shared.serves(to) => error("item-not-found"),
            Admit::Honest | Admit::Late(_) => {
                match self.shared.verify(from, to, &self.id, &node.text).await {
                    Ok(true) => answer("valid"),
                    Ok(false) => answer("invalid"),
                    Err(_) => error("remote-server-timeout"),
                }
            }
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
