-- A partner to try the first gateway with: a modern server that is partner.example, beside the gateway on the same machine. For
-- service nothing of it is needed. Start it in this folder, as an ordinary user: prosody -F --config partner.cfg.lua
pidfile = "partner.pid"
admin_socket = "partner.sock"
data_path = "partner"
certificates = "."
log = { info = "*console" }

interfaces = { "127.0.0.2" }
c2s_ports = { 35222 }
s2s_ports = { 35269 }

modules_enabled = { "roster", "saslauth", "tls", "dialback", "disco", "ping", "offline" }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
-- It knows no authority that has signed the gateway's certificate, and asks it back for its key.
s2s_secure_auth = false
authentication = "internal_plain"
ssl = { certificate = ENV_PWD .. "/pki/partner.example.pem", key = ENV_PWD .. "/pki/partner.example.key" }

-- Out in the world the DNS says where example.com is; here it is on this machine.
unbound = {
    resolvconf = false,
    hoststxt = false,
    options = { ["local-zone:"] = "example.com. redirect", ["local-data:"] = "example.com. A 127.0.0.1" },
}

VirtualHost "partner.example"
