//! Keys that are each right and still contradict one another.

use super::limits::{Limits, Timeouts};
use super::settings::{Listener, Steering};
use super::spec;
use super::words::Words;

/// Limits that are each in range and still contradict one another.
pub(super) fn agree(words: &mut Words, spec: &spec::FileSpec, limits: &Limits, timeouts: &Timeouts) {
    if let Some(at) = &spec.limits {
        if limits.preauth_element > limits.preauth_total {
            words.error(
                at,
                "`preauth-element` exceeds `preauth-total`",
                "raise the total or lower the element",
            );
        }
        if limits.queue_octets < limits.stanza {
            words.error(
                at,
                "`queue-octets` is less than one `stanza`",
                "raise the queue or lower the stanza",
            );
        }
    }
    if let Some(at) = &spec.timeouts {
        for (part, whole, names) in [
            (timeouts.dns, timeouts.dns_total, "`dns` exceeds `dns-total`"),
            (timeouts.connect, timeouts.connect_total, "`connect` exceeds `connect-total`"),
            (timeouts.header, timeouts.unauth, "`header` exceeds `unauth`"),
            (timeouts.login_delay, timeouts.login_delay_most, "`login-delay` exceeds `login-delay-most`"),
            (timeouts.login_ban, timeouts.login_memory, "`login-ban` exceeds `login-memory`"),
        ] {
            if part > whole {
                words.error(at, names, "raise the second or lower the first");
            }
        }
    }
}

/// Addresses that would lead the gateway to itself.
pub(super) fn no_loops(
    words: &mut Words,
    spec: &spec::FileSpec,
    listeners: &[Listener],
    steering: Option<&Steering>,
) {
    let backends =
        spec.domains.iter().flat_map(|list| &list.value).filter_map(|domain| domain.value.backend.as_ref());
    for word in backends.flat_map(|at| [&at.value.c2s, &at.value.s2s]).flatten().flat_map(|list| &list.value)
    {
        let address = words.told_socket(word, None);
        if let Some(own) = listeners.iter().find(|listener| Some(listener.address) == address) {
            let message = format!("{} is the gateway's own listener", own.address);
            words.error(word, message, "write the backend's address");
        }
    }
    let servers = spec.dns.as_ref().and_then(|at| at.value.servers.as_ref());
    for word in servers.iter().flat_map(|list| &list.value) {
        if steering.is_some_and(|steering| words.told_socket(word, Some(53)) == Some(steering.listen)) {
            words.error(word, "the gateway would ask its own steering answers", "name another resolver");
        }
    }
}

/// Addresses that two parts of the gateway would listen at.
pub(super) fn apart(words: &mut Words, spec: &spec::FileSpec, listeners: &[Listener]) {
    let admin = spec.admin.as_ref().and_then(|at| at.value.http.as_ref());
    let steering = spec.steering.as_ref().and_then(|at| at.value.listen.as_ref());
    let admin = admin.and_then(|word| Some((word, words.told_socket(word, None)?)));
    let steering = steering.and_then(|word| Some((word, words.told_socket(word, Some(53))?)));
    let mut taken: Vec<_> =
        listeners.iter().map(|own| (own.address, format!("the listener at {}", own.place))).collect();
    for (part, what) in [(admin, "admin"), (steering, "steering")] {
        let Some((word, address)) = part else { continue };
        // Port 0 is a free one.
        if let Some((_, by)) = taken.iter().find(|(other, _)| *other == address && address.port() != 0) {
            words.error(
                word,
                format!("{address} is taken already by {by}"),
                "give each its own address or port",
            );
        }
        taken.push((address, format!("`{what}`")));
    }
}
