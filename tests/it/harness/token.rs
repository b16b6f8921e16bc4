//! A minted token, as somebody who holds it sees it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use super::cluster::ControlPlane;

/// The API server caches a token's acceptance for 10 s.
pub(crate) const REFUSED_WITHIN: Duration = Duration::from_secs(11);

/// Somebody who has a token, and tries it. Never on a command line: everybody can read those.
pub(crate) struct Holder {
    token: String,
    kubeconfig: PathBuf,
}

impl Holder {
    pub(crate) fn of(token: &str) -> Self {
        let plane = ControlPlane::shared();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("holder-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            token: token.to_owned(),
            kubeconfig: plane.token_kubeconfig(&name, token),
        }
    }

    /// The claims that it was issued with.
    pub(crate) fn claims(&self) -> Value {
        let payload = self.token.split('.').nth(1).unwrap();
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        serde_json::from_slice(&engine.decode(payload).unwrap()).unwrap()
    }

    pub(crate) fn jti(&self) -> String {
        self.claims()["jti"].as_str().unwrap().to_owned()
    }

    /// As whom the API server takes its holder; `None` if as nobody.
    pub(crate) fn user(&self) -> Option<String> {
        let output = Command::new(ControlPlane::shared().kubectl_path())
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args([
                "auth",
                "whoami",
                "-o",
                "jsonpath={.status.userInfo.username}",
            ])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Some(String::from_utf8(output.stdout).unwrap());
        }
        assert!(stderr.contains("Unauthorized"), "{stderr}");
        None
    }

    /// Tries it until it is refused, which must be soon enough after `end`.
    pub(crate) fn is_refused_after(&self, end: Instant) {
        loop {
            let tried = end.elapsed();
            if self.user().is_none() {
                return;
            }
            assert!(tried < REFUSED_WITHIN, "accepted {tried:?} after the end");
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}
