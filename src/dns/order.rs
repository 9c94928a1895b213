//! The order in which targets are tried: priority, then direct TLS first, then chance by weight (RFC 2782, XEP-0368).
//!
//! Pure: the seed comes from outside, so each run repeats.

use hickory_proto::rr::Name;

use crate::dns::TlsMode;

/// What a target is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Lower is tried first.
    pub priority: u16,
    /// More is likelier among equals; 0 comes last.
    pub weight: u16,
    /// Direct TLS goes first on equal priority.
    pub mode: TlsMode,
}

/// A host and port that may serve the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it is ordered by.
    pub rank: Rank,
    /// The host.
    pub host: Name,
    /// The port.
    pub port: u16,
    /// A record under signatures names it.
    pub secure: bool,
    /// No record names it: it is the domain itself.
    pub itself: bool,
}

/// Sorts by priority and mode, and draws by weight within.
///
/// Drawing without replacement by weight is the same as sorting by `-ln(u) / weight` with `u` uniform, which stays
/// quick for thousands of records.
pub fn order<T>(items: Vec<T>, seed: u64, rank: impl Fn(&T) -> Rank) -> Vec<T> {
    let mut chance = Chance(seed);
    let mut keyed: Vec<_> = items
        .into_iter()
        .map(|item| {
            let Rank { priority, weight, mode } = rank(&item);
            let draw = -chance.next().ln();
            let key = if weight == 0 { f64::MAX / 2.0 + draw * 1e300 } else { draw / f64::from(weight) };
            (priority, mode, key, item)
        })
        .collect();
    keyed.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
    keyed.into_iter().map(|(.., item)| item).collect()
}

/// SplitMix64, as numbers in (0, 1].
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
        (f64::from(high) + 1.0) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(priority: u16, weight: u16, mode: TlsMode) -> Rank {
        Rank { priority, weight, mode }
    }

    // RFC 2782: "A client MUST attempt to contact the target host with the lowest-numbered priority"; XEP-0368 3 merges
    // the two lists into one.
    #[test]
    fn priority_first_then_direct_tls() {
        use TlsMode::{Direct, Starttls};
        let items = vec![
            rank(20, 1, Direct),
            rank(10, 9, Starttls),
            rank(10, 1, Direct),
            rank(5, 0, Starttls),
            rank(10, 0, Starttls),
        ];
        for seed in 0..50 {
            let found = order(items.clone(), seed, |rank| *rank);
            let expected = [items[3], items[2], items[1], items[4], items[0]];
            assert_eq!(found, expected, "seed {seed}");
        }
    }

    // RFC 2782: "larger weights SHOULD be given a proportionately higher probability of being selected".
    #[test]
    fn weight_is_a_proportional_chance() {
        let items = vec![(0, 10), (1, 30), (2, 60), (3, 0)];
        let mut first = [0; 4];
        for seed in 0..10_000 {
            let found = order(items.clone(), seed, |item| rank(1, item.1, TlsMode::Direct));
            first[found[0].0] += 1;
            assert_eq!(found.len(), 4);
            assert_eq!(found[3].0, 3, "weight 0 comes last");
        }
        for (count, expected) in first.into_iter().zip([1000, 3000, 6000, 0]) {
            assert!(i32::abs(count - expected) < 250, "{first:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_order() {
        let items: Vec<u32> = (0..5000).collect();
        let draw = |seed| order(items.clone(), seed, |_| rank(1, 0, TlsMode::Direct));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
