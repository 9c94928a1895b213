//! What the files of a configuration held when they were read, and whether they still do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest;

use super::settings::{Roots, Settings};

/// What is to be seen of a file without reading it: which one it is, through all links, how long, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(Option<(u64, u64, u64, Option<SystemTime>)>);

impl Trace {
    fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(fs::metadata(path).ok().map(|data| (data.dev(), data.ino(), data.len(), data.modified().ok())))
    }
}

/// Files by what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<PathBuf, Option<[u8; 32]>>);

impl Seen {
    /// Every file that these settings name, as it is now.
    pub fn of(settings: &Settings) -> Self {
        Self(files(settings).into_iter().map(|path| (path.clone(), print(&path))).collect())
    }

    /// The files that differ from what they are here.
    pub fn differing(&self, other: &Self) -> Vec<PathBuf> {
        let gone = self.0.keys().filter(|path| !other.0.contains_key(*path));
        let other =
            other.0.iter().filter(|(path, print)| self.0.get(*path) != Some(print)).map(|(path, _)| path);
        other.chain(gone).cloned().collect()
    }

    /// These files are as they are there.
    pub fn follow<'a>(&mut self, other: &Self, paths: impl IntoIterator<Item = &'a Path>) {
        for path in paths {
            if let Some(print) = other.0.get(path) {
                self.0.insert(path.to_owned(), *print);
            }
        }
    }

    /// Whether this file is among these.
    pub fn knows(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// The digest of `gatehouse.yaml` and of what it includes.
    pub fn digest(&self, settings: &Settings) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        for path in configuration(settings) {
            hash.update(self.0.get(&path).copied().flatten().as_ref().map_or(b"", |print| print.as_slice()));
        }
        hash.finish().as_ref().iter().fold(String::with_capacity(64), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        })
    }
}

/// The traces of every file that these settings name.
pub fn traces(settings: &Settings) -> BTreeMap<PathBuf, Trace> {
    files(settings).into_iter().map(|path| (path.clone(), Trace::of(&path))).collect()
}

/// Files of certificates, keys, trust anchors and revocation lists: those that are renewed by themselves.
fn credentials(settings: &Settings) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for domain in &settings.domains {
        files.extend([domain.certificate.chain.clone(), domain.certificate.key.clone()]);
    }
    files.extend(trust(settings));
    files
}

/// Those among them by which others are judged.
pub fn trust(settings: &Settings) -> Vec<PathBuf> {
    let mut files = settings.trust.crls.clone();
    files.extend(settings.trust.peers.iter().map(|peer| peer.roots.clone()));
    for domain in &settings.domains {
        files.extend(domain.clients.roots.iter().chain(&domain.clients.crls).cloned());
    }
    if let Roots::Pem(path) = &settings.trust.roots {
        files.push(path.clone());
    }
    files
}

fn configuration(settings: &Settings) -> Vec<PathBuf> {
    let mut files = settings.beside.clone();
    files.push(PathBuf::from(settings.file.as_ref()));
    files
}

/// Every file that these settings name to be read.
pub fn files(settings: &Settings) -> Vec<PathBuf> {
    let mut files = configuration(settings);
    files.extend(credentials(settings));
    files.extend(settings.domains.iter().flat_map(|domain| domain.policies.iter().cloned()));
    files.extend(settings.lists.iter().flat_map(super::listed::files_of));
    files.extend(settings.patches.iter().cloned());
    files.extend(settings.domains.iter().flat_map(|domain| domain.shadow.iter().flatten().cloned()));
    if let crate::dns::Dnssec::Validate(Some(path)) = &settings.dns.dnssec {
        files.push(path.clone());
    }
    let secrets = [settings.secrets.world.as_ref(), settings.secrets.inside.as_ref()];
    let store =
        settings.cluster.iter().flat_map(|cluster| [cluster.password.as_ref(), cluster.roots.as_ref()]);
    files.extend(secrets.into_iter().chain(store).flatten().cloned());
    files
}

/// A file by what it holds, a folder by what is in it.
fn print(path: &Path) -> Option<[u8; 32]> {
    let mut hash = digest::Context::new(&digest::SHA256);
    match fs::read(path) {
        Ok(octets) => hash.update(&octets),
        Err(_) => {
            let mut names: Vec<_> =
                fs::read_dir(path).ok()?.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            names.iter().for_each(|name| hash.update(name.as_encoded_bytes()));
        }
    }
    hash.finish().as_ref().try_into().ok()
}
