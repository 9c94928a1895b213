//! Gatehouse.

pub mod demo;
