//! A peer that has its stanzas counted (SM-01): what has been taken of them, and when that is told.
//!
//! A stanza counts as handled when it was refused, or when it is taken behind: what the peer may forget is safe from our own
//! death. Where the stream breaks all counts that came: the gateway lives, and delivers it or sends it back.

use std::time::{Duration, Instant};

use super::super::contract::Left;
use super::super::event::{Event, ManagementOutcome};
use super::super::near::HasNear as _;
use super::super::portrait::CountedPair;
use super::super::turn::Turn;
use super::super::{Effect, Home, Side};
use super::Inbound;
use super::kept::{self, Limbo, Sent};
use crate::filter::PairRoute;
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
    pub(super) limbo: Option<Limbo>,
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

    /// When something is due.
    pub(super) fn deadline(&self, home: &Home) -> Option<Instant> {
        let asked = self.now.as_ref().and_then(|counted| counted.asked);
        let resuming = self.resuming.as_ref().map(|(_, _, until)| *until);
        let (sent, limbo) = (self.sent().and_then(|sent| sent.deadline(home)), self.limbo.as_ref());
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
    pub(super) fn portrait(&self) -> Option<CountedPair> {
        self.now.as_ref().map(|counted| CountedPair {
            resumes: counted.resumes,
            unacknowledged: usize::try_from(counted.taken.wrapping_sub(counted.settled))
                .unwrap_or(usize::MAX)
                .saturating_add(counted.sent.as_ref().map_or(0, Sent::waiting)),
        })
    }
}

/// The peer says something about counting.
pub(super) fn heard(of: &mut Inbound, word: Nonza, turn: &mut Turn<'_>) {
    let (counts, stands) = (of.counting.now.is_some(), of.guard.pairs().iter().any(stands));
    match word {
        // Behind our closing tag nothing is negotiated; what was taken until then counts.
        Nonza::Acknowledged(taken) if !of.near.is_live() => kept::acknowledged(of, taken, turn),
        _ if !of.near.is_live() => {}
        Nonza::Enable(_) | Nonza::Resume(..) if counts || !stands || of.counting.resuming.is_some() => {
            failed(StanzaCondition::UnexpectedRequest, turn);
        }
        Nonza::Enable(wanted) => enable(of, wanted, turn),
        // Nothing goes out on a stream that arrived, so nothing can have been taken; but where it goes both ways (SM-08).
        Nonza::Acknowledged(taken) if taken > 0 && (counts || stands) && !of.near.is_bidi() => {
            of.near_fault(Reason::Miscounted, turn);
        }
        Nonza::Resume(id, taken) => {
            let mut askers: Vec<Domain> = Vec::new();
            for pair in of.guard.pairs().iter().filter(|a| self::stands(a)).map(|a| a.pair()) {
                if !askers.contains(&pair.sender) {
                    askers.push(pair.sender.clone());
                }
            }
            of.counting.resuming = Some((id.clone(), taken, turn.now + LOOK));
            turn.push(Effect::Resume(id, taken, askers));
        }
        Nonza::Asked if counts => asked(of, turn),
        Nonza::Acknowledged(taken) if counts => kept::acknowledged(of, taken, turn),
        _ => of.near_fault(Reason::UnsupportedStanzaType, turn),
    }
}

fn stands(admitted: &crate::filter::Admitted) -> bool {
    !matches!(admitted.route(), PairRoute::Withdrawn(_))
}

fn failed(condition: StanzaCondition, turn: &mut Turn<'_>) {
    turn.note(Event::Managed { what: ManagementOutcome::Refused, stanzas: 1 });
    turn.send(Side::Near, management::write_failed(condition).into());
}

fn enable(of: &mut Inbound, wanted: bool, turn: &mut Turn<'_>) {
    let owner = of.guard.pairs().iter().find(|a| stands(a)).map(|a| a.pair().sender.clone());
    let most = turn.home.timeouts.resume;
    let resumes = wanted && turn.home.limits.sessions > 0 && !most.is_zero();
    let session = owner.filter(|_| resumes).map(|owner| (of.counting.ids.issue(), owner));
    let ticket = session.as_ref().map(|(id, _)| (id.as_str(), most));
    turn.note(Event::Managed { what: ManagementOutcome::Enabled, stanzas: 1 });
    turn.send(Side::Near, management::write_enabled(ticket).into());
    let sent = Sent::begins(&of.near, 0, turn.home);
    of.counting.now = Some(Counted { resumes: session.is_some(), taken: 0, settled: 0, asked: None, sent });
    turn.push(Effect::Enlist(session));
}

