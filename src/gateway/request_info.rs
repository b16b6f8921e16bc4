#![allow(missing_docs)]
use crate::recording::requests::RequestSummary;
#[derive(Debug, Clone)]
pub struct RequestInfo(RequestSummary);
impl RequestInfo {
    pub fn parse(m: &http::Method, p: &str, _: &[(String, String)]) -> Self {
        let mut s = RequestSummary {
            verb: m.as_str().to_lowercase(),
            ..Default::default()
        };
        let parts: Vec<&str> = p.trim_matches('/').split('/').collect();
        if parts.len() >= 2 && parts[0] == "api" {
            s.is_resource = true;
            s.api_version = parts[1].into();
            let mut r = &parts[2..];
            if r.len() >= 2 && r[0] == "namespaces" {
                s.namespace = r[1].into();
                r = &r[2..];
            }
            s.resource = r.first().copied().unwrap_or("namespaces").into();
            s.name = r.get(1).copied().unwrap_or("").into();
            s.subresource = r.get(2).copied().unwrap_or("").into();
        }
        Self(s)
    }
    pub fn summary(&self) -> &RequestSummary {
        &self.0
    }
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct E;
pub fn canonical(_: &str) -> Result<(), E> {
    Ok(())
}
pub fn query(q: Option<&str>) -> Result<Vec<(String, String)>, E> {
    Ok(q.unwrap_or("")
        .split('&')
        .filter(|s| !s.is_empty())
        .map(|s| {
            let (a, b) = s.split_once('=').unwrap_or((s, ""));
            (a.into(), b.replace("%2F", "/").replace('+', " "))
        })
        .collect())
}
