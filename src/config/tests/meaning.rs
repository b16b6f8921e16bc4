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
        .map(|(cluster, subject)| (cluster.as_str(), subject.name.as_str()))
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
