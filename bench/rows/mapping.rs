//! The mapping of a large organisation: how long a decision takes, how long a reload does, and whether anybody is refused meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{self, Config, Loader, SessionKind};
use bastion_audit::identity::{Identity, identify};
use bastion_audit::messages::{Offer, Peer};
use bastion_audit::policy::{self, Circumstances, Request};

use crate::stage::Stage;
use crate::stats::{median, percentile};
use crate::table::{Measured, Reach, Unit};

const IDENTITIES: usize = 10_000;
const ROLES: usize = 1_000;
const BINDINGS: usize = 5_000;
const GROUPS: usize = 1_000;
const CLUSTERS: usize = 12;

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let directory = tempfile::tempdir()?;
    write(directory.path())?;
    let loaded = config::load(directory.path())?;
    let people = people(&loaded)?;
    let rounds = stage.of(5, 1);
    let decisions = decisions(&loaded, &people, rounds)?;
    let first = first_reads(directory.path(), &loaded, stage.of(7, 3))?;
    let (reloads, meanwhile) = reloads(directory.path(), &loaded, &people, stage.of(15, 5))?;
    let row = |work: &str, unit, ours, reach| Measured {
        work: work.to_owned(),
        unit,
        ours,
        peer: None,
        reach,
    };
    let size = "10,000 identities, 1,000 roles, 5,000 bindings";
    Ok(vec![
        row(
            &format!("policy decision, {size}, p50"),
            Unit::Microseconds,
            median(&decisions),
            Reach::Nothing,
        ),
        row(
            "the same, p99",
            Unit::Microseconds,
            percentile(&decisions, 0.99),
            Reach::Under(50.0),
        ),
        row(
            &format!("reload of {size}, of whom one changed"),
            Unit::Milliseconds,
            median(&reloads),
            Reach::Under(200.0),
        ),
        row(
            "all of it read for the first time",
            Unit::Milliseconds,
            median(&first),
            Reach::Nothing,
        ),
        row(
            "proof and decision during reloads, p99, none refused",
            Unit::Microseconds,
            percentile(&meanwhile, 0.99),
            Reach::Nothing,
        ),
    ])
}

/// Whoever asks, and for what.
struct Person {
    offer: Offer,
    identity: Identity,
    /// Roles that they may take there, and one that they may not.
    logins: Vec<String>,
}

