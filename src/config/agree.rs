//! Keys that are each right and still contradict one another.

use std::net::{IpAddr, SocketAddr};

use super::limits::{Limits, Timeouts};
use super::scalars::ScalarReader;
use super::settings::{Listener, Steering};
use super::spec;

/// Limits that are each in range and still contradict one another.
pub(super) fn agree(spec: &spec::FileSpec, limits: &Limits, timeouts: &Timeouts, reader: &mut ScalarReader) {
    if let Some(at) = &spec.limits {
        if limits.preauth_element > limits.preauth_total {
            reader.error(
                at,
                "`preauth-element` exceeds `preauth-total`",
                "raise the total or lower the element",
            );
        }
        if limits.queue_octets < limits.stanza {
            reader.error(
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
                reader.error(at, names, "raise the second or lower the first");
            }
        }
    }
}

/// Whether no two sockets can be open at these: the same port, at one address or at one that takes the other in.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (here, there) = (one.ip().to_canonical(), other.ip().to_canonical());
    // All addresses of IPv6 take in those of IPv4.
    let takes_in = |all: IpAddr, some: IpAddr| all.is_unspecified() && (all.is_ipv6() || some.is_ipv4());
    // Port 0 is a free one.
    one.port() == other.port()
        && one.port() != 0
        && (here == there || takes_in(here, there) || takes_in(there, here))
}

/// Addresses that would lead the gateway to itself.
pub(super) fn no_loops(
    spec: &spec::FileSpec,
    listeners: &[Listener],
    (admin, steering): (Option<SocketAddr>, Option<&Steering>),
    reader: &mut ScalarReader,
) {
    let backends =
        spec.domains.iter().flat_map(|list| &list.value).filter_map(|domain| domain.value.backend.as_ref());
    for word in backends.flat_map(|at| [&at.value.c2s, &at.value.s2s]).flatten().flat_map(|list| &list.value)
    {
        let Some(address) = reader.quiet_socket(word, None) else { continue };
        // Where we listen at all addresses, another server may still be at one that is not ours.
        let is_own = |own: &SocketAddr| {
            *own == address || (address.ip().to_canonical().is_loopback() && overlap(*own, address))
        };
        let listener = listeners.iter().map(|listener| (listener.address, "listener"));
        let doors = [(admin, "`admin`"), (steering.map(|at| at.listen), "`steering`")];
        let doors = doors.into_iter().filter_map(|(at, what)| Some((at?, what)));
        if let Some((own, what)) = listener.chain(doors).find(|(own, _)| is_own(own)) {
            let message = format!("{own} is the gateway's own {what}");
            let remedy = "write the backend's address";
            match own == address {
                true => reader.error(word, message, remedy),
                // Whoever of the two is there first keeps the other away.
                false => reader.warn(word, format!("{message}, and takes in {address}"), remedy),
            }
        }
    }
    let servers = spec.dns.as_ref().and_then(|at| at.value.servers.as_ref());
    for word in servers.iter().flat_map(|list| &list.value) {
        if steering.is_some_and(|steering| reader.quiet_socket(word, Some(53)) == Some(steering.listen)) {
            reader.error(word, "the gateway would ask its own steering answers", "name another resolver");
        }
    }
}

/// Addresses that two parts of the gateway would listen at.
pub(super) fn apart(spec: &spec::FileSpec, listeners: &[Listener], reader: &mut ScalarReader) {
    let admin = spec.admin.as_ref().and_then(|at| at.value.http.as_ref());
    let steering = spec.steering.as_ref().and_then(|at| at.value.listen.as_ref());
    let admin = admin.and_then(|word| Some((word, reader.quiet_socket(word, None)?)));
    let steering = steering.and_then(|word| Some((word, reader.quiet_socket(word, Some(53))?)));
    let mut taken: Vec<_> =
        listeners.iter().map(|own| (own.address, format!("the listener at {}", own.place))).collect();
    for (part, what) in [(admin, "admin"), (steering, "steering")] {
        let Some((word, address)) = part else { continue };
        if let Some((other, by)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
            reader.error(word, taken_by(address, *other, by), "give each its own address or port");
        }
        taken.push((address, format!("`{what}`")));
    }
}

/// That nothing can listen at this address beside the other.
pub(super) fn taken_by(address: SocketAddr, other: SocketAddr, by: &str) -> String {
    match address == other {
        true => format!("{address} is taken already by {by}"),
        false => format!("{address} cannot be had beside {other}, which is taken already by {by}"),
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn all_addresses_take_in_each_of_their_family_and_all_of_ipv6_those_of_ipv4() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(super::overlap(one, other), super::overlap(other, one));
            super::overlap(one, other)
        };
        assert!(overlap("127.0.0.1:1", "127.0.0.1:1") && overlap("0.0.0.0:1", "127.0.0.1:1"));
        assert!(overlap("[::]:1", "127.0.0.1:1") && overlap("[::]:1", "[::1]:1"));
        assert!(overlap("[::]:1", "0.0.0.0:1") && overlap("[::ffff:127.0.0.1]:1", "127.0.0.1:1"));
        assert!(!overlap("0.0.0.0:1", "[::1]:1") && !overlap("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!overlap("127.0.0.1:1", "127.0.0.1:2") && !overlap("0.0.0.0:0", "127.0.0.1:0"));
    }
}
