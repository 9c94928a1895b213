//! What of one kind has passed in a time of which a rule speaks: `20/h` is a promise that no hour, whenever it begins, sees more than twenty.
//!
//! So what has passed is counted by parts of that time, and a part counts until all of it lies a whole time back: what has passed
//! is free again after that time, and up to a twenty-fourth of it more. That costs some numbers where single stanzas would cost as many as
//! the rate allows. Each process counts under a name of its own, so that what several of them know is joined by taking the
//! greater number, however often and in whichever order they say it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::Often;

/// What has passed of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Passed(BTreeMap<u32, Parts>);

/// By the number of the part since 1970, how many each process has let pass.
type Parts = BTreeMap<i64, BTreeMap<Box<str>, u32>>;

impl Passed {
    /// Counts one more, by the process of that name, if no time of that length has seen as many as may pass.
    pub(super) fn takes(&mut self, often: Often, process: &str, now: i64) -> bool {
        self.forget(now);
        self.knows(often.seconds, now);
        if self.sum(often.seconds) >= u64::from(often.many.get()) {
            return false;
        }
        // Another rule may speak of another time, and what has passed has passed under that one, too.
        for (seconds, parts) in &mut self.0 {
            add(parts, now.div_euclid(width(*seconds)), process, 1);
        }
        true
    }

    /// Takes over what others know.
    pub(super) fn join(&mut self, theirs: &Self) {
        for (seconds, parts) in &theirs.0 {
            let ours = self.0.entry(*seconds).or_default();
            for (part, counts) in parts {
                let ours = ours.entry(*part).or_default();
                for (process, count) in counts {
                    let known = ours.entry(process.clone()).or_default();
                    *known = (*known).max(*count);
                }
            }
        }
    }

    /// What lies a whole time back is over.
    pub(super) fn forget(&mut self, now: i64) {
        for (seconds, parts) in &mut self.0 {
            let (time, width) = (millis(*seconds), width(*seconds));
            parts.retain(|part, _| part.saturating_add(1).saturating_mul(width) > now.saturating_sub(time));
        }
        // While something is known of one time, what is known of the others says that nothing has passed in them.
        if self.0.values().all(BTreeMap::is_empty) {
            self.0.clear();
        }
    }

    /// Whether it can be: times of which a rule may speak, nothing of tomorrow, and no more than somebody writes.
    pub(super) fn is_possible(&self, soon: i64) -> bool {
        self.0.iter().all(|(seconds, parts)| {
            let last = soon.div_euclid(width(*seconds));
            Often::SECONDS.contains(seconds)
                && parts.len() <= MOST_PARTS
                && parts.keys().all(|part| (0..=last).contains(part))
                && parts.values().all(|counts| counts.len() <= PROCESSES)
                && parts.values().flat_map(BTreeMap::keys).all(|process| process.len() <= NAME)
        })
    }

    fn sum(&self, seconds: u32) -> u64 {
        let counts = self.0.get(&seconds).into_iter().flatten().flat_map(|(_, counts)| counts.values());
        counts.map(|count| u64::from(*count)).sum()
    }

    /// A time of which nothing was asked before begins with what is known of the longest: a changed rule is no second helping.
    fn knows(&mut self, seconds: u32, now: i64) {
        if self.0.contains_key(&seconds) {
            return;
        }
        let mut begun = Parts::new();
        if let Some((other, parts)) = self.0.last_key_value() {
            for (part, counts) in parts {
                let last = part.saturating_add(1).saturating_mul(width(*other)).saturating_sub(1).min(now);
                for (process, count) in counts {
                    add(&mut begun, last.div_euclid(width(seconds)), process, *count);
                }
            }
        }
        self.0.insert(seconds, begun);
        self.forget_of(seconds, now);
    }

    fn forget_of(&mut self, seconds: u32, now: i64) {
        let (time, width) = (millis(seconds), width(seconds));
        if let Some(parts) = self.0.get_mut(&seconds) {
            parts.retain(|part, _| part.saturating_add(1).saturating_mul(width) > now.saturating_sub(time));
        }
    }
}

fn add(parts: &mut Parts, part: i64, process: &str, count: u32) {
    let counts = parts.entry(part).or_default();
    match counts.get_mut(process) {
        Some(known) => *known = known.saturating_add(count),
        None => drop(counts.insert(process.into(), count)),
    }
}

