//! One connection to the store, made anew when it is lost.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline,
    RedisError, TlsCertificates, TlsMode,
};

use super::{Fault, Heard, Kind, Params, Said};

/// The store, as one node sees it.
pub struct Store {
    params: Params,
    link: Option<Link>,
}

enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
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

    /// What the others have said; of the events, those after the one with this name, or since this time of its own if it is
    /// a number of milliseconds since 1970.
    ///
    /// # Errors
    /// When the store does not answer, or not so.
    pub async fn read(&mut self, after: &str) -> Result<Heard, Fault> {
        let [nodes, bans, events] = self.keys();
        let mut sizes = redis::pipe();
        sizes.cmd("HLEN").arg(&nodes).cmd("HLEN").arg(&bans);
        let (many, banned): (usize, usize) = self.ask(&sizes).await?;
        if many > MOST_NODES || banned > MOST_BANS {
            return Err(Fault::Foreign(format!("{many} nodes and {banned} bans")));
        }
        let mut all = redis::pipe();
        all.cmd("HGETALL").arg(&nodes).cmd("HGETALL").arg(&bans);
        let after = format!("({after}");
        all.cmd("XRANGE").arg(&events).arg(after).arg("+").arg("COUNT").arg(EVENTS);
        type Row = Vec<(String, Vec<String>)>;
        let (nodes, bans, row): (_, _, Row) = self.ask(&all).await?;
        let event = |(name, fields): (String, Vec<String>)| Some((name, fields.into_iter().nth(1)?));
        Ok(Heard { nodes, bans, events: row.into_iter().filter_map(event).collect() })
    }

    /// Has the others hear this.
    ///
    /// # Errors
    /// When the store does not answer, or does not take it.
    pub async fn write(&mut self, said: &Said) -> Result<(), Fault> {
        let [nodes, bans, events] = self.keys();
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
        for event in &said.events {
            all.cmd("XADD")
                .arg(&events)
                .arg("MAXLEN")
                .arg("~")
                .arg(MOST_EVENTS)
                .arg("*")
                .arg("e")
                .arg(event)
                .ignore();
        }
        if !said.events.is_empty() {
            all.cmd("EXPIRE").arg(&events).arg(DAY).ignore();
        }
        self.ask::<()>(&all).await
    }

    /// The keys of nodes, bans and events. What stands in braces decides the slot of a cluster.
    fn keys(&self) -> [String; 3] {
        ["nodes", "bans", "events"].map(|word| format!("gatehouse:{{{}}}:{word}", self.params.name))
    }

    async fn ask<T: FromRedisValue>(&mut self, all: &Pipeline) -> Result<T, Fault> {
        let late = || Fault::Silent(format!("no answer within {} s", PATIENCE.as_secs()));
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
                Link::Cluster(connection) => all.query_async(connection).await,
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_late| late())?;
        let answer = answer.map_err(fault);
        // What said no can be asked again; what said nothing is called anew.
        if !matches!(answer, Err(Fault::Silent(_))) {
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
        Kind::Single(number) => {
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
        Kind::Sentinel(name) => {
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
        Kind::Cluster => {
            let mut made = ClusterClient::builder(urls)
                .retries(1)
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
            Ok(Link::Cluster(made.build()?.get_async_connection().await?))
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

/// Words of the store are capped: it may hold anything.
fn fault(error: RedisError) -> Fault {
    let text: String = error.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => Fault::Refused(text),
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => Fault::Foreign(text),
        _ => Fault::Silent(text),
    }
}

/// How long the store may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nodes and bans beyond which what is there is not ours.
const MOST_NODES: usize = 1000;
const MOST_BANS: usize = 10_000;

/// Events that are read at one time, and about as many as are kept.
const EVENTS: usize = 5000;
const MOST_EVENTS: usize = 100_000;

/// Seconds after which what nobody writes any more is gone. The longest ban lasts a year.
const DAY: u64 = 24 * 3600;
const YEAR: u64 = 366 * DAY;
