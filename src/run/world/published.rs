//! What domains publish about their certificates, looked up for one that a peer shows; and other documents that are fetched.

use std::sync::{Arc, PoisonError};

use super::super::fetch::{self, Reach};
use super::{Inner, World};
use crate::dns::{DnsFault, Share};
use crate::metrics::Limit;
use crate::net::web::{Document, Marks};
use crate::policy::Proxy;
use crate::reason::Cause;
use crate::stream::dane::Dane;
use crate::stream::evidence::{Evidence, Posh, Sought};
use crate::stream::{Certificate, Pair, Proof, Secured};
use crate::tls;

impl World {
    /// The document at that URL, fetched as a POSH file is (DNS-05); none if it has not changed.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn document(&self, url: &str, known: Option<&Marks>) -> Result<Option<Document>, String> {
        let inner = &self.0;
        let connector = Arc::clone(&inner.connector.read().unwrap_or_else(PoisonError::into_inner));
        let reach = Reach {
            resolver: &inner.params.resolver,
            ways: &inner.params.ways,
            via: None,
            dial: &inner.params.dial,
            sources: &[],
            trust: connector.trust(),
            share: Share::Own,
        };
        fetch::document(url, known, &reach).await
    }
}

impl Inner {
    /// What the sender of this pair publishes about the certificate with which it calls (DNS-15). The weaker proof is looked for only
    /// where there is not the stronger one.
    pub(super) async fn inquire(
        &self,
        pair: &Pair,
        shown: &Certificate,
        sought: Sought,
        via: Option<&Proxy>,
    ) -> Evidence {
        let mut found = Evidence::none(pair.sender.clone());
        if sought.dane {
            found.dane = match self.params.resolver.published(&pair.sender, Share::Claims).await {
                Ok(published) => tls::dane::judge_caller(&published, shown, &pair.sender),
                Err(DnsFault::Guarded | DnsFault::NoDomain | DnsFault::NotFound) => Dane::Unpublished,
                Err(DnsFault::Bogus) => Dane::Unknown(Cause::DnsBogus),
                Err(DnsFault::TooMuch) => {
                    self.params.metrics.limited(Limit::Validation);
                    Dane::Unknown(Cause::DnsTooMuch)
                }
                Err(DnsFault::Busy | DnsFault::Failed | DnsFault::NoRoom | DnsFault::Timeout) => {
                    Dane::Unknown(Cause::DnsTrouble)
                }
            };
        }
        if sought.posh && !matches!(found.dane, Dane::Proven(_)) {
            found.posh = self.posh(pair, shown, via, Share::Claims).await;
        }
        found
    }

    /// The same of a server that we called, where nothing on the channel proves it, and nothing speaks against it.
    pub(super) async fn read_file(&self, secured: &mut Secured, pair: &Pair, via: Option<&Proxy>) {
        let dane = secured.dane(&pair.sender);
        let Some(shown) = secured.certificate.clone() else { return };
        if matches!(dane, Dane::Proven(_) | Dane::Failed)
            || Proof::by_certificate(Some(secured), pair).is_ok()
        {
            return;
        }
        let known = secured.evidence(&pair.sender).cloned();
        let known = known.unwrap_or_else(|| Evidence::none(pair.sender.clone()));
        let posh = self.posh(pair, &shown, via, Share::Own).await;
        secured.attest(Evidence { posh, ..known });
    }

    async fn posh(&self, pair: &Pair, shown: &Certificate, via: Option<&Proxy>, share: Share) -> Posh {
        let connector = Arc::clone(&self.connector.read().unwrap_or_else(PoisonError::into_inner));
        let params = &self.params;
        let reach = Reach {
            resolver: &params.resolver,
            ways: &params.ways,
            via,
            dial: &params.dial,
            sources: params.sources.get(&pair.target).map_or(&[], Vec::as_slice),
            trust: connector.trust(),
            share,
        };
        params.posh.judge(&pair.sender, shown, &reach).await
    }
}