fn millis(seconds: u32) -> i64 {
    i64::from(seconds).saturating_mul(1000)
}

/// Milliseconds of one part.
fn width(seconds: u32) -> i64 {
    (millis(seconds) / PARTS).max(1)
}

/// Parts of a time.
const PARTS: i64 = 24;

/// Parts that somebody may say: those of a time, those cut at either end, and some for clocks that differ.
const MOST_PARTS: usize = 100;

/// Processes that may have counted in one part.
const PROCESSES: usize = 200;

/// Octets of the name of a process.
const NAME: usize = 16;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const START: i64 = 20_000 * 24 * 3600 * 1000 + 12_345;

    fn often(many: u32, seconds: u32) -> Often {
        Often { many: NonZeroU32::new(many).unwrap(), seconds }
    }

    // POL-24: of whoever sends as much as he can, at whichever moments, no window of the length sees more than the rate says.
    #[test]
    fn no_time_of_the_length_sees_more_than_the_rate_whenever_it_begins() {
        for seconds in Often::SECONDS {
            let time = millis(seconds);
            for many in [1, 3, 20, 600] {
                let (mut passed, mut at, mut times) = (Passed::default(), START, Vec::new());
                // Steps that fit no part, with bursts between them.
                for step in 0..2000_i64 {
                    at += (step * step * 7919) % (time / 40).max(2);
                    for _ in 0..=(step % 3) {
                        if passed.takes(often(many, seconds), "one", at) {
                            times.push(at);
                        }
                    }
                }
                for (index, first) in times.iter().enumerate() {
                    let within = times[index..].iter().take_while(|at| **at - first < time).count();
                    assert!(within <= many as usize, "{many} in {seconds} s: {within} from {first}");
                }
                // Nor is it much less, where so much comes: each whole time and a part more brings another helping.
                let whole = usize::try_from((at - START) / (time + 2 * width(seconds))).unwrap();
                let enough = many > 20 || times.len() >= whole * many as usize;
                assert!(enough && whole > 10, "{many} in {seconds} s: {} in {whole} times", times.len());
            }
        }
    }

    #[test]
    fn another_time_knows_what_has_passed_under_the_first_one() {
        for (first, then) in [(3600, 86_400), (86_400, 3600), (60, 1), (1, 86_400)] {
            let mut passed = Passed::default();
            assert!((0..3).all(|_| passed.takes(often(3, first), "one", START)));
            assert!(!passed.takes(often(3, then), "one", START), "{first} {then}");
            assert!(passed.takes(often(4, then), "one", START), "{first} {then}");
            // And the other way round.
            assert!(!passed.takes(often(4, first), "one", START), "{first} {then}");
        }
    }

    #[test]
    fn processes_join_what_they_know_in_any_order_and_as_often_as_they_like() {
        let (mut one, mut two) = (Passed::default(), Passed::default());
        assert!((0..5).all(|_| one.takes(often(20, 3600), "one", START)));
        assert!((0..7).all(|_| two.takes(often(20, 3600), "two", START)));
        let (before, mut late) = (one.clone(), two.clone());
        one.join(&two);
        two.join(&before);
        assert_eq!(one, two);
        late.join(&one);
        late.join(&before);
        late.join(&one);
        assert_eq!(late, one);
        assert_eq!((0..20).filter(|_| one.takes(often(20, 3600), "one", START)).count(), 8);
    }

    #[test]
    fn what_nobody_writes_is_not_believed() {
        let read = |text: &str| serde_json::from_str::<Passed>(text).unwrap();
        let part = START / width(3600);
        let honest = format!(r#"{{"3600":{{"{part}":{{"0a1b2c3d":7}}}}}}"#);
        assert!(read(&honest).is_possible(START));
        assert!(read("{}").is_possible(START));
        let later = format!(r#"{{"3600":{{"{}":{{"one":7}}}}}}"#, part + 1);
        let many: Vec<_> = (0..=MOST_PARTS).map(|n| format!(r#""{n}":{{}}"#)).collect();
        let many = format!(r#"{{"3600":{{{}}}}}"#, many.join(","));
        let long = format!(r#"{{"3600":{{"{part}":{{"{}":7}}}}}}"#, "x".repeat(NAME + 1));
        for text in [&*later, &many, &long, r#"{"7":{}}"#, r#"{"3600":{"-1":{"one":1}}}"#] {
            assert!(!read(text).is_possible(START), "{text}");
        }
    }
}
