//! How a command ended, as the error channel says it: a `metav1.Status` (KEP-4006; `remotecommand` of
//! k8s.io/kubelet).

use serde::Deserialize;

use crate::recording::Ending;

/// The longest status.
const MAX_STATUS: usize = 64 * 1024;

/// Collects what the error channel says.
#[derive(Debug, Default)]
pub(super) struct StatusText(Vec<u8>);

impl StatusText {
    /// Takes more of it. False if it is longer than any status is.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        self.0.extend_from_slice(bytes);
        self.0.len() <= MAX_STATUS
    }

    /// How the command ended, if anything was said about it.
    pub(super) fn ending(&self) -> Option<Ending> {
        if self.0.is_empty() {
            return None;
        }
        Some(match serde_json::from_slice::<Status>(&self.0) {
            Ok(status) => status.ending(),
            Err(_) => Ending::Cut {
                reason: "the API server's status for the stream is none".to_owned(),
            },
        })
    }
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl Status {
    fn ending(self) -> Ending {
        if self.status == "Success" {
            return Ending::Exit(0);
        }
        let causes = self
            .details
            .map(|details| details.causes)
            .unwrap_or_default();
        let code = causes
            .iter()
            .find(|cause| cause.reason == "ExitCode")
            .and_then(|cause| cause.message.parse().ok());
        match code {
            Some(code) if self.reason == "NonZeroExitCode" => Ending::Exit(code),
            _ => Ending::Cut {
                reason: if self.message.is_empty() {
                    "the stream failed without a reason".to_owned()
                } else {
                    self.message
                },
            },
        }
    }
}
