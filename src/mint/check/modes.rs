//! Which ways to mint an API server has. Only its version can be seen from outside, and what that means where nobody switched
//! anything off.

use super::OLDEST_MINOR;

/// Constrained impersonation (KEP-5284) is on since then.
const CONSTRAINED: u32 = 36;

/// By its minor version.
pub(super) fn of(minor: u32) -> String {
    let impersonation = match minor < CONSTRAINED {
        true => "impersonation (legacy: true, as it knows no constrained one)",
        false => "impersonation (constrained, if its feature gate ConstrainedImpersonation is on)",
    };
    if minor < OLDEST_MINOR {
        return impersonation.to_owned();
    }
    format!(
        "tokenRequest; oidcIssuer, if whoever runs it can set --authentication-config; {impersonation}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_ways() {
        assert!(!of(29).contains("tokenRequest"));
        assert!(of(30).contains("tokenRequest") && of(30).contains("legacy"));
        assert!(of(36).contains("constrained, if"));
    }
}
