//! A peer that has its stanzas counted (SM-01): what has been taken of them, and when that is told.
//!
//! A stanza counts as handled when it was refused, or when it is taken behind: what the peer may forget is safe from our own
//! death. Where the stream breaks all counts that came: the gateway lives, and delivers it or sends it back.

use std::time::{Duration, Instant};

use super::super::contract::Left;
use super::super::event::{Event, ManagementOutcome};
use super::super::incoming::ORIGIN;
use super::super::near::Near;
use super::super::snapshot::CountedPair;
use super::super::turn::Turn;
use super::super::{Effect, RelayParams, Side};
use super::kept::{Limbo, Sent};
use crate::filter::{Admitted, Guard, PairRoute};
use crate::jid::Domain;
use crate::reason::{Reason, StanzaCondition};
use crate::stream::StreamIds;
use crate::stream::management::{self, Nonza};
use crate::xml::Head;

/// What has come on the stream of a peer that has it counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Counted {
    /// Whether it may be gone on with.
    resumes: bool,
    /// The number of the last stanza that came.
    taken: u32,
    /// That of the last that is known to be taken behind.
    settled: u32,
    /// The peer has asked, and is answered then at the latest.
    asked: Option<Instant>,
    /// What went back, where the stream goes both ways.
    sent: Option<Sent>,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Counting {
    /// Names of sessions, which nobody guesses.
    ids: StreamIds,
    /// What has come, if it is counted.
    now: Option<Counted>,
    /// A session is looked for, until then at the latest, whose peer has taken so many.
    resuming: Option<(String, u32, Instant)>,
    /// What went back, once the stream is broken.
    limbo: Option<Limbo>,
}

