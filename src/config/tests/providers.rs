//! Identity providers: what is wrong with one, and what bindings and roles may say of it.

use super::*;

fn bastion_with_pages() -> String {
    doc(
        "Bastion",
        "main",
        "{listen: 127.0.0.1:2222, hostKeys: [host], stateDir: state, \
         login: {listen: '127.0.0.1:0', certificate: c, key: k, publicUrl: 'https://b.example:8443'}}",
    )
}

fn loaded(documents: &[String]) -> Result<Config, Problems> {
    let mut all = set();
    all[0] = bastion_with_pages();
    load_text(&[all, documents.to_vec()].concat())
}

fn problems(documents: &[String]) -> String {
    match loaded(documents) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

fn provider(more: &str) -> String {
    let spec = format!("{{issuer: 'https://id.example/x', clientId: b, {more}}}");
    doc("IdentityProvider", "corp", &spec)
}

#[test]
fn a_provider_is_what_its_document_says_and_safe_by_default() {
    let config = loaded(&[provider("")]).unwrap();
    let corp = &config.providers[&Name::new("corp").unwrap()];
    assert_eq!(corp.username_claim, "sub");
    assert!(!corp.any_key && corp.groups_claim.is_none() && !corp.speaks_for_unlisted());
    assert!(!config.takes_any_key());
    let meant = |config: &Config, username: &str| {
        let corp = &config.providers[&Name::new("corp").unwrap()];
        let meant = config.meant_by_provider(corp, username);
        meant.map(|meant| meant.name().to_string())
    };
    assert_eq!(meant(&config, "operator-a"), Some("operator-a".to_owned()));
    assert_eq!(meant(&config, "jane"), None);
    let rules =
        "anyKey: true, identities: [{usernamePrefix: 'u-', listed: true}, {usernameSuffix: '@x'}]";
    let config = loaded(&[provider(rules)]).unwrap();
    assert_eq!(
        meant(&config, "u-operator-a"),
        Some("operator-a".to_owned())
    );
    assert_eq!(
        meant(&config, "jane.doe@x"),
        Some("corp--jane--doe".to_owned())
    );
    assert_eq!(meant(&config, "jane.doe@y"), None);
    let login = config.bastion.login.unwrap();
    assert_eq!(
        login.callback(&Name::new("corp").unwrap()),
        "https://b.example:8443/callback/corp"
    );
}

#[test]
fn each_mistake_in_one_is_reported_with_what_to_do() {
    for (more, expected) in [
        ("identities: [{listed: false}]", "write 'anyKey: true'"),
        (
            "identities: [{principalPrefix: x}]",
            "unknown key 'principalPrefix'",
        ),
        ("identities: []", "an empty list means nobody"),
        (
            "anyKey: true, identities: [{usernamePrefix: a}, {usernamePrefix: b}]",
            "could call two people the same",
        ),
        ("remember: 0s", "out of bounds"),
        ("deviceFlow: true", "unknown key 'deviceFlow'"),
        ("groupsClaim: 'a b'", "without spaces"),
    ] {
        let found = problems(&[provider(more)]);
        assert!(found.contains(expected), "{more}: {found}");
    }
    for issuer in ["http://id.example", "https://id.example/?x", "id.example"] {
        let spec = format!("{{issuer: '{issuer}', clientId: b}}");
        let found = problems(&[doc("IdentityProvider", "corp", &spec)]);
        assert!(found.contains("is not an issuer's URL"), "{found}");
    }
    let found = match load_text(&[set(), vec![provider("")]].concat()) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    };
    assert!(found.contains("give the Bastion a 'login'"), "{found}");
    for url in [
        "http://b.example",
        "https://b.example/",
        "https://b.example/x",
        "https://",
    ] {
        let text = bastion_with_pages().replace("https://b.example:8443", url);
        let mut all = set();
        all[0] = text;
        let found = load_text(&all).unwrap_err().to_string();
        assert!(
            found.contains("is not how browsers reach"),
            "{url}: {found}"
        );
    }
}

