//! Addresses: the domain that is judged, and the whole address that is passed on.
//!
//! Promises one reading of every address: what is accepted here is read the same way by RFC 7622 and by the
//! stringprep of RFC 3920 that legacy servers use (JID-05, JID-06). What the two would read differently is refused,
//! never repaired. Leaves to others what an address may do; see `policy` and `filter`.

mod address;
mod domain;
mod error;
mod prepare;
mod quick;

pub use address::{Jid, MAX_WHOLE, Plain};
pub use domain::Domain;
pub use error::AddressError;
