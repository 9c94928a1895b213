//! A user's program: it logs in, sends and receives. It reaches the legacy server as people inside do, over plain TCP, or as
//! the world does: through the gateway, over STARTTLS, and only if the certificate is that of the user's own domain.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};

use super::node::{Node, escape};
use super::session::{SASL, STREAMS};
use super::wire::{Item, Wire};
use super::{Inbox, PATIENCE, Told, Trouble, dial};

/// A user who is online.
pub struct Client {
    /// The full address that the server gave.
    pub address: String,
    /// What has arrived for the user.
    pub inbox: Inbox,
    out: mpsc::Sender<String>,
    ending: watch::Receiver<Option<String>>,
}

/// Whom to log in as.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The name before the `@`.
    pub user: &'a str,
    /// The domain.
    pub domain: &'a str,
    /// The password.
    pub password: &'a str,
}

impl Client {
    /// Logs in in clear, with PLAIN, and binds a resource.
    pub async fn login(source: IpAddr, server: SocketAddr, account: Account<'_>) -> Told<Self> {
        let mut wire = Wire::new(dial(source, server).await?);
        greet(&mut wire, account.domain).await?;
        Self::log_in(wire, account).await
    }

    /// The same after STARTTLS, with a certificate that these settings hold good.
    pub async fn login_over_tls(
        source: IpAddr,
        server: SocketAddr,
        account: Account<'_>,
        tls: Arc<ClientConfig>,
    ) -> Told<Self> {
        let mut wire = Wire::new(dial(source, server).await?);
        let features = greet(&mut wire, account.domain).await?;
        if features.child("starttls").is_none() || features.child("mechanisms").is_some() {
            return Err(Trouble(format!("STARTTLS alone was due, not {}", features.raw)));
        }
        wire.send(format!("<starttls xmlns='{TLS}'/>")).await?;
        let answer = wire.element().await?;
        if answer.name != "proceed" {
            return Err(Trouble(format!("no TLS: {}", answer.raw)));
        }
        let name = idna::domain_to_ascii(account.domain).unwrap_or_else(|_| account.domain.to_owned());
        wire.secure(tls, &name).await?;
        greet(&mut wire, account.domain).await?;
        Self::log_in(wire, account).await
    }

    async fn log_in(mut wire: Wire, Account { user, domain, password }: Account<'_>) -> Told<Self> {
        let response = STANDARD.encode(format!("\0{user}\0{password}"));
        wire.send(format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{response}</auth>")).await?;
        let answer = wire.element().await?;
        if answer.name != "success" {
            return Err(Trouble(format!("{user} could not log in: {}", answer.raw)));
        }
        wire.restart();
        greet(&mut wire, domain).await?;
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
        let (ended, ending) = watch::channel(None);
        tokio::spawn(carry(wire, inbox.clone(), orders, ended));
        Ok(Self { address, inbox, out, ending })
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

    /// Waits for the stream error that ends the connection; its condition.
    pub async fn thrown_out(&self) -> Told<String> {
        let mut ending = self.ending.clone();
        let waiting = tokio::time::timeout(PATIENCE, ending.wait_for(Option::is_some)).await;
        match waiting {
            Ok(Ok(condition)) => Ok(condition.clone().unwrap_or_default()),
            Ok(Err(_)) | Err(_) => Err(Trouble::new("the connection was not ended with a stream error")),
        }
    }

    /// Waits for the error that came back for something sent to this address.
    pub async fn bounce(&self, to: &str) -> Told<Node> {
        self.inbox.wait(|n| n.attr("type") == Some("error") && n.attr("from") == Some(to)).await
    }
}

/// Opens a stream; the features.
async fn greet(wire: &mut Wire, domain: &str) -> Told<Node> {
    wire.send(format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' to='{}' version='1.0'>",
        escape(domain)
    ))
    .await?;
    wire.header().await?;
    let features = wire.element().await?;
    if features.is(STREAMS, "error") {
        return Err(Trouble(format!("no stream: {}", features.raw)));
    }
    Ok(features)
}

async fn carry(
    mut wire: Wire,
    inbox: Inbox,
    mut orders: mpsc::Receiver<String>,
    ended: watch::Sender<Option<String>>,
) {
    loop {
        tokio::select! {
            item = wire.item() => match item {
                Ok(Item::Element(node)) if node.is(STREAMS, "error") => {
                    ended.send_replace(node.condition().map(str::to_owned));
                }
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

const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
