//! What belongs into the server behind, for `gatehouse init --server`: the files of `deploy/`, from which the tests start the
//! real servers, with the addresses filled in; or the settings in words, where the server has no file that could be written.

use std::net::{IpAddr, SocketAddr};

use crate::jid::Domain;
use crate::run::checkup::ServerSoftware;

/// What is filled in.
pub(super) struct Known<'a> {
    /// The domain served.
    pub(super) domain: &'a Domain,
    /// The server's address.
    pub(super) backend: IpAddr,
    /// The gateway's address towards it.
    pub(super) gateway: IpAddr,
    /// The inside listener.
    pub(super) inside: SocketAddr,
    /// Where the gateway answers the server's questions to the DNS.
    pub(super) steering: SocketAddr,
    /// The ports at which the server takes clients and other servers.
    pub(super) ports: (u16, u16),
    /// A secret between the server's own parts, made at random.
    pub(super) secret: &'a str,
}

/// Which release a server is of, where its lines depend on that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Edition {
    /// The oldest that the lines are for: ejabberd 23.01.
    #[default]
    First,
    /// One that knows SASL2: ejabberd 24.12.
    WithSasl2,
}

/// The files, each with its name below the folder of the configuration.
pub(super) fn files(server: ServerSoftware, edition: Edition, known: &Known<'_>) -> Vec<(String, String)> {
    let folder = format!("server-{}", server.label());
    let filled =
        |name: &str, text: &str| (format!("{folder}/{name}"), fill(&of(edition, text), server, known));
    match server {
        ServerSoftware::Ejabberd => vec![
            filled("ejabberd.yml", include_str!("../../../deploy/ejabberd/ejabberd.yml")),
            filled("inetrc", include_str!("../../../deploy/ejabberd/inetrc")),
        ],
        ServerSoftware::Jabberd2 => vec![
            filled("c2s.xml", include_str!("../../../deploy/jabberd2/c2s.xml")),
            filled("router.xml", include_str!("../../../deploy/jabberd2/router.xml")),
            filled("router-users.xml", include_str!("../../../deploy/jabberd2/router-users.xml")),
            filled("s2s.xml", include_str!("../../../deploy/jabberd2/s2s.xml")),
            filled("sm.xml", include_str!("../../../deploy/jabberd2/sm.xml")),
        ],
        ServerSoftware::Mongooseim => vec![filled("mongooseim.toml", MONGOOSEIM)],
        ServerSoftware::Openfire => vec![filled("properties.txt", OPENFIRE)],
        ServerSoftware::Prosody => {
            vec![filled("prosody.cfg.lua", include_str!("../../../deploy/prosody/prosody.cfg.lua"))]
        }
        ServerSoftware::Tigase => vec![filled("settings.txt", TIGASE)],
        ServerSoftware::Wildfire => vec![filled("properties.txt", WILDFIRE)],
    }
}

/// What has to be done besides, in a line.
pub(super) fn step(server: ServerSoftware, known: &Known<'_>) -> String {
    let route = match known.asks_port_53() {
        true => format!(
            "let /etc/resolv.conf of its machine say `nameserver {}` and nothing else",
            known.steering.ip()
        ),
        // On one machine that file is the gateway's own, too, which would then ask itself.
        false if server == ServerSoftware::Prosody => {
            format!("it asks {} for names, and nobody else", known.steering)
        }
        false => format!(
            "leave /etc/resolv.conf as it is, which the gateway needs on the same machine, and give {server} a container or a \
             network namespace of its own, with an address of the gateway there for `steering:`"
        ),
    };
    let folder = format!("server-{}", server.label());
    match server {
        ServerSoftware::Openfire => {
            format!("set the system properties of {folder}/properties.txt in {server}, and restart it")
        }
        ServerSoftware::Mongooseim => {
            format!("take the sections of {folder}/mongooseim.toml over into {server}; {route}")
        }
        ServerSoftware::Wildfire => {
            format!(
                "set the system properties of {folder}/properties.txt in {server}, and restart it; {route}"
            )
        }
        ServerSoftware::Tigase => {
            format!("take the settings of {folder}/settings.txt over into {server}; {route}")
        }
        ServerSoftware::Ejabberd | ServerSoftware::Jabberd2 | ServerSoftware::Prosody => {
            format!(
                "compare the configuration of {server} with {folder}/, which it starts from as it is; {route}"
            )
        }
    }
}

