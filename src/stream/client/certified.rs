//! Whether a client's certificate lets it in, and as whom (C2S-15, CRT-07): a second factor that the server behind need not know of.
//!
//! The certificate is judged by the authorities that the hosted domain names for its own users ([`super::super::secured::Trust`]),
//! and names one account. The server behind still decides the login; what it then calls the client must be that account.

use crate::jid::{Domain, Jid};
use crate::reason::{Cause, Detail, Reason, Why, escaped};
use crate::stream::secured::{Certificate, PresentedName};

use super::Own;

/// What a hosted domain asks of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CertificateTerms {
    /// Whether a certificate.
    pub demand: Demand,
    /// By which of its names it speaks for an account.
    pub by: CertificateName,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Demand {
    /// They are not.
    #[default]
    Off,
    /// They are; who shows none logs in as before, and who shows one is held to it.
    Request,
    /// They are, and without one nobody logs in.
    Require,
}

impl Demand {
    /// The word in files.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Request => "request",
            Self::Require => "require",
        }
    }
}

/// The names of a certificate that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// xmppAddr where it has any, else its mail addresses.
    Any,
    /// Its mail addresses (rfc822Name), read as addresses of accounts.
    Email,
    /// xmppAddr (RFC 6120 13.7.1.4).
    #[default]
    XmppAddress,
}

impl CertificateName {
    /// The word in files.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Email => "email",
            Self::XmppAddress => "xmpp-address",
        }
    }
}

/// The account that a certificate names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    domain: Domain,
    local: String,
}

impl Account {
    /// Whether it is the one that the server has named.
    ///
    /// # Errors
    /// `ClientCertificateOther` when it is another, or when the server has not said which.
    pub fn is(&self, own: &Own) -> Result<(), Why> {
        if own.is_account(&self.domain, &self.local) {
            return Ok(());
        }
        Err(Why {
            reason: Reason::ClientCertificateOther,
            detail: Some(Detail::new(Cause::OtherAccount, self.shown())),
        })
    }

    /// Whether it is the one that is about to be tried; an account that the mechanism does not show may be.
    ///
    /// # Errors
    /// As for [`Account::is`].
    pub fn may_be(&self, account: Option<&str>) -> Result<(), Why> {
        match account {
            Some(local) => self.is(&Own::by_login(Some(local.to_owned()), &self.domain)),
            None => Ok(()),
        }
    }

    fn shown(&self) -> String {
        escaped(&format!("it is for {}@{}", self.local, self.domain), NAMES)
    }
}

/// Whom this certificate, or none, lets in at the domain: one account, or whoever its server lets in.
///
/// # Errors
/// `ClientCertificateMissing` where one is required, `ClientCertificateUntrusted` where its chain does not hold or it names no
/// account here, or more than one.
pub fn account(
    asked: CertificateTerms,
    certificate: Option<&Certificate>,
    domain: &Domain,
) -> Result<Option<Account>, Why> {
    let refuse = |reason, cause, particulars: String| {
        Err(Why { reason, detail: Some(Detail::new(cause, particulars)) })
    };
    let certificate = match (asked.demand, certificate) {
        (Demand::Off, _) | (Demand::Request, None) => return Ok(None),
        (Demand::Require, None) => {
            return refuse(Reason::ClientCertificateMissing, Cause::NoCertificate, String::new());
        }
        (_, Some(certificate)) => certificate,
    };
    let untrusted = Reason::ClientCertificateUntrusted;
    if let Err(fault) = certificate.trust.by_default() {
        let issuer = match fault.cause() {
            Cause::UnknownIssuer => format!("issuer {}", certificate.issuer),
            _ => String::new(),
        };
        return refuse(untrusted, fault.cause(), issuer);
    }
    let mut accounts = accounts(asked.by, &certificate.names, domain);
    match (accounts.pop(), accounts.is_empty()) {
        (Some(local), true) => Ok(Some(Account { domain: domain.clone(), local })),
        (Some(_), false) => refuse(untrusted, Cause::SeveralAccounts, String::new()),
        (None, _) => {
            let names: Vec<&str> = certificate.names.iter().map(PresentedName::as_str).collect();
            let shown = if names.is_empty() { "it names none".to_owned() } else { names.join(", ") };
            refuse(untrusted, Cause::NoAccount, escaped(&shown, NAMES))
        }
    }
}

/// The accounts at this domain, each once.
fn accounts(by: CertificateName, names: &[PresentedName], domain: &Domain) -> Vec<String> {
    let of = |wanted: CertificateName| {
        let texts = names.iter().filter_map(move |name| match (name, wanted) {
            (PresentedName::Xmpp(name), CertificateName::XmppAddress)
            | (PresentedName::Email(name), CertificateName::Email) => Some(name),
            _ => None,
        });
        let mut found: Vec<String> = texts
            .filter_map(|text| Jid::parse(text).ok())
            // RFC 6120 13.7.1.4: "a bare JID"; one with a resource is somebody's device and nobody's account.
            .filter(|jid| jid.resource.is_none() && jid.to_domain() == *domain)
            .filter_map(|jid| jid.local_form().map(|local| local.into_owned()))
            .collect();
        found.sort();
        found.dedup();
        found
    };
    match by {
        CertificateName::Any if names.iter().any(|name| matches!(name, PresentedName::Xmpp(_))) => {
            of(CertificateName::XmppAddress)
        }
        CertificateName::Any => of(CertificateName::Email),
        by => of(by),
    }
}

