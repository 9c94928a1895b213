//! A legacy server: plain TCP, dialback and nothing else, with the habits of the servers it stands for.
//!
//! The habits are those of `legacy-servers.md`: jabberd2 opens without version, `to` and `from` and puts all it has to
//! say to the world on one stream; Prosody asks about keys on the stream on which it sends its own; ejabberd opens a
//! connection for each question; Wildfire, Openfire and Tigase, which no test can install, have theirs from servers that were
//! built and tried. None of them is patched: all they know of the gateway is that every road leads there.

mod habit;
mod inward;
mod narrow;
mod outward;
mod users;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::node::{Node, escape};
use super::peer::{Keys, domain_of};
use super::session::Greeting;
use super::{Inbox, Told, Trouble, bind, held};
pub use habit::Habit;
use outward::{Order, Question};
pub use users::PASSWORD;

struct Shared {
    domains: Vec<String>,
    ip: Ipv4Addr,
    habit: Habit,
    way_out: SocketAddr,
    keys: Keys,
    inbox: Inbox,
    bounces: Inbox,
    users: Mutex<HashMap<String, mpsc::UnboundedSender<String>>>,
    roads: Mutex<HashMap<String, mpsc::UnboundedSender<Order>>>,
    visits: AtomicUsize,
    /// Of those, open now, and the most that ever were.
    open: AtomicUsize,
    peak: AtomicUsize,
    /// Sessions outward that may be set up now.
    set_ups: Arc<Semaphore>,
    /// Tigase: what waits for a pair, on whichever connection it goes.
    late: Mutex<HashMap<outward::Pair, Vec<Node>>>,
    /// Openfire 5.2: foreign domains that were proven on one stream of the gateway's.
    mixed: Mutex<Vec<HashSet<String>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A legacy server.
pub struct Legacy {
    /// The stanzas that arrived from the gateway and were accepted.
    pub inbox: Inbox,
    /// The stanzas that could not be sent, as they came back to their senders: from here, or as errors from outside.
    pub bounces: Inbox,
    /// Where clients log in.
    pub c2s: SocketAddr,
    /// Where the gateway brings what comes from outside.
    pub s2s: SocketAddr,
    shared: Arc<Shared>,
}

impl Legacy {
    /// Starts it for these domains at this address; `way_out` is the gateway's inside listener.
    pub async fn start(ip: Ipv4Addr, domains: &[&str], habit: Habit, way_out: SocketAddr) -> Told<Self> {
        let (c2s, s2s) = (bind(ip, 5222).await?, bind(ip, 5269).await?);
        let (c2s_address, s2s_address) = (c2s.local_addr()?, s2s.local_addr()?);
        let IpAddr::V4(ip) = s2s_address.ip() else {
            return Err(Trouble::new("an IPv4 address was bound as IPv6"));
        };
        let (inbox, bounces) = (Inbox::default(), Inbox::default());
        let shared = Arc::new(Shared {
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            ip,
            habit,
            way_out,
            keys: Keys::default(),
            inbox: inbox.clone(),
            bounces: bounces.clone(),
            users: Mutex::default(),
            roads: Mutex::default(),
            visits: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            set_ups: Arc::new(Semaphore::new(habit.set_ups())),
            late: Mutex::default(),
            mixed: Mutex::default(),
            tasks: Mutex::default(),
        });
        shared.listen(c2s, s2s);
        Ok(Self { inbox, bounces, c2s: c2s_address, s2s: s2s_address, shared })
    }

    /// How many connections it has taken from the gateway.
    pub fn visits(&self) -> usize {
        self.shared.visits.load(Ordering::SeqCst)
    }

    /// How many of them were open at one time, at most.
    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    /// Sends a stanza from a user of its own into the world.
    pub fn send(&self, stanza: impl Into<String>) {
        self.shared.clone().route(stanza.into());
    }

    /// Sends a chat message from a user of its own into the world.
    pub fn message(&self, from: &str, to: &str, body: &str) {
        self.send(format!(
            "<message from='{}' to='{}' type='chat'><body>{}</body></message>",
            escape(from),
            escape(to),
            escape(body)
        ));
    }

    /// Stops: no connection is taken, all that stand are cut.
    pub async fn stop(&self) {
        let tasks: Vec<_> = held(&self.shared.tasks).drain(..).collect();
        for task in tasks {
            task.abort();
            // The sockets are closed when the task is gone, not before.
            let _ = task.await;
        }
        held(&self.shared.roads).clear();
        held(&self.shared.users).clear();
    }

