//! Gatehouse.

pub mod config;
pub mod jid;
pub mod policy;
pub mod reason;
