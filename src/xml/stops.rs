//! Where markup may begin or end: one pass over an element in wide words, asked for one place after the other.
//!
//! Nothing but `<`, `>`, `&` and the two quotes can end what stands in text, in a tag or in a value, so whoever knows where
//! these are need not look for the end of each part by itself. Sixty-four octets are looked at once, and no further than
//! the reading has come. Beside that the pass finds whether there is anything but printable ASCII at all.

use wide::u8x16;

/// The places of an element, in order.
pub(super) struct Stops<'a> {
    octets: &'a [u8],
    /// Where the last window began; before the first one, one window less than nothing.
    window: usize,
    /// Those of the last window that were not asked for yet.
    left: u64,
    /// Which kinds of octets there were.
    seen: u64,
}

impl<'a> Stops<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self { octets, window: 0_usize.wrapping_sub(WINDOW), left: 0, seen: 0 }
    }

    /// The next one, and what is there; none if there is none in all octets.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<(usize, u8)> {
        while self.left == 0 {
            self.look()?;
        }
        let ahead = self.left.trailing_zeros() as usize;
        self.left &= self.left.wrapping_sub(1);
        let at = self.window.wrapping_add(ahead);
        self.octets.get(at).map(|octet| (at, *octet))
    }

    /// The next one in text, where quotes are none: a long text is passed over faster.
    #[inline(always)]
    pub(super) fn next_of_text(&mut self) -> Option<(usize, u8)> {
        let mut empty = 0;
        while self.left == 0 {
            if empty == LONG {
                self.leap()?;
            }
            self.look()?;
            empty += 1;
        }
        self.next()
    }

    /// Whether there is a control character up to the last place that was told, or not far behind it.
    #[inline(always)]
    pub(super) fn has_control(&self) -> bool {
        self.seen & CONTROL != 0
    }

    /// Whether there is an octet beyond ASCII up to the last place that was told, or not far behind it.
    #[inline(always)]
    pub(super) fn has_high(&self) -> bool {
        self.seen & HIGH != 0
    }

    /// Looks at one window more.
    #[inline(always)]
    fn look(&mut self) -> Option<()> {
        let next = self.window.wrapping_add(WINDOW);
        let seen = look(self.octets.get(next..)?)?;
        (self.left, self.seen, self.window) = (seen.stops, self.seen | seen.kinds, next);
        Some(())
    }

    /// Goes to the next place that ends a text. None if there is none.
    #[inline(always)]
    fn leap(&mut self) -> Option<()> {
        let (far, kinds) = leap(self.octets.get(self.window.wrapping_add(WINDOW)..)?)?;
        (self.seen, self.window) = (self.seen | kinds, self.window.wrapping_add(far));
        Some(())
    }
}

/// What is in the first window of the rest. None if there is no rest.
///
/// By itself, so that who asks keeps what is in hand in registers: most of what is asked needs no new window.
#[inline(never)]
fn look(rest: &[u8]) -> Option<Seen> {
    match rest.first_chunk::<WINDOW>() {
        Some(window) => Some(see(window)),
        None if rest.is_empty() => None,
        None => Some(see(&padded(rest))),
    }
}

/// How far the next place is that ends a text, and what kinds of octets are before it.
#[cold]
fn leap(rest: &[u8]) -> Option<(usize, u64)> {
    let far = memchr::memchr3(b'<', b'&', b'>', rest)?;
    let passed = rest.get(..far)?;
    let (least, most) =
        passed.iter().fold((u8::MAX, 0), |(least, most): (u8, u8), b| (least.min(*b), most.max(*b)));
    Some((far, kind(CONTROL, least < b' ') | kind(HIGH, !most.is_ascii())))
}

/// A control character is there; an octet beyond ASCII.
const CONTROL: u64 = 1;
const HIGH: u64 = 2;

/// This kind, if it is there.
#[inline(always)]
fn kind(kind: u64, is_there: bool) -> u64 {
    u64::from(is_there) * kind
}

/// Octets that are looked at at once.
const WINDOW: usize = u64::BITS as usize;

/// After so many windows of text in which nothing ends a search begins that is made for long text.
const LONG: u32 = 4;

/// What is in one window.
struct Seen {
    stops: u64,
    kinds: u64,
}

