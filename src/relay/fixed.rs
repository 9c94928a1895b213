//! Limits and times that no key of the configuration sets: one table of them, each with why nobody has to choose it.
//!
//! Whoever has a limit takes its fixed ones from here, and so does what fills limits in from the settings: there is no second
//! place to say how much.

use std::time::Duration;

/// Octets of a namespace name, the reader's own measure: those in use have less than a hundred.
pub use crate::xml::NAMESPACE_NAME;

/// Attempts to bind on one client stream (C2S-14): a client whose address is taken tries another once or twice, one that goes on is in
/// a loop.
pub const BINDS: u8 = 5;

/// Questions about keys on one stream (DB-43): an honest server asks about the streams that it has from us, and about each once.
pub const QUESTIONS: u16 = 256;

/// Refusals that a peer's stream may have at once, and one more for each second of its life (LIM-09): each is logged, and whoever has so
/// many has been told enough.
pub const REFUSALS: u64 = 100;

/// How long a courier waits for more before it closes. What it carries comes in bursts, when a leg breaks: nobody would know what to
/// write in a file.
pub const COURIER: Duration = Duration::from_secs(10);

/// How long a report stream waits for more, and a backend's own stream for which no far leg stands (DB-69): longer than servers wait
/// before they try again, and reports come one after the other.
pub const REPORT: Duration = Duration::from_secs(60);

/// Pairs that are served at one time by couriers that others in the world have caused: more than one peer with all its pairs, and each is a
/// connection of ours.
pub const COURIERS: usize = 256;

/// Streams of ours to one server behind, until its own number is known (`connections` of a backend).
pub const SEATS: usize = 500;

/// Of those, set up at one time: old servers do the handshakes of all streams in one thread.
pub const SEATS_SETTING_UP: usize = 8;

/// How long a stream to a server behind has stood before it gives way to another: with less, streams would be set up and do nothing.
pub const SEAT_STAY: Duration = Duration::from_secs(1);
