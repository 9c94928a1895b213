//! Lists that are fetched: put into the folder `state`, where they are read as any other file is.
//!
//! What does not come whole, bears no good signature or has no entry at all is not put there: then the file that is there stays, grows
//! old, and is held once it is older than it may be. Whether it has changed too much at once is judged where files are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::config::list_file::{Fetch, ListFile};
use crate::config::listed::{FETCHED, is_signed, signature_of};
use crate::config::settings::Settings;
use crate::net::web::{Document, Marks};
use crate::policy::List;
use crate::run::world::World;
use crate::run::{Tools, kept, now};

/// Fetches for as long as the gateway runs.
pub(super) async fn follow(current: impl Fn() -> (Arc<Settings>, Arc<World>, Arc<Tools>) + Send + Sync) {
    let mut tick = super::ticks::every(LOOK);
    let mut plans: BTreeMap<String, Planned> = BTreeMap::new();
    let mut names = None;
    let mut news = current().2.registry.news();
    loop {
        tick.tick().await;
        drop(news.borrow_and_update());
        let (settings, world, tools) = current();
        let lists: Vec<(&ListFile, &Fetch)> =
            settings.lists.iter().filter_map(|list| Some((list, list.fetch.as_ref()?))).collect();
        let wanted: BTreeSet<String> = lists.iter().map(|(list, _)| list.name.clone()).collect();
        if let Some(folder) = &settings.state
            && names.as_ref() != Some(&wanted)
        {
            plans.retain(|name, _| wanted.contains(name));
            tidy(folder.clone(), wanted.clone()).await;
            names = Some(wanted);
        }
        if lists.is_empty() {
            // A reload may bring some.
            let _either = tokio::time::timeout(SELDOM, news.changed()).await;
            continue;
        }
        for (list, fetch) in lists {
            let plan = match plans.get(&list.name).filter(|plan| plan.source.url == fetch.url) {
                Some(plan) => plan.clone(),
                None => Planned::of(list.clone(), fetch.clone()).await,
            };
            let plan = match plan.next <= now() {
                true => plan.carried_out((list, fetch), &world, &tools).await,
                false => plan,
            };
            plans.insert(list.name.clone(), plan);
        }
    }
}

/// Where a list was fetched from, as it is remembered over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    url: String,
    marks: Marks,
}

/// When a list is fetched next.
#[derive(Clone, Debug)]
struct Planned {
    source: Source,
    next: Instant,
}

impl Planned {
    /// What an earlier process has fetched from there needs not be fetched before its time.
    async fn of(list: ListFile, fetch: Fetch) -> Self {
        let url = fetch.url.clone();
        let found = tokio::task::spawn_blocking(move || {
            let source = kept::read::<Source>(&source_of(&list.file)).ok().flatten()?;
            let age =
                fs::metadata(&list.file).and_then(|file| file.modified()).ok()?.elapsed().unwrap_or_default();
            (source.url == fetch.url)
                .then(|| Self { source, next: now() + fetch.refresh.saturating_sub(age) })
        });
        found
            .await
            .ok()
            .flatten()
            .unwrap_or_else(|| Self { source: Source { url, marks: Marks::default() }, next: now() })
    }

    /// Fetches once, and tells what came of it.
    async fn carried_out(mut self, (list, fetch): (&ListFile, &Fetch), world: &World, tools: &Tools) -> Self {
        let fetched = self.fetch((list, fetch), world).await;
        let trouble = fetched.as_ref().err();
        let news = tools.fetches.note(&list.name, trouble.map(String::as_str));
        tools.observe.metrics().list_fetched(
            &list.name,
            match &fetched {
                Ok(true) => "changed",
                Ok(false) => "unchanged",
                Err(_) => "failed",
            },
        );
        match trouble {
            Some(why) if news => {
                tracing::warn!(
                    list = list.name,
                    url = fetch.url,
                    why,
                    "a list cannot be fetched; what is there stays"
                );
            }
            Some(why) => tracing::debug!(list = list.name, url = fetch.url, why, "a list cannot be fetched"),
            None if news => tracing::warn!(list = list.name, url = fetch.url, "a list can be fetched again"),
            None => {}
        }
        let soon = (fetch.refresh / 10).max(SOON).min(fetch.refresh);
        self.next = now() + if trouble.is_some() { soon } else { fetch.refresh };
        self
    }

