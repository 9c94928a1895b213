//! From words of the configuration to values, with a finding for each word that means nothing.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use super::fill::{Environment, filled};
use super::hosts::{LookUp, WrittenTarget};
use crate::jid::Domain;
use crate::policy::{Finding, Place, Placed, Scalar, networks};

/// What words may ask of the machine.
pub(super) struct Machine<'a> {
    pub(super) environment: Environment<'a>,
    pub(super) look_up: LookUp<'a>,
}

/// How a word is told that should be a path.
pub const NO_PATH: &str = "the path is empty";

/// How it begins what is said of files that are looked for and not there.
const NO_FOLDER: &str = "the folder";
const UNREAD: &str = "cannot be read";
const NO_FILE: &str = "no file is called like";

/// Whether it says that there are no files where some are looked for.
pub fn is_unfound(finding: &Finding) -> bool {
    let message = &finding.message;
    message.starts_with(NO_FILE) || (message.starts_with(NO_FOLDER) && message.contains(UNREAD))
}

/// Reads words of one file and gathers what is wrong with them.
pub(super) struct ScalarReader<'a> {
    file: Arc<str>,
    folder: PathBuf,
    machine: &'a Machine<'a>,
    /// Folders in which files were looked for.
    pub(super) folders: Vec<PathBuf>,
    pub(super) findings: Vec<Finding>,
}

