//! Networks, as rules name them.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of networks; empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// The set of these networks.
    pub fn new(networks: Vec<IpNet>) -> Networks {
        Networks(networks)
    }

    /// Whether every address is in it because none was named.
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `address` is in one of the networks. An IPv4 address in IPv6 clothes is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Reads `192.0.2.0/24`, `2001:db8::/32` or one address; says what is wrong otherwise.
///
/// A network with bits set beyond its prefix is refused: nobody can tell which half was meant.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network = text
        .parse::<IpNet>()
        .map_err(|_| format!("\"{text}\" is neither an address nor a network like 192.0.2.0/24"))?;
    match network.trunc() {
        exact if exact == network => Ok(network),
        exact => Err(format!("\"{text}\" has bits set beyond its prefix; write {exact} or a single address")),
    }
}

/// How many percent of the addresses of the Internet these networks hold together, of IPv4 or of IPv6, if that is more than
/// any one party has.
pub fn world_in(networks: &[IpNet]) -> Option<(u32, &'static str)> {
    // As shares of IPv4 and, of IPv6, of what anybody has been given of it.
    let all = IpNet::aggregate(&networks.to_vec());
    let (mut v4, mut v6) = (0.0_f64, 0.0_f64);
    for network in all {
        let length = i32::from(network.prefix_len());
        match network {
            IpNet::V4(_) => v4 += 0.5_f64.powi(length),
            IpNet::V6(v6net) => {
                let global = ipnet::Ipv6Net::new_assert(GLOBAL, 3);
                if v6net.contains(&global) {
                    v6 = 1.0;
                } else if global.contains(&v6net) {
                    v6 += 0.5_f64.powi(length - 3);
                }
            }
        }
    }
    let (share, family) = if v4 >= v6 { (v4, "IPv4") } else { (v6, "IPv6") };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // From 0 to 100.
    let percent = (share * 100.0).floor() as u32;
    (share >= SHARE).then_some((percent, family))
}

/// What anybody has been given of IPv6.
const GLOBAL: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);

/// More than the largest party has of IPv4.
const SHARE: f64 = 1.0 / 16.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_without_clothes() {
        let set = Networks::new(vec![parse("192.0.2.0/24").unwrap(), parse("2001:db8::7").unwrap()]);
        assert!(set.contains("::ffff:192.0.2.9".parse().unwrap()));
        assert!(set.contains("2001:db8::7".parse().unwrap()));
        assert!(!set.contains("2001:db8::8".parse().unwrap()));
        assert!(!set.contains("198.51.100.1".parse().unwrap()));
        assert!(parse("192.0.2.7/24").unwrap_err().contains("192.0.2.0/24"));
        assert!(parse("example.com").is_err());
        assert!(parse("192.0.2.0/33").is_err());
    }

    // ACC-02: everybody, however it is written.
    #[test]
    fn the_world_is_known_in_whatever_pieces_it_comes() {
        type Row<'a> = (&'a [&'a str], Option<(u32, &'a str)>);
        let table: &[Row<'_>] = &[
            (&["0.0.0.0/0"], Some((100, "IPv4"))),
            (&["0.0.0.0/1", "128.0.0.0/1"], Some((100, "IPv4"))),
            (&["128.0.0.0/2", "0.0.0.0/1", "192.0.0.0/3"], Some((87, "IPv4"))),
            (&["10.0.0.0/8", "32.0.0.0/4"], Some((6, "IPv4"))),
            (&["32.0.0.0/4", "32.0.0.0/4", "33.0.0.0/8"], Some((6, "IPv4"))),
            (&["::/0"], Some((100, "IPv6"))),
            (&["::/1", "8000::/1", "10.0.0.0/8"], Some((100, "IPv6"))),
            (&["2000::/3"], Some((100, "IPv6"))),
            (&["2000::/4", "3000::/4"], Some((100, "IPv6"))),
            (&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"], None),
            (&["fc00::/7", "fe80::/10", "2001:db8::/32", "2a00::/12"], None),
            (&[], None),
        ];
        for (networks, found) in table {
            let networks: Vec<IpNet> = networks.iter().map(|text| parse(text).unwrap()).collect();
            assert_eq!(world_in(&networks), *found, "{networks:?}");
        }
    }
}
