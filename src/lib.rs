//! Gatehouse.

pub mod reason;
pub mod xml;
