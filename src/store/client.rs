//! One connection to the store, made anew when it is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline,
    RedisError, TlsCertificates, TlsMode,
};

use super::shards::Shards;
use super::{After, Heard, Layout, NodeReport, Noted, Params, StoreFault};

/// The store, as one node sees it.
pub struct Store {
    params: Params,
    link: Option<Link>,
}

enum Link {
    One(MultiplexedConnection),
    Cluster(Box<Shards>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("params", &self.params).finish_non_exhaustive()
    }
}

impl Store {
    /// Nobody is called before something is asked.
    pub fn new(params: Params) -> Self {
        Self { params, link: None }
    }

    /// What the others have said; of events and counts, what was not heard yet; and who is in quarantine, if that is wanted.
    ///
    /// # Errors
    /// When the store does not answer, or not so.
    pub async fn read(
        &mut self,
        events_after: &After,
        counts_after: &After,
        quarantine: bool,
    ) -> Result<Heard, StoreFault> {
        let held = match quarantine {
            true => self.quarantine().await?,
            false => BTreeMap::new(),
        };
        let [nodes, bans, events, counts, _] = self.keys();
        let mut sizes = redis::pipe();
        sizes.cmd("HLEN").arg(&nodes).cmd("HLEN").arg(&bans);
        let (many, banned): (usize, usize) = self.ask(&sizes).await?;
        if many > MOST_NODES || banned > MOST_BANS {
            return Err(StoreFault::Foreign(format!("{many} nodes and {banned} bans")));
        }
        let events_after = self.name(&events, events_after).await?;
        let counts_after = self.name(&counts, counts_after).await?;
        let mut all = redis::pipe();
        all.cmd("HGETALL").arg(&nodes).cmd("HGETALL").arg(&bans);
        for (key, after, most) in [(&events, events_after, EVENTS), (&counts, counts_after, COUNTS)] {
            all.cmd("XRANGE").arg(key).arg(format!("({after}")).arg("+").arg("COUNT").arg(most);
        }
        all.cmd("TIME");
        type All = (BTreeMap<String, String>, BTreeMap<String, String>, Row, Row, (i64, i64));
        let asked = Instant::now();
        let (nodes, bans, events, counts, (seconds, micros)): All = self.ask(&all).await?;
        // While its answer came its clock went on: half of the way there and back, as far as one can know.
        let home = i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or(i64::MAX);
        let time = seconds.saturating_mul(1000).saturating_add(micros / 1000).saturating_add(home);
        Ok(Heard { time, nodes, bans, quarantine: held, events: texts(events), counts: texts(counts) })
    }

    /// Who is in quarantine.
    async fn quarantine(&mut self) -> Result<BTreeMap<String, String>, StoreFault> {
        let [.., key] = self.keys();
        let mut size = redis::pipe();
        size.cmd("HLEN").arg(&key);
        let (many,): (usize,) = self.ask(&size).await?;
        if many > MOST_HELD {
            return Err(StoreFault::Foreign(format!("{many} domains in quarantine")));
        }
        let mut all = redis::pipe();
        all.cmd("HGETALL").arg(&key);
        let (held,): (BTreeMap<String, String>,) = self.ask(&all).await?;
        Ok(held)
    }

