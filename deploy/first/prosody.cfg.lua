-- A first legacy server: Prosody 0.12 or 13 on loopback, plain TCP, dialback only, no root. Its ports are high, so that the
-- gateway has the standard ones. Start it in this folder, as an ordinary user: prosody -F --config prosody.cfg.lua
pidfile = "prosody.pid"
admin_socket = "prosody.sock"
data_path = "data"
certificates = "."  -- there are none, and none are looked for elsewhere
log = { info = "*console" }

interfaces = { "127.0.0.1" }
c2s_ports = { 25222 }
s2s_ports = { 25269 }

-- No `tls` here: the certificates are the gateway's.
modules_enabled = { "roster", "saslauth", "dialback", "disco", "ping", "offline" }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
s2s_require_encryption = false
s2s_secure_auth = false
authentication = "internal_plain"

-- The way out: Prosody asks the gateway's steering answers and nobody else, so every foreign domain leads to the gateway.
unbound = {
    resolvconf = false,
    hoststxt = false,
    forward = "127.0.0.1@15353",
    options = { ["do-not-query-localhost:"] = "no" },
}

VirtualHost "example.com"
