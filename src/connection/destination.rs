//! Where a forwarded connection may ask to go: to a cluster by the names that the configuration has, and nowhere else.

use crate::config::Name;
use crate::messages::Destination;

const PORT: u32 = 443;

/// What the client shows when it asks for anything else.
pub(super) const NOWHERE_ELSE: &str = "a tunnel leads to a cluster and nowhere else: \
    ask for kubernetes:443 (ssh -L 6443:kubernetes:443) or ROLE.CLUSTER:443 (ssh -D 1080)";

/// Understands a host and port as the client sent them; nothing if they are no way to a cluster.
pub(super) fn destination(host: &str, port: u32) -> Option<Destination> {
    if port != PORT {
        return None;
    }
    if host == "kubernetes" {
        return Some(Destination::Own);
    }
    // Names have no dots: there is one way to read this.
    let (role, cluster) = host.split_once('.')?;
    let name = |text: &str| Name::new(text).ok().map(|name| name.to_string());
    Some(Destination::Named {
        role: name(role)?,
        cluster: name(cluster)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_lead_somewhere_and_nothing_else_does() {
        assert_eq!(destination("kubernetes", 443), Some(Destination::Own));
        let named = Destination::Named {
            role: "viewer".to_owned(),
            cluster: "prod-1".to_owned(),
        };
        assert_eq!(destination("viewer.prod-1", 443), Some(named));
        for host in [
            "",
            "localhost",
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "Kubernetes",
            "kubernetes.",
            "viewer",
            "viewer.",
            ".prod",
            "viewer.prod.",
            "a.b.c",
            "viewer.prod.svc",
            "viewer_.prod",
            "viewer.PROD",
            "viewer.prod\0",
            "a..b",
        ] {
            // Four numbers are four names too many.
            assert_eq!(destination(host, 443), None, "{host:?}");
        }
        for port in [0, 22, 80, 6443, 65_979] {
            assert_eq!(destination("kubernetes", port), None);
        }
    }
}
