//! How the stream of a client ends: what the client hears, and what its server.

use std::time::Instant;

use bytes::Bytes;

use super::super::life::Life;
use super::super::{Effect, Side};
use super::{After, FAR, Step};
use crate::reason::{Facing, Reason};
use crate::stream::client::posing::Posing;
use crate::stream::client::serving::Serving;
use crate::stream::client::{Ask, Own};
use crate::stream::fault::Fault;
use crate::xml::CLOSE;

impl Step<'_, '_> {
    /// The client closed its stream: its server hears it, and may say what it still has to say (SM-06).
    pub(super) fn near_closed(&mut self, reason: Reason) {
        self.tell(reason);
        self.part(After::Closed);
        match self.client.far {
            Life::Closing { until, .. } => self.client.near = Life::Parting { until },
            Life::Open(_) | Life::Parting { .. } | Life::Over => self.near_close(),
        }
    }

    /// Our closing tag, and the end of the connection.
    pub(super) fn near_close(&mut self) {
        if matches!(self.client.near, Life::Open(_) | Life::Parting { .. }) {
            self.out_near(Bytes::from_static(CLOSE));
            self.near_finish();
        }
    }

    /// The end of the connection: flushed, without another word.
    pub(super) fn near_finish(&mut self) {
        if !self.client.near.is_over() {
            self.client.near = Life::Over;
            self.turn.push(Effect::Finish(Side::Near));
        }
    }

    /// The client's stream ends because of this.
    pub(super) fn near_fault(&mut self, reason: Reason, after: After) {
        let Some(machine) = self.client.near.take() else { return };
        let fault = machine.fault(&self.client.params, reason);
        self.near_end(fault, after);
    }

    /// The same over a stanza, in these words.
    pub(super) fn near_fault_saying(&mut self, reason: Reason, words: &str) {
        let Some(machine) = self.client.near.take() else { return };
        let fault = machine.fault_saying(&self.client.params, reason, words);
        self.near_end(fault, After::Closed);
    }

    /// A step has consumed the machine.
    pub(super) fn near_end(&mut self, fault: Fault, after: After) {
        self.tell(fault.reason);
        if fault.octets.is_empty() {
            self.client.near = Life::Over;
            self.turn.push(Effect::Cut(Side::Near));
        } else {
            self.client.near = Life::Closing { machine: None, until: self.close_by() };
            self.out_near(fault.octets);
            self.turn.sent_error(Facing::Public, fault.reason.stream_condition());
        }
        self.part(after);
    }

    /// The server hears that the client is gone: by a closing tag, or by the end of the connection alone.
    pub(super) fn part(&mut self, after: After) {
        match &self.client.far {
            Life::Open(Posing::Dialling) => self.far_cut(),
            Life::Open(_) if after == After::Closed => {
                self.client.far.close(self.close_by());
                self.turn.send(Side::Far(FAR), Bytes::from_static(CLOSE));
            }
            Life::Open(_) => self.far_finish(),
            Life::Closing { .. } | Life::Parting { .. } | Life::Over => {}
        }
    }

    /// SM-05: where the client asks for the session of an earlier stream, that goes behind what a broken stream of its account still has
    /// to deliver. No other account has to wait for it.
    pub(super) fn goes_on(&mut self, ask: &Ask) {
        let machine = self.client.near.machine();
        let account = match ask {
            Ask::Resume => machine.and_then(Serving::granted).and_then(Own::account),
            Ask::Auth(_, _, wants) if wants.resume => {
                let tried = machine.and_then(Serving::attempt).and_then(|(_, account)| account);
                tried.zip(self.client.terms.as_ref()).map(|(local, terms)| format!("{local}@{}", terms.to))
            }
            _ => None,
        };
        if let Some(account) = account {
            self.turn.push(Effect::Behind(FAR, account));
        }
    }

    /// When a leg that closes now is over at the latest (T-close).
    pub(super) fn close_by(&self) -> Instant {
        self.turn.now + self.turn.home.timeouts.close
    }
}
