//! White space behind what went out, for a reader that has it and does not look at it yet. How much, and when; to write it is the
//! business of others.
//!
//! COMPAT(libexpat from 2.6.0, Debian's from 2.5.0-1+deb12u2, in jabberd2, Prosody, and ejabberd before 24.06; until all of these tell
//! it, with `XML_SetReparseDeferralEnabled`, to read at once): a tag that is cut by the end of a read is looked at again only when twice
//! as many octets are there, counted from where it begins. The rest of the stanza may be fewer. It has arrived then, and its addressee
//! gets it with the next stanza of the stream, minutes later. White space between stanzas, which RFC 6120 4.6.1 allows and every server
//! overlooks, makes up for what is missing. A server that counts it to a stanza too large would count the next stanza to it as well.

use std::time::{Duration, Instant};

/// How much white space a reader lacks.
#[derive(Debug, Default)]
pub(super) struct Blank {
    /// There is such a reader.
    wanted: bool,
    /// Octets of this stretch: of what went out with no [`LULL`] in it.
    stretch: usize,
    /// When the last of them went out.
    last: Option<Instant>,
    /// With so many octets more no tag of theirs waits, wherever they were cut.
    lacking: usize,
}

impl Blank {
    /// There is a reader that may lack some.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// These octets, which hold whole tags, have gone out.
    pub(super) fn went(&mut self, octets: &[u8], now: Instant) {
        if !self.wanted {
            return;
        }
        if self.last.replace(now).is_none_or(|last| now.saturating_duration_since(last) >= LULL) {
            (self.stretch, self.lacking) = (0, 0);
        }
        self.stretch = self.stretch.saturating_add(octets.len());
        // What is short is not worth a look: it lacks no more than it is long.
        let own = if octets.len() > ONE_READ { lacking(octets) } else { octets.len() };
        self.lacking = self.lacking.saturating_sub(octets.len()).max(own);
    }

    /// When what is lacking should go out, if nothing else does before, and how much that is.
    pub(super) fn due(&self) -> Option<(Instant, usize)> {
        let cut = self.stretch > ONE_READ && self.lacking > 0;
        self.last.filter(|_| cut).map(|last| (last + LULL, self.lacking))
    }

    /// It goes out now.
    pub(super) fn given(&mut self) {
        (self.stretch, self.lacking) = (0, 0);
    }
}

/// How many octets more the tags of a stanza in canonical form may lack (there is no `<` but at their beginnings, and no `>` but at their
/// ends): as many as came before the last one of a tag, less what follows upon it. So only one lacks any that is longer than all behind
/// it. It covers then what stands as far before a tag that follows as that is from the end, or is longer yet: the few tags there are all
/// that need be looked at.
///
/// **What it buys.** Where each tag was looked at this took a twentieth of the mix in large records: row `mix` of
/// `cargo bench --bench load`.
fn lacking(stanza: &[u8]) -> usize {
    let mut most = 0;
    let mut place = stanza.len().checked_sub(1);
    while let Some(begin) = place.and_then(|at| memchr::memrchr(b'<', stanza.get(..=at)?)) {
        let rest = stanza.get(begin..).unwrap_or_default();
        let length = memchr::memchr(b'>', rest).map_or(rest.len(), |end| end + 1);
        most = most.max(length.saturating_sub(rest.len() - length));
        place = begin.checked_sub(rest.len());
    }
    most
}

/// As many octets are read at once by every server: jabberd2 reads this many, and a segment of TCP holds more.
const ONE_READ: usize = 1024;

