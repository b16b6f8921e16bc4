//! Certificate authorities: what is wrong with one, and what bindings may say of its groups.

use super::super::test_keys::{ECDSA, RSA};
use super::*;

/// An authority that is fine but for `more`.
fn authority(more: &str) -> String {
    doc(
        "CertificateAuthority",
        "corp",
        &format!("{{keys: ['{OTHER}'], {more}}}"),
    )
}

fn binding(group: &str) -> String {
    doc(
        "Binding",
        "certified",
        &format!("{{subjects: [{{group: '{group}'}}], roles: [viewer]}}"),
    )
}

fn loaded(documents: &[String]) -> Result<Config, Problems> {
    load_text(&[set(), documents.to_vec()].concat())
}

#[test]
fn an_authority_is_what_its_document_says_and_safe_by_default() {
    let config = loaded(&[authority("")]).unwrap();
    let corp = &config.authorities[&Name::new("corp").unwrap()];
    assert_eq!(corp.algorithms, SigningAlgorithm::ALL.into());
    assert_eq!((corp.keys.len(), corp.groups.len()), (1, 0));
    assert!(corp.revoked.is_none() && !corp.speaks_for_unlisted());
    assert_eq!(
        config.authority_of(corp.keys[0].key_data()).unwrap().name,
        corp.name
    );
    let config = loaded(&[
        authority(
            "algorithms: [ssh-ed25519], identities: [{principalPrefix: 'u-', principalSuffix: '@x'}], groups: [{extension: g@x}]",
        ),
        binding("ca/corp:sre"),
    ])
    .unwrap();
    let corp = &config.authorities[&Name::new("corp").unwrap()];
    assert_eq!(corp.algorithms.len(), 1);
    assert!(corp.speaks_for_unlisted());
    let meant = |principal| {
        config
            .meant_by(corp, principal)
            .map(|meant| meant.name().to_string())
    };
    assert_eq!(meant("u-jane@x"), Some("corp--jane".to_owned()));
    assert_eq!(meant("operator-a"), None);
}

#[test]
fn each_mistake_in_one_is_reported_with_what_to_do() {
    for (document, expected) in [
        (
            doc("CertificateAuthority", "corp", "{groups: []}"),
            "a CertificateAuthority's spec needs 'keys', 'keysFile' or both",
        ),
        (
            doc(
                "CertificateAuthority",
                "corp",
                &format!("{{keys: ['{RSA}']}}"),
            ),
            "RUSTSEC-2023-0071",
        ),
        (
            doc(
                "CertificateAuthority",
                "corp",
                &format!("{{keys: ['restrict {OTHER}']}}"),
            ),
            "all.yaml:35:15: a certificate authority's key has no options",
        ),
        (
            doc(
                "CertificateAuthority",
                "corp",
                &format!("{{keys: ['{ED25519}']}}"),
            ),
            "this key is that of the Identity 'operator-a' already",
        ),
        (
            doc(
                "CertificateAuthority",
                "corp",
                &format!("{{keys: ['{OTHER}', '{OTHER}']}}"),
            ),
            "this key is that of the CertificateAuthority 'corp' already",
        ),
        (
            authority("algorithms: [rsa-sha2-512]"),
            "built without the 'rsa' crate",
        ),
        (authority("algorithms: [ssh-rsa]"), "SHA-1, which is broken"),
        (
            authority("algorithms: [sk-ssh-ed25519@openssh.com]"),
            "known: ssh-ed25519, ",
        ),
        (authority("algorithms: []"), "accepts no signature at all"),
        (authority("identities: []"), "an empty list means nobody"),
        (
            authority("identities: [{}]"),
            "says 'listed', 'principalPrefix' or",
        ),
        (
            authority("identities: [{principalSufix: '@x'}]"),
            "did you mean 'principalSuffix'?",
        ),
        (
            authority("identities: [{principalSuffix: 'a b'}]"),
            "printable ASCII",
        ),
        (
            authority("identities: [{principalSuffix: '@x'}, {principalSuffix: '@y'}]"),
            "could call two people the same",
        ),
        (
            authority("groups: [{extension: g, keyIdAfter: g}]"),
            "one of {extension: NAME}",
        ),
        (
            authority("groups: [{extension: permit-pty}]"),
            "not who is in which group",
        ),
        (
            authority("revoked: none.krl"),
            "revoked /etc/b/none.krl cannot be read",
        ),
        (
            authority("keysFile: none.pub"),
            "keysFile /etc/b/none.pub cannot be read",
        ),
    ] {
        let problems = problems_with(document.clone());
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{document}: {expected:?} is not in {problems:#?}"
        );
        assert!(
            problems
                .iter()
                .all(|problem| problem.starts_with("/etc/b/all.yaml:"))
        );
    }
}

