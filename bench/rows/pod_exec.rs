//! The output of a command in a pod: decoded, recorded and encoded anew here, passed on as it is there.

use anyhow::ensure;

use crate::api::{Api, NAMESPACE, Way};
use crate::load::Output;
use crate::stage::Stage;
use crate::stats::median;
use crate::table::{Measured, Reach, Unit};

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let bytes: u64 = stage.of(256 << 20, 64 << 20);
    let api = Api::start(stage)?;
    let arguments = [
        "exec".to_owned(),
        "--path".to_owned(),
        format!(
            "/api/v1/namespaces/{NAMESPACE}/pods/pod-0/exec?command=head&command=-c&command={bytes}\
             &command=/dev/zero&container=main&stdout=true&stderr=true"
        ),
    ];
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..stage.of(5, 3) {
        for (way, rates) in Way::ALL.into_iter().zip(&mut rates) {
            let output: Output = api.load(way, &arguments)?;
            ensure!(output.bytes == bytes, "{way:?}: {output:?}");
            rates.push(bytes as f64 / 1e6 / output.seconds);
            if way == Way::Ours {
                api.daemon.forget_recordings()?;
            }
        }
    }
    Ok(super::three(
        &format!("{} MiB of exec in a pod", bytes >> 20),
        Unit::MegabytesPerSecond,
        rates.each_ref().map(|rates| median(rates)),
        Reach::Share(0.7),
    ))
}
