//! The pair stands, and the server that was called offers stream management: it is asked to count what it takes, or to go on
//! with a session whose stream broke (SM-01).

use std::time::Instant;

use super::super::dialback;
use super::super::fault::Fault;
use super::super::features::Offered;
use super::super::management::{self, Count, Manage, Managed, Nonza, Taken};
use super::{
    Counts, Effect, Established, EstablishedState, Initiating, InitiatingParams, Input, Line, Stepped,
    ended_by, send,
};
use crate::reason::{Cause, Reason};
use crate::xml::Kind;

/// The answer is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Managing {
    pub(super) line: Line,
    external: bool,
    offered: Offered,
    /// The session that it was asked to go on with; none: it was asked to count from here on.
    resumes: Option<String>,
    /// What it told of a session that is not there any more.
    told: Option<u32>,
    pub(super) deadline: Instant,
}

/// The pair stands: at once, or when it is known how the other side counts.
pub(super) fn stand(
    terms: &InitiatingParams,
    line: Line,
    external: bool,
    offered: Offered,
    now: Instant,
) -> (Initiating, Vec<Effect>) {
    let ask = match &terms.manage {
        _ if !offered.management => None,
        Manage::Off => None,
        Manage::Enable => Some((None, management::write_enable())),
        Manage::Resume(id) => Some((Some(id.clone()), management::write_resume(id, terms.taken.0))),
    };
    let Some((resumes, ask)) = ask else {
        return established(line, external, offered, Counts::No, Managed::default());
    };
    let deadline = now + terms.step_time;
    let line = Line { taken: terms.taken, ..line };
    let managing = Managing { line, external, offered, resumes, told: None, deadline };
    (Initiating::Managing(managing), vec![send(ask)])
}

fn established(
    line: Line,
    external: bool,
    offered: Offered,
    counts: Counts,
    managed: Managed,
) -> (Initiating, Vec<Effect>) {
    let established = Established { external, max_octets: offered.max_octets, managed };
    (Initiating::Established(EstablishedState { line, counts }), vec![Effect::Established(established)])
}

impl Managing {
    pub(super) fn step(mut self, terms: &InitiatingParams, input: Input, now: Instant) -> Stepped {
        let frame = match input {
            // SM-08: the pair stands, and whoever was told that he may answers at once. What comes before counting begins is not counted.
            Input::Element(frame) if self.line.bidi && frame.head().kind() != Kind::Other => {
                return Ok((Initiating::Managing(self), vec![Effect::Pass(frame)]));
            }
            Input::Refused(refused) if self.line.bidi => {
                return Ok((Initiating::Managing(self), vec![Effect::Unfit(refused)]));
            }
            Input::Element(frame) if frame.head().kind() != Kind::Other => {
                return Err(Fault::told(Reason::NotAuthorized, b""));
            }
            Input::Element(frame) => frame,
            // It offered to count and says nothing: the pair stands all the same, as it would with a server that offers nothing.
            // A session is another matter: whether it goes on must be known.
            Input::Expired if self.resumes.is_none() => return Ok(self.stands(Counts::Unheard, Count::Off)),
            Input::Expired => return Err(Fault::closed(Reason::RemoteFailed).because(Cause::TimedOut)),
            Input::End => return Err(Fault::closed(Reason::RemoteFailed).because(Cause::Cut)),
            _ => return Err(Fault::told(Reason::Internal, b"")),
        };
        if dialback::is_dialback(&frame) {
            let (line, answered) = self.line.dialback(&frame)?;
            return Ok((Initiating::Managing(Self { line, ..self }), answered));
        }
        if !management::is_word(&frame) {
            return ended_by(&frame, Reason::UnsupportedStanzaType);
        }
        match (management::read(&frame), &self.resumes) {
            (Nonza::Enabled(ticket), None) => Ok(self.stands(Counts::Yes, Count::Anew(ticket))),
            (Nonza::Failed(_), None) => Ok(self.stands(Counts::Unheard, Count::Off)),
            (Nonza::Resumed(id, taken), Some(asked)) if id == *asked => {
                Ok(self.stands(Counts::Yes, Count::Resumed(taken)))
            }
            (Nonza::Failed(told), Some(_)) => {
                self.told = told;
                self.line.taken = Taken::default();
                self.resumes = None;
                self.deadline = now + terms.step_time;
                Ok((Initiating::Managing(self), vec![send(management::write_enable())]))
            }
            // Nothing of ours is out that could be acknowledged.
            (Nonza::Asked, _) => {
                let taken = management::write_acknowledged(self.line.taken.0);
                Ok((Initiating::Managing(self), vec![send(taken)]))
            }
            _ => Err(Fault::told(Reason::UnsupportedStanzaType, b"")),
        }
    }

    fn stands(self, counts: Counts, count: Count) -> (Initiating, Vec<Effect>) {
        let managed = Managed { count, told: self.told };
        established(self.line, self.external, self.offered, counts, managed)
    }
}
