//! `spec.admission`: who may connect, how many may be about to log in, and what bad behaviour costs.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SourceNetwork;

/// `spec.admission`. Every one has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admission {
    /// How many connections on which nobody is proven yet.
    pub startups: Startups,
    /// The most of these from one source; default 16.
    pub startups_per_source: u32,
    /// How many bits of an IPv4 address make one source; default 32.
    pub ipv4_prefix: u8,
    /// How many bits of an IPv6 address make one source; default 64, what one network or one person has.
    pub ipv6_prefix: u8,
    /// What bad behaviour costs; `None`: nothing.
    pub penalties: Option<Penalties>,
    /// Sources that `startups`, `startups_per_source` and `penalties` do not concern.
    pub exempt: Vec<SourceNetwork>,
    /// If there are any, only these may connect.
    pub allow: Vec<SourceNetwork>,
    /// These may not connect, whatever `allow` says.
    pub deny: Vec<SourceNetwork>,
    /// Proxies: what comes from these begins with a PROXY header, and its address counts.
    pub proxies: Vec<SourceNetwork>,
}

/// `START:RATE:FULL`, as sshd's `MaxStartups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startups {
    /// Up to so many, all are let in.
    pub start: u32,
    /// From then on so many percent are not, and more and more of them, up to all at `full`.
    pub rate: u8,
    /// From here on nobody is.
    pub full: u32,
}

/// For how long a source is refused for what it did, as sshd's `PerSourcePenalties`. They add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Penalties {
    /// Nobody was proven, though it was tried; default 5 s.
    pub auth_failed: Duration,
    /// It left without trying; default 1 s.
    pub no_attempt: Duration,
    /// It was still there at the end of `limits.loginGrace`; default 10 s.
    pub grace_exceeded: Duration,
    /// What it sent was not SSH; default 5 s.
    pub garbage: Duration,
    /// The task that served it died, which is a defect of this program that somebody may be looking for; default 90 s.
    pub crash: Duration,
    /// Until they come to more than this, nothing is refused; default 15 s.
    pub least: Duration,
    /// They never come to more than this; default 10 min.
    pub most: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            startups: Startups {
                start: 10,
                rate: 30,
                full: 100,
            },
            startups_per_source: 16,
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            penalties: Some(Penalties::default()),
            exempt: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            proxies: Vec::new(),
        }
    }
}

impl Default for Penalties {
    fn default() -> Self {
        Self {
            auth_failed: Duration::from_secs(5),
            no_attempt: Duration::from_secs(1),
            grace_exceeded: Duration::from_secs(10),
            garbage: Duration::from_secs(5),
            crash: Duration::from_secs(90),
            least: Duration::from_secs(15),
            most: Duration::from_secs(600),
        }
    }
}

impl Admission {
    /// Whether an address may connect at all.
    pub fn allows(&self, address: IpAddr) -> bool {
        let allowed = self.allow.is_empty() || among(&self.allow, address);
        allowed && !among(&self.deny, address)
    }

    /// Whether limits and penalties do not concern an address.
    pub fn exempts(&self, address: IpAddr) -> bool {
        among(&self.exempt, address)
    }

    /// Whether a connection from there begins with a PROXY header.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        among(&self.proxies, address)
    }
}

fn among(networks: &[SourceNetwork], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}
