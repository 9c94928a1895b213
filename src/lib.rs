//! Gatehouse: the gateway in front of an XMPP server that cannot be exposed.
//!
//! The house has floors, and a module imports only from floors strictly below its own (`tests/pure/architecture.rs` holds the
//! table). Below the water line there is no clock, socket, randomness, file or log: everything between two sockets is one
//! pure value.
//!
//! | floor | modules |
//! | --- | --- |
//! | 11 | [`cli`] |
//! | 10 | `demo`, a feature of the build |
//! | 9 | [`gateway`] |
//! | 8 | [`status`] |
//! | 7 | `run`, `config` |
//! | 6 | `net`, `store` |
//! | 5 | `tls`, `dns`, `limit`, `metrics` |
//! | | *water line* |
//! | 4 | [`relay`] |
//! | 3 | [`filter`], [`peers`] |
//! | 2 | [`stream`], [`policy`] |
//! | 1 | [`xml`] |
//! | 0 | [`jid`], [`reason`] |
//!
//! The [`manual`] is words only.

// A test tells one story from its beginning to its end.
#![cfg_attr(test, allow(clippy::fn_params_excessive_bools, clippy::too_many_lines))]

pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dns;
pub mod filter;
pub mod gateway;
pub mod jid;
pub mod limit;
pub mod manual;
pub mod metrics;
pub mod net;
pub mod peers;
pub mod policy;
pub mod reason;
pub mod relay;
pub mod run;
pub mod status;
pub mod store;
pub mod stream;
pub mod tls;
pub mod xml;
