//! helm 4: a chart installed, upgraded, rolled back and uninstalled, from inside a session and over a tunnel.

use std::path::Path;

use super::*;

/// A chart of a ConfigMap and a Deployment, with a value.
const CHART: &str = "mkdir -p chart/templates; cd chart; \
    printf 'apiVersion: v2\\nname: chart\\nversion: 0.1.0\\n' > Chart.yaml; printf 'word: first\\n' > values.yaml; \
    printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: {{ .Release.Name }}-words}\\ndata: {word: {{ .Values.word }}}\\n' \
    > templates/words.yaml; \
    printf 'apiVersion: apps/v1\\nkind: Deployment\\nmetadata: {name: {{ .Release.Name }}}\\nspec: {replicas: 2, \
    selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {terminationGracePeriodSeconds: 0, \
    containers: [{name: main, image: none}]}}}\\n' > templates/work.yaml; cd ..; ";

/// In the namespace `$NS`.
const STEPS: &str = "set -e; word() { kubectl -n $NS get configmap app-words -o 'jsonpath={.data.word}'; echo; }; \
    helm -n $NS install app chart --wait --timeout 60s | grep STATUS; word; \
    helm -n $NS upgrade app chart --set word=second --wait --timeout 60s | grep -E 'STATUS|REVISION'; word; \
    helm -n $NS history app -o json | grep -o '\"revision\":[0-9]' | wc -l; \
    helm -n $NS rollback app 1 > /dev/null; word; \
    helm -n $NS get values app --all -o json; \
    helm -n $NS list -q; helm -n $NS uninstall app --wait > /dev/null; helm -n $NS list -q; \
    kubectl -n $NS get configmap app-words 2>&1 || true";

const EXPECTED: &str = "STATUS: deployed\nfirst\nSTATUS: deployed\nREVISION: 2\nsecond\n2\nfirst\n{\"word\":\"first\"}\napp\n\
    Error from server (NotFound): configmaps \"app-words\" not found\n";

/// Its releases are Secrets: what was in them is on no record.
fn on_record(requests: &[Request]) {
    // Server-side apply: installed, upgraded, rolled back.
    assert_eq!(count(requests, "patch deployments"), 3, "{requests:?}");
    let releases = requests
        .iter()
        .filter(|request| request.what() == "create secrets");
    let mut seen = 0;
    for release in releases {
        let body = release.intent["body"].to_string() + &release.outcome["body"].to_string();
        assert!(body.contains("reduced") && !body.contains("H4sI"), "{body}");
        let agent = release.event["userAgent"].as_str().unwrap();
        assert!(agent.starts_with("Helm/4."), "{agent}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn helm_works_inside_a_session_with_a_chart_through_its_input() {
    namespace("helm-inside");
    let mut bastion = Bastion::prepare(|documents| {
        documents.replace("tools: [bin/kubectl]", "tools: [bin/kubectl, bin/helm]")
    });
    std::fs::copy(client("helm"), bastion.path().join("bin/helm")).unwrap();
    bastion.run();
    let here = tempfile::tempdir().unwrap();
    let mut ssh = bastion.ssh("operator-a", "editor");
    ssh.arg(format!(
        "tar x; echo $BASTION_SESSION; NS=helm-inside; {STEPS}"
    ));
    let line = format!("{CHART} tar c chart | timeout {LONGEST_SCRIPT} \"$@\"");
    let output = Command::new("bash")
        .args(["-c", &line, "bash"])
        .arg(ssh.get_program())
        .args(ssh.get_args())
        .current_dir(here.path())
        .output()
        .unwrap();
    let text = said(&output);
    let (session, text) = text.split_once('\n').unwrap();
    assert_eq!(text, EXPECTED);
    on_record(&joined(&bastion, session));
}

#[test]
fn helm_works_over_a_tunnel() {
    namespace("helm-tunnel");
    let tunnel = Tunnel::dynamic();
    let bin = tunnel.bastion.path().join("own");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(client("helm"), bin.join("helm")).unwrap();
    std::os::unix::fs::symlink(ControlPlane::shared().kubectl_path(), bin.join("kubectl")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = tunnel
        .command(Path::new("bash"))
        .args(["-c", &format!("NS=helm-tunnel; {CHART} {STEPS}")])
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(said(&output), EXPECTED);
    let (_bastion, requests) = tunnel.requests();
    on_record(&requests);
}
