//! The whole small world: folder, configuration, certificates, DNS, backend and the gateway between them.
//!
//! The gateway is started as `gatehouse run` starts it: from a configuration file, by the same code.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Account, Client};
use super::gate::Gate;
use super::legacy::{Habit, Legacy, PASSWORD};
use super::names::Names;
use super::peer::{AddressBook, Manner, Peer};
use super::pki::{Authority, Identity, Leaf};
use super::session::Call;
use super::{PATIENCE, Told, Trouble, dial, free, held, token};

/// A domain behind the gateway.
#[derive(Clone, Debug)]
pub struct Hosted {
    /// Its name.
    pub name: String,
    /// `any`, `listed` or `none`.
    pub federation: String,
    /// The content of its policy file; without one it has none.
    pub policy: Option<String>,
}

/// What the world is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The domains behind the gateway, all at one backend.
    pub hosted: Vec<Hosted>,
    /// Whose habits the backend has.
    pub habit: Habit,
    /// How the backend's own keys are believed: `by-address` or `verify`.
    pub dialback_keys: &'static str,
    /// `backend: { check }`: off, so that the backend hears from its callers only, unless a test looks at just that.
    pub check: &'static str,
    /// Further keys of `backend:`, each behind a comma, as written in the file.
    pub backend: String,
    /// Entries of `timeouts:`.
    pub timeouts: Vec<(&'static str, String)>,
    /// Entries of `limits:`.
    pub limits: Vec<(&'static str, String)>,
    /// Entries of `dns: { routes: [..] }`, as written in the file.
    pub routes: Vec<String>,
    /// The level of the log.
    pub log: &'static str,
    /// Further keys of the file, as written there.
    pub more: String,
}

impl Plan {
    /// One hosted domain that federates with whom this policy lists.
    pub fn listed(name: &str, policy: &str) -> Self {
        Self {
            hosted: vec![Hosted {
                name: name.to_owned(),
                federation: "listed".to_owned(),
                policy: Some(policy.to_owned()),
            }],
            habit: Habit::Ejabberd,
            dialback_keys: "by-address",
            check: "off",
            backend: String::new(),
            // A server that comes back is to be found again within a test's patience.
            timeouts: vec![("retry-first", "2s".to_owned())],
            limits: Vec::new(),
            routes: Vec::new(),
            log: "error",
            more: String::new(),
        }
    }

    /// One hosted domain that federates with everybody.
    pub fn open(name: &str) -> Self {
        let mut plan = Self::listed(name, "");
        plan.hosted = vec![Hosted { name: name.to_owned(), federation: "any".to_owned(), policy: None }];
        plan
    }

    /// Another hosted domain beside it.
    #[must_use]
    pub fn and(mut self, name: &str, federation: &str, policy: Option<&str>) -> Self {
        self.hosted.push(Hosted {
            name: name.to_owned(),
            federation: federation.to_owned(),
            policy: policy.map(str::to_owned),
        });
        self
    }

    /// Another habit of the backend.
    #[must_use]
    pub fn habit(mut self, habit: Habit) -> Self {
        self.habit = habit;
        self
    }

    /// One more key of the backend.
    #[must_use]
    pub fn backend(mut self, name: &str, value: &str) -> Self {
        self.backend.push_str(&format!(", {name}: {value}"));
        self
    }

    /// A timer other than usual.
    #[must_use]
    pub fn timeout(mut self, name: &'static str, value: &str) -> Self {
        self.timeouts.push((name, value.to_owned()));
        self
    }

    /// Further keys of the file, as written there.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self
    }

    /// A limit other than usual.
    #[must_use]
    pub fn limit(mut self, name: &'static str, value: &str) -> Self {
        self.limits.push((name, value.to_owned()));
        self
    }
}

/// Where the gateway of this world is to be found.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Streams from other servers, STARTTLS.
    pub public: SocketAddr,
    /// Streams from other servers, direct TLS.
    pub direct: SocketAddr,
    /// Clients, STARTTLS.
    pub clients: SocketAddr,
    /// Streams from the backend.
    pub inside: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
}

