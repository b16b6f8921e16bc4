//! What a host's name stands for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::address::may_be_reached;
use crate::config::HostPort;

/// Names that are looked up at once by all sessions: each takes a thread for as long as the name server does.
const LOOKUPS: usize = 16;
static ROOM: Semaphore = Semaphore::const_new(LOOKUPS);
/// For room and answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// Why a host has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("the name {0} is not known: {1}")]
    Unknown(String, io::Error),
    #[error("the name server does not answer for {0}")]
    Silent(String),
    #[error("{name} is at {address}, which is never reached from here")]
    Forbidden { name: String, address: IpAddr },
}

/// The addresses to try, 1 to 4. An address that the configuration names is what it is; what a name leads to is looked at.
pub(super) async fn addresses(to: &HostPort) -> Result<Vec<SocketAddr>, Unresolved> {
    if let Ok(address) = to.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, to.port)]);
    }
    let looking = async {
        let _room = ROOM.acquire().await;
        lookup_host((to.host.as_str(), to.port)).await
    };
    let name = || to.host.clone();
    let found = timeout(ANSWER, looking)
        .await
        .map_err(|_| Unresolved::Silent(name()))?
        .map_err(|error| Unresolved::Unknown(name(), error))?;
    choose(to, found)
}

fn choose(
    to: &HostPort,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, Unresolved> {
    let (good, bad): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.partition(|found| may_be_reached(found.ip()));
    match (good.is_empty(), bad.first()) {
        (true, Some(bad)) => Err(Unresolved::Forbidden {
            name: to.host.clone(),
            address: bad.ip(),
        }),
        (true, None) => Err(Unresolved::Unknown(
            to.host.clone(),
            io::ErrorKind::NotFound.into(),
        )),
        (false, _) => Ok(good.into_iter().take(ADDRESSES).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str) -> HostPort {
        HostPort {
            host: host.to_owned(),
            port: 443,
        }
    }

    #[tokio::test]
    async fn an_address_that_is_written_is_what_it_is_and_a_name_that_leads_here_is_refused() {
        let literal = addresses(&host("127.0.0.1")).await.unwrap();
        assert_eq!(literal, ["127.0.0.1:443".parse().unwrap()]);
        let refused = addresses(&host("localhost")).await.unwrap_err();
        assert!(matches!(refused, Unresolved::Forbidden { .. }), "{refused}");
    }

    #[test]
    fn of_several_addresses_the_good_ones_are_tried() {
        let found = |addresses: &[&str]| {
            let addresses: Vec<SocketAddr> = addresses
                .iter()
                .map(|address| SocketAddr::new(address.parse().unwrap(), 443))
                .collect();
            choose(&host("charts.example.com"), addresses.into_iter())
        };
        let mixed = found(&["169.254.169.254", "192.0.2.1", "::1"]).unwrap();
        assert_eq!(mixed, ["192.0.2.1:443".parse().unwrap()]);
        assert_eq!(found(&["192.0.2.1"; 9]).unwrap().len(), ADDRESSES);
        assert!(matches!(
            found(&["127.0.0.1", "::1"]),
            Err(Unresolved::Forbidden { .. })
        ));
        assert!(matches!(found(&[]), Err(Unresolved::Unknown(..))));
    }
}
