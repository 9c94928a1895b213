//! The names of claims as they were written, where that is not how we write them.
//!
//! Who claims knows his claim by his own words: of `xn--mnchen-3ya.example` a Prosody takes no answer about its U-label, and an
//! ejabberd waits on. What is decided is decided about the canonical names; this is for the answer alone.

use crate::stream::Pair;
use crate::xml::Frame;

/// Claims that wait for their answer and were written in other words, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Written(Vec<(Pair, String, String)>);

impl Written {
    /// This frame has claimed the pair.
    pub(super) fn note(&mut self, frame: &Frame, pair: &Pair) {
        let (from, to) = (frame.head().from().unwrap_or_default(), frame.head().to().unwrap_or_default());
        if from == pair.sender.as_str() && to == pair.target.as_str() {
            return;
        }
        // A claim that is never answered may be among them.
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push((pair.clone(), from.into_owned(), to.into_owned()));
    }

    /// The words of the oldest claim of this pair, which is answered now.
    pub(super) fn take(&mut self, pair: &Pair) -> Option<(String, String)> {
        let at = self.0.iter().position(|(claimed, ..)| claimed == pair)?;
        let (_, from, to) = self.0.remove(at);
        Some((from, to))
    }
}

/// Claims in other words that wait at one time; the answer to an older one has the canonical names.
const MOST: usize = 64;
