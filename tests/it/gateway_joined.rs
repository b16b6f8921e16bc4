//! Our index of a session's requests and the API server's own audit log are one story, told twice.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::cluster::ControlPlane;

/// The requests of a session as we have them, by Audit-ID.
fn indexed(bastion: &Bastion, session: &str) -> BTreeMap<String, Value> {
    let text = bastion.requests(session);
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut index = BTreeMap::new();
    for line in lines {
        if let Some(id) = audit_id(&line) {
            assert!(index.insert(id.to_owned(), line).is_none(), "twice");
        }
    }
    index
}

fn audit_id(line: &Value) -> Option<&str> {
    line["intent"]["auditId"].as_str()
}

/// The same as the API server has them: by the tokens that were the session's alone, whatever a client may say.
fn audited(jti: &str) -> BTreeMap<String, Value> {
    let id = format!("JTI={jti}");
    let lines = ControlPlane::shared().audit_lines().into_iter();
    lines
        .filter(|line| {
            let used = &line["user"]["extra"]["authentication.kubernetes.io/credential-id"];
            used[0] == id.as_str()
        })
        .map(|line| (line["auditID"].as_str().unwrap().to_owned(), line))
        .collect()
}

#[test]
fn every_request_is_on_both_records_under_one_id() {
    let bastion = Bastion::shared();
    let script = "kubectl get ns > /dev/null; kubectl get pods -A -l 'a in (b,c)' > /dev/null; \
        kubectl create configmap joined -n default --from-literal=a=b; \
        kubectl create configmap joined -n default; \
        kubectl delete pod joined-none -n default; kubectl auth whoami > /dev/null; \
        timeout 2 kubectl get configmaps -n default -w > /dev/null; \
        kubectl delete configmap joined -n default; \
        kubectl get secrets -n kube-system; kubectl get --raw /healthz; echo; echo $BASTION_SESSION";
    let ran = bastion.run_ssh("operator-a", "editor", script);
    let session = ran.stdout.lines().last().unwrap().to_owned();
    let issued = bastion.event("lease.issued", |event| event["session"] == session.as_str());
    let jti = issued["jti"].as_str().unwrap();

    let ours = indexed(bastion, &session);
    // The API server writes at the end of each response; ours are sealed.
    let theirs = eventually("the API server's record", || {
        let theirs = audited(jti);
        (theirs.len() >= ours.len()).then_some(theirs)
    });
    let only = |one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>| {
        let missing = one.iter().filter(|(id, _)| !other.contains_key(*id));
        missing
            .map(|(_, line)| line.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        only(&ours, &theirs),
        Vec::<String>::new(),
        "only we have it"
    );
    assert_eq!(
        only(&theirs, &ours),
        Vec::<String>::new(),
        "only the API server has it"
    );
    assert!(ours.len() > 10, "{ours:?}");
    for (id, line) in &ours {
        // Parsed alike, and of the same person.
        let (intent, event) = (&line["intent"], &theirs[id]);
        let info = &intent["info"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        assert_eq!(text(&info["verb"]), text(&event["verb"]), "{line} {event}");
        let object = &event["objectRef"];
        for ours in ["resource", "subresource", "namespace"] {
            if info["isResource"] == true {
                assert_eq!(
                    text(&info[ours]),
                    text(&object[ours]),
                    "{ours}: {line} {event}"
                );
            }
        }
        let agent = text(&event["userAgent"]);
        assert!(
            agent.contains(&session) && agent.contains("operator-a"),
            "{agent}"
        );
    }
}