/// The session that was looked for: what its stream has left and whose it was; none: it is not there.
pub(super) fn resumed(of: &mut Inbound, found: Option<(Left, Domain)>, turn: &mut Turn<'_>) {
    let Some((id, acknowledged, _)) = of.counting.resuming.take() else { return };
    if !of.near.is_live() {
        return;
    }
    let Some((left, owner)) = found else { return failed(StanzaCondition::ItemNotFound, turn) };
    // The peer cannot have taken what never went, nor forget what it has told.
    if left.sent.wrapping_sub(acknowledged) > left.open {
        return of.near_fault(Reason::Miscounted, turn);
    }
    let taken = left.taken;
    turn.note(Event::Managed { what: ManagementOutcome::Resumed, stanzas: 1 });
    turn.send(Side::Near, management::write_resumed(&id, taken).into());
    let sent = Sent::begins(&of.near, acknowledged, turn.home);
    of.counting.now = Some(Counted { resumes: true, taken, settled: taken, asked: None, sent });
    turn.push(Effect::Enlist(Some((id, owner))));
}

/// Whether this stanza is taken, and counted if the peer counts. Behind our closing tag the peer is told of no count any more: what it
/// had not heard of by then it takes as lost, and so must we.
pub(super) fn takes(of: &mut Inbound, head: Option<&Head>, turn: &mut Turn<'_>) -> bool {
    let live = of.near.is_live();
    let Some(counted) = &mut of.counting.now else { return true };
    if live {
        counted.taken = counted.taken.wrapping_add(1);
    } else if let Some(head) = head {
        of.origin().note_refused(head, Reason::Unacknowledged, turn);
    }
    live
}

fn asked(of: &mut Inbound, turn: &mut Turn<'_>) {
    let Some(counted) = &mut of.counting.now else { return };
    if counted.settled == counted.taken {
        return turn.send(Side::Near, management::write_acknowledged(counted.taken).into());
    }
    counted.asked.get_or_insert(turn.now + ANSWER);
    turn.push(Effect::Settle(counted.taken));
}

/// So many have been taken behind.
pub(super) fn settled(of: &mut Inbound, count: u32, turn: &mut Turn<'_>) {
    let live = of.near.is_live();
    let Some(counted) = &mut of.counting.now else { return };
    counted.settled = count;
    if live && counted.asked.take().is_some() {
        turn.send(Side::Near, management::write_acknowledged(count).into());
        if counted.settled != counted.taken {
            // A later question may wait behind this one.
            counted.asked = Some(turn.now + ANSWER);
        }
    }
}

/// Some time has come.
pub(super) fn expire(of: &mut Inbound, turn: &mut Turn<'_>) {
    if of.counting.resuming.as_ref().is_some_and(|(_, _, until)| *until <= turn.now) {
        resumed(of, None, turn);
    }
    kept::expire(of, turn);
    let live = of.near.is_live();
    let Some(counted) = &mut of.counting.now else { return };
    if counted.asked.take_if(|at| *at <= turn.now).is_some() && live {
        turn.send(Side::Near, management::write_acknowledged(counted.settled).into());
    }
}

/// The stream is about to be closed: what has come is told, for all of it will be delivered or sent back.
pub(super) fn last_word(of: &mut Inbound, turn: &mut Turn<'_>) {
    let live = of.near.is_live();
    let Some(counted) = of.counting.now.as_mut().filter(|_| live) else { return };
    (counted.settled, counted.asked) = (counted.taken, None);
    turn.send(Side::Near, management::write_acknowledged(counted.taken).into());
    if let Some(sent) = &mut counted.sent {
        sent.ask_at_last(turn);
    }
}

/// The stream hears no more: it broke, and may be gone on with, or it is over. The last so many of what was to go back did not go out.
pub(super) fn leave(of: &mut Inbound, broke: bool, unsent: usize, turn: &mut Turn<'_>) {
    of.counting.resuming = None;
    let Some(counted) = of.counting.now.take() else { return };
    let resumes = broke && counted.resumes;
    if resumes {
        turn.note(Event::Managed { what: ManagementOutcome::Broken, stanzas: 1 });
    }
    let (left, back) = counted.sent.map(|sent| sent.left(unsent)).unwrap_or_default();
    turn.push(Effect::Leave(resumes.then_some(Left { taken: counted.taken, ..left })));
    kept::leave(of, back, resumes, turn);
}

/// How long a question about the count waits for what came before to be taken behind; then what is known is told.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a session is looked for.
const LOOK: Duration = Duration::from_secs(10);
