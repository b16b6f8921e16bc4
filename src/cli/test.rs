//! `bastion-audit test`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{self, Can, Config, Expectation, Expected, Name};
use bastion_audit::mapping::{subject_of, unfulfilled};
use bastion_audit::mint::check::{AccessReviews, Allowed};

/// Hold a configuration against what is expected of it
///
/// FILE says who may take which role, and who may not; with --kubeconfig also what a role can do in a cluster. Every expectation that
/// does not hold is named with its line. Exits with 0 if all hold, 1 if one does not, 2 if it cannot be said.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    #[command(flatten)]
    config: super::ConfigPath,
    /// A document of kind Expectations, outside of the configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Your own kubeconfig for a cluster, to ask its API server what roles can do; CLUSTER= may be left out if there is only one
    #[arg(long, value_name = "[CLUSTER=]FILE")]
    kubeconfig: Vec<String>,
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        Ok(super::trouble_is_two(self.test()))
    }

    fn test(&self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config.path())?;
        let expected = config::expectations(&self.file, &config)?;
        let mut clusters = Clusters::open(&config, &self.kubeconfig)?;
        let now = SystemClock.now();
        let mut told = Told::default();
        for expectation in &expected {
            match &expectation.expected {
                Expected::Takes(takes) => {
                    let wrong = unfulfilled(&config, takes, now);
                    told.say(expectation, wrong.map(|wrong| wrong.to_string()));
                }
                Expected::Can(can) => match clusters.ask(&config, can)? {
                    Some(wrong) => told.say(expectation, wrong),
                    None => told.not_asked += 1,
                },
            }
        }
        told.end()
    }
}

/// What is reported.
#[derive(Default)]
struct Told {
    text: String,
    held: usize,
    failed: usize,
    not_asked: usize,
}

impl Told {
    fn say(&mut self, expectation: &Expectation, wrong: Option<String>) {
        match wrong {
            None => self.held += 1,
            Some(wrong) => {
                self.failed += 1;
                self.text
                    .push_str(&format!("{}: {wrong}\n", expectation.at));
            }
        }
    }

    fn end(mut self) -> anyhow::Result<ExitCode> {
        self.text
            .push_str(&format!("{} held, {} failed", self.held, self.failed));
        if self.not_asked > 0 {
            let not_asked = format!(
                ", {} not asked: name the cluster's --kubeconfig",
                self.not_asked
            );
            self.text.push_str(&not_asked);
        }
        self.text.push('\n');
        super::reading::print(&self.text)?;
        Ok(ExitCode::from(u8::from(self.failed > 0)))
    }
}

/// The API servers that are asked, with the administrator's own credentials.
struct Clusters {
    runtime: tokio::runtime::Runtime,
    open: BTreeMap<Name, AccessReviews>,
}

impl Clusters {
    fn open(config: &Config, named: &[String]) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut open = BTreeMap::new();
        for one in named {
            let (cluster, file) = match one.split_once('=') {
                Some((cluster, file)) => (Some(cluster), file),
                None => (None, one.as_str()),
            };
            let cluster = cluster_named(config, cluster)?;
            let file = std::path::absolute(file)?;
            let reviews = runtime.block_on(AccessReviews::open(&cluster, &file))?;
            open.insert(cluster, reviews);
        }
        Ok(Self { runtime, open })
    }

    /// What is not as expected, if something; `None` if nothing could be asked.
    fn ask(&mut self, config: &Config, can: &Can) -> anyhow::Result<Option<Option<String>>> {
        let mut asked = false;
        for cluster in &can.clusters {
            let (Some(reviews), Some(subject)) =
                (self.open.get(cluster), subject_of(config, can, cluster))
            else {
                continue;
            };
            asked = true;
            let review = reviews.may(&subject, &can.request);
            let wrong = match (self.runtime.block_on(review)?, can.can) {
                (Allowed::Yes, true) | (Allowed::No, false) => continue,
                (Allowed::Yes, false) => "can".to_owned(),
                (Allowed::No, true) => "cannot".to_owned(),
                (Allowed::Unknown(why), _) => {
                    format!("can or cannot, which the API server could not say ({why})")
                }
            };
            let told = format!(
                "{} on {cluster} ({}) {wrong} {}",
                can.role,
                subject.in_words(),
                can.request
            );
            return Ok(Some(Some(told)));
        }
        Ok(asked.then_some(None))
    }
}

fn cluster_named(config: &Config, name: Option<&str>) -> anyhow::Result<Name> {
    let mut all = config.clusters.keys();
    match (name, all.next(), all.next()) {
        (Some(name), _, _) => all_named(config, name),
        (None, Some(only), None) => Ok(only.clone()),
        (None, _, _) => bail!("say whose kubeconfig it is: --kubeconfig CLUSTER=FILE"),
    }
}

fn all_named(config: &Config, name: &str) -> anyhow::Result<Name> {
    config
        .clusters
        .keys()
        .find(|cluster| cluster.as_str() == name)
        .cloned()
        .ok_or_else(|| anyhow!("no Cluster '{}' is defined", name.escape_debug()))
}
