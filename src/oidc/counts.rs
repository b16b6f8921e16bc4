//! What comes of signing in, in numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Full, ProviderError};
use crate::audit::SignOnFlow;

/// Why nobody was signed on, by what an administrator would look at. Names are labels of a metric, and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSignedOn {
    /// The provider cannot be asked, or does not take part.
    Unreachable,
    /// It said no, or whoever was there did.
    Declined,
    /// What it said is not good: its token, or where it came from.
    Token,
    /// It names nobody here, or somebody else than the key's owner.
    Identity,
    /// A wrong code was typed, or one before there was any.
    Code,
    /// Nothing was done in time.
    Unfinished,
    /// There are too many attempts.
    Full,
    /// It would not count: a role, a key or a provider is not what it was.
    NotAllowed,
    /// It cannot be written down.
    NotKept,
}

impl NotSignedOn {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::Declined,
        Self::Token,
        Self::Identity,
        Self::Code,
        Self::Unfinished,
        Self::Full,
        Self::NotAllowed,
        Self::NotKept,
    ];

    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Declined => "declined",
            Self::Token => "token",
            Self::Identity => "identity",
            Self::Code => "code",
            Self::Unfinished => "unfinished",
            Self::Full => "full",
            Self::NotAllowed => "not_allowed",
            Self::NotKept => "not_kept",
        }
    }
}

impl From<&ProviderError> for NotSignedOn {
    fn from(error: &ProviderError) -> Self {
        match error {
            ProviderError::Secret(_)
            | ProviderError::NotASecret(_)
            | ProviderError::Trust(_)
            | ProviderError::Down { .. }
            | ProviderError::NoDeviceFlow { .. } => Self::Unreachable,
            ProviderError::CodeRefused { .. } | ProviderError::DeviceDenied { .. } => {
                Self::Declined
            }
            ProviderError::DeviceLate { .. } => Self::Unfinished,
            ProviderError::Token { .. } | ProviderError::Claim { .. } => Self::Token,
        }
    }
}

impl From<Full> for NotSignedOn {
    fn from(full: Full) -> Self {
        match full {
            Full::All | Full::Source | Full::Identity => Self::Full,
            Full::Late => Self::Unfinished,
            Full::NoRandomness(_) => Self::NotKept,
        }
    }
}

/// How often what has happened since the start. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SignOnCounts(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    begun: [AtomicU64; FLOWS.len()],
    accepted: [AtomicU64; FLOWS.len()],
    refused: [AtomicU64; NotSignedOn::ALL.len()],
}

/// In the order in which they are counted.
const FLOWS: [SignOnFlow; 2] = [SignOnFlow::Code, SignOnFlow::Device];

impl SignOnCounts {
    /// A link or a provider's code was given.
    pub(crate) fn begun(&self, flow: SignOnFlow) {
        add(&self.0.begun, FLOWS.iter().position(|it| *it == flow));
    }

    /// Somebody was signed on.
    pub(crate) fn accepted(&self, flow: SignOnFlow) {
        add(&self.0.accepted, FLOWS.iter().position(|it| *it == flow));
    }

    /// Somebody was not.
    pub(crate) fn refused(&self, why: NotSignedOn) {
        let which = NotSignedOn::ALL.iter().position(|it| *it == why);
        add(&self.0.refused, which);
    }

    /// For each flow, how often it was begun and how often it led to somebody.
    pub fn flows(&self) -> impl Iterator<Item = (SignOnFlow, u64, u64)> {
        let both = self.0.begun.iter().zip(&self.0.accepted);
        FLOWS
            .into_iter()
            .zip(both)
            .map(|(flow, (begun, accepted))| (flow, read(begun), read(accepted)))
    }

    /// For each reason, how often it was one.
    pub fn refusals(&self) -> impl Iterator<Item = (NotSignedOn, u64)> {
        let counted = self.0.refused.iter().map(read);
        NotSignedOn::ALL.into_iter().zip(counted)
    }
}

fn add(counted: &[AtomicU64], which: Option<usize>) {
    if let Some(one) = which.and_then(|which| counted.get(which)) {
        one.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(one: &AtomicU64) -> u64 {
    one.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Name;

    #[test]
    fn each_reason_and_each_flow_is_counted_under_its_own_name() {
        let counts = SignOnCounts::default();
        for (times, why) in (1..).zip(NotSignedOn::ALL) {
            for _ in 0..times {
                counts.refused(why);
            }
        }
        counts.begun(SignOnFlow::Code);
        counts.begun(SignOnFlow::Device);
        counts.clone().begun(SignOnFlow::Device);
        counts.accepted(SignOnFlow::Device);
        let refusals: Vec<(&str, u64)> = counts
            .refusals()
            .map(|(why, times)| (why.as_str(), times))
            .collect();
        let expected = [
            ("unreachable", 1),
            ("declined", 2),
            ("token", 3),
            ("identity", 4),
            ("code", 5),
            ("unfinished", 6),
            ("full", 7),
            ("not_allowed", 8),
            ("not_kept", 9),
        ];
        assert_eq!(refusals, expected);
        let flows: Vec<(SignOnFlow, u64, u64)> = counts.flows().collect();
        assert_eq!(
            flows,
            [(SignOnFlow::Code, 1, 0), (SignOnFlow::Device, 2, 1)]
        );
    }

    #[test]
    fn a_provider_that_is_down_is_told_from_one_that_says_no() {
        let provider = Name::new("corp").unwrap();
        let why = String::new;
        for (error, expected) in [
            (
                ProviderError::Down {
                    provider: provider.clone(),
                    why: why(),
                },
                NotSignedOn::Unreachable,
            ),
            (
                ProviderError::DeviceDenied {
                    provider: provider.clone(),
                },
                NotSignedOn::Declined,
            ),
            (
                ProviderError::Token {
                    provider,
                    why: why(),
                },
                NotSignedOn::Token,
            ),
        ] {
            assert_eq!(NotSignedOn::from(&error), expected);
        }
    }
}