#[test]
fn names_under_an_authority_are_nobody_elses() {
    let unlisted = authority("identities: [{listed: false}]");
    let problems = |documents: &[String]| match loaded(documents) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    };
    assert_eq!(problems(std::slice::from_ref(&unlisted)), "");
    let taken = doc("Identity", "corp--jane", &format!("{{keys: ['{ECDSA}']}}"));
    let told = problems(&[unlisted.clone(), taken.clone()]);
    assert!(told.contains("names that begin with 'corp--'"), "{told}");
    assert_eq!(problems(&[authority(""), taken]), "", "nobody is called so");
    let other = unlisted.replace("name: corp", "name: co--rp");
    let told = problems(&[other]);
    assert!(told.contains("must not contain '--'"), "{told}");
}

#[test]
fn a_binding_names_groups_of_authorities_that_name_groups() {
    let corp = authority("groups: [{extension: g}]");
    for (group, expected) in [
        ("ca/corp:sre", ""),
        (
            "ca/crop:sre",
            "no CertificateAuthority 'crop' is defined; did you mean 'corp'?",
        ),
        ("ca/corp:s re", "is not a group"),
        ("ca/corp:", "is not a group"),
        ("ca/corp", "ca/NAME:GROUP"),
        ("oidc/corp:sre", "no IdentityProvider 'corp' is defined"),
    ] {
        let told = match loaded(&[corp.clone(), binding(group)]) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        };
        assert!(
            told.contains(expected) && told.is_empty() == expected.is_empty(),
            "{group}: {told}"
        );
    }
    let none = loaded(&[authority(""), binding("ca/corp:sre")]).unwrap_err();
    assert!(none.to_string().contains("names no groups"), "{none}");
}

#[test]
fn a_default_role_may_come_by_a_group_of_an_authority() {
    let mut documents = set();
    documents.retain(|document| !document.contains("kind: Binding"));
    documents.push(authority("groups: [{extension: g}]"));
    documents.push(binding("ca/corp:sre"));
    assert!(load_text(&documents).is_ok());
    documents.pop();
    assert!(load_text(&documents).is_err(), "no binding gives it");
}

#[test]
fn the_list_of_what_was_taken_back_is_part_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.yaml");
    std::fs::write(
        &file,
        [set(), vec![authority("revoked: corp.krl")]]
            .concat()
            .concat(),
    )
    .unwrap();
    let list = dir.path().join("corp.krl");
    // The list that `ssh-keygen -k` makes of nothing.
    let mut bytes = b"SSHKRL\n\0\0\0\0\x01".to_vec();
    bytes.extend([0; 32]);
    std::fs::write(&list, &bytes).unwrap();
    let (first, files) = Loader::default().load_noting_files(&file);
    let first = first.unwrap();
    assert!(files.contains(&list), "it is followed");
    let corp = &first.authorities[&Name::new("corp").unwrap()];
    assert_eq!(corp.revoked.as_ref().unwrap().entries(), 0);
    bytes[19] = 1;
    std::fs::write(&list, &bytes).unwrap();
    let second = load(&file).unwrap();
    assert_ne!(
        first.digest, second.digest,
        "another list is another configuration"
    );
    std::fs::write(&list, OTHER).unwrap();
    let problems = load(&file).unwrap_err().to_string();
    assert!(
        problems.contains("it is not an OpenSSH KRL; make one with: ssh-keygen -k -f "),
        "{problems}"
    );
}
