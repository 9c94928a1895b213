//! The manual: words only, no code.
//!
//! Promises that what it says of the program is so: `tests/docs.rs` makes sure that every test it names exists, and that every
//! command of the README runs. How to configure is told by [`crate::config::spec`], key by key.
//!
//! - [`flows`]: what happens between two sockets, drawn as it runs;
//! - [`threats`]: known weaknesses of the field, our defence, and the test that shows it.

pub mod flows;
pub mod threats;
