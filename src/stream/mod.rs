//! The protocol chamber: what a channel shows, and what that proves.

pub mod identity;
pub mod secured;
