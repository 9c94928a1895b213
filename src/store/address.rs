//! Where a store is, as one line of the configuration.

use std::fmt;
use std::str::FromStr;

/// One server, or how to find the one that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One server, and the number of its database.
    Single(u16),
    /// Sentinels, and the name under which they know the server that leads.
    Sentinel(String),
    /// Nodes of a Redis Cluster.
    Cluster,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What is there.
    pub kind: Layout,
    /// Whether it is spoken to by TLS.
    pub tls: bool,
    /// The name of the user, where the store has several.
    pub user: Option<String>,
    /// Hosts and ports; more than one for sentinels and clusters alone.
    pub hosts: Vec<(String, u16)>,
}

impl Address {
    /// The URL of one of its hosts.
    pub(super) fn url(&self, (host, port): &(String, u16)) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{scheme}://{host}:{port}")
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let (base, word) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match base {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(format!("the scheme \"{scheme}\" is not known")),
        };
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match place.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err("a password stands in it, where anybody reads it".to_owned());
            }
            Some((user, hosts)) => (Some(user.to_owned()), hosts),
            None => (None, place),
        };
        let (kind, port) = match (word, path) {
            ("", "") => (Layout::Single(0), 6379),
            ("", number) => (
                Layout::Single(
                    number.parse().map_err(|_| format!("\"{number}\" is no number of a database"))?,
                ),
                6379,
            ),
            ("sentinel", "") => {
                return Err("the name of the server that leads is missing behind the hosts".to_owned());
            }
            ("sentinel", name) if name.len() <= 128 && !name.contains('/') => {
                (Layout::Sentinel(name.to_owned()), 26379)
            }
            ("cluster", "") => (Layout::Cluster, 6379),
            ("cluster", _) => return Err("a Redis Cluster has one database".to_owned()),
            _ => return Err(format!("the scheme \"{scheme}\" is not known")),
        };
        let hosts = hosts.split(',').map(|host| host_of(host, port)).collect::<Result<Vec<_>, _>>()?;
        if matches!(kind, Layout::Single(_)) && hosts.len() > 1 {
            return Err("several hosts are for redis+sentinel:// and redis+cluster://".to_owned());
        }
        Ok(Self { kind, tls, user: user.filter(|user| !user.is_empty()), hosts })
    }
}

fn host_of(text: &str, port: u16) -> Result<(String, u16), String> {
    let no = || format!("\"{text}\" is no host with a port");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, port),
        Some((host, rest)) => {
            (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(no)?)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| no())?),
            None => (text, port),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    match !host.is_empty() && host.len() <= 255 && host.chars().all(plain) && port != 0 {
        true => Ok((host.to_owned(), port)),
        false => Err(no()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = if self.tls { "rediss" } else { "redis" };
        let (word, path) = match &self.kind {
            Layout::Single(0) => ("", String::new()),
            Layout::Single(number) => ("", format!("/{number}")),
            Layout::Sentinel(name) => ("+sentinel", format!("/{name}")),
            Layout::Cluster => ("+cluster", String::new()),
        };
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(
                |(host, port)| {
                    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
                },
            )
            .collect();
        write!(f, "{base}{word}://{user}{}{path}", hosts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_one_server_or_sentinels_or_a_cluster() {
        for (text, written) in [
            ("redis://10.0.0.9", "redis://10.0.0.9:6379"),
            ("rediss://gate@store.example.com:6380/2", "rediss://gate@store.example.com:6380/2"),
            ("valkey://[2001:db8::9]:6379", "redis://[2001:db8::9]:6379"),
            (
                "redis+sentinel://10.0.0.1,10.0.0.2:26380/gate",
                "redis+sentinel://10.0.0.1:26379,10.0.0.2:26380/gate",
            ),
            ("rediss+cluster://a.example,b.example", "rediss+cluster://a.example:6379,b.example:6379"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), written);
        }
        for (text, why) in [
            ("10.0.0.9:6379", "no scheme"),
            ("http://10.0.0.9", "not known"),
            ("redis+other://10.0.0.9", "not known"),
            ("redis://gate:sesame@10.0.0.9", "a password stands in it"),
            ("redis://10.0.0.9,10.0.0.8", "several hosts"),
            ("redis://10.0.0.9/x", "no number of a database"),
            ("redis://", "no host"),
            ("redis://10.0.0.9:0", "no host"),
            ("redis://10.0.0.9:port", "no host"),
            ("redis+sentinel://10.0.0.9", "server that leads"),
            ("redis+cluster://10.0.0.9/1", "one database"),
        ] {
            let said = text.parse::<Address>().unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
