//! The clients of the legacy server: PLAIN in clear, as old servers have it, on a network where that is nobody's business.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::super::node::{Node, escape};
use super::super::session::{SASL, STREAMS};
use super::super::wire::{Item, Wire};
use super::super::{Told, Trouble, held, token};
use super::Shared;

/// The one password of the small world.
pub const PASSWORD: &str = "open sesame";

/// Takes one client and serves it to its end.
pub async fn serve(shared: Arc<Shared>, stream: TcpStream) -> Told<()> {
    let mut wire = Wire::new(stream);
    let domain = greet(
        &mut wire,
        &shared,
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>",
    )
    .await?;
    let auth = wire.element().await?;
    let Some(user) = user_of(&auth) else {
        return wire
            .send(format!("<failure xmlns='{SASL}'><not-authorized/></failure></stream:stream>"))
            .await;
    };
    wire.send(format!("<success xmlns='{SASL}'/>")).await?;
    wire.restart();
    greet(&mut wire, &shared, "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>").await?;
    let bind = wire.element().await?;
    let bare = format!("{user}@{domain}");
    let full = format!("{bare}/{}", token()?.get(..6).unwrap_or("home"));
    wire.send(format!(
        "<iq type='result' id='{}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{}</jid></bind></iq>",
        escape(bind.attr("id").unwrap_or("")),
        escape(&full)
    ))
    .await?;
    let (out, mut letters) = mpsc::unbounded_channel();
    held(&shared.users).insert(bare.clone(), out);
    let ended = carry(&mut wire, &shared, &full, &mut letters).await;
    held(&shared.users).remove(&bare);
    ended
}

async fn greet(wire: &mut Wire, shared: &Shared, features: &str) -> Told<String> {
    let header = wire.header().await?;
    let domain = header.attr("to").unwrap_or("").to_owned();
    if !shared.hosts(&domain) {
        return Err(Trouble(format!("no such domain here: {domain}")));
    }
    wire.send(format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' from='{}' id='{}' \
         version='1.0'><stream:features>{features}</stream:features>",
        escape(&domain),
        token()?
    ))
    .await?;
    Ok(domain)
}

fn user_of(auth: &Node) -> Option<String> {
    let response = STANDARD.decode(auth.text.trim()).ok()?;
    let response = String::from_utf8(response).ok()?;
    let mut parts = response.split('\0').skip(1);
    let (user, password) = (parts.next()?, parts.next()?);
    (auth.attr("mechanism") == Some("PLAIN") && password == PASSWORD && !user.is_empty())
        .then(|| user.to_owned())
}

async fn carry(
    wire: &mut Wire,
    shared: &Arc<Shared>,
    full: &str,
    letters: &mut mpsc::UnboundedReceiver<String>,
) -> Told<()> {
    loop {
        tokio::select! {
            item = wire.item() => match item? {
                Item::Element(node) if node.attr("to").is_some() => shared.clone().route(stamped(&node, full)),
                Item::Close | Item::End => return Ok(()),
                Item::Element(_) | Item::Header(_) => {}
            },
            Some(letter) = letters.recv() => wire.send(letter).await?,
        }
    }
}

/// The stanza with the sender's address on it, whatever was there before (RFC 6120 8.1.2.1).
fn stamped(node: &Node, full: &str) -> String {
    let start = node.raw.find(node.name.as_str()).map_or(0, |at| at + node.name.len());
    let (head, rest) = node.raw.split_at(start);
    format!("{head} from='{}'{rest}", escape(full))
}
