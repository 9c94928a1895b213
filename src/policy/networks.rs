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
}
