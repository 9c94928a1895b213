//! POSH (RFC 7711): a domain names the certificates of its servers in a file on its web server, which is believed as far as HTTPS is.
//!
//! Upholds `bounded`: a fetch has one deadline, so many redirects and octets, and goes only where the guard lets it (DNS-05); so many
//! run at a time, whoever asks for the same domain shares one, and what was found is kept no longer than the file says.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout};

pub use super::fetch::Reach;

use super::fetch;
use crate::jid::Domain;
use crate::net::web::{Answered, Url, Wish};
use crate::reason::{Cause, Detail, escaped};
use crate::stream::evidence::Posh;
use crate::stream::secured::Certificate;
use crate::tls;

/// Fetches files and keeps them while they hold.
pub struct Files {
    known: Mutex<HashMap<Domain, Arc<OnceCell<Kept>>>>,
    turns: Semaphore,
}

#[derive(Debug)]
struct Kept {
    found: Result<Vec<Fingerprint>, Detail>,
    until: Instant,
}

impl Default for Files {
    fn default() -> Self {
        Self { known: Mutex::default(), turns: Semaphore::new(FETCHES) }
    }
}

impl Files {
    /// What the file of this domain makes of a certificate. A match replaces the check of names and of the path, and not that of
    /// the dates (DNS-17).
    pub async fn judge(&self, domain: &Domain, shown: &Certificate, reach: &Reach<'_>) -> Posh {
        let Some(cell) = self.cell(domain) else {
            return not(Cause::PoshNotFetched, "as many files are being fetched as may be");
        };
        let kept = cell.get_or_init(|| self.fetch(domain, reach)).await;
        match &kept.found {
            Err(detail) => Posh::Not(Box::new(detail.clone())),
            Ok(named) => {
                let leaf = shown.chain.certificates().next();
                if !leaf.is_some_and(|leaf| named.iter().any(|fingerprint| fingerprint.is_of(leaf))) {
                    not(Cause::PoshMismatch, "")
                } else if !tls::web::is_in_date(shown) {
                    not(Cause::Expired, format!("on {}", crate::reason::day(shown.not_after)))
                } else {
                    Posh::Proven
                }
            }
        }
    }

    /// Everything is fetched anew: what web servers were judged by has changed.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The place where this domain's file is, was or will be.
    fn cell(&self, domain: &Domain) -> Option<Arc<OnceCell<Kept>>> {
        let now = Instant::now();
        let is_fresh = |cell: &Arc<OnceCell<Kept>>| cell.get().is_none_or(|kept| kept.until > now);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = known.get(domain).filter(|cell| is_fresh(cell)) {
            return Some(Arc::clone(cell));
        }
        if known.len() >= MOST && !known.contains_key(domain) {
            known.retain(|_, cell| is_fresh(cell) && (cell.initialized() || Arc::strong_count(cell) > 1));
        }
        if known.len() >= MOST && !known.contains_key(domain) {
            let finished = known.iter().find(|(_, cell)| cell.initialized()).map(|(name, _)| name.clone());
            known.remove(&finished?);
        }
        let cell = Arc::new(OnceCell::new());
        known.insert(domain.clone(), Arc::clone(&cell));
        Some(cell)
    }

