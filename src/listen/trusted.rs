//! Proxies whose word is taken. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

/// Networks and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted(Vec<IpNet>);

impl Trusted {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It is one of them. An IPv4 address that is written as an IPv6 one is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whoever connects from `peer`; from a Unix socket, where the rights of its directory have decided, it is None.
    pub fn contains_peer(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_none_or(|peer| self.contains(peer.ip()))
    }
}

impl FromIterator<Network> for Trusted {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().map(|Network(network)| network).collect())
    }
}

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address.to_canonical())),
            Err(_) => text.parse::<IpNet>(),
        };
        let network = network
            .map_err(|_| format!("{text:?} is no address or network such as 10.0.0.7, 10.0.0.0/8 or fd00::/8"))?;
        let network = match network {
            // Addresses that are written so are the IPv4 ones, and so are networks of them.
            IpNet::V6(mapped) if mapped.addr().to_ipv4_mapped().is_some() && mapped.prefix_len() >= 96 => {
                let address = mapped.addr().to_canonical();
                IpNet::new(address, mapped.prefix_len() - 96).unwrap_or(network)
            }
            _ => network,
        };
        if network.network() != network.addr() {
            return Err(format!(
                "{text:?} names one address and a whole network: write {}, or the address alone",
                network.trunc()
            ));
        }
        Ok(Self(network))
    }
}

impl std::fmt::Display for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, network) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let trusted = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::ffff:198.51.100.1", "::ffff:203.0.113.0/120"]
            .map(|text| text.parse::<Network>().unwrap());
        let trusted = Trusted::from_iter(trusted);
        let contains = |text: &str| trusted.contains(text.parse().unwrap());
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "2001:db8:1::1", "198.51.100.1", "203.0.113.9"] {
            assert!(contains(inside), "{inside}");
        }
        for outside in ["11.0.0.0", "192.0.2.2", "2001:db9::1", "::1", "::a00:1"] {
            assert!(!contains(outside), "{outside}");
        }
        assert!(trusted.contains_peer(None) && !Trusted::default().contains("10.0.0.1".parse().unwrap()));
        for bad in ["", "10.0.0", "10.0.0.0/33", "10.0.0.1/8", "localhost", "10.0.0.0/8 "] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
