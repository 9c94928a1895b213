//! Policy files, version v1, exactly as on disk. What is written here may be wrong; [`super::compile`] says how.

use serde::Deserialize;

use super::finding::Placed;

/// A word of a file with its place; what it means is decided when the file is compiled.
pub type Scalar = Placed<String>;

/// A policy file.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PolicyFile {
    /// The version of the format: `v1`. No default.
    pub version: Option<Scalar>,
    /// What rules of this file ask for where they say nothing, and what `federation: any` asks of everybody.
    pub defaults: Option<Placed<DefaultsSpec>>,
    /// The rules. A list, never a map: a repeated key of a map would win silently. Default: none.
    pub rules: Vec<Placed<RuleSpec>>,
    /// Cases that must come out as told, run at every load. Default: none.
    pub expect: Vec<Placed<CaseSpec>>,
}

/// `defaults:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DefaultsSpec {
    /// Proofs that are enough: `dane`, `certificate`, `posh`, `dialback`; a stronger one than those named always is, in this order, but
    /// `posh` only where it is named. Default: `[certificate, dialback]`.
    pub identity: Option<Placed<Vec<Scalar>>>,
    /// The lowest version of TLS: `"1.2"`, `"1.3"` or `none`. Default: `"1.2"`.
    pub tls: Option<Scalar>,
    /// What of the lives of our users does not leave. Default: everything leaves.
    pub egress: Option<Placed<EgressSpec>>,
    /// What passes of who is in quarantine, by a rule that says no more of it or by `federation: quarantine`. Default: 20 messages an hour,
    /// 3 requests for subscriptions a day.
    pub quarantine: Option<Placed<QuarantineSpec>>,
}

/// One of `rules:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RuleSpec {
    /// The label in metrics, logs and explanations; unique over all files. Letters, digits, `-`, `_` and `.`. No default.
    pub name: Option<Scalar>,
    /// Domains and wildcards like `*.agency.example`. Default: none, and then `lists` must be there.
    pub domains: Option<Placed<Vec<Scalar>>>,
    /// Lists of the configuration (`lists:`) in place of `domains`, in a rule that denies: it holds for what they name. A rule that names
    /// a domain goes before it. Default: none.
    pub lists: Option<Placed<Vec<Scalar>>>,
    /// How many of these lists must name a domain. Default: `1`.
    pub quorum: Option<Scalar>,
    /// `allow`, `deny`, or `quarantine`: some kinds of stanzas, and only so many, until the domain is approved. Default: `allow`.
    pub verdict: Option<Scalar>,
    /// `inbound`, `outbound` or `both`, seen from the hosted domain. Default: `both`.
    pub direction: Option<Scalar>,
    /// Hosted domains the rule is for. Default: every domain that uses this file.
    pub hosted: Option<Placed<Vec<Scalar>>>,
    /// Proofs that are enough: `pin`, `dane`, `certificate`, `posh`, `dialback`; a stronger one than those named always is, in this
    /// order, but `posh` only where it is named. Default: the file's `defaults`.
    pub identity: Option<Placed<Vec<Scalar>>>,
    /// Keys of the remote server's certificate, any of which proves its domains, whoever signed it and until whenever; nothing
    /// else does then. `sha256:` and the digest of the public key, then `from` and `until` with a day, where meant. Default: none.
    pub pins: Option<Placed<Vec<Scalar>>>,
    /// The lowest version of TLS: `"1.2"`, `"1.3"` or `none`. Default: the file's `defaults`.
    pub tls: Option<Scalar>,
    /// Networks the remote server's address must be in. Default: any.
    pub networks: Option<Placed<Vec<Scalar>>>,
    /// What becomes of a domain that is proven in another way than before: `note`, it passes and the change is told; `hold`, it waits
    /// for `gatehouse peers approve` if the proof is weaker, the authority another, or under dialback the key. Default: `note`.
    pub on_change: Option<Scalar>,
    /// The proxy through which the domain is called, written as in `dns: { routes }`. It goes before the `via` of a route, whose
    /// `target` holds all the same. Default: the route's. Example: `via: "socks5://10.0.0.9:1080"`
    pub via: Option<Scalar>,
    /// Which stanzas may pass. Default: all.
    pub stanzas: Option<Placed<StanzasSpec>>,
    /// How much may pass. Default: the gateway's own limits.
    pub limits: Option<Placed<QuotasSpec>>,
    /// What of the lives of our users does not leave. Default: the file's `defaults`.
    pub egress: Option<Placed<EgressSpec>>,
    /// With `verdict: quarantine`, what passes and for how long. Default: the file's `defaults`.
    pub quarantine: Option<Placed<QuarantineSpec>>,
    /// The last day (UTC) on which the rule holds, like `2027-01-31`. Default: for ever.
    pub expires: Option<Scalar>,
    /// Who asked for the rule: free words for people.
    pub owner: Option<Scalar>,
    /// Where it was asked for: free words for people.
    pub ticket: Option<Scalar>,
}

