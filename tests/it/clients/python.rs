//! Python's client library `kubernetes`: list, watch, exec.

use super::*;

const SCRIPT: &str = include_str!("client.py");

#[test]
fn pythons_client_lists_watches_and_executes() {
    namespace("python");
    let tunnel = Tunnel::local();
    let output = tunnel
        .command(&client("python"))
        .args(["-c", SCRIPT, "python"])
        .output()
        .unwrap();
    let expected = "list: box\n\
        watch: ADDED seen b\n\
        watch: MODIFIED seen c\n\
        watch: DELETED seen c\n\
        exec: 'in\\nout\\n' 'err\\n' 7\n\
        bytes: 3000000 same\n\
        refused: 403 Forbidden\n";
    assert_eq!(said(&output), expected);
    let (bastion, requests) = tunnel.requests();
    assert_eq!(count(&requests, "watch configmaps"), 1, "{requests:?}");
    let execs: Vec<&Request> = requests
        .iter()
        .filter(|request| request.is_stream())
        .collect();
    assert_eq!(execs.len(), 2);
    let mut kept: Vec<usize> = execs
        .iter()
        .map(|exec| {
            let child = exec.outcome["children"][0].as_str().unwrap();
            let raw = bastion.cli(&["export", child, "--as", "raw", "--stream", "stdout"]);
            raw.stdout.len()
        })
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, ["in\nout\n".len(), 3_000_000]);
}