impl<'a> ScalarReader<'a> {
    pub(super) fn new(file: &str, machine: &'a Machine<'a>) -> ScalarReader<'a> {
        let folder = Path::new(file).parent().map(Path::to_path_buf).unwrap_or_default();
        ScalarReader { file: Arc::from(file), folder, machine, folders: Vec::new(), findings: Vec::new() }
    }

    /// Reads `on` or `off`.
    pub(super) fn on(&mut self, word: Option<&Scalar>, default: bool) -> bool {
        word.and_then(|word| self.choose(word, "`on` or `off`", &[("on", true), ("off", false)]))
            .unwrap_or(default)
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
    pub(super) fn needed<'v, T, U>(
        &mut self,
        at: &Placed<U>,
        value: &'v Option<Placed<T>>,
        key: &str,
        example: &str,
    ) -> Option<&'v Placed<T>> {
        if value.is_none() {
            self.error(at, format!("`{key}` is missing"), format!("add `{key}: {example}`"));
        }
        value.as_ref()
    }

    /// The words of a list that names something where it stands.
    pub(super) fn named<'l>(&mut self, key: &str, list: Option<&'l Placed<Vec<Scalar>>>) -> &'l [Scalar] {
        let Some(list) = list else { return &[] };
        if list.value.is_empty() {
            self.error(list, format!("`{key}` is empty"), "name what is meant, or remove the key");
        }
        &list.value
    }

    pub(super) fn choose<T: Copy>(&mut self, word: &Scalar, what: &str, table: &[(&str, T)]) -> Option<T> {
        // Programs that write YAML know truth values, and no `on` and `off`.
        let plain = match word.value.as_str() {
            "true" => "on",
            "false" => "off",
            text => text,
        };
        let found = table.iter().find(|(name, _)| *name == plain).map(|(_, value)| *value);
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

    pub(super) fn domain(&mut self, word: &Scalar) -> Option<Domain> {
        match Domain::parse(&word.value) {
            Ok(domain) => Some(domain),
            // POL-09: hosted subdomains are listed one by one.
            Err(_) if word.value.starts_with('*') => {
                self.error(word, format!("\"{}\" is a wildcard", word.value), "list domains one by one");
                None
            }
            Err(error) => {
                self.findings.push(Finding::no_domain(word.place(&self.file), &word.value, error));
                None
            }
        }
    }

    pub(super) fn socket(&mut self, word: &Scalar, port: Option<u16>) -> Option<SocketAddr> {
        let text = self.filled_or_reported(word)?;
        match socket(&text, port) {
            Some(address) if address.port() == 0 => {
                self.error(word, format!("{} has port 0", shown(word, &text)), "write the port to use");
                None
            }
            Some(address) => Some(address),
            None => {
                self.error(
                    word,
                    format!("{} is no address with a port", shown(word, &text)),
                    "write it like \"192.0.2.1:5269\" or \"[2001:db8::1]:5269\"; names are not looked up here",
                );
                None
            }
        }
    }

    /// Addresses of a backend. A name is looked up; one that leads nowhere now may do so later, and is told.
    pub(super) fn targets(&mut self, list: Option<&Placed<Vec<Scalar>>>) -> Vec<WrittenTarget> {
        list.map_or_else(Vec::new, |list| list.value.iter().filter_map(|word| self.target(word)).collect())
    }

    fn target(&mut self, word: &Scalar) -> Option<WrittenTarget> {
        let text = self.filled_or_reported(word)?;
        let host = text.rsplit_once(':').and_then(|(host, port)| {
            let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
            let letters = host.chars().any(|c| c.is_ascii_alphabetic()) && !host.contains(':');
            letters.then(|| Domain::parse(host).ok()).flatten().map(|host| (host, port))
        });
        let Some((host, port)) = host else { return self.socket(word, None).map(WrittenTarget::Address) };
        if (self.machine.look_up)(&host, port).is_empty() {
            let message = format!("{host} leads to no address now");
            self.warn(
                word,
                message,
                "correct the name, or start what it stands for; it is looked up again every 15 s",
            );
        }
        Some(WrittenTarget::Host(host, port))
    }

    /// What those lead to now.
    pub(super) fn addresses(&self, targets: &[WrittenTarget]) -> Vec<SocketAddr> {
        super::hosts::addresses(targets, &[], self.machine.look_up)
    }

    pub(super) fn ip(&mut self, word: &Scalar) -> Option<IpAddr> {
        let text = self.filled_or_reported(word)?;
        let found = text.parse::<IpAddr>().ok();
        if found.is_none() {
            let message = format!("{} is no IP address", shown(word, &text));
            self.error(word, message, "write it like 10.0.0.1");
        }
        found
    }

    /// The address in a word whose mistakes are told elsewhere.
    pub(super) fn quiet_socket(&self, word: &Scalar, port: Option<u16>) -> Option<SocketAddr> {
        socket(&filled(&word.value, self.machine.environment).ok()?, port)
    }

    pub(super) fn filled_or_reported<'v>(&mut self, word: &'v Scalar) -> Option<Cow<'v, str>> {
        match filled(&word.value, self.machine.environment) {
            Ok(text) => Some(text),
            Err((message, remedy)) => {
                self.error(word, message, remedy);
                None
            }
        }
    }

    pub(super) fn networks(&mut self, list: &Placed<Vec<Scalar>>) -> Vec<IpNet> {
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

    /// Networks of ours: those that hold everybody are a mistake, each by itself or all of them together.
    pub(super) fn own_networks(&mut self, list: &Placed<Vec<Scalar>>) -> Vec<IpNet> {
        const REMEDY: &str = "name the networks of your own servers";
        let whole =
            |word: &&Scalar| networks::parse(&word.value).is_ok_and(|network| network.prefix_len() == 0);
        let alone: Vec<&Scalar> = list.value.iter().filter(whole).collect();
        for word in &alone {
            self.error(word, format!("\"{}\" is everybody", word.value), REMEDY);
        }
        let found = self.networks(list);
        if alone.is_empty()
            && let Some((percent, family)) = networks::world_in(&found)
        {
            let message =
                format!("these networks hold {percent} % of all {family} addresses that anybody can have");
            self.error(list, message, REMEDY);
        }
        found
    }

    pub(super) fn path(&mut self, word: &Scalar) -> PathBuf {
        if word.value.is_empty() {
            self.error(word, NO_PATH, "write the path of a file");
        }
        self.beside(&word.value)
    }

    /// A path as it is meant in this file.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// A path, or all that a `*` in its last part stands for, in order; and whether there is one.
    pub(super) fn paths(&mut self, word: &Scalar) -> (Vec<PathBuf>, bool) {
        let path = self.path(word);
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains('*'));
        let (Some(name), Some(folder)) = (name, path.parent()) else { return (vec![path], false) };
        let mut found = Vec::new();
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    let fits = entry.file_name().to_str().is_some_and(|file| fits(name, file));
                    found.extend(fits.then(|| entry.path()));
                }
            }
            Err(error) => {
                let message = format!("{NO_FOLDER} {} {UNREAD}: {error}", folder.display());
                self.error(word, message, "check the path and its permissions");
                // It may be made later.
                self.folders.push(folder.to_path_buf());
                return (found, true);
            }
        }
        found.sort();
        if found.is_empty() {
            self.warn(word, format!("{NO_FILE} \"{}\"", word.value), "correct the path, or put files there");
        }
        self.folders.push(folder.to_path_buf());
        (found, true)
    }
}

/// Whether a name is one that the pattern stands for; hidden files are asked for by their dot.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.is_empty()
}

/// An address with its port; where there may be none, with that one.
fn socket(text: &str, port: Option<u16>) -> Option<SocketAddr> {
    let plain = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port?));
    text.parse::<SocketAddr>().ok().or_else(plain)
}

/// A word as written, and as it reads where the environment filled it in.
fn shown(word: &Scalar, text: &str) -> String {
    if word.value == text {
        format!("\"{text}\"")
    } else {
        format!("\"{}\", which reads \"{text}\" here,", word.value)
    }
}
