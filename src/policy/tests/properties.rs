//! What holds of every decision.

use proptest::prelude::*;

use super::*;

fn principals() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "operator-a",
        "operator-b",
        "viewer",
        "editor",
        "runner",
        "auditor",
        "viewer+prod",
        "viewer+dev",
        "editor+dev",
        "editor+prod",
        "runner+test",
        "nothing",
    ])
    .prop_map(str::to_owned)
}

fn kinds() -> impl Strategy<Value = SessionKind> {
    prop::sample::select(vec![
        SessionKind::Shell,
        SessionKind::Exec,
        SessionKind::Tunnel,
        SessionKind::Credential,
    ])
}

/// A binding: for whom, which roles, within which bounds.
fn bindings() -> impl Strategy<Value = Vec<(bool, String, String)>> {
    let one = (
        any::<bool>(),
        prop::sample::subsequence(vec!["viewer", "editor", "runner", "auditor"], 1..=3)
            .prop_map(|roles| roles.join(", ")),
        prop::sample::select(vec![
            "",
            "until: 2026-01-01T00:00:00Z",
            "until: 2028-01-01T00:00:00Z",
            "from: [198.51.100.0/24]",
            "from: [192.0.2.0/24, '!192.0.2.8/29']",
            "sessionsAtOnce: 1",
        ])
        .prop_map(str::to_owned),
    );
    prop::collection::vec(one, 0..4)
}

fn documents(bindings: &[(bool, String, String)]) -> Vec<String> {
    let mut documents = base();
    for (n, (for_a, roles, more)) in bindings.iter().enumerate() {
        // Where no session is opened none can be counted.
        let more = if roles == "auditor" && more.contains("AtOnce") {
            ""
        } else {
            more
        };
        let group = if *for_a { "sre" } else { "dev" };
        documents.push(
            bind(&format!("b{n}"), roles, more).replace("group: sre", &format!("group: {group}")),
        );
    }
    documents
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_grant_without_a_standing_binding(bindings in bindings(), principal in principals(), kind in kinds()) {
        let config = load(&documents(&bindings));
        if let Ok(grant) = ask(&config, &principal, kind) {
            let position: usize = grant.binding().as_str()[1..].parse().unwrap();
            let (for_a, roles, more) = &bindings[position];
            prop_assert!(*for_a, "a binding of others");
            prop_assert!(roles.split(", ").any(|role| role == grant.role().as_str()));
            prop_assert!(!more.contains("2026") && !more.contains("198.51"));
            prop_assert!(kind != SessionKind::Credential || !(more.contains("192.0.2") || more.contains("AtOnce")));
            prop_assert!(grant.ends() > now());
            prop_assert_eq!(grant.kind(), kind);
            prop_assert!(principal == "operator-a" || principal.split('+').next() == Some(grant.role().as_str()));
        }
    }

    #[test]
    fn an_unrelated_document_changes_nothing(bindings in bindings(), principal in principals(), kind in kinds()) {
        let mut documents = documents(&bindings);
        let before = ask(&load(&documents), &principal, kind);
        documents.push(doc("Identity", "z-other", "{groups: [z], keys: []}"));
        documents.push(doc("Role", "z-role", "{kubernetes: {clusters: [prod, dev], serviceAccount: {namespace: z, name: z}}}"));
        documents.push(doc("Binding", "z", "{subjects: [{group: z}], roles: [z-role, viewer, editor, auditor]}"));
        let after = ask(&load(&documents), &principal, kind);
        // All but the configuration's digest.
        let plain = |result: Result<Grant, Denial>| result.map(|grant| {
            let mut json = serde_json::to_value(grant).unwrap();
            json["configDigest"].take();
            json
        });
        prop_assert_eq!(plain(before), plain(after));
    }

    #[test]
    fn the_order_of_documents_does_not_matter(bindings in bindings(), principal in principals(), kind in kinds(), turn in 0_usize..20) {
        let mut documents = documents(&bindings);
        let before = outcome(ask(&load(&documents), &principal, kind));
        let by = turn % documents.len();
        documents.rotate_left(by);
        prop_assert_eq!(outcome(ask(&load(&documents), &principal, kind)), before.clone());
        documents.reverse();
        prop_assert_eq!(outcome(ask(&load(&documents), &principal, kind)), before);
    }

    #[test]
    fn a_denial_speaks_of_nobody_else(bindings in bindings(), principal in principals(), kind in kinds()) {
        prop_assume!(principal != "operator-b");
        if let Err(denial) = ask(&load(&documents(&bindings)), &principal, kind) {
            prop_assert!(!denial.to_string().contains("operator-b"), "{}", denial);
            prop_assert!(!serde_json::to_string(&denial).unwrap().contains("operator-b"));
        }
    }

    #[test]
    fn a_denial_names_no_secret(bindings in bindings(), principal in principals(), kind in kinds()) {
        let config = load(&documents(&bindings));
        let open = [OpenSession { role: name("viewer"), cluster: name("prod") }];
        let request = Request { principal, kind };
        if let Err(denial) = decide(&config, &proven(&config), &request, here(&open)) {
            // Neither where keys lie, nor what they are, nor from where a stolen one would be good.
            let json = serde_json::to_string(&denial).unwrap();
            for secret in ["hidden", &ED25519[12..], "198.51", "/29"] {
                prop_assert!(!denial.to_string().contains(secret), "{}", denial);
                prop_assert!(!json.contains(secret), "{}", json);
            }
        }
    }

    #[test]
    fn sessions_that_are_open_take_nothing_from_others_and_only_take(
        bindings in bindings(),
        principal in principals(),
        kind in kinds(),
        open in prop::collection::vec(prop::sample::select(vec!["viewer", "editor", "runner"]), 0..3),
    ) {
        let config = load(&documents(&bindings));
        let open: Vec<OpenSession> = open.into_iter()
            .map(|role| OpenSession { role: name(role), cluster: name(if role == "runner" { "test" } else { "prod" }) })
            .collect();
        let request = Request { principal, kind };
        let ask = |open: &[OpenSession]| decide(&config, &proven(&config), &request, here(open));
        let (free, busy) = (ask(&[]), ask(&open));
        prop_assert!(busy.is_err() || free.is_ok(), "more is given to who has more");
        if let (Ok(grant), Err(denial)) = (&free, &busy) {
            prop_assert!(matches!(denial, Denial::TooManySessions { .. }), "{}", denial);
            let binding = config.bindings.get(grant.binding()).unwrap();
            prop_assert!(binding.sessions_at_once.is_some());
        }
    }

    #[test]
    fn whatever_is_available_can_be_taken_and_nothing_else(bindings in bindings(), principal in principals(), kind in kinds()) {
        let config = load(&documents(&bindings));
        let found = available(&config, &proven(&config), address(), now());
        match ask(&config, &principal, kind) {
            Ok(grant) => prop_assert!(found.iter().any(|one| one.role == *grant.role()
                && one.gives.clusters().contains(grant.cluster()) && one.gives.kinds().contains(&kind))),
            Err(_) => {
                let taken = |one: &Available| {
                    let logins = one.gives.clusters().iter().map(|cluster| format!("{}+{cluster}", one.role));
                    one.gives.kinds().contains(&kind) && logins.into_iter().any(|login| login == principal)
                };
                prop_assert!(!found.iter().any(taken));
            }
        }
    }
}
