//! The streams that the legacy server opens: its own keys, its stanzas, and its questions about keys sent to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::super::node::{Node, escape};
use super::super::session::{DIALBACK, Greeting, STREAMS};
use super::super::wire::{Item, Wire};
use super::super::{Told, Trouble, dial, token};
use super::{Habit, Shared};

/// Sender domain and target domain.
pub type Pair = (String, String);

/// A question about a key that somebody sent to us.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Our domain, the target of the pair.
    pub asker: String,
    /// The foreign domain, the sender of the pair.
    pub asked: String,
    /// The id that we gave to the stream on which the key came.
    pub stream: String,
    /// The key.
    pub key: String,
}

/// What is to be done on a stream outward.
pub enum Order {
    /// Send this stanza.
    Stanza(Pair, Node),
    /// Ask this, and tell the answer.
    Verify(Question, oneshot::Sender<bool>),
}

/// Opens a stream outward and carries out orders on it until it ends.
pub async fn run(
    shared: Arc<Shared>,
    sender: String,
    target: String,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut waiting = HashMap::new();
    let ended = match Road::open(&shared, &sender, &target).await {
        Ok(mut road) => {
            let ended = road.carry(&mut orders).await;
            waiting = road.waiting;
            ended
        }
        Err(trouble) => trouble,
    };
    orders.close();
    while let Ok(order) = orders.try_recv() {
        if let Order::Stanza(pair, node) = order {
            waiting.entry(pair).or_insert_with(Vec::new).push(node);
        }
    }
    for node in waiting.values().flatten() {
        shared.bounce(node, "remote-server-timeout", &ended.0);
    }
}

struct Road {
    shared: Arc<Shared>,
    wire: Wire,
    id: String,
    waiting: HashMap<Pair, Vec<Node>>,
    standing: HashSet<Pair>,
    questions: Vec<(Question, oneshot::Sender<bool>)>,
    error: Option<String>,
}

impl Road {
    async fn open(shared: &Arc<Shared>, sender: &str, target: &str) -> Told<Self> {
        let mut wire = Wire::new(dial(shared.source(), shared.way_out).await?);
        let greeting = match shared.habit {
            Habit::Jabberd2 => Greeting::default(),
            Habit::Ejabberd => Greeting::of(sender, target),
            Habit::Prosody => Greeting { id: Some(String::new()), ..Greeting::of(sender, target) },
        };
        wire.send(greeting.octets()).await?;
        let header = wire.header().await?;
        let id = header.attr("id").ok_or_else(|| Trouble::new("a header without id"))?.to_owned();
        if header.attr("version").is_some() {
            let features = wire.element().await?;
            if features.is(STREAMS, "error") {
                return Err(Trouble(format!("stream error {}", features.condition().unwrap_or(""))));
            }
        }
        Ok(Self {
            shared: shared.clone(),
            wire,
            id,
            waiting: HashMap::new(),
            standing: HashSet::new(),
            questions: Vec::new(),
            error: None,
        })
    }

    /// Tells why it ended.
    async fn carry(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Trouble {
        let mut more = true;
        loop {
            if !more && self.questions.is_empty() && self.waiting.is_empty() {
                // All is said; the farewell need not be heard.
                let _ = self.wire.send("</stream:stream>").await;
                self.wire.shut().await;
                return Trouble::new("nothing more to send");
            }
            let done = tokio::select! {
                item = self.wire.item() => match item {
                    Ok(Item::Element(node)) => self.hear(&node).await,
                    Ok(Item::Header(_)) => Err(Trouble::new("a second header")),
                    Ok(Item::Close) => {
                        // The farewell is answered if anybody is still there to hear it.
                        let _ = self.wire.send("</stream:stream>").await;
                        self.wire.shut().await;
                        Err(Trouble::new("the stream was closed"))
                    }
                    Ok(Item::End) => Err(Trouble::new("the connection ended")),
                    Err(trouble) => Err(trouble),
                },
                order = orders.recv(), if more => match order {
                    Some(order) => self.obey(order).await,
                    None => {
                        more = false;
                        Ok(())
                    }
                },
            };
            if let Err(trouble) = done {
                return self
                    .error
                    .take()
                    .map_or(trouble, |condition| Trouble(format!("stream error {condition}")));
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Told<()> {
        match order {
            Order::Stanza(pair, node) if self.standing.contains(&pair) => self.wire.send(&node.raw).await,
            Order::Stanza(pair, node) => {
                self.waiting.entry(pair.clone()).or_default().push(node);
                self.claim(pair).await
            }
            Order::Verify(question, reply) => {
                if self.shared.habit == Habit::Prosody {
                    // Prosody sends its own key along, whether it has anything to say or not.
                    self.claim((question.asker.clone(), question.asked.clone())).await?;
                }
                let octets = format!(
                    "<db:verify from='{}' to='{}' id='{}'>{}</db:verify>",
                    escape(&question.asker),
                    escape(&question.asked),
                    escape(&question.stream),
                    question.key
                );
                self.questions.push((question, reply));
                self.wire.send(octets).await
            }
        }
    }

    async fn claim(&mut self, pair: Pair) -> Told<()> {
        let (sender, target) = &pair;
        if self.standing.contains(&pair) || self.shared.keys.has(sender, target, &self.id) {
            return Ok(());
        }
        let key = token()?;
        self.shared.keys.put(sender, target, &self.id, &key);
        let octets =
            format!("<db:result from='{}' to='{}'>{key}</db:result>", escape(sender), escape(target));
        self.wire.send(octets).await
    }

    async fn hear(&mut self, node: &Node) -> Told<()> {
        let (from, to) =
            (node.attr("from").unwrap_or("").to_owned(), node.attr("to").unwrap_or("").to_owned());
        if node.is(STREAMS, "error") {
            self.error = node.condition().map(str::to_owned);
            return Ok(());
        }
        if node.is(DIALBACK, "verify") {
            let id = node.attr("id").unwrap_or("");
            let found =
                self.questions.iter().position(|(q, _)| q.asked == from && q.asker == to && q.stream == id);
            if let Some(at) = found {
                let (_, reply) = self.questions.swap_remove(at);
                // Whoever asked may have gone.
                let _ = reply.send(node.attr("type") == Some("valid"));
            }
            return Ok(());
        }
        if !node.is(DIALBACK, "result") {
            return Err(Trouble(format!("unexpected {}", node.raw)));
        }
        let pair = (to, from);
        let waiting = self.waiting.remove(&pair).unwrap_or_default();
        if node.attr("type") == Some("valid") {
            for stanza in &waiting {
                self.wire.send(&stanza.raw).await?;
            }
            self.standing.insert(pair);
            return Ok(());
        }
        self.shared.keys.forget(&pair.0, &pair.1, &self.id);
        // XEP-0220 2.1.1: what becomes of the stanzas that waited for an answer that is no yes.
        let condition = match node.attr("type") {
            Some("invalid") => "internal-server-error",
            _ => node.child("error").and_then(Node::condition).unwrap_or("remote-server-timeout"),
        };
        for stanza in &waiting {
            self.shared.bounce(stanza, condition, &format!("dialback {}", node.attr("type").unwrap_or("")));
        }
        Ok(())
    }
}
