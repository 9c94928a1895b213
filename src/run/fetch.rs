//! Documents fetched by HTTPS from the open Internet: only from where the guard lets it (DNS-05), on the way that the domain has, within
//! bounds of time and octets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::ways::{self, WayOut, WaysOut};
use crate::dns::{DnsFault, Resolver, Share};
use crate::jid::Domain;
use crate::net;
use crate::net::web::{self, Answered, Document, Marks, Url, Wish};
use crate::policy::Proxy;
use crate::reason::escaped;
use crate::tls::{self, TrustStore};

/// What a fetch goes through.
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    /// Where hosts are, and what may be dialled.
    pub resolver: &'a Resolver,
    /// What routes say of the ways out, by remote domain.
    pub ways: &'a WaysOut,
    /// The proxy that the rule names for this domain.
    pub via: Option<&'a Proxy>,
    /// How long to dial.
    pub dial: &'a net::connect::Params,
    /// From where, if the hosted domain says so.
    pub sources: &'a [IpAddr],
    /// What web servers are judged by.
    pub trust: &'a TrustStore,
    /// Whose share of the lookups these take.
    pub share: Share,
}

/// Asks once for that place, on behalf of that domain.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn request(
    place: &Url,
    domain: &Domain,
    reach: &Reach<'_>,
    wish: &Wish<'_>,
) -> Result<Answered, String> {
    let found = reach.resolver.host(&place.host, place.port, reach.share).await;
    let mut addresses: Vec<SocketAddr> = found.map_err(|fault| match fault {
        DnsFault::NotFound => "its host has no address in the DNS".to_owned(),
        fault => fault.to_string(),
    })?;
    addresses.retain(|address| !net::connect::is_ours(*address));
    if addresses.is_empty() {
        return Err("it is this machine".to_owned());
    }
    // A proxy is asked for the address: the host that a route names is another.
    let way = ways::way_out(reach.ways, reach.via, domain).map(|way| WayOut { named: None, ..way });
    let mut dial = reach.dial.clone();
    if way.is_none() {
        dial.sources = reach.sources.to_vec();
    }
    let dialled = ways::dial(way.as_ref(), reach.resolver, &addresses, &dial).await;
    let stream = dialled.map_err(|fault| fault.to_string())?.stream;
    let stream = tls::web::connect(stream, &place.host, domain, reach.trust).await?;
    web::get(stream, place, wish).await
}

/// The document at that URL, wherever it redirects to; none if it has not changed. One deadline holds for all of it.
///
/// # Errors
/// Why there is none, in words.
pub async fn document(
    url: &str,
    known: Option<&Marks>,
    reach: &Reach<'_>,
) -> Result<Option<Document>, String> {
    let wish = Wish { accept: "text/plain, */*;q=0.5", most: OCTETS, known };
    let fetched = async {
        let mut place = Url::parse(url)?;
        for _ in 0..=REDIRECTS {
            let domain =
                Domain::parse(&place.host).map_err(|_| format!("{}: it names no domain", place.host))?;
            let missed = |what: String| escaped(&format!("{place}: {what}"), SHOWN);
            match request(&place, &domain, reach, &wish).await.map_err(missed)? {
                Answered::Document(document) => return Ok(Some(document)),
                Answered::Unchanged => return Ok(None),
                Answered::Moved(location) => {
                    let wrong = |what| missed(format!("it redirects to {location}: {what}"));
                    place = place.follow(&location).map_err(wrong)?;
                }
            }
        }
        Err(format!("more than {REDIRECTS} redirects"))
    };
    let late = |_| Err(format!("not within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, fetched).await.unwrap_or_else(late)
}

/// What is in the way of lists that are fetched, by their names.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<String, String>>);

impl Troubles {
    /// What came of the last fetch of this list; whether that is news.
    pub fn note(&self, list: &str, trouble: Option<&str>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            None => all.remove(list).is_some(),
            Some(words) => all.insert(list.to_owned(), words.to_owned()).as_deref() != Some(words),
        }
    }

    /// What is in the way of this one.
    pub fn of(&self, list: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(list).cloned()
    }
}

/// Octets of a document.
const OCTETS: usize = 128 << 20;

/// How long a fetch may take, with all redirects.
const PATIENCE: Duration = Duration::from_secs(120);

const REDIRECTS: u8 = 5;

/// Characters of what a server has said, in words of ours.
const SHOWN: usize = 300;
