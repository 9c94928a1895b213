//! `gatehouse.yaml`, exactly as on disk. What is written here may be wrong; [`super::settings`] says how.

use serde::Deserialize;

use super::limits::{LimitsSpec, TimeoutsSpec};
use crate::policy::{Placed, Scalar};

/// A list of words.
pub type Scalars = Placed<Vec<Scalar>>;

/// The whole file. Relative paths are relative to it.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FileSpec {
    /// The version of the format. No default. Example: `version: v1`
    pub version: Option<Scalar>,
    /// More files with `listen`, `domains` (each with its backend, its federation and its `policies`, where rules stand) and a
    /// `certificate` for the domains of that file that name none: they count as if they stood here. Any other key there is an error.
    /// `*` in the last part of a path stands for any letters; a file that comes or goes counts with the next reload. Their paths are
    /// relative to themselves. Default: none. Example: `include: ["domains.d/*.yaml"]`
    pub include: Option<Scalars>,
    /// How many threads do the work, each that of its own connections. From `1` to `1024`. Default: one for each
    /// processor. Example: `threads: 2`
    pub threads: Option<Scalar>,
    /// Where to listen. Default: s2s on `[::]:5269` (STARTTLS) and `[::]:5270` (direct TLS), c2s on `[::]:5222` and
    /// `[::]:5223`; no inside listener. Example: `listen: [{ flow: s2s, address: "[::]:5269" }]`
    pub listen: Option<Placed<Vec<Placed<ListenSpec>>>>,
    /// The certificate of every domain that names none of its own: one certificate with several names is said once. Default: none.
    pub certificate: Option<Placed<CertificateSpec>>,
    /// The domains served here, at least one, here or in files that `include` names. Default: none.
    pub domains: Option<Placed<Vec<Placed<DomainSpec>>>>,
    /// The domain whose name and certificate stand in where a peer names none. Default: none. Example:
    /// `default-domain: example.com`
    pub default_domain: Option<Scalar>,
    /// Domains that were served here once: a stream to one of them hears that it is gone, and not only that it is unknown.
    /// Default: none. Example: `retired-domains: [old.example.com]`
    pub retired_domains: Option<Scalars>,
    /// Addresses at which the world finds this gateway and that no socket here has, as behind an address translation; like
    /// those of this machine and those that the DNS gives the domains served here, they are never dialled but by a route.
    /// Default: none. Example: `own-addresses: [192.0.2.7]`
    pub own_addresses: Option<Scalars>,
    /// Whether users of the backends read why what they sent did not arrive, in words: `on` or `off`, which tells them the
    /// condition alone, and words about the stanza itself (its size, its addresses). Remote servers never hear more than that.
    /// Default: `on`. Example: `explain-to-users: off`
    pub explain_to_users: Option<Scalar>,
    /// Whether one stream between two servers may carry stanzas both ways (XEP-0288), where the other server takes part too: `on`
    /// or `off`, and then each way has a stream of its own. What comes back is judged like what comes on a stream of its own.
    /// Default: `on`. Example: `bidi: off`
    pub bidi: Option<Scalar>,
    /// The mark (DSCP) that the packets of all connections bear, for the routers between, as a number from 0 to 63: `46` is expedited
    /// forwarding. Default: none. Example: `dscp: 18`
    pub dscp: Option<Scalar>,
    /// Lists of domains that somebody else keeps, for rules that ask them (`lists`, `quorum`). Default: none.
    pub lists: Option<Placed<Vec<Placed<ListSpec>>>>,
    /// Files of patches, for all domains: stanzas that a server behind cannot bear, and what becomes of them; `*` in the last part of a
    /// path stands for any letters. Default: none. Example: `patches: ["patches.d/*.yaml"]`
    pub patches: Option<Scalars>,
    /// Dialback. Default: see [`DialbackSpec`].
    pub dialback: Option<Placed<DialbackSpec>>,
    /// What nodes that serve the same domains share beyond secrets. It cannot change while the process lives. Default: nothing.
    pub cluster: Option<Placed<ClusterSpec>>,
    /// Whom to trust. Default: the system's trust anchors.
    pub trust: Option<Placed<TrustSpec>>,
    /// How to find remote servers. Default: the system's resolvers.
    pub dns: Option<Placed<DnsSpec>>,
    /// DNS answers that lead a backend's federation here. Default: off.
    pub steering: Option<Placed<SteeringSpec>>,
    /// Watching and steering the gateway. Default: off.
    pub admin: Option<Placed<AdminSpec>>,
    /// Limits. Default: see each.
    pub limits: Option<Placed<LimitsSpec>>,
    /// Timeouts. Default: see each.
    pub timeouts: Option<Placed<TimeoutsSpec>>,
    /// Logs. Default: text, level info.
    pub log: Option<Placed<LogSpec>>,
    /// Audit records. Default: none.
    pub audit: Option<Placed<AuditSpec>>,
    /// The folder of what outlives a restart: how often and when last each rule and case was used, what was seen of the policy in the
    /// shadow, how remote domains were proven, the last good copy of each list and what lists were fetched, and who is in quarantine. Default:
    /// none, and then that begins anew with each start. Example: `state: /var/lib/gatehouse`
    pub state: Option<Scalar>,
}