impl Counting {
    /// Nothing is counted.
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { ids: StreamIds::apart(seed), now: None, resuming: None, limbo: None }
    }

    /// Whether the stream may be read.
    pub(super) fn wants_read(&self) -> bool {
        self.resuming.is_none()
    }

    /// Whether what went back waits for whoever goes on with the stream, which broke.
    pub(super) fn holds_back(&self) -> bool {
        self.limbo.is_some()
    }

    /// When something is due.
    pub(super) fn deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let asked = self.now.as_ref().and_then(|counted| counted.asked);
        let resuming = self.resuming.as_ref().map(|(_, _, until)| *until);
        let (sent, limbo) = (self.sent().and_then(|sent| sent.deadline(relays)), self.limbo.as_ref());
        [asked, resuming, sent, limbo.map(|limbo| limbo.until)].into_iter().flatten().min()
    }

    /// What went back and is counted.
    pub(super) fn sent(&self) -> Option<&Sent> {
        self.now.as_ref().and_then(|counted| counted.sent.as_ref())
    }

    /// Octets and number of what went back and is kept.
    pub(super) fn kept(&self) -> (usize, usize) {
        self.sent().map(Sent::size).or_else(|| self.limbo.as_ref().map(Limbo::size)).unwrap_or_default()
    }

    /// The same, to be changed.
    pub(super) fn sent_mut(&mut self) -> Option<&mut Sent> {
        self.now.as_mut().and_then(|counted| counted.sent.as_mut())
    }

    /// What an operator sees of it.
    pub(super) fn snapshot(&self) -> Option<CountedPair> {
        self.now.as_ref().map(|counted| CountedPair {
            resumes: counted.resumes,
            unacknowledged: usize::try_from(counted.taken.wrapping_sub(counted.settled))
                .unwrap_or(usize::MAX)
                .saturating_add(counted.sent.as_ref().map_or(0, Sent::waiting)),
        })
    }

    /// The peer says something about counting, on this stream.
    ///
    /// # Errors
    /// The stream ends for this reason.
    pub(super) fn heard(
        &mut self,
        word: Nonza,
        (near, guard): (&Near, &Guard),
        turn: &mut Turn<'_>,
    ) -> Result<(), Reason> {
        let (counts, stands) = (self.now.is_some(), guard.pairs().iter().any(stands));
        match word {
            // Behind our closing tag nothing is negotiated; what was taken until then counts.
            Nonza::Acknowledged(taken) if !near.is_live() => return self.acknowledged(taken, near, turn),
            _ if !near.is_live() => {}
            Nonza::Enable(_) | Nonza::Resume(..) if counts || !stands || self.resuming.is_some() => {
                failed(StanzaCondition::UnexpectedRequest, turn);
            }
            Nonza::Enable(wanted) => self.enable(wanted, near, guard, turn),
            // Nothing goes out on a stream that arrived, so nothing can have been taken; but where it goes both ways (SM-08).
            Nonza::Acknowledged(taken) if taken > 0 && (counts || stands) && !near.is_bidi() => {
                return Err(Reason::Miscounted);
            }
            Nonza::Resume(id, taken) => {
                let mut askers: Vec<Domain> = Vec::new();
                for pair in guard.pairs().iter().filter(|a| self::stands(a)).map(|a| a.pair()) {
                    if !askers.contains(&pair.sender) {
                        askers.push(pair.sender.clone());
                    }
                }
                self.resuming = Some((id.clone(), taken, turn.now + LOOK));
                turn.push(Effect::Resume(id, taken, askers));
            }
            Nonza::Asked if counts => self.asked(turn),
            Nonza::Acknowledged(taken) if counts => return self.acknowledged(taken, near, turn),
            _ => return Err(Reason::UnsupportedStanzaType),
        }
        Ok(())
    }

    fn enable(&mut self, wanted: bool, near: &Near, guard: &Guard, turn: &mut Turn<'_>) {
        let owner = guard.pairs().iter().find(|a| stands(a)).map(|a| a.pair().sender.clone());
        let most = turn.relays.timeouts.resume;
        let resumes = wanted && turn.relays.limits.sessions > 0 && !most.is_zero();
        let session = owner.filter(|_| resumes).map(|owner| (self.ids.issue(), owner));
        let ticket = session.as_ref().map(|(id, _)| (id.as_str(), most));
        turn.note(Event::Managed { what: ManagementOutcome::Enabled, stanzas: 1 });
        turn.send(Side::Near, management::write_enabled(ticket).into());
        let sent = Sent::begins(near, 0, turn.relays);
        self.now = Some(Counted { resumes: session.is_some(), taken: 0, settled: 0, asked: None, sent });
        turn.push(Effect::Enlist(session));
    }

    /// The session that was looked for: what its stream has left and whose it was; none: it is not there.
    ///
    /// # Errors
    /// The stream ends for this reason.
    pub(super) fn resumed(
        &mut self,
        found: Option<(Left, Domain)>,
        near: &Near,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reason> {
        let Some((id, acknowledged, _)) = self.resuming.take().filter(|_| near.is_live()) else {
            return Ok(());
        };
        let Some((left, owner)) = found else {
            failed(StanzaCondition::ItemNotFound, turn);
            return Ok(());
        };
        // The peer cannot have taken what never went, nor forget what it has told.
        if left.sent.wrapping_sub(acknowledged) > left.open {
            return Err(Reason::Miscounted);
        }
        let taken = left.taken;
        turn.note(Event::Managed { what: ManagementOutcome::Resumed, stanzas: 1 });
        turn.send(Side::Near, management::write_resumed(&id, taken).into());
        let sent = Sent::begins(near, acknowledged, turn.relays);
        self.now = Some(Counted { resumes: true, taken, settled: taken, asked: None, sent });
        turn.push(Effect::Enlist(Some((id, owner))));
        Ok(())
    }

    /// Whether this stanza is taken, and counted if the peer counts. Behind our closing tag the peer is told of no count any more: what it
    /// had not heard of by then it takes as lost, and so must we.
    pub(super) fn takes(&mut self, head: Option<&Head>, near: &Near, turn: &mut Turn<'_>) -> bool {
        let Some(counted) = &mut self.now else { return true };
        if near.is_live() {
            counted.taken = counted.taken.wrapping_add(1);
        } else if let Some(head) = head {
            ORIGIN.note_refused(head, Reason::Unacknowledged, turn);
        }
        near.is_live()
    }

    fn asked(&mut self, turn: &mut Turn<'_>) {
        let Some(counted) = &mut self.now else { return };
        if counted.settled == counted.taken {
            return turn.send(Side::Near, management::write_acknowledged(counted.taken).into());
        }
        counted.asked.get_or_insert(turn.now + ANSWER);
        turn.push(Effect::Settle(counted.taken));
    }

    /// So many have been taken behind.
    pub(super) fn settled(&mut self, count: u32, near: &Near, turn: &mut Turn<'_>) {
        let Some(counted) = &mut self.now else { return };
        counted.settled = count;
        if near.is_live() && counted.asked.take().is_some() {
            turn.send(Side::Near, management::write_acknowledged(count).into());
            if counted.settled != counted.taken {
                // A later question may wait behind this one.
                counted.asked = Some(turn.now + ANSWER);
            }
        }
    }

    /// The peer has taken so many of what went back.
    fn acknowledged(&mut self, taken: u32, near: &Near, turn: &mut Turn<'_>) -> Result<(), Reason> {
        self.sent_mut().map_or(Ok(()), |sent| sent.acknowledged(taken, near, turn))
    }

    /// Some time has come.
    ///
    /// # Errors
    /// The connection is given up for this reason: nobody can be there.
    pub(super) fn expire(&mut self, near: &Near, turn: &mut Turn<'_>) -> Result<(), Reason> {
        if self.resuming.as_ref().is_some_and(|(_, _, until)| *until <= turn.now) {
            self.resumed(None, near, turn)?;
        }
        if self.limbo.as_ref().is_some_and(|limbo| limbo.until <= turn.now) {
            self.give_back(turn);
        }
        let Some(counted) = &mut self.now else { return Ok(()) };
        if let Some(sent) = counted.sent.as_mut().filter(|_| near.is_live()) {
            sent.expire(turn)?;
        }
        if counted.asked.take_if(|at| *at <= turn.now).is_some() && near.is_live() {
            turn.send(Side::Near, management::write_acknowledged(counted.settled).into());
        }
        Ok(())
    }

    /// The stream is about to be closed: what has come is told, for all of it will be delivered or sent back.
    pub(super) fn last_word(&mut self, near: &Near, turn: &mut Turn<'_>) {
        let Some(counted) = self.now.as_mut().filter(|_| near.is_live()) else { return };
        (counted.settled, counted.asked) = (counted.taken, None);
        turn.send(Side::Near, management::write_acknowledged(counted.taken).into());
        if let Some(sent) = &mut counted.sent {
            sent.ask_at_last(turn);
        }
    }

    /// The stream hears no more: it broke, and may be gone on with, or it is over. The last so many of what was to go back did not go out.
    pub(super) fn leave(&mut self, broke: bool, unsent: usize, turn: &mut Turn<'_>) {
        self.resuming = None;
        let Some(counted) = self.now.take() else { return };
        let resumes = broke && counted.resumes;
        if resumes {
            turn.note(Event::Managed { what: ManagementOutcome::Broken, stanzas: 1 });
        }
        let (left, back) = counted.sent.map(|sent| sent.left(unsent)).unwrap_or_default();
        turn.push(Effect::Leave(resumes.then_some(Left { taken: counted.taken, ..left })));
        if let Some(limbo) = Limbo::begins(back, turn) {
            self.limbo = Some(limbo);
            if !resumes {
                self.give_back(turn);
            }
        }
    }

    /// Nobody is likely to go on with the session any more.
    pub(super) fn forsaken(&mut self, turn: &Turn<'_>) {
        if let Some(limbo) = &mut self.limbo {
            limbo.forsaken(turn);
        }
    }

    /// Somebody has gone on with the session, and had taken so many.
    pub(super) fn gone_on(&mut self, taken: u32, turn: &mut Turn<'_>) {
        if let Some(limbo) = self.limbo.take() {
            limbo.gone_on(taken, turn);
        }
    }

    /// Nobody goes on with the session: what it left comes back.
    pub(super) fn give_back(&mut self, turn: &mut Turn<'_>) {
        if let Some(limbo) = self.limbo.take() {
            limbo.give_back(turn);
        }
    }
}

fn stands(admitted: &Admitted) -> bool {
    !matches!(admitted.route(), PairRoute::Withdrawn(_))
}

fn failed(condition: StanzaCondition, turn: &mut Turn<'_>) {
    turn.note(Event::Managed { what: ManagementOutcome::Refused, stanzas: 1 });
    turn.send(Side::Near, management::write_failed(condition).into());
}

/// How long a question about the count waits for what came before to be taken behind; then what is known is told.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a session is looked for.
const LOOK: Duration = Duration::from_secs(10);