/// A folder that goes when the world goes.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Told<Self> {
        let path = std::env::temp_dir().join(format!("gatehouse-{}", token()?));
        fs::create_dir_all(path.join("pki"))?;
        fs::create_dir_all(path.join("policies"))?;
        Ok(Self(path))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of that folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A world that runs.
pub struct World {
    /// The gateway.
    pub gate: Gate,
    /// Where it is to be found.
    pub at: Addresses,
    /// The backend.
    pub legacy: Legacy,
    /// The DNS server.
    pub names: Names,
    /// The authority that everybody trusts.
    pub authority: Arc<Authority>,
    /// The configuration file.
    pub config: PathBuf,
    /// Who serves the gateway's domains, for the peers.
    pub book: AddressBook,
    /// The folder of all files.
    pub folder: Scratch,
    network: [u8; 2],
}

impl World {
    /// Builds the world and starts everything in it.
    pub async fn build(plan: &Plan) -> Told<Self> {
        let mut network = [0u8; 2];
        getrandom::fill(&mut network).map_err(|e| Trouble(format!("no randomness: {e}")))?;
        let [second, third] = network;
        let network = [64 + second % 128, third];
        let ip = |host| address(network, host);
        let folder = Scratch::new()?;
        let authority = Arc::new(Authority::new("Small World Root")?);
        let names = Names::start(ip(53)).await?;
        let at = Addresses {
            public: free(ip(1), 5269).await?,
            direct: free(ip(1), 5270).await?,
            clients: free(ip(1), 5222).await?,
            inside: free(ip(2), 5269).await?,
            admin: free(ip(1), 9469).await?,
        };
        let domains: Vec<&str> = plan.hosted.iter().map(|h| h.name.as_str()).collect();
        let legacy = Legacy::start(ip(3), &domains, plan.habit, at.inside).await?;
        let book = AddressBook::default();
        for hosted in &plan.hosted {
            held(&book).insert(hosted.name.clone(), at.public);
            names.announce(&hosted.name, Some(at.public), Some(at.direct))?;
            let leaf =
                Leaf::of(&[&idna::domain_to_ascii(&hosted.name).unwrap_or_else(|_| hosted.name.clone())]);
            authority.issue(&leaf)?.write(&folder.path().join("pki"), &hosted.name)?;
            if let Some(policy) = &hosted.policy {
                fs::write(folder.path().join(format!("policies/{}.yaml", hosted.name)), policy)?;
            }
        }
        fs::write(folder.path().join("pki/root.pem"), authority.pem())?;
        let config = folder.path().join("gatehouse.yaml");
        fs::write(&config, configuration(plan, &at, names.address(), (legacy.c2s, legacy.s2s)))?;
        let gate = Gate::start(&config).await?;
        let world = Self { gate, at, legacy, names, authority, config, book, folder, network };
        world.ready().await?;
        Ok(world)
    }

    /// Starts a server in the world for these domains, with a good certificate for them, and announces it in the DNS.
    pub async fn peer(&self, host: u8, domains: &[&str], manner: Manner) -> Told<Peer> {
        let ascii: Vec<String> =
            domains.iter().map(|d| idna::domain_to_ascii(d).unwrap_or_else(|_| (*d).to_owned())).collect();
        let leaf = Leaf::of(&ascii.iter().map(String::as_str).collect::<Vec<_>>());
        let peer = self.peer_with(host, domains, self.authority.issue(&leaf)?, manner).await?;
        for domain in &ascii {
            self.names.announce(domain, Some(peer.address), None)?;
        }
        Ok(peer)
    }

    /// Starts a server with that certificate, of which the DNS knows nothing yet.
    pub async fn peer_with(
        &self,
        host: u8,
        domains: &[&str],
        identity: Identity,
        manner: Manner,
    ) -> Told<Peer> {
        let ip = address(self.network, host);
        Peer::start(self.authority.clone(), ip, domains, identity, manner, self.book.clone()).await
    }

    /// A server that has no certificate to show: dialback is all it has. The DNS knows it.
    pub async fn old_peer(&self, host: u8, domains: &[&str]) -> Told<Peer> {
        self.peer(host, domains, Manner { external: false, ..Manner::default() }).await
    }