/// Characters of names that are shown of a certificate.
const NAMES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::secured::{Chain, RevocationCheck, Root, Trust, TrustFault};

    fn certificate(names: Vec<PresentedName>) -> Certificate {
        Certificate {
            fingerprint: String::new(),
            key: None,
            names,
            trust: Trust {
                default: Ok(Root { name: "CN=Root".to_owned(), key: [1; 32] }),
                peers: Vec::new(),
            },
            not_after: 0,
            expires: None,
            revocation: RevocationCheck::Off,
            issuer: "CN=else".into(),
            chain: Chain::default(),
            of_client: None,
        }
    }

    fn xmpp(name: &str) -> PresentedName {
        PresentedName::Xmpp(name.into())
    }

    fn email(name: &str) -> PresentedName {
        PresentedName::Email(name.into())
    }

    fn judge(by: CertificateName, names: Vec<PresentedName>) -> Result<String, Cause> {
        let domain = Domain::parse("hall.example").unwrap();
        let asked = CertificateTerms { demand: Demand::Require, by };
        account(asked, Some(&certificate(names)), &domain)
            .map(|account| account.unwrap().local)
            .map_err(|why| why.detail.unwrap().cause)
    }

    // C2S-15: "one matching xmppAddr -> that JID; .. none -> .. refusal"; several are nobody in particular.
    #[test]
    fn a_certificate_names_one_account_of_the_domain_or_nobody() {
        let none = Err(Cause::NoAccount);
        let table = [
            (CertificateName::XmppAddress, vec![xmpp("juliet@hall.example")], Ok("juliet".to_owned())),
            (CertificateName::XmppAddress, vec![xmpp("Juliet@HALL.example")], Ok("juliet".to_owned())),
            (
                CertificateName::XmppAddress,
                vec![xmpp("juliet@hall.example"), xmpp("j@other.example")],
                Ok("juliet".to_owned()),
            ),
            (
                CertificateName::XmppAddress,
                vec![xmpp("juliet@hall.example"), xmpp("JULIET@hall.example")],
                Ok("juliet".to_owned()),
            ),
            (
                CertificateName::XmppAddress,
                vec![xmpp("juliet@hall.example"), xmpp("romeo@hall.example")],
                Err(Cause::SeveralAccounts),
            ),
            (CertificateName::XmppAddress, vec![xmpp("juliet@hall.example/balcony")], none.clone()),
            (CertificateName::XmppAddress, vec![xmpp("hall.example")], none.clone()),
            (CertificateName::XmppAddress, vec![xmpp("juliet@sub.hall.example")], none.clone()),
            (CertificateName::XmppAddress, vec![xmpp("juliet@hall.example\0")], none.clone()),
            (CertificateName::XmppAddress, vec![email("juliet@hall.example")], none.clone()),
            (CertificateName::XmppAddress, vec![PresentedName::Dns("hall.example".into())], none.clone()),
            (CertificateName::Email, vec![email("juliet@hall.example")], Ok("juliet".to_owned())),
            (CertificateName::Email, vec![xmpp("juliet@hall.example")], none.clone()),
            (CertificateName::Any, vec![email("juliet@hall.example")], Ok("juliet".to_owned())),
            (
                CertificateName::Any,
                vec![email("j.capulet@hall.example"), xmpp("juliet@hall.example")],
                Ok("juliet".to_owned()),
            ),
            (
                CertificateName::Any,
                vec![email("juliet@hall.example"), xmpp("juliet@other.example")],
                none.clone(),
            ),
            (CertificateName::Any, vec![], none),
        ];
        for (by, names, expected) in table {
            assert_eq!(judge(by, names.clone()), expected, "{by:?} {names:?}");
        }
    }

    #[test]
    fn what_is_demanded_decides_what_none_and_a_bad_one_are_worth() {
        let domain = Domain::parse("hall.example").unwrap();
        let mut bad = certificate(vec![xmpp("juliet@hall.example")]);
        bad.trust.default = Err(TrustFault::UnknownIssuer);
        let said = |demand, shown: Option<&Certificate>| {
            account(CertificateTerms { demand, by: CertificateName::XmppAddress }, shown, &domain)
                .map_err(|why| why.reason)
        };
        assert_eq!(said(Demand::Off, Some(&bad)), Ok(None));
        assert_eq!(said(Demand::Request, None), Ok(None));
        assert_eq!(said(Demand::Require, None), Err(Reason::ClientCertificateMissing));
        for demand in [Demand::Request, Demand::Require] {
            assert_eq!(said(demand, Some(&bad)), Err(Reason::ClientCertificateUntrusted));
        }
    }

    #[test]
    fn the_server_must_name_the_account_of_the_certificate() {
        let domain = Domain::parse("hall.example").unwrap();
        let account = Account { domain: domain.clone(), local: "juliet".into() };
        let by_bind = |address: &str| account.is(&Own::by_bind(address, &domain).unwrap()).is_ok();
        assert!(by_bind("juliet@hall.example/balcony") && by_bind("JULIET@hall.example/x"));
        assert!(!by_bind("romeo@hall.example/balcony"));
        let unnamed = account.is(&Own::by_login(None, &domain)).unwrap_err();
        assert_eq!(unnamed.reason, Reason::ClientCertificateOther);
        assert!(account.may_be(None).is_ok() && account.may_be(Some("juliet")).is_ok());
        assert!(account.may_be(Some("romeo")).is_err());
    }
}