/// One of `lists:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ListSpec {
    /// Its name in rules, metrics and logs: letters, digits, `-`, `_` and `.`. No default. Example: `name: spammers`
    pub name: Option<Scalar>,
    /// The file: one domain a line, which stands for all below it, too; what follows `#` says nothing. When it has changed and settled it
    /// is taken over by itself. One that cannot be used is held: what was read before stays. Default: that which `url` fetches; one of the two must be there. Example:
    /// `file: lists/spam.txt`
    pub file: Option<Scalar>,
    /// In place of `file`: from where it is fetched, by HTTPS, from public addresses alone, with at most 128 MiB and five redirects in two
    /// minutes. It lies in the folder `state`. Default: nothing is fetched. Example: `url: https://lists.example/spam.txt`
    pub url: Option<Scalar>,
    /// The time from one fetch to the next, from 5 s to 30 days; after one that came to nothing, a tenth of it, at least a minute where it
    /// is longer. Default: `6h`.
    pub refresh: Option<Scalar>,
    /// `domains`, or `jid-sha256`: a line is the SHA-256, in hexadecimal, of a domain or of a bare address, as it is compared: prepared,
    /// in UTF-8, without resource. A domain stands for all below it. Default: `domains`.
    pub format: Option<Scalar>,
    /// How old the file may be, or the last fetch that came out well; what is older is held. Default: any age. Example: `expires: 72h`
    pub expires: Option<Scalar>,
    /// How much of it may change at once: `third`, what grows or shrinks by more is held; or `any`. Default: `third`.
    pub change: Option<Scalar>,
    /// What must have signed it. Default: nothing.
    pub verify: Option<Placed<VerifySpec>>,
}

/// `verify:` of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct VerifySpec {
    /// A minisign public key, in Base64. The signature lies beside the list, under its name or URL and `.minisig`; without a good one it
    /// is held. No default. Example: `minisign: RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3`
    pub minisign: Option<Scalar>,
}

/// One of `listen:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ListenSpec {
    /// Who connects: `s2s` (remote servers), `c2s` (clients), `websocket` (clients in browsers, RFC 7395, over HTTPS), `mixed`
    /// (all of these on one port, with `tls: direct` or `any`) or `inside` (backends, plain TCP). No default.
    pub flow: Option<Scalar>,
    /// Address and port. An inside listener takes no wildcard address; one that is known at start only can come from the
    /// environment, `"${POD_IP}:5269"`, like any value of this file. No default.
    /// Example: `"[::]:5269"`
    pub address: Option<Scalar>,
    /// `starttls` or `direct`; an inside listener has none. With `flow: mixed` also `any`: whoever begins with TLS is told by
    /// ALPN what it is, and whoever begins with a stream by its namespace. With `flow: websocket` `direct` or `proxy`: TLS ends at
    /// the proxies of `proxy-protocol`, which must be there. Default: `starttls`; with `flow: websocket` `direct`.
    pub tls: Option<Scalar>,
    /// Where clients ask for a WebSocket. With `flow: mixed` it is what makes the listener take them. Default: with `flow:
    /// websocket` `/xmpp-websocket`. Example: `path: /ws`
    pub path: Option<Scalar>,
    /// Sites whose pages may open a WebSocket here, as browsers name them, or `"*"` for all; who names no site is no browser, and
    /// may. Default: `https://` with the name of each domain that takes clients. Example: `origins: ["https://chat.example.com"]`
    pub origins: Option<Scalars>,
    /// Networks of proxies: the PROXY header is then required, and taken from these only. Default: the header is refused.
    /// Example: `proxy-protocol: [192.0.2.0/24]`
    pub proxy_protocol: Option<Scalars>,
    /// Networks of the backends, for an inside listener and required there. No default. Example: `from: [10.0.0.0/24]`
    pub from: Option<Scalars>,
    /// The domain whose certificate is shown to who names no server (no SNI), with `tls: direct`; with STARTTLS the stream names
    /// it. Default: `default-domain`, else the first of `domains` that is served there. Example: `default: example.com`
    pub default: Option<Scalar>,
}

