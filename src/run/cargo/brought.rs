//! Whom a cargo of remote stanzas stands in for, and from where all of it has come.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::run::Caller;

/// What is known of those whose stanzas wait together. Which stanza is whose nobody can tell any more.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    latest: Option<Arc<Caller>>,
    from: BTreeSet<IpAddr>,
    /// There were more than are remembered.
    many: bool,
}

impl Brought {
    /// Nobody but this one.
    pub fn by(caller: &Arc<Caller>) -> Self {
        let mut brought = Self::default();
        brought.add(caller);
        brought
    }

    /// This one, too.
    pub fn add(&mut self, caller: &Arc<Caller>) {
        if !self.latest.as_ref().is_some_and(|latest| Arc::ptr_eq(latest, caller)) {
            self.latest = Some(Arc::clone(caller));
        }
        let Some(from) = caller.from else { return };
        if self.from.len() < MOST {
            self.from.insert(from);
        } else {
            self.many |= !self.from.contains(&from);
        }
    }

    /// What waited has gone on: nobody has anything here any more.
    pub fn forget(&mut self) {
        (self.from, self.many) = (BTreeSet::new(), false);
    }

    /// The one who came last.
    pub fn latest(&self) -> Option<&Arc<Caller>> {
        self.latest.as_ref()
    }

    /// Whether some of it may have come from such an address.
    pub fn is_from(&self, such: impl FnMut(IpAddr) -> bool) -> bool {
        self.many || self.from.iter().copied().any(such)
    }
}

/// Addresses that are remembered: as many as one registrable domain may have connections.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(last: u8) -> Arc<Caller> {
        let from = Some([192, 0, 2, last].into());
        Arc::new(Caller { from, ends: None, name: "1-1".to_owned(), secured: None, facts: None })
    }

    // Law `bounded`, and POL-07: who cannot be told apart any more is taken for whoever is banned.
    #[test]
    fn addresses_are_remembered_until_what_waited_has_gone() {
        let mut brought = Brought::by(&caller(1));
        brought.add(&caller(2));
        let is = |last: u8| move |ip: IpAddr| ip == IpAddr::from([192, 0, 2, last]);
        assert!(brought.is_from(is(1)) && brought.is_from(is(2)) && !brought.is_from(is(3)));
        for last in 0..=u8::MAX {
            brought.add(&caller(last));
        }
        assert!(brought.from.len() == MOST && brought.is_from(is(250)));
        brought.forget();
        assert!(!brought.is_from(|_| true));
        assert!(brought.latest().is_some(), "the next stream to the server behind still stands in for it");
    }
}
