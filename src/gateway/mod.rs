//! Settings in, a running gateway out.

pub mod admin;
pub mod lifecycle;
