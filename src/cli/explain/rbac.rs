//! What Kubernetes grants, asked of an API server with an administrator's own kubeconfig.

use std::io::Write;
use std::path::Path;

use bastion_audit::config::KubernetesRequest;
use bastion_audit::mapping::told::{BEYOND, beyond_means};
use bastion_audit::mint::check::{AccessReviews, Allowed};
use bastion_audit::policy::Decision;

/// API group, resource, and verbs: enough to tell a reader from an editor, and what leads further.
const ASKED: &[(&str, &str, &[&str])] = &[
    ("", "pods", &["get", "list", "create", "delete"]),
    ("", "pods/exec", &["create"]),
    ("", "pods/portforward", &["create"]),
    ("", "configmaps", &["get", "update"]),
    ("", "nodes", &["list"]),
    ("apps", "deployments", &["get", "update", "delete"]),
];

/// What of this list is granted to whom the decision stands for.
pub(super) fn tell(
    out: &mut impl Write,
    decision: &Decision,
    kubeconfig: &Path,
    namespace: Option<&str>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let file = std::path::absolute(kubeconfig)?;
    let reviews = runtime.block_on(AccessReviews::open(&decision.cluster, &file))?;
    let ask = |asked: &[(&str, &str, &[&str])]| {
        let mut found = Found::default();
        for request in requests(asked, namespace) {
            let sub = request.subresource.as_deref();
            let sub = sub.map_or_else(String::new, |sub| format!("/{sub}"));
            let text = format!("{} {}{sub}", request.verb, request.resource);
            match runtime.block_on(reviews.may(&decision.subject, &request))? {
                Allowed::Yes => found.may.push(text),
                Allowed::No => found.may_not.push(text),
                Allowed::Unknown(why) => found.unknown.push(format!("{text} ({why})")),
            }
        }
        anyhow::Ok(found)
    };
    let (usual, beyond) = (ask(ASKED)?, ask(BEYOND)?);
    let place = namespace.map_or_else(String::new, |name| format!(", in {name}"));
    writeln!(
        out,
        "\nwhat RBAC on {} grants {}{place}:",
        decision.cluster,
        decision.subject.in_words()
    )?;
    for (label, list) in [
        ("may", &usual.may),
        ("may not", &usual.may_not),
        (
            "unknown",
            &[&usual.unknown[..], &beyond.unknown[..]].concat(),
        ),
        ("MIND", &beyond.may),
    ] {
        if !list.is_empty() {
            writeln!(out, "  {label:<10}  {}", list.join(", "))?;
        }
    }
    if !beyond.may.is_empty() {
        writeln!(out, "              {}", beyond_means())?;
    }
    Ok(())
}

#[derive(Default)]
struct Found {
    may: Vec<String>,
    may_not: Vec<String>,
    unknown: Vec<String>,
}

fn requests(
    asked: &[(&str, &str, &[&str])],
    namespace: Option<&str>,
) -> impl Iterator<Item = KubernetesRequest> {
    asked.iter().flat_map(move |(group, resource, verbs)| {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, sub)) => (resource, Some(sub)),
            None => (*resource, None),
        };
        verbs.iter().map(move |verb| KubernetesRequest {
            verb: (*verb).to_owned(),
            group: (*group).to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            name: None,
        })
    })
}
