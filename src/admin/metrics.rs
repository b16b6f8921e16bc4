//! What can be counted, in the text format of Prometheus. Nothing listens for it: `bastion-audit metrics` asks the admin
//! socket, and a textfile collector takes it from there.

use std::fmt::Display;

use crate::log::Standing;
use crate::monitor::Monitor;
use crate::oidc::Attempts;
use crate::store::Space;
use crate::store::room::{Measure, Room, Trouble};
use crate::strangers::Strangers;

pub(super) async fn text(monitor: &Monitor) -> String {
    let mut metrics = Metrics::default();
    let live = monitor.live.list();
    metrics.gauge("sessions_open", "Sessions that are open.", live.len());
    let leases = monitor.leases.live();
    let handed_out = leases
        .iter()
        .filter(|lease| lease.state.is_with_a_client())
        .count();
    metrics.gauge("leases_out", "Credentials that are out.", leases.len());
    metrics.gauge(
        "leases_handed_out",
        "Of these, in the hands of clients.",
        handed_out,
    );
    metrics.counter(
        "recordings_failed_total",
        "Recordings that could not be opened, written or sealed.",
        monitor.recorder.failures(),
    );
    metrics.counter(
        "recordings_syncs_total",
        "How often open recordings were synced, all of them at once.",
        monitor.store.syncs(),
    );
    strangers(&mut metrics, &monitor.strangers);
    let (accepted, refused) = monitor.codes.counts();
    metrics.counter(
        "codes_accepted_total",
        "One-time codes that were accepted.",
        accepted,
    );
    metrics.counter(
        "codes_refused_total",
        "One-time codes that were not, after a verified signature.",
        refused,
    );
    signing_on(&mut metrics, &monitor.attempts);
    storage(&mut metrics, &monitor.room);
    if monitor.custody.ships() {
        metrics.gauge(
            "recordings_waiting",
            "Closed recordings that the object store does not have yet.",
            monitor.custody.waiting().len(),
        );
    }
    metrics.head(
        "task_deaths_total",
        "How often a task of the daemon died and was begun again.",
        "counter",
    );
    for (task, deaths) in monitor.custody.deaths() {
        metrics.line(&format!("task_deaths_total{{task=\"{task}\"}}"), deaths);
    }
    witnesses(&mut metrics, &monitor.witnesses.list());
    let state_dir = monitor.config().bastion.state_dir.clone();
    // A disk that hangs keeps whoever asks waiting, and nobody else.
    let space = tokio::task::spawn_blocking(move || Space::at(&state_dir)).await;
    if let Ok(Ok(space)) = space {
        let (all, free) = (space.bytes, space.bytes_free);
        metrics.gauge("storage_bytes", "Bytes of the recordings' disk.", all);
        metrics.gauge("storage_free_bytes", "Of these, free.", free);
        if let Some(inodes) = space.inodes {
            metrics.gauge(
                "storage_inodes",
                "Inodes of the recordings' disk.",
                inodes.all,
            );
            metrics.gauge("storage_free_inodes", "Of these, free.", inodes.free);
        }
    }
    metrics.0
}

/// Who is not let in, and who might be.
fn strangers(metrics: &mut Metrics, strangers: &Strangers) {
    metrics.head(
        "connections_turned_away_total",
        "Connections that were closed before anything was said.",
        "counter",
    );
    for (reason, times) in strangers.totals() {
        let reason = reason.as_str();
        let name = format!("connections_turned_away_total{{reason=\"{reason}\"}}");
        metrics.line(&name, times);
    }
    let (unproven, refused) = strangers.standing();
    metrics.gauge(
        "connections_unproven",
        "Open connections on which nobody is proven, of sources that are not exempt.",
        unproven,
    );
    metrics.gauge(
        "sources_refused",
        "Sources whose penalties have come to more than the least.",
        refused,
    );
    metrics.counter(
        "stranger_events_untold_total",
        "Events about strangers that are in the audit log as numbers only.",
        strangers.untold(),
    );
}