    /// Starts again where it was.
    pub async fn resume(&self) -> Told<()> {
        let (c2s, s2s) = (TcpListener::bind(self.c2s).await?, TcpListener::bind(self.s2s).await?);
        self.shared.listen(c2s, s2s);
        Ok(())
    }
}

impl Drop for Legacy {
    fn drop(&mut self) {
        held(&self.shared.tasks).drain(..).for_each(|task| task.abort());
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, c2s: TcpListener, s2s: TcpListener) {
        let shared = self.clone();
        self.spawn(async move {
            while let Ok((stream, _)) = s2s.accept().await {
                shared.visits.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                let task = shared.clone();
                shared.spawn(async move {
                    let open = task.open.fetch_add(1, Ordering::SeqCst) + 1;
                    task.peak.fetch_max(open, Ordering::SeqCst);
                    // What goes wrong on a stream ends it.
                    let _ = inward::serve(task.clone(), stream).await;
                    task.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let shared = self.clone();
        self.spawn(async move {
            while let Ok((stream, _)) = c2s.accept().await {
                let task = shared.clone();
                shared.spawn(async move {
                    let _ = users::serve(task, stream).await;
                });
            }
        });
    }

    fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = held(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(work));
    }

    fn source(&self) -> IpAddr {
        self.ip.into()
    }

    /// A header of its own, as octets.
    fn header(&self, greeting: &Greeting) -> String {
        let octets = greeting.octets();
        if self.habit == Habit::Tigase {
            // Without a declaration.
            return octets.split_once("?>").map_or(octets.clone(), |(_, header)| header.to_owned());
        }
        octets
    }

    fn hosts(&self, domain: &str) -> bool {
        self.domains.iter().any(|d| d == domain)
    }

    /// Brings a stanza where it belongs: to a user of ours, or out.
    fn route(self: Arc<Self>, stanza: String) {
        let (super::node::Found::Element(node), _) = super::node::read(&stanza, &server_scope()) else {
            return;
        };
        let target = domain_of(node.attr("to")).to_owned();
        if self.hosts(&target) {
            self.deliver(&node);
        } else {
            let sender = domain_of(node.attr("from")).to_owned();
            self.order(&sender, &target, Order::Stanza((sender.clone(), target.clone()), node));
        }
    }

    /// Hands an order to the outward stream that serves this pair, which is opened if there is none.
    fn order(self: &Arc<Self>, sender: &str, target: &str, order: Order) {
        let name = match self.habit {
            Habit::Jabberd2 => "everything".to_owned(),
            _ => format!("{sender}>{target}"),
        };
        let mut roads = held(&self.roads);
        let order = match order {
            // What waits outlives the stream that it waits on.
            Order::Stanza(pair, node) if self.habit == Habit::Tigase => {
                held(&self.late).entry(pair.clone()).or_default().push(node);
                Order::Late(pair)
            }
            Order::Stanza(_, node) if self.is_cut_off(&roads, target) => {
                drop(roads);
                self.bounce(&node, "remote-server-not-found", "");
                return;
            }
            order => order,
        };
        let order = match roads.get(&name) {
            Some(road) => match road.send(order) {
                Ok(()) => return,
                // That stream has ended in the meantime; its successor takes the order.
                Err(mpsc::error::SendError(order)) => order,
            },
            None => order,
        };
        let (road, orders) = mpsc::unbounded_channel();
        if road.send(order).is_ok() {
            roads.insert(name, road);
            let (shared, sender, target) = (self.clone(), sender.to_owned(), target.to_owned());
            self.spawn(outward::run(shared, sender, target, orders));
        }
    }

    /// As tried with Openfire 5.2: of two foreign domains that were proven on one stream, the second cannot be reached while
    /// there is a stream to the first.
    fn is_cut_off(&self, roads: &HashMap<String, mpsc::UnboundedSender<Order>>, target: &str) -> bool {
        let leads_to = |domain: &str| {
            roads.iter().any(|(name, road)| {
                !road.is_closed() && name.split_once('>').is_some_and(|(_, to)| to == domain)
            })
        };
        let mixed = held(&self.mixed);
        mixed
            .iter()
            .filter(|mix| mix.contains(target) && !leads_to(target))
            .flatten()
            .any(|other| leads_to(other))
    }

    /// Asks the authoritative server of a foreign domain about a key, on the kind of stream that the habit prescribes.
    async fn verify(self: &Arc<Self>, question: Question) -> bool {
        let (reply, answer) = oneshot::channel();
        let (sender, target) = (question.asker.clone(), question.asked.clone());
        let order = Order::Verify(question, reply);
        if self.habit.asks_apart() {
            let (road, orders) = mpsc::unbounded_channel();
            if road.send(order).is_ok() {
                self.spawn(outward::run(self.clone(), sender, target, orders));
            }
        } else {
            self.order(&sender, &target, order);
        }
        answer.await.unwrap_or(false)
    }

    /// Gives a stanza to the user it is for, and answers pings to the server itself.
    fn deliver(self: &Arc<Self>, node: &Node) {
        let to = node.attr("to").unwrap_or("");
        let bare = to.split_once('/').map_or(to, |(bare, _)| bare);
        if let Some(user) = held(&self.users).get(bare) {
            let _ = user.send(node.raw.clone());
        }
        let ping = node.name == "iq" && node.attr("type") == Some("get") && node.child("ping").is_some();
        if let (true, Some(from), Some(id)) =
            (ping && !bare.contains('@'), node.attr("from"), node.attr("id"))
        {
            let (to, from, id) = (escape(to), escape(from), escape(id));
            self.clone().route(format!("<iq from='{to}' to='{from}' id='{id}' type='result'/>"));
        }
    }

    /// Sends a stanza that could not go out back to whoever sent it.
    fn bounce(self: &Arc<Self>, node: &Node, condition: &str, text: &str) {
        if node.attr("type") == Some("error") || node.name == "presence" {
            return;
        }
        let attr = |name: &str| escape(node.attr(name).unwrap_or("")).into_owned();
        let error = format!(
            "<{name} from='{to}' to='{from}' id='{id}' type='error'><error type='cancel'><{condition} \
             xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>{text}</text>\
             </error></{name}>",
            name = node.name,
            to = attr("to"),
            from = attr("from"),
            id = attr("id"),
            text = escape(text),
        );
        if let (super::node::Found::Element(error), _) = super::node::read(&error, &server_scope()) {
            self.deliver(&error);
            self.bounces.put(error);
        }
    }
}

/// The default namespace in which stanzas between servers are read.
fn server_scope() -> [(String, String); 1] {
    [(String::new(), "jabber:server".to_owned())]
}
