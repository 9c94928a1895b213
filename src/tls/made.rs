//! Room in which records are made: it belongs to the thread, and no connection owns any of it.

use std::cell::RefCell;

use super::records::RECORD;

/// What is made at once.
pub(super) struct Made {
    /// Small parts that share a record.
    pub(super) plain: Vec<u8>,
    /// The records.
    pub(super) sealed: Vec<u8>,
    /// Where each of them ends, and how many octets it holds.
    pub(super) ends: Vec<(usize, usize)>,
}

/// Of these records so many octets have gone out, and the rest is said late, behind as many as were said before: those that are not out,
/// each with what will have been said late behind it, and with what it holds.
pub(super) fn behind(
    ends: &[(usize, usize)],
    out: usize,
    said: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let left = ends.iter().filter(move |(end, _)| *end > out);
    left.map(move |(end, octets)| (said.wrapping_add(end - out), *octets))
}

thread_local! {
    pub(super) static MADE: RefCell<Made> = RefCell::new(Made {
        plain: Vec::with_capacity(RECORD),
        sealed: vec![0; WRITE + RECORD + RECORD],
        ends: Vec::new(),
    });
}

/// Octets that are sealed before the socket is asked to take them: it takes as many as it has room for.
pub(super) const WRITE: usize = 4 * RECORD;
