//! Gatehouse.

pub mod gateway;
pub mod jid;
pub mod limit;
pub mod metrics;
pub mod reason;
pub mod run;
pub mod xml;
