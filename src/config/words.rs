//! From words of the configuration to values, with a finding for each word that means nothing.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use super::spec;
use crate::jid::Domain;
use crate::policy::{Finding, Place, Placed, Word, networks};

/// What the environment holds under a name.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads words of one file and gathers what is wrong with them.
pub(super) struct Words<'a> {
    file: Arc<str>,
    folder: PathBuf,
    environment: Environment<'a>,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Words<'a> {
    pub(super) fn new(file: &str, environment: Environment<'a>) -> Words<'a> {
        let folder = Path::new(file).parent().map(Path::to_path_buf).unwrap_or_default();
        Words { file: Arc::from(file), folder, environment, findings: Vec::new() }
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
        let text = self.filled_or_told(word)?;
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

    pub(super) fn sockets(&mut self, list: Option<&spec::Words>) -> Vec<SocketAddr> {
        list.map_or_else(Vec::new, |list| {
            list.value.iter().filter_map(|word| self.socket(word, None)).collect()
        })
    }

    pub(super) fn ip(&mut self, word: &Word) -> Option<IpAddr> {
        let text = self.filled_or_told(word)?;
        let found = text.parse::<IpAddr>().ok();
        if found.is_none() {
            let message = format!("{} is no IP address", shown(word, &text));
            self.error(word, message, "write it like 10.0.0.1");
        }
        found
    }

    /// The address in a word whose mistakes are told elsewhere.
    pub(super) fn told_socket(&self, word: &Word, port: Option<u16>) -> Option<SocketAddr> {
        socket(&filled(&word.value, self.environment).ok()?, port)
    }

    fn filled_or_told<'v>(&mut self, word: &'v Word) -> Option<Cow<'v, str>> {
        match filled(&word.value, self.environment) {
            Ok(text) => Some(text),
            Err((message, remedy)) => {
                self.error(word, message, remedy);
                None
            }
        }
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

/// An address with its port; where there may be none, with that one.
fn socket(text: &str, port: Option<u16>) -> Option<SocketAddr> {
    let plain = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port?));
    text.parse::<SocketAddr>().ok().or_else(plain)
}

/// The text with the environment's values for its `${NAME}`. What a value holds is not looked at again, and a name that is
/// not set is a mistake: an address with a hole in it may well be another address.
fn filled<'v>(text: &'v str, environment: Environment<'_>) -> Result<Cow<'v, str>, (String, &'static str)> {
    if !text.contains('$') {
        return Ok(Cow::Borrowed(text));
    }
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        whole.push_str(before);
        let name = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, behind)) = name.filter(|(name, _)| is_name(name)) else {
            return Err((format!("\"{text}\" has a `$` that begins no name"), "write a name like ${POD_IP}"));
        };
        match environment(name).filter(|value| !value.is_empty()) {
            Some(value) => whole.push_str(&value),
            None => {
                return Err((
                    format!("\"{text}\" asks for {name}, which is not set in the environment"),
                    "set it where the gateway is started, or write the address itself",
                ));
            }
        }
        rest = behind;
    }
    whole.push_str(rest);
    Ok(Cow::Owned(whole))
}

/// POSIX.1-2017 8.1, as far as portable names go.
fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_uppercase() || c == '_';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// A word as written, and as it reads where the environment filled it in.
fn shown(word: &Word, text: &str) -> String {
    if word.value == text {
        format!("\"{text}\"")
    } else {
        format!("\"{}\", which reads \"{text}\" here,", word.value)
    }
}
