//! The daemon's own credential for a cluster: from a kubeconfig, the pod that it runs in, or a file of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::stamps::Stamps;
use crate::config::secrets::{SecretError, read_secret};
use crate::config::{ClusterAccess, ClusterServer};

/// TCP and TLS together.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Why the daemon has no credential for a cluster. Says what to do; holds no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    // The parser's own message quotes lines of the file, which may hold the token.
    #[error("{path}: not a kubeconfig: `kubectl --kubeconfig {path} config view` says more")]
    Parse { path: PathBuf },
    #[error("{path}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("inCluster: {0}")]
    InCluster(#[from] kube::config::InClusterError),
}

/// What a client is made from.
pub(super) struct Access {
    pub(super) config: kube::Config,
    /// Of the kubeconfig, so that a reload knows whether it changed.
    pub(super) digest: Option<[u8; 32]>,
    /// Everything that was read, as it was then.
    pub(super) files: Stamps,
}

/// What a kubelet gives a pod.
const IN_CLUSTER: [&str; 2] = [
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
];

/// Reads files only: no network, no plugin.
pub(super) async fn load(access: &ClusterAccess) -> Result<Access, AccessError> {
    let mut loaded = match access {
        ClusterAccess::InCluster => {
            let mut files = Stamps::default();
            for path in IN_CLUSTER {
                files.note(Path::new(path));
            }
            Access {
                config: kube::Config::incluster()?,
                digest: None,
                files,
            }
        }
        ClusterAccess::Server(server) => from_server(server)?,
        ClusterAccess::Kubeconfig(path) => from_kubeconfig(path).await?,
    };
    let config = &mut loaded.config;
    config.connect_timeout = Some(CONNECT_LIMIT);
    // Each call has its own deadline, and kube would repeat POSTs on a 429 up to 15 times.
    config.read_timeout = None;
    config.write_timeout = None;
    config.default_retry = false;
    Ok(loaded)
}

/// SHA-256 of what is in the kubeconfig now, if that can be read.
pub(super) fn digest(access: &ClusterAccess) -> Option<[u8; 32]> {
    match access {
        ClusterAccess::InCluster | ClusterAccess::Server(_) => None,
        ClusterAccess::Kubeconfig(path) => {
            let text = read_kubeconfig(path).ok()?;
            Some(Sha256::digest(text.as_bytes()).into())
        }
    }
}

async fn from_kubeconfig(path: &Path) -> Result<Access, AccessError> {
    let mut files = Stamps::default();
    files.note(path);
    let text = read_kubeconfig(path)?;
    let unusable = |reason: String| AccessError::Unusable {
        path: path.to_owned(),
        reason,
    };
    let mut kubeconfig = Kubeconfig::from_yaml(&text).map_err(|_| AccessError::Parse {
        path: path.to_owned(),
    })?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    for user in &mut kubeconfig.auth_infos {
        if let Some(user) = &mut user.auth_info {
            anchor_user(directory, user);
            check_user(user)?;
            for named in [&user.client_certificate, &user.client_key, &user.token_file] {
                named.iter().for_each(|path| files.note(Path::new(path)));
            }
        }
    }
    let mut named_proxy = false;
    for cluster in &mut kubeconfig.clusters {
        if let Some(cluster) = &mut cluster.cluster {
            anchor(directory, &mut cluster.certificate_authority);
            let authority = cluster.certificate_authority.iter();
            authority.for_each(|path| files.note(Path::new(path)));
            named_proxy |= cluster
                .proxy_url
                .as_deref()
                .is_some_and(|url| !url.is_empty());
        }
    }
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| unusable(error.to_string()))?;
    if config.accept_invalid_certs {
        return Err(unusable(
            "insecure-skip-tls-verify would show the daemon's credential to anyone on the path: name the certificate-authority instead".into(),
        ));
    }
    if config.cluster_url.scheme_str() != Some("https") {
        return Err(unusable(
            "the server is not https: credentials are sent over TLS only".into(),
        ));
    }
    if !named_proxy {
        // HTTPS_PROXY in the environment is about the web, not about this cluster.
        config.proxy_url = None;
    } else if config.proxy_url.is_some() {
        return Err(unusable("proxy-url is not supported".into()));
    }
    Ok(Access {
        config,
        digest: Some(Sha256::digest(text.as_bytes()).into()),
        files,
    })
}

