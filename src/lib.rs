//! Gatehouse.

pub mod cli;
pub mod config;
pub mod jid;
pub mod policy;
pub mod reason;
