//! The porch: listens, dials, reads and writes PROXY headers.
//!
//! It sees peer addresses and counts octets, and reads not one of XML. Every wait here has a deadline or is the
//! caller's to bound.

mod begun;
pub mod connect;
pub mod listen;
pub mod proxy;
mod shortage;
mod tune;
pub mod via;
pub mod web;

pub use begun::Begun;
pub use connect::{ConnectFault, Dialled, connect};
pub use listen::{AcceptFault, Listener};
pub use shortage::Shortage;
pub use tune::Tuning;
