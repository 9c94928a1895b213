//! The certificate of the client: whether it lets anybody in, whom, and for how long (C2S-15, CRT-12).

use std::time::Instant;

use crate::jid::Domain;
use crate::reason::{Reason, Why};
use crate::relay::judge;
use crate::relay::plan::RelayParams;
use crate::stream::client::certified::{self, Account, CertificateTerms, Demand};
use crate::stream::client::{Granted, Own, ServerAnswer};
use crate::stream::{Certificate, Secured};

/// The channel of the client, and whom its certificate lets in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Certified {
    secured: Option<Secured>,
    /// Whom it lets in, where the domain asks for one.
    account: Option<Account>,
}

impl Certified {
    /// The channel as it arrived, before anybody is let in.
    pub(super) fn new(secured: Option<Secured>) -> Self {
        Self { secured, account: None }
    }

    /// The handshake is done.
    pub(super) fn secure(&mut self, secured: Secured) {
        self.secured = Some(secured);
    }

    pub(super) fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    fn shown(&self) -> Option<&Certificate> {
        self.secured.as_ref().and_then(|secured| secured.certificate.as_ref())
    }

    /// Under TLS, before anything is offered: whom the certificate lets in at this domain. Nobody guesses a password where a
    /// certificate is missing.
    ///
    /// # Errors
    /// Why it lets nobody in.
    pub(super) fn admit(&mut self, domain: &Domain, relays: &RelayParams) -> Result<(), Why> {
        if self.secured.is_some() {
            self.account = self.judged(domain, relays)?;
        }
        Ok(())
    }

    /// Whether this account may be tried at all: a guess at another's password ends here.
    ///
    /// # Errors
    /// It is not that of the certificate.
    pub(super) fn may_try(&self, account: Option<&str>) -> Result<(), Why> {
        self.account.as_ref().map_or(Ok(()), |certified| certified.may_be(account))
    }

    /// Whether the word of the server names the account of the certificate, if it names one; `granted` is whose login it is by an
    /// earlier word.
    ///
    /// # Errors
    /// It names another.
    pub(super) fn is_named(&self, word: &ServerAnswer, granted: Option<&Own>) -> Result<(), Why> {
        let Some(account) = &self.account else { return Ok(()) };
        match word {
            ServerAnswer::Bound(own) | ServerAnswer::Success(Granted::Bound(own) | Granted::Open(own)) => {
                account.is(own)
            }
            // It names no address: what counts is whose login it is.
            ServerAnswer::Resumed => granted.map_or(Ok(()), |own| account.is(own)),
            _ => Ok(()),
        }
    }

    /// The domain asks for something else now, or what is worth something of the certificate is another: whom it lets in is looked at
    /// once more. `own` is who the client is.
    ///
    /// # Errors
    /// Why that client may not stay.
    pub(super) fn admit_again(
        &mut self,
        domain: &Domain,
        own: Option<Own>,
        relays: &RelayParams,
    ) -> Result<(), Why> {
        self.account = self.judged(domain, relays)?;
        self.account.as_ref().zip(own).map_or(Ok(()), |(account, own)| account.is(&own))
    }

    /// The certificate is worth this now (CRT-12).
    pub(super) fn show(&mut self, certificate: Certificate) {
        if let Some(secured) = &mut self.secured {
            secured.certificate = Some(certificate);
        }
    }

    /// Why it is worth nothing any more, to that domain if one was named.
    pub(super) fn distrust(&self, domain: Option<&Domain>) -> Reason {
        domain.map_or(Reason::CertificateDistrusted, |domain| judge::distrust(self.shown(), domain))
    }

    fn judged(&self, domain: &Domain, relays: &RelayParams) -> Result<Option<Account>, Why> {
        let asked = demanded(domain, relays);
        certified::account(asked, self.shown().filter(|_| asked.demand != Demand::Off), domain)
    }

    /// Why the client would end, were the certificate by which it was let in worth this.
    pub(super) fn foreseen(&self, again: Option<&Certificate>, relays: &RelayParams) -> Option<Reason> {
        let (again, before) = (again?, self.shown()?);
        let domain = again.of_client.as_ref()?;
        let asked = demanded(domain, relays);
        let is_good = |shown| certified::account(asked, Some(shown), domain).is_ok();
        let loses = asked.demand != Demand::Off && is_good(before) && !is_good(again);
        loses.then(|| judge::distrust(Some(again), domain))
    }

    /// When the certificate expires that somebody was let in by (CRT-12).
    pub(super) fn ends(&self) -> Option<Instant> {
        self.shown().filter(|_| self.account.is_some()).and_then(|shown| shown.expires)
    }
}

/// What a domain asks for.
fn demanded(domain: &Domain, relays: &RelayParams) -> CertificateTerms {
    relays.clients.get(domain).map_or_else(CertificateTerms::default, |client| client.certificate)
}
