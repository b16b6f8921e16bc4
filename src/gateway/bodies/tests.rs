use base64::Engine as _;
use http::Method;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::gateway::request_info::query;

const HIDDEN: &str = "hunter2-hunter2";

fn capture(request: &str, bodies: RecordBodies, body: &[u8]) -> Option<Kept> {
    let (method, address) = request.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let info = RequestInfo::parse(&method, address, &query(None).unwrap());
    let kind = HeaderValue::from_static("application/json");
    match Keep::of(bodies, &info, Some(&kind)) {
        Keep::Beginning(mut capture) => {
            for piece in body.chunks(7) {
                capture.feed(piece);
            }
            Some(capture.finish())
        }
        Keep::Nothing | Keep::InFull => None,
    }
}

fn secret(body: &[u8]) -> Kept {
    capture(
        "PATCH /api/v1/namespaces/a/secrets/b",
        RecordBodies::Writes,
        body,
    )
    .unwrap()
}

fn all_of(kept: &Kept) -> String {
    format!("{kept:?}")
}

#[test]
fn a_write_is_kept_as_it_came() {
    let kept = capture(
        "POST /api/v1/namespaces/a/configmaps",
        RecordBodies::Writes,
        b"{\"a\": 1}",
    );
    let body = kept.unwrap().body.unwrap();
    assert_eq!(
        (body.kept.as_str(), body.bytes, body.reduced),
        ("{\"a\": 1}", 8, false)
    );
    assert_eq!(body.content_type.as_deref(), Some("application/json"));
    let long = vec![b'x'; MAX_KEPT + 5];
    let kept = capture(
        "PUT /api/v1/namespaces/a/configmaps/b",
        RecordBodies::Writes,
        &long,
    );
    let body = kept.unwrap().body.unwrap();
    assert_eq!(
        (body.kept.len(), body.bytes, body.truncated),
        (MAX_KEPT, long.len() as u64, true)
    );
}

#[test]
fn nothing_is_kept_of_what_writes_nothing_or_where_the_role_says_so() {
    assert!(capture("GET /api/v1/pods", RecordBodies::Writes, b"x").is_none());
    let none = capture(
        "POST /api/v1/namespaces/a/configmaps",
        RecordBodies::None,
        b"{}",
    );
    assert!(none.unwrap().body.is_none());
}

#[test]
fn what_is_proxied_is_kept_in_full_whatever_the_role_says() {
    for path in [
        "/api/v1/namespaces/a/pods/b/proxy/x",
        "/api/v1/namespaces/a/services/b/proxy",
        "/api/v1/nodes/b/proxy/run/a/b/c",
        "/api/v1/proxy/nodes/b/run",
    ] {
        let query = query(None).unwrap();
        let info = RequestInfo::parse(&Method::POST, path, &query);
        assert!(
            matches!(Keep::of(RecordBodies::None, &info, None), Keep::InFull),
            "{path}"
        );
    }
}

#[test]
fn of_a_secret_the_names_of_its_keys_and_their_sizes_are_kept() {
    let applied = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": "b", "namespace": "a", "labels": {"l": HIDDEN},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": HIDDEN},
        },
        "data": {"password": base64::engine::general_purpose::STANDARD.encode(HIDDEN), "gone": null},
        "stringData": {"plain": HIDDEN, "odd": {"deep": HIDDEN}},
        "unknown": {"a": HIDDEN},
    });
    let kept = secret(applied.to_string().as_bytes());
    assert!(!all_of(&kept).contains(HIDDEN));
    let body = kept.body.unwrap();
    assert!(body.reduced && !body.truncated);
    let said: Value = serde_json::from_str(&body.kept).unwrap();
    assert_eq!(
        said,
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "b", "namespace": "a"},
            "data": {"password": HIDDEN.len(), "gone": null},
            "stringData": {"plain": HIDDEN.len(), "odd": json!({"deep": HIDDEN}).to_string().len()},
        })
    );
}

