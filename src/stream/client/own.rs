//! Who a client is, by the word of its own server.
//!
//! An [`Own`] can be made in this file only, from what the backend said: the result of a bind, a SASL2 success, or a session
//! that it resumed for a login that it granted (C2S-13, SM-05).

use crate::jid::{AddressError, Domain, Jid};
use crate::reason::Reason;

/// The address that a client speaks with, as far as its server told it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Own {
    domain: Domain,
    /// None: the server let somebody of its domain in, and no word said whom.
    local: Option<String>,
    resource: Option<String>,
}

impl Own {
    /// The server bound the client to this full address, or resumed its session.
    ///
    /// # Errors
    /// `ForeignAddress` when it is no address of an account in `domain`, or has no resource.
    pub fn by_bind(address: &str, domain: &Domain) -> Result<Self, Reason> {
        let own = Self::by_identifier(address, domain)?;
        if own.resource.is_none() {
            return Err(Reason::ForeignAddress);
        }
        Ok(own)
    }

    /// The server granted a login for this bare or full address.
    ///
    /// # Errors
    /// `ForeignAddress` when it is no address of an account in `domain`.
    pub fn by_identifier(address: &str, domain: &Domain) -> Result<Self, Reason> {
        let address = Parts::read(address).ok_or(Reason::ForeignAddress)?;
        if address.domain != *domain || address.local.is_none() {
            return Err(Reason::ForeignAddress);
        }
        Ok(Self { domain: address.domain, local: address.local, resource: address.resource })
    }

    /// The server granted a login that the client asked for with this account name, where the mechanism showed one.
    pub fn by_login(account: Option<String>, domain: &Domain) -> Self {
        Self { domain: domain.clone(), local: account, resource: None }
    }

    /// The hosted domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The address as far as it is known; the domain alone where no word said whom.
    pub fn address(&self) -> String {
        let (domain, resource) = (&self.domain, self.resource.as_deref());
        match (&self.local, resource) {
            (None, _) => domain.to_string(),
            (Some(local), None) => format!("{local}@{domain}"),
            (Some(local), Some(resource)) => format!("{local}@{domain}/{resource}"),
        }
    }

    /// The bare address, in the form that compares; none where no word said whose it is.
    pub fn account(&self) -> Option<String> {
        self.local.as_ref().map(|local| format!("{local}@{}", self.domain))
    }

    /// Whether it is this account, in the form that compares; not where no word said whom.
    pub fn is_account(&self, domain: &Domain, local: &str) -> bool {
        self.domain == *domain && self.local.as_deref() == Some(local)
    }

    /// Whether a client of this address may say `from`: its bare or its full address (C2S-16). What the server did not tell
    /// is not compared.
    pub fn may_say(&self, from: &str) -> bool {
        let Some(from) = Parts::read(from) else { return false };
        let local = match &self.local {
            Some(own) => from.local.as_ref() == Some(own),
            None => from.local.is_some(),
        };
        let resource = match (&self.resource, &from.resource) {
            (Some(own), Some(said)) => own == said,
            _ => true,
        };
        from.domain == self.domain && local && resource
    }
}

/// An address in the forms that compare.
struct Parts {
    domain: Domain,
    local: Option<String>,
    resource: Option<String>,
}

impl Parts {
    fn read(text: &str) -> Option<Self> {
        match Jid::parse(text) {
            Ok(jid) => Some(Self {
                domain: jid.to_domain(),
                local: jid.local_form().map(|l| l.into_owned()),
                resource: jid.resource_form().map(|r| r.into_owned()),
            }),
            // JID-06: read in two ways, so it is the same as another only octet for octet.
            Err(AddressError::Differs) => {
                let (bare, resource) =
                    text.split_once('/').map_or((text, None), |(bare, resource)| (bare, Some(resource)));
                let (local, domain) =
                    bare.split_once('@').map_or((None, bare), |(local, domain)| (Some(local), domain));
                let domain = Domain::parse(domain).ok()?;
                Some(Self { domain, local: local.map(str::to_owned), resource: resource.map(str::to_owned) })
            }
            Err(_) => None,
        }
    }
}
