//! Which addresses and ports found in the DNS may be dialled at all.
//!
//! Anybody can publish a record that points into our own network, at the cloud's metadata service or back at ourselves.
//! Static routes do not come here: the operator wrote them (DNS-05, DNS-06).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// The rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialGuard {
    /// Networks that may be dialled although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// Ports below 1024 that may be dialled beside 443 and 5269.
    pub allow_ports: Vec<u16>,
    /// Our own listeners and backends: never dialled, whatever `allow_networks` says.
    pub own: Vec<SocketAddr>,
    /// Addresses of our own: never dialled on any port.
    pub own_addresses: Vec<IpAddr>,
}

impl DialGuard {
    /// Whether this very address may be dialled.
    pub fn admits(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let listed = self
            .allow_networks
            .iter()
            .any(|network| network.contains(&ip) || network.contains(&address.ip()));
        let ours =
            self.own.iter().any(|own| own.ip().to_canonical() == inner(ip) && own.port() == address.port())
                || self.own_addresses.iter().any(|own| own.to_canonical() == inner(ip));
        !ours && self.admits_port(address.port()) && (listed || is_public(ip))
    }

    /// Whether a port may be dialled.
    pub fn admits_port(&self, port: u16) -> bool {
        port >= 1024 || matches!(port, 443 | 5269) || self.allow_ports.contains(&port)
    }
}

/// Not loopback, private, link-local, multicast, unspecified, shared, reserved, nor any form that embeds such a one.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// The IPv4 address that a translator (RFC 6052) or a 6to4 relay (RFC 3056) finds in this one, else the address itself.
pub(super) fn inner(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(six) => match six.segments() {
            [0x2002, ..] => {
                let [_, _, a, b, c, d, ..] = six.octets();
                IpAddr::from([a, b, c, d])
            }
            [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                let [.., a, b, c, d] = six.octets();
                IpAddr::from([a, b, c, d])
            }
            _ => ip,
        },
        four @ IpAddr::V4(_) => four,
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let refused = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local() // 169.254.169.254 among them
        || ip.is_multicast()
        || a == 0
        || a >= 240 // reserved, and the broadcast address
        || (a == 100 && b & 0xc0 == 64) // shared by carriers, RFC 6598
        || (a == 192 && b == 0 && c == 0) // RFC 6890
        || (a == 198 && b & 0xfe == 18) // benchmarks, RFC 2544
        || METADATA_V4.contains(&ip);
    !refused
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, ..) => false, // ::, ::1, and all forms that hold an IPv4 address; mapped ones were unwrapped before
        (0x64, 0xff9b, 0, 0, 0, 0) => embedded(g, h), // NAT64, RFC 6052
        (0x64, 0xff9b, 1, ..) => false, // local NAT64, RFC 8215
        (0x100, 0, 0, 0, ..) => false, // discard, RFC 6666
        (0x2001, 0, ..) => false,  // Teredo
        (0x2002, high, low, ..) => embedded(high, low), // 6to4
        _ => {
            let refused = a & 0xfe00 == 0xfc00 // unique local, RFC 4193
                || a & 0xffc0 == 0xfe80 // link-local
                || a & 0xffc0 == 0xfec0 // site-local, deprecated
                || a & 0xff00 == 0xff00; // multicast
            !refused
        }
    }
}

/// Metadata services at addresses that look public.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, port: u16) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), port)
    }

    #[test]
    fn only_public_addresses_are_dialled() {
        let refused = [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.8",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:0:127.0.0.1", // translated, RFC 2765
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2002:0a00:0001::1",
            "2002:7f00:0001::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in refused {
            assert!(!DialGuard::default().admits(at(address, 5269)), "{address}");
        }
        let admitted = [
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "192.0.2.1",
            "198.17.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:0808:0808::1",
            "2a00:1450::1",
            "2001:db8::1",
        ];
        for address in admitted {
            assert!(DialGuard::default().admits(at(address, 5269)), "{address}");
        }
    }

    #[test]
    fn networks_named_by_the_operator_are_dialled() {
        let guard =
            DialGuard { allow_networks: vec!["10.1.0.0/16".parse().unwrap()], ..DialGuard::default() };
        assert!(guard.admits(at("10.1.2.3", 5269)));
        assert!(guard.admits(at("::ffff:10.1.2.3", 5269)));
        assert!(!guard.admits(at("10.2.2.3", 5269)));
    }

    #[test]
    fn ports_below_1024_are_refused_but_two() {
        let guard = DialGuard::default();
        for (port, expected) in
            [(22, false), (25, false), (443, true), (1023, false), (1024, true), (5269, true)]
        {
            assert_eq!(guard.admits(at("8.8.8.8", port)), expected, "{port}");
        }
        assert!(DialGuard { allow_ports: vec![80], ..DialGuard::default() }.admits(at("8.8.8.8", 80)));
    }

    // DNS-05: "every address of this machine, of `own-addresses:` .., on every port".
    #[test]
    fn our_own_listeners_and_addresses_are_never_dialled() {
        let guard = DialGuard {
            own: vec![at("8.8.8.8", 5269)],
            own_addresses: vec!["8.8.4.4".parse().unwrap(), "2a00:1450::1".parse().unwrap()],
            allow_networks: vec!["0.0.0.0/0".parse().unwrap()],
            ..DialGuard::default()
        };
        assert!(!guard.admits(at("8.8.8.8", 5269)));
        assert!(!guard.admits(at("::ffff:8.8.8.8", 5269)));
        assert!(guard.admits(at("8.8.8.8", 5270)));
        assert!(!guard.admits(at("64:ff9b::8.8.8.8", 5269)) && !guard.admits(at("2002:808:808::1", 5269)));
        assert!(guard.admits(at("2002:808:808::1", 5270)));
        for own in ["8.8.4.4", "::ffff:8.8.4.4", "64:ff9b::8.8.4.4", "2002:808:404::1", "2a00:1450::1"] {
            for port in [443, 5269, 5270, 6379] {
                assert!(!guard.admits(at(own, port)), "{own} {port}");
            }
        }
        assert!(guard.admits(at("2a00:1450::2", 6379)));
    }
}
