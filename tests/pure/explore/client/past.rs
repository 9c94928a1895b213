//! What a relay of a client may do by what it has done before: laws that no single step can break.

use gatehouse::reason::Outcome;
use gatehouse::relay::{Effect, Event, Input, Passing, Side};
use gatehouse::xml::{Frame, Kind, Token};

use super::super::client_laws::{FAR, ME};
use super::super::laws::{Crossing, may_go_in_clear};
use super::super::stage::text;

/// What may be said of the past of a relay, by what went in and came out alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Past {
    /// TLS stands with the client.
    pub secured: bool,
    /// A handshake with the client was asked for.
    pub upgrading: bool,
    /// The server has been called.
    called: bool,
    /// It is being called.
    pub dialling: bool,
    /// The server has said who the client is.
    named: bool,
    /// The client has asked to be counted; whether that was granted.
    managed: Option<bool>,
    pub near: Leg,
    pub far: Leg,
    /// The end of the client's stream was told.
    told: bool,
}

/// A leg of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leg {
    /// They have closed: nothing is read any more.
    pub ended: bool,
    /// We have closed: nothing is said any more.
    closed: bool,
    /// It was given up.
    pub over: bool,
}

/// What a patch denies a stanza for, and what one cuts out of it.
pub const DENIED: &str = "urn:example:denied";

pub const CUT: &str = "urn:example:cut";

/// Whether a patch refuses this.
pub fn is_denied(frame: &Frame) -> bool {
    frame.head().children().any(|child| child.namespace() == DENIED)
}

type Breach = Result<(), String>;

impl Past {
    /// A relay that begins with or without TLS; its server may have been reached, and have said who the client is.
    pub fn begun(secured: bool, called: bool, named: bool) -> Self {
        Self { secured, called, named, ..Self::default() }
    }

    pub fn leg(&self, side: Side) -> &Leg {
        if side == Side::Near { &self.near } else { &self.far }
    }

    fn leg_mut(&mut self, side: Side) -> &mut Leg {
        if side == Side::Near { &mut self.near } else { &mut self.far }
    }

    /// What is past behind this step.
    ///
    /// # Errors
    /// The law that it breaks, and with what.
    pub fn behind(mut self, edge: &Crossing<'_>) -> Result<Self, String> {
        self.comes(edge.side, edge.input);
        match edge.input {
            Input::Token(Token::Refused(refused)) => match edge.side == FAR && self.managed.is_some() {
                true => self.is_stood_in_for(edge)?,
                false => self.comes_back(edge, (refused.kind(), refused.type_(), refused.from()))?,
            },
            Input::Token(Token::Element(frame))
                if is_denied(frame) && edge.side == FAR && self.managed.is_some() =>
            {
                self.is_stood_in_for(edge)?;
            }
            Input::Token(Token::Element(frame)) if is_denied(frame) => {
                let (type_, from) = (frame.head().type_(), frame.head().from());
                self.comes_back(edge, (frame.head().kind(), type_.as_deref(), from.as_deref()))?;
            }
            _ => {}
        }
        for effect in edge.effects {
            self.goes(edge, effect).map_err(|what| format!("{what}: {effect:?}"))?;
        }
        if edge.after.is_done() && !(self.told && self.near.over && (self.far.over || !self.called)) {
            return Err(format!("it is done, and {self:?}"));
        }
        Ok(self)
    }

    fn comes(&mut self, side: Side, input: &Input) {
        match input {
            Input::Secured(_) => (self.secured, self.upgrading) = (true, false),
            Input::Connected(..) => self.dialling = false,
            Input::Token(Token::End | Token::Violation(_)) => self.leg_mut(side).ended = true,
            Input::Token(Token::Element(frame)) if side == FAR => {
                let said = text(frame.octets());
                let by_bind = said.starts_with("<iq type='result' id='b1'>") && said.contains(ME);
                let by_success = said.starts_with("<success ")
                    && said.contains("<authorization-identifier>alice@hall.example")
                    && (said.contains("<bound ") || said.contains("<resumed "));
                self.named |= by_bind || by_success || said.starts_with("<resumed ");
            }
            _ => {}
        }
    }

