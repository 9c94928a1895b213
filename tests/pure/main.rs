//! Tests without a socket or a process: seconds, whatever the machine does besides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// A test tells one story from its beginning to its end.
#![allow(clippy::fn_params_excessive_bools, clippy::too_many_lines)]
// What is shared with the fuzz targets, or by the other programs of tests, is a module of each who uses it.
#![allow(clippy::duplicate_mod)]

#[path = "../support/dice.rs"]
mod dice;
#[path = "../tls/pki.rs"]
mod pki;
#[path = "../support/stage.rs"]
mod stage;
#[path = "../support/steering.rs"]
mod steering;

mod architecture;
mod bidi_core;
mod client_core;
mod client_dialogues;
mod dns;
mod explore;
mod fleet;
mod framing;
mod fuzz_corpus;
mod handshakes;
mod held;
mod home_words;
mod hostile;
mod made_here;
mod management;
mod policy;
mod reference;
mod relay;
mod requirements;
mod simulation;
mod sizes;
mod tls;
mod trust;