/// After so long without a word the other side has read what there is; what it lacks is sent then.
const LULL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as libexpat does: whether all tags have been found, for each way to cut.
    struct Reader {
        held: Vec<u8>,
        had: usize,
    }

    impl Reader {
        fn read(&mut self, octets: &[u8]) {
            self.held.extend_from_slice(octets);
            if self.held.len() < 2 * self.had {
                return;
            }
            let mut used = 0;
            while used < self.held.len() {
                let rest = &self.held[used..];
                let length = match rest[0] {
                    b'<' => memchr::memchr(b'>', rest).map(|end| end + 1),
                    _ => Some(memchr::memchr(b'<', rest).unwrap_or(rest.len())),
                };
                let Some(length) = length else { break };
                used += length;
            }
            self.had = if used == 0 { self.held.len() } else { 0 };
            self.held.drain(..used);
        }
    }

    fn message(tag: usize, text: usize) -> String {
        let (tag, text) = ("a".repeat(tag), "t".repeat(text));
        format!("<message to='warden@hall.example'><body>{text}</body><x value='{tag}'/></message>")
    }

    // BE-12: wherever three reads are cut, nothing waits behind the white space, and without it something would.
    #[test]
    fn behind_the_white_space_no_tag_waits_wherever_it_was_cut() {
        let begin = Instant::now();
        for stanzas in
            [&[(0, 2000)][..], &[(1500, 0)], &[(1500, 700)], &[(1800, 0), (5, 20)], &[(90, 9), (9, 1100)]]
        {
            let mut blank = Blank::default();
            blank.want();
            let mut all = String::new();
            for (tag, text) in stanzas {
                let stanza = message(*tag, *text);
                blank.went(stanza.as_bytes(), begin);
                all += &stanza;
            }
            let (at, lacking) = blank.due().unwrap();
            assert_eq!(at, begin + LULL);
            assert!(lacking <= 2000, "{lacking}");
            let all = all.as_bytes();
            let mut waited = 0;
            for first in 1..all.len() {
                for second in [all.len() - 1, first + (all.len() - first) / 2, all.len() - 5, first] {
                    let mut reader = Reader { held: Vec::new(), had: 0 };
                    reader.read(&all[..first]);
                    reader.read(&all[first..second.max(first)]);
                    reader.read(&all[second.max(first)..]);
                    waited += usize::from(!reader.held.is_empty());
                    reader.read(&vec![b' '; lacking]);
                    assert!(reader.held.is_empty(), "cut at {first} and {second}: {}", reader.held.len());
                }
            }
            assert!(waited > 0, "{stanzas:?}");
        }
    }

    // CLS-05: white space is for who lacks it; a word now and then gets none.
    #[test]
    fn what_one_read_takes_lacks_nothing() {
        let begin = Instant::now();
        let mut blank = Blank::default();
        blank.went(message(0, 5000).as_bytes(), begin);
        assert_eq!(blank.due(), None, "nobody wants it");
        blank.want();
        let small = message(0, 400);
        for lull in 0..9 {
            blank.went(small.as_bytes(), begin + LULL * lull);
            assert_eq!(blank.due(), None);
        }
        // Without a lull between them they may be read together, and cut.
        let now = begin + LULL * 8;
        blank.went(small.as_bytes(), now + LULL / 2);
        blank.went(small.as_bytes(), now + LULL / 2);
        assert_eq!(blank.due(), Some((now + LULL / 2 + LULL, small.len())));
        blank.given();
        assert_eq!(blank.due(), None);
    }

    #[test]
    fn a_long_text_lacks_no_more_than_its_tags_are_long() {
        assert_eq!(lacking(message(0, 200_000).as_bytes()), "</message>".len());
        assert_eq!(lacking(b"<presence/>"), "<presence/>".len());
        assert_eq!(lacking(b"no tag"), 0);
        assert_eq!(lacking(b""), 0);
    }

    // Wherever a long tag stands among short ones, and whatever text is between them.
    #[test]
    fn no_tag_that_lacks_anything_is_passed_over() {
        let by_each = |stanza: &str| {
            let ends = stanza.match_indices('<').map(|(begin, _)| {
                let rest = &stanza[begin..];
                let length = rest.find('>').map_or(rest.len(), |end| end + 1);
                length.saturating_sub(rest.len() - length)
            });
            ends.max().unwrap_or_default()
        };
        let mut lacked = 0;
        for count in 0..12 {
            for long in 0..=count {
                for (tag, text) in [(3, 0), (3, 1), (3, 90), (40, 0), (40, 7), (90, 3), (300, 0), (1000, 200)]
                {
                    let parts = (0..=count).map(|n| {
                        let length = if n == long { tag } else { 1 + (n * 7) % 5 };
                        format!("<{}>{}", "a".repeat(length), "t".repeat((n * 11) % (text + 1)))
                    });
                    let stanza = parts.collect::<String>();
                    assert_eq!(lacking(stanza.as_bytes()), by_each(&stanza), "{stanza}");
                    lacked += usize::from(lacking(stanza.as_bytes()) > 10);
                }
            }
        }
        assert!(lacked > 100, "{lacked}");
    }
}
