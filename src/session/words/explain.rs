//! `bastion explain`: the decision and every rule that mattered, and what Kubernetes grants whoever takes the role.
//!
//! The second is asked by a credential of its own, minted for the question as for a session, and taken back after it.

use jiff::Timestamp;

use crate::audit::Event;
use crate::config::{Config, SessionKind};
use crate::gateway::RightsQuestion;
use crate::mapping::told;
use crate::messages::SessionEvent;
use crate::mint::Acting;
use crate::monitor::Monitor;
use crate::policy::{self, Circumstances, Grant, KubernetesSubject, OpenSession, Somebody};
use crate::session::client::Client;
use crate::session::{Caller, SessionId, steps};

/// Where kubectl is in a session, if it is told nothing else.
const DEFAULT: &str = "default";
/// Namespaces at once: each is a request.
const MOST_NAMESPACES: usize = 16;

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// ROLE or ROLE+CLUSTER; without one, what your login name stands for
    role: Option<String>,
    /// What Kubernetes grants there, up to 16 times; by default in the role's own namespace and in `default`
    #[arg(short, long = "namespace", value_name = "NAME", value_parser = namespace)]
    namespaces: Vec<String>,
}

/// Decides, tells, asks the cluster, tells.
pub(super) async fn answer(
    monitor: &Monitor,
    caller: &Caller,
    asked: &ExplainArgs,
    client: Client,
) {
    let config = monitor.config();
    let (identity, now) = (caller.identity.name(), monitor.clock.now());
    let login = asked.role.as_deref().unwrap_or(&caller.principal);
    let open = monitor.live.of(identity);
    let (decided, grant) = decided(&config, caller, login, &open, now);
    let answered = Event::WordAnswered {
        identity,
        peer: &caller.peer,
        word: "explain",
    };
    if let Err(sentence) = steps::on_record(monitor, answered).await {
        return client
            .last_words(&format!("bastion-audit: {sentence}"), 1)
            .await;
    }
    let (rights, status) = match &grant {
        None => (Ok(String::new()), 1),
        Some(grant) => (rights(monitor, caller, grant, asked).await, 0),
    };
    let text = match &rights {
        Ok(rights) => decided + rights,
        Err(_) => decided,
    };
    if client.print(&text).await.is_err() {
        return tracing::debug!("a client left before its answer was told");
    }
    match rights {
        Err(sentence) => {
            let words = format!("bastion-audit: what Kubernetes grants is not known: {sentence}");
            client.last_words(&words, 1).await;
        }
        Ok(_) if client.send(SessionEvent::Exit(status)).await.is_err() => {
            tracing::debug!("a client left before its answer was told");
        }
        Ok(_) => {}
    }
}

/// The decision for each kind of session with the rules behind it, and the first that was a yes.
pub(super) fn decided(
    config: &Config,
    caller: &Caller,
    login: &str,
    open: &[OpenSession],
    now: Timestamp,
) -> (String, Option<Grant>) {
    let from = caller.peer.address.ip();
    let circumstances = Circumstances { now, from, open };
    let mut first = None;
    let mut text = told::decisions(config, login, now, |kind| {
        let request = policy::Request {
            principal: login.to_owned(),
            kind,
        };
        let grant = policy::decide(config, &caller.identity, &request, circumstances)?;
        if kind == SessionKind::Tunnel {
            policy::tunnel_allowed(&caller.identity)?;
        }
        let mut decision = grant.decision().clone();
        // It is proven, or this were a no.
        decision.requires.clear();
        first.get_or_insert(grant);
        Ok(decision)
    });
    if let Ok(somebody) = Somebody::who_asks(config, &caller.identity, now) {
        text.push('\n');
        text.push_str(&told::rules(config, &somebody, login, circumstances.into()));
    }
    (text, first)
}

/// What RBAC grants, asked as the session would ask. On record before it is, and so is each credential.
async fn rights(
    monitor: &Monitor,
    caller: &Caller,
    grant: &Grant,
    asked: &ExplainArgs,
) -> Result<String, String> {
    if asked.namespaces.len() > MOST_NAMESPACES {
        return Err(format!("ask about {MOST_NAMESPACES} namespaces at most"));
    }
    let session = steps::new_session(monitor);
    let questions = questions(grant, asked, session)?;
    let event = Event::RightsAsked {
        session,
        peer: &caller.peer,
        grant,
        namespaces: questions.iter().map(RightsQuestion::namespace).collect(),
        audit_ids: questions.iter().map(RightsQuestion::audit_id).collect(),
    };
    steps::on_record(monitor, event).await?;
    let lease = steps::mint(monitor, caller, grant, session).await;
    let lease = lease.map_err(|sentence| format!("{sentence} (session {session})"))?;
    let told = ask(monitor, grant, &questions, lease.acting()).await;
    steps::release(monitor, lease).await;
    told.map_err(|sentence| format!("{sentence} (session {session})"))
}

fn questions(
    grant: &Grant,
    asked: &ExplainArgs,
    session: SessionId,
) -> Result<Vec<RightsQuestion>, String> {
    let mut namespaces = asked.namespaces.clone();
    if namespaces.is_empty() {
        if let KubernetesSubject::ServiceAccount { namespace, .. } = grant.subject() {
            namespaces.push(namespace.clone());
        }
        namespaces.push(DEFAULT.to_owned());
    }
    namespaces.dedup();
    let question = |namespace: &String| {
        RightsQuestion::new(namespace, grant.identity(), grant.role(), session)
            .map_err(|error| error.to_string())
    };
    namespaces.iter().map(question).collect()
}

async fn ask(
    monitor: &Monitor,
    grant: &Grant,
    questions: &[RightsQuestion],
    acting: &Acting,
) -> Result<String, String> {
    let cluster = grant.cluster();
    let upstream = monitor.leases.upstream(cluster).await;
    let upstream = upstream.map_err(|error| error.for_operator())?;
    let mut text = format!(
        "\nwhat Kubernetes grants on {cluster} to {}:\n",
        grant.subject().in_words()
    );
    let mut said = None;
    for question in questions {
        let status = question.ask(&upstream, acting).await;
        let status = status.map_err(|error| format!("cluster {cluster}: {error}"))?;
        let lines = told::rights(&status);
        let namespace = question.namespace();
        if said.as_ref() == Some(&lines) {
            text.push_str(&format!("  in {namespace}: the same\n"));
            continue;
        }
        text.push_str(&format!("  in {namespace}:\n"));
        for line in &lines {
            text.push_str(&format!("    {line}\n"));
        }
        said = Some(lines);
    }
    if text.contains("\n    MIND ") {
        text.push_str(&format!("  {}\n", told::beyond_means()));
    }
    Ok(text)
}

/// An RFC 1123 label, as Kubernetes names namespaces.
fn namespace(text: &str) -> Result<String, String> {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let inside = !text.starts_with('-') && !text.ends_with('-');
    match (1..=63).contains(&text.len()) && inside && text.bytes().all(fine) {
        true => Ok(text.to_owned()),
        false => Err("that is no name of a namespace".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_namespaces_are_asked_about() {
        for good in ["default", "a", "team-1"] {
            assert_eq!(namespace(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a b", &"a".repeat(64)] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
    }
}
