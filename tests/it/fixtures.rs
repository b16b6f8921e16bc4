//! Recordings of every state that the format has had, which today's programs must go on reading. See the test
//! `fixtures_can_be_made` for how one is made.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::bastion::Ran;

fn fixtures() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
    let mut found: Vec<_> = std::fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

/// Our program on a fixture, with the keys that are in it.
fn ours(fixture: &Path, args: &[&str], identity: &str) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
        .args(args)
        .arg("--state-dir")
        .arg(fixture)
        .arg(identity)
        .arg(fixture.join("identity"))
        .output()
        .unwrap();
    Ran::from(output)
}

#[test]
fn recordings_of_every_format_are_verified_replayed_and_exported() {
    let fixtures = fixtures();
    assert!(!fixtures.is_empty());
    for fixture in fixtures {
        let keys = fixture.join("public.keys");
        let verify = [
            "verify",
            "--all",
            "--json",
            "--public-key",
            keys.to_str().unwrap(),
        ];
        let verified = ours(&fixture, &verify, "--identity");
        // One of them is interrupted.
        assert_eq!(verified.code, Some(3), "{verified:?}");
        let mut verdicts: Vec<serde_json::Value> = verified
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let summary = verdicts.pop().unwrap()["summary"].clone();
        assert_eq!(verdicts.len(), 5, "{verified:?}");
        assert_eq!(summary["recordings"], 5, "{summary}");
        assert_eq!(summary["unsound"], 0, "{summary}");
        assert_eq!(summary["interrupted"], 1, "{summary}");
        // Nobody kept a checkpoint of it elsewhere.
        assert!(summary["log"]["leaves"].as_u64() > Some(5), "{summary}");
        assert!(summary["log"]["witnessed"].is_null(), "{summary}");
        assert!(summary["log"]["unprovenSince"].is_string(), "{summary}");
        for verdict in verdicts {
            assert_eq!(verdict["problems"], serde_json::json!([]), "{verdict}");
            let id = verdict["session"].as_str().unwrap();
            let raw = ours(
                &fixture,
                &["export", id, "--as", "raw", "--stream", "stdout"],
                "--identity",
            );
            let text = ours(&fixture, &["export", id, "--as", "text"], "--identity");
            let replayed = ours(&fixture, &["replay", id], "--identity");
            for read in [&raw, &text, &replayed] {
                assert_eq!(read.code, Some(0), "{read:?}");
                assert!(
                    read.stdout
                        .contains("round 2 line 2 \u{20ac} of what is shown"),
                    "{read:?}"
                );
            }
        }
    }
}

#[test]
fn verify_names_the_manifest_whose_head_a_rolled_back_log_is_behind() {
    for fixture in fixtures() {
        let state = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(fixture.join("."))
            .arg(state.path())
            .status();
        assert!(copied.unwrap().success());
        let keys = state.path().join("public.keys");
        let verify = ["verify", "--all", "--public-key", keys.to_str().unwrap()];
        let honest = ours(state.path(), &verify, "--identity");
        assert_eq!(honest.code, Some(3), "{honest:?}");
        let heads = "The heads of the log in 5 manifests fit it";
        assert!(honest.stdout.contains(heads), "{honest:?}");
        assert!(
            honest
                .stdout
                .contains("together with everything that was closed after it, is unproven")
        );

        // Back to the third leaf, with all that would say otherwise.
        let log = state.path().join("log");
        let tail = std::fs::read_to_string(log.join("tail")).unwrap();
        let lines: Vec<&str> = tail.split_inclusive('\n').collect();
        let leaves = |upto: usize| {
            lines[..upto]
                .iter()
                .filter(|it| it.starts_with('{'))
                .count()
        };
        let end = (1..=lines.len())
            .find(|upto| leaves(*upto) == 3 && lines[*upto - 1].starts_with('"'))
            .unwrap();
        std::fs::write(log.join("tail"), lines[..end].concat()).unwrap();
        std::fs::remove_file(log.join("checkpoint")).unwrap();
        std::fs::remove_dir_all(log.join("tile")).unwrap();
        let harmed = ours(state.path(), &verify, "--identity");
        assert_eq!(harmed.code, Some(1), "{harmed:?}");
        let said = &harmed.stderr;
        assert!(
            said.contains("was rolled back: the head in the manifest of 0"),
            "{harmed:?}"
        );
    }
}
