//! Gatehouse.

pub mod dns;
pub mod jid;
pub mod net;
pub mod reason;
pub mod stream;
pub mod tls;