/// One of `domains:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DomainSpec {
    /// The domain; subdomains are listed one by one. No default. Example: `name: example.com`
    pub name: Option<Scalar>,
    /// Its certificate. Default: that of the whole file.
    pub certificate: Option<Placed<CertificateSpec>>,
    /// The server behind the gateway. No default.
    pub backend: Option<Placed<BackendSpec>>,
    /// What its clients must show beside their password. Default: nothing.
    pub clients: Option<Placed<ClientsSpec>>,
    /// `any`; `quarantine`: whom no rule names may say a little until he is approved; `listed` or `none`. No default.
    pub federation: Option<Scalar>,
    /// Addresses of this machine from which to call other servers for this domain, one of each family; what has none is not
    /// called. Default: the system's choice. Example: `source: [192.0.2.1]`
    pub source: Option<Scalars>,
    /// Policy files; `*` in the last part of a path stands for any letters. Default: none. Example: `policies:
    /// ["policies.d/*.yaml"]`
    pub policies: Option<Scalars>,
    /// Policy files that are judged beside those of `policies`, on every question, and never acted upon: `gatehouse policy shadow`
    /// tells what they would decide otherwise, `gatehouse policy promote` makes them the policy. Default: none; with
    /// `shadow-federation` alone those of `policies`. Example: `shadow: [policies/next.yaml]`
    pub shadow: Option<Scalars>,
    /// The `federation` under which they are judged: `any`, `quarantine`, `listed` or `none`. Default: that of the domain. Example:
    /// `shadow-federation: listed`
    pub shadow_federation: Option<Scalar>,
}

/// `clients:` of a domain.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ClientsSpec {
    /// Whether clients are asked for a certificate: `off`; `request`, and who shows one is held to it; or `require`, and nobody
    /// logs in without. Their server still asks for the password. Default: `off`.
    pub certificate: Option<Scalar>,
    /// PEM file with the authorities that issue these certificates; no others count. Needed with `request` and `require`.
    /// Default: none. Example: `roots: pki/staff-ca.pem`
    pub roots: Option<Scalar>,
    /// Files of their certificate revocation lists, PEM or DER. Default: none, and then revocation is not checked. Example:
    /// `crls: [pki/staff.crl]`
    pub crls: Option<Scalars>,
    /// Which of its names must be the account: `xmpp-address` (xmppAddr of RFC 6120), `email` (rfc822Name) or `any`: xmppAddr
    /// where there is one, else the mail address. It must name exactly one account of the domain. Default: `xmpp-address`.
    pub r#match: Option<Scalar>,
}

/// `certificate:` of a domain.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CertificateSpec {
    /// PEM file with the certificate, then its issuers. No default. Example: `chain: pki/example.com.pem`
    pub chain: Option<Scalar>,
    /// PEM file with the private key, readable by the gateway alone. No default. Example: `key: pki/example.com.key`
    pub key: Option<Scalar>,
}

