//! What the gateway takes a request for is what the API server takes it for: compared with its own code on thousands.

use std::io::Write as _;
use std::process::{Command, Stdio};

use bastion_audit::gateway::request_info::{RequestInfo, canonical, query};
use bastion_audit::recording::requests::RequestSummary;
use serde_json::Value;

use crate::harness::cluster::ControlPlane;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const PREFIXES: [&str; 7] = [
    "/api/v1",
    "/apis/apps/v1",
    "/apis/rbac.authorization.k8s.io/v1",
    "/api/v1/watch",
    "/apis/apps/v1/watch",
    "/api/v1/proxy",
    "/other/v1",
];
const REST: [&str; 41] = [
    "",
    "/",
    "/pods",
    "/pods/",
    "/pods/b",
    "/pods/b/status",
    "/nodes/n/proxy",
    "/nodes/n/proxy/exec/a/b/c",
    "/namespaces",
    "/namespaces/a",
    "/namespaces/a/",
    "/namespaces/a/status",
    "/namespaces/a/finalize",
    "/namespaces/a/statuses",
    "/namespaces/a/pods",
    "/namespaces/a/pods/b",
    "/namespaces/a/pods/b/exec",
    "/namespaces/a/pods/b/attach",
    "/namespaces/a/pods/b/portforward",
    "/namespaces/a/pods/b/log",
    "/namespaces/a/pods/b/proxy/x/y/z/",
    "/namespaces/a/pods/https:b:443/proxy",
    "/namespaces/a/services/b:c/proxy/x",
    "/namespaces/a/serviceaccounts/b/token",
    "/namespaces/a/secrets",
    "/namespaces/a/secrets/b",
    "/namespaces/namespaces/namespaces/namespaces",
    "/namespaces/status/status",
    "/namespaces/watch/pods/watch",
    "/watch/pods",
    "/proxy",
    "/watch",
    "/watch/namespaces",
    "/proxy/namespaces/a/pods/b",
    "/clusterroles/system:node",
    "/clusterroles/system%3Anode",
    "/clusterroles/a%20b",
    "/clusterroles/%C3%A4",
    "/a/b/c/d/e/f/g",
    "/pods/b;c=d",
    "/pods/b+c",
];
const QUERIES: [&str; 36] = [
    "",
    "watch",
    "watch=",
    "watch=1",
    "watch=true",
    "watch=0",
    "watch=false",
    "watch=False",
    "watch=fal%C5%BFe",
    "watch=no",
    "watch=0&watch=1",
    "watch=1&limit=x",
    "watch=fal%C5%BFe&limit=x",
    "watch=FALSE&limit=x",
    "watch=fal%C5%BFe&fieldSelector=a",
    "limit=%2B5&fieldSelector=metadata.name%3Db",
    "limit=5_0&fieldSelector=metadata.name%3Db",
    "limit=9223372036854775808&fieldSelector=metadata.name%3Db",
    "sendInitialEvents=x&allowWatchBookmarks=x&fieldSelector=metadata.name%3Db",
    "limit=5",
    "limit=",
    "timeoutSeconds=x&fieldSelector=metadata.name%3Db",
    "fieldSelector=metadata.name%3Db",
    "fieldSelector=metadata.name%3D%3Db",
    "fieldSelector=metadata.name%21%3Db",
    "fieldSelector=metadata.name%3Db,metadata.namespace%3Da",
    "fieldSelector=spec.nodeName%3Dn,metadata.name%3Db&watch=1",
    "fieldSelector=metadata.name%3Db,metadata.name%3Da",
    "fieldSelector=metadata.name%3Da%5C%2Cb",
    "fieldSelector=metadata.name%3Da%5Cb",
    "fieldSelector=metadata.name%3Da%3Db",
    "fieldSelector=metadata.name%3Da/b",
    "fieldSelector=metadata.name%3D..",
    "fieldSelector=metadata.name",
    "fieldSelector=,,metadata.name%3Db,",
    "labelSelector=a%3Db&fieldSelector=metadata.name%3Dx&resourceVersion=0",
];

/// Every request of the corpus that the gateway passes on.
fn corpus() -> Vec<(String, String)> {
    let bare = [
        "/",
        "/api",
        "/apis",
        "/apis/apps",
        "/version",
        "/openapi/v3",
        "/healthz/ping",
        "/api/",
        "/apis/apps/v1/",
    ];
    let paths = PREFIXES
        .iter()
        .flat_map(|prefix| REST.iter().map(move |rest| format!("{prefix}{rest}")))
        .chain(bare.map(str::to_owned));
    let mut corpus = Vec::new();
    for path in paths {
        if canonical(&path).is_err() {
            continue;
        }
        for method in METHODS {
            let queries = if method == "GET" {
                &QUERIES[..]
            } else {
                &["", "watch=1", "fieldSelector=metadata.name%3Db"]
            };
            for raw in queries {
                let separator = if raw.is_empty() { "" } else { "?" };
                corpus.push((method.to_owned(), format!("{path}{separator}{raw}")));
            }
        }
    }
    corpus
}

fn api_server_reads(corpus: &[(String, String)]) -> Vec<Value> {
    let kubectl = ControlPlane::shared().kubectl_path();
    let mut process = Command::new(kubectl.with_file_name("test-cluster"))
        .arg("requestinfo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let lines: String = corpus
        .iter()
        .map(|(method, target)| format!("{method} {target}\n"))
        .collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn requests_mean_to_the_gateway_what_they_mean_to_the_api_server() {
    let corpus = corpus();
    assert!(corpus.len() > 10_000, "{}", corpus.len());
    let expected = api_server_reads(&corpus);
    assert_eq!(expected.len(), corpus.len());
    let mut wrong = Vec::new();
    for ((method, target), expected) in corpus.iter().zip(&expected) {
        let (path, raw) = target.split_once('?').unwrap_or((target, ""));
        let asked = query(Some(raw)).unwrap();
        let info = RequestInfo::parse(&method.parse().unwrap(), path, &asked);
        let expected: RequestSummary = serde_json::from_value(expected.clone()).unwrap();
        if *info.summary() != expected {
            wrong.push(format!(
                "{method} {target}\n  here  {:?}\n  there {expected:?}",
                info.summary()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        corpus.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
}
