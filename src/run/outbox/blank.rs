//! White space behind what went out, for a reader that has it and does not look at it yet. How much, and when; to write it is the
//! business of others.
//!
//! COMPAT(libexpat from 2.6.0, Debian's from 2.5.0-1+deb12u2, in jabberd2, Prosody, and ejabberd before 24.06; until all of these tell
//! it, with `XML_SetReparseDeferralEnabled`, to read at once): a tag that is cut by the end of a read is looked at again only when twice
//! as many octets are there, counted from where it begins. The rest of the stanza may be fewer. It has arrived then, and its addressee
//! gets it with the next stanza of the stream, minutes later. White space between stanzas, which RFC 6120 4.6.1 allows and every server
//! overlooks, makes up for what is missing. A server that counts it to a stanza too large would count the next stanza to it as well.
//!
//! **What it buys.** Only what may lie unread together is counted together: a stream whose every stanza is read before the next one comes
//! lacks nothing, and its relay sets no timer for it. Where all that came without a lull was, a session with 20 small stanzas a second woke
//! 0.7 times for each besides: row `rate` of `cargo bench --bench load`.

use std::time::{Duration, Instant};

/// How much white space a reader lacks.
#[derive(Debug, Default)]
pub(super) struct Blank {
    /// There is such a reader.
    wanted: bool,
    /// What may not have been read yet: octets that went out in this part of a [`LULL`], and in each before it.
    recent: [usize; PARTS + 1],
    /// When this part began.
    part: Option<Instant>,
    /// When the last octets went out.
    last: Option<Instant>,
    /// With so many octets more no tag of theirs would wait, wherever they were cut.
    lacking: usize,
    /// The same, of those that may have been cut.
    owed: usize,
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
        self.pass_time(now);
        let [here, ..] = &mut self.recent;
        *here = here.saturating_add(octets.len());
        // What is short is not worth a look: it lacks no more than it is long.
        let own = if octets.len() > ONE_READ { lacking(octets) } else { octets.len() };
        self.lacking = self.lacking.saturating_sub(octets.len()).max(own);
        self.owed = match self.recent.iter().sum::<usize>() > ONE_READ {
            true => self.lacking,
            false => self.owed.saturating_sub(octets.len()),
        };
    }

    /// What went out a [`LULL`] ago has been read.
    fn pass_time(&mut self, now: Instant) {
        if self.last.replace(now).is_none_or(|last| now.saturating_duration_since(last) >= LULL) {
            (self.recent, self.part, self.lacking) = ([0; PARTS + 1], Some(now), self.owed);
        }
        let part = self.part.get_or_insert(now);
        while now.saturating_duration_since(*part) >= LULL / PARTS as u32 {
            *part += LULL / PARTS as u32;
            self.recent.rotate_right(1);
            let [here, ..] = &mut self.recent;
            *here = 0;
        }
    }

    /// When what is lacking should go out, if nothing else does before, and how much that is.
    pub(super) fn due(&self) -> Option<(Instant, usize)> {
        self.last.filter(|_| self.owed > 0).map(|last| (last + LULL, self.owed))
    }

    /// It goes out now.
    pub(super) fn given(&mut self) {
        (self.recent, self.lacking, self.owed) = ([0; PARTS + 1], 0, 0);
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

/// In how many parts time is told within it.
const PARTS: usize = 4;

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

    /// Reads what has gone out to it in time: what one read takes is taken whole, and what was ever more than that is cut anywhere.
    struct Late {
        reader: Reader,
        unread: Vec<(u8, Instant)>,
        cut: usize,
        dice: Dice,
    }

    struct Dice(u64);

    impl Dice {
        fn below(&mut self, most: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % most
        }
    }

    impl Late {
        fn comes(&mut self, octets: &[u8], now: Instant) {
            self.unread.extend(octets.iter().map(|octet| (*octet, now)));
            if self.unread.len() > ONE_READ {
                self.cut = self.unread.len();
            }
        }

        fn read(&mut self) {
            let most = match self.cut {
                0 => self.unread.len(),
                cut => 1 + self.dice.below(cut),
            };
            self.cut = self.cut.saturating_sub(most);
            self.reader.read(&self.unread.drain(..most).map(|(octet, _)| octet).collect::<Vec<_>>());
        }

        /// All that has to be read by then is, and more where it likes.
        fn read_until(&mut self, then: Instant) {
            while self.unread.first().is_some_and(|(_, went)| *went + LULL <= then || self.dice.below(3) == 0)
            {
                self.read();
            }
        }
    }

    // BE-12: whoever reads within a lull has all tags in the end, whenever stanzas come and wherever they are cut.
    #[test]
    fn whoever_reads_in_time_has_all_tags_in_the_end() {
        let (mut owed, mut deferred, mut spared) = (0, 0, 0);
        for seed in 0..4000 {
            let (mut blank, mut now) = (Blank::default(), Instant::now());
            blank.want();
            let reader = Reader { held: Vec::new(), had: 0 };
            let mut late = Late { reader, unread: Vec::new(), cut: 0, dice: Dice(seed) };
            let (longest, tag) = ([10, 60, 99, 150][late.dice.below(4)], [90, 400, 1500][late.dice.below(3)]);
            for _ in 0..=late.dice.below(12) {
                // Some are long, and most are short.
                let (tag, text) = if late.dice.below(4) == 0 { (tag, 600) } else { (9, 9) };
                let stanza = message(late.dice.below(tag), late.dice.below(text));
                blank.went(stanza.as_bytes(), now);
                late.comes(stanza.as_bytes(), now);
                now += Duration::from_millis(late.dice.below(longest) as u64);
                late.read_until(now);
                if let Some((_, lacking)) = blank.due().filter(|(at, _)| *at <= now) {
                    let space = vec![b' '; lacking];
                    blank.given();
                    blank.went(&space, now);
                    late.comes(&space, now);
                    owed += 1;
                }
            }
            late.read_until(now + LULL);
            deferred += usize::from(!late.reader.held.is_empty());
            match blank.due() {
                Some((_, lacking)) => late.reader.read(&vec![b' '; lacking]),
                None => spared += 1,
            }
            let left = String::from_utf8_lossy(&late.reader.held);
            assert!(left.is_empty(), "{seed}: {left}");
        }
        assert!(owed > 100 && deferred > 100 && spared > 100, "{owed} {deferred} {spared}");
    }

    // Each is read before the next one comes: nobody needs to be woken for them, however long it goes on.
    #[test]
    fn a_steady_stream_of_small_stanzas_lacks_nothing() {
        let begin = Instant::now();
        let mut blank = Blank::default();
        blank.want();
        let small = message(0, 250);
        for turn in 0..100 {
            blank.went(small.as_bytes(), begin + LULL / 2 * turn);
            assert_eq!(blank.due(), None, "{turn}");
        }
        // Many at once may be cut; the one that comes alone behind them is as long as what they lack.
        let now = begin + LULL * 50;
        (0..4).for_each(|_| blank.went(small.as_bytes(), now));
        assert_eq!(blank.due(), Some((now + LULL, small.len())));
        blank.went(small.as_bytes(), now + LULL / 2 * 3);
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
