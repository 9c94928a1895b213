-- Prosody 0.12 or newer behind Gatehouse: plain TCP on both ports, dialback as the only proof between servers.
-- TLS, certificates and the choice of peers are the gateway's trade. The network between the two must be theirs
-- alone: nothing here is encrypted. tests/servers/interop.rs starts Prosody from this very file.
--
-- Fill in:  @DOMAIN@   the domain that users carry in their addresses
--           @ADDRESS@  this machine's address on the inside network
--           @DATA@     where Prosody keeps accounts and rosters, e.g. /var/lib/prosody
--           @GATEWAY@  the gateway's address on the inside network, for the lines with `--proxy`
--           @RUN@      where it puts its pid file and admin socket, e.g. /run/prosody
--
-- The way out: /etc/resolv.conf of this machine names the gateway's steering address (`steering:` in gatehouse.yaml)
-- and nothing else. Firewall port 5269 so that only the gateway reaches it.
--
-- Prosody 0.12 and 13 both start from this file as it stands. To tell Prosody the clients' own addresses, with the module
-- mod_net_proxy (Debian 13: package prosody-modules), write `proxy-protocol: v2` at the gateway and do here
--     sed -i '/--direct/d; s/--proxy //' prosody.cfg.lua

pidfile = "@RUN@/prosody.pid"
admin_socket = "@RUN@/prosody.sock"
data_path = "@DATA@"
log = { info = "*console" }

interfaces = { "@ADDRESS@" }
c2s_ports = { 5222 } --direct
s2s_ports = { 5269 }

-- `tls` must stay out of this list: with it Prosody offers STARTTLS to the gateway and to its clients.
modules_enabled = {
  "roster", "saslauth", "dialback", "disco", "ping", "offline", "carbons", "blocklist", "private", "vcard_legacy", "smacks",
  --proxy "net_proxy",
}
-- The same port takes clients with the header before their stream, and nobody without it; believed is the gateway alone.
--proxy c2s_ports = {}
--proxy proxy_port_mappings = { [5222] = "c2s" }
--proxy proxy_trusted_proxies = { "@GATEWAY@" }

-- Clients arrive over TLS at the gateway and in clear here. Without TLS of its own Prosody offers no channel binding, which
-- is as it must be: the channel is the gateway's.
c2s_require_encryption = false
allow_unencrypted_plain_auth = true

-- A client whose connection breaks may come back to its session for so long, through the gateway as well (`smacks`). Not
-- between servers: there the gateway speaks for itself.
smacks_hibernation_time = 600
smacks_enabled_s2s = false

-- All three: `s2s_secure_auth = true` would demand encryption again.
s2s_require_encryption = false
s2s_secure_auth = false

authentication = "internal_plain"
storage = "internal"

-- Ask whom resolv.conf names, and do not read /etc/hosts. The options are for when the gateway, and its steering with it, was away for
-- minutes: libunbound by itself would wait about as long again before it asks anew.
unbound = { resolvconf = true, hoststxt = false,
  options = { ["infra-host-ttl"] = "1", ["infra-cache-max-rtt"] = "1000" } }

VirtualHost "@DOMAIN@"
