//! The streams that the legacy server takes: keys from the gateway, questions about its own keys, stanzas.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::super::node::{Node, escape};
use super::super::peer::domain_of;
use super::super::session::{DIALBACK, Greeting};
use super::super::wire::{Item, Wire};
use super::super::{Told, held, token};
use super::outward::{Pair, Question};
use super::{Habit, Shared, narrow};

/// Takes one stream and serves it to its end.
pub async fn serve(shared: Arc<Shared>, stream: TcpStream) -> Told<()> {
    let mut wire = Wire::new(stream);
    let header = wire.header().await?;
    let id = token()?;
    let modern = !shared.habit.is_wordless() && header.attr("version").is_some();
    let greeting = Greeting {
        from: header.attr("to").filter(|_| modern).map(str::to_owned),
        to: header.attr("from").filter(|_| modern).map(str::to_owned),
        id: Some(id.clone()),
        version: modern,
        lang: None,
    };
    wire.send(shared.header(&greeting)).await?;
    if modern {
        wire.send(format!("<stream:features>{}</stream:features>", shared.habit.features())).await?;
    }
    let (verified, mut answers) = mpsc::unbounded_channel();
    Guest { shared, id, pairs: HashSet::new(), verified }.listen(&mut wire, &mut answers).await
}

struct Guest {
    shared: Arc<Shared>,
    id: String,
    pairs: HashSet<Pair>,
    verified: mpsc::UnboundedSender<(Pair, String, bool)>,
}

impl Guest {
    async fn listen(
        mut self,
        wire: &mut Wire,
        answers: &mut mpsc::UnboundedReceiver<(Pair, String, bool)>,
    ) -> Told<()> {
        loop {
            tokio::select! {
                item = wire.item() => match item? {
                    Item::Element(node) => {
                        if let Some(answer) = self.take(&node) {
                            let last = answer.ends_with("</stream:stream>");
                            wire.send(answer).await?;
                            if last {
                                wire.shut().await;
                                return Ok(());
                            }
                        }
                    }
                    Item::Close => {
                        wire.send("</stream:stream>").await?;
                        wire.shut().await;
                        return Ok(());
                    }
                    Item::Header(_) | Item::End => return Ok(()),
                },
                Some((pair, key, valid)) = answers.recv() => {
                    let word = self.word(&pair, &key, valid);
                    if valid {
                        self.pairs.insert(pair);
                        self.mix();
                    }
                    wire.send(word).await?;
                    if !valid && self.shared.habit == Habit::Openfire5 {
                        // As tried: with all domains on it.
                        wire.send("</stream:stream>").await?;
                        wire.shut().await;
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Openfire 5.2 takes the foreign domains of one stream for one another's.
    fn mix(&self) {
        let foreign: HashSet<String> = self.pairs.iter().map(|(from, _)| from.clone()).collect();
        if self.shared.habit == Habit::Openfire5 && foreign.len() > 1 {
            held(&self.shared.mixed).push(foreign);
        }
    }

    fn take(&mut self, node: &Node) -> Option<String> {
        if self.shared.habit == Habit::Tigase && narrow::refuses(node) {
            return Some(fault("policy-violation"));
        }
        let (from, to) = (node.attr("from").unwrap_or(""), node.attr("to").unwrap_or(""));
        if node.is(DIALBACK, "result") {
            if !self.shared.hosts(to) || self.shared.hosts(from) {
                return Some(fault("host-unknown"));
            }
            let question = Question {
                asker: to.to_owned(),
                asked: from.to_owned(),
                stream: self.id.clone(),
                key: node.text.clone(),
            };
            let (shared, verified) = (self.shared.clone(), self.verified.clone());
            let task = shared.clone();
            shared.spawn(async move {
                let pair = (question.asked.clone(), question.asker.clone());
                let key = question.key.clone();
                let valid = task.verify(question).await;
                // The stream may have ended while we asked.
                let _ = verified.send((pair, key, valid));
            });
            return None;
        }
        if node.is(DIALBACK, "verify") {
            let id = node.attr("id").unwrap_or("");
            // The receiving server asks: `to` is our domain, the sender of the pair.
            let kind = if self.shared.keys.knows(to, from, id, &node.text) { "valid" } else { "invalid" };
            return Some(format!(
                "<db:verify from='{}' to='{}' id='{}' type='{kind}'/>",
                escape(to),
                escape(from),
                escape(id)
            ));
        }
        let pair = (domain_of(Some(from)).to_owned(), domain_of(Some(to)).to_owned());
        if node.is_stanza() && self.pairs.contains(&pair) {
            if node.attr("type") == Some("error") {
                // What a user of ours sent has come back.
                self.shared.bounces.put(node.clone());
            }
            self.shared.inbox.put(node.clone());
            self.shared.deliver(node);
            return None;
        }
        self.shared.habit.on_forgery().map(fault)
    }

    fn word(&self, pair: &Pair, key: &str, valid: bool) -> String {
        let (sender, target) = (escape(&pair.0), escape(&pair.1));
        match (valid, self.shared.habit) {
            (true, Habit::Prosody) => {
                format!("<db:result from='{target}' to='{sender}' type='valid'>{key}</db:result>")
            }
            (true, _) => format!("<db:result from='{target}' to='{sender}' type='valid'/>"),
            (false, _) => format!("<db:result from='{target}' to='{sender}' type='invalid'/>"),
        }
    }
}

fn fault(condition: &str) -> String {
    format!(
        "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
    )
}
