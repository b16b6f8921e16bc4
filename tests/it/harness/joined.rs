//! Our index of a session's requests and the API server's own audit log: one story, told twice.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bastion::{Bastion, eventually};
use super::cluster::ControlPlane;

/// A request as it is on both records.
#[derive(Debug)]
pub(crate) struct Request {
    /// What we wrote before it was forwarded.
    pub(crate) intent: Value,
    /// What we wrote after.
    pub(crate) outcome: Value,
    /// What the API server wrote.
    pub(crate) event: Value,
}

impl Request {
    /// `verb resource/subresource`, or `verb path`.
    pub(crate) fn what(&self) -> String {
        let info = &self.intent["info"];
        let text = |name: &str| info[name].as_str().unwrap_or_default();
        let of = match (info["isResource"] == true, text("subresource")) {
            (false, _) => text("path").to_owned(),
            (true, "") => text("resource").to_owned(),
            (true, sub) => format!("{}/{sub}", text("resource")),
        };
        format!("{} {of}", text("verb"))
    }

    /// Whether it is an exec, attach or port-forward.
    pub(crate) fn is_stream(&self) -> bool {
        let streams = ["exec", "attach", "portforward"].map(Value::from);
        streams.contains(&self.intent["info"]["subresource"])
    }
}

/// All requests of a session that is over, which must be on both records, by one Audit-ID each, and mean the same there.
pub(crate) fn joined(bastion: &Bastion, session: &str) -> Vec<Request> {
    eventually("the seal", || bastion.manifest(session));
    let ours = indexed(bastion, session);
    let issued = |event: &Value| event["event"] == "lease.issued" && event["session"] == session;
    let tokens = bastion.events().into_iter().filter(issued);
    let tokens: Vec<String> = tokens
        .map(|event| event["jti"].as_str().unwrap().to_owned())
        .collect();
    // The API server writes at the end of each response; ours are sealed.
    let mut theirs = eventually("the API server's record", || {
        let theirs = audited(&tokens);
        (theirs.len() >= ours.len()).then_some(theirs)
    });
    let only = |one: &BTreeMap<String, Value>, ids: Vec<&String>| {
        let missing = one.iter().filter(|(id, _)| !ids.contains(id));
        missing
            .map(|(_, line)| line.to_string())
            .collect::<Vec<_>>()
    };
    let intents: BTreeMap<String, Value> = ours
        .iter()
        .map(|(id, (intent, _))| (id.clone(), intent.clone()))
        .collect();
    let none = Vec::<String>::new();
    assert_eq!(
        only(&intents, theirs.keys().collect()),
        none,
        "only we have it"
    );
    assert_eq!(
        only(&theirs, ours.keys().collect()),
        none,
        "only the API server has it"
    );
    let requests: Vec<Request> = ours
        .into_iter()
        .map(|(id, (intent, outcome))| Request {
            intent,
            outcome,
            event: theirs.remove(&id).unwrap(),
        })
        .collect();
    for request in &requests {
        alike(request, session);
    }
    requests
}

/// Parsed alike, and of the same person.
fn alike(request: &Request, session: &str) {
    let info = &request.intent["info"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(
        text(&info["verb"]),
        text(&request.event["verb"]),
        "{request:?}"
    );
    let object = &request.event["objectRef"];
    for ours in ["resource", "subresource", "namespace"] {
        if info["isResource"] == true {
            assert_eq!(
                text(&info[ours]),
                text(&object[ours]),
                "{ours}: {request:?}"
            );
        }
    }
    let agent = text(&request.event["userAgent"]);
    let of_both = agent.contains(session) && agent.contains("identity=operator-");
    assert!(of_both, "{agent}");
    // An answer that was cut, by whomever, may be known to one side only.
    let whole = request.outcome["error"].is_null();
    let (here, there) = (
        &request.outcome["status"],
        &request.event["responseStatus"]["code"],
    );
    assert!(!whole || here == there, "{request:?}");
}

/// Intents and outcomes as we have them, by Audit-ID; those that were forwarded.
fn indexed(bastion: &Bastion, session: &str) -> BTreeMap<String, (Value, Value)> {
    let text = bastion.requests(session);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut index = BTreeMap::new();
    for line in &lines {
        let intent = &line["intent"];
        let Some(id) = intent["auditId"].as_str() else {
            continue;
        };
        if intent["marks"].to_string().contains("\"refused\"") {
            continue;
        }
        let ended =
            |other: &&Value| other["request"] == line["request"] && other["outcome"].is_object();
        let outcome = lines.iter().find(ended);
        let outcome = outcome.unwrap_or_else(|| panic!("no outcome: {line}"))["outcome"].clone();
        let before = index.insert(id.to_owned(), (intent.clone(), outcome));
        assert!(before.is_none(), "twice: {line}");
    }
    index
}

/// The same as the API server has them: by the tokens that were the session's alone, whatever a client may say.
fn audited(tokens: &[String]) -> BTreeMap<String, Value> {
    let ids: Vec<String> = tokens.iter().map(|jti| format!("JTI={jti}")).collect();
    let lines = ControlPlane::shared().audit_lines().into_iter();
    lines
        .filter(|line| {
            let used = &line["user"]["extra"]["authentication.kubernetes.io/credential-id"];
            used[0]
                .as_str()
                .is_some_and(|used| ids.iter().any(|id| id == used))
        })
        .map(|line| (line["auditID"].as_str().unwrap().to_owned(), line))
        .collect()
}