/// `stanzas:` of a rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StanzasSpec {
    /// Kinds that may pass: `message`, `presence`, `iq`. Default: all three.
    pub allow: Option<Placed<Vec<Scalar>>>,
    /// Namespaces of child elements with which a stanza may not pass. Default: none.
    pub deny_payloads: Option<Placed<Vec<Scalar>>>,
}

/// `limits:` of a rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct QuotasSpec {
    /// Stanzas a second, like `50/s`. Default: the gateway's own limit.
    pub stanzas: Option<Scalar>,
    /// Octets a second, like `64KiB/s`. Default: the gateway's own limit.
    pub octets: Option<Scalar>,
    /// Concurrent streams, like `4`. Default: the gateway's own limit.
    pub streams: Option<Scalar>,
    /// Connections of servers of one registrable domain, in place of `conn-domain` in `limits:`. Default: the gateway's own limit.
    pub connections: Option<Scalar>,
    /// Pairs of one registrable domain, in place of `pairs-domain` in `limits:`. Default: the gateway's own limit.
    pub pairs: Option<Scalar>,
}

/// `egress:` of a rule, or of `defaults`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EgressSpec {
    /// Namespaces of child elements that are cut from what leaves, like `http://jabber.org/protocol/chatstates`; also names of
    /// nodes of personal eventing (PEP). What has nothing else to say stays inside whole; an answer becomes an error. Default: none.
    pub cut: Option<Placed<Vec<Scalar>>>,
    /// `full`; `plain`: whether somebody is there, `show` and `priority`; or `none`: not even that. Default: `full`.
    pub presence: Option<Scalar>,
    /// `allow`, or `refuse`: no client says its software version, its time, or since when it is idle. Default: `allow`.
    pub client_info: Option<Scalar>,
}

/// `quarantine:` of a rule, or of `defaults`. Counted is what comes from a registrable domain with all below it, for all hosted domains
/// together; what our users send there is not counted.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct QuarantineSpec {
    /// Messages that pass, like `20/h`: no more than 20 within an hour, whenever it begins; the units are `s`, `min`, `h` and `day`.
    /// Errors are not counted. Default: `20/h`.
    pub messages: Option<Scalar>,
    /// Requests for subscriptions that pass, like `3/day`. Default: `3/day`.
    pub subscriptions: Option<Scalar>,
    /// All else that passes: presence, pings and service discovery, answers and errors. No other iq passes, in either direction.
    /// Default: `600/h`.
    pub other: Option<Scalar>,
    /// What a sender there reads whose message, request or subscription does not pass. Default: the error alone.
    pub text: Option<Scalar>,
    /// After so many days (UTC) on which it sent something and no more than passes, the domain is approved by itself; one refused for
    /// its rate begins the count anew. Default: never.
    pub quiet_days: Option<Scalar>,
}

/// One of `expect:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CaseSpec {
    /// The sender. No default.
    pub from: Option<Scalar>,
    /// The addressee. No default.
    pub to: Option<Scalar>,
    /// `inbound` or `outbound`. Default: follows from which of the two is hosted.
    pub direction: Option<Scalar>,
    /// The `federation` setting to suppose. Default: the hosted domain's own; `listed` when a file is tested by itself.
    pub federation: Option<Scalar>,
    /// How the remote domain is proved: `pin`, `dane`, `certificate`, `posh`, `dialback` or `none`. Default:
    /// `certificate`; `pin` where `key` is given.
    pub identity: Option<Scalar>,
    /// The key that its server shows, written as in `pins`. Default: none; with `identity: pin` one of those that the rule pins.
    pub key: Option<Scalar>,
    /// The channel: `"1.2"`, `"1.3"` or `none`. Default: `"1.3"`.
    pub tls: Option<Scalar>,
    /// The remote server's address. Default: unknown, and thus in no network.
    pub ip: Option<Scalar>,
    /// Lists to suppose that name the remote domain, and no others. Default: none names it.
    pub lists: Option<Placed<Vec<Scalar>>>,
    /// Lists to suppose that name the sender alone, by the bare address in `from`, as those of `format: jid-sha256` may. Default: none
    /// names him.
    pub sender_lists: Option<Placed<Vec<Scalar>>>,
    /// The day to suppose, like `2027-02-01`. Default: the day of the load.
    pub today: Option<Scalar>,
    /// The kind of a stanza: `message`, `presence` or `iq`. Default: the pair is asked about, not a stanza.
    pub kind: Option<Scalar>,
    /// The type of a stanza of that `kind`: of an iq `get`, `set`, `result` or `error`; of a message `chat`, `error`, `groupchat`,
    /// `headline` or `normal`; of presence `error`, `probe`, `subscribe`, `subscribed`, `unavailable`, `unsubscribe` or `unsubscribed`.
    /// Default: none; of an iq whichever is refused, or kept by `egress`.
    pub r#type: Option<Scalar>,
    /// The namespace of a stanza's payload. Default: none.
    pub payload: Option<Scalar>,
    /// `allow`, `deny` or `quarantine`. No default.
    pub verdict: Option<Scalar>,
    /// The reason that must be given, like `not-listed`. Default: any.
    pub reason: Option<Scalar>,
    /// The rule that must decide, `default` for none. Default: any.
    pub rule: Option<Scalar>,
}
