//! What a request means, read as the API server reads it: `RequestInfoFactory` of k8s.io/apiserver
//! (`pkg/endpoints/request/requestinfo.go`). Whatever is read otherwise would be authorized as one thing and on record
//! as another, so tests compare the two on thousands of requests.

mod address;
mod selector;
#[cfg(test)]
mod tests;

use http::Method;

pub use address::{BadQuery, NotCanonical, canonical, query};
pub(super) use selector::is_true;

use crate::recording::requests::RequestSummary;

/// A request as the API server's authorization sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    summary: RequestSummary,
}

impl RequestInfo {
    /// Of a path that is [`canonical`], as it came, and a decoded [`query`].
    pub fn parse(method: &Method, path: &str, query: &[(String, String)]) -> Self {
        let decoded = address::decoded(path);
        let parts: Vec<&str> = match decoded.trim_matches('/') {
            "" => Vec::new(),
            path => path.split('/').collect(),
        };
        let summary = resource(method, &parts, query).unwrap_or_else(|| RequestSummary {
            verb: method.as_str().to_lowercase(),
            ..RequestSummary::default()
        });
        Self { summary }
    }

    /// What goes on record.
    pub fn summary(&self) -> &RequestSummary {
        &self.summary
    }

    /// Whether it is about this resource of this API group.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        let about = &self.summary;
        about.is_resource && about.api_group == group && about.resource == resource
    }

    /// Whether the API server passes it on to a node, pod or whatever a Service stands for.
    pub fn is_proxied(&self) -> bool {
        let about = &self.summary;
        about.is_resource && (about.subresource == "proxy" || about.verb == "proxy")
    }
}

/// Nothing if it is about no resource.
fn resource(method: &Method, parts: &[&str], query: &[(String, String)]) -> Option<RequestSummary> {
    let (api_group, api_version, parts) = match parts {
        ["api", version, parts @ ..] => ("", *version, parts),
        ["apis", group, version, parts @ ..] => (*group, *version, parts),
        _ => return None,
    };
    let first = parts.first()?;
    let mut about = RequestSummary {
        is_resource: true,
        api_group: api_group.to_owned(),
        api_version: api_version.to_owned(),
        ..RequestSummary::default()
    };
    let (verb, parts) = match (*first, parts) {
        // Verbs in the path, as they were before 1.0.
        (verb @ ("proxy" | "watch"), [_]) => {
            about.verb = verb_of(method, verb).to_owned();
            return Some(about);
        }
        (verb @ ("proxy" | "watch"), [_, parts @ ..]) => (verb, parts),
        (_, parts) => (verb_of(method, ""), parts),
    };
    about.verb = verb.to_owned();
    let parts = match parts {
        ["namespaces", namespace, rest @ ..] => {
            about.namespace = (*namespace).to_owned();
            match rest {
                [] | ["status" | "finalize", ..] => parts,
                rest => rest,
            }
        }
        parts => parts,
    };
    let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
    about.resource = part(0);
    about.name = part(1);
    if about.verb != "proxy" {
        about.subresource = part(2);
    }
    if about.name.is_empty() && about.verb == "get" {
        let listed = selector::Listed::of(query);
        about.verb = if listed.watch { "watch" } else { "list" }.to_owned();
        about.name = listed.name.unwrap_or_default();
    }
    if about.name.is_empty() && about.verb == "delete" {
        about.verb = "deletecollection".to_owned();
    }
    Some(about)
}

/// The verb of a method; `in_path` is what a path that breaks off after it leaves the API server with.
fn verb_of(method: &Method, in_path: &str) -> &'static str {
    if !in_path.is_empty() {
        // It gives up before it has looked at the method's verb.
        return lower(method);
    }
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn lower(method: &Method) -> &'static str {
    match *method {
        Method::POST => "post",
        Method::GET => "get",
        Method::HEAD => "head",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}
