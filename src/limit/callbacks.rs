//! Servers that we have called, and that call back before they let us speak: by dialback a key of ours is asked about over a
//! connection of theirs (XEP-0220 2.2).
//!
//! Who is called for sixty domains at one address comes back sixty times from there. Those connections are our own doing: each
//! question that we wait for makes room for one of them, beside what unproven peers of that address may have.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::{Network, held};

/// Callbacks that are waited for.
#[derive(Debug, Default)]
pub struct Callbacks {
    pub(super) from: Mutex<HashMap<Network, u32>>,
}

impl Callbacks {
    /// One is waited for from this address, for as long as the callback lives.
    pub fn expect(self: &Arc<Self>, address: IpAddr) -> Callback {
        let network = Network::of(address);
        *held(&self.from).entry(network).or_default() += 1;
        Callback { callbacks: Arc::clone(self), network }
    }

    /// So many are waited for from there.
    pub(super) fn from(&self, network: Network) -> u32 {
        held(&self.from).get(&network).copied().unwrap_or_default()
    }
}

/// A callback that is waited for.
#[derive(Debug)]
pub struct Callback {
    callbacks: Arc<Callbacks>,
    network: Network,
}

impl Drop for Callback {
    fn drop(&mut self) {
        let mut from = held(&self.callbacks.from);
        if let Some(count) = from.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                from.remove(&self.network);
            }
        }
    }
}