    async fn fetch(&self, domain: &Domain, reach: &Reach<'_>) -> Kept {
        let fetched = timeout(PATIENCE, async {
            let _turn = self.turns.acquire().await;
            of_domain(domain, reach).await
        });
        let found = fetched.await.unwrap_or_else(|_late| {
            Err(Detail::new(Cause::PoshNotFetched, format!("not within {} s", PATIENCE.as_secs())))
        });
        let (found, holds) = match found {
            Ok((named, holds)) => (Ok(named), holds.min(LONGEST)),
            Err(detail) => {
                tracing::debug!(domain = %domain, %detail, "no POSH file");
                (Err(detail), FAILURE)
            }
        };
        Kept { found, until: Instant::now() + holds }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

/// The file of a domain, or that which it refers to; the lower of both times holds (RFC 7711 6).
async fn of_domain(domain: &Domain, reach: &Reach<'_>) -> Result<(Vec<Fingerprint>, Duration), Detail> {
    let unusable = |what: &str| Detail::new(Cause::PoshUnusable, what);
    let first = Url::parse(&format!("https://{}/.well-known/posh/xmpp-server.json", domain.to_ascii()))
        .map_err(unusable)?;
    let mut redirects = 0;
    let document = document(first, domain, reach, &mut redirects).await?;
    match read(&document).map_err(unusable)? {
        File { says: Says::Named(named), holds } => Ok((named, holds)),
        File { says: Says::Elsewhere(url), holds } => {
            let wrong = |what| unusable(&format!("its `url` {}: {what}", escaped(&url, SHOWN)));
            let place = Url::parse(&url).map_err(wrong)?;
            let document = self::document(place, domain, reach, &mut redirects).await?;
            match read(&document).map_err(unusable)? {
                File { says: Says::Named(named), holds: other } => Ok((named, holds.min(other))),
                File { says: Says::Elsewhere(_), .. } => Err(unusable("its `url` leads to another `url`")),
            }
        }
    }
}

/// One document, behind at most so many redirects in all.
async fn document(
    place: Url,
    domain: &Domain,
    reach: &Reach<'_>,
    redirects: &mut u8,
) -> Result<Vec<u8>, Detail> {
    let mut place = place;
    loop {
        let missed =
            |what: String| Detail::new(Cause::PoshNotFetched, escaped(&format!("{place}: {what}"), SHOWN));
        match fetch::request(&place, domain, reach, &WISH).await.map_err(missed)? {
            Answered::Document(document) => return Ok(document.octets.to_vec()),
            Answered::Unchanged => return Err(missed("it answers 304".to_owned())),
            Answered::Moved(location) => {
                *redirects += 1;
                if *redirects > REDIRECTS {
                    return Err(missed(format!("more than {REDIRECTS} redirects")));
                }
                let wrong = |what| missed(format!("it redirects to {location}: {what}"));
                place = place.follow(&location).map_err(wrong)?;
            }
        }
    }
}

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
struct File {
    says: Says,
    holds: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Says {
    Named(Vec<Fingerprint>),
    Elsewhere(String),
}

/// The digests of one certificate, all of which must be its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    sha256: Option<Vec<u8>>,
    sha512: Option<Vec<u8>>,
}

impl Fingerprint {
    fn is_of(&self, certificate: &[u8]) -> bool {
        let fits = |told: &Option<Vec<u8>>, algorithm| {
            told.as_ref().is_none_or(|told| told == digest(algorithm, certificate).as_ref())
        };
        fits(&self.sha256, &SHA256) && fits(&self.sha512, &SHA512)
    }
}

/// Reads a file (RFC 7711 3). A digest that nobody here knows is passed over; what is left must be one at least.
fn read(octets: &[u8]) -> Result<File, &'static str> {
    let file: Value = serde_json::from_slice(octets).map_err(|_| "it is no JSON")?;
    let expires = file.get("expires").ok_or("it has no `expires`")?;
    let holds = match expires.as_u64() {
        Some(0) => return Err("it says that it is over (`expires` is 0)"),
        Some(seconds) => Duration::from_secs(seconds),
        None => return Err("its `expires` is no number of seconds"),
    };
    let says = match (file.get("fingerprints"), file.get("url")) {
        (Some(_), Some(_)) => return Err("it has `fingerprints` and `url`, of which one must do"),
        (None, None) => return Err("it has neither `fingerprints` nor `url`"),
        (None, Some(url)) => Says::Elsewhere(url.as_str().ok_or("its `url` is no text")?.to_owned()),
        (Some(list), None) => {
            let list = list.as_array().ok_or("its `fingerprints` are no list")?;
            if list.len() > FINGERPRINTS {
                return Err("it names more certificates than are looked at");
            }
            let named: Vec<Fingerprint> = list.iter().filter_map(fingerprint).collect();
            if named.is_empty() {
                return Err("it names no certificate by sha-256 or sha-512");
            }
            Says::Named(named)
        }
    };
    Ok(File { says, holds })
}

/// One certificate of the list; none where a digest is not what it says, or none is known.
fn fingerprint(told: &Value) -> Option<Fingerprint> {
    let read = |name: &str, length: usize| match told.get(name) {
        None => Some(None),
        Some(value) => {
            let octets = value.as_str().and_then(|text| STANDARD.decode(text).ok());
            octets.filter(|octets| octets.len() == length).map(Some)
        }
    };
    let fingerprint = Fingerprint { sha256: read("sha-256", 32)?, sha512: read("sha-512", 64)? };
    (fingerprint.sha256.is_some() || fingerprint.sha512.is_some()).then_some(fingerprint)
}

fn not(cause: Cause, particulars: impl Into<Box<str>>) -> Posh {
    Posh::Not(Box::new(Detail::new(cause, particulars)))
}

/// What a fetch may take in all, redirects and the reference included.
const PATIENCE: Duration = Duration::from_secs(6);
/// Fetches at one time.
const FETCHES: usize = 32;
/// Files that are kept.
const MOST: usize = 4096;
/// Octets of a file.
const OCTETS: usize = 64 * 1024;
const WISH: Wish<'static> = Wish { accept: "application/json", most: OCTETS, known: None };
/// Redirects in all.
const REDIRECTS: u8 = 5;
/// Certificates in a file that are looked at.
const FINGERPRINTS: usize = 256;
/// How long a file is kept at most, whatever it says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long it is remembered that there is none that counts: long enough to keep a crowd from asking.
const FAILURE: Duration = Duration::from_secs(60);
/// Characters of a URL that are shown.
const SHOWN: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(octets: &[u8]) -> String {
        STANDARD.encode(octets)
    }

