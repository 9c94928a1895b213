-- Prosody as a peer on the open network: TLS required between servers, proof as the test chooses.
pidfile = "@RUN@/prosody.pid"
admin_socket = "@RUN@/prosody.sock"
data_path = "@DATA@"
log = { debug = "*console" }

interfaces = { "@ADDRESS@" }
c2s_ports = { 5222 }
s2s_ports = { 5269 }

modules_enabled = { "roster", "saslauth", "tls", "disco", "ping", "offline", @DIALBACK@ }

-- The test's client is a guest on the server's own machine.
c2s_require_encryption = false
allow_unencrypted_plain_auth = true

s2s_require_encryption = true
s2s_secure_auth = @SECURE_AUTH@

authentication = "internal_plain"
storage = "internal"
-- It is not this server that the tests look at when the DNS was away: libunbound by itself would not ask anew for minutes.
unbound = { resolvconf = true, hoststxt = false,
  options = { ["infra-host-ttl"] = "1", ["infra-cache-max-rtt"] = "1000" } }

ssl = { certificate = "@CHAIN@", key = "@KEY@", cafile = "@ROOTS@" }

VirtualHost "@DOMAIN@"
