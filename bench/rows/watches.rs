//! Watches in which nothing happens, ten in each of many sessions: what each takes of the daemon's memory, whether each
//! still hears of what happens at the end, and whether anything of them is left after.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::api::{Api, Way};
use crate::load::Watches;
use crate::process::{pss, sockets};
use crate::say;
use crate::stage::Stage;
use crate::table::{Measured, Reach, Unit};

const EACH: u32 = 10;
const NAMESPACE: &str = "bench-watch";
/// For what is still on its way.
const SETTLE: Duration = Duration::from_secs(3);
/// For the last connection to be gone.
const LAST_CONNECTION: Duration = Duration::from_secs(10);

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let sessions = stage.of(200, 20);
    let api = Api::start(stage)?;
    let ours = watched(&api, Way::Ours, sessions, EACH, &api.daemon.processes()?)?;
    let theirs = watched(&api, Way::Proxy, 1, sessions * EACH, &[api.proxy.pid()])?;
    let row = |work: String, ours: f64, peer: f64, reach| Measured {
        work,
        unit: Unit::Kibibytes,
        ours,
        peer: Some(peer),
        reach,
    };
    let all = sessions * EACH;
    Ok(vec![
        row(
            format!("an idle watch of {all} in {sessions} sessions (peer: kubectl proxy)"),
            ours.each,
            theirs.each,
            Reach::Under(64.0),
        ),
        row(
            format!("what is left of each after all {all} have ended"),
            ours.left,
            theirs.left,
            Reach::Nothing,
        ),
    ])
}

/// KiB for each watch, while they waited and after.
struct Watched {
    each: f64,
    left: f64,
}

/// Sockets of the process that speaks with the API server, which is the first.
fn open_at(server: &[u32]) -> anyhow::Result<usize> {
    server.first().map_or(Ok(0), |pid| sockets(*pid))
}

fn watched(
    api: &Api<'_>,
    way: Way,
    clients: u32,
    each: u32,
    server: &[u32],
) -> anyhow::Result<Watched> {
    let event = format!("event-{way:?}").to_lowercase();
    let arguments = format!(
        "watch --path /api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&timeoutSeconds=1800 \
         --count {each} --until {event}"
    );
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let all = f64::from(clients * each);
    let mut watching = Vec::new();
    for _ in 0..clients {
        watching.push(Client::start(api, way, &arguments)?);
    }
    // What sessions take has a row of its own.
    std::thread::sleep(SETTLE);
    let memory = || {
        server
            .iter()
            .map(|pid| pss(*pid))
            .sum::<anyhow::Result<f64>>()
    };
    let (before, sockets_before) = (memory()?, open_at(server)?);
    for client in &mut watching {
        client.go_on()?;
    }
    for client in &mut watching {
        client.says(each)?;
    }
    std::thread::sleep(SETTLE);
    let during = memory()?;
    let create = ["create", "configmap", &event, "-n", NAMESPACE];
    api.admin(&create, "")?;
    for client in &mut watching {
        client.says(each).context("an event got lost")?;
        client.go_on()?;
    }
    let began = Instant::now();
    while open_at(server)? > sockets_before && began.elapsed() < LAST_CONNECTION {
        std::thread::sleep(Duration::from_millis(100));
    }
    let open = open_at(server)?.saturating_sub(sockets_before);
    if open > 0 {
        say(&format!("{way:?}: {open} sockets more than before"));
    }
    std::thread::sleep(SETTLE);
    let after = memory()?;
    say(&format!(
        "{way:?}: {before} KiB, {during} KiB with watches, {after} KiB after"
    ));
    Ok(Watched {
        each: (during - before) / all,
        left: (after - before) / all,
    })
}

/// A load client that is told what to do. It ends when dropped.
struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(api: &Api<'_>, way: Way, arguments: &[String]) -> anyhow::Result<Self> {
        let mut child = api
            .client(way, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut client = Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(stdout),
            child,
        };
        client.says(0)?;
        Ok(client)
    }

    fn go_on(&mut self) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("its input is piped")?;
        stdin.write_all(b"go on\n")?;
        Ok(stdin.flush()?)
    }

    fn says(&mut self, watches: u32) -> anyhow::Result<()> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let said: Watches =
            serde_json::from_str(&line).with_context(|| format!("said {line:?}"))?;
        ensure!(
            said.watches == u64::from(watches),
            "said {said:?}, not {watches}"
        );
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends by itself then; if it has ended before, so much the better.
        drop(self.child.wait());
    }
}
