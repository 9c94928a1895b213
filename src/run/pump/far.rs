//! What is held for a leg that we opened, and for a pair that stands.

use std::task::Waker;

use super::super::awaited::AwaitTicket;
use super::super::courier::InsideTicket;
use super::super::leg::Leg;
use super::super::{Route, backends};
use crate::limit::{Callback, Place, StreamTicket, Valve};
use crate::relay::Destination;

/// A leg that we opened.
pub(in crate::run) struct Far {
    pub(in crate::run) leg: Leg,
    pub(in crate::run) destination: Destination,
    pub(in crate::run) route: Option<Box<dyn Route>>,
    pub(in crate::run) awaited: Vec<AwaitTicket>,
    /// It is to ask about a key, over a connection of its own.
    pub(in crate::run) callback: Option<Callback>,
    /// Its place at a server behind, until the connection has ended.
    pub(in crate::run) place: Option<backends::Place>,
    /// What its socket wakes, where it is one of many.
    pub(in crate::run) bell: Option<Waker>,
}

/// What a pair that stands may send.
pub(in crate::run) struct Sending {
    pub(in crate::run) valve: Valve,
    /// Its far leg has ended; couriers carry it.
    pub(in crate::run) carried: bool,
    /// Its place in the count of its rule, and in that of the peer's registrable domain.
    pub(in crate::run) _counted: (StreamTicket, Option<Place>),
    /// Inbound: reports of the pair take its stream (DB-69).
    pub(in crate::run) _inside: Option<InsideTicket>,
}
