use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::config::Name;
use crate::config::test_keys::ED25519;

const PATIENCE: Duration = Duration::from_secs(20);

fn bastion(listen: &str) -> String {
    format!(
        "apiVersion: bastion-audit.dev/v1alpha1\nkind: Bastion\nmetadata: {{name: main}}\n\
         spec: {{listen: '{listen}', hostKeys: [host], stateDir: state}}\n"
    )
}

fn identity(name: &str, keys: &str) -> String {
    format!(
        "apiVersion: bastion-audit.dev/v1alpha1\nkind: Identity\nmetadata: {{name: {name}}}\nspec: {keys}\n"
    )
}

struct Running {
    reloads: Reloads,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start(root: &Path) -> Running {
    let config = crate::config::load(root).unwrap();
    let (mut watch, reloads) = follow(root, Arc::new(config));
    watch.period = Duration::from_millis(25);
    let stop = CancellationToken::new();
    tokio::spawn(watch.run(stop.clone()));
    Running { reloads, stop }
}

impl Running {
    async fn report(&mut self) -> Reload {
        tokio::time::timeout(PATIENCE, self.reloads.reports.recv())
            .await
            .expect("a report in time")
            .expect("the watch runs")
    }

    async fn applied(&mut self) -> Arc<Config> {
        match self.report().await {
            Reload::Applied { .. } => self.reloads.current.borrow().clone(),
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self) -> String {
        match self.report().await {
            Reload::Refused(problems) => problems.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn has(config: &Config, identity: &str) -> bool {
    config
        .identities
        .contains_key(&Name::new(identity).unwrap())
}

/// As editors do: write beside, then rename over.
fn rename_over(path: &Path, content: &str) {
    let beside = path.with_extension("swp");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn an_editors_rename_is_applied_and_a_bad_set_keeps_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bastion.yaml"), bastion("127.0.0.1:2222")).unwrap();
    let people = dir.path().join("people.yaml");
    fs::write(&people, identity("operator-a", "{keys: []}")).unwrap();
    let mut running = start(dir.path());

    rename_over(&people, &identity("operator-b", "{keys: []}"));
    let config = running.applied().await;
    assert!(has(&config, "operator-b") && !has(&config, "operator-a"));

    rename_over(&people, &identity("operator-c", "{keyz: []}"));
    let problems = running.refused().await;
    assert!(problems.contains("did you mean 'keys'"), "{problems}");
    assert!(has(&running.reloads.current.borrow(), "operator-b"));

    fs::write(
        dir.path().join("more.yaml"),
        identity("operator-d", "{keys: []}"),
    )
    .unwrap();
    let problems = running.refused().await;
    assert!(problems.contains("keyz"), "still bad: {problems}");

    fs::remove_file(&people).unwrap();
    let config = running.applied().await;
    assert!(has(&config, "operator-d") && !has(&config, "operator-b"));
}

#[tokio::test]
async fn a_kubernetes_data_swap_is_applied_at_once_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let version = |name: &str, who: &str| {
        let data = dir.path().join(name);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("bastion.yaml"), bastion("127.0.0.1:2222")).unwrap();
        fs::write(data.join("people.yaml"), identity(who, "{keysFile: keys}")).unwrap();
        fs::write(data.join("keys"), "").unwrap();
    };
    version("..2027_01", "operator-a");
    symlink("..2027_01", dir.path().join("..data")).unwrap();
    for file in ["bastion.yaml", "people.yaml", "keys"] {
        symlink(format!("..data/{file}"), dir.path().join(file)).unwrap();
    }
    let mut running = start(dir.path());

    version("..2027_02", "operator-b");
    symlink("..2027_02", dir.path().join("..data_tmp")).unwrap();
    fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    fs::remove_dir_all(dir.path().join("..2027_01")).unwrap();
    let config = running.applied().await;
    assert_eq!(config.identities.len(), 1, "not both versions");
    assert!(has(&config, "operator-b"));
}

#[tokio::test]
async fn a_keys_file_is_followed_too_and_emptying_it_withdraws_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("all.yaml");
    let documents = format!(
        "{}---\n{}",
        bastion("127.0.0.1:2222"),
        identity("operator-a", "{keysFile: a.keys}")
    );
    fs::write(&root, documents).unwrap();
    let keys = dir.path().join("a.keys");
    fs::write(&keys, ED25519).unwrap();
    let mut running = start(&root);
    let name = Name::new("operator-a").unwrap();
    assert_eq!(
        running.reloads.current.borrow().identities[&name]
            .keys
            .len(),
        1
    );

    fs::write(&keys, "# taken away\n").unwrap();
    assert!(running.applied().await.identities[&name].keys.is_empty());

    fs::remove_file(&keys).unwrap();
    assert!(running.refused().await.contains("a.keys"));
    fs::write(&keys, ED25519).unwrap();
    assert_eq!(
        running.applied().await.identities[&name].keys.len(),
        1,
        "noticed when it is there again"
    );
}

#[tokio::test]
async fn what_takes_a_restart_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("bastion.yaml");
    fs::write(&root, bastion("127.0.0.1:2222")).unwrap();
    let mut running = start(&root);
    rename_over(&root, &bastion("127.0.0.1:2223"));
    let problems = running.refused().await;
    assert!(
        problems.contains("listen") && problems.contains("restart"),
        "{problems}"
    );
    assert!(!problems.contains("hostKeys"), "{problems}");
    assert_eq!(running.reloads.current.borrow().bastion.listen.port(), 2222);
}

#[tokio::test]
async fn asking_is_always_answered() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("bastion.yaml");
    fs::write(&root, bastion("127.0.0.1:2222")).unwrap();
    let mut running = start(&root);
    running.reloads.trigger.reload();
    assert!(matches!(running.report().await, Reload::Unchanged { .. }));
    fs::write(&root, "kind: Nothing\n").unwrap();
    running.reloads.trigger.reload();
    assert!(matches!(running.report().await, Reload::Refused(_)));
}

#[tokio::test]
async fn an_issuers_other_key_is_taken_up_only_if_it_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["one", "two"] {
        crate::issuer::create_key(&path(name), crate::issuer::Algorithm::Es256).unwrap();
    }
    let documents = |url: &str, keys: &str| {
        bastion("127.0.0.1:1").replace(
            "stateDir: state",
            &format!("stateDir: state, issuer: {{url: '{url}', signingKeys: [{keys}]}}"),
        )
    };
    let url = "https://b.example.com";
    let file = path("all.yaml");
    fs::write(&file, documents(url, "one")).unwrap();
    let mut running = start(&file);
    fs::write(&file, documents(url, "one, two")).unwrap();
    let keys = |config: &Config| config.bastion.issuer.clone().unwrap().signing_keys.len();
    assert_eq!(keys(&*running.applied().await), 2);

    fs::write(&file, documents(url, "gone, one")).unwrap();
    let refused = running.refused().await;
    assert!(refused.contains("/gone: No such file"), "{refused}");
    assert_eq!(keys(&running.reloads.current.borrow()), 2);

    fs::write(&file, documents("https://other.example.com", "one")).unwrap();
    let refused = running.refused().await;
    assert!(
        refused.contains("issuer changed, which takes a restart"),
        "{refused}"
    );
}