#[test]
fn names_of_people_and_groups_are_of_one_source() {
    let unlisted = provider("anyKey: true, identities: [{listed: false}]");
    let authority = |rule: &str| {
        let spec = format!("{{keys: ['{OTHER}'], identities: [{{listed: {rule}}}]}}");
        doc("CertificateAuthority", "corp", &spec)
    };
    let found = problems(&[unlisted.clone(), authority("false")]);
    assert!(
        found.contains("both would call people 'corp--NAME'"),
        "{found}"
    );
    assert_eq!(problems(&[unlisted.clone(), authority("true")]), "");
    let taken = doc("Identity", "corp--jane", "{}");
    let found = problems(&[unlisted, taken]);
    assert!(found.contains("of the IdentityProvider 'corp'"), "{found}");

    let bound = |group: &str| {
        let spec = format!("{{subjects: [{{group: '{group}'}}], roles: [viewer]}}");
        doc("Binding", "signed-on", &spec)
    };
    for (provider, group, expected) in [
        (provider("groupsClaim: groups"), "oidc/corp:sre", ""),
        (provider(""), "oidc/corp:sre", "give corp a 'groupsClaim'"),
        (
            provider("groupsClaim: groups"),
            "oidc/crop:sre",
            "no IdentityProvider 'crop'",
        ),
        (
            provider("groupsClaim: groups"),
            "ca/corp:sre",
            "no CertificateAuthority 'corp'",
        ),
        (
            provider("groupsClaim: groups"),
            "oidc/corp:s re",
            "is not a group",
        ),
        (
            provider("groupsClaim: groups"),
            "saml/corp:sre",
            "oidc/NAME:GROUP",
        ),
    ] {
        let found = problems(&[provider, bound(group)]);
        assert!(
            found.contains(expected) && found.is_empty() == expected.is_empty(),
            "{group}: {found}"
        );
    }
}

#[test]
fn a_role_requires_a_provider_s_word_only_where_there_is_a_provider() {
    let role = doc(
        "Role",
        "editor",
        "{require: [key, oidc], kubernetes: {clusters: [prod], serviceAccount: {namespace: v, name: editor}}}",
    );
    let found = problems(std::slice::from_ref(&role));
    assert!(found.contains("there is no IdentityProvider"), "{found}");
    assert_eq!(problems(&[role, provider("")]), "");
}

#[test]
fn a_role_opts_in_to_the_device_flow_of_a_provider_where_that_has_a_meaning() {
    let role = |spec: &str| {
        let access = "kubernetes: {clusters: [prod], serviceAccount: {namespace: v, name: editor}}";
        doc("Role", "editor", &format!("{{{spec}, {access}}}"))
    };
    let with = |spec: &str| loaded(&[role(spec), provider("")]);
    let opted_in = |config: Config| {
        config.roles[&Name::new("editor").unwrap()]
            .device_flow
            .clone()
    };
    assert_eq!(
        opted_in(with("require: [oidc]").unwrap()),
        None,
        "by default"
    );
    let corp = Name::new("corp").unwrap();
    for require in ["oidc", "key, oidc", "totp, oidc"] {
        let config = with(&format!("require: [{require}], deviceFlow: corp")).unwrap();
        assert_eq!(opted_in(config), Some(corp.clone()));
    }
    for (spec, expected) in [
        ("deviceFlow: corp", "the role does not require that"),
        (
            "require: [key, totp], deviceFlow: corp",
            "the role does not require that",
        ),
        ("require: [oidc], deviceFlow: crop", "did you mean 'corp'?"),
        ("require: [oidc], deviceFlow: true", "expected text"),
        ("require: [oidc], deviceFlow: [corp]", "expected text"),
    ] {
        let found = with(spec).map(|_| ()).unwrap_err().to_string();
        assert!(found.contains(expected), "{spec}: {found}");
    }
    let spec = "{require: [oidc], deviceFlow: corp, audit: {clusters: ['*'], identities: ['*']}}";
    let found = problems(&[doc("Role", "reader", spec), provider("")]);
    assert!(
        found.contains("what others have done is not read"),
        "{found}"
    );
}
