//! The manual: words only, no code.
//!
//! Promises that what it says of the program is so: `tests/servers/docs.rs` makes sure that every test and file it names exists, and that
//! every command of the README runs. How to configure is told by [`crate::config::spec`], key by key.
//!
//! - `architecture.md`: the floors, the life of one connection file by file, the words, and how to add what;
//! - `requirements.md`: every rule that the code cites, with its source, what bad input gets, and where it is shown;
//! - `cost.md`: what it costs beside a proxy that reads nothing, where the time goes, and what was tried to have it less;
//! - `xml-rules.md`: what counts as XML here, and the canonical language that leaves;
//! - [`flows`]: what happens between two sockets, drawn as it runs;
//! - [`threats`]: known weaknesses of the field, our defence, and the test that shows it.

pub mod flows;
pub mod threats;