    fn goes(&mut self, edge: &Crossing<'_>, effect: &Effect) -> Breach {
        match effect {
            Effect::Send(side, octets) => {
                self.speaks(*side, octets)?;
                self.is_leave_given(edge, *side, octets)?;
                self.counts(*side, text(octets));
                self.leg_mut(*side).closed |= octets.ends_with(b"</stream:stream>");
            }
            Effect::Deliver(octets) => self.passes(Side::Near, octets)?,
            Effect::Pass(_, Passing { octets, .. }) => self.passes(FAR, octets)?,
            Effect::LeaveUnproven
            | Effect::EnterClients
            | Effect::Widen(_)
            | Effect::Remember(_)
            | Effect::Note(Event::Bound { .. })
                if !self.named =>
            {
                return Err("nobody has said who it is".into());
            }
            Effect::Connect(..) => {
                if !self.secured || self.called {
                    return Err("called in clear, or twice".into());
                }
                (self.called, self.dialling) = (true, true);
            }
            Effect::MayLogin(_) | Effect::MayRegister
                if !self.secured || !self.called || self.near.closed =>
            {
                return Err("nobody may ask that".into());
            }
            Effect::Retry(..) => {
                if self.far.over {
                    return Err("called again behind its end".into());
                }
                (self.far, self.dialling) = (Leg::default(), true);
            }
            Effect::Upgrade(side) => {
                if *side != Side::Near || self.secured || self.near.closed {
                    return Err("no handshake is due".into());
                }
                self.upgrading = true;
            }
            Effect::Restart(side) if self.leg(*side).closed || self.leg(*side).over => {
                return Err("a new stream behind the end".into());
            }
            Effect::Finish(side) | Effect::Cut(side) => {
                if std::mem::replace(&mut self.leg_mut(*side).over, true) {
                    return Err("ended twice".into());
                }
                self.dialling &= *side == Side::Near;
            }
            Effect::Note(Event::Left { .. } | Event::Closed { .. })
                if std::mem::replace(&mut self.told, true) =>
            {
                return Err("told twice".into());
            }
            // C2S-12: a login is granted by the word of the server, and by nothing else.
            Effect::Note(Event::Login { outcome: Outcome::Allow, .. }) => {
                let granted = match edge.input {
                    Input::Token(Token::Element(frame)) => text(frame.octets()).starts_with("<success "),
                    _ => false,
                };
                if edge.side != FAR || !granted {
                    return Err("nobody has granted it".into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Octets of ours go to that side.
    fn speaks(&self, side: Side, octets: &bytes::Bytes) -> Breach {
        let leg = self.leg(side);
        if leg.closed || leg.over || (side == FAR && !self.called) {
            return Err("behind the end".into());
        }
        let clear = !self.secured && (side == FAR || !may_go_in_clear(octets));
        if clear || (side == Side::Near && self.upgrading) {
            return Err("in clear, or while TLS begins".into());
        }
        // SM-04, C2S-18: where the server is is nobody's business outside.
        if side == Side::Near && text(octets).contains("inside.lan") {
            return Err("a place inside".into());
        }
        Ok(())
    }

    /// A stanza goes to that side.
    fn passes(&self, side: Side, octets: &bytes::Bytes) -> Breach {
        if !self.named {
            return Err("nobody has said whose it is".into());
        }
        // An iq lives by its one child, which is never cut.
        let cut = text(octets).contains(CUT) && !text(octets).starts_with("<iq ");
        if cut || text(octets).contains(DENIED) {
            return Err("in spite of a patch".into());
        }
        self.speaks(side, octets)
    }

    /// C2S-11: no password reaches the server before leave is given to try it.
    fn is_leave_given(&self, edge: &Crossing<'_>, side: Side, octets: &bytes::Bytes) -> Breach {
        let said = text(octets);
        let guesses = side == FAR && said.starts_with("<auth") && said.contains("AGFsaWNlAHB3");
        match edge.input {
            Input::Tried(Ok(())) => Ok(()),
            _ if guesses => Err("tried without leave".into()),
            _ => Ok(()),
        }
    }

    fn counts(&mut self, side: Side, said: &str) {
        match (side, self.managed) {
            (_, Some(true)) => {}
            (Side::Near, _) if said.contains("<enabled ") || said.contains("<resumed ") => {
                self.managed = Some(true)
            }
            (Side::Near, Some(false)) if said.starts_with("<failed ") => self.managed = None,
            (Side::Far(_), None) if said.starts_with("<enable ") => self.managed = Some(false),
            _ => {}
        }
    }

    /// SM-02, XML-17: what a patch or the framer refuses of the server has one other stanza in its place where stanzas are counted, and nothing ends.
    fn is_stood_in_for(&self, edge: &Crossing<'_>) -> Breach {
        if !edge.before.is_bound()
            || [&self.near, &self.far].iter().any(|leg| leg.closed || leg.over || leg.ended)
        {
            return Ok(());
        }
        let others = edge.effects.iter().filter(|effect| !matches!(effect, Effect::Note(_)));
        match others.collect::<Vec<_>>()[..] {
            [Effect::Deliver(octets)] if !text(octets).contains(DENIED) => Ok(()),
            _ => Err(format!("denied where stanzas are counted, and {:?}", edge.effects)),
        }
    }

    /// XML-17, SM-02: what framer or patch refuses of the client ends a stream that is counted; on any other it comes back by kind, alone.
    fn comes_back(
        &self,
        edge: &Crossing<'_>,
        (kind, type_, from): (Kind, Option<&str>, Option<&str>),
    ) -> Breach {
        let (here, there) = match edge.side {
            Side::Near => (&self.near, &self.far),
            Side::Far(_) => (&self.far, &self.near),
        };
        if !edge.before.is_bound() || [here, there].iter().any(|leg| leg.closed || leg.over || leg.ended) {
            return Ok(());
        }
        let ends = edge.effects.iter().any(
            |effect| matches!(effect, Effect::Send(Side::Near, octets) if octets.ends_with(b"</stream:stream>")),
        );
        let errors = edge.effects.iter().filter(|effect| match effect {
            Effect::Send(_, octets) | Effect::Deliver(octets) | Effect::Pass(_, Passing { octets, .. }) => {
                text(octets).contains(" type='error'")
            }
            _ => false,
        });
        let due = match (kind, type_) {
            (Kind::Message, Some("error")) => 0,
            (Kind::Message, _) | (Kind::Iq, Some("get" | "set" | "result")) => 1,
            (Kind::Presence, Some("subscribe")) => 1,
            _ => 0,
        };
        let forged = edge.side == Side::Near && from.is_some_and(|from| !ME.starts_with(from));
        let fits = match self.managed.is_some() || forged {
            true => ends && errors.count() == 0,
            false => !ends && errors.count() == due,
        };
        if fits { Ok(()) } else { Err(format!("refused, and {:?}", edge.effects)) }
    }
}
