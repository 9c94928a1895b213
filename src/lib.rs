//! Gatehouse.

pub mod dns;
pub mod filter;
pub mod gateway;
pub mod jid;
pub mod limit;
pub mod metrics;
pub mod net;
pub mod policy;
pub mod reason;
pub mod relay;
pub mod run;
pub mod stream;
pub mod tls;
pub mod xml;
