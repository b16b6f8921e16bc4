//! What counts as one source: an address, or the network that it lies in.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Admission, SourceNetwork};

/// An address prefix. Whoever has one IPv6 address usually has 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    first: IpAddr,
    prefix: u8,
}

impl Source {
    /// None comes before it.
    pub(crate) const FIRST: Self = Self {
        first: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        prefix: 0,
    };

    /// Where an address belongs.
    pub fn of(address: IpAddr, admission: &Admission) -> Self {
        let address = address.to_canonical();
        let prefix = match address {
            IpAddr::V4(_) => admission.ipv4_prefix,
            IpAddr::V6(_) => admission.ipv6_prefix,
        };
        let network = SourceNetwork {
            address,
            prefix,
            negated: false,
        };
        Self {
            first: network.first_address(),
            prefix,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = match self.first {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        match self.prefix == whole {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}/{}", self.first, self.prefix),
        }
    }
}
