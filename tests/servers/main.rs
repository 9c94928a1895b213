//! Tests with real servers and clients, in network namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// A test tells one story from its beginning to its end.
#![allow(clippy::fn_params_excessive_bools, clippy::too_many_lines)]
// What is shared with the fuzz targets, or by the other programs of tests, is a module of each who uses it.
#![allow(clippy::duplicate_mod)]

#[path = "../support/mod.rs"]
mod support;

mod any_to_listed;
mod bidi;
mod browsers;
mod clients;
mod cluster;
mod docs;
mod egress;
mod growth;
mod init_servers;
mod interop;
mod lines;
mod logins;
mod neighbours;
mod patches;
mod proofs;
mod reasons;
mod returns;
mod rolling;
mod server_dialogues;
mod survive;
