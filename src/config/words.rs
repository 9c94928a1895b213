//! From words of the configuration to values, with a finding for each word that means nothing.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use super::spec;
use crate::jid::Domain;
use crate::policy::{Finding, Place, Placed, Word, networks};

/// Reads words of one file and gathers what is wrong with them.
pub(super) struct Words {
    file: Arc<str>,
    folder: PathBuf,
    pub(super) findings: Vec<Finding>,
}

impl Words {
    pub(super) fn new(file: &str) -> Words {
        let folder = Path::new(file).parent().map(Path::to_path_buf).unwrap_or_default();
        Words { file: Arc::from(file), folder, findings: Vec::new() }
    }

    pub(super) fn place<T>(&self, at: &Placed<T>) -> Place {
        at.place(&self.file)
    }

    pub(super) fn error<T>(&mut self, at: &Placed<T>, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::error(at.place(&self.file), message, remedy));
    }

    pub(super) fn warn<T>(&mut self, at: &Placed<T>, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::warning(at.place(&self.file), message, remedy));
    }

    pub(super) fn whole(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::error(Place::whole(&self.file), message, remedy));
    }

    pub(super) fn whole_warn(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::warning(Place::whole(&self.file), message, remedy));
    }

    /// A key that must be there.
    pub(super) fn needed<'a, T, U>(
        &mut self,
        at: &Placed<U>,
        value: &'a Option<Placed<T>>,
        key: &str,
        example: &str,
    ) -> Option<&'a Placed<T>> {
        if value.is_none() {
            self.error(at, format!("`{key}` is missing"), format!("add `{key}: {example}`"));
        }
        value.as_ref()
    }

    pub(super) fn choose<T: Copy>(&mut self, word: &Word, what: &str, table: &[(&str, T)]) -> Option<T> {
        let found = table.iter().find(|(name, _)| *name == word.value).map(|(_, value)| *value);
        if found.is_none() {
            let close =
                table.iter().map(|(name, _)| (strsim::damerau_levenshtein(&word.value, name), *name)).min();
            let mut remedy = String::new();
            match close {
                Some((distance, name)) if distance <= 2 && distance < name.len() => {
                    let _ = write!(remedy, "did you mean `{name}`?");
                }
                _ => {
                    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
                    let _ = write!(remedy, "write one of {}", names.join(", "));
                }
            }
            self.error(word, format!("\"{}\" is not {what}", word.value), remedy);
        }
        found
    }

    pub(super) fn domain(&mut self, word: &Word) -> Option<Domain> {
        match Domain::parse(&word.value) {
            Ok(domain) => Some(domain),
            // POL-09: hosted subdomains are listed one by one.
            Err(_) if word.value.starts_with('*') => {
                self.error(word, format!("\"{}\" is a wildcard", word.value), "list domains one by one");
                None
            }
            Err(error) => {
                self.error(
                    word,
                    format!("\"{}\" is no domain: {error}", word.value),
                    "write it like example.com",
                );
                None
            }
        }
    }

    pub(super) fn socket(&mut self, word: &Word, port: Option<u16>) -> Option<SocketAddr> {
        let address = word.value.parse::<SocketAddr>().ok();
        let found = address.or_else(|| {
            port.and_then(|port| word.value.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)))
        });
        match found {
            Some(address) if address.port() == 0 => {
                self.error(word, format!("\"{}\" has port 0", word.value), "write the port to use");
                None
            }
            Some(address) => Some(address),
            None => {
                self.error(
                    word,
                    format!("\"{}\" is no address with a port", word.value),
                    "write it like \"192.0.2.1:5269\" or \"[2001:db8::1]:5269\"; names are not looked up here",
                );
                None
            }
        }
    }

    pub(super) fn sockets(&mut self, list: Option<&spec::Words>) -> Vec<SocketAddr> {
        list.map_or_else(Vec::new, |list| {
            list.value.iter().filter_map(|word| self.socket(word, None)).collect()
        })
    }

    pub(super) fn ip(&mut self, word: &Word) -> Option<IpAddr> {
        let found = word.value.parse::<IpAddr>().ok();
        if found.is_none() {
            self.error(word, format!("\"{}\" is no IP address", word.value), "write it like 10.0.0.1");
        }
        found
    }

    pub(super) fn networks(&mut self, list: &spec::Words) -> Vec<IpNet> {
        let mut found = Vec::with_capacity(list.value.len());
        for word in &list.value {
            match networks::parse(&word.value) {
                Ok(network) => found.push(network),
                Err(message) => self.error(word, message, ""),
            }
        }
        if list.value.is_empty() {
            self.error(list, "this list of networks is empty", "name at least one, like 10.0.0.0/24");
        }
        found
    }

    /// Networks of ours: one that holds everybody is a mistake.
    pub(super) fn own_networks(&mut self, list: &spec::Words) -> Vec<IpNet> {
        for word in &list.value {
            if networks::parse(&word.value).is_ok_and(|network| network.prefix_len() == 0) {
                self.error(
                    word,
                    format!("\"{}\" is everybody", word.value),
                    "name the networks of your own servers",
                );
            }
        }
        self.networks(list)
    }

    pub(super) fn path(&mut self, word: &Word) -> PathBuf {
        if word.value.is_empty() {
            self.error(word, "the path is empty", "write the path of a file");
        }
        self.folder.join(&word.value)
    }
}
