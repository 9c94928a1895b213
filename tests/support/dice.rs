//! Numbers that come in the same order each time.
#![allow(dead_code)]

/// Dice that fall alike for the same seed.
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (splitmix64).
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of so many.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.throw() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    /// True once in so many times.
    pub fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}