    /// The name of the event after which the row is to be heard, or a time in its place.
    async fn name(&mut self, key: &str, after: &After) -> Result<String, StoreFault> {
        let memory = match after {
            After::Event(name) => return Ok(name.clone()),
            After::Newest(memory) => *memory,
        };
        let mut newest = redis::pipe();
        newest.cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1);
        let (row,): (Row,) = self.ask(&newest).await?;
        let time = row.first().and_then(|(name, _)| name.split('-').next()?.parse::<i64>().ok());
        Ok(format!("{}-0", time.map_or(0, |time| time.saturating_sub(memory).max(0))))
    }

    /// Has the others hear this.
    ///
    /// # Errors
    /// When the store does not answer, or does not take it.
    pub async fn write(&mut self, said: &NodeReport) -> Result<(), StoreFault> {
        let [nodes, bans, events, counts, held] = self.keys();
        let mut all = redis::pipe();
        let (name, word) = &said.node;
        all.cmd("HSET").arg(&nodes).arg(name).arg(word).ignore();
        all.cmd("EXPIRE").arg(&nodes).arg(DAY).ignore();
        if !said.gone.is_empty() {
            all.cmd("HDEL").arg(&nodes).arg(&said.gone).ignore();
        }
        if !said.over.is_empty() {
            all.cmd("HDEL").arg(&bans).arg(&said.over).ignore();
        }
        for (target, record) in &said.bans {
            all.cmd("HSET").arg(&bans).arg(target).arg(record).ignore();
        }
        if !said.bans.is_empty() {
            all.cmd("EXPIRE").arg(&bans).arg(YEAR).ignore();
        }
        if !said.forgotten.is_empty() {
            all.cmd("HDEL").arg(&held).arg(&said.forgotten).ignore();
        }
        for (domain, record) in &said.quarantine {
            all.cmd("HSET").arg(&held).arg(domain).arg(record).ignore();
        }
        if !said.quarantine.is_empty() {
            all.cmd("EXPIRE").arg(&held).arg(YEAR).ignore();
        }
        for (key, row, most, time) in
            [(&events, &said.events, MOST_EVENTS, DAY), (&counts, &said.counts, MOST_COUNTS, 2 * MINUTE)]
        {
            for text in row {
                add(&mut all, key, most, text);
            }
            if !row.is_empty() {
                all.cmd("EXPIRE").arg(key).arg(time).ignore();
            }
        }
        self.ask::<()>(&all).await
    }

    /// Has the others count this node no more.
    ///
    /// # Errors
    /// When the store does not answer, or does not take it.
    pub async fn leave(&mut self, node: &str) -> Result<(), StoreFault> {
        let [nodes, ..] = self.keys();
        let mut all = redis::pipe();
        all.cmd("HDEL").arg(&nodes).arg(node).ignore();
        self.ask::<()>(&all).await
    }

    /// What nodes know of peers, by the name of the pair.
    ///
    /// # Errors
    /// When the store does not answer, or not so.
    pub async fn peers(&mut self) -> Result<BTreeMap<String, String>, StoreFault> {
        let key = self.peers_key();
        let mut size = redis::pipe();
        size.cmd("HLEN").arg(&key);
        let (many,): (usize,) = self.ask(&size).await?;
        if many > MOST_PEERS {
            return Err(StoreFault::Foreign(format!("{many} records of peers")));
        }
        let mut all = redis::pipe();
        all.cmd("HGETALL").arg(&key);
        let (peers,): (BTreeMap<String, String>,) = self.ask(&all).await?;
        Ok(peers)
    }

    /// What nodes have come to know of peers that no rule holds, from this entry of the row on, with it, or from the beginning.
    ///
    /// # Errors
    /// When the store does not answer, or not so.
    pub async fn noted(&mut self, from: Option<&str>) -> Result<Noted, StoreFault> {
        let key = self.noted_key();
        let mut all = redis::pipe();
        all.cmd("XRANGE").arg(&key).arg(from.unwrap_or("-")).arg("+").arg("COUNT").arg(NOTED);
        let (row,): (Row,) = self.ask(&all).await?;
        let is_all = row.len() < NOTED;
        Ok(Noted { entries: texts(row), is_all })
    }

    /// Has the others know this of peers: of those that a rule holds, and of the rest.
    ///
    /// # Errors
    /// When the store does not answer, or does not take it.
    pub async fn share_peers(
        &mut self,
        held: &[(String, String)],
        noted: &[(String, String)],
    ) -> Result<(), StoreFault> {
        let (key, row) = (self.peers_key(), self.noted_key());
        let mut all = redis::pipe();
        for (pair, record) in held {
            all.cmd("HSET").arg(&key).arg(pair).arg(record).ignore();
        }
        for (_, record) in noted {
            add(&mut all, &row, MOST_PEERS, record);
        }
        for (key, said) in [(&key, held), (&row, noted)] {
            if !said.is_empty() {
                all.cmd("EXPIRE").arg(key).arg(YEAR).ignore();
            }
        }
        self.ask::<()>(&all).await
    }

    fn peers_key(&self) -> String {
        format!("gatehouse:{{{}}}:peers", self.params.name)
    }

    fn noted_key(&self) -> String {
        format!("gatehouse:{{{}}}:peers-noted", self.params.name)
    }

    /// Says what this node answers to a question.
    ///
    /// # Errors
    /// When the store does not answer, or does not take it.
    pub async fn answer(&mut self, question: &str, node: &str, text: &str) -> Result<(), StoreFault> {
        let key = self.answers_key(question);
        let mut all = redis::pipe();
        all.cmd("HSET").arg(&key).arg(node).arg(text).ignore();
        all.cmd("EXPIRE").arg(&key).arg(ANSWERED).ignore();
        self.ask::<()>(&all).await
    }

    /// What nodes have answered to it so far, by their names.
    ///
    /// # Errors
    /// When the store does not answer, or not so.
    pub async fn answers(&mut self, question: &str) -> Result<BTreeMap<String, String>, StoreFault> {
        let key = self.answers_key(question);
        let mut size = redis::pipe();
        size.cmd("HLEN").arg(&key);
        let (many,): (usize,) = self.ask(&size).await?;
        if many > MOST_NODES {
            return Err(StoreFault::Foreign(format!("{many} answers")));
        }
        let mut all = redis::pipe();
        all.cmd("HGETALL").arg(&key);
        let (answers,): (BTreeMap<String, String>,) = self.ask(&all).await?;
        Ok(answers)
    }

    fn answers_key(&self, question: &str) -> String {
        format!("gatehouse:{{{}}}:answers:{question}", self.params.name)
    }

    /// The keys of nodes, bans, events, counts and quarantine. What stands in braces decides the slot of a cluster.
    fn keys(&self) -> [String; 5] {
        ["nodes", "bans", "events", "counts", "quarantine"]
            .map(|word| format!("gatehouse:{{{}}}:{word}", self.params.name))
    }

    async fn ask<T: FromRedisValue>(&mut self, all: &Pipeline) -> Result<T, StoreFault> {
        let late = || StoreFault::Silent(format!("no answer within {} s", PATIENCE.as_secs()));
        let mut link = match self.link.take() {
            Some(link) => link,
            None => tokio::time::timeout(PATIENCE, connect(&self.params))
                .await
                .map_err(|_late| late())?
                .map_err(fault)?,
        };
        let asked = async {
            match &mut link {
                Link::One(connection) => all.query_async(connection).await,
                Link::Cluster(shards) => shards.ask(all).await,
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_late| late())?;
        let answer = answer.map_err(fault);
        // What said no can be asked again; what said nothing is called anew.
        if !matches!(answer, Err(StoreFault::Silent(_))) {
            self.link = Some(link);
        }
        answer
    }
}