/// `backend:` of a domain.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BackendSpec {
    /// Addresses for clients, tried in order; a host name is looked up by the system, again every 15 s. Default: none. Example:
    /// `c2s: ["10.0.0.5:5222"]`
    pub c2s: Option<Scalars>,
    /// Addresses for federation, tried in order; a host name is looked up by the system, again every 15 s. Default: none. Example:
    /// `s2s: ["10.0.0.5:5269"]`
    pub s2s: Option<Scalars>,
    /// The PROXY header on c2s connections to the backend: `off`, `v1` or `v2`. Default: `off`.
    pub proxy_protocol: Option<Scalar>,
    /// The PROXY header on s2s connections to the backend: `off`, or `v2` where its server, or a proxy in front of it, reads one on
    /// each. One that brings a remote server has that server's address, TLS and our name for the connection, and in values of
    /// type 0xE0, 0xE1 and 0xE2 the domain that was proven, by what (`certificate`, `dane`, `dialback`, `pin`), and the rule that
    /// lets it in, whichever pair of that server's stream it is for. Of a server that answers on a stream of ours (XEP-0288) it is the
    /// address that was called, and as AUTHORITY the hosted domain. One that the gateway opens of its own accord names the gateway,
    /// and has none of these. Default: `off`.
    pub s2s_proxy_protocol: Option<Scalar>,
    /// SASL mechanisms that clients may use, of those that the backend offers. Default: `HT-SHA-256-NONE`,
    /// `HT-SHA-512-NONE`, `OAUTHBEARER`, `PLAIN`, `SCRAM-SHA-1`, `SCRAM-SHA-256`, `SCRAM-SHA-512`. Example:
    /// `mechanisms: [SCRAM-SHA-256, SCRAM-SHA-1]`
    pub mechanisms: Option<Scalars>,
    /// Channel binding between clients and the backend: `none` is the one value of this version; the backend must have
    /// its own channel binding switched off. Default: `none`.
    pub channel_binding: Option<Scalar>,
    /// Whether clients may make accounts at the backend (in-band registration): `on` or `off`. None is made where
    /// `clients: { certificate: require }` holds. Default: `off`.
    pub register: Option<Scalar>,
    /// Namespaces of stream features of the backend that clients see after the login beside the usual ones; for features
    /// that are used by stanzas alone, since no other element passes. Default: none. Example:
    /// `features: ["urn:xmpp:example:0"]`
    pub features: Option<Scalars>,
    /// How the backend's own dialback keys are believed: `by-address` (it came from the inside network, see `from`) or
    /// `verify` (asked back at its s2s address). Default: `by-address`.
    pub dialback_keys: Option<Scalar>,
    /// Networks that its server calls from, where it is believed by its address. Default: where all domains have one
    /// server, whatever the inside listener takes; else the addresses of this backend. Example: `from: [10.0.0.5]`
    pub from: Option<Scalars>,
    /// How long its server waits for an answer to its own dialback key, as it is configured there. The gateway answers a
    /// second earlier, however far it has come with the remote server. Default: `30s`.
    pub dialback_timeout: Option<Scalar>,
    /// Whether its server may send to several remote domains over one stream: `on` or `off`. With `off` on every domain the
    /// inside listener does not announce dialback errors, and a server that heeds XEP-0220 opens a stream for each. Pairs
    /// stand and fall one by one either way. Default: `on`.
    pub multiplex: Option<Scalar>,
    /// How often the gateway looks whether the server answers a stream, on each side; `off`: never, and what callers meet tells.
    /// From `1s` to `1h`. Default: `30s`. Example: `check: off`
    pub check: Option<Scalar>,
    /// The largest stanza that the server takes, at least 10000B. Peers and clients are told the smaller of this and `limits: {
    /// stanza }` (XEP-0478), and what is larger comes back to its sender. Default: what the gateway takes. Example: `stanza:
    /// 64KiB`.
    pub stanza: Option<Scalar>,
    /// Which server it is, for what it takes: `ejabberd`, `jabberd2`, `mongooseim`, `openfire`, `prosody`, `tigase` or
    /// `wildfire`, as they are shipped. It fills `limits`; what is written there wins. And its settings are named where something
    /// ails it, also where its stream does not show which one it is. Default: a server that takes what the gateway does.
    pub server: Option<Scalar>,
    /// What the server takes of a stanza as it leaves the gateway; what is more comes back to its sender, alone (XML-18).
    pub limits: Option<Placed<BackendLimitsSpec>>,
    /// Streams of this gateway that its server takes at one time, each for one pair of domains. Where all are taken, the longest
    /// idle one of the registrable domain that has most is closed for the next, and opened anew at its next stanza. Domains of
    /// one server have them together, and the least number counts. From `10` to `100000`. Default: `500`. Example:
    /// `connections: 200`
    pub connections: Option<Scalar>,
    /// Whether the server reads addresses as RFC 7622 has them: `on` or `off`. With `off`, what the older rules (stringprep)
    /// would change or refuse does not pass. Default: `off`.
    pub rfc7622: Option<Scalar>,
}

