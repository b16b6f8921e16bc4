//! Our index of a session's requests and the API server's own audit log are one story, told twice. The clients' tests join
//! theirs as well.

use std::collections::BTreeSet;

use crate::harness::bastion::Bastion;
use crate::harness::cluster::ControlPlane;
use crate::harness::joined::joined;

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
    let session = ran.stdout.lines().last().unwrap();
    let requests = joined(bastion, session);
    assert!(requests.len() > 10, "{requests:?}");
}

/// An upgrade has no response that could carry an Audit-ID back, and outlives its request.
#[test]
fn every_stream_is_on_both_records_over_either_protocol() {
    let plane = ControlPlane::shared();
    plane.admin(&["create", "namespace", "joined"]);
    let edits = [
        "--clusterrole=edit",
        "--serviceaccount=bastion-editor:editor",
    ];
    plane.admin(
        &[
            &["create", "rolebinding", "edits", "-n", "joined"],
            &edits[..],
        ]
        .concat(),
    );
    plane.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: box, namespace: joined}, \
         spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: none, \
         command: [sh, -c, 'while :; do echo tick; sleep 0.2; done']}]}}",
    );
    let ready = ["wait", "--for=condition=Ready", "pod/box", "-n", "joined"];
    plane.admin(&[&ready[..], &["--timeout=30s"]].concat());

    let bastion = Bastion::shared();
    let script = "k() { kubectl -n joined \"$@\"; }; \
        for websockets in true false; do \
        export KUBECTL_REMOTE_COMMAND_WEBSOCKETS=$websockets KUBECTL_PORT_FORWARD_WEBSOCKETS=$websockets; \
        k exec box -- true; k exec box -- sh -c 'exit 3'; \
        k exec box -- sh -c 'while sleep 0.1; do echo; done' | head -n 1; \
        k attach box | head -n 1; k logs -f box | head -n 1; \
        : > forward; k port-forward box :1 > forward & forward=$!; \
        until grep -q Forwarding forward; do sleep 0.1; done; kill $forward; wait $forward; \
        done > /dev/null 2>&1; \
        timeout 4 kubectl -n joined get pods -w > /dev/null; echo $BASTION_SESSION";
    let ran = bastion.run_ssh("operator-a", "editor", script);
    let requests = joined(bastion, ran.stdout.trim());
    let streams: BTreeSet<String> = requests
        .iter()
        .filter(|request| request.is_stream())
        .map(|request| {
            let protocol = request.intent["protocol"].as_str().unwrap_or_default();
            format!(
                "{} {protocol} {}",
                request.what(),
                request.outcome["status"]
            )
        })
        .collect();
    let expected = [
        "create pods/attach SPDY/3.1 101",
        "create pods/exec SPDY/3.1 101",
        "create pods/portforward SPDY/3.1 101",
        "get pods/attach v5.channel.k8s.io 101",
        "get pods/exec v5.channel.k8s.io 101",
        "get pods/portforward SPDY/3.1+portforward.k8s.io 101",
    ];
    assert_eq!(streams, expected.map(str::to_owned).into());
    let watched = requests
        .iter()
        .any(|request| request.what() == "watch pods");
    assert!(watched, "{requests:?}");
}