async fn connect(params: &Params) -> Result<Link, RedisError> {
    let address = &params.address;
    let urls: Vec<String> = address.hosts.iter().map(|host| address.url(host)).collect();
    let times = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let roots = || TlsCertificates { client_tls: None, root_cert: params.roots.clone() };
    match &address.kind {
        Layout::Single(number) => {
            let url = urls.into_iter().next().unwrap_or_default();
            let info = url.as_str().into_connection_info()?;
            let login = login(params, info.redis_settings().clone()).set_db(i64::from(*number));
            let info = info.set_redis_settings(login);
            let client = match address.tls {
                true => Client::build_with_tls(info, roots())?,
                false => Client::open(info)?,
            };
            Ok(Link::One(client.get_multiplexed_async_connection_with_config(&times).await?))
        }
        Layout::Sentinel(name) => {
            // The sentinels are asked without a name; the server that they name has the user and the password.
            let sentinels = address.hosts.iter().cloned().map(|(host, port)| match address.tls {
                true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
                false => ConnectionAddr::Tcp(host, port),
            });
            let mut made = SentinelClientBuilder::new(sentinels, name, SentinelServerType::Master)?;
            if let Some(user) = &address.user {
                made = made.set_client_to_redis_username(user);
            }
            if let Some(password) = &params.password {
                made = made.set_client_to_redis_password(password);
            }
            if address.tls {
                made = made
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_redis_certificates(roots())
                    .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                    .set_client_to_sentinel_certificates(roots());
            }
            Ok(Link::One(made.build()?.get_async_connection_with_config(&times).await?))
        }
        Layout::Cluster => {
            let made = || {
                let mut made = ClusterClient::builder(urls.clone())
                    .connection_timeout(PATIENCE)
                    .response_timeout(PATIENCE);
                if let Some(user) = &address.user {
                    made = made.username(user);
                }
                if let Some(password) = &params.password {
                    made = made.password(password);
                }
                if address.tls {
                    made = made.certs(roots());
                }
                made
            };
            Ok(Link::Cluster(Box::new(Shards::connect(made).await?)))
        }
    }
}