#[test]
fn no_form_of_a_secret_gets_its_values_on_record() {
    let encoded = base64::engine::general_purpose::STANDARD.encode(HIDDEN);
    let yaml = format!(
        "apiVersion: v1\nkind: Secret\ndata:\n  password: {encoded}\nstringData: {{a: {HIDDEN}}}\n"
    );
    let patch = json!([
        {"op": "add", "path": "/data/password", "value": encoded},
        {"op": "replace", "path": "/stringData", "value": {"a": HIDDEN}},
    ]);
    let cut = format!("{{\"stringData\": {{\"a\": \"{HIDDEN}");
    let protobuf = [b"k8s\0\n\x0c".as_slice(), HIDDEN.as_bytes(), &[0xff]].concat();
    let huge = json!({"stringData": {"a": HIDDEN, "b": "x".repeat(MAX_READ)}}).to_string();
    for body in [
        yaml.as_bytes(),
        patch.to_string().as_bytes(),
        cut.as_bytes(),
        &protobuf,
        huge.as_bytes(),
        HIDDEN.as_bytes(),
        format!("\"{HIDDEN}\"").as_bytes(),
    ] {
        let kept = secret(body);
        let all = all_of(&kept);
        assert!(!all.contains(HIDDEN) && !all.contains(&encoded), "{all}");
        let body_kept = kept.body.unwrap();
        assert_eq!(
            (body_kept.bytes, body_kept.reduced),
            (body.len() as u64, true)
        );
    }
    let said = secret(patch.to_string().as_bytes()).body.unwrap().kept;
    assert!(said.contains("/data/password"), "{said}");
    let said = secret(yaml.as_bytes()).body.unwrap().kept;
    assert!(said.contains("\"password\":15"), "{said}");
}

#[test]
fn a_token_that_is_asked_about_is_not_kept() {
    let body = json!({"spec": {"token": HIDDEN}}).to_string();
    let kept = capture(
        "POST /apis/authentication.k8s.io/v1/tokenreviews",
        RecordBodies::Writes,
        body.as_bytes(),
    );
    let kept = kept.unwrap();
    assert!(!all_of(&kept).contains(HIDDEN));
    assert!(kept.body.unwrap().reduced);
}

#[test]
fn a_secret_that_is_filled_with_a_token_is_marked() {
    let made = json!({"type": "kubernetes.io/service-account-token"}).to_string();
    assert_eq!(secret(made.as_bytes()).marks, [Mark::CredentialIssued]);
    let patched =
        json!([{"op": "add", "path": "/type", "value": "kubernetes.io/service-account-token"}]);
    assert_eq!(
        secret(patched.to_string().as_bytes()).marks,
        [Mark::CredentialIssued]
    );
    assert_eq!(secret(b"{\"type\": \"Opaque\"}").marks, []);
    // Whether or not bodies are kept.
    let none = capture(
        "POST /api/v1/namespaces/a/secrets",
        RecordBodies::None,
        made.as_bytes(),
    )
    .unwrap();
    assert_eq!(none.marks, [Mark::CredentialIssued]);
    assert!(none.body.is_none());
}

#[test]
fn a_deletion_may_say_that_nothing_is_to_be_deleted() {
    let options = json!({"kind": "DeleteOptions", "dryRun": ["All"]}).to_string();
    let delete = |body: &str| {
        let path = "DELETE /api/v1/namespaces/a/pods/b";
        capture(path, RecordBodies::Writes, body.as_bytes()).unwrap()
    };
    assert_eq!(delete(&options).marks, [Mark::DryRun]);
    assert_eq!(delete("{\"kind\": \"DeleteOptions\"}").marks, []);
    assert_eq!(delete(&options).body.unwrap().kept, options);
}

#[test]
fn a_secret_that_cannot_be_read_is_marked_as_one_that_may_issue_a_credential() {
    for body in [
        b"\xd9\xd9\xf7\xa1".as_slice(),
        b"k8s\0\x12\x23kubernetes.io/service-account-token",
        b"x: &x {type: kubernetes.io/service-account-token}\n<<: *x\n",
        b"{\"type\": \"bootstrap.kubernetes.io/token\"}",
    ] {
        assert_eq!(secret(body).marks, [Mark::CredentialIssued], "{body:?}");
    }
    assert_eq!(secret(b"k8s\0\x12\x06Opaque").marks, []);
    assert_eq!(secret(b"").marks, []);
    let huge = json!({"stringData": {"b": "x".repeat(MAX_READ)}}).to_string();
    assert_eq!(secret(huge.as_bytes()).marks, [Mark::CredentialIssued]);
}

