//! Looking for sessions by what their requests touched: `delete pods/*`.

use std::str::FromStr;

use crate::recording::requests::{IndexReader, Intent, RequestStep, RequestSummary};
use crate::recording::{ReadError, Recordings};
use crate::session::SessionId;

/// `VERB RESOURCE[.GROUP][/NAME[/SUBRESOURCE]] [-n NAMESPACE]`; `*` stands for any text, also within a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    verb: String,
    resource: String,
    group: Option<String>,
    name: String,
    subresource: String,
    namespace: String,
}

/// Not that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' says no request: write VERB RESOURCE[.GROUP][/NAME[/SUBRESOURCE]] [-n NAMESPACE], such as 'delete pods/*' or '* pods/*/exec -n prod'; * stands for any text"
)]
pub struct NotTouched(String);

impl FromStr for Touched {
    type Err = NotTouched;

    fn from_str(text: &str) -> Result<Self, NotTouched> {
        let wrong = || NotTouched(super::printable(text));
        let words: Vec<&str> = text.split_whitespace().collect();
        let (verb, what, namespace) = match words.as_slice() {
            [verb, what] => (*verb, *what, "*"),
            [verb, what, "-n" | "--namespace", namespace] => (*verb, *what, *namespace),
            _ => return Err(wrong()),
        };
        let mut parts = what.split('/');
        let resource = parts
            .next()
            .filter(|resource| !resource.is_empty())
            .ok_or_else(wrong)?;
        // Without a name, what is about all of them is meant as well as what is about one.
        let name = parts.next().unwrap_or("*");
        let subresource = parts.next().unwrap_or("*");
        if parts.next().is_some() {
            return Err(wrong());
        }
        let (resource, group) = match resource.split_once('.') {
            Some((resource, group)) => (resource, Some(group.to_owned())),
            None => (resource, None),
        };
        Ok(Self {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            group,
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
        })
    }
}

impl Touched {
    pub(super) fn matches(&self, about: &RequestSummary) -> bool {
        about.is_resource
            && like(&self.verb, &about.verb)
            && like(&self.resource, &about.resource)
            && self
                .group
                .as_ref()
                .is_none_or(|group| like(group, &about.api_group))
            && like(&self.name, &about.name)
            && like(&self.subresource, &about.subresource)
            && like(&self.namespace, &about.namespace)
    }
}

/// Whether any request of a recording is meant.
pub(super) async fn any_request(
    recordings: &Recordings,
    id: SessionId,
    meant: impl Fn(&Intent) -> bool,
) -> Result<bool, ReadError> {
    let Some(requests) = recordings.open(id).await?.requests().await? else {
        return Ok(false);
    };
    let Some(mut index) = IndexReader::open(requests).await? else {
        return Ok(false);
    };
    while let Some(entry) = index.next().await? {
        if let RequestStep::Intent(intent) = entry.what
            && meant(&intent)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `text` is what `pattern` says.
fn like(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else {
        return rest.is_empty();
    };
    let mut rest = rest;
    for piece in between {
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(verb: &str, what: [&str; 5]) -> RequestSummary {
        let [group, resource, subresource, namespace, name] = what.map(str::to_owned);
        RequestSummary {
            is_resource: true,
            verb: verb.to_owned(),
            api_group: group,
            api_version: "v1".to_owned(),
            namespace,
            resource,
            subresource,
            name,
        }
    }

    #[test]
    fn what_was_touched_is_said_in_a_line() {
        let web = about("delete", ["", "pods", "", "prod", "web-1"]);
        for yes in [
            "delete pods",
            "delete pods/*",
            "* pods/web-*",
            "delete *",
            "delete pods/web-1 -n prod",
            "d* p*s/*-1 -n p*",
        ] {
            assert!(yes.parse::<Touched>().unwrap().matches(&web), "{yes}");
        }
        for no in [
            "get pods",
            "delete pod",
            "delete pods/web",
            "delete pods -n test",
            "delete pods.apps",
            "delete pods/*/exec",
            "delete services/*",
        ] {
            assert!(!no.parse::<Touched>().unwrap().matches(&web), "{no}");
        }
        let exec = about("create", ["", "pods", "exec", "prod", "web"]);
        assert!(
            "create pods/*/exec"
                .parse::<Touched>()
                .unwrap()
                .matches(&exec)
        );
        let scale = about("patch", ["apps", "deployments", "", "prod", "web"]);
        assert!(
            "patch deployments.apps/web"
                .parse::<Touched>()
                .unwrap()
                .matches(&scale)
        );
        for wrong in [
            "",
            "delete",
            "delete pods/a/b/c",
            "delete pods web",
            "delete /web",
            "delete pods -n",
        ] {
            let error = wrong.parse::<Touched>().unwrap_err().to_string();
            assert!(error.contains("VERB RESOURCE"), "{error}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, is) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b", "a-b-c", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(like(pattern, text), is, "{pattern} {text}");
        }
    }
}
