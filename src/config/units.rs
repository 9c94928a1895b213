//! Sizes, times and rates: how they are written in the file, and how they are shown.

use std::time::Duration;

/// So many in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMinute(pub u32);

/// So many in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerSecond(pub u32);

/// A size as it is written in the file.
pub(super) fn size_shown(size: &u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.iter().find(|(_, bits)| *size > 0 && size.trailing_zeros() >= *bits);
    whole.map_or_else(|| format!("{size}B"), |(unit, bits)| format!("{}{unit}", size >> bits))
}

/// A time as it is written in the file.
pub(super) fn time_shown(time: &Duration) -> String {
    let millis = time.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let whole = units.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / unit))
}

/// Reads `500ms`, `30s`, `5m`, `1h` or `2d`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let millis = match unit {
        "ms" => 1u64,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        "" => return Err(format!("\"{text}\" has no unit; write it like 500ms, 30s, 5m, 1h or 2d")),
        _ => return Err(format!("\"{text}\" is no duration; write it like 500ms, 30s, 5m, 1h or 2d")),
    };
    let total = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
    total
        .map(Duration::from_millis)
        .ok_or_else(|| format!("\"{text}\" is no duration; write it like 500ms, 30s, 5m, 1h or 2d"))
}

pub(super) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no number"))
}

pub(super) fn per_minute(text: &str) -> Result<PerMinute, String> {
    let number = text.strip_suffix("/min").and_then(|digits| digits.parse().ok());
    number.map(PerMinute).ok_or_else(|| format!("\"{text}\" is no rate; write it like 30/min"))
}

pub(super) fn octets_per_second(text: &str) -> Result<PerSecond, String> {
    let octets = text.strip_suffix("/s").and_then(|size| crate::policy::octets(size).ok());
    let number = octets.and_then(|octets| u32::try_from(octets).ok());
    number.map(PerSecond).ok_or_else(|| format!("\"{text}\" is no rate; write it like 16MiB/s"))
}

pub(super) fn per_second(text: &str) -> Result<PerSecond, String> {
    let number = text.strip_suffix("/s").and_then(|digits| digits.parse().ok());
    number.map(PerSecond).ok_or_else(|| format!("\"{text}\" is no rate; write it like 500/s"))
}

/// The least value of a kind, where the table's own words cannot be read.
pub(super) trait Floor {
    const FLOOR: Self;
}

impl Floor for u32 {
    const FLOOR: u32 = 1;
}

impl Floor for u64 {
    const FLOOR: u64 = 1;
}

impl Floor for Duration {
    const FLOOR: Duration = Duration::from_secs(1);
}

impl Floor for PerSecond {
    const FLOOR: PerSecond = PerSecond(1);
}

impl Floor for PerMinute {
    const FLOOR: PerMinute = PerMinute(1);
}