#[test]
fn a_secret_within_another_object_is_reduced_too() {
    let other = |body: &str| {
        let path = "POST /apis/template.example.com/v1/namespaces/a/templates";
        capture(path, RecordBodies::Writes, body.as_bytes()).unwrap()
    };
    let inner = json!({"kind": "Secret", "stringData": {"password": HIDDEN}});
    let template = json!({
        "kind": "Template",
        "metadata": {"annotations": {"last-applied": json!({"objects": [inner.clone()]}).to_string()}},
        "objects": [{"kind": "Service", "data": "seen"}, inner],
    });
    let kept = other(&template.to_string());
    assert!(!all_of(&kept).contains(HIDDEN));
    let body = kept.body.unwrap();
    assert!(body.reduced && body.kept.contains("seen"), "{}", body.kept);
    assert!(body.kept.contains("\"password\":15"), "{}", body.kept);
    // In a text, in YAML, and where it cannot be told apart.
    for body in [
        json!({"data": {"a.yaml": format!("kind: Secret\nstringData:\n  a: {HIDDEN}\n")}})
            .to_string(),
        format!("objects:\n- kind: Secret\n  stringData: {{a: {HIDDEN}}}\n"),
        json!({"a": {"kind": "Secret", "stringData": {"a": HIDDEN}}, "b": "x".repeat(MAX_KEPT)})
            .to_string(),
        format!("{{\"kind\" : \"Secret\", \"data\": \"{HIDDEN}"),
    ] {
        let kept = other(&body);
        assert!(!all_of(&kept).contains(HIDDEN), "{kept:?}");
        assert!(kept.body.unwrap().reduced);
    }
    // What only names one is kept as it is.
    for body in [
        r#"{"certificateRefs": [{"kind": "Secret", "name": "tls"}], "data": {}}"#,
        r#"{"kind": "SecretStore", "data": {"a": "b"}}"#,
    ] {
        let body_kept = other(body).body.unwrap();
        assert_eq!((body_kept.kept.as_str(), body_kept.reduced), (body, false));
    }
}

#[test]
fn a_deletion_of_a_secret_may_be_dry_and_keeps_no_value() {
    let delete = |body: Value| {
        let path = "DELETE /api/v1/namespaces/a/secrets/b";
        capture(path, RecordBodies::Writes, body.to_string().as_bytes()).unwrap()
    };
    let kept = delete(json!({"kind": "DeleteOptions", "dryRun": ["All"]}));
    assert_eq!(kept.marks, [Mark::DryRun]);
    assert!(!all_of(&delete(json!({"a": HIDDEN}))).contains(HIDDEN));
}

#[test]
fn a_body_in_passing_is_not_shown_by_debug() {
    let info = RequestInfo::parse(&Method::POST, "/api/v1/namespaces/a/secrets", &[]);
    let Keep::Beginning(mut capture) = Keep::of(RecordBodies::Writes, &info, None) else {
        panic!("it is kept");
    };
    capture.feed(HIDDEN.as_bytes());
    let shown = format!("{capture:?}");
    assert!(shown.contains("15") && !shown.contains("104"), "{shown}");
}

proptest! {
    /// Wherever it stands in JSON, a value of a Secret stays out.
    #[test]
    fn a_hidden_value_stays_hidden(path in proptest::collection::vec(
        prop_oneof![Just("data"), Just("stringData"), Just("metadata"), Just("annotations"), Just("x")], 1..5,
    )) {
        let mut value = json!(HIDDEN);
        for name in path.iter().rev() {
            value = json!({ *name: value });
        }
        let kept = secret(value.to_string().as_bytes());
        prop_assert!(!all_of(&kept).contains(HIDDEN));
    }
}
