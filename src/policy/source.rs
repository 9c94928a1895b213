//! What a policy is made from: the domains served here, and the files that were read.

use std::sync::Arc;

use super::day::Day;
use super::file::PolicyFile;
use super::finding::Place;
use super::settings::Federation;
use crate::jid::Domain;

/// Everything a policy is made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The domains served here.
    pub hosted: Vec<HostedSource>,
    /// The policy files, each once.
    pub sources: Vec<Source>,
    /// The day the snapshot is for; the caller's clock said so.
    pub today: Day,
    /// A digest of everything that was read.
    pub digest: String,
}

/// A domain served here, as the configuration has it.
#[derive(Clone, Debug)]
pub struct HostedSource {
    /// The domain.
    pub domain: Domain,
    /// Its federation setting.
    pub federation: Federation,
    /// Indexes of its policy files in [`Sources::sources`].
    pub sources: Vec<usize>,
    /// Where the configuration names it.
    pub place: Place,
}

/// A policy file that was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file, as it is named in findings.
    pub name: Arc<str>,
    /// What stands in it.
    pub file: PolicyFile,
}
