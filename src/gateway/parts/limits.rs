//! The parts that hold limits and times, made from the settings.

use std::num::NonZeroU32;

use super::{count, size};
use crate::config::limits::{PerMinute, PerSecond};
use crate::config::settings::Settings;
use crate::{limit, run};

/// Times and counts of the engine room.
pub fn engine(settings: &Settings) -> run::Params {
    let (limits, times) = (&settings.limits, &settings.timeouts);
    run::Params {
        first_byte: times.first_byte,
        stanza: times.stanza,
        keepalive: times.keepalive,
        unproven_octets: size(limits.preauth_total),
        verifications: limit::TurnParams {
            places: count(limits.verifications),
            per_source: count(limits.pending_per_source),
            per_domain: count(limits.pending_per_domain),
            waiting: count(limits.verifications_waiting),
            turn: times.verify_turn,
        },
        inside_octets: size(limits.inside_queue_total),
        couriers: run::Params::default().couriers,
    }
}

/// What may arrive from the world.
pub fn arrivals(settings: &Settings) -> limit::Params {
    let limits = &settings.limits;
    limit::Params {
        total: limits.conn_total,
        per_network: limits.conn_s2s,
        per_minute: NonZeroU32::new(limits.rate.0).unwrap_or(NonZeroU32::MIN),
        waiting: count(limits.conn_waiting),
    }
}

/// What clients may arrive; they count against the same total.
pub fn arrivals_of_clients(settings: &Settings) -> limit::Params {
    limit::Params { per_network: settings.limits.conn_c2s, ..arrivals(settings) }
}

/// How many may be here of those who have proven who they are.
pub fn proven(settings: &Settings) -> limit::ProvenParams {
    let limits = &settings.limits;
    limit::ProvenParams {
        domain_connections: limits.conn_domain,
        domain_pairs: limits.pairs_domain,
        servers: limits.conn_servers,
        clients: limits.conn_clients,
    }
}

/// How much room there is for those who have proven nothing.
pub fn strangers(settings: &Settings) -> limit::Room {
    let limits = &settings.limits;
    // A quarter of all, but never less than one network may have by itself.
    let around = (limits.conn_unproven / 4).max(limits.conn_s2s).max(limits.conn_c2s);
    limit::Room { connections: limits.conn_unproven, around, octets: limits.memory_unproven }
}

/// How fast anybody may send.
pub fn rates(settings: &Settings) -> limit::RateParams {
    let limits = &settings.limits;
    let pace = |stanzas: PerSecond, octets: PerSecond| limit::Pace {
        stanzas: NonZeroU32::new(stanzas.0),
        octets: NonZeroU32::new(octets.0),
    };
    limit::RateParams {
        stream: pace(limits.stream_stanzas, limits.stream_octets),
        domain: pace(limits.domain_stanzas, limits.domain_octets),
        pair: pace(limits.pair_stanzas, limits.pair_octets),
    }
}

/// How much one remote address, or all of one domain, may do in a minute.
pub fn senders(settings: &Settings) -> limit::SenderParams {
    let limits = &settings.limits;
    let many = |rate: PerMinute| NonZeroU32::new(rate.0).unwrap_or(NonZeroU32::MIN);
    limit::SenderParams {
        stanzas: many(limits.sender_stanzas),
        recipients: many(limits.recipients),
        subscriptions: many(limits.subscriptions),
    }
}

/// How remote domains that do not answer are treated.
pub fn circuits(settings: &Settings) -> run::circuit::Params {
    let (limits, times) = (&settings.limits, &settings.timeouts);
    run::circuit::Params {
        failures: limits.circuit_failures,
        spacing: times.retry_demand,
        first: times.retry_first,
        longest: times.retry_most,
    }
}

/// How many TLS handshakes are begun in a second. Whoever waits for its turn still needs time for the handshake itself.
pub fn handshakes(settings: &Settings) -> limit::Handshakes {
    let rate = NonZeroU32::new(settings.limits.tls_handshakes.0).unwrap_or(NonZeroU32::MIN);
    limit::Handshakes::new(rate, settings.timeouts.tls / 2, run::now())
}

/// How many new accounts a network may ask for.
pub fn registrations(settings: &Settings) -> limit::Registrations {
    limit::Registrations::new(settings.limits.registrations)
}

/// How much guessing of passwords is borne.
pub fn logins(settings: &Settings) -> limit::LoginParams {
    let (limits, times) = (&settings.limits, &settings.timeouts);
    limit::LoginParams {
        per_account: limits.login_failures_account,
        per_network: limits.login_failures_network,
        delay: times.login_delay,
        longest: times.login_delay_most,
        ban: times.login_ban,
        memory: times.login_memory,
    }
}

/// What may arrive from the backends. They are ours: all of them may come at once, and as often as they like.
pub fn arrivals_inside(settings: &Settings) -> limit::Params {
    let total = settings.limits.conn_total;
    limit::Params { total, per_network: total, per_minute: NonZeroU32::MAX, waiting: 0 }
}
