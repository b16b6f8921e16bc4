//! What makes a request stand out in a record that is mostly polling.

use http::Method;

use super::request_info::RequestInfo;
use crate::recording::requests::Mark;

/// By what it asks; what its body says is [`super::bodies`]' to tell.
pub(super) fn marks(
    method: &Method,
    info: &RequestInfo,
    query: &[(String, String)],
    has_body: bool,
) -> Vec<Mark> {
    let about = info.summary();
    let (verb, subresource) = (about.verb.as_str(), about.subresource.as_str());
    let of_pods = info.is("", "pods");
    let mut marks = Vec::new();
    let mut mark = |holds: bool, mark: Mark| {
        if holds {
            marks.push(mark);
        }
    };
    mark(writes(method, info) && !connects(info), Mark::Write);
    mark(
        of_pods && matches!(subresource, "exec" | "attach"),
        Mark::Exec,
    );
    mark(of_pods && subresource == "portforward", Mark::PortForward);
    mark(
        // A patch, even one of nothing that is not to be stored, is answered with the Secret as it is then; a deletion
        // of many with all of them, and one that has to wait with the one.
        info.is("", "secrets")
            && matches!(
                verb,
                "get" | "list" | "watch" | "patch" | "delete" | "deletecollection"
            ),
        Mark::SecretRead,
    );
    let signing = info.is("certificates.k8s.io", "certificatesigningrequests")
        && match subresource {
            "" => verb == "create",
            // Whoever approves lets it be issued; whoever writes the status writes the certificate.
            "approval" | "status" => matches!(verb, "update" | "patch"),
            _ => false,
        };
    mark(asks_for_token(info) || signing, Mark::CredentialIssued);
    mark(info.is_proxied(), Mark::Proxy);
    mark(dry_run(info, query, has_body), Mark::DryRun);
    marks
}

/// Whether the query says that nothing is to be changed, and the API server hears it: not where it connects to
/// something or issues a token, nor in a deletion with a body, which alone counts then.
pub(super) fn dry_run(info: &RequestInfo, query: &[(String, String)], has_body: bool) -> bool {
    let about = info.summary();
    let heard = match about.verb.as_str() {
        "create" | "update" | "patch" => !asks_for_token(info),
        "delete" | "deletecollection" => !has_body,
        _ => false,
    };
    let said = |(name, value): &(String, String)| name == "dryRun" && !value.is_empty();
    about.is_resource && heard && !connects(info) && query.iter().any(said)
}

/// Whether what happens is not the API server's own doing.
fn connects(info: &RequestInfo) -> bool {
    let subresource = info.summary().subresource.as_str();
    info.is_proxied()
        || (info.is("", "pods") && matches!(subresource, "exec" | "attach" | "portforward"))
}

fn asks_for_token(info: &RequestInfo) -> bool {
    let about = info.summary();
    info.is("", "serviceaccounts") && about.subresource == "token" && about.verb == "create"
}

fn writes(method: &Method, info: &RequestInfo) -> bool {
    let about = info.summary();
    if !about.is_resource {
        return !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    }
    // They are questions, whatever their verb.
    let asks = matches!(
        about.api_group.as_str(),
        "authorization.k8s.io" | "authentication.k8s.io"
    ) && about.resource.ends_with("reviews");
    !asks
        && matches!(
            about.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::request_info::query;

    fn of(request: &str) -> Vec<Mark> {
        let (method, address) = request.split_once(' ').unwrap();
        let (path, asked) = address.split_once('?').unwrap_or((address, ""));
        let asked = query(Some(asked)).unwrap();
        let method = method.parse().unwrap();
        let info = RequestInfo::parse(&method, path, &asked);
        marks(&method, &info, &asked, false)
    }

    #[test]
    fn only_what_the_api_server_takes_for_a_dry_run_is_one() {
        let of = |method: &str, path: &str, has_body| {
            let asked = query(Some("dryRun=All")).unwrap();
            let info = RequestInfo::parse(&method.parse().unwrap(), path, &asked);
            dry_run(&info, &asked, has_body)
        };
        let pod = "/api/v1/namespaces/a/pods/b";
        assert!(of("PATCH", pod, true));
        assert!(of("PUT", &format!("{pod}/status"), true));
        assert!(of("DELETE", pod, false));
        assert!(!of("DELETE", pod, true));
        assert!(!of("DELETE", "/api/v1/namespaces/a/pods", true));
        assert!(!of("GET", pod, false));
        for path in ["exec", "attach", "portforward", "proxy/x"] {
            assert!(!of("POST", &format!("{pod}/{path}"), true), "{path}");
        }
        assert!(!of(
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/b/token",
            true
        ));
        assert!(!of("POST", "/elsewhere", true));
    }

    #[test]
    fn what_stands_out_is_marked() {
        use Mark::*;
        let pod = "/api/v1/namespaces/a/pods/b";
        for (request, marks) in [
            ("GET /api/v1/pods".to_owned(), vec![]),
            ("GET /version".to_owned(), vec![]),
            ("POST /api/v1/namespaces/a/pods".to_owned(), vec![Write]),
            (format!("DELETE {pod}"), vec![Write]),
            (format!("PATCH {pod}?dryRun=All"), vec![Write, DryRun]),
            ("DELETE /api/v1/namespaces/a/pods".to_owned(), vec![Write]),
            (format!("GET {pod}/exec?command=sh"), vec![Exec]),
            (format!("POST {pod}/exec?command=sh"), vec![Exec]),
            (format!("POST {pod}/attach"), vec![Exec]),
            (format!("POST {pod}/portforward"), vec![PortForward]),
            (format!("PATCH {pod}/ephemeralcontainers"), vec![Write]),
            (format!("GET {pod}/proxy/metrics"), vec![Proxy]),
            (format!("POST {pod}/proxy/run"), vec![Proxy]),
            (
                "GET /api/v1/nodes/n/proxy/exec/a/b/c".to_owned(),
                vec![Proxy],
            ),
            ("GET /api/v1/proxy/nodes/n/run".to_owned(), vec![Proxy]),
            ("GET /api/v1/secrets".to_owned(), vec![SecretRead]),
            ("GET /api/v1/watch/secrets".to_owned(), vec![SecretRead]),
            (
                "GET /api/v1/namespaces/a/secrets/b".to_owned(),
                vec![SecretRead],
            ),
            ("PUT /api/v1/namespaces/a/secrets/b".to_owned(), vec![Write]),
            (
                "PATCH /api/v1/namespaces/a/secrets/b?dryRun=All".to_owned(),
                vec![Write, SecretRead, DryRun],
            ),
            (
                "DELETE /api/v1/namespaces/a/secrets".to_owned(),
                vec![Write, SecretRead],
            ),
            ("GET /apis/example.com/v1/secrets".to_owned(), vec![]),
            (
                "POST /api/v1/namespaces/a/serviceaccounts/b/token".to_owned(),
                vec![Write, CredentialIssued],
            ),
            (
                "POST /apis/certificates.k8s.io/v1/certificatesigningrequests".to_owned(),
                vec![Write, CredentialIssued],
            ),
            (
                "PUT /apis/certificates.k8s.io/v1/certificatesigningrequests/a/approval".to_owned(),
                vec![Write, CredentialIssued],
            ),
            (
                "GET /apis/certificates.k8s.io/v1/certificatesigningrequests/a".to_owned(),
                vec![],
            ),
            (
                "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
                vec![],
            ),
            ("POST /nowhere".to_owned(), vec![Write]),
        ] {
            assert_eq!(of(&request), marks, "{request}");
        }
    }
}