/// `limits:` of a backend.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BackendLimitsSpec {
    /// The largest stanza, at least 10000B; the same as `stanza` beside it. Default: that of `server`, else `limits: { stanza }`
    /// of the gateway. Example: `stanza: 64KiB`
    pub stanza: Option<Scalar>,
    /// Attributes of one element, declarations included. Default: that of `server`. Example: `attrs: 54`
    pub attrs: Option<Scalar>,
    /// Elements of one stanza. Default: that of `server`. Example: `nodes: 1000`
    pub nodes: Option<Scalar>,
    /// An attribute value, in octets. Default: that of `server`. Example: `attr-value: 10KiB`
    pub attr_value: Option<Scalar>,
}

/// `dialback:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DialbackSpec {
    /// The secrets of the two realms. Nodes that have the same vouch for each other's keys. Default: random at start, which serves
    /// one node only.
    pub secrets: Option<Placed<SecretsSpec>>,
}

/// `cluster:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ClusterSpec {
    /// The name that the nodes have together, and by which what they keep in the store is told from what is not theirs. No default.
    /// Example: `name: gate`
    pub name: Option<Scalar>,
    /// The store, Redis from 6.2 on or Valkey: `redis://HOST:PORT/DATABASE`, `redis+sentinel://HOST,HOST/NAME` or
    /// `redis+cluster://HOST,HOST`; `rediss` for TLS, judged by `roots`. No default. Example: `store: "rediss://gate@store.example.com:6379"`
    pub store: Option<Scalar>,
    /// File with the password of the store. Default: none is asked for. Example: `password: secrets/store`
    pub password: Option<Scalar>,
    /// PEM file of the trust anchors by which the store's certificate is judged, for the name of its host. Default: `trust: { roots }`.
    /// Example: `roots: pki/store.pem`
    pub roots: Option<Scalar>,
}

/// `secrets:` of dialback. Each file holds at least 256 bits: 32 random octets, 64 hexadecimal digits or 44 of base64. A file of
/// text may hold up to four, one a line: the first makes keys, all verify them.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SecretsSpec {
    /// File for the world side. Default: random at start. Example: `world: secrets/world`
    pub world: Option<Scalar>,
    /// File for the inside; never the same as `world`. Default: random at start. Example: `inside: secrets/inside`
    pub inside: Option<Scalar>,
}

/// `trust:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TrustSpec {
    /// `system`, or a PEM file of trust anchors. Default: `system`.
    pub roots: Option<Scalar>,
    /// Files of certificate revocation lists, PEM or DER. Default: none, and then revocation is not checked. Example:
    /// `crls: [pki/ca.crl]`
    pub crls: Option<Scalars>,
    /// What to make of a certificate of whose revocation the lists tell nothing: `by-issuer` trusts it if no list of its
    /// issuer is here and refuses it if the list of its issuer is out of date; `accept` trusts it in both cases; `refuse`
    /// in neither, so that every issuer in every chain needs a list. Default: `by-issuer`.
    pub unknown_revocation: Option<Scalar>,
    /// Trust anchors that replace `roots` for some peers. Default: none.
    pub peers: Option<Placed<Vec<Placed<PeerTrustSpec>>>>,
}

/// One of `peers:` of trust.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PeerTrustSpec {
    /// The peers' domains. No default. Example: `domains: [partner.example]`
    pub domains: Option<Scalars>,
    /// PEM file of trust anchors. No default. Example: `roots: pki/partner-ca.pem`
    pub roots: Option<Scalar>,
}

