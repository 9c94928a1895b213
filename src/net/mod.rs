//! The porch: listens, dials, reads and writes PROXY headers, and carries octets in clear or under TLS.
//!
//! It sees peer addresses and counts octets, and reads not one of XML. Every wait here has a deadline or is the
//! caller's to bound.

pub mod connect;
pub mod listen;
pub mod proxy;
pub mod transport;
mod tune;

pub use connect::{ConnectFault, connect};
pub use listen::{AcceptFault, Listener};
pub use transport::{Transport, accept_tls, connect_tls, is_truncation};
