//! A side that has proven who it is: larger limits, rates of its own, and no place among strangers any more.

use std::sync::Arc;

use super::super::now;
use super::super::pump::Pump;
use crate::reason::{Facing, Flow};
use crate::relay::{Input, Side};

/// From here on this side is who it says it is.
pub(super) fn widen(pump: &mut Pump, side: Side) {
    let tools = Arc::clone(&pump.tools);
    if side == Side::Near {
        proven(pump);
        // Backends that are called from here on stand in for nobody.
        if let Some(leg) = &mut pump.near {
            leg.secured = None;
        }
    }
    pump.remember(side);
    // A client has one stream and no pair: what it sends is shaped from here on.
    let inside = pump.facing(side) == Facing::Backend;
    let limits = if inside { &tools.home.limits.inside } else { &tools.home.limits.proven };
    let shaped = pump.meta.flow == Flow::C2s && side != Side::Near;
    let valve = shaped.then(|| pump.tools.rates.stream(now()));
    if let Side::Far(id) = side
        && let Some(far) = pump.fars.get_mut(id)
    {
        // A client's server is chosen from here on; others may be told to go elsewhere.
        if shaped {
            far.route = None;
        }
        if let Some(place) = &mut far.place {
            place.stands(now());
        }
    }
    let client = pump.meta.flow == Flow::C2s && side == Side::Near;
    let number = pump.life.id().number();
    if let Some(leg) = pump.leg(side) {
        leg.proven(limits);
        leg.framer.compare_from(number);
        if client {
            // Table 0.3: servers overlook it.
            leg.framer.pass_over_text();
        }
        if let Some(valve) = valve {
            leg.outbox.shape(valve);
        }
    }
}

/// The near side has proven who it is, or a client has logged in: it is no stranger any more.
fn proven(pump: &mut Pump) {
    if let Some(stranger) = pump.stranger.take() {
        pump.threshold = stranger.prove();
    }
    let Some(peer) =
        pump.meta.peer.filter(|_| pump.meta.flow == Flow::C2s && pump.places.iter().all(Option::is_none))
    else {
        return;
    };
    match pump.tools.proven.client(peer.ip()) {
        Ok(place) => pump.places = [Some(place), None],
        Err(reason) => {
            pump.tools.observe.turned_away(pump.meta.peer, reason);
            pump.step(Side::Near, Input::Close(reason));
        }
    }
}