/// The file for servers of this edition: its lines in, those of others out, and the paragraph that tells how to choose too.
fn of(edition: Edition, text: &str) -> String {
    let mut choosing = false;
    let mut lines = String::new();
    for line in text.lines() {
        choosing = line.starts_with("# ejabberd 24.12 needs") || choosing && !line.is_empty();
        let kept = match (line.trim_start().strip_prefix("#24 "), edition) {
            _ if choosing => continue,
            (Some(_), Edition::First) => continue,
            (Some(_), Edition::WithSasl2) => line.replacen("#24 ", "", 1),
            (None, _) => line.to_owned(),
        };
        lines.push_str(&kept);
        lines.push('\n');
    }
    lines
}

fn fill(text: &str, server: ServerSoftware, known: &Known<'_>) -> String {
    let home = server.label();
    let mut text = with_ports(text, known.ports);
    if server == ServerSoftware::Prosody && !known.asks_port_53() {
        let (ip, port) = (known.steering.ip(), known.steering.port());
        let local = format!(
            "unbound = {{ resolvconf = false, hoststxt = false, forward = \"{ip}@{port}\",\n  options = {{ \
             [\"do-not-query-localhost\"] = \"no\","
        );
        let out = "-- The way out: /etc/resolv.conf of this machine names the gateway's steering address (`steering:` in gatehouse.yaml)\n\
                   -- and nothing else. ";
        text = text
            .replace(
                out,
                "-- The way out: `unbound` below asks the gateway's steering answers and nobody else.\n-- ",
            )
            .replace("-- Ask whom resolv.conf names, and do", "-- Ask the gateway alone, and do")
            .replace("unbound = { resolvconf = true, hoststxt = false,\n  options = {", &local);
    }
    text.replace("Fill in: ", "Filled in:")
        .replace("@DOMAIN@", known.domain.as_str())
        .replace("@ADDRESS@", &known.backend.to_string())
        .replace("@GATEWAY@", &known.gateway.to_string())
        .replace("@INSIDE@", &known.inside.to_string())
        .replace("@SECRET@", known.secret)
        .replace("@DATA@", &format!("/var/lib/{home}"))
        .replace("@DATABASE@", &format!("/var/lib/{home}/{home}.db"))
        .replace("@CONFIG@", &format!("/etc/{home}"))
        .replace("@MODULES@", &format!("/usr/lib/{}-linux-gnu/{home}", std::env::consts::ARCH))
        .replace("@RUN@", &format!("/run/{home}"))
}

impl Known<'_> {
    /// Whether a resolver that knows addresses alone can ask for names there.
    fn asks_port_53(&self) -> bool {
        self.steering.port() == 53
    }
}

/// The text with these ports where it has the usual ones, for clients and for servers.
fn with_ports(text: &str, (clients, servers): (u16, u16)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let (number, after) = from.split_at(from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len()));
        out.push_str(before);
        match number {
            "5222" => out.push_str(&clients.to_string()),
            "5269" => out.push_str(&servers.to_string()),
            _ => out.push_str(number),
        }
        rest = after;
    }
    out + rest
}

const OPENFIRE: &str = "\
# Openfire for @DOMAIN@ behind the gateway: Server Manager, System Properties. Restart it afterwards.
xmpp.server.tls.policy=disabled
xmpp.server.dialback.enabled=true
xmpp.client.tls.policy=disabled
xmpp.socket.ssl.active=false
xmpp.server.socket.ssl.active=false
sasl.mechs=PLAIN,SCRAM-SHA-1
stream.management.active=true
xmpp.server.session.idle=3600000
xmpp.socket.plain.port=5222
xmpp.server.socket.port=5269
# 4.7 only: without it one session outward is set up at a time.
xmpp.server.outgoing.min.threads=20
# The route outward, read at start: every other domain is at the gateway's inside listener.
dnsutil.dnsOverride={*,@INSIDE@}
# Firewall 5222 and 5269 of this machine so that only @GATEWAY@ reaches them.
";

const WILDFIRE: &str = "\
# Wildfire for @DOMAIN@ behind the gateway: Admin Console, System Properties. Restart it afterwards.
xmpp.server.tls.enabled=false
xmpp.server.dialback.enabled=true
xmpp.client.tls.policy=disabled
xmpp.socket.ssl.active=false
xmpp.server.session.idle=3600000
xmpp.socket.plain.port=5222
xmpp.server.socket.port=5269
# The route outward: /etc/resolv.conf of this machine names @GATEWAY@ and nothing else.
# Firewall 5222 and 5269 of this machine so that only @GATEWAY@ reaches them.
";

