//! Gatehouse.

pub mod jid;
pub mod reason;
