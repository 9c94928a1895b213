//! The places that one connection takes: among those who have proven nothing, and then, by what was proven and by its network, among
//! those who have.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use crate::jid::Domain;
use crate::limit::{Proven, ProvenSlot, UnprovenPlace, Welcome};
use crate::policy::Quotas;
use crate::reason::Reason;

/// The places of one connection.
#[derive(Default)]
pub(in crate::run) struct Places {
    /// Among the unproven, until it is proven.
    unproven: Option<UnprovenPlace>,
    /// Among those who are proven: by what they proved, and by their network.
    proven: [Option<ProvenSlot>; 2],
    welcome: Option<Welcome>,
    /// It was told to go, because there is no room for the unproven.
    unwelcome: bool,
}

impl Places {
    /// Nobody knows yet who this is.
    pub(super) fn of(unproven: UnprovenPlace) -> Self {
        Self { unproven: Some(unproven), ..Self::default() }
    }

    /// An unproven peer says who it is, and others are asked whether that is so.
    pub(in crate::run) fn claims(&self) {
        if let Some(unproven) = &self.unproven {
            unproven.claims();
        }
    }

    /// Whoever asks about a key that we made was called by us: a hoster asks for each of its domains.
    pub(in crate::run) fn is_honest(&mut self) {
        if let Some(unproven) = &mut self.unproven {
            unproven.is_honest();
        }
    }

    /// It holds so many octets; whether there is room for that (LIM-02), and nobody else has got its place (LIM-06). One that was
    /// told to go is not told again.
    ///
    /// # Errors
    /// There is not, and it must go.
    pub(super) fn hold(
        &mut self,
        octets: impl FnOnce() -> usize,
        cx: &mut Context<'_>,
    ) -> Result<(), Reason> {
        let Some(unproven) = &mut self.unproven else { return Ok(()) };
        let displaced = unproven.poll_displaced(cx).is_ready();
        let room = unproven.hold(octets());
        let outcome = room.and(if displaced { Err(Reason::TooManyUnproven) } else { Ok(()) });
        match outcome.is_err() && std::mem::replace(&mut self.unwelcome, true) {
            true => Ok(()),
            false => outcome,
        }
    }

    /// It is proven, and unproven no more.
    pub(in crate::run) fn prove(&mut self, now: Instant) {
        if let Some(unproven) = self.unproven.take() {
            self.welcome = Some(unproven.prove(now));
        }
    }

    /// It is a client's, from there.
    ///
    /// # Errors
    /// There is no place for another one.
    pub(in crate::run) fn client(&mut self, among: &Arc<Proven>, address: IpAddr) -> Result<(), Reason> {
        if self.proven.iter().all(Option::is_none) {
            self.proven = [Some(among.client(address)?), None];
        }
        Ok(())
    }

    /// It is a server's, from there, which speaks for this domain (D10). The place of the pair.
    ///
    /// # Errors
    /// There is no place for the connection, or for the pair.
    pub(in crate::run) fn server(
        &mut self,
        among: &Arc<Proven>,
        domain: &Domain,
        address: Option<IpAddr>,
        quotas: &Quotas,
    ) -> Result<ProvenSlot, Reason> {
        if self.proven.iter().all(Option::is_none) {
            self.proven = among.server(domain, address, quotas)?;
        }
        among.pair(domain, quotas)
    }

    /// A connection that broke takes no place from those that stand.
    pub(super) fn give_up(&mut self) {
        (self.proven, self.welcome) = ([None, None], None);
    }
}
