//! The DNS of the open network: unbound answering from its own table, and nothing beyond it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::world::{Host, Process};
use super::write;

/// Which address serves which domain.
pub struct Zone<'a> {
    /// The XMPP domain.
    pub domain: &'a str,
    /// Where its server listens, at port 5269; none: the domain is there, and has no server.
    pub address: Option<Ipv4Addr>,
}

/// Starts unbound at that address of the host with an SRV and an A record for each zone.
pub fn start(host: &Host, address: Ipv4Addr, zones: &[Zone<'_>]) -> Process {
    let mut table = String::new();
    for Zone { domain, address } in zones {
        let Some(address) = address else {
            let _ = writeln!(table, "  local-data: '{domain}. 60 IN TXT \"nothing but mail\"'");
            continue;
        };
        let _ = writeln!(
            table,
            "  local-data: \"_xmpp-server._tcp.{domain}. 60 IN SRV 0 0 5269 xmpp.{domain}.\""
        );
        let _ = writeln!(table, "  local-data: \"xmpp.{domain}. 60 IN A {address}\"");
    }
    let path = host.directory().join("unbound.conf");
    let text = format!(
        "server:\n  interface: {address}\n  access-control: 0.0.0.0/0 allow\n  use-syslog: no\n  chroot: \"\"\n  \
         username: \"\"\n  pidfile: \"\"\n  directory: \"{}\"\n  do-ip6: no\n  num-threads: 1\n  \
         module-config: \"iterator\"\n  log-queries: yes\n  local-zone: \".\" static\n{table}remote-control:\n  \
         control-enable: no\n",
        host.directory().display()
    );
    write(&path, &text);
    let mut process = host.spawn("unbound", "unbound", &["-d", "-c", &path.to_string_lossy()], &[]);
    process.listening(host, SocketAddr::new(IpAddr::V4(address), 53), Duration::from_secs(10));
    process
}
