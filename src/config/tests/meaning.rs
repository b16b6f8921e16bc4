//! What documents mean together.

use super::*;

#[test]
fn an_empty_list_of_keys_is_how_the_last_key_is_taken_away() {
    let mut documents = set();
    documents[2] = doc("Identity", "operator-a", "{groups: [sre], keys: []}");
    assert!(load_text(&documents).is_ok());
}

#[test]
fn selectors_and_overrides_make_subjects() {
    let mut documents = set();
    let labelled = |name: &str, env: &str| {
        doc("Cluster", name, "{inCluster: true}").replace(
            &format!("{{name: {name}}}"),
            &format!("{{name: {name}, labels: {{env: {env}}}}}"),
        )
    };
    documents.extend([
        labelled("dev-a", "dev"),
        labelled("dev-b", "dev"),
        labelled("test", "test"),
    ]);
    let account = |name: &str| format!("serviceAccount: {{namespace: ops, name: {name}}}");
    documents.push(doc(
        "Role",
        "ops",
        &format!(
            "{{kubernetes: {{clusters: [prod, {{matchLabels: {{env: dev}}}}], {}, overrides: [{{clusters: [dev-b], {}}}]}}}}",
            account("'ops-{identity}'"),
            account("dev-ops")
        ),
    ));
    let config = load_text(&documents).unwrap();
    let RoleAccess::Kubernetes(ops) = &config.roles[&Name::new("ops").unwrap()].access else {
        panic!()
    };
    let subjects: Vec<(&str, &str)> = ops
        .subjects
        .iter()
        .map(|(cluster, subject)| match subject {
            SubjectTemplate::ServiceAccount(account) => (cluster.as_str(), account.name.as_str()),
            own => panic!("{own:?}"),
        })
        .collect();
    assert_eq!(
        subjects,
        [
            ("dev-a", "ops-{identity}"),
            ("dev-b", "dev-ops"),
            ("prod", "ops-{identity}")
        ]
    );

    for (overrides, expected) in [
        (
            format!("[{{clusters: [test], {}}}]", account("x")),
            "where the role does not exist",
        ),
        (
            format!(
                "[{{clusters: [prod], {0}}}, {{clusters: [prod], {0}}}]",
                account("x")
            ),
            "two overrides are for 'prod'",
        ),
    ] {
        documents.pop();
        documents.push(doc(
            "Role",
            "ops",
            &format!(
                "{{kubernetes: {{clusters: [prod], {}, overrides: {overrides}}}}}",
                account("a")
            ),
        ));
        let problems = load_text(&documents).unwrap_err().to_string();
        assert!(problems.contains(expected), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

#[test]
fn a_narrowing_that_leaves_nothing_of_a_role_is_a_mistake() {
    let mut documents = set();
    documents.push(doc("Cluster", "dev", "{inCluster: true}"));
    documents.push(doc(
        "Binding",
        "x",
        "{subjects: [{group: sre}], roles: [viewer, auditor], clusters: [dev]}",
    ));
    let problems = load_text(&documents).unwrap_err().to_string();
    assert!(
        problems.contains("'viewer' exists on none of these clusters"),
        "{problems}"
    );
    assert_eq!(problems.lines().count(), 1, "{problems}");
}

#[test]
fn recordings_stay_where_they_are_and_for_ever_unless_it_is_said_otherwise() {
    let bastion = |recordings: &str| {
        let mut documents = set();
        documents[0] = documents[0].replace("stateDir: state", recordings);
        load_text(&documents).unwrap().bastion.recordings
    };
    assert_eq!(bastion("stateDir: state"), KeepRecordings::default());
    let days = |days: u64| std::time::Duration::from_secs(days * 86_400);
    let whole = bastion(
        "stateDir: state, recordings: {retention: {default: 365d, roles: {old: 30d}}, store: {s3: {\
         bucket: logs, endpoint: 'http://127.0.0.1:9000', credentialsFile: s3.credentials, sse: 'aws:kms:k/1', \
         objectLock: {mode: COMPLIANCE, retain: 366d}, keepLocal: 7d}}}",
    );
    let s3 = whole.s3.unwrap();
    assert_eq!(
        (s3.prefix.as_str(), s3.region.as_str()),
        ("main", "us-east-1")
    );
    assert_eq!(
        s3.credentials_file.unwrap(),
        Path::new("/etc/b/s3.credentials")
    );
    assert_eq!(s3.sse, Some(Sse::Kms(Some("k/1".to_owned()))));
    assert_eq!(s3.keep_local, Some(days(7)));
    let lock = s3.object_lock.unwrap();
    assert_eq!((lock.mode, lock.retain), (LockMode::Compliance, days(366)));
    let name = |name| Name::new(name).unwrap();
    assert_eq!(whole.retention.of(&name("old")), Some(days(30)));
    assert_eq!(whole.retention.of(&name("viewer")), Some(days(365)));
    assert_eq!(whole.retention.shortest(), Some(days(30)));
}

#[test]
fn what_a_loader_remembers_does_not_show() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
    };
    let shown = |loaded: Result<Config, Problems>| {
        let config = loaded?;
        let all = (&config.bastion, &config.clusters, &config.identities);
        let more = (&config.roles, &config.bindings, &config.digest);
        Ok::<_, Problems>(format!("{all:?}{more:?}"))
    };
    let mut loader = Loader::default();
    let mut same = |what: &str| {
        let (warm, cold) = (loader.load(directory.path()), load(directory.path()));
        let (warm, cold) = (shown(warm), shown(cold));
        assert_eq!(warm, cold, "{what}");
        warm.is_ok()
    };
    let mut documents = set();
    write("all.yaml", &documents.concat());
    assert!(same("the first time"));
    assert!(same("nothing changed"));
    let binding = documents.pop().unwrap();
    write("all.yaml", &documents.concat());
    assert!(!same("a binding is gone, and a default role with it"));
    write("rest.yaml", &binding);
    assert!(same("it is in another file"));
    write("all.yaml", &set().concat());
    assert!(!same("it is in both"));
    std::fs::remove_file(directory.path().join("rest.yaml")).unwrap();
    assert!(same("it is where it was"));
}
