//! Recordings are evidence: what is there is proven, what is not is named, and what is secret stays so.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::running::Running;

/// Daemons that are killed in the ordinary run; more by `BASTION_AUDIT_KILLS`.
const KILLS: usize = 8;

/// Its exit status and what it printed.
fn verify(bastion: &Bastion) -> (Option<i32>, String) {
    let output = bastion.cli(&["verify", "--all"]);
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn raw(bastion: &Bastion, id: &str, more: &[&str]) -> Output {
    let shape = ["export", id, "--as", "raw", "--stream", "stdout"];
    bastion.cli(&[&shape, more].concat())
}

#[test]
fn what_was_recorded_is_proven_and_one_flipped_byte_is_named() {
    let bastion = Bastion::start();
    let ran = bastion.run_ssh("operator-a", "viewer", "echo $BASTION_SESSION; echo two");
    let id = ran.stdout.lines().next().unwrap().to_owned();
    bastion.run_ssh("operator-a", "viewer", "exit 3");
    // While it is packed, and afterwards.
    let (code, said) = verify(&bastion);
    assert_eq!(code, Some(0), "{said}");
    let cast = bastion.packed(&id).join("session.cast.zst");
    let (code, said) = verify(&bastion);
    assert_eq!(code, Some(0), "{said}");
    let stock = Command::new("zstd").arg("-dc").arg(&cast).output().unwrap();
    assert!(stock.status.success(), "{stock:?}");
    assert!(String::from_utf8_lossy(&stock.stdout).contains("two"));

    let mut bytes = std::fs::read(&cast).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&cast, bytes).unwrap();
    let (code, said) = verify(&bastion);
    assert_eq!(code, Some(1), "{said}");
    let named = said
        .lines()
        .any(|line| line.contains("session.cast.zst") && line.contains("changed"));
    assert!(named && said.contains(&id), "{said}");
}

#[test]
fn a_daemon_that_is_killed_again_and_again_loses_nothing_that_was_shown() {
    let kills = std::env::var("BASTION_AUDIT_KILLS");
    let kills = kills.map_or(KILLS, |kills| kills.parse().unwrap());
    let mut bastion = Bastion::start();
    for kill in 0..kills {
        let script = "n=0; while :; do n=$((n+1)); echo line $n of many; done";
        let sessions: Vec<Running> = (0..3)
            .map(|_| Running::start(&bastion, "operator-a", "viewer", script))
            .collect();
        // At another moment each time: before the first checkpoint, between two, in the midst of one.
        std::thread::sleep(std::time::Duration::from_millis(
            150 + 337 * (kill as u64 % 7),
        ));
        bastion.signal("KILL");
        bastion.wait();
        let shown: Vec<(String, String)> = sessions
            .into_iter()
            .map(|session| (session.id.clone(), session.wait().stdout))
            .collect();
        bastion.run();
        let (code, said) = verify(&bastion);
        assert!(matches!(code, Some(0 | 3)), "kill {kill}: {code:?} {said}");
        for (id, stdout) in shown {
            let exported = raw(&bastion, &id, &[]).stdout;
            let exported = String::from_utf8_lossy(&exported);
            let shown = format!("{id}\n{stdout}");
            assert!(
                exported.starts_with(&shown),
                "kill {kill}, {id}: {} bytes shown, {} on record",
                shown.len(),
                exported.len()
            );
            let line = said.lines().find(|line| line.starts_with(&id)).unwrap();
            assert!(line.contains("interrupted"), "{line}");
        }
    }
}

fn found(directory: &Path, marker: &str) -> String {
    let output = Command::new("grep")
        .args(["-rlaF", marker])
        .arg(directory)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_of_an_encrypted_recording_is_readable_without_its_key() {
    let mut bastion = Bastion::prepare(|documents| documents);
    let key = bastion.path().join("auditor.key");
    let made = Command::new("age-keygen")
        .arg("-o")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let to = Command::new("age-keygen")
        .arg("-y")
        .arg(&key)
        .output()
        .unwrap();
    let to = String::from_utf8(to.stdout).unwrap();
    let recordings = format!("  recordings: {{recipients: [{}]}}\n  sandbox:", to.trim());
    bastion.write_config(&bastion.config().replace("  sandbox:", &recordings));
    bastion.run();

    // Made by the command: neither the marker nor the command says it.
    let script = "printf 'zwiebel%s\\n' kuchen; read line; echo $line";
    let mut session = Running::start(&bastion, "operator-a", "viewer", script);
    let id = session.id.clone();
    session.send("geheim\n");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    for marker in ["zwiebelkuchen", "geheim", "zwiebel%s"] {
        assert_eq!(found(&bastion.state_dir(), marker), "", "{marker}");
    }
    let ran = session.wait();
    assert!(ran.stdout.contains("zwiebelkuchen\ngeheim"), "{ran:?}");
    let packed = eventually("a packed recording", || {
        let cast = bastion.recording(&id)?.join("session.cast.zst.age");
        cast.exists().then_some(cast)
    });
    for marker in ["zwiebelkuchen", "geheim", "zwiebel%s"] {
        assert_eq!(found(&bastion.state_dir(), marker), "", "{marker}");
    }
    let (code, said) = verify(&bastion);
    assert_eq!(code, Some(0), "{said}");

    let key = key.to_str().unwrap();
    let refused = raw(&bastion, &id, &[]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && words.contains("--identity"),
        "{words}"
    );
    let exported = raw(&bastion, &id, &["--identity", key]);
    let exported = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert!(exported.contains("zwiebelkuchen\ngeheim"), "{exported}");
    let listed = bastion.cli(&["sessions", "--identity-file", key]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(&id[..10]), "{listed}");

    // With nothing of ours.
    let stock = Command::new("sh")
        .args(["-c", r#"age -d -i "$0" "$1" | zstd -dc"#, key])
        .arg(&packed)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&stock.stdout).contains("zwiebelkuchen"));
}

#[test]
fn an_encrypted_recording_that_was_interrupted_is_read_with_its_key() {
    let mut bastion = Bastion::prepare(|documents| documents);
    let key = bastion.path().join("auditor.key");
    let made = Command::new("age-keygen")
        .arg("-o")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let to = Command::new("age-keygen")
        .arg("-y")
        .arg(&key)
        .output()
        .unwrap();
    let to = String::from_utf8(to.stdout).unwrap();
    let recordings = format!("  recordings: {{recipients: [{}]}}\n  sandbox:", to.trim());
    bastion.write_config(&bastion.config().replace("  sandbox:", &recordings));
    bastion.run();
    let session = Running::start(&bastion, "operator-a", "viewer", "echo shown; sleep 300");
    let id = session.id.clone();
    std::thread::sleep(std::time::Duration::from_millis(800));
    bastion.signal("KILL");
    bastion.wait();
    let shown = session.wait().stdout;
    bastion.run();
    let (code, said) = verify(&bastion);
    assert_eq!(code, Some(3), "{said}");
    let exported = raw(&bastion, &id, &["--identity", key.to_str().unwrap()]);
    let exported = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert!(
        exported.starts_with(&format!("{id}\n{shown}")),
        "{exported}"
    );
}
