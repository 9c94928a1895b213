//! Configuration.
pub mod load;
mod node;
