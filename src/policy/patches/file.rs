//! Files of patches, version v1, exactly as on disk.

use std::sync::Arc;

use serde::Deserialize;

use super::super::file::Scalar;
use super::super::finding::Placed;

/// A file of patches that was read.
#[derive(Clone, Debug)]
pub struct PatchSource {
    /// The file, as it is named in findings.
    pub name: Arc<str>,
    /// What stands in it.
    pub file: PatchFile,
}

impl PatchSource {
    /// A file under a name.
    pub fn new(name: &str, file: PatchFile) -> Self {
        Self { name: Arc::from(name), file }
    }
}

/// A file of patches.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PatchFile {
    /// The version of the format: `v1`. No default.
    pub version: Option<Scalar>,
    /// The patches. Default: none.
    pub patches: Vec<Placed<PatchSpec>>,
    /// Stanzas that must come out as told, tried at every load. Default: none.
    pub expect: Vec<Placed<PatchCaseSpec>>,
}

/// One of `patches:`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PatchSpec {
    /// The label in metrics and logs; unique over all files. Letters, digits, `-`, `_` and `.`. No default.
    pub name: Option<Scalar>,
    /// Why it is there: free words for people. No default.
    pub reason: Option<Scalar>,
    /// Where more is said: free words for people, like `CVE-2027-1234` or an address.
    pub reference: Option<Scalar>,
    /// Who asked for it: free words for people.
    pub owner: Option<Scalar>,
    /// The last day (UTC) on which it holds, like `2027-01-31`. Default: for ever.
    pub expires: Option<Scalar>,
    /// What becomes of a stanza: `deny`, it is refused (on the stream of a client that counts stanzas, XEP-0198, the stream ends); or
    /// `cut`, it goes on without the payload. No default.
    pub action: Option<Scalar>,
    /// `act`, or `shadow`: it is only counted and told. Default: `act`.
    pub mode: Option<Scalar>,
    /// Which way the stanza travels, seen from the server behind: `inbound`, `outbound` or `both`. Default: `both`.
    pub direction: Option<Scalar>,
    /// Whose streams: `s2s`, between servers; `c2s`, of clients. Default: both.
    pub flows: Option<Placed<Vec<Scalar>>>,
    /// Hosted domains that it is for. Default: all.
    pub hosted: Option<Placed<Vec<Scalar>>>,
    /// Kinds of stanza: `message`, `presence`, `iq`. Default: all three; with `cut` the first two, for an iq lives by its one child.
    pub kinds: Option<Placed<Vec<Scalar>>>,
    /// Values of the stanza's `type`; `none` stands for no such attribute. Default: any.
    pub types: Option<Placed<Vec<Scalar>>>,
    /// The namespace of a direct child of the stanza; `jabber:client` for `body`, `subject` and their like. Each child is looked at by
    /// itself. Default: any, and then each stanza pays for the look. Needed with `cut`.
    pub payload: Option<Scalar>,
    /// Octets of the whole stanza in canonical form, of which there must be more, like `64KiB`. Default: any.
    pub larger_than: Option<Scalar>,
    /// What must be found in the payload, all of it. Default: nothing more.
    pub when: Vec<Placed<ConditionSpec>>,
}

/// One of `when:` Elements for which all of it holds are counted.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConditionSpec {
    /// Their local name. Default: any.
    pub element: Option<Scalar>,
    /// Their namespace. Default: any.
    pub namespace: Option<Scalar>,
    /// How deep they stand: `1` is a direct child of the stanza; `2-4`, or `3-` for that and deeper. Default: anywhere.
    pub depth: Option<Scalar>,
    /// An attribute without a prefix that they have. Default: any, or none.
    pub attribute: Option<Scalar>,
    /// The value of that attribute. Default: any.
    pub value: Option<Scalar>,
    /// Octets of that value, of which there must be more, like `1KiB`. Default: any.
    pub value_over: Option<Scalar>,
    /// Octets of their own text, of which there must be more, like `16KiB`. Default: any.
    pub text_over: Option<Scalar>,
    /// How many of them there must be at least. Default: `1`.
    pub count: Option<Scalar>,
}

/// One of `expect:` in a file of patches.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PatchCaseSpec {
    /// The whole stanza, as it would stand on a stream. No default.
    pub stanza: Option<Scalar>,
    /// `inbound` or `outbound`. Default: `inbound`.
    pub direction: Option<Scalar>,
    /// `s2s` or `c2s`. Default: `s2s`.
    pub flow: Option<Scalar>,
    /// The hosted domain. Default: one that every patch is for which names no `hosted`.
    pub hosted: Option<Scalar>,
    /// The day to suppose, like `2027-02-01`. Default: the day of the load.
    pub today: Option<Scalar>,
    /// `pass`, `deny` or `cut`. No default.
    pub verdict: Option<Scalar>,
    /// The patch that must decide, also in shadow mode, where the verdict is `pass`. Default: any.
    pub patch: Option<Scalar>,
}
