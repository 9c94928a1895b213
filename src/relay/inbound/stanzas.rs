//! Stanzas on the stream of a remote server, either way.

use bytes::Bytes;

use super::super::Effect;
use super::super::incoming::{Incoming, Onwards};
use super::super::near::HasNear as _;
use super::super::origin::reread;
use super::super::turn::Turn;
use super::Inbound;
use crate::reason::Reason;
use crate::stream::Pair;
use crate::xml::{Frame, RefusedStanza};

impl Inbound {
    /// A stanza on the near stream.
    pub(super) fn pass(&mut self, frame: Frame, turn: &mut Turn<'_>) {
        if let Err(reason) = self.incoming().pass(frame, turn) {
            self.near_fault(reason, turn);
        }
    }

    /// A stanza on the near stream that the framer refused.
    pub(super) fn refuse_stanza(&mut self, refused: &RefusedStanza, turn: &mut Turn<'_>) {
        if let Err(reason) = self.incoming().refuse_stanza(refused, turn) {
            self.near_fault(reason, turn);
        }
    }

    /// A stanza that its sender may not send now.
    pub(super) fn too_much(&mut self, octets: &Bytes, reason: Reason, turn: &mut Turn<'_>) {
        if let Some(frame) = reread(octets) {
            self.incoming().too_much(&frame, reason, turn);
        }
    }

    fn incoming(&mut self) -> Incoming<'_> {
        let language = self.near.language.as_deref();
        let onwards = Onwards::Legs(&self.fars);
        Incoming { guard: &mut self.guard, language, onwards, asked: &mut self.asked }
    }

    /// A stanza that a broken far leg left is carried once more by a courier.
    pub(super) fn stranded(&self, pair: &Pair, octets: Bytes, turn: &mut Turn<'_>) {
        let back = self.parted.reason(pair).filter(|_| !self.guard.pairs().iter().any(|a| a.pair() == pair));
        match back {
            Some(reason) => self.origin().undeliverable(&octets, &reason.into(), turn),
            // There is no time left for a second try.
            None if self.draining => self.origin().undeliverable(&octets, &Reason::Shutdown.into(), turn),
            None => turn.push(Effect::Carry(pair.clone(), octets.into())),
        }
    }
}
