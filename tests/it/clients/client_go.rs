//! A program on client-go, as controllers are: informers, fifty requests at once, fifty execs at once.

use super::*;

#[test]
fn informers_see_what_fifty_requests_at_once_do() {
    namespace("informers");
    let tunnel = Tunnel::dynamic();
    let output = tunnel
        .command(&client("informers"))
        .arg("informers")
        .output()
        .unwrap();
    let expected = "synced\n50 created\n50 read\n50 updated\n50 deleted\n50 executed\n";
    assert_eq!(said(&output), expected);
    let (bastion, requests) = tunnel.requests();
    for (what, times) in [
        ("create configmaps", 50),
        ("get configmaps", 50),
        ("update configmaps", 50),
        ("delete configmaps", 50),
        ("get pods/exec", 50),
        ("watch configmaps", 1),
        ("watch pods", 1),
        ("list nodes", 1),
    ] {
        assert_eq!(count(&requests, what), times, "{what}");
    }
    // Fifty streams at once, and each recording holds its own bytes.
    for exec in requests.iter().filter(|request| request.is_stream()) {
        let asked = exec.intent["query"].to_string();
        let n = asked
            .split("echo out-")
            .nth(1)
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        let child = exec.outcome["children"][0].as_str().unwrap();
        let raw = bastion.cli(&["export", child, "--as", "raw", "--stream", "stdout"]);
        let kept = String::from_utf8_lossy(&raw.stdout).into_owned();
        assert_eq!(kept, format!("in-{n}\nout-{n}\n"));
    }
}