/// Who signs in with a provider, and who would have.
fn signing_on(metrics: &mut Metrics, attempts: &Attempts) {
    metrics.gauge(
        "sign_ons_open",
        "Attempts to sign in with an identity provider that are under way.",
        attempts.count(),
    );
    let counts = attempts.counts();
    metrics.head(
        "sign_ons_begun_total",
        "Links, and codes of providers, that were given to sign in by.",
        "counter",
    );
    for (flow, begun, _) in counts.flows() {
        let flow = flow.as_str();
        metrics.line(&format!("sign_ons_begun_total{{flow=\"{flow}\"}}"), begun);
    }
    metrics.head(
        "sign_ons_accepted_total",
        "How often somebody has signed in.",
        "counter",
    );
    for (flow, _, accepted) in counts.flows() {
        let flow = flow.as_str();
        let name = format!("sign_ons_accepted_total{{flow=\"{flow}\"}}");
        metrics.line(&name, accepted);
    }
    metrics.head(
        "sign_ons_refused_total",
        "How often somebody has not, and why.",
        "counter",
    );
    for (why, times) in counts.refusals() {
        let why = why.as_str();
        let name = format!("sign_ons_refused_total{{reason=\"{why}\"}}");
        metrics.line(&name, times);
    }
}

/// What is known of the disk without asking it.
fn storage(metrics: &mut Metrics, room: &Room) {
    metrics.counter(
        "storage_failures_total",
        "How often recording became impossible.",
        room.failures(),
    );
    metrics.head(
        "storage_failed",
        "Whether nothing can be recorded, and why.",
        "gauge",
    );
    let now = room.trouble();
    for trouble in Trouble::ALL {
        let reason = match trouble {
            Trouble::NoSpace => "no_space",
            Trouble::ReadOnly => "read_only",
            Trouble::Broken => "broken",
        };
        let value = u8::from(now == Some(trouble));
        metrics.line(&format!("storage_failed{{reason=\"{reason}\"}}"), value);
    }
    metrics.head(
        "storage_low",
        "Whether there is little left: recordings.warnAt is reached.",
        "gauge",
    );
    for what in Measure::ALL {
        let name = format!("storage_low{{what=\"{}\"}}", what.as_str());
        metrics.line(&name, u8::from(room.is_low(what)));
    }
    metrics.gauge(
        "storage_reserved_bytes",
        "Bytes that are kept back for the end of sessions.",
        room.reserved(),
    );
}

/// Where checkpoints of the evidence log are kept.
fn witnesses(metrics: &mut Metrics, places: &[Standing]) {
    if places.is_empty() {
        return;
    }
    let mut all = |name: &str, help: &str, kind: &str, value: &dyn Fn(&Standing) -> u64| {
        metrics.head(name, help, kind);
        for standing in places {
            let place = standing.place.as_str();
            metrics.line(&format!("{name}{{place=\"{place}\"}}"), value(standing));
        }
    };
    all(
        "witness_failed",
        "Whether checkpoints of the evidence log cannot be kept there.",
        "gauge",
        &|it| u64::from(it.failing.is_some()),
    );
    all(
        "witness_failures_total",
        "How often one could not be kept there.",
        "counter",
        &|it| it.failures,
    );
    all(
        "witness_leaves",
        "Leaves that the last one covers that was kept there.",
        "gauge",
        &|it| it.kept.unwrap_or(0),
    );
}

#[derive(Default)]
struct Metrics(String);

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.line(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        self.line(name, value);
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let head =
            format!("# HELP bastion_audit_{name} {help}\n# TYPE bastion_audit_{name} {kind}\n");
        self.0.push_str(&head);
    }

    fn line(&mut self, name: &str, value: impl Display) {
        self.0.push_str(&format!("bastion_audit_{name} {value}\n"));
    }
}