/// A tree as several owners would keep it: a file of people for each hundred.
fn write(root: &Path) -> anyhow::Result<()> {
    let mut base = document(
        "Bastion",
        "main",
        "{listen: '127.0.0.1:2222', hostKeys: [host], stateDir: state}",
    );
    for n in 0..CLUSTERS {
        base += &document("Cluster", &format!("c{n}"), "{kubeconfig: kubeconfig}");
    }
    std::fs::write(root.join("bastion.yaml"), base)?;
    let mut roles = String::new();
    for n in 0..ROLES {
        let (one, two) = (n % CLUSTERS, (n + 5) % CLUSTERS);
        roles += &document(
            "Role",
            &format!("role-{n}"),
            &format!(
                "{{kubernetes: {{clusters: [c{one}, c{two}], serviceAccount: {{namespace: role-{n}, name: \"{{identity}}\"}}}}}}"
            ),
        );
    }
    std::fs::write(root.join("roles.yaml"), roles)?;
    for hundred in 0..IDENTITIES / 100 {
        let mut people = String::new();
        for n in hundred * 100..(hundred + 1) * 100 {
            let groups = [n % GROUPS, (n * 7 + 1) % GROUPS, (n * 13 + 2) % GROUPS];
            people += &document(
                "Identity",
                &format!("person-{n}"),
                &format!(
                    "{{groups: [g{}, g{}, g{}], keys: [{}]}}",
                    groups[0],
                    groups[1],
                    groups[2],
                    key(n)
                ),
            );
        }
        std::fs::create_dir_all(root.join("people"))?;
        std::fs::write(root.join(format!("people/{hundred}.yaml")), people)?;
    }
    let mut bindings = String::new();
    for n in 0..BINDINGS {
        let bounds = match n % 5 {
            0 => ", until: 2099-01-01T00:00:00Z",
            1 => ", from: [10.0.0.0/8, 192.0.2.0/24]",
            2 => ", sessionsAtOnce: 3",
            _ => "",
        };
        bindings += &document(
            "Binding",
            &format!("binding-{n}"),
            &format!(
                "{{subjects: [{{group: g{}}}, {{identity: person-{}}}], roles: [role-{}, role-{}]{bounds}}}",
                n % GROUPS,
                n * 2,
                n % ROLES,
                (n * 3 + 1) % ROLES,
            ),
        );
    }
    std::fs::write(root.join("bindings.yaml"), bindings)?;
    Ok(())
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn key(n: usize) -> String {
    let mut key = *b"\0\0\0\x0bssh-ed25519\0\0\0\x20--------------------------------";
    let number = (n as u64).to_be_bytes();
    key[19..27].copy_from_slice(&number);
    format!("ssh-ed25519 {}", STANDARD.encode(key))
}

fn people(config: &Config) -> anyhow::Result<Vec<Person>> {
    let now = SystemClock.now();
    let every = (0..IDENTITIES).step_by(7);
    every
        .map(|n| {
            let offer = Offer {
                principal: String::new(),
                public_key: key(n),
                certificate: None,
                algorithm: "ssh-ed25519".to_owned(),
            };
            let identity = identify(config, &offer, &peer()?, now)?;
            let from = peer()?.address.ip();
            let available = policy::available(config, &identity, from, now);
            let mut logins: Vec<String> = available
                .iter()
                .flat_map(|one| {
                    let clusters = one.gives.clusters().iter();
                    clusters.map(|cluster| format!("{}+{cluster}", one.role))
                })
                .take(4)
                .collect();
            ensure!(!logins.is_empty(), "{} may take nothing", identity.name());
            logins.push("role-none+c1".to_owned());
            Ok(Person {
                offer,
                identity,
                logins,
            })
        })
        .collect()
}

fn peer() -> anyhow::Result<Peer> {
    Ok(Peer {
        address: "192.0.2.7:50000".parse()?,
        client: String::new(),
    })
}

/// Each decision in microseconds. All but the last of each person must be a yes.
fn decisions(config: &Config, people: &[Person], rounds: usize) -> anyhow::Result<Vec<f64>> {
    let from = peer()?.address.ip();
    let mut taken = Vec::new();
    for _ in 0..rounds {
        for person in people {
            let (no, yes) = person.logins.split_last().context("logins")?;
            for login in yes.iter().chain([no]) {
                let request = Request {
                    principal: login.clone(),
                    kind: SessionKind::Shell,
                };
                let circumstances = Circumstances {
                    now: SystemClock.now(),
                    from,
                    open: &[],
                };
                let began = Instant::now();
                let decided = policy::decide(config, &person.identity, &request, circumstances);
                taken.push(microseconds(began.elapsed()));
                ensure!(decided.is_ok() == (login != no), "{login}");
            }
        }
    }
    Ok(taken)
}

/// Each load of everything by somebody who remembers nothing, in milliseconds.
fn first_reads(root: &Path, config: &Config, rounds: usize) -> anyhow::Result<Vec<f64>> {
    let mut taken = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let loaded = config::load(root)?;
        taken.push(microseconds(began.elapsed()) / 1e3);
        ensure!(loaded.digest == config.digest, "another configuration");
    }
    Ok(taken)
}

/// Each reload in milliseconds; and each proof with its decision, in microseconds, that was asked for meanwhile.
fn reloads(
    root: &Path,
    config: &Config,
    people: &[Person],
    rounds: usize,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| -> anyhow::Result<Vec<f64>> {
            let peer = peer()?;
            let mut taken = Vec::new();
            for person in people.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let login = person.logins.first().context("logins")?;
                let request = Request {
                    principal: login.clone(),
                    kind: SessionKind::Shell,
                };
                let began = Instant::now();
                let now = SystemClock.now();
                let identity = identify(config, &person.offer, &peer, now)?;
                let circumstances = Circumstances {
                    now,
                    from: peer.address.ip(),
                    open: &[],
                };
                drop(policy::decide(config, &identity, &request, circumstances)?);
                taken.push(microseconds(began.elapsed()));
                // As logins come: not one after the other without a breath.
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(taken)
        });
        let loading = || -> anyhow::Result<Vec<f64>> {
            let mut taken = Vec::new();
            // As the daemon, which has read it before.
            let mut loader = Loader::default();
            let mut before = loader.load(root)?;
            for round in 0..rounds {
                let file = root.join(format!("people/{}.yaml", round % 100));
                let text = std::fs::read_to_string(&file)?;
                std::fs::write(
                    &file,
                    text.replacen("groups: [", &format!("groups: [new-{round}, "), 1),
                )?;
                let began = Instant::now();
                let loaded = loader.load(root)?;
                taken.push(microseconds(began.elapsed()) / 1e3);
                ensure!(loaded.digest != before.digest, "the same configuration");
                before = loaded;
            }
            ensure!(
                before.digest == config::load(root)?.digest,
                "another configuration"
            );
            Ok(taken)
        };
        let reloads = loading();
        over.store(true, Ordering::Relaxed);
        let meanwhile = asking
            .join()
            .map_err(|_| anyhow::anyhow!("asking ended badly"))??;
        Ok((reloads?, meanwhile))
    })
}

fn microseconds(taken: Duration) -> f64 {
    taken.as_secs_f64() * 1e6
}
