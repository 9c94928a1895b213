//! Clients and their server, as far as the gateway stands between them: two roles, and what each lets through.
//!
//! The server inside decides every login; what stands here sees to it that a client hears and uses only what is on the
//! lists, and that no stanza passes before that server itself has said who speaks.

pub mod mechanism;

pub use mechanism::Mechanism;
