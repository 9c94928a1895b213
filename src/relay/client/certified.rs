//! The certificate of the client: whether it lets anybody in, whom, and for how long (C2S-15, CRT-12).

use std::time::Instant;

use super::{After, Step};
use crate::jid::Domain;
use crate::reason::{Outcome, Reason, Why};
use crate::relay::plan::Home;
use crate::relay::{Event, judge};
use crate::stream::Certificate;
use crate::stream::client::certified::{self, Account, CertificateTerms, Demand};
use crate::stream::client::serving::Serving;
use crate::stream::client::{Granted, Own, ServerAnswer};

impl Step<'_, '_> {
    /// Under TLS, before anything is offered: whom the certificate lets in at this domain. Nobody guesses a password where a
    /// certificate is missing.
    pub(super) fn admit(&mut self, domain: &Domain) -> Result<(), Reason> {
        if self.client.secured.is_none() {
            return Ok(());
        }
        match self.judged(domain) {
            Ok(account) => {
                self.client.account = account;
                Ok(())
            }
            Err(why) => Err(self.told_uncertified(domain.clone(), why)),
        }
    }

    /// Whether this account may be tried at all: a guess at another's password ends here.
    pub(super) fn may_try(&self, account: Option<&str>) -> Result<(), Why> {
        self.client.account.as_ref().map_or(Ok(()), |certified| certified.may_be(account))
    }

    /// Whether the word of the server names the account of the certificate, if it names one. The client has not heard it yet.
    pub(super) fn is_certified(&self, word: &ServerAnswer) -> Result<(), Why> {
        let Some(account) = &self.client.account else { return Ok(()) };
        let granted = self.client.near.machine().and_then(Serving::granted);
        match word {
            ServerAnswer::Bound(own) | ServerAnswer::Success(Granted::Bound(own) | Granted::Open(own)) => {
                account.is(own)
            }
            // It names no address: what counts is whose login it is.
            ServerAnswer::Resumed => granted.map_or(Ok(()), |own: &Own| account.is(own)),
            _ => Ok(()),
        }
    }

    /// The end of a client whose certificate, or want of one, does not let it go on.
    pub(super) fn uncertified(&mut self, why: Why) {
        let Some(hosted) = self.hosted() else { return };
        let reason = self.told_uncertified(hosted, why);
        self.near_fault(reason, After::Closed);
    }

    /// The certificate is worth this now, or the domain asks for something else now (CRT-12).
    pub(super) fn certify_again(&mut self, otherwise: Reason) {
        let Some(hosted) = self.hosted().filter(|_| self.client.near.is_open()) else { return };
        let account = match self.judged(&hosted) {
            Ok(account) => account,
            Err(Why { reason: Reason::ClientCertificateUntrusted, detail }) => {
                return self.uncertified(Why { reason: otherwise, detail });
            }
            Err(why) => return self.uncertified(why),
        };
        let own = self.client.own();
        let doubt = account.as_ref().zip(own).and_then(|(account, own)| account.is(own).err());
        self.client.account = account;
        if let Some(why) = doubt {
            self.uncertified(why);
        }
    }

    pub(super) fn show(&mut self, certificate: Certificate) {
        if let Some(secured) = &mut self.client.secured {
            secured.certificate = Some(certificate);
        }
        let shown = self.client.secured.as_ref().and_then(|secured| secured.certificate.as_ref());
        let lost =
            self.hosted().map_or(Reason::CertificateDistrusted, |domain| judge::distrust(shown, &domain));
        self.certify_again(lost);
    }

    fn judged(&self, domain: &Domain) -> Result<Option<Account>, Why> {
        let asked = self
            .turn
            .home
            .clients
            .get(domain)
            .map_or_else(CertificateTerms::default, |client| client.certificate);
        let shown = self.client.secured.as_ref().and_then(|secured| secured.certificate.as_ref());
        certified::account(asked, shown.filter(|_| asked.demand != Demand::Off), domain)
    }

    pub(super) fn told_uncertified(&mut self, hosted: Domain, why: Why) -> Reason {
        let Why { reason, detail } = why;
        self.client.detail.clone_from(&detail);
        let (mechanism, account, outcome) = (None, None, Outcome::Deny);
        self.note(Event::Login { hosted, mechanism, account, outcome, reason, detail });
        reason
    }
}

impl super::Client {
    /// Why it would end, were the certificate by which it was let in worth this.
    pub(super) fn foreseen(&self, again: Option<&Certificate>, home: &Home) -> Option<Reason> {
        let (again, before) = (again?, self.secured.as_ref()?.certificate.as_ref()?);
        let domain = again.of_client.as_ref()?;
        let asked =
            home.clients.get(domain).map_or_else(CertificateTerms::default, |client| client.certificate);
        let is_good = |shown| certified::account(asked, Some(shown), domain).is_ok();
        let loses = asked.demand != Demand::Off && is_good(before) && !is_good(again);
        loses.then(|| judge::distrust(Some(again), domain))
    }

    /// When the certificate expires that somebody was let in by (CRT-12).
    pub(super) fn certificate_end(&self) -> Option<Instant> {
        let shown = self.secured.as_ref().and_then(|secured| secured.certificate.as_ref());
        shown.filter(|_| self.near.is_open() && self.account.is_some()).and_then(|shown| shown.expires)
    }
}