    /// Whether it has changed.
    async fn fetch(&mut self, (list, fetch): (&ListFile, &Fetch), world: &World) -> Result<bool, String> {
        let known =
            Some(&self.source.marks).filter(|marks| **marks != Marks::default() && list.file.exists());
        let Some(document) = world.document(&fetch.url, known).await? else {
            touch(list.file.clone()).await.map_err(|error| format!("{}: {error}", list.file.display()))?;
            return Ok(false);
        };
        let signature = match &list.minisign {
            None => None,
            Some(_) => {
                let document = world.document(&beside(&fetch.url), None).await?;
                Some(document.ok_or("its signature does not come")?)
            }
        };
        let source = Source { url: fetch.url.clone(), marks: document.marks.clone() };
        let (list, put) = (list.clone(), source.clone());
        let written =
            tokio::task::spawn_blocking(move || write(&list, &document, signature.as_ref(), &put)).await;
        written.map_err(|error| error.to_string())??;
        self.source = source;
        Ok(true)
    }
}

/// Puts a list where it is read, if it is one.
fn write(
    list: &ListFile,
    document: &Document,
    signature: Option<&Document>,
    source: &Source,
) -> Result<(), String> {
    let text = std::str::from_utf8(&document.octets).map_err(|_| "it is no text in UTF-8")?;
    let words = |error: io::Error| format!("{}: {error}", list.file.display());
    let unmarked = text.strip_prefix('\u{feff}').unwrap_or(text);
    let read = List::read_as(&list.name, unmarked, list.format);
    if read.is_empty() && read.unread().lines > 0 {
        return Err(format!("no line of it is a {}", list.format.entry()));
    }
    if let (Some(key), Some(signature)) = (&list.minisign, signature) {
        let signature = std::str::from_utf8(&signature.octets).map_err(|_| "its signature is no text")?;
        if !is_signed(key, text, signature) {
            return Err("no good signature lies beside it".to_owned());
        }
        kept::put(&signature_of(&list.file), signature.as_bytes()).map_err(words)?;
    }
    kept::put(&list.file, text.as_bytes()).map_err(words)?;
    kept::write(&source_of(&list.file), source).map_err(words)
}

/// It is as good as new.
async fn touch(file: PathBuf) -> io::Result<()> {
    let touched = tokio::task::spawn_blocking(move || {
        let time = SystemTime::from(jiff::Timestamp::now());
        fs::OpenOptions::new().append(true).open(file)?.set_modified(time)
    });
    touched.await.map_err(io::Error::other)?
}

/// Removes what was fetched of lists that are no more.
async fn tidy(folder: PathBuf, wanted: BTreeSet<String>) {
    let tidied = tokio::task::spawn_blocking(move || -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if name_of(&path).is_some_and(|name| !wanted.contains(name)) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    });
    if let Ok(Err(error)) = tidied.await {
        tracing::warn!(%error, "what was fetched of lists that are no more cannot be removed");
    }
}

/// The name of the list that was put into this file, or whose signature or source it is.
fn name_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_prefix(FETCHED.0)?;
    let name = name.strip_suffix(SIGNATURE).or_else(|| name.strip_suffix(SOURCE)).unwrap_or(name);
    name.strip_suffix(FETCHED.1)
}

fn source_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SOURCE);
    name.into()
}

/// The URL of the signature.
fn beside(url: &str) -> String {
    match url.split_once('?') {
        Some((path, query)) => format!("{path}{SIGNATURE}?{query}"),
        None => format!("{url}{SIGNATURE}"),
    }
}

const SIGNATURE: &str = ".minisig";
const SOURCE: &str = ".source";

/// How often it is looked whether any list is fetched, where none is.
const SELDOM: Duration = Duration::from_secs(60);

/// How often it is looked whether a list is due.
const LOOK: Duration = Duration::from_secs(1);

/// A fetch that came to nothing is tried again after so long at least, where a list is not fetched more often than that.
const SOON: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_has_the_name_of_its_list() {
        for name in ["spam", "a.fetched", "x.source", "list-"] {
            for suffix in ["", SIGNATURE, SOURCE] {
                let path = PathBuf::from(format!("state/list-{name}.fetched{suffix}"));
                assert_eq!(name_of(&path), Some(name), "{path:?}");
            }
        }
        for other in ["quarantine.json", "list-a.kept", "list-a.fetched.new", "policy-use.json"] {
            assert_eq!(name_of(Path::new(other)), None, "{other}");
        }
        assert_eq!(beside("https://a.example/x?y=1"), "https://a.example/x.minisig?y=1");
        assert_eq!(beside("https://a.example/x"), "https://a.example/x.minisig");
    }
}
