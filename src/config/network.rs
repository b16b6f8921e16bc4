//! Address prefixes: where somebody may come from.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address prefix, such as `10.0.0.0/8`; a `negated` one (`!10.1.0.0/16`) refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceNetwork {
    /// Network address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Refuses what it matches.
    pub negated: bool,
}

impl std::fmt::Display for SourceNetwork {
    /// As documents write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let not = if self.negated { "!" } else { "" };
        write!(f, "{not}{}/{}", self.address, self.prefix)
    }
}

impl Serialize for SourceNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SourceNetwork {
    /// What [`Serialize`] wrote.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (negated, network) = match text.strip_prefix('!') {
            Some(network) => (true, network),
            None => (false, text.as_str()),
        };
        let network = Self::parse(network).map_err(serde::de::Error::custom)?;
        Ok(Self { negated, ..network })
    }
}

/// Whether somebody may come from an address, as sshd reads `from=`: one network must match, and no negated one may. No
/// network at all allows every address.
pub fn allowed_from(networks: &[SourceNetwork], address: IpAddr) -> bool {
    let mut matching = networks
        .iter()
        .filter(|network| network.contains(address))
        .peekable();
    networks.is_empty() || (matching.peek().is_some() && matching.all(|network| !network.negated))
}

/// Why a text is no [`SourceNetwork`]. Completes "'TEXT' in PLACE ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    /// `10.0.*`
    #[error("is a pattern; write a network instead, such as 10.2.0.0/16")]
    Pattern,
    /// A host name, or nothing that is known.
    #[error("is not an address; names are not looked up: write 192.0.2.7 or 10.2.0.0/16")]
    Address,
    /// `::ffff:10.0.0.0`
    #[error("is an IPv4 address in IPv6 clothes; write {0}")]
    Mapped(IpAddr),
    /// `10.0.0.0/33`
    #[error("has no prefix length from 0 to {0}")]
    Prefix(u8),
    /// `10.0.0.1/8`
    #[error("has bits beyond its prefix: write {first}/{prefix} or the address alone")]
    Bits {
        /// The network's first address.
        first: IpAddr,
        /// Its prefix length.
        prefix: u8,
    },
}

impl SourceNetwork {
    /// Reads `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`: addresses and nothing looser.
    ///
    /// # Errors
    ///
    /// Whatever is not exactly one network.
    pub fn parse(text: &str) -> Result<Self, NotANetwork> {
        if text.contains(['*', '?']) {
            return Err(NotANetwork::Pattern);
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork::Address)?;
        if address.to_canonical() != address {
            return Err(NotANetwork::Mapped(address.to_canonical()));
        }
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            // `parse` alone would take `+8`.
            Some(digits) => Some(digits)
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|prefix| *prefix <= width)
                .ok_or(NotANetwork::Prefix(width))?,
        };
        let network = Self {
            address,
            prefix,
            negated: false,
        };
        let first = network.first_address();
        if first != address {
            return Err(NotANetwork::Bits { first, prefix });
        }
        Ok(network)
    }

    /// The address with every bit beyond the prefix cleared.
    pub fn first_address(&self) -> IpAddr {
        mask(self.address, self.prefix)
    }

    /// Whether `address` lies within. An IPv4 address that arrived over an IPv6 socket counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, other) = (self.address.to_canonical(), address.to_canonical());
        own.is_ipv4() == other.is_ipv4() && mask(own, self.prefix) == mask(other, self.prefix)
    }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(prefix.into()))
                .unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(prefix.into()))
                .unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}
