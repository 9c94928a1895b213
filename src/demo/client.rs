//! A user's program: it logs in at the legacy server over plain TCP, sends and receives.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;

use super::node::{Node, escape};
use super::session::{SASL, STREAMS};
use super::wire::{Item, Wire};
use super::{Inbox, Told, Trouble, dial};

/// A user who is online.
pub struct Client {
    /// The full address that the server gave.
    pub address: String,
    /// What has arrived for the user.
    pub inbox: Inbox,
    out: mpsc::Sender<String>,
}

impl Client {
    /// Logs in with PLAIN and binds a resource.
    pub async fn login(
        source: IpAddr,
        server: SocketAddr,
        user: &str,
        domain: &str,
        password: &str,
    ) -> Told<Self> {
        let mut wire = Wire::new(dial(source, server).await?);
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' to='{}' version='1.0'>",
            escape(domain)
        );
        wire.send(&header).await?;
        wire.header().await?;
        wire.element().await?;
        let response = STANDARD.encode(format!("\0{user}\0{password}"));
        wire.send(format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{response}</auth>")).await?;
        let answer = wire.element().await?;
        if answer.name != "success" {
            return Err(Trouble(format!("{user} could not log in: {}", answer.raw)));
        }
        wire.restart();
        wire.send(&header).await?;
        wire.header().await?;
        wire.element().await?;
        wire.send("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>").await?;
        let bound = wire.element().await?;
        let address = bound
            .child("bind")
            .and_then(|b| b.child("jid"))
            .map(|j| j.text.clone())
            .ok_or_else(|| Trouble(format!("no address for {user}: {}", bound.raw)))?;
        wire.send("<presence/>").await?;
        let inbox = Inbox::default();
        let (out, orders) = mpsc::channel(16);
        tokio::spawn(carry(wire, inbox.clone(), orders));
        Ok(Self { address, inbox, out })
    }

    /// Sends a chat message.
    pub async fn say(&self, to: &str, body: &str) -> Told<()> {
        self.send(format!("<message to='{}' type='chat'><body>{}</body></message>", escape(to), escape(body)))
            .await
    }

    /// Sends any stanza.
    pub async fn send(&self, stanza: String) -> Told<()> {
        self.out.send(stanza).await.map_err(|_| Trouble::new("the client is offline"))
    }

    /// Waits for the error that came back for something sent to this address.
    pub async fn bounce(&self, to: &str) -> Told<Node> {
        self.inbox.wait(|n| n.attr("type") == Some("error") && n.attr("from") == Some(to)).await
    }
}

async fn carry(mut wire: Wire, inbox: Inbox, mut orders: mpsc::Receiver<String>) {
    loop {
        tokio::select! {
            item = wire.item() => match item {
                Ok(Item::Element(node)) if node.is_stanza() => inbox.put(node),
                Ok(Item::Close | Item::End) | Err(_) => return,
                Ok(_) => {}
            },
            order = orders.recv() => match order {
                Some(stanza) if wire.send(&stanza).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
