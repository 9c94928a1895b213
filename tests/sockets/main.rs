//! Tests over real sockets on loopback addresses, with the demo's peers and servers, and of the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// A test tells one story from its beginning to its end.
#![allow(clippy::fn_params_excessive_bools, clippy::too_many_lines)]
// What is shared with the fuzz targets, or by the other programs of tests, is a module of each who uses it.
#![allow(clippy::duplicate_mod)]

#[path = "../support/apart.rs"]
mod apart;
#[path = "../tls/pki.rs"]
mod pki;
#[path = "../support/redis.rs"]
mod redis;
#[path = "../support/release.rs"]
mod release;
#[path = "../support/sockets.rs"]
mod sockets;
#[path = "../support/steering.rs"]
mod steering;
#[path = "../support/websocket.rs"]
mod websocket_client;
#[path = "../support/zones.rs"]
mod zones;

mod audit;
mod beside;
mod both_ways;
mod breaks;
mod busywork;
mod circuit;
mod cli;
mod client_certificates;
mod container;
mod control;
mod counts;
mod crowds;
mod dane;
mod departed;
mod drain;
mod facts;
mod fail2ban;
mod faults;
mod federation;
mod fetched_lists;
mod grade;
mod graded;
mod guide;
mod how_far;
mod hung;
mod init;
mod kept_back;
mod kubernetes;
mod limits;
mod lists;
mod load;
mod misconfigured;
mod moved;
mod old_servers;
mod one_port;
mod outages;
mod package;
mod peers;
mod pins;
mod posh;
mod probe;
mod quarantine;
mod refused;
mod reload;
mod restarts;
mod shadow;
mod shortage;
mod spoofing;
mod status_page;
mod store;
mod stores;
mod telling;
mod trouble;
mod true_words;
mod turns;
mod unproven;
mod unread;
mod watching;
mod ways_out;
mod websocket;