const MONGOOSEIM: &str = "\
# MongooseIM for @DOMAIN@ behind the gateway: sections of its mongooseim.toml. No release of it was run with them: they were read in
# its sources (5.x, 6.x), and `deploy/mongooseim` says more.
[general]
  hosts = [\"@DOMAIN@\"]

[[listen.c2s]]
  port = 5222
  ip_address = \"@ADDRESS@\"
  access = \"c2s\"
  max_stanza_size = 524288
  # No section `tls`.

[[listen.s2s]]
  port = 5269
  ip_address = \"@ADDRESS@\"
  max_stanza_size = 524288
  # No section `tls`.

[s2s]
  default_policy = \"allow\"
  max_retry_delay = 3
  # 5.x, and 6.x before the last: use_starttls = \"false\"

# The route outward: /etc/resolv.conf of this machine names @GATEWAY@ and nothing else.
# Firewall 5222 and 5269 of this machine so that only @GATEWAY@ reaches them.
";

const TIGASE: &str = "\
# Tigase for @DOMAIN@ behind the gateway: etc/config.tdsl, and the item of the domain in the database.
# `tls-required` of the virtual host AND of the domain's own item: the two are or-ed.
'tls-required' = false
# It locks by address, which is the gateway's.
'brute-force-lock' (active: false) {}
# Each connection outward would wait 2 s.
s2s { connectionDelay = 0L }
# The route outward: /etc/resolv.conf of this machine names @GATEWAY@ and nothing else.
# Firewall 5222 and 5269 of this machine so that only @GATEWAY@ reaches them.
";

#[cfg(test)]
mod tests {
    use super::*;

    // A word that nobody fills in would stand in the server's configuration as it is.
    #[test]
    fn every_word_of_every_file_is_filled_in() {
        let domain = Domain::parse("hall.example").unwrap();
        let known = Known {
            domain: &domain,
            backend: "10.0.0.5".parse().unwrap(),
            gateway: "10.0.0.1".parse().unwrap(),
            inside: "10.0.0.1:15269".parse().unwrap(),
            steering: "10.0.0.1:53".parse().unwrap(),
            ports: (5222, 5269),
            secret: "0123456789abcdef",
        };
        for (server, edition) in ServerSoftware::ALL
            .iter()
            .flat_map(|server| [Edition::First, Edition::WithSasl2].map(|e| (server, e)))
        {
            let files = files(*server, edition, &known);
            assert!(files.iter().any(|(_, text)| text.contains("hall.example")), "{server}");
            for (name, text) in &files {
                for line in text.lines().filter(|line| !line.contains("Filled in")) {
                    let words: Vec<&str> = line.split('@').collect();
                    let left = words
                        .windows(3)
                        .any(|w| w[1].len() > 2 && w[1].bytes().all(|b| b.is_ascii_uppercase()));
                    assert!(!left, "{name}: {line}");
                }
            }
            let newer = files
                .iter()
                .any(|(_, text)| text.contains("\ndisable_sasl_scram_downgrade_protection: true"));
            assert_eq!(newer, *server == ServerSoftware::Ejabberd && edition == Edition::WithSasl2);
            assert!(!files.iter().any(|(_, text)| text.contains("#24")), "a choice is left to the reader");
            assert!(step(*server, &known).contains(server.name()));
        }
    }

    // On one machine: the server listens where the gateway calls it, and not where the gateway listens; and nobody is told to
    // put the steering answers into the resolver that the gateway itself asks.
    #[test]
    fn a_server_on_the_same_machine_is_given_its_ports_and_its_own_way_out() {
        let domain = Domain::parse("hall.example").unwrap();
        let known = Known {
            domain: &domain,
            backend: "127.0.0.1".parse().unwrap(),
            gateway: "127.0.0.1".parse().unwrap(),
            inside: "127.0.0.1:15269".parse().unwrap(),
            steering: "127.0.0.1:15353".parse().unwrap(),
            ports: (25222, 25269),
            secret: "0123456789abcdef",
        };
        for server in [
            ServerSoftware::Ejabberd,
            ServerSoftware::Jabberd2,
            ServerSoftware::Openfire,
            ServerSoftware::Prosody,
        ] {
            let text: String =
                files(server, Edition::First, &known).into_iter().map(|(_, text)| text).collect();
            let numbers: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).collect();
            assert!(!numbers.contains(&"5222") && !numbers.contains(&"5269"), "{server}: {text}");
            assert!(numbers.contains(&"25222") && numbers.contains(&"25269"), "{server}: {text}");
            assert!(!step(server, &known).contains("say `nameserver"), "{server}");
        }
        let prosody = files(ServerSoftware::Prosody, Edition::First, &known).remove(0).1;
        assert!(
            prosody.contains("forward = \"127.0.0.1@15353\"") && !prosody.contains("resolv.conf"),
            "{prosody}"
        );
    }
}
