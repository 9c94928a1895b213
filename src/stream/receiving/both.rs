//! How a stream that arrived comes to go both ways (XEP-0288).

use super::{Line, Open, Stepped};
use crate::reason::Reason;

/// Whether a stream goes both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bidi {
    /// It may be asked for.
    Possible,
    /// It was asked for.
    Agreed,
    /// It was not, and a claim has come: it is too late.
    Never,
}

impl Line {
    /// A pair is claimed on it.
    pub(super) fn claims(&mut self) {
        if self.bidi == Bidi::Possible {
            self.bidi = Bidi::Never;
        }
    }
}

impl Open {
    /// SM-08: only where it was offered, which is under TLS, and before anything is claimed.
    pub(super) fn go_both_ways(mut self) -> Stepped {
        let offered = self.offer.bidi && self.line.secured && self.line.proven.is_none();
        if !offered || self.line.bidi != Bidi::Possible {
            return self.fault(Reason::UnsupportedStanzaType);
        }
        self.line.bidi = Bidi::Agreed;
        self.stay(Vec::new())
    }
}
