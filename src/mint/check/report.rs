//! What was found out about a cluster.

use serde::Serialize;

use crate::config::Name;

/// How a finding counts, and a whole report: as its worst finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Could not be found out in full.
    Incomplete,
    /// More than is needed.
    Warn,
    /// Sessions will not work, or the fence has a hole.
    Fail,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Incomplete => "incomplete",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How it counts.
    pub level: Level,
    /// Where: a namespace, or empty for the whole cluster.
    pub namespace: String,
    /// What is so, and what to do if it should not be.
    pub says: String,
}

/// What the daemon's own credential can do on a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// The cluster's name.
    pub cluster: Name,
    /// Its API server's URL, if that is known.
    pub server: Option<String>,
    /// Its Kubernetes version.
    pub version: Option<String>,
    /// Who the daemon is there.
    pub username: Option<String>,
    /// How credentials for it come about, as `spec.mint` says it.
    pub mint: &'static str,
    /// Which ways to mint there are with that version, as far as that can be seen from outside.
    pub supports: Option<String>,
    /// Whom whoever takes the bastion over could be there.
    pub stolen: String,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
    /// What no credential of this kind can find out, and how an administrator can.
    pub not_checked: Vec<String>,
}

impl ClusterReport {
    pub(super) fn new(cluster: Name, mint: &'static str, stolen: String) -> Self {
        Self {
            cluster,
            server: None,
            version: None,
            username: None,
            mint,
            supports: None,
            stolen,
            findings: Vec::new(),
            not_checked: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, level: Level, namespace: &str, says: impl Into<String>) {
        self.findings.push(Finding {
            level,
            namespace: namespace.to_owned(),
            says: says.into(),
        });
    }

    /// The worst finding's level.
    pub fn level(&self) -> Level {
        self.findings
            .iter()
            .map(|finding| finding.level)
            .max()
            .unwrap_or(Level::Incomplete)
    }
}

impl std::fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unknown = || "?".to_owned();
        writeln!(
            f,
            "cluster {}: {} (Kubernetes {}, as {}), mint: {}",
            self.cluster,
            self.server.clone().unwrap_or_else(unknown),
            self.version.clone().unwrap_or_else(unknown),
            self.username.clone().unwrap_or_else(unknown),
            self.mint,
        )?;
        for finding in &self.findings {
            let place = match finding.namespace.as_str() {
                "" => String::new(),
                namespace => format!("{namespace}: "),
            };
            writeln!(f, "  {:<10}  {place}{}", finding.level, finding.says)?;
        }
        if let Some(supports) = &self.supports {
            writeln!(f, "  possible there: {supports}")?;
        }
        writeln!(f, "  whoever takes the bastion over is {}", self.stolen)?;
        for note in &self.not_checked {
            writeln!(f, "  not checked: {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_as_bad_as_its_worst_finding() {
        let mut report =
            ClusterReport::new(Name::new("prod").unwrap(), "tokenRequest", "nobody".into());
        assert_eq!(
            report.level(),
            Level::Incomplete,
            "nothing looked at is not ok"
        );
        report.add(Level::Ok, "", "fine");
        assert_eq!(report.level(), Level::Ok);
        report.add(Level::Fail, "bastion-viewer", "a hole");
        report.add(Level::Warn, "", "much");
        assert_eq!(report.level(), Level::Fail);
        assert!(
            report
                .to_string()
                .contains("FAIL        bastion-viewer: a hole")
        );
    }
}
