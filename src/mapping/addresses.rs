//! A network's addresses, as many as make a difference.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::SourceNetwork;

/// One address out of each stretch of `within` (of all addresses, if there is none) in which every one of `networks` says the same of
/// all addresses: what holds of these holds of all.
pub(super) fn telling<'n>(
    within: Option<&SourceNetwork>,
    networks: impl Iterator<Item = &'n SourceNetwork>,
) -> Vec<IpAddr> {
    let wholes: Vec<Stretch> = match within {
        Some(network) => vec![Stretch::of(network)],
        None => vec![
            Stretch {
                v4: true,
                first: 0,
                last: u128::from(u32::MAX),
            },
            Stretch {
                v4: false,
                first: 0,
                last: u128::MAX,
            },
        ],
    };
    // IPv4 first.
    let mut begins: BTreeSet<(bool, u128)> = wholes
        .iter()
        .map(|whole| (!whole.v4, whole.first))
        .collect();
    for network in networks {
        let inner = Stretch::of(network);
        // Where it begins, and where what follows it does.
        for at in [Some(inner.first), inner.last.checked_add(1)]
            .into_iter()
            .flatten()
        {
            let inside =
                |whole: &Stretch| whole.v4 == inner.v4 && (whole.first..=whole.last).contains(&at);
            if wholes.iter().any(inside) {
                begins.insert((!inner.v4, at));
            }
        }
    }
    begins
        .into_iter()
        .map(|(v6, at)| address(!v6, at))
        .collect()
}

/// Addresses that follow one another.
struct Stretch {
    v4: bool,
    first: u128,
    last: u128,
}

impl Stretch {
    fn of(network: &SourceNetwork) -> Self {
        let (v4, first, width) = match network.first_address() {
            IpAddr::V4(address) => (true, u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (false, address.to_bits(), 128),
        };
        let free = 128 - (width - u32::from(network.prefix).min(width));
        let span = u128::MAX.checked_shr(free).unwrap_or(0);
        Self {
            v4,
            first,
            last: first | span,
        }
    }
}

fn address(v4: bool, at: u128) -> IpAddr {
    match u32::try_from(at) {
        Ok(at) if v4 => IpAddr::V4(Ipv4Addr::from_bits(at)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(at)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::allowed_from;

    fn network(text: &str) -> SourceNetwork {
        SourceNetwork::parse(text).unwrap()
    }

    #[test]
    fn each_stretch_has_one() {
        let some = [
            network("10.9.0.0/16"),
            network("10.255.255.255"),
            network("11.0.0.0/8"),
            network("2001:db8::/32"),
        ];
        let shown = |within: Option<&SourceNetwork>| -> Vec<String> {
            telling(within, some.iter())
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            shown(Some(&network("10.0.0.0/8"))),
            ["10.0.0.0", "10.9.0.0", "10.10.0.0", "10.255.255.255"]
        );
        assert_eq!(shown(Some(&network("192.0.2.7"))), ["192.0.2.7"]);
        assert_eq!(shown(Some(&network("2001:db8:1::/48"))), ["2001:db8:1::"]);
        assert_eq!(
            shown(None),
            [
                "0.0.0.0",
                "10.9.0.0",
                "10.10.0.0",
                "10.255.255.255",
                "11.0.0.0",
                "12.0.0.0",
                "::",
                "2001:db8::",
                "2001:db9::"
            ]
        );
        assert_eq!(
            telling(Some(&network("::/0")), [network("::/0")].iter()).len(),
            1
        );
        assert_eq!(
            telling(Some(&network("0.0.0.0/0")), [network("255.0.0.0/8")].iter()).len(),
            2
        );
    }

    fn networks() -> impl Strategy<Value = Vec<SourceNetwork>> {
        let one = (any::<u8>(), 24_u8..=32, any::<bool>()).prop_map(|(last, prefix, negated)| {
            let network = SourceNetwork {
                address: IpAddr::from([192, 0, 2, last]),
                prefix,
                negated,
            };
            SourceNetwork {
                address: network.first_address(),
                ..network
            }
        });
        prop::collection::vec(one, 1..5)
    }

    proptest! {
        #[test]
        fn what_holds_of_them_holds_of_every_address(networks in networks()) {
            let whole = network("192.0.2.0/24");
            let allowed = |address: &IpAddr| allowed_from(&networks, *address);
            let told = telling(Some(&whole), networks.iter());
            let every: Vec<IpAddr> = (0..=255_u8).map(|last| IpAddr::from([192, 0, 2, last])).collect();
            prop_assert_eq!(told.iter().all(allowed), every.iter().all(allowed));
            prop_assert_eq!(told.iter().any(allowed), every.iter().any(allowed));
        }
    }
}
