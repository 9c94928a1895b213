//! The parts that hold limits and times, made from the settings.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{count, size};
use crate::config::limits::{Limits, PerMinute, PerSecond, Timeouts};
use crate::config::settings::Settings;
use crate::relay::fixed;
use crate::relay::plan::{self, StreamLimits};
use crate::{limit, run, xml};

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
        couriers: fixed::COURIERS,
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
fn proven(settings: &Settings) -> limit::ProvenParams {
    let limits = &settings.limits;
    limit::ProvenParams {
        domain_connections: limits.conn_domain,
        domain_pairs: limits.pairs_domain,
        servers: limits.conn_servers,
        clients: limits.conn_clients,
    }
}

/// How much room there is for those who have proven nothing.
fn unproven(settings: &Settings) -> limit::Room {
    let limits = &settings.limits;
    // A quarter of all, but never less than one network may have by itself.
    let around = (limits.conn_unproven / 4).max(limits.conn_s2s).max(limits.conn_c2s);
    limit::Room { connections: limits.conn_unproven, around, octets: limits.memory_unproven }
}

/// How fast anybody may send.
fn rates(settings: &Settings) -> limit::RateParams {
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
fn senders(settings: &Settings) -> limit::SenderParams {
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
fn registrations(settings: &Settings) -> limit::Registrations {
    limit::Registrations::new(settings.limits.registrations)
}

/// How much guessing of passwords is borne.
fn logins(settings: &Settings) -> limit::LoginParams {
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

/// The ceilings of streams. Each is named: a limit that is not wired does not compile.
pub(super) fn stream_limits(limits: &Limits) -> StreamLimits {
    let proven = xml::Limits {
        header: size(limits.header),
        element: size(limits.stanza),
        depth: count(limits.depth),
        attributes: count(limits.attrs),
        declarations: count(limits.nsdecl),
        name: size(limits.name),
        value: size(limits.attr_value),
        nodes: count(limits.nodes),
        bindings: count(limits.bindings),
        grown: size(limits.grown),
        skip: size(limits.skip),
        namespace_name: fixed::NAMESPACE_NAME,
        inside: false,
    };
    let inside = xml::Limits {
        element: size(limits.inside_stanza),
        depth: count(limits.inside_depth),
        attributes: count(limits.inside_attrs),
        declarations: count(limits.inside_nsdecl),
        bindings: count(limits.inside_bindings),
        value: size(limits.inside_attr_value),
        nodes: count(limits.inside_nodes),
        header: size(limits.header),
        name: size(limits.name),
        skip: size(limits.skip),
        namespace_name: fixed::NAMESPACE_NAME,
        // How it may grow is not asked, for it goes to its readers as it is.
        grown: usize::MAX,
        inside: true,
    };
    StreamLimits {
        before_proof: proven.clone().unproven(size(limits.preauth_element)),
        proven,
        inside,
        pairs: count(limits.pairs),
        pending: count(limits.pending_per_stream),
        sasl_attempts: u8::try_from(limits.sasl_attempts).unwrap_or(u8::MAX),
        queue_stanzas: count(limits.queue_stanzas),
        queue_octets: size(limits.queue_octets),
        unacked_stanzas: count(limits.unacked_stanzas),
        unacked_octets: size(limits.unacked_octets),
        sessions: count(limits.sessions),
        inside_queue: size(limits.inside_queue),
        inside_pairs: count(limits.inside_pairs),
        inside_pending: count(limits.inside_pending),
        binds: fixed::BINDS,
        questions: fixed::QUESTIONS,
        refusals: fixed::REFUSALS,
    }
}

/// The deadlines of streams.
pub(super) fn stream_timeouts(times: &Timeouts) -> plan::Timeouts {
    plan::Timeouts {
        header: times.header,
        tls: times.tls,
        unauth: times.unauth,
        dialback: times.dialback,
        queue: times.queue,
        close: times.close,
        acknowledgement: times.acknowledgement,
        resume: times.resume,
        idle: times.idle_s2s,
        verify_idle: times.verify_idle,
        courier: fixed::COURIER,
        report: fixed::REPORT,
    }
}

/// What is counted against whom, from the beginning.
pub fn bounds(
    settings: &Settings,
    common: Option<&[u8; 32]>,
    handshakes: Arc<limit::Handshakes>,
) -> run::Bounds {
    let callbacks = Arc::default();
    run::Bounds {
        rates: Arc::new(limit::Rates::new(rates(settings))),
        senders: counted_senders(settings, common),
        quarantine: Arc::default(),
        streams: limit::Streams::new(),
        handshakes,
        unproven: limit::Unproven::new(unproven(settings), Arc::clone(&callbacks)),
        proven: limit::Proven::new(proven(settings)),
        callbacks,
        logins: Arc::new(limit::Logins::new(logins(settings))),
        registrations: Arc::new(registrations(settings)),
    }
}

/// The same after a reload: what was counted by the same parameters, and among the same nodes, goes on.
pub fn bounds_after(
    old: &run::Bounds,
    (last, shared): (&Settings, Option<&[u8; 32]>),
    (settings, common): (&Settings, Option<&[u8; 32]>),
) -> run::Bounds {
    let (rate, patience) = (settings.limits.tls_handshakes, settings.timeouts.tls);
    run::Bounds {
        rates: match rates(settings) == rates(last) {
            true => Arc::clone(&old.rates),
            false => Arc::new(limit::Rates::new(rates(settings))),
        },
        senders: match common == shared && senders(settings) == senders(last) {
            true => Arc::clone(&old.senders),
            false => counted_senders(settings, common),
        },
        quarantine: Arc::clone(&old.quarantine),
        streams: Arc::clone(&old.streams),
        handshakes: match (rate, patience) == (last.limits.tls_handshakes, last.timeouts.tls) {
            true => Arc::clone(&old.handshakes),
            false => Arc::new(handshakes(settings)),
        },
        unproven: match unproven(settings) == unproven(last) {
            true => Arc::clone(&old.unproven),
            false => limit::Unproven::new(unproven(settings), Arc::clone(&old.callbacks)),
        },
        proven: match proven(settings) == proven(last) {
            true => Arc::clone(&old.proven),
            false => limit::Proven::new(proven(settings)),
        },
        callbacks: Arc::clone(&old.callbacks),
        logins: match logins(settings) == logins(last) {
            true => Arc::clone(&old.logins),
            false => Arc::new(limit::Logins::new(logins(settings))),
        },
        registrations: match settings.limits.registrations == last.limits.registrations {
            true => Arc::clone(&old.registrations),
            false => Arc::new(registrations(settings)),
        },
    }
}

fn counted_senders(settings: &Settings, common: Option<&[u8; 32]>) -> Arc<limit::Senders> {
    let params = senders(settings);
    Arc::new(match common {
        Some(secret) => limit::Senders::among(params, secret, run::now()),
        None => limit::Senders::new(params, run::now()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // A default stands in the table of the configuration; what tests and tools take for it without a file is the same.
    #[test]
    fn what_parts_hold_by_themselves_is_what_the_table_says() {
        let same = |by_table: &dyn std::fmt::Debug, by_itself: &dyn std::fmt::Debug| {
            assert_eq!(format!("{by_table:?}"), format!("{by_itself:?}"));
        };
        same(&stream_limits(&Limits::default()), &StreamLimits::default());
        same(&stream_timeouts(&Timeouts::default()), &plan::Timeouts::default());
        let (times, dialling) = (Timeouts::default(), crate::net::connect::Params::default());
        same(&(times.connect, times.connect_total), &(dialling.each, dialling.total));
        let resolving = crate::dns::Params::default();
        same(&(times.dns, times.dns_total), &(resolving.each, resolving.total));
        let (_folder, settings) =
            crate::gateway::tests::world("  - { flow: s2s, address: \"127.0.0.1:1111\" }\n");
        let settings = settings.unwrap();
        same(&settings.limits, &Limits::default());
        same(&super::super::resolver(&settings, Vec::new()).places, &resolving.places);
        same(&engine(&settings), &run::Params::default());
        same(&arrivals(&settings), &limit::Params::default());
        same(&proven(&settings), &limit::ProvenParams::default());
        same(&unproven(&settings), &limit::Room::default());
        same(&senders(&settings), &limit::SenderParams::default());
        same(&logins(&settings), &limit::LoginParams::default());
        same(&circuits(&settings), &run::circuit::Params::default());
    }
}
