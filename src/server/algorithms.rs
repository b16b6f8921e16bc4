//! Which cryptography is spoken, and the rest of russh's configuration.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::ssh_key::{Algorithm, EcdsaCurve, PublicKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};

use super::Rules;
use super::host_keys::HostKeys;
use crate::config::Algorithms;
use crate::connection;

/// Product and version, as RFC 4253 asks for; nothing of the platform.
const SERVER_ID: &str = "SSH-2.0-bastion-audit_0.1";

/// Keys of hosts and clients. No RSA: the crate `rsa` has the timing leak RUSTSEC-2023-0071 without a fixed
/// release. No `sk-*`: russh does not check that somebody touched the token, and who has one expects that.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
];

/// What is exchanged by X25519 alone can be kept today and read when there are quantum computers.
const POST_QUANTUM: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const MODERN: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    // No key exchange: without it there is no strict key exchange (Terrapin, CVE-2023-48795).
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] = &[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM];

/// Both ciphers authenticate by themselves; the list must not be empty all the same.
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// Whether a client's key is of a kind served here, and signs as what it is.
pub(crate) fn accepts_client_key(key: &PublicKey, algorithm: &Algorithm) -> bool {
    // A certificate in place of a key would have the algorithm of the key inside of it.
    let is_key = !key.key_data().is_certificate();
    is_key && KEYS.contains(algorithm) && key.algorithm() == *algorithm
}

/// russh's configuration under these rules.
pub(super) fn config(keys: &HostKeys, rules: &Rules) -> Config {
    let limits = &rules.limits;
    let kex = match rules.algorithms {
        Algorithms::Modern => MODERN,
        Algorithms::PostQuantum => POST_QUANTUM,
    };
    Config {
        server_id: SshId::Standard(Cow::Borrowed(SERVER_ID)),
        // Advertised only: the callbacks refuse the rest.
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        keys: keys.private_keys().to_vec(),
        certificates: rules.host_certificates.certificates().to_vec(),
        preferred: Preferred {
            kex: Cow::Borrowed(kex),
            key: Cow::Borrowed(KEYS),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        // russh also counts the `none` by which every client learns the methods.
        max_auth_attempts: usize::try_from(limits.max_auth_attempts)
            .unwrap_or(usize::MAX)
            .saturating_add(1),
        auth_rejection_time: Duration::from_millis(300),
        auth_rejection_time_initial: Some(Duration::ZERO),
        window_size: connection::WINDOW,
        maximum_packet_size: 32 * 1024,
        // Channels are not read through russh's buffers.
        channel_buffer_size: 8,
        event_buffer_size: 10,
        // Our own: it resets russh's on any packet, even an ignored one.
        inactivity_timeout: None,
        keepalive_interval: (!limits.keepalive.is_zero()).then_some(limits.keepalive),
        // Sent by russh, judged by `connection`.
        keepalive_max: 0,
        nodelay: true,
        ..Config::default()
    }
}