/// `dns:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DnsSpec {
    /// Resolvers; port 53 where none is written. Default: the system's. Example: `servers: ["127.0.0.1:5353"]`
    pub servers: Option<Scalars>,
    /// Where to find some domains without asking, and the way to them. Default: none.
    pub routes: Option<Placed<Vec<Placed<RouteSpec>>>>,
    /// Whether signatures in the DNS (DNSSEC) are looked at, so that a domain can say which certificate is its own (TLSA):
    /// `off`; `resolver`, which is believed if it is on this machine or in a private network; or `validate`: the gateway does it
    /// itself. Answers whose signatures do not hold are never used. Default: `off`.
    pub dnssec: Option<Scalar>,
    /// File of DNSKEY records to validate from, with `dnssec: validate`. Default: the keys of the root. Example: `anchors:
    /// pki/root.key`
    pub anchors: Option<Scalar>,
    /// Networks that looked-up names may lead to although they are private or local. Default: none. Example:
    /// `allow-networks: [10.1.0.0/16]`
    pub allow_networks: Option<Scalars>,
}

/// One of `routes:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RouteSpec {
    /// The remote domain; `*.` and a domain stand for all below it, `*` for all remote ones; the most specific holds. No default.
    /// Example: `domain: partner.example`
    pub domain: Option<Scalar>,
    /// Address or host name, and port. Default: where the DNS says; then `via` is needed. Example: `target: "192.0.2.9:5269"`
    pub target: Option<Scalar>,
    /// The proxy to go through, as `socks5://`, `socks5h://` or `http://` (CONNECT), host and port, with `user:password@` (each sign may be
    /// written as `%40`) before
    /// them where it wants a login. Host names of `target` are looked up by the proxy but for `socks5`; what the DNS says is looked
    /// up and judged here. Default: none. Example: `via: "socks5://10.0.0.9:1080"`
    pub via: Option<Scalar>,
    /// `starttls`, `direct` or `none`. Default: `starttls`.
    pub tls: Option<Scalar>,
}

/// `steering:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SteeringSpec {
    /// Where to answer DNS queries; port 53 where none is written. No default. Example: `listen: "10.0.0.1:53"`
    pub listen: Option<Scalar>,
    /// Networks of the backends; nobody else is answered. No default. Example: `from: [10.0.0.0/24]`
    pub from: Option<Scalars>,
    /// The address to answer with: the inside listener's. No default. Example: `answer: 10.0.0.1`
    pub answer: Option<Scalar>,
    /// How a backend is answered about its own domains: `refuse`, or `backend` for its addresses. About domains of another backend it
    /// is led to the gateway, as about all others. Default: `refuse`.
    pub hosted: Option<Scalar>,
    /// Names that do not exist, with all below them: NXDOMAIN, beside what servers ask for to see whether their DNS lies. Default: none. Example: `never: [probe.example]`
    pub never: Option<Scalars>,
}

/// `admin:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AdminSpec {
    /// Where to serve metrics and health over HTTP, read only: an address with a port, or `unix:` and the path of a socket, which only
    /// the gateway's own user and group and root may use. Default: off. Example: `http: "127.0.0.1:9469"`
    pub http: Option<Scalar>,
    /// Names under which it may be asked there, in `Host`; an address and `localhost` always may, and no page in a browser can
    /// read it by another. Default: none. Example: `hosts: [gate-1.example.com]`
    pub hosts: Option<Scalars>,
    /// Whether `GET /status` and `/status.json` answer there: `on` or `off`. They show who federates with whom, so let nobody but
    /// operators reach them. Default: `off`. Example: `status: on`
    pub status: Option<Scalar>,
    /// The control socket. Default: off. Example: `socket: /run/gatehouse/control.sock`
    pub socket: Option<Scalar>,
}

/// `log:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LogSpec {
    /// `text` or `json`. Default: `text`.
    pub format: Option<Scalar>,
    /// `error`, `warn`, `info`, `debug` or `trace`. Default: `info`.
    pub level: Option<Scalar>,
}

/// `audit:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AuditSpec {
    /// The file that audit records are appended to. No default. Example: `file: /var/log/gatehouse/audit.jsonl`
    pub file: Option<Scalar>,
    /// What holds while the disk takes no records: `go-on`, or `refuse` to let nobody new in. Default: `go-on`.
    pub on_full: Option<Scalar>,
    /// The size at which the file is moved aside, to its name and the number of its last record, and a new one begun.
    /// Default: never. Example: `rotate-at: 100MiB`
    pub rotate_at: Option<Scalar>,
}