    /// A call with direct TLS in place of STARTTLS.
    pub fn directly(&self, mut call: Call, identity: Option<&Identity>) -> Told<Call> {
        call.tls = self.authority.client(identity, true)?;
        (call.direct, call.target) = (true, self.at.direct);
        Ok(call)
    }

    /// Logs a user in at the backend itself.
    pub async fn login(&self, user: &str, domain: &str) -> Told<Client> {
        let source = super::here(address(self.network, 4)).await;
        let account = Account { user, domain, password: PASSWORD };
        Client::login(source.into(), self.legacy.c2s, account).await
    }

    /// Logs a user in through the gateway, with that password, or the right one.
    pub async fn login_from_outside(&self, user: &str, domain: &str, password: Option<&str>) -> Told<Client> {
        let source = super::here(address(self.network, 5)).await;
        let account = Account { user, domain, password: password.unwrap_or(PASSWORD) };
        let tls = self.authority.client(None, false)?;
        Client::login_over_tls(source.into(), self.at.clients, account, tls).await
    }

    /// The control socket of the gateway.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// What the gateway answers to `GET PATH`: status and body.
    pub async fn get(&self, path: &str) -> Told<(u16, String)> {
        let asking = async {
            let mut stream = dial(self.at.admin.ip(), self.at.admin).await?;
            stream
                .write_all(
                    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
                )
                .await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| Trouble::new("no HTTP answer"))?;
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            Ok((status, body.to_owned()))
        };
        tokio::time::timeout(PATIENCE, asking).await.map_err(|_| Trouble::new("no HTTP answer in time"))?
    }

    /// All metrics as they stand.
    pub async fn metrics(&self) -> Told<Metrics> {
        let (status, body) = self.get("/metrics").await?;
        if status != 200 {
            return Err(Trouble(format!("GET /metrics: {status}")));
        }
        Ok(Metrics::read(&body))
    }

    /// Waits until the sum of these series is at least so high; an event is counted a moment after it is seen.
    pub async fn counted(&self, family: &str, labels: &[(&str, &str)], at_least: f64) -> Told<f64> {
        let until = Instant::now() + PATIENCE;
        loop {
            let now = self.metrics().await?;
            let sum = now.sum(family, labels);
            if sum >= at_least {
                return Ok(sum);
            }
            if Instant::now() >= until {
                return Err(Trouble(format!(
                    "{family}{labels:?} is {sum}, not {at_least}; {}",
                    now.list(family)
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ready(&self) -> Told<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let last = match self.get("/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => format!("{status} {body}"),
                Err(trouble) => trouble.0,
            };
            if Instant::now() >= until {
                return Err(Trouble(format!("the gateway does not become ready: {last}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The control socket, in the folder.
const SOCKET: &str = "control.sock";

fn address([second, third]: [u8; 2], host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, second, third, host)
}

fn configuration(plan: &Plan, at: &Addresses, dns: SocketAddr, backend: (SocketAddr, SocketAddr)) -> String {
    let (c2s, s2s) = backend;
    let mut out = format!(
        "version: v1\n\
         listen:\n\
         \x20 - {{ flow: s2s, address: \"{}\" }}\n\
         \x20 - {{ flow: s2s, address: \"{}\", tls: direct }}\n\
         \x20 - {{ flow: c2s, address: \"{}\" }}\n\
         \x20 - {{ flow: inside, address: \"{}\", from: [\"{}/32\"] }}\n\
         domains:\n",
        at.public,
        at.direct,
        at.clients,
        at.inside,
        s2s.ip()
    );
    for hosted in &plan.hosted {
        let name = &hosted.name;
        out.push_str(&format!(
            "\x20 - name: {name}\n\
             \x20   certificate: {{ chain: \"pki/{name}.pem\", key: \"pki/{name}.key\" }}\n\
             \x20   backend: {{ c2s: [\"{c2s}\"], s2s: [\"{s2s}\"], dialback-keys: {}, check: {}{} }}\n\
             \x20   federation: {}\n",
            plan.dialback_keys, plan.check, plan.backend, hosted.federation
        ));
        if hosted.policy.is_some() {
            out.push_str(&format!("\x20   policies: [\"policies/{name}.yaml\"]\n"));
        }
    }
    out.push_str("trust: { roots: pki/root.pem }\n");
    // DNS-05 refuses loopback addresses; the small world has no others.
    out.push_str(&format!(
        "dns: {{ servers: [\"{}\"], allow-networks: [127.0.0.0/8], routes: [{}] }}\n",
        dns,
        plan.routes.join(", ")
    ));
    out.push_str(&format!("admin: {{ http: \"{}\", status: on, socket: {SOCKET} }}\n", at.admin));
    for (section, entries) in [("timeouts", &plan.timeouts), ("limits", &plan.limits)] {
        let entries: Vec<String> = entries.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        out.push_str(&format!("{section}: {{ {} }}\n", entries.join(", ")));
    }
    out.push_str(&format!("log: {{ format: text, level: {} }}\naudit: {{ file: audit.jsonl }}\n", plan.log));
    out.push_str(&plan.more);
    out
}

/// The series of `GET /metrics` at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn read(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// The sum of the series of this family (without the prefix `gatehouse_`) that carry all these labels.
    pub fn sum(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.iter().filter(|(series, _)| fits(series, family, labels)).map(|(_, value)| value).sum()
    }

    /// The series that differ, with the difference.
    pub fn moved(&self, before: &Metrics) -> Vec<(String, f64)> {
        self.0
            .iter()
            .map(|(series, value)| (series.clone(), value - before.0.get(series).copied().unwrap_or(0.0)))
            .filter(|(_, difference)| difference.abs() > f64::EPSILON)
            .collect()
    }

    fn list(&self, family: &str) -> String {
        let family = format!("gatehouse_{family}");
        let lines: Vec<String> = self
            .0
            .iter()
            .filter(|(series, value)| series.starts_with(&family) && **value > 0.0)
            .map(|(series, value)| format!("{series} {value}"))
            .collect();
        format!("there is: {}", lines.join("; "))
    }
}

/// The value of a label in a series.
pub fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let after = series.split_once(&format!("{name}=\"")).map(|(_, after)| after)?;
    after.split_once('"').map(|(value, _)| value)
}

fn fits(series: &str, family: &str, labels: &[(&str, &str)]) -> bool {
    let name = series.split_once('{').map_or(series, |(name, _)| name);
    name.strip_prefix("gatehouse_") == Some(family)
        && labels.iter().all(|(key, value)| label(series, key) == Some(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    // What the world writes is what `gatehouse check` would pass.
    #[test]
    fn the_configuration_is_read_without_a_finding() {
        let folder = Scratch::new().unwrap();
        let port = |port| SocketAddr::from(([127, 1, 2, 3], port));
        let at = Addresses {
            public: port(5269),
            direct: port(5270),
            clients: port(5222),
            inside: port(5271),
            admin: port(9469),
        };
        let plan = Plan::listed("hall.example", "version: v1\n")
            .and("annex.example", "none", None)
            .timeout("dialback", "1s")
            .limit("pairs", "2");
        let path = folder.path().join("gatehouse.yaml");
        let dns = "127.1.2.53:53".parse().unwrap();
        let backend = ("127.1.2.4:5222".parse().unwrap(), "127.1.2.4:5269".parse().unwrap());
        let written = configuration(&plan, &at, dns, backend);
        fs::write(&path, &written).unwrap();
        let findings = crate::config::examine(&path).findings;
        assert!(findings.is_empty(), "{findings:?}\n{written}");
    }

    #[test]
    fn series_are_summed_by_label() {
        let metrics = Metrics::read(
            "# HELP gatehouse_x_total x\ngatehouse_x_total{a=\"1\",b=\"2\"} 3\ngatehouse_x_total{a=\"1\",b=\"3\"} 4\n\
             gatehouse_y 5\n",
        );
        assert!((metrics.sum("x_total", &[("a", "1")]) - 7.0).abs() < 1e-9);
        assert!((metrics.sum("x_total", &[("b", "3")]) - 4.0).abs() < 1e-9);
        assert!((metrics.sum("y", &[]) - 5.0).abs() < 1e-9);
        assert_eq!(metrics.moved(&Metrics::default()).len(), 3);
        assert!(metrics.moved(&metrics).is_empty());
    }
}
