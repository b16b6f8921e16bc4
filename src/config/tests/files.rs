//! Files, directories, sizes.

use super::*;

#[test]
fn a_directory_is_read_whole_in_order_without_hidden_files_and_through_links() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("people")).unwrap();
    std::fs::create_dir(at("..data")).unwrap();
    std::fs::write(at("bastion.yaml"), bastion()).unwrap();
    std::fs::write(
        at("people/a.yml"),
        doc("Identity", "a", "{keysFile: a.keys}"),
    )
    .unwrap();
    std::fs::write(
        at("people/a.keys"),
        format!("# a\n\n{ED25519} a\nssh-dss AAAA\n"),
    )
    .unwrap();
    std::fs::write(at("..data/b.yaml"), doc("Identity", "b", "{keys: []}")).unwrap();
    std::fs::write(at(".hidden.yaml"), "not: ours").unwrap();
    std::fs::write(at("README.md"), "not yaml").unwrap();
    std::os::unix::fs::symlink("..data/b.yaml", at("b.yaml")).unwrap();
    let problems = load(dir.path()).unwrap_err().to_string();
    let expected = format!("{}:4:1: DSA", at("people/a.keys").display());
    assert!(problems.starts_with(&expected), "{problems}");

    std::fs::write(at("people/a.keys"), ED25519).unwrap();
    let config = load(dir.path()).unwrap();
    assert_eq!(config.identities.len(), 2);
    assert_eq!(
        load(dir.path()).unwrap().digest,
        config.digest,
        "the same files, the same digest"
    );
    std::fs::write(at("people/a.keys"), format!("{ED25519} other comment")).unwrap();
    assert_ne!(
        load(dir.path()).unwrap().digest,
        config.digest,
        "keysFiles are in the digest"
    );

    std::os::unix::fs::symlink(".", at("loop")).unwrap();
    assert!(
        load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("link to a directory above")
    );
}

#[test]
fn what_is_not_there_or_not_text_or_too_large_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &Path| load(path).unwrap_err().to_string();
    assert!(message(&dir.path().join("none")).contains("cannot be read"));
    assert!(message(dir.path()).contains("no *.yaml or *.yml file"));
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    assert!(message(&file).contains("not UTF-8"));
    std::fs::write(&file, "#".repeat(5 << 20)).unwrap();
    assert!(message(&file).contains("larger than 4 MiB"));
    std::fs::write(&file, "").unwrap();
    assert!(message(&file).contains("no Bastion is defined"));
}

#[test]
fn ten_thousand_identities_load_and_are_found() {
    let mut text = set().concat();
    for n in 0..10_000_u32 {
        let mut key = [b'k'; 51];
        key[..19].copy_from_slice(b"\0\0\0\x0bssh-ed25519\0\0\0\x20");
        key[19..23].copy_from_slice(&n.to_be_bytes());
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
        text.push_str(&doc(
            "Identity",
            &format!("p{n}"),
            &format!("{{groups: [sre], keys: [ssh-ed25519 {key}]}}"),
        ));
        text.push_str(&doc(
            "Binding",
            &format!("b{n}"),
            &format!("{{subjects: [{{identity: p{n}}}], roles: [viewer]}}"),
        ));
    }
    let config = parse(Path::new("/etc/b/all.yaml"), &text).unwrap();
    let last = &config.identities[&Name::new("p9999").unwrap()];
    let (owner, _) = config.key_owner(&last.keys[0].key).unwrap();
    assert_eq!(owner.name.as_str(), "p9999");
    assert_eq!(config.bindings_of(&last.name, &last.groups).count(), 2);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "[-a-zA-Z0-9:{}\\[\\], \n'\"&*|>]{0,200}") {
        drop(parse(Path::new("f.yaml"), &text));
        drop(load_text(&[set().concat(), doc("Role", "x", &text)]));
    }
}
