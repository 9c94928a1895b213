//! The streams that the legacy server opens: its own keys, its stanzas, and its questions about keys sent to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::super::node::{Node, escape};
use super::super::session::{DIALBACK, Greeting, STREAMS};
use super::super::wire::{Item, Wire};
use super::super::{Told, Trouble, dial, held, token};
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
    /// Send what waits for this pair in the server's own keeping.
    Late(Pair),
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
    let mut late = Vec::new();
    // Nobody closes it.
    let permit = shared.set_ups.clone().acquire_owned().await.ok();
    let ended = match Road::open(&shared, &sender, &target).await {
        Ok(mut road) => {
            road.permit = permit;
            let ended = road.carry(&mut orders).await;
            waiting = road.waiting;
            late = road.late;
            ended
        }
        Err(trouble) => trouble,
    };
    orders.close();
    while let Ok(order) = orders.try_recv() {
        match order {
            Order::Stanza(pair, node) => waiting.entry(pair).or_insert_with(Vec::new).push(node),
            Order::Late(pair) => late.push(pair),
            Order::Verify(..) => (),
        }
    }
    for pair in late {
        let nodes = held(&shared.late).remove(&pair).unwrap_or_default();
        waiting.entry(pair).or_default().extend(nodes);
    }
    for node in waiting.values().flatten() {
        shared.bounce(node, shared.habit.given_up(), &ended.0);
    }
}

struct Road {
    shared: Arc<Shared>,
    wire: Wire,
    id: String,
    waiting: HashMap<Pair, Vec<Node>>,
    /// The pairs whose stanzas the server keeps for this stream.
    late: Vec<Pair>,
    standing: HashSet<Pair>,
    questions: Vec<(Question, oneshot::Sender<bool>)>,
    error: Option<String>,
    /// Held until the first claim is answered.
    permit: Option<OwnedSemaphorePermit>,
    /// When the oldest claim without an answer was made.
    claimed: Option<Instant>,
}

impl Road {
    async fn open(shared: &Arc<Shared>, sender: &str, target: &str) -> Told<Self> {
        if let Some(pause) = shared.habit.pause() {
            tokio::time::sleep(pause).await;
        }
        if shared.habit == Habit::Openfire5 {
            // As tried: a connection to see whether anybody is there, without a word.
            drop(dial(shared.source(), shared.way_out).await?);
        }
        let mut wire = Wire::new(dial(shared.source(), shared.way_out).await?);
        let greeting = match shared.habit {
            habit if habit.is_wordless() => Greeting::default(),
            Habit::Prosody => Greeting { id: Some(String::new()), ..Greeting::of(sender, target) },
            _ => Greeting::of(sender, target),
        };
        wire.send(shared.header(&greeting)).await?;
        let header = wire.header().await?;
        let id = header.attr("id").ok_or_else(|| Trouble::new("a header without id"))?.to_owned();
        if header.attr("version").is_some() {
            let features = wire.element().await?;
            if features.is(STREAMS, "error") {
                return Err(Trouble(format!("stream error {}", features.condition().unwrap_or(""))));
            }
            if shared.habit == Habit::Openfire5 && features.child("dialback").is_none() {
                return Err(Trouble::new("nothing said of dialback"));
            }
        } else if shared.habit == Habit::Openfire5 {
            return Err(Trouble::new("no version"));
        }
        Ok(Self {
            shared: shared.clone(),
            wire,
            id,
            waiting: HashMap::new(),
            late: Vec::new(),
            standing: HashSet::new(),
            questions: Vec::new(),
            error: None,
            permit: None,
            claimed: None,
        })
    }

    /// Tells why it ended.
    async fn carry(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Trouble {
        let mut more = true;
        loop {
            let patience = match self.claimed {
                Some(at) => self.shared.habit.patience().saturating_sub(at.elapsed()),
                None => Duration::from_secs(3600),
            };
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
                () = tokio::time::sleep(patience) => self.give_up().await,
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
            Order::Late(pair) if self.standing.contains(&pair) => self.write_late(&pair).await,
            Order::Late(pair) => {
                self.late.push(pair.clone());
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

    /// What waits for the pair in the server's own keeping.
    async fn write_late(&mut self, pair: &Pair) -> Told<()> {
        let late = held(&self.shared.late).remove(pair).unwrap_or_default();
        for node in late {
            self.wire.send(&node.raw).await?;
        }
        Ok(())
    }

    /// No answer came to a claim: Tigase makes it anew, the others leave.
    async fn give_up(&mut self) -> Told<()> {
        if self.shared.habit != Habit::Tigase {
            return Err(Trouble::new("no answer to the claim"));
        }
        self.claimed = None;
        let waiting = self.late.clone();
        for pair in waiting {
            self.shared.keys.forget(&pair.0, &pair.1, &self.id);
            self.claim(pair).await?;
        }
        Ok(())
    }

    async fn claim(&mut self, pair: Pair) -> Told<()> {
        let (sender, target) = &pair;
        if self.standing.contains(&pair) || self.shared.keys.has(sender, target, &self.id) {
            return Ok(());
        }
        let key = token()?;
        self.claimed.get_or_insert_with(Instant::now);
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
                let valid = node.attr("type") == Some("valid");
                if valid && self.shared.habit == Habit::Tigase {
                    // As tried: what waits for that domain goes out here, where nothing was claimed.
                    self.write_late(&(to, from)).await?;
                }
                // Whoever asked may have gone.
                let _ = reply.send(valid);
            }
            return Ok(());
        }
        if node.is_stanza() && self.shared.habit.drops_errors() {
            return Ok(());
        }
        if !node.is(DIALBACK, "result") {
            return Err(Trouble(format!("unexpected {}", node.raw)));
        }
        let pair = (to, from);
        self.permit = None;
        self.claimed = None;
        let waiting = self.waiting.remove(&pair).unwrap_or_default();
        if node.attr("type") == Some("valid") {
            for stanza in &waiting {
                self.wire.send(&stanza.raw).await?;
            }
            if self.shared.habit == Habit::Openfire5 && self.standing.is_empty() {
                let (from, to) = (escape(&pair.0), escape(&pair.1));
                let about = "<query xmlns='jabber:iq:version'/>";
                self.wire.send(format!("<iq from='{from}' to='{to}' id='v' type='get'>{about}</iq>")).await?;
            }
            self.write_late(&pair).await?;
            self.standing.insert(pair);
            return Ok(());
        }
        if self.shared.habit == Habit::Wildfire
            && let Some((_, parent)) = pair.1.split_once('.').filter(|(_, parent)| parent.contains('.'))
        {
            // As tried: the parent is claimed next, and gets the child's mail.
            for node in waiting {
                let above = (pair.0.clone(), parent.to_owned());
                self.shared.order(&pair.0, parent, Order::Stanza(above, node));
            }
            return Ok(());
        }
        self.shared.keys.forget(&pair.0, &pair.1, &self.id);
        if self.shared.habit == Habit::Jabberd2 {
            // As tried: one word that is not `valid` costs it the whole stream, with all that is on it.
            self.waiting.insert(pair, waiting);
            return Err(Trouble(format!("dialback {}", node.attr("type").unwrap_or(""))));
        }
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
