//! Why a provider's word is not had, or is of no use.

use crate::config::Name;
use crate::config::secrets::SecretError;
use crate::https::TrustError;

/// Why a provider's word is not had. Holds no code, token or secret.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// By what the daemon proves itself to it cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What that file holds.
    #[error("{0}: this is no secret of a client: one line of text")]
    NotASecret(String),
    /// The CA that it is known by cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It does not answer as a provider does.
    #[error("the provider {provider} cannot be asked: {why}")]
    Down {
        /// Which.
        provider: Name,
        /// Why.
        why: String,
    },
    /// It does not take the code that it has given.
    #[error("the provider {provider} does not take its own code: {error}")]
    CodeRefused {
        /// Which.
        provider: Name,
        /// Its word for it (RFC 6749, 5.2).
        error: String,
    },
    /// It gives no code for the device flow, or none that could be used.
    #[error("the provider {provider} gives no code to sign in by: {why}")]
    NoDeviceFlow {
        /// Which.
        provider: Name,
        /// Why.
        why: String,
    },
    /// Nobody has typed its code in time.
    #[error("nobody has signed in with {provider} by that code in time")]
    DeviceLate {
        /// Which.
        provider: Name,
    },
    /// Whoever has typed it has said no.
    #[error("{provider} says that it was declined")]
    DeviceDenied {
        /// Which.
        provider: Name,
    },
    /// There is no ID token, or it is not good.
    #[error("the ID token of {provider} is not accepted: {why}")]
    Token {
        /// Which.
        provider: Name,
        /// Why.
        why: String,
    },
    /// What it says is not enough.
    #[error("the ID token of {provider} does not say who it is about: {why}")]
    Claim {
        /// Which.
        provider: Name,
        /// Why.
        why: String,
    },
}

/// Why a provider's word is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMeant {
    /// It was changed or removed meanwhile.
    #[error("the provider {0} was changed meanwhile; log in again")]
    Changed(Name),
    /// It means nobody.
    #[error("{provider} knows you as '{username}', and that is nobody here")]
    Nobody {
        /// Which provider.
        provider: Name,
        /// What it said, escaped and cut.
        username: String,
    },
    /// It means somebody else.
    #[error("{provider} knows you as '{username}', and the key that ssh came with is {holder}'s")]
    Another {
        /// Which provider.
        provider: Name,
        /// What it said, escaped and cut.
        username: String,
        /// Whose key it is.
        holder: Name,
    },
}
