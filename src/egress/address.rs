//! Which addresses a name may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a name that somebody else's name server answers for may lead there: not to this machine, nor to what is beside
/// it on the wire, where clouds keep their metadata and credentials. Private networks are where charts and git remotes of a company
/// are.
pub(super) fn may_be_reached(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(address) => v4(address),
            None => v6(address),
        },
    }
}

fn v4(address: Ipv4Addr) -> bool {
    let this_network = address.octets()[0] == 0;
    // RFC 1112, 4; the broadcast address is of it.
    let reserved = address.octets()[0] >= 240;
    // Alibaba Cloud's metadata, in the shared address space of RFC 6598.
    let metadata = address == Ipv4Addr::new(100, 100, 100, 200)
        // Azure's wire server.
        || address == Ipv4Addr::new(168, 63, 129, 16);
    !(address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || this_network
        || reserved
        || metadata)
}

fn v6(address: Ipv6Addr) -> bool {
    // Amazon's metadata.
    let metadata = address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || metadata)
}

/// An IPv4 address in IPv6 clothes: mapped and compatible (RFC 4291, 2.5.5), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(of(high, low)),
        // `::` and `::1` are no IPv4 addresses.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(of(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_to_this_machine_or_to_a_clouds_metadata() {
        for refused in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
        ] {
            assert!(!may_be_reached(refused.parse().unwrap()), "{refused}");
        }
        for reached in [
            "192.0.2.7",
            "10.1.2.3",
            "172.16.0.9",
            "192.168.1.1",
            "100.64.0.1",
            "2001:db8::1",
            "fd12:3456::1",
            "::ffff:192.0.2.7",
            "64:ff9b::c000:207",
        ] {
            assert!(may_be_reached(reached.parse().unwrap()), "{reached}");
        }
    }
}
