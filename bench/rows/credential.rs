//! Login and a credential that lives for minutes, by an API server and by the daemon's own signature, against the jump-server way to
//! one. The client is a lean one, the same for all; what an operator waits for with `ssh`, its own start included, stands beside it.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::cpu::CpuMeter;
use crate::lean::LeanClient;
use crate::ssh::Target;
use crate::stage::Stage;
use crate::stats::{median, percentile};
use crate::table::{Measured, Reach, Unit};

const OURS: &str = "bastion credential";

/// A role on a cluster for which the daemon signs.
const SIGNED: &str = "own-name";

/// One side: where to log in, what to type, whose time it takes.
struct Side<'a> {
    target: &'a Target,
    line: &'a str,
    /// None where CPU time cannot be told apart, as without root.
    meter: Option<&'a CpuMeter>,
    middles: Vec<f64>,
    with_ssh: Vec<f64>,
    logins: u32,
    cpu: Duration,
}

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let daemon = stage.daemon()?;
    let peer = stage.peer();
    // RBAC reaches the API server's own cache after a moment.
    until_it_works(&daemon.target, OURS)?;
    let signed = Target {
        login: SIGNED.into(),
        ..daemon.target.clone()
    };
    until_it_works(&signed, OURS)?;
    let our_meter = meter(&daemon.processes()?);
    let their_meter = peer.and_then(|peer| meter(&[peer.pid()]));
    let mut sides = vec![
        Side::new(&daemon.target, OURS, our_meter.as_ref()),
        Side::new(&signed, OURS, our_meter.as_ref()),
    ];
    if let Some(peer) = peer {
        until_it_works(&peer.target, &peer.credential)?;
        sides.push(Side::new(
            &peer.target,
            &peer.credential,
            their_meter.as_ref(),
        ));
    }
    let lean = LeanClient::new()?;
    for _ in 0..stage.of(7, 3) {
        for side in &mut sides {
            side.round(&lean, stage.of(40, 10))?;
            side.operators_wait(stage.of(10, 4))?;
        }
    }
    let time: Vec<f64> = sides.iter().map(|side| median(&side.middles)).collect();
    let with_ssh: Vec<f64> = sides.iter().map(|side| median(&side.with_ssh)).collect();
    let cpu: Vec<f64> = sides.iter().map(Side::cpu_each).collect();
    // The first two are ours, the third is the peer.
    let row = |work: &str, which: usize, values: &[f64], reach| Measured {
        work: work.to_owned(),
        unit: Unit::Milliseconds,
        ours: values.get(which).copied().unwrap_or(f64::NAN),
        peer: values.get(2).copied(),
        reach,
    };
    let mut rows = vec![
        row("login + credential, p50", 0, &time, Reach::TimesLess(10.0)),
        row(
            "the same, signed by the daemon (oidcIssuer)",
            1,
            &time,
            Reach::TimesLess(25.0),
        ),
        row(
            "the first by `ssh`, its own time included",
            0,
            &with_ssh,
            Reach::Nothing,
        ),
        row(
            "the second by `ssh`, its own time included",
            1,
            &with_ssh,
            Reach::Nothing,
        ),
    ];
    if sides.iter().all(|side| side.meter.is_some()) {
        rows.push(row(
            "login + credential, server CPU",
            0,
            &cpu,
            Reach::TimesLess(15.0),
        ));
        rows.push(row(
            "the same, signed by the daemon (oidcIssuer)",
            1,
            &cpu,
            Reach::Nothing,
        ));
    }
    Ok(rows)
}

fn meter(server: &[u32]) -> Option<CpuMeter> {
    CpuMeter::of(server)
        .inspect_err(|error| crate::say(&format!("CPU time is not measured: {error:#}")))
        .ok()
}

impl<'a> Side<'a> {
    fn new(target: &'a Target, line: &'a str, meter: Option<&'a CpuMeter>) -> Self {
        Self {
            target,
            line,
            meter,
            middles: Vec::new(),
            with_ssh: Vec::new(),
            logins: 0,
            cpu: Duration::ZERO,
        }
    }

    fn round(&mut self, lean: &LeanClient, logins: u32) -> anyhow::Result<()> {
        let before = self.cpu()?;
        let mut times = Vec::new();
        for _ in 0..logins {
            times.push(lean.time(self.target, self.line)?);
        }
        // What the server does after the client has gone counts too.
        std::thread::sleep(Duration::from_millis(500));
        self.cpu += self.cpu()?.saturating_sub(before);
        self.logins += logins;
        self.middles.push(percentile(&times, 0.5));
        Ok(())
    }

    fn operators_wait(&mut self, logins: u32) -> anyhow::Result<()> {
        let mut times = Vec::new();
        for _ in 0..logins {
            times.push(self.target.time(&[], self.line)?);
        }
        self.with_ssh.push(percentile(&times, 0.5));
        Ok(())
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        self.meter.map_or(Ok(Duration::ZERO), CpuMeter::read)
    }

    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1000.0 / f64::from(self.logins)
    }
}

fn until_it_works(target: &Target, line: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match target.ask(line) {
            Ok(credential) if credential.contains("eyJ") => return Ok(()),
            Ok(other) => bail!("`{line}` printed no credential, but {other:?}"),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}