fn login(params: &Params, mut info: redis::RedisConnectionInfo) -> redis::RedisConnectionInfo {
    if let Some(user) = &params.address.user {
        info = info.set_username(user);
    }
    if let Some(password) = &params.password {
        info = info.set_password(password);
    }
    // So that its rights need not name the command.
    info.set_skip_set_lib_name()
}

/// One more entry of a row, of which about so many are kept.
fn add(all: &mut Pipeline, row: &str, most: usize, text: &str) {
    all.cmd("XADD").arg(row).arg("MAXLEN").arg("~").arg(most).arg("*").arg("e").arg(text).ignore();
}

fn texts(row: Row) -> Vec<(String, String)> {
    row.into_iter().filter_map(|(name, fields)| Some((name, fields.into_iter().nth(1)?))).collect()
}

/// Words of the store are capped: it may hold anything.
fn fault(error: RedisError) -> StoreFault {
    let text: String = error.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
    let lower = text.to_lowercase();
    let known = REMEDIES.iter().find(|(word, _)| lower.contains(word));
    let text = known.map_or_else(|| text.clone(), |(_, remedy)| format!("{remedy} ({text})"));
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
            StoreFault::Refused(text)
        }
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => StoreFault::Foreign(text),
        _ => StoreFault::Silent(text),
    }
}

/// What a store says that refuses, and what to do about it.
const REMEDIES: [(&str, &str); 8] = [
    (
        "ask: ",
        "a slot of it moves, to a node that does not take us: give our user `+asking` there, as the deployment guide shows",
    ),
    (
        "no permissions",
        "its user lacks a right: give him the line of `aclfile` that the deployment guide shows",
    ),
    (
        "authentication failed",
        "user or password are not its own: compare `cluster: { store, password }` with its users",
    ),
    ("noauth", "it asks for a password: name its file as `cluster: { password }`"),
    ("used memory", "it is full: raise its `maxmemory`, or find out who else fills it"),
    (
        "wrongtype",
        "another program has written to a key of ours: delete that key, or take another `cluster: { name }`",
    ),
    (
        "read only replica",
        "it is a replica: name the server that leads, or its sentinels, as `cluster: { store }`",
    ),
    ("misconf", "it cannot write to its disk: look at its log"),
];

/// Events with their names and fields.
type Row = Vec<(String, Vec<String>)>;

/// How long the store may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nodes and bans beyond which what is there is not ours.
const MOST_NODES: usize = 1000;
const MOST_BANS: usize = 10_000;
const MOST_HELD: usize = 30_000;

/// Records of peers beyond which they are not ours, and about as many as the row of the rest keeps.
const MOST_PEERS: usize = 10_000;

/// Entries of the row of the rest that are read at one time.
const NOTED: usize = 1000;

/// Events that are read at one time, and about as many as are kept.
const EVENTS: usize = 5000;
const MOST_EVENTS: usize = 100_000;

/// The same of counts, which are larger and soon over.
const COUNTS: usize = 200;
const MOST_COUNTS: usize = 500;

/// Seconds after which what nobody writes any more is gone. The longest ban lasts a year.
const ANSWERED: u64 = 30;
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 3600;
const YEAR: u64 = 366 * DAY;