/// Everything is read here, so that a token file may end with a line's end, and both are taken up again together.
fn from_server(server: &ClusterServer) -> Result<Access, AccessError> {
    let mut files = Stamps::default();
    let authority = &server.certificate_authority;
    let unusable = |path: &Path, reason: String| AccessError::Unusable {
        path: path.to_owned(),
        reason,
    };
    let url = server
        .url
        .parse()
        .map_err(|_| unusable(authority, format!("{} is no URL", server.url)))?;
    let mut config = kube::Config::new(url);
    config.proxy_url = None;
    files.note(authority);
    let certificates = CertificateDer::pem_file_iter(authority)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(authority, format!("no certificates in PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(unusable(authority, "there is no certificate in it".into()));
    }
    let der = certificates.iter().map(|certificate| certificate.to_vec());
    config.root_cert = Some(der.collect());
    if let Some(path) = &server.token_file {
        files.note(path);
        config.auth_info.token = Some(read_token(path)?.as_str().to_owned().into());
    }
    Ok(Access {
        config,
        digest: None,
        files,
    })
}

/// A bearer token in a file of its own.
pub(super) fn read_token(path: &Path) -> Result<Zeroizing<String>, AccessError> {
    let bytes = read_secret(path)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    let plain = |b: u8| b.is_ascii_graphic();
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(AccessError::Unusable {
            path: path.to_owned(),
            reason: "this is no token: one line, and nothing else".into(),
        });
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_kubeconfig(path: &Path) -> Result<Zeroizing<String>, AccessError> {
    let bytes = read_secret(path)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(AccessError::Parse {
            path: path.to_owned(),
        }),
    }
}

/// Paths in a kubeconfig are relative to it.
fn anchor_user(directory: &Path, user: &mut AuthInfo) {
    anchor(directory, &mut user.client_certificate);
    anchor(directory, &mut user.client_key);
    anchor(directory, &mut user.token_file);
    if let Some(exec) = &mut user.exec
        && exec.command.as_deref().is_some_and(|c| c.contains('/'))
    {
        anchor(directory, &mut exec.command);
    }
}

fn anchor(directory: &Path, path: &mut Option<String>) {
    if let Some(relative) = path
        && Path::new(relative).is_relative()
        && !relative.is_empty()
    {
        *path = Some(directory.join(&*relative).to_string_lossy().into_owned());
    }
}

/// The files that a kubeconfig names hold credentials as it does.
fn check_user(user: &AuthInfo) -> Result<(), AccessError> {
    for path in [&user.client_key, &user.token_file].into_iter().flatten() {
        drop(read_secret(Path::new(path))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: u, user: {tokenFile: token}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
"#;

    fn write(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    async fn load_text(text: &str, mode: u32) -> Result<Access, AccessError> {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "token", "t0ps3cret", 0o600);
        let path = write(directory.path(), "kubeconfig", text, mode);
        load(&ClusterAccess::Kubeconfig(path)).await
    }

    #[tokio::test]
    async fn relative_paths_are_the_kubeconfigs_own_and_nothing_is_retried() {
        let access = load_text(KUBECONFIG, 0o600).await.unwrap();
        let token = access.config.auth_info.token_file.unwrap();
        assert!(
            token.starts_with('/') && token.ends_with("/token"),
            "{token}"
        );
        assert!(!access.config.default_retry);
        assert_eq!(access.config.connect_timeout, Some(CONNECT_LIMIT));
    }

    #[tokio::test]
    async fn what_the_world_can_read_is_refused() {
        for mode in [0o604, 0o644, 0o602, 0o601] {
            assert!(matches!(
                load_text(KUBECONFIG, mode).await,
                Err(AccessError::Secret(SecretError::TooOpen { .. }))
            ));
        }
        assert!(load_text(KUBECONFIG, 0o640).await.is_ok());
    }

    #[tokio::test]
    async fn a_token_file_that_the_world_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "token", "t0ps3cret", 0o644);
        let path = write(directory.path(), "kubeconfig", KUBECONFIG, 0o600);
        let error = load(&ClusterAccess::Kubeconfig(path)).await.err().unwrap();
        assert!(
            error
                .to_string()
                .contains("/token can be used by everybody"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn plain_http_and_unverified_tls_are_refused() {
        let http = KUBECONFIG.replace("https://", "http://");
        assert!(
            load_text(&http, 0o600)
                .await
                .err()
                .unwrap()
                .to_string()
                .contains("https")
        );
        let insecure = KUBECONFIG.replace("6443\"}", "6443\", insecure-skip-tls-verify: true}");
        assert_ne!(insecure, KUBECONFIG);
        let error = load_text(&insecure, 0o600).await.err().unwrap();
        assert!(
            error.to_string().contains("certificate-authority"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_error_does_not_quote_the_file() {
        let broken = KUBECONFIG.replace("tokenFile: token}", "token: t0ps3cret, }}}");
        let error = load_text(&broken, 0o600).await.err().unwrap();
        assert!(
            !format!("{error} {error:?}").contains("t0ps3cret"),
            "{error:?}"
        );
        assert!(matches!(error, AccessError::Parse { .. }));
    }
}