    #[test]
    fn a_file_is_read_as_the_standard_has_it() {
        let (a, b) = (digest(&SHA256, b"a"), digest(&SHA512, b"b"));
        let text = format!(
            r#"{{"fingerprints":[{{"sha-256":"{}"}},{{"sha-512":"{}","sha-1":"x"}}],"expires":604800}}"#,
            encoded(a.as_ref()),
            encoded(b.as_ref())
        );
        let File { says: Says::Named(named), holds } = read(text.as_bytes()).unwrap() else { panic!() };
        assert_eq!(holds, Duration::from_secs(604_800));
        for (certificate, proven) in [(b"a", true), (b"b", true), (b"c", false)] {
            assert_eq!(named.iter().any(|one| one.is_of(certificate)), proven, "{certificate:?}");
        }
        let both = format!(
            r#"{{"fingerprints":[{{"sha-256":"{}","sha-512":"{}"}}],"expires":1}}"#,
            encoded(a.as_ref()),
            encoded(b.as_ref())
        );
        let File { says: Says::Named(named), .. } = read(both.as_bytes()).unwrap() else { panic!() };
        assert!(!named[0].is_of(b"a") && !named[0].is_of(b"b"), "both digests must be its own");
        let url = br#"{"url":"https://b.example/x.json","expires":7}"#;
        let says = Says::Elsewhere("https://b.example/x.json".to_owned());
        assert_eq!(read(url), Ok(File { says, holds: Duration::from_secs(7) }));
    }

    #[test]
    fn a_file_that_says_nothing_that_counts_says_so() {
        let good = encoded(&[7; 32]);
        for wrong in [
            String::new(),
            "no json".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"expires":60}"#.to_owned(),
            r#"{"fingerprints":[],"expires":60}"#.to_owned(),
            format!(r#"{{"fingerprints":[{{"sha-256":"{good}"}}]}}"#),
            format!(r#"{{"fingerprints":[{{"sha-256":"{good}"}}],"expires":0}}"#),
            format!(r#"{{"fingerprints":[{{"sha-256":"{good}"}}],"expires":-1}}"#),
            format!(r#"{{"fingerprints":[{{"sha-256":"{good}"}}],"expires":"60"}}"#),
            format!(r#"{{"fingerprints":[{{"sha-256":"{good}"}}],"url":"https://b.example/","expires":60}}"#),
            format!(r#"{{"fingerprints":[{{"sha-1":"{good}"}}],"expires":60}}"#),
            format!(r#"{{"fingerprints":[{{"sha-512":"{good}"}}],"expires":60}}"#),
            format!(r#"{{"fingerprints":[{{"sha-256":"{good}","sha-512":"?"}}],"expires":60}}"#),
            format!(r#"{{"fingerprints":{{"sha-256":"{good}"}},"expires":60}}"#),
            r#"{"url":5,"expires":60}"#.to_owned(),
            format!(r#"{{"fingerprints":[{}{{}}],"expires":60}}"#, "{},".repeat(FINGERPRINTS)),
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
