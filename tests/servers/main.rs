//! Tests with real servers and clients, in network namespaces.

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
mod neighbours;
mod patches;
mod reasons;
mod returns;
mod rolling;
mod server_dialogues;
mod survive;
