//! The gateway's own certificate authority: what a kubeconfig verifies the gateway by. It stays the same across
//! restarts, so that a kubeconfig that was written once stays right; leaves are made as they are asked for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::files;
use crate::clock::{self, Clock};
use crate::config::secrets::{SecretError, read_secret};
use crate::replaced;

/// What a client may call the gateway. Inside a sandbox and with `-L` it is one of these; with `-D` it is
/// `ROLE.CLUSTER`, which is in a leaf of its own.
const NAMES: [&str; 6] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "localhost",
    "127.0.0.1",
    "::1",
];
/// Leaves are made anew after this, long before they end.
const LEAF_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const LEAF_DAYS: i64 = 30;
const AUTHORITY_DAYS: i64 = 3653;
/// Clients' clocks are not ours.
const EARLY_DAYS: i64 = 1;
/// Leaves that are kept. Names are the clients' choice.
const MAX_LEAVES: usize = 256;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its key cannot be read as the secret that it is.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file of it.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its key or certificate is none.
    #[error(
        "{path}: {reason}; move it away and a new one is made, and kubeconfigs must be fetched again"
    )]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing can be signed.
    #[error("making a certificate: {0}")]
    Making(String),
}

/// The authority, and the key that all leaves share.
pub(super) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    leaf_key: KeyPair,
    clock: Arc<dyn Clock>,
    leaves: Mutex<HashMap<String, (Instant, Arc<CertifiedKey>)>>,
}

impl Authority {
    /// Opens the authority in `directory`, or makes one there.
    pub(super) fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, AuthorityError> {
        let (key_path, pem_path) = (directory.join("ca.key"), directory.join("ca.pem"));
        files::directory(directory).map_err(at(directory))?;
        let key = if key_path.exists() {
            read_key(&key_path)?
        } else {
            let key = KeyPair::generate().map_err(making)?;
            let pem = Zeroizing::new(key.serialize_pem());
            replaced::write(&key_path, pem.as_bytes()).map_err(at(&key_path))?;
            key
        };
        let params = params(clock.as_ref())?;
        // A certificate that is missing is no loss: another over the same name and key verifies the same leaves.
        let pem = match fs::read_to_string(&pem_path) {
            Ok(pem) => checked(pem, &pem_path, &key)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = params.self_signed(&key).map_err(making)?.pem();
                replaced::write(&pem_path, pem.as_bytes()).map_err(at(&pem_path))?;
                pem
            }
            Err(source) => return Err(at(&pem_path)(source)),
        };
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
            leaf_key: KeyPair::generate().map_err(making)?,
            clock,
            leaves: Mutex::default(),
        })
    }

    /// PEM of the certificate.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// A leaf for `name`, of which a certificate may be made; without one, for the names that every gateway has.
    fn leaf(&self, name: Option<&str>) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let name = name.filter(|name| !NAMES.contains(name)).unwrap_or("");
        let now = clock::monotonic();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, leaf)) = leaves.get(name)
            && now.duration_since(*made) < LEAF_KEPT
        {
            return Ok(Arc::clone(leaf));
        }
        let leaf = Arc::new(self.make(name)?);
        if leaves.len() >= MAX_LEAVES {
            leaves.clear();
        }
        leaves.insert(name.to_owned(), (now, Arc::clone(&leaf)));
        Ok(leaf)
    }

    fn make(&self, name: &str) -> Result<CertifiedKey, AuthorityError> {
        let mut names: Vec<String> = NAMES.map(str::to_owned).into();
        if !name.is_empty() {
            names.insert(0, name.to_owned());
        }
        let mut leaf = CertificateParams::new(names).map_err(making)?;
        leaf.distinguished_name
            .push(DnType::CommonName, "bastion-audit gateway server");
        set_validity(&mut leaf, self.clock.as_ref(), LEAF_DAYS)?;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = leaf
            .signed_by(&self.leaf_key, &self.issuer)
            .map_err(making)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|error| AuthorityError::Making(error.to_string()))?;
        Ok(CertifiedKey::new(vec![signed.der().clone()], key))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.leaf(hello.server_name()) {
            Ok(leaf) => Some(leaf),
            Err(error) => {
                tracing::error!("no certificate for a client of the gateway: {error}");
                None
            }
        }
    }
}

fn params(clock: &dyn Clock) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "bastion-audit gateway");
    set_validity(&mut params, clock, AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn set_validity(
    params: &mut CertificateParams,
    clock: &dyn Clock,
    days: i64,
) -> Result<(), AuthorityError> {
    let day = |days: i64| {
        let day = clock
            .now()
            .to_zoned(TimeZone::UTC)
            .checked_add(days.days())
            .map_err(|error| AuthorityError::Making(error.to_string()))?;
        let (month, of_month) = (day.month().unsigned_abs(), day.day().unsigned_abs());
        Ok::<_, AuthorityError>(rcgen::date_time_ymd(day.year().into(), month, of_month))
    };
    params.not_before = day(-EARLY_DAYS)?;
    params.not_after = day(days)?;
    Ok(())
}

fn read_key(path: &Path) -> Result<KeyPair, AuthorityError> {
    let text = read_secret(path)?;
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| KeyPair::from_pem(text).ok())
        .ok_or_else(|| AuthorityError::Unusable {
            path: path.to_owned(),
            // The parser's own words might quote the key.
            reason: "not a private key in PEM".to_owned(),
        })
}

/// A certificate over another key would have every client refuse the gateway, and none say why.
fn checked(pem: String, path: &Path, key: &KeyPair) -> Result<String, AuthorityError> {
    let unusable = |reason: &str| AuthorityError::Unusable {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let der = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
        pem.as_bytes(),
    )
    .map_err(|_| unusable("not a certificate in PEM"))?;
    let public = key.public_key_raw();
    let holds = der.windows(public.len()).any(|window| window == public);
    if holds {
        Ok(pem)
    } else {
        Err(unusable("not the certificate of the key beside it"))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_owned();
    move |source| AuthorityError::Io { path, source }
}

fn making(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Making(error.to_string())
}

#[cfg(test)]
mod tests;
