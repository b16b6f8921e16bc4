//! Reading from the API server: small answers on many connections and on one, and a long list.

use crate::api::{Api, NAMESPACE, Way};
use crate::load::Gets;
use crate::stage::Stage;
use crate::stats::median;
use crate::table::{Measured, Reach, Unit};

const LISTS: &str = "bench-list";
const CONFIG_MAPS: usize = 35;
/// Of each ConfigMap; with what the API server adds, all of them come to 3.5 MB.
const BYTES: usize = 99_500;

/// What each way came to, a round after the other.
struct Rounds([Vec<Gets>; 3]);

pub(super) fn requests(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let api = Api::start(stage)?;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let many = rounds(stage, &api, &pods, 8)?;
    let pod = format!("{pods}/pod-0");
    let one = rounds(stage, &api, &pod, 1)?;
    let p50: fn(&Gets) -> f64 = |gets| gets.p50;
    let p99: fn(&Gets) -> f64 = |gets| gets.p99;
    Ok([
        many.rows(
            "GET pods, 8 connections",
            Unit::RequestsPerSecond,
            |gets| gets.requests as f64 / gets.seconds,
            Reach::Share(0.85),
        ),
        one.rows(
            "GET of a pod, 1 connection, p50",
            Unit::Milliseconds,
            p50,
            Reach::Beyond(0.3),
        ),
        one.rows(
            "GET of a pod, 1 connection, p99",
            Unit::Milliseconds,
            p99,
            Reach::Beyond(1.0),
        ),
    ]
    .concat())
}

pub(super) fn list(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let api = Api::start(stage)?;
    api.admin(&["create", "-f", "-"], &config_maps())?;
    let path = format!("/api/v1/namespaces/{LISTS}/configmaps");
    let rounds = rounds(stage, &api, &path, 2)?;
    Ok(rounds.rows(
        "a list of 3.5 MB, 2 connections",
        Unit::MegabytesPerSecond,
        |gets| gets.bytes as f64 / 1e6 / gets.seconds,
        Reach::Share(0.9),
    ))
}

fn rounds(stage: &Stage, api: &Api<'_>, path: &str, connections: usize) -> anyhow::Result<Rounds> {
    let milliseconds = stage.of(4000, 1500);
    let arguments =
        format!("get --path {path} --connections {connections} --milliseconds {milliseconds}");
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let mut rounds = Rounds([const { Vec::new() }; 3]);
    for _ in 0..stage.of(5, 3) {
        for (way, all) in Way::ALL.into_iter().zip(&mut rounds.0) {
            all.push(api.load(way, &arguments)?);
        }
    }
    Ok(rounds)
}

impl Rounds {
    /// Ours against the direct way, and `kubectl proxy` against it.
    fn rows(
        &self,
        work: &str,
        unit: Unit,
        value: impl Fn(&Gets) -> f64,
        reach: Reach,
    ) -> Vec<Measured> {
        let middle = |all: &Vec<Gets>| median(&all.iter().map(&value).collect::<Vec<_>>());
        super::three(work, unit, self.0.each_ref().map(middle), reach)
    }
}

fn config_maps() -> String {
    let mut yaml = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {LISTS}}}}}\n");
    let text = "what a service is told when it starts ";
    let text: String = text.chars().cycle().take(BYTES).collect();
    for number in 0..CONFIG_MAPS {
        yaml += &format!(
            "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: list-{number}, namespace: {LISTS}}}, \
             data: {{text: \"{text}\"}}}}\n"
        );
    }
    yaml
}