/// The last octets, with spaces behind them: those are never told.
#[cold]
#[inline(never)]
fn padded(rest: &[u8]) -> [u8; WINDOW] {
    let mut window = [b' '; WINDOW];
    window.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    window
}

#[inline(always)]
fn see(window: &[u8; WINDOW]) -> Seen {
    let (parts, _) = window.as_chunks::<16>();
    let [a, b, c, d] = parts else { return Seen { stops: 0, kinds: CONTROL | HIGH } };
    let [a, b, c, d] = [a, b, c, d].map(|part| u8x16::new(*part));
    let marked = |part: u8x16| {
        let brackets = (part | all(b'<' ^ b'>')).simd_eq(all(b'<' | b'>'));
        let others = (part | all(b'&' ^ b'\'')).simd_eq(all(b'&' | b'\'')) | part.simd_eq(all(b'"'));
        u64::from((brackets | others).to_bitmask())
    };
    let stops = marked(a) | marked(b) << 16 | marked(c) << 32 | marked(d) << 48;
    let (least, most) = (a.min(b).min(c.min(d)), a | b | (c | d));
    let control = least.min(all(b' ' - 1)).simd_eq(least).to_bitmask() != 0;
    Seen { stops, kinds: kind(CONTROL, control) | kind(HIGH, most.to_bitmask() != 0) }
}

#[inline(always)]
fn all(octet: u8) -> u8x16 {
    u8x16::splat(octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(octets: &[u8]) -> (Vec<usize>, bool, bool) {
        let mut stops = Stops::new(octets);
        let found = std::iter::from_fn(|| stops.next().filter(|(at, octet)| octets[*at] == *octet));
        (found.map(|(at, _)| at).collect(), stops.has_control(), stops.has_high())
    }

    // Each octet at each place, alone and among others, whatever the window it falls into.
    #[test]
    fn every_place_is_told_once_and_in_order() {
        for octet in 0..=u8::MAX {
            for len in [1, 16, 63, 64, 65, 127, 128, 150] {
                for at in [0, 1, 15, 16, 17, 62, 63, 64, 65, 127, 128, 149] {
                    for other in [b'x', b'<', b' '] {
                        let mut octets = vec![other; len];
                        if let Some(place) = octets.get_mut(at) {
                            *place = octet;
                        }
                        let stop = |b: &u8| b"<>&'\"".contains(b);
                        let expected: Vec<_> =
                            octets.iter().enumerate().filter(|(_, b)| stop(b)).map(|(at, _)| at).collect();
                        let (found, control, high) = all_of(&octets);
                        assert_eq!(found, expected, "{octet:#x} at {at} of {len}");
                        assert_eq!(control, octets.iter().any(|b| *b < b' '), "{octet:#x} at {at} of {len}");
                        assert_eq!(high, !octets.is_ascii(), "{octet:#x} at {at} of {len}");
                    }
                }
            }
        }
        assert!(all_of(b"").0.is_empty());
    }

    // Long text is passed over by another search: what it finds, and what it passes, is the same.
    #[test]
    fn nothing_of_a_long_text_is_missed() {
        for len in [200, 255, 256, 257, 320, 400, 1000] {
            for (octet, control, high) in [(b'x', false, false), (b'\n', true, false), (0xC3, false, true)] {
                for at in [0, 199, 255, 256, 257, 319, 399] {
                    let mut octets = vec![b'\''; 3];
                    octets.resize(len, b'x');
                    if let Some(place) = octets.get_mut(at) {
                        *place = octet;
                    }
                    let (control, high) = (control && at < len, high && at < len);
                    octets.extend(b"<'>");
                    let mut stops = Stops::new(&octets);
                    let found =
                        std::iter::from_fn(|| stops.next_of_text()).filter(|(_, octet)| *octet != b'\'');
                    assert_eq!(found.collect::<Vec<_>>(), [(len, b'<'), (len + 2, b'>')], "{octet} at {at}");
                    assert_eq!(
                        (stops.has_control(), stops.has_high()),
                        (control, high),
                        "{octet} at {at} of {len}"
                    );
                }
            }
        }
        let mut stops = Stops::new(&[b'x'; 1000]);
        assert_eq!(stops.next_of_text(), None);
    }
}
